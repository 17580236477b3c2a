"""Entry points: the environment is active however a container is entered, the variables of activate.d included.

The project here has udunits2, whose activation script exports UDUNITS2_XML_PATH: that variable can only
come from an activation, while a PATH alone would find the right Python.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time

import pytest
import yaml

from bench import start
from tests.container.test_container import typed
from tests.harness import container
from tests.harness.container import derived, docker, running
from tests.harness.project import Project

ASK = "import os, sys; print(sys.prefix, os.environ.get('CONDA_PREFIX'), os.environ.get('UDUNITS2_XML_PATH'))"
SHELL = f'python -c "{ASK}"'


def through(project: Project) -> str:
    """What ASK prints where the environment is active."""
    return f"{project.prefix} {project.prefix} {project.prefix}/share/udunits/udunits2.xml"


ENTRY_POINTS = {
    # name: (options of `docker run`, command); the image goes between
    "docker run command": ((), ("python", "-c", ASK)),
    "bash -c": ((), ("bash", "-c", SHELL)),
    "bash -lc": ((), ("bash", "-lc", SHELL)),
    "sh -c": ((), ("sh", "-c", SHELL)),
    "a CI job without the entry point": (("--entrypoint", ""), ("python", "-c", ASK)),
    "a CI job in bash": (("--entrypoint", "bash"), ("-c", SHELL)),
    "a CI job in /bin/sh": (("--entrypoint", "/bin/sh"), ("-c", SHELL)),
    "a CI job that types into sh": (("--entrypoint", "sh", "--interactive"), ()),
}
EXEC = {
    "docker exec python": ("python", "-c", ASK),
    "docker exec bash -c": ("bash", "-c", SHELL),
    "docker exec bash -lc": ("bash", "-lc", SHELL),
    "docker exec bash -ic": ("bash", "-ic", SHELL),
    "docker exec sh -c": ("sh", "-c", SHELL),
    "docker exec /bin/sh -c": ("/bin/sh", "-c", SHELL),
    "docker exec /bin/bash -c": ("/bin/bash", "-c", SHELL),
    "cron: an empty environment": ("env", "-i", "/bin/sh", "-c", SHELL),
    "cron: its own PATH": ("env", "-i", "PATH=/usr/bin:/bin", "/bin/sh", "-c", f"/usr/local/bin/{SHELL}"),
    "su": ("env", "-i", "HOME=/root", "USER=root", "/bin/bash", "-lc", SHELL),
}


@pytest.fixture(scope="module")
def inside(scripted):
    """A running container of each image."""
    with running(scripted.runtime) as runtime, running(scripted.dev) as dev:
        yield {"runtime": runtime.backend.name, "dev": dev.backend.name}


@pytest.mark.parametrize("kind", ["runtime", "dev"])
@pytest.mark.parametrize("entry", ENTRY_POINTS)
def test_docker_run_is_active(scripted, kind, entry):
    options, command = ENTRY_POINTS[entry]
    stdin = SHELL + "\n" if "--interactive" in options else None
    done = docker("run", "--rm", *options, getattr(scripted, kind), *command, stdin=stdin)
    assert done.stdout.strip() == through(scripted)


@pytest.mark.parametrize("kind", ["runtime", "dev"])
@pytest.mark.parametrize("entry", EXEC)
def test_docker_exec_is_active(scripted, inside, kind, entry):
    assert docker("exec", inside[kind], *EXEC[entry]).stdout.strip() == through(scripted)


@pytest.fixture(scope="module")
def without(scripted):
    """The runtime image with its activation emptied."""
    with derived(scripted.runtime, "USER root\nRUN : > /opt/activation/activate.sh && : > /opt/activation/static.sh") as image:
        yield image


def test_no_entry_point_is_active_without_the_activation(scripted, without):
    """The negative control of both: the same commands, with the activation taken out of the image."""
    for entry, (options, command) in ENTRY_POINTS.items():
        stdin = SHELL + "\n" if "--interactive" in options else None
        done = docker("run", "--rm", *options, without, *command, stdin=stdin, check=False)
        assert done.stdout.strip() != through(scripted), entry
    with running(without) as host:
        for entry, command in EXEC.items():
            done = docker("exec", host.backend.name, *command, check=False)
            assert done.stdout.strip() != through(scripted), entry


def test_no_activate_opts_out(scripted, inside):
    """Of the activation, and not of PATH: the environment's Python is still there."""
    expected = f"{scripted.prefix} None None"
    for options, command in ENTRY_POINTS.values():
        if "--interactive" not in options:
            done = docker("run", "--rm", "--env", "NO_ACTIVATE=1", *options, scripted.runtime, *command)
            assert done.stdout.strip() == expected, command
    for entry in ("docker exec python", "docker exec bash -c", "docker exec bash -lc", "docker exec sh -c"):
        done = docker("exec", "--env", "NO_ACTIVATE=1", inside["runtime"], *EXEC[entry])
        assert done.stdout.strip() == expected, entry


