"""What the image's labels say of the project: its version, and which locks it was made from."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

from couplet import settings

LOCKS = {"CONDA_LOCK": "conda.lock", "POETRY_LOCK": "poetry.lock"}
"""Build argument -> the lock whose SHA-256 it gives."""


def version(document: dict[str, Any]) -> str:
    """Return the version that a pyproject.toml gives, '' where it gives none (a dynamic one)."""
    found = document.get("project", {}).get("version") or document.get("tool", {}).get("poetry", {}).get("version")
    return found if isinstance(found, str) else ""


def labels(folder: Path) -> dict[str, str]:
    """Return the build arguments that become labels of a project's images; '' for a lock that is not there."""
    files = {name: folder / lock for name, lock in LOCKS.items()}
    hashes = {n: hashlib.sha256(f.read_bytes()).hexdigest() if f.is_file() else "" for n, f in files.items()}
    return {"VERSION": version(settings.pyproject(folder)), **hashes}


def main(arguments: list[str]) -> None:
    """Print a line NAME=value for each build argument of the project in the current folder."""
    argparse.ArgumentParser(prog="couplet labels", description=__doc__).parse_args(arguments)
    print("\n".join(f"{name}={value}" for name, value in labels(Path()).items()))
