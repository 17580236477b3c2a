"""What changes version and what stays: semantics of `make env-update`, `PKG=…` and `ALL=1`, on a channel in a folder."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from couplet.errors import UserError
from tests.harness import template

from .folders import PACKAGES, channel, package, project, write_channel

__all__ = ["channel", "project"]

OLD = {"numpy": "2.3.5", "scipy": "1.16.3", "idna": "3.11", "openssl": "3.5.0", "pip": "25.0"}
"""Versions that are not the newest."""
PLATFORMS = ["linux-64", "linux-aarch64", "osx-arm64"]


@pytest.fixture
def locked(project):
    """A project whose lock has old versions that its environment.yml no longer asks for."""
    folder = project()
    folder.ask("python=3.13", *(f"{name}={version}" for name, version in OLD.items()))
    assert folder.versions() == {**OLD, "python": "3.13.5"}
    folder.ask("python=3.13", *OLD)
    return folder


def test_a_wider_range_moves_nothing(locked):
    before = (locked.path / "conda.lock").read_bytes()
    assert locked.versions() == {**OLD, "python": "3.13.5"}
    assert (locked.path / "conda.lock").read_bytes() == before, "and the same bytes"


def test_all_moves_everything(locked):
    """The negative control of what stays."""
    assert locked.versions(everything=True) == {
        "numpy": "2.4.6", "scipy": "1.17.1", "idna": "3.20", "openssl": "3.6.0", "pip": "26.0", "python": "3.13.5",
    }  # fmt: skip


def test_a_named_package_moves_and_no_other(locked):
    assert locked.versions("idna") == {**OLD, "idna": "3.20", "python": "3.13.5"}
    assert locked.versions("idna") == {**OLD, "idna": "3.20", "python": "3.13.5"}


def test_a_named_package_goes_as_far_as_it_would_alone_and_takes_along_what_has_to(locked):
    """scipy 1.16.3 does not go with numpy 2.4."""
    assert locked.versions("numpy") == {**OLD, "numpy": "2.4.6", "scipy": "1.17.1", "python": "3.13.5"}


def test_another_version_in_environment_yml_moves_that_one_alone(locked):
    locked.ask("python=3.13", *(name for name in OLD if name != "idna"), "idna=3.20")
    assert locked.versions() == {**OLD, "idna": "3.20", "python": "3.13.5"}


def test_another_python_moves_builds_and_no_other_version(locked):
    locked.ask("python=3.11", *OLD)
    after = locked.lock()["linux-64"]
    assert {name: version for name, (version, _) in after.items()} == {**OLD, "python": "3.11.9"}
    assert after["numpy"][1] == "py311_0"


def test_a_package_without_a_build_for_another_python_moves_and_no_other(locked):
    locked.ask("python=3.13", *OLD, "old=1.0")
    assert locked.versions()["old"] == "1.0"
    locked.ask("python=3.11", *OLD, "old")
    assert locked.versions() == {**OLD, "python": "3.11.9", "old": "2.0"}


def test_a_package_more_comes_in_the_version_that_goes_with_what_is_locked(locked):
    """requests 2.0 wants a newer idna; 1.0 does not."""
    locked.ask("python=3.13", *OLD, "requests")
    assert locked.versions() == {**OLD, "python": "3.13.5", "requests": "1.0"}
    locked.ask("python=3.13", *OLD, "requests>=2")
    assert locked.versions() == {**OLD, "python": "3.13.5", "requests": "2.0", "idna": "3.20"}


def test_what_is_no_longer_needed_leaves_the_lock(locked):
    locked.ask("python=3.13", "pip", "openssl", "numpy")
    assert locked.versions() == {
        name: version for name, version in {**OLD, "python": "3.13.5"}.items() if name not in ("scipy", "idna")
    }


def test_a_damaged_lock_is_no_lock(locked, capsys):
    (locked.path / "conda.lock").write_text("version: [\n")
    assert locked.versions()["numpy"] == "2.4.6"
    assert "conda.lock is damaged" in capsys.readouterr().out


def test_what_the_channel_lost_stays_locked_until_everything_moves(locked, tmp_path, project, channel):
    """Its metadata is in the lock. The negative control: with everything let go it moves."""
    write_channel(tmp_path / "own", PACKAGES)
    folder = project()
    folder.channel = (tmp_path / "own").as_uri()
    folder.ask("python=3.13", "idna=3.11")
    folder.lock()
    write_channel(tmp_path / "own", [p for p in PACKAGES if (p["name"], p["version"]) != ("idna", "3.11")])
    folder.ask("python=3.13", "idna")
    assert folder.versions()["idna"] == "3.11"
    assert folder.versions(everything=True)["idna"] == "3.20"


# --- platforms -------------------------------------------------------------------------------------


def test_one_call_locks_all_platforms_and_each_has_its_own(project):
    folder = project(*PLATFORMS)
    folder.ask("python=3.13", "numpy", "appnope  # [osx]", "torch  # [win]")
    found = folder.lock()
    assert list(found) == PLATFORMS
    assert "appnope" in found["osx-arm64"] and "appnope" not in found["linux-64"]
    assert not any("torch" in held for held in found.values())


def test_a_platform_taken_up_moves_nothing_on_the_others(locked):
    locked.platforms = PLATFORMS
    found = locked.lock()
    assert {name: version for name, (version, _) in found["linux-64"].items()} == {**OLD, "python": "3.13.5"}
    assert found["osx-arm64"]["numpy"][0] == "2.4.6", "the negative control: what was not locked is new"


def test_a_named_package_moves_on_all_platforms(project):
    folder = project(*PLATFORMS)
    folder.ask("python=3.13", "numpy=2.3.5", "idna=3.11")
    folder.lock()
    folder.ask("python=3.13", "numpy", "idna")
    found = folder.lock("numpy")
    assert {(held["numpy"][0], held["idna"][0]) for held in found.values()} == {("2.4.6", "3.11")}


# --- virtual packages ------------------------------------------------------------------------------


def test_cuda_is_locked_where_the_project_says_so_and_nowhere_else(project):
    folder = project()
    folder.ask("torch")
    with pytest.raises(UserError, match=re.escape('[tool.couplet.virtual-packages]\n  __cuda = "12"')):
        folder.lock()
    with (folder.path / "pyproject.toml").open("a") as file:
        file.write('[tool.couplet.virtual-packages]\n__cuda = "12.9"\n')
    assert folder.versions()["torch"] == "2.0"
    assert "__cuda=12.9=0" in (folder.path / "conda.lock").read_text()


@pytest.mark.parametrize("line", ['__cudda = "12"', "__cuda = 12.9", '__cuda = "new"', '__archspec = "1"'])
def test_an_unknown_virtual_package_is_refused_by_name(project, line):
    folder = project()
    folder.ask("python")
    with (folder.path / "pyproject.toml").open("a") as file:
        file.write(f"[tool.couplet.virtual-packages]\n{line}\n")
    with pytest.raises(UserError, match=f"virtual-packages.*{line.split()[0]} is"):
        folder.lock()


def test_a_channel_given_up_takes_its_packages_with_it(project, tmp_path):
    """They stay at their versions where another channel has these, and go where none has."""
    other = write_channel(
        tmp_path / "other",
        [*(p for p in PACKAGES if p["version"] == "3.11"), *(dict(p, version="9") for p in PACKAGES if p["version"] == "2.7")],
    )
    folder = project()
    folder.ask("python=3.13", "idna=3.11", channels=[other, folder.channel])
    folder.lock()
    assert f"{tmp_path}/other/noarch/idna-3.11" in (folder.path / "conda.lock").read_text()
    folder.ask("python=3.13", "idna")
    assert folder.versions()["idna"] == "3.11"
    assert f"{tmp_path}/other" not in (folder.path / "conda.lock").read_text()
    folder.ask("python=3.13", "idna=9", channels=[other, folder.channel])
    assert folder.versions()["idna"] == "9"
    folder.ask("python=3.13", "idna")
    assert folder.versions()["idna"] == "3.20"


def test_the_program_that_the_benchmark_times_locks_as_the_package_does(project):
    """`bench.solve`, in a process of its own: nothing else of the suite would notice that it no longer fits."""
    folder = project()
    folder.ask("python=3.13", "idna")
    versions = folder.versions()
    lock = (folder.path / "conda.lock").read_bytes()
    (folder.path / "conda.lock").unlink()
    subprocess.run([sys.executable, "-m", "bench.solve", str(folder.path)], cwd=template.REPOSITORY, check=True)
    assert (folder.path / "conda.lock").read_bytes() == lock and "idna" in versions
    assert int((folder.path / "peak.json").read_text()) > 1_000_000


def test_a_package_comes_from_the_first_channel_that_has_it(project, tmp_path):
    """Whatever a later one has of it. The negative control: the other way round."""
    first = write_channel(tmp_path / "first", [package("mine", "1.0")])
    second = write_channel(tmp_path / "second", [package("mine", "2.0"), package("other", "1.0")])
    folder = project()
    folder.ask("mine", "other", channels=[first, second])
    assert folder.versions() == {"mine": "1.0", "other": "1.0"}
    folder.ask("mine", "other", channels=[second, first])
    assert folder.versions(everything=True) == {"mine": "2.0", "other": "1.0"}


@pytest.mark.parametrize("lacking", ["md5", "sha256"])
def test_a_package_without_hashes_is_not_locked(project, tmp_path, lacking):
    whole = package("bare", "1.0")
    for name, packages in {"whole": [whole], "bare": [{key: value for key, value in whole.items() if key != lacking}]}.items():
        folder = project()
        folder.ask("bare", channels=[write_channel(tmp_path / name, packages)])
        if name == "whole":
            assert folder.versions() == {"bare": "1.0"}, "the negative control"
        else:
            with pytest.raises(UserError, match=r"bare-1\.0-0\.conda: its channel gives no MD5 and SHA-256"):
                folder.lock()
