"""What is published, in a real registry: the image that was built, with SBOM and provenance, and how a tampered one is told from it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.harness import builder, registry, scratch
from tests.harness.container import derived, docker
from tests.harness.locks import edit
from tests.harness.project import Project
from tests.image.test_bake import BASES
from tests.image.test_pipelines import tags
from tests.inspect.test_make_audit import locked_by_poetry_alone  # noqa: F401
from tests.mirror import images

pytestmark = pytest.mark.one_variant


@pytest.fixture(scope="module")
def address(sources):
    """The address of a registry."""
    with scratch.on_disk() as folder, registry.running(folder, sources == "public") as address:
        yield address


def digest(reference: str) -> str:
    """The digest of what a reference in a registry means."""
    return docker("buildx", "imagetools", "inspect", "--format", "{{with .Manifest}}{{.Digest}}{{end}}", reference).stdout.strip()


def pushed(image: str, repository: str) -> str:
    """Push an image of this engine's, as anybody can; return what names it by its digest."""
    docker("tag", image, f"{repository}:pushed")
    docker("push", "--quiet", f"{repository}:pushed")
    docker("image", "rm", f"{repository}:pushed")
    return f"{repository}@{digest(f'{repository}:pushed')}"


# --- an image that is tampered with ----------------------------------------------------------------

SITE = "$(python -c 'import sysconfig; print(sysconfig.get_path(\"purelib\"))')"
TAMPERED = {
    "a package that was changed": (f"RUN echo >> {SITE}/idna/core.py", "idna.*core.py was changed"),
    "a package that was added": (
        f"RUN cd {SITE} && mkdir stray-1.0.dist-info && cd stray-1.0.dist-info && printf 'Name: stray\\nVersion: 1.0\\n' > METADATA"
        " && printf 'stray-1.0.dist-info/%s,,\\n' METADATA RECORD > RECORD",
        "stray: 1.0 is installed and is in no lock",
    ),
    "a package that was taken away": (f"RUN rm -r {SITE}/idna", "idna.* is gone"),
    "a module that no package brought": (f"RUN touch {SITE}/sitecustomize.py", "sitecustomize.py belongs to no package"),
    "another lock": (f"LABEL org.couplet.poetry-lock.sha256={'0' * 64}", "poetry-lock.sha256: the image has 0000"),
}


@pytest.fixture(scope="module", params=["conda-poetry", pytest.param("poetry", marks=pytest.mark.soak)])
def small_image(request, small, template_repository, tmp_path_factory) -> Iterator[Project]:
    """A project of each kind whose runtime image is built; idna is conda's or Poetry's."""
    project = small
    if request.param == "poetry":
        project = request.getfixturevalue("locked_by_poetry_alone")
        edit(project, "pyproject.toml", 'dependencies = ["tabulate"]', 'dependencies = ["tabulate", "idna"]')
        project.make("env-update")
    project.make("build")
    yield project


def test_an_image_that_was_pushed_is_what_the_locks_say_and_a_tampered_one_is_not(small_image, address):
    """Each with the labels of the right one, except where those are what is wrong."""
    project, repository = small_image, f"{address}/{small_image.images}"
    reference = pushed(project.runtime, repository)
    shown = project.make("verify-image", f"IMAGE={reference}").output
    assert re.search(r"\d+ files of its packages are as the locks say", shown) and "No SBOM is attached" in shown
    for instructions, words in TAMPERED.values():
        with derived(project.runtime, f"USER 0\n{instructions}") as image:
            reference = pushed(image, repository)
        shown = project.make("verify-image", f"IMAGE={reference}", fails=True).output
        assert "the image is not what these locks say" in shown and re.search(words, shown), shown[-3000:]
        assert len(re.findall(r"^  [\w ]+:$", shown.rpartition("these locks say.")[2], re.M)) == 1, "nothing else is amiss"


def test_an_image_of_other_locks_is_not_what_these_say(small, copy_of, address):
    """A package less, locked by make."""
    small.make("build")
    reference = pushed(small.runtime, f"{address}/other")
    project = copy_of(small)
    edit(project, "environment.yml", "  - idna\n", "")
    project.make("env-update")
    shown = project.make("verify-image", f"IMAGE={reference}", fails=True).output
    assert "idna: conda's lock says nothing, installed is" in shown and "org.couplet.conda-lock.sha256: the image has" in shown


