"""What a project's locks hold, as the SBOM and the audit both ask for it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path

from couplet import settings
from couplet.errors import UserError
from couplet.formats import conda_lock


def conda(folder: Path, dev: bool = False) -> dict[str, dict[str, conda_lock.Record]]:
    """Return {platform: {conda's name: Record}} of an image, {} without conda. Raises UserError for a missing lock."""
    if not settings.project(folder).conda:
        return {}
    if found := conda_lock.records(folder / "conda.lock", dev):
        return found
    raise UserError("conda.lock is missing: run `make env-update` (it asks for Docker only).")


def python(records: Mapping[str, conda_lock.Record]) -> str:
    """Return the version of Python on one platform: conda's, or else the base image's, which this runs with."""
    return records["python"].version if "python" in records else platform.python_version()
