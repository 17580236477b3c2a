"""Fetch locked conda packages as conda itself would, and check each by its SHA-256.

Runs with conda's own Python: the download goes through conda's session, so that a company's mirror,
proxy, certificate, token, netrc or authentication plugin works as everywhere else in conda.

An explicit lock names whole addresses, for which conda ignores `channel_alias`. The locks hold the
public channel's addresses; here, and only here, they are mapped to where this machine gets conda's
packages from.

    conda_packages.py channels              print that mapping as JSON: {public address: address to use instead}
    conda_packages.py distributions LOCK    fetch, and print {archive: {Python distribution in it: version}} as JSON
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from distributions import metadata, metadata_file
from errors import BuildError, run, without_password

PUBLIC = "https://conda.anaconda.org"
CACHE = "/var/cache/conda"
SUBDIRS = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}
TRIES = 4


class Package(NamedTuple):
    """One line of an explicit lock: the public address and both hashes, in hexadecimal."""

    url: str
    md5: str
    sha256: str

    @property
    def file_name(self):
        """The name of the archive."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def archive(self):
        """Where the archive lies in conda's cache, once fetched: below its platform, since names repeat between those."""
        return Path(CACHE, *self.url.rsplit("/", 2)[1:])


def unlocked(here, platforms):
    """Return the BuildError of a machine of a platform that the project does not lock for."""
    command = f"--vcs-ref=:current: --data 'platforms=[{', '.join(sorted({*platforms, here}))}]'"
    return BuildError(
        f"platforms: this machine is {here}, and the project is locked for {', '.join(platforms)} alone. Commit what you have, then add\n"
        f'it to the platforms that .copier-answers.yml has: make update ARGS="{command}" && make env-update'
    )


def read_lock(path):
    """Return [Package] of an explicit lock, in its order.

    Raises BuildError where the file is missing, holds no package, or a package lacks a hash.
    """
    if not path.is_file():
        others = sorted(file.name[6:-5] for file in path.parent.glob("conda-*.lock"))
        if others:
            raise unlocked(path.name[6:-5], others)
        raise BuildError(f"{path.name} is missing: run `make env-update` (it asks for Docker only).")
    text = path.read_text()
    sha256 = dict(reversed(line.split()) for line in re.findall(r"^# sha256 (\w+ \S+)$", text, re.M))
    packages = []
    for line in text.splitlines():
        if line.startswith(("#", "@")) or not line.strip():
            continue
        url, _, md5 = line.partition("#")
        if not re.fullmatch(r"[0-9a-f]{32}", md5) or url.rsplit("/", 1)[-1] not in sha256:
            raise BuildError(
                f"{path.name}: no MD5 and SHA-256 for {url}. Run `make env-update` to write it anew."
            )
        packages.append(Package(url, md5, sha256[url.rsplit("/", 1)[-1]]))
    if not packages:
        raise BuildError(f"{path.name} names no package. Run `make env-update` to write it anew.")
    return packages


def channel_map():
    """Return {public channel address: address to use instead} from conda's configuration."""
    from conda.base.context import context, reset_context

    reset_context()  # reads .condarc: as a library, conda leaves that to its caller

    def address(channel):
        user = f"{channel.auth}@" if channel.auth else ""
        token = f"/t/{channel.token}" if channel.token else ""
        return f"{channel.scheme}://{user}{channel.location}{token}".rstrip("/")

    mapped = {PUBLIC: address(context.channel_alias)}
    for name, channel in context.custom_channels.items():
        base = address(channel)
        mapped[f"{PUBLIC}/{name}"] = base if base.endswith(f"/{name}") else f"{base}/{name}"
    return mapped


def mapped_url(url, mapping):
    """Return where to download `url` from: the longest public prefix in `mapping` decides."""
    for public in sorted(mapping, key=len, reverse=True):
        if url.startswith(public + "/"):
            return mapping[public] + url[len(public) :]
    return url


def hashes_of(path):
    """Return (MD5, SHA-256) of a file, in hexadecimal; (None, None) where there is no file."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    try:
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                md5.update(block)
                sha256.update(block)
    except FileNotFoundError:
        return None, None
    return md5.hexdigest(), sha256.hexdigest()


def download(url, target):
    """Download one file through conda's session; it appears under its name only when it is complete."""
    from conda.base.context import context
    from conda.gateways.connection.session import get_session

    session = get_session(url)
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


