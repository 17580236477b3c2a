"""What a person is told where there is no lock: the line, what there is, what to type."""

from __future__ import annotations

import pytest

from couplet.errors import UserError
from couplet.formats import conda_lock
from couplet.lock import environment, explain

from .folders import channel, project

__all__ = ["channel", "project"]

NO_SOLUTION = {
    "no such package": (["python", "nunpy"], ["line 5: nunpy: ", "has no package of this name. Is it numpy?"]),
    "no such package, and nothing like it": (["qqqq"], ["line 4: qqqq", "Is it on PyPI? Then it goes into `dependencies` in pyproject.toml"]),
    "no such version": (["numpy=3"], ["line 4: numpy=3: there is no such version", "The newest there are: 2.4.6, 2.3.5."]),
    "no such build": (["numpy=2.4.6=py39*"], ["line 4: numpy=2.4.6=py39*: there is no such version or build"]),
    "on other platforms alone": (["appnope"], ["line 4: appnope", "has it for osx-arm64 alone", "`- appnope  # [osx]`"]),
    "a conflict between two": (
        ["idna", "scipy=1.16.3", "numpy>=2.4"],
        ["  line 5: scipy=1.16.3\n  line 6: numpy>=2.4\n", "scipy 1.16.3 would require", "numpy >=2.0,<2.4", "Change or take out one of these lines"],
    ),
    "a conflict below": (["strict", "requests>=2"], ["line 4: strict", "line 5: requests>=2", "idna"]),
    "a need that no channel has": (["broken"], ["line 4: broken", "nowhere: no channel has it for linux-64"]),
    "a virtual package that is missing": (["torch"], ["__cuda is a virtual package", "locks assume none", '__cuda = "12"']),
    "a virtual package that is too old": (["newer"], ["locks assume 2.28", '[tool.couplet.virtual-packages]\n  __glibc = "2.40"']),
    "a virtual package that is asked for": (["__cuda"], ["line 4: __cuda", '__cuda = "12.9"']),
}  # fmt: skip


def message(folder, *specs, **more) -> str:
    folder.ask(*specs, **more)
    with pytest.raises(UserError) as error:
        folder.lock()
    return str(error.value)


@pytest.mark.parametrize("case", NO_SOLUTION)
def test_a_lock_that_cannot_be_says_why(project, case):
    specs, words = NO_SOLUTION[case]
    said = message(project(), *specs)
    assert said.startswith("environment.yml has no solution for linux-64.\n") and said.endswith("run `make env-update`.")
    for word in words:
        assert word in said, said
    if "conflict" in case:
        assert "line 4: idna" not in said, "what has no part in it is not named"


def test_with_what_the_message_says_done_it_locks(project):
    """The negative control: none of these inputs is refused for another reason."""
    folder = project()
    folder.ask("python", "numpy=2", "scipy=1.16.3", "strict", "requests<2", "appnope  # [osx]")
    assert folder.versions()["numpy"] == "2.3.5"


def test_old_locks_do_not_hide_the_reason(project):
    """What is held is never named as the cause of what environment.yml itself makes impossible."""
    folder = project()
    folder.ask("python", "numpy=2.3.5", "scipy", "idna")
    folder.lock()
    said = message(folder, "python", "numpy>=2.4", "scipy=1.16.3", "idna")
    assert "scipy 1.16.3 would require" in said and "constraint" not in said and "idna" not in said


