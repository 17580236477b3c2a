"""The bill of materials: what the locks hold, all of it, in CycloneDX's own form."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from tests.conftest import IMAGES, SMALL
from tests.harness import template
from tests.harness.checks import locked_by_poetry
from tests.harness.project import Project


@pytest.fixture(scope="module", params=["conda-poetry", "poetry"])
def billed(request, small, template_repository, tmp_path_factory) -> tuple[Project, str]:
    """A locked project, and the text of its bill."""
    project = small
    if request.param == "poetry":
        folder = tmp_path_factory.mktemp("bill") / "project"
        path = template.render(template_repository, folder, {**SMALL, "environment": "poetry"})
        project = Project(path, f"{IMAGES}-bill")
    project.make("sbom")
    return project, (project.path / "report/sbom.cdx.json").read_text()


def test_the_bill_is_what_cyclonedx_asks_for(billed):
    # its schema library takes a second and a half to import, in each process and each collection
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    valid = JsonStrictValidator(SchemaVersion.V1_6).validate_str
    _, text = billed
    assert valid(text) is None
    assert valid(text.replace('"type": "library"', '"type": "book"', 1)) is not None, "the twin"


def test_every_locked_package_is_in_the_bill_once(billed):
    project, text = billed
    components = json.loads(text)["components"]
    conda = {c["name"]: c for c in components if c["purl"].startswith("pkg:conda/")}
    assert {name: c["version"] for name, c in conda.items()} == {n: v for n, (v, _) in project.locked_by_conda().items()}
    if project.conda:
        lock = (project.path / "conda-linux-64.lock").read_text()
        for component in conda.values():
            hashes = {entry["alg"]: entry["content"] for entry in component["hashes"]}
            archive = component["externalReferences"][0]["url"]
            assert f"{archive}#{hashes['MD5']}\n" in lock and f"# sha256 {hashes['SHA-256']} " in lock
    poetry = {c["name"]: c["version"] for c in components if c["purl"].startswith("pkg:pypi/")}
    expected = {name: version for name, version in locked_by_poetry(project, {"main"}).items() if name not in conda}
    assert poetry == expected and ("tabulate" if project.conda else "pandas") in poetry
    assert "pytest" not in poetry, "the dev group is not in the image"
    for component in components:
        if component["purl"].startswith("pkg:pypi/"):
            values = [entry["value"] for entry in component["properties"]]
            assert values and all(re.fullmatch("sha256:[0-9a-f]{64}", value) for value in values)
    assert [c["type"] for c in components].count("container") == 1


def test_who_needs_whom_is_in_the_bill(billed):
    project, text = billed
    bill = json.loads(text)
    graph = {entry["ref"]: entry["dependsOn"] for entry in bill["dependencies"]}
    refs = {c["bom-ref"] for c in bill["components"]}
    assert graph.keys() - refs == {"sea-ice"} and all(ref in refs for needs in graph.values() for ref in needs)
    names = {c["bom-ref"]: c["name"] for c in bill["components"]}
    needs = {names.get(ref, ref): {names[other] for other in others} for ref, others in graph.items()}
    if project.conda:
        assert "python" in needs["idna"] and "tabulate" in needs["sea-ice"]
    else:
        assert "numpy" in needs["pandas"] and "pandas" in needs["sea-ice"] and "numpy" not in needs["sea-ice"]


def test_the_same_locks_make_the_same_bill_and_others_another(billed, copy_of):
    project, text = billed
    project.make("sbom")
    assert (project.path / "report/sbom.cdx.json").read_text() == text
    other = copy_of(project)
    lock = (other.path / "poetry.lock").read_text()
    changed = re.sub(r'(file = "[^\n]*sha256:)(\w{64})', lambda m: m[1] + m[2][::-1], lock)
    (other.path / "poetry.lock").write_text(changed)
    done = ["scripts/docker-build.sh", "--quiet", "--target", "sbom", "--output", "type=local,dest=report", "."]
    subprocess.run(done, cwd=other.path, check=True, capture_output=True)
    fresh = json.loads((other.path / "report/sbom.cdx.json").read_text())
    assert fresh["serialNumber"] != json.loads(text)["serialNumber"]
