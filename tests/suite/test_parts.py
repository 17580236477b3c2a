"""The suite itself: its parts are the whole, and its times and tables are what they say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import jinja2
import jinja2.sandbox
import pytest

from tests.harness import parts, summary, template, workers

COUNT = 4


def collected(*words: str) -> list[str]:
    """The tests that pytest would run, each as often as it would."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "--no-header", *words],
        cwd=template.REPOSITORY, capture_output=True, text=True, check=True,
        # what pytest makes of the asserts is kept from one call to the next
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
    )  # fmt: skip
    return re.findall(r"^tests/\S+::.*$", done.stdout, re.M)


@pytest.fixture(scope="module")
def whole() -> list[str]:
    return collected()


def missing_or_twice(whole: list[str], found: list[list[str]]) -> list[str]:
    """The tests that are in no part, or in two."""
    flat = [test for part in found for test in part]
    return [test for test in {*whole, *flat} if whole.count(test) != 1 or flat.count(test) != 1]


def test_the_parts_are_the_whole(whole):
    """As CI runs it: pytest is asked for each part by itself."""
    found = [collected(f"--part={number}/{COUNT}") for number in range(1, COUNT + 1)]
    assert len(whole) > 200
    assert missing_or_twice(whole, found) == []
    assert all(found)
    # the negative controls
    assert missing_or_twice(whole, found[1:]) and missing_or_twice(whole, [*found, found[0]])


def test_a_part_that_is_none_is_refused():
    for part in ("0/4", "5/4", "4", "a/b"):
        with pytest.raises(subprocess.CalledProcessError):
            collected(f"--part={part}")


TIMES = {"shared": {"default": 60.0, "plain": 60.0}, "tests": {}}
NEEDS = {f"{name}-{number}": frozenset({name}) for name in ("default", "plain") for number in range(10)}


def spread(times: dict, count: int) -> tuple[list[float], list[set]]:
    """Seconds of each part, and what each builds."""
    made = parts.split(NEEDS, times, count)
    return [parts.seconds(part, NEEDS, times) for part in made], [{need for t in part for need in NEEDS[t]} for part in made]


def test_what_shares_a_build_stays_together_while_that_saves_time():
    quick = TIMES | {"tests": dict.fromkeys(NEEDS, 1.0)}
    assert spread(quick, 2) == ([70.0, 70.0], [{"default"}, {"plain"}])
    # the negative control: where the tests are what takes long, one build twice is the faster way
    slow = TIMES | {"tests": dict.fromkeys(NEEDS, 100.0)}
    loads, builds = spread(slow, 4)
    assert sum(map(len, builds)) > 2 and max(loads) < 1000 + 60


def test_parts_are_of_about_the_same_length():
    times = TIMES | {"tests": {test: float(number) for number, test in enumerate(sorted(NEEDS))}}
    loads, _ = spread(times, 2)
    assert max(loads) / min(loads) < 1.6


def test_a_test_that_was_never_measured_counts_as_the_median():
    times = {"shared": {}, "tests": {"a": 1.0, "b": 5.0, "c": 9.0}}
    assert parts.seconds(["new"], {"new": frozenset()}, times) == 5.0
    assert [len(part) for part in parts.split({"new": frozenset(), "newer": frozenset()}, times, 2)] == [1, 1]


def test_a_variant_that_was_never_measured_is_not_torn_apart():
    needs = {f"{name}-{number}": frozenset({name}) for name in ("new", "newer") for number in range(5)}
    made = parts.split(needs, {"shared": {}, "tests": dict.fromkeys(needs, 1.0)}, 2)
    assert sorted(len({need for test in part for need in needs[test]}) for part in made) == [1, 1]


def test_the_measured_times_are_of_tests_that_exist(whole):
    """A renamed file's times would be of no use and never go away."""
    times = parts.read()
    assert times["tests"], "nox -s tests -- --durations-to tests/durations.json"
    files = {test.split("::")[0] for test in times["tests"]}
    assert [file for file in files if not (template.REPOSITORY / file).exists()] == []
    assert set(times["tests"]) & set(whole)


@pytest.mark.parametrize("processes", [0, 2])
def test_times_are_measured_without_what_is_shared(tmp_path, processes):
    """A fixture of the session counts once, by itself, and not for the test that happened to be the first."""
    (tmp_path / "test_clock.py").write_text(CLOCKED)
    table = tmp_path / "durations.json"
    words = ["-p", "tests.harness.parts", f"--durations-to={table}", "-p", "no:cacheprovider", f"--numprocesses={processes}"]
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", *words, tmp_path], cwd=template.REPOSITORY, check=True
    )
    times = json.loads(table.read_text())
    assert times["shared"] == {"test_clock.py::slow": pytest.approx(1.1, abs=0.5)}
    assert list(times["tests"].values()) == [pytest.approx(0.0, abs=0.5)] * 2


