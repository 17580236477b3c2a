"""What is installed in an environment: conda's records and Python's metadata, read from the files.

conda's `pytorch` is PyPI's `torch`: names are never guessed. A distribution belongs to conda when
one of conda's packages carries its *.dist-info.
"""

from __future__ import annotations

import json
import re
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Optional

from couplet.errors import UserError
from couplet.formats.names import normalise

NAME_PYTHON = "Name Python in environment.yml (`  - python=3.13`), then run `make env-update`."

CLASSIFIERS = {
    "MIT License": "MIT",
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""Classifiers of licences that name one version of one licence -> what SPDX calls it. The GNU ones say it themselves."""


class Distribution(NamedTuple):
    """A Python distribution: normalised name (PEP 503), version and the conda package that holds it."""

    name: str
    version: str
    owner: Optional[str]  # noqa: UP045  (evaluated by Python 3.9, which conda's root may be)


def metadata(text: str) -> tuple[str, str]:
    """Return (normalised name, version) from the text of a METADATA or PKG-INFO file, '' for what a damaged one lacks."""
    headers = HeaderParser().parsestr(text)
    return normalise(headers["Name"] or ""), headers["Version"] or ""


def licence(text: str) -> str:
    """Return the licence that the text of a METADATA file names, as SPDX does where one can tell; '' for none."""
    headers = HeaderParser().parsestr(text)
    kinds = [kind.rpartition(" :: ")[2] for kind in headers.get_all("Classifier", ()) if kind.startswith("License :: ")]
    said = CLASSIFIERS.get(kinds[0], "") if len(kinds) == 1 else ""
    if len(kinds) == 1 and (gnu := re.fullmatch(r"GNU .*\(([AL]?GPL)v(\d)(\.\d)?(\+?)\)", kinds[0])):
        said = f"{gnu[1]}-{gnu[2]}{gnu[3] or '.0'}-{'or-later' if gnu[4] else 'only'}"
    named = (headers["License"] or "").strip().partition("\n")[0].replace("UNKNOWN", "")
    return headers["License-Expression"] or said or named or ", ".join(kinds)


def metadata_file(path: str) -> bool:
    """Return whether `path`, inside a package or a prefix, is a distribution's main metadata file.

    Only right in site-packages: setuptools, for one, carries other distributions inside of itself.
    """
    parts = PurePosixPath(path).parts
    if len(parts) < 3 or parts[-3] != "site-packages":
        return False
    folder, name = parts[-2:]
    return (folder.endswith(".dist-info") and name == "METADATA") or (folder.endswith(".egg-info") and name == "PKG-INFO")


def conda_records(prefix: Path) -> list[dict[str, Any]]:
    """Return conda's own records of the environment: the contents of conda-meta/*.json, by file name."""
    return [json.loads(path.read_text()) for path in sorted(prefix.glob("conda-meta/*.json"))]


def site_packages(prefix: Path) -> Path:
    """Return the environment's site-packages. Raises UserError where it holds no Python."""
    found = sorted(prefix.glob("lib/python3.*/site-packages"))
    if not found:
        raise UserError(f"{prefix} has no Python. {NAME_PYTHON}")
    return found[0]


def python_version(prefix: Path) -> str:
    """Return the version of the Python in `prefix`, from conda's record of it or a virtual environment's settings."""
    for record in conda_records(prefix):
        if record["name"] == "python":
            return str(record["version"])
    settings = prefix / "pyvenv.cfg"
    found = re.search(r"^version *= *(\S+)", settings.read_text(), re.M) if settings.is_file() else None
    if not found:
        raise UserError(f"{prefix} has no Python. {NAME_PYTHON}")
    return found[1]


def conda_distributions(prefix: Path) -> dict[str, Distribution]:
    """Return {name: Distribution} of what conda installed in `prefix`, whatever lies on top of it now."""
    found = {}
    for record in conda_records(prefix):
        for path in filter(metadata_file, record["files"]):
            file = prefix / path
            if file.exists():
                name, version = metadata(file.read_text(errors="replace"))
                found[name] = Distribution(name, version, record["name"])
    return found


def installed_distributions(prefix: Path) -> dict[str, Distribution]:
    """Return {name: Distribution} of everything in the environment's site-packages.

    Two versions of one distribution side by side are both reported, as `name` and `name (2)`: that
    is damage, and a comparison with a lock has to see it.
    """
    owners = {file: record["name"] for record in conda_records(prefix) for file in record["files"] if metadata_file(file)}
    found: dict[str, Distribution] = {}
    for pattern in ("*.dist-info/METADATA", "*.egg-info/PKG-INFO"):
        for file in sorted(prefix.glob(f"lib/python3.*/site-packages/{pattern}")):
            name, version = metadata(file.read_text(errors="replace"))
            key = f"{name} (2)" if name in found else name
            found[key] = Distribution(name, version, owners.get(str(file.relative_to(prefix))))
    return found
