"""Poetry's part of a lock. It keeps what poetry.lock holds, but for what it is told."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from couplet.errors import UserError
from couplet.formats import poetry_lock

POETRY = "/opt/poetry/bin/poetry"


def versions(project: Path) -> dict[tuple[str, str], str]:
    """Return {("Poetry", name): version} of what poetry.lock has installed; {} where there is none or it is damaged."""
    found: dict[str, set[str]] = {}
    try:
        for package in poetry_lock.read(project / "poetry.lock"):
            # those of the group `conda` alone are conda's
            if set(package.markers) != {"conda"}:
                found.setdefault(package.name, set()).add(package.version)
    except UserError:
        return {}
    # platforms that differ in conda's version differ in Poetry's
    return {("Poetry", name): "/".join(sorted(numbers)) for name, numbers in found.items()}


def lock(
    project: Path, update: Iterable[str], everything: bool, variables: Mapping[str, str], explain: Callable[[str], str]
) -> None:
    """Write poetry.lock in `project`, with `variables` in Poetry's environment.

    Of `update` what Poetry holds may change version. Raises UserError with what Poetry says where it finds no solution,
    and what `explain` makes of it.
    """
    path = project / "poetry.lock"
    if path.exists():
        try:
            poetry_lock.read(path)
        except UserError:
            print("poetry.lock is damaged: solving from nothing", flush=True)
            path.unlink()
    steps = [["lock", "--regenerate"]] if everything else [["lock"]]
    mine = sorted(set(update) & {name for _, name in versions(project)})
    if mine and not everything:
        steps.append(["update", "--lock", *mine])
    for step in steps:
        print(f"Poetry: {' '.join(step)}", flush=True)
        done = subprocess.run(
            [POETRY, *step, "--no-interaction", "--no-ansi", "--directory", project],
            env={**os.environ, "POETRY_VIRTUALENVS_CREATE": "false", **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            way = "Widen, move or drop the dependency that it names in pyproject.toml, then run `make env-update`."
            raise UserError(
                f"Poetry could not lock pyproject.toml:\n\n{done.stdout.strip()}\n\n{explain(done.stdout) or way}"
            )
