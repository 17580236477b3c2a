"""environment.yml: channels and conda's specs, each with its line. What would be ignored is refused by name."""

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
from couplet.lock.stamp import environment as text_of

REFUSED = {
    "variables": "Set them in the image: ENV in the Dockerfile.",
    "platforms": "The platforms are an answer of the template's: see .copier-answers.yml, and `make update`.",
    "channel_priority": "It is always strict: take the line out.",
    "category": "Take the line out. What is for dev alone goes into the group `dev` of pyproject.toml.",
}
"""Keys that other tools know, and the way out."""
SELECTORS = {
    "linux-64": {"unix", "linux", "linux64"},
    "linux-aarch64": {"unix", "linux", "aarch64"},
    "osx-arm64": {"unix", "osx", "arm64"},
}
"""The comments `# [linux]` behind a dependency that hold on each platform, as conda-lock has them."""


class Spec(NamedTuple):
    """One dependency: its text, its line (from 1), what conda reads in it, and its selector ('' without one)."""

    text: str
    line: int
    match: MatchSpec
    selector: str

    @property
    def name(self) -> str:
        """conda's name of the package."""
        return self.match.name.normalized

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}"


class Environment(NamedTuple):
    """What environment.yml asks for. No channels: it names none."""

    channels: list[str]
    specs: list[Spec]

    def on(self, subdir: str) -> list[Spec]:
        """Return the dependencies of a platform."""
        return [spec for spec in self.specs if not spec.selector or spec.selector in SELECTORS[subdir]]


def refuse(line: int, what: str) -> NoReturn:
    """Raise the UserError for a line of environment.yml."""
    raise UserError(f"environment.yml, line {line}: {what}")


def _listed(document: CommentedMap, key: str) -> list[tuple[Any, int]]:
    """Return [(item, its line)] of a list in environment.yml, [] where the key is missing or has nothing."""
    items = document.get(key)
    if not items:
        return []
    if not isinstance(items, CommentedSeq):
        refuse(document.lc.key(key)[0] + 1, f"`{key}` is no list. A line of it looks so: `  - name`.")
    return [(item, items.lc.item(index)[0] + 1) for index, item in enumerate(items)]


def _table(item: dict[Any, Any], line: int) -> NoReturn:
    """Refuse what is a table where a dependency is expected."""
    key, value = next(iter(item.items()), ("", None))
    if key == "pip":
        asked = [str(one) for one in value or ()] if isinstance(value, list) or not value else [str(value)]
        way = "write it into `dependencies` in pyproject.toml, take the section out here, then run `make env-update`."
        if any(one.startswith("-r") for one in asked):
            way = f"the lines of that file are meant: {way}"
        if any(one.startswith("-e") for one in asked):
            way = f"the project itself (-e) is installed anyway; as to the rest, {way}"
        refuse(line, f"pip: asks for {', '.join(asked) or 'nothing'}. What comes from PyPI is Poetry's:\n{way}")
    if str(key).startswith("sel("):
        name = str(key)[4:].rstrip(")")
        refuse(line, f"`{key}: {value}` is not known here. For one system alone, write `- {value}  # [{name}]`.")
    refuse(line, f"`{key}: {value}` is no dependency. Write `- {key}={value}`.")


def spec_of(item: Any, line: int, written: str) -> Spec:
    """Return one dependency; `written` is the whole line. Raises UserError for what conda cannot read."""
    if isinstance(item, dict):
        _table(item, line)
    if not isinstance(item, str) or not item.strip():
        what = "an empty item" if item is None else f"`{item}`"
        refuse(line, f"{what} is no dependency. One looks so: `- numpy>=2`.")
    selector = "".join(re.findall(r"#\s*\[([^]]*)\]\s*$", written))
    known = set().union(*SELECTORS.values())
    if selector and selector not in known | {"win", "win64"}:
        refuse(line, f"`# [{selector}]` is no selector that is known here ({', '.join(sorted(known))}).")
    text = item.split(" #")[0].strip()
    if "://" in text.split("::")[-1].split("[")[0]:
        refuse(line, f"`{text}` is an archive's address. Name its channel under `channels`, and the package here.")
    try:
        return Spec(text, line, MatchSpec(text, strict=False), selector)
    except InvalidMatchSpecError as error:
        why = f"`{text}` is no spec that conda can read ({str(error).splitlines()[0]})."
        refuse(line, f"{why}\nSome that are: numpy, numpy>=2,<3, numpy=2.1, numpy=2.1=py313*.")


def read(project: Path) -> Environment:
    """Return what environment.yml asks for. Raises UserError with the line for whatever is not understood."""
    written = text_of(project)
    try:
        document = YAML().load(StringIO(written))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        refuse(mark.line + 1 if mark else 1, f"this is no YAML: {error.problem or error.context}.")
    except YAMLError as error:
        raise UserError(f"environment.yml is no YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(document, CommentedMap):
        raise UserError("environment.yml has no keys: it needs `channels:` and `dependencies:`, each with a list.")
    for key in document:
        if key not in ("name", "channels", "dependencies", "prefix"):
            known = "Known are name, channels and dependencies."
            refuse(document.lc.key(key)[0] + 1, f"`{key}` would do nothing here. {REFUSED.get(str(key), known)}")
    lines = written.splitlines()
    specs = [spec_of(item, line, lines[line - 1]) for item, line in _listed(document, "dependencies")]
    if not specs:
        raise UserError("environment.yml: `dependencies` lists nothing. Name Python at least: `  - python=3.13`.")
    channels = []
    for item, line in _listed(document, "channels"):
        if not isinstance(item, str):
            refuse(line, f"`{item}` is no channel. One looks so: `- conda-forge`.")
        channels.append(item.strip())
    return Environment([name for name in channels if name != "nodefaults"], specs)
