"""The suite in several processes at once, those of pytest-xdist. A pytest plugin (decision 0070).

    -n 2        two processes; `nox -s tests` says `-n auto`, which is three where there are two cores
    -n 0        one, as without

What shares a build runs in one process, and what takes longest begins first, both by tests/durations.json. A test marked `alone`, which
loads the machine on purpose, waits until the other processes are between two tests, and they wait for it. A process
has images of its own (`IMAGES` in tests/conftest.py), and hands on at its end what the one summary of all needs.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.harness import parts, summary

MOST = 3
"""Processes of `-n auto`: one more than cores, since a third of a test's time is waiting; more would wait for the one engine."""
LONG = 5.0
"""Seconds: what takes less is rather made in each process than keeps tests together."""
EACH = {"package_sources"}
"""What nearly every test needs and each process makes: kept together by it, all of them would be one unit."""


def units(needs: parts.Needs, shared: dict[str, float]) -> dict[str, str]:
    """Return {test: unit}: tests that share something long are one unit, and so are those that share with one of them.

    A unit has the name of one of its tests. `shared` is the table of tests/durations.json.
    """
    first: dict[str, str] = {}  # of what is shared -> the test that has it
    found = {test: test for test in needs}

    def root(test: str) -> str:
        while found[test] != test:
            test = found[test]
        return test

    for test, names in needs.items():
        for name in names:
            if name not in EACH and shared.get(name, parts.BUILD) >= LONG:
                found[root(test)] = root(first.setdefault(name, test))
    return {test: root(test) for test in needs}


class Together(LoadScopeScheduling):
    """pytest-xdist's scheduler of groups, with `units` as groups, the longest first."""

    def __init__(self, config: pytest.Config, log, needs: Path) -> None:
        super().__init__(config, log)
        self.needs = needs
        self.units: dict[str, str] = {}
        self.seconds: dict[str, float] = {}

    def schedule(self) -> None:
        if not self.units and self.needs.exists():
            needs = {test: frozenset(names) for test, names in json.loads(self.needs.read_text()).items()}
            times = parts.read()
            self.units = units(needs, times["shared"])
            together: dict[str, list[str]] = {}
            for test, unit in self.units.items():
                together.setdefault(unit, []).append(test)
            self.seconds = {unit: parts.seconds(tests, needs, times) for unit, tests in together.items()}
            part = "part {}/{}: ".format(*self.config.getoption("--part")) if self.config.getoption("--part") else ""
            total = parts.seconds(needs, needs, times)
            self.config.pluginmanager.getplugin("terminalreporter").write_line(
                f"{part}{len(needs)} tests, {total:.0f} s one after the other, in {self.numnodes} processes; {len(together)} units"
            )
        super().schedule()

    def _split_scope(self, nodeid: str) -> str:
        return self.units[nodeid]

    def _assign_work_unit(self, node) -> None:
        # the base class takes the first
        self.workqueue.move_to_end(max(self.workqueue, key=self.seconds.__getitem__), last=False)
        super()._assign_work_unit(node)


# --- pytest ----------------------------------------------------------------------------------------

needs_file = pytest.StashKey[Path]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let pyproject.toml name the folders of the package's own tests."""
    parser.addini("package", "folders and files of the package's own tests", type="paths")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "alone: no test of another process runs beside it")
    if config.getoption("numprocesses", 0) and not hasattr(config, "workerinput"):
        config.stash[needs_file] = Path(tempfile.mkdtemp(prefix="couplet-")) / "needs.json"


def pytest_unconfigure(config: pytest.Config) -> None:
    if file := config.stash.get(needs_file, None):
        for left in [file, *(file.with_name(name) for name in ("queue", "room"))]:
            left.unlink(missing_ok=True)
        file.parent.rmdir()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many processes `-n auto` is."""
    cores = len(os.sched_getaffinity(0))
    return min(MOST, cores + 1) if cores > 1 else 0


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log) -> Together:
    return Together(config, log, config.stash[needs_file])


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node) -> None:
    """Tell a process where it writes which tests share what: only who has collected them knows."""
    node.workerinput["needs"] = str(node.config.stash[needs_file])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    given = getattr(session.config, "workerinput", None)
    if given and given["workerid"] == "gw0":
        needs = parts.needs_of(session.items, parts.read()["shared"])
        Path(given["needs"]).write_text(json.dumps({test: sorted(names) for test, names in needs.items()}))


@contextlib.contextmanager
def room(folder: Path, alone: bool) -> Iterator[None]:
    """Be in a room that many share, or one has alone. `folder` is where the processes find its two locks.

    Who wants it alone waits at the head of the queue until the last one is out, so that nobody else goes in first.
    """
    with (folder / "queue").open("w") as queue, (folder / "room").open("w") as inside:
        fcntl.flock(queue, fcntl.LOCK_EX)
        fcntl.flock(inside, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(queue, fcntl.LOCK_UN)
        yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item):
    given = getattr(item.config, "workerinput", None)
    if not given:
        return (yield)
    with room(Path(given["needs"]).parent, item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item):
    """Measure coverage in the package's own tests alone: it makes rendering and building twice as slow."""
    cover = getattr(item.config.pluginmanager.getplugin("_cov"), "cov_controller", None)
    unit = {item.path, item.path.parent}.intersection(item.config.getini("package"))
    measured = bool(unit) and not item.get_closest_marker("engine")
    if cover and cover.started != measured:
        (cover.resume if measured else cover.pause)()
    return (yield)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the summary's figures on."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["summary"] = json.dumps(summary.state())


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error) -> None:
    """Take them; a process that crashed has none, and what it ran is in pytest's own report."""
    if told := getattr(node, "workeroutput", {}).get("summary"):
        summary.add(json.loads(told))
