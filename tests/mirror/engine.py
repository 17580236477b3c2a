"""Find a Docker engine, or make a private one.  Standard library only: it is needed on the open network too.

A reachable engine is used as it is.  Otherwise, on Debian or Ubuntu as root, the distribution's engine is installed
and started by hand, with its data, socket and bridge apart from any other engine's.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import cache, debian, store

Progress = Callable[[str], None]

OLDEST = 23
"""The first engine whose built-in Dockerfile front end knows heredocs and ``COPY --link``."""

PACKAGES = {
    "debian": ["docker.io", "docker-cli", "docker-buildx", "docker-compose", "iptables", "iproute2"],
    "ubuntu": ["docker.io", "docker-buildx", "docker-compose-v2", "iptables", "iproute2"],
}
"""The distributions' own names of engine, client, buildx and Compose."""

_PACKAGES = ["docker.io", "docker-cli", "docker-buildx", "docker-compose", "containerd"]
NEWER = {"forky": [*_PACKAGES, "tini-static"], debian.NEWER: _PACKAGES}
"""What Debian 12 takes from which release; everything else it has itself.

Debian 14's engine is that of Docker's users now, and needs only the C library of Debian 12 (decision 79). Where it can't be had,
Debian 13's will do.
"""

BRIDGE = "couplet0"
NETWORKS = ["172.29.240.0/24", "10.213.77.0/24", "192.168.213.0/24"]
"""Private ranges to try for the engine's bridge; the first that this machine does not route yet is taken."""

SETTINGS = {"builder": {"gc": {"enabled": True, "defaultKeepStorage": "30GB"}}}
"""The private engine's daemon.json: what a builder keeps has a bound, or it grows with each run (a run of all tests leaves 20 GB)."""

ROOM = 25 << 30
"""Bytes of disk that a run of all tests is happy with; where there are fewer, the private engine gives build cache up."""
LEAST = 5 << 30
"""Bytes of disk without which nothing is begun: the default project's images, locks and cache are some three GB."""

LABEL = "label=org.couplet.poetry-lock.sha256"
"""What images of projects have."""
START_SECONDS = 60
STOP_SECONDS = 30
PRUNE_SECONDS = 900
"""What a cache of 30 GB takes to delete on a slow disk, twice over. Beside builds that use the cache, the engine has been seen to
wait for them. An engine whose client goes away in the middle has lost layers (`layer does not exist`), so this is a last resort.
"""


class EngineError(RuntimeError):
    """No engine can be had; the message says what to install."""


@dataclass(frozen=True)
class Engine:
    """An engine to build with: the DOCKER_HOST value ("" is the client's default), whether it is ours, its version."""

    host: str
    private: bool
    version: str

    def environment(self) -> dict[str, str]:
        """This process's environment, with DOCKER_HOST naming the engine."""
        return {**os.environ, "DOCKER_HOST": self.host} if self.host else dict(os.environ)


def ensure(progress: Progress = print) -> Engine:
    """A working engine: a reachable one, else a private one, installed and started when need be."""
    engine = find()
    if engine is None:
        with cache.lock("engine", progress=progress):
            engine = _private(progress)[0]
    make_room(engine, progress)
    return engine


def find() -> Engine | None:
    """The engine to use that already runs, or None."""
    return _reachable() or _running()


def stop() -> bool:
    """Stop the private engine; True when one ran.  Other engines are never touched."""
    keep_marker().unlink(missing_ok=True)
    with cache.lock("engine"):
        return _stop()


@contextlib.contextmanager
def session(progress: Progress = print) -> Iterator[Engine]:
    """An engine for the length of a block.

    A private engine that a session started is stopped by the last session to end, unless ``up`` asked to keep it.
    """
    with cache.lock("users", shared=True) as users:
        engine = _reachable()
        if engine is None:
            with cache.lock("engine", progress=progress):
                engine, started = _private(progress)
                if started:
                    _session_marker().touch()
        try:
            make_room(engine, progress)
            yield engine
        finally:
            if engine.private:
                _leave(users)


