"""Faults, injected: what fails says so with an exit code and a way out, what can be tried again is, and nothing is lost."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import IMAGES
from tests.harness import container
from tests.harness.locks import check, edit, left, restamp
from tests.harness.project import Done, Project
from tests.harness.soak import some
from tests.install.test_company import build, home, written
from tests.mirror import engine, gate, images
from tests.mirror.gate import Fault

pytestmark = pytest.mark.fault


@pytest.fixture
def mirror(sources: str, tmp_path: Path) -> Iterator[gate.Gate]:
    """A company's mirror whose faults are this test's, at an address that no client has in its cache."""
    with gate.running(engine.gateway(engine.find()), tmp_path, fresh=True) as running:
        yield running


@pytest.fixture
def environment(mirror: gate.Gate, tmp_path: Path) -> dict[str, str]:
    """The variables of a user of that mirror, who waits for an answer for four seconds."""
    files = written("in .netrc", mirror)
    files[".condarc"] += "remote_read_timeout_secs: 4\nremote_max_retries: 0\n"
    return home(tmp_path / "home", files, mirror)


@pytest.fixture
def project(small: Project, tmp_path: Path) -> Project:
    """A copy of the small project, locks included."""
    shutil.copytree(small.path, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project", f"{IMAGES}-faults")


def another_package(project: Project) -> None:
    """Ask Poetry for one package more, so that there is something to lock."""
    edit(project, "pyproject.toml", '"tabulate",', '"tabulate",\n    "six",')


ON_THE_NETWORK = """
import os, sys
from couplet import network
network.apply()
os.execv(sys.executable, [sys.executable, "-B", *sys.argv[1:]])
"""
DISTRIBUTIONS = "-m couplet.install.fetch distributions /locks/conda-linux-64.lock"


# --- conda's packages ------------------------------------------------------------------------------


def fetch(small: Project, folder: Path, environment: dict[str, str], *options: str, program: str = DISTRIBUTIONS) -> Done:
    """Fetch idna alone, by the build's own helper and conda, into an empty cache."""
    text = (small.path / "conda-linux-64.lock").read_text()
    kept = [line for line in text.splitlines() if line == "@EXPLICIT" or "idna-" in line]
    (folder / "conda-linux-64.lock").write_text("\n".join(kept) + "\n")
    user = Path(environment["HOME"])
    secrets = {user / ".condarc": "condarc", user / ".netrc": "netrc", Path(environment["SSL_CERT_FILE"]): "ca"}
    mounts = [word for file, name in secrets.items() for word in ("--volume", f"{file}:/run/secrets/{name}:ro")]
    mounts += ["--volume", f"{small.path}/.couplet:/couplet:ro"]
    mounts += ["--volume", f"{folder}/conda-linux-64.lock:/locks/conda-linux-64.lock:ro"]
    command = f"PYTHONPATH=/couplet exec /opt/conda/bin/python -B -c {shlex.quote(ON_THE_NETWORK)} {program}"
    return container.docker("run", "--rm", *mounts, *options, images.MINIFORGE, "sh", "-c", command, check=False)


@pytest.mark.parametrize("kind", some(["unavailable", "corrupted", "truncated", "cut", "slow"], "unavailable", "corrupted"))
def test_a_fault_of_the_channel_that_passes_is_no_failure(small, mirror, environment, tmp_path, kind):
    mirror.faults = [Fault("/idna-", kind, times=1, seconds=9)]
    done = fetch(small, tmp_path, environment)
    assert done.code == 0, done.output
    [held] = json.loads(done.stdout.splitlines()[-1]).values()
    assert list(held) == ["idna"]
    assert sum("/idna-" in path for path in mirror.served) >= 2, "the fault was not met"


TWICE = """
import threading, time
from pathlib import Path
from couplet.formats import conda_lock
from couplet.install import fetch

[package] = conda_lock.read(Path("/locks/conda-linux-64.lock"))
archive, mapping = fetch.archive(package), fetch.channel_map()
begun = [threading.Thread(target=fetch.fetch_one, args=(package, mapping)) for _ in range(3)]
for thread in begun:
    thread.start()
most = 0
while any(thread.is_alive() for thread in begun):
    most = max(most, len(list(archive.parent.glob("*.half"))))
    time.sleep(0.05)
print(most)
print([path.name for path in archive.parent.iterdir()], archive.parent.name)
"""


