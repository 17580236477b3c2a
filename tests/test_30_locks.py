"""Locks: made in Docker alone, all together or not at all, and an error where they are stale."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
import tomllib
from pathlib import Path

import jinja2
import pytest

from tests.harness import template
from tests.harness.container import docker
from tests.harness.programs import in_front
from tests.harness.project import Project


def check(project: Project) -> subprocess.CompletedProcess:
    """Run `scripts/lock-state.sh check` with nothing but a shell's own tools."""
    return subprocess.run(
        ["sh", "scripts/lock-state.sh", "check", "."],
        cwd=project.path,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )


def edit(project: Project, file: str, old: str, new: str) -> None:
    """Replace text in a file of the project, and be sure that it was there."""
    path = project.path / file
    assert old in path.read_text(), f"{file} has no {old!r}"
    path.write_text(path.read_text().replace(old, new, 1))


# --- what the locks say ----------------------------------------------------------------------------


def test_the_first_build_made_the_locks(built):
    made = {"conda-lock.yml", "conda-linux-64.lock", "poetry.lock"} if built.conda else {"poetry.lock"}
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


def test_everything_but_the_pins_is_left_as_it_was_written(built, render):
    """Comments and formatting of pyproject.toml survive the lock."""
    fresh = render(**built_answers(built))
    before = (fresh.path / "pyproject.toml").read_text()
    after = (built.path / "pyproject.toml").read_text()
    assert re.sub(r"conda = \[.*?\n\]", "conda = []", after, flags=re.S) == before


def built_answers(project: Project) -> dict:
    """Return the answers that a project was made with."""
    import yaml

    recorded = yaml.safe_load((project.path / ".copier-answers.yml").read_text())
    return {key: value for key, value in recorded.items() if not key.startswith("_")}


# --- staleness -------------------------------------------------------------------------------------

STALE = {
    "a dependency added to pyproject.toml": (
        "pyproject.toml",
        '"pandas>=2.2",',
        '"pandas>=2.2",\n    "tqdm",',
        "pyproject.toml has changed",
    ),
    "poetry.lock edited by hand": (
        "poetry.lock",
        'name = "pandas"',
        'name = "pandaz"',
        "poetry.lock (has changed|was cut short)",
    ),
    "merge markers": (
        "poetry.lock",
        "[[package]]",
        "<<<<<<< before updating\n[[package]]",
        r"Take one side \(git checkout --theirs poetry.lock\)",
    ),
    "merge markers in what is yours": (
        "pyproject.toml",
        "[project]",
        "<<<<<<< before updating\n[project]",
        "pyproject.toml has merge markers. Keep what is right of both sides",
    ),
}
STALE_WITH_CONDA = {
    "a dependency added to environment.yml": (
        "environment.yml",
        "  - numpy\n",
        "  - numpy\n  - requests\n",
        "environment.yml has changed",
    ),
    "a pin of conda's edited by hand": ("pyproject.toml", '"numpy==', '"numpy==1', "pyproject.toml has changed"),
    "an explicit lock edited by hand": (
        "conda-linux-64.lock",
        "/numpy-",
        "/numpyy-",
        "conda-linux-64.lock was cut short or edited",
    ),
}


@pytest.mark.parametrize("case", STALE)
def test_a_stale_lock_is_an_error_that_says_what_to_run(built, copy_of, case):
    refused(copy_of(built), *STALE[case])


@pytest.mark.parametrize("case", STALE_WITH_CONDA)
def test_a_stale_lock_of_condas_is_an_error_that_says_what_to_run(with_conda, copy_of, case):
    refused(copy_of(with_conda), *STALE_WITH_CONDA[case])


def refused(project: Project, file: str, old: str, new: str, message: str) -> None:
    """Edit a file, and expect both doors to refuse with the message."""
    edit(project, file, old, new)
    asked = check(project)
    assert asked.returncode == 1 and re.search(message, asked.stderr) and "make env-update" in asked.stderr
    build = project.make("build", fails=True, DOCKER_HOST="tcp://127.0.0.1:1")
    assert re.search(message, build.output), "make build has to refuse before it needs an engine"


