"""Make poetry.lock, with a stamp in its head by which scripts/lock-state.sh knows what it was made of.

Nothing moves that need not: Poetry holds what the old lock holds, except for the packages named by --update, or all
of them with --all. Everything is written to --out; nothing in the project changes.
"""

import argparse
import hashlib
import os
import re
import subprocess
import tomllib
from pathlib import Path

import poetry_lock
import references
from changes import stayed, table_of_changes
from distributions import normalise
from errors import BuildError, run

POETRY = "/opt/poetry/bin/poetry"
STATE = "/scripts/lock-state.sh"


def versions(lock):
    """Return {("Poetry", name): version} of a poetry.lock; {} where there is none or it is damaged."""
    try:
        return {("Poetry", package.name): package.version for package in poetry_lock.read(lock)}
    except BuildError:
        return {}


def check_inputs(project, update, held):
    """Refuse what Poetry should not be asked: a pyproject.toml that is no TOML, names that the lock does not hold."""
    try:
        tomllib.loads((project / "pyproject.toml").read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BuildError(f"pyproject.toml is no TOML: {error}") from None
    references.check(project / "pyproject.toml")
    unknown = sorted(update - held)
    if unknown:
        raise BuildError(
            f"PKG: poetry.lock holds no {', '.join(unknown)}. Add it to pyproject.toml, then run `make env-update`."
        )


def lock(project, update, everything):
    """Write poetry.lock in `project`. Raises BuildError with what Poetry says where it finds no solution."""
    steps = [["lock", "--regenerate"]] if everything else [["lock"]]
    if update and not everything:
        steps.append(["update", "--lock", *sorted(update)])
    for step in steps:
        print(f"Poetry: {' '.join(step)}", flush=True)
        done = subprocess.run(
            [POETRY, *step, "--no-interaction", "--no-ansi", "--directory", project],
            env={**os.environ, "POETRY_VIRTUALENVS_CREATE": "false"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise BuildError(
                f"Poetry could not lock pyproject.toml:\n\n{done.stdout.strip()}\n\n"
                "Widen, move or drop the dependency that it names in pyproject.toml, then run `make env-update`."
            )


def stamped(project):
    """Return the text of the project's poetry.lock with its stamp: comments, which Poetry reads over and leaves out."""
    text = re.sub(r"^# stamp .*\n", "", (project / "poetry.lock").read_text(), flags=re.M)
    stamp = subprocess.run(["sh", STATE, "stamp", project], check=True, capture_output=True, text=True).stdout
    return f"{stamp}# stamp this-file {hashlib.sha256(text.encode()).hexdigest()}\n{text}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--update", default="", help="names of packages that may move")
    parser.add_argument("--all", default="", help="not empty: everything may move")
    options = parser.parse_args()
    project = options.project
    update = {normalise(name) for name in options.update.replace(",", " ").split()}

    before = versions(project / "poetry.lock")
    check_inputs(project, update, {name for _, name in before})
    if not before and (project / "poetry.lock").exists():
        print("poetry.lock is damaged: solving from nothing", flush=True)
        (project / "poetry.lock").unlink()
    lock(project, update, options.all)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "poetry.lock").write_text(stamped(project))

    after = versions(project / "poetry.lock")
    print()
    for line in table_of_changes(before, after) if before else [f"{len(after)} packages locked"]:
        print(line)
    for name in stayed(update, before, after):
        print(f"{name} stays: nothing newer fits pyproject.toml and the other packages")


if __name__ == "__main__":
    run(main)
