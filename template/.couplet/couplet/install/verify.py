"""Prove that the environment is what the two locks say, and that conda's files are as conda left them.

Fails with the list of offenders. Reads every file that conda owns once and compares its SHA-256
with conda's record of the installation.
"""

import argparse
import hashlib
import os
import platform
import re
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from conda_packages import SUBDIRS, read_lock
from distributions import conda_records, normalise
from errors import BuildError, run
from proof import fail, poetry_differences, unmet_dependencies

SHARES = 4
"""Threads: reading and hashing let the others run, what is between them does not."""


def ours(path):
    """Return whether the build itself deletes `path` (see install_conda.forget_sources)."""
    return path.endswith(".dist-info/direct_url.json")


def place(path, site_packages):
    """Return where a file lies that a record names as it stood in the package: noarch ones move when installed."""
    folder, _, rest = path.partition("/")
    return {"site-packages": f"{site_packages}/{rest}", "python-scripts": f"bin/{rest}"}.get(folder, path)


def check_file(path, entry):
    """Return what is wrong with one file of conda's record, or None. `path` is a string: there are tens of thousands."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        if entry.get("path_type") == "softlink":
            return "is no link any more"
        return None if ours(entry["_path"]) or entry.get("path_type") == "pyc_file" else "is gone"
    if entry.get("path_type") == "softlink":
        return None if stat.S_ISLNK(mode) else "is no link any more"
    if stat.S_ISLNK(mode):
        return "is a link now"
    if expected := entry.get("sha256_in_prefix") or entry.get("sha256"):
        with open(path, "rb", buffering=0) as file:
            if hashlib.sha256(file.read()).hexdigest() != expected:
                return "was changed"
    return None


def changed_files(prefix):
    """Return (a line for every file of conda's that is not as conda left it, number of files looked at)."""
    site_packages = next(Path(prefix).glob("lib/python3.*/site-packages")).relative_to(prefix)
    entries = [
        (record["name"], place(entry["_path"], site_packages), entry)
        for record in conda_records(prefix)
        for entry in record.get("paths_data", {}).get("paths", ())
    ]
    if not entries:
        raise BuildError(f"{prefix}/conda-meta records no files: this is no environment that conda made.")

    def check(share):
        verdicts = ((name, path, check_file(f"{prefix}/{path}", entry)) for name, path, entry in share)
        return [f"{name}: {path} {verdict}" for name, path, verdict in verdicts if verdict]

    # A task for each file would cost more than reading it.
    shares = [entries[number::SHARES] for number in range(SHARES)]
    with ThreadPoolExecutor(SHARES) as pool:
        return sorted(line for lines in pool.map(check, shares) for line in lines), len(entries)


def conda_differences(prefix, locks):
    """Return what conda recorded otherwise than its lock says, a line each."""
    locked = {}
    for url, *_ in read_lock(Path(locks, f"conda-{SUBDIRS[platform.machine()]}.lock")):
        name, version, build = re.sub(r"(\.conda|\.tar\.bz2)$", "", url.rsplit("/", 1)[-1]).rsplit("-", 2)
        locked[name] = f"{version} {build}"
    recorded = {record["name"]: f"{record['version']} {record['build']}" for record in conda_records(prefix)}
    return [
        f"{name}: conda's lock says {locked.get(name, 'nothing')}, installed is {recorded.get(name, 'nothing')}"
        for name in sorted(locked.keys() | recorded.keys())
        if locked.get(name) != recorded.get(name)
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--locks", required=True)
    parser.add_argument("--groups", nargs="+", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--uv", required=True)
    parser.add_argument("--besides", nargs="*", default=[], help="distributions that no lock names")
    options = parser.parse_args()

    began = time.monotonic()
    changed, count = changed_files(options.prefix)
    seconds = time.monotonic() - began
    problems = {
        "files of conda's that something changed": changed,
        "differences between the locks and what is installed": [
            *conda_differences(options.prefix, options.locks),
            *poetry_differences(
                options.prefix, options.locks, options.groups, [normalise(name) for name in options.besides]
            ),
        ],
        "dependencies that are not met": unmet_dependencies(options.prefix, options.uv),
    }
    fail(problems)
    print(
        f"verified: {count} files of conda's as conda left them ({seconds:.2f} s), both locks as installed, all dependencies met",
        flush=True,
    )


if __name__ == "__main__":
    run(main)
