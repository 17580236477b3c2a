"""Write docs/messages.md: every text that the template can show a user, and the exit codes, collected from the sources.

A text is collected where it is raised, printed or given to `sys.exit`; and wherever else it reads as a sentence, since a
message may be put together from parts. Docstrings, comments and the help of options are none.

    python -m tests.harness.messages            write it
    python -m tests.harness.messages --check    end with 1 where it is not what it would be written as
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from tests.harness.generated import REPOSITORY, write
from tests.harness.manifest import Loader

PAGE = "docs/messages.md"
GROUPS = {
    "Answering the questions": ("copier.yml", "questions/"),
    "Adopting a repository": ("hooks/",),
    "Locking": ("couplet/lock/", "host/env-update.sh", "formats/"),
    "Building": ("couplet/install/", "couplet/facts.py", "host/docker-", "host/base-images.sh", "template/Dockerfile", "importable.py", "activation.py", "kernel.py"),
    "In a container": ("couplet/image/", "template/src/", "host/gpus.sh", "host/smoke.sh", "host/cluster.sh", "host/hpc.sh"),
    "Report, SBOM and audit": ("couplet/inspect/", "host/report.sh", "host/audit.sh"),
    "Updating": ("couplet/update.py", "couplet/doctor.py", "host/update.sh"),
    "Publishing and deploying": ("host/publish.sh", "host/deploy.sh", "saturn", "postBuild"),
    "Anywhere": ("",),
}  # fmt: skip
"""When a message is met -> parts of the paths of files with such messages. The first that fits decides."""
CODES = {
    0: "All is well.",
    1: "An error that you can repair: the message says how. `make audit`: a known vulnerability was found. An update or `make doctor`: something is left for you to do.",
    2: "`make`, for any error of a command that it runs. `adopt.py`: the call was wrong.",
    3: '`adopt.py`: done, except for what is listed under "To look at".',
    64: "The call, or a table in pyproject.toml that it uses, is wrong.",
    69: "Something that is needed does not answer: Docker, a registry, the audit's service.",
    74: "Docker did not export all of the lock files.",
    75: "A file changed while the locks were made: run the command again.",
    127: "The program is not in the environment any more.",
    130: "Interrupted (Ctrl-C).",
    143: "Terminated.",
}
"""Exit code -> what it means. Other codes are those of the program that was run: docker's, git's, the container's own."""
ASKED = ("add_argument", "ArgumentParser", "compile", "fullmatch", "match", "search", "sub", "split", "findall", "partition")
"""Calls whose texts are no messages: patterns, and the help of options."""
PROGRAMS = {
    "VERBS",
    "SETTINGS",
    "STYLE",
    "STRICT",
    "LOGIN",
    "CONDA_SHELL",
    "INTERACTIVE",
    "START",
    "LICENCES",
    "SPELT",
    "ASK",
    "folders",
    "help_out",
}
"""Names of values that read like sentences and are programs, styles, patterns, or what --help shows."""


class Message(NamedTuple):
    """A text, and how it reaches the user: as an "error", "shown" beside the work, or as a "part" of another one."""

    kind: str
    text: str


def prose(text: str) -> bool:
    """Return whether a text reads as a sentence: three words of letters in a row, and little that only code has."""
    words = re.sub(r"[`\[\]]", " ", text).split()
    plain = [bool(re.fullmatch(r"[(\"']*[A-Za-z][a-z']+[,.:;?)\"']*|an?|I", word)) for word in words]
    runs = any(all(plain[at : at + 3]) for at in range(len(plain) - 2))
    return runs and not re.search(r"^import |^#!|^\s*<|^# |^==> |^rm |^\"\"\"", text)


# Python


