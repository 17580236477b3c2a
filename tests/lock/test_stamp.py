"""Staleness: what makes a lock stale, what does not, and what is said of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from couplet.errors import UserError
from couplet.lock import stamp

PYPROJECT = """\
[project]
name = "ice"
version = "0.1.0"
description = "Ice"
requires-python = ">=3.13,<3.14"
dependencies = [
    "pandas>=2.2",
]

[dependency-groups]
dev = ["pytest>=8"]
conda = ["numpy==2.4.6"]

[tool.poetry]
packages = [{ include = "ice", from = "src" }]

[tool.ruff]
line-length = 110
"""
ENVIRONMENT = "channels:\n  - conda-forge\ndependencies:\n  - python=3.13\n  - numpy\n"


def made(folder: Path, conda: bool, platforms: tuple[str, ...] = ("linux-64", "osx-arm64")) -> Path:
    """Write a project with locks that fit."""
    (folder / ".couplet").mkdir(parents=True)
    found = {"environment": "conda-poetry" if conda else "poetry", "package": "ice", "distribution": "ice", "prefix": "/x"}
    found |= {"platforms": list(platforms) if conda else [], "accelerator": "cpu", "base_image": "debian", "kernel": None}
    (folder / ".couplet/project.json").write_text(json.dumps(found))
    (folder / "pyproject.toml").write_text(PYPROJECT)
    if conda:
        (folder / "environment.yml").write_text(ENVIRONMENT)
        (folder / "conda.lock").write_text("version: 7\n")
        (folder / "poetry.lock").write_text("# poetry\n[[package]]\n")
    restamp(folder, conda, platforms)
    return folder


def restamp(folder: Path, conda: bool, platforms: tuple[str, ...] = ("linux-64", "osx-arm64")) -> None:
    """Write the locks that have stamps anew, as the project is now."""
    if conda:
        for platform in platforms:
            (folder / f"conda-{platform}.lock").write_text(stamp.stamped("@EXPLICIT\nhttps://a\n", stamp.current(folder, True)))
    else:
        (folder / "poetry.lock").write_text(stamp.stamped("# poetry\n[[package]]\n", stamp.current(folder, False)))


@pytest.fixture(params=[True, False], ids=["conda", "poetry"])
def project(request, tmp_path):
    return made(tmp_path / "project", request.param)


@pytest.fixture
def condas(tmp_path):
    return made(tmp_path / "project", True)


def edit(project: Path, file: str, old: str, new: str) -> None:
    text = (project / file).read_text()
    assert old in text
    (project / file).write_text(text.replace(old, new, 1))


def said(project: Path) -> tuple[int, str]:
    code, lines = stamp.check(project)
    return code, "\n".join(lines)


def test_locks_that_fit_fit(project):
    assert said(project) == (0, "")


def test_the_stamps_of_a_release_are_those_of_today(project):
    """No update of the template makes a lock stale. Another value here, and every project would have to lock again."""
    now = stamp.current(project, conda := (project / "environment.yml").exists())
    assert now.pop("pyproject.toml") == "sha256:167e4cd7d1879b9e0ea0e07e1efa1bada95eb9f139514879d94405595d0ffaa1"
    assert now.get("environment.yml") == (
        "sha256:88bbd36c112eb7a068d23a01a9c1fbae3aebd20fb7d7f890bd593f4efc628fe5" if conda else None
    )


STALE = {
    "a dependency": ('"pandas>=2.2",', '"pandas>=2.2", "tqdm",'),
    "another Python": (">=3.13,<3.14", ">=3.12,<3.14"),
    "a group's dependency": ('"pytest>=8"', '"pytest>=8", "tqdm"'),
    "a pin of conda's": ("numpy==2.4.6", "numpy==2.4.5"),
    "an extra in a dotted key": ('name = "ice"', 'name = "ice"\noptional-dependencies.plot = ["altair"]'),
    "a group in a dotted key": ("[dependency-groups]\n", '[dependency-groups]\ndocs = ["altair"]\n'),
    "Poetry's own table": ("[tool.poetry]\n", '[tool.poetry]\ndependencies.altair = "^5"\n'),
    "a group of Poetry's": ("[tool.poetry]\n", '[tool.poetry]\ngroup.docs.dependencies.altair = "^5"\n'),
    "a source": ("[tool.ruff]\n", '[[tool.poetry.source]]\nname = "corp"\nurl = "https://example.org"\n[tool.ruff]\n'),
    "what may run a link script": ("[tool.ruff]\n", "[tool.couplet]\nlink-scripts = []\n[tool.ruff]\n"),
    "a virtual package": ("[tool.ruff]\n", '[tool.couplet.virtual-packages]\n__cuda = "12.9"\n[tool.ruff]\n'),
}


@pytest.mark.parametrize("case", STALE)
def test_what_a_lock_depends_on_makes_it_stale(project, case):
    edit(project, "pyproject.toml", *STALE[case])
    code, lines = said(project)
    assert code == 1 and "pyproject.toml has changed since" in lines and "make env-update" in lines


HARMLESS = {
    "the version of the project": ('"0.1.0"', '"0.2.0"'),
    "a setting of a tool": ("line-length = 110", "line-length = 100"),
    "a comment": ("dependencies = [", "# few\ndependencies = ["),
    "another form of the same": ('[\n    "pandas>=2.2",\n]', "['pandas>=2.2']"),
    "a description with brackets and a table's name": ('"Ice"', '"""\nIce [0, 1)\n[project]\nit is "ice" \\""""'),
    "the order of tables": ("[project]\n", "[tool.black]\nline-length = 1\n[project]\n"),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_no_lock_depends_on_makes_none_stale(project, case):
    edit(project, "pyproject.toml", *HARMLESS[case])
    assert said(project) == (0, "")


def test_windows_line_ends_and_a_byte_order_mark_make_no_lock_stale(project):
    for path in [*project.glob("*.lock"), *project.glob("*.yml"), project / "pyproject.toml"]:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert said(project) == (0, "")
    edit(project, "pyproject.toml", "pandas", "polars")
    assert said(project)[0] == 1


def test_a_dependency_of_condas_makes_the_lock_stale_and_a_comment_does_not(condas):
    edit(condas, "environment.yml", "channels:", "# conda-forge alone\n\nchannels:  ")
    assert said(condas) == (0, "")
    edit(condas, "environment.yml", "  - numpy\n", "  - numpy\n  - scipy\n")
    code, lines = said(condas)
    assert (
        code == 1
        and "environment.yml has changed since conda-linux-64.lock was made" in lines
        and "conda-osx-arm64.lock" in lines
    )


@pytest.mark.parametrize("name", ["conda.lock", "poetry.lock"])
def test_a_lock_that_others_were_made_with_is_compared_too(condas, name):
    (condas / name).write_text("another\n")
    code, lines = said(condas)
    assert code == 1 and f"{name} has changed since conda-linux-64.lock was made" in lines


@pytest.mark.parametrize("conda", [True, False])
def test_a_lock_that_is_cut_short_or_edited_is_named(tmp_path, conda):
    project = made(tmp_path / "project", conda)
    name = "conda-osx-arm64.lock" if conda else "poetry.lock"
    edit(project, name, "https://a" if conda else "[[package]]", "")
    code, lines = said(project)
    assert code == 1 and f"{name} was cut short" in lines and "conda-linux-64.lock" not in lines


def test_a_lock_of_poetrys_own_is_told_from_one_of_ours(tmp_path):
    project = made(tmp_path / "project", False)
    (project / "poetry.lock").write_text("# poetry\n[[package]]\n")
    assert said(project)[0] == 1 and "written by Poetry alone" in said(project)[1]


@pytest.mark.parametrize("name", ["poetry.lock", "conda.lock", "conda-osx-arm64.lock"])
def test_a_missing_lock_is_another_code(condas, name):
    (condas / name).unlink()
    assert said(condas) == (2, f"There is no {name}: run `make env-update`.")


def test_merge_markers_are_refused_first(project):
    edit(project, "poetry.lock", "[[package]]", "<<<<<<< before updating\n[[package]]")
    assert said(project) == (
        1,
        "poetry.lock has merge markers. Take one side (git checkout --theirs poetry.lock), then run `make env-update`.",
    )
    edit(project, "pyproject.toml", "[project]", ">>>>>>> after updating\n[project]")
    assert "pyproject.toml has merge markers. Keep what is right of both sides" in said(project)[1]


def test_a_line_of_equal_signs_is_no_merge_marker(project):
    edit(project, "pyproject.toml", '"Ice"', '"""\n=======\n"""')
    assert said(project) == (0, "")


def test_a_platform_given_up_is_named_and_a_file_of_the_users_own_is_not(condas):
    (condas / "conda-mine.lock").write_text("# my own\n")
    assert said(condas) == (0, "")
    edit(condas, ".couplet/project.json", '["linux-64", "osx-arm64"]', '["linux-64"]')
    code, lines = said(condas)
    assert code == 1 and "conda-osx-arm64.lock is not needed: the project does not lock for its platform" in lines


def test_no_toml_is_an_error_that_says_so(project):
    edit(project, "pyproject.toml", "dependencies = [", "dependencies = [[")
    with pytest.raises(UserError, match=r"pyproject.toml is not valid TOML: .*line"):
        stamp.check(project)


def test_a_missing_environment_yml_is_named_with_the_other_spelling(condas):
    (condas / "environment.yml").rename(condas / "environment.yaml")
    with pytest.raises(UserError, match=r"environment\.yml is missing\. Rename yours: git mv environment\.yaml"):
        stamp.check(condas)


@pytest.mark.parametrize("conda", [True, False])
def test_locks_of_an_earlier_release_are_known_and_are_no_error_of_the_users(tmp_path, conda):
    """0.x wrote the digest alone, and conda-lock.yml instead of conda.lock."""
    project = made(tmp_path / "project", conda)
    (project / "conda.lock").unlink(missing_ok=True)
    for path in project.glob("conda-*.lock" if conda else "poetry.lock"):
        path.write_text(path.read_text().replace("sha256:", "").replace("stamp conda.lock", "stamp conda-lock.yml"))
    code, lines = said(project)
    assert code == 1 and "of a release before 1.0" in lines and "changes no version" in lines


# --- as a program ----------------------------------------------------------------------------------


def run(*words: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    folder = Path(stamp.__file__).parents[2]
    command = [python, "-S", "-s", "-B", "-m", "couplet", "check", *words]
    return subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"})


def test_the_standard_library_is_enough_and_the_exit_code_says_it(project):
    """-S: no package that is installed can be imported."""
    assert (run("--project", str(project)).returncode, run("--project", str(project)).stderr) == (0, "")
    edit(project, "pyproject.toml", "pandas", "polars")
    done = run("--project", str(project))
    assert done.returncode == 1 and "pyproject.toml has changed" in done.stderr and "Traceback" not in done.stderr
    (project / "poetry.lock").unlink()
    assert run("--project", str(project)).returncode == 2


def test_locks_without_stamps_are_written_where_they_fit_and_nowhere_else(project, tmp_path):
    out = tmp_path / "out"
    edit(project, "pyproject.toml", "line-length = 110", "line-length = 100")
    assert run("--project", str(project), "--out", str(out)).returncode == 0
    assert {path.name for path in out.iterdir()} - {"conda-linux-64.lock"} == {"poetry.lock"}
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert b"# stamp" not in b"".join(before.values())

    # what changes a stamp and no package changes no byte of them
    edit(project, "pyproject.toml", "pandas", "polars")
    assert run("--project", str(project), "--out", str(tmp_path / "stale")).returncode == 1 and not (tmp_path / "stale").exists()
    restamp(project, (project / "environment.yml").exists())
    assert run("--project", str(project), "--out", str(out)).returncode == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
