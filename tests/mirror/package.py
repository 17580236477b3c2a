"""Write one ``.conda`` package from a folder.  The format: conda's CEP for ``.conda``, package metadata version 1."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

PLACEHOLDER = "/home/conda/feedstock_root/build_artifacts/" + "placehold_" * 20
"""What an installer replaces by the real prefix, wherever a text file has it."""

EPOCH = 1_767_225_600
"""The time of every file and package, in seconds (2026-01-01): the same inputs give the same bytes."""

MACHINES = {"64": "x86_64"}
"""What a package calls the machine of a platform, where the platform's name has another word for it."""

LEVEL = 6
"""zstd level: quick to make, and not much larger than what conda-forge uploads."""


@dataclass(frozen=True)
class Package:
    """What a package says of itself."""

    name: str
    version: str
    build: str
    depends: list[str]
    subdir: str = "noarch"
    build_number: int = 0
    noarch: str | None = None
    entry_points: list[str] = field(default_factory=list)
    constrains: list[str] = field(default_factory=list)
    license: str = "see the package"
    summary: str = ""

    @property
    def filename(self) -> str:
        """The package's file name."""
        return f"{self.name}-{self.version}-{self.build}.conda"


def write(package: Package, stage: Path, folder: Path) -> Path:
    """Pack the files of ``stage`` and return the package's path; it appears only when it is complete."""
    files = sorted(path for path in stage.rglob("*") if path.is_symlink() or path.is_file())
    paths = [_path_entry(path, path.relative_to(stage).as_posix()) for path in files]
    stem = package.filename.removesuffix(".conda")
    machine = package.subdir.partition("-")[2]
    index: dict[str, Any] = {
        "arch": None if package.subdir == "noarch" else MACHINES.get(machine, machine),
        "build": package.build,
        "build_number": package.build_number,
        "constrains": package.constrains,
        "depends": package.depends,
        "license": package.license,
        "name": package.name,
        "platform": None if package.subdir == "noarch" else package.subdir.split("-")[0],
        "subdir": package.subdir,
        "timestamp": EPOCH * 1000,
        "version": package.version,
    }
    info: dict[str, Any] = {
        "info/about.json": {"summary": package.summary, "license": package.license},
        "info/index.json": index,
        "info/paths.json": {"paths": paths, "paths_version": 1},
    }
    if package.noarch:
        index["noarch"] = package.noarch
    if package.noarch == "python":
        entry_points = {"entry_points": package.entry_points, "type": "python"}
        info["info/link.json"] = {"noarch": entry_points, "package_metadata_version": 1}

    info_files: list[tuple[str, Path | bytes]] = []
    for name, value in sorted(info.items()):
        info_files.append((name, json.dumps(value, indent=2, sort_keys=True).encode()))
    info_files.append(("info/files", "".join(f"{entry['_path']}\n" for entry in paths).encode()))
    target = folder / package.filename
    half = target.with_suffix(".half")
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(half, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, "metadata.json", json.dumps({"conda_pkg_format_version": 2}).encode())
        _add(archive, f"pkg-{stem}.tar.zst", _tar([(path.relative_to(stage).as_posix(), path) for path in files]))
        _add(archive, f"info-{stem}.tar.zst", _tar(info_files))
    os.replace(half, target)
    return target


def _path_entry(path: Path, name: str) -> dict[str, Any]:
    if path.is_symlink():
        content = path.resolve().read_bytes() if path.exists() else b""
        return {
            "_path": name,
            "path_type": "softlink",
            "sha256": hashlib.sha256(content).hexdigest(),
            "size_in_bytes": len(content),
        }
    content = path.read_bytes()
    entry: dict[str, Any] = {
        "_path": name,
        "path_type": "hardlink",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_in_bytes": len(content),
    }
    # a compiled file cannot take another prefix: conda-build passes it over as well
    if PLACEHOLDER.encode() in content and b"\0" not in content:
        entry |= {"file_mode": "text", "prefix_placeholder": PLACEHOLDER}
    return entry


def _tar(members: list[tuple[str, Path | bytes]]) -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, source in members:
            entry = tarfile.TarInfo(name)
            entry.mtime = EPOCH
            entry.mode = 0o644
            if isinstance(source, bytes):
                entry.size = len(source)
                archive.addfile(entry, io.BytesIO(source))
            elif source.is_symlink():
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, os.readlink(source), 0o777
                archive.addfile(entry)
            else:
                status = source.stat()
                entry.size = status.st_size
                entry.mode = 0o755 if status.st_mode & 0o111 else 0o644
                with source.open("rb") as stream:
                    archive.addfile(entry, stream)
    return zstandard.ZstdCompressor(level=LEVEL, threads=2).compress(plain.getvalue())


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), content)