def fetch_one(package, mapping):
    """Bring one package into the cache, unless it is there; return the number of bytes downloaded.

    Raises BuildError for what does not come or is not what the lock says, after some tries.
    """
    from requests import RequestException

    locked = (package.md5, package.sha256)
    if hashes_of(package.archive) == locked:
        return 0
    url = mapped_url(package.url, mapping)
    for attempt in range(TRIES):
        time.sleep(attempt**2)
        try:
            download(url, package.archive)
        except (RequestException, OSError) as error:
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise BuildError(
                    f"{package.file_name} does not fit on the disk: Docker has no room left for {CACHE}.\n"
                    "`docker system df` shows what takes it, `make docker-prune` frees this project's part."
                ) from None
            problem = f"{type(error).__name__}: {without_password(str(error))}"
            answer = getattr(error, "response", None)
            if answer is not None and 400 <= answer.status_code < 500 and answer.status_code != 429:
                break
            continue
        found = hashes_of(package.archive)
        if found == locked:
            return package.archive.stat().st_size
        package.archive.unlink(missing_ok=True)
        which = int(found[1] != locked[1])
        problem = f"it has {('MD5', 'SHA-256')[which]} {found[which]}, the lock says {locked[which]}"
        if attempt:
            raise BuildError(
                f"{package.file_name}: {problem}.\n"
                "Either the download or the lock was tampered with. If the lock was edited, `make env-update ALL=1` makes it anew."
            )
    raise BuildError(
        f"{package.file_name} does not come from {without_password(url)}\n  ({problem}).\n"
        "Is the channel, or your mirror in .condarc, in reach? A package that is gone from the channel: `make env-update ALL=1`."
    )


def fetch(packages, out=None):
    """Bring all locked packages into the cache, several at once, and check each one's SHA-256. Says so on `out`."""
    mapping = channel_map()
    Path(CACHE).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(8) as pool:
        fetched = sum(pool.map(lambda package: fetch_one(package, mapping), packages))
    print(
        f"conda: {len(packages)} packages, {fetched / 1e6:.0f} MB downloaded, hashes checked",
        file=out,
        flush=True,
    )


def members(archive, component):
    """Yield (path, bytes) of the files in one half of a package's archive: `info` or `pkg`."""
    from conda_package_streaming.package_streaming import stream_conda_component

    for tar, member in stream_conda_component(archive, component=component):
        if member.isfile():
            yield member.name, lambda tar=tar, member=member: tar.extractfile(member).read()


def info_file(archive, name):
    """Return the text of a file of a package's metadata, such as info/index.json."""
    for path, read in members(archive, "info"):
        if path == name:
            return read().decode()
    raise BuildError(f"{Path(archive).name} holds no {name}: this is no conda package.")


def distributions_of(package):
    """Return {normalised name: version} of the Python distributions in a fetched package.

    What was read is kept beside the archive, under the archive's SHA-256: to read a package is to unpack all of it.
    """
    kept = Path(CACHE, "distributions", f"{package.sha256}.json")
    with contextlib.suppress(OSError, ValueError):
        return json.loads(kept.read_text())
    found = {}
    if any(map(metadata_file, info_file(package.archive, "info/files").splitlines())):
        for path, read in members(package.archive, "pkg"):
            if metadata_file(path):
                name, version = metadata(read().decode(errors="replace"))
                found[name] = version
    kept.parent.mkdir(exist_ok=True)
    # two builds, with the same process number each, may be at it
    half = kept.with_name(f"{kept.name}.{os.urandom(4).hex()}.half")
    half.write_text(json.dumps(found))
    half.replace(kept)
    return found


def main():
    if sys.argv[1:] == ["channels"]:
        print(json.dumps(channel_map()))
    elif sys.argv[1:2] == ["distributions"] and len(sys.argv) == 3:
        packages = read_lock(Path(sys.argv[2]))
        fetch(packages, sys.stderr)
        with ThreadPoolExecutor() as pool:
            held = pool.map(distributions_of, packages)
        print(json.dumps({p.file_name: found for p, found in zip(packages, held, strict=True)}))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    run(main)