def placeholder(node: ast.expr) -> str:
    """Return what stands for an expression in a message: {name}, or its own texts where it chooses between some."""
    match node:
        case ast.Constant(value=str()) | ast.JoinedStr() | ast.BinOp(op=ast.Add() | ast.Mod()):
            return text_of(node)
        case ast.IfExp(body=body, orelse=other):
            both = [placeholder(body), placeholder(other)]
            return f"[{'|'.join(filter(None, both))}]" if any(" " in text for text in both) else "{…}"
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return f"{{{name}}}"
        case ast.Subscript(value=value):
            return placeholder(value)
        case ast.Starred(value=value) | ast.Await(value=value) | ast.NamedExpr(target=value):
            return placeholder(value)
        case ast.Call(func=ast.Attribute(attr="join", value=ast.Constant(value=str(glue))), args=[given]):
            if isinstance(given, ast.List | ast.Tuple):
                return glue.join(placeholder(each) for each in given.elts)
            return placeholder(given)
        case ast.GeneratorExp(elt=element) | ast.ListComp(elt=element):
            return placeholder(element)
        case ast.Call(func=ast.Name(id="map"), args=[_, given]):
            return placeholder(given)
        case ast.Call(func=ast.Name(id="str" | "len" | "sorted" | "set"), args=[given, *_]):
            return placeholder(given)
        case ast.Call(func=ast.Attribute(value=value, attr="strip" | "splitlines" | "format" | "get" | "keys" | "pop")):
            return placeholder(value)
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return f"{{{name}}}"
    return "{…}"


def text_of(node: ast.expr) -> str:
    """Return the text of a string expression, with {name} for what is put in."""
    match node:
        case ast.Constant(value=value):
            return str(value)
        case ast.JoinedStr(values=values):
            return "".join(text_of(each.value if isinstance(each, ast.FormattedValue) else each) for each in values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return placeholder(left) + placeholder(right)
        case ast.BinOp(left=left, op=ast.Mod()):
            return placeholder(left)
    return placeholder(node)


class Collector(ast.NodeVisitor):
    """Collects the messages of a module, in the order in which they stand there."""

    def __init__(self) -> None:
        self.found: list[Message] = []

    def add(self, kind: str, node: ast.expr) -> None:
        """Add the text of an expression, where it has one of its own."""
        text = text_of(node).strip("\n")
        if re.search(r"[A-Za-z]{2}", re.sub(r"{[^{}]*}", "", text)) and re.search(r"[ {:]", text):
            self.found.append(Message(kind, text))

    def visit_Expr(self, node: ast.Expr) -> None:
        """Pass by docstrings."""
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign | ast.AnnAssign) -> None:
        """Pass by what is named in PROGRAMS."""
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if not any(isinstance(target, ast.Name) and target.id in PROGRAMS for target in targets):
            self.generic_visit(node)

    visit_AnnAssign = visit_Assign

    def visit_Compare(self, node: ast.Compare) -> None:
        """Pass by what a program's output is compared with."""

    def visit_Raise(self, node: ast.Raise) -> None:
        """Take what is raised."""
        if isinstance(node.exc, ast.Call) and node.exc.args:
            self.add("error", node.exc.args[0])
            self.inner(node.exc.args[0])

    def inner(self, node: ast.expr) -> None:
        """Take the parts of an expression that are not in its own text: what is looped over, or calls."""
        for each in ast.walk(node):
            if isinstance(each, ast.Call) and not (isinstance(each.func, ast.Attribute) and each.func.attr == "join"):
                for argument in each.args:
                    if not isinstance(argument, ast.GeneratorExp):
                        self.visit(argument)

    def visit_Call(self, node: ast.Call) -> None:
        """Take what is printed or ends the program; pass by patterns and the help of options."""
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in ASKED and not isinstance(node.func, ast.Name):
            return
        if called in ("print", "write_error_line", "exit", "error") and node.args:
            kind = "error" if called in ("exit", "error") else "shown"
            for argument in node.args:
                self.add(kind, argument)
                self.inner(argument)
            return
        self.generic_visit(node)

    def part(self, node: ast.expr) -> None:
        """Take a text that stands elsewhere, where it reads as a sentence."""
        if prose(text_of(node)):
            self.add("part", node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Take an f-string that reads as a sentence."""
        self.part(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        """Take a string that reads as a sentence."""
        if isinstance(node.value, str):
            self.part(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """Take texts that are added as one."""
        if isinstance(node.op, ast.Add) and prose(text_of(node)):
            self.part(node)
        else:
            self.generic_visit(node)


def without_jinja(text: str) -> str:
    """Return a template as a program: {{ name }} is a name, and of two branches both are there."""
    return re.sub(r"{{-?\s*([a-z_]+)[^}]*}}", r"\1", re.sub(r"{%.*?%}|{#.*?#}", "", text, flags=re.S))


def of_python(text: str) -> list[Message]:
    """Return the messages of a Python file."""
    collector = Collector()
    collector.visit(ast.parse(text))
    return collector.found


# Shell

STRING = r""""(?:[^"\\$]|\\.|\$\((?:[^()]|\([^()]*\))*\)|\$)*"|'[^']*'"""


