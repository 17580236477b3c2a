"""An image compared with the locks: labels, the attached SBOM, files that no package brought. Real images: tests/image/test_published.py."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from couplet.errors import UserError
from couplet.inspect import image, sbom
from tests.inspect import projects
from tests.install.prefix import conda_record, distribution, python

FACTS = """\
label * org.opencontainers.image.version=1.2
label runtime org.opencontainers.image.base.name=debian:12
label dev org.opencontainers.image.base.name=conda:1
label * org.couplet.poetry-lock.sha256=aa
build-arg * RUNTIME_BASE=debian:12@sha256:bb
"""
LABELS = {
    "org.opencontainers.image.version": "1.2",
    "org.opencontainers.image.base.name": "debian:12",
    "org.couplet.poetry-lock.sha256": "aa",
    "org.opencontainers.image.revision": "f" * 40,
    "somebody.elses": "label",
}


def test_the_labels_are_those_that_a_build_would_give_the_runtime_image():
    assert image.differing_labels(LABELS, FACTS) == []
    found = image.differing_labels({**LABELS, "org.couplet.poetry-lock.sha256": "cc"}, FACTS)
    assert found == ["org.couplet.poetry-lock.sha256: the image has cc, here it is aa"]
    assert len(image.differing_labels({}, FACTS)) == 3


def package(purl: str, digest: str = "") -> dict:
    """A package of an SBOM in SPDX's form."""
    return {
        "checksums": [{"algorithm": "SHA256", "checksumValue": digest}] if digest else [],
        "externalRefs": [{"referenceType": "purl", "referenceLocator": purl}],
    }


def test_every_difference_of_two_sboms_is_named():
    mine = {"packages": [{"name": "ice"}, package("pkg:conda/a@1", "0"), package("pkg:pypi/b@1"), package("pkg:pypi/c@1")]}
    assert image.differing_packages(mine, {"packages": mine["packages"][::-1]}) == []
    other = {"packages": [package("pkg:conda/a@1", "1"), package("pkg:pypi/b@2"), package("pkg:pypi/c@1")]}
    assert image.differing_packages(other, mine) == [
        "pkg:conda/a@1 has other hashes in the SBOM",
        "pkg:pypi/b@1 is missing in the SBOM",
        "pkg:pypi/b@2 stands in the SBOM alone",
    ]


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """An environment: conda's module in the library, a wheel, the project's .pth file, and what Python compiled."""
    site = python(tmp_path / "env")
    (site.parent / "json.py").write_text("")
    conda_record(tmp_path / "env", "python", "3.13", [str((site.parent / "json.py").relative_to(tmp_path / "env"))])
    distribution(site, "pandas", "3.0", {"pandas/frame.py": "frame = 1\n"})
    (site / "ice.code.pth").write_text("/opt/app/src\n")
    (site / "pandas/__pycache__").mkdir()
    (site / "pandas/__pycache__/frame.cpython-313.pyc").write_text("")
    return tmp_path / "env"


@pytest.mark.parametrize("name", ["site-packages/m.py", "site-packages/m.pth", "sitecustomize.py", "site-packages/pandas/m.so"])
def test_a_file_that_no_package_brought_is_named(prefix, name):
    assert image.strangers(prefix, "ice") == []
    [library] = (prefix / "lib").glob("python3.*")
    (library / name).write_text("")
    assert image.strangers(prefix, "ice") == [f"{library / name} belongs to no package"]


def test_a_link_to_nothing_that_no_package_brought_is_named(prefix):
    [library] = (prefix / "lib").glob("python3.*")
    (library / "site-packages/more.py").symlink_to("/nowhere")
    assert len(image.strangers(prefix, "ice")) == 1


def test_stale_locks_are_not_compared_with(tmp_path):
    folder = projects.project(tmp_path / "project", conda=False)
    with pytest.raises(UserError, match=r"no image can be compared with them\.\n.*make env-update"):
        image.problems(folder, tmp_path, tmp_path)


def test_the_spdx_form_holds_what_the_sbom_does(tmp_path):
    """BuildKit's own reader takes it in tests/image/test_published.py."""
    folder = projects.project(tmp_path / "project", conda=True)
    projects.conda_lock(folder, {"linux-64": [("python", "3.13.2", (), "Python-2.0"), ("_x", "1", ("python",), "as it pleases")]})
    projects.poetry_lock(folder, {"idna": {}})
    found = sbom.sbom(folder, "linux-64", named={"idna": "BSD-3-Clause"})
    document = sbom.spdx(found)
    packages = {package["name"]: package for package in document["packages"]}
    assert image.listed(document).keys() == {component["purl"] for component in found["components"]}
    assert {name: package["licenseDeclared"] for name, package in packages.items()} == {
        "ice": "NOASSERTION", "python": "Python-2.0", "_x": "NOASSERTION", "idna": "BSD-3-Clause", "debian": "NOASSERTION"
    }  # fmt: skip
    assert [one["algorithm"] for one in packages["python"]["checksums"]] == ["MD5", "SHA256"]
    ids = {package["SPDXID"]: name for name, package in packages.items()}
    assert len(ids) == 5 and all(re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", name) for name in ids)
    needs = {(ids.get(one["spdxElementId"]), ids[one["relatedSpdxElement"]]) for one in document["relationships"]}
    assert {(None, "ice"), ("_x", "python"), ("ice", "idna")} <= needs
    assert json.dumps(sbom.spdx(found)) == json.dumps(document)
