"""Adopting: docs/adopting.md on a repository with conda, Poetry, a Makefile and a Dockerfile of its own."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import copier
import pytest
import yaml

from tests.harness import adopting, template, update
from tests.harness.update import Edit


@pytest.fixture
def source(tmp_path) -> Path:
    """The template, to get a newer release in the course of a test."""
    return template.snapshot(tmp_path / "couplet")


@pytest.fixture
def theirs(tmp_path) -> Path:
    """The repository as it was before."""
    return adopting.begin(tmp_path / "tides")


def test_the_merge_shows_every_line_of_theirs(theirs, source):
    assert adopting.ignored(theirs, source) == []
    done = adopting.follow(adopting.PAGE[1], theirs, source)
    assert done.returncode == 1 and "CONFLICT" in done.stdout, done.stdout
    assert adopting.missing(theirs) == []
    both = {name for name in adopting.THEIRS if name in update.files(theirs.parent / "rendered")}
    assert (
        update.conflicts(theirs)
        == both
        == {"environment.yml", "pyproject.toml", "Makefile", "Dockerfile", "README.md", ".gitignore"}
    )
    assert update.unseen_markers(theirs) == []


def test_a_plain_copy_over_it_would_lose_lines(theirs, source):
    """The twin: what the page avoids, seen by the same check."""
    copier.run_copy(str(source), theirs, data={"project_name": "Tide Gauge"}, defaults=True, overwrite=True, quiet=True)
    assert "environment.yml:       - tabulate==0.9.0" in adopting.missing(theirs)


def test_a_file_of_theirs_that_the_merge_would_write_over_is_named_before(theirs, source):
    """And the twin: the merge alone says nothing of it."""
    Edit(".gitignore", "AGENTS.md\ndata/\n").apply(theirs)
    update.commit(theirs)
    Edit("AGENTS.md", "mine\n").apply(theirs)
    assert adopting.ignored(theirs, source) == [
        ".gitignore:3:AGENTS.md\tAGENTS.md",
        ".gitignore:4:data/\tsrc/tide_gauge/data/quartet.csv",
    ]
    done = adopting.follow(adopting.PAGE[1], theirs, source)
    assert "AGENTS.md" not in done.stdout and (theirs / "AGENTS.md").read_text() != "mine\n"


def test_a_conflict_that_is_left_stops_the_last_step(theirs, source):
    adopting.ignored(theirs, source)
    assert adopting.follow(adopting.PAGE[1], theirs, source).returncode
    done = adopting.follow(adopting.PAGE[-1], theirs, source)
    assert done.returncode and "leftover conflict marker" in done.stdout


def test_an_adopted_repository_is_a_project_like_any_other(theirs, source):
    """It has history, values and answers, and the next release comes in without a loss or a conflict."""
    adopting.adopt(theirs, source)
    assert template.git(theirs, "status", "--porcelain") == "" and not update.conflicts(theirs)
    assert "Forty years" in template.git(theirs, "log", "--format=%s")
    project = tomllib.loads((theirs / "pyproject.toml").read_text())
    assert project["project"]["name"] == "tide-gauge" and "tabulate==0.9.0" in project["project"]["dependencies"]
    assert "scipy>=1.11" in yaml.safe_load((theirs / "environment.yml").read_text())["dependencies"]
    assert not [name for name in ("poetry.lock", "conda-linux-64.lock") if (theirs / name).exists()]
    subprocess.run(["make", "--dry-run", "figures"], cwd=theirs, check=True, capture_output=True)

    update.release(source, "v9999.0.1", lambda folder: Edit("template/README.md.jinja", "\nA new paragraph.\n").apply(folder))
    before = update.files(theirs)
    update.update(theirs, source)
    assert not update.conflicts(theirs)
    after = update.files(theirs)
    assert {name for name in after if after[name] != before.get(name)} == {"README.md"} and before.keys() == after.keys()
    assert (theirs / adopting.IGNORED).exists()
