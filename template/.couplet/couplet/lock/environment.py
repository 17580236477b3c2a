"""environment.yml and environment.dev.yml: channels and conda's specs, each with its line.

What would be ignored is refused by name.
"""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from rattler import MatchSpec
from rattler.exceptions import InvalidMatchSpecError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from couplet.errors import UserError
from couplet.lock.stamp import DEV, ENVIRONMENT
from couplet.lock.stamp import environment as text_of

REFUSED = {
    "variables": f"Both images set the same ones: write them into {ENVIRONMENT}.",
    "platforms": "The platforms are an answer of the template's: see .copier-answers.yml, and `make update`.",
    "channel_priority": "It is always strict: take the line out.",
    "category": f"Take the line out. What is for dev alone goes into {DEV}.",
    "pip": "What comes from PyPI goes into `dependencies` in pyproject.toml.",
    "pip_repositories": "An index for Poetry is [[tool.poetry.source]] in pyproject.toml.",
}
"""Keys that other tools know, and the way out."""
PLACEHOLDER = (r"\{[%{]|\$[{\w]", "has a variable in it, which nothing here replaces: write its value.")
HINTS = (
    PLACEHOLDER,
    (r"^-", "is an option of conda's or pip's, which means nothing here."),
    (r";", "has a marker of pip's. For one system alone, write a comment after it: `# [linux]`."),
    (
        r"\[(.*,)?\s*(?!(version|build|build_number|md5|sha256|license)\b)\w+\s*=",
        "has a key in brackets that would be ignored. Known keys are version, build, build_number, md5, sha256 and license; a channel "
        "goes before it: `channel::name`.",
    ),
    (
        r"^[^[]*([=<>!~]|\w\s+\w)[^[]*\[(.*,)?\s*version\s*=",
        "has two versions, and the one in front of the brackets would be ignored.",
    ),
    (r"\[[\w ,.-]+\]", "asks for extras, which only PyPI's packages have: it goes into `dependencies` in pyproject.toml."),
    (r"://|^[./~]|\.(conda|tar\.bz2)$", "is an archive's address. Name its channel under `channels`, and the package here."),
    (
        r"^[^=<>!~\[ ]*:",
        "has one colon. A version goes after `=` (`name=1.0`), a channel before two colons (`channel::name`).",
    ),
)
"""What rattler would read otherwise than it is meant, or not at all, and the way out. Of several the first is said."""
PIP = (
    (
        r"(-r|--requirement|-c|--constraint)\b",
        "write the lines of that file into `dependencies` in pyproject.toml.",
    ),
    (r"-(-trusted|-pre|-no-|-only|-prefer|-use)", "options of pip mean nothing to Poetry."),
    (r"(-e\s*|--editable[ =]\s*)?[.]/?(\[.*)?$", "the project itself is installed anyway."),
    (
        r".*\b(git|hg|svn|bzr)\+|(-e|--editable)\b|[./~]|.*\bfile:",
        "no hash covers a repository or a folder: publish a wheel of it.",
    ),
    (r"-", "an index is [[tool.poetry.source]] in pyproject.toml."),
    ("", "write it into `dependencies` in pyproject.toml."),
)
"""What a line of pip's section begins with, and where it goes. The first that fits is said."""
SELECTORS = {
    "linux-64": {"unix", "linux", "linux64"},
    "linux-aarch64": {"unix", "linux", "aarch64"},
    "osx-arm64": {"unix", "osx", "arm64"},
}
"""The comments `# [linux]` behind a dependency that hold on each platform, as conda-lock has them."""
KNOWN = sorted(set().union(*SELECTORS.values()))
SYSTEMS = rf"(?:not\s+)?(?:py\s*[<>=!]|(?:{'|'.join(KNOWN)}|win(?:32|64)?|linux32|osx64|x86(?:_64)?)\b)"
SELECTOR = re.compile(rf"#(?:\s*\[\s*([^]]*?)\s*\]|.*\[\s*({SYSTEMS}[^]]*?)\s*\])(?!\()")
"""A comment that begins with brackets, which are no link, or has further on some that begin as a selector does."""


class RefusedError(Exception):
    """A line of a file, and what is wrong with it."""


class Spec(NamedTuple):
    """One dependency: its text, its line (from 1), what conda reads in it, its selector ('' without one), and its file."""

    text: str
    line: int
    match: MatchSpec
    selector: str
    file: str = ENVIRONMENT

    @property
    def name(self) -> str:
        """conda's name of the package."""
        return self.match.name.normalized

    def __str__(self) -> str:
        return f"{'' if self.file == ENVIRONMENT else f'{self.file}, '}line {self.line}: {self.text}"


