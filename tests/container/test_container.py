"""Container: the environment is active at every entry point, and what is written belongs to who asked."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time

import pytest

from tests.harness import checks, container
from tests.harness.container import derived, running
from tests.harness.programs import in_front


def typed(command: list[str], lines: list[str], *, until: str, cwd=None, seconds: float = 60) -> str:
    """Type lines into a command on a terminal of its own, and return the screen's text."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, cwd=cwd, start_new_session=True)
    os.close(follower)
    text, deadline, waiting = "", time.monotonic() + seconds, list(lines)
    try:
        while time.monotonic() < deadline and until not in text:
            ready, _, _ = select.select([leader], [], [], 0.2)
            if ready:
                try:
                    text += os.read(leader, 4096).decode(errors="replace")
                except OSError:
                    break
            elif waiting and re.search(r"[$#] \x1b?[^\n]*$", text):
                os.write(leader, (waiting.pop(0) + "\n").encode())
    finally:
        # The rest is typed too (exit, say): a killed docker leaves its container behind.
        with contextlib.suppress(OSError):
            for line in waiting:
                os.write(leader, (line + "\n").encode())
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        os.close(leader)
    return text


def test_docker_run_is_active(every_built):
    assert checks.active(every_built.runtime, every_built) == []
    assert checks.active(every_built.dev, every_built) == []


@pytest.mark.one_variant
def test_a_removed_activation_is_seen(built):
    """The negative control: without its activation, the image fails the check."""
    # a virtual environment is active by the image's own variables
    bare = "" if built.conda else "\nENV VIRTUAL_ENV= PATH=/usr/local/bin:/usr/bin:/bin"
    with derived(built.runtime, f"USER root\nRUN : > /opt/activation/activate.sh{bare}") as image:
        assert checks.active(image, built)
    if built.conda:
        assert checks.active(built.runtime, built, "--env", "NO_ACTIVATE=1")


def test_docker_run_without_a_command_runs_the_project(built):
    shown = container.run(built.runtime)
    assert f"computed in {built.prefix}" in shown
    assert re.search(r"I\s+0.5\s+3.0\s+0.82", shown)


def test_the_projects_program_can_be_called(built):
    name = built.package.replace("_", "-")
    assert f"computed in {built.prefix}" in container.run(built.runtime, name)


ASK = "python -c \"import os, sys; print(sys.prefix, os.environ.get('{variable}'))\""


SHELLS = ("bash -c", "bash -lc", "bash -ic", "sh -c")


def test_shells_are_active(every_built):
    """NO_ACTIVATE=1 opts out, and PATH still finds Python."""
    active, without = f"{every_built.prefix} {every_built.prefix}", f"{every_built.prefix} None"
    ask = ASK.format(variable=every_built.variable)
    with running(every_built.runtime) as host:
        for shell in SHELLS:
            assert active in container.docker("exec", host.backend.name, *shell.split(), ask).output, shell
            if every_built.conda:
                out = container.docker("exec", "--env", "NO_ACTIVATE=1", host.backend.name, *shell.split(), ask).output
                assert without in out, shell


def test_docker_exec_is_active(built):
    with running(built.runtime) as host:
        code = f"import os; print(os.environ['{built.variable}'])"
        assert container.docker("exec", host.backend.name, "python", "-c", code).output.strip() == built.prefix


def test_make_shell_gives_a_prompt_in_the_environment(built):
    shown = typed(
        ["make", f"IMAGE={built.images}", "shell"], ['python -c "import numpy, sys; print(\'at\', sys.prefix)"', "exit"],
        until=f"at {built.prefix}\r\n", cwd=built.path,
    )  # fmt: skip
    assert f"({built.package}) " in shown, shown
    assert f"at {built.prefix}\r\n" in shown, shown


@pytest.mark.one_variant
def test_what_make_writes_in_the_project_belongs_to_the_caller(built):
    built.make("run", 'CMD=sh -c "echo 1 > written-inside"')
    file = built.path / "written-inside"
    assert (file.stat().st_uid, file.stat().st_gid) == (os.getuid(), os.getgid())
    file.unlink()


def test_an_unknown_user_has_a_home_and_a_name(built):
    code = "import os, getpass; open(os.path.expanduser('~/x'), 'w').close(); print(getpass.getuser(), os.path.expanduser('~'))"
    for user in ("12345:0", "12345:6789"):
        name, home = container.run(built.runtime, "python", "-c", code, options=("--user", user)).split()
        assert name and home.startswith("/")