def of_shell(text: str) -> list[Message]:
    """Return the messages of a shell script, a Makefile or a Dockerfile: strings that read as sentences."""
    found = []
    code = re.sub(rf"({STRING})|(?:(?<=\s)|^)#.*", lambda match: match[1] or "", text, flags=re.M)
    for match in re.finditer(rf"(?:{STRING})(?:(?:\s|\\\n)+(?:{STRING}))*", code):
        strings = [unquoted(each[0]) for each in re.finditer(STRING, match[0])]
        start = code.rfind("\n", 0, match.start()) + 1
        line = code[start : match.start()]
        whole = ("\n" if re.search(r"printf|fail", line) else " ").join(filter(lambda each: "%s" not in each, strings))
        shown = re.search(r"\b(echo|printf|fail)\b", line)
        if re.search(r"\bgrep\b", line):
            continue
        if prose(whole) or (shown and re.search(r"\b[A-Za-z][a-z]+ [a-z]{2,}\b", whole) and not re.search(r"^-|: Kust", whole)):
            end = code[match.end() :].partition("\n")[0]
            error = ">&2" in end or re.search(r"\bfail\b", line)
            found.append(Message("error" if error else "shown" if shown else "part", whole))
    return found


def unquoted(string: str) -> str:
    """Return the text of a shell string, with {name} for a variable and {…} for what a command prints."""
    if string[0] == "'":
        return string[1:-1]
    text = re.sub(r"\$\((?:[^()]|\([^()]*\))*\)", "{…}", string[1:-1])
    text = re.sub(r"\$\{([A-Za-z0-9_]+):\+([^{}]*?)\}", lambda m: f"[{m[2]}]", text)
    text = re.sub(r"\$\{([A-Za-z0-9_]+)[^{}]*\}|\$([A-Za-z0-9_]+)", lambda match: f"{{{match[1] or match[2]}}}", text)
    return re.sub(r"\\(.)", r"\1", text)


# Copier


def of_questions(text: str) -> list[Message]:
    """Return what Copier says: a question's validators, and the messages before and after it works."""
    found = []
    for document in yaml.load_all(text, Loader):
        for name, about in (document or {}).items():
            if isinstance(about, dict) and "validator" in about:
                pieces = re.split(r"{%.*?%}", about["validator"], flags=re.S)
                found += [Message("error", f"{name}: {' '.join(said(piece).split())}") for piece in pieces if piece.strip()]
            elif name.startswith("_message"):
                found.append(Message("shown", said(re.sub(r"{%.*?%}", "", about)).strip()))
    return found


def said(text: str) -> str:
    """Return a template's text with {name} for what is put in."""
    return re.sub(r"{{\s*([a-z_]+).*?}}", r"{\1}", text)


# The page


def sources(repository: Path) -> list[Path]:
    """Return the files that may have messages, in order."""
    patterns = (
        "copier.yml", "questions/*.yml", "hooks/*.py", "hooks/adopting/*.py", "template/.couplet/**/*.py", "template/.couplet/**/*.sh",
        "template/src/**/*.py", "template/src/**/*.py.jinja", "template/*.jinja",
    )  # fmt: skip
    found = {file for pattern in patterns for file in repository.glob(pattern)}
    return sorted(file for file in found if not re.search(r"\.(md|toml|ya?ml)\.jinja$|answers_file|dashboard", file.name))