def make_room(engine: Engine, progress: Progress, wanted: int = ROOM, least: int = LEAST) -> None:
    """Where the private engine's disk is short of `wanted` bytes, delete images that nobody will miss and as much build
    cache, what is used least first.

    An engine that is not ours is left alone.  Raises EngineError where the disk is then still short of `least` bytes: what begins
    now would break off anywhere.
    """
    if not engine.private:
        return
    data = docker(engine, "info", "--format", "{{.DockerRootDir}}").strip()
    if shutil.disk_usage(data).free >= wanted:
        return
    with cache.lock("engine", progress=progress):
        # another process may just have made room
        if (free := shutil.disk_usage(data).free) >= wanted:
            return
        with cache.step(f"{free / 1e9:.1f} GB left on the disk of {data}: deleting build cache of the private engine", progress):
            docker(engine, "image", "prune", "--force")
            # of runs that were broken off, with their names
            docker(engine, "image", "prune", "--force", "--all", "--filter", LABEL, "--filter", "until=6h")
            disk = os.statvfs(data)
            # the builder counts what is reserved for root as free
            free = wanted + (disk.f_bfree - disk.f_bavail) * disk.f_frsize
            # an older client has no such option, and deletes all
            some = ("--min-free-space", str(free)) if "--min-free-space" in docker(engine, "builder", "prune", "--help") else ()
            try:
                docker(engine, "builder", "prune", "--force", "--all", *some, timeout=PRUNE_SECONDS)
            except subprocess.TimeoutExpired:
                progress(f"not done after {PRUNE_SECONDS} s: builds of another run use the build cache")
    if (free := shutil.disk_usage(data).free) < least:
        raise EngineError(
            f"the disk of {data} has {free / 1e9:.1f} GB left, and {least / 1e9:.1f} GB are the least to begin with, even though the private engine "
            "has given its build cache up.  `docker system df` shows its images; `nox -s mirror -- down` and deleting that folder frees all of it."
        )


def keep() -> None:
    """Let the private engine outlive the sessions that use it."""
    keep_marker().touch()


def keep_marker() -> Path:
    """The file whose presence keeps the private engine running."""
    return folder() / "keep"


def folder() -> Path:
    """The private engine's folder: data, socket, log."""
    path = cache.root() / "engine"
    path.mkdir(exist_ok=True)
    return path


def gateway(engine: Engine) -> str:
    """The address at which containers of the default network reach this machine."""
    shown = docker(engine, "network", "inspect", "bridge", "--format", "{{json .IPAM.Config}}")
    for entry in json.loads(shown):
        if entry.get("Gateway"):
            return entry["Gateway"]
        if ":" not in entry["Subnet"]:
            return str(next(ipaddress.ip_network(entry["Subnet"], strict=False).hosts()))
    raise EngineError("the engine's network `bridge` has no address; look at `docker network inspect bridge`")


def docker(engine: Engine, *words: str | Path, **options) -> str:
    """Run a docker command against the engine and return its output."""
    return cache.run(["docker", *words], error=EngineError, env=engine.environment(), **options)


def _reachable() -> Engine | None:
    version = _server_version(None)
    private_socket = f"unix://{_socket()}"
    ours = os.environ.get("DOCKER_HOST") == private_socket
    if version and debian.major(version) >= OLDEST and _has_buildx():
        return Engine(private_socket if ours else "", ours, version)
    return None


def _running() -> Engine | None:
    host = f"unix://{_socket()}"
    version = _server_version(host) if _socket().exists() else ""
    return Engine(host, True, version) if version else None


