"""Compare the environment with the locks, and every file with the record of its installation.

Conda's files are compared with conda's records, the others with the RECORD of their wheel: each is read once and its
hash computed. Fails with the list of offenders.
"""

from __future__ import annotations

import argparse
import base64
import csv
import os
import stat
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from couplet.errors import UserError
from couplet.formats import conda_lock, files, platforms, poetry_lock, records
from couplet.formats.names import normalise
from couplet.formats.versions import same_version
from couplet.install.tools import UV

SHARES = 4
"""Threads: reading and hashing let the others run, what is between them does not."""
MOST = 40
"""Lines of one kind that are shown: a list of ten thousand helps nobody."""
CHANGED = "files that are not as they were installed"


class Recorded(NamedTuple):
    """A file as a record has it: a path in the environment, how it is linked (conda's path_type), its SHA-256 or ''."""

    owner: str
    path: str
    kind: str
    sha256: str


def conda_files(prefix: Path, recorded: list[dict[str, Any]]) -> Iterator[Recorded]:
    """Yield the files of conda's records."""
    # noarch files are recorded as they lie in the package: they move when they are installed
    moved = {"site-packages": str(records.site_packages(prefix).relative_to(prefix)), "python-scripts": "bin"}
    for record in recorded:
        for entry in record["paths_data"]["paths"]:
            path, kind = entry["_path"], entry.get("path_type", "")
            folder, _, rest = path.partition("/")
            # the build itself deletes these, see forget_sources in origins.py
            if not path.endswith(".dist-info/direct_url.json"):
                path = f"{moved[folder]}/{rest}" if folder in moved else path
                sha256 = entry.get("sha256_in_prefix") or entry.get("sha256") or ""
                yield Recorded(record["name"], path, kind, sha256)


def wheel_files(prefix: Path, not_these: set[str]) -> Iterator[Recorded]:
    """Yield the files of wheels' RECORDs, except of the RECORDs in `not_these` (paths in the environment)."""
    for file in sorted(prefix.glob("lib/python3.*/site-packages/*.dist-info/RECORD")):
        if str(file.relative_to(prefix)) in not_these:
            continue
        with file.open(newline="") as rows:
            for path, expected, _ in csv.reader(rows):
                method, _, encoded = expected.partition("=")
                # a RECORD names itself without a hash; files made after the installation have none either
                if method == "sha256":
                    content = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
                    # relative to site-packages, or absolute, as Poetry writes what lies outside of it
                    path = os.path.relpath(file.parent.parent / path, prefix)
                    yield Recorded(file.parent.name, path, "", content.hex())


def problem(prefix: Path, file: Recorded) -> str:
    """Return what is wrong with a file, '' for nothing."""
    path = f"{prefix}/{file.path}"
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        if file.kind == "softlink":
            return "is not a link any more"
        return "" if file.kind == "pyc_file" else "is gone"
    if file.kind == "softlink":
        return "" if stat.S_ISLNK(mode) else "is not a link any more"
    if stat.S_ISLNK(mode):
        return "is a link now"
    if stat.S_ISDIR(mode):
        return "" if file.kind == "directory" else "is a folder now"
    return "was changed" if file.sha256 and files.sha256(path) != file.sha256 else ""


def changed_files(prefix: Path) -> tuple[list[str], int]:
    """Return (a line for every file that is not as its record has it, number of files looked at)."""
    recorded = records.conda_records(prefix)
    owned = {file for record in recorded for file in record["files"] if file.endswith("/RECORD")}
    found = [*(conda_files(prefix, recorded) if recorded else ()), *wheel_files(prefix, owned)]

    def check(share: list[Recorded]) -> list[str]:
        verdicts = ((file, problem(prefix, file)) for file in share)
        return [f"{file.owner}: {file.path} {verdict}" for file, verdict in verdicts if verdict]

    # A task for each file would cost more than reading it.
    shares = [found[number::SHARES] for number in range(SHARES)]
    with ThreadPoolExecutor(SHARES) as pool:
        return sorted(line for lines in pool.map(check, shares) for line in lines), len(found)


def conda_differences(prefix: Path, lock: Path) -> list[str]:
    """Return what conda recorded otherwise than its lock says, a line each."""
    locked = {name: f"{version} {build}" for name, version, build in (p.identity for p in conda_lock.read(lock))}
    recorded = {record["name"]: f"{record['version']} {record['build']}" for record in records.conda_records(prefix)}
    return [
        f"{name}: conda's lock says {locked.get(name, 'nothing')}, installed is {recorded.get(name, 'nothing')}"
        for name in sorted(locked.keys() | recorded.keys())
        if locked.get(name) != recorded.get(name)
    ]


