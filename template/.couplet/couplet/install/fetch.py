"""Fetch locked conda packages as conda itself would, and check each by its hashes.

Runs with conda's own Python, which may be as old as 3.9 (conda_root.call starts it): the download goes through
conda's session, so that a company's mirror, proxy, certificate, token, netrc or authentication plugin works as
everywhere else in conda.

An explicit lock names whole addresses, for which conda ignores `channel_alias`. The locks hold the public channel's
addresses; here, and only here, they are mapped to where this machine gets conda's packages from.

    channels              print that mapping as JSON: {public address: address to use instead}
    fetch LOCK            bring all packages of an explicit lock into the cache
    distributions LOCK    the same, and print {archive: {Python distribution in it: version}} as JSON
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from couplet.errors import UserError, run, without_password
from couplet.formats import conda_lock, files, records
from couplet.formats.conda_lock import Package
from couplet.install.conda_root import CACHE, FETCHING, archive

PUBLIC = "https://conda.anaconda.org"
DISTRIBUTIONS = CACHE / "distributions"
TRIES = 4
EVERY = 1.0
"""Seconds between two lines of how far it is."""


def channel_map() -> dict[str, str]:
    """Return {public channel address: address to use instead} from conda's configuration."""
    from conda.base.context import context, reset_context

    reset_context()  # reads .condarc: as a library, conda leaves that to its caller

    def address(channel: Any) -> str:
        user = f"{channel.auth}@" if channel.auth else ""
        token = f"/t/{channel.token}" if channel.token else ""
        return f"{channel.scheme}://{user}{channel.location}{token}".rstrip("/")

    mapped = {PUBLIC: address(context.channel_alias)}
    # mamba's setting, in Miniforge's own .condarc too: conda reads it and does not use it. There the first is the
    # public address, which is mapped like any other.
    for settings in context.raw_data.values():
        for name, mirrors in dict(getattr(settings.get("mirrored_channels"), "_raw_value", {})).items():
            if mirrors and not mirrors[0].startswith(PUBLIC):
                mapped[f"{PUBLIC}/{name}"] = mirrors[0].rstrip("/")
    for name, channel in context.custom_channels.items():
        base = address(channel)
        mapped[f"{PUBLIC}/{name}"] = base if base.endswith(f"/{name}") else f"{base}/{name}"
    return mapped


def mapped_url(url: str, mapping: dict[str, str]) -> str:
    """Return where to download `url` from: the longest public prefix in `mapping` decides."""
    for public in sorted(mapping, key=len, reverse=True):
        if url.startswith(public + "/"):
            return mapping[public] + url[len(public) :]
    return url


def hashes_of(path: Path) -> tuple[str, str]:
    """Return (MD5, SHA-256) of a file, in hexadecimal; ("", "") where there is no file."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    try:
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                md5.update(block)
                sha256.update(block)
    except FileNotFoundError:
        return "", ""
    return md5.hexdigest(), sha256.hexdigest()


def download(url: str, target: Path) -> None:
    """Download one file through conda's session; it appears under its name only when it is complete."""
    from conda.base.context import context
    from conda.gateways.connection import session as sessions

    # a conda before 23.9 has one session for all channels
    session = sessions.get_session(url) if hasattr(sessions, "get_session") else sessions.CondaSession()
    timeout = (context.remote_connect_timeout_secs, context.remote_read_timeout_secs)
    target.parent.mkdir(parents=True, exist_ok=True)
    # two builds, with the same process number each, may be at it
    half = target.with_name(f"{target.name}.{os.urandom(4).hex()}.half")
    try:
        with session.get(url, stream=True, proxies=session.proxies, timeout=timeout) as answer:
            answer.raise_for_status()
            with half.open("wb") as file:
                for block in answer.iter_content(1 << 20):
                    file.write(block)
        half.replace(target)
    finally:
        half.unlink(missing_ok=True)


