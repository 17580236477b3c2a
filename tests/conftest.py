"""Fixtures along the data flow: template -> project -> locks -> images -> container."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import browser, container, network, scratch, template
from tests.harness.product import Product
from tests.harness.project import Project
from tests.harness.variants import Variant, variants
from tests.mirror import engine, gate, web

pytest_plugins = ["tests.harness.parts", "tests.harness.soak", "tests.harness.summary", "tests.harness.workers"]

os.environ.update(template.isolated())
scratch.use()
template.remember_what_is_compiled()
template.read_yaml_with_libyaml()
template.leave_modes_to_git()
template.gather_answers_once()
template.clone_once()

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
IMAGES = "couplet-test-" + hashlib.sha256(f"{template.REPOSITORY}{WORKER}".encode()).hexdigest()[:6]
"""What image names begin with: two clones of this repository, and two processes, may be at work on one engine at once."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--network", choices=network.CHOICES, default=network.CHOICES[0], help="where packages and base images come from"
    )
    parser.addoption("--pictures", default="screenshots", help="the folder that the browser tests write their pictures into")
    parser.addoption("--picture-format", choices=["png", "webp"], default="png")
    parser.addoption("--layers", metavar="REFERENCE", help="a layer cache in a registry that the variants' builds may take from")
    parser.addoption("--variant", choices=[row.name for row in variants()], help="only this row of tests/variants.toml")


