"""The only task runner of this repository: `nox -l` lists the sessions.

    nox -s demo             a project from nothing: rendered, locked, built, and an analysis run in it
    nox -s tests            everything; `nox -s tests -- -k kernel` narrows
    nox -s tests -- --part 2/4      the second of four parts (`nox -s matrix` lists them for CI)
    nox -s tests -- -n 0            one test at a time
    nox -s soak             what loads the machine or wrecks an engine, which tests leaves out
    nox -s mutants          mistakes put into the template one at a time: does a test see each?
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
PACKAGE = PROJECT["tool"]["pytest"]["ini_options"]["package"]
"""The unit tests of the package that a project holds in .couplet/, one folder for each of its own."""
WITHOUT_ENGINE = ("-m", "not engine")
COVERAGE = ("--cov=couplet", "--cov-report=term:skip-covered")


def install(session: nox.Session, group: str) -> None:
    """Install a dependency group of pyproject.toml into the session, by the hashes in requirements/ (`nox -s pin-tools` writes them)."""
    session.install("--quiet", "--require-hashes", "--requirement", f"requirements/{group}.txt")


@nox.session
def demo(session: nox.Session) -> None:
    """Render the defaults, lock, build, and run a real analysis and a notebook in the image."""
    install(session, "tests")
    session.run("python", "-m", "tests.harness.demo", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Everything but `soak`, on real images, in three processes. `-- --part 2/4` runs a part, `-- -n 0` one thing at a time,

    `-- --durations-to tests/durations.json` measures.
    """
    install(session, "tests")
    session.run("pytest", "-n", "auto", *COVERAGE, *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """What loads the machine or wrecks an engine on purpose: at night, and before a release. Commit tests/soak.json."""
    install(session, "tests")
    session.run("pytest", "-n", "auto", "--soak", *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Put the mistakes of tests/mutants.toml in, one at a time, and say which no test sees. `-- --part 2/4`, `-- --engine`: Docker's."""
    install(session, "tests")
    session.run("python", "-m", "tests.harness.mutants", *session.posargs)


@nox.session
def package(session: nox.Session) -> None:
    """The unit tests of the package in .couplet/, and how much of it they run. No Docker."""
    install(session, "tests")
    session.run("pytest", "-n", "auto", *COVERAGE, *WITHOUT_ENGINE, *PACKAGE, *session.posargs)


@nox.session
def render(session: nox.Session) -> None:
    """What can be told without Docker: answers and rendered files."""
    install(session, "tests")
    session.run("pytest", "-n", "auto", *WITHOUT_ENGINE, "tests/answers", "tests/render", *session.posargs)


@nox.session
def update(session: nox.Session) -> None:
    """The tests of `copier update`: from every release, with a user's edits and without trust; of adopting too. No Docker."""
    install(session, "tests")
    session.run("pytest", "-n", "auto", *WITHOUT_ENGINE, "tests/update", *session.posargs)


@nox.session
def adopt(session: nox.Session) -> None:
    """Bring a repository with conda, Poetry or both under the template: `nox -s adopt -- ../tides` (docs/adopting.md)."""
    session.install("--quiet", *nox.project.load_toml("hooks/adopt.py")["dependencies"])
    script = Path("hooks/adopt.py").resolve()
    with session.chdir(session.invoked_from):
        session.run("python", str(script), *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Every hook of .pre-commit-config.yaml on every file that git knows: form, types, shell, spelling. `-- shellcheck` runs one."""
    install(session, "lint")
    session.run("pre-commit", "run", "--all-files", "--show-diff-on-failure", *session.posargs)


@nox.session
def images(session: nox.Session) -> None:
    """The tests that need images, and no others."""
    install(session, "tests")
    session.run("pytest", "-n", "auto", "-m", "engine", *session.posargs)


@nox.session
def pictures(session: nox.Session) -> None:
    """Make the pictures of docs/apps.md anew: the apps, built and opened in a browser."""
    install(session, "tests")
    session.run(
        "pytest",
        "tests/apps/test_apps.py",
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
    """Couplet, the seeds' ways and the lower bound on the same work, in one run; `-- --rounds 1` for a glance."""
    install(session, "bench")
    module, words = "bench", session.posargs
    if words and words[0] in ("fleet", "harness", "lock", "scale", "steps"):
        module, words = f"bench.{words[0]}", words[1:]
    session.run("python", "-m", module, *words)


@nox.session(name="pin-base-images")
def pin_base_images(session: nox.Session) -> None:
    """Ask the registries for the base images' digests and newer tags; `-- --write` moves the template's defaults."""
    install(session, "tests")
    session.run("python", "-m", "tests.harness.base_images", *session.posargs)


@nox.session(name="base-check")
def base_check(session: nox.Session) -> None:
    """Has an image what the template needs of its base? `nox -s base-check -- condaforge/miniforge3:latest`"""
    session.run("python", "-m", "tests.harness.base_check", *session.posargs)


@nox.session(name="pin-tools")
def pin_tools(session: nox.Session) -> None:
    """Refresh the hashes: template/.couplet/pins/*.txt from tools.toml, with the MANIFEST; requirements/*.txt from pyproject.toml."""
    install(session, "tools")
    session.run("python", "-m", "tests.harness.pins")
    session.run("python", "-m", "tests.harness.manifest")
