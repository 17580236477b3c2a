"""Checks pyproject.toml before it is locked: no git or path dependency, no unknown setting, nothing that Poetry would leave out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

from couplet import settings
from couplet.errors import UserError
from couplet.formats.names import normalise
from couplet.lock.cooldown import EXAMPLES

OPTIONS = ("audit", "virtual-packages", "runtime-groups", "dev-groups", "link-scripts", *EXAMPLES)
"""The keys of [tool.couplet]."""
BACKEND = "poetry.core.masonry.api"
PROJECT = (
    *(
        "name",
        "version",
        "description",
        "readme",
        "requires-python",
        "license",
        "license-files",
        "authors",
        "maintainers",
        "keywords",
    ),
    *("classifiers", "urls", "scripts", "gui-scripts", "entry-points", "dependencies", "optional-dependencies", "dynamic"),
    *("import-names", "import-namespaces"),
)
"""The keys of [project]."""
MOVED = {
    **dict.fromkeys(
        ("package-mode", "packages", "include", "exclude", "group", "source", "extras"), "It goes into [tool.poetry]."
    ),
    **dict.fromkeys(("homepage", "repository", "documentation", "url"), "It goes into [project.urls]."),
    "dev-dependencies": "It is the list dev of [dependency-groups].",
    "python": "It is called requires-python.",
}
"""Keys that have another place, or another name, than [project]."""
ELSEWHERE = (
    *("uv.sources", "uv.dev-dependencies", "pdm.dev-dependencies", "rye.dev-dependencies", "flit.metadata", "setuptools.dynamic"),
    *("setuptools.ext-modules", "pixi.dependencies", "pixi.pypi-dependencies", "pixi.feature", "conda-lock.dependencies"),
    *("uv.index", "uv.constraint-dependencies", "uv.override-dependencies", "uv.exclude-dependencies", "uv.workspace"),
    *("pdm.resolution", "pdm.source", "rye.sources", "pixi.target", "conda-lock.channels", "unidep.dependencies"),
    *("poetry-dynamic-versioning", "poetry-version-plugin", "poetry.requires-plugins"),
)
"""Tables below [tool] that would change what is installed, if what reads them were here."""
WHY = {
    "git": "comes from a git repository, which no hash covers.\nBuild a wheel of it and write its address "
    "into pyproject.toml (NAME @ https://…/NAME-1.0-py3-none-any.whl), or publish it to an index.",
    "path": "comes from a path of your machine, which the image does not have.\n"
    "Move its code into src/, or publish it to an index.",
    "url": "has a user name or a password in its address, which would be in poetry.lock and in the image.\n"
    "Write it without, and the password into netrc, or auth.toml for a source (poetry config http-basic.NAME USER).",
}
WHY["file"] = WHY["path"]
REQUIREMENT = re.compile(
    r"\s*([\w.-]+)\s*(?:\[[^]]*\])?\s*@\s*(?:(?P<git>(?:git|hg|svn|bzr)\+)|(?P<path>file:|(?!\s|\w+://))|(?P<url>\w+://[^/\s]*@))"
)


def dependency_error(where: str, name: str, kind: str) -> UserError:
    """Return the error for a dependency `name`, found in `where`, of a kind of WHY."""
    return UserError(f"{where}: {name} {WHY[kind]}")


def _known(where: str, keys: Iterable[str], known: Sequence[str]) -> None:
    """Refuse a key of a table, `where`, that is not known, with the one that is meant."""
    for key in [key for key in keys if key not in known]:
        close = difflib.get_close_matches(key, known, 1)
        guess = f"Is it {close[0]}?" if close else f"Known are {', '.join(known)}."
        guess = MOVED.get(key, guess) if known is PROJECT else guess
        raise UserError(f"pyproject.toml{where}: {key} is not known. {guess}")


def _elsewhere(document: dict[str, Any]) -> None:
    """Refuse what other programs than Poetry would read, and programs that are none."""
    project, poetry = document.get("project", {}), document.get("tool", {}).get("poetry", {})
    for key in ELSEWHERE:
        table: Any = document.get("tool", {})
        for part in key.split("."):
            table = table.get(part, {}) if isinstance(table, dict) else {}
        if table:
            raise UserError(
                f"pyproject.toml: nothing here reads [tool.{key}], so that it would have no effect.\nTake it out. What you need of it goes into "
                "[project], [dependency-groups] or environment.yml, an index into [[tool.poetry.source]]; a version is written into [project], "
                "and Poetry's plugins are not used."
            )
    for key, old in (("dependencies", "dependencies"), ("optional-dependencies", "extras")):
        if key in project.get("dynamic", ()) and not poetry.get(old):
            raise UserError(f"pyproject.toml: project.dynamic has {key}, and nothing here makes them. Write [project] {key}.")
    system, build = document.get("build-system", {}), poetry.get("build", {})
    backend = system.get("build-backend", "missing, which stands for setuptools" if system else BACKEND)
    script = build.get("script") if isinstance(build, dict) else build
    if settings.is_package(document) and (backend != BACKEND or script):
        what = f"build-system.build-backend is {backend}" if backend != BACKEND else "[tool.poetry.build] runs a script"
        raise UserError(
            f'pyproject.toml: {what}. The image is built by poetry-core alone: write build-backend = "{BACKEND}".\n'
            "Write a version from git's tags as a plain `version`, and move what needs a compiler into a package of its own."
        )
    for name, said in chain(
        *(one.items() for one in (project.get("scripts", {}), project.get("gui-scripts", {}), poetry.get("scripts", {})))
    ):
        called = (
            said
            if isinstance(said, str)
            else said.get("callable", said.get("reference", "") if said.get("type") != "file" else "")
        )
        if not re.fullmatch(r"[\w.]+\s*:\s*[\w.]+(\s*\[.*\])?", called):
            raise UserError(f'pyproject.toml: the program {name} is {said!r}. Example: {name} = "my_package.module:function"')


def _tables(poetry: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (key, group, its table) for what Poetry's own form lists."""
    yield "tool.poetry.dependencies", "main", poetry.get("dependencies", {})
    yield "tool.poetry.dev-dependencies", "dev", poetry.get("dev-dependencies", {})
    for group, table in poetry.get("group", {}).items():
        yield f"tool.poetry.group.{group}.dependencies", group, table.get("dependencies", {})