def test_docker_exec_of_any_program_of_the_environment_is_active(scripted, inside):
    """f2py is a Python script, udunits2 a compiled program that finds its units by the variable alone."""
    name = inside["runtime"]
    assert docker("exec", name, "f2py", "-v").stdout.strip()[0].isdigit()
    convert = ("udunits2", "-H", "km", "-W", "m")
    assert "1 km = 1000 m" in docker("exec", name, *convert).stdout
    assert docker("exec", "--env", "NO_ACTIVATE=1", name, *convert, check=False).code, (
        "the negative control: it needs the variable"
    )
    programs = docker("exec", name, "ls", f"{scripted.prefix}/bin").stdout.split()
    found = docker("exec", name, "sh", "-c", "PATH=/usr/local/bin; for p; do command -v $p; done", "-", *programs).stdout
    assert found.split() == [f"/usr/local/bin/{program}" for program in programs]


def test_the_prompt_of_docker_run_it_shows_the_environment(scripted):
    for kind in (scripted.runtime, scripted.dev):
        until = f"at {through(scripted)}\r\n"
        command = ["docker", "run", "--rm", "-it", kind, "bash"]
        shown = typed(command, [SHELL.replace("print(", "print('at', "), "exit"], until=until)
        assert f"({scripted.package}) " in shown and until in shown, shown
    command = ["docker", "run", "--rm", "-it", "--env", "NO_ACTIVATE=1", scripted.runtime, "bash"]
    shown = typed(command, [SHELL.replace("print(", "print('at', "), "exit"], until=f"at {scripted.prefix} None")
    assert f"({scripted.package}) " not in shown, shown


def test_a_health_check_is_active(scripted):
    """Docker runs it by /bin/sh -c in an environment of its own, past the entry point."""
    check = "python -c \"import os; os.stat(os.environ['UDUNITS2_XML_PATH'])\""
    options = ("--health-cmd", check, "--health-interval", "1s", "--health-retries", "1")
    for more, expected in (((), "healthy"), (("--env", "NO_ACTIVATE=1"), "unhealthy")):
        with running(scripted.runtime, *options, *more) as host:
            deadline, status = time.monotonic() + 30, "starting"
            while status == "starting" and time.monotonic() < deadline:
                time.sleep(0.2)
                status = docker("inspect", "--format", "{{.State.Health.Status}}", host.backend.name).stdout.strip()
        assert status == expected


def test_conda_activate_works_in_runtime_and_other_sub_commands_say_what_it_is(scripted):
    entry = ". /opt/conda/etc/profile.d/conda.sh; conda {}"
    bare = ("--env", "NO_ACTIVATE=1", "--entrypoint", "/bin/sh")
    shown = container.run(scripted.runtime, "-c", f"{entry.format('activate ' + scripted.package)} && {SHELL}", options=bare)
    assert shown.strip() == through(scripted)
    for words in ("install numpy", "list", "deactivate"):
        refused = docker("run", "--rm", *bare, scripted.runtime, "-c", entry.format(words), check=False)
        assert refused.code == 1 and "holds the environment and not conda" in refused.output and "make shell" in refused.output
    # in dev there is a conda, and it is the real one
    assert "udunits2" in container.run(scripted.dev, "bash", "-ic", f"conda list -n {scripted.package}")


