"""`copier update` as a user runs it, and what may be wrong with the result.

Each check returns a list of problems, a line each: empty is good. So a test can also assert that it is not,
on a history that was broken on purpose.
"""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import copier
import yaml
from packaging.version import Version

from couplet.update import OF_0
from tests.harness import template
from tests.harness.template import git
from tests.harness.variants import Variant

ANSWERS = ".copier-answers.yml"
MARKERS = re.compile(r"^(<{7}|={7}|>{7})( |$)", re.MULTILINE)


# --- releases --------------------------------------------------------------------------------------


def release(repository: Path, version: str, change: Callable[[Path], None] | None = None) -> str:
    """Tag a made-up release in a snapshot: its working tree with something changed. Returns `version`."""
    git(repository, "checkout", "--quiet", "--detach", template.TAG)
    if change:
        change(repository)
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--allow-empty", "--message", version)
    git(repository, "tag", version)
    git(repository, "checkout", "--quiet", "--detach", template.TAG)
    return version


def replace(repository: Path, path: str, old: str, new: str) -> None:
    """Replace text in a file of a snapshot, and be sure that it was there once."""
    file = repository / path
    assert file.read_text().count(old) == 1, f"{path} has {file.read_text().count(old)} times {old!r}"
    file.write_text(file.read_text().replace(old, new))


def older(repository: Path) -> None:
    """Change a snapshot into what an older release may have been: the working tree has since

    reworded a line, added a file and a question, moved a tool's version, and shortened a script.
    """
    replace(repository, "template/README.md.jinja", "`make` alone lists everything.", "`make` lists everything.")
    (repository / "template/.editorconfig").unlink()
    email = re.search(r"^author_email:\n.*?\n\n", (repository / "questions/10_project.yml").read_text(), re.M | re.S)
    replace(repository, "questions/10_project.yml", email.group(), "")
    pyproject = "template/pyproject.toml.jinja"
    block = re.search(r"{%- if author_email %}.*?{%- else %}(.*?){%- endif %}", (repository / pyproject).read_text(), re.S)
    replace(repository, pyproject, block.group(), block.group(1).strip("\n"))
    replace(repository, pyproject, '"pytest>=8",', '"pytest>=7",')
    replace(repository, "template/.couplet/pins/poetry.txt", "poetry-plugin-pypi-mirror==", "poetry-plugin-pypi-mirror==0.")
    script = repository / "template/.couplet/host/update.sh"
    script.write_text(script.read_text().replace("set -eu\n", "set -eu\n" + "# Something longer.\n" * 50, 1))


def variants_of(repository: Path, version: str) -> list[Variant]:
    """Return the rows that tests/variants.toml had in a release."""
    table = tomllib.loads(git(repository, "show", f"{version}:tests/variants.toml"))
    return [Variant(name, row["summary"], row["answers"], row["build"]) for name, row in table.items()]


# --- what a user does ------------------------------------------------------------------------------


def commit(project: Path, message: str = "x") -> None:
    """Commit everything in a project, and make a git repository of it where it is none."""
    if not (project / ".git").exists():
        git(project, "init", "--quiet", "--initial-branch=main")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--allow-empty", "--message", message)


def project(repository: Path, folder: Path, answers: dict[str, Any], version: str | None = None) -> Path:
    """Render a release into `folder` and commit it, as the first day of a project."""
    template.render(repository, folder, answers, version)
    commit(folder)
    return folder


def update(project: Path, repository: Path, answers: dict[str, Any] | None = None, version: str | None = None) -> Path:
    """Update a committed project, to the latest tag if no other is named, without trust. Returns `project`.

    Raises `copier.errors.UnsafeTemplateError` where `copier update` would ask for --trust.
    """
    latest = version or max(git(repository, "tag").split(), key=Version)
    data = template.only_answers(repository, answers or {}, latest)
    copier.run_update(project, data=data, defaults=True, overwrite=True, unsafe=False, quiet=True, vcs_ref=latest)
    return project


# --- what came of it -------------------------------------------------------------------------------


def files(project: Path) -> dict[str, tuple[bool, bytes]]:
    """Return {path: (may be run, content)} without git's own and what make writes into report/, and without the version in the answers file."""
    found = {}
    for path in project.rglob("*"):
        name = str(path.relative_to(project))
        if path.is_file() and not name.startswith((".git/", "report/")):
            content = path.read_bytes()
            if name == ANSWERS:
                content = re.sub(rb"^_commit: .*\n", b"", content, flags=re.MULTILINE)
            found[name] = (bool(path.stat().st_mode & 0o100), content)
    return found


def differences(project: Path, fresh: Path) -> list[str]:
    """Is a project what a fresh render is? Contents, run bits, and no file more or less."""
    ours, theirs = files(project), files(fresh)
    problems = [f"{name} is missing" for name in sorted(theirs.keys() - ours.keys())]
    problems += [f"{name} should not be there" for name in sorted(ours.keys() - theirs.keys())]
    return problems + [f"{name} differs" for name in sorted(ours.keys() & theirs.keys()) if ours[name] != theirs[name]]