def check(document: dict[str, Any]) -> None:
    """Raise UserError where a pyproject.toml names such a dependency, whoever wants it, or a setting that is none.

    Its form is one that settings.check_form() takes.
    """
    project, poetry = document.get("project", {}), document.get("tool", {}).get("poetry", {})
    if not isinstance(document.get("tool", {}).get("couplet", {}), dict):
        raise UserError("pyproject.toml: tool.couplet must be a table. Its header: [tool.couplet]")
    _known(", [tool.couplet]", settings.table(document), OPTIONS)
    _known(", [project]", project, PROJECT)
    _known("", document, ("project", "dependency-groups", "build-system", "tool"))
    _elsewhere(document)
    extras, groups = project.get("optional-dependencies", {}), document.get("dependency-groups", {})
    if "dependencies" in poetry.get("group", {}).get("conda", {}) or not all(
        "==" in str(line) for line in groups.get("conda", ())
    ):
        raise UserError("pyproject.toml: the group name conda is reserved for `make env-update`. Choose another.")
    for line in chain(project.get("dependencies", ()), *extras.values(), *groups.values()):
        # a group may include another: {include-group = "..."}
        if isinstance(line, str) and (found := REQUIREMENT.match(line)):
            raise dependency_error("pyproject.toml", found[1], str(found.lastgroup))
        if isinstance(line, str) and re.match(r"\s*python\b(?![.-])", line):
            raise UserError(
                f"pyproject.toml: `{line}` cannot be a dependency. Python's versions are set with requires-python in [project]."
            )
    for source in poetry.get("source", ()):
        if isinstance(source, dict) and re.match(r"\w+://[^/]*@", str(source.get("url"))):
            raise dependency_error("pyproject.toml, [[tool.poetry.source]]", str(source.get("name")), "url")
    # What the standard tables list, Poetry reads there; its own then add a source or so to a name, and no name.
    listed = {
        "main": [*project.get("dependencies", ()), *chain(*extras.values())] if "dependencies" in project else None,
        **groups,
    }
    for key, group, table in _tables(poetry):
        standard = listed.get(group)
        names = {normalise(re.split(r"[^\w.-]", line.strip(), maxsplit=1)[0]) for line in standard or () if isinstance(line, str)}
        for name, said in table.items():
            if name == "python" and not isinstance(said, str):
                raise UserError(f'pyproject.toml, [{key}]: python is {said}, which Poetry ignores. Example: python = "^3.11"')
            for one in said if isinstance(said, list) else [said]:
                if isinstance(one, dict) and "allows-prereleases" in one:
                    raise UserError(
                        f"pyproject.toml, [{key}]: {name} has allows-prereleases, which Poetry ignores. Write allow-prereleases."
                    )
                kind = next((kind for kind in WHY if isinstance(one, dict) and kind in one), None)
                if kind and (kind != "url" or "@" in urlsplit(one["url"]).netloc):
                    raise dependency_error("pyproject.toml", name, kind)
            if standard is not None and normalise(name) not in {*names, "python"}:
                where = "project.dependencies" if group == "main" else f"dependency-groups.{group}"
                raise UserError(
                    f"pyproject.toml: {name} is in [{key}] alone, and Poetry reads the names in {where}.\n"
                    f"Move it to {where}, then run `make env-update`."
                )
