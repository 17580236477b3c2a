"""A plugin of Poetry: what conda installed is left alone, by add, install, sync, remove and update alike.

Poetry would remove what its lock does not name (sync, remove), and install its own copy over one of conda's that
carries a direct_url.json, as those of a later `conda install` do (python-poetry/poetry#6408). What belongs to conda is
read from its records each time, so that such an install is known as well.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cleo.events.console_events import TERMINATE
from poetry.installation.executor import Executor
from poetry.plugins.application_plugin import ApplicationPlugin

from couplet.formats.records import Distribution, conda_distributions
from couplet.formats.versions import same_version

RELOCKS = {"add", "remove", "update", "lock"}


def leave_to_conda(operations: list[Any], conda: dict[str, Distribution]) -> list[str]:
    """Skip the operations on distributions of conda's; return a line for each that asked for something else."""
    lines = []
    for operation in operations:
        package = operation.package
        mine = conda.get(package.name)
        if mine is None or operation.skipped:
            continue
        if operation.job_type != "uninstall":
            target = operation.target_package if operation.job_type == "update" else package
            wanted = target.version.to_string()
            if not same_version(wanted, mine.version):
                lines.append(
                    f"{package.name} stays at {mine.version}, which conda's package {mine.owner} installed; poetry.lock has {wanted}"
                )
        operation.skip("it is conda's")
    return lines


class CondaFirst(ApplicationPlugin):  # type: ignore[misc]
    """Stand in front of the one method by which Poetry changes an environment."""

    def activate(self, application: Any) -> None:
        """Replace that method, and ask to be told of the end of each command."""
        execute = Executor.execute

        def guarded(executor: Any, operations: list[Any]) -> int:
            prefix = Path(executor._env.path)
            if not (prefix / "conda-meta").is_dir():
                return int(execute(executor, operations))
            lines = leave_to_conda(operations, conda_distributions(prefix))
            # Poetry uninstalls with pip, which guards.py made refuse in here.
            os.environ["PIP_BREAK_SYSTEM_PACKAGES"] = "1"
            try:
                code = int(execute(executor, operations))
            finally:
                del os.environ["PIP_BREAK_SYSTEM_PACKAGES"]
            if lines:
                executor._io.write_error_line(
                    "\n<warning>" + "\n".join(lines) + "\nThe locks and this environment differ: "
                    "run `make env-update` outside of the container, then enter it anew.</warning>"
                )
            return code

        Executor.execute = guarded
        application.event_dispatcher.add_listener(TERMINATE, remind)


def remind(event: Any, name: str, dispatcher: Any) -> None:
    """After a command that wrote poetry.lock, say what is left to do."""
    if event.command.name in RELOCKS and event.exit_code == 0:
        event.io.write_error_line("\nNow run `make env-update` outside of the container: it checks both locks and stamps them.")
