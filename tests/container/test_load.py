"""Load: much at once, and often. Nothing fails, and nothing is left over: no process, no file, no memory of the first process.

Each check has its negative control: an image that leaks just that.
"""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness import container, summary
from tests.harness.container import derived, docker
from tests.harness.project import Project

pytestmark = [pytest.mark.soak, pytest.mark.one_variant, pytest.mark.alone]
ENTRY = "/usr/local/bin/entrypoint.sh"


@dataclass
class Held:
    """What a container holds: its processes, the files that are not the image's, and memory and open files of its first process."""

    processes: list[str]
    files: list[str]
    kilobytes: int
    opened: int

    def leaks(self, before: Held, spare: int, files: int = 0) -> list[str]:
        """What is there more than before, in words; `spare` kB of memory and `files` open files may be."""
        found = [f"process {name}" for name in self.processes if self.processes.count(name) > before.processes.count(name)]
        found += [f"file {path}" for path in self.files if path not in before.files]
        if self.kilobytes > before.kilobytes + spare:
            found.append(f"memory: {before.kilobytes} kB became {self.kilobytes}")
        if self.opened > before.opened + files:
            found.append(f"open files: {before.opened} became {self.opened}")
        return found


# `docker top` goes by control groups, which a zombie has left.
LOOK = """
import json, os, sys
pid, processes = sys.argv[1], []
for other in filter(str.isdigit, os.listdir('/proc')):
    try:
        words = open(f'/proc/{other}/cmdline').read().replace('\\0', ' ').strip()
        state = open(f'/proc/{other}/stat').read().rpartition(')')[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        continue
    if other != str(os.getpid()):
        processes.append('zombie' if state == 'Z' else words)
status = dict(line.split(':', 1) for line in open(f'/proc/{pid}/status'))
print(json.dumps([processes, int(status['VmRSS'].split()[0]), len(os.listdir(f'/proc/{pid}/fd'))]))
"""


def held(name: str, pid: str = "1") -> Held:
    """Look into a container; a process of its own, which is another than the first, for what a process has."""
    processes, memory, opened = json.loads(docker("exec", "--user", "0", name, "python", "-c", LOOK, pid).stdout)
    files = [line[2:] for line in docker("diff", name).stdout.splitlines() if line.startswith("A ")]
    return Held(processes, files, memory, opened)


