"""The SBOM: what the locks hold, all of it, in CycloneDX's own form."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from couplet.errors import UserError
from couplet.formats.platforms import this_machine
from couplet.inspect import sbom
from couplet.install import conda_root
from tests.inspect import projects
from tests.install.prefix import conda_package

CONDA = [
    ("python", "3.13.2", ("libzlib",), "Python-2.0"),
    ("libzlib", "1.3.1", (), "Zlib"),
    ("NumPy".lower(), "2.0", ("python", "libblas"), "BSD-3-Clause AND MIT"),
    ("libblas", "3.9", (), "as it pleases the author"),
    ("idna", "3.10", ("python",), ""),
]
POETRY = {
    "numpy": {"groups": ["main", "conda"]},
    "pandas": {
        "files": [{"file": "pandas.whl", "hash": f"sha256:{'a' * 64}"}],
        "dependencies": {"NumPy": ">=1", "tabulate": "*"},
    },
    "tabulate": {},
    "pytest": {"groups": ["dev"]},
}
PIN = '[dependency-groups]\nconda = ["NumPy==2.0"]\n'


SCRIPT = "bin/.libzlib-post-link.sh"


@pytest.fixture(autouse=True)
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """conda, which would fetch, is not here: every package of the tests' locks lies in the cache, one with a link script."""
    monkeypatch.setattr(conda_root, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(conda_root, "call", lambda verb, lock: None)
    for name, version in [*((one[0], one[1]) for one in CONDA), ("python", "3.13.3")]:
        conda_package(tmp_path, name, {SCRIPT if name == "libzlib" else f"share/{name}": ""}, version)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with both locks for this machine, in which conda installs numpy."""
    folder = projects.project(tmp_path / "project", conda=True, pyproject=PIN)
    projects.conda_lock(folder, {this_machine(): CONDA})
    projects.poetry_lock(folder, POETRY)
    return folder


def written(folder: Path) -> str:
    """The text that the verb writes for a project."""
    sbom.main(["--project", str(folder), "--out", str(folder / "report/sbom.cdx.json")])
    return (folder / "report/sbom.cdx.json").read_text()


def names(found: dict, kind: str) -> dict[str, str]:
    """Return {name: version} of the components of one kind of package."""
    return {c["name"]: c["version"] for c in found["components"] if c["purl"].startswith(f"pkg:{kind}/")}


def test_the_sbom_is_valid_cyclonedx(folder):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    valid = JsonStrictValidator(SchemaVersion.V1_6).validate_str
    text = written(folder)
    assert valid(text) is None
    assert valid(text.replace('"type": "library"', '"type": "book"', 1)) is not None, "the negative control"


def test_every_locked_package_is_in_the_sbom_once_and_the_dev_group_is_not(folder):
    found = json.loads(written(folder))
    assert names(found, "conda") == {name: version for name, version, *_ in CONDA}
    assert names(found, "pypi") == {"pandas": "2.0", "tabulate": "2.0"}
    assert names(found, "docker") == {"debian": "12"}
    [pandas] = [c for c in found["components"] if c["name"] == "pandas"]
    assert [entry["value"] for entry in pandas["properties"]] == [f"sha256:{'a' * 64}"]
    [python] = [c for c in found["components"] if c["name"] == "python"]
    assert python["purl"] == f"pkg:conda/python@3.13.2?build=0&channel=conda-forge&subdir={this_machine()}&type=conda"
    assert {h["alg"]: h["content"] for h in python["hashes"]} == {"MD5": "00" * 16, "SHA-256": "00" * 32}


def test_the_sbom_is_of_the_runtime_image(tmp_path):
    """With a group that comes into it by name, and without conda's packages of dev's own."""
    groups = '[dependency-groups]\nviz = []\ndocs = []\n[tool.couplet]\nruntime-groups = ["viz"]\ndev-groups = ["docs"]\n'
    folder = projects.project(tmp_path / "project", conda=True, pyproject=groups)
    runtime = [("python", "3.13.2", (), "")]
    projects.conda_lock(folder, {this_machine(): runtime}, {this_machine(): [*runtime, ("gdb", "16", ("python",), "")]})
    projects.poetry_lock(folder, {"tabulate": {}, "altair": {"groups": ["viz"]}, "sphinx": {"groups": ["docs"]}})
    found = json.loads(written(folder))
    assert names(found, "conda") == {"python": "3.13.2"} and names(found, "pypi") == {"tabulate": "2.0", "altair": "2.0"}


def test_a_package_that_runs_a_script_says_so(folder):
    """The negative control: all the others say nothing."""
    said = {c["name"]: c["properties"] for c in json.loads(written(folder))["components"] if "properties" in c}
    assert said.pop("pandas") and said == {"libzlib": [{"name": "couplet:link-script", "value": SCRIPT}]}


@pytest.mark.parametrize(("old", "name"), [('name = "sea-ice"\nversion = "7"\n', "sea-ice"), ("package-mode = false\n", "ice")])
def test_a_project_in_poetrys_old_form_has_its_name_and_version(folder, old, name):
    """The negative control: where the file names none, it is called as the answers say."""
    (folder / "pyproject.toml").write_text(f"{PIN}[tool.poetry]\n{old}")
    found = json.loads(written(folder))["metadata"]["component"]
    assert (found["name"], found["version"]) == (name, "7" if name == "sea-ice" else "")


def test_a_licence_is_an_expression_where_spdx_knows_it_and_a_name_elsewhere(folder):
    found = {c["name"]: c.get("licenses") for c in json.loads(written(folder))["components"]}
    assert found["libzlib"] == [{"expression": "Zlib"}]
    assert found["numpy"] == [{"expression": "BSD-3-Clause AND MIT"}]
    assert found["libblas"] == [{"license": {"name": "as it pleases the author"}}]
    assert found["idna"] is None and found["pandas"] is None


def test_who_needs_whom_is_in_the_sbom(folder):
    found = json.loads(written(folder))
    called = {c["bom-ref"]: c["name"] for c in found["components"]}
    graph = {called.get(e["ref"], e["ref"]): {called[ref] for ref in e["dependsOn"]} for e in found["dependencies"]}
    assert graph["numpy"] == {"python", "libblas"} and graph["pandas"] == {"numpy", "tabulate"}
    # what nothing else needs
    assert graph["ice"] == {"pandas", "idna", "debian"}


def test_what_the_pins_need_beyond_what_conda_installs_is_in_the_sbom(tmp_path):
    here = f"sys_platform == 'linux' and platform_machine == '{platform.machine()}'"
    elsewhere = "sys_platform == 'darwin' and platform_machine == 'arm64'"
    packages = {"floe": {}, "brine": {"groups": ["main", "conda"]}, "torch": {"groups": ["conda"]}, "numpy": {}}
    for number, (pins, expected) in enumerate(
        [
            (["torch==2.0", f"NumPy==2.0 ; {here}"], {"floe", "brine"}),
            # the negative controls: what conda installs is conda's; what it installs on another platform is Poetry's on this one
            (["torch==2.0", f"NumPy==2.0 ; {here}", "brine==2.0"], {"floe"}),
            (["torch==2.0", f"NumPy==2.0 ; {here}", f"brine==2.0 ; {elsewhere}"], {"floe", "brine"}),
        ]
    ):
        pyproject = f"[dependency-groups]\nconda = {json.dumps(pins)}\n"
        folder = projects.project(tmp_path / str(number), conda=True, pyproject=pyproject)
        projects.conda_lock(folder, {this_machine(): CONDA})
        projects.poetry_lock(folder, packages)
        assert names(json.loads(written(folder)), "pypi").keys() == expected


def test_the_same_locks_make_the_same_sbom_and_others_another(folder):
    text = written(folder)
    assert written(folder) == text
    projects.conda_lock(folder, {this_machine(): [("python", "3.13.3", (), ""), *CONDA[1:]]})
    assert json.loads(written(folder))["serialNumber"] != json.loads(text)["serialNumber"]


def test_a_project_without_conda_has_no_package_of_condas(tmp_path):
    folder = projects.project(tmp_path / "project", conda=False, base_image="python:3.13-slim")
    projects.poetry_lock(folder, {**POETRY, "old": {"markers": "python_version < '3'"}})
    found = json.loads(written(folder))
    assert names(found, "conda") == {} and names(found, "docker") == {"python": "3.13-slim"}
    assert names(found, "pypi").keys() == {"numpy", "pandas", "tabulate"}, "a marker that is not true leaves its package out"


def test_a_pinned_base_image_has_its_digest(folder):
    lock, digest = folder / "base-images.lock", "b" * 64
    lock.write_text(f"# comment\nRUNTIME_BASE=debian:12@sha256:{digest}\nCONDA_BASE=conda:1@sha256:{'c' * 64}\n")
    [base] = [c for c in json.loads(written(folder))["components"] if c["type"] == "container"]
    assert base["hashes"] == [{"alg": "SHA-256", "content": digest}] and f"sha256%3A{digest}" in base["purl"]
    lock.write_text(f"RUNTIME_BASE=debian:13@sha256:{digest}\n")
    [base] = [c for c in json.loads(written(folder))["components"] if c["type"] == "container"]
    assert "hashes" not in base, "another image's digest is not this one's"


def test_a_lock_without_this_platform_or_no_lock_is_an_error(folder):
    projects.conda_lock(folder, {"osx-arm64": CONDA})
    with pytest.raises(UserError, match=f"this machine is {this_machine()}"):
        written(folder)
    (folder / "conda.lock").unlink()
    with pytest.raises(UserError, match=r"conda\.lock is missing: run `make env-update`"):
        written(folder)