# --- other tools ------------------------------------------------------------------------------------


def compose(project: Project, *words: str, fails: bool = False, **variables: str) -> str:
    done = subprocess.run(
        ["docker", "compose", *words], cwd=project.path, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        env={**os.environ, "IMAGE": project.images, **variables},
    )  # fmt: skip
    assert bool(done.returncode) == fails, done.stdout + done.stderr
    return done.stdout


def test_docker_compose_run_is_active_and_writes_as_who_asks(scripted):
    me = {"HOST_UID": "4321", "HOST_GID": "4321"}
    folder = scripted.path / "notebooks"
    os.chown(folder, 4321, 4321)
    try:
        for service in ("app", "dev"):
            run = ("run", "--rm", "--no-TTY")
            assert compose(scripted, *run, service, "python", "-c", ASK).strip() == through(scripted)
            file = folder / f"written-by-{service}"
            compose(scripted, *run, service, "touch", f"/work/notebooks/{file.name}", **me)
            assert (file.stat().st_uid, file.stat().st_gid) == (4321, 4321)
            file.unlink()
            # the negative control: without saying who asks, the image's user 1000 may not write there
            compose(scripted, *run, service, "touch", f"/work/notebooks/{file.name}", fails=True)
    finally:
        os.chown(folder, os.getuid(), os.getgid())
        compose(scripted, "down", "--remove-orphans")


def as_a_dev_container(project: Project, settings: dict) -> str:
    """Do what an editor does with devcontainer.json: initialise, build, run, enter. Returns the environment that it sees.

    Raises AssertionError where the user of the container can write no file in the project, or git does not take it for its own.
    """
    folder = project.path / ".devcontainer"
    subprocess.run(["sh", "-c", f"{settings['initializeCommand']} IMAGE={project.images}"], cwd=project.path, check=True,
                   capture_output=True)  # fmt: skip
    build = settings["build"]
    image = f"{project.images}:devcontainer"
    docker("buildx", "build", "--quiet", "--file", str(folder / build["dockerfile"]), "--target", build["target"],
           "--tag", image, str(folder / build["context"]), timeout=600)  # fmt: skip
    mount = settings["workspaceMount"].replace("${localWorkspaceFolder}", str(project.path))
    loop = "while sleep 1 & wait $!; do :; done"
    variables = [f"--env={key}={value}" for key, value in settings.get("containerEnv", {}).items()]
    name = docker(
        "run", "--detach", "--mount", mount, *settings["runArgs"], *variables, "--entrypoint", "/bin/sh", image, "-c", loop
    ).stdout
    try:
        enter = ("exec", "--user", settings["remoteUser"], "--workdir", settings["workspaceFolder"], name.strip())
        interpreter = settings["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
        assert docker(*enter, interpreter, "-c", "import numpy").code == 0
        shown = docker(*enter, "/bin/bash", "-lic", "env && ls")
        assert "pyproject.toml" in shown.stdout
        docker(*enter, "/bin/bash", "-lc", "touch src/written && rm src/written && if [ -d .git ]; then git status --short; fi")
        return shown.stdout
    finally:
        docker("rm", "--force", name.strip())
        docker("image", "rm", image)


def test_a_dev_container_is_active(scripted):
    settings = json.loads((scripted.path / ".devcontainer/devcontainer.json").read_text())
    shown = as_a_dev_container(scripted, settings)
    assert f"UDUNITS2_XML_PATH={scripted.prefix}/share/udunits/udunits2.xml" in shown
    assert "HOME=/home/app" in shown


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("initializeCommand", "make build-dev", "touch: cannot touch 'src/written': Permission denied"),
        ("containerEnv", {}, "dubious ownership"),
    ],
)
def test_a_dev_container_that_root_starts_needs_both(scripted, copy_of, key, value, words):
    """As on a cloud's machine, where the files are root's and the container's user is not."""
    project = copy_of(scripted)
    for path in (project.path, *project.path.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o022)
    subprocess.run(["git", "init", "--quiet", "."], cwd=project.path, check=True)
    settings = json.loads((project.path / ".devcontainer/devcontainer.json").read_text())
    assert "HOME=/home/app" in as_a_dev_container(project, settings)
    for path in (project.path, *project.path.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o022)
    with pytest.raises(AssertionError, match=words):
        as_a_dev_container(project, settings | {key: value})


