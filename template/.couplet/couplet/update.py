"""`make update`: Copier, in its container, and what its update leaves to be seen to.

Copier ends with exit code 0 where it left conflicts, where it deleted a file together with what somebody had written into
it (the template no longer has the path, or another answer took it away), and where it wrote a file that .gitignore keeps
out of git. Here each of them is named, and ends the update with exit code 1. What git has no copy of is never written over.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from couplet.errors import UserError

ANSWERS = ".copier-answers.yml"
BACK = "git reset --hard && git clean --force -d"
OF_0 = ("docker/", "scripts/", "docker-bake.hcl")
"""What was the template's before 1.0.0, and is in .couplet/ since."""


class Report(NamedTuple):
    """What an update that is not committed yet did in a project. Paths are relative to it, each list in order."""

    changed: list[str]
    """Lines of `git status --short`."""
    conflicts: list[str]
    """Files in which both sides changed the same lines."""
    deleted: dict[str, str]
    """Files that are gone, and were not as the template had made them -> the template's file that takes the place, or ''."""
    ignored: list[str]
    """Files of the template, and locks, that are not in git, since .gitignore matches them."""
    left: list[str]
    """The user's own files in folders that the template has left."""

    @property
    def clean(self) -> bool:
        """Whether nothing needs anybody's attention before the commit."""
        return not (self.conflicts or self.deleted or self.ignored)


# --- git and the two renderings --------------------------------------------------------------------


