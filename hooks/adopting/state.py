"""The repository that is adopted, and what has to be told of it."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomlkit
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from tomlkit.exceptions import TOMLKitError

ASIDE = "before-adopting"
"""Where a file of the user's goes whose place one of the template's takes."""
ENVIRONMENTS = ("environment.yml", "environment.yaml", "conda.yml", "conda.yaml")
"""The names that conda's environment file may have. Of several, the first is converted; of none, the only one elsewhere."""


class Refused(Exception):
    """The repository cannot be adopted as it is; nothing of it was changed."""


@dataclass
class Repository:
    """A git work tree: its tracked files, its two declarations, and what was said while it was converted.

    `done` says what was changed, `left` what somebody has to look at; each a line, each with the file's name. `others` are
    conda's other environment files, which are not converted.
    """

    path: Path
    tracked: list[str] = field(default_factory=list)
    pyproject: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] | None = None
    environment_file: str = ""
    others: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def git(self, *arguments: str, check: bool = True) -> str:
        """Run git in the repository and return its output. Raises CalledProcessError on failure, unless told not to."""
        words = ["git", *arguments]
        return subprocess.run(words, cwd=self.path, check=check, capture_output=True, text=True, errors="replace").stdout

    def text(self, name: str) -> str:
        """Return a file's text; of what is no text, what can be read of it. Empty where there is no such file."""
        file = self.path / name
        return file.read_text(errors="replace") if file.is_file() else ""

    def write(self, name: str, text: str) -> None:
        """Write a file, with the folders above it, and with the line ends that it had."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        windows = file.is_file() and b"\r\n" in file.read_bytes()
        file.write_text(text, newline="\r\n" if windows else "\n")

    def append(self, name: str, text: str) -> None:
        """Write a text behind what a file has, of which no byte changes but blank lines at its end."""
        theirs = (self.path / name).read_bytes()
        end = b"\r\n" if b"\r\n" in theirs else b"\n"
        (self.path / name).write_bytes(theirs.rstrip(b"\r\n") + end + text.encode().replace(b"\n", end))

    def move(self, old: str, new: str) -> None:
        """Move a tracked file or folder, so that git keeps its history; what lies untracked in a folder moves with it."""
        (self.path / new).parent.mkdir(parents=True, exist_ok=True)
        self.git("mv", old, new)
        self.tracked = self.git("ls-files", "-z").split("\0")[:-1]

    @property
    def poetry(self) -> dict[str, Any]:
        """The table [tool.poetry], empty where there is none."""
        table: dict[str, Any] = self.pyproject.get("tool", {}).get("poetry", {})
        return table

    @property
    def project(self) -> dict[str, Any]:
        """The table [project], empty where there is none."""
        table: dict[str, Any] = self.pyproject.get("project", {})
        return table


def read(path: Path) -> Repository:
    """Read a repository. Raises Refused where there is no clean git work tree, or a file in it cannot be read."""
    found = Repository(path)
    if not path.is_dir():
        raise Refused(f"{path}: there is no such folder.")
    top = found.git("rev-parse", "--show-toplevel", check=False).strip()
    if not top or Path(top).resolve() != path.resolve():
        inside = f" It lies in {top}: name that folder." if top else " First: git init, git add --all, git commit."
        raise Refused(f"{path}: this is not a git repository, and without one nothing of yours would be safe.{inside}")
    if not found.git("rev-parse", "--verify", "--quiet", "HEAD", check=False):
        raise Refused(f"{path}: there is no commit yet. First: git add --all, git commit.")
    if dirty := found.git("status", "--porcelain").splitlines():
        files = ", ".join(line[3:] for line in dirty[:5]) + (", ..." if len(dirty) > 5 else "")
        raise Refused(f"{path}: not everything is committed ({files}). First: git add --all, git commit, or git stash --all.")
    if (path / ".copier-answers.yml").exists():
        raise Refused(f"{path}/.copier-answers.yml: a template of Copier's is here already. `copier update` keeps it current.")
    if found.git("branch", "--list", "adopt"):
        raise Refused(f"{path}: there is a branch called adopt already. First: git branch --move adopt another-name")
    found.tracked = found.git("ls-files", "-z").split("\0")[:-1]
    try:
        found.pyproject = tomlkit.parse(converted(found, "pyproject.toml"))
    except TOMLKitError as error:
        raise Refused(f"{path}/pyproject.toml: {error}") from None
    elsewhere = [name for name in found.tracked if name not in ENVIRONMENTS and an_environment(found, name)]
    named = [name for name in ENVIRONMENTS if name in found.tracked]
    if not named and len(elsewhere) == 1 and not elsewhere[0].startswith(("binder/", ".binder/")):
        named, elsewhere = elsewhere, []
    found.others = named[1:] + elsewhere
    if named:
        found.environment_file = named[0]
        try:
            content = YAML().load(converted(found, named[0]))
        except YAMLError as error:
            raise Refused(f"{path}/{named[0]}: {error}") from None
        if not isinstance(content, dict) or not isinstance(content.get("dependencies") or [], list):
            raise Refused(f"{path}/{named[0]}: this is not an environment of conda's: it has no list `dependencies`.")
        found.environment = content
    return found


def converted(repository: Repository, name: str) -> str:
    """Return the text of a file that will be written anew. Raises Refused where some of it would be lost by that."""
    file = repository.path / name
    try:
        return file.read_text(encoding="utf-8-sig") if file.is_file() else ""
    except UnicodeDecodeError as error:
        raise Refused(f"{file}: this is not UTF-8 text ({error}). Save it as UTF-8, and commit.") from None


def an_environment(repository: Repository, name: str) -> bool:
    """Is this another environment file of conda's: YAML with a list of dependencies, and channels or a name?"""
    text = repository.text(name) if name.endswith((".yml", ".yaml")) else ""
    keys = set(re.findall(r"^(dependencies|channels|name)\s*:", text, re.M))
    return "dependencies" in keys and len(keys) > 1
