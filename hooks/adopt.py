# /// script
# requires-python = ">=3.11"
# dependencies = ["copier==9.19.1", "packaging==26.3", "poetry-core==2.5.0", "py-rattler==0.28.0", "ruamel.yaml==0.18.16", "tomlkit==0.15.2"]
# ///
"""Bring a repository that has conda, Poetry or both already under the template.

    pipx run couplet/hooks/adopt.py [--data QUESTION=ANSWER] REPOSITORY

It works on a new branch, `adopt`, and commits nothing. Exit codes: 0, nothing is left to be decided; 3, all is done but for what is
listed under "To look at"; 1, refused, and nothing was changed; 2, the call was wrong.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import copier
import tomlkit
import yaml
from adopting import answers, environment, files, layout, locking, pyproject, state
from adopting.state import Refused, Repository
from copier.errors import CopierError

UNFORESEEN = (ValueError, KeyError, TypeError, AttributeError, subprocess.CalledProcessError)
"""What the code of a conversion raises where a file has a form that nobody thought of."""
HERE = Path(__file__).resolve().parents[1]


def address() -> str:
    """Return where this template came from, which is where its updates will come from; a checkout of one's own is its own source."""
    found = subprocess.run(["git", "remote", "get-url", "origin"], cwd=HERE, capture_output=True, text=True).stdout.strip()
    return found or str(HERE)


def options(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="adopt.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", type=Path)
    parser.add_argument("--data", action="append", default=[], metavar="QUESTION=ANSWER", help="instead of what was derived")
    parser.add_argument("--template", default=address(), help="the template's address (default: %(default)s)")
    parser.add_argument("--vcs-ref", help="its version (default: the latest release)")
    found = parser.parse_args(arguments)
    for pair in found.data:
        if "=" not in pair:
            parser.error(f"--data {pair}: write QUESTION=ANSWER")
    return found


def render(template: str, version: str | None, data: dict[str, Any], given: list[str], folder: Path) -> dict[str, Any]:
    """Render the project into a folder and return the answers that Copier recorded. Raises Refused where it takes an answer for none."""
    try:
        copier.run_copy(template, folder, data=data, defaults=True, unsafe=False, quiet=True, vcs_ref=version)
    except (CopierError, ValueError) as error:
        raise Refused(
            f"the template does not take these answers: {error}\nAnswer otherwise with --data QUESTION=ANSWER."
        ) from None
    recorded: dict[str, Any] = yaml.safe_load((folder / ".copier-answers.yml").read_text())
    if unknown := [name for name in given if name not in recorded]:
        raise Refused(f"--data {unknown[0]}: the template has no such question, or does not ask it with these answers.")
    return recorded


def convert(repository: Repository, rendered: Path, found: dict[str, Any]) -> None:
    """Change the repository's files, on the branch that is checked out, and stage them."""
    parts = layout.parts(repository)
    main = layout.main_part(repository, parts)
    layout.move(repository, parts)
    if repository.environment_file not in ("", "environment.yml"):
        repository.move(repository.environment_file, "environment.yml")
        repository.done.append(f"{repository.environment_file} is environment.yml now (git mv)")
    text, kernel = pyproject.convert(repository, (rendered / "pyproject.toml").read_text(), parts, main, found)
    written = {"pyproject.toml": text}
    if found["environment"] == "conda-poetry":
        written["environment.yml"] = environment.convert(repository, found, kernel)
    elif repository.environment is not None:
        repository.left.append(
            "environment.yml: nothing reads it with environment=poetry: add what it lists to pyproject.toml, then git rm it"
        )
    files.bring(repository, rendered, written, found, main, list(tomlkit.parse(text)["project"].get("scripts", {})))


def adopt(wanted: argparse.Namespace) -> int:
    """Adopt the repository, print what was done and what is left, and return the exit code. Raises Refused."""
    repository = state.read(wanted.repository)
    try:
        data = answers.derive(repository, layout.main_part(repository, layout.parts(repository)))
    except UNFORESEEN as error:
        raise Refused(f"{wanted.repository}: this cannot be read: {type(error).__name__}: {error}") from error
    given = [pair.split("=", 1)[0] for pair in wanted.data]
    for pair in wanted.data:
        name, text = pair.split("=", 1)
        data[name] = text if name == "python_version" or not isinstance(data.get(name), bool | list) else yaml.safe_load(text)
    answered = {"license": "Private :: Do Not Upload", "python_version": "Python 3."}
    marks = tuple(answered[name] for name in given if name in answered)
    repository.left = [line for line in repository.left if not any(mark in line for mark in marks)]
    with tempfile.TemporaryDirectory() as folder:
        rendered, rehearsal = Path(folder, "rendered"), Path(folder, "rehearsal")
        found = render(wanted.template, wanted.vcs_ref, data, given, rendered)
        if covered := files.in_the_way(repository, rendered):
            raise Refused(
                f"{', '.join(covered)}: git ignores it here, and the template has a file of that name: it would be lost. Rename yours, "
                "or commit it (git add --force)."
            )
        # Once on a clone, so that what cannot be converted is told before anything is changed.
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(wanted.repository), str(rehearsal)], check=True)
        trial = state.read(rehearsal)
        try:
            convert(trial, rendered, found)
        except UNFORESEEN as error:
            raise Refused(f"{wanted.repository}: this cannot be converted: {type(error).__name__}: {error}") from error
        refused = locking.refused(rehearsal, found["environment"] == "conda-poetry")
        before = repository.git("branch", "--show-current").strip() or repository.git("rev-parse", "HEAD").strip()
        repository.git("switch", "--quiet", "--create", "adopt")
        convert(repository, rendered, found)
    print("Answers:")
    for name, value in found.items():
        if not name.startswith("_"):
            print(
                f"  {name}: {value}" + ("  (--data)" if name in given else "" if name in data else "  (the template's default)")
            )
    print("\nDone, on the branch adopt, nothing committed yet:")
    print(*(f"  {line}" for line in dict.fromkeys(repository.done)), sep="\n")
    stops = [f"{where}: `make env-update` refuses it: {what}" for where, _, what in (line.partition(": ") for line in refused)]
    left = [*stops, *dict.fromkeys(repository.left)]
    if left:
        print("\nTo look at:")
        print(*(f"  {line}" for line in left), sep="\n")
    first = f"first repair what the lines with `refuses` name ({len(stops)}), then " if stops else ""
    print(
        f"\nNext: {first}git diff --cached --find-renames, then make env-update build test, then git add --all && git commit.\n"
        f"Back: git reset --hard && git switch {before} && git branch -D adopt"
    )
    return 3 if left else 0


def main(arguments: list[str]) -> int:
    """The command line."""
    try:
        return adopt(options(arguments))
    except Refused as refusal:
        print(f"adopt: {refusal}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
