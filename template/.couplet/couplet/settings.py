"""What the answers made of the project (.couplet/project.json), and [tool.couplet] of its pyproject.toml."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from couplet.errors import UserError
from couplet.formats.names import normalise


class Kernel(NamedTuple):
    """The Jupyter kernel: its name, its name in menus, and the prefix that it is registered under."""

    name: str
    display_name: str
    prefix: str


class Project(NamedTuple):
    """The project as it was rendered. `platforms` are conda's names; [] without conda."""

    environment: str
    package: str
    distribution: str
    prefix: str
    platforms: list[str]
    accelerator: str
    base_image: str
    kernel: Kernel | None

    @property
    def conda(self) -> bool:
        """Whether conda has a part in the environment."""
        return self.environment == "conda-poetry"


def project(folder: Path) -> Project:
    """Return what .couplet/project.json in the project's folder says. Raises UserError where it is missing or damaged."""
    path = folder / ".couplet/project.json"
    try:
        found = json.loads(path.read_text())
        kernel = found.pop("kernel")
        return Project(**found, kernel=Kernel(**kernel) if kernel else None)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f".couplet/project.json cannot be read ({error}). Take it from git again: git checkout HEAD -- .couplet"
        ) from None


def pyproject(folder: Path) -> dict[str, Any]:
    """Return the project's pyproject.toml. Raises UserError where it is missing or no TOML."""
    try:
        return tomllib.loads((folder / "pyproject.toml").read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise UserError("pyproject.toml is missing. Take it from git again: git checkout HEAD -- pyproject.toml") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"pyproject.toml is not valid TOML: {error}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"pyproject.toml is not UTF-8 text: {error}. Save it as UTF-8.") from None


FORMS = {
    r"tool\.poetry\.group\.[\w-]+(?= )": "packages are in its table dependencies, other groups in its list include-groups",
    r"tool\.poetry\.": '"^1.2", or { version = "^1.2" }',
    "dependency-groups": '"numpy>=2", or { include-group = "test" }',
    "": 'a text in quotes, or { file = "…" }',
}
"""What a key begins with that poetry-core finds in none of several forms, and those forms."""


def check_form(document: dict[str, Any]) -> None:
    """Raise UserError where poetry-core finds a pyproject.toml wrong, or would ignore part of it."""
    from poetry.core.factory import Factory

    try:
        # it fills in what is missing
        found = Factory.validate(copy.deepcopy(document), strict=True)
    except (AttributeError, TypeError):
        raise UserError("pyproject.toml: project, tool.poetry and its groups must be tables. A header: [project]") from None
    # several readmes of different kinds are no error of a build
    errors = [one for one in found["errors"] if "README" not in one]
    said = [re.sub("must match pattern .*", "has another form: a version is 1.2.3, a name my-project", one) for one in errors]
    for begins, example in FORMS.items():
        said = [
            re.sub(rf"^({begins}.*) (must be valid exactly|cannot be validated) .*", rf"\1 has another form: {example}", one)
            for one in said
        ]
    said += [one.splitlines()[0] for one in found["warnings"] if "will be ignored" in one]
    packages = document.get("tool", {}).get("poetry", {}).get("packages", [])
    said += [
        f"tool.poetry.packages: `to` has no effect here, where code stays where it is: {one}" for one in packages if "to" in one
    ]
    if said:
        raise UserError("\n  ".join(["pyproject.toml:", *said]) + "\nCorrect what is named, then run `make env-update`.")


def without_mark(folder: Path) -> bool:
    """Take a byte order mark, which Poetry cannot read, out of pyproject.toml; return whether there was one."""
    written = (folder / "pyproject.toml").read_bytes()
    if found := written.startswith(b"\xef\xbb\xbf"):
        (folder / "pyproject.toml").write_bytes(written[3:])
    return found


def table(document: dict[str, Any]) -> dict[str, Any]:
    """Return [tool.couplet] of a pyproject.toml, {} where there is none."""
    found = document.get("tool", {}).get("couplet", {})
    return found if isinstance(found, dict) else {}


def groups(document: dict[str, Any]) -> dict[str, list[str]]:
    """Return {"main": groups of pyproject.toml in both images, "dev": those in dev alone}, as [tool.couplet] adds to them.

    Raises UserError for a group that pyproject.toml does not have.
    """
    tables = document.get("dependency-groups", {}), document.get("tool", {}).get("poetry", {}).get("group", {})
    # as poetry.lock writes them
    known = sorted({normalise(name) for one in tables for name in one} - {"conda"})
    found = {}
    for image, key in (("main", "runtime-groups"), ("dev", "dev-groups")):
        named = table(document).get(key, [])
        where = f"pyproject.toml, [tool.couplet]: {key}"
        if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
            raise UserError(f'{where} is {named!r}. Example: {key} = ["docs"]')
        if unknown := [name for name in named if normalise(name) not in known]:
            raise UserError(f"{where} names {', '.join(unknown)}, which is not a group here. There are: {', '.join(known)}.")
        found[image] = [image, *map(normalise, named)]
    return found


def link_scripts(document: dict[str, Any]) -> list[str] | None:
    """Return the packages of conda's whose link scripts may run, None for all. Raises UserError for what is not a list of names."""
    found = table(document).get("link-scripts")
    if found is not None and not (isinstance(found, list) and all(isinstance(name, str) for name in found)):
        raise UserError(f'pyproject.toml, [tool.couplet]: link-scripts is {found!r}. Example: link-scripts = ["font-ttf-ubuntu"]')
    return found


def is_package(document: dict[str, Any]) -> bool:
    """Return whether Poetry takes the project for a package: not with `package-mode = false`."""
    return document.get("tool", {}).get("poetry", {}).get("package-mode") is not False


def name(document: dict[str, Any]) -> str:
    """Return the project's name as either form of pyproject.toml gives it, '' where it gives none."""
    return str(document.get("project", {}).get("name") or document.get("tool", {}).get("poetry", {}).get("name", ""))


def module(document: dict[str, Any]) -> str:
    """Return the name of the package that Poetry takes where a pyproject.toml names none: the project's."""
    return normalise(name(document)).replace("-", "_")


def version(document: dict[str, Any]) -> str:
    """Return the version that a pyproject.toml gives, '' where it gives none (a dynamic one)."""
    found = document.get("project", {}).get("version") or document.get("tool", {}).get("poetry", {}).get("version")
    return found if isinstance(found, str) else ""
