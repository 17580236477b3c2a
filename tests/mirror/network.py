"""Which network this machine has: the public one, or only package registries.  Standard library only."""

from __future__ import annotations

import contextlib
import subprocess
import urllib.request

from . import engine, images

PUBLIC, MIRROR = "public", "mirror"
SECONDS = 8
REPODATA = "https://conda.anaconda.org/conda-forge/noarch/repodata.json.zst"


def detect() -> str:
    """``public`` when both conda-forge and Docker Hub answer, else ``mirror``."""
    return PUBLIC if conda_forge_answers() and docker_hub_answers() else MIRROR


def conda_forge_answers() -> bool:
    """Whether conda-forge's index is in reach."""
    request = urllib.request.Request(REPODATA, method="HEAD")
    with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=SECONDS) as answer:
        return answer.status == 200
    return False


def docker_hub_answers() -> bool:
    """Whether image names resolve: asked through Docker, which knows its own mirrors and proxies."""
    words = ["docker", "buildx", "imagetools", "inspect", images.DEBIAN]
    found = engine.find()
    environment = found.environment() if found else None
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(words, capture_output=True, timeout=SECONDS, check=False, env=environment).returncode == 0
    return False
