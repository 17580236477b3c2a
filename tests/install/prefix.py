"""Real small things to install and to verify: conda packages, wheels' metadata, locks, environments."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import venv
from pathlib import Path

from couplet.formats import platforms
from couplet.formats.conda_lock import Package, explicit
from couplet.install import conda_root
from tests.mirror import package

CHANNEL = "https://conda.anaconda.org/conda-forge"
HERE = platforms.this_machine()


def conda_package(folder: Path, name: str, files: dict[str, str], version: str = "1.0", noarch: str | None = None) -> Package:
    """Make a .conda package in the cache where fetched ones lie; return its line of a lock."""
    staged = folder / f"{name}-{version}-files"
    for path, text in files.items():
        (staged / path).parent.mkdir(parents=True, exist_ok=True)
        (staged / path).write_text(text)
    subdir = "noarch" if noarch else HERE
    described = package.Package(name, version, "0", [], subdir=subdir, noarch=noarch)
    made = package.write(described, staged, folder / "made")
    return put_into_cache(made, subdir)


def put_into_cache(archive: Path, subdir: str) -> Package:
    """Lay an archive where a fetched one lies; return its line of a lock."""
    content = archive.read_bytes()
    url = f"{CHANNEL}/{subdir}/{archive.name}"
    package = Package(url, hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest())
    place = conda_root.archive(package)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return package


def site_packages(prefix: Path) -> Path:
    """Return the site-packages of an environment of this Python."""
    return prefix / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"


def python(prefix: Path) -> Path:
    """Make `prefix` a virtual environment of this Python, without pip; return its site-packages."""
    venv.create(prefix, symlinks=True)
    return site_packages(prefix)


def distribution(folder: Path, name: str, version: str, files: dict[str, str] | None = None) -> Path:
    """Install a distribution into a site-packages as from a wheel, with its RECORD; return its .dist-info."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    wanted = {f"{info.name}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", **(files or {})}
    rows = []
    for path, text in wanted.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        rows.append(f"{path},sha256={digest},{len(text)}\n")
    (info / "RECORD").write_text("".join([*rows, f"{info.name}/RECORD,,\n"]))
    return info


def conda_record(prefix: Path, name: str, version: str, files: list[str]) -> Path:
    """Write conda's record of a package whose files lie in `prefix`; links are recorded as links."""
    entries = [
        {"_path": path, "path_type": "softlink"}
        if (prefix / path).is_symlink()
        else {
            "_path": path,
            "path_type": "hardlink",
            "sha256_in_prefix": hashlib.sha256((prefix / path).read_bytes()).hexdigest(),
        }
        for path in files
    ]
    record = {"name": name, "version": version, "build": "0", "files": files, "paths_data": {"paths": entries}}
    path = prefix / f"conda-meta/{name}-{version}-0.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record))
    return path


def conda_lock(folder: Path, *packages: tuple[str, str]) -> Path:
    """Write this machine's explicit lock of packages (name, version) with made-up hashes."""
    folder.mkdir(exist_ok=True)
    listed = [Package(f"{CHANNEL}/{HERE}/{name}-{version}-0.conda", "0" * 32, "1" * 64) for name, version in packages]
    path = folder / f"conda-{HERE}.lock"
    path.write_text(explicit(listed, HERE, []))
    return path


def poetry_lock(folder: Path, *packages: tuple[str, str, str, str]) -> Path:
    """Write poetry.lock of packages (name, version, group, marker)."""
    folder.mkdir(exist_ok=True)
    text = "".join(
        f'[[package]]\nname = "{name}"\nversion = "{version}"\ngroups = ["{group}"]\nmarkers = {json.dumps(marker)}\n'
        f'files = [{{file = "x", hash = "sha256:{"1" * 64}"}}]\n\n'
        for name, version, group, marker in packages
    )
    path = folder / "poetry.lock"
    path.write_text(f'{text}[metadata]\nlock-version = "2.1"\n')
    return path


def uv(folder: Path) -> Path:
    """Return a program that says, as `uv pip check` does, that all dependencies are met."""
    path = folder / "uv"
    path.write_text("#!/bin/sh\nexit 0\n")
    path.chmod(0o755)
    return path


def run(*words: str | Path) -> str:
    """Run a program and return what it prints."""
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True).stdout.strip()
