"""What runs with conda's own Python, in a process of its own: couplet.install.fetch, which imports conda."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import couplet
from couplet.errors import UserError
from couplet.formats.conda_lock import Package

CACHE = Path(os.environ.get("COUPLET_CONDA_CACHE", "/var/cache/conda"))
"""Fetched packages, a cache of the builder (or another folder, where that may not be written): archives by channel and
platform, and what was read of them."""
FETCHING = "conda: fetching"
"""What a line begins with that says how far it is: shown at once."""
ROOTS = (Path("/opt/miniforge"), Path("/opt/conda"), Path("/opt/saturncloud"))
"""Where conda is: mounted into a base image without it, in conda's own base image, and in Saturn Cloud's."""


def archive(package: Package) -> Path:
    """Return where a fetched package lies: below its channel and platform, since names repeat between those."""
    return CACHE.joinpath(*package.url.rsplit("/", 2)[1:])


def conda_root() -> Path:
    """Return the root of conda. Raises UserError where this machine has none."""
    for root in ROOTS:
        if os.access(root / "bin/conda", os.X_OK):
            return root
    raise UserError(f"the base image has no conda (looked in {', '.join(map(str, ROOTS))}): see CONDA_BASE in the Dockerfile.")


def call(*words: str, root: Path | None = None) -> str:
    """Return what `python -m couplet.install.fetch WORDS` prints, run by conda's Python.

    Raises UserError with the process' own message where it fails.
    """
    command = [str((root or conda_root()) / "bin/python"), "-B", "-m", "couplet.install.fetch", *words]
    variables = {**os.environ, "PYTHONPATH": str(Path(couplet.__file__).parents[1])}
    kept = []
    with tempfile.TemporaryFile("w+") as printed:
        with subprocess.Popen(command, env=variables, stdout=printed, stderr=subprocess.PIPE, text=True) as process:
            for line in process.stderr or ():
                if line.startswith(FETCHING):
                    print(line, end="", file=sys.stderr, flush=True)
                else:
                    kept.append(line)
        said, _, error = "".join(kept).partition("\nERROR: ")
        if process.returncode:
            raise UserError(error.strip() or f"conda's Python failed (exit code {process.returncode}):\n{said.strip()}")
        print(said, end="", file=sys.stderr, flush=True)
        printed.seek(0)
        return printed.read()
