"""A project's locks: edited, checked, stamped as `make env-update` stamps them, and what it said of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from couplet.lock import stamp
from tests.harness.project import Project


def check(project: Project) -> subprocess.CompletedProcess:
    """Ask whether the locks fit, as the Makefile does."""
    command = [".couplet/host/python.sh", "check"]
    return subprocess.run(command, cwd=project.path, capture_output=True, text=True)


def edit(project: Project, file: str, old: str, new: str) -> None:
    """Replace text in a file of the project, and be sure that it was there."""
    path = project.path / file
    assert old in path.read_text(), f"{file} has no {old!r}"
    path.write_text(path.read_text().replace(old, new, 1))


def restamp(project: Project) -> None:
    """Stamp edited locks as if env-update had written them: what a careful forger does."""
    now = stamp.current(project.path, project.conda)
    for lock in project.path.glob("conda-*.lock" if project.conda else "poetry.lock"):
        lock.write_text(stamp.stamped(stamp.split(stamp.text(lock))[1], now))


def copy(project: Project, path: Path) -> Project:
    """Copy a project, locks included."""
    shutil.copytree(project.path, path, symlinks=True)
    return Project(path, project.images)


def left(project: Project) -> list[str]:
    """Return what is there of an env-update that is none of the project's files."""
    return [path.name for path in (project.path / ".couplet").glob(".new-locks*")]


def moved(shown: str) -> dict[tuple[str, str], tuple[str, str]]:
    """Return {(name, owner): (old, new)} of the table that env-update prints."""
    rows = re.findall(r"^(\S+) +(\S+) -> (\S+) +(conda \S+|Poetry)$", shown, re.M)
    return {(name, owner): (old, new) for name, old, new, owner in rows}


def secrets() -> tuple[str, ...]:
    """Return docker run's options for what a build gets as secrets: this machine's mirrors."""
    files = {"CONDARC": "condarc", "PIP_CONFIG_FILE": "pip_conf", "SSL_CERT_FILE": "ca"}
    return tuple(
        word
        for variable, name in files.items()
        if os.environ.get(variable)
        for word in ("--volume", f"{os.environ[variable]}:/run/secrets/{name}:ro")
    )
