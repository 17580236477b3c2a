"""How every verb reports what went wrong: one message, no traceback, no password, and an exit code."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable

LITTLE_ROOM = 1_000_000_000
"""Bytes: with less left on the disk, a failure may be the disk's, whatever it looks like."""


class UserError(Exception):
    """Something that a person can fix: the message says what happened, where (file and key), and what to type."""

    code = 1


def without_password(text: str) -> str:
    """Return the text as it may be printed: addresses without user names, passwords and conda's tokens."""
    # Poetry names hosts without what stands before ://
    plain = re.sub(r"(?<![^\s'\"])[\w.%+-]+:[^/@\s]+@(?=\w)(?!sha256:)", "***@", re.sub(r"://[^/@\s]*@", "://***@", text))
    return re.sub(r"/t/[^/\s'\"]+", "/t/***", plain)


def run(main: Callable[[], int | None]) -> None:
    """Call `main()`, print a UserError as a message, and end the process with the exit code."""
    try:
        code = main() or 0
    except UserError as error:
        print(f"\nERROR: {without_password(str(error))}\n", file=sys.stderr)
        code = error.code
    # A full disk is not always called so: pip takes it for a broken connection.
    if code and (free := shutil.disk_usage("/").free) < LITTLE_ROOM:
        print(
            f"Docker's disk has {free // 1_000_000} MB left. If that is why this failed: `make docker-prune ALL=1` makes room on it.",
            file=sys.stderr,
        )
    sys.stdout.flush()
    sys.stderr.flush()
    # At once: a request of rattler's that is still under way would bring the interpreter down with a message of its own.
    os._exit(code)
