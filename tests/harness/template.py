"""The template as Copier sees it: a tagged copy of the working tree, its questions, and rendering."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import copier
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
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


def snapshot(folder: Path) -> Path:
    """Make a git repository in `folder` of this one's history and, on top and tagged, its working tree.

    Copier is never pointed at the live checkout: with uncommitted changes it would name a commit that
    does not exist, and no project could be updated from there.
    """
    git(REPOSITORY, "clone", "--quiet", "--no-hardlinks", str(REPOSITORY), str(folder))
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
    return folder


def questions(template: Path = REPOSITORY) -> dict[str, dict[str, Any]]:
    """Return every question, asked or computed, in the order of copier.yml's includes."""

    class Loader(yaml.SafeLoader):
        """YAML with Copier's !include."""

    Loader.add_constructor("!include", lambda loader, node: yaml.safe_load((template / node.value).read_text()))
    found = {}
    for document in yaml.load_all((template / "copier.yml").read_text(), Loader):
        found |= {name: value for name, value in (document or {}).items() if not name.startswith("_")}
    return found


def render(template: Path, destination: Path, answers: dict[str, Any], version: str | None = None) -> Path:
    """Render the template as `copier copy --defaults` without --trust does. Returns `destination`.

    Raises AssertionError for an answer to a question that does not exist: Copier ignores those.
    """
    unknown = answers.keys() - questions(template).keys() if version is None else set()
    assert not unknown, f"no such question: {sorted(unknown)}"
    copier.run_copy(str(template), destination, data=answers, defaults=True, unsafe=False, quiet=True, vcs_ref=version)
    return destination
