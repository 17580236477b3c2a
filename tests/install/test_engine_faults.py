"""Faults of the engine itself, on one that is this file's own: killed, and out of disk, in the middle of what make does.

What holds then: an exit code, a message that says what stopped and what to run, the old locks all together, the images
as they were; and once the engine is up and has room, the same command goes through.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import checks, container, summary, template, victim
from tests.harness.locks import check, edit
from tests.harness.project import Done, Project
from tests.harness.terminal import Session
from tests.mirror import engine, images

pytestmark = [pytest.mark.soak, pytest.mark.fault]
DISK = 4 << 30
"""Bytes of the engine's disk: a file, in which what is not written takes none."""


@pytest.fixture(scope="module")
def second(sources: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[victim.Victim]:
    """An engine with the base images that the engine in use has (on the public network it pulls what is missing)."""
    if reason := victim.impossible():
        # where the suite has made its engine itself, it can make another
        assert not engine.find().private, reason
        summary.note(f"NOT TESTED: faults of the engine itself ({Path(__file__).name}): {reason}")
        pytest.skip(f"no engine can be started here to be killed: {reason}")
    with victim.running(tmp_path_factory.mktemp("victim"), DISK) as running:
        load_bases(running)
        yield running


def load_bases(second: victim.Victim) -> None:
    for name in (images.DEBIAN, images.MINIFORGE):
        if images.state(engine.find(), name) != "missing":
            second.load(name)


@pytest.fixture
def project(second: victim.Victim, small: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of the small project, and its user, whose engine is the second one; with an image of before."""
    shutil.copytree(small.path, tmp_path / "project", symlinks=True)
    for name, value in second.environment.items():
        monkeypatch.setenv(name, value)
    second.room()
    second.start()
    project = Project(tmp_path / "project", f"couplet-victim-{uuid.uuid4().hex[:8]}")
    (tmp_path / "before").write_text(project.images)
    archive = subprocess.run(["tar", "--create", "before"], cwd=tmp_path, capture_output=True, check=True).stdout
    subprocess.run(["docker", "import", "-", project.runtime], input=archive, capture_output=True, check=True)
    return project


@pytest.fixture
def cached(project: Project) -> Project:
    """The same, and everything is in the builder's cache."""
    to_cache(project)
    return project


def to_cache(project: Project) -> None:
    """Run all steps, and export nothing."""
    build = [".couplet/host/docker-build.sh", "--target", "runtime", "--output", "type=cacheonly"]
    subprocess.run(build, cwd=project.path, check=True, capture_output=True, stdin=subprocess.DEVNULL)


class Make:
    """A make that is at work, in a process group of its own."""

    def __init__(self, project: Project, *words: str) -> None:
        self.process = subprocess.Popen(
            ["make", "--no-print-directory", f"IMAGE={project.images}", *words], cwd=project.path, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def until(self, step: str) -> None:
        """Wait until a step of the Dockerfile runs that is not in the cache. Raises AssertionError where none does."""
        said, number = "", None
        for line in self.process.stdout:
            said += line
            number = number or ((found := re.match(rf"#(\d+) \[[^]]+\] RUN .*{re.escape(step)}", line)) and found[1])
            if number and line.startswith(f"#{number} ") and "CACHED" in line:
                break
            if number:
                time.sleep(0.3)
                return
        raise AssertionError(said)

    def end(self) -> tuple[int, str]:
        """Wait for its end; its exit code, and what it said since `until`."""
        said = self.process.communicate(timeout=300)[0]
        return self.process.returncode, said


def touch(project: Project, name: str) -> None:
    """Edit a helper of the build so that what it does is done anew."""
    with (project.path / name).open("a") as file:
        file.write(f"# {uuid.uuid4()}\n")


def another_package(project: Project) -> None:
    """Ask Poetry for one package more, so that there is something to lock."""
    edit(project, "pyproject.toml", '"tabulate",', '"tabulate",\n    "six",')


def is_good(project: Project) -> None:
    """The image that make cached is what the locks say, file by file."""
    with container.running(project.runtime) as host:
        assert checks.conda_lock(host, project) == [] and checks.conda_files(host, project) == []
        assert checks.poetry_lock(host, project, {"main"}) == []


def leftovers(project: Project) -> list[str]:
    return [path.name for path in (project.path / ".couplet").glob(".new-locks*")]


# --- room ------------------------------------------------------------------------------------------
# First: an engine that was killed in a build may keep a record of it that no prune deletes.


def cache_of(second: victim.Victim) -> str:
    shown = second.docker("system", "df", "--format", "{{.Type}}={{.Size}}").stdout
    return dict(line.split("=") for line in shown.splitlines())["Build Cache"]


MAKE_ROOM = """
import shutil, sys
from tests.mirror import engine
host, data, more, least = sys.argv[1:]
wanted = max(shutil.disk_usage(data).free + int(more), 0)
try:
    engine.make_room(engine.Engine(host, True, ""), print, wanted=wanted, least=int(least))
except engine.EngineError as error:
    sys.exit(str(error))
"""


def make_room(second: victim.Victim, more: int, least: int = 0) -> Done:
    """What the harness does before it begins, on that engine's disk: `more` bytes than are free are wanted, `least` needed."""
    program = ["env", f"PYTHONPATH={template.REPOSITORY}", sys.executable, "-c", MAKE_ROOM]
    command = [*second.inside, *program, second.environment["DOCKER_HOST"], str(second.data), str(more), str(least)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return Done(done.returncode, done.stdout)


def test_a_private_engine_whose_disk_is_short_gives_its_cache_up(second, cached):
    """What it wants and needs stands for a disk that is fuller than this one."""
    image = second.image(cached.runtime)
    assert make_room(second, -1) == Done(0, "") and cache_of(second) != "0B"
    # the builder counts as free what is root's alone
    second.reserve(100_000)
    before = float(cache_of(second).removesuffix("MB"))
    done = make_room(second, 50_000_000)
    assert done.code == 0 and "deleting build cache of the private engine" in done.output, done.output
    assert 0 < float(cache_of(second).removesuffix("MB")) < before - 45, "what has to go, and not all"
    assert make_room(second, 1 << 40).code == 0 and cache_of(second) == "0B"
    assert second.image(cached.runtime) == image
    done = make_room(second, 1 << 40, least=1 << 60)
    assert done.code == 1 and re.search(r"GB left.* are the least to begin with", done.output), done.output


# --- the engine is killed --------------------------------------------------------------------------


def test_an_engine_that_is_killed_in_a_build(second, project):
    touch(project, ".couplet/couplet/install/conda.py")
    locks, image = project.locks(), second.image(project.runtime)
    make = Make(project, "build")
    make.until("install-conda")
    second.kill()
    code, said = make.end()
    assert code == 2 and "The Docker engine stopped in the middle of this. Start Docker, then run the same" in said, said
    second.start()
    assert (project.locks(), second.image(project.runtime)) == (locks, image)
    assert "CACHED" in project.make("build").output, "finished steps are kept"
    assert second.image(project.runtime) != image
    is_good(project)


def test_an_engine_that_is_killed_is_a_riddle_without_our_words(second, project):
    """The negative control of the above."""
    edit(project, ".couplet/host/docker-build.sh", '    explain "$@" >&2\n', "    :\n")
    touch(project, ".couplet/couplet/install/conda.py")
    make = Make(project, "build")
    make.until("install-conda")
    second.kill()
    code, said = make.end()
    second.start()
    assert code == 2 and "Start Docker" not in said, said


def test_an_engine_that_is_killed_while_locking(second, project):
    another_package(project)
    locks = project.locks()
    make = Make(project, "env-update")
    make.until("couplet.sh lock")
    second.kill()
    code, said = make.end()
    assert code == 2 and "The Docker engine stopped in the middle of this. Start Docker" in said, said
    assert "The locks could not be made; no file was replaced." in said
    assert project.locks() == locks and leftovers(project) == []
    # and while it is down
    assert "Start Docker" in project.make("env-update", fails=True).output
    second.start()
    project.make("env-update")
    assert check(project).returncode == 0 and project.locks() != locks


def test_an_engine_that_is_started_anew_at_once_is_told_from_one_that_is_down(second, cached, tmp_path):
    """As where systemd minds it: it answers again before make could ask."""
    touch(cached, ".couplet/couplet/install/verify.py")
    restarted = tmp_path / "restarted"
    program = tmp_path / "bin/docker"
    program.parent.mkdir()
    real = shutil.which("docker")
    program.write_text(
        f'#!/bin/sh\nif [ "$1" = buildx ]; then "{real}" "$@"; code=$?\n'
        f'until [ -e "{restarted}" ]; do sleep 0.1; done; exit $code; fi\nexec "{real}" "$@"\n'
    )
    program.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        restarted.touch()  # for `docker buildx version`
        make = Make(cached, "build")
        make.until("couplet.sh verify")
        restarted.unlink()
        second.kill()
        second.start()
        restarted.touch()
        code, said = make.end()
    assert code == 2 and "was stopped in the middle of this, and answers again" in said, said
    cached.make("build")
    is_good(cached)


# --- its disk is full ------------------------------------------------------------------------------

FULL = "Docker's disk is full (`docker system df`). Images and locks are as they were. `make docker-prune ALL=1` makes room"
LEFT = re.compile(r"Docker's disk has \d+ MB left.*`make docker-prune ALL=1` makes room on it\.\n")


@pytest.mark.parametrize("left", [20_000_000, 500_000])
def test_a_disk_that_is_full_in_a_step(second, cached, left):
    """pip takes it for a network that fails, Python for a missing folder: so the step itself says what room there is."""
    touch(cached, ".couplet/couplet/install/conda.py")
    locks, image = cached.locks(), second.image(cached.runtime)
    if left < 1_000_000:
        # something old in the cache, as there is on a disk that has filled up: else there is no more room than the build takes
        old = f"FROM {images.DEBIAN}\nRUN head -c 500000000 /dev/zero > /{uuid.uuid4()}\n"
        subprocess.run(
            ["docker", "buildx", "build", "--output", "type=cacheonly", "-"],
            input=old,
            text=True,
            check=True,
            capture_output=True,
        )
    second.fill(left)
    said = cached.make("build", fails=True).output
    # with half a megabyte it can be the copy of the helpers already that finds no room: then Docker says so itself
    named = LEFT.search(said)
    assert named or (left < 1_000_000 and FULL in said), said[-3000:]
    assert (cached.locks(), second.image(cached.runtime)) == (locks, image)
    if left > 1_000_000:
        # the negative control: without our own words it is pip's broken connection
        edit(cached, ".couplet/couplet/errors.py", "LITTLE_ROOM = 1_000_000_000", "LITTLE_ROOM = 0")
        assert "MB left" not in cached.make("build", fails=True).output
        edit(cached, ".couplet/couplet/errors.py", "LITTLE_ROOM = 0", "LITTLE_ROOM = 1_000_000_000")
        second.room()
    else:
        # the way out that the message names, on the disk as it is
        cached.make("docker-prune", "ALL=1")
    cached.make("build")
    is_good(cached)


def test_a_disk_that_is_full_in_the_export(second, cached):
    """With a little room left: the engine itself dies of a disk that is full to the last byte, and is told as one that stopped."""
    touch(cached, ".couplet/couplet/install/conda.py")
    to_cache(cached)
    image = second.image(cached.runtime)
    second.fill(200_000)
    said = cached.make("build", fails=True).output
    assert "exporting" in said and "no space left on device" in said and FULL in said, said[-3000:]
    assert second.image(cached.runtime) == image
    # on a terminal nothing can be heard, and the disk itself is looked at
    make = f'cd "$1" && exec make --no-print-directory IMAGE={cached.images} build'
    with Session([*second.inside, "sh", "-c", make, "sh", str(cached.path)]) as terminal:
        assert FULL in re.sub(r"\s+", " ", terminal.until(r"Error \d"))
    # the negative control: without our own words it is a path in BuildKit's
    script = cached.path / ".couplet/host/docker-build.sh"
    whole = script.read_text()
    assert whole.count('    explain "$@" >&2\n') == 1
    script.write_text(whole.replace('    explain "$@" >&2\n', "    :\n"))
    assert "docker-prune" not in cached.make("build", fails=True).output
    script.write_text(whole)
    second.room()
    cached.make("build")
    assert second.image(cached.runtime) != image
    is_good(cached)


def test_a_disk_that_is_full_while_locking(second, project):
    another_package(project)
    touch(project, ".couplet/pins/poetry.txt")
    locks = project.locks()
    second.fill(1_000_000)
    said = project.make("env-update", fails=True).output
    # where the packages of the tools are not in pip's cache, it is that step that finds no room and says so
    assert FULL in said or LEFT.search(said), said[-3000:]
    assert "The locks could not be made; no file was replaced." in said
    assert project.locks() == locks and leftovers(project) == []
    second.room()
    project.make("env-update")
    assert check(project).returncode == 0 and project.locks() != locks


# --- a private engine that was killed is started anew -------------------------------------------------


def test_what_a_killed_build_left_mounted_is_let_go_before_a_start(second, cached):
    """Or the next engine deletes layers through the mounts, and its collector takes mounted ones away."""
    touch(cached, ".couplet/couplet/install/conda.py")
    make = Make(cached, "build")
    make.until("install-conda")
    second.kill()
    make.end()
    assert mounted(second) != [], "the negative control: without settle they stay"
    assert "damaged" not in second.settle() and mounted(second) == []
    second.start()
    # what was built before is there as it was
    assert "CACHED" in cached.make("build").output
    is_good(cached)


def mounted(second: victim.Victim) -> list[str]:
    """What is mounted below the data of the second engine, as its namespace sees it."""
    shown = subprocess.run([*second.inside, "cat", "/proc/1/mounts"], capture_output=True, text=True, check=True).stdout
    return [line for line in shown.splitlines() if f" {second.data}/" in line]


LOSE = """
import collections, os, pathlib, re, shutil, sys
layers = pathlib.Path(sys.argv[1], "overlay2")
below = [os.readlink(layers / link).split("/")[1] for file in layers.glob("*/lower") for link in file.read_text().split(":")]
[(lost, _)] = collections.Counter(name for name in below if re.fullmatch(sys.argv[2], name)).most_common(1)
shutil.rmtree(layers / lost)
"""
"""Deletes the layer of a kind on which most others lie: a base image's has a name of 64 digits, a step's one of 25."""


@pytest.mark.parametrize(("kind", "name"), [("a base image's", r"\w{64}"), ("a step's", r"\w{25}")])
def test_an_engine_that_has_lost_a_layer_begins_anew(second, cached, monkeypatch, kind, name):
    image = second.image(cached.runtime)
    second.kill()
    assert "damaged" not in second.settle(), "a whole one is left alone"
    second.start()
    assert second.image(cached.runtime) == image
    second.kill()
    subprocess.run([*second.inside, sys.executable, "-c", LOSE, str(second.data), name], check=True)
    second.start()
    touch(cached, ".couplet/couplet/install/conda.py")
    assert "no such file or directory" in cached.make("build", fails=True).output
    second.kill()
    said = second.settle()
    assert "the private engine's data is damaged (layer " in said and "starting with empty data" in said, said
    second.start()
    assert second.image(cached.runtime) == ""
    monkeypatch.undo()
    load_bases(second)
    monkeypatch.setenv("DOCKER_HOST", second.environment["DOCKER_HOST"])
    cached.make("build")
    is_good(cached)


# --- make and the client are killed ----------------------------------------------------------------


@pytest.mark.parametrize("whom", ["make", "make and all that it started", "the client"])
def test_a_kill_in_the_middle_of_a_build(second, cached, whom):
    touch(cached, ".couplet/couplet/install/verify.py")
    locks, image = cached.locks(), second.image(cached.runtime)
    make = Make(cached, "build")
    make.until("couplet.sh verify")
    if whom == "make":
        make.process.kill()
    elif whom == "the client":
        # docker and its plugin, of this make alone
        subprocess.run(["pkill", "-KILL", "--session", str(make.process.pid), "--exact", "docker|docker-buildx"], check=True)
    else:
        os.killpg(make.process.pid, signal.SIGKILL)
    if whom == "make":
        # what it started goes on, and may end beside the next
        assert make.process.wait() == -signal.SIGKILL
    else:
        code, said = make.end()
        assert second.image(cached.runtime) == image
        if whom == "the client":
            assert code == 2 and "The docker command was killed in the middle of this" in said, said
    assert cached.locks() == locks and leftovers(cached) == []
    cached.make("build")
    assert second.image(cached.runtime) != image
    is_good(cached)
    make.end()