def test_two_builds_that_fetch_the_same_do_not_disturb_each_other(small, mirror, environment, tmp_path):
    """Threads, which have one process number, as builds in containers of their own have by chance."""
    mirror.faults = [Fault("/idna-", "slow", times=3, seconds=4)]
    done = fetch(small, tmp_path, environment, program="-c " + shlex.quote(TWICE))
    assert done.code == 0 and "tampered" not in done.output and "Traceback" not in done.output, done.output
    assert re.fullmatch(r"3\n\['idna-\S+'\] noarch\n", done.stdout), "each had a half of its own, and none is left"


LASTING = {
    "unavailable": r"could not be downloaded from https://\S+\n.*503",
    "truncated": r"could not be downloaded from",
    "corrupted": r"it has (MD5|SHA-256) \w+, the lock says \w+\.\nEither the download or the lock was tampered with",
}


@pytest.mark.parametrize("kind", some(LASTING, "unavailable", "corrupted"))
def test_a_fault_of_the_channel_that_lasts_is_named(small, mirror, environment, tmp_path, kind):
    mirror.faults = [Fault("/idna-", kind)]
    done = fetch(small, tmp_path, environment)
    assert done.code == 1 and re.search(LASTING[kind], done.output), done.output
    assert "Traceback" not in done.output and "make env-update ALL=1" in done.output
    assert sum("/idna-" in path for path in mirror.served) >= 2, "it was tried again"


def test_a_full_disk_in_the_build_is_named(small, mirror, environment, tmp_path):
    done = fetch(small, tmp_path, environment, "--tmpfs", "/var/cache/conda:size=16k")
    assert done.code == 1 and "does not fit on the disk" in done.output and "make docker-prune" in done.output, done.output
    assert "Traceback" not in done.output
    assert fetch(small, tmp_path, environment, "--tmpfs", "/var/cache/conda:size=16m").code == 0, "the negative control"


def test_what_was_read_of_a_package_is_kept_and_half_of_that_is_none(small, mirror, environment, tmp_path):
    cache = ("--volume", f"{tmp_path}/cache:/var/cache/conda")
    before = json.loads(fetch(small, tmp_path, environment, *cache).stdout.splitlines()[-1])
    [kept] = (tmp_path / "cache/distributions").iterdir()
    content = kept.read_text()
    kept.write_text(content[:-2])
    assert json.loads(fetch(small, tmp_path, environment, *cache).stdout.splitlines()[-1]) == before
    assert kept.read_text() == content
    kept.write_text('{"kept": "1"}')
    [held] = json.loads(fetch(small, tmp_path, environment, *cache).stdout.splitlines()[-1]).values()
    assert held == {"kept": "1"}, "read again, at the price of unpacking it"


# --- the index -------------------------------------------------------------------------------------


def test_faults_of_the_index_that_pass_are_no_failure_of_the_build(project, mirror, environment):
    mirror.faults = [Fault("/simple/tabulate", "unavailable", 1), Fault("/files/.*tabulate.*whl$", "truncated", 1)]
    done = build(project, environment, "--target", "poetry-packages", "--no-cache-filter", "poetry-packages")
    assert done.returncode == 0, done.stdout[-3000:]
    assert [fault.times for fault in mirror.faults] == [0, 0], "the faults were not met"


