"""The images that need the channel or a built CPython: miniforge and Saturn Cloud's with a real conda base, and the slim Pythons."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from . import cache, channel, images
from .cache import Progress
from .engine import Engine

BASE = ["python 3.13.*", "conda", "pip", "setuptools", "wheel"]
"""What the base environment is asked to hold; the real one's mamba cannot be had from PyPI."""

CONDARC = "channels:\n  - conda-forge\n"
"""The base's own settings, as in the real image.  No address: those come from outside."""

SATURN_BASE = ["python 3.9.*", *BASE[1:], "ipykernel", "jupyterlab", "nbconvert"]
"""What the root environment of Saturn Cloud's base image is asked to hold: its JupyterLab runs from there."""

PUBLIC = "https://conda.anaconda.org"


def python(on: Engine, minor: str, build: Path, pip_wheel: Path, debian_key: str, progress: Progress) -> None:
    """Make the slim image of a Python from its build."""

    def fill(context: Path) -> None:
        (context / "pip").mkdir()
        shutil.copy(pip_wheel, context / "pip")
        ignored = shutil.ignore_patterns("__pycache__", "version", "*.so.*")
        shutil.copytree(build, context / "python", symlinks=True, ignore=ignored)
        for path in (context / "python").rglob("*"):
            if path.is_file() and not path.is_symlink():
                channel.replace_prefix(path, "/usr/local")

    inputs = [debian_key, build.name, pip_wheel.name]
    _build(on, images.python_image(minor), "python.Dockerfile", fill, inputs, progress)


def miniforge(on: Engine, folder: Path, debian_key: str, progress: Progress) -> None:
    """Make the miniforge image; its /opt/conda is solved and linked from the channel in ``folder``."""

    def fill(context: Path) -> None:
        _fill_conda(context / "conda", folder, "/opt/conda", BASE)

    inputs = [debian_key, folder.parent.name, BASE, CONDARC, Path(__file__)]
    _build(on, images.MINIFORGE, "miniforge.Dockerfile", fill, inputs, progress)


def saturn(on: Engine, folder: Path, debian_key: str, progress: Progress) -> None:
    """Make Saturn Cloud's base image: conda and JupyterLab in /opt/saturncloud, and an empty environment `saturn`.

    ``folder`` is the channel of an old root (channel.old_root).
    """

    def fill(context: Path) -> None:
        _fill_conda(context / "conda", folder, "/opt/saturncloud", SATURN_BASE)
        (context / "conda/envs/saturn/conda-meta").mkdir(parents=True)
        (context / "conda/envs/saturn/conda-meta/history").touch()

    inputs = [debian_key, folder.parent.name, SATURN_BASE, CONDARC, Path(__file__)]
    _build(on, images.SATURN, "saturnbase.Dockerfile", fill, inputs, progress)


def _fill_conda(place: Path, folder: Path, prefix: str, specs: list[str]) -> None:
    """A root environment of conda's in ``place``, with the prefix that it has in the image."""
    asyncio.run(_install(folder, place, prefix, specs))
    for record in (place / "conda-meta").glob("*.json"):
        _as_from_public(record, folder, prefix)
        # py-rattler writes them for their owner alone; conda's own are for everyone to read
        record.chmod(0o644)
    (place / "conda-meta/history").touch()
    (place / ".condarc").write_text(CONDARC)


def _build(on: Engine, name: str, dockerfile: str, fill: Callable[[Path], None], inputs: object, progress: Progress) -> None:
    with tempfile.TemporaryDirectory(dir=cache.root()) as scratch:
        images.build(on, name, dockerfile, Path(scratch), inputs, progress, fill)


async def _install(folder: Path, place: Path, prefix: str, specs: list[str]) -> None:
    from rattler import VirtualPackage, install, solve

    platforms = [channel.PLATFORM, "noarch"]
    # what is noarch may still ask for an operating system (__linux), and this machine is one
    records = await solve([folder.as_uri()], specs, platforms=platforms, virtual_packages=VirtualPackage.detect())
    # linked here, but with the prefix that the files will have in the image
    await install(
        records,
        target_prefix=place,
        alternative_target_prefix=prefix,
        cache_dir=cache.root() / "rattler",
        show_progress=False,
        execute_link_scripts=False,
    )


def _as_from_public(record: Path, folder: Path, prefix: str) -> None:
    # no path of this machine in an image: say what the real image says
    content = json.loads(record.read_text())
    local = folder.as_uri().rstrip("/")
    content["url"] = content["url"].replace(local, f"{PUBLIC}/{channel.NAME}")
    content["channel"] = f"{PUBLIC}/{channel.NAME}/"
    for field in ("extracted_package_dir", "package_tarball_full_path"):
        if field in content:
            content[field] = f"{prefix}/pkgs/{content['fn'].removesuffix('.conda')}" + (".conda" if "tarball" in field else "")
    if isinstance(content.get("link"), dict) and "source" in content["link"]:
        content["link"]["source"] = f"{prefix}/pkgs/{content['fn'].removesuffix('.conda')}"
    record.write_text(json.dumps(content, indent=2))
