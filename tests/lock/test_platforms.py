"""Platforms: one machine locks for all of them, and what differs between them differs on both sides."""

from __future__ import annotations

import json
import re
import tomllib

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement

from couplet.formats import conda_lock
from couplet.formats.conda_lock import Record
from tests.conftest import IMAGES
from tests.harness import checks, template
from tests.harness.container import docker, running
from tests.harness.locks import check, copy, edit, moved
from tests.harness.project import Project

PLATFORMS = {
    "linux-64": {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
    "linux-aarch64": {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "aarch64"},
    "osx-arm64": {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"},
}
"""conda's name of each platform, and what Python says of it (PEP 508)."""

COMMON = {"os_name": "posix", "python_version": "3.13", "python_full_version": "3.13.5", "implementation_name": "cpython",
          "platform_python_implementation": "CPython", "implementation_version": "3.13.5", "platform_release": "",
          "platform_version": "", "extra": ""}  # fmt: skip


@pytest.fixture(scope="module")
def locked(template_repository, sources, tmp_path_factory) -> Project:
    """A project of three platforms, locked with an old numpy."""
    answers = {"project_name": "Sea Ice", "platforms": list(PLATFORMS)}
    path = template.render(template_repository, tmp_path_factory.mktemp("platforms") / "project", answers)
    project = Project(path, f"{IMAGES}-platforms")
    edit(project, "environment.yml", "  - numpy\n", "  - numpy=2.3.5\n")
    edit(project, "pyproject.toml", '"pandas>=2.2",', '"pandas>=2.2",\n    "numpy",\n    "scipy",')
    project.make("env-update")
    return project


@pytest.fixture
def project(locked, tmp_path) -> Project:
    """A copy of it, to be changed."""
    return copy(locked, tmp_path / "project")


# --- what holds of the locks of several platforms; each returns a list of problems -----------------


def entries(project: Project) -> dict[str, dict[str, Record]]:
    """Return {platform: {package: record}} of conda.lock."""
    return conda_lock.records(project.path / "conda.lock")


def incomplete(project: Project) -> list[str]:
    """Each explicit lock holds what conda.lock holds for its platform, with hashes, and all that it depends on."""
    problems = []
    for platform, packages in entries(project).items():
        wanted = {record.package for record in packages.values()}
        listed = set(conda_lock.read(project.path / f"conda-{platform}.lock"))
        problems += [f"{platform}: {package.url} differs" for package in wanted ^ listed]
        problems += [f"{platform}: {package.url}" for package in listed if package.subdir not in (platform, "noarch")]
        needed = {need for record in packages.values() for need in record.depends if not need.startswith("__")}
        problems += [f"{platform}: {name} is needed and not locked" for name in needed - packages.keys()]
    return problems


def pins(project: Project, platform: str) -> dict[str, str]:
    """Return {distribution: version} of the pins that hold on a platform."""
    listed = tomllib.loads((project.path / "pyproject.toml").read_text())["dependency-groups"]["conda"]
    parsed = [Requirement(line) for line in listed]
    environment = {**COMMON, **PLATFORMS[platform]}
    chosen = [item for item in parsed if item.marker is None or item.marker.evaluate(environment)]
    assert len({item.name for item in chosen}) == len(chosen), "two pins of one name on one platform"
    return {item.name: str(item.specifier).removeprefix("==") for item in chosen}


def poetry_locked(project: Project, platform: str) -> dict[str, str]:
    """Return {distribution: version} of what poetry.lock has a user of `platform` install (group main)."""
    found = {}
    for package in tomllib.loads((project.path / "poetry.lock").read_text())["package"]:
        marker = package.get("markers", "")
        marker = marker.get("main", "") if isinstance(marker, dict) else marker
        if "main" in package["groups"] and (not marker or Marker(marker).evaluate({**COMMON, **PLATFORMS[platform]})):
            assert package["name"] not in found, f"two versions of {package['name']} on {platform}"
            found[package["name"]] = package["version"]
    return found


def disagreements(project: Project) -> list[str]:
    """On each platform the pins are conda's versions there, and poetry.lock has no other."""
    problems = []
    for platform, packages in entries(project).items():
        held, poetry = pins(project, platform), poetry_locked(project, platform)
        # conda's tzdata, files of the operating system, is not PyPI's
        packages = {name: entry for name, entry in packages.items() if "python" in entry.depends}
        problems += [
            f"{platform}: {name} is {packages[name].version} in conda's lock, {held[name]} in the pin"
            for name in held.keys() & packages.keys()
            if held[name] != packages[name].version
        ]
        problems += [
            f"{platform}: {name} is held at {held[name]}, poetry.lock says {poetry[name]}"
            for name in held.keys() & poetry.keys()
            if held[name] != poetry[name]
        ]
    return problems


def test_each_platform_has_a_whole_lock(locked):
    assert entries(locked).keys() == PLATFORMS.keys()
    assert incomplete(locked) == []
    assert {entries(locked)[platform]["scipy"].version for platform in PLATFORMS} == {"1.17.1", "1.16.3"}
    assert "appnope" in entries(locked)["osx-arm64"] and "appnope" not in entries(locked)["linux-64"]


def test_a_lock_with_a_package_less_is_seen(project):
    """The negative control: one line less in an explicit lock, another hash there, and a package less in conda.lock."""
    lock = project.path / "conda-osx-arm64.lock"
    text = lock.read_text()
    for pattern, put in ((r"http\S+/numpy-.*\n", ""), (r"(http\S+/numpy-.*#)[0-9a-f]{4}", r"\1beef")):
        lock.write_text(re.sub(pattern, put, text))
        assert any("osx-arm64: https://" in line and "/numpy-" in line for line in incomplete(project))
    path = project.path / "conda.lock"
    path.write_text(re.sub(r"(?m)^ +- conda: \S+/osx-arm64/numpy-\S+\n", "", path.read_text()))
    assert "osx-arm64: numpy is needed and not locked" in incomplete(project)


def test_pins_have_markers_exactly_where_platforms_differ(locked):
    listed = tomllib.loads((locked.path / "pyproject.toml").read_text())["dependency-groups"]["conda"]
    marked = {Requirement(line).name for line in listed if ";" in line}
    versions = {name: {pins(locked, platform).get(name) for platform in PLATFORMS} for name in map(name_of, listed)}
    assert marked == {name for name, found in versions.items() if len(found) > 1} == {"appnope", "scipy"}
    assert "numpy==2.3.5" in listed


def name_of(line: str) -> str:
    return Requirement(line).name


def test_poetry_follows_conda_on_each_platform(locked):
    assert disagreements(locked) == []
    assert {platform: poetry_locked(locked, platform)["scipy"] for platform in PLATFORMS} == {
        "linux-64": "1.17.1", "linux-aarch64": "1.17.1", "osx-arm64": "1.16.3",
    }  # fmt: skip


def test_a_lock_that_mixes_platforms_up_is_seen(project):
    """The negative control: the two versions of scipy exchanged in the pins, then in poetry.lock (which has a third, for other platforms)."""
    exchange = {"1.17.1": "1.16.3", "1.16.3": "1.17.1"}
    for file, pattern in (("pyproject.toml", r"(?<=scipy==)[\d.]+"), ("poetry.lock", r'(?<=name = "scipy"\nversion = ")[\d.]+')):
        path = project.path / file
        text = path.read_text()
        path.write_text(re.sub(pattern, lambda match: exchange.get(match[0], match[0]), text))
        found = [line for line in disagreements(project) if ": scipy " in line]
        assert {line.split(":")[0] for line in found} == PLATFORMS.keys(), file
        path.write_text(text)


# --- staleness -------------------------------------------------------------------------------------


def asked_for(project: Project, platforms: list[str]) -> None:
    """Answer the question of the platforms otherwise, as `copier update` does."""
    path = project.path / ".couplet/project.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "platforms": platforms}))


def test_a_platform_given_up_loses_its_lock_and_one_taken_up_gets_one(project):
    """Another answer: the locks are stale by that, and nothing else moves."""
    everything = entries(project)
    asked_for(project, ["linux-64", "linux-aarch64"])
    asked = check(project)
    assert (
        asked.returncode == 1 and "conda-osx-arm64.lock is not needed: the project does not lock for its platform" in asked.stderr
    )
    project.make("env-update")
    assert not (project.path / "conda-osx-arm64.lock").exists() and check(project).returncode == 0
    assert entries(project) == {name: everything[name] for name in ("linux-64", "linux-aarch64")}
    assert ";" not in str(tomllib.loads((project.path / "pyproject.toml").read_text())["dependency-groups"]["conda"])
    assert disagreements(project) == []

    asked_for(project, list(PLATFORMS))
    asked = check(project)
    assert asked.returncode == 2 and "There is no conda-osx-arm64.lock" in asked.stderr
    project.make("env-update")
    assert check(project).returncode == 0 and incomplete(project) == disagreements(project) == []
    assert {name: entries(project)[name] for name in ("linux-64", "linux-aarch64")} == {
        name: everything[name] for name in ("linux-64", "linux-aarch64")
    }


def test_a_machine_of_another_platform_is_told_what_to_do(project):
    """A colleague's Mac, say: the locks are whole and fit, and none of them is for it."""
    asked_for(project, ["linux-aarch64", "osx-arm64"])
    (project.path / "conda-linux-64.lock").unlink()
    shown = project.make("build", fails=True).output
    assert "this machine is linux-64, and the project is locked for linux-aarch64, osx-arm64 alone" in shown
    assert "--data 'platforms=[linux-64, linux-aarch64, osx-arm64]'\" && make env-update" in shown
    # and before anything is solved for the others
    shown = project.make("env-update", "ALL=1", fails=True).output
    assert "--data 'platforms=[linux-64, linux-aarch64, osx-arm64]'\" && make env-update" in shown
    assert "conda: solving" not in shown


# --- what changes version ------------------------------------------------------------------------------------


def test_a_named_package_moves_on_all_platforms_and_then_nothing_changes(project):
    edit(project, "environment.yml", "  - numpy=2.3.5\n", "  - numpy\n")
    before = entries(project)
    rows = moved(project.make("env-update", "PKG=numpy").output)
    owners = ["Poetry", *(f"conda {platform}" for platform in PLATFORMS)]
    assert rows == {("numpy", owner): ("2.3.5", "2.4.6") for owner in owners}
    after = entries(project)
    for platform in PLATFORMS:
        assert {name for name in before[platform] if before[platform][name] != after[platform][name]} == {"numpy"}
    assert disagreements(project) == incomplete(project) == []

    locks = project.locks()
    assert len(locks) == 6
    assert "up to date" in project.make("env-update").output and project.locks() == locks
    assert moved(project.make("env-update", "ALL=1").output) == {}, "numpy was all that was old"
    assert project.locks() == locks, "solved anew, and the same bytes"


# --- the image -------------------------------------------------------------------------------------


def test_the_image_holds_its_own_platforms_packages(locked):
    locked.make("build")
    try:
        with running(locked.runtime) as host:
            assert checks.conda_lock(host, locked) == []
            # numpy and scipy are named by the project itself: Poetry was asked for them by name, and left conda's
            assert checks.conda_files(host, locked) == []
            assert checks.poetry_lock(host, locked, {"main"}) == []
            shown = host.check_output("%s -c %s", f"{locked.prefix}/bin/python", "import scipy; print(scipy.__version__)")
            assert shown == "1.17.1"
            assert not host.run("%s -c 'import appnope'", f"{locked.prefix}/bin/python").succeeded
    finally:
        docker("image", "rm", "--force", locked.runtime)
