"""Hostile answers: what is accepted arrives as data and as nothing else, what is refused is refused with a reason.

hypothesis puts together quotes, expressions of make, shells, YAML and templates, control characters and words of many
languages, for each question that a person answers in words of their own (they are found, not listed). Each file is
parsed and has to be what a harmless answer gives, with the answer in its place; and a file that a program runs may
hold only answers without a character that means anything there.
"""

from __future__ import annotations

import ast
import functools
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import copier.errors
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.answers.test_answers import free_text
from tests.harness import parsers, summary, template, update
from tests.harness.product import ANSWERS_FILE, Answers, File, Product, Refused

EXAMPLES = 150
"""Of each question. CI draws the same ones every time."""
PIECES = [
    *"'\"`\\#$%&*!|>-:;,?@~^=+/()[]{}<>. \t\n\r\0",
    "$(touch canary)", "`touch canary`", "$(shell touch canary)", "${PATH}", "$$", "${{ github.token }}", "{{ 7 * 7 }}",
    "{% raw %}", "{# x #}", "&anchor", "*anchor", "!!python/object", "<<: *x", "---", "...", "%0A::set-env", "::error::",
    "O'Keefe", '"""', "'''", "\\n", "\\\"", "\\u0000", "\u2028", "\u0085", "\ufeff", "é", "海氷", "🧊", "\u202e", "e\u0301",
    "3D", "0x1f", "1e3", "null", "true", "no", "~", "class", "None", "base", "-rf", "--help", "../..", "/etc/passwd", "C:\\",
    "a", "b", "_", "sea", "ice", "example.org", "@", " ", "]]>", "<script>", "&amp;", "%s", "${IFS}", "&&", "||", "EOF", "\x7f",
]  # fmt: skip
hostile = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3)), max_size=8).map("".join).filter(bool)
WORDS = [
    "null",
    "none",
    "nil",
    "nan",
    "inf",
    "yes",
    "no",
    "on",
    "off",
    "y",
    "n",
    "true",
    "false",
    "e1",
    "x0",
    "_",
    "-",
    ".",
    "a.b",
    "a-b",
    "a--b",
    "con",
    "aux",
    "nul",
]


def near(answer: str) -> st.SearchStrategy[str]:
    """Something put into a harmless answer: more of these are accepted."""
    return st.builds(
        lambda place, piece: answer[:place] + piece + answer[place:], st.integers(0, len(answer)), st.sampled_from(PIECES)
    )


HARMLESS = {
    "project_name": "Harmless Name",
    "package_name": "harmless_package",
    "project_description": "A harmless description",
    "author_name": "Harmless Author",
    "author_email": "harmless@example.org",
    "kernel_name": "harmless-kernel",
    "kernel_display_name": "Harmless Kernel",
    "kernel_prefix": "/opt/harmless",
}
"""An answer to each question that has more than its default would do: long, and nowhere in the template."""
RUN = (
    "Makefile",
    "Dockerfile",
    "Dockerfile.saturn",
    "postBuild",
    "*.sh",
    ".couplet/host/*",
    "ci.yml",
    ".gitlab-ci.yml",
    "compose.yaml",
    "bake.hcl",
    "tasks.Dockerfile",
    "deploy/*",
    ".pre-commit-config.yaml",
)
SAFE = re.compile(r"[A-Za-z0-9_./-]*")
QUESTIONS = sorted(free_text(template.questions()))


@functools.cache
def product() -> Product:
    return Product()


@functools.cache
def harmless() -> dict[str, str]:
    """An answer to each free question, so that none is derived from another."""
    answers = product().answers(HARMLESS)
    return {name: answers[name] for name in QUESTIONS if isinstance(answers[name], str) and answers[name]}


def changed(before: Answers, after: Answers) -> dict[str, str]:
    """The answer that differs, and what is computed from it: from the one text to the other."""
    return {
        before[name]: after[name]
        for name in before
        if isinstance(before[name], str) and before[name] and before[name] != after[name]
    }


