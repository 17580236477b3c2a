"""From conda to Poetry: pins, and what pyproject.toml must not ask for."""

from __future__ import annotations

import os
import re
import time

import pytest

from couplet.errors import UserError
from couplet.formats import poetry_lock
from couplet.formats.conda_lock import Record
from couplet.install import fetch
from couplet.lock import channels, command, pins, pyproject
from couplet.lock.changes import stayed, table_of_changes
from couplet.settings import tomllib

BOTH = {
    "numpy": {"linux-64": ("2.4.6", "numpy"), "osx-arm64": ("2.4.6", "numpy")},
    "torch": {"linux-64": ("2.1", "pytorch"), "osx-arm64": ("2.0", "pytorch")},
    "pyobjc": {"osx-arm64": ("11.0", "pyobjc")},
}


def test_pins_have_markers_exactly_where_platforms_differ():
    assert pins.pins(BOTH, ["linux-64", "osx-arm64"]) == [
        "numpy==2.4.6",
        "pyobjc==11.0 ; sys_platform == 'darwin' and platform_machine == 'arm64'",
        "torch==2.1 ; sys_platform == 'linux' and platform_machine == 'x86_64'",
        "torch==2.0 ; sys_platform == 'darwin' and platform_machine == 'arm64'",
    ]
    assert [pins.name_of(line) for line in pins.pins(BOTH, ["linux-64", "osx-arm64"])] == ["numpy", "pyobjc", "torch", "torch"]


TEXT = '[project]\nname = "ice"  # mine\n\n[dependency-groups]\ndev = ["pytest"]\n\n[tool.ruff]\nline-length=  9\n'


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_everything_but_the_pins_is_left_as_it_was_written(tmp_path, end):
    path = tmp_path / "pyproject.toml"
    path.write_bytes(b"\xef\xbb\xbf" * (end != "\n") + TEXT.replace("\n", end).encode())
    pins.write_pins(path, ["numpy==2.4.6", "scipy==1.17.1"])
    text = path.read_bytes().decode()
    assert text.count("\r\n") == (text.count("\n") if end == "\r\n" else 0)
    document = tomllib.loads(text)
    assert pins.current_pins(document) == ["numpy==2.4.6", "scipy==1.17.1"]
    assert document["tool"]["poetry"]["group"]["conda"] == {"optional": True}
    without = re.sub(
        r"conda = \[.*?\]\n|\[tool\.poetry\.group\.conda\]\noptional = true\n|\n", "", text.replace("\r\n", "\n"), flags=re.S
    )
    assert without == TEXT.replace("\n", "")
    before = path.read_bytes()
    pins.write_pins(path, ["numpy==2.4.6", "scipy==1.17.1"])
    assert path.read_bytes() == before


def test_a_table_says_what_changed_and_a_line_what_stayed():
    old = {("conda linux-64", "numpy"): "2.3", ("Poetry", "numpy"): "2.3", ("Poetry", "tqdm"): "4", ("Poetry", "six"): "1"}
    new = {("conda linux-64", "numpy"): "2.4", ("Poetry", "numpy"): "2.4", ("Poetry", "six"): "1", ("Poetry", "idna"): "3"}
    assert table_of_changes(old, new) == [
        "idna     - -> 3    Poetry",
        "numpy  2.3 -> 2.4  Poetry",
        "tqdm     4 -> -    Poetry",
        "numpy  2.3 -> 2.4  conda linux-64",
    ]
    assert table_of_changes(old, old) == ["no package changed version"]
    assert stayed({"numpy", "six", "unknown"}, old, new) == ["six"]


def test_a_damaged_poetry_lock_holds_nothing(tmp_path):
    assert poetry_lock.versions(tmp_path / "poetry.lock") == {}
    (tmp_path / "poetry.lock").write_text("[[package\n")
    assert poetry_lock.versions(tmp_path / "poetry.lock") == {}


# --- pyproject.toml against conda's Python ---------------------------------------------------------

LOCKED = {"linux-64": {"python": Record("python", "3.13.5", "0", "", "", "", (), "", 0, 0)}}


