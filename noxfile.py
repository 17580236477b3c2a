"""The only task runner of this repository: `nox -l` lists the sessions.

    nox -s demo             a project from nothing: rendered, locked, built, and an analysis run in it
    nox -s tests            everything; `nox -s tests -- -k kernel` narrows
    nox -s tests -- --part 2/4      the second of four parts (`nox -s matrix` lists them for CI)
    nox -s tests -- -n 0            one test at a time
    nox -s mirror           starts the closed network; `-- status` shows it, `-- down` stops it

demo and tests find out what they have: an engine in reach is used, or a private one set up (Debian or
Ubuntu as root); conda-forge and Docker Hub in reach are used, or else the mirror in tests/mirror.
`--network=public` or `--network=mirror` after `--` forces one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["lint", "tests"]
nox.options.default_venv_backend = "virtualenv"
PROJECT = nox.project.load_toml("pyproject.toml")
PACKAGE = [f"tests/{part}" for part in ("lock", "install", "image", "inspect", "saturn", "update")]
"""The unit tests of the package that a project holds in .couplet/, one folder for each of its own."""
COVERAGE = ("--cov=couplet", "--cov-report=term:skip-covered")


def install(session: nox.Session, *groups: str) -> None:
    """Install pinned dependency groups of pyproject.toml into the session."""
    session.install("--quiet", *nox.project.dependency_groups(PROJECT, *groups))


@nox.session
def demo(session: nox.Session) -> None:
    """Render the defaults, lock, build, and run a real analysis and a notebook in the image."""
    install(session, "tests")
    session.run("python", "-m", "tests.harness.demo", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Everything, on real images, in three processes. `-- --part 2/4` runs a part, `-- -n 0` one thing at a time,

    `-- --durations-to tests/durations.json` measures.
    """
    install(session, "tests")
    session.run("pytest", "-n", "auto", *COVERAGE, *session.posargs)


@nox.session
def package(session: nox.Session) -> None:
    """The unit tests of the package in .couplet/, and how much of it they run. No Docker."""
    install(session, "tests")
    session.run("pytest", "-n", "auto", *COVERAGE, *PACKAGE, *session.posargs)


@nox.session
def render(session: nox.Session) -> None:
    """What can be told without Docker: answers and rendered files."""
    install(session, "tests")
    session.run("pytest", "-n", "auto", "tests/render", *sorted(map(str, Path("tests").glob("test_[12]*.py"))), *session.posargs)


@nox.session
def update(session: nox.Session) -> None:
    """`copier update` from every release, with a user's edits and without trust; adopting. No Docker."""
    install(session, "tests")
    session.run("pytest", "-n", "auto", "tests/test_80_update.py", "tests/test_81_adopting.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """The harness' own code, and the types of the package (its form is that of a rendered project: see `render`)."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def images(session: nox.Session) -> None:
    """Only what needs images."""
    install(session, "tests")
    files = sorted(str(path) for pattern in ("test_[3-7]*.py", "test_85*.py") for path in Path("tests").glob(pattern))
    session.run("pytest", "-n", "auto", *files, *session.posargs)


@nox.session
def pictures(session: nox.Session) -> None:
    """Make the pictures of docs/apps.md anew: the apps, built and opened in a browser."""
    install(session, "tests")
    session.run(
        "pytest",
        "tests/test_75_apps.py",
        "-k",
        "in_a_browser",
        "--pictures=docs/pictures",
        "--picture-format=webp",
        *session.posargs,
    )


@nox.session
def matrix(session: nox.Session) -> None:
    """Print parts of the suite as JSON, for CI: `{"part": ["1/4", ...]}`. `-- --parts 8` makes eight."""
    parser = argparse.ArgumentParser(prog="nox -s matrix --")
    parser.add_argument("--parts", type=int, default=4)
    count = parser.parse_args(session.posargs).parts
    if count < 1:
        session.error("--parts needs a number from 1 up")
    print(json.dumps({"part": [f"{number}/{count}" for number in range(1, count + 1)]}))


@nox.session
def renovate(session: nox.Session) -> None:
    """Have Renovate itself read a rendered project: what it would move, and what not. Needs npm."""
    install(session, "tests")
    session.run("python", "-m", "tests.harness.renovate", *session.posargs)


@nox.session
def mirror(session: nox.Session) -> None:
    """Start (`up`, the default), show (`status`) or stop (`down`) the closed network; writes .cache/mirror.env."""
    install(session, "mirror")
    session.run("python", "-m", "tests.mirror", *(session.posargs or ["up"]))


@nox.session
def bench(session: nox.Session) -> None:
    """Couplet, the seeds' ways and the floor on the same work, in one run; `-- --rounds 1` for a glance."""
    install(session, "bench")
    module, words = "bench", session.posargs
    if words and words[0] in ("fleet", "harness", "scale", "steps"):
        module, words = f"bench.{words[0]}", words[1:]
    session.run("python", "-m", module, *words)


@nox.session
def bases(session: nox.Session) -> None:
    """Ask the registries for the base images' digests and newer tags; `-- --write` moves the template's defaults."""
    install(session, "tests")
    session.run("python", "-m", "tests.harness.bases", *session.posargs)


@nox.session
def tools(session: nox.Session) -> None:
    """Refresh the pinned tools in template/.couplet/pins/*.txt from the versions in tools.toml, and the MANIFEST."""
    install(session, "tools")
    session.run("python", "-m", "tests.harness.pins")
    session.run("python", "-m", "tests.harness.manifest")
