"""Locks: made in Docker alone, put in place whole, and an error where they are stale. What makes one stale: tests/lock/test_stamp.py."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib

import pytest

from tests.harness.container import docker
from tests.harness.locks import check, edit, left
from tests.harness.programs import in_front
from tests.harness.project import Project

# --- what the locks say ----------------------------------------------------------------------------


def test_the_first_build_made_the_locks(built):
    made = {"conda.lock", "conda-linux-64.lock", "poetry.lock"} if built.conda else {"poetry.lock"}
    assert built.locks().keys() == {"pyproject.toml", *made}
    assert check(built).returncode == 0


def test_the_locks_name_public_addresses_and_nothing_of_this_machine(built):
    """A lock is the same with and without a mirror."""
    text = "".join(content.decode() for content in built.locks().values())
    addresses = {re.match(r"https?://[^/]+", url).group() for url in re.findall(r"https?://[^\s\"'>]+", text)}
    assert ("https://conda.anaconda.org" in addresses) == built.conda
    assert not [address for address in addresses if re.search(r"//(\d|localhost|172\.)", address)]
    assert str(built.path) not in text and "/home/" not in text and "/tmp/" not in text


def test_poetry_is_held_to_every_distribution_of_condas(with_conda):
    """The pins, transitive ones included: python-dateutil comes to conda with ipykernel, to Poetry with pandas."""
    pins = tomllib.loads((with_conda.path / "pyproject.toml").read_text())["dependency-groups"]["conda"]
    versions = dict(pin.split("==") for pin in pins)
    conda = with_conda.locked_by_conda()
    assert versions["numpy"] == conda["numpy"][0]
    if with_conda.kernel:
        assert versions["python-dateutil"] == conda["python-dateutil"][0]
        assert "jupyter-client" in versions  # conda calls it jupyter_client: the name comes from its metadata
    locked = {p["name"]: p["version"] for p in tomllib.loads((with_conda.path / "poetry.lock").read_text())["package"]}
    assert {name: locked[name] for name in versions} == versions


# --- staleness -------------------------------------------------------------------------------------

STALE = {
    "a dependency added to pyproject.toml": ("pyproject.toml", '"tabulate",', '"tabulate", "six",', "pyproject.toml has changed"),
    "a dependency added to environment.yml": ("environment.yml", "  - idna\n", "  - idna\n  - six\n", "environment.yml has changed"),
    "a lock edited by hand": ("conda-linux-64.lock", "/idna-", "/idnaa-", "conda-linux-64.lock was cut short or edited"),
    "merge markers": ("poetry.lock", "[[package]]", "<<<<<<< before\n[[package]]", "poetry.lock has merge markers. Take one side"),
    "no poetry.lock": ("poetry.lock", None, None, "There is no poetry.lock: run `make env-update`."),
}  # fmt: skip


@pytest.mark.parametrize("case", STALE)
def test_a_stale_lock_is_refused_by_make_and_by_a_plain_docker_build(small, copy_of, case):
    """By make before it needs an engine; by Docker before anything is installed."""
    project = copy_of(small)
    file, old, new, message = STALE[case]
    if old:
        edit(project, file, old, new)
    else:
        (project.path / file).unlink()
    shown = project.make("build", fails=True, DOCKER_HOST="tcp://127.0.0.1:1").output
    assert message in shown and "make env-update" in shown
    done = docker("build", str(project.path), check=False)
    assert done.code and message in done.output and "make env-update" in done.output, done.output[-3000:]
    assert "hashes checked" not in done.output, "conda's packages were fetched"


def test_env_check_needs_no_engine_and_takes_less_than_a_second(built):
    began = time.monotonic()
    shown = built.make("env-check", DOCKER_HOST="tcp://127.0.0.1:1")
    assert "up to date" in shown.output
    assert time.monotonic() - began < 5, "the promise is a second; five is where it is broken on any machine"


# --- making them -----------------------------------------------------------------------------------


def test_an_update_with_nothing_changed_changes_no_byte(built):
    before = built.locks()
    assert "up to date" in built.make("env-update").output
    assert built.locks() == before


def test_an_update_after_an_edit_moves_only_what_it_must(built, copy_of):
    project = copy_of(built)
    before = project.locked_by_conda()
    edit(project, "pyproject.toml", '"pandas>=2.2",', '"pandas>=2.2",\n    "tabulate",')
    shown = project.make("env-update").output
    assert re.search(r"tabulate\s+- -> \S+\s+Poetry", shown), shown
    assert project.locked_by_conda() == before
    assert check(project).returncode == 0


@pytest.mark.one_variant
def test_a_cooldown_and_a_poetry_toml_keep_new_releases_out(built, copy_of):
    """Of a length with which all is too new. The negative control: a week. More, without Docker: tests/lock."""
    project = copy_of(built)
    before = project.locks()
    edit(project, "pyproject.toml", '"pandas>=2.2",', '"pandas>=2.2",\n    "tabulate",')
    edit(project, "pyproject.toml", "[tool.ruff]\n", '[tool.couplet]\nmin-release-age = "9999d"\n\n[tool.ruff]\n')
    shown = project.make("env-update", fails=True).output
    assert "Because" in shown and "min-release-age leaves out what was published in the last 9999 days" in shown
    edit(project, "pyproject.toml", '"9999d"', '"7d"\nlink-scripts = []' if project.conda else '"7d"')
    (project.path / "poetry.toml").write_text("[solver]\nmin-release-age = 9999\n")
    shown = project.make("env-update", fails=True).output
    assert "due to solver.min-release-age=9999" in shown
    (project.path / "poetry.toml").unlink()
    after = project.locks()
    assert {name for name in after if after[name] != before[name]} == {"pyproject.toml"}, "the old locks are as they were"
    conda = project.locked_by_conda()
    assert re.search(r"tabulate\s+- -> \S+\s+Poetry", project.make("env-update").output)
    assert project.locked_by_conda() == conda and check(project).returncode == 0
    if project.conda:  # what may run a link script stands in the lock, and is no part of it otherwise
        said = re.compile(r"^# link-scripts .*\n", re.M)
        assert said.findall((project.path / "conda-linux-64.lock").read_text()) == ["# link-scripts []\n"]
        assert b"link-scripts" not in before["conda-linux-64.lock"]


def test_files_that_make_writes_belong_to_who_ran_it(built):
    for name in built.locks():
        status = (built.path / name).stat()
        assert (status.st_uid, status.st_gid) == (os.getuid(), os.getgid()), name
    assert left(built) == [], "something of the update was left behind"


# --- without what it needs -------------------------------------------------------------------------


def test_without_an_engine_there_is_a_clear_error(render):
    shown = render().make("env-update", fails=True, DOCKER_HOST="tcp://127.0.0.1:1").output
    assert "No Docker engine answers at tcp://127.0.0.1:1" in shown and "Start Docker" in shown


def test_an_old_engine_is_named(render, tmp_path):
    """A docker command in front of the real one that reports an old server: what is tested is the question."""
    old = f'[ "$1" = version ] && {{ echo 20.10.24; exit 0; }}\nexec "{shutil.which("docker")}" "$@"'
    shown = render().make("env-update", fails=True, PATH=in_front(tmp_path / "bin", docker=old)).output
    assert "The Docker engine is 20.10.24; 23.0 or newer is needed" in shown


# --- what a kill leaves, and edits since; no engine is asked ---------------------------------------

SOLVER = """\
# in Docker's place: locks with good stamps, of the project as it is, as the stage `locks` exports them
import shutil, sys
from pathlib import Path
from couplet import settings
from couplet.lock import stamp

