"""Relocking: what moves, what stays, what a conflict says, and what a kill leaves behind."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from tests.conftest import IMAGES
from tests.harness import container, template
from tests.harness.checks import locked_by_poetry
from tests.harness.project import Project
from tests.test_30_locks import check, edit

OLD = {"numpy": "2.3.5", "idna": "3.11", "certifi": "2026.4.22"}
"""Versions that are not the newest: with them locked and the pin taken away, there is something to move."""


@pytest.fixture(scope="module")
def locked(template_repository: Path, sources: str, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose locks hold old versions that its environment.yml no longer asks for."""
    path = template.render(template_repository, tmp_path_factory.mktemp("relocking") / "project", {"project_name": "Sea Ice"})
    project = Project(path, f"{IMAGES}-relocking")
    edit(project, "environment.yml", "  - numpy\n", "".join(f"  - {name}={version}\n" for name, version in OLD.items()))
    edit(project, "pyproject.toml", '"pandas>=2.2",', '"pandas==3.0.6",\n    "numpy",\n    "requests",\n    "tqdm==4.67.3",')
    project.make("env-update")
    for name, version in OLD.items():
        edit(project, "environment.yml", f"  - {name}={version}\n", f"  - {name}\n")
    edit(project, "pyproject.toml", '"pandas==3.0.6"', '"pandas>=3"')
    edit(project, "pyproject.toml", '"tqdm==4.67.3"', '"tqdm"')
    return project


@pytest.fixture
def project(locked: Project, tmp_path: Path) -> Project:
    """A copy of it, to be changed."""
    return copy(locked, tmp_path / "project")