CLOCKED = """
import time, pytest

@pytest.fixture(scope="session")
def slow():
    time.sleep(1.1)

def test_first(slow): pass
def test_second(slow): pass
"""


BESIDE = """
import os, time, pytest

@pytest.mark.parametrize("number", range(8))
def test_shared(number): note(f"shared-{number}")

MARK
@pytest.mark.parametrize("number", range(2))
def test_alone(number): note(f"alone-{number}")

def note(name):
    began = time.time()
    time.sleep(0.3)
    with open(os.path.join(os.path.dirname(__file__), name), "w") as file:
        file.write(f"{began} {time.time()}")
"""


@pytest.mark.parametrize("mark", ["@pytest.mark.alone", "# the negative control"])
def test_nothing_runs_beside_a_test_that_wants_to_be_alone(tmp_path, mark):
    (tmp_path / "test_beside.py").write_text(BESIDE.replace("MARK", mark))
    words = [word for name in ("parts", "summary", "workers") for word in ("-p", f"tests.harness.{name}")]
    run = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "-n", "2", *words, "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(run, cwd=template.REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    times = {path.name: tuple(map(float, path.read_text().split())) for path in tmp_path.glob("*-*")}
    assert len(times) == 10
    beside = {
        frozenset((one, other))
        for one, (began, ended) in times.items()
        for other, (start, end) in times.items()
        if one != other and began < end and start < ended
    }
    assert beside, "two processes were at work at once"
    assert any("alone" in name for pair in beside for name in pair) == (mark == "# the negative control")


def test_the_summary_says_what_ran():
    rows = {
        summary.NONE: summary.Row({"a", "b"}, set(), 1.4),
        "de|fault": summary.Row({"c"}, {"c"}, 61.0),
    }
    cells = summary.lines(rows, {"de|fault": (452_000_000, 1_200_000_000)})
    assert cells == [
        ("(no variant)", "2", "0", "1", "", ""),
        ("de|fault", "1", "1", "61", "452 MB", "1200 MB"),
        ("all", "3", "1", "62", "", ""),
    ]
    assert "| de\\|fault | 1 | 1 | 61 | 452 MB | 1200 MB |" in summary.markdown(cells).splitlines()
    page = summary.page([("<b>", *cells[0][1:])])
    assert "<td>&lt;b&gt;</td>" in page and page.count("<tr>") == 2


