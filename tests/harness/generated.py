"""Files of the repository that a program writes: `python -m PROGRAM` writes its one, and `--check` says where it is out of date."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def write(program: str, about: str, path: str, text: str) -> int:
    """Write `text` to `path`, a file of this repository, or with --check say whether it is there; return the exit code."""
    command = f"python -m {program}"
    parser = argparse.ArgumentParser(prog=command, description=about.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 where it is out of date")
    check = parser.parse_args().check
    file = REPOSITORY / path
    if file.is_file() and file.read_text() == text:
        return 0
    if check:
        print(f"{path} is out of date: {command}", file=sys.stderr)
        return 1
    file.write_text(text)
    print(f"{path} is written: read what changed, and commit it")
    return 0
