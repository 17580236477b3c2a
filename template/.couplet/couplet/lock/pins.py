"""The Python distributions in conda's packages become pins of Poetry's: the group `conda` of pyproject.toml."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from tomlkit import array, dumps, parse, table
from tomlkit.items import InlineTable

from couplet.errors import UserError
from couplet.formats import conda_lock
from couplet.formats.conda_lock import Record
from couplet.formats.names import normalise
from couplet.formats.platforms import PLATFORMS
from couplet.install.conda_root import CACHE
from couplet.install.fetch import kept_distributions
from couplet.lock.channels import PACKAGE, with_condas_python
from couplet.lock.package_index import has_versions
from couplet.lock.solve import say

Distributions = dict[str, dict[str, tuple[str, str]]]
"""Distribution -> platform -> (version, conda package that holds it)."""
INTERPRETERS = CACHE / "interpreters"
WEEK = 7 * 86400


def interpreter(records: Mapping[str, Record], platform: str, scripts: list[str] | None = None) -> Path:
    """Return an environment of the locked Python alone, since Poetry locks for the Python that it finds active.

    It stays in the builder's cache, for the next lock with the same Python, until no lock has used it for a week.
    """
    needed = conda_lock.closure(records, ["python"])
    lock = conda_lock.explicit([record.package for record in needed.values()], platform, [], scripts=scripts)
    prefix = INTERPRETERS / hashlib.sha256(lock.encode()).hexdigest()[:16]
    INTERPRETERS.mkdir(parents=True, exist_ok=True)
    with (INTERPRETERS / "lock").open("w") as one, tempfile.TemporaryDirectory() as folder:
        fcntl.flock(one, fcntl.LOCK_EX)  # of the builds of this machine
        for done in INTERPRETERS.glob("*/complete"):
            if done.stat().st_mtime < time.time() - WEEK:
                done.unlink()
                shutil.rmtree(done.parent)
        if not (prefix / "complete").is_file():
            shutil.rmtree(prefix, ignore_errors=True)
            Path(folder, conda_lock.file_name(platform)).write_text(lock)
            made = subprocess.run(
                ["sh", PACKAGE / "couplet.sh", "install-conda", "--locks", folder, "--prefix", prefix],
                env={name: value for name, value in os.environ.items() if name != "PYTHON"},
                capture_output=True,
                text=True,
            )
            if made.returncode:
                raise UserError(made.stderr.strip().removeprefix("ERROR: "))
        (prefix / "complete").touch()
    return prefix


def provided(locked: Mapping[str, Mapping[str, Record]]) -> Distributions:
    """Return the Python distributions of the locked packages, from the packages' own metadata.

    Other platforms' packages are fetched only where they differ in version from the first one's: the same release of
    the same package holds the same distributions.
    """
    known: dict[tuple[str, str], dict[str, str]] = {}
    result: Distributions = {}
    for platform in sorted(locked):
        # what can hold a distribution depends on Python
        records = [r for r in locked[platform].values() if any(need.startswith(("python", "_python")) for need in r.depends)]
        new = [r for r in records if (r.name, r.version) not in known]
        held = {r.package.file_name: kept for r in new if (kept := kept_distributions(r.package)) is not None}
        if rest := [r.package for r in new if r.package.file_name not in held]:
            say(f"conda: reading the Python metadata of {len(rest)} packages for {platform}")
            with tempfile.TemporaryDirectory() as folder:
                lock = Path(folder, "python-packages.lock")
                lock.write_text(conda_lock.explicit(rest, platform, []))
                held |= json.loads(with_condas_python("-m", "couplet.install.fetch", "distributions", lock))
        known |= {(r.name, r.version): held[r.package.file_name] for r in new}
        for r in records:
            for distribution, version in known[r.name, r.version].items():
                result.setdefault(distribution, {})[platform] = (version, r.name)
    return result


def condas_names(update: set[str], locked: Mapping[str, Mapping[str, Record]], document: dict[str, Any]) -> set[str]:
    """Return conda's names for those of `update` that it has under another one (PyPI's msgpack is msgpack-python)."""
    names = {normalise(name) for records in locked.values() for name in records}
    if not (update & {name_of(line) for line in current_pins(document)}) - names:
        return set()
    held = provided(locked)
    return {normalise(owner) for name in update & held.keys() - names for _, owner in held[name].values()}


def current_pins(document: dict[str, Any]) -> list[str]:
    """Return the list in a pyproject.toml that the last lock wrote."""
    return [str(line) for line in document.get("dependency-groups", {}).get("conda", [])]


def name_of(pin: str) -> str:
    """Return the distribution that a pin is about."""
    return re.split("==| ", pin)[0]


def pins(distributions: Distributions, platforms: list[str]) -> list[str]:
    """Return the requirements that hold Poetry to conda's versions, with markers where platforms differ."""
    lines = []
    for name, where in sorted(distributions.items()):
        versions = {version for version, _ in where.values()}
        if len(versions) == 1 and len(where) == len(platforms):
            lines.append(f"{name}=={versions.pop()}")
        else:
            lines += [f"{name}=={version} ; {PLATFORMS[platform].marker}" for platform, (version, _) in sorted(where.items())]
    return lines


def leave_out_unpublished(lines: list[str], known: set[str], owners: Mapping[str, str]) -> list[str]:
    """Return the pins that the index can satisfy, and say which it cannot: Poetry would find no solution.

    `known` are pins that it could satisfy before, `owners` the conda package of each distribution.
    """
    unknown = [line for line in lines if line not in known]
    asked = [(name_of(line), line.split(" ;")[0].split("==")[1]) for line in unknown]
    gone = set()
    for line, (name, version), there in zip(unknown, asked, has_versions(asked), strict=True):
        if not there:
            gone.add(line)
            say(
                f"note: {name} {version} (conda package {owners[name]}) is not on the Python index, so Poetry cannot "
                f"pin it.\n      If one of Poetry's packages needs {name}, locking or building fails and says so."
            )
    return [line for line in lines if line not in gone]


def write_pins(path: Path, lines: list[str]) -> None:
    """Write the group `conda` of pyproject.toml, and leave every other byte as it is (but for a byte order mark)."""
    text = path.read_bytes().decode("utf-8-sig")
    document = parse(text.replace("\r\n", "\n"))
    groups = document.setdefault("dependency-groups", table())
    if list(groups.get("conda", [])) != lines:
        listing = array()
        listing.extend(lines)
        groups["conda"] = listing.multiline(True)
    tool = document.setdefault("tool", table(True))
    poetry = tool.setdefault("poetry", {} if isinstance(tool, InlineTable) else table())
    if not poetry.get("group", {}).get("conda", {}).get("optional"):
        poetry.setdefault("group", {} if isinstance(poetry, InlineTable) else table(True))["conda"] = {"optional": True}
    path.write_bytes(with_ends_of(text, dumps(document)).encode())


def with_ends_of(before: str, after: str) -> str:
    """Return a text of Unix lines, where each line ends as it did before, and a new one as most do."""
    old, new = before.split("\n"), after.split("\n")
    ends = ["\r" * (before.count("\r\n") * 2 > before.count("\n"))] * len(new)
    plain = [line.removesuffix("\r") for line in old]
    for kind, i, i_end, j, j_end in SequenceMatcher(None, plain, new, autojunk=False).get_opcodes():
        for one, other in zip(range(i, i_end), range(j, j_end), strict=kind == "equal"):
            ends[other] = old[one][len(plain[one]) :] if one < len(old) - 1 else ends[other]
    ends[-1] = ""
    return "\n".join(map("".join, zip(new, ends, strict=True)))
