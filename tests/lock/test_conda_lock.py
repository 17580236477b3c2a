"""conda.lock: its one reader, the explicit locks beside it, and the conda-lock.yml of a release before 1.0."""

from __future__ import annotations

import hashlib
import re

import pytest
from ruamel.yaml import YAML

from couplet.errors import UserError
from couplet.formats import conda_lock
from couplet.lock import command, solve, stamp

from .folders import channel, project

__all__ = ["channel", "project"]
OLD = {"numpy": "2.3.5", "idna": "3.11", "openssl": "3.5.0", "pip": "25.0"}


@pytest.fixture
def locked(project):
    """A project of two platforms, locked in old versions."""
    folder = project("linux-64", "osx-arm64")
    folder.ask("python=3.13", *(f"{name}={version}" for name, version in OLD.items()))
    folder.lock()
    folder.ask("python=3.13", *OLD)
    return folder


def test_the_reader_gives_all_that_is_known_of_a_package(locked):
    found = conda_lock.records(locked.path / "conda.lock")
    assert found.keys() == {"linux-64", "osx-arm64"}
    numpy = found["osx-arm64"]["numpy"]
    file_name = "numpy-2.3.5-py313_0.conda"
    assert numpy.url.endswith(f"/osx-arm64/{file_name}") and numpy.package.file_name == file_name
    assert numpy[:3] == ("numpy", "2.3.5", "py313_0")
    assert numpy[4:] == (
        hashlib.md5(file_name.encode()).hexdigest(), hashlib.sha256(file_name.encode()).hexdigest(), ("python",), "MIT", 100, 1700000000,
    )  # fmt: skip


def test_no_lock_is_nothing_and_a_damaged_one_an_error(tmp_path):
    assert conda_lock.records(tmp_path / "conda.lock") == {}
    for text in ("", "version: [", "<<<<<<< ours\nversion: 7\n", "version: 99\n"):
        (tmp_path / "conda.lock").write_text(text)
        with pytest.raises(UserError, match=r"conda.lock is damaged \(.*make env-update"):
            conda_lock.records(tmp_path / "conda.lock")


def test_what_is_read_can_be_written_as_an_explicit_lock_and_read_again(locked, tmp_path):
    records = conda_lock.records(locked.path / "conda.lock")["linux-64"]
    packages = [record.package for record in records.values()]
    path = tmp_path / "conda-linux-64.lock"
    path.write_text(conda_lock.explicit(packages, "linux-64", ["a 1"]))
    assert sorted(conda_lock.read(path)) == sorted(packages)
    assert {package.identity[0] for package in packages} == records.keys()
    for scripts in (None, [], ["a", "b"]):
        path.write_text(conda_lock.explicit(packages, "linux-64", [], scripts=scripts))
        assert conda_lock.link_scripts(path) == scripts and sorted(conda_lock.read(path)) == sorted(packages)


def test_names_of_dependencies_are_names_alone(project, tmp_path):
    found = next(
        iter(solve._conda_lock_yml(legacy(tmp_path, "a::b >=1.0,<2", "python_abi", "libc[version='>=1']"))["linux-64"].values())
    )
    assert conda_lock.record(found).depends == ("b", "python_abi", "libc")


def legacy(folder, *depends):
    """Write a conda-lock.yml with one package."""
    entry = {"name": "x", "version": "1", "platform": "linux-64", "url": "https://c.org/a/noarch/x-1-0.conda"}
    entry |= {"dependencies": dict.fromkeys(depends, ""), "hash": {"md5": "0" * 32, "sha256": "0" * 64}}
    with (folder / "conda-lock.yml").open("w") as file:
        YAML().dump({"metadata": {"platforms": ["linux-64"]}, "package": [entry]}, file)
    return folder / "conda-lock.yml"


# --- conda-lock.yml --------------------------------------------------------------------------------


@pytest.fixture
def of_0x(locked):
    """The project as a release before 1.0 left it: conda-lock.yml in the place of conda.lock."""
    records = conda_lock.records(locked.path / "conda.lock")
    entries = [
        {
            "name": name, "version": r.version, "manager": "conda", "platform": platform, "url": r.url, "category": "main", "optional": False,
            "dependencies": dict.fromkeys(r.depends, ""), "hash": {"md5": r.md5, "sha256": r.sha256},
        }
        for platform, held in records.items() for name, r in held.items()
    ]  # fmt: skip
    with (locked.path / "conda-lock.yml").open("w") as file:
        YAML().dump({"version": 1, "metadata": {"platforms": list(records)}, "package": entries}, file)
    (locked.path / "conda.lock").rename(locked.path / "before")
    return locked


def test_a_project_of_an_earlier_release_moves_nothing_and_gets_all_that_is_known(of_0x):
    assert solve.previous(of_0x.path).legacy
    of_0x.lock()
    assert (of_0x.path / "conda.lock").read_bytes() == (of_0x.path / "before").read_bytes()
    assert not solve.previous(of_0x.path).legacy, "it is read once"


def test_without_its_conda_lock_yml_everything_would_move(of_0x):
    """The negative control."""
    (of_0x.path / "conda-lock.yml").unlink()
    assert {name for name, version in of_0x.versions().items() if OLD.get(name) == version} == set()


def test_a_damaged_conda_lock_yml_is_no_lock(of_0x, capsys):
    (of_0x.path / "conda-lock.yml").write_text("metadata: {}\n")
    assert of_0x.versions()["numpy"] == "2.4.6"
    assert "conda-lock.yml is damaged" in capsys.readouterr().out


def test_what_has_to_go_is_listed_and_nothing_else(of_0x):
    for name in ("linux-64", "osx-arm64"):
        (of_0x.path / f"conda-{name}.lock").write_text(stamp.stamped("@EXPLICIT\n", {}))
    (of_0x.path / "conda-mine.lock").write_text("# my own\n")
    assert command.to_delete(of_0x.path, ["conda-linux-64.lock"]) == ["conda-lock.yml", "conda-osx-arm64.lock"]
    (of_0x.path / "conda-lock.yml").unlink()
    assert command.to_delete(of_0x.path, ["conda-linux-64.lock", "conda-osx-arm64.lock"]) == []


# --- is there anything to solve? -------------------------------------------------------------------


def test_conda_is_asked_again_where_its_input_changed_and_nowhere_else(locked):
    path, platforms = locked.path, locked.platforms

    def fits() -> bool:
        from couplet import settings

        return command.fits(path, platforms, solve.previous(path), settings.pyproject(path))

    (path / "conda-linux-64.lock").write_text("@EXPLICIT\n")
    assert not fits(), "there are no stamps yet, and no poetry.lock"
    (path / "poetry.lock").write_text("")
    for platform in platforms:
        (path / f"conda-{platform}.lock").write_text(stamp.stamped("@EXPLICIT\n", stamp.current(path, True)))
    assert fits()
    edits = {
        "environment.yml": ("  - numpy\n", "  - numpy\n  - scipy\n"),
        "conda.lock": ("license: MIT", "license: BSD"),
        "pyproject.toml": ("[project]", '[tool.couplet.virtual-packages]\n__glibc = "2.31"\n[project]'),
    }
    for name, (old, new) in edits.items():
        text = (path / name).read_text()
        assert old in text
        (path / name).write_text(text.replace(old, new, 1))
        assert not fits(), name
        (path / name).write_text(text)
    assert fits()
    assert not command.fits(path, platforms[:1], solve.previous(path), {})
    (path / "pyproject.toml").write_text(
        re.sub("dependencies = .*", 'dependencies = ["tqdm"]', (path / "pyproject.toml").read_text())
    )
    assert fits(), "that is Poetry's"
