"""The pinned Poetry, in an environment of its own in the cache, for what can be told without a container."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.mirror import cache

from .template import REPOSITORY

PINS = REPOSITORY / "template/.couplet/pins/poetry.txt"


def program() -> Path:
    """Return the program, installed by hash when it is first asked for (some ten seconds)."""
    venv = cache.root() / f"poetry-{cache.key(PINS, sys.version)}"
    with cache.lock("poetry"):
        if not (venv / "complete").is_file():
            shutil.rmtree(venv, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", venv], check=True)
            pip = [venv / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "--require-hashes", "--no-deps", "-r", PINS], check=True)
            (venv / "complete").touch()
    return venv / "bin/poetry"