ROWS = {
    "variant": lambda row: True,
    "built": lambda row: row.build and row.suite == "whole",
    "with_conda": lambda row: row.build and row.suite == "whole" and row.conda,
    "without_conda": lambda row: row.build and row.suite == "whole" and not row.conda,
    "with_kernel": lambda row: row.build and row.suite == "whole" and row.answers.get("kernel", True),
    # the whole ones, and what has other answers and is looked into where those count
    "every_built": lambda row: row.build and row.suite in ("whole", "smoke"),
    "without_kernel": lambda row: row.build and row.suite == "smoke" and not row.answers.get("kernel", True),
    # what tests/apps/test_apps.py runs on: all apps, those that listen, those with `make serve`, and each by its name
    "with_app": lambda row: row.build and row.suite == "app",
    "served": lambda row: row.build and row.suite == "app" and row.answers["app"] != "script",
    "with_serve": lambda row: row.build and row.suite == "app" and row.answers["app"] in ("flask", "streamlit"),
    **{
        name: lambda row, name=name: row.build and row.suite == "app" and row.answers["app"] == name
        for name in ("script", "flask", "streamlit", "jupyterlab")
    },
    "dask": lambda row: row.build and row.suite == "dask",
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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs an engine, by the fixtures that it asks for; `nox -s package`, `render` and `update` leave it out."""
    for item in items:
        if "package_sources" in getattr(item, "fixturenames", ()):
            item.add_marker("engine")


@pytest.fixture(autouse=True)
def no_engine_unasked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test without that mark find no engine: it would pass on a machine that has one, and in no `nox -s package`."""
    if not request.node.get_closest_marker("engine"):
        monkeypatch.setenv("DOCKER_HOST", "unix:///dev/null")


# --- the data flow ---------------------------------------------------------------------------------


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
def covered(template_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[dict, Path]]:
    """Answers and Copier's project for each row of the cover of all pairs of choices."""
    folder = tmp_path_factory.mktemp("cover")
    # from a plain folder Copier need not clone: twice as fast
    plain = shutil.copytree(template_repository, folder / "template", ignore=shutil.ignore_patterns(".git"))
    rows = [{"project_name": "Sea Ice", **row} for row in Product().cover({"project_name": "Sea Ice"})]
    return [(row, template.render(plain, folder / str(number), row)) for number, row in enumerate(rows)]


@pytest.fixture(scope="session")
def package_sources(request: pytest.FixtureRequest) -> Iterator[str]:
    """An engine and package sources; the value is `public` or `mirror`."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def progress(text: str) -> None:
        with capture.global_and_fixture_disabled():
            # standard error, since pytest-xdist lets nothing else of a process through
            print(f"\n  {text}", end="", flush=True, file=sys.stderr)

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
    # Those whose name a later build took; our label says which these are. Where another process is at it, it does the same.
    container.docker("image", "prune", "--force", "--filter", engine.LABEL, check=False)


@pytest.fixture(scope="session")
def build(template_repository: Path, sources: str, tmp_path_factory, request: pytest.FixtureRequest):
    """A function that makes a variant's project, locked and with both images built by make as its user would; once."""
    projects: dict[str, Project] = {}
    layers = {"CACHE": given} if (given := request.config.getoption("--layers")) else {}

    def make(variant: Variant) -> Project:
        if variant.name not in projects:
            path = template.render(template_repository, tmp_path_factory.mktemp(variant.name) / "project", variant.answers)
            project = Project(path, f"{IMAGES}-{variant.name}")
            # `locks` is what `build` begins with where there are none
            steps = {"lock": "locks", "build": "build", "dev": "build-dev"}
            container.steps[variant.name] = {name: seconds(project, target, layers) for name, target in steps.items()}
            projects[variant.name] = project
            size = ("image", "inspect", "--format", "{{.Size}}")
            container.sizes[variant.name] = tuple(
                int(container.docker(*size, image).stdout) for image in (project.runtime, project.dev)
            )
        return projects[variant.name]

    return make


def seconds(project: Project, target: str, variables: dict[str, str]) -> float:
    """Run a target of make; return the seconds that it took."""
    began = time.perf_counter()
    project.make(target, **variables)
    return time.perf_counter() - began


def variant_of_the_table(request: pytest.FixtureRequest, build) -> Project:
    """Each built variant of a kind: which rows those are, ROWS says by the fixture's name."""
    return build(request.param)


built, every_built, with_conda, without_conda, with_kernel, without_kernel = (
    pytest.fixture(variant_of_the_table, scope="session", name=name)
    for name in ("built", "every_built", "with_conda", "without_conda", "with_kernel", "without_kernel")
)
with_app, served, with_serve, script, flask, streamlit, jupyterlab, dask = (
    pytest.fixture(variant_of_the_table, scope="session", name=name)
    for name in ("with_app", "served", "with_serve", "script", "flask", "streamlit", "jupyterlab", "dask")
)


@pytest.fixture
def pictured(request: pytest.FixtureRequest):
    """A function that writes what a browser shows into the folder of --pictures."""

    def write(chrome, name: str) -> None:
        browser.picture(
            chrome, Path(request.config.getoption("--pictures")) / f"{name}.{request.config.getoption('--picture-format')}"
        )

    return write


@pytest.fixture(scope="session")
def scripted(template_repository: Path, sources: str, tmp_path_factory) -> Project:
    """The default project with udunits2, whose activate.d script exports UDUNITS2_XML_PATH; both images built."""
    row = next(row for row in variants(built=True) if row.name == "default")
    answers = {**row.answers, "devcontainer": True, "hosting": "hpc"}
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


# --- a company's network, and faults ---------------------------------------------------------------

SMALL = {"project_name": "Sea Ice", "kernel": False, "ci": "none"}


@pytest.fixture(scope="session")
def company(sources: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[gate.Gate]:
    """A company's mirror of what this machine's package sources have: a password, and a CA of its own."""
    with gate.running(engine.gateway(engine.find()), tmp_path_factory.mktemp("company")) as running:
        yield running


@pytest.fixture(scope="session")
def small(template_repository: Path, sources: str, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A small project, locked without that mirror: Python and idna from conda, tabulate from Poetry."""
    path = template.render(template_repository, tmp_path_factory.mktemp("small") / "project", SMALL)
    for file, old, new in (
        ("environment.yml", "  - pip\n  - numpy\n  - scipy\n", "  - idna\n"),
        ("pyproject.toml", '"pandas>=2.2",', '"tabulate",'),
        ("pyproject.toml", '    "pytest>=8",\n    "ruff>=0.9",\n', ""),
    ):
        text = (path / file).read_text()
        assert old in text
        (path / file).write_text(text.replace(old, new))
    project = Project(path, f"{IMAGES}-small")
    project.make("env-update")
    return project