def test_what_cannot_be_asked_about_is_said(small, address):
    done = subprocess.run(
        [".couplet/host/verify-image.sh", f"{address}/ice:latest"], cwd=small.path, capture_output=True, text=True
    )
    assert done.returncode == 64 and "make verify-image IMAGE=" in done.stderr
    nothing = f"{address}/nothing@sha256:{'0' * 64}"
    done = subprocess.run([".couplet/host/verify-image.sh", nothing], cwd=small.path, capture_output=True, text=True)
    assert done.returncode == 69 and f"The registry did not give {nothing}" in done.stderr


# --- what the builder pushes by itself -------------------------------------------------------------


@pytest.fixture(scope="module")
def second(sources):
    """A builder that attaches, a registry's address, and what names both to make."""
    with (
        scratch.on_disk() as folder,
        registry.running(folder, sources == "public") as address,
        builder.running(folder / "builder") as engine,
    ):
        yield engine.environment, address


def inspected(reference: str, what: str) -> dict:
    return json.loads(docker("buildx", "imagetools", "inspect", "--format", f"{{{{json .{what}}}}}", reference).stdout)


@pytest.mark.parametrize("kind", [pytest.param("conda-poetry", marks=pytest.mark.soak), "poetry"])
def test_sbom_and_provenance_are_attached_to_the_image_that_was_built(kind, request, copy_of, second):
    project = copy_of(request.getfixturevalue("small" if kind == "conda-poetry" else "locked_by_poetry_alone"))
    there, address = second
    there = {**there, "REGISTRY": address}
    repository = f"{address}/group/{project.images}"
    registry.hold(address, *(BASES if kind == "conda-poetry" else [images.python_image(project.minor)]))
    shown = project.make("publish", **there, TO=repository.title(), TAGS="1.2 latest").output
    reference = (project.path / "report/published.txt").read_text().strip()
    assert shown.rstrip().endswith(reference) and reference.startswith(f"{repository}@sha256:")
    assert tags(address, f"group/{project.images}") == ["1.2", "couplet", "latest"]
    assert {digest(f"{repository}:{tag}") for tag in ("1.2", "latest")} == {reference.partition("@")[2]}
    assert "couplet.sh verify" in json.dumps(inspected(reference, "Provenance")["SLSA"]["buildConfig"])
    # what BuildKit's reader of SPDX made of it is what `make sbom` writes here
    document = inspected(reference, "SBOM")["SPDX"]
    project.make("sbom")
    components = json.loads((project.path / "report/sbom.cdx.json").read_text())["components"]
    assert {one["referenceLocator"] for package in document["packages"] for one in package.get("externalRefs", ())} == {
        component["purl"] for component in components
    }
    declared = {package["name"]: package["licenseDeclared"] for package in document["packages"]}
    assert declared["tabulate"] == "MIT"
    shown = project.make("verify-image", f"IMAGE={reference}", **there).output
    assert "No SBOM is attached" not in shown and "files of its packages are as the locks say" in shown

    # the negative controls: an SBOM of other packages, and another image under the name of the built one
    other = "sed s,pkg:pypi/,pkg:pypi/x-,g /statement/* > /statement/sbom; cp /statement/sbom"
    edit(project, ".couplet/tasks.Dockerfile", "cp /statement/*", other)
    project.make("publish", **there, TO=repository, TAGS="less")
    less = (project.path / "report/published.txt").read_text().strip()
    shown = project.make("verify-image", f"IMAGE={less}", fails=True, **there).output
    assert "the attached SBOM:" in shown and re.search(r"pkg:pypi/tabulate@\S+ is missing in the SBOM", shown), shown[-3000:]
    environment = {**os.environ, **there, "TO": repository, "TAGS": "other"}
    base = f"{address}/{BASES[1] if kind == 'conda-poetry' else images.python_image(project.minor)}"
    subprocess.run(["docker", "pull", "--quiet", base], env=environment, check=True, capture_output=True)
    done = subprocess.run([".couplet/host/publish.sh", base], cwd=project.path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "no tag was moved" in done.stderr
    assert tags(address, f"group/{project.images}") == ["1.2", "couplet", "latest", "less"]


def test_a_builder_that_attaches_nothing_says_so(small, address):
    """The engine's own store of images holds no attestations, where it is not containerd's."""
    shown = docker("info", "--format", "{{.DriverStatus}}").stdout
    done = small.make("publish", TO=f"{address}/plain", TAGS="1")
    assert ("cannot attach an SBOM and provenance" in done.output) == ("containerd" not in shown)
    reference = (small.path / "report/published.txt").read_text().strip()
    assert reference == f"{address}/plain@{digest(f'{address}/plain:1')}"
    small.make("verify-image", f"IMAGE={reference}")
