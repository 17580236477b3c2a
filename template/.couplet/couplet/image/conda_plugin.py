"""A plugin of conda: after it has changed the project's environment, say that the lock does not know of it."""

import os
import sys

from conda.base.context import context
from conda.plugins import CondaPostCommand, hookimpl

COMMANDS = {"install", "remove", "uninstall", "update", "upgrade"}


def remind(command):
    """Print the reminder, where it was the project's environment that changed."""
    if str(context.target_prefix) == os.environ.get("ENV_PREFIX") and not context.dry_run:
        print(
            f"\nThe lock does not know of this `conda {command}`: it is gone with the container.\n"
            "To keep it, write it into environment.yml and run `make env-update` outside of the container.",
            file=sys.stderr,
        )


@hookimpl
def conda_post_commands():
    """Register `remind` for the commands that change an environment."""
    yield CondaPostCommand(name="lock-reminder", action=remind, run_for=COMMANDS)