class Environment(NamedTuple):
    """What both files ask for. No channels: environment.yml names none. `variables` are set at activation."""

    channels: list[str]
    specs: list[Spec]
    variables: dict[str, str]

    def on(self, subdir: str) -> list[Spec]:
        """Return the dependencies of a platform."""
        return [spec for spec in self.specs if not spec.selector or spec.selector in SELECTORS[subdir]]

    def runtime(self, subdir: str) -> list[str]:
        """Return conda's names of the dependencies of a platform that environment.yml has."""
        return [spec.name for spec in self.on(subdir) if spec.file == ENVIRONMENT]


def refuse(line: int, what: str) -> NoReturn:
    """Raise the error for a line; read() adds the file."""
    raise RefusedError(f"line {line}: {what}")


def _line(table: CommentedMap, key: Any) -> int:
    """Return the line of a key, or of its table where a merge key (`<<`) brings it."""
    return int((table.lc.data or {}).get(key, [table.lc.line])[0]) + 1


def _listed(document: CommentedMap, key: str) -> list[tuple[Any, int]]:
    """Return [(item, its line)] of a list in the file, [] where the key is missing or has nothing."""
    items = document.get(key)
    if not items:
        return []
    if not isinstance(items, CommentedSeq):
        refuse(_line(document, key), f"`{key}` is not a list. Example of a line: `  - name`.")
    return [(item, items.lc.item(index)[0] + 1) for index, item in enumerate(items)]


def _table(item: dict[Any, Any], line: int, shown: str) -> NoReturn:
    """Refuse what is a table where a dependency is expected; `shown` is how it is written."""
    key, value = next(iter(item.items()), ("", None))
    if key == "pip":
        asked = [str(one) for one in (value if isinstance(value, list) else [value]) if one]
        ways = [next(way for begins, way in PIP if re.match(begins, one)) for one in asked]
        way = "\n".join([" What comes from PyPI is Poetry's:", *dict.fromkeys(ways), "Then"]) if ways else " To repair it,"
        refuse(line, f"pip: asks for {', '.join(asked) or 'nothing'}.{way} take the section out here, and run `make env-update`.")
    if str(key).startswith("sel("):
        ways = [f"`- {one}  # [{str(key)[4:].rstrip(')')}]`" for one in (value if isinstance(value, list) else [value])]
        refuse(line, f"`{shown}` is not known here. For one system alone, write {' and '.join(ways)}.")
    if re.search(PLACEHOLDER[0], shown):
        refuse(line, f"`{shown}` {PLACEHOLDER[1]}")
    way = "Example: `- numpy>=2`."
    if len(item) == 1 and isinstance(value, (str, int, float)) and key != "name":
        plain = re.sub("[\"']", "", shown)
        plain = re.sub(":: *", "::", plain) if "::" in plain else re.sub(": *([<>=!~]?)", lambda sign: sign[1] or "=", plain)
        way = f"Write `- {plain}`."
    refuse(line, f"`{shown}` is not a dependency. {way}")


def spec_of(item: Any, line: int, written: str) -> Spec:
    """Return one dependency; `written` is the whole line. Raises UserError for what conda cannot read."""
    shown = re.sub(r"^\s*-\s+|\s+#.*$", "", written).strip() if re.match(r"\s*-\s+[^#\s]", written) else str(item)
    if isinstance(item, dict):
        _table(item, line, shown)
    if not isinstance(item, str) or not item.strip():
        what = "an empty item" if item is None else f"`{shown}`"
        refuse(line, f"{what} is not a dependency. Example: `- numpy>=2`.")
    found = SELECTOR.search(written)
    selector = (found[1] or found[2] or "") if found else ""
    if selector not in ("", *KNOWN, "win", "win64"):
        way = "Take it out, or write the dependency once for each of these."
        refuse(line, f"`# [{selector}]` is not a selector that is known here ({', '.join(KNOWN)}). {way}")
    text = item.split(" #")[0].strip()
    channel, _, package = text.rpartition("::")
    if channel:
        _channel(channel, line)
    for pattern, way in HINTS:
        if re.search(pattern, package):
            refuse(line, f"`{text}` {way}")
    try:
        match = MatchSpec(text, strict=False)
        if re.match(r"[^^].*[<>=!,\s]|[<>=!,]", match.build or ""):
            way = "Put a comma between conditions (`>=1,<2`), and each dependency into a line of its own."
            refuse(line, f"`{text}` has `{match.build}` where a build stands. {way}")
        return Spec(text, line, match, selector)
    except InvalidMatchSpecError as error:
        why = f"`{text}` is not a spec that conda can read ({str(error).splitlines()[0]})."
        refuse(line, f"{why}\nconda can read these: numpy, numpy>=2,<3, numpy=2.1, numpy=2.1=py313*.")


