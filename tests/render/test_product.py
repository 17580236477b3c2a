"""Every combination of the choices: exactly the files that tests/files.toml names, each read by its own parser."""

from __future__ import annotations

import itertools
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import copier.errors
import pytest

from tests.harness import parsers, summary, template, update
from tests.harness.product import ANSWERS_FILE, Product, Refused
from tests.harness.soak import some

TABLE = Path(__file__).parents[1] / "files.toml"
NAME = {"project_name": "Sea Ice"}


@pytest.fixture(scope="module")
def product() -> Product:
    return Product()


def table() -> dict[str, list[str]]:
    return tomllib.loads(TABLE.read_text())


@dataclass
class Census:
    """What rendering combinations has shown: what is wrong, how many there were, the refusals and the pairs that met."""

    problems: list[str] = field(default_factory=list)
    combinations: int = 0
    files: int = 0
    refused: dict[str, list[dict]] = field(default_factory=dict)
    pairs: set[tuple] = field(default_factory=set)


def census(product: Product, wanted: dict[str, list[str]], combinations) -> Census:
    """Render combinations, and read each different file once."""
    wanted = {condition: [path.replace("{package}", "sea_ice") for path in paths] for condition, paths in wanted.items()}
    conditions = [(compile(condition, TABLE.name, "eval"), frozenset(paths)) for condition, paths in wanted.items()]
    found, seen = Census(), {}
    for combination in combinations:
        found.combinations += 1
        try:
            answers = product.answers({**NAME, **combination})
        except Refused as refused:
            found.refused.setdefault(refused.message, []).append(combination)
            continue
        files = product.files(answers)
        paths = frozenset().union(*(paths for condition, paths in conditions if eval(condition, {}, answers)))
        if paths != files.keys() | {ANSWERS_FILE}:
            found.problems.append(f"{combination}: {sorted(paths ^ (files.keys() | {ANSWERS_FILE}))}")
        for path, file in files.items():
            if (path, id(file)) not in seen:
                seen[path, id(file)] = file
                found.problems += parsers.problems(path, file.content.decode())
        marks = [(name, answers.marks[name]) for name in combination]
        found.pairs.update(itertools.combinations(marks, 2))
    found.files = len(seen)
    return found


@pytest.fixture(scope="module")
def everything(product) -> Census:
    """The full product."""
    return census(product, table(), product.combinations())


@pytest.fixture(scope="module")
def pairs(product) -> Census:
    """Every two choices, with the defaults of all else."""
    chosen = itertools.combinations([(name, choice) for name, choices in product.axes.items() for choice in choices], 2)
    return census(product, table(), (dict(two) for two in chosen if two[0][0] != two[1][0]))


def test_every_two_choices_give_their_files_and_each_is_read_by_its_parser(pairs):
    assert pairs.problems[:20] == []
    assert pairs.combinations > 500
    summary.note(f"{pairs.combinations} pairs of choices, {pairs.files} different files")


@pytest.mark.soak
def test_every_combination_gives_its_files_and_each_is_read_by_its_parser(everything):
    assert everything.problems[:20] == []
    refused = sum(map(len, everything.refused.values()))
    assert everything.combinations - refused > 1000
    summary.note(f"{everything.combinations} combinations, {refused} refused, {everything.files} different files")


def test_no_path_stands_twice_in_the_table():
    paths = [path for paths in table().values() for path in paths]
    assert len(paths) == len(set(paths))


def test_every_axis_is_a_question_with_choices(product):
    """The axes are found, not listed: what is asked, has choices, and is read by a file or another question."""
    asked = {name: question for name, question in template.questions().items() if question.get("when") is not False}
    assert product.axes.keys() == {
        name for name, question in asked.items() if question["type"] == "bool" or "choices" in question
    } - {"profile"}, "a profile is the defaults of questions that are axes themselves"


def test_a_question_that_nothing_reads_is_no_axis(tmp_path):
    """The negative control: so it would be missed above."""
    copy = template.snapshot(tmp_path / "template")
    with (copy / "questions/40_workflow.yml").open("a") as file:
        file.write("\nidle:\n  type: bool\n  default: false\n")
    assert "idle" in template.questions(copy) and "idle" not in Product(copy).axes