def conflicts(project: Path) -> set[str]:
    """Return the paths that git calls unmerged: where Copier could not put both sides together."""
    return {line.split("\t", 1)[1] for line in git(project, "ls-files", "--unmerged").splitlines()}


def unseen_markers(project: Path) -> list[str]:
    """Conflict markers in files that git does not call unmerged, and files of rejected hunks: nobody would see them."""
    named = conflicts(project)
    return [
        f"{name} has a conflict that git does not report"
        for name, (_, content) in files(project).items()
        if name not in named and (name.endswith(".rej") or MARKERS.search(content.decode(errors="replace")))
    ]


def answers_of(project: Path) -> dict[str, Any]:
    """Return the recorded answers of a project, without Copier's own keys."""
    recorded = yaml.safe_load((project / ANSWERS).read_text())
    return {name: value for name, value in recorded.items() if not name.startswith("_")}


def lost_answers(
    before: dict[str, Any], after: dict[str, Any], questions: dict[str, dict], dropped: dict[str, str] | None = None
) -> list[str]:
    """Does every recorded answer live on? Under its own name, or with a question whose default names the old one.

    `questions` are those of the newer release, `dropped` names those that may go, with the reason.
    """
    problems = []
    for name, value in before.items():
        if name in questions:
            if name in after and after[name] != value:
                problems.append(f"the answer {name}={value!r} became {after[name]!r}")
            elif name not in after and questions[name].get("when") is not False:
                problems.append(f"the answer {name}={value!r} is not recorded any more")
        elif name not in (dropped or {}):
            heirs = [heir for heir, asked in questions.items() if re.search(rf"\b{name}\b", str(asked.get("default", "")))]
            if not any(after.get(heir) == value for heir in heirs):
                problems.append(f"the question {name} is gone, and no other carries its answer {value!r}")
    return problems


def vanished(repository: Path, old: str, new: str, before: set[str], after: set[str]) -> list[str]:
    """Is every path of an older release still rendered, or named by a versioned migration on the way to the newer?

    Copier deletes a path that the template no longer has, with what the user wrote into it, and says nothing. What was
    the template's own before 1.0.0 may go: `make update` and the first build after it name each file that had edits.
    """
    config = yaml.load(git(repository, "show", f"{new}:copier.yml").split("\n---")[0], yaml.SafeLoader)
    crossed = [
        str(migration)
        for migration in config.get("_migrations", [])
        if isinstance(migration, dict)
        and "version" in migration
        and Version(old) < Version(str(migration["version"])) <= Version(new)
    ]
    return [
        f"{path} of {old} is gone, and no migration moves it"
        for path in sorted(before - after)
        if not path.startswith(OF_0) and not any(path in migration for migration in crossed)
    ]


# --- a user's edits --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Edit:
    """What a user changes in one file: text put after an anchor (or at the end, or a new file), or the file deleted.

    Only that `text` is still in the file counts as survived: cleanly, or inside a conflict, which is checked apart.
    """

    path: str
    text: str = ""
    after: str = ""
    deleted: bool = False

    def apply(self, project: Path) -> None:
        """Make the edit. Raises AssertionError if the anchor isn't there exactly once."""
        file = project / self.path
        if self.deleted:
            file.unlink()
        elif self.after:
            content = file.read_text()
            assert content.count(self.after) == 1, f"{self.path} has {content.count(self.after)} times {self.after!r}"
            file.write_text(content.replace(self.after, self.after + self.text))
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text((file.read_text() if file.exists() else "") + self.text)

    def undo(self, project: Path, fresh: Path) -> None:
        """Take the edit back in an updated project: what it deleted comes from a fresh render, and a file of its own goes."""
        file, theirs = project / self.path, fresh / self.path
        if self.deleted:
            file.parent.mkdir(exist_ok=True)  # git keeps no empty folder
            shutil.copy2(theirs, file)
        elif not theirs.exists():
            file.unlink()
        else:
            file.write_text(file.read_text().replace(self.text, "", 1))

    def problems(self, project: Path) -> list[str]:
        """Is the edit still there?"""
        file = project / self.path
        if self.deleted:
            return [f"{self.path} was deleted by the user and is back"] if file.exists() else []
        if not file.exists():
            return [f"{self.path} is gone, with the user's {self.text.strip()[:40]!r}"]
        gone = [line for line in self.text.splitlines() if line not in file.read_text()]
        return [f"{self.path} has lost the user's {gone[0].strip()!r}"] if gone else []


def lost(project: Path, edits: list[Edit]) -> list[str]:
    """Which edits are neither there nor in a conflict that git reports?"""
    return [problem for edit in edits for problem in edit.problems(project)] + unseen_markers(project)