def test_a_python_that_pyproject_toml_does_not_allow_is_named_with_both():
    command.check_python({"project": {"requires-python": ">=3.13,<3.14"}}, LOCKED)
    command.check_python({}, LOCKED)
    with pytest.raises(
        UserError, match=r"environment.yml gives Python 3.13.5 \(linux-64\), and pyproject.toml has requires-python = <3.13"
    ):
        command.check_python({"project": {"requires-python": "<3.13"}}, LOCKED)
    with pytest.raises(UserError, match=r"requires-python is 3.13, which is not a range of versions \(>=3.12,<3.13 is one\)"):
        command.check_python({"project": {"requires-python": "3.13"}}, LOCKED)
    with pytest.raises(UserError, match=r"Name Python in environment.yml \(`  - python=3.13`\)"):
        command.check_python({}, {"linux-64": {}})


def test_poetrys_old_form_is_looked_at_too():
    for wanted, allowed in (("^3.9", True), ("~3.11", False), (">=3.11,<3.14", True), ("3.12.*", False)):
        document = {"tool": {"poetry": {"dependencies": {"python": wanted}}}}
        if allowed:
            command.check_python(document, LOCKED)
        else:
            with pytest.raises(UserError, match=re.escape(f"pyproject.toml has python = {wanted}")):
                command.check_python(document, LOCKED)


# --- what would be in no lock, or in no image ------------------------------------------------------

