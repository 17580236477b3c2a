"""docs/messages.md is generated: it is current, and no message of the sources is missing in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import messages
from tests.harness.messages import Message

PYTHON = '''
"""No docstring is a message, whatever it says."""
import sys

def check(names, path):
    # a comment is none either
    parser.add_argument("--out", help="the help of an option is none")
    if "words that a program says" in path:
        why = "it has no rows"
    lines = [f"{name} is not in {path}" for name in names]
    print("reading names", len(names), flush=True)
    if lines:
        raise UserError(f"{path}: {', '.join(names)} cannot be read ({why}). " + ("Run it again." if lines else ""))
    sys.exit(f"the file {path.name} is gone")
'''

SHELL = """
# it's a comment with "a text in it", and none
fail "No engine answers${HOST:+ at $HOST}:" "  $(docker version --format '{{.Server}}' 2>&1)"
echo "$name is not there," \\
    "so nothing was done." >&2
echo "$image is healthy."
case "$1" in "a b c") ;; esac
"""


def test_python_is_read_with_names_for_what_is_put_in():
    assert messages.of_python(PYTHON) == [
        Message("part", "it has no rows"),
        Message("part", "{name} is not in {path}"),
        Message("shown", "reading names"),
        Message("error", "{path}: {names} cannot be read ({why}). [Run it again.]"),
        Message("error", "the file {name} is gone"),
    ]


def test_shell_is_read_across_lines_and_without_comments():
    assert messages.of_shell(SHELL) == [
        Message("error", "No engine answers[ at {HOST}]:\n  {…}"),
        Message("error", "{name} is not there, so nothing was done."),
        Message("shown", "{image} is healthy."),
    ]


def test_validators_are_read_without_jinja():
    text = (
        "name:\n  validator: >-\n    {% if x %}\n    {{ name }} is not\n    a name.\n    {% endif %}\n---\nother: {type: str}\n"
    )
    assert messages.of_questions(text) == [Message("error", "name: {name} is not a name.")]


def test_the_list_of_this_repository_is_current():
    command = [sys.executable, "-m", "tests.harness.messages", "--check"]
    done = subprocess.run(command, cwd=messages.REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What the list is made of, to be changed."""
    for source in messages.sources(messages.REPOSITORY):
        place = tmp_path / source.relative_to(messages.REPOSITORY)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, place)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "planted", "line"),
    [
        ("template/.couplet/couplet/doctor.py", '\nraise UserError(f"{FOLDER}: planted")\n', "error  {FOLDER}: planted"),
        ("template/.couplet/host/report.sh", '\necho "a planted message" >&2\n', "error  a planted message"),
        ("template/Makefile.jinja", '\n\t@echo "a planted message"\n', "shown  a planted message"),
        ("hooks/adopt.py", '\nraise Refused(f"{pair}: planted")\n', "error  {pair}: planted"),
        ("questions/40_workflow.yml", "\nnew: {validator: planted}\n", "error  new: planted"),
    ],
)
def test_a_planted_message_makes_it_out_of_date(copy, file, planted, line):
    before = (messages.REPOSITORY / messages.PAGE).read_text()
    assert messages.page(copy) == before and line not in before
    with (copy / file).open("a") as source:
        source.write(planted)
    assert line in messages.page(copy).splitlines()


def test_each_exit_code_has_a_meaning(copy):
    with (copy / "template/.couplet/host/report.sh").open("a") as source:
        source.write("exit 99\n")
    with pytest.raises(SystemExit, match=r"exit code 99 of report\.sh: say what it means"):
        messages.page(copy)


def test_no_meaning_is_of_a_code_that_nothing_ends_with():
    used = set().union(*map(messages.ends, messages.sources(messages.REPOSITORY)))
    assert messages.CODES.keys() - used == {2}, "make's and argparse's own"
