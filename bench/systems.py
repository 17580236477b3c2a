"""The systems that are compared. Each builds one state of the workload into an image, and knows how it is entered."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from packaging.markers import Marker

from .docker import docker, run, secrets, timed
from .workload import POETRY, PYTHON, Workload

CONDA_SEEDS = ("seed_conda_poetry_demo", "seed_entrypoint", "seed_saturn")
SEEDS = (*CONDA_SEEDS, "seed_multistage_venv", "seed_staged_poetry")


@dataclass
class Couplet:
    """The template's own way, as `make build` does it."""

    name: str = "couplet"
    verified: float = 0.0
    """What verifying the files took in the last build that did so, in seconds."""

    def build(self, workload: Workload, tag: str, salt: str, caches: str) -> float:
        """Build the runtime image; returns seconds. `caches` names the package caches: a new name is an empty one."""
        step = (
            ".couplet/host/python.sh check && exec .couplet/host/docker-build.sh --progress=plain"
            f" --build-arg BUILDKIT_CACHE_MOUNT_NS={caches} --target runtime --tag {tag}"
        )
        began = time.perf_counter()
        shown = run("sh", "-c", step, cwd=workload.couplet, env={**os.environ, "REGISTRY": salt})
        seconds = time.perf_counter() - began
        if said := re.search(r"files as installed \(([\d.]+) s\)", shown):
            self.verified = float(said[1])
        return seconds

    def source(self, workload: Workload) -> Path:
        """Return the folder whose `src` a person edits."""
        return workload.couplet


@dataclass
class Seed:
    """One of the seeds' ways: bench/peers/<name>/Dockerfile."""

    name: str

    def build(self, workload: Workload, tag: str, salt: str, caches: str) -> float:
        """Build the image; returns seconds. These ways have no package caches."""
        dockerfile = Path(__file__).parent / "peers" / self.name / "Dockerfile"
        arguments = ["--build-arg", f"REGISTRY={salt}", "--build-arg", f"POETRY={POETRY}", *secrets()]
        return timed(
            "docker", "buildx", "build", "--quiet", "--file", str(dockerfile), "--tag", tag, *arguments, str(workload.peers)
        )

    def source(self, workload: Workload) -> Path:
        """Return the folder whose `src` a person edits."""
        return workload.peers


@dataclass
class LowerBound:
    """py-rattler and uv into a folder, and a docker build that copies it (floor.py)."""

    folder: Path
    name: str = "floor"
    prefix: Path = field(init=False)

    def __post_init__(self) -> None:
        self.prefix = self.folder / "context/science"

    def build(self, workload: Workload, tag: str, salt: str, caches: str) -> float:
        """Install into an empty folder and copy it into an image; returns seconds."""
        context = self.folder / "context"
        shutil.rmtree(context, ignore_errors=True)
        context.mkdir(parents=True)
        (context / "Dockerfile").write_text(f"FROM {salt}debian:bookworm-slim\nCOPY science {self.prefix}\nCOPY src /app/src\n")
        shutil.copytree(workload.peers / "src", context / "src")
        wanted = self.folder / "requirements.txt"
        wanted.write_text(requirements(workload.peers))
        words = [sys.executable, "-m", "bench.floor", str(workload.peers / "explicit.lock"), str(wanted), str(self.prefix)]
        step = " ".join(
            [*words, str(self.folder / "caches" / caches), "&&", "docker buildx build --quiet --tag", tag, str(context)]
        )
        return timed("sh", "-c", step, env={**os.environ, **index()})


def index() -> dict[str, str]:
    """Return what tells uv which index this machine uses: what pip's own configuration says."""
    file = os.environ.get("PIP_CONFIG_FILE")
    found = re.search(r"(?m)^index-url *= *(\S+)", Path(file).read_text()) if file else None
    return {"UV_DEFAULT_INDEX": found[1]} if found else {}


def requirements(folder: Path) -> str:
    """Return poetry.lock's main group without what conda installs, as a requirements file with hashes."""
    owned = re.findall(r'^    "([a-z0-9-]+)==', (folder / "pyproject.toml").read_text(), re.M)
    here = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.5"}
    lines = []
    for package in tomllib.loads((folder / "poetry.lock").read_text())["package"]:
        marker = package.get("markers", "")
        marker = marker.get("main", "") if isinstance(marker, dict) else marker
        if "main" in package["groups"] and package["name"] not in owned and (not marker or Marker(marker).evaluate(here)):
            hashes = " ".join(f"--hash={file['hash']}" for file in package["files"])
            lines.append(f"{package['name']}=={package['version']} {hashes}\n")
    return "".join(lines)


IMPORTS = "import ipykernel, numpy, scipy, sklearn, pandas, flask, pendulum; print('all there')"


def works(image: str, prefix: Path | None = None) -> bool:
    """Whether the image that a system made holds a working environment: all packages are imported in it."""
    python = [f"{prefix}/bin/python"] if prefix else ["python"]
    return "all there" in docker("run", "--rm", "--network", "none", image, *python, "-c", IMPORTS)