@pytest.mark.soak
def test_an_index_that_is_silent_for_a_while_is_waited_for(project, sources, tmp_path):
    """As a mirror is that fetches a package when it is first asked for; uv by itself gives up after 30 seconds."""

    def built(name: str, seconds: float, setting: str = "") -> subprocess.CompletedProcess:
        # a step of its own: of two that are the same, at the same time, BuildKit runs one, whatever their secrets
        with (project.path / "poetry.lock").open("a") as lock:
            lock.write(f"# {uuid.uuid4()}\n")
        restamp(project)
        with gate.running(engine.gateway(engine.find()), tmp_path, fresh=True) as mirror:
            mirror.faults = [Fault("/files/.*tabulate.*whl$", "slow", seconds=seconds)]
            files = written("in .netrc", mirror)
            files[".config/pip/pip.conf"] += setting
            user = home(tmp_path / name, files, mirror)
            return build(project, user, "--target", "poetry-packages", "--no-cache-filter", "poetry-packages")

    done = built("patient", 33)
    assert done.returncode == 0, done.stdout[-3000:]
    # the negative control, whose pip.conf says how long
    done = built("not", 5, "timeout = 1.5\n")
    assert done.returncode, done.stdout[-3000:]
    assert "timed out" in done.stdout and "`timeout = 300` under [global] in pip.conf" in done.stdout, done.stdout[-3000:]


# --- locking ---------------------------------------------------------------------------------------

IN_LOCKING = {
    "the channel is not available": (Fault("repodata", "unavailable"), "channels: conda-forge .* does not answer: .*503"),
    "the channel's index is cut short": (
        Fault("repodata", "truncated"),
        "channels: conda-forge .* does not answer: peer closed connection",
    ),
    "the network goes after conda's half": (Fault("/simple/(six|pip)/", "cut"), "Python index does not answer|[Cc]onnect"),
}


@pytest.mark.parametrize("case", IN_LOCKING)
def test_a_fault_while_locking_loses_nothing(project, mirror, environment, case):
    fault, message = IN_LOCKING[case]
    if fault.pattern == "repodata":
        edit(project, "environment.yml", "  - idna\n", "  - idna\n  - certifi\n")
    another_package(project)
    before = project.locks()
    mirror.faults = [fault]
    shown = project.make("env-update", fails=True, **environment).output
    assert re.search(message, shown), shown[-3000:]
    assert "The locks could not be made; no file was replaced." in shown
    assert "Traceback" not in shown and mirror.password not in shown
    assert project.locks() == before
    assert left(project) == []


def test_faults_that_pass_while_locking_are_got_over(project, mirror, environment):
    another_package(project)
    mirror.faults = [Fault("/simple/six", "unavailable", 1), Fault("/simple/six", "cut", 1)]
    project.make("env-update", **environment)
    assert [fault.times for fault in mirror.faults] == [0, 0] and check(project).returncode == 0


@pytest.mark.soak
def test_a_wrong_clock_is_told_by_the_certificates_dates(project, sources, tmp_path):
    another_package(project)
    before = project.locks()
    with gate.running(engine.gateway(engine.find()), tmp_path, expired=True, fresh=True) as mirror:
        environment = home(tmp_path / "home", written("in .netrc", mirror), mirror)
        shown = project.make("env-update", fails=True, **environment).output
    assert "does not answer: certificate verify failed: certificate has expired" in shown, shown[-3000:]
    assert project.locks() == before and mirror.served == []


@pytest.mark.parametrize("when", some(["1970-01-02", "2099-12-31"], "1970-01-02"))
def test_files_from_another_time_are_locked_and_built_as_ever(project, when):
    for path in project.path.rglob("*"):
        if path.is_file():
            subprocess.run(["touch", "-d", when, path], check=True)
    assert "up to date" in project.make("env-check").output
    done = build(project, {}, "--target", "runtime", "--tag", project.runtime, "--no-cache-filter", "project,runtime")
    assert done.returncode == 0, done.stdout[-3000:]
    assert container.run(project.runtime, "python", "-c", "import sea_ice, idna, tabulate; print('well')") == "well\n"


# --- two at once, and kills ------------------------------------------------------------------------