CONDITIONAL = "{% if ci == 'github' and license == 'MIT' %}EXTRA.md{% endif %}"
FAULTS = {
    "a file more, in some": lambda t: (t / CONDITIONAL).write_text("# Extra\n"),
    "a file less": lambda t: (t / ".editorconfig").unlink(),
    "JSON of a notebook": lambda t: edit(t, "notebooks", "example.ipynb", '"cells"', '"cell"'),
    "YAML": lambda t: edit(t, "", "compose.yaml", "services:", "services: }"),
    "a key twice": lambda t: edit(t, "", "compose.yaml", "services:", "services: {}\nservices:"),
    "TOML, for one licence": lambda t: edit(t, "", "pyproject.toml", "license = ", "license == "),
    "Python": lambda t: edit(t, "", "settings.py", "import ", "import import ", 1),
    "an instruction of the Dockerfile": lambda t: edit(t, "", "Dockerfile", "WORKDIR", "WRKDIR"),
    "a tool without its hash": lambda t: edit(t, "pins", "tools.txt", "--hash=", "#"),
    "an expression in a plain file": lambda t: edit(t, "", ".gitignore", "build/", "{{ build }}/"),
    "blanks at a line's end": lambda t: edit(t, "", "environment.yml", "  - numpy", "  - numpy "),
    "no newline at the end": lambda t: edit(t, "", "entrypoint.sh", 'exec "$@"\n', 'exec "$@"'),
    "a kind that nothing reads": lambda t: (t / ".editorconfig").rename(t / "attributes.ini"),
}


def named(path: Path) -> str:
    """Return the name that a file of the template has once it is rendered."""
    return re.sub(r"{%.*?%}", "", path.name).removesuffix(".jinja")


def edit(folder: Path, under: str, name: str, old: str, new: str, count: int = -1) -> None:
    """Plant a fault in the template's files of a name: one, or one for each answer that its path depends on."""
    found = [path for path in folder.rglob("*") if named(path) == name and under in str(path) and old in path.read_text()]
    assert found, f"no {name} has {old!r}"
    for file in found:
        file.write_text(file.read_text().replace(old, new, count))


AT_NIGHT = {"a file more, in some", "a key twice", "TOML, for one licence", "blanks at a line's end", "no newline at the end"}


@pytest.mark.parametrize("fault", some(FAULTS, *(FAULTS.keys() - AT_NIGHT)))
def test_a_fault_in_any_file_is_seen(tmp_path, product, fault):
    """The negative control of the product, on a cover of all pairs of choices."""
    copy = template.snapshot(tmp_path / "template")
    FAULTS[fault](copy / "template")
    damaged = Product(copy)
    assert any(census(damaged, table(), [row]).problems for row in product.cover(NAME))


def test_two_templates_of_one_path_are_seen(tmp_path):
    copy = template.snapshot(tmp_path / "template")
    (copy / "template/{% if kernel %}Makefile{% endif %}").write_text("all:\n")
    changed = Product(copy)
    with pytest.raises(AssertionError, match="both render Makefile"):
        changed.files(changed.answers({**NAME, "kernel": True}))
    changed.files(changed.answers({**NAME, "kernel": False}))


# --- Copier is the judge ---------------------------------------------------------------------------


def test_the_cover_holds_every_pair_that_may_be(product, pairs):
    rows = product.cover(NAME)
    assert census(product, table(), rows).pairs >= pairs.pairs
    assert not census(product, table(), rows[:-1]).pairs >= pairs.pairs, "the negative control: with a row less, a pair is missed"


@pytest.mark.soak
def test_the_cover_and_the_refusals_are_those_of_every_combination(product, pairs, everything):
    rows = product.cover(NAME)
    assert everything.refused.keys() == pairs.refused.keys()
    assert census(product, table(), rows).pairs == everything.pairs
    summary.note(f"{len(rows)} rows for {len(everything.pairs)} pairs")


def test_copier_renders_the_same(product, covered):
    """Byte for byte, run bits too, on the cover of all pairs; so what is said of the product holds for Copier."""
    for given, path in covered:
        theirs = {name: file for name, file in update.files(path).items() if name != ANSWERS_FILE}
        ours = {name: (file.runs, file.content) for name, file in product.files(product.answers(given)).items()}
        assert ours == theirs, given


def test_copier_refuses_what_the_product_leaves_out(pairs, template_repository, tmp_path):
    """Each message with which a combination is refused, once."""
    assert pairs.refused
    for message, combinations in pairs.refused.items():
        with pytest.raises((ValueError, copier.errors.CopierError), match=re.escape(message)):
            template.render(template_repository, tmp_path / "refused", {**NAME, **combinations[0]})
