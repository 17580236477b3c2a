"""tests/mutants.toml fits the repository, and who runs it tells a mistake that is seen from one that is not. `nox -s mutants` runs it."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.harness import manifest, mutants
from tests.harness.mutants import Mutant


def test_every_entry_fits_the_repository():
    table = mutants.read()
    assert mutants.misfits(table) == []
    assert sum(not mutant.engine for mutant in table) >= 80, "most can be seen without an engine"
    same = Counter((mutant.file, mutant.old, mutant.new, mutant.test) for mutant in table)
    assert [entry for entry, count in same.items() if count > 1] == []


MODULE = "def double(x):\n    return x * 2\n\n\ndef half(x):\n    return x / 2\n"
TEST = """\
import pytest

import code_of_it


def test_double():
    assert code_of_it.double(2) == 4


def test_half():
    assert code_of_it.half(0) == 0


@pytest.mark.parametrize("name", ["in other words"])
def test_named(name):
    assert code_of_it.double(3) == 6
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of a module, its tests, and a template with one file."""
    files = {"code_of_it.py": MODULE, "tests/test_it.py": TEST, "conftest.py": "", "template/.couplet/file.txt": "text\n"}
    for name, text in {**files, "copier.yml": "_exclude: []\n"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    (tmp_path / manifest.MANIFEST).write_text(manifest.manifest(tmp_path))
    return tmp_path


def made(**changed: object) -> Mutant:
    """A mistake that test_double sees."""
    entry = {"file": "code_of_it.py", "old": "x * 2", "new": "x * 3", "test": "tests/test_it.py::test_double"}
    return Mutant(**{"kind": "sums", "promise": "Twice is twice.", **entry, **changed})


MISFITS = {
    "no file": ({"file": "gone.py"}, "gone.py: there is no such file"),
    "no text": ({"old": "x + 2"}, "its text is there 0 times and not 1"),
    "twice": ({"old": "return x"}, "its text is there 2 times and not 1"),
    "the same": ({"new": "x * 2"}, "it changes nothing"),
    "no test": ({"test": "tests/test_it.py::test_triple"}, "there is no test tests/test_it.py::test_triple"),
    "no test's name": ({"test": "code_of_it.py::double"}, "there is no test code_of_it.py::double"),
    "no test's file": ({"test": "tests/test_gone.py"}, "there is no test tests/test_gone.py"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_an_entry_that_does_not_fit_is_named(repository, case):
    """The negative controls: these do."""
    changed, words = MISFITS[case]
    assert (
        mutants.misfits([made(), made(old="return x", count=2), made(test="tests/test_it.py::test_double[1]")], repository) == []
    )
    [said] = mutants.misfits([made(**changed)], repository)
    assert said.startswith("entry 1, ") and words in said


@pytest.mark.parametrize("line", ['promise = ""', 'kind = " "', "counts = 2", "# new"])
def test_an_entry_that_lacks_something_is_refused(tmp_path, line):
    entry = {key: f'{key} = "{value}"' for key, value in made()._asdict().items() if key in mutants.KEYS}
    (tmp_path / "table.toml").write_text("[[mutant]]\n" + "\n".join(entry.values()))
    assert mutants.read(tmp_path / "table.toml") == [made()]
    key = line.split()[0] if line[0] != "#" else "new"
    (tmp_path / "table.toml").write_text("[[mutant]]\n" + "\n".join({**entry, key: line}.values()))
    with pytest.raises(ValueError, match=f"entry 1: {key}"):
        mutants.read(tmp_path / "table.toml")


def test_a_mistake_is_seen_or_survives_and_leaves_nothing(repository):
    """An error that is no failure of the test is neither."""
    before = {path: path.read_bytes() for path in repository.rglob("*.*") if path.is_file()}
    assert mutants.unchanged([made()], repository) == ""
    seen, survivor, broken = (
        mutants.verdict(mutant, repository)
        for mutant in (made(), made(old="x / 2", new="x / 3", test="tests/test_it.py::test_half"), made(new="x *"))
    )
    assert seen.problem == "" and "assert 6 == 4" in seen.said
    assert mutants.verdict(made(test="tests/test_it.py::test_named[in other words]"), repository).problem == ""
    assert survivor.problem == "survives" and "is no failure of the test" in broken.problem
    assert {path: path.read_bytes() for path in before} == before
    (repository / "code_of_it.py").write_text(MODULE.replace("x * 2", "x"))
    assert "test_double" in mutants.unchanged([made()], repository), "the negative control"


def test_the_manifest_knows_of_the_mistake(repository):
    listed = repository / manifest.MANIFEST
    before = listed.read_text()
    with mutants.planted(made(file="template/.couplet/file.txt", old="text", new="other"), repository):
        assert listed.read_text() == manifest.manifest(repository) != before
    with mutants.planted(made(file=manifest.MANIFEST, old="  file.txt", new="  other.txt"), repository):
        assert "other.txt" in listed.read_text()
    assert listed.read_text() == before


def test_parts_are_the_whole_and_those_with_an_engine_are_left_out():
    table = mutants.read()

    def part(number: int, count: int, engine: bool = False) -> list[Mutant]:
        return mutants.chosen(table, mutants.argparse.Namespace(part=(number, count), engine=engine, only=""))

    assert sorted(part(1, 3) + part(2, 3) + part(3, 3)) == sorted(part(1, 1)) == sorted(m for m in table if not m.engine)
    assert sorted([*part(1, 1), *part(1, 1, engine=True)]) == sorted(table) and part(1, 1, engine=True)


def test_a_word_that_no_entry_has_is_an_error(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["mutants", "--only", "no such word"])
    assert mutants.main() == 1 and "'no such word'" in capsys.readouterr().err
