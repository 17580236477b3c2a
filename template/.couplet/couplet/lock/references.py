"""Dependencies that come from no index, and of which no image can be made: git repositories and paths."""

import re
import tomllib
from itertools import chain
from pathlib import Path

from errors import BuildError

WHY = {
    "git": "comes from a git repository, which no hash can vouch for.\nBuild a wheel of it and name that one's address "
    "in pyproject.toml (NAME @ https://…/NAME-1.0-py3-none-any.whl), or publish it to an index.",
    "path": "comes from a path of your machine, which the image does not have.\n"
    "Move its code into src/, or publish it to an index.",
}
REQUIREMENT = re.compile(r"\s*([\w.-]+)\s*(?:\[[^]]*\])?\s*@\s*(?:(git|hg|svn|bzr)\+|(file):)")


def refuse(where, name, kind):
    """Return the BuildError for a dependency `name`, found in `where`, of a kind of WHY."""
    return BuildError(f"{where}: {name} {WHY[kind]}")


def check(path):
    """Raise BuildError where a pyproject.toml (TOML that can be read) names such a dependency, whoever wants it."""
    document = tomllib.loads(Path(path).read_text())
    project, poetry = document.get("project", {}), document.get("tool", {}).get("poetry", {})
    extras, groups = project.get("optional-dependencies", {}), document.get("dependency-groups", {})
    for line in chain(project.get("dependencies", ()), *extras.values(), *groups.values()):
        # a group may include another: {include-group = "..."}
        if isinstance(line, str) and (found := REQUIREMENT.match(line)):
            raise refuse("pyproject.toml", found[1], "path" if found[3] else "git")
    tables = [poetry.get("dev-dependencies", {})]
    tables += [table.get("dependencies", {}) for table in (poetry, *poetry.get("group", {}).values())]
    for name, said in chain.from_iterable(table.items() for table in tables):
        for one in said if isinstance(said, list) else [said]:
            kind = next((kind for kind in WHY if isinstance(one, dict) and kind in one), None)
            if kind:
                raise refuse("pyproject.toml", name, kind)
