"""Licences of what the locks hold: of conda's packages by their records, of Poetry's by the metadata in their wheels."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from couplet import network
from couplet.formats import platforms, records
from couplet.formats.poetry_lock import Locked
from couplet.install import pypi
from couplet.lock import wheels


def of_poetry(packages: Iterable[Locked], python: str) -> dict[str, str]:
    """Return {name: licence} of packages, '' where none is named or there is no wheel for this machine and Python.

    uv unpacks their wheels, checked by hash: from its cache, where the image was built on this machine. None is built here.
    """
    found = {package.name: "" for package in packages}
    here = [p for p in packages if any(wheels.suits(file, python, platforms.this_machine()) for file in p.files)]
    with tempfile.TemporaryDirectory() as folder:
        for part in pypi.by_index(here, network.secret("poetry_auth")):
            options = ["--target", folder, "--python-version", python, "--only-binary", ":all:", "--link-mode", "symlink"]
            pypi.install_part(part._replace(options=[*part.options, *options]), None)
        texts = [file.read_text(errors="replace") for file in Path(folder).glob("*.dist-info/METADATA")]
    return found | {records.metadata(text)[0]: records.licence(text) for text in texts}


def spdx(licence: str) -> str:
    """Return a licence as SPDX writes it today (GPL-3.0-only for GPL-3.0), '' for what is not an SPDX expression."""
    try:
        words = canonicalize_license_expression(licence).split(" ") if licence else []
    except InvalidLicenseExpression:
        return ""
    return " ".join(
        re.sub(r"^(\(*[AL]?GPL-[\d.]+)(\+?)(\)*)$", lambda old: f"{old[1]}-{'or-later' if old[2] else 'only'}{old[3]}", word)
        for word in words
    )


def denied(licence: str, deny: Sequence[str]) -> str:
    """Return the entry of a policy that denies a licence, '' for none: of `A OR B` both have to be denied, of `A AND B` one.

    `A WITH an exception` is another licence than A. What is not an SPDX expression is one name.
    """
    parts, rules = re.split(r"([()]| AND | OR )", spdx(licence)) if spdx(licence) else [licence], []
    for number, part in enumerate(parts):
        if part.strip(" ()") and part not in (" AND ", " OR "):
            rules += (found := [rule for rule in deny if fnmatchcase(part.strip().lower(), rule.lower())])
            parts[number] = str(not found)
    text = "".join(parts)
    while "(" in text:
        text = re.sub(r"\(([^()]*)\)", lambda inner: str(_holds(inner[1])), text)
    return "" if not rules or _holds(text) else rules[0]


def _holds(text: str) -> bool:
    """Return what True and False amount to with AND and OR between them, without brackets."""
    return any(all(word == "True" for word in part.split(" AND ")) for part in text.split(" OR "))
