"""Read poetry.lock (lock-version 2.x) into plain data."""

import re
import tomllib
from pathlib import Path
from typing import NamedTuple

from packaging.markers import Marker, default_environment

from distributions import conda_records, normalise
from errors import BuildError


class Locked(NamedTuple):
    """One package of poetry.lock. `markers` maps each of its groups to a PEP 508 marker ('' is always)."""

    name: str
    version: str
    markers: dict
    hashes: tuple
    source: dict


def read(path):
    """Return [Locked] in the file's order. Raises BuildError for a file that Poetry did not write."""
    path = Path(path)
    try:
        document = tomllib.loads(path.read_text())
        version = document["metadata"]["lock-version"]
    except FileNotFoundError:
        raise BuildError(
            f"{path.name} is missing: run `make env-update` (it asks for Docker only)."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError) as error:
        raise BuildError(
            f"{path.name} is damaged ({error}). Take it from git again, or run `make env-update`."
        ) from None
    if not version.startswith("2."):
        raise BuildError(f"{path.name} has lock-version {version}; 2.x is needed. Run `make env-update`.")
    return [
        Locked(
            normalise(package["name"]),
            package["version"],
            {group: marker_of(package, group) for group in package["groups"]},
            tuple(file["hash"] for file in package.get("files", ())),
            package.get("source", {}),
        )
        for package in document.get("package", ())
    ]


def marker_of(package, group):
    """Return the marker under which `group` wants the package: one for all groups, or one for each."""
    markers = package.get("markers", "")
    return markers.get(group, "") if isinstance(markers, dict) else markers


def python_version(prefix):
    """Return the version of the Python in `prefix`, from conda's record of it or a virtual environment's settings."""
    for record in conda_records(prefix):
        if record["name"] == "python":
            return record["version"]
    settings = Path(prefix, "pyvenv.cfg").read_text()
    return re.search(r"^version *= *(\S+)", settings, re.M)[1]


def environment_of(prefix):
    """Return the PEP 508 environment of the Python in `prefix` (this machine's, with that Python's version)."""
    version = python_version(prefix)
    short = ".".join(version.split(".")[:2])
    return {
        **default_environment(),
        "python_version": short,
        "python_full_version": version,
        "implementation_version": version,
        "extra": "",
    }


def wanted(packages, groups, environment):
    """Return the Locked packages that any of `groups` wants in `environment` (see environment_of)."""

    def applies(marker):
        return not marker or Marker(marker).evaluate(environment)

    return [p for p in packages if any(applies(p.markers[group]) for group in groups if group in p.markers)]
