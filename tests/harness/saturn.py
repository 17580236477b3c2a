"""Saturn Cloud's image builder, as far as its documents say what it does: a base image, files, one script run as jovyan."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.harness.container import docker
from tests.harness.project import Done, Project
from tests.mirror import images

BASE = images.SATURN
PREFIX = "/opt/saturncloud/envs/saturn"
SETTINGS = {
    "CONDARC": "/run/settings/condarc",
    "PIP_CONFIG_FILE": "/run/settings/pip.conf",
    "SSL_CERT_FILE": "/run/settings/ca.pem",
}
"""How this machine reaches its packages: what a company's base image has in /etc, a build gets as variables here."""


@dataclass(frozen=True)
class OnSaturn(Project):
    """A project whose environment is where the platform has it."""

    @property
    def prefix(self) -> str:
        return PREFIX


@contextmanager
def builder(base: str = BASE, *options: str) -> Iterator[str]:
    """A container of a base image in which a postBuild can run; its name. Nothing of the settings stays in it."""
    mounts = [f"--volume={os.environ[name]}:{place}:ro" for name, place in SETTINGS.items() if os.environ.get(name)]
    name = docker("run", "--detach", *mounts, *options, base, "sleep", "infinity").stdout.strip()
    try:
        yield name
    finally:
        docker("rm", "--force", "--volumes", name)


def copy(project: Project, container: str, path: str = "/tmp/project") -> None:
    """Put the repository's files into a container, as a checkout of jovyan's."""
    docker("cp", f"{project.path}/.", f"{container}:{path}")
    docker("exec", "--user", "0", container, "chown", "-R", "1000:1000", path)


def bash(container: str, command: str, *options: str, check: bool = True) -> Done:
    """Run a command as the platform runs a postBuild: a fresh bash of the image's user, which stops at an error."""
    settings = [word for name, place in SETTINGS.items() if os.environ.get(name) for word in ("--env", f"{name}={place}")]
    words = ("exec", *settings, *options, container, "bash", "-e", "-u", "-o", "pipefail", "-c", command)
    return docker(*words, timeout=900, check=check)


def post_build(container: str, script: str = "/tmp/project/postBuild", *, check: bool = True) -> Done:
    """Run a postBuild that lies in the container."""
    return bash(container, f"bash -e -u -o pipefail {script}", check=check)


def commit(container: str, image: str) -> str:
    """Make an image of a container; returns its name."""
    docker("commit", container, image)
    return image


def paste(container: str, script: Path) -> str:
    """Put one script into a container, and nothing else; returns where it lies."""
    docker("cp", str(script), f"{container}:/tmp/postBuild.sh")
    return "/tmp/postBuild.sh"
