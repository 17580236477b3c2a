"""A channel of conda-forge's size, made up: repodata alone, for solvers. Written as shards (CEP 16) or as plain zst.

520,000 records for linux-64 and 200,000 for noarch, of 26,000 packages. Names, hashes and versions are made of numbers, so
that the same call gives the same bytes. What environments ask for depends on what they ask for in conda-forge: a Python,
and chains of some dozen libraries below.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

RECORDS = {"linux-64": 520_000, "noarch": 200_000}
PACKAGES = {"linux-64": 10_000, "noarch": 16_000}
PYTHONS = ("3.11", "3.12", "3.13")
ROOTS = ("linux-64-00001", "linux-64-00002", "noarch-00003", "noarch-00004")
"""What the environments of the benchmark ask for beside Python; each needs some more, and these again."""
MORE = "noarch-00005"
"""What is added to an environment that is locked."""


def records(subdir: str, scale: float = 1) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (name, record) of a platform; `scale` is the share of RECORDS that is made."""
    dice = random.Random(subdir)
    count = int(RECORDS[subdir] * scale)
    if subdir != "noarch":
        yield from (("python", record("python", f"{python}.{n}", "0", subdir, [])) for python in PYTHONS for n in range(9))
    total = PACKAGES[subdir]
    for number in range(total):
        name = f"{subdir}-{number:05}"
        # a few have thousands of builds, most a dozen
        builds = max(1, int(count / total * dice.choice((0.2, 0.5, 0.5, 1, 1, 1, 1, 2.8))))
        needs = [
            f"{subdir}-{below:05}"
            for below in sorted(
                {dice.randrange(number + 1, total) for _ in range(dice.choice((0, 1, 1, 2)))} if number < total - 1 else ()
            )
        ]
        for build in range(builds):
            version, kind = divmod(build, len(PYTHONS))
            python = PYTHONS[kind]
            major, minor = python.split(".")
            depends = [f"{need} >=1.0" for need in needs]
            depends.append(f"python >={python}.0a0,<{major}.{int(minor) + 1}.0a0" if subdir != "noarch" else "python >=3.9")
            yield name, record(name, f"1.{version}", f"py{major}{minor}_{kind}", subdir, depends)


def record(name: str, version: str, build: str, subdir: str, depends: list[str]) -> dict[str, Any]:
    """Return the repodata of a package, as long as one of conda-forge's."""
    digest = hashlib.sha256(f"{name}-{version}-{build}".encode()).hexdigest()
    found: dict[str, Any] = {"name": name, "version": version, "build": build, "build_number": 0, "depends": depends}
    found |= {"subdir": subdir, "md5": digest[:32], "sha256": digest, "size": 100_000, "license": "BSD-3-Clause"}
    return found | {"timestamp": 1_700_000_000_000, "constrains": [], "license_family": "BSD"}


def write(folder: Path, shards: bool, scale: float = 1) -> None:
    """Write the channel into a folder: of each platform the plain repodata.json.zst, or an index and a file for each name."""
    for subdir in RECORDS:
        (folder / subdir).mkdir(parents=True)
        named: dict[str, dict[str, Any]] = {}
        for name, found in records(subdir, scale):
            named.setdefault(name, {})[f"{name}-{found['version']}-{found['build']}.conda"] = found
        if shards:
            _write_shards(folder / subdir, subdir, named)
        else:
            packages = {file: found for held in named.values() for file, found in held.items()}
            text = json.dumps({"info": {"subdir": subdir}, "packages": {}, "packages.conda": packages, "repodata_version": 1})
            (folder / subdir / "repodata.json.zst").write_bytes(zstandard.compress(text.encode(), 3))


def _write_shards(folder: Path, subdir: str, named: dict[str, dict[str, Any]]) -> None:
    index = {}
    for name, held in named.items():
        for found in held.values():
            found |= {"md5": bytes.fromhex(found["md5"]), "sha256": bytes.fromhex(found["sha256"])}
        content = zstandard.compress(packed({"packages": {}, "packages.conda": held, "removed": []}), 3)
        digest = hashlib.sha256(content)
        (folder / f"{digest.hexdigest()}.msgpack.zst").write_bytes(content)
        index[name] = digest.digest()
    info = {"subdir": subdir, "base_url": "./", "shards_base_url": "./", "created_at": "2026-01-01T00:00:00Z"}
    whole = packed({"version": 1, "info": info, "shards": index})
    (folder / "repodata_shards.msgpack.zst").write_bytes(zstandard.compress(whole, 3))


def packed(value: Any) -> bytes:
    """Return a value as MessagePack: what shards are made of, and no more of it."""
    if isinstance(value, dict):
        return b"\xdf" + len(value).to_bytes(4) + b"".join(packed(key) + packed(one) for key, one in value.items())
    if isinstance(value, list):
        return b"\xdd" + len(value).to_bytes(4) + b"".join(map(packed, value))
    if isinstance(value, str):
        text = value.encode()
        return b"\xdb" + len(text).to_bytes(4) + text
    if isinstance(value, bytes):
        return b"\xc6" + len(value).to_bytes(4) + value
    if isinstance(value, int):
        return b"\xcf" + value.to_bytes(8)
    raise TypeError(f"{value!r} is in no shard")
