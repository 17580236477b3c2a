"""Prove that the environment is what poetry.lock says: versions, every file as its wheel brought it, dependencies.

Fails with the list of offenders.
"""

import argparse
import base64
import csv
import hashlib
from pathlib import Path

from errors import run
from proof import fail, poetry_differences, unmet_dependencies


def changed_files(prefix):
    """Return (a line for every file that is not as its distribution's RECORD says, number of files looked at)."""
    found, count = [], 0
    for record in sorted(Path(prefix).glob("lib/python3.*/site-packages/*.dist-info/RECORD")):
        with record.open(newline="") as rows:
            for path, expected, _ in csv.reader(rows):
                file = record.parent.parent / path
                method, _, digest = expected.partition("=")
                count += bool(digest)
                if digest and not file.exists():
                    found.append(f"{record.parent.name}: {path} is gone")
                elif digest:
                    content = hashlib.new(method, file.read_bytes()).digest()
                    if base64.urlsafe_b64encode(content).decode().rstrip("=") != digest.rstrip("="):
                        found.append(f"{record.parent.name}: {path} was changed")
    return found, count


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--locks", required=True)
    parser.add_argument("--groups", nargs="+", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--uv", required=True)
    options = parser.parse_args()

    changed, count = changed_files(options.prefix)
    fail(
        {
            "files that something changed": changed,
            "differences between the lock and what is installed": poetry_differences(
                options.prefix, options.locks, options.groups
            ),
            "dependencies that are not met": unmet_dependencies(options.prefix, options.uv),
        }
    )
    print(f"verified: {count} files as installed, the lock as installed, all dependencies met", flush=True)


if __name__ == "__main__":
    run(main)
