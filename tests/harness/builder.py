"""A second builder beside the engine in use: it starts empty, and can be emptied, as a new machine of a fleet is.

As root, with the distribution's engine, it is a second engine; elsewhere (a runner of GitHub's) buildx's own kind in a container, whose
image Docker Hub has. The second engine's image store is containerd's, so that it writes layer cache into a registry, which an engine of the older kind cannot. It has a
data folder, a socket and a bridge of its own, and leaves the rules of the first engine alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.mirror import cache, engine

START_SECONDS = 60
RANGES = [f"10.214.{number}.0/24" for number in range(32, 64)]
"""Where the bridges of second engines are looked for after the first engine's own ranges: several suites may be at work."""


class Builder:
    """An engine that belongs to a test: `environment` names it to docker and make."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        name = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
        # a socket's path has 107 characters at most
        self.state = Path("/run/couplet") / f"builder-{name}"
        self.bridge = f"cplt{name}"
        self.process: subprocess.Popen | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What names this engine: DOCKER_HOST."""
        return {"DOCKER_HOST": f"unix://{self.state}/docker.sock"}

    @property
    def holds(self) -> list[str]:
        """Its images."""
        return cache.run(["docker", "images", "--quiet"], env={**os.environ, **self.environment}).split()

    def start(self) -> None:
        """Start it. Raises RuntimeError, with the end of its log, where it does not come up."""
        self.state.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = self.folder / "daemon.json"
        settings.write_text(json.dumps({"features": {"containerd-snapshotter": True}}))
        log = self.folder / "dockerd.log"
        command = [
            program(), f"--config-file={settings}",
            f"--data-root={self.folder / 'data'}", f"--exec-root={self.state / 'exec'}", f"--pidfile={self.state / 'pid'}",
            f"--host={self.environment['DOCKER_HOST']}", f"--bridge={self.bridge}", "--iptables=false",
            "--exec-opt=native.cgroupdriver=cgroupfs",
        ]  # fmt: skip
        with log.open("ab") as output:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/")
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            asked = subprocess.run(["docker", "version"], env={**os.environ, **self.environment}, capture_output=True)
            if asked.returncode == 0:
                return
            time.sleep(0.2)
        raise RuntimeError("the second engine did not come up:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-12:]))

    def stop(self) -> None:
        """Stop it; what it holds stays."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    def empty(self) -> None:
        """Make it a new machine: no image, no layer, no cache of packages. It runs afterwards."""
        self.stop()
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        self.start()


class InContainer:
    """A builder of buildx's driver docker-container: what it builds is loaded into the engine in use."""

    def __init__(self, name: str) -> None:
        self.environment = {"BUILDX_BUILDER": name}

    @property
    def holds(self) -> list[str]:
        """The records of its cache."""
        shown = cache.run(["docker", "buildx", "du", "--verbose"], env={**os.environ, **self.environment})
        return [line for line in shown.splitlines() if line.startswith("ID:")]

    def empty(self) -> None:
        """Make it a new one."""
        self.stop()
        # on the host's network it reaches a registry on loopback
        options = ["--driver-opt", "network=host", "--driver-opt", "default-load=true"]
        name = self.environment["BUILDX_BUILDER"]
        cache.run(["docker", "buildx", "create", "--name", name, "--driver", "docker-container", *options, "--bootstrap"])

    def stop(self) -> None:
        """Take it away, and what it holds."""
        subprocess.run(["docker", "buildx", "rm", self.environment["BUILDX_BUILDER"]], capture_output=True, check=False)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Builder | InContainer]:
    """A second builder for the length of a block, empty at first."""
    if os.geteuid() == 0 and program():
        with _engine(folder) as builder:
            yield builder
        return
    builder = InContainer(f"couplet-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}")
    try:
        builder.empty()
        yield builder
    finally:
        builder.stop()


@contextlib.contextmanager
def _engine(folder: Path) -> Iterator[Builder]:
    builder = Builder(folder)
    try:
        with bridged(builder.bridge):
            try:
                builder.start()
                yield builder
            finally:
                builder.stop()
    finally:
        shutil.rmtree(builder.state, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def bridged(name: str) -> Iterator[None]:
    """A bridge for an engine, with a way out, for the length of a block. Needs root."""
    # between the look for a range and its use nobody else may find the same one
    with cache.lock("bridge"):
        network = engine.free_network([*engine.NETWORKS, *RANGES])
        engine.add_bridge(name, network)
    forward = ["FORWARD", "-j", "ACCEPT"]
    rules = [
        ["-t", "nat", "POSTROUTING", "-s", str(network), "!", "-o", name, "-j", "MASQUERADE"],
        [*forward, "-i", name],
        [*forward, "-o", name],
    ]
    done: list[list[str]] = []
    try:
        for rule in rules:
            cache.run(_iptables("-I", rule))
            done.append(rule)
        yield
    finally:
        for rule in done:
            cache.run(_iptables("-D", rule))
        cache.run(["ip", "link", "delete", name])


def program() -> str:
    """The engine's program, or an empty string."""
    return shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or ""


def _iptables(action: str, rule: list[str]) -> list[str]:
    table, rest = (rule[:2], rule[2:]) if rule[0] == "-t" else ([], rule)
    return ["iptables", *table, action, *rest]