DEVCONTAINERS = "@devcontainers/cli@0.89.0"


def devcontainers(project: Project, verb: str, *words: str) -> str:
    """Run the program that editors start dev containers with; returns what it prints. Needs Node.js, for npx."""
    command = ["npx", "--yes", DEVCONTAINERS, verb, "--workspace-folder", str(project.path), *words]
    done = subprocess.run(command, env={**os.environ, "IMAGE": project.images}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


@pytest.mark.soak
def test_the_dev_containers_command_line_starts_it_and_enters_it(scripted, copy_of):
    """The specification's own implementation, where the test above does by hand what it should do."""
    project = copy_of(scripted)
    subprocess.run(["git", "init", "--quiet", "."], cwd=project.path, check=True)
    label = f"label=devcontainer.local_folder={project.path}"
    try:
        up = json.loads(devcontainers(project, "up").splitlines()[-1])
        assert (up["outcome"], up["remoteUser"], up["remoteWorkspaceFolder"]) == ("success", "app", "/work")
        code = "import os, numpy; print(os.environ['UDUNITS2_XML_PATH'])"
        line = f'touch src/written && git status --short > /dev/null && python -c "{code}"'
        assert devcontainers(project, "exec", "bash", "-lc", line).strip() == f"{project.prefix}/share/udunits/udunits2.xml"
        assert (project.path / "src/written").exists()
    finally:
        names = docker("ps", "--all", "--quiet", "--filter", label).stdout.split()
        images = {docker("inspect", "--format", "{{.Image}}", name).stdout.strip() for name in names}
        docker("rm", "--force", *names)
        docker("image", "rm", "--force", *images, project.dev)


def test_a_dev_container_comes_only_where_it_was_asked_for(render):
    assert not (render("without").path / ".devcontainer").exists()
    settings = json.loads((render("with", devcontainer=True).path / ".devcontainer/devcontainer.json").read_text())
    dockerfile = (render("third").path / "Dockerfile").read_text()
    assert f" AS {settings['build']['target']}\n" in dockerfile


def test_compose_names_both_images(render):
    services = yaml.safe_load((render().path / "compose.yaml").read_text())["services"]
    assert {name: service["build"]["target"] for name, service in services.items()} == {"app": "runtime", "dev": "dev"}


# --- the recording, and when it is out of date -------------------------------------------------------


def test_a_fresh_image_starts_no_python_to_activate(scripted):
    """Conda's own Python taken away: what only sources the recording does not miss it, `conda activate` does."""
    with running(scripted.dev, "--user", "0") as host:
        name = host.backend.name
        docker("exec", name, "rm", "/opt/conda/bin/python")
        assert docker("exec", name, "python", "-c", ASK).stdout.strip() == through(scripted)
        # the negative control: a stale recording has to ask conda, whose Python is gone
        docker("exec", name, "touch", f"{scripted.prefix}/conda-meta/history")
        stale = docker("exec", name, "python", "-c", ASK, check=False)
        assert stale.stdout.strip() != through(scripted)


def test_conda_install_makes_the_recording_stale(with_conda):
    """A package with an activate.d script, installed from the channel into a running dev container."""
    wanted = f"{with_conda.prefix}/share/udunits/udunits2.xml"
    condarc = os.environ.get("CONDARC")
    options = ("--volume", f"{condarc}:/condarc:ro", "--env", "CONDARC=/condarc") if condarc else ()
    with running(with_conda.dev, *options) as host:
        name = host.backend.name
        assert docker("exec", name, "python", "-c", ASK).stdout.split()[1:] == [with_conda.prefix, "None"]
        install = ("conda", "install", "--yes", "--quiet", "--freeze-installed", "--name", with_conda.package, "udunits2")
        docker("exec", "--user", "0", name, *install, timeout=600)
        for command in (("python", "-c", ASK), ("bash", "-c", SHELL), ("sh", "-c", SHELL), ("bash", "-lc", SHELL)):
            assert docker("exec", name, *command).stdout.split()[1:] == [with_conda.prefix, wanted], command
        # the negative control: with the recording taken for fresh, the new variable would not be there
        docker("exec", "--user", "0", name, "touch", "/opt/activation/stamp")
        assert docker("exec", name, "python", "-c", ASK).stdout.split()[1:] == [with_conda.prefix, "None"]


def test_runtime_with_a_stale_recording_still_activates(scripted):
    """There is no conda to ask: the recording is the best there is."""
    with running(scripted.runtime, "--user", "0") as host:
        docker("exec", host.backend.name, "touch", f"{scripted.prefix}/conda-meta/history")
        assert docker("exec", host.backend.name, "python", "-c", ASK).stdout.strip() == through(scripted)


def test_an_activation_script_that_fails_stops_the_build(scripted, tmp_path):
    shutil.copytree(scripted.path, tmp_path / "copy")
    project = Project(tmp_path / "copy", f"{scripted.images}-copy")
    dockerfile = project.path / "Dockerfile"
    text = dockerfile.read_text()
    broken = f"FROM poetry-packages AS activation\nRUN echo 'exit 3' > {project.prefix}/etc/conda/activate.d/zz.sh\n"
    assert "FROM poetry-packages AS activation\n" in text
    dockerfile.write_text(text.replace("FROM poetry-packages AS activation\n", broken))
    shown = project.make("build", fails=True).output
    assert f"`conda activate {project.prefix}` failed (exit code 3)" in shown


MORE = r"""RUN printf '%s\n' 'module() {{ :; }}; export -f module' 'export ICE_HOME=/ice ICE_LEVEL="${{ICE_LEVEL:-info}}"' \
    'export ICE_DATA="$ICE_DATA:/data"' > {prefix}/etc/conda/activate.d/zz.sh
"""


def test_what_a_script_exports_is_recorded_as_it_means_it(scripted, tmp_path):
    """A function that bash hands on is no variable of sh's; what honours its user's value goes on to do so."""
    shutil.copytree(scripted.path, tmp_path / "copy")
    project = Project(tmp_path / "copy", f"{scripted.images}-more")
    line = "FROM poetry-packages AS activation\n"
    dockerfile = project.path / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text().replace(line, line + MORE.format(prefix=project.prefix)))
    project.make("build")
    show = 'echo "$ICE_HOME $ICE_LEVEL $ICE_DATA"'
    try:
        for shell in ("sh", "bash"):
            assert docker("run", "--rm", project.runtime, shell, "-c", show).stdout == "/ice info :/data\n"
            given = ("--env", "ICE_HOME=/mine", "--env", "ICE_LEVEL=debug", "--env", "ICE_DATA=/mine")
            shown = docker("run", "--rm", *given, project.runtime, shell, "-c", show)
            assert shown.stdout == "/ice debug /mine:/data\n" and shown.output == shown.stdout, (
                "nothing is said on standard error"
            )
    finally:
        docker("image", "rm", "--force", project.runtime)


@pytest.mark.alone
def test_activation_costs_a_tenth_of_conda_activate_at_most(scripted):
    """A ratio in one run, since a busy machine stretches all ways alike; the target in milliseconds is the benchmark's (bench/start.py)."""
    rows = {(row["measure"], row["system"]): row["min"] for row in start.rows(scripted.images, runs=20)}
    conda = rows["start_activated", "conda_sh_and_conda_activate"] - rows["start_bare", "couplet"]
    for entry in ("start", "exec"):
        bare = rows[f"{entry}_bare", "couplet"]
        assert rows[f"{entry}_activated", "couplet"] - bare < conda / 10
