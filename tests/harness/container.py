"""A container that a test looks into: one object owns its life."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import testinfra
from testinfra.host import Host

from couplet import network
from tests.harness.project import Done

started = 0
"""Containers that were started so far: the summary reports it."""
sizes: dict[str, tuple[int, ...]] = {}
"""Variant -> bytes of its runtime and dev image, as they are built: the summary has them in its table."""
steps: dict[str, dict[str, float]] = {}
"""Variant -> seconds of its lock, its runtime image (build) and its dev image (dev), as a user's make takes them."""

BUILDERS_OWN = ("inconsistent graph state", "failed to get state for index", "layer does not exist")
"""What a builder says that fails with an internal error (decision 0072): the build is asked for once more."""


def docker(*words: str, stdin: str | None = None, timeout: float = 300, check: bool = True) -> Done:
    """Run the docker command. Raises AssertionError, showing its output, when it fails and `check` holds."""
    global started
    started += words[0] == "run"
    for _ in range(2):
        done = subprocess.run(["docker", *words], input=stdin or "", capture_output=True, text=True, timeout=timeout)
        output = done.stdout + done.stderr
        if not (done.returncode and words[:2] == ("buildx", "build") and any(fault in output for fault in BUILDERS_OWN)):
            break
    assert not check or done.returncode == 0, f"docker {' '.join(words)} ended with {done.returncode}:\n{output[-6000:]}"
    return Done(done.returncode, output, done.stdout)


def mirrors() -> tuple[str, ...]:
    """Return docker run's options with which conda, pip, uv and Poetry in a container reach this machine's package sources."""
    pip, ca = os.environ.get("PIP_CONFIG_FILE"), os.environ.get("SSL_CERT_FILE")
    files = {"CONDARC": os.environ.get("CONDARC"), "PIP_CONFIG_FILE": pip, **dict.fromkeys(network.CERTIFICATES, ca)}
    variables = {**files, **network.index_variables(network.pip_settings(Path(pip)) if pip else {})}
    mounts = [f"--volume={file}:{file}:ro" for file in set(filter(None, files.values()))]
    return (*mounts, *(f"--env={name}={value}" for name, value in variables.items() if value))


@contextmanager
def running(image: str, *options: str, command: tuple[str, ...] = ("sleep", "infinity")) -> Iterator[Host]:
    """A running container of `image`, as testinfra sees it; removed at the end, whatever happens."""
    name = docker("run", "--detach", *options, image, *command).stdout.strip()
    try:
        yield testinfra.get_host(f"docker://{name}")
    finally:
        docker("rm", "--force", "--volumes", name)


@contextmanager
def derived(image: str, instructions: str) -> Iterator[str]:
    """An image made of `image` and some Dockerfile instructions: how tests break what should hold."""
    name = f"{image.replace(':', '-')}-derived:{abs(hash(instructions))}"
    # a folder, since buildx 0.29 leaves two files behind for each Dockerfile that it reads from standard input
    with tempfile.TemporaryDirectory() as context:
        (Path(context) / "Dockerfile").write_text(f"FROM {image}\n{instructions}\n")
        docker("buildx", "build", "--quiet", "--tag", name, context)
    try:
        yield name
    finally:
        docker("image", "rm", "--force", name)


def run(image: str, *command: str, options: tuple[str, ...] = (), stdin: str | None = None, check: bool = True) -> str:
    """Return what a command prints on standard output in a new container, as a user would call it."""
    interactive = ("--interactive",) if stdin is not None else ()
    return docker("run", "--rm", *interactive, *options, image, *command, stdin=stdin, check=check).stdout