def replaced(data: Any, words: dict[str, str]) -> Any:
    """Data with some words replaced by others, all at once, in every string; the longest goes first."""
    if isinstance(data, dict):
        return {replaced(key, words): replaced(value, words) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [replaced(item, words) for item in data]
    if isinstance(data, str):
        pattern = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
        return re.sub(pattern, lambda found: words[found.group()], data)
    return data


def data_of(name: str, file: File) -> Any:
    """What a program makes of a file: parsed, where it can be."""
    text = file.content.decode()
    if name.endswith(".py"):
        # the tree, but constants as they are
        return [getattr(node, "value", None) if isinstance(node, ast.Constant) else type(node).__name__
                for node in ast.walk(ast.parse(text))]  # fmt: skip
    if name == ".couplet/MANIFEST":
        # of a file that holds the answer the digest differs, and nothing else may
        return re.sub(r"^[0-9a-f]{64}  ", "", text, flags=re.M)
    return parsers.read(name, text)


def injected(name: str, answer: str, made: Product) -> list[str]:
    """Render with an answer, and with a harmless one. Returns where it is more than data. Raises Refused."""
    quiet, loud = made.answers(harmless()), made.answers({**harmless(), name: answer})
    words = changed(quiet, loud)
    before = {replaced(path, words): (path, file) for path, file in made.files(quiet).items()}
    after = made.files(loud)
    problems = [f"{path} comes or goes" for path in before.keys() ^ after.keys()]
    for path in before.keys() & after.keys():
        was, old = before[path]
        if old.content == after[path].content:
            continue
        try:
            data = data_of(path, after[path])
        except Exception as error:
            problems.append(f"{path} can't be read: {error}")
            continue
        if name not in HAND_MADE.get(path.rsplit("/", 1)[-1], ()) and data != replaced(data_of(was, old), words):
            problems.append(f"{path} holds the answer as more than data")
        if any(Path(path).match(pattern) for pattern in RUN):
            held = [new for word, new in words.items() if word in old.content.decode()]
            problems += [f"{path} is run, and holds {word!r}" for word in held if not SAFE.fullmatch(word)]
    return problems


HAND_MADE = {"__init__.py": {"project_name"}, "README.md": {"kernel_display_name"}}
"""File -> questions whose answer it holds with some characters replaced, since no escape would be pretty there."""


# --- accepted answers are data, refused ones have a reason -----------------------------------------


@pytest.mark.parametrize("name", QUESTIONS)
def test_an_accepted_answer_is_data_and_nothing_else(name, record_property):
    count = Counter()

    @settings(max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(hostile, near(harmless()[name]), st.sampled_from(WORDS)))
    def check(answer: str) -> None:
        try:
            problems = injected(name, answer, product())
        except Refused as refused:
            assert refused.question == name and len(refused.message) > 15, "a reason"
            count["refused"] += 1
            return
        count["accepted"] += 1
        assert problems == []

    check()
    assert count["refused"], "nothing is refused: is the validator there?"
    assert count["accepted"], "nothing is accepted: nothing was shown"
    record_property("bad inputs tried", count.total())
    summary.note(f"{name}: {count['accepted']} accepted, {count['refused']} refused")


def test_every_free_question_has_a_harmless_answer():
    assert set(QUESTIONS) == HARMLESS.keys(), "HARMLESS, above, needs an answer for each"
    texts = [file.content.decode() for file in product().files(product().answers({"project_name": "x"})).values()]
    assert [answer for answer in HARMLESS.values() if any(answer in text for text in texts)] == []


FORBIDDEN = [f"a{character}b" for character in "\n\r\t\0\x1b\x7f\x85\u2028\u2029"]


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_second_line_is_never_accepted(name):
    for answer in FORBIDDEN:
        with pytest.raises(Refused) as refused:
            product().answers({**harmless(), name: answer})
        assert refused.value.question == name


WORST = 'O\'K "x" `touch canary` $(touch canary) ${{ a }} {{ 7*7 }} \\ # %s &a *b !c: é 🧊'


def test_make_runs_nothing_of_an_answer(tmp_path):
    """`make -n` expands everything: a $(shell …) in an answer would run even so."""
    answers = {name: WORST for name in QUESTIONS if accepted(name, WORST)}
    assert {"project_name", "project_description"} <= answers.keys()
    assert dry_run(product(), answers, tmp_path / "project") == []


def accepted(name: str, answer: str) -> bool:
    try:
        product().answers({**harmless(), name: answer})
    except Refused:
        return False
    return True


def dry_run(made: Product, answers: dict[str, str], folder: Path) -> list[str]:
    """Write a project, and ask make for everything without doing it. Returns what happened all the same."""
    for path, file in made.files(made.answers({**harmless(), **answers})).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(file.content)
    targets = sorted(set(re.findall(r"^([a-z-]+):", (folder / "Makefile").read_text(), re.M)))
    assert "build" in targets
    done = subprocess.run(["make", "-n", *targets], cwd=folder, capture_output=True, text=True)
    return [line for line in (done.stderr, *(str(path) for path in folder.rglob("canary"))) if line]


def test_copier_takes_and_refuses_the_same(template_repository, tmp_path):
    """Some answers through Copier itself: the same files, byte for byte, and the answer recorded as it was given."""
    plain = tmp_path / "template"
    template.git(tmp_path, "clone", "--quiet", str(template_repository), str(plain))
    for number, answer in enumerate((WORST, "'", '"', "{{ 7 * 7 }}", "# x", ": y", "&a", "yes", "1e3", "\\", "é" * 20)):
        given = {**harmless(), **{name: answer for name in QUESTIONS if accepted(name, answer)}}
        project = template.render(plain, tmp_path / str(number), given)
        theirs = {name: file for name, (_, file) in update.files(project).items() if name != ANSWERS_FILE}
        assert theirs == {name: file.content for name, file in product().files(product().answers(given)).items()}
        assert update.answers_of(project).items() >= given.items()
    for name in QUESTIONS:
        answer = next(answer for answer in ("", *FORBIDDEN) if not accepted(name, answer))
        with pytest.raises((ValueError, copier.errors.CopierError), match=f"(?s){name}"):
            template.render(plain, tmp_path / "refused", {**harmless(), name: answer})


# --- what turns this red ---------------------------------------------------------------------------

CLAIM = "description = {{ project_description | to_json(ensure_ascii=False) }}"
HOLES = {
    "no escape in TOML": ("pyproject.toml.jinja", CLAIM, 'description = "{{ project_description }}"', '"', "project_description"),
    "no escape in JSON": (
        "example.ipynb.jinja", "{{ kernel_display_name | to_json(ensure_ascii=False) }}", '"{{ kernel_display_name }}"',
        'x", "language": "R', "kernel_display_name",
    ),
    "a name in the Makefile": ("Makefile.jinja", "PORT ?= 8888\n", "PORT ?= 8888\nTITLE := {{ project_name }}\n", "$(x)", "project_name"),
    "a name in YAML": ("environment.yml.jinja", "channels:\n", "title: {{ project_name }}\nchannels:\n",
                       "x: y", "project_name"),
    "a name in the Dockerfile": ("Dockerfile.jinja", "WORKDIR /work\n", "WORKDIR /work\nLABEL title=\"{{ project_name }}\"\n", "$x",
                                 "project_name"),
    "a name in Python": ("__main__.py.jinja", '"""Print', '"""{{ project_name }}. Print', '""" + exit() + """', "project_name"),
}  # fmt: skip


@pytest.mark.parametrize("hole", HOLES)
def test_a_hole_is_seen(tmp_path, hole):
    """The negative control: an answer that is put into a file unescaped."""
    name, old, new, answer, question = HOLES[hole]
    copy = template.snapshot(tmp_path / "template")
    names = {path: re.sub("{%.*?%}", "", path.name) for path in (copy / "template").rglob("*")}
    # of those with a condition in their names, the one of the defaults comes first
    file = next(path for path in sorted(names) if names[path] == name and old in path.read_text())
    assert injected(question, answer, Product(copy)) == []
    file.write_text(file.read_text().replace(old, new))
    assert injected(question, answer, Product(copy))


def test_a_command_in_the_makefile_is_seen(tmp_path):
    """The negative control of `make -n`."""
    copy = template.snapshot(tmp_path / "template")
    file = copy / "template/Makefile.jinja"
    file.write_text(file.read_text().replace("PORT ?= 8888\n", "PORT ?= 8888\nTITLE := {{ project_name }}\n"))
    assert dry_run(Product(copy), {"project_name": "$(shell touch canary)"}, tmp_path / "project")


@pytest.mark.parametrize("name", ["project_description", "kernel_display_name"])
def test_a_validator_that_lets_a_second_line_in_is_seen(tmp_path, name):
    """The negative control of the refusals."""
    copy = template.snapshot(tmp_path / "template")
    for file in (copy / "questions").glob("*.yml"):
        file.write_text(file.read_text().replace(r"regex_search('[\\x00-\\x1f", r"regex_search('[\\x00"))
    assert Product(copy).answers({**harmless(), name: "a\nb"})[name] == "a\nb"
