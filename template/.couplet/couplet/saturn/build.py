"""Complete the environment that root.py has filled with conda's packages: Poetry's packages, the project, the kernel.

Runs with the Python that conda's packages brought, 3.11 or newer, and with the pinned tools. The work is done by the
modules that the Dockerfile uses, so the promises are the same ones: conda takes precedence, everything comes by hash from
the two locks, and the verification decides at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import couplet
from couplet import network, settings
from couplet.errors import UserError
from couplet.image import activation, guards
from couplet.install import project as install_project
from couplet.install import pypi, tools, verify
from couplet.install.origins import forget_sources
from couplet.lock import stamp
from couplet.saturn import APP, NAME, POETRY, PREFIX, ROOT, pack

PACKAGE = Path(couplet.__file__).parents[1]
START = POETRY / "start.sh"


def check_locks(project: Path) -> None:
    """Raise UserError where the locks do not fit environment.yml and pyproject.toml."""
    code, lines = stamp.check(project)
    if code:
        text = "\n".join(lines)
        raise UserError(f"{text}\nThat needs Docker: do it on your machine, and commit the lock files.")


def install_poetry(uv: Path) -> None:
    """Put Poetry, by hash, into POETRY, with bin/poetry alone for PATH: a python in there would hide the environment's."""
    pins = PACKAGE / "pins/poetry.txt"
    made_of, wanted = POETRY / "made-of", hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()
    if made_of.exists() and made_of.read_text() == wanted:
        return
    venv, program = POETRY / "venv", POETRY / "bin/poetry"
    shutil.rmtree(venv, ignore_errors=True)
    print(f"Poetry: into {POETRY}", flush=True)
    tools.into_environment(venv, [pins], PREFIX / "bin/python", uv)
    guards.guard_poetry(venv)
    program.parent.mkdir(exist_ok=True)
    program.unlink(missing_ok=True)
    program.symlink_to("../venv/bin/poetry")
    (POETRY / "cache").mkdir(exist_ok=True)
    made_of.write_text(wanted)


def copy_project(project: Path) -> None:
    """Put into APP what the project is imported from, and the locks of what it was built with."""
    if project == APP:
        return
    for path in (
        *(project / name for name in ("pyproject.toml", "README.md", "poetry.lock")),
        *project.glob("conda-linux-*.lock"),
    ):
        shutil.copyfile(path, APP / path.name)
    shutil.rmtree(APP / "src", ignore_errors=True)
    shutil.copytree(project / "src", APP / "src", ignore=shutil.ignore_patterns("__pycache__"))


def register_kernel(project: Path, variables: Path) -> None:
    """Register the kernel with the environment's own packages, which this process does not see."""
    command = [f"{PREFIX}/bin/python", "-B", "-s", "-m", "couplet", "kernel", "--project", str(project)]
    command += ["--variables", str(variables), "--environment", str(PREFIX)]
    if subprocess.run(command, env={**os.environ, "PYTHONPATH": str(PACKAGE)}).returncode:
        raise UserError("the kernel could not be registered (see above).")


def write_start_lines(static: Path) -> str:
    """Write what a resource has to source, since the builder keeps no ENV: the activation, and where Poetry is."""
    text = static.read_text() + (
        f"export POETRY_HOME={POETRY}\n"
        f'export PATH={POETRY}/bin:"$PATH"\n'
        f"export POETRY_CACHE_DIR={POETRY}/cache\n"
        "export POETRY_VIRTUALENVS_CREATE=false\n"
    )
    START.write_text(text)
    # What Poetry makes of it: the environment, or one of its own?
    command = f". {shlex.quote(str(START))} && cd {shlex.quote(str(APP))} && poetry env info --path"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    if done.stdout.strip() != str(PREFIX):
        found = done.stdout.strip() or "no environment"
        raise UserError(f"{START}: Poetry uses {found} as the project's environment, not {PREFIX}.\n{done.stderr}")
    return text


def main(arguments: list[str]) -> None:
    """The verb `saturn`."""
    parser = argparse.ArgumentParser(prog="couplet saturn", description=__doc__)
    parser.add_argument("--project", type=Path, required=True, help="folder of pyproject.toml and locks")
    parser.add_argument("--uv", type=Path, required=True)
    parser.add_argument("--packed", action="store_true", help="the locks were checked when `make saturn` ran")
    parser.add_argument("--only-verify", action="store_true", help="is the environment what the locks say?")
    parser.add_argument("--verified", action="store_true", help="it is")
    options = parser.parse_args(arguments)
    project, uv = options.project, options.uv
    names, groups = settings.project(project), settings.groups(settings.pyproject(project))["main"]

    if not options.packed:
        check_locks(project)
    pack.check_code(project)
    if options.only_verify:
        verify.verify(project, groups, PREFIX, [names.distribution], uv)
        return
    if not options.verified:
        forget_sources(PREFIX)
        pypi.install(project / "poetry.lock", groups, PREFIX, uv, network.secret("poetry_auth"))
        verify.verify(project, groups, PREFIX, [names.distribution], uv)
    install_poetry(uv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        activation.record_to(folder, PREFIX, NAME, ROOT)
        copy_project(project)
        install_project.install(APP, names.package, PREFIX, uv=uv)
        if names.kernel:
            register_kernel(project, folder / "variables.json")
        text = write_start_lines(folder / "static.sh")
    print(
        f"\nDone. The image builder keeps no variables: put this line into the start script of each resource\n\n    . {START}\n\n"
        f"which does:\n\n{text}\n"
        f"A checkout of the repository in a resource comes before the code in {APP} with: export PYTHONPATH=CHECKOUT/src",
        flush=True,
    )