def test_the_default_user_is_not_root(built):
    assert container.run(built.runtime, "id", "-u").strip() == "1000"
    assert container.run(built.dev, "id", "-u").strip() == "1000"


def test_pid_1_hands_on_signals_and_exit_codes(built):
    assert container.docker("run", "--rm", built.runtime, "sh", "-c", "exit 7", check=False).code == 7
    name = container.docker("run", "--detach", built.runtime, "python", "-c", "import time; time.sleep(600)").output.strip()
    began = time.monotonic()
    container.docker("stop", name)
    assert time.monotonic() - began < 5, "SIGTERM did not reach the program"
    assert container.docker("inspect", "--format", "{{.State.ExitCode}}", name).output.strip() == "143"
    container.docker("rm", name)


@pytest.mark.one_variant
def test_stdin_reaches_the_program_through_a_pipe(built):
    assert container.run(built.runtime, "python", "-c", "print(input()[::-1])", stdin="pipe\n").strip() == "epip"


def test_conda_sh_works_in_runtime(with_conda):
    conda_sh = ". /opt/conda/etc/profile.d/conda.sh && conda activate {} && echo $CONDA_PREFIX"
    bare = ("--env", "NO_ACTIVATE=", "--entrypoint", "/bin/bash")
    for name in (with_conda.package, with_conda.prefix):
        assert container.run(with_conda.runtime, "-c", conda_sh.format(name), options=bare).strip() == with_conda.prefix
    refused = container.docker("run", "--rm", *bare, with_conda.runtime, "-c", conda_sh.format("other"), check=False)
    assert refused.code and "has one environment" in refused.output
    refused = container.docker(
        "run", "--rm", *bare, with_conda.runtime, "-c", ". /opt/conda/etc/profile.d/conda.sh; conda list", check=False
    )
    assert refused.code and "not conda" in refused.output


@pytest.mark.one_variant
def test_a_mounted_folder_hides_neither_environment_nor_project(built, tmp_path):
    code = f"import sys, {built.package}.analysis as a; print(sys.prefix, len(a.load()))"
    for target in ("/work", "/home/app"):
        shown = container.run(built.runtime, "python", "-c", code, options=("--volume", f"{tmp_path}:{target}", "--workdir", "/"))
        assert shown.split() == [built.prefix, "44"]


def test_a_port_in_use_is_named(with_kernel):
    with running(with_kernel.runtime, "--publish", "127.0.0.1::8888") as host:
        taken = container.docker("port", host.backend.name, "8888").stdout.strip().rpartition(":")[2]
        shown = with_kernel.make("lab", f"PORT={taken}", fails=True).output
    assert f"add another to what you typed: PORT={int(taken) + 1}" in shown


@pytest.mark.one_variant
@pytest.mark.parametrize("user", ["12345", "1000"])
def test_the_prompt_names_a_user_whom_the_image_does_not_know(built, user):
    command = ["docker", "run", "--rm", "--interactive", "--tty", "--user", user, built.dev, "bash"]
    name = "app" if user == "1000" else f"user{user}"
    shown = typed(command, ["echo a''t $USER", "exit"], until=f"at {name}")
    assert f"{name}@" in shown and "I have no name" not in shown, shown


# This machine's engine, which says of itself that it is rootless.
ENGINE = """if [ "$1" = version ]; then
    echo "[{{Engine 28.5.2 map[Os:linux]}} {{rootlesskit 2.0.2 map[NetworkDriver:slirp4netns]}}]"
else
    exec "{docker}" "$@"
fi"""


@pytest.mark.one_variant
@pytest.mark.parametrize("rootless", [False, True])
def test_for_rootless_docker_you_are_root_inside(built, tmp_path, rootless):
    """There, your files belong to root, and every other user is a stranger to them."""
    programs = {"docker": ENGINE.format(docker=shutil.which("docker"))} if rootless else {}
    path = {**os.environ, "PATH": in_front(tmp_path, id="echo 4321", **programs)}
    code = "import os; print(os.getuid(), os.getgid())"
    command = [built.path / ".couplet/host/docker-run.sh", built.runtime, "python", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=path, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == (["0", "0"] if rootless else ["4321", "4321"]), done
    # the negative control: no script says by itself who a container is
    scripts = (built.path / ".couplet").rglob("*.sh")
    assert [script.name for script in scripts if "$(id -" in script.read_text()] == ["docker-user.sh"]
