"""Create the environment from conda's explicit lock, through the user's own mirror where there is one.

An explicit lock names whole addresses, so conda ignores `channel_alias` for it. The locks hold the
public channel's addresses; here, and only here, they are mapped to where this machine gets conda's
packages from. MD5 is checked by conda while it downloads, SHA-256 here before anything uses the files.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from errors import BuildError, run

PUBLIC = "https://conda.anaconda.org"
CACHE = "/var/cache/conda"
SUBDIRS = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}


def read_lock(path):
    """Return [(url, md5, sha256)] of an explicit lock, in its order.

    Raises BuildError where the file is missing, holds no package, or a package lacks a hash.
    """
    if not path.is_file():
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
        packages.append((url, md5, sha256[url.rsplit("/", 1)[-1]]))
    if not packages:
        raise BuildError(f"{path.name} names no package. Run `make env-update` to write it anew.")
    return packages


def channel_map(conda):
    """Return {public channel address: address to use instead} from conda's configuration."""
    command = [*conda, "config", "--show", "channel_alias", "custom_channels", "--json"]
    shown = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def address(value):
        if isinstance(value, dict):
            value = f"{value['scheme']}://{value['location']}"
        return value.rstrip("/")

    mapped = {PUBLIC: address(shown["channel_alias"])}
    for name, value in shown.get("custom_channels", {}).items():
        base = address(value)
        mapped[f"{PUBLIC}/{name}"] = base if base.endswith(f"/{name}") else f"{base}/{name}"
    return mapped


def mapped_url(url, mapping):
    """Return where to download `url` from: the longest public prefix in `mapping` decides."""
    for public in sorted(mapping, key=len, reverse=True):
        if url.startswith(public + "/"):
            return mapping[public] + url[len(public) :]
    return url


def unpacked(archive):
    """Return the folder that conda unpacks an archive of its cache into."""
    return archive.with_name(re.sub(r"(\.conda|\.tar\.bz2)$", "", archive.name))


def in_cache(packages):
    """Return [(archive in conda's cache, SHA-256)] of locked packages, whether they are there or not."""
    return [(Path(CACHE, url.rsplit("/", 1)[-1]), sha256) for url, _, sha256 in packages]


def drop_halves(packages):
    """Delete what lies in conda's cache unpacked but without its archive: there is nothing to check it by."""
    for archive, _ in in_cache(packages):
        if not archive.exists():
            shutil.rmtree(unpacked(archive), ignore_errors=True)


def check_sha256(packages):
    """Compare each archive that conda fetched into its cache with the lock; what differs leaves the cache."""
    for archive, expected in in_cache(packages):
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != expected:
            archive.unlink()
            shutil.rmtree(unpacked(archive), ignore_errors=True)
            raise BuildError(
                f"{archive.name} has SHA-256 {found}, the lock says {expected}.\n"
                "Either the download or the lock was tampered with. If the lock was edited, `make env-update ALL=1` makes it anew."
            )


def forget_sources(prefix):
    """Delete the direct_url.json files that conda's packages carry.

    They say `installed from a folder on the build machine`, and it is for them that Poetry installs
    its own copy over conda's at the very same version (python-poetry/poetry#6408).
    """
    for file in Path(prefix).glob("lib/python3.*/site-packages/*.dist-info/direct_url.json"):
        if json.loads(file.read_text()).get("url", "").startswith("file:"):
            file.unlink()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--locks", type=Path, required=True, help="folder of the explicit locks")
    parser.add_argument("--prefix", required=True)
    options = parser.parse_args()

    conda = [sys.executable, "-m", "conda"]
    subdir = SUBDIRS[platform.machine()]
    packages = read_lock(options.locks / f"conda-{subdir}.lock")
    # Everything that conda would leave in a home folder goes where the layer does not see it.
    # And the environment's Python, which compiles the noarch packages, must not touch what is compiled already.
    os.environ.update(
        HOME=tempfile.mkdtemp(),
        CONDA_PKGS_DIRS=CACHE,
        CONDA_ALWAYS_COPY="true",
        CONDA_REGISTER_ENVS="false",
        PYTHONDONTWRITEBYTECODE="1",
    )
    drop_halves(packages)
    mapping = channel_map(conda)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as explicit:
        explicit.write("@EXPLICIT\n")
        explicit.writelines(f"{mapped_url(url, mapping)}#{md5}\n" for url, md5, _ in packages)
        explicit.flush()
        print(f"conda: {len(packages)} packages for {subdir}", flush=True)
        done = subprocess.run(
            [*conda, "create", "--yes", "--quiet", "--prefix", options.prefix, "--file", explicit.name]
        )
    if done.returncode:
        raise BuildError(
            f"conda could not create the environment from conda-{subdir}.lock (exit code {done.returncode}; see above).\n"
            "A package that cannot be fetched: is the channel, or your mirror in .condarc, in reach?\n"
            "A hash that differs: `make env-update ALL=1` makes the lock anew."
        )
    check_sha256(packages)
    forget_sources(options.prefix)


if __name__ == "__main__":
    run(main)
