"""Whatever a user sets for ruff, black and pytest: what is the template's is neither linted, nor rewritten, nor collected."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import template, update

SETTINGS = """
[tool.ruff]
line-length = 60
[tool.ruff.lint]
select = ["ALL"]
[tool.ruff.format]
quote-style = "single"
[tool.pytest.ini_options]
testpaths = ["."]
python_files = ["*.py"]
addopts = "--doctest-modules --ignore=tests --ignore=src"
"""
"""A user's own, in place of the template's."""
TOOLS = (
    ("ruff", "check", "--fix", "--unsafe-fixes", "--quiet", "."),
    ("ruff", "check", "--quiet", "--output-format=concise", "."),
    ("ruff", "format", "."),
    ("black", "--quiet", "--line-length", "60", "."),
    ("pytest", "-p", "no:cacheprovider", "--collect-only", "-q"),
)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A project whose user has settings of their own, and a file that they are about."""
    for name, value in template.isolated().items():
        monkeypatch.setenv(name, value)
    folder = template.render(template.snapshot(tmp_path / "couplet"), tmp_path / "project", {"project_name": "Sea Ice"})
    tables = (folder / "pyproject.toml").read_text().split("\n[")
    # all but black's: its table is extended and not replaced
    kept = [table for table in tables if not table.startswith(("tool.ruff", "tool.pytest"))]
    (folder / "pyproject.toml").write_text("\n[".join(kept) + SETTINGS)
    (folder / "own.py").write_text('WORDS = [ "a",\n  "b" ]\n')
    update.commit(folder)
    return folder


def run_all(project: Path) -> tuple[set[str], str]:
    """Run the tools as the user does; return what they rewrote, and what they said."""
    said = ""
    for tool in TOOLS:
        done = subprocess.run(
            [sys.executable, "-m", *tool], cwd=project, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        said += done.stdout
    return set(template.git(project, "diff", "--name-only").splitlines()), said


def test_a_users_own_settings_touch_nothing_of_the_templates(project):
    rewritten, said = run_all(project)
    assert "own.py" in rewritten, "the tools were at work"
    assert not [path for path in rewritten if path.startswith(".couplet/")] and ".couplet" not in said, said


@pytest.mark.parametrize("guard", ["ruff", "black"])
def test_without_its_guard_the_folder_would_be_rewritten(project, guard):
    """The negative control."""
    if guard == "ruff":
        (project / ".couplet/ruff.toml").unlink()
    else:
        update.replace(project, "pyproject.toml", "[tool.black]", "[tool.not-black]")
    update.commit(project)
    rewritten, _ = run_all(project)
    assert [path for path in rewritten if path.startswith(".couplet/")]