REFUSED = {
    "no spec": ("dependencies:\n  - click>>8\n", "line 2: `click>>8` is not a spec that conda can read"),
    "an operator alone": ("dependencies:\n  - python\n  - numpy >\n", "line 3: `numpy >` is not a spec"),
    "pip's section": ("dependencies:\n  - pip:\n    - tqdm>=4\n    - six\n", "line 2: pip: asks for tqdm>=4, six. What comes from PyPI is Poetry's:\nwrite it into"),
    "pip's section with the project": ("dependencies:\n  - pip:\n    - -e .\n", "line 2: pip: asks for -e .. What comes from PyPI is Poetry's:\nthe project itself is installed anyway.\nThen take the section out"),
    "pip's section with a file": ("dependencies:\n  - pip:\n    - -r a.txt\n", "write the lines of that file into"),
    "pip's section with nothing": ("dependencies:\n  - pip:\n", "asks for nothing"),
    "conda-lock's selector": ("dependencies:\n  - sel(linux): scipy\n", "line 2: `sel(linux): scipy` is not known here. For one system alone, write `- scipy  # [linux]`"),
    "another selector": ("dependencies:\n  - numpy  # [lin]\n", "line 2: `# [lin]` is not a selector"),
    "a table": ("dependencies:\n  - numpy: 1\n", "line 2: `numpy: 1` is not a dependency. Write `- numpy=1`"),
    "an empty item": ("dependencies:\n  - numpy\n  -\n", "line 3: an empty item is not a dependency"),
    "a number": ("dependencies:\n  - 3\n", "line 2: `3` is not a dependency"),
    "nothing": ("dependencies:\n", "`dependencies` lists nothing"),
    "no list": ("dependencies: numpy\n", "line 1: `dependencies` is not a list"),
    "an archive": ("dependencies:\n  - https://example.org/linux-64/a-1-0.conda\n", "line 2: `https://example.org/linux-64/a-1-0.conda` is an archive's address"),
    "variables that are a list": ("variables:\n  - A=1\ndependencies: [numpy]\n", "line 1: `variables` is not a table. Example of a line: `  NAME: value`."),
    "variables that are a text": ("variables: A=1\ndependencies: [numpy]\n", "line 1: `variables` is not a table"),
    "a variable without a value": ("variables:\n  A:\ndependencies: [numpy]\n", "line 2: `A: None` is not text on one line. Write it in quotes."),
    "a variable that is true": ("variables:\n  A: x\n  B: true\ndependencies: [numpy]\n", "line 3: `B: True` is not text on one line. Write it in quotes."),
    "a variable that is a list": ("variables:\n  A: [1]\ndependencies: [numpy]\n", "line 2: `A: [1]` is not text on one line"),
    "a variable of two lines": ("variables:\n  A: |\n    a\n    b\ndependencies: [numpy]\n", "is not text on one line"),
    "a variable that no shell has": ("variables:\n  A.B: x\ndependencies: [numpy]\n", "line 2: `A.B` is not a variable that conda can set"),
    "an apostrophe": ("variables:\n  A: it's\ndependencies: [numpy]\n", "line 2: `A: it's` has an apostrophe"),
    "PATH": ("variables:\n  PATH: /x\ndependencies: [numpy]\n", "line 2: `PATH` is not a variable that conda can set"),
    "platforms": ("dependencies: [numpy]\nplatforms: [linux-64]\n", "line 2: `platforms` would do nothing here"),
    "another key": ("dependencies: [numpy]\ndependancies: [scipy]\n", "line 2: `dependancies` would do nothing here. Known are"),
    "one key twice": ("name: a\nname: b\n", "line 2: this is not valid YAML: found duplicate key"),
    "a bracket": ("dependencies: [\n", "this is not valid YAML"),
    "a tab": ("dependencies:\n\t- numpy\n", "line 2: this is not valid YAML"),
    "nothing at all": ("# soon\n", "environment.yml has no keys"),
    "a list": ("- numpy\n", "environment.yml has no keys"),
    "a channel that is none": ("channels: [3]\ndependencies: [numpy]\n", "line 1: `3` is not a channel"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_ignored_is_refused_by_name(tmp_path, case):
    text, words = REFUSED[case]
    (tmp_path / "environment.yml").write_text(text)
    with pytest.raises(UserError) as error:
        environment.read(tmp_path)
    assert words in str(error.value)


ACCEPTED = {
    "a channel of its own": ("conda-forge::numpy", "numpy"),
    "a build": ("numpy=1.26.*=py*", "numpy"),
    "a build in brackets": ("numpy[version='>=1',build=py*]", "numpy"),
    "a range": ("numpy >=2,<3", "numpy"),
    "a comment behind it": ("'numpy>=2 # not 1'", "numpy"),
    "an exact export": ("numpy=2.4.6=py313_0", "numpy"),
    "capitals": ("NumPy", "numpy"),
    "either of two": ('"python 3.11.*|3.13.*"', "python"),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_conda_reads_is_read(tmp_path, case):
    text, name = ACCEPTED[case]
    (tmp_path / "environment.yml").write_text(
        f"name: x\nprefix: /opt/x\nchannels:\n- conda-forge\n- nodefaults\ndependencies:\n- {text}\n"
    )
    found = environment.read(tmp_path)
    assert [(spec.name, spec.line) for spec in found.specs] == [(name, 7)] and found.channels == ["conda-forge"]


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("", {}),
        ("variables:\n", {}),
        ("variables: {A: b}\n", {"A": "b"}),
        ("variables:\n  TEXT: say \"a\" $HOME\n  EMPTY: ''\n", {"TEXT": "say \"a\" $HOME", "EMPTY": ""}),
        ("variables:\n  INT: 4\n  HEX: 0x10\n  FLOAT: 1.50\n  QUOTED: '1.50'\n  ON: 'true'\n", {"INT": "4", "HEX": "16", "FLOAT": "1.5", "QUOTED": "1.50", "ON": "true"}),
    ],
)  # fmt: skip
def test_variables_are_text_as_conda_has_them_and_stand_in_the_lock(tmp_path, text, variables):
    (tmp_path / "environment.yml").write_text(f"{text}dependencies: [numpy]\n")
    found = environment.read(tmp_path)
    assert found.variables == variables
    lock = tmp_path / "conda-linux-64.lock"
    lock.write_text(conda_lock.explicit([], "linux-64", [], variables=found.variables))
    assert conda_lock.variables(lock) == variables and ("# variables" in lock.read_text()) == bool(variables)


# --- Poetry's messages -----------------------------------------------------------------------------

TRANSITIVE = """
Because requests (2.20.0) depends on idna (>=2.5,<2.8)
 and ice depends on requests (2.20.0), idna is required.
So, because ice depends on idna (3.11), version solving failed.
"""
HELD = {"idna": {"linux-64": ("3.11", "idna")}, "msgpack": {"linux-64": ("1.1", "msgpack-python")}}


def test_a_conflict_with_conda_names_who_wants_what():
    said = explain.against_conda(TRANSITIVE, "ice", HELD)
    assert "requests 2.20.0 asks for idna (>=2.5,<2.8); conda's package idna has idna 3.11" in said
    assert "Two ways out" in said and "- environment.yml: ask for" in said
    direct = explain.against_conda("Because ice depends on msgpack (>=2), it fails.", "Ice", HELD)
    assert "pyproject.toml asks for msgpack (>=2); conda's package msgpack-python has msgpack 1.1" in direct


def test_a_conflict_without_conda_blames_nobody():
    assert explain.against_conda(TRANSITIVE.replace(">=2.5,<2.8", ">=2.5"), "ice", HELD) == ""


@pytest.mark.parametrize(
    ("wanted", "version", "out"),
    [(">=2,<3", "2.4.6", False), ("<2", "2.4.6", True), ("2.4.6", "2.4.6", False), ("<1 || >2", "2.4.6", False)],
)
def test_a_range_of_poetrys_excludes_what_it_excludes(wanted, version, out):
    assert explain.excludes(wanted, version) is out