[out] = [Path(word.partition("dest=")[2]) for word in sys.argv if word.startswith("type=local,dest=")]
project = Path()
conda = settings.project(project).conda
solved = Path(".solved").read_text() if Path(".solved").exists() else "1"
shutil.copytree(project, out, ignore=shutil.ignore_patterns(".new-locks*"))
text = (out / "pyproject.toml").read_text()
if conda:
    (out / "pyproject.toml").write_text(text.replace("conda = []", 'conda = ["numpy==1"]').replace("numpy==1", f"numpy=={solved}"))
    (out / "conda.lock").write_text(f"solved: {solved}\\n")
    (out / "poetry.lock").write_text(f"solved: {solved}\\n")
now = stamp.current(out, conda)
stamped = [f"conda-{platform}.lock" for platform in settings.project(project).platforms] if conda else ["poetry.lock"]
made = [*stamped, *(["pyproject.toml", "conda.lock", "poetry.lock"] if conda else [])]
for name in stamped:
    (out / name).write_text(stamp.stamped(f"solved: {solved}\\n", now))
for path in out.iterdir():
    if path.name not in made:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
(out / ".changes").write_text("one package moved\\n")
(out / ".delete").write_text("")
"""


@pytest.fixture(params=["conda-poetry", "poetry"])
def solved(render, request) -> Project:
    """A project of each kind, locked, whose solver is a few lines of Python: what is tested is what comes after it."""
    platforms = {"platforms": ["linux-64", "osx-arm64"]} if request.param == "conda-poetry" else {}
    project = render(environment=request.param, **platforms)
    solver(project)
    project.make("env-update")
    assert check(project).returncode == 0 and left(project) == []
    return project


def solver(project: Project, after: str = "") -> None:
    """Put it in Docker's place; `after` is what happens in the shell when it is done, of the folder "$out"."""
    (project.path / ".solver.py").write_text(SOLVER)
    (project.path / ".couplet/host/docker-build.sh").write_text(
        f'#!/bin/sh\nPYTHONPATH=.couplet "{sys.executable}" -B .solver.py "$@"\nout=$(ls -d .couplet/.new-locks-*)\n{after}\n'
    )


