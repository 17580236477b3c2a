"""Reproducible: the same commit and locks give the same files, whatever day, folder and cache they are built with."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import uuid

import pytest

from tests.conftest import IMAGES
from tests.harness import container
from tests.harness.project import Project
from tests.install.test_company import build

STAGES = "conda-env,poetry-packages,env,activation,project,runtime"
"""All that runtime is made of; the tools that make it are pinned by hash, and no part of it."""


def tree(image: str) -> dict[str, tuple]:
    """Return {path: (type, mode, uid, gid, link, SHA-256)} of the files of an image."""
    name = container.docker("create", image).stdout.strip()
    found = {}
    try:
        with subprocess.Popen(["docker", "export", name], stdout=subprocess.PIPE) as exported:
            with tarfile.open(fileobj=exported.stdout, mode="r|") as archive:
                for member in archive:
                    content = hashlib.sha256(archive.extractfile(member).read()).hexdigest() if member.isreg() else ""
                    about = (member.type, member.mode, member.uid, member.gid, member.linkname, content)
                    found[member.name] = about
            exported.stdout.read()
        assert exported.returncode == 0
    finally:
        container.docker("rm", name)
    return found


def differences(one: dict[str, tuple], other: dict[str, tuple]) -> list[str]:
    """Return the paths in which two trees differ."""
    return sorted(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))


@pytest.fixture(scope="module")
def twice(small: Project, tmp_path_factory) -> tuple[list[Project], list[dict[str, tuple]]]:
    """The project in two folders, its files of two days, built from empty caches: layers, packages, unpacked packages."""
    projects, trees = [], []
    for number, day in enumerate((1740000000, 1780000000)):
        folder = tmp_path_factory.mktemp(f"built-{number}") / f"folder {number}"
        shutil.copytree(small.path, folder)
        for path in folder.rglob("*"):
            os.utime(path, (day, day))
        project = Project(folder, f"{IMAGES}-built-{number}")
        fresh = ("--no-cache-filter", STAGES, "--build-arg", f"BUILDKIT_CACHE_MOUNT_NS={uuid.uuid4()}")
        done = build(project, {}, "--target", "runtime", "--tag", project.runtime, *fresh)
        assert done.returncode == 0, done.stdout[-3000:]
        projects.append(project)
        trees.append(tree(project.runtime))
    return projects, trees


def test_two_builds_from_empty_caches_give_the_same_tree(twice):
    _, (one, other) = twice
    assert len(one) > 3000
    assert differences(one, other) == []
    print(f"{len(one)} files, folders and links are the same")


@pytest.mark.parametrize(
    "change",
    ["touch /opt/app/more", "chmod 711 /opt/app", "chown 5 /opt/app/src", "echo >> /opt/app/src/sea_ice/__init__.py"],
)
def test_a_tree_that_differs_is_seen(twice, change):
    """The negative control: a file more, a mode, an owner, a content."""
    (project, _), (one, _) = twice
    with container.derived(project.runtime, f"USER root\nRUN {change}") as image:
        assert len(differences(one, tree(image))) == 1


def test_source_date_epoch_is_the_date_of_the_image(twice):
    (project, _), _ = twice
    image = f"{project.images}:dated"
    done = build(project, {"SOURCE_DATE_EPOCH": "1600000000"}, "--target", "runtime", "--tag", image)
    assert done.returncode == 0, done.stdout[-3000:]
    dates = [json.loads(container.docker("image", "inspect", name).stdout)[0]["Created"] for name in (image, project.runtime)]
    container.docker("image", "rm", "--force", image)
    assert dates[0].startswith("2020-09-13T12:26:40") and not dates[1].startswith("2020-09-13"), dates