@pytest.fixture(scope="module")
def relocked(locked: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same project after `make env-update`: its locks fit, and hold the old versions still."""
    project = copy(locked, tmp_path_factory.mktemp("relocked") / "project")
    project.make("env-update")
    return project


@pytest.fixture
def fitting(relocked: Project, tmp_path: Path) -> Project:
    """A copy of that."""
    return copy(relocked, tmp_path / "project")


def copy(project: Project, path: Path) -> Project:
    """Copy a project, locks included."""
    shutil.copytree(project.path, path, symlinks=True)
    return Project(path, project.images)


def moved(shown: str) -> dict[tuple[str, str], tuple[str, str]]:
    """Return {(name, owner): (old, new)} of the table that env-update prints."""
    rows = re.findall(r"^#\d+ [\d.]+ (\S+) +(\S+) -> (\S+) +(conda \S+|Poetry)$", shown, re.M)
    return {(name, owner): (old, new) for name, old, new, owner in rows}


# --- what moves, and what stays --------------------------------------------------------------------


def test_a_wider_range_moves_nothing(project):
    """The old versions fit: they stay, certifi too, which conda by itself moves past any pin."""
    before = project.locked_by_conda()
    shown = project.make("env-update").output
    assert "no package moved" in shown and moved(shown) == {}
    assert project.locked_by_conda() == before
    assert {name: before[name][0] for name in OLD} == OLD
    assert check(project).returncode == 0


def test_named_packages_move_and_no_other(project):
    shown = project.make("env-update", "PKG=numpy pandas").output
    assert moved(shown) == {
        ("numpy", "conda linux-64"): ("2.3.5", "2.4.6"),
        ("numpy", "Poetry"): ("2.3.5", "2.4.6"),
        ("pandas", "Poetry"): ("3.0.6", "3.1.1"),
    }
    assert check(project).returncode == 0
    again = project.make("env-update", "PKG=pandas").output
    assert moved(again) == {} and "pandas stays: nothing newer fits" in again
    unknown = project.make("env-update", "PKG=numpi", fails=True).output
    assert "the locks hold no numpi" in unknown


def test_all_moves_everything(project):
    """The twin of the two above: without anything held, all of the old versions go."""
    rows = moved(project.make("env-update", "ALL=1").output)
    assert {name for name, owner in rows if owner.startswith("conda")} == OLD.keys()
    assert {"pandas", "tqdm", *OLD} == {name for name, owner in rows if owner == "Poetry"}


def test_another_version_in_environment_yml_moves_that_one_alone(project):
    edit(project, "environment.yml", "  - idna\n", "  - idna=3.20\n")
    rows = moved(project.make("env-update").output)
    assert {name for name, _ in rows} == {"idna"} and rows["idna", "conda linux-64"] == ("3.11", "3.20")


def test_another_python_moves_what_it_must_and_nothing_else(project):
    """Every compiled package needs another build; none needs another version."""
    edit(project, "environment.yml", "python=3.13", "python=3.11")
    text = (project.path / "pyproject.toml").read_text()
    (project.path / "pyproject.toml").write_text(re.sub('requires-python = ".*"', 'requires-python = ">=3.11,<3.14"', text))
    shown = project.make("env-update").output
    rows = moved(shown)
    assert {name for name, owner in rows if owner.startswith("conda")} == {"python"}, shown
    after = project.locked_by_conda()
    assert after["numpy"][1].startswith("py311") and {name: after[name][0] for name in OLD} == OLD


def test_what_is_no_longer_needed_leaves_the_locks(project):
    edit(project, "environment.yml", "  - ipykernel\n", "")
    edit(project, "pyproject.toml", '    "tqdm",\n', "")
    rows = moved(project.make("env-update").output)
    assert {new for _, new in rows.values()} == {"-"}, "a removal moves nothing"
    assert ("ipython", "conda linux-64") in rows and ("tqdm", "Poetry") in rows
    assert "ipython" not in project.locked_by_conda()
    assert '"ipython==' not in (project.path / "pyproject.toml").read_text()
    assert 'name = "tqdm"' not in (project.path / "poetry.lock").read_text()


def test_a_name_that_differs_between_the_two_worlds(project):
    """conda's msgpack-python is PyPI's msgpack: Poetry is held to conda's, and PKG knows both names."""
    edit(project, "environment.yml", "  - idna\n", "  - idna\n  - msgpack-python\n")
    edit(project, "pyproject.toml", '"requests",', '"requests",\n    "msgpack",')
    project.make("env-update")
    version = project.locked_by_conda()["msgpack-python"][0]
    assert f'"msgpack=={version}"' in (project.path / "pyproject.toml").read_text()
    assert f'name = "msgpack"\nversion = "{version}"' in (project.path / "poetry.lock").read_text()
    assert "how far msgpack-python can go" in project.make("env-update", "PKG=msgpack").output


# --- conflicts -------------------------------------------------------------------------------------

CONFLICTS = {
    "direct": ('"numpy"', '"numpy>=2.4"', "pyproject.toml asks for numpy (>=2.4); conda's package numpy holds numpy 2.3.5"),
    "transitive": ('"requests"', '"requests==2.20.0"', "requests 2.20.0 asks for idna (>=2.5,<2.8); conda's package idna holds idna 3.11"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONFLICTS)
def test_a_conflict_is_explained(project, case):
    old, new, message = CONFLICTS[case]
    edit(project, "pyproject.toml", old, new)
    before = project.locks()
    shown = project.make("env-update", fails=True).output
    assert message in shown, shown[-4000:]
    assert "Two ways out" in shown and "- pyproject.toml: widen" in shown and "- environment.yml: ask for" in shown
    assert "Traceback" not in shown and project.locks() == before


def test_the_way_out_of_a_conflict_is_one(project):
    """The twin: with what the message says done, the same dependency locks."""
    edit(project, "pyproject.toml", '"numpy"', '"numpy>=2.4"')
    edit(project, "environment.yml", "  - numpy\n", "  - numpy>=2.4\n")
    assert {name for name, _ in moved(project.make("env-update").output)} == {"numpy"}


CONTRADICTIONS = {
    "a Python that pyproject.toml does not allow": (
        ("environment.yml", "python=3.13", "python=3.11"),
        "environment.yml gives Python 3.11.",
        "requires-python = >=3.13,<3.14",
    ),
    "a range that is none": (
        ("pyproject.toml", 'requires-python = ">=3.13,<3.14"', 'requires-python = "3.13"'),
        "pyproject.toml: requires-python is 3.13, which is no range",
        ">=3.12,<3.13",
    ),
    "pip's section": (
        ("environment.yml", "  - pip\n", "  - pip\n  - pip:\n    - tqdm>=4\n    - six\n"),
        "environment.yml: pip: asks for tqdm>=4, six.",
        "write it into `dependencies` in pyproject.toml",
    ),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_what_contradicts_the_other_file_is_named_with_both(project, case):
    (file, old, new), *said = CONTRADICTIONS[case]
    edit(project, file, old, new)
    before = project.locks()
    shown = project.make("env-update", fails=True).output
    assert all(words in shown for words in said), shown[-2000:]
    assert "virtualenv" not in shown and "Traceback" not in shown and project.locks() == before


# --- plain data, in the image that makes the locks -------------------------------------------------

PLAIN = r"""
import json, sys
sys.path.insert(0, "/docker")
import lock
both = {"numpy": {"linux-64": ("2.4.6", "numpy"), "osx-arm64": ("2.4.6", "numpy")},
        "torch": {"linux-64": ("2.1", "pytorch"), "osx-arm64": ("2.0", "pytorch")},
        "pyobjc": {"osx-arm64": ("11.0", "pyobjc")}}
print(json.dumps({
    "pins": lock.pins(both, ["linux-64", "osx-arm64"]),
    "published": lock.leave_out_unpublished(["couplet-no-such-thing==1.0", "numpy==2.4.6", "numpy==999.0"], set(),
                                            {"couplet-no-such-thing": "nosuch", "numpy": "numpy"}),
    "excludes": [lock.excludes(*pair) for pair in ((">=2,<3", "2.4.6"), ("<2", "2.4.6"), ("2.4.6", "2.4.6"), ("<1 || >2", "2.4.6"))],
}))
"""


@pytest.fixture(scope="module")
def poetry_image(locked: Project):
    """The stage that has conda and Poetry and no environment."""
    name = f"{locked.images}:poetry"
    subprocess.run(
        [".couplet/host/docker-build.sh", "--quiet", "--target", "poetry", "--tag", name, "."],
        cwd=locked.path,
        check=True,
        env={**os.environ},
    )
    yield name
    container.docker("image", "rm", "--force", name)


def secrets() -> tuple[str, ...]:
    """Return docker run's options for what docker/network.sh reads: this machine's mirrors."""
    files = {"CONDARC": "condarc", "PIP_CONFIG_FILE": "pip_conf", "SSL_CERT_FILE": "ca"}
    return tuple(
        word
        for variable, name in files.items()
        if os.environ.get(variable)
        for word in ("--volume", f"{os.environ[variable]}:/run/secrets/{name}:ro")
    )


def test_platforms_that_differ_and_versions_that_the_index_lacks(locked, poetry_image):
    """A pin that Poetry could never satisfy is left out with a note; a version of one platform has its marker."""
    options = (*secrets(), "--volume", f"{locked.path}/docker:/docker:ro")
    shown = container.docker("run", "--rm", "--interactive", *options, poetry_image, "bash", "-c",
                             ". /docker/network.sh; /opt/poetry/bin/python -", stdin=PLAIN).stdout  # fmt: skip
    result = json.loads(shown.splitlines()[-1])
    assert result["pins"] == [
        "numpy==2.4.6",
        "pyobjc==11.0 ; sys_platform == 'darwin' and platform_machine == 'arm64'",
        "torch==2.1 ; sys_platform == 'linux' and platform_machine == 'x86_64'",
        "torch==2.0 ; sys_platform == 'darwin' and platform_machine == 'arm64'",
    ]
    assert result["published"] == ["numpy==2.4.6"]
    assert "note: couplet-no-such-thing 1.0 (conda package nosuch) is not on the Python index" in shown
    assert result["excludes"] == [False, True, False, False]


# --- tampering -------------------------------------------------------------------------------------


def restamp(project: Project) -> None:
    """Stamp edited locks as if env-update had written them: what a careful forger does."""
    stamp = subprocess.run(
        ["sh", "scripts/lock-state.sh", "stamp", "."], cwd=project.path, check=True, capture_output=True, text=True
    )
    lock = project.path / "conda-linux-64.lock"
    body = re.sub(r"^# stamp .*\n", "", lock.read_text(), flags=re.M)
    lock.write_text(f"{stamp.stdout}# stamp this-file {hashlib.sha256(body.encode()).hexdigest()}\n{body}")


def flipped(match: re.Match) -> str:
    """Return a digest that is another one."""
    return match[1] + ("0" if match[2][0] != "0" else "1") + match[2][1:]


TAMPERED = {
    "conda's MD5": ("conda-linux-64.lock", r"(/idna-[^#\n]*#)([0-9a-f]{32})", "has MD5"),
    "conda's SHA-256": ("conda-linux-64.lock", r"(# sha256 )([0-9a-f]{64})(?= idna-)", "has SHA-256"),
    "Poetry's": ("poetry.lock", r'(file = "tqdm-[^\n]*sha256:)([0-9a-f]{64})', "uv could not install what poetry.lock names"),
}  # fmt: skip


@pytest.mark.parametrize("case", TAMPERED)
def test_a_tampered_hash_fails_the_build(fitting, case):
    file, pattern, message = TAMPERED[case]
    path = fitting.path / file
    text, count = re.subn(pattern, flipped, path.read_text())
    assert count
    path.write_text(text)
    restamp(fitting)
    assert check(fitting).returncode == 0, "the stamps have to be in order: it is the hash that is tested"
    shown = fitting.make("build", fails=True).output
    assert message in shown, shown[-3000:]
    assert "make env-update ALL=1" in shown and "Traceback" not in shown


# --- kills -----------------------------------------------------------------------------------------


def killed(project: Project, after: float | None = None, call: str | None = None, request: str = "") -> bool:
    """Run `make env-update` and SIGKILL all of it, after some seconds or at its n-th call of a command ("mv 2").

    Docker solves once for all calls of one `request`: of these it is what comes after that matters.
    Returns whether it was killed, and not through already.
    """
    tools = project.path.parent / "tools"
    shutil.rmtree(tools, ignore_errors=True)
    tools.mkdir()
    if call:
        name, number = call.split()
        (tools / name).write_text(
            f'#!/bin/sh\necho x >> "{tools}/calls"\n'
            f'[ "$(wc -l < "{tools}/calls")" -eq {number} ] && kill -KILL 0\nexec {shutil.which(name)} "$@"\n'
        )
        (tools / name).chmod(0o755)
    if request:
        (tools / "docker").write_text(
            f'#!/bin/sh\nfor word; do shift; case "$word" in REQUEST=*) word=REQUEST={request} ;; esac; set -- "$@" "$word"; done\n'
            f'exec {shutil.which("docker")} "$@"\n'
        )
        (tools / "docker").chmod(0o755)
    process = subprocess.Popen(
        ["make", f"IMAGE={project.images}", "env-update"], cwd=project.path, start_new_session=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
    )  # fmt: skip
    try:
        process.wait(timeout=after or 300)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def test_ten_kills_leave_ten_consistent_sets_of_locks(fitting, tmp_path):
    edit(fitting, "pyproject.toml", '"requests",', '"requests",\n    "tabulate",')
    old = fitting.locks()
    whole = copy(fitting, tmp_path / "whole")
    began = time.monotonic()
    whole.make("env-update")
    took = time.monotonic() - began
    new = whole.locks()
    assert new != old

    moments = [{"after": took * part} for part in (0.03, 0.25, 0.5, 0.75, 0.95)]
    request = uuid.uuid4().hex
    moments += [{"call": call, "request": request} for call in ("mv 1", "mv 2", "mv 3", "mv 5", "mv 6")]
    seen = set()
    for number, moment in enumerate(moments):
        victim = copy(fitting, tmp_path / f"kill-{number}" / "project")
        # A run may be quicker than the measured one: of the moments on the clock, only the early ones are certain.
        assert killed(victim, **moment) or moment.get("after", 0) > took * 0.3, f"{moment}: it was through already"
        state = check(victim)
        if (victim.path / ".locks-ready").exists():
            assert state.returncode == 1 and "interrupted" in state.stderr, moment
        else:
            assert victim.locks() in (old, new), moment
        victim.make("env-check", fails=not (victim.path / ".locks-ready").exists() and victim.locks() == old)
        assert victim.locks() in (old, new), f"{moment}: one old and one new"
        seen.add(victim.locks() == new)
        if number in (2, 7):  # an update after a kill before the swap, and after one within it
            victim.make("env-update")
            assert victim.locks() == new
            left = [path.name for path in victim.path.iterdir() if re.match(r"\.locks|\..*\.new$", path.name)]
            assert left == [], moment
    assert seen == {True, False}, "kills on both sides of the swap"


def test_a_full_disk_leaves_the_old_locks(fitting, tmp_path):
    """On a file system of its own, with room for the project and not for a second set of locks."""
    edit(fitting, "pyproject.toml", '"requests",', '"requests",\n    "tabulate",')
    before = fitting.locks()
    script = f"""
        mkdir small && mount -t tmpfs -o size=$(( $(du -sk project | cut -f 1) + 64 ))k none small
        cp -a project/. small && cd small && {{ make IMAGE={fitting.images} env-update; code=$?; }}
        cp -a . ../result; exit $code"""
    root = [] if os.getuid() == 0 else ["sudo", "-n", "-E"]
    done = subprocess.run(
        [*root, "unshare", "--mount", "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode and "The disk is full" in done.stderr, done.stderr[-3000:]
    assert "what was there is as it was" in done.stderr
    result = Project(tmp_path / "result", fitting.images)
    assert result.locks() == before
    assert not [path.name for path in result.path.iterdir() if path.name.startswith(".locks")]


# --- outside of Docker -----------------------------------------------------------------------------


def readme_commands(project: Project) -> str:
    """Return the commands of the README's section `Without Docker`."""
    section = (project.path / "README.md").read_text().split("## Without Docker")[1]
    return re.search(r"```sh\n(.*?)```", section, re.S)[1]


def outside(project: Project, image: str, commands: str) -> tuple[list[str], dict[str, str]]:
    """Run the README's commands where only the locks and the code are; return (changed files of conda's, versions)."""
    files = ["conda-linux-64.lock", "poetry.lock", "pyproject.toml", "README.md", "src"]
    mounts = [word for name in files for word in ("--volume", f"{project.path}/{name}:/given/{name}:ro")]
    # The lock has the public addresses: who is behind a mirror maps them, as the guide says.
    script = f"""set -e
        mkdir /project && cp -r /given/. /project && cd /project
        . /docker/network.sh && export PATH=/opt/poetry/bin:$PATH
        alias=$(sed -n 's/^channel_alias: *//p' "${{CONDARC:-/dev/null}}")
        [ -z "$alias" ] || sed -i "s|https://conda.anaconda.org|$alias|" conda-linux-64.lock
        . /opt/conda/etc/profile.d/conda.sh
        export CONDA_ALWAYS_YES=1 POETRY_NO_INTERACTION=1
        {commands}
        poetry check --lock
        PYTHONPATH=/docker /opt/poetry/bin/python -c 'import json, os, verify, distributions as d
p = os.environ["CONDA_PREFIX"]
print(json.dumps([verify.changed_files(p)[0], {{n: x.version for n, x in d.installed_distributions(p).items()}}]))'"""
    options = (*secrets(), *mounts, "--volume", f"{project.path}/docker:/docker:ro")
    done = container.docker("run", "--rm", *options, image, "bash", "-c", script)
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def test_the_readmes_way_without_docker_gives_what_the_locks_say(fitting, poetry_image):
    changed, versions = outside(fitting, poetry_image, readme_commands(fitting))
    assert changed == []
    for name, version in locked_by_poetry(fitting, {"main", "dev"}).items():
        assert versions[name] == version
    assert versions["numpy"] == OLD["numpy"] and versions["sea-ice"]


def test_a_naive_install_overwrites_condas_files_and_is_seen(fitting, poetry_image):
    """The twin, with the real Poetry: without the line that deletes direct_url.json, it takes conda's packages at
    equal versions, direct (numpy) and transitive (idna), and the comparison of the build names them."""
    commands = readme_commands(fitting)
    line = next(line for line in commands.splitlines() if "direct_url.json" in line)
    changed, versions = outside(fitting, poetry_image, commands.replace(line, ""))
    owners = {entry.split(":")[0] for entry in changed}
    assert {"numpy", "idna"} <= owners, changed[:20]
    assert versions["numpy"] == OLD["numpy"] and versions["idna"] == OLD["idna"]
