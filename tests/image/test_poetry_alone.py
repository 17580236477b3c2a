"""Poetry alone: a virtual environment, one Dockerfile of named stages, and the same promises without conda."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import uuid
from contextlib import contextmanager

import pytest

from tests.container.test_container import typed
from tests.container.test_entering import as_a_dev_container, compose
from tests.container.test_processes import ORPHAN, SECONDS, between_two_lines, stopped
from tests.container.test_users import layers
from tests.harness import checks, container, template
from tests.harness.container import derived, docker, mirrors, running
from tests.harness.locks import check, edit, left, restamp
from tests.harness.project import Done, Project
from tests.harness.soak import some
from tests.mirror import images


def build(project: Project, stage: str, *options: str, fails: bool = False, **variables: str) -> Done:
    """Build one stage by the project's own script; its output says what was cached."""
    if "--tag" not in options:
        # nobody looks at the image: none is made
        options = ("--output=type=cacheonly", *options)
    done = subprocess.run(
        [".couplet/host/docker-build.sh", "--progress=plain", "--target", stage, *options], cwd=project.path,
        env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert bool(done.returncode) == fails, done.stdout[-6000:]
    return Done(done.returncode, done.stdout)


@contextmanager
def stage(project: Project, name: str, *options: str):
    """One stage as an image of its own."""
    image = f"{project.images}:stage-{name}"
    build(project, name, "--tag", image, *options)
    try:
        yield image
    finally:
        docker("image", "rm", "--force", image)


def user_of(image: str) -> tuple[str, list[str]]:
    """Return an image's user and command."""
    config = json.loads(docker("image", "inspect", image).stdout)[0]["Config"]
    return config["User"], config["Cmd"]


# --- stages ----------------------------------------------------------------------------------------


def test_os_base_is_a_slim_python_that_does_not_buffer(without_conda):
    with stage(without_conda, "os-base") as image:
        assert container.run(image, "python", "--version").startswith(f"Python {without_conda.minor}.")
        for name in ("poetry", "uv", "gcc"):
            assert docker("run", "--rm", image, "sh", "-c", f"command -v {name}", check=False).code
        assert between_two_lines(image) > 0.9
        assert between_two_lines(image, "--env", "PYTHONUNBUFFERED=") < 0.9, (
            "the negative control: buffered, both come at the end"
        )


def test_poetry_base_has_the_pinned_poetry_and_no_environment(without_conda):
    pinned = re.search(r"^poetry==(\S+)", (without_conda.path / ".couplet/pins/poetry.txt").read_text(), re.M)[1]
    with stage(without_conda, "poetry-base") as image:
        assert pinned in container.run(image, "poetry", "--version", "--no-ansi")
        where = container.run(image, "sh", "-c", "command -v poetry; ls /opt").split()
        assert where == ["/opt/poetry/bin/poetry", "poetry"]


def test_a_poetry_that_is_not_the_pinned_one_fails_the_build(without_conda, copy_of):
    project = copy_of(without_conda)
    pins = project.path / ".couplet/pins/poetry.txt"
    text = pins.read_text()
    start = text.index("\npoetry==")
    pins.write_text(text[:start] + re.sub(r"sha256:\w{8}", "sha256:00000000", text[start:]))
    assert "hash" in build(project, "poetry-base", fails=True).output.lower()


@pytest.mark.parametrize("folder", some(["/opt/app", "/srv/snow depth"], "/srv/snow depth"))
def test_app_base_holds_the_project_where_appdir_says(without_conda, folder):
    code = f"import {without_conda.package} as p, os; print(os.path.dirname(p.__file__)); print(os.getcwd())"
    program = without_conda.package.replace("_", "-")
    with stage(without_conda, "app-base", "--build-arg", f"APPDIR={folder}") as image:
        assert container.run(image, "python", "-c", code).splitlines() == [f"{folder}/src/{without_conda.package}", folder]
        assert f"computed in {without_conda.prefix}" in container.run(image, program)
        assert "pandas" in container.run(image, "poetry", "show", "--no-ansi")
        assert user_of(image) == ("1000:1000", ["bash"])
        with running(image) as host:
            assert checks.poetry_lock(host, without_conda, {"main"}) == []
            assert host.file("/opt/app").exists == (folder == "/opt/app")


def test_appdir_moves_the_project_in_runtime_too(without_conda):
    code = f"import {without_conda.package} as p; print(p.__file__)"
    with stage(without_conda, "runtime", "--build-arg", "APPDIR=/srv/app") as image:
        assert container.run(image, "python", "-c", code).startswith("/srv/app/src/")
        assert "computed in" in container.run(image)
    refused = build(without_conda, "runtime", "--build-arg", "APPDIR=srv/app", fails=True)
    assert "APPDIR is a whole path" in refused.output


def test_main_stays_up_reaps_and_stops_at_once(without_conda):
    with stage(without_conda, "main") as image:
        assert user_of(image)[1] == ["sleep", "infinity"]
        name = docker("run", "--detach", image).stdout.strip()
        try:
            assert container.docker("exec", name, "python", "-c", ORPHAN).stdout.strip() == "zombies 0"
            assert "computed in" in docker("exec", name, without_conda.package.replace("_", "-")).stdout
            assert docker("inspect", "--format", "{{.State.Running}}", name).stdout.strip() == "true"
            began = time.monotonic()
            docker("stop", name)
            assert time.monotonic() - began < SECONDS
            assert docker("inspect", "--format", "{{.State.ExitCode}}", name).stdout.strip() == "143"
        finally:
            docker("rm", "--force", name)
        # the negative control: the way of many a tutorial, where a shell is the first process
        with derived(image, "ENTRYPOINT []\nCMD tail -f /dev/null & wait; true") as tutorial:
            name = docker("run", "--detach", tutorial).stdout.strip()
            began = time.monotonic()
            docker("stop", "--time", "3", name)
            assert time.monotonic() - began > 2.5
            docker("rm", "--force", name)


def test_the_copier_stage_can_update(without_conda):
    with stage(without_conda, "copier", "--file", ".couplet/tasks.Dockerfile") as image:
        options = ("--entrypoint", "sh", "--user", "4321:4321")
        shown = container.run(image, "-c", "copier --version; git --version; git config safe.directory", options=options)
        pinned = re.search(r"^copier==(\S+)", (without_conda.path / ".couplet/pins/copier.txt").read_text(), re.M)[1]
        assert f"copier {pinned}" in shown and "git version 2." in shown and shown.splitlines()[-1] == "*"


# --- layers ----------------------------------------------------------------------------------------

LAYERS = ("poetry-packages 2/2", "env 1/1", "project 4/4", "poetry-base 1/1")


def cached(output: str) -> dict[str, bool]:
    """Return {step: whether it came from the cache} of a build's plain output; the base image is no step."""
    steps = dict(re.findall(r"^#(\d+) \[([\w-]+ \d+/\d+)\] (?!FROM)", output, re.M))
    return {name: f"\n#{number} CACHED" in output for number, name in steps.items()}


def test_an_edit_of_the_code_rebuilds_the_layer_of_the_code_alone(without_conda, copy_of):
    project = copy_of(without_conda)
    build(project, "runtime")  # an engine that is short of room gives up layers; what it gave up is no fault of the edit
    with (project.path / "src" / project.package / "analysis.py").open("a") as code:
        code.write(f"\n# edit {uuid.uuid4()}\n")  # never the same twice: an engine that has run this test has the layer
    steps = cached(build(project, "runtime").output)
    built = [name for name, was_cached in steps.items() if not was_cached]
    # the code, and the look for it, which writes nothing
    assert len(built) == 2 and all(name.startswith("runtime ") for name in built), steps
    # the negative control: another lock makes the environment anew, and Poetry's own layer stays; so does the project's, where the
    # new environment holds what the old one did
    lock = project.path / "poetry.lock"
    lock.write_text(lock.read_text() + f"\n# edit {uuid.uuid4()}\n")
    restamp(project)
    steps = cached(build(project, "app-base").output)
    assert {name: steps[name] for name in LAYERS} == {
        "poetry-packages 2/2": False, "env 1/1": False, "project 4/4": True, "poetry-base 1/1": True,
    }  # fmt: skip


CACHED_THINGS = re.compile(r"(^|/)\.cache/|\.whl$|^/tmp/.|^/var/lib/apt/lists/\S*_|pypoetry|__pycache__/.*\.tmp")


@pytest.mark.parametrize("kind", ["runtime", "dev"])
def test_no_layer_holds_a_cache(without_conda, kind):
    """Not even one that a later layer deletes."""
    images = (getattr(without_conda, kind), without_conda.runtime, without_conda.dev)
    found = [path for layer in layers(*images) for path in layer if CACHED_THINGS.search(path)]
    assert [path for path in found if "/ensurepip/" not in path and "/site-packages/" not in path] == []


def test_a_cache_that_a_later_layer_deletes_is_seen(sources):
    """The negative control: `poetry install`, and the cache deleted one RUN too late."""
    late = "USER root\nRUN mkdir -p /root/.cache/pypoetry && touch /root/.cache/pypoetry/x\nRUN rm -rf /root/.cache"
    with derived(images.DEBIAN, late) as image:
        found = [path for layer in layers(image) for path in layer if CACHED_THINGS.search(path)]
        assert "/root/.cache/pypoetry/x" in found


def test_runtime_imports_without_compiling_anything(without_conda):
    """The slim base has no .pyc files; a user who is not root could write none."""
    name = docker(
        "run", "--detach", "--user", "0", without_conda.runtime, "python", "-c", "import asyncio, pandas"
    ).stdout.strip()
    assert docker("wait", name).stdout.strip() == "0"
    assert not re.findall(r"^A \S+\.pyc$", docker("diff", name).stdout, re.M)
    docker("rm", name)
    # the negative control
    with derived(without_conda.runtime, "USER root\nRUN rm -r /usr/local/lib/python3.*/asyncio/__pycache__") as image:
        name = docker("run", "--detach", "--user", "0", image, "python", "-c", "import asyncio").stdout.strip()
        docker("wait", name)
        assert re.findall(r"^A \S+/asyncio/\S+\.pyc$", docker("diff", name).stdout, re.M)
        docker("rm", name)


# --- the lock is what is in the image --------------------------------------------------------------


def test_a_tampered_hash_fails_the_build(without_conda, copy_of):
    project = copy_of(without_conda)
    lock = project.path / "poetry.lock"
    head, name, rest = lock.read_text().partition('name = "python-dateutil"')
    package, end, others = rest.partition("[[package]]")
    lock.write_text(head + name + re.sub(r"sha256:\w{8}", "sha256:00000000", package) + end + others)
    # a hand that edits the lock is seen by make; one that knows of the stamp, by the hashes
    assert "cut short, edited by hand" in project.make("build", fails=True).output
    restamp(project)
    shown = project.make("build", fails=True).output
    assert (
        "ERROR: a downloaded file has another hash than poetry.lock says" in shown
        and "tampered" in shown
        and "Traceback" not in shown
    )


def test_docker_build_without_make_refuses_a_stale_lock(without_conda, copy_of):
    project = copy_of(without_conda)
    edit(project, "pyproject.toml", '"pandas>=2.2",', '"pandas>=2.2",\n    "tqdm",')
    done = build(project, "runtime", fails=True)
    assert "pyproject.toml has changed since poetry.lock was made" in done.output


def test_poetry_bears_the_stamp_and_a_lock_of_its_own_is_seen(without_conda, copy_of):
    project = copy_of(without_conda)
    mounted = ("--volume", f"{project.path}:/work", "--user", f"{os.getuid()}:{os.getgid()}")
    assert "All set!" in container.run(without_conda.dev, "poetry", "check", "--lock", "--no-ansi", options=mounted)
    # what `poetry add` leaves: the same lock without a stamp
    lock = project.path / "poetry.lock"
    lock.write_text(re.sub(r"^# stamp .*\n", "", lock.read_text(), flags=re.M))
    asked = check(project)
    assert asked.returncode == 1 and "written by Poetry alone" in asked.stderr
    project.make("env-update")
    assert project.locks() == without_conda.locks()


def test_pkg_moves_that_package_and_no_other(without_conda, copy_of):
    project = copy_of(without_conda)
    edit(project, "pyproject.toml", '"pandas>=2.2",', '"pandas>=2.2",\n    "tabulate==0.9.0",\n    "tqdm==4.66.1",')
    shown = project.make("env-update").output
    assert re.search(r"tabulate\s+- -> 0\.9\.0\s+Poetry", shown)
    edit(project, "pyproject.toml", '"tabulate==0.9.0",\n    "tqdm==4.66.1",', '"tabulate>=0.9.0",\n    "tqdm>=4.66.1",')
    before = checks.locked_by_poetry(project, {"main", "dev"})
    assert "no package changed version" in project.make("env-update").output, "a wider range moves nothing"
    project.make("env-update", "PKG=tqdm")
    after = checks.locked_by_poetry(project, {"main", "dev"})
    assert {name for name in after if before.get(name) != after[name]} == {"tqdm"}
    project.make("env-update", "ALL=1")
    assert checks.locked_by_poetry(project, {"main"})["tabulate"] != "0.9.0"
    shown = project.make("env-update", "PKG=no-such", fails=True).output
    assert "PKG: no-such: not in the locks" in shown


def test_a_conflict_is_explained_and_the_old_lock_stays(without_conda, copy_of):
    project = copy_of(without_conda)
    before = project.locks()["poetry.lock"]
    edit(project, "pyproject.toml", '"pandas>=2.2",', '"pandas>=2.2",\n    "python-dateutil<2",')
    shown = project.make("env-update", fails=True).output
    assert "ERROR: Poetry could not lock pyproject.toml" in shown and "python-dateutil" in shown and "Traceback" not in shown
    assert "no file was replaced" in shown and project.locks()["poetry.lock"] == before


def test_without_a_network_the_old_lock_stays(without_conda, copy_of, tmp_path):
    project = copy_of(without_conda)
    edit(project, "pyproject.toml", '"pandas>=2.2",', '"pandas>=2.2",\n    "tabulate",')
    before = project.locks()
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = http://127.0.0.1:1/simple\n")
    shown = project.make("env-update", fails=True, PIP_CONFIG_FILE=str(tmp_path / "pip.conf")).output
    assert "The locks could not be made; no file was replaced" in shown and "Traceback" not in shown
    assert project.locks() == before and left(project) == []


# --- entry points -----------------------------------------------------------------------------------------

ASK = "import os, sys; print(sys.prefix, os.environ.get('VIRTUAL_ENV'))"
SHELL = f'python -c "{ASK}"'
ENTRY_POINTS = {
    "docker run command": ((), ("python", "-c", ASK)),
    "bash -lc": ((), ("bash", "-lc", SHELL)),
    "sh -c": ((), ("sh", "-c", SHELL)),
    "a CI job without the entry point": (("--entrypoint", ""), ("python", "-c", ASK)),
    "a CI job in /bin/sh": (("--entrypoint", "/bin/sh"), ("-c", SHELL)),
    "an unknown user": (("--user", "12345:6789"), ("bash", "-lc", SHELL)),
}
EXEC = {
    "docker exec python": ("python", "-c", ASK),
    "docker exec of the version's own name": ("python3.13", "-c", ASK),
    "docker exec bash -c": ("bash", "-c", SHELL),
    "docker exec bash -ic": ("bash", "-ic", SHELL),
    "docker exec /bin/sh -c": ("/bin/sh", "-c", SHELL),
    "cron: an empty environment": ("env", "-i", "/bin/sh", "-c", SHELL),
    "cron: its own PATH": ("env", "-i", "PATH=/usr/bin:/bin", "/bin/sh", "-c", f"/usr/local/sbin/{SHELL}"),
    "su": ("env", "-i", "HOME=/root", "USER=root", "/bin/bash", "-lc", SHELL),
}


@pytest.mark.parametrize("kind", ["runtime", "dev"])
def test_the_environment_is_active_at_every_entry_point(without_conda, kind):
    image, expected = getattr(without_conda, kind), f"{without_conda.prefix} {without_conda.prefix}"
    for entry, (options, command) in ENTRY_POINTS.items():
        assert docker("run", "--rm", *options, image, *command).stdout.strip() == expected, entry
    with running(image) as host:
        for entry, command in EXEC.items():
            assert docker("exec", host.backend.name, *command).stdout.strip() == expected, entry
        # a variable asked for past every script: it stands in the image itself
        shown = docker("exec", host.backend.name, "/bin/sh", "-c", "echo $VIRTUAL_ENV").stdout.strip()
        assert shown == without_conda.prefix


def test_no_entry_point_is_active_without_the_scripts(without_conda):
    """The negative control: the image's variables and the scripts taken away, which leaves the base's Python."""
    change = (
        "USER root\nRUN : > /opt/activation/activate.sh && rm /etc/profile.d/activate.sh /usr/local/sbin/*"
        "\nENV VIRTUAL_ENV= ACTIVATED_PREFIX= PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    )
    expected = f"{without_conda.prefix} {without_conda.prefix}"
    with derived(without_conda.runtime, change) as image:
        for entry, (options, command) in ENTRY_POINTS.items():
            assert docker("run", "--rm", *options, image, *command, check=False).stdout.strip() != expected, entry
        with running(image) as host:
            for entry, command in EXEC.items():
                assert docker("exec", host.backend.name, *command, check=False).stdout.strip() != expected, entry


def test_an_environment_of_ones_own_stays_in_front(without_conda):
    script = "python -m venv /tmp/try && . /tmp/try/bin/activate && bash -c 'python -c \"import sys; print(sys.prefix)\"'"
    assert container.run(without_conda.runtime, "bash", "-c", script).strip() == "/tmp/try"


def test_compose_is_active(without_conda):
    run = ("run", "--rm", "--no-TTY")
    for service in ("app", "dev"):
        assert compose(without_conda, *run, service, "python", "-c", ASK).split() == [without_conda.prefix] * 2
    compose(without_conda, "down", "--remove-orphans")


@pytest.mark.soak
def test_a_dev_container_is_active(without_conda):
    settings = json.loads((without_conda.path / ".devcontainer/devcontainer.json").read_text())
    shown = as_a_dev_container(without_conda, settings)
    assert f"VIRTUAL_ENV={without_conda.prefix}\n" in shown and "HOME=/home/app\n" in shown


def test_the_prompt_of_docker_run_it_shows_the_environment_and_ctrl_c_works(without_conda):
    command = ["docker", "run", "--rm", "-it", without_conda.runtime, "bash"]
    shown = typed(command, [SHELL.replace("print(", "print('at', "), "exit"], until=f"at {without_conda.prefix} ")
    assert f"({without_conda.package}) " in shown and "job control" not in shown, shown


def test_a_shell_in_front_ends_with_its_children(without_conda):
    """PID 1 hands a signal to the whole group."""
    taken, code, _ = stopped(without_conda.runtime, "sh", "-c", "echo ready; sleep 600; true", until="ready")
    assert taken < SECONDS and code == 143


# --- habits in dev ---------------------------------------------------------------------------------


def test_poetry_adds_into_the_environment_and_pip_refuses(without_conda, copy_of):
    project = copy_of(without_conda)
    pip = docker("run", "--rm", without_conda.dev, "pip", "install", "tabulate", check=False)
    assert pip.code and "poetry add PACKAGE" in pip.output
    mounted = ("--volume", f"{project.path}:/work", "--group-add", "0", "--user", f"{os.getuid() or 4321}:4321", *mirrors())
    for path in (project.path, *project.path.glob("p*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    script = "export POETRY_NO_INTERACTION=1; poetry add --no-ansi tabulate && python -c 'import tabulate'"
    shown = container.run(without_conda.dev, "bash", "-c", script, options=mounted)
    assert re.search(r"Installing tabulate", shown)
    assert "written by Poetry alone" in check(project).stderr
    project.make("env-update")
    assert check(project).returncode == 0 and "tabulate" in checks.locked_by_poetry(project, {"main"})


# --- the answer ------------------------------------------------------------------------------------


def test_nothing_of_condas_is_rendered_without_it(render):
    project = render(environment="poetry", devcontainer=True)
    # the package knows both environments, and what is told of files by their names names all locks
    shared = {"renovate.json", ".github/workflows/audit.yml", ".couplet/couplet.sh", ".couplet/README.md"}
    about = {
        str(path.relative_to(project.path))
        for path in project.path.rglob("*")
        if path.is_file() and re.search(r"/opt/conda|environment\.yml|conda-lock|miniforge|condarc", path.read_text())
    }
    assert {name for name in about if not name.startswith((".couplet/couplet/", ".couplet/host/"))} <= shared
    assert not project.conda
    assert "miniforge" in (render("other").path / "Dockerfile").read_text(), "the negative control"


def test_the_platforms_question_is_not_recorded_where_one_lock_fits_all(template_repository, tmp_path):
    path = template.render(template_repository, tmp_path / "project", {"project_name": "Ice", "environment": "poetry"})
    answers = (path / ".copier-answers.yml").read_text()
    assert "environment: poetry" in answers and "platforms" not in answers
