"""Relocking: what changes version and what stays, what a conflict says, and what is no lock's. More, without Docker: tests/lock."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import IMAGES
from tests.harness import container, template
from tests.harness.checks import locked_by_poetry
from tests.harness.locks import check, copy, edit, left, moved, restamp, secrets
from tests.harness.project import Project

OLD = {"numpy": "2.3.5", "idna": "3.11", "certifi": "2026.4.22"}
"""Versions that are not the newest: with them locked and the pin taken away, there is something to move."""


@pytest.fixture(scope="module")
def locked(template_repository: Path, sources: str, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose locks hold old versions that its environment.yml no longer asks for."""
    path = template.render(template_repository, tmp_path_factory.mktemp("relocking") / "project", {"project_name": "Sea Ice"})
    project = Project(path, f"{IMAGES}-relocking")
    edit(project, "environment.yml", "  - numpy\n", "".join(f"  - {name}={version}\n" for name, version in OLD.items()))
    edit(project, "pyproject.toml", '"pandas>=2.2",', '"pandas==3.0.6",\n    "numpy",\n    "requests",\n    "tqdm==4.67.3",')
    project.make("env-update")
    for name, version in OLD.items():
        edit(project, "environment.yml", f"  - {name}={version}\n", f"  - {name}\n")
    edit(project, "pyproject.toml", '"pandas==3.0.6"', '"pandas>=3"')
    edit(project, "pyproject.toml", '"tqdm==4.67.3"', '"tqdm"')
    return project


@pytest.fixture
def project(locked: Project, tmp_path: Path) -> Project:
    """A copy of it, to be changed."""
    return copy(locked, tmp_path / "project")


