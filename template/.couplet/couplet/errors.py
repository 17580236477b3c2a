"""How every verb reports what went wrong: one message, no traceback, no password, and an exit code."""

from __future__ import annotations

import os
import re
import shutil
import sys
import traceback
from collections.abc import Callable

LITTLE_ROOM = 1_000_000_000
"""Bytes: with less left on the disk, a failure may be the disk's, whatever it looks like."""


PAGES = {
    "couplet.network": "networks.md",
    "couplet.lock.cooldown": "guide.md#a-cooldown",
    "couplet.lock.propose": "guide.md#locks-that-stay-fresh",
    "couplet.lock.stamp": "guide.md#what-make-env-update-changes",
    "couplet.lock": "guide.md#conda-or-poetry",
    "couplet.install.cuda": "guide.md#gpus",
    "couplet.install": "guide.md#a-build-that-fails",
    "couplet.image": "guide.md#the-environment",
    "couplet.inspect.audit": "supply-chain.md#known-vulnerabilities",
    "couplet.inspect.image": "supply-chain.md#verify-an-image",
    "couplet.inspect.report": "guide.md#make-targets",
    "couplet.inspect": "supply-chain.md#sbom",
    "couplet.saturn": "saturn.md",
    "couplet.update": "upgrading.md",
    "couplet.doctor": "upgrading.md#conflicts",
    "couplet": "guide.md#questions",
}
"""A part of this package -> the page of the template's docs/ that explains its messages. The first that fits decides."""


class UserError(Exception):
    """Something that a person can fix: the message says what happened, where (file and key), and what to type."""

    code = 1


def without_password(text: str) -> str:
    """Return the text as it may be printed: addresses without user names, passwords and conda's tokens."""
    # Poetry names hosts without what stands before ://
    plain = re.sub(r"(?<![^\s'\"])[\w.%+-]+:[^/@\s]+@(?=\w)(?!sha256:)", "***@", re.sub(r"://[^/@\s]*@", "://***@", text))
    return re.sub(r"/t/[^/\s'\"]+", "/t/***", plain)


def page(error: UserError) -> str:
    """Return the page that explains a message, by the parts of this package that the message went through."""
    modules = [frame.f_globals["__name__"] for frame, _ in traceback.walk_tb(error.__traceback__)]
    return next(page for part, page in PAGES.items() if any(module.startswith(part) for module in modules))


def run(main: Callable[[], int | None], for_a_person: bool = False) -> None:
    """Call `main()`, print a UserError as a message, and end the process with the exit code.

    A person is told the page that explains it; a program of this package takes the message as its own.
    """
    try:
        code = main() or 0
    except UserError as error:
        print(f"\nERROR: {without_password(str(error))}\n", file=sys.stderr)
        if for_a_person:
            print(f"The template's docs/{page(error)} says more.\n", file=sys.stderr)
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
