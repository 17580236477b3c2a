"""Packages of the dev image alone: conda's in environment.dev.yml, Poetry's in further groups; and variables. What of it is locked: tests/lock/test_dev.py."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest

from tests.harness import container
from tests.harness.container import docker
from tests.harness.locks import edit
from tests.harness.project import Project

UNITS = "share/udunits/udunits2.xml"
CANARIES = (
    ".env",
    ".env.local",
    "id.pem",
    ".git/config",
    "tests/.env",
    "tests/secret.key",
    "src/PACKAGE/.env",
    "src/PACKAGE/tls.pem",
)
"""What a folder may have and no image gets."""
HELD = ("idna", "networkx", "six", "toolz")


@pytest.fixture(scope="module")
def project(small, tmp_path_factory) -> Iterator[Project]:
    """A project with udunits2 and networkx for dev, Poetry's six for both images and toolz for dev; locked and built."""
    path = shutil.copytree(small.path, tmp_path_factory.mktemp("dev-alone") / "project", symlinks=True)
    project = Project(path, f"{small.images}-dev-alone")
    (path / "environment.dev.yml").write_text("dependencies:\n  - udunits2\n  - networkx\n")
    edit(project, "environment.yml", "dependencies:\n", "variables:\n  ICE: a b $HOME\n  CORES: 4\ndependencies:\n")
    edit(project, "pyproject.toml", "[dependency-groups]\n", '[dependency-groups]\nviz = ["six"]\nMy_Docs = ["toolz"]\n')
    with (path / "pyproject.toml").open("a") as file:
        file.write('\n[tool.couplet]\nruntime-groups = ["viz"]\ndev-groups = ["My_Docs"]\n')
    for name in CANARIES:
        place = path / name.replace("PACKAGE", project.package)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("canary\n")
    project.make("env-update")
    project.make("build", "build-dev")
    yield project
    docker("image", "rm", "--force", project.runtime, project.dev)


def importable(image: str) -> set[str]:
    """Return which of HELD can be imported in an image."""
    code = f"import importlib.util as u; print(*(name for name in {HELD} if u.find_spec(name)))"
    return set(container.run(image, "python", "-c", code).split())


def test_each_image_has_its_own_and_dev_has_both(project):
    assert importable(project.runtime) == {"idna", "six"}
    assert importable(project.dev) == set(HELD)
    assert docker("run", "--rm", project.dev, "udunits2", "-H", "km", "-W", "m").stdout.strip().startswith("1 km = 1000 m")


def test_what_devs_packages_do_when_they_are_activated_happens_in_dev_alone(project):
    look = ("sh", "-c", "echo ${UDUNITS2_XML_PATH-none}")
    assert container.run(project.dev, *look).strip() == f"{project.prefix}/{UNITS}"
    assert container.run(project.runtime, *look).strip() == "none"


def test_variables_of_environment_yml_are_set_by_every_activation(project):
    """As conda itself says it; a program started without a shell has them too."""
    code = "import os; print(os.environ.get('ICE'), os.environ.get('CORES'))"
    for image in (project.runtime, project.dev):
        assert container.run(image, "python", "-c", code).strip() == "a b $HOME 4"
    listed = container.run(project.dev, "conda", "env", "config", "vars", "list", "--prefix", project.prefix)
    assert set(listed.split("\n")) >= {"ICE = a b $HOME", "CORES = 4"}


def test_a_package_for_dev_alone_installs_nothing_of_condas_anew_in_runtime(project):
    project.make("build")  # again: the engine may have given up a layer
    edit(project, "environment.dev.yml", "  - networkx\n", "  - networkx\n  - locket\n")
    refused = project.make("build", fails=True).output
    assert "environment.dev.yml has changed since conda-linux-64.lock was made. Run `make env-update`" in refused
    project.make("env-update")
    output = project.make("build").output
    installed = re.findall(r"^#(\d+) \[conda-env \d/\d\] RUN", output, re.M)
    assert installed and all(f"\n#{number} CACHED" in output for number in installed)
    assert importable(project.runtime) == {"idna", "six"}


def canaries(image: str, project: Project) -> set[str]:
    """Return which of CANARIES are in an image, wherever they lie."""
    names = {name.replace("PACKAGE", project.package) for name in CANARIES}
    tests = " -o ".join(f"-path '*/{name}'" for name in sorted(names))
    # each image has one of the two folders, or both
    find = f"for folder in /work /opt/app; do [ ! -d $folder ] || find $folder -type f '(' {tests} ')' || exit; done"
    lines = container.run(image, "sh", "-c", find).split()
    return {name for name in names if any(line.endswith(f"/{name}") for line in lines)}


def test_secrets_and_histories_of_the_folder_are_in_no_image(project):
    """The negative control: one line at the end of .dockerignore lets them in again."""
    assert canaries(project.runtime, project) == canaries(project.dev, project) == set()
    with (project.path / ".dockerignore").open("a") as file:
        file.write("!**/.env\n")
    project.make("build", "build-dev")
    code = f"src/{project.package}/.env"
    assert code in canaries(project.runtime, project) and {code, ".env", "tests/.env"} <= canaries(project.dev, project)
    edit(project, ".dockerignore", "!**/.env\n", "")
    project.make("build", "build-dev")


def test_dev_is_compared_with_a_lock_of_its_own(project):
    """A package that its lock does not name, and one that is missing: the verification of a build says so."""
    edit(project, "Dockerfile", "/couplet/couplet.sh install-conda --more", "true install-conda --more")
    refused = project.make("build-dev", fails=True).output
    assert "udunits2" in refused and "the environment is not what the locks say" in refused
    edit(project, "Dockerfile", "true install-conda --more", "/couplet/couplet.sh install-conda --more")