def poetry_differences(prefix: Path, lock: Path, groups: Iterable[str], besides: Iterable[str] = ()) -> list[str]:
    """Return which distributions are installed otherwise than poetry.lock says, or stand in no lock, a line each.

    `besides` are names that may be there without a lock: the project itself, where it is installed already.
    """
    installed, allowed = records.installed_distributions(prefix), {normalise(name) for name in besides}
    environment = platforms.environment(platforms.this_machine(), records.python_version(prefix))
    locked = {p.name: p.version for p in poetry_lock.wanted(poetry_lock.read(lock), groups, environment)}
    missing = locked.keys() - installed.keys()
    found = [f"{name}: poetry.lock says {locked[name]}, nothing is installed" for name in missing]
    for name, distribution in installed.items():
        if name in locked and not same_version(locked[name], distribution.version):
            found.append(f"{name}: poetry.lock says {locked[name]}, installed is {distribution.version}")
        elif name not in locked and distribution.owner is None and name not in allowed:
            found.append(f"{name}: {distribution.version} is installed and is in no lock")
    return sorted(found)


def unmet_dependencies(prefix: Path, uv: Path) -> list[str]:
    """Return the dependency problems over all distributions, conda's and Poetry's, as uv reports them."""
    command = [str(uv), "pip", "check", "--no-cache", "--python", f"{prefix}/bin/python"]
    done = subprocess.run(command, capture_output=True, text=True)
    # uv's lock on the environment, which it leaves behind, and which anyone may write
    (prefix / ".lock").unlink(missing_ok=True)
    if done.returncode == 0:
        return []
    return [line for line in done.stderr.splitlines() if line.startswith("The package")] or [done.stderr.strip()]


def offenders(locks: Path, groups: list[str], prefix: Path, besides: Iterable[str] = ()) -> tuple[dict[str, list[str]], int]:
    """Return ({title: a line for each offender}, number of files looked at). Nothing of the environment runs."""
    changed, count = changed_files(prefix)
    differences = poetry_differences(prefix, locks / "poetry.lock", groups, besides)
    if (prefix / "conda-meta").is_dir():
        # the dev image may have packages of its own
        of_image = locks / "dev" if "dev" in groups and (locks / "dev").is_dir() else locks
        lock = of_image / conda_lock.file_name(platforms.this_machine())
        differences = conda_differences(prefix, lock) + differences
    return {CHANGED: changed, "differences between the locks and what is installed": differences}, count


def listing(problems: Mapping[str, list[str]]) -> str:
    """Return the problems as a text, '' for none."""
    text = ""
    for title, lines in problems.items():
        more = [f"and {len(lines) - MOST} more"] if len(lines) > MOST else []
        text += "".join(f"  {line}\n" for line in [f"{title}:", *lines[:MOST], *more]) if lines else ""
    return text


def verify(locks: Path, groups: list[str], prefix: Path, besides: Iterable[str] = (), uv: Path = UV) -> None:
    """Raise UserError with the offenders where the environment is not what the locks in the folder `locks` say."""
    print("verifying all files", flush=True)
    began = time.monotonic()
    problems, count = offenders(locks, groups, prefix, besides)
    seconds = time.monotonic() - began
    problems["dependencies that are not met"] = unmet_dependencies(prefix, uv)
    if text := listing(problems):
        advice = "Run `make env-update`, then build again."
        if problems[CHANGED]:
            advice += (
                "\nA file that changes again in the next build: a step of the Dockerfile or a package's post-link script "
                "writes it, or two packages contain it."
            )
        raise UserError(f"the environment is not what the locks say.\n{text}{advice}")
    what = "both locks" if (prefix / "conda-meta").is_dir() else "poetry.lock"
    print(f"verified: {count} files as installed ({seconds:.2f} s), {what} as installed, all dependencies met", flush=True)


def main(arguments: list[str]) -> None:
    """The verb `verify`."""
    parser = argparse.ArgumentParser(prog="couplet verify", description=__doc__)
    parser.add_argument("--locks", type=Path, required=True, help="folder of the locks")
    parser.add_argument("--groups", nargs="+", required=True, help="groups of poetry.lock")
    parser.add_argument("--prefix", type=Path, required=True, help="the environment")
    parser.add_argument("--besides", nargs="*", default=[], metavar="NAME", help="distributions that no lock names")
    parser.add_argument("--uv", type=Path, default=UV)
    options = parser.parse_args(arguments)

    groups = poetry_lock.with_groups(options.locks / "poetry.lock", options.groups)
    verify(options.locks, groups, options.prefix, options.besides, options.uv)