def both(project: Project, *words: str) -> list[tuple[int, str]]:
    """Run the same make twice at the same moment; return (exit code, output) of both, the better first."""
    command = ["make", "--no-print-directory", f"IMAGE={project.images}", *words]
    runs = [
        subprocess.Popen(command, cwd=project.path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]  # fmt: skip
    return sorted((run.wait(), output) for run in runs for output in [run.communicate(timeout=600)[0]])


def test_two_real_updates_at_once_end_with_locks_that_fit(project):
    """One of them may find that the other has changed the locks meanwhile, and say so."""
    another_package(project)
    first, second = both(project, "env-update")
    assert first[0] == 0 and "Locked." in first[1], first
    assert second[0] == 0 or "one of these has changed" in second[1], second
    assert check(project).returncode == 0 and left(project) == []


def test_two_builds_at_once_are_both_good(project):
    assert [code for code, _ in both(project, "build")] == [0, 0]
    assert container.run(project.runtime, "python", "-c", "import idna, tabulate; print('well')") == "well\n"


def test_a_client_that_is_killed_loses_nothing(project, tmp_path):
    """kill -9 of docker and its plugin, in the middle of the solve; make goes on, and says so."""
    another_package(project)
    before = project.locks()
    program = tmp_path / "bin/docker"
    program.parent.mkdir()
    real = shutil.which("docker")
    program.write_text(
        f'#!/usr/bin/env bash\n[ "$1 $2" = "buildx build" ] || exec "{real}" "$@"\n'
        f'setsid "{real}" "$@" & sleep 2; kill -KILL -- "-$!"; wait "$!"\n'
    )
    program.chmod(0o755)
    shown = project.make("env-update", fails=True, PATH=f"{program.parent}:{os.environ['PATH']}").output
    assert "no file was replaced" in shown and project.locks() == before
    assert left(project) == []
    project.make("env-update")
    assert check(project).returncode == 0 and project.locks() != before


# --- places and files ------------------------------------------------------------------------------


def test_a_folder_with_a_hard_name_is_as_good_as_any(small, tmp_path):
    """Blanks, accents, quotes, a comma, a dollar, what a shell would run; Docker itself has no way to mount a colon."""
    folder = tmp_path / """Sea  Ice é, "q" 'x' #1 $HOME $(touch pwned) `touch pwned` 氷"""
    shutil.copytree(small.path, folder, symlinks=True)
    project = Project(folder, f"{IMAGES}-faults")
    another_package(project)
    project.make("env-update")
    assert "up to date" in project.make("env-check").output
    project.make("build")
    assert project.make("run", "CMD=ls pyproject.toml").output.splitlines()[-1] == "pyproject.toml"
    assert not list(tmp_path.rglob("pwned"))


DAMAGE = {
    "cut short": lambda data: data[: len(data) * 2 // 3],
    "merge markers": lambda data: data.replace(b"\n", b"\n<<<<<<< HEAD\n", 3),
    "edited by hand": lambda data: data.replace(b"idna", b"idnb"),
    "empty": lambda data: b"",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["conda.lock", "conda-linux-64.lock", "poetry.lock"])
def test_a_damaged_lock_is_refused_by_name(project, name, damage):
    path = project.path / name
    whole = path.read_bytes()
    path.write_bytes(DAMAGE[damage](whole))
    if path.read_bytes() == whole:
        pytest.fail("the damage did nothing")
    asked = check(project)
    assert asked.returncode == 1 and name in asked.stderr and "make env-update" in asked.stderr, asked.stderr
    assert project.make("build", fails=True, DOCKER_HOST="tcp://127.0.0.1:1").code == 2


def test_damaged_locks_are_made_anew(project):
    """The way out that the message names: the same packages, from two thirds of the old lock."""
    before = project.locks()
    for name in ("conda.lock", "poetry.lock"):
        path = project.path / name
        path.write_bytes(DAMAGE["cut short"](path.read_bytes()))
    project.make("env-update")
    assert check(project).returncode == 0 and project.locks() == before


def test_condas_lock_of_another_day_is_solved_anew(project):
    """From git, say. The explicit lock beside it was made of environment.yml as it is; this one was not."""
    another_day = (project.path / "conda.lock").read_bytes()
    edit(project, "environment.yml", "  - idna\n", "  - idna\n  - certifi\n")
    project.make("env-update")
    (project.path / "conda.lock").write_bytes(another_day)
    assert "conda.lock has changed" in check(project).stderr
    project.make("env-update")
    assert check(project).returncode == 0 and "certifi" in project.locked_by_conda()
