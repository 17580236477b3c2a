"""The environment is compared with the locks and with the records of its installation: each damage is named."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from couplet.errors import UserError
from couplet.install import verify
from tests.install.prefix import conda_lock, conda_record, distribution, poetry_lock, python, uv

WINDOWS = "sys_platform == 'win32'"


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """An environment of conda (numpy, with a link) and Poetry (pandas), in `env`, its locks in `locks`."""
    prefix, locks = tmp_path / "env", tmp_path / "locks"
    folder = python(prefix)
    info = distribution(folder, "numpy", "2.0", {"numpy/core.py": "core = 1\n"})
    distribution(folder, "pandas", "3.0", {"pandas/frame.py": "frame = 1\n"})
    (prefix / "lib/liba.so.1").write_text("library")
    (prefix / "lib/liba.so").symlink_to("liba.so.1")
    files = [*(info / name for name in ("METADATA", "RECORD")), folder / "numpy/core.py", prefix / "lib/liba.so.1"]
    conda_record(prefix, "numpy", "2.0", [*(str(file.relative_to(prefix)) for file in files), "lib/liba.so"])
    conda_record(prefix, "python", "3.11.7", [])
    conda_lock(locks, ("numpy", "2.0"), ("python", "3.11.7"))
    poetry_lock(locks, ("numpy", "2.0.0", "main", ""), ("pandas", "3.0", "main", ""), ("pywin32", "1", "main", WINDOWS))
    uv(tmp_path)
    return tmp_path


def check(folder: Path, *besides: str) -> str:
    """Return what verification reports, '' for nothing."""
    try:
        verify.verify(folder / "locks", ["main"], folder / "env", besides, folder / "uv")
    except UserError as error:
        return str(error)
    return ""


def test_an_environment_as_the_locks_say_is_verified_and_counted(both, capsys):
    assert check(both) == ""
    assert "verified: 7 files as installed" in capsys.readouterr().out, "five of numpy, two of pandas"


def site(folder: Path) -> Path:
    return next((folder / "env/lib").glob("python3*/site-packages"))


DAMAGE = {
    "a changed file of conda's": (lambda f: (site(f) / "numpy/core.py").write_text("core = 2\n"), "numpy/core.py was changed"),
    "a missing file of conda's": (lambda f: (site(f) / "numpy/core.py").unlink(), "numpy: .*core.py is gone"),
    "a link where a file was": (
        lambda f: (f / "env/lib/liba.so.1").rename(f / "other") and (f / "env/lib/liba.so.1").symlink_to(f / "other"),
        "numpy: lib/liba.so.1 is a link now",
    ),
    "a file where a link was": (
        lambda f: (f / "env/lib/liba.so").unlink() or (f / "env/lib/liba.so").write_text("library"),
        "numpy: lib/liba.so is not a link any more",
    ),
    "a link that is gone": (lambda f: (f / "env/lib/liba.so").unlink(), "lib/liba.so is not a link any more"),
    "a folder where a file was": (
        lambda f: (site(f) / "numpy/core.py").unlink() or (site(f) / "numpy/core.py").mkdir(),
        "core.py is a folder now",
    ),
    "a changed file of a wheel": (
        lambda f: (site(f) / "pandas/frame.py").write_text("frame = 2\n"),
        "pandas-3.0.dist-info: .*pandas/frame.py was changed",
    ),
    "a missing file of a wheel": (lambda f: (site(f) / "pandas/frame.py").unlink(), "pandas/frame.py is gone"),
    "a version that conda's lock does not name": (
        lambda f: conda_lock(f / "locks", ("numpy", "2.1"), ("python", "3.11.7")),
        "numpy: conda's lock says 2.1 0, installed is 2.0 0",
    ),
    "a package that conda's lock does not name": (
        lambda f: conda_lock(f / "locks", ("python", "3.11.7")),
        "numpy: conda's lock says nothing, installed is 2.0 0",
    ),
    "a package of conda's that is not there": (
        lambda f: conda_lock(f / "locks", ("numpy", "2.0"), ("python", "3.11.7"), ("zlib", "1")),
        "zlib: conda's lock says 1 0, installed is nothing",
    ),
    "metadata of another version": (
        lambda f: (site(f) / "pandas-3.0.dist-info/METADATA").write_text("Name: pandas\nVersion: 9\n"),
        "pandas: poetry.lock says 3.0, installed is 9",
    ),
    "metadata without a name": (
        lambda f: (site(f) / "pandas-3.0.dist-info/METADATA").write_text(""),
        "pandas-3.0.dist-info/METADATA was changed",
    ),
    "a distribution of poetry.lock that is missing": (
        lambda f: (site(f) / "pandas-3.0.dist-info").rename(f / "away"),
        "pandas: poetry.lock says 3.0, nothing is installed",
    ),
    "a distribution that no lock names": (
        lambda f: distribution(site(f), "stray", "1.0"),
        "stray: 1.0 is installed and is in no lock",
    ),
    "a package for Windows, installed on Linux": (
        lambda f: distribution(site(f), "pywin32", "1"),
        "pywin32: 1 is installed and is in no lock",
    ),
    "two locks that disagree": (
        lambda f: poetry_lock(f / "locks", ("numpy", "2.5", "main", ""), ("pandas", "3.0", "main", "")),
        "numpy: poetry.lock says 2.5, installed is 2.0",
    ),
    "a dependency that is not met": (
        lambda f: (f / "uv").write_text("#!/bin/sh\necho 'The package `a` requires `b`, but it is not installed' >&2; exit 1\n"),
        "dependencies that are not met:\n.*requires `b`",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damage_is_named(both, case):
    damage, message = DAMAGE[case]
    damage(both)
    shown = check(both)
    assert re.search(message, shown), shown
    assert "make env-update" in shown


def test_what_is_named_besides_may_be_there_without_a_lock(both):
    distribution(site(both), "sea_ice", "0.1.0")
    assert "sea-ice: 0.1.0" in check(both)
    assert check(both, "Sea-Ice") == ""


def test_the_build_may_delete_direct_url_files_and_python_compiled_ones(both):
    """The same deletions of other files are reported, see above."""
    conda_record(both / "env", "python", "3.11.7", [])
    record = both / "env/conda-meta/python-3.11.7-0.json"
    gone = [
        {"_path": "lib/a-1.dist-info/direct_url.json", "path_type": "hardlink", "sha256": "0" * 64},
        {"_path": "lib/__pycache__/a.pyc", "path_type": "pyc_file"},
    ]
    record.write_text(json.dumps({**json.loads(record.read_text()), "paths_data": {"paths": gone}}))
    assert check(both) == ""


def test_noarch_files_are_looked_for_where_they_were_installed(both):
    record = both / "env/conda-meta/python-3.11.7-0.json"
    conda_record(both / "env", "python", "3.11.7", [])
    (site(both) / "pure.py").write_text("")
    entries = [{"_path": "site-packages/pure.py", "path_type": "hardlink", "sha256": "0" * 64}]
    record.write_text(json.dumps({**json.loads(record.read_text()), "paths_data": {"paths": entries}}))
    assert "/site-packages/pure.py was changed" in check(both)
    (site(both) / "pure.py").unlink()
    assert "/site-packages/pure.py is gone" in check(both)


def test_a_record_may_name_a_file_by_its_whole_path(both):
    """As Poetry does where it installs the project itself."""
    program = both / "env/bin/ice"
    program.write_text("ice")
    row = "sha256=TLCyUMYlDVKPPmHQfZcIkhaNtou_8epb5KhR7aQRrfs,3"
    with (site(both) / "pandas-3.0.dist-info/RECORD").open("a") as record:
        record.write(f"{program},{row}\n../../../bin/ice,{row}\n")
    assert check(both) == ""
    program.write_text("snow")
    assert check(both).count("dist-info: bin/ice was changed") == 2


def test_without_conda_poetry_lock_and_the_wheels_records_are_what_counts(tmp_path, capsys):
    folder = python(tmp_path / "env")
    distribution(folder, "pandas", "3.0", {"pandas/frame.py": "frame = 1\n"})
    poetry_lock(tmp_path / "locks", ("pandas", "3.0", "main", ""), ("pytest", "9", "dev", ""))
    uv(tmp_path)
    assert check(tmp_path) == ""
    assert "poetry.lock as installed" in capsys.readouterr().out
    (folder / "pandas/frame.py").write_text("frame = 2\n")
    assert "pandas/frame.py was changed" in check(tmp_path)


def test_dev_is_compared_with_a_lock_of_its_own_where_it_has_one(both):
    """The negative control: as runtime the same environment holds one package too many."""
    conda_record(both / "env", "gdb", "16", [])
    conda_lock(both / "locks/dev", ("numpy", "2.0"), ("python", "3.11.7"), ("gdb", "16"))
    verify.verify(both / "locks", ["main", "dev"], both / "env", (), both / "uv")
    assert "gdb" in check(both)
