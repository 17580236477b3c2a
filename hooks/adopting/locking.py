"""What `make env-update` would refuse in a project, by the words of what refuses it: couplet.lock, of this checkout."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2] / "template/.couplet"))

from couplet import settings
from couplet.errors import UserError, without_password
from couplet.lock import cooldown, environment, pyproject

HEAD = {"name": "x", "version": "0"}


def pieces(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a pyproject.toml in parts that can be wrong by themselves, and then whole: of several errors a look finds the first."""
    project, groups = document.get("project", {}), document.get("dependency-groups", {})
    lines = [project.get("dependencies", []), *project.get("optional-dependencies", {}).values(), *groups.values()]
    yield from ({"project": {**HEAD, "dependencies": [line]}} for listed in lines for line in listed)
    yield from ({key: document[key]} for key in document if key not in ("project", "tool"))
    yield from ({"project": {**HEAD, key: value}} for key, value in project.items() if "dependencies" not in key)
    for tool, table in document.get("tool", {}).items():
        parts = table.items() if isinstance(table, dict) else ()
        for key, value in parts:
            one_by_one = value if tool == "poetry" and key == "source" else [value]
            yield from ({"tool": {tool: {key: [one] if one_by_one is value else one}}} for one in one_by_one)
    yield document


def said(look: Callable[[], object]) -> str:
    """Return what is refused in a look, in one line; '' for nothing."""
    try:
        look()
    except UserError as error:
        return " ".join(without_password(str(error)).split())
    return ""


def refused(project: Path, conda: bool) -> list[str]:
    """Return a line for each thing that locking would refuse before it solves anything, the file first."""
    document = tomllib.loads((project / "pyproject.toml").read_text())
    found = [said(lambda: settings.check_form(document))]
    if not found[0]:
        found += [said(lambda part=part: pyproject.check(part)) for part in pieces(document)]  # type: ignore[misc]
        found += [said(lambda: cooldown.read(document)), said(lambda: settings.groups(document))]
    if conda:
        found += of_environment(project)
    return list(dict.fromkeys(filter(None, found)))


def of_environment(project: Path) -> list[str]:
    """Return the same of environment.yml: what is refused is taken out of the text, and the rest is looked at again."""
    file, found = project / "environment.yml", []
    text = file.read_text()
    try:
        while line := said(lambda: environment.read(project)):
            found.append(line)
            named = re.match(r"environment\.yml, line (\d+): ", line)
            if not named or found.count(line) > 1:
                break
            lines = file.read_text().splitlines()
            at = int(named[1]) - 1
            depth = len(lines[at]) - len(lines[at].lstrip())
            below = [len(one) - len(one.lstrip()) > depth for one in lines[at + 1 :]] + [False]
            # as many lines as before, so that the next error has its number
            lines[at : at + 1 + below.index(False)] = [""] * (1 + below.index(False))
            file.write_text("\n".join(lines) + "\n")
    finally:
        file.write_text(text)
    return sorted(found, key=lambda line: int((re.findall(r"line (\d+): ", line) or [0])[0]))
