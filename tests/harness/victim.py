"""An engine of a test's own, to be killed and to have its disk filled: a world that ends with its test.

The engine runs in a PID and a mount namespace of its own. So the kernel ends all that belongs to it, also what a kill of the engine
leaves behind (containerd, half a build), and its mounts go with it, whatever ends the test. Its data folder is on a file system
of its own in a file, which can be full.

Its keeper is a process of root's, which takes orders by its standard input, a line each, and takes everything away at
the input's end: start, kill, settle, fill BYTES (so many are left), room. It answers each with a line.

    python -m tests.harness.victim NAME FILE BYTES GROUP
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.harness import builder, template
from tests.harness.project import Done
from tests.mirror import store

SECONDS = 60
"""How long the engine may take to answer."""
RUN = Path("/run/couplet")
TOOLS = ("ip", "iptables", "unshare", "nsenter", "mount", "mkfs.ext4", "tune2fs")
_ROOT = [] if os.geteuid() == 0 else ["sudo", "--non-interactive", "--preserve-env"]


class Victim:
    """The engine as its test sees it: `environment` names it to docker and make."""

    def __init__(self, name: str, keeper: subprocess.Popen) -> None:
        self.environment = {"DOCKER_HOST": f"unix://{RUN / name}/docker.sock"}
        self.log = RUN / name / "dockerd.log"
        self.data = _data(RUN / name)
        self.keeper = keeper
        # a command that begins so sees the engine's disk, as on a machine whose own it is
        self.inside = [*_ROOT, "nsenter", f"--mount=/proc/{(RUN / name / 'inside').read_text()}/ns/mnt", "--"]

    def start(self) -> None:
        """Start it, unless it runs. Raises AssertionError, with the end of its log, where it does not come up."""
        self.order("start")
        deadline = time.monotonic() + SECONDS
        while self.docker("version", check=False).code:
            assert time.monotonic() < deadline, self.log.read_text(errors="replace")[-3000:]
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL for the daemon, and for nothing else of it."""
        self.order("kill")

    def settle(self) -> str:
        """Do, while it is down, what the harness does with the private engine's data before a start. Returns what that said."""
        before = self.log.stat().st_size
        self.order("settle")
        return self.log.read_text(errors="replace")[before:]

    def fill(self, left: int) -> None:
        """Leave this many bytes of room on the disk."""
        self.order(f"fill {left}")

    def room(self) -> None:
        """Give the disk its size back."""
        self.order("room")

    def reserve(self, blocks: int) -> None:
        """Keep this many blocks of the disk for root, as most disks do."""
        # from outside: in there, /proc shows another world's processes, and tune2fs does not find out what is mounted
        number = subprocess.run([*self.inside, "stat", "--format=%Ld", self.data], check=True, capture_output=True, text=True)
        tune = [*_ROOT, "tune2fs", "-r", str(blocks), f"/dev/loop{number.stdout.strip()}"]
        subprocess.run(tune, check=True, capture_output=True)

    def order(self, line: str) -> None:
        """Have the keeper do something. Raises AssertionError with what it said instead of ok."""
        self.keeper.stdin.write(line + "\n")
        self.keeper.stdin.flush()
        answer = self.keeper.stdout.readline()
        assert answer == "ok\n", f"{line}: {answer or 'the keeper has ended'}"

    def docker(self, *words: str, check: bool = True) -> Done:
        """Run the docker command on it. Raises AssertionError, with its output, when it fails and `check` holds."""
        done = subprocess.run(["docker", *words], env={**os.environ, **self.environment}, capture_output=True, text=True)
        assert not check or done.returncode == 0, done.stderr
        return Done(done.returncode, done.stdout + done.stderr, done.stdout)

    def load(self, image: str) -> None:
        """Give it an image that the engine in use has."""
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saved:
            words = ["docker", "load", "--quiet"]
            subprocess.run(words, stdin=saved.stdout, env={**os.environ, **self.environment}, capture_output=True, check=True)
        assert saved.returncode == 0

    def image(self, name: str) -> str:
        """The ID of an image, or an empty string."""
        return self.docker("images", "--quiet", "--no-trunc", name).stdout.strip()