REFUSED = {
    "a git repository": ('[project]\ndependencies = ["six @ git+https://example.org/six.git@1.17.0"]', "six comes from a git repository"),
    "a file": ('[dependency-groups]\ndev = ["six[all]@ file:///work/six.whl"]', "six comes from a path"),
    "a folder, in Poetry's own table": ('[tool.poetry.group.libs.dependencies]\nsix = {path = "libs/six"}', "six comes from a path"),
    "Poetry's table beside the standard one": (
        '[project]\ndependencies = ["pandas"]\n[tool.poetry.dependencies]\npython = "^3.13"\ntqdm = "^4"',
        r"tqdm is in \[tool.poetry.dependencies\] alone, and Poetry reads the names in project.dependencies",
    ),
    "Poetry's group beside the standard one": (
        '[dependency-groups]\ndev = ["pytest"]\n[tool.poetry.group.dev.dependencies]\ntqdm = "^4"',
        r"tqdm is in \[tool.poetry.group.dev.dependencies\] alone",
    ),
    "Poetry's oldest form of a group": (
        '[dependency-groups]\ndev = ["pytest"]\n[tool.poetry.dev-dependencies]\ntqdm = "^4"',
        r"tqdm is in \[tool.poetry.dev-dependencies\] alone",
    ),
    "another build backend": ('[build-system]\nbuild-backend = "hatchling.build"', "build-system.build-backend is hatchling.build"),
    "a version from git's tags": (
        '[build-system]\nbuild-backend = "poetry_dynamic_versioning.backend"',
        "build-system.build-backend is poetry_dynamic_versioning.backend",
    ),
    "a build script": ('[tool.poetry.build]\nscript = "build.py"', r"\[tool.poetry.build\] runs a script"),
    "a build script, in one line": ('[tool.poetry]\nbuild = "build.py"', r"\[tool.poetry.build\] runs a script"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_lock_or_image_would_have_is_refused_by_name(case):
    text, words = REFUSED[case]
    with pytest.raises(UserError, match=f"pyproject.toml:? .*{words}|pyproject.toml: {words}"):
        pyproject.check(tomllib.loads(text))


def test_what_can_be_locked_is_not_refused():
    """The negative control, and what else has an @ or a table."""
    pyproject.check(
        tomllib.loads("""
        [project]
        dependencies = ["Six @ https://example.org/six-1.17.0-py2.py3-none-any.whl", "git>=1", "a; extra == 'file:'", "numpy[x] >2"]
        [dependency-groups]
        dev = [{include-group = "docs"}]
        docs = ["path"]
        [tool.poetry.dependencies]
        python = "^3.13"
        six = {url = "https://example.org/six-1.17.0-py2.py3-none-any.whl"}
        git = "^1"
        numpy = [{version = "2", python = "<3.12"}, {version = ">2", source = "own"}]
        [tool.poetry.group.more.dependencies]
        tqdm = "^4"
    """)
    )
    # what is no package is built by nothing
    pyproject.check(tomllib.loads('[build-system]\nbuild-backend = "hatchling.build"\n[tool.poetry]\npackage-mode = false'))
    pyproject.check(
        tomllib.loads('[tool.poetry]\nname = "old"\n[tool.poetry.dependencies]\ntqdm = "^4"\n[tool.poetry.extras]\na = ["tqdm"]')
    )


# --- what locking keeps in the builder's cache -----------------------------------------------------

INSTALLS = """
[ "$1" = install-conda ] && [ ! -e "$(dirname "$0")/broken" ] || exit 1
mkdir -p "$5" && cat "$3"/conda-*.lock > "$5/made-of" && echo "$5" >> "$(dirname "$0")/made"
"""
"""In place of what installs with conda, which is not here: it leaves what it was asked for. With conda: tests/lock/test_env_update_versions.py."""


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A function that returns the folder of a Python's interpreter, and the file in which each installation is a line."""
    (tmp_path / "couplet.sh").write_text(INSTALLS)
    (tmp_path / "made").touch()
    monkeypatch.setattr(pins, "PACKAGE", tmp_path)
    monkeypatch.setattr(pins, "INTERPRETERS", tmp_path / "interpreters")

    def make(version: str):
        url = f"https://conda.anaconda.org/conda-forge/linux-64/python-{version}-0.conda"
        record = Record("python", version, "0", url, "0" * 32, version.replace(".", "") * 16, (), "", 0, 0)
        return pins.interpreter({"python": record}, "linux-64")

    make.log = tmp_path / "made"
    return make


def test_an_interpreter_is_made_once_for_each_python(made):
    first, other = made("3.13.5"), made("3.11.9")
    assert (
        first != other
        and "python-3.13.5" in (first / "made-of").read_text()
        and "python-3.11.9" in (other / "made-of").read_text()
    )
    assert (made("3.13.5"), made("3.11.9")) == (first, other)
    assert made.log.read_text().splitlines() == [str(first), str(other)]


def test_an_interpreter_that_was_not_finished_is_made_anew(made):
    broken = made.log.with_name("broken")
    broken.touch()
    with pytest.raises(UserError):
        made("3.13.5")
    broken.unlink()
    (made("3.13.5") / "complete").unlink()
    made("3.13.5")
    assert len(made.log.read_text().splitlines()) == 2


def test_an_interpreter_goes_a_week_after_its_last_use(made):
    old, used = made("3.11.9"), made("3.12.1")
    for prefix, days in ((old, 8), (used, 6)):
        then = time.time() - days * 86400
        os.utime(prefix / "complete", (then, then))
    made("3.13.5")
    assert not old.exists() and used.exists()
    made("3.12.1")
    assert time.time() - (used / "complete").stat().st_mtime < 3600, "used now"


def test_what_packages_hold_is_asked_of_conda_only_where_it_is_not_known(tmp_path, monkeypatch):
    """There is no conda here: whoever asks it fails, which is the negative control."""
    monkeypatch.setattr(fetch, "DISTRIBUTIONS", tmp_path)
    monkeypatch.setattr(channels, "CONDAS_PYTHON", str(tmp_path / "no-python"))
    url = "https://conda.anaconda.org/conda-forge/noarch/idna-3-0.conda"
    record = Record("idna", "3", "0", url, "0" * 32, "a" * 64, ("python",), "", 0, 0)
    with pytest.raises(FileNotFoundError, match="no-python"):
        pins.provided({"linux-64": {"idna": record}})
    (tmp_path / f"{record.sha256}.json").write_text('{"idna": "3"}')
    assert pins.provided({"linux-64": {"idna": record}}) == {"idna": {"linux-64": ("3", "idna")}}
    (tmp_path / f"{record.sha256}.json").write_text('{"idna": ')
    with pytest.raises(FileNotFoundError, match="no-python"):
        pins.provided({"linux-64": {"idna": record}})
