"""What loads a machine or wrecks an engine on purpose is marked `soak`: `nox -s soak` runs it, at night and before a release.

`nox -s tests` leaves it out, and its summary says when it last passed and on which commit (tests/soak.json, which a whole run
that passes on a clean tree writes). A pytest plugin.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import ParameterSet

RECORD = Path(__file__).parents[1] / "soak.json"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="only what is marked soak; without this, all but that")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "soak: loads the machine or wrecks an engine on purpose; `nox -s soak` runs it")


def some(values: Iterable[Any], *by_day: Any) -> list[ParameterSet]:
    """Return parameters: those of `by_day` for each run, the others for `nox -s soak`. A tuple is several arguments."""
    values = list(values)
    assert set(by_day) <= set(values), f"no such parameter: {set(by_day) - set(values)}"
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=() if value in by_day else pytest.mark.soak)
        for value in values
    ]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep one of the two kinds."""
    wanted = config.getoption("--soak")
    others = [item for item in items if (item.get_closest_marker("soak") is not None) != wanted]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in set(others)]


def state(folder: Path) -> str:
    """Return the commit of a checkout, '' where the tree differs from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True).stdout.strip()

    return "" if git("status", "--porcelain") else git("rev-parse", "HEAD")


def told(record: Path) -> str:
    """Return the line of the summary."""
    if not record.exists():
        return "soak (nox -s soak): not recorded yet"
    found = json.loads(record.read_text())
    return f"soak (nox -s soak): {found['tests']} tests last passed on {found['date']} at {found['commit'][:12]}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    """Say when it last passed; after a whole run that passed, write it down."""
    narrowed = config.getoption("keyword") or config.getoption("markexpr") or config.getoption("--part")
    named = config.args_source is not pytest.Config.ArgsSource.TESTPATHS
    whole = config.getoption("--soak") and not (narrowed or named)
    passed = len(terminalreporter.stats.get("passed", ()))
    if whole and exitstatus == 0 and passed and not os.environ.get("PYTEST_XDIST_WORKER") and (commit := state(RECORD.parent)):
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        RECORD.write_text(json.dumps({"commit": commit, "date": today, "tests": passed}, indent=1) + "\n")
    terminalreporter.write_line(f"  {told(RECORD)}")