def messages(file: Path) -> list[Message]:
    """Return the messages of one source file, each once."""
    text, name = file.read_text(), file.name.removesuffix(".jinja")
    if name != file.name:
        text = without_jinja(text) if name.endswith(".py") else re.sub(r"{[%#].*?[%#]}", "", text, flags=re.S)
    if name.endswith(".py"):
        found = of_python(text)
    elif name.endswith(".yml"):
        found = of_questions(text)
    else:
        found = of_shell(text)
    return list(dict.fromkeys(found))


def group(path: str) -> str:
    """Return when the messages of a file are met."""
    return next(name for name, parts in GROUPS.items() if any(part in path for part in parts))


def pages(repository: Path) -> dict[str, str]:
    """Return {part of the package: the page that its errors name}, as the package has it."""
    tree = ast.parse((repository / "template/.couplet/couplet/errors.py").read_text())
    [found] = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PAGES"
    ]
    return found


def heading(repository: Path, path: str) -> str:
    """Return the line above the messages of a file, with the page that an error of it names."""
    module = path.removeprefix("template/.couplet/").removesuffix(".py").replace("/", ".")
    page = next((page for part, page in pages(repository).items() if module.startswith(part)), None)
    return f"`{path}`, explained on [{page.partition('#')[0]}]({page})" if page and path.endswith(".py") else f"`{path}`"


def codes(text: str) -> set[int]:
    """Return the exit codes that a source file ends with by itself."""
    body = re.sub(r"^\s*#.*", "", text, flags=re.M)
    shell = re.findall(r"\bexit (\d+)\b|\bfail (?:\"[^\"]*\"[\s\\]+)+(\d+)", body)
    python = re.findall(r"^    code = (\d+)$|^ +return (\d+)(?: if|$)|^ +return \d+ if .* else (\d+)$", body, flags=re.M)
    return {int(number) for match in [*shell, *python] for number in match if number}


def ends(file: Path) -> set[int]:
    """Return the exit codes of a source file: shell's, and those of modules that are a command."""
    if not re.search(
        r"\.sh$|Dockerfile|postBuild|errors\.py$|__main__\.py$|update\.py$|adopt\.py$", file.name.removesuffix(".jinja")
    ):
        return set()
    return codes(file.read_text())


def page(repository: Path) -> str:
    """Return the text of docs/messages.md for a working tree of this repository."""
    by_group: dict[str, list[str]] = {name: [] for name in GROUPS}
    used: dict[int, list[str]] = {}
    for file in sources(repository):
        path = file.relative_to(repository).as_posix()
        for code in ends(file):
            used.setdefault(code, []).append(file.name.removesuffix(".jinja"))
        if found := messages(file):
            lines = [line for message in found for line in shown(message)]
            by_group[group(path)] += [heading(repository, path), "", "```text", *lines, "```", ""]
    if unknown := sorted(used.keys() - CODES.keys()):
        raise SystemExit(f"exit code {unknown[0]} of {', '.join(used[unknown[0]])}: say what it means in CODES of {__name__}")
    head = [
        "# Messages",
        "",
        "Written by `python -m tests.harness.messages` from the sources; a test says when it is out of date. `{name}` stands for",
        "a value, `[…|…]` for one of two texts. A message is an `error`, is `shown`, or is a `part` of another one.",
        "An error of the package `couplet` ends with the page that explains it.",
        "",
        "## Exit codes",
        "",
        "| code | means | used by |",
        "| ---: | --- | --- |",
        *(f"| {code} | {text} | {', '.join(sorted(set(used.get(code, ()))))} |" for code, text in CODES.items()),
        "",
        "Any other code is that of the program that was run: docker's, git's, or the container's own.",
        "",
    ]
    for name, body in by_group.items():
        if body:
            head += [f"## {name}", "", *body]
    return "\n".join(head)


def shown(message: Message) -> Iterator[str]:
    """Yield the lines of a message, with its kind before the first."""
    first, *rest = message.text.splitlines()
    yield f"{message.kind:<6} {first}".rstrip()
    for line in rest:
        yield f"       {line}".rstrip()


if __name__ == "__main__":
    raise SystemExit(write("tests.harness.messages", __doc__ or "", PAGE, page(REPOSITORY)))
