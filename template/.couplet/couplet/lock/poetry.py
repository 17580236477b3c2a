"""Poetry's part of a lock. It keeps what poetry.lock holds, but for what it is told."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from couplet import settings
from couplet.errors import UserError
from couplet.formats import poetry_lock
from couplet.formats.poetry_lock import Locked
from couplet.lock import cooldown

POETRY = "/opt/poetry/bin/poetry"


def moved(project: Path, before: Mapping[tuple[str, str], str]) -> list[Locked]:
    """Return the packages of poetry.lock that it does not have in the versions of `before`."""
    return [
        p for p in poetry_lock.read(project / "poetry.lock") if p.version not in before.get(("Poetry", p.name), "").split("/")
    ]


def lock(
    project: Path,
    update: Iterable[str],
    everything: bool,
    variables: Mapping[str, str],
    explain: Callable[[str], str],
    held: Iterable[str] = (),
) -> None:
    """Write poetry.lock in `project`, with `variables` in Poetry's environment. `held` is what conda installs everywhere.

    Of `update` what Poetry holds may change version. Raises UserError with what Poetry says where it finds no solution,
    and what `explain` makes of it.
    """
    path = project / "poetry.lock"
    if path.exists():
        try:
            poetry_lock.read(path)
        except UserError:
            print("poetry.lock is damaged: solving without it", flush=True)
            path.unlink()
    steps = [["lock", "--regenerate"]] if everything else [["lock"]]
    mine = sorted(set(update) & {name for _, name in poetry_lock.versions(path)})
    if mine and not everything:
        steps.append(["update", "--lock", *mine])
    document = settings.pyproject(project)
    wait, licence = cooldown.read(document), document.get("project", {}).get("license")
    if isinstance(licence, dict) and "file" in licence:  # Poetry reads it, and here are no files but those that decide
        (project / licence["file"]).parent.mkdir(parents=True, exist_ok=True)
        (project / licence["file"]).touch()
    variables = {"POETRY_VIRTUALENVS_CREATE": "false", **variables, **wait.poetry(project, held)}
    program = [str(Path(POETRY).with_name("python")), "-Ic", cooldown.STRICT] if wait.strict else [POETRY]
    for step in steps:
        print(f"Poetry: {' '.join(step)}", flush=True)
        done = subprocess.run(
            [*program, *step, "--no-interaction", "--no-ansi", "--directory", project],
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            solved = re.search("version solving failed|Incompatible constraints", done.stdout)
            way = "Loosen, raise or drop the requirement that it names" if solved else "Correct what it names"
            way += " in pyproject.toml, then run `make env-update`."
            why = explain(done.stdout) or "\n".join(wait.explain(done.stdout)) or way
            raise UserError(f"Poetry could not lock pyproject.toml:\n\n{done.stdout.strip()}\n\n{why}")
        for line in wait.explain(done.stdout):
            print(f"note: {line}", flush=True)
