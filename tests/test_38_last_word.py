"""The last word is conda's: in the finished images, in its cache, and when one package cannot move without another."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.conftest import IMAGES
from tests.harness import checks, template
from tests.harness.container import derived, docker, running
from tests.harness.project import Project
from tests.test_30_locks import check, edit
from tests.test_35_relocking import moved, secrets
from tests.test_40_environment import rebuilt

# --- the finished images ---------------------------------------------------------------------------


def test_the_finished_images_hold_condas_files_as_conda_left_them(with_conda):
    """The build proves it of the environment; this of what comes after it, doors, guards and the project, in both images."""
    for image in (with_conda.runtime, with_conda.dev):
        with running(image) as host:
            assert checks.conda_files(host, with_conda) == [], image


DAMAGE = {
    "a file of conda's changed": ("echo 1 >> {site}/numpy/version.py", "conda_files", "numpy: lib/python"),
    "a file of conda's deleted": ("rm {site}/scipy/version.py", "conda_files", "scipy: lib/python"),
    "a package of conda's in another version": (
        "mv {prefix}/conda-meta/numpy-2* /tmp/numpy && sed 's/\"version\": \"[^\"]*\"/\"version\": \"0.1\"/' /tmp/numpy > {prefix}/conda-meta/numpy-0.1-0.json",
        "conda_lock", "numpy: locked",
    ),
    "a package of Poetry's in another version": (
        "sed -i 's/^Version: .*/Version: 0.0.1/' {site}/pandas-*.dist-info/METADATA", "poetry_lock", "pandas: locked",
    ),
}  # fmt: skip


@pytest.mark.one_variant
@pytest.mark.parametrize("image", ["runtime", "dev"])
@pytest.mark.parametrize("case", DAMAGE)
def test_damage_to_a_finished_image_is_seen(built, image, case):
    """The twin of that, and of what test_40_environment.py asks of both images."""
    command, question, message = DAMAGE[case]
    groups = ({"main"} if image == "runtime" else {"main", "dev"},) if question == "poetry_lock" else ()
    instruction = f"USER root\nRUN {command.format(site=built.site_packages, prefix=built.prefix)}"
    with derived(getattr(built, image), instruction) as broken, running(broken) as host:
        found = getattr(checks, question)(host, built, *groups)
    assert [line for line in found if line.startswith(message)], found


@pytest.mark.one_variant
def test_a_dependency_that_nothing_meets_fails_the_build(built, copy_of):
    """Over all distributions, conda's and Poetry's: here one of Poetry's asks for something that is not there."""
    project = copy_of(built)
    asks = f"RUN for file in {built.site_packages}/pandas-*.dist-info/METADATA; do sed -i '1a Requires-Dist: tabulate>=99' $file; done"
    done = rebuilt(project, "env", asks, after="FROM poetry-packages AS env")
    assert done.code and "dependencies that are not met" in done.output and "tabulate" in done.output, done.output[-3000:]
    assert "Traceback" not in done.output


# --- the locks' own word ---------------------------------------------------------------------------


def test_each_lock_says_how_it_came_about(with_conda):
    """By a hash of each thing that it was made of, and the versions of what made it; by no date, machine or person."""
    head = (with_conda.path / "conda-linux-64.lock").read_text().split("@EXPLICIT")[0]
    stamped = re.findall(r"^# stamp (\S+) [0-9a-f]{64}$", head, re.M)
    assert stamped == ["environment.yml", "pyproject.toml", "conda-lock.yml", "poetry.lock", "this-file"]
    assert re.findall(r"^# made with (\S+) \d+\.\d+", head, re.M) == ["conda", "conda-lock", "Poetry"]
    assert not re.search(r"20\d\d-\d\d-\d\d|\d\d:\d\d", re.sub(r"^# sha256 .*\n", "", head, flags=re.M))
    assert re.search(r'^content-hash = "\w{64}"$', (with_conda.path / "poetry.lock").read_text(), re.M)
    document = yaml.safe_load((with_conda.path / "conda-lock.yml").read_text())["metadata"]
    assert document["content_hash"].keys() == {"linux-64"} and not [key for key in document if "time" in key or "git" in key]


# --- conda's cache ---------------------------------------------------------------------------------

LARGE = ("numpy", "scipy", "ipython", "jedi", "debugpy", "ipykernel")
"""What the environments below do without, to be quick."""