@pytest.fixture(scope="module")
def relocked(locked: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same project after `make env-update`: its locks fit, and hold the old versions still."""
    project = copy(locked, tmp_path_factory.mktemp("relocked") / "project")
    project.make("env-update")
    return project


@pytest.fixture
def fitting(relocked: Project, tmp_path: Path) -> Project:
    """A copy of that."""
    return copy(relocked, tmp_path / "project")


# --- what changes version, and what stays --------------------------------------------------------------------


def test_a_wider_range_moves_nothing(project):
    """The old versions fit: they stay, certifi too, which conda by itself moves past any pin."""
    before = project.locked_by_conda()
    shown = project.make("env-update").output
    assert "no package changed version" in shown and moved(shown) == {}
    assert project.locked_by_conda() == before
    assert {name: before[name][0] for name in OLD} == OLD
    assert check(project).returncode == 0


def test_named_packages_move_and_no_other(project):
    shown = project.make("env-update", "PKG=numpy pandas").output
    assert moved(shown) == {
        ("numpy", "conda linux-64"): ("2.3.5", "2.4.6"),
        ("numpy", "Poetry"): ("2.3.5", "2.4.6"),
        ("pandas", "Poetry"): ("3.0.6", "3.1.1"),
    }
    assert check(project).returncode == 0
    again = project.make("env-update", "PKG=pandas").output
    assert moved(again) == {} and "pandas stays: nothing newer fits" in again
    unknown = project.make("env-update", "PKG=numpi", fails=True).output
    assert "PKG: numpi: not in the locks" in unknown


def test_all_moves_everything(project):
    """The negative control of the two above: without anything held, all of the old versions go."""
    rows = moved(project.make("env-update", "ALL=1").output)
    assert {name for name, owner in rows if owner.startswith("conda")} == OLD.keys()
    assert {"pandas", "tqdm", *OLD} == {name for name, owner in rows if owner == "Poetry"}


def test_a_name_that_differs_between_the_two_worlds(project):
    """conda's msgpack-python is PyPI's msgpack: Poetry is held to conda's, and PKG knows both names."""
    edit(project, "environment.yml", "  - idna\n", "  - idna\n  - msgpack-python\n")
    edit(project, "pyproject.toml", '"requests",', '"requests",\n    "msgpack",')
    project.make("env-update")
    version = project.locked_by_conda()["msgpack-python"][0]
    assert f'"msgpack=={version}"' in (project.path / "pyproject.toml").read_text()
    assert f'name = "msgpack"\nversion = "{version}"' in (project.path / "poetry.lock").read_text()
    assert "the newest possible msgpack-python" in project.make("env-update", "PKG=msgpack").output


# --- conflicts -------------------------------------------------------------------------------------

CONFLICTS = {
    "direct": ('"numpy"', '"numpy>=2.4"', "pyproject.toml asks for numpy (>=2.4); conda's package numpy has numpy 2.3.5"),
    "transitive": ('"requests"', '"requests==2.20.0"', "requests 2.20.0 asks for idna (>=2.5,<2.8); conda's package idna has idna 3.11"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONFLICTS)
def test_a_conflict_is_explained(project, case):
    old, new, message = CONFLICTS[case]
    edit(project, "pyproject.toml", old, new)
    before = project.locks()
    shown = project.make("env-update", fails=True).output
    assert message in shown, shown[-4000:]
    assert "Two ways out" in shown and "- pyproject.toml: loosen" in shown and "- environment.yml: ask for" in shown
    assert "Traceback" not in shown and project.locks() == before


def test_the_way_out_of_a_conflict_is_one(project):
    """The negative control: with what the message says done, the same dependency locks."""
    edit(project, "pyproject.toml", '"numpy"', '"numpy>=2.4"')
    edit(project, "environment.yml", "  - numpy\n", "  - numpy>=2.4\n")
    assert {name for name, _ in moved(project.make("env-update").output)} == {"numpy"}


# --- tampering -------------------------------------------------------------------------------------


def flipped(match: re.Match) -> str:
    """Return a digest that is another one."""
    return match[1] + ("0" if match[2][0] != "0" else "1") + match[2][1:]


TAMPERED = {
    "conda's MD5": ("conda-linux-64.lock", r"(/idna-[^#\n]*#)([0-9a-f]{32})", "has MD5"),
    "conda's SHA-256": ("conda-linux-64.lock", r"(# sha256 )([0-9a-f]{64})(?= idna-)", "has SHA-256"),
    "Poetry's": ("poetry.lock", r'(file = "tqdm-[^\n]*sha256:)([0-9a-f]{64})', "a downloaded file has another hash than poetry.lock says"),
}  # fmt: skip


@pytest.mark.parametrize("case", TAMPERED)
def test_a_tampered_hash_fails_the_build(fitting, case):
    file, pattern, message = TAMPERED[case]
    path = fitting.path / file
    text, count = re.subn(pattern, flipped, path.read_text())
    assert count
    path.write_text(text)
    restamp(fitting)
    assert check(fitting).returncode == 0, "the stamps have to be in order: it is the hash that is tested"
    shown = fitting.make("build", fails=True).output
    assert message in shown, shown[-3000:]
    assert "make env-update ALL=1" in shown and "Traceback" not in shown


def test_a_full_disk_leaves_the_old_locks(fitting, tmp_path):
    """On a file system of its own, with room for the project and not for a second set of locks."""
    edit(fitting, "pyproject.toml", '"requests",', '"requests",\n    "tabulate",')
    before = fitting.locks()
    script = f"""
        mkdir small && mount -t tmpfs -o size=$(( $(du -sk project | cut -f 1) + 64 ))k none small
        cp -a project/. small && cd small && {{ make IMAGE={fitting.images} env-update; code=$?; }}
        cp -a . ../result; exit $code"""
    root = [] if os.getuid() == 0 else ["sudo", "-n", "-E"]
    done = subprocess.run(
        [*root, "unshare", "--mount", "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode and "The disk is full" in done.stderr, done.stderr[-3000:]
    assert "no file was replaced" in done.stderr
    result = Project(tmp_path / "result", fitting.images)
    assert result.locks() == before
    assert left(result) == []


# --- outside of Docker -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def poetry_image(locked: Project):
    """The stage that has conda and Poetry and no environment."""
    name = f"{locked.images}:poetry"
    subprocess.run(
        [".couplet/host/docker-build.sh", "--quiet", "--file", ".couplet/tasks.Dockerfile", "--target", "poetry", "--tag", name],
        cwd=locked.path,
        check=True,
    )
    yield name
    container.docker("image", "rm", "--force", name)


def readme_commands(project: Project) -> str:
    """Return the commands of the README's section `Without Docker`."""
    section = (project.path / "README.md").read_text().split("## Without Docker")[1]
    return re.search(r"```sh\n(.*?)```", section, re.S)[1]


ON_THE_NETWORK = """
import os
from couplet import network
network.apply()
del os.environ["PYTHONPATH"]
os.execvp("bash", ["bash", "-c", os.environ["SCRIPT"]])
"""
FOUND = """
import json, os
from pathlib import Path
from couplet.formats.records import installed_distributions
from couplet.install.verify import changed_files
prefix = Path(os.environ["CONDA_PREFIX"])
print(json.dumps([changed_files(prefix)[0], {name: found.version for name, found in installed_distributions(prefix).items()}]))
"""


def outside(project: Project, image: str, commands: str) -> tuple[list[str], dict[str, str]]:
    """Run the README's commands where only the locks and the code are; return (changed files of conda's, versions)."""
    files = ["conda-linux-64.lock", "poetry.lock", "pyproject.toml", "README.md", "src"]
    mounts = [word for name in files for word in ("--volume", f"{project.path}/{name}:/given/{name}:ro")]
    # The lock has the public addresses: who is behind a mirror maps them, as the guide says.
    script = f"""set -e
        mkdir /project && cp -r /given/. /project && cd /project
        export PATH=/opt/poetry/bin:$PATH
        alias=$(sed -n 's/^channel_alias: *//p' "${{CONDARC:-/dev/null}}")
        [ -z "$alias" ] || sed -i "s|https://conda.anaconda.org|$alias|" conda-linux-64.lock
        . /opt/conda/etc/profile.d/conda.sh
        export CONDA_ALWAYS_YES=1 POETRY_NO_INTERACTION=1
        {commands}
        poetry check --lock
        PYTHONPATH=/couplet /opt/poetry/bin/python -c "$FOUND" """
    options = (*secrets(), *mounts, "--volume", f"{project.path}/.couplet:/couplet:ro")
    options += ("--env", "PYTHONPATH=/couplet", "--env", f"FOUND={FOUND}", "--env", f"SCRIPT={script}")
    done = container.docker("run", "--rm", *options, image, "/opt/poetry/bin/python", "-c", ON_THE_NETWORK)
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def test_the_readmes_way_without_docker_gives_what_the_locks_say(fitting, poetry_image):
    changed, versions = outside(fitting, poetry_image, readme_commands(fitting))
    assert changed == []
    for name, version in locked_by_poetry(fitting, {"main", "dev"}).items():
        assert versions[name] == version
    assert versions["numpy"] == OLD["numpy"] and versions["sea-ice"]


@pytest.mark.soak
def test_a_naive_install_overwrites_condas_files_and_is_seen(fitting, poetry_image):
    """The negative control, with the real Poetry: without the line that deletes direct_url.json, it takes conda's packages at
    equal versions, direct (numpy) and transitive (idna), and the comparison of the build names them."""
    commands = readme_commands(fitting)
    line = next(line for line in commands.splitlines() if "direct_url.json" in line)
    changed, versions = outside(fitting, poetry_image, commands.replace(line, ""))
    owners = {entry.split(":")[0] for entry in changed}
    assert {"numpy", "idna"} <= owners, changed[:20]
    assert versions["numpy"] == OLD["numpy"] and versions["idna"] == OLD["idna"]
