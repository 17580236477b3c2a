"""The lower bound: the least that the hardware and the fastest public tools need for the same environment.

py-rattler installs conda's lock into a folder, uv the rest, and a docker build copies that folder into
one layer of the base image. No verification, no activation, no kernel, no user: what remains when
everything is left away that is not installing.

    python -m bench.floor LOCK REQUIREMENTS PREFIX CACHE      installs; called by systems.py, so that it is timed whole
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import rattler


def records(lock: Path) -> list[rattler.RepoDataRecord]:
    """Return what rattler needs of each package of an explicit lock (addresses in use, `#md5`, and `# sha256` lines)."""
    text = lock.read_text()
    sha256 = {name: digest for digest, name in re.findall(r"^# sha256 (\w+) (\S+)$", text, re.M)}
    found = []
    for url, md5 in re.findall(r"^(http\S+)#(\w+)$", text, re.M):
        file = url.rsplit("/", 1)[1]
        name, version, build = re.sub(r"(\.conda|\.tar\.bz2)$", "", file).rsplit("-", 2)
        record = rattler.PackageRecord(
            name, version, rattler.BuildString(build), int(re.search(r"_(\d+)$|$", build)[1] or 0), subdir=url.split("/")[-2],
            noarch="python" if "/noarch/" in url and build.startswith("py") else None, md5=bytes.fromhex(md5), sha256=bytes.fromhex(sha256[file]),
        )  # fmt: skip
        found.append(rattler.RepoDataRecord(record, file, url, url.rsplit("/", 2)[0]))
    return found


def main() -> None:
    """Install both locks into a folder."""
    lock, requirements, prefix, cache = map(Path, sys.argv[1:])
    asyncio.run(rattler.install(records(lock), prefix, cache_dir=cache / "rattler", show_progress=False))
    subprocess.run(
        ["uv", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--requirement", str(requirements),
         "--python", f"{prefix}/bin/python", "--cache-dir", str(cache / "uv")],
        check=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
