"""What a project's locks hold, as the SBOM and the audit both ask for it."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.requirements import Requirement

from couplet import settings
from couplet.errors import UserError
from couplet.formats import conda_lock, platforms, poetry_lock
from couplet.formats.names import normalise


def conda(folder: Path, dev: bool = False) -> dict[str, dict[str, conda_lock.Record]]:
    """Return {platform: {conda's name: Record}} of an image, {} without conda. Raises UserError for a missing lock."""
    if not settings.project(folder).conda:
        return {}
    if found := conda_lock.records(folder / "conda.lock", dev):
        return found
    raise UserError("conda.lock is missing: run `make env-update` (it needs only Docker).")


def ask_conda(verb: str, records: Iterable[conda_lock.Record], subdir: str = "") -> str:
    """Return what a verb of couplet.install.conda_root prints of packages: it fetches those that the cache has not."""
    from couplet.install import conda_root  # which a project without conda does not have

    with tempfile.TemporaryDirectory() as scratch:
        lock = Path(scratch, "conda.lock")
        lock.write_text(conda_lock.explicit([record.package for record in records], subdir, []))
        return conda_root.call(verb, str(lock))


def poetry(folder: Path, subdir: str, python: str, groups: Iterable[str]) -> list[poetry_lock.Locked]:
    """Return what Poetry installs of some groups on a platform: without what pyproject.toml pins for conda there."""
    environment = platforms.environment(subdir, python)
    pins = map(Requirement, settings.pyproject(folder).get("dependency-groups", {}).get("conda", ()))
    pinned = {normalise(pin.name) for pin in pins if not pin.marker or pin.marker.evaluate(dict(environment))}
    packages = poetry_lock.wanted(poetry_lock.read(folder / "poetry.lock"), groups, environment)
    return [package for package in packages if package.name not in pinned]


def python(records: Mapping[str, conda_lock.Record]) -> str:
    """Return the version of Python on one platform: conda's, or else the base image's, which this runs with."""
    return records["python"].version if "python" in records else platform.python_version()
