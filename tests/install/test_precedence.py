"""Conda takes precedence: in the finished images, and where the Python index lacks what conda has."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml

from tests.harness import checks
from tests.harness.container import derived, running
from tests.harness.locks import edit
from tests.image.test_environment import rebuilt

# --- the finished images ---------------------------------------------------------------------------


def test_the_finished_images_hold_condas_files_as_conda_left_them(with_conda):
    """The build verifies it of the environment; this of what comes after it, entry points, guards and the project, in both images."""
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
    """The negative control of that, and of what tests/image/test_environment.py asks of both images."""
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


# --- what the locks say of themselves ---------------------------------------------------------------------------


def test_each_lock_says_how_it_came_about(with_conda):
    """By a hash of each thing that it was made of, and the versions of what made it; by no date, machine or person."""
    head = (with_conda.path / "conda-linux-64.lock").read_text().split("@EXPLICIT")[0]
    stamped = re.findall(r"^# stamp (\S+) sha256:[0-9a-f]{64}$", head, re.M)
    assert stamped == ["conda.lock", "environment.yml", "poetry.lock", "pyproject.toml", "this-file"]
    assert re.findall(r"^# made with (\S+) \d+\.\d+", head, re.M) == ["py-rattler", "poetry"]
    texts = [re.sub(r"^# sha256 .*\n", "", head, flags=re.M), (with_conda.path / "poetry.lock").read_text().partition("[[")[0]]
    assert [text for text in texts if re.search(r"20\d\d-\d\d-\d\d|\d\d:\d\d:\d\d", text)] == []
    document = yaml.safe_load((with_conda.path / "conda.lock").read_text())
    assert document.keys() == {"version", "platforms", "environments", "packages"}


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
