"""Is .couplet/ as the template has it, and does git have all of it?"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
from pathlib import Path

from couplet.errors import UserError

FOLDER = ".couplet"
MANIFEST = f"{FOLDER}/MANIFEST"


def manifest(project: Path) -> dict[str, str]:
    """Return {path in the project: SHA-256} of .couplet/MANIFEST. Raises UserError where it is missing or damaged."""
    try:
        lines = [line.split("  ", 1) for line in (project / MANIFEST).read_text().splitlines()]
        return {f"{FOLDER}/{name}": digest for digest, name in lines}
    except (OSError, ValueError):
        message = f"{MANIFEST} is missing or damaged. Take it from git again: git checkout HEAD -- {MANIFEST}"
        raise UserError(message) from None


def same(file: Path, digest: str) -> bool:
    """Return whether a file has this SHA-256, with its line ends as they are or with Unix's."""
    content = file.read_bytes()
    return digest in (hashlib.sha256(text).hexdigest() for text in (content, content.replace(b"\r\n", b"\n")))


def unknown(project: Path, known: dict[str, str]) -> list[str]:
    """Return the files of .couplet/ that are not in the MANIFEST, without what Python compiled."""
    files = (path for path in (project / FOLDER).rglob("*") if path.is_file() and path.suffix != ".pyc")
    names = (path.relative_to(project).as_posix() for path in files)
    return sorted(name for name in names if name not in known and name != MANIFEST)


def git(project: Path, *words: str, given: list[str] | None = None) -> list[str] | None:
    """Return the paths that a git command prints, None where there is no git or no repository."""
    try:
        text = "\0".join(given) if given else None
        done = subprocess.run(["git", *words], cwd=project, capture_output=True, text=True, input=text)
    except FileNotFoundError:
        return None
    # `git check-ignore` ends with 1 where it has nothing to say
    return list(filter(None, done.stdout.split("\0"))) if done.returncode in (0, 1) else None


def not_in_git(project: Path, names: list[str]) -> list[str]:
    """Return those of the files that git does not track; before the first `git add`, those that it ignores."""
    if tracked := git(project, "ls-files", "-z", "--", FOLDER):
        return [name for name in names if name not in tracked]
    return git(project, "check-ignore", "-z", "--stdin", given=names) or []


def version(project: Path) -> str:
    """Return the template's version, as .copier-answers.yml has it, '' where it does not say."""
    file = project / ".copier-answers.yml"
    lines = file.read_text().splitlines() if file.is_file() else []
    return next((line.partition(": ")[2].strip(" '\"") for line in lines if line.startswith("_commit: ")), "")


def doctor(project: Path) -> str:
    """Return a line that says that all is well. Raises UserError, naming each file that is not, and what to type."""
    known = manifest(project)
    missing = [name for name in known if not (project / name).is_file()]
    differs = [name for name in known if name not in missing and not same(project / name, known[name])]
    there = [name for name in (MANIFEST, *known) if (project / name).is_file()]
    kinds = {
        "differs": (differs, "This folder is the template's. To undo it: git checkout HEAD -- {}"),
        "missing": (missing, "To have it again: git checkout HEAD -- {}"),
        "unknown": (unknown(project, known), "`make update` replaces this folder. Your own files go elsewhere: {}"),
        "not in git": (not_in_git(project, there), "A clone would lack it: git add --force {}"),
    }
    template = f"the template {version(project)}".strip()
    wrong = [f"  {kind:<10}  {name}" for kind, (names, _) in kinds.items() for name in names]
    if not wrong:
        return f"{FOLDER}/ is as {template} has it: {len(known)} files"
    advice = [text.format(" ".join(names)) for names, text in kinds.values() if names]
    if differs or missing:
        advice.append("If HEAD has it like that, this restores it: make update")
    raise UserError("\n".join([f"{FOLDER}/ is not as {template} has it:", *wrong, *advice]))


def main(arguments: list[str]) -> None:
    """Compare a project's .couplet/ with its MANIFEST and with git."""
    parser = argparse.ArgumentParser(prog="couplet doctor", description=__doc__)
    parser.add_argument("--project", type=Path, default=Path(), help="folder of the project")
    print(doctor(parser.parse_args(arguments).project))
