"""What a shell, make and Docker need to build against the mirror: files in .cache/, made anew by every ``up``."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from . import cpython
from .cache import REPOSITORY
from .engine import Engine

FOLDER = REPOSITORY / ".cache"
FILE = FOLDER / "mirror.env"


def write(on: Engine, channel_alias: str) -> Path:
    """Write ``mirror.env`` and what it names; its path."""
    FOLDER.mkdir(exist_ok=True)
    condarc = FOLDER / "condarc"
    condarc.write_text(f"channel_alias: {channel_alias}\nchannels:\n  - conda-forge\n")
    pip = FOLDER / "pip.conf"
    pip.write_text(f"[global]\nindex-url = {package_index()}\n")
    values = {"CONDARC": str(condarc), "PIP_CONFIG_FILE": str(pip)}
    if on.private:
        values["DOCKER_HOST"] = on.host
    bundle = cpython.host_ca()
    if bundle:
        values["SSL_CERT_FILE"] = str(bundle)
    half = FILE.with_suffix(".half")
    half.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(values.items())))
    os.replace(half, FILE)
    return FILE


def read(file: Path = FILE) -> dict[str, str]:
    """The variables of ``mirror.env``.

    Raises ``FileNotFoundError`` before the first ``python -m tests.mirror up``.
    """
    words = shlex.split(file.read_text(), comments=True)
    return dict(word.split("=", 1) for word in words if "=" in word)


def package_index() -> str:
    """The simple index that pip uses on this machine: its configuration, else its built-in default."""
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True, check=False
    )
    configured = os.environ.get("PIP_INDEX_URL") or asked.stdout.strip()
    if configured.startswith(("http://", "https://")):
        return configured
    built_in = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
    return subprocess.run([sys.executable, "-c", built_in], capture_output=True, text=True, check=True).stdout.strip()