def git(folder: Path, *arguments: str, paths: list[str] | None = None) -> bytes:
    """Run git in a folder, with paths as its input, and return its output. Raises UserError with git's words where it fails."""
    given = "\0".join(paths or []).encode()
    done = subprocess.run(["git", *arguments], cwd=folder, input=given, capture_output=True)
    # `git check-ignore` says with 1 that it found nothing
    if done.returncode and not (arguments[0] == "check-ignore" and done.returncode == 1):
        raise UserError(f"git {arguments[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def names(output: bytes) -> list[str]:
    """Return the paths of git's output with -z."""
    return [os.fsdecode(name) for name in output.split(b"\0") if name]


def read_answers(text: bytes) -> dict[str, Any]:
    """Return what an answers file says. Raises UserError where it names no template."""
    import yaml

    found = yaml.safe_load(text)
    if not isinstance(found, dict) or not found.get("_src_path"):
        raise UserError(f"{ANSWERS} has no _src_path, so the template's address is not known. Add the line: _src_path: ADDRESS")
    return found


def render(answers: dict[str, Any], folder: Path) -> set[str]:
    """Render the template's version and answers that an answers file names into a folder; return the paths."""
    import copier

    data = {name: value for name, value in answers.items() if not name.startswith("_")}
    copier.run_copy(
        answers["_src_path"], folder, data=data, vcs_ref=answers.get("_commit"), defaults=True, overwrite=True, quiet=True,
        skip_tasks=True, unsafe=False,
    )  # fmt: skip
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# --- what an update would write over ---------------------------------------------------------------


def endangered(project: Path, options: list[str]) -> list[str]:
    """Return the files that git ignores and nobody has another copy of, at paths that Copier would write to or delete.

    `options` are those of `copier update`: answers and the version count. A new question is taken to be answered with its default.
    """
    hidden = set(names(git(project, "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--", ".")))
    if not hidden or not git(project, "rev-list", "--max-count=1", "--all"):
        return []
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-d", "--data", action="append", default=[])
    parser.add_argument("-r", "--vcs-ref")
    given, _ = parser.parse_known_args(options)
    before = read_answers(git(project, "show", f"HEAD:./{ANSWERS}"))
    after = before | dict(answer.partition("=")[::2] for answer in given.data)
    if given.vcs_ref != ":current:":
        after["_commit"] = given.vcs_ref  # None: the newest release
    with TemporaryDirectory() as scratch:
        renderings = [Path(scratch, "old"), Path(scratch, "new")]
        made = render(before, renderings[0]) | render(after, renderings[1])
        return [
            path
            for path in sorted(hidden & made)
            if (project / path).read_bytes() not in [(r / path).read_bytes() for r in renderings if (r / path).is_file()]
        ]


# --- what came of an update ------------------------------------------------------------------------


def report(project: Path) -> Report:
    """Compare a project's files with its last commit, and both with what the template makes of their answers."""
    before = read_answers(git(project, "show", f"HEAD:./{ANSWERS}"))
    after = read_answers((project / ANSWERS).read_bytes())
    diff = ("diff", "-z", "--name-only", "--relative", "--no-renames")
    gone = names(git(project, *diff, "--diff-filter=D", "HEAD", "--", "."))
    with TemporaryDirectory() as scratch:
        old, new = Path(scratch, "old"), Path(scratch, "new")
        were, are = render(before, old), render(after, new)
        edited = [
            path for path in gone if path not in were or (old / path).read_bytes() != git(project, "show", f"HEAD:./{path}")
        ]
        locks = {path.name for pattern in ("poetry.lock", "conda*.lock") for path in project.glob(pattern)}
        ignored = names(git(project, "check-ignore", "-z", "--stdin", paths=sorted(are | locks)))
        for path in list(ignored):
            if not (project / path).exists():
                if git(project, "log", "-1", "--format=%h", "--", path):
                    ignored.remove(path)  # somebody deleted it
                else:
                    # it never reached git, so that this clone does not have it
                    (project / path).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(new / path, project / path)
    return Report(
        changed=git(project, "-c", "core.quotePath=false", "status", "--short", "--", ".").decode(errors="replace").splitlines(),
        conflicts=names(git(project, *diff, "--diff-filter=U", "--", ".")),
        deleted={path: successor(path, are - were) for path in edited},
        ignored=gathered(project, ignored),
        left=left_behind(names(git(project, "ls-files", "-z", "--", ".")), were, are),
    )


def gathered(project: Path, paths: list[str]) -> list[str]:
    """Return paths, and in place of all the files that a folder has the folder."""
    found: dict[str, None] = {}
    for path in map(PurePosixPath, paths):
        for folder in reversed(path.parents[:-1]):
            inside = (file.relative_to(project).as_posix() for file in (project / folder).rglob("*") if file.is_file())
            if all(file in paths for file in inside):
                path = folder
                break
        found[str(path)] = None
    return list(found)


def successor(path: str, new: set[str]) -> str:
    """Return the new file of the template that has the old one's name, with another ending or as a folder too, or ''."""
    old = PurePosixPath(path)
    same = [name for name in sorted(new) if PurePosixPath(name).name == old.name]
    alike = [name for name in sorted(new) if old.stem.replace("-", "_") in PurePosixPath(name).with_suffix("").parts]
    return (same or alike or [".couplet/" if path.startswith(OF_0) else ""])[0]


def left_behind(tracked: list[str], were: set[str], are: set[str]) -> list[str]:
    """Return the tracked files that are nobody's but the user's, in folders that the template had files in and has no more."""

    def folders(paths: set[str]) -> set[PurePosixPath]:
        return {parent for path in paths for parent in PurePosixPath(path).parents}

    abandoned = folders(were) - folders(are)
    return [path for path in tracked if path not in were | are and PurePosixPath(path).parent in abandoned]


def pending(project: Path) -> bool:
    """Is there an update that was not committed? Then the answers file is not the last commit's; its address may be another."""

    def compared(answers: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in answers.items() if name != "_src_path"}

    try:
        committed = read_answers(git(project, "show", f"HEAD:./{ANSWERS}"))
    except UserError:
        return False  # nothing is committed: Copier says what it needs
    return compared(committed) != compared(read_answers((project / ANSWERS).read_bytes()))


def tell(found: Report) -> None:
    """Print what an update did, and on standard error what it leaves to be seen to."""
    print("Changed:", *found.changed, sep="\n", flush=True)
    deleted = [
        f"git show HEAD:./{shlex.quote(path)}" + (f"   ({place} has taken its place)" if place else "")
        for path, place in found.deleted.items()
    ]
    advice = "The template no longer has these files, and git still does: bring over what you still need, then: git add --all"
    if any(path.startswith(OF_0) for path in found.deleted):
        advice += (
            "\n.couplet/ does what docker/ and scripts/ did, and you never edit it:"
            "\nwhat the image needs goes into the Dockerfile, what you type into the Makefile."
        )
    for heading, lines, then in (
        (
            "Conflicts, where you and the template changed the same lines:",
            found.conflicts,
            "In each file, look for <<<<<<< and keep what is right, then: git add FILE",
        ),
        ("Deleted, with your edits:", deleted, advice),
        (
            "Not in git, since .gitignore matches them, so that no clone could be built:",
            [f"git add --force {shlex.quote(path)}" for path in found.ignored],
            "",
        ),
        ("Your own files, left in folders that the template no longer uses:", found.left, ""),
    ):
        if lines:
            print(f"\n{heading}", *(f"  {line}" for line in lines), *([then] if then else []), sep="\n", file=sys.stderr)
    if not found.clean:
        print(f"\nOr take the whole update back: {BACK}", file=sys.stderr)


# --- the command -----------------------------------------------------------------------------------


def template_folder(project: Path) -> str:
    """Return the folder of this machine that the template is in, '' where it is elsewhere. Raises UserError for ssh."""
    if not (project / ANSWERS).exists():
        raise UserError(
            f"There is no {ANSWERS} here, which has the template's address and your answers.\n"
            f"Bring it back: git checkout HEAD -- {ANSWERS}"
        )
    address = str(read_answers((project / ANSWERS).read_bytes())["_src_path"])
    if address.startswith(("git@", "ssh:", "git+ssh:")):
        raise UserError(
            f"The template's address is {address} (_src_path in {ANSWERS}), and the container has no ssh.\n"
            "Use a Copier of your own: pipx run copier update --skip-answered"
        )
    return os.path.normpath(project.absolute() / address) if address.startswith(("/", ".")) else ""


def copier_program(*arguments: str) -> int:
    """Run Copier's program and return its exit code."""
    return subprocess.run([sys.executable, "-m", "copier", *arguments]).returncode


def update(project: Path, options: list[str]) -> int:
    """Bring in the newest template, and tell what came of it. Returns 1 where somebody has to see to something."""
    if pending(project):
        tell(report(project))
        raise UserError("This update is not committed yet. Resolve what is listed above, commit, and run `make update` again.")
    if mine := endangered(project, options):
        raise UserError(
            "The update was refused: it would write over files of yours that .gitignore keeps out of git, or delete them."
            " Move each away:\n"
            + "".join(f"  mv {shlex.quote(path)} {shlex.quote(path + '.mine')}\n" for path in mine)
            + "or take it into git (git add --force FILE, and commit), then run `make update` again."
        )
    # On a terminal it asks what is new. Quiet, since its closing words know less than the report.
    if copier_program("update", "--quiet", "--skip-answered" if sys.stdin.isatty() else "--defaults", *options):
        raise UserError("The update failed: the reason is above.")
    found = report(project)
    if not found.changed and found.clean:
        print("Nothing has changed: your files are up to date with the template.")
        return 0
    tell(found)
    if found.clean:
        print("\nLook at it (git diff HEAD), then: make env-update build test")
    return 0 if found.clean else 1


def main(arguments: list[str]) -> int | None:
    """Do one task in the current folder."""
    parser = argparse.ArgumentParser(prog="couplet update", description="Copier, and what its update leaves to be seen to.")
    parser.add_argument("task", choices=["update", "check", "report", "folder"])
    parser.add_argument("options", nargs=argparse.REMAINDER, help="options of `copier update`")
    given = parser.parse_args(arguments)
    project = Path.cwd()
    folder = template_folder(project)
    if given.task == "folder":
        print(folder)
    elif given.task == "check":
        return copier_program("check-update", *given.options)
    elif given.task == "update":
        return update(project, given.options)
    elif not (found := report(project)).clean:
        tell(found)
        print("\nThis message stays until the deletions are in git's index: git add --all", file=sys.stderr)
        return 1
    return 0
