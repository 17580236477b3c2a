"""What is written for people: pages, comments and questions, and what a reader would stumble over in them."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.harness import template

WIDTH = 120
"""Columns of a line of Markdown. Tables and addresses cannot be wrapped, code is as it is."""

GONE = {
    r"bills?": "SBOM",
    r"proofs?|prov(?:e|es|en|ed|ing)": "verification, verify",
    r"twins?": "negative control",
    r"doors?": "entry point, shim",
    r"(?<!\.)floor(?!\.py)": "lower bound",
    r"house": "say what is shared",
    r"last words?": "takes precedence",
    r"carr(?:y|ies|ied) (?:it|them|things) out": "exports, does",
    r"h[oe]lds? fast|held fast": "pins, pinned",
    r"conda holds": "conda installs",
    r"what moves?": "what changes version",
    r"(?:is|are) content": "passes, succeeds",
    r"nothing is known": "no known vulnerabilities; not checked",
    r"words of one's own": "free text",
    r"way of the data": "data flow",
    r"speaks? \S+ language": "has the API of",
    r"who may come in": "who may log in",
    r"where you say who you are": "if you pass your user",
    r"los(?:e|es|t) its way": "fails with an internal error",
    r"knobs?": "setting",
    r"mend(?:s|ed|ing)?": "fix, repair",
    r"walking skeleton": "first version",
    r"package worlds?": "conda's packages and PyPI's",
}
"""Pattern -> what to write instead. A pattern stands for whole words, over the end of a line too."""

GENERATED = re.compile(r"<!-- (?!end\b)\w+ -->.*?<!-- end -->", re.DOTALL)
FENCE = re.compile(r"^( *)(```+|~~~+).*?^ *\2[ \t]*$", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"(?<!`)(`+)(?!`)(?:(?!\n\n).)+?(?<!`)\1(?!`)", re.DOTALL)
LINK = re.compile(r"!?\[(?P<text>[^\[\]]*)\]\((?P<target>[^()\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)


def pages() -> dict[str, str]:
    """Return the text of each Markdown file of this repository by its path, without those of the template."""
    folder = template.REPOSITORY
    found = [*folder.glob("*.md"), *folder.glob("docs/**/*.md")]
    found += [file for name in ("hooks", "bench", "tests") for file in (folder / name).rglob("*.md")]
    return {str(file.relative_to(folder)): file.read_text() for file in sorted(found)}


def blank(found: re.Match[str]) -> str:
    """Return as many empty lines as a match has, so that line numbers stay."""
    return "\n" * found[0].count("\n")


def spoken(markdown: str) -> str:
    """Return the words of a page: without code, generated tables and the targets of links, on the same lines."""
    text = CODE.sub(blank, FENCE.sub(blank, GENERATED.sub(blank, markdown)))
    return LINK.sub(lambda link: link["text"], text)


def said_in_python(source: str) -> str:
    """Return the comments and docstrings of a module, on the same lines."""
    lines = [""] * (source.count("\n") + 2)
    previous = tokenize.NEWLINE
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        alone = token.type == tokenize.STRING and previous in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
        if token.type == tokenize.COMMENT or alone:
            for number, line in enumerate(token.string.split("\n"), token.start[0]):
                lines[number] += line
        if token.type not in (tokenize.COMMENT, tokenize.NL):
            previous = token.type
    return "\n".join(lines[1:])


def named_in_python(source: str) -> str:
    """Return the names of a module's functions and classes as words, on the same lines: `test_the_bill` is `test the bill`."""
    defined = (re.match(r" *(?:async )?(?:def|class) (\w+)", line) for line in source.split("\n"))
    return "\n".join(found[1].replace("_", " ") if found else "" for found in defined)


def said_in_comments(source: str) -> str:
    """Return what follows a `#` that begins a word, on the same lines, for shell, Dockerfiles, TOML and Makefiles."""
    return "\n".join(line[found.start() :] if (found := re.search(r"(?<!\S)#", line)) else "" for line in source.split("\n"))


def said(file: Path) -> str:
    """Return what a file of a project says to people, line by line."""
    text = file.read_text()
    if file.suffix == ".md":
        return spoken(text)
    if file.suffix in (".yml", ".yaml"):
        return text
    return said_in_python(text) if file.suffix == ".py" else said_in_comments(text)