def test_a_lock_that_is_cut_short_is_an_error(built, copy_of):
    project = copy_of(built)
    lock = project.path / project.stamped
    lock.write_text("\n".join(lock.read_text().splitlines()[:-3]) + "\n")
    assert "cut short" in check(project).stderr


def test_a_missing_lock_is_an_error(built, copy_of):
    project = copy_of(built)
    (project.path / "poetry.lock").unlink()
    asked = check(project)
    assert asked.returncode == 2 and "no poetry.lock" in asked.stderr
    if built.conda:  # where it is the only lock, its absence is the first day
        assert "no poetry.lock" in project.make("build", fails=True).output


HARMLESS = {
    "the version of the project": ("pyproject.toml", 'version = "0.1.0"', 'version = "0.2.0"'),
    "a comment": ("pyproject.toml", "dependencies = [", "# as few as will do\ndependencies = ["),
    "a setting of a tool": ("pyproject.toml", "line-length = 110", "line-length = 100"),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_no_lock_depends_on_makes_none_stale(built, copy_of, case):
    project = copy_of(built)
    edit(project, *HARMLESS[case])
    assert check(project).returncode == 0, check(project).stderr


def test_a_comment_in_environment_yml_makes_no_lock_stale(with_conda, copy_of):
    project = copy_of(with_conda)
    edit(project, "environment.yml", "channels:", "# conda-forge alone\nchannels:")
    assert check(project).returncode == 0, check(project).stderr


def test_windows_line_ends_make_no_lock_stale(built, copy_of):
    project = copy_of(built)
    for name in (
        ("environment.yml", "pyproject.toml", "conda-linux-64.lock") if built.conda else ("pyproject.toml", "poetry.lock")
    ):
        path = project.path / name
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert check(project).returncode == 0, check(project).stderr


SOLVER = r"""#!/bin/sh
# in Docker's place: locks with good stamps, of the project as it is, as the stage `locks` exports them
for word; do case "$word" in type=local,dest=*) out=${word#*dest=} ;; esac; done
mkdir -p "$out"
cp pyproject.toml "$out"
body="solved: $(cat .solved 2> /dev/null || echo 1)"
own="# stamp this-file $(echo "$body" | sha256sum | cut -d ' ' -f 1)"
if [ -e environment.yml ]; then
    cp environment.yml "$out"
    sed "s/^conda = .*/conda = [\"numpy==$(cat .solved 2> /dev/null || echo 1)\"]/" pyproject.toml > "$out/pyproject.toml"
    echo "$body" > "$out/conda-lock.yml"
    echo "$body" > "$out/poetry.lock"
    for platform in $(sed -n 's/.*--platforms \(.*\) --update.*/\1/p' Dockerfile); do
        { scripts/lock-state.sh stamp "$out"; echo "$own"; echo "$body"; } > "$out/conda-$platform.lock"
    done
    rm "$out/environment.yml"
else
    { scripts/lock-state.sh stamp .; echo "$own"; echo "$body"; } > "$out/poetry.lock"
    rm "$out/pyproject.toml"
fi
sh .meanwhile 2> /dev/null || :
"""


@pytest.fixture(params=["conda-poetry", "poetry"])
def solved(render, request) -> Project:
    """A project of each kind, locked, whose solver is a few lines of shell: what is tested is what comes after it."""
    platforms = {"platforms": ["linux-64", "osx-arm64"]} if request.param == "conda-poetry" else {}
    project = render(environment=request.param, **platforms)
    (project.path / ".couplet/host/docker-build.sh").write_text(SOLVER)
    project.make("env-update")
    assert check(project).returncode == 0 and left(project) == []
    return project


AWKWARD = {
    "an escaped quote and half a bracket": r'"Ice on the \"half-open [0, 1)\" line"',
    "an escaped quote and a hash": r'"Lab \"Ice [#1]\""',
    "a backslash at the end": r'"Ice [ \\"',
    "a literal string": "'Ice [ \\'",
    "several lines": '"""\nIce [0, 1)\n# half open\n[project]\nit is "ice" \\""""""',
    "several literal lines": "'''\nIce { \\\n[tool.ruff]\ndon't\n''''",
    "a comment behind it": '"Ice"  # it\'s "half [open',
}


@pytest.mark.parametrize("case", AWKWARD)
def test_no_description_hides_a_dependency(solved, case):
    """Neither one added behind it nor one that stands in a table far below."""
    path = solved.path / "pyproject.toml"
    path.write_text(re.sub(r"^description = .*", lambda _: f"description = {AWKWARD[case]}", path.read_text(), flags=re.M))
    tomllib.loads(path.read_text())
    solved.make("env-update", "ALL=1")
    assert check(solved).returncode == 0
    text = path.read_text()
    for old, new in (('"pandas>=2.2",', '"pandas>=2.2",\n    "tqdm",'), ('"ruff>=0.9",', '"ruff>=0.9",\n    "tqdm",')):
        edit(solved, "pyproject.toml", old, new)
        asked = check(solved)
        assert asked.returncode == 1 and "pyproject.toml has changed" in asked.stderr
        path.write_text(text)
    for _, old, new in HARMLESS.values():
        edit(solved, "pyproject.toml", old, new)
    edit(solved, "pyproject.toml", "Ice", "Snow")
    assert check(solved).returncode == 0, check(solved).stderr


DOTTED = {
    "an extra": ("[project]\n", '[project]\noptional-dependencies.plot = [\n    "altair",\n]\n'),
    "a group": ("[project]\n", 'dependency-groups.docs = ["altair"]\n\n[project]\n'),
    "all groups": ("[project]\n", 'dependency-groups = {docs = ["altair"]}\n\n[project]\n'),
    "Poetry's": ("[tool.poetry]\n", '[tool.poetry]\ndependencies.altair = "^5"\n'),
    "a group of Poetry's": ("[tool.poetry]\n", '[tool.poetry]\ngroup.docs.dependencies.altair = "^5"\n'),
    "quotes": ("[project.scripts]\n", "[project.'optional-dependencies']\nplot = [\"altair\"]\n\n[project.scripts]\n"),
}


@pytest.mark.parametrize("case", DOTTED)
def test_a_dependency_in_a_dotted_key_makes_the_lock_stale(solved, case):
    edit(solved, "pyproject.toml", *DOTTED[case])
    assert check(solved).returncode == 1
    solved.make("env-update")
    edit(solved, "pyproject.toml", "altair", "tqdm")
    assert check(solved).returncode == 1


def test_where_nothing_closes_all_of_the_file_counts(solved):
    """No TOML, then: Poetry will say so. Nothing says where a table begins, so nothing is taken for harmless."""
    edit(solved, "pyproject.toml", 'readme = "README.md"', "readme = [")
    assert check(solved).returncode == 1
    solved.make("env-update")
    edit(solved, "pyproject.toml", "line-length = 110", "line-length = 100")
    assert check(solved).returncode == 1


MORE = """
[tool.poetry.group.docs.dependencies]
sphinx = { version = "^8", extras = ["docs"] }  # it's [ here
"""


def test_the_stamps_of_a_release_are_those_of_today(variant, render, template_repository):
    """No update of the template makes a lock stale; quotes in quotes are what a release before this one could not read."""
    project = render(**variant.answers)
    source = template.git(template_repository, "show", "v0.3.0:template/scripts/lock-state.sh.jinja")
    environment = "conda-poetry" if project.conda else "poetry"
    released = jinja2.Environment(keep_trailing_newline=True).from_string(source).render(environment=environment)
    (project.path / "scripts/released.sh").write_text(released)
    (project.path / "conda-lock.yml").touch()
    (project.path / "poetry.lock").touch()
    for more in ("", MORE):
        (project.path / "pyproject.toml").write_text((project.path / "pyproject.toml").read_text() + more)
        stamps = [
            subprocess.run(["sh", f"scripts/{name}.sh", "stamp", "."], cwd=project.path, check=True, capture_output=True).stdout
            for name in ("released", "lock-state")
        ]
        assert stamps[0] == stamps[1]


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


PANDAS = '    "pandas>=2.2",\n'
FROM_NO_INDEX = {
    "a git repository": (PANDAS, PANDAS + '    "six @ git+https://example.org/six.git@1.17.0",\n', "git repository"),
    "a file": ('    "pytest>=8",\n', '    "pytest>=8",\n    "six[all]@ file:///work/six-1.17.0-py2.py3-none-any.whl",\n', "path"),
    "a folder, in Poetry's own table": ("[tool.ruff]\n", '[tool.poetry.group.libs.dependencies]\nsix = {path = "libs/six"}\n\n[tool.ruff]\n', "path"),
}  # fmt: skip


@pytest.mark.parametrize("case", FROM_NO_INDEX)
def test_a_dependency_that_no_image_can_have_is_refused_by_name(built, copy_of, case):
    """Before anything is solved: the build would refuse it later, in poetry.lock."""
    project = copy_of(built)
    old, new, kind = FROM_NO_INDEX[case]
    edit(project, "pyproject.toml", old, new)
    before = project.locks()
    shown = project.make("env-update", fails=True).output
    assert f"ERROR: pyproject.toml: six comes from a {kind}" in shown and "publish it to an index" in shown
    assert project.locks() == before


def test_a_wheel_by_its_address_is_no_such_dependency(built):
    """The twin, and what else has an @ or a table: nothing is refused that can be locked."""
    text = """
        [project]
        dependencies = ["six @ https://example.org/six-1.17.0-py2.py3-none-any.whl", "git>=1", "a; extra == 'file:'"]
        [dependency-groups]
        dev = [{include-group = "docs"}]
        docs = ["path"]
        [tool.poetry.dependencies]
        six = {url = "https://example.org/six-1.17.0-py2.py3-none-any.whl"}
        git = "^1"
        numpy = [{version = "2", python = "<3.12"}, {version = ">2", source = "own"}]
    """
    script = "import sys; sys.path.insert(0, '/work/docker'); import references; references.check('/tmp/pyproject.toml')"
    command = f"cat > /tmp/pyproject.toml && python -c {shlex.quote(script)}"
    docker(
        *("run", "--rm", "--interactive", "--volume", f"{built.path}:/work:ro", built.runtime, "sh", "-c", command), stdin=text
    )


LOCKED_ELSEWHERE = """
import sys
sys.path.insert(0, "/work/docker")
from errors import BuildError
from install_poetry import requirement
from poetry_lock import Locked
for kind in ("git", "directory", "file", "url"):
    source = {"type": kind, "url": "https://example.org/six-1.17.0-py2.py3-none-any.whl"}
    try:
        print(requirement(Locked("six", "1.17.0", {"main": ""}, ("sha256:0a",), source)).split()[0])
    except BuildError as error:
        print(kind, error)
"""


def test_a_lock_that_holds_such_a_dependency_is_refused_too(built):
    """By what installs: Poetry itself would lock it on a machine that has git or the path."""
    options = ("--rm", "--interactive", "--volume", f"{built.path}:/work:ro")
    shown = docker("run", *options, built.dev, "python", "-", stdin=LOCKED_ELSEWHERE).stdout
    for kind, where in {"git": "git repository", "directory": "path", "file": "path"}.items():
        assert f"{kind} poetry.lock: six comes from a {where}" in shown
    assert shown.endswith("\nsix\n"), "an address of a wheel is no such thing"


def test_files_that_make_writes_belong_to_who_ran_it(built):
    for name in built.locks():
        status = (built.path / name).stat()
        assert (status.st_uid, status.st_gid) == (os.getuid(), os.getgid()), name
    left = [path.name for path in built.path.iterdir() if path.name.startswith(".locks")]
    assert not left, "something of the update was left behind"


# --- bad input -------------------------------------------------------------------------------------


def test_without_a_network_the_old_locks_stay(with_conda, copy_of, tmp_path):
    project = copy_of(with_conda)
    edit(project, "environment.yml", "  - numpy\n", "  - numpy\n  - requests\n")
    before = project.locks()
    condarc = tmp_path / "condarc"
    condarc.write_text("channel_alias: http://127.0.0.1:1\nremote_max_retries: 0\n")
    shown = project.make("env-update", fails=True, CONDARC=str(condarc)).output
    assert "The locks could not be made; what was there is as it was" in shown
    assert re.search(r"ERROR: conda found no solution|HTTP|[Cc]onnection", shown)
    assert "Traceback" not in shown
    assert project.locks() == before and not (project.path / ".locks-new").exists()


def test_without_an_engine_there_is_a_clear_error(built, copy_of):
    shown = copy_of(built).make("env-update", "ALL=1", fails=True, DOCKER_HOST="tcp://127.0.0.1:1").output
    assert "No Docker engine answers at tcp://127.0.0.1:1" in shown and "Start Docker" in shown


def test_an_old_engine_is_named(built, copy_of, tmp_path):
    """A docker command in front of the real one that reports an old server: what is tested is the question."""
    project = copy_of(built)
    old = f'[ "$1" = version ] && {{ echo 20.10.24; exit 0; }}\nexec "{shutil.which("docker")}" "$@"'
    shown = project.make("build", fails=True, PATH=in_front(tmp_path / "bin", docker=old)).output
    assert "The Docker engine is 20.10.24; 23.0 or newer is needed" in shown


def test_two_updates_at_once_are_one_and_a_refusal(built, copy_of, tmp_path):
    project = copy_of(built)
    busy = project.path / ".locks-busy"
    busy.mkdir()
    program = tmp_path / "env-update.sh"
    program.write_text("sleep 300\n")
    with subprocess.Popen(["sh", program]) as other:
        (busy / "pid").write_text(f"{other.pid}\n")
        refusal = project.make("env-update", "ALL=1", fails=True).output
        other.kill()
    assert f"is at work here already (process {other.pid})" in refusal and "rm -r .locks-busy" in refusal
    (busy / "pid").write_text("2147483646")  # no such process: left by a kill
    assert "up to date" in project.make("env-update").output


def test_an_interrupted_update_is_finished_by_the_next_call(built, copy_of):
    project = copy_of(built)
    edit(project, "poetry.lock", 'name = "pandas"', 'name = "half-written"')
    waiting(project, built.locks())
    assert "interrupted" in check(project).stderr
    assert "up to date" in project.make("env-check").output
    assert project.locks() == built.locks() and left(project) == []


# --- what a kill leaves, and edits since; no engine is asked --------------------------------------------


def cksum(path: Path) -> str:
    """Return what cksum says of a file, without its name; nothing where there is none."""
    return subprocess.run(["cksum"], stdin=path.open(), capture_output=True, text=True).stdout.strip() if path.exists() else ""


def waiting(project: Project, locks: dict[str, bytes]) -> Path:
    """Leave what an env-update leaves that was killed when its locks were made and none was in place."""
    ready = project.path / ".locks-ready"
    ready.mkdir()
    record = [f"old {cksum(project.path / name)} {name}" for name in {"environment.yml", *project.locks(), *locks}]
    for name, content in locks.items():
        (ready / name).write_bytes(content)
        record.append(f"new {cksum(ready / name)} {name}")
    (ready / ".record").write_text("\n".join(record) + "\n")
    return ready


def left(project: Project) -> list[str]:
    """Return what is there of an update that is none of the project's files."""
    return [path.name for path in project.path.iterdir() if re.match(r"\.locks|\..*\.new$", path.name)]


def another(project: Project) -> dict[str, bytes]:
    """Ask for one package more, so that there is something to lock; return what the locks will be."""
    edit(project, "pyproject.toml", '"pandas>=2.2",', '"pandas>=2.2",\n    "tabulate",')
    (project.path / ".solved").write_text("2\n")
    whole = Project(project.path.parent / "whole", project.images)
    shutil.copytree(project.path, whole.path)
    whole.make("env-update")
    return whole.locks()


def interrupted(project: Project, call: str, *words: str) -> None:
    """Run make, `env-update` if not told otherwise, and have its n-th call of a command ("mv 2") kill all of it."""
    name, number = call.split()
    tools = project.path.parent / "tools"
    shutil.rmtree(tools, ignore_errors=True)
    text = (
        f'echo x >> "{tools}/calls"\n[ "$(wc -l < "{tools}/calls")" -eq {number} ] || exec {shutil.which(name)} "$@"\n'
        + ("" if name == "mv" else f'for last; do :; done; find "$last" -name "*.lock" -exec {shutil.which("rm")} {{}} +\n')
        + "kill -KILL 0"
    )
    path = in_front(tools, **{name: text})
    command = ["make", *(words or ["env-update"])]
    done = subprocess.run(
        command, cwd=project.path, start_new_session=True, env={**os.environ, "PATH": path}, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, f"{call} was not called"


def test_a_kill_at_any_rename_is_finished_by_the_next_make(solved, copy_of, tmp_path):
    old = solved.locks()
    new = another(solved)
    old["pyproject.toml"] = solved.locks()["pyproject.toml"]
    calls = len(new) + 2 if solved.conda else 3  # the first makes .locks-ready, the last puts it out of sight
    for number in range(1, calls + 1):
        project = Project(tmp_path / f"kill-{number}" / "project", solved.images)
        shutil.copytree(solved.path, project.path)
        interrupted(project, f"mv {number}")
        assert (project.locks() == old) == (number <= 2), number
        project.make("env-check", fails=number == 1)
        assert project.locks() == (old if number == 1 else new), number
        project.make("env-update")
        assert project.locks() == new and left(project) == []


def test_a_kill_while_it_tidies_up_costs_no_lock(solved):
    """Half of a folder that is being deleted is no set of locks."""
    new = another(solved)
    interrupted(solved, "rm 3")  # the first two are before the solver, and in it
    assert solved.locks() == new and left(solved)
    assert "up to date" in solved.make("env-check").output
    assert solved.locks() == new
    solved.make("env-update")
    assert left(solved) == []


@pytest.mark.parametrize("at", ["mv 2", "mv 3"])
def test_an_edit_since_a_kill_is_not_overwritten(solved, at):
    """pyproject.toml, say, since the solver took longer than the patience of whoever ran it."""
    another(solved)
    before = solved.locks()
    interrupted(solved, at)
    edit(solved, "pyproject.toml", '"tabulate",', '"tabulate",\n    "tqdm",')
    mine = (solved.path / "pyproject.toml").read_text()
    shown = solved.make("env-check", fails=True).output
    assert mine == (solved.path / "pyproject.toml").read_text()
    if solved.conda or at == "mv 2":
        assert re.search("was interrupted, and since then this has changed:.* pyproject.toml", shown), shown
    if at == "mv 2":
        assert {**solved.locks(), "pyproject.toml": b""} == {**before, "pyproject.toml": b""}, "no lock was put in place"
    assert "Run `make env-update`" in shown and not (solved.path / ".locks-ready").exists()
    solved.make("env-update")
    assert check(solved).returncode == 0 and '"tqdm"' in (solved.path / "pyproject.toml").read_text() and left(solved) == []


def test_another_branch_keeps_its_locks(solved):
    """A kill, then git: what it had made is of another pyproject.toml, and the branch's own locks fit."""
    there = {"pyproject.toml": (solved.path / "pyproject.toml").read_bytes()}
    another(solved)
    interrupted(solved, "mv 2")
    for name, content in there.items():
        (solved.path / name).write_bytes(content)
    locks = solved.locks()
    shown = solved.make("env-check").output
    assert "this has changed: pyproject.toml" in shown and "The locks are up to date" in shown
    assert solved.locks() == locks


def test_a_lock_of_somebody_elses_is_not_overwritten(solved):
    another(solved)
    interrupted(solved, "mv 2")
    (solved.path / "poetry.lock").write_text("of another branch\n")
    assert "this has changed: poetry.lock" in solved.make("env-check", fails=True).output
    assert (solved.path / "poetry.lock").read_text() == "of another branch\n"


def test_an_edit_while_the_solver_is_at_work_stays(solved):
    another(solved)
    before = solved.locks()
    (solved.path / ".meanwhile").write_text("echo '# mine' >> pyproject.toml\n")
    shown = solved.make("env-update", fails=True).output
    assert "made, this has changed: pyproject.toml. What was there is as it was. Run `make env-update` again." in shown
    assert solved.locks() == {**before, "pyproject.toml": before["pyproject.toml"] + b"# mine\n"} and left(solved) == []


def test_an_edit_in_the_last_moment_stays(solved):
    """Between the last look at the files and the rename: nothing was locked, and nothing says so."""
    another(solved)
    edits = f'[ "$2" = .locks-ready ] && echo "# mine" >> pyproject.toml\nexec {shutil.which("mv")} "$@"'
    shown = solved.make("env-update", fails=True, PATH=in_front(solved.path.parent / "bin", mv=edits)).output
    assert "this has changed: pyproject.toml" in shown and "Locked." not in shown
    assert (solved.path / "pyproject.toml").read_text().endswith("# mine\n") and left(solved) == []


@pytest.mark.parametrize("damage", ["no record", "half a record", "no lock"])
def test_what_is_not_whole_is_not_put_in_place(solved, damage):
    """After a power loss, say."""
    another(solved)
    before = solved.locks()
    interrupted(solved, "mv 2")
    ready = solved.path / ".locks-ready"
    record = ready / ".record"
    if damage == "no record":
        record.unlink()
    elif damage == "half a record":
        record.write_text(record.read_text()[:40])
    else:
        (ready / "poetry.lock").write_text("")
    shown = solved.make("env-check", fails=True).output
    # without conda the only lock is gone, and there is nothing to be put in place
    assert "was interrupted" in shown or (damage == "no lock" and "pyproject.toml has changed" in shown)
    assert solved.locks() == before and left(solved) == [".locks-busy"]
    solved.make("env-update")
    assert check(solved).returncode == 0 and left(solved) == []


def test_many_that_finish_at_once_do_no_harm(solved, tmp_path):
    new = another(solved)
    for number in range(5):
        project = Project(tmp_path / f"many-{number}" / "project", solved.images)
        shutil.copytree(solved.path, project.path)
        interrupted(project, "mv 2")
        runs = [
            subprocess.Popen(["make", "env-check"], cwd=project.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for _ in range(6)
        ]
        said = [run.communicate()[0] for run in runs]
        assert project.locks() == new
        assert not [words for words in said if "has changed:" in words or "not whole" in words or "mv:" in words], said
        assert left(project) == [".locks-busy"]


def test_a_file_of_the_users_own_is_no_lock_of_a_platform(solved):
    """What only has such a name has no stamp; without conda all of these names are the user's."""
    mine = solved.path / "conda-mine.lock"
    mine.write_text("# my own\n")
    assert check(solved).returncode == 0, check(solved).stderr
    another(solved)
    solved.make("env-update")
    assert mine.read_text() == "# my own\n" and check(solved).returncode == 0


@pytest.mark.parametrize("solved", ["conda-poetry"], indirect=True)
def test_a_platform_given_up_loses_its_lock_after_a_kill_too(solved):
    another(solved)
    edit(solved, "Dockerfile", "--platforms linux-64 osx-arm64", "--platforms linux-64")
    lock = solved.path / "conda-osx-arm64.lock"
    interrupted(solved, "mv 5")
    assert lock.exists()
    solved.make("env-check")
    assert not lock.exists() and check(solved).returncode == 0


def test_another_program_with_the_number_of_a_killed_update_does_not_block(solved):
    """As after a power loss; and with a ps that knows no -p, as BusyBox's, being there is enough to wait for."""
    busy = solved.path / ".locks-busy"
    busy.mkdir()
    poor = in_front(solved.path.parent / "poor", ps="echo 'ps: unrecognized option: p' >&2\nexit 1")
    with subprocess.Popen(["sleep", "300"]) as other:
        (busy / "pid").write_text(f"{other.pid}\n")
        shown = solved.make("env-update", fails=True, PATH=poor).output
        assert f"at work here already (process {other.pid})" in shown and "rm -r .locks-busy" in shown
        assert "up to date" in solved.make("env-update").output
        other.kill()
    assert left(solved) == []


def test_a_folder_that_cannot_be_written_is_no_update_at_work(solved):
    """By a mkdir that fails as on a full disk: root may write everywhere."""
    full = in_front(solved.path.parent / "bin", mkdir="echo 'mkdir: No space left on device' >&2\nexit 1")
    shown = solved.make("env-update", fails=True, PATH=full).output
    assert "No space left" in shown and "at work" not in shown
