"""Dependencies that come from no index, and of which no image can be made: git repositories and paths."""

import re
import tomllib
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
    lists = [project.get("dependencies", ()), *project.get("optional-dependencies", {}).values()]
    for line in sum([list(lines) for lines in [*lists, *document.get("dependency-groups", {}).values()]], []):
        # a group may include another: {include-group = "..."}
        if isinstance(line, str) and (found := REQUIREMENT.match(line)):
            raise refuse("pyproject.toml", found[1], "path" if found[3] else "git")
    groups = [poetry, *poetry.get("group", {}).values()]
    tables = [group.get(key, {}) for group in groups for key in ("dependencies", "dev-dependencies")]
    for name, said in [item for table in tables for item in table.items()]:
        for one in said if isinstance(said, list) else [said]:
            for kind in WHY:
                if isinstance(one, dict) and kind in one:
                    raise refuse("pyproject.toml", name, kind)