def fetch_one(package: Package, mapping: dict[str, str]) -> int:
    """Bring one package into the cache, unless it is there; return the number of bytes downloaded.

    Raises UserError for what does not come or is not what the lock says, after some tries.
    """
    from requests import RequestException

    path, locked = archive(package), (package.md5, package.sha256)
    if hashes_of(path) == locked:
        return 0
    url = mapped_url(package.url, mapping)
    problem = ""
    for attempt in range(TRIES):
        time.sleep(attempt**2)
        try:
            download(url, path)
        except (RequestException, OSError) as error:
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise UserError(
                    f"{package.file_name} does not fit on the disk: Docker has no room left for {CACHE}.\n"
                    "`docker system df` shows what takes it, `make docker-prune ALL=1` makes room."
                ) from None
            problem = f"{type(error).__name__}: {without_password(str(error))}"
            answer = getattr(error, "response", None)
            if answer is not None and 400 <= answer.status_code < 500 and answer.status_code != 429:
                break
            continue
        found = hashes_of(path)
        if found == locked:
            return path.stat().st_size
        path.unlink()
        which = int(found[1] != locked[1])
        problem = f"it has {('MD5', 'SHA-256')[which]} {found[which]}, the lock says {locked[which]}"
        if attempt:
            raise UserError(
                f"{package.file_name}: {problem}.\nEither the download or the lock was tampered with. "
                "If the lock was edited, `make env-update ALL=1` makes it anew."
            )
    raise UserError(
        f"{package.file_name} could not be downloaded from {without_password(url)}\n  ({problem}).\n"
        "Is the channel, or your mirror in .condarc, reachable? "
        "A package that is gone from the channel: `make env-update ALL=1`."
    )


def fetch(packages: list[Package]) -> None:
    """Bring all locked packages into the cache, several at once, and check the hashes of each. Says so on stderr."""
    mapping = channel_map()
    CACHE.mkdir(parents=True, exist_ok=True)
    fetched, said = 0, time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        for number, size in enumerate(pool.map(lambda package: fetch_one(package, mapping), packages), 1):
            fetched += size
            if time.monotonic() - said >= EVERY:
                print(f"{FETCHING} {number} of {len(packages)} packages", file=sys.stderr, flush=True)
                said = time.monotonic()
    text = f"conda: {len(packages)} packages, {fetched / 1e6:.0f} MB downloaded, hashes checked"
    print(text, file=sys.stderr, flush=True)


def members(path: Path, component: str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yield (path, content) of the wanted files in one half of a package's archive: `info` or `pkg`."""
    from conda_package_streaming.package_streaming import stream_conda_component

    for tar, member in stream_conda_component(path, component=component):
        name = os.path.normpath(member.name)  # some tools write ./info/index.json
        if member.isfile() and wanted(name):
            yield name, tar.extractfile(member).read()


def kept_distributions(package: Package) -> dict[str, str] | None:
    """Return what distributions_of() has found in a package before, or None."""
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads((DISTRIBUTIONS / f"{package.sha256}.json").read_text()))
    return None


def distributions_of(package: Package) -> dict[str, str]:
    """Return {normalised name: version} of the Python distributions in a fetched package.

    What was read is kept beside the archive, under the archive's SHA-256: to read a package is to unpack all of it.
    """
    if (kept := kept_distributions(package)) is not None:
        return kept
    path, found = archive(package), {}
    # A package has the list of its files in one of these, or in both.
    lists = members(path, "info", lambda name: name in ("info/files", "info/paths.json"))
    if re.search(rb"\.dist-info/METADATA|\.egg-info/PKG-INFO", b"".join(content for _, content in lists)):
        for _, content in members(path, "pkg", records.metadata_file):
            name, version = records.metadata(content.decode(errors="replace"))
            found[name] = version
    files.write_whole(DISTRIBUTIONS / f"{package.sha256}.json", json.dumps(found).encode())
    return found


def main() -> int | None:
    """Do what the command line says (see the module)."""
    verb, *locks = sys.argv[1:]
    if verb == "channels":
        print(json.dumps(channel_map()))
        return None
    packages = conda_lock.read(Path(*locks))
    fetch(packages)
    if verb == "distributions":
        with ThreadPoolExecutor() as pool:
            held = pool.map(lambda package: (package.file_name, distributions_of(package)), packages)
            print(json.dumps(dict(held)))
    return None


if __name__ == "__main__":
    run(main)
