"""What has no wheel is told when it is locked, by the names of the files that an index has of it."""

from __future__ import annotations

import pytest

from couplet.formats import poetry_lock
from couplet.lock import wheels
from couplet.lock.poetry import moved

PYTHON = "3.13.2"
LINUX, ARM, MAC = "linux-64", "linux-aarch64", "osx-arm64"


@pytest.mark.parametrize(
    ("file", "where"),
    [
        ("ice-1-py3-none-any.whl", [LINUX, ARM, MAC]),
        ("ice-1-py2.py3-none-any.whl", [LINUX, ARM, MAC]),
        ("ice-1-cp313-cp313-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", [LINUX]),
        ("ice-1-cp313-cp313-manylinux_2_28_aarch64.whl", [ARM]),
        ("ice-1-cp313-cp313-linux_x86_64.whl", [LINUX]),
        ("ice-1-cp38-abi3-manylinux_2_5_x86_64.whl", [LINUX]),
        ("ice-1-cp313-none-any.whl", [LINUX, ARM, MAC]),
        ("ice-1-py3-none-manylinux1_x86_64.whl", [LINUX]),
        ("ice-1-cp313-cp313-macosx_11_0_arm64.whl", [MAC]),
        ("ice-1-cp313-cp313-macosx_10_13_universal2.whl", [MAC]),
        ("ice-1-cp313-cp313-macosx_10_13_x86_64.whl", []),
        ("ice-1-cp312-cp312-manylinux_2_17_x86_64.whl", []),
        ("ice-1-cp314-abi3-manylinux_2_17_x86_64.whl", []),
        ("ice-1-cp313-cp313t-manylinux_2_17_x86_64.whl", []),
        ("ice-1-cp313-cp313-musllinux_1_2_x86_64.whl", []),
        ("ice-1-cp313-cp313-win_amd64.whl", []),
        ("ice-1-pp310-pypy310_pp73-manylinux_2_17_x86_64.whl", []),
        ("ice-1-py2-none-any.whl", []),
        ("ice-1.tar.gz", []),
        ("ice.whl", []),
    ],
)
def test_a_wheel_is_for_a_python_and_for_platforms(file, where):
    assert [subdir for subdir in (LINUX, ARM, MAC) if wheels.suits(file, PYTHON, subdir)] == where


def lock(folder, *packages: tuple[str, str, str, list[str]]):
    """Write poetry.lock of packages (name, groups and markers as TOML, and the names of the files)."""
    listed = '{{file = "{}", hash = "sha256:1"}}'.format
    parts = [
        f'[[package]]\nname = "{name}"\nversion = "1"\ngroups = {groups}\nmarkers = {markers}\n'
        f"files = [{', '.join(map(listed, files))}]\n"
        for name, groups, markers, files in packages
    ]
    (folder / "poetry.lock").write_text("\n".join([*parts, '[metadata]\nlock-version = "2.1"\n']))
    return poetry_lock.read(folder / "poetry.lock")


def test_what_the_build_would_make_from_source_is_told_with_the_way_out(tmp_path):
    source, mac, both = ["ice-1.tar.gz"], ["ice-1-cp313-cp313-macosx_11_0_arm64.whl"], ["ice-1-py3-none-any.whl", "ice-1.tar.gz"]
    packages = lock(
        tmp_path,
        ("ice", '["main"]', '""', source),
        ("mac", '["dev"]', '""', mac),
        ("fine", '["main"]', '""', both),
        ("windows", '["main"]', "\"sys_platform == 'win32'\"", source),  # nobody wants it here
        ("conda-holds", '["main", "conda"]', '""', source),
        ("pin", '["conda"]', '""', source),
        ("git", '["main"]', '""', []),  # it is refused elsewhere
    )
    pythons = {LINUX: PYTHON, MAC: PYTHON}
    assert wheels.notes(packages, pythons, {"conda-holds": {LINUX, MAC}}, conda=True) == [
        "ice 1 has no wheel for this Python (linux-64, osx-arm64): the build makes it from source, without a compiler.",
        "  If it needs one: raise its lower bound in pyproject.toml and run `make env-update PKG=ice`, "
        "or take it from conda (environment.yml).",
        "mac 1 has no wheel for this Python (linux-64): the build makes it from source, without a compiler.",
        "  If it needs one: raise its lower bound in pyproject.toml and run `make env-update PKG=mac`, "
        "or take it from conda (environment.yml).",
    ]
    # where conda has it on one platform alone, the other wants a wheel; and without conda there is no such way out
    told = wheels.notes(packages, pythons, {"conda-holds": {MAC}}, conda=False)
    assert "conda-holds 1 has no wheel for this Python (linux-64): the build makes it from source, without a compiler." in told
    assert not any("take it from conda" in line for line in told)


def test_it_is_told_once_when_the_version_comes_in(tmp_path):
    lock(tmp_path, ("ice", '["main"]', '""', []), ("snow", '["main"]', '""', []))
    assert [p.name for p in moved(tmp_path, {("Poetry", "ice"): "0/1", ("Poetry", "snow"): "0"})] == ["snow"]
    assert [p.name for p in moved(tmp_path, {})] == ["ice", "snow"]
