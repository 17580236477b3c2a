"""`make sbom` on real locks. What stands in an SBOM, and what makes another one: tests/inspect/test_sbom.py."""

from __future__ import annotations

import json
import re

import pytest

from tests.conftest import IMAGES, SMALL
from tests.harness import template
from tests.harness.checks import locked_by_poetry
from tests.harness.project import Project


@pytest.fixture(scope="module", params=["conda-poetry", "poetry"])
def listed(request, small, template_repository, tmp_path_factory) -> tuple[Project, str]:
    """A locked project, and the text of its SBOM."""
    project = small
    if request.param == "poetry":
        folder = tmp_path_factory.mktemp("sbom") / "project"
        path = template.render(template_repository, folder, {**SMALL, "environment": "poetry"})
        project = Project(path, f"{IMAGES}-sbom")
    project.make("sbom")
    return project, (project.path / "report/sbom.cdx.json").read_text()


def test_every_locked_package_is_in_the_sbom_once_with_its_hashes(listed):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    project, text = listed
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components = json.loads(text)["components"]
    conda = {c["name"]: c for c in components if c["purl"].startswith("pkg:conda/")}
    assert {name: c["version"] for name, c in conda.items()} == {n: v for n, (v, _) in project.locked_by_conda().items()}
    lock = (project.path / "conda-linux-64.lock").read_text() if project.conda else ""
    for component in conda.values():
        hashes = {entry["alg"]: entry["content"] for entry in component["hashes"]}
        archive = component["externalReferences"][0]["url"]
        assert f"{archive}#{hashes['MD5']}\n" in lock and f"# sha256 {hashes['SHA-256']} " in lock
    poetry = {c["name"]: c for c in components if c["purl"].startswith("pkg:pypi/")}
    expected = {name: version for name, version in locked_by_poetry(project, {"main"}).items() if name not in conda}
    assert {name: c["version"] for name, c in poetry.items()} == expected
    assert ("tabulate" if project.conda else "pandas") in poetry and "pytest" not in poetry, "the dev group is not in the image"
    # conda's by its records, Poetry's from the wheels
    assert [c["name"] for c in [*conda.values(), *poetry.values()] if not c.get("licenses")] == []
    for component in poetry.values():
        values = [entry["value"] for entry in component["properties"]]
        assert values and all(re.fullmatch("sha256:[0-9a-f]{64}", value) for value in values)
