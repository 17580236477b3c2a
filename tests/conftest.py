"""Fixtures along the way of the data: template -> project -> locks -> images -> container."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import container, network, template
from tests.harness.project import Project
from tests.harness.variants import Variant, variants
from tests.mirror import engine, web

os.environ.update(template.isolated())

IMAGES = "couplet-test-" + hashlib.sha256(str(template.REPOSITORY).encode()).hexdigest()[:6]
"""What image names begin with: two clones of this repository may be tested on one engine at once."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--network", choices=["auto", "public", "mirror"], default="auto", help="where packages and base images come from"
    )
    parser.addoption("--variant", choices=[row.name for row in variants()], help="only this row of tests/variants.toml")


ROWS = {
    "variant": lambda row: True,
    "built": lambda row: row.build,
    "with_kernel": lambda row: row.build and row.answers.get("kernel", True),
    "without_kernel": lambda row: row.build and not row.answers.get("kernel", True),
}
"""Which rows of tests/variants.toml a test runs on, by the name of the fixture that it asks for."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on the rows of the table that its fixture stands for."""
    for name, chosen in ROWS.items():
        if name in metafunc.fixturenames:
            only = metafunc.config.getoption("--variant")
            rows = [row for row in variants() if chosen(row) and only in (None, row.name)]
            rows = rows[: 1 if metafunc.definition.get_closest_marker("one_variant") else None]
            metafunc.parametrize(name, rows, ids=str, indirect=name != "variant", scope="session")


# --- how many tests looked into a container --------------------------------------------------------

inside: set[str] = set()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Note which tests ran on a built image."""
    started = container.started
    yield
    if container.started > started:
        inside.add(item.nodeid)


def pytest_terminal_summary(terminalreporter, exitstatus, config) -> None:
    """Report how many tests ran inside containers, and how many containers there were."""
    terminalreporter.write_line(f"{len(inside)} tests ran inside containers ({container.started} containers started)")


# --- the way of the data ---------------------------------------------------------------------------


@pytest.fixture(scope="session")
def template_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working tree as a git repository whose newest tag is the working tree."""
    return template.snapshot(tmp_path_factory.mktemp("template") / "couplet")


@pytest.fixture
def render(template_repository: Path, tmp_path: Path):
    """A function that renders answers into a new project."""

    def make(folder: str = "project", **answers) -> Project:
        path = template.render(template_repository, tmp_path / folder, {"project_name": "Sea Ice", **answers})
        return Project(path, f"{IMAGES}-{tmp_path.name.replace('_', '-').lower()}")

    return make


@pytest.fixture(scope="session")
def package_sources(request: pytest.FixtureRequest) -> Iterator[str]:
    """An engine and package sources; the value is `public` or `mirror`."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def progress(text: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n  {text}", end="", flush=True)

    with network.ready(request.config.getoption("--network"), progress) as chosen:
        yield chosen


@pytest.fixture(scope="session")
def docker_compose_file() -> str:
    """For pytest-docker: the services of the closed network."""
    return str(web.COMPOSE)


@pytest.fixture(scope="session")
def docker_compose_project_name() -> str:
    return "couplet-mirror"


@pytest.fixture(scope="session")
def docker_cleanup() -> list[str]:
    """The mirror stops what it started itself: a shell beside the tests may be using it."""
    return []


@pytest.fixture(scope="session")
def sources(package_sources: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """Package sources that answer: on the closed network, the channel's web server as pytest-docker sees it."""
    if package_sources == "mirror":
        os.environ.update(web.environment(engine.find()))
        services = request.getfixturevalue("docker_services")
        address = f"http://127.0.0.1:{services.port_for('channel', 80)}/current"
        services.wait_until_responsive(timeout=30.0, pause=0.2, check=lambda: web.answers(address))
    yield package_sources
    # The layers stay in the build cache, where the next run finds them; the names are of no use to anyone.
    names = container.docker("images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", f"reference={IMAGES}*").stdout.split()
    if names:
        container.docker("image", "rm", "--force", *names)


@pytest.fixture(scope="session")
def build(template_repository: Path, sources: str, tmp_path_factory):
    """A function that makes a variant's project, locked and with both images built by make as its user would; once."""
    projects: dict[str, Project] = {}

    def make(variant: Variant) -> Project:
        if variant.name not in projects:
            path = template.render(template_repository, tmp_path_factory.mktemp(variant.name) / "project", variant.answers)
            project = Project(path, f"{IMAGES}-{variant.name}")
            project.make("build")
            project.make("build-dev")
            projects[variant.name] = project
        return projects[variant.name]

    return make


@pytest.fixture(scope="session")
def built(request: pytest.FixtureRequest, build) -> Project:
    """Each variant of the table that is built."""
    return build(request.param)


@pytest.fixture(scope="session")
def with_kernel(request: pytest.FixtureRequest, build) -> Project:
    """Each built variant that has a kernel."""
    return build(request.param)


@pytest.fixture(scope="session")
def without_kernel(request: pytest.FixtureRequest, build) -> Project:
    """Each built variant that has none."""
    return build(request.param)


@pytest.fixture(scope="session")
def scripted(template_repository: Path, sources: str, tmp_path_factory) -> Project:
    """The default project with udunits2, whose activate.d script exports UDUNITS2_XML_PATH; both images built."""
    row = next(row for row in variants(built=True) if row.name == "default")
    answers = {**row.answers, "devcontainer": True}
    path = template.render(template_repository, tmp_path_factory.mktemp("scripted") / "project", answers)
    with (path / "environment.yml").open("a") as file:
        file.write("  - udunits2\n")
    project = Project(path, f"{IMAGES}-scripted")
    project.make("build")
    project.make("build-dev")
    return project


@pytest.fixture
def copy_of(tmp_path: Path):
    """A function that copies a project, locks included, to be broken on purpose."""

    def make(project: Project) -> Project:
        shutil.copytree(project.path, tmp_path / "copy", symlinks=True)
        return Project(tmp_path / "copy", f"{project.images}-copy")

    return make
