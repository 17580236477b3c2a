"""A plugin of conda: before it changes the project's environment, say so if it may not; afterwards, that the lock does not know.

Imported by conda in the dev image, without the rest of this package.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from conda.base.context import context
from conda.exceptions import CondaError
from conda.plugins import hookimpl
from conda.plugins.types import CondaPostCommand, CondaPreCommand

COMMANDS = {"install", "remove", "uninstall", "update", "upgrade"}


def ours() -> bool:
    """Return whether the command changes the project's environment."""
    return str(context.target_prefix) == os.environ.get("ENV_PREFIX") and not context.dry_run


def refuse(command: str) -> None:
    """Refuse before anything is solved and downloaded, where nothing could be written."""
    if ours() and not os.access(context.target_prefix, os.W_OK):
        raise CondaError(
            f"`conda {command}` cannot write in {context.target_prefix}: it is for members of group 0. "
            "`make shell` is one; with docker run: --group-add 0"
        )


def remind(command: str) -> None:
    """Print the reminder, where it was the project's environment that changed."""
    if ours():
        print(
            f"\nThe lock does not contain this `conda {command}`: what it changed is lost when the container ends.\n"
            "To keep it, write it into environment.yml and run `make env-update` outside of the container.",
            file=sys.stderr,
        )


@hookimpl  # type: ignore[untyped-decorator]
def conda_pre_commands() -> Iterator[CondaPreCommand]:
    """Register `refuse` for the commands that change an environment."""
    yield CondaPreCommand(name="lock-refusal", action=refuse, run_for=COMMANDS)


@hookimpl  # type: ignore[untyped-decorator]
def conda_post_commands() -> Iterator[CondaPostCommand]:
    """Register `remind` for the commands that change an environment."""
    yield CondaPostCommand(name="lock-reminder", action=remind, run_for=COMMANDS)
