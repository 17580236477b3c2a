"""Each kind of file by its own parser, as plain data. A file of a kind that has none is an error: nothing goes unread."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
import tomllib
from collections.abc import Callable
from fnmatch import fnmatch
from typing import Any

import dockerfile
import hcl2
import jinja2
import yaml


class _Loader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, as it is for GitHub, GitLab and compose."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict:
    keys = [loader.construct_object(key) for key, _ in node.value]
    twice = {str(key) for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.constructor.ConstructorError(None, None, f"twice: {sorted(twice)}", node.start_mark)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def of_yaml(text: str) -> Any:
    """YAML's data. Raises yaml.YAMLError."""
    return yaml.load(text, _Loader)


def of_json(text: str) -> Any:
    """JSON's data. Raises ValueError, for a key that stands twice too."""

    def table(pairs: list[tuple[str, Any]]) -> dict:
        if len(dict(pairs)) < len(pairs):
            raise ValueError(f"a key stands twice in {[key for key, _ in pairs]}")
        return dict(pairs)

    return json.loads(text, object_pairs_hook=table)


def of_notebook(text: str) -> Any:
    """A notebook's data. Raises nbformat.ValidationError."""
    # its schema library takes a second and a half to import, in each process and each collection
    import nbformat

    nbformat.validate(nbformat.reads(text, as_version=nbformat.NO_CONVERT))
    return of_json(text)


def of_python(text: str) -> Any:
    """The syntax tree. Raises SyntaxError."""
    return ast.dump(ast.parse(text), include_attributes=False, indent=1).splitlines()


def of_dockerfile(text: str) -> Any:
    """The instructions as BuildKit's own parser reads them. Raises dockerfile.GoParseError, ValueError for an unknown one."""
    commands = dockerfile.parse_string(text)
    unknown = {command.cmd.upper() for command in commands} - INSTRUCTIONS
    if unknown:
        raise ValueError(f"no instructions of a Dockerfile: {sorted(unknown)}")
    return [[command.cmd, *command.flags, *command.value] for command in commands]


def of_editorconfig(text: str) -> Any:
    """Section -> key -> value. Raises ValueError for a line that is neither."""
    found: dict[str, dict[str, str]] = {"": {}}
    section = ""
    for line in filter(None, (line.strip() for line in text.splitlines())):
        if line[0] in "#;":
            continue
        head, pair = re.fullmatch(r"\[(.+)\]", line), re.fullmatch(r"(\w+) *= *(\S.*)", line)
        if head:
            section = head.group(1)
            found[section] = {}
        elif pair:
            found[section][pair.group(1)] = pair.group(2)
        else:
            raise ValueError(f"not a line of an .editorconfig: {line}")
    return found


def of_csv(text: str) -> Any:
    """Rows. Raises ValueError where they differ in length."""
    rows = list(csv.reader(io.StringIO(text)))
    if len({len(row) for row in rows}) > 1:
        raise ValueError("rows of different lengths")
    return rows


def of_hashes(text: str) -> Any:
    """Requirement -> hashes. Raises ValueError for one without."""
    found = {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if line.strip() and not line.startswith("#"):
            requirement, *hashes = line.split(" --hash=")
            if not hashes or not all(re.fullmatch("sha256:[0-9a-f]{64}", value.strip()) for value in hashes):
                raise ValueError(f"no hash: {requirement}")
            found[requirement.strip()] = [value.strip() for value in hashes]
    return found


def of_page(text: str) -> Any:
    """The syntax tree of a page that the project's own web server renders. Raises jinja2.TemplateSyntaxError."""
    return repr(jinja2.Environment(autoescape=True).parse(text)).split(", ")


def of_hcl(text: str) -> Any:
    """Blocks and attributes. Raises lark's UnexpectedInput."""
    return hcl2.loads(text)


def of_lines(text: str) -> Any:
    """Lines, as a shell and make count them."""
    return text.split("\n")


INSTRUCTIONS = {
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "ONBUILD", "RUN", "SHELL",
    "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
}  # fmt: skip
PARSERS: list[tuple[str, Callable[[str], Any]]] = [
    ("*.yml", of_yaml),
    ("*.yaml", of_yaml),
    ("*.toml", tomllib.loads),
    ("*.ipynb", of_notebook),
    ("*.json", of_json),
    ("*.py", of_python),
    ("*.csv", of_csv),
    ("*/templates/*.html", of_page),
    (".couplet/pins/*.txt", of_hashes),
    ("Dockerfile", of_dockerfile),
    ("Dockerfile.*", of_dockerfile),
    ("*.Dockerfile", of_dockerfile),
    ("MANIFEST", of_lines),
    (".editorconfig", of_editorconfig),
    ("*.hcl", of_hcl),
    # make, shellcheck, git and docker read these themselves (tests/render); people read the last
    *((name, of_lines) for name in ("Makefile", "postBuild", "*.sh", ".gitignore", ".gitattributes", ".dockerignore", "*.md")),
]


def read(name: str, text: str) -> Any:
    """The data of a file by its name. Raises what its parser raises, LookupError where it has none."""
    for pattern, parser in PARSERS:
        if fnmatch(name, pattern) or fnmatch(name.rsplit("/", 1)[-1], pattern):
            return parser(text)
    raise LookupError(f"{name} is of a kind that no parser here reads: add one to tests/harness/parsers.py")


FORMATS = r"\$\{\{.*?\}\}|\{\{(((json|range|with|println) )?\.[\w. ]*|println \(join .*?\)|end)\}\}"
"""GitHub's expressions and Docker's formats, which a rendered file may have."""


def blemishes(name: str, text: str) -> list[str]:
    """What no file may have: template syntax, blanks at a line's end, no or more than one newline at the file's."""
    problems = []
    pages = fnmatch(name, "*/templates/*.html")  # templates themselves, of the project's web server
    if not pages and re.search(r"[{]%|%[}]|(?<![$])[{]#|#[}]", name + text):
        problems.append("a statement or comment of the template is left")
    if not pages and "{{" in re.sub(FORMATS, "", name + text):
        problems.append("an expression of the template is left")
    if text and not (text.endswith("\n") and not text.endswith("\n\n")):
        problems.append("it does not end in one newline")
    if re.search(r"[ \t]$", text, re.M) or "\r" in text:
        problems.append("blanks at the end of a line")
    return [f"{name}: {problem}" for problem in problems]


def problems(name: str, text: str) -> list[str]:
    """Everything that is wrong with a file, read alone."""
    try:
        read(name, text)
    except Exception as error:
        return [f"{name}: {type(error).__name__}: {error}", *blemishes(name, text)]
    return blemishes(name, text)