def _private(progress: Progress) -> tuple[Engine, bool]:
    """The private engine, and whether it was started just now.  The caller holds the engine lock."""
    running = _running()
    if running:
        return running, False
    if not debian.is_debian_like() or not shutil.which("apt-get"):
        raise EngineError(_advice("and this is not Debian or Ubuntu, where one could be set up"))
    if os.geteuid() != 0:
        raise EngineError(_advice("and setting one up needs root"))
    progress("no Docker engine in reach: a private one is set up (the distribution's packages, no system service)")
    _install(progress)
    with cache.step("start of the private engine", progress):
        return _start(progress), True


def _advice(reason: str) -> str:
    return (
        f"no Docker engine of version {OLDEST} or newer with buildx answers, {reason}.  Install Docker Engine "
        "(docs.docker.com/engine/install), start it, and check that `docker version` and `docker buildx version` work."
    )


def _install(progress: Progress) -> None:
    distribution = debian.os_release().get("ID", "")
    wanted = PACKAGES.get(distribution, PACKAGES["debian"])
    if _engine_program() and all(debian.installed(name) for name in wanted):
        return
    try:
        if not debian.candidate("docker.io"):
            # a fresh machine has no package lists yet
            debian.update(progress)
        if debian.major(debian.candidate("docker.io")) >= OLDEST:
            debian.install(wanted, progress)
        elif distribution == "debian":
            _install_newer(wanted, progress)
        else:
            raise EngineError(_advice("and the docker.io package of this release is too old"))
    except debian.AptError as error:
        raise EngineError(_advice(f"and apt could not install one: {error}")) from error


def _install_newer(wanted: list[str], progress: Progress) -> None:
    # one that is there, perhaps from a newer Debian already, would be moved to the newest if it were named
    here = [name for name in wanted if name not in _PACKAGES and not debian.installed(name)]
    if not debian.installed("systemd"):
        # the engine's package makes its group with a tool of systemd's, which there is without systemd
        here.append("systemd-standalone-sysusers")
    failures = []
    for release, names in NEWER.items():
        try:
            debian.add_newer(progress, release)
            return debian.install([*(f"{name}/{release}" for name in names), *here], progress)
        except debian.AptError as error:
            failures.append(f"{release}: {error}")
            progress(failures[-1])
    raise debian.AptError("\n".join(failures))


def _engine_program() -> str:
    return shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or ""


def _start(progress: Progress) -> Engine:
    store.settle(folder() / "data", progress, error=EngineError)
    _bridge()
    home = folder()
    log = home / "dockerd.log"
    _state().mkdir(parents=True, exist_ok=True)
    _session_marker().unlink(missing_ok=True)
    _pidfile().unlink(missing_ok=True)
    # a system engine's settings (its data folder, its network) must not leak into this one
    settings = home / "daemon.json"
    settings.write_text(json.dumps(SETTINGS) + "\n")
    command = [
        _engine_program(),
        f"--config-file={settings}",
        f"--data-root={home / 'data'}",
        f"--exec-root={_state() / 'exec'}",
        f"--pidfile={_pidfile()}",
        f"--host=unix://{_socket()}",
        f"--bridge={BRIDGE}",
        # no systemd here that could own the containers' control groups
        "--exec-opt=native.cgroupdriver=cgroupfs",
    ]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/", env=_daemon_env()
        )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        running = _running()
        if running:
            return running
        if process.poll() is not None:
            break
        time.sleep(0.2)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
    raise EngineError(f"the private engine did not come up; the end of {log}:\n{tail}")


def _daemon_env() -> dict[str, str]:
    """This process' environment, without what would send the engine elsewhere.

    GOGC: three builds at once have the engine look through each file that is mounted or copied, with a new buffer for each.  With
    Go's own setting half of its time, a fifth of the machine's, went into collecting them; now its heap may grow to five times
    what is in use (some 600 MB) before that.
    """
    return {"GOGC": "400", **{name: value for name, value in os.environ.items() if name != "DOCKER_HOST"}}


