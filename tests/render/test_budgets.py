"""The repository is the user's: a project with the default answers stays small."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.harness import budgets, template


def test_the_default_project_is_within_its_budgets(render):
    project = render().path
    found = budgets.figures(project)
    assert budgets.row("couplet, defaults", found) in (template.REPOSITORY / "README.md").read_text().splitlines()
    assert budgets.exceeded(found) == []
    # the negative control, on the real project: as many files as there is room for, and one more
    for number in range(budgets.LIMITS["files"] + 1 - found["files"]):
        assert budgets.exceeded(budgets.figures(project)) == []
        (project / f"one-more-{number}").touch()
    assert budgets.exceeded(budgets.figures(project)) == ["files: 26, and at most 25"]


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A project that is as large as it may be in every respect."""
    folder = tmp_path / "project"
    limits = budgets.LIMITS
    for name, count in {
        "Dockerfile": limits["Dockerfile"],
        "Makefile": limits["Makefile"],
        "src/ice/core.py": limits["lines"] - limits["Dockerfile"] - limits["Makefile"],
        ".couplet/couplet/solve.py": limits["Python"],
        ".couplet/host/build.sh": limits["shell"],
        ".couplet/pins/tools.txt": limits["pins"],
        ".couplet/README.md": 10,
        **{f"docs/{number}": 0 for number in range(limits["files"] - 3)},
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("line\n" * count)
    return folder


MORE = {
    "files": "docs/one-more",
    "lines": "src/ice/core.py",
    "Dockerfile": "Dockerfile",
    "Makefile": "Makefile",
    "Python": ".couplet/couplet/solve.py",
    "shell": ".couplet/couplet.sh",
    "pins": ".couplet/pins/other.txt",
}


@pytest.mark.parametrize("what", MORE)
def test_one_more_of_anything_is_too_much(full, what):
    assert budgets.figures(full) == budgets.LIMITS and budgets.exceeded(budgets.LIMITS) == []
    with (full / MORE[what]).open("a") as file:
        file.write("" if what == "files" else "one more\n")
    assert f"{what}: {budgets.LIMITS[what] + 1}, and at most {budgets.LIMITS[what]}" in budgets.exceeded(budgets.figures(full))


def test_what_git_and_python_make_does_not_count(full):
    for name in (".git/config", ".couplet/couplet/__pycache__/solve.cpython-313.pyc"):
        (full / name).parent.mkdir(parents=True)
        (full / name).write_text("line\n")
    assert budgets.figures(full) == budgets.LIMITS
    shutil.rmtree(full / "docs")
    assert budgets.figures(full)["files"] == 3


def test_the_row_has_the_figures_of_the_table():
    found = {"files": 24, "lines": 880, "Dockerfile": 1, "Makefile": 1, "Python": 2900, "shell": 440, "pins": 327}
    inside = "and `.couplet/`, which nobody edits: 2,900 of Python, 440 of shell, 327 of pins"
    assert budgets.row("couplet, defaults", found) == f"| couplet, defaults | 24 | 880 | {inside} |"
