"""How large a rendered project is, and how large it may be: what is the user's, and what is the template's in .couplet/."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

LIMITS = {
    "files": 25,
    "lines": 900,
    "Dockerfile": 130,
    "Makefile": 70,
    "Python": 6753,
    "shell": 688,
    "pins": 250,
}
"""What a project with the default answers may have at most: files and lines outside of .couplet/ (and of two of them), and
lines of three kinds in it. Python and shell are where they stand: they rise with a feature that decision 0092 names, and by
nothing else. AIMS is where to."""

AIMS = {"Python": 3000, "shell": 450}
"""What is still too long in .couplet/, and the lines that it is to have (docs/decisions/0092, 0094)."""


def lines(file: Path) -> int:
    """Return the lines of a file, the last one too where it does not end."""
    return len(file.read_bytes().splitlines())


def files(folder: Path) -> Iterator[tuple[tuple[str, ...], Path]]:
    """Yield (parts of the path inside, file) of each file of a project, without git's own and what Python compiled."""
    for file in sorted(folder.rglob("*")):
        parts = file.relative_to(folder).parts
        if file.is_file() and parts[0] != ".git" and "__pycache__" not in parts:
            yield parts, file


def figures(project: Path) -> dict[str, int]:
    """Return what LIMITS is about, as it is in a rendered project."""
    found = dict.fromkeys(LIMITS, 0)
    for parts, file in files(project):
        count = lines(file)
        if parts[0] != ".couplet":
            found["files"] += 1
            found["lines"] += count
            if len(parts) == 1 and file.name in ("Dockerfile", "Makefile"):
                found[file.name] = count
        elif parts[1] == "pins":
            found["pins"] += count
        elif kind := {".py": "Python", ".sh": "shell"}.get(file.suffix):
            found[kind] += count
    return found


def exceeded(found: Mapping[str, int]) -> list[str]:
    """Return a line for each limit that is exceeded."""
    return [f"{what}: {found[what]}, and at most {limit}" for what, limit in LIMITS.items() if found[what] > limit]


def row(name: str, found: Mapping[str, int]) -> str:
    """Return the figures as a row of the README's table: what is the user's, and in words what is in .couplet/."""
    inside = ", ".join(f"{found[kind]:,} of {kind}" for kind in ("Python", "shell", "pins"))
    return f"| {name} | {found['files']} | {found['lines']:,} | and `.couplet/`, which nobody edits: {inside} |"


if __name__ == "__main__":
    print(row("couplet, defaults", figures(Path(sys.argv[1]))))
