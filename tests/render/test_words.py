"""Plain words: the pages, the questions and the rendered files say what a reader of the field already knows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.harness import prose, template

VARIANTS = {
    "defaults": {},
    "everything": {
        "accelerator": "cuda", "cluster": "dask", "deploy": "kubernetes", "hosting": "saturn", "app": "streamlit",
        "devcontainer": True, "fresh_locks": "weekly",
    },
    "Poetry alone": {"environment": "poetry", "app": "flask", "ci": "gitlab", "hosting": "hpc", "cluster": "dask"},
}  # fmt: skip
KINDS = (".md", ".yml", ".yaml", ".py", ".sh", ".toml", ".Dockerfile", ".saturn", ".hcl")


def ours() -> dict[str, str]:
    """What this repository says itself: its pages, and what Copier asks."""
    folder = template.REPOSITORY
    texts = {name: prose.spoken(text) for name, text in prose.pages().items() if not name.startswith(("tests/", "bench/"))}
    return texts | {
        str(file.relative_to(folder)): file.read_text() for file in [folder / "copier.yml", *folder.glob("questions/*.yml")]
    }


def test_no_gone_word_in_pages_and_questions():
    texts = ours()
    assert {
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "docs/guide.md",
        "copier.yml",
        "questions/30_image.yml",
    } <= texts.keys()
    assert [line for name, text in texts.items() for line in prose.gone_words(name, text)] == []


def in_python(file: Path) -> list[str]:
    """Return a line for each gone word in a module's comments, docstrings and names."""
    name, source = str(file.relative_to(template.REPOSITORY)), file.read_text()
    return prose.gone_words(name, prose.said_in_python(source)) + prose.gone_words(name, prose.named_in_python(source))


def test_no_gone_word_in_tests_and_tools(tmp_path, monkeypatch):
    folders = [template.REPOSITORY / name for name in ("tests", "bench", "hooks")]
    files = [template.REPOSITORY / "noxfile.py", *(file for folder in folders for file in folder.rglob("*.py"))]
    assert len(files) > 150
    assert [line for file in sorted(files) for line in in_python(file) if file != Path(prose.__file__)] == []
    # the negative control
    monkeypatch.setattr(template, "REPOSITORY", tmp_path)
    (tmp_path / "a.py").write_text('def test_the_bill():\n    """The twin."""\n    proof = "a door"  # the house\n')
    found = [line.split(": ")[:2] for line in in_python(tmp_path / "a.py")]
    assert found == [["a.py:2", "twin"], ["a.py:3", "house"], ["a.py:1", "bill"]]


def test_no_gone_word_in_messages():
    page = re.sub(r"\{[^{}]*\}", "{}", (template.REPOSITORY / "docs/messages.md").read_text())  # in braces: names of the source
    assert page.count("\n") > 500 and prose.gone_words("docs/messages.md", page) == []
    assert prose.gone_words("a message", "error  {}: the last\n       word") != []  # the negative control


@pytest.mark.parametrize("answers", VARIANTS.values(), ids=VARIANTS)
def test_no_gone_word_in_a_rendered_project(render, answers):
    project = render(**answers).path
    files = [file for file in sorted(project.rglob("*")) if file.suffix in KINDS or file.name in ("Dockerfile", "Makefile")]
    assert len(files) > 40
    found = [line for file in files for line in prose.gone_words(str(file.relative_to(project)), prose.said(file))]
    assert found == []
    # the negative control, in each kind of file
    for name, text in {
        "README.md": "The build is the\nproof.\n",
        "compose.yaml": "# the proof\n",
        ".couplet/couplet/errors.py": '"""The proof."""\n',
        ".couplet/couplet.sh": "# the proof\n",
        "Dockerfile": "# the proof\n",
    }.items():
        (project / name).write_text(text)
        assert len(prose.gone_words(name, prose.said(project / name))) == 1, name


EXAMPLES = {
    "bills?": "A bill of materials.", "proofs?|prov(?:e|es|en|ed|ing)": "The build Proves it.", "twins?": "It has a twin.",
    "doors?": "Past every door.", "(?<!\\.)floor(?!\\.py)": "It is the floor.", "house": "In the same house.", "last words?": "conda has the last\nword.",
    "carr(?:y|ies|ied) (?:it|them|things) out": "Docker carries them out.", "h[oe]lds? fast|held fast": "How it is held fast.",
    "conda holds": "around what conda holds", "what moves?": "What moves, and what stays", "(?:is|are) content": "its check is content",
    "nothing is known": "Of 40 packages nothing is known.", "words of one's own": "a question in words of one's own",
    "way of the data": "The way of the data", "speaks? \\S+ language": "one that speaks OSV's language",
    "who may come in": "knows who may come in", "where you say who you are": "yours where you say who you are",
    "los(?:e|es|t) its way": "A builder that lost its way", "knobs?": "Which knob first", "mend(?:s|ed|ing)?": "To mend it",
    "walking skeleton": "The walking skeleton.", "package worlds?": "Both package worlds.",
}  # fmt: skip


def test_each_gone_word_is_found_and_has_a_replacement():
    assert EXAMPLES.keys() == prose.GONE.keys() and all(prose.GONE.values())
    for pattern, example in EXAMPLES.items():
        assert prose.gone_words("a page", f"One line.\n{example}") == [
            line for line in prose.gone_words("a page", f"One line.\n{example}") if line.startswith("a page:2: ")
        ]
        assert any(line.endswith(prose.GONE[pattern]) for line in prose.gone_words("a page", f"One line.\n{example}")), example


def test_what_only_looks_like_a_gone_word_is_none():
    for text in ("improved", "waterproof", "outdoors", "the content", "floors", "billing", "moves the files", "amended"):
        assert prose.gone_words("a page", text) == [], text
    page = "`the proof`, [decision](docs/proof.md)\n```\nproof\n```\n<!-- figures -->\n| floor |\n<!-- end -->\n"
    assert prose.gone_words("a page", prose.spoken(page)) == []
    module = 'x = "proof"\nproof = 1  # a test\n'
    assert prose.gone_words("a module", prose.said_in_python(module)) == []


def test_prose_is_wrapped(render):
    pages = prose.pages()
    for answers in VARIANTS.values():
        project = render("-".join(map(str, answers)) or "defaults", **answers).path
        pages |= {f"{project.name}/{file.relative_to(project)}": file.read_text() for file in project.rglob("*.md")}
    assert [line for name, text in pages.items() for line in prose.too_long(name, text)] == []


def test_a_long_line_is_found_where_it_could_be_wrapped():
    long = "word " * 25
    assert prose.too_long("a page", f"# A\n\n{long.strip()}\n") == ["a page:3: 124 columns, and at most 120"]
    assert prose.too_long("a page", f"- {long}\n") != [] and prose.too_long("a page", long[:120]) == []
    for text in (f"| {long} |\n", f"```\n{long}\n```\n", f"see https://example.com/{'x' * 110}\n"):
        assert prose.too_long("a page", text) == [], text