@pytest.mark.parametrize("options", [("--cov=couplet",), ()], ids=["measured", "not-measured"])
def test_the_summary_says_how_much_of_the_package_ran(tmp_path, monkeypatch, options):
    (tmp_path / "test_errors.py").write_text("from couplet import errors\n\ndef test_it():\n    errors.UserError('no')\n")
    monkeypatch.setenv("COVERAGE_FILE", str(tmp_path / "coverage"))
    monkeypatch.setenv("PYTHONPATH", "template/.couplet")
    words = ["-p", "tests.harness.summary", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", *options, str(tmp_path)]
    run = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", *words]
    done = subprocess.run(run, cwd=template.REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    said = re.search(r"^  coverage of the package in \.couplet/, .*: TOTAL (\d+) %$", done.stdout, re.M)
    assert (said is not None) == bool(options), done.stdout
    assert not said or int(said[1]) < 100, "most of the package was not even imported"
    line = "\ncoverage of the package"
    assert (line in (tmp_path / summary.FOLDER / "summary.md").read_text()) == bool(options)


# --- several processes -----------------------------------------------------------------------------


def together(found: dict[str, str]) -> set[frozenset[str]]:
    """The tests of each unit."""
    return {frozenset(test for test in found if found[test] == unit) for unit in found.values()}


def test_what_shares_something_long_is_one_unit():
    shared = {"default": 50.0, "report": 1.0, "registry": 6.0}
    needs = {
        "a": frozenset({"default"}),
        "b": frozenset({"default", "registry"}),
        "c": frozenset({"registry", "new"}),
        "d": frozenset({"new", "report"}),
        "e": frozenset({"report"}),
        "f": frozenset({"report"}),
    }
    assert together(workers.units(needs, shared)) == {frozenset("abcd"), frozenset("e"), frozenset("f")}
    # the negative control: were it long to make, it would keep them together
    assert together(workers.units(needs, shared | {"report": 20.0})) == {frozenset("abcdef")}


NEEDS_OF_ALL = """
import json, pytest, sys
from tests.harness import parts

class Asks:
    def pytest_collection_finish(self, session):
        needs = parts.needs_of(session.items, parts.read()["shared"])
        print("needs:", json.dumps({test: sorted(names) for test, names in needs.items()}))

sys.exit(pytest.main(["--collect-only", "-qq"], plugins=[Asks()]))
"""


def test_no_unit_is_half_of_the_suite(monkeypatch):
    """Else one process would do most of the work, and the others wait for it."""
    words = [sys.executable, "-c", NEEDS_OF_ALL]
    shown = subprocess.run(words, cwd=template.REPOSITORY, capture_output=True, text=True, check=True).stdout
    needs = {test: frozenset(names) for test, names in json.loads(re.search("^needs: (.*)$", shown, re.M)[1]).items()}
    times = parts.read()

    def longest() -> float:
        return max(parts.seconds(tests, needs, times) for tests in together(workers.units(needs, times["shared"])))

    assert longest() < parts.seconds(needs, needs, times) / 2
    # the negative control: kept together by what each process makes, most tests are one unit
    monkeypatch.setattr(workers, "EACH", set())
    assert longest() > parts.seconds(needs, needs, times) / 2


DISTRIBUTED = """
import os, time, pytest

@pytest.fixture(scope="session")
def long(tmp_path_factory):
    return os.getpid()

@pytest.mark.parametrize("number", range(3))
def test_shares(long, number):
    print("shared by", os.getpid())

@pytest.mark.parametrize("number", range(6))
def test_alone(number):
    time.sleep(0.5)
    print("alone in", os.getpid())
    assert number != BROKEN
"""


PLUGINS = """
from tests.harness import parts
pytest_plugins = ["tests.harness.parts", "tests.harness.summary", "tests.harness.workers"]
parts.read = lambda: {"tests": {}, "shared": {"test_work.py::long": 60.0}}
"""


@pytest.mark.parametrize("broken", [None, 4])
def test_two_processes_have_one_summary_and_one_exit_code(tmp_path, broken):
    (tmp_path / "test_work.py").write_text(DISTRIBUTED.replace("BROKEN", repr(broken)))
    (tmp_path / "conftest.py").write_text(PLUGINS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", "/dev/null", f"--rootdir={tmp_path}", "-p", "no:cacheprovider", "-n2", "-rA", str(tmp_path)],
        cwd=template.REPOSITORY, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(template.REPOSITORY), "GITHUB_STEP_SUMMARY": ""},
    )  # fmt: skip
    assert done.returncode == (0 if broken is None else 1), done.stdout + done.stderr
    sharing, alone = (set(re.findall(rf"{words} (\d+)", done.stdout)) for words in ("shared by", "alone in"))
    assert len(sharing) == 1 and len(alone) == 2, "two processes, and what is shared is made in one"
    assert re.search(rf"\(no variant\) +9 +{0 if broken is None else 1} ", done.stdout), done.stdout
    assert re.search(rf"^  all +9 +{0 if broken is None else 1} ", done.stdout, re.M), done.stdout


# --- what makes it quick ---------------------------------------------------------------------------

ASKED = "import os, sys, tempfile\nfrom pathlib import Path\nfrom tests.harness import scratch\n" + (
    "print(scratch.use(Path(sys.argv[1]), int(sys.argv[2])), tempfile.mkdtemp(), os.environ.get('TMPDIR'))"
)


@pytest.mark.parametrize("case", ["there is room", "there is no room", "there is no such folder", "the user has another"])
def test_temporary_files_are_in_memory_where_there_is_room(tmp_path, case):
    memory, elsewhere = tmp_path / "memory", tmp_path / "elsewhere"
    elsewhere.mkdir()
    if case != "there is no such folder":
        memory.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", ASKED, str(memory), str(1 << 62 if case == "there is no room" else 1)],
        cwd=template.REPOSITORY, capture_output=True, text=True, check=True,
        env={name: value for name, value in os.environ.items() if name != "TMPDIR"}
        | ({"TMPDIR": str(elsewhere)} if case == "the user has another" else {}),
    )  # fmt: skip
    folder, made, handed_on = done.stdout.split()
    assert (folder == str(memory)) == made.startswith(f"{memory}/") == (handed_on == str(memory)) == (case == "there is room")
    assert made.startswith(f"{elsewhere}/") == (case == "the user has another")


def test_what_jinja_compiled_is_used_again_and_for_nothing_else():
    """Each of the texts below means something else to one of the environments."""
    for text in ("{{ a }}", "[[ a ]]", "{% if a %}\nx{% endif %}\n"):
        for options in (
            {},
            {"variable_start_string": "[[", "variable_end_string": "]]"},
            {"trim_blocks": True},
            {"autoescape": True},
        ):
            shown = jinja2.Environment(**options).from_string(text).render(a="<")
            direct = jinja2.Environment(**options)
            code = template.compile_anew(direct, text)
            assert shown == jinja2.Template.from_code(direct, code, dict(direct.globals)).render(a="<")
    one, other = (jinja2.Environment() for _ in range(2))
    assert one.compile("{{ b }}") is other.compile("{{ b }}") is not one.compile("{{ c }}")
    assert jinja2.sandbox.SandboxedEnvironment().compile("{{ b }}") is not one.compile("{{ b }}")
