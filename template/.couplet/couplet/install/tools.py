"""Install the pinned tools, by hash and nothing else.

couplet tools --target /opt/tools FILE …     into a folder that this package's Python imports from (uv, rattler, …)
couplet tools --venv /opt/poetry FILE …      into an environment of its own (Poetry, Copier), compiled
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from couplet import network
from couplet.errors import UserError

UV = Path("/opt/tools/bin/uv")


def sources() -> str:
    """Return the addresses of the indexes that pip and uv ask, as apply() in network.py left them."""
    main = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL") or network.default_index()
    return " and ".join(dict.fromkeys([main or "pip's own index", *os.environ.get("UV_INDEX", "").split()]))


def install(command: list[str], pins: list[Path]) -> None:
    """Run a command of pip or uv that installs files of pins. Raises UserError, in plain words, where it fails."""
    words = [*command, *(word for file in pins for word in ("-r", str(file)))]
    done = subprocess.run(words, env={**os.environ, "UV_LINK_MODE": "copy"}, stderr=subprocess.PIPE, text=True)
    print(done.stderr, end="", file=sys.stderr, flush=True)
    if done.returncode:
        names = " and ".join(file.name for file in pins)
        different = "ash mismatch" in done.stderr or "DO NOT MATCH THE HASHES" in done.stderr
        raise UserError(
            f"packages of {names} have other hashes in {sources()} (see above): the download was tampered with, or cut short."
            if different
            else f"packages of {names} could not be downloaded from {sources()} (see above).\n"
            "Is that index, or your mirror in pip.conf, reachable from a container, and does it have these versions?"
        )


def into_folder(target: Path, pins: list[Path]) -> None:
    """Install pins into a folder, with the pip of this process' Python."""
    options = ["--quiet", "--root-user-action=ignore", "--disable-pip-version-check"]
    exactly = ["--require-hashes", "--no-deps", "--no-compile", f"--target={target}"]
    install([sys.executable, "-I", "-m", "pip", "install", *options, *exactly], pins)


def into_environment(venv: Path, pins: list[Path], python: Path | None = None, uv: Path = UV) -> None:
    """Make a virtual environment of a Python (this process' own by default) and install pins, compiled."""
    interpreter = python or Path(sys.executable).resolve()
    subprocess.run([str(uv), "venv", "--quiet", "--python", str(interpreter), str(venv)], check=True)
    options = ["--quiet", "--compile-bytecode", "--require-hashes", "--python", str(venv)]
    install([str(uv), "pip", "install", *options], pins)
    # uv's lock on the environment, which it leaves behind, and which anyone may write
    (venv / ".lock").unlink(missing_ok=True)


def main(arguments: list[str]) -> None:
    """The verb `tools`."""
    parser = argparse.ArgumentParser(prog="couplet tools", description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--target", type=Path, help="a folder")
    where.add_argument("--venv", type=Path, help="the folder of a new virtual environment")
    parser.add_argument("--python", type=Path, help="the environment's Python; the base image's by default")
    parser.add_argument("--uv", type=Path, default=UV)
    parser.add_argument("pins", type=Path, nargs="+", metavar="FILE", help="requirements with hashes")
    options = parser.parse_args(arguments)

    network.apply()
    os.umask(0o002)  # as what shares uv's cache does: a file's mode there goes into every image
    if options.target:
        into_folder(options.target, options.pins)
    else:
        into_environment(options.venv, options.pins, options.python, options.uv)
