"""The template as Copier sees it: a tagged copy of the working tree, its questions, and rendering."""

from __future__ import annotations

import copy
import functools
import os
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import copier
import copier._main
import copier._template
import jinja2
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
RELEASES = REPOSITORY / "tests/releases.toml"
TAG = "v9999.0.0"
"""The version of the working tree: newer than every release, so that Copier takes it as the latest."""


def git(folder: Path, *arguments: str) -> str:
    """Run git in `folder` and return its output. Raises CalledProcessError, with the output, on failure."""
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def isolated() -> dict[str, str]:
    """Return variables that keep git and Copier away from the user's own settings, and off the live checkout.

    A git hook exports GIT_DIR and GIT_INDEX_FILE; with them, Copier's own git calls would write into
    the checkout's index.
    """
    local = subprocess.run(["git", "rev-parse", "--local-env-vars"], capture_output=True, text=True, check=True).stdout.split()
    for name in local:
        os.environ.pop(name, None)
    who = {"NAME": "couplet tests", "EMAIL": "tests@couplet.invalid"}
    return {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "COPIER_SETTINGS_PATH": str(REPOSITORY / "tests/harness/copier-settings.yml"),
        **{f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()},
    }


compile_anew = jinja2.Environment.compile
SYNTAX = (
    "block_start_string", "block_end_string", "variable_start_string", "variable_end_string", "comment_start_string",
    "comment_end_string", "line_statement_prefix", "line_comment_prefix", "trim_blocks", "lstrip_blocks", "newline_sequence",
    "keep_trailing_newline", "undefined", "finalize", "sandboxed", "autoescape", "optimized",
)  # fmt: skip
"""What Jinja's compiler asks an environment for, besides its extensions."""


def remember_what_is_compiled() -> None:
    """Have Jinja compile each text once in this process: Copier makes a new environment for each of its many steps.

    More than half of the time that a render takes in Python is this.
    """
    compiled: dict[tuple, Any] = {}

    def compile_once(self, source, name=None, filename=None, raw=False, defer_init=False):
        if raw or defer_init or not isinstance(source, str):
            return compile_anew(self, source, name, filename, raw, defer_init)
        key = (source, name, type(self), *(getattr(self, word) for word in SYNTAX), *sorted(self.extensions))
        if key not in compiled:
            compiled[key] = compile_anew(self, source, name, filename)
        return compiled[key]

    jinja2.Environment.compile = compile_once


def read_yaml_with_libyaml() -> None:
    """Have Copier and the tests read YAML with libyaml, as PyYAML offers it: the same rules, in C.

    Copier reads all questions in each of an update's six steps; in Python, that is half of an update's time.
    What users run is Python's own: tests/update/test_make_update.py has it, in its container.
    """
    yaml.SafeLoader = yaml.CSafeLoader


def leave_modes_to_git() -> None:
    """Have Copier not ask git before each file of a render whether core.fileMode is false: for these projects it never is.

    The question is a process, and a third of the time that an update takes.
    """
    worker = copier._main.Worker
    assert callable(worker._sync_git_index_executable_bit), "Copier has another way by now: is it cheaper?"
    worker._sync_git_index_executable_bit = lambda self, path, mode: None


def gather_answers_once() -> None:
    """Have Copier put the answers together once a render, and not twice for each part of each path: they stay what they are.

    A third of the time that a render takes.
    """
    worker = copier._main.Worker
    render, gather, path = worker._render_template, worker._render_context, worker.answers_relpath.fget
    found: dict[int, tuple[Path, dict[str, Any]]] = {}

    def render_with(self) -> None:
        found[id(self)] = path(self), gather(self)
        try:
            render(self)
        finally:
            del found[id(self)]

    worker._render_template = render_with
    worker._render_context = lambda self: dict(found[id(self)][1]) if id(self) in found else gather(self)
    worker.answers_relpath = property(lambda self: found[id(self)][0] if id(self) in found else path(self))


def clone_once() -> None:
    """Have Copier clone a tag or a commit of a template once in this process, and link the clone's files after that.

    An update clones the template eight times, which is a fifth of its time.
    """
    clone = copier._template.clone
    found: dict[tuple[str, str], tempfile.TemporaryDirectory] = {}

    def link(url: str, ref: str = "HEAD", location: str | None = None) -> str:
        if ref == "HEAD" or location is None:
            return clone(url, ref, location)
        if (url, ref) not in found:
            found[url, ref] = tempfile.TemporaryDirectory(prefix="couplet-clone-")
            clone(url, ref, found[url, ref].name)
        shutil.copytree(found[url, ref].name, location, symlinks=True, copy_function=os.link, dirs_exist_ok=True)
        return location

    copier._template.clone = link


