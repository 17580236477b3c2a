"""Programs in front of the real ones: how tests have a tool fail, report or write down what no tool here does by itself."""

from __future__ import annotations

import os
from pathlib import Path


def in_front(folder: Path, **programs: str) -> str:
    """Write shell scripts, by their names, into `folder`, which need not be there; return the PATH that finds them first.

    The text of each is what comes after the line that names the shell.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"
