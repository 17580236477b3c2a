"""Made-up projects with real locks: conda.lock by rattler, poetry.lock as Poetry writes it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from rattler import BuildString, LockChannel, LockFile, LockPlatform, PackageRecord, RepoDataRecord

CHANNEL = "https://conda.invalid/conda-forge"


def project(folder: Path, *, conda: bool, pyproject: str = "", base_image: str = "debian:12") -> Path:
    """Write what the answers make of a project, and its pyproject.toml: `pyproject` comes after name and version."""
    (folder / ".couplet").mkdir(parents=True)
    about = {
        "environment": "conda-poetry" if conda else "poetry", "package": "ice", "distribution": "ice", "prefix": "/opt/conda/envs/ice",
        "platforms": ["linux-64"] if conda else [], "accelerator": "cpu", "base_image": base_image, "kernel": None,
    }  # fmt: skip
    (folder / ".couplet/project.json").write_text(json.dumps(about))
    (folder / "pyproject.toml").write_text(f'[project]\nname = "ice"\nversion = "1.2"\n\n{pyproject}')
    return folder


Packages = Mapping[str, Iterable[tuple[str, str, tuple[str, ...], str]]]


def conda_lock(folder: Path, platforms: Packages, dev: Packages | None = None) -> None:
    """Write conda.lock: {platform: [(name, version, what it depends on, licence)]}; `dev` is what the dev image has."""
    where = {name: LockPlatform(name) for name in platforms}
    lock = LockFile(list(where.values()))
    images = {"default": platforms, **({"dev": dev} if dev else {})}
    for image, platform, packages in ((image, *one) for image, of_image in images.items() for one in of_image.items()):
        lock.set_channels(image, [LockChannel(CHANNEL)])
        for number, (name, version, depends, license) in enumerate(packages):
            record = PackageRecord(
                name, version, BuildString("0"), 0, platform, depends=list(depends), license=license or None,
                md5=bytes([number]) * 16, sha256=bytes([number]) * 32,
            )  # fmt: skip
            archive = f"{name}-{version}-0.conda"
            lock.add_conda_package(
                image, where[platform], RepoDataRecord(record, archive, f"{CHANNEL}/{platform}/{archive}", CHANNEL)
            )
    lock.to_path(folder / "conda.lock")


def poetry_lock(folder: Path, packages: Mapping[str, Mapping[str, object]]) -> None:
    """Write poetry.lock: {name: what differs from version 2.0 in the group main, without files}."""
    text = ""
    for name, about in packages.items():
        entry = {"name": name, "version": "2.0", "groups": ["main"], "files": [], **about}
        text += "[[package]]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in entry.items()) + "\n"
    (folder / "poetry.lock").write_text(f'{text}[metadata]\nlock-version = "2.1"\n')


def toml(value: object) -> str:
    """Return a value as TOML writes it, tables inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    return f"[{', '.join(map(toml, value))}]" if isinstance(value, list) else json.dumps(value)
