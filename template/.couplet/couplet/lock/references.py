"""What pyproject.toml must not ask for: what comes from no index, and what Poetry would leave out without a word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

from couplet.errors import UserError
from couplet.formats.names import normalise

WHY = {
    "git": "comes from a git repository, which no hash can vouch for.\nBuild a wheel of it and name that one's address "
    "in pyproject.toml (NAME @ https://…/NAME-1.0-py3-none-any.whl), or publish it to an index.",
    "path": "comes from a path of your machine, which the image does not have.\n"
    "Move its code into src/, or publish it to an index.",
}
REQUIREMENT = re.compile(r"\s*([\w.-]+)\s*(?:\[[^]]*\])?\s*@\s*(?:(git|hg|svn|bzr)\+|(file):)")


def refuse(where: str, name: str, kind: str) -> UserError:
    """Return the error for a dependency `name`, found in `where`, of a kind of WHY."""
    return UserError(f"{where}: {name} {WHY[kind]}")


def _tables(poetry: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (key, group, its table) for what Poetry's own form lists."""
    yield "tool.poetry.dependencies", "main", poetry.get("dependencies", {})
    yield "tool.poetry.dev-dependencies", "dev", poetry.get("dev-dependencies", {})
    for group, table in poetry.get("group", {}).items():
        yield f"tool.poetry.group.{group}.dependencies", group, table.get("dependencies", {})


def check(document: dict[str, Any]) -> None:
    """Raise UserError where a pyproject.toml names such a dependency, whoever wants it."""
    project, poetry = document.get("project", {}), document.get("tool", {}).get("poetry", {})
    extras, groups = project.get("optional-dependencies", {}), document.get("dependency-groups", {})
    for line in chain(project.get("dependencies", ()), *extras.values(), *groups.values()):
        # a group may include another: {include-group = "..."}
        if isinstance(line, str) and (found := REQUIREMENT.match(line)):
            raise refuse("pyproject.toml", found[1], "path" if found[3] else "git")
    # What the standard tables list, Poetry reads there; its own then add a source or so to a name, and no name.
    listed = {
        "main": [*project.get("dependencies", ()), *chain(*extras.values())] if "dependencies" in project else None,
        **groups,
    }
    for key, group, table in _tables(poetry):
        standard = listed.get(group)
        names = {
            normalise(re.split(r"[^\w.-]", line.strip(), maxsplit=1)[0])
            for line in standard or ()
            if isinstance(line, str)
        }
        for name, said in table.items():
            for one in said if isinstance(said, list) else [said]:
                kind = next((kind for kind in WHY if isinstance(one, dict) and kind in one), None)
                if kind:
                    raise refuse("pyproject.toml", name, kind)
            if standard is not None and normalise(name) not in {*names, "python"}:
                where = "project.dependencies" if group == "main" else f"dependency-groups.{group}"
                raise UserError(
                    f"pyproject.toml: {name} stands in [{key}] alone, and Poetry takes the names from {where}: "
                    "it would be in no lock.\n"
                    f"Move it to {where}, then run `make env-update`."
                )
    if "extras" in poetry and "optional-dependencies" in project:
        raise UserError(
            "pyproject.toml has [tool.poetry.extras] beside [project.optional-dependencies], and reads the latter.\n"
            "Move what is in it there, then run `make env-update`."
        )
