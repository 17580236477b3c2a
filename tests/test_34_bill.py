"""The bill of materials: what the locks hold, all of it, in CycloneDX's own form."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

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
    done = [".couplet/host/docker-build.sh", "--quiet", "--target", "sbom", "--output", "type=local,dest=report", "."]
    subprocess.run(done, cwd=other.path, check=True, capture_output=True)
    fresh = json.loads((other.path / "report/sbom.cdx.json").read_text())
    assert fresh["serialNumber"] != json.loads(text)["serialNumber"]


def of_poetry(folder: Path, pins: list[str]) -> dict[str, str]:
    """Return {name: version} of Poetry's packages in the bill of a made-up project, by the script itself."""
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "ice"\nversion = "1"\n\n[dependency-groups]\nconda = {json.dumps(pins)}\n'
    )
    packages = {"floe": ["main"], "brine": ["main", "conda"], "numpy": ["main", "conda"], "torch": ["conda"]}
    (folder / "poetry.lock").write_text(
        "".join(
            f'[[package]]\nname = "{name}"\nversion = "2.0"\ngroups = {json.dumps(groups)}\nfiles = []\n\n'
            for name, groups in packages.items()
        )
        + '[metadata]\nlock-version = "2.1"\n'
    )
    words = [sys.executable, str(template.REPOSITORY / "template/docker/sbom.py"), "--project", str(folder)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([*words, "--base", "debian:12", "--out", str(folder / "bill.json")], env=environment, check=True)
    components = json.loads((folder / "bill.json").read_text())["components"]
    return {c["name"]: c["version"] for c in components if c["purl"].startswith("pkg:pypi/")}


def test_what_condas_pins_need_and_conda_does_not_hold_is_in_the_bill(tmp_path):
    """conda's torch is pinned, and Poetry's lock of the pin pulls in what conda has under no such name: main wants that too."""
    here = f"sys_platform == 'linux' and platform_machine == '{platform.machine()}'"
    pins = ["torch==2.0", f"NumPy==2.0 ; {here}"]
    assert of_poetry(tmp_path, pins) == {"floe": "2.0", "brine": "2.0"}
    # the twins: what conda holds is conda's; what it holds on another platform is Poetry's on this one
    assert of_poetry(tmp_path, [*pins, "brine==2.0"]) == {"floe": "2.0"}
    elsewhere = [*pins, "brine==2.0 ; sys_platform == 'darwin' and platform_machine == 'arm64'"]
    assert of_poetry(tmp_path, elsewhere) == {"floe": "2.0", "brine": "2.0"}
