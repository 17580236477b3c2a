"""Does Python find in the image what pyproject.toml calls the project? The last step of a build.

Nothing of the project is run: what it does when it is imported may need a database or a GPU, and takes its time.
"""

from __future__ import annotations

import argparse
import re
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from couplet import settings
from couplet.errors import UserError


def modules(document: dict[str, Any]) -> list[str]:
    """Return the names by which Python imports what a pyproject.toml says the project's wheel has."""
    poetry = document.get("tool", {}).get("poetry", {})
    if not settings.is_package(document):
        return []  # it has no wheel
    if not poetry.get("packages"):
        return [settings.module(document)]
    included = [entry["include"] for entry in poetry["packages"] if "wheel" in entry.get("format", "wheel")]
    # up to the first folder of any name
    plain = [re.sub(r"(^|/)[^/]*[*?\[].*|(\.py|/)$", "", include) for include in included]
    return [name.replace("/", ".") for name in plain if name]


def found(name: str) -> bool:
    """Return whether Python finds a module, without importing it or what it is in."""
    path, parts = None, name.split(".")
    for count in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:count]), path)
        if spec is None:
            return False
        path = spec.submodule_search_locations
    return True


def main(arguments: list[str]) -> None:
    """The verb `importable`."""
    parser = argparse.ArgumentParser(prog="couplet importable", description=__doc__)
    parser.add_argument("--project", type=Path, required=True, help="folder of pyproject.toml")
    options = parser.parse_args(arguments)

    for name in modules(settings.pyproject(options.project)):
        if not found(name):
            path = name.partition(".")[0]
            raise UserError(
                f"pyproject.toml names the package {name}, and Python does not find it in the image, which gets src/ alone.\n"
                f"Move it there (git mv {path} src/), or write `!{path}` into .dockerignore, and into the Dockerfile, after\n"
                f"`COPY src/`: COPY {path}/ /opt/app/{path}/"
            )
