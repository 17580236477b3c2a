"""What the answers made of the project (.couplet/project.json), and [tool.couplet] of its pyproject.toml."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from couplet.errors import UserError


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
        raise UserError(
            "pyproject.toml is missing. Take it from git again: git checkout HEAD -- pyproject.toml"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"pyproject.toml is no TOML: {error}") from None


def table(document: dict[str, Any]) -> dict[str, Any]:
    """Return [tool.couplet] of a pyproject.toml, {} where there is none."""
    found = document.get("tool", {}).get("couplet", {})
    return found if isinstance(found, dict) else {}


def version(document: dict[str, Any]) -> str:
    """Return the version that a pyproject.toml gives, '' where it gives none (a dynamic one)."""
    found = document.get("project", {}).get("version") or document.get("tool", {}).get("poetry", {}).get("version")
    return found if isinstance(found, str) else ""
