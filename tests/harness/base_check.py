"""What the template needs of its base images, one list: `nox -s base-check -- IMAGE …` compares any image with it.

For whoever moves to a newer base, or has one of their own behind REGISTRY: it takes seconds, where a build that fails
takes minutes and says less. Needs nothing but Docker.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import NamedTuple


class Need(NamedTuple):
    """Something that a base has to have: what, why, and a shell command that succeeds where it is there."""

    what: str
    why: str
    command: str


def programs(*names: str, why: str) -> list[Need]:
    """Return the need of each of some programs."""
    return [Need(name, why, f"command -v {name}") for name in names]


SHELL = [
    Need("POSIX sh", "every step of a build", "test -x /bin/sh"),
    *programs("awk", "cat", "install", "mkdir", "mktemp", "rm", "sed", "sort", "tr", why="steps of a build"),
]
IMAGE = [
    *SHELL,
    Need("bash", "the shims and every prompt", "test -x /bin/bash"),
    Need("env -0", "the activation is read by it", "/usr/bin/env -0 > /dev/null"),
    *programs("useradd", "userdel", "groupadd", "getent", why="the user `app`"),
    Need(
        "/etc/profile.d, /etc/bash.bashrc",
        "login and interactive shells are activated there",
        "test -d /etc/profile.d && test -f /etc/bash.bashrc",
    ),
    Need("an empty /opt/activation", "the recorded activation", "test ! -e /opt/activation"),
    Need("/project, /work not in use", "mounts of a build, the project's folder", "test ! -e /project && test ! -e /work"),
]
PYTHON = "import sys; sys.exit(not (3, 11) <= sys.version_info[:2])"
"""Of the image's own Python, which runs this package: tomllib is in 3.11."""
NEEDS = {
    "conda": [
        *IMAGE,
        Need("/opt/conda/bin/conda", "conda itself", "/opt/conda/bin/conda --version"),
        Need("Python 3.11 or newer in /opt/conda", "the package of .couplet runs with it", f"/opt/conda/bin/python -Ic '{PYTHON}'"),
        Need("pip in /opt/conda", "the pinned tools are fetched with it", "/opt/conda/bin/python -Im pip --version"),
        Need("conda.plugins.types.CondaPostCommand", "conda's word after an installation in a shell", "/opt/conda/bin/python -Ic 'from conda.plugins.types import CondaPostCommand'"),
        Need("conda's session and archives", "packages are fetched with them", "/opt/conda/bin/python -Ic 'import conda.gateways.connection.session, conda_package_streaming'"),
        Need("channel_alias, mirrored_channels, custom_channels", "mirrors are read from conda's context", "/opt/conda/bin/python -Ic 'from conda.base.context import context as c; c.channel_alias, c.custom_channels, c.raw_data'"),
        Need("/opt/conda/etc/profile.d/conda.sh", "conda as a function of the shell", "test -f /opt/conda/etc/profile.d/conda.sh"),
        Need("conda activate", "the activation is recorded by it", "bash -c '. /opt/conda/etc/profile.d/conda.sh && conda activate base'"),
        Need("/usr/bin/tini-static", "the first process of runtime", "/usr/bin/tini-static --version"),
        Need("tini", "the first process of dev", "tini --version"),
        Need("git", "make update", "git --version"),
        Need("no /opt/poetry, /opt/tools, /opt/miniforge", "folders of a build", "test ! -e /opt/poetry && test ! -e /opt/tools && test ! -e /opt/miniforge"),
    ],
    "runtime": [*IMAGE, Need("no /opt/conda", "the environment's folder", "test ! -e /opt/conda")],
    "python": [
        *IMAGE,
        Need("Python 3.11 or newer in /usr/local", "the environment is made of it", f"/usr/local/bin/python -Ic '{PYTHON}'"),
        Need("pip in /usr/local", "the pinned tools are fetched with it", "/usr/local/bin/python -Im pip --version"),
        Need("venv", "the environment", "/usr/local/bin/python -Ic 'import venv, ssl, sqlite3, ctypes'"),
    ],
}  # fmt: skip
"""Kind of base -> what it needs: conda's (conda_base_image), Debian for runtime, and Python's (environment=poetry)."""


def kind_of(image: str) -> str:
    """Return the kind of an image, by what it has."""
    look = "if [ -e /opt/conda ]; then echo conda; elif [ -e /usr/local/bin/python ]; then echo python; else echo runtime; fi"
    return _shell(image, look).stdout.strip()


def missing(image: str, kind: str) -> list[Need]:
    """Return what an image lacks of NEEDS[kind], by one container of it."""
    lines = [f"( {need.command} ) > /dev/null 2>&1 < /dev/null && echo {number}" for number, need in enumerate(NEEDS[kind])]
    there = set(_shell(image, "\n".join([*lines, "true"])).stdout.split())
    return [need for number, need in enumerate(NEEDS[kind]) if str(number) not in there]


def _shell(image: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a container of an image, past its entry point. Raises SystemExit where that cannot be started."""
    command = ["docker", "run", "--rm", "--entrypoint", "/bin/sh", "--user", "0", image, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{image} cannot be started, or has no /bin/sh:\n{done.stderr.strip()}")
    return done


def main(words: list[str] | None = None) -> int:
    """Print what each image lacks; return how many lack something."""
    parser = argparse.ArgumentParser(prog="nox -s base-check --", description="Has an image what the template needs of its base?")
    parser.add_argument("--kind", choices=NEEDS, help="conda's, Debian for runtime, or Python's; by default what it looks like")
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    given = parser.parse_args(words)
    failed = 0
    for image in given.images:
        kind = given.kind or kind_of(image)
        lacks = missing(image, kind)
        failed += bool(lacks)
        print(f"{image}, as a base of the kind {kind}: {len(NEEDS[kind]) - len(lacks)} of {len(NEEDS[kind])} needs met")
        for need in lacks:
            print(f"  it lacks {need.what} ({need.why}): {need.command}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
