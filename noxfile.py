"""The only task runner of this repository: `nox -l` lists the sessions.

    nox -s demo             a project from nothing: rendered, locked, built, and an analysis run in it
    nox -s tests            everything; `nox -s tests -- -k kernel` narrows
    nox -s mirror           starts the closed network; `-- status` shows it, `-- down` stops it

demo and tests find out what they have: an engine in reach is used, or a private one set up (Debian or
Ubuntu as root); conda-forge and Docker Hub in reach are used, or else the mirror in tests/mirror.
`--network=public` or `--network=mirror` after `--` forces one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["lint", "tests"]
nox.options.default_venv_backend = "virtualenv"
PROJECT = nox.project.load_toml("pyproject.toml")


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
    """Everything, on real images."""
    install(session, "tests")
    session.run("pytest", *session.posargs)


@nox.session
def render(session: nox.Session) -> None:
    """What can be told without Docker: answers and rendered files."""
    install(session, "tests")
    session.run("pytest", "tests/test_10_answers.py", "tests/test_20_rendered.py", *session.posargs)


@nox.session
def update(session: nox.Session) -> None:
    """`copier update` from every release, with a user's edits and without trust; adopting. No Docker."""
    install(session, "tests")
    session.run("pytest", "tests/test_80_update.py", "tests/test_81_adopting.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """The harness' own code (the template's is linted as rendered, in `render`)."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def images(session: nox.Session) -> None:
    """Only what needs images."""
    install(session, "tests")
    files = sorted(str(path) for pattern in ("test_[3-7]*.py", "test_85*.py") for path in Path("tests").glob(pattern))
    session.run("pytest", *files, *session.posargs)


@nox.session
def matrix(session: nox.Session) -> None:
    """Print the built variants as JSON, for CI: `{"variant": ["default", ...]}`."""
    sys.path.insert(0, str(Path(__file__).parent))
    from tests.harness.variants import variants

    print(json.dumps({"variant": [row.name for row in variants(built=True)]}))


@nox.session
def mirror(session: nox.Session) -> None:
    """Start (`up`, the default), show (`status`) or stop (`down`) the closed network; writes .cache/mirror.env."""
    install(session, "mirror")
    session.run("python", "-m", "tests.mirror", *(session.posargs or ["up"]))


@nox.session
def tools(session: nox.Session) -> None:
    """Refresh the hashes of the pinned tools in template/docker/*.txt from the versions in tools.toml."""
    install(session, "tools")
    pins = nox.project.load_toml("tools.toml")
    for name, requirements in pins.items():
        source = Path(session.create_tmp(), f"{name}.in")
        source.write_text("\n".join(f"{package}=={version}" for package, version in requirements.items()) + "\n")
        session.run(
            "uv", "pip", "compile", "--quiet", "--universal", "--python-version=3.11", "--generate-hashes", "--no-header",
            "--no-annotate", "--output-file", str(Path("template/docker", f"{name}.txt").resolve()), str(source),
        )  # fmt: skip
