"""What is installed in an environment: conda's records and Python's metadata, read from the files.

conda's `pytorch` is PyPI's `torch`: names are never guessed. A distribution belongs to conda when
one of conda's packages carries its *.dist-info.
"""

import json
import re
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from packaging.version import InvalidVersion, Version


class Distribution(NamedTuple):
    """A Python distribution: normalised name (PEP 503), version and the conda package that holds it."""

    name: str
    version: str
    owner: str | None


def normalise(name):
    """Return the name as PEP 503 compares it: lower case, one dash for each run of `-`, `_` and `.`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def same_version(one, other):
    """Return whether two version strings mean the same (1.0 and 1.0.0 do)."""
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other


def metadata(text):
    """Return (normalised name, version) from the text of a METADATA or PKG-INFO file."""
    headers = HeaderParser().parsestr(text)
    return normalise(headers["Name"]), headers["Version"]


def conda_records(prefix):
    """Return conda's own records of the environment: the contents of conda-meta/*.json, by file name."""
    return [json.loads(path.read_text()) for path in sorted(Path(prefix, "conda-meta").glob("*.json"))]


def metadata_file(path):
    """Return whether `path`, inside a package or a prefix, is a distribution's main metadata file.

    Only right in site-packages: setuptools, for one, carries other distributions inside of itself.
    """
    parts = PurePosixPath(path).parts
    if len(parts) < 3 or parts[-3] != "site-packages":
        return False
    folder, name = parts[-2:]
    return (folder.endswith(".dist-info") and name == "METADATA") or (
        folder.endswith(".egg-info") and name == "PKG-INFO"
    )


def conda_distributions(prefix):
    """Return {name: Distribution} of what conda installed in `prefix`, whatever lies on top of it now."""
    found = {}
    for record in conda_records(prefix):
        for path in filter(metadata_file, record["files"]):
            file = Path(prefix, path)
            if file.exists():
                name, version = metadata(file.read_text(errors="replace"))
                found[name] = Distribution(name, version, record["name"])
    return found


def installed_distributions(prefix):
    """Return {name: Distribution} of everything in the environment's site-packages.

    Two versions of one distribution side by side are both reported as `name` and `name (2)`: that
    is damage, and a comparison with a lock has to see it.
    """
    owners = {
        file: record["name"]
        for record in conda_records(prefix)
        for file in record["files"]
        if metadata_file(file)
    }
    found = {}
    for pattern in ("*.dist-info/METADATA", "*.egg-info/PKG-INFO"):
        for file in sorted(Path(prefix).glob(f"lib/python3.*/site-packages/{pattern}")):
            name, version = metadata(file.read_text(errors="replace"))
            key = f"{name} (2)" if name in found else name
            found[key] = Distribution(name, version, owners.get(str(file.relative_to(prefix))))
    return found