def impossible() -> str:
    """Why there can be no such engine here, or an empty string."""
    if not builder.program():
        return "there is no dockerd on this machine"
    if missing := [name for name in TOOLS if not _found(name)]:
        return f"there is no {', '.join(missing)} on this machine"
    try:
        able = not _ROOT or subprocess.run([*_ROOT, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        able = False
    return "" if able else "it needs root"


def _found(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@contextlib.contextmanager
def running(folder: Path, size: int) -> Iterator[Victim]:
    """Such an engine, with a disk of `size` bytes in `folder`, for the length of a block."""
    name = "victim-" + hashlib.sha256(str(folder).encode()).hexdigest()[:8]
    words = [sys.executable, "-m", "tests.harness.victim", name, str(folder / "disk"), str(size), str(os.getgid())]
    keeper = subprocess.Popen(
        [*_ROOT, *words], cwd=template.REPOSITORY, env=_plain_environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert keeper.stdout.readline() == "ok\n", "the keeper did not come up"
        victim = Victim(name, keeper)
        victim.start()
        yield victim
    finally:
        with contextlib.suppress(BrokenPipeError):
            keeper.stdin.close()
        assert keeper.wait(SECONDS) == 0, "the keeper could not take everything away"


def _plain_environment() -> dict[str, str]:
    """This process's, in which nothing names an engine, and root's programs are found."""
    kept = {name: value for name, value in os.environ.items() if name != "DOCKER_HOST"}
    return kept | {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}


# --- the keeper: root -------------------------------------------------------------------------------


def keep(name: str, disk: str, size: str, group: str) -> None:
    """Have the bridge and the namespaces for as long as standard input is open."""
    state = RUN / name
    state.mkdir(parents=True)
    own = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc"]
    try:
        command = [*own, sys.executable, "-m", "tests.harness.victim", "inside", name, disk, size, group]
        with builder.bridged(_bridge(name)), subprocess.Popen(command) as process:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            while process.poll() is None and not (child := children.read_text().split()):
                time.sleep(0.01)
            (state / "inside").write_text(child[0])
            print("ok", flush=True)
    finally:
        # of the older control groups there is a tree for each kind
        for path in (Path("/sys/fs/cgroup") / name, *Path("/sys/fs/cgroup").glob(f"*/{name}")):
            for folder, _, _ in os.walk(path, topdown=False):
                _remove_group(Path(folder))
        shutil.rmtree(state)
        Path(disk).unlink(missing_ok=True)


def _data(state: Path) -> Path:
    # not the disk itself, so that an engine's data can be unmounted and deleted without it
    return state / "disk" / "data"


def _bridge(name: str) -> str:
    return "cplt" + name.removeprefix("victim-")


def _remove_group(folder: Path) -> None:
    """A control group is busy for a moment after its last process has died."""
    for _ in range(50):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return


def inside(name: str, disk: str, size: str, group: str) -> None:
    """The first process of the namespaces: its end is the end of all that is in them."""
    state, disk_of_it = RUN / name, RUN / name / "disk"
    # seen from outside too, where there is no disk
    _data(state).mkdir(parents=True)
    # not a tmpfs: where that is full, who has mapped a file of it dies of SIGBUS, as no disk makes anybody do
    subprocess.run(["truncate", f"--size={size}", disk], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", disk], check=True)
    subprocess.run(["mount", "-o", "loop", disk, disk_of_it], check=True)
    _data(state).mkdir()
    if Path("/run/containerd").is_dir():
        # an engine that finds the system's containerd there would share it
        subprocess.run(["mount", "-t", "tmpfs", "couplet", "/run/containerd"], check=True)
    daemon: subprocess.Popen | None = None

    def reap(*_: object) -> None:
        # what a killed engine leaves behind is this process' child, and must not stay a zombie
        for child in map(int, Path("/proc/1/task/1/children").read_text().split()):
            if daemon is None or child != daemon.pid:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(child, os.WNOHANG)

    signal.signal(signal.SIGCHLD, reap)
    for order in sys.stdin:
        try:
            match order.split():
                case ["start"]:
                    if daemon is None or daemon.poll() is not None:
                        daemon = _daemon(state, name, group)
                case ["kill"]:
                    daemon.kill()
                    daemon.wait()
                    daemon = None
                case ["settle"]:
                    with (state / "dockerd.log").open("a") as log:
                        store.settle(_data(state), lambda line: print(line, file=log))
                case ["fill", left]:
                    _fill(disk_of_it / "filler", int(left))
                case ["room"]:
                    (disk_of_it / "filler").unlink(missing_ok=True)
                case _:
                    raise ValueError(order)
        except Exception as error:
            print(repr(error), flush=True)
        else:
            print("ok", flush=True)


def _fill(filler: Path, left: int) -> None:
    """Take all room but for some bytes: in one piece, and then what the file system had spoken for."""
    with filler.open("ab") as file:
        for _ in range(3):
            disk = os.statvfs(filler)
            more = disk.f_bavail * disk.f_frsize - left
            with contextlib.suppress(OSError):
                if more > 0:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, more)


def _daemon(state: Path, name: str, group: str) -> subprocess.Popen:
    settings = state / "daemon.json"
    settings.write_text(json.dumps({}))
    command = [
        builder.program(), f"--config-file={settings}", f"--data-root={_data(state)}", f"--exec-root={state}/exec",
        f"--pidfile={state}/pid", f"--host=unix://{state}/docker.sock", f"--group={group}", f"--bridge={_bridge(name)}",
        "--iptables=false", "--exec-opt=native.cgroupdriver=cgroupfs", f"--cgroup-parent=/{name}",
    ]  # fmt: skip
    with (state / "dockerd.log").open("ab") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/")


if __name__ == "__main__":
    if sys.argv[1] == "inside":
        inside(*sys.argv[2:])
    else:
        keep(*sys.argv[1:])