def releases() -> dict[str, str]:
    """Return {tag: commit} of tests/releases.toml, oldest first."""
    return tomllib.loads(RELEASES.read_text())


def snapshot(folder: Path) -> Path:
    """Make a git repository in `folder`: `first_snapshot`, which is made once in this process, copied. Returns `folder`."""
    return shutil.copytree(Path(first_snapshot().name, "couplet"), folder, symlinks=True)


@functools.cache
def first_snapshot() -> tempfile.TemporaryDirectory:
    """Make a git repository of this one's history, its releases tagged, and, on top, its working tree.

    Copier is never pointed at the live checkout: with uncommitted changes it would name a commit that
    does not exist, and no project could be updated from there. Tags are made of the table of releases alone, so
    that a clone without tags gives the same result.
    """
    place = tempfile.TemporaryDirectory(prefix="couplet-snapshot-")
    folder = Path(place.name, "couplet")
    git(REPOSITORY, "clone", "--quiet", "--no-hardlinks", "--no-tags", str(REPOSITORY), str(folder))
    for tag, commit in releases().items():
        git(folder, "tag", tag, commit)
    listed = git(REPOSITORY, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for path in filter(None, git(folder, "ls-files", "-z").split("\0")):
        (folder / path).unlink()
    for path in filter(None, listed):
        source = REPOSITORY / path
        if source.is_file():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / path)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "The working tree")
    git(folder, "tag", TAG)
    # as a clone from a host is: Copier clones it several times an update, and removing 256 folders of objects takes seconds
    git(folder, "gc", "--quiet", "--prune=now")
    return place


def files_of(repository: Path, folder: Path) -> list[Path]:
    """Return the files below a folder that git has or would take: no caches of tools. Without git, all of them."""
    if not (repository / ".git").exists():
        return [path for path in folder.rglob("*") if path.is_file()]
    listed = git(repository, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", str(folder)).split("\0")
    return [repository / path for path in listed if path and (repository / path).is_file()]


def reader(template: Path, version: str | None = None) -> Callable[[str], str]:
    """Return a function from a path to its text in a template: of a tag, or as the files are."""
    return lambda name: git(template, "show", f"{version}:{name}") if version else (template / name).read_text()


def loader(template: Path, version: str | None = None) -> type[yaml.SafeLoader]:
    """Return a loader for YAML with Copier's !include."""

    class Loader(yaml.SafeLoader):
        """YAML with Copier's !include."""

    read = reader(template, version)
    Loader.add_constructor("!include", lambda _, node: yaml.safe_load(read(node.value)))
    return Loader


def questions(template: Path = REPOSITORY, version: str | None = None) -> dict[str, dict[str, Any]]:
    """Return every question, asked or computed, in the order of copier.yml's includes; of a tag, or as the files are."""
    return copy.deepcopy(questions_of_tag(template, version)) if version else read_questions(template)


@functools.cache
def questions_of_tag(template: Path, version: str) -> dict[str, dict[str, Any]]:
    """Read the questions of a tag once: a tag stays what it is."""
    return read_questions(template, version)


def read_questions(template: Path, version: str | None = None) -> dict[str, dict[str, Any]]:
    """Read the questions, of a tag or as the files are."""
    read = reader(template, version)
    found = {}
    for document in yaml.load_all(read("copier.yml"), loader(template, version)):
        found |= {name: value for name, value in (document or {}).items() if not name.startswith("_")}
    return found


def only_answers(template: Path, answers: dict[str, Any], version: str | None = None) -> dict[str, Any]:
    """Return the answers. Raises AssertionError for one to a question that does not exist: Copier ignores those."""
    unknown = answers.keys() - questions(template, version).keys()
    assert not unknown, f"no such question: {sorted(unknown)}"
    return answers


def render(template: Path, destination: Path, answers: dict[str, Any], version: str | None = None) -> Path:
    """Render a tag of the template (the latest) as `copier copy --defaults` without --trust does. Returns `destination`."""
    data = only_answers(template, answers, version)
    copier.run_copy(str(template), destination, data=data, defaults=True, unsafe=False, quiet=True, vcs_ref=version)
    return destination
