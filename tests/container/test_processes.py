"""Process: what runs in a container gets its signals, ends with its own exit code, and loses no output."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

from tests.harness import container
from tests.harness.container import derived, docker, running

SECONDS = 5.0
"""How long `docker stop` may take on a busy machine: Docker itself waits ten before it kills."""


def stopped(image: str, *command: str, until: str, options: tuple[str, ...] = (), how: str = "SIGTERM") -> tuple[float, int, str]:
    """Start a command, wait until its output says `until`, send the signal; return (seconds, exit code, output)."""
    name = docker("run", "--detach", *options, image, *command).stdout.strip()
    try:
        deadline = time.monotonic() + 60
        while until not in docker("logs", name).output:
            assert time.monotonic() < deadline, docker("logs", name).output
            time.sleep(0.1)
        began = time.monotonic()
        if how == "SIGTERM":
            docker("stop", name)
        else:
            docker("kill", "--signal", how, name)
            docker("wait", name)
        taken = time.monotonic() - began
        code = int(docker("inspect", "--format", "{{.State.ExitCode}}", name).stdout)
        return taken, code, docker("logs", name).output
    finally:
        docker("rm", "--force", name)


def test_docker_stop_of_a_sleeping_container(built):
    taken, code, _ = stopped(built.runtime, "sh", "-c", "echo ready; exec sleep 600", until="ready")
    assert (taken < SECONDS, code) == (True, 128 + signal.SIGTERM)


CAREFUL = """
import signal, sys, time
def end(number, frame):
    print('ended by', signal.Signals(number).name)
    sys.exit(40 + number)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, end)
print('ready')
time.sleep(600)
"""


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("kind", ["runtime", "dev"])
def test_a_signal_reaches_python_which_ends_with_its_own_exit_code(built, kind, how):
    taken, code, output = stopped(getattr(built, kind), "python", "-c", CAREFUL, until="ready", how=how)
    assert (taken < SECONDS, code) == (True, 40 + getattr(signal, how))
    assert f"ended by {how}" in output


@pytest.mark.parametrize("kind", ["runtime", "dev"])
def test_a_signal_reaches_what_a_shell_started(built, kind):
    """The shell waits for its program: a signal that it alone gets reaches nobody."""
    command = ("sh", "-c", 'trap : TERM; python -c "$0"; exit $?', CAREFUL)
    taken, code, output = stopped(getattr(built, kind), *command, until="ready")
    assert (taken < SECONDS, code) == (True, 40 + signal.SIGTERM), output


def test_an_interrupt_is_pythons_own(built):
    _, code, output = stopped(built.runtime, "python", "-c", "import time; print('ready'); time.sleep(600)", until="ready",
                              how="SIGINT")  # fmt: skip
    assert code == 128 + signal.SIGINT and "KeyboardInterrupt" in output


@pytest.mark.one_variant
def test_docker_stop_of_jupyter(built):
    if not built.kernel:
        assert docker("run", "--rm", built.dev, "jupyter", "lab", "--version", check=False).code == 127
        return
    command = ("jupyter", "lab", "--ip=127.0.0.1", "--no-browser")
    taken, code, output = stopped(built.dev, *command, until="Use Control-C to stop this server")
    assert (taken < SECONDS, code) == (True, 0), output


@pytest.mark.one_variant
def test_without_a_first_process_that_hands_on_signals_the_stop_is_seen_to_be_slow(built):
    """The negative control: PID 1 without a handler ignores SIGTERM, and a shell in front of the program keeps it to itself."""
    with derived(built.runtime, 'ENTRYPOINT ["/bin/sh", "-c", "sleep 600; true"]') as image:
        name = docker("run", "--detach", image).stdout.strip()
        began = time.monotonic()
        docker("stop", "--time", "3", name)
        code = docker("inspect", "--format", "{{.State.ExitCode}}", name).stdout.strip()
        docker("rm", name)
    assert time.monotonic() - began > 3 and code == "137"


ORPHAN = """
import os, time
def zombies():
    states = []
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            states.append(open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[0])
        except (FileNotFoundError, ProcessLookupError):
            pass
    return states.count('Z')
if os.fork() == 0:            # a child whose own child outlives it
    if os.fork() == 0:
        time.sleep(0.3)
        os._exit(0)
    os._exit(0)
os.wait()
time.sleep(1.0)
print('zombies', zombies())
"""


def test_children_are_reaped(built):
    assert container.run(built.runtime, "python", "-c", ORPHAN).strip() == "zombies 0"
    # the negative control: the program itself as PID 1 does not know the orphan
    bare = container.run(built.runtime, "-c", ORPHAN, options=("--entrypoint", f"{built.prefix}/bin/python"))
    assert bare.strip() == "zombies 1"


def between_two_lines(image: str, *options: str) -> float:
    """Return after how many seconds the last line follows the first, of a program that sleeps for 1.5 s between them."""
    code = "import time; print('first'); time.sleep(1.5); print('last')"
    command = ["docker", "run", "--rm", *options, image, "python", "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "first\n"
        began = time.monotonic()
        assert process.stdout.read() == "last\n"
        taken = time.monotonic() - began
    assert process.returncode == 0
    return taken


@pytest.mark.one_variant
def test_output_is_unbuffered_and_complete(built):
    assert between_two_lines(built.runtime) > 0.9
    # the negative control: buffered, both come at the end
    assert between_two_lines(built.runtime, "--env", "PYTHONUNBUFFERED=") < 0.9
    lines = container.run(built.runtime, "python", "-c", "for i in range(200_000): print(i)").splitlines()
    assert lines == [str(i) for i in range(200_000)]


@pytest.mark.one_variant
def test_standard_input_comes_through_a_pipe(built):
    code = "import sys; print(sum(map(int, sys.stdin)))"
    numbers = "".join(f"{i}\n" for i in range(50_000))
    assert container.run(built.runtime, "python", "-c", code, stdin=numbers).strip() == str(sum(range(50_000)))
    with running(built.runtime) as host:
        assert docker("exec", "--interactive", host.backend.name, "python", "-", stdin="print(6 * 7)").stdout.strip() == "42"


@pytest.mark.parametrize(("command", "code"), [("exit 7", 7), ("kill -9 $$", 137), ("no-such-program", 127)])
def test_the_exit_code_is_the_programs(built, command, code):
    assert docker("run", "--rm", built.runtime, "sh", "-c", command, check=False).code == code


def test_a_program_that_is_not_there_is_named(built):
    done = docker("run", "--rm", built.runtime, "no-such-program", check=False)
    assert done.code == 127 and "no-such-program" in done.output