CACHE = """
set -e
. /docker/network.sh
/opt/conda/bin/python -m pip install --quiet --require-hashes --no-deps --no-compile --root-user-action=ignore \\
    --target=/opt/tools -r /docker/tools.txt -r /docker/conda-tools.txt
install() {{ /opt/conda/bin/python {how} --locks /locks --prefix "/opt/conda/envs/$1" --tools /opt/tools; }}
install first > /tmp/log 2>&1 || {{ cat /tmp/log; exit 1; }}
cd /var/cache/conda/unpacked
echo 'half = True' >> wheel-*/site-packages/wheel/__init__.py
rm wheel-*/site-packages/wheel/__main__.py
install second > /tmp/log 2>&1 || echo "the installation failed"
cd /opt/conda/envs/second/lib/python3.*/site-packages/wheel
# what these two print is what the test reads: a count of 0 and a file that is missing are answers, and end with an error
grep -c 'half = True' __init__.py || true
ls __main__.py || true
"""
WITHOUT = """-c 'import sys; sys.path[:0] = ["/docker", "/opt/tools"]; sys.argv[0] = "install_conda.py"
import install_conda, rattler
mode = rattler.ValidationMode.skip()
install_conda.unpacked_packages = lambda: rattler.PackageCache.new_layered(["/var/cache/conda/unpacked"], validation_mode=mode)
install_conda.main()'"""


@pytest.mark.one_variant
@pytest.mark.parametrize(("how", "whole"), [("/docker/install_conda.py", True), (WITHOUT, False)])
def test_an_unpacked_package_that_is_damaged_is_unpacked_again(with_conda, tmp_path, how, whole):
    """One that was edited, or whose unpacking was killed. The twin, without the comparison, does not install it whole."""
    lock = (with_conda.path / "conda-linux-64.lock").read_text()
    names = "|".join(LARGE)
    (tmp_path / "conda-linux-64.lock").write_text(re.sub(rf"^.*[/ ]({names})-\d[^-]*-[^-]*\n", "", lock, flags=re.M))
    options = ("--volume", f"{with_conda.path}/docker:/docker:ro", "--volume", f"{tmp_path}:/locks:ro", *secrets())
    shown = docker("run", "--rm", *options, base_image(), "bash", "-c", CACHE.format(how=how)).stdout
    assert ("\n0\n__main__.py\n" in f"\n{shown}") == whole, shown


def base_image() -> str:
    """Return the name of the image that has conda, from the table of what moves with the template."""
    lines = (template.REPOSITORY / "questions/90_derived.yml").read_text().splitlines()
    return next(line.split(": ")[1] for line in lines if "miniforge" in line)


# --- what the index does not have ------------------------------------------------------------------


def test_a_package_that_is_not_on_the_index_is_left_out_of_the_pins_and_named(render, sources):
    """conda itself: the Python index stopped at an old version. What it needs is held all the same."""
    project = render()
    edit(project, "environment.yml", "  - numpy\n  - scipy\n", "  - conda\n")
    edit(project, "environment.yml", "  - ipykernel\n", "")
    shown = project.make("env-update").output
    version = project.locked_by_conda()["conda"][0]
    assert f"note: conda {version} (conda package conda) is not on the Python index" in shown
    pins = tomllib.loads((project.path / "pyproject.toml").read_text())["dependency-groups"]["conda"]
    assert [pin for pin in pins if pin.startswith("conda==")] == []
    assert f"requests=={project.locked_by_conda()['requests'][0]}" in pins


# --- neighbours ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def locked(template_repository: Path, sources: str, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project locked with an old distributed, dask and idna; each distributed asks for the dask of its own version."""
    path = template.render(template_repository, tmp_path_factory.mktemp("neighbours") / "project", {"project_name": "Sea Ice"})
    project = Project(path, f"{IMAGES}-neighbours")
    edit(project, "environment.yml", "  - numpy\n  - scipy\n", "  - distributed=2026.7.1\n  - idna=3.11\n")
    edit(project, "environment.yml", "  - ipykernel\n", "")
    project.make("env-update")
    edit(project, "environment.yml", "  - distributed=2026.7.1\n  - idna=3.11\n", "  - distributed\n  - idna\n")
    return project


def test_a_package_takes_the_neighbour_along_that_it_cannot_move_without(locked):
    """And no other: idna could move, and nothing needs it to. Tightest first: with dask held there is no solution."""
    assert {locked.locked_by_conda()[name][0] for name in ("dask", "distributed")} == {"2026.7.1"}
    shown = locked.make("env-update", "PKG=distributed").output
    assert moved(shown) == {(name, "conda linux-64"): ("2026.7.1", "2026.8.0") for name in ("dask", "distributed")}
    held = [int(number) for number in re.findall(r"solving for linux-64, (\d+) packages held", shown)]
    count = len(locked.locked_by_conda())
    assert held == [count - 1, count - 1, count - 2], "all but distributed; those in any build; all but dask too"
    assert locked.locked_by_conda()["idna"][0] == "3.11"
    assert check(locked).returncode == 0
