"""poetry.lock (lock-version 2.x) as plain data."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from couplet.errors import UserError
from couplet.formats.names import normalise


class Locked(NamedTuple):
    """One package of poetry.lock. `markers` maps each of its groups to a PEP 508 marker ('' is always)."""

    name: str
    version: str
    markers: dict[str, str]
    hashes: tuple[str, ...]
    source: dict[str, str]
    dependencies: tuple[str, ...]
    files: tuple[str, ...] = ()


def read(path: Path) -> list[Locked]:
    """Return the packages in the file's order. Raises UserError for a file that is missing or that Poetry did not write."""
    try:
        document = tomllib.loads(path.read_text())
        version = document["metadata"]["lock-version"]
    except FileNotFoundError:
        raise UserError(f"{path.name} is missing: run `make env-update` (it needs only Docker).") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError) as error:
        raise UserError(f"{path.name} is damaged ({error}): git checkout HEAD -- {path.name}, or make env-update") from None
    if not version.startswith("2."):
        raise UserError(f"{path.name} has lock-version {version}; 2.x is needed. Run `make env-update`.")
    return [
        Locked(
            normalise(package["name"]),
            package["version"],
            {group: _marker(package, group) for group in package["groups"]},
            tuple(file["hash"] for file in package.get("files", ())),
            package.get("source", {}),
            tuple(normalise(name) for name in package.get("dependencies", {})),
            tuple(file["file"] for file in package.get("files", ())),
        )
        for package in document.get("package", ())
    ]


def versions(path: Path) -> dict[tuple[str, str], str]:
    """Return {("Poetry", name): version} of what a poetry.lock has installed; {} where there is none or it is damaged."""
    found: dict[str, set[str]] = {}
    try:
        for package in read(path):
            # those of the group `conda` alone are conda's
            if set(package.markers) != {"conda"}:
                found.setdefault(package.name, set()).add(package.version)
    except UserError:
        return {}
    # platforms that differ in conda's version differ in Poetry's
    return {("Poetry", name): "/".join(sorted(numbers)) for name, numbers in found.items()}


def _marker(package: Mapping[str, Any], group: str) -> str:
    """Return the marker under which `group` wants the package: one for all groups, or one for each."""
    markers = package.get("markers", "")
    return str(markers.get(group, "")) if isinstance(markers, dict) else str(markers)


def with_groups(lock: Path, named: Iterable[str]) -> list[str]:
    """Return groups, and those that come into the same image with one of them: `check` lists these beside the lock."""
    lists = {name: lock.with_name(f"groups-{name}.txt") for name in named}
    return [group for name, path in lists.items() for group in (path.read_text().split() if path.is_file() else [name])]


def wanted(packages: Iterable[Locked], groups: Iterable[str], environment: Mapping[str, str]) -> list[Locked]:
    """Return the packages that any of `groups` wants in a PEP 508 environment (platforms.environment)."""
    from packaging.markers import Marker  # the rest is read with the standard library alone, on a pipeline's host too

    def applies(marker: str) -> bool:
        return not marker or Marker(marker).evaluate(dict(environment))

    groups = list(groups)
    return [p for p in packages if any(applies(p.markers[group]) for group in groups if group in p.markers)]