def another(project: Project) -> dict[str, bytes]:
    """Ask for one package more, so that there is something to lock; return what the locks will be."""
    edit(project, "pyproject.toml", '"pandas>=2.2",', '"pandas>=2.2",\n    "tabulate",')
    (project.path / ".solved").write_text("2")
    whole = Project(project.path.parent / "whole", project.images)
    shutil.copytree(project.path, whole.path)
    whole.make("env-update")
    return whole.locks()


def test_a_kill_at_any_rename_is_never_silent_and_the_next_call_makes_it_good(solved, tmp_path):
    """Each file is an old one or a new one, whole, and a mixture is refused until all are new."""
    new, old = another(solved), solved.locks()
    changed = [name for name in new if new[name] != old[name]]
    assert len(changed) == (5 if solved.conda else 1)
    for number in range(1, len(changed) + 2):
        project = Project(tmp_path / f"kill-{number}" / "project", solved.images)
        shutil.copytree(solved.path, project.path)
        kill = f'echo x >> "{tmp_path}/{number}"\n[ "$(wc -l < "{tmp_path}/{number}")" -lt {number} ] || kill -KILL 0\n'
        path = in_front(tmp_path / f"bin-{number}", mv=f'{kill}exec {shutil.which("mv")} "$@"')
        done = subprocess.run(
            ["make", "env-update"],
            cwd=project.path,
            start_new_session=True,
            env={**os.environ, "PATH": path},
            capture_output=True,
        )
        through = number > len(changed)
        assert done.returncode == (0 if through else -signal.SIGKILL), (number, done)
        assert sum(project.locks()[name] == new[name] for name in changed) == number - 1
        assert all(content in (old[name], new[name]) for name, content in project.locks().items())
        assert check(project).returncode == int(not through), f"after {number - 1} of {len(changed)}"
        project.make("env-update")
        assert project.locks() == new and check(project).returncode == 0


def test_an_edit_while_the_solver_is_at_work_stays(solved):
    another(solved)
    before = solved.locks()
    solver(solved, "echo '# mine' >> pyproject.toml")
    shown = solved.make("env-update", fails=True).output
    assert "While the locks were made, one of these has changed" in shown and "Run `make env-update` again (" in shown
    assert solved.locks() == {**before, "pyproject.toml": before["pyproject.toml"] + b"# mine\n"} and left(solved) == []


@pytest.mark.parametrize("fault", ['rm "$out"/.delete', 'rm -r "$out"', "exit 3"])
def test_what_was_not_exported_whole_is_not_put_in_place(solved, fault):
    """As on a full disk, or where the build fails. The negative control is the fixture's own env-update."""
    another(solved)
    before = solved.locks()
    solver(solved, fault)
    assert "no file was replaced." in solved.make("env-update", fails=True).output
    assert solved.locks() == before and left(solved) == []