def _bridge() -> None:
    """Make the engine's bridge, if it is not there."""
    shown = subprocess.run(["ip", "-4", "-o", "addr", "show", "dev", BRIDGE], capture_output=True, text=True, check=False)
    if shown.returncode or "inet " not in shown.stdout:
        subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True, check=False)
        add_bridge(BRIDGE, free_network())


def add_bridge(name: str, network: ipaddress.IPv4Network) -> None:
    """Make a bridge for an engine, and set its addresses, the hardware one too.  Needs root.

    A bridge without one of its own takes its ports' lowest.  When that port's container ends, the bridge has another address,
    and the containers that know it by the old one are without a network for half a minute.
    """
    first = next(network.hosts())
    hardware = "02:42:" + ":".join(f"{byte:02x}" for byte in first.packed)
    cache.run(["ip", "link", "add", name, "address", hardware, "type", "bridge"], error=EngineError)
    cache.run(["ip", "addr", "add", f"{first}/{network.prefixlen}", "dev", name], error=EngineError)
    cache.run(["ip", "link", "set", name, "up"], error=EngineError)


def free_network(wanted: Sequence[str] = NETWORKS) -> ipaddress.IPv4Network:
    """Return the first of some private ranges that this machine does not route yet.  Raises EngineError when it routes them all."""
    routes = json.loads(cache.run(["ip", "-4", "-json", "route", "show", "table", "all"], error=EngineError) or "[]")
    taken = []
    for route in routes:
        with contextlib.suppress(ValueError):
            taken.append(ipaddress.IPv4Network(route["dst"], strict=False))
    for text in wanted:
        network = ipaddress.IPv4Network(text)
        if not any(network.overlaps(other) for other in taken if other.prefixlen):
            return network
    raise EngineError(f"every private range that the engine may use is routed already: {', '.join(wanted)}")


def _stop() -> bool:
    pid = _pid()
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while _pid() is not None:
        if time.monotonic() > deadline:
            raise EngineError(
                f"the private engine (process {pid}) did not stop within {STOP_SECONDS} s; see {folder()}/dockerd.log"
            )
        time.sleep(0.1)
    for path in (_socket(), _pidfile(), _session_marker()):
        path.unlink(missing_ok=True)
    # a build that was at work has left its mounts, and the folder could not be deleted
    store.let_go(folder() / "data", error=EngineError)
    subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True, check=False)
    return True


def _leave(users: int) -> None:
    with cache.lock("engine"):
        if keep_marker().exists() or not _session_marker().exists():
            return
        try:
            # only the last holder can turn its shared lock into an exclusive one
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        _stop()


def _pid() -> int | None:
    """The private engine's process, if it runs: the file's number alone may by now be someone else's."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(_pidfile().read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if f"--pidfile={_pidfile()}".encode() in words:
            return pid
    return None


def _state() -> Path:
    # short: a socket's path has 107 characters at most, and containerd makes its own below this
    # and named by the cache folder alone, so that every version of this code finds the same engine
    name = hashlib.sha256(str(cache.root()).encode()).hexdigest()[:8]
    return Path("/run/couplet") / name if os.geteuid() == 0 else folder()


def _socket() -> Path:
    return _state() / "docker.sock"


def _pidfile() -> Path:
    return _state() / "dockerd.pid"


def _session_marker() -> Path:
    return folder() / "started-by-a-session"


def _server_version(host: str | None) -> str:
    """The version of the engine at a host (None: the client's default), or an empty string."""
    if not shutil.which("docker"):
        return ""
    environment = dict(os.environ, **({"DOCKER_HOST": host} if host else {}))
    with contextlib.suppress(subprocess.TimeoutExpired):
        asked = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"],
            capture_output=True, text=True, check=False, timeout=15, env=environment,
        )  # fmt: skip
        return asked.stdout.strip() if asked.returncode == 0 else ""
    return ""


def _has_buildx() -> bool:
    return subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False).returncode == 0
