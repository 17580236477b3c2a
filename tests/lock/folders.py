"""A channel in a folder, and projects that lock against it: repodata alone, since solving needs no archives."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from couplet import settings
from couplet.lock import environment, solve
from couplet.lock.channels import Conda

SUBDIRS = ("linux-64", "linux-aarch64", "osx-arm64", "noarch")


def package(name: str, version: str, *depends: str, build: str = "0", subdir: str = "noarch", **more: Any) -> dict[str, Any]:
    """Return the repodata of one package, with hashes of nothing."""
    file_name = f"{name}-{version}-{build}.conda"
    found = {"name": name, "version": version, "build": build, "build_number": 0, "depends": list(depends), "subdir": subdir}
    found |= {"md5": hashlib.md5(file_name.encode()).hexdigest(), "sha256": hashlib.sha256(file_name.encode()).hexdigest()}
    return found | {"size": 100, "timestamp": 1700000000000, "license": "MIT", **more}


def write_channel(folder: Path, packages: Iterable[dict[str, Any]]) -> str:
    """Write a channel's repodata, and return its address."""
    listed = list(packages)
    for subdir in SUBDIRS:
        held = {f"{p['name']}-{p['version']}-{p['build']}.conda": p for p in listed if p["subdir"] == subdir}
        (folder / subdir).mkdir(parents=True, exist_ok=True)
        (folder / subdir / "repodata.json").write_text(
            json.dumps({"info": {"subdir": subdir}, "packages": {}, "packages.conda": held})
        )
    return folder.as_uri()


def compiled(name: str, version: str, *depends: str, pythons: Iterable[str] = ("3.11", "3.13")) -> list[dict[str, Any]]:
    """Return the builds of a compiled package, one for each platform and Python."""
    found = []
    for subdir in SUBDIRS[:3]:
        for python in pythons:
            major, minor = python.split(".")
            needs = f"python >={python}.0a0,<{major}.{int(minor) + 1}.0a0"
            found.append(package(name, version, needs, *depends, build=f"py{major}{minor}_0", subdir=subdir))
    return found


PACKAGES = [
    *(package("python", version, "openssl", subdir=subdir) for version in ("3.11.9", "3.13.5") for subdir in SUBDIRS[:3]),
    *(package("openssl", version) for version in ("3.5.0", "3.6.0")),
    *(package("pip", version, "python") for version in ("25.0", "26.0")),
    *(p for version in ("2.3.5", "2.4.6") for p in compiled("numpy", version)),
    *compiled("scipy", "1.16.3", "numpy >=2.0,<2.4"),
    *compiled("scipy", "1.17.1", "numpy >=2.1"),
    *compiled("old", "1.0", pythons=("3.13",)),
    *compiled("old", "2.0", pythons=("3.11", "3.13")),
    *(package("idna", version, "python") for version in ("2.7", "3.11", "3.20")),
    package("requests", "1.0", "idna >=2"),
    package("requests", "2.0", "idna >=3.20"),
    package("strict", "1.0", "idna <3"),
    package("torch", "2.0", "__cuda >=12", build="cuda_0", subdir="linux-64"),
    package("newer", "1.0", "__glibc >=2.40", subdir="linux-64"),
    package("broken", "1.0", "nowhere >=3"),
    package("appnope", "0.1", "python", subdir="osx-arm64"),
    package("Msgpack_Python", "1.1", "python"),
]


@pytest.fixture(scope="session")
def channel(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a channel with old and new versions."""
    return write_channel(tmp_path_factory.mktemp("channel"), PACKAGES)


class Folder:
    """A project's folder, and conda's part of its lock."""

    def __init__(self, path: Path, channel: str, platforms: list[str], conda: Conda | None = None) -> None:
        self.path, self.channel, self.platforms, self.conda = path, channel, platforms, conda or Conda({})
        (path / ".couplet").mkdir(parents=True)
        made = {"environment": "conda-poetry", "package": "ice", "distribution": "ice", "prefix": "/opt/conda/envs/ice"}
        made |= {"platforms": platforms, "accelerator": "cpu", "base_image": "debian", "kernel": None}
        (path / ".couplet/project.json").write_text(json.dumps(made))
        (path / "pyproject.toml").write_text(
            '[project]\nname = "ice"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = []\n'
        )

    def ask(self, *specs: str, channels: Iterable[str] | None = None) -> None:
        """Write environment.yml. The first dependency stands in line 4, where there is one channel."""
        lines = [
            "channels:",
            *(f"  - {name}" for name in channels or [self.channel]),
            "dependencies:",
            *(f"  - {spec}" for spec in specs),
        ]
        (self.path / "environment.yml").write_text("\n".join(lines) + "\n")

    def lock(self, *update: str, everything: bool = False) -> dict[str, dict[str, tuple[str, str]]]:
        """Solve, write conda.lock, and return {platform: {name: (version, build)}}."""
        document = settings.pyproject(self.path)
        solver = solve.Solver(environment.read(self.path), document, self.conda, self.path.parent / "cache")
        found = solve.lock_all(solver, self.platforms, solve.previous(self.path), set(update), everything)
        solve.write(self.path / "conda.lock", found, solver)
        return {s: {name: (str(r.version), str(r.build)) for name, r in held.items()} for s, held in found.items()}

    def versions(self, *update: str, everything: bool = False) -> dict[str, str]:
        """Lock, and return {name: version} of the first platform."""
        return {name: version for name, (version, _) in self.lock(*update, everything=everything)[self.platforms[0]].items()}


@pytest.fixture
def project(channel: str, tmp_path: Path) -> Callable[..., Folder]:
    """A function that makes a project's folder for some platforms (linux-64 alone if none is named)."""
    return lambda *platforms, **more: Folder(
        tmp_path / f"project-{len(list(tmp_path.iterdir()))}", channel, list(platforms) or ["linux-64"], **more
    )