def _channel(item: Any, line: int, written: str = "") -> str:
    """Return the name or address of a channel; `written` is its line, '' for that of a dependency. Raises RefusedError."""
    name, why = str(item).strip(), ""
    if not isinstance(item, str) or not re.fullmatch(r"\w+://[^\s{}<>$,]+|\w[\w./-]*", name) or name == "local":
        why = "is not a channel. Example: `- conda-forge`; a folder of this machine is none."
    elif found := re.search(r"/((linux|osx|win)-\w+|noarch)/?$", name):
        why = f"names a platform. A channel has all of them: write it without {found[0]}."
    elif name == "defaults" and not written:
        why = "stands for several channels. Name one: `pkgs/main::name`."
    elif SELECTOR.search(written):
        why = "has a selector after it. A channel is for all platforms: take the comment out."
    if why:
        refuse(line, f"`{name}` {why}")
    return name


def read(project: Path) -> Environment:
    """Return what environment.yml and, where there is one, environment.dev.yml ask for.

    Raises UserError with file and line for whatever is not understood.
    """
    channels, specs, variables = _read(project, ENVIRONMENT)
    found = Environment([name for name, _ in channels if name != "nodefaults"], specs, variables)
    if (project / DEV).is_file():
        channels, specs, _ = _read(project, DEV)
        for name, line in channels:
            if name not in (*found.channels, "nodefaults"):
                raise UserError(f"{DEV}, line {line}: the channels of {ENVIRONMENT} are used for both. Name `{name}` there.")
        found.specs.extend(spec._replace(file=DEV) for spec in specs)
    return found


def _variables(document: CommentedMap) -> dict[str, str]:
    """Return what `variables` sets, as text, as conda has it."""
    found, table = {}, document.get("variables")
    if not table:
        return {}
    if not isinstance(table, CommentedMap):
        refuse(_line(document, "variables"), "`variables` is not a table. Example of a line: `  NAME: value`.")
    for name, value in table.items():
        line = _line(table, name)
        if not re.fullmatch(r"[A-Za-z_]\w*", str(name)) or name == "PATH":
            refuse(line, f"`{name}` is not a variable that conda can set.")
        if isinstance(value, bool) or not isinstance(value, (str, int, float)) or "\n" in str(value):
            refuse(line, f"`{name}: {'…' if isinstance(value, dict) else value}` is not text on one line. Write it in quotes.")
        if "'" in str(value):
            refuse(line, f"`{name}: {value}` has an apostrophe, which conda's activation cannot set.")
        found[name] = str(value if isinstance(value, str) else float(value) if isinstance(value, float) else int(value))
    return found


def _read(project: Path, name: str) -> tuple[list[tuple[str, int]], list[Spec], dict[str, str]]:
    """Return the channels, each with its line, the dependencies and the variables of one file. Raises UserError."""
    try:
        return _parsed(text_of(project, name), name)
    except RefusedError as error:
        raise UserError(f"{name}, {error}") from None


def _parsed(written: str, name: str) -> tuple[list[tuple[str, int]], list[Spec], dict[str, str]]:
    """Return the same of a file's text. Raises RefusedError, and UserError for what is no environment file."""
    try:
        document = YAML().load(StringIO(written))
    except MarkedYAMLError as error:
        # of a line that has no colon, the problem is found in the next
        mark = error.context_mark if "simple key" in (error.context or "") else error.problem_mark
        line = mark.line if mark else 0
        way = "Example of an item: `  - numpy>=2`, with blanks and no tab."
        if re.search(PLACEHOLDER[0], "".join(written.splitlines()[line : line + 1])):
            way = f"It {PLACEHOLDER[1]}"
        refuse(line + 1, f"this is not valid YAML: {error.problem or error.context}. {way}")
    except YAMLError as error:
        raise UserError(f"{name} is not valid YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(document, CommentedMap):
        raise UserError(f"{name} has no keys: it needs `channels:` and `dependencies:`, each with a list.")
    variables = _variables(document) if name == ENVIRONMENT else {}
    for key in document:
        if key not in ("name", "channels", "dependencies", "prefix") and (key != "variables" or name != ENVIRONMENT):
            known = "Known are name, channels, dependencies and variables."
            refuse(_line(document, key), f"`{key}` would do nothing here. {REFUSED.get(str(key).replace('-', '_'), known)}")
    lines = written.splitlines()
    specs = [spec_of(item, line, lines[line - 1]) for item, line in _listed(document, "dependencies")]
    if not specs:
        way = "Name Python at least: `  - python=3.13`." if name == ENVIRONMENT else f"Take {name} out."
        raise UserError(f"{name}: `dependencies` lists nothing. {way}")
    channels = [(_channel(item, line, lines[line - 1]), line) for item, line in _listed(document, "channels")]
    return channels, specs, variables