def leaked(name: str, before: Held, spare: int = 256, pid: str = "1", seconds: float = 20, files: int = 0) -> list[str]:
    """What a container holds more than before, once it has had some time to let go of it."""
    deadline = time.monotonic() + seconds
    while (found := held(name, pid).leaks(before, spare, files)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


@contextmanager
def container_of(image: str, *options: str, command: tuple[str, ...] = ("sleep", "infinity")) -> Iterator[str]:
    """The name of a running container of an image."""
    with container.running(image, *options, command=command) as host:
        yield host.backend.name


# --- containers ------------------------------------------------------------------------------------


def at_once(project: Project, image: str, number: int, folder: Path) -> tuple[list[str], list[str]]:
    """Start containers at once that share a project folder, as a user whom the image does not know; failures, and what is left."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    label = f"couplet-load={uuid.uuid4()}"
    options = ("--label", label, "--user", "12345:6789", "--volume", f"{folder}:/work")
    code = f"import os, sys; print(os.environ[{project.variable!r}], sys.prefix)"

    def start(_: int) -> str:
        done = docker("run", "--rm", *options, image, "python", "-c", code, check=False, timeout=600)
        good = done.code == 0 and done.stdout == f"{project.prefix} {project.prefix}\n"
        return "" if good else f"{done.code}: {done.output[-300:]}"

    with concurrent.futures.ThreadPoolExecutor(number) as pool:
        failures = [said for said in pool.map(start, range(number)) if said]
    left = docker("ps", "--all", "--quiet", "--filter", f"label={label}").stdout.split()
    if left:
        docker("rm", "--force", *left)
    return failures, left + [path.name for path in folder.iterdir()]


def test_fifty_containers_at_once(with_kernel, tmp_path):
    began = time.monotonic()
    assert at_once(with_kernel, with_kernel.runtime, 50, tmp_path / "work") == ([], [])
    summary.note(f"50 containers at once: {time.monotonic() - began:.0f} s")


def test_containers_that_get_in_each_others_way_are_seen(with_kernel, tmp_path):
    """The negative control: who comes second finds a file of the first, and it stays."""
    taken = "RUN sed -i '/^exec/i mkdir /work/.started' /usr/local/bin/entrypoint.sh"
    with derived(with_kernel.runtime, f"USER root\n{taken}\nUSER 1000:1000") as image:
        failures, left = at_once(with_kernel, image, 3, tmp_path / "work")
    assert len(failures) == 2 and left == [".started"]


def starts(name: str, number: int, *options: str) -> None:
    """Go through the entry point many times in a row; each time a child is left behind for the first process to reap."""
    loop = f'set -e; i=0; while [ "$i" -lt {number} ]; do {ENTRY} sh -c "true &"; i=$((i + 1)); done'
    docker("exec", *options, name, "/bin/sh", "-c", loop, timeout=600)


def test_a_thousand_starts_in_a_row(with_kernel):
    """A container a start would be a quarter of an hour of Docker's own work.

    So there are 1,000 goes through the entry point in one container, which is all that this repository has in a start, by
    three kinds of users; 60 times `docker exec`, through a shim; and 20 whole containers.
    """
    image = with_kernel.runtime
    users = {"app": (), "root": ("--user", "0"), "nobody that is known": ("--user", "12345:6789")}
    with container_of(image) as name:
        for options in users.values():
            starts(name, 3, *options)  # what a first start makes, such as a home, is made once
        before = held(name)
        began = time.monotonic()
        for options in users.values():
            starts(name, 334, *options)
        seconds = time.monotonic() - began
        for number in range(60):
            done = docker("exec", *list(users.values())[number % 3], name, "python", "-c", "import sys; print(sys.prefix)")
            assert done.stdout == f"{with_kernel.prefix}\n"
        assert leaked(name, before) == []
    for _ in range(20):
        assert container.run(image, "printenv", with_kernel.variable) == f"{with_kernel.prefix}\n"
    summary.note(f"1,002 starts of the entry point in a row: {seconds / 1.002:.1f} ms each")


# A first process that reaps, and keeps something of each child.
KEEPS = """
import os, time
kept = []
if os.fork() == 0:
    os.execv('/bin/sleep', ['sleep', 'infinity'])
while True:
    os.wait()
    kept.append(%s)
"""
LEAKING = {
    "process sleep": ("sed -i '/^exec/i sleep 600 > /dev/null 2>\\&1 \\&' " + ENTRY, ()),
    "file /tmp/start": ("sed -i '/^exec/i : > /tmp/start-$$' " + ENTRY, ()),
    "process zombie": ("true", ("/bin/sleep", "infinity")),
    "memory": ("true", ("python", "-c", KEEPS % "bytes(50_000).replace(b'\\0', b'x')")),
    "open files": ("true", ("python", "-c", KEEPS % "open('/dev/null')")),
}
"""What is left behind at each start -> what is changed in the image, and a first process in the place of tini."""


@pytest.mark.parametrize("what", LEAKING)
def test_an_image_that_leaks_at_each_start_is_seen(with_kernel, what):
    change, first = LEAKING[what]
    options = ("--entrypoint", first[0].replace("python", f"{with_kernel.prefix}/bin/python")) if first else ()
    command = first[1:] or ("sleep", "infinity")
    with (
        derived(with_kernel.runtime, f"USER root\nRUN {change}\nUSER 1000:1000") as image,
        container_of(image, *options, command=command) as name,
    ):
        starts(name, 1)
        before = held(name)
        starts(name, 20)
        found = leaked(name, before, seconds=2)
    assert found and all(line.startswith(what) for line in found), found


# --- kernels ---------------------------------------------------------------------------------------

# jupyter_client chooses a kernel's ports, and the kernel binds them a second later: by then one can be another's, of the ports
# that kernels take for themselves. Such a kernel is started anew; one that ends for any other reason is an error. (Its own
# `newports` would start it with the same ports: those that its cache chose do not count as random.) `taken` is how many kernels
# find a port of theirs taken.
KERNELS = """
import json, socket, sys, tempfile
from jupyter_client.manager import KernelManager
from zmq import Again
name, variable, number, taken = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

def started():
    manager, said = KernelManager(kernel_name=name), tempfile.TemporaryFile()
    manager.start_kernel(stderr=said)
    return manager, said

def ready(manager, said):
    client = manager.client()
    client.start_channels()
    # to a kernel that has ended nothing can be sent: without a limit that waits for ever
    client.shell_channel.socket.sndtimeo = 1000
    try:
        client.wait_for_ready(timeout=240)
        return manager, client
    except (RuntimeError, Again) as error:
        client.stop_channels()
        said.seek(0)
        text = said.read().decode()
        if manager.is_alive() or 'Address already in use' not in text:
            sys.exit(f'{error}: {text}')
        manager.shutdown_kernel(now=True)

begun, holders = [], []
for n in range(number):
    manager, said = started()
    begun.append((manager, said))
    if n < taken:
        holders.append(socket.create_server((manager.ip, manager.shell_port)))
kernels = [ready(*kernel) for kernel in begun]
again = kernels.count(None)
managers, clients = zip(*(kernel or ready(*started()) for kernel in kernels))
# all of them at work at the same time
asked = [client.execute(f'import json, os; own = [os.getpid(), sum(range({n} * 10**6)), os.environ[{variable!r}]]',
                        user_expressions={'told': 'json.dumps(own)'}) for n, client in enumerate(clients)]
told = []
for client, request in zip(clients, asked):
    while (reply := client.get_shell_msg(timeout=240))['parent_header'].get('msg_id') != request:
        pass
    told.append(json.loads(reply['content']['user_expressions']['told']['data']['text/plain'].strip("'")))
for client, manager in zip(clients, managers):
    client.stop_channels()
    manager.shutdown_kernel()
print(json.dumps([again, told]))
"""


def kernels(project: Project, name: str, number: int, taken: int = 0) -> int:
    """Have kernels at work at once in one container, with an answer of its own from each, and end them; how many were started anew."""
    command = ("python", "-c", KERNELS, project.kernel["name"], project.variable, str(number), str(taken))
    again, told = json.loads(docker("exec", name, *command, timeout=900).stdout.splitlines()[-1])
    assert [rest for _, *rest in told] == [[sum(range(n * 10**6)), project.prefix] for n in range(number)]
    assert len({pid for pid, *_ in told}) == number
    return again


def test_twenty_kernels_at_once_in_one_container(with_kernel):
    with container_of(with_kernel.runtime) as name:
        kernels(with_kernel, name, 1)  # the first one's profile and history are made once
        before = held(name)
        began = time.monotonic()
        again = kernels(with_kernel, name, 20)
        seconds = time.monotonic() - began
        assert leaked(name, before) == []
    summary.note(f"20 kernels at once in one container: {seconds:.0f} s, {again} found a port taken")


def test_a_kernel_whose_port_is_taken_gets_another(with_kernel):
    """And nothing of its first try stays. The negative control is a kernel that ends by itself: it is not tried again."""
    with container_of(with_kernel.runtime) as name:
        kernels(with_kernel, name, 1)
        before = held(name)
        assert kernels(with_kernel, name, 2, taken=1) == 1
        assert leaked(name, before) == []
        ends = "echo \"raise SystemExit('out of order')\" > ~/.ipython/profile_default/ipython_kernel_config.py"
        docker("exec", name, "sh", "-c", ends)
        with pytest.raises(AssertionError, match="Kernel died before replying"):
            kernels(with_kernel, name, 1)


def test_kernels_that_leave_something_behind_are_seen(with_kernel):
    file = f"{with_kernel.kernel['prefix']}/share/jupyter/kernels/{with_kernel.kernel['name']}/kernel.json"
    first = 'setsid sleep 600 & : > "/tmp/kernel-$$"; exec "$@"'
    code = f"import json; f = {file!r}; k = json.load(open(f)); k['argv'] = ['/bin/sh', '-c', {first!r}, 'sh', *k['argv']]"
    code += "; json.dump(k, open(f, 'w'))"
    change = f"USER root\nRUN {json.dumps([f'{with_kernel.prefix}/bin/python', '-c', code])}\nUSER 1000:1000"
    with derived(with_kernel.runtime, change) as image, container_of(image) as name:
        kernels(with_kernel, name, 1)
        before = held(name)
        kernels(with_kernel, name, 2)
        found = leaked(name, before, seconds=2)
    assert sorted({line.partition("-")[0] for line in found}) == ["file /tmp/kernel", "process sleep 600"], found


# --- a server --------------------------------------------------------------------------------------

TOKEN = "couplet-load"
HEADERS = {"Authorization": f"token {TOKEN}"}
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "Y291cGxldC1jb3VwbGV0IQ==",
}


def ask(
    port: int, path: str, method: str = "GET", body: str | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """One request on a connection of its own; what a websocket says is not waited for."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=240)
    try:
        connection.request(method, path, body, HEADERS | (headers or {}))
        answer = connection.getresponse()
        return answer.status, b"" if headers else answer.read()
    finally:
        connection.close()


def use(port: int, project: Project, rounds: int) -> None:
    """What browsers do to a server: pages, files, a kernel, its websocket, again and again; sixteen connections at a time."""
    status, said = ask(port, "/api/kernels", "POST", json.dumps({"name": project.kernel["name"]}))
    assert status == 201, said
    kernel = json.loads(said)["id"]
    channels = f"/api/kernels/{kernel}/channels"
    paths = ["/lab", "/api/status", "/api/contents", "/api/kernelspecs", channels] * rounds
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        codes = list(pool.map(lambda path: ask(port, path, headers=UPGRADE if path == channels else None)[0], paths))
    assert codes == [101 if path == channels else 200 for path in paths]
    assert ask(port, f"/api/kernels/{kernel}", "DELETE")[0] == 204


# The first process is tini, and the server its child.
SERVER = "print(open('/proc/1/task/1/children').read().split()[0])"


@contextmanager
def lab(image: str) -> Iterator[tuple[str, int, str]]:
    """A lab server that answers: its container, its port, and its process there."""
    command = ("jupyter", "lab", "--ip=0.0.0.0", "--port=8888", "--no-browser", f"--IdentityProvider.token={TOKEN}")
    with container_of(image, "--publish", "127.0.0.1::8888", command=command) as name:
        port = int(docker("port", name, "8888").stdout.splitlines()[0].rpartition(":")[2])
        deadline = time.monotonic() + 120
        while True:
            try:
                if ask(port, "/api/status")[0] == 200:
                    break
            except OSError:
                pass
            assert time.monotonic() < deadline, docker("logs", name).output[-3000:]
            time.sleep(0.5)
        yield name, port, docker("exec", name, "python", "-c", SERVER).stdout.strip()


ROUNDS = 60
SPARE = 20_000
"""kB that a server may grow by in those rounds: less than 70 a connection. Python's own caches and fragments are some MB."""
STREAMS = 8
"""Open files that a server may have more after 60 connections to a kernel: a browser that is gone while the server still opens its four streams
to the kernel can leave them with jupyter_server (seen once in some twenty runs, four files). A leak of ours would be one a connection."""


def test_a_lab_server_under_repeated_connections(with_kernel):
    with lab(with_kernel.dev) as (name, port, pid):
        use(port, with_kernel, 20)
        before = held(name, pid)
        began = time.monotonic()
        for _ in range(3):
            use(port, with_kernel, ROUNDS // 3)
        seconds = time.monotonic() - began
        assert leaked(name, before, SPARE, pid, seconds=60, files=STREAMS) == []
    summary.note(f"a lab server: {ROUNDS * 5} connections, 60 of them to a kernel, in {seconds:.0f} s")


def test_a_lab_server_that_leaks_is_seen(with_kernel):
    """The negative control: with each answer a file stays open, and some memory is kept."""
    code = "import tornado.web as w; k = []\nw.RequestHandler.on_finish = lambda s: k.append((open('/dev/null'), b'x' * 200_000))"
    folder = f"{with_kernel.prefix}/etc/jupyter"
    words = ["/bin/sh", "-c", f'mkdir -p {folder}; echo "$1" > {folder}/jupyter_server_config.py', "sh", code]
    change = f"USER root\nRUN {json.dumps(words)}\nUSER 1000:1000"
    with derived(with_kernel.dev, change) as image, lab(image) as (name, port, pid):
        use(port, with_kernel, 4)
        before = held(name, pid)
        use(port, with_kernel, ROUNDS // 2)
        found = leaked(name, before, SPARE, pid, seconds=2, files=STREAMS)
    assert [line.partition(":")[0] for line in found] == ["memory", "open files"], found