def gone_words(name: str, text: str) -> list[str]:
    """Return a line for each gone word in a text, with what to write instead."""
    found = []
    for pattern, instead in GONE.items():
        whole = r"\b(?:" + pattern.replace(" ", r"[\s#]+") + r")\b"
        for word in re.finditer(whole, text, re.IGNORECASE):
            number = text.count("\n", 0, word.start()) + 1
            found.append(f"{name}:{number}: {' '.join(word[0].split())}: say: {instead}")
    return found


def too_long(name: str, markdown: str) -> list[str]:
    """Return a line for each line of prose that is longer than WIDTH: no table, no code, and no address that is as long."""
    found = []
    for number, line in enumerate(FENCE.sub(blank, GENERATED.sub(blank, markdown)).split("\n"), 1):
        words = line.split()
        if len(line) > WIDTH and not line.lstrip().startswith("|") and max(map(len, words)) < WIDTH - 10:
            found.append(f"{name}:{number}: {len(line)} columns, and at most {WIDTH}")
    return found


def anchors(markdown: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and GitLab make them of their text."""
    names: set[str] = set()
    for heading in HEADING.findall(FENCE.sub(blank, markdown)):
        text = LINK.sub(lambda link: link["text"], heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        number, name = 0, anchor
        while name in names:
            number += 1
            name = f"{anchor}-{number}"
        names.add(name)
    return names


def broken_links(name: str, markdown: str, folder: Path) -> list[str]:
    """Return a line for each relative link of a page, at the path `name` in `folder`, whose file or anchor is not there."""
    found = []
    for link in LINK.finditer(CODE.sub(blank, FENCE.sub(blank, markdown))):
        target, _, anchor = link["target"].partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = (folder / name).parent / target if target else folder / name
        if not file.exists():
            found.append(f"{name}: {link['target']}: no such file")
        elif anchor and anchor not in anchors(file.read_text()):
            found.append(f"{name}: {link['target']}: no such heading")
    return found


def written_code(markdown: str) -> Iterator[str]:
    """Yield each piece of code of a page: spans, and the lines of blocks."""
    for block in FENCE.finditer(markdown):
        yield from block[0].split("\n")[1:-1]
    for span in CODE.finditer(FENCE.sub(blank, markdown)):
        yield " ".join(span[0].strip("`").split())


def commands(markdown: str) -> list[str]:
    """Return the commands in a page's blocks of them, in order: those of shells whole, of others the lines after a `$ `."""
    found: list[str] = []
    for block in FENCE.finditer(markdown):
        kind, *lines = block[0].replace("\\\n", " ").split("\n")[:-1]
        if kind.strip("`~ ") not in ("sh", "bash", "console", "shell"):
            lines = [line.strip().removeprefix("$ ") for line in lines if line.strip().startswith("$ ")]
        found += [re.sub(r"(^|\s+)# .*", "", line).strip().removeprefix("$ ") for line in lines]
    return [" ".join(command.split()) for command in found if command]


def make_targets(markdown: str) -> set[str]:
    """Return the targets that a page has make make: `make env-update build PKG=x` has two."""
    found: set[str] = set()
    for code in written_code(markdown):
        for words in re.findall(
            r"(?:^|&& |; |\$ |\| )(?:[A-Z_]+=\S+ )*make((?: +[^\s&;|#]+)*)", re.sub(r"\"[^\"]*\"|'[^']*'", "x", code)
        ):
            found |= {word for word in words.split() if re.fullmatch(r"[a-z][a-z-]*", word)}
    return found


def sessions(markdown: str) -> set[str]:
    """Return the sessions of nox that a page runs: `nox -s lint tests -- -k x` has two."""
    found: set[str] = set()
    for code in written_code(markdown):
        for words in re.findall(r"nox -s((?: [a-z][a-z-]*)+)", code):
            found |= set(words.split())
    return found


def files(markdown: str) -> set[str]:
    """Return the files of this repository, or of a project, that a page's code names by a path: `tests/files.toml`."""
    found = re.compile(
        r"(?<![\w./<>$:-])(?:tests|bench|docs|hooks|questions|requirements|docker|scripts|\.couplet|\.github)/[\w./-]*\w\.\w+"
    )
    return {word for code in written_code(markdown) for word in found.findall(code)}


def unknown(name: str, said: set[str], known: set[str] | Mapping[str, object], what: str) -> list[str]:
    """Return a line for each of `said` that is not known."""
    return [f"{name}: {word}: no such {what}" for word in sorted(said - set(known))]
