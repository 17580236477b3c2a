"""The suite in N parts of about equal time, and the measured times that this goes by. A pytest plugin.

    --part 2/4                              run the second of four parts
    --durations-to tests/durations.json     measure, and write what was measured over what was there

tests/durations.json has two tables, in seconds: `tests`, each test by itself, and `shared`, what several tests wait for
once: a variant's images, a fixture of a session or a module. A part that needs one pays for it, so tests that share
a long build end up in one part, until there are so many of them that building twice is faster.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.variants import Variant

BUILD = 60.0
"""Seconds for a variant's images where they were never measured."""
TABLE = Path(__file__).resolve().parents[1] / "durations.json"
Needs = dict[str, frozenset[str]]
"""Test -> what it shares with others."""


def split(needs: Needs, times: dict[str, dict[str, float]], count: int) -> list[set[str]]:
    """Return `count` sets of tests, together all of them. `times` are the tables of tests/durations.json.

    The shortest time in which every part can be done is found by halving. A test that was never measured counts as
    the median.
    """
    own = {test: times["tests"].get(test, _median(times)) for test in needs}
    low, high = 0.0, seconds(needs, needs, times)
    best = _fill(needs, own, times["shared"], count, high)
    for _ in range(30):
        limit = (low + high) / 2
        parts = _fill(needs, own, times["shared"], count, limit)
        low, high, best = (low, limit, parts) if parts else (limit, high, best)
    return best


def _fill(needs: Needs, own: dict[str, float], shared: dict[str, float], count: int, limit: float) -> list[set[str]] | None:
    """Return parts of `limit` seconds at most, or None if these do not do.

    Group by group of tests with the same needs, the longest first: what is left of it goes into the part that has the
    most room, until nothing is left. So a group is in as few parts as may be.
    """
    groups: dict[frozenset[str], list[str]] = {}
    for test in sorted(needs, key=lambda test: (-own[test], test)):
        groups.setdefault(needs[test], []).append(test)
    parts: list[set[str]] = [set() for _ in range(count)]
    loads, there = [0.0] * count, [set() for _ in range(count)]

    def cost(need: Iterable[str]) -> float:
        return sum(shared.get(name, BUILD) for name in need)

    for need, left in sorted(groups.items(), key=lambda group: -cost(group[0]) - sum(own[test] for test in group[1])):
        for part in sorted(range(count), key=lambda part: loads[part] + cost(need - there[part])):
            load = loads[part] + cost(need - there[part])
            taken = set()
            for test in left:
                if load + own[test] <= limit * (1 + 1e-9):
                    load += own[test]
                    taken.add(test)
            if taken:
                loads[part] = load
                there[part] |= need
                parts[part] |= taken
                left = [test for test in left if test not in taken]
        if left:
            return None
    return parts


def _median(times: dict[str, dict[str, float]]) -> float:
    return statistics.median(times["tests"].values()) if times["tests"] else 1.0


def seconds(tests: Iterable[str], needs: Needs, times: dict[str, dict[str, float]]) -> float:
    """Return how long some tests take together."""
    chosen = list(tests)
    shared = frozenset().union(*(needs[test] for test in chosen))
    own = sum(times["tests"].get(test, _median(times)) for test in chosen)
    return own + sum(times["shared"].get(name, BUILD) for name in shared)


def read(table: Path = TABLE) -> dict[str, dict[str, float]]:
    """Return what was measured, or empty tables."""
    return json.loads(table.read_text()) if table.exists() else {"tests": {}, "shared": {}}


# --- pytest ----------------------------------------------------------------------------------------


def part_of(text: str) -> tuple[int, int]:
    """Return (2, 4) of 2/4. Raises ValueError."""
    number, count = map(int, text.split("/"))
    if not 1 <= number <= count:
        raise ValueError(text)
    return number, count


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", type=part_of, metavar="K/N", help="only the K-th of N parts, by measured time")
    parser.addoption("--durations-to", type=Path, metavar="FILE", help="measure, and write into this file")


def shared_name(definition: pytest.FixtureDef, param: Any = None) -> str:
    """Return under which name a fixture is in the table of what is shared: a variant's is the variant's, and one of a file has its file's."""
    if isinstance(param, Variant):
        return param.name
    return f"{definition.baseid}::{definition.argname}" if definition.baseid.endswith(".py") else definition.argname


def needs_of(items: list[pytest.Item], shared: dict[str, float]) -> Needs:
    """Return what each test shares: built variants, and of the rest what the table knows."""
    found = {}
    for item in items:
        params = dict(getattr(getattr(item, "callspec", None), "params", {}))
        # only rendered, not built
        params.pop("variant", None)
        # what is made for each test is not shared, whatever its name
        defined = item._fixtureinfo.name2fixturedefs
        fixtures = [f for f in item.fixturenames if f in defined and defined[f][-1].scope in ("session", "module")]
        names = [shared_name(defined[fixture][-1], params.get(fixture)) for fixture in fixtures]
        built = {param.name for param in params.values() if isinstance(param, Variant)}
        found[item.nodeid] = frozenset(name for name in names if name in shared or name in built)
    return found


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--part"):
        return
    number, count = config.getoption("--part")
    times = read()
    needs = needs_of(items, times["shared"])
    chosen = split(needs, times, count)[number - 1]
    config.stash[said] = f"part {number}/{count}: {len(chosen)} of {len(items)} tests, {seconds(chosen, needs, times):.0f} s"
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in chosen])
    items[:] = [item for item in items if item.nodeid in chosen]


said = pytest.StashKey[str]()


def pytest_report_collectionfinish(config: pytest.Config) -> str:
    return config.stash.get(said, "")


class Clock:
    """Seconds of each test by itself, and of what tests share."""

    def __init__(self) -> None:
        self.tests: dict[str, float] = {}
        self.shared: dict[str, float] = {}
        self.inside = 0.0

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef, request) -> Iterator[None]:
        """Time what a fixture of a session or module takes without the fixtures below it."""
        if fixturedef.scope not in ("session", "module"):
            yield
            return
        before, began = self.inside, time.monotonic()
        yield
        spent = time.monotonic() - began
        alone = spent - (self.inside - before)
        self.inside = before + spent
        name = shared_name(fixturedef, getattr(request, "param", None))
        self.shared[name] = max(alone, self.shared.get(name, 0.0))

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item, nextitem) -> Iterator[None]:
        before, began = self.inside, time.monotonic()
        yield
        self.tests[item.nodeid] = max(0.0, time.monotonic() - began - (self.inside - before))

    def take(self, tests: dict[str, float], shared: dict[str, float]) -> None:
        """Take another process' times over; of what both made, the longer."""
        self.tests |= tests
        for name, spent in shared.items():
            self.shared[name] = max(spent, self.shared.get(name, 0.0))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node, error) -> None:
        if told := getattr(node, "workeroutput", {}).get("durations"):
            self.take(*json.loads(told))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["durations"] = json.dumps([self.tests, self.shared])
            return
        file = session.config.getoption("--durations-to")
        old = read(file)
        tests = {test: spent for test, spent in old["tests"].items() if (session.config.rootpath / test.split("::")[0]).exists()}
        found = {
            "shared": old["shared"] | {name: round(spent, 1) for name, spent in self.shared.items() if spent > 1},
            "tests": tests | {test: round(spent, 2) for test, spent in self.tests.items()},
        }
        file.write_text(json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--durations-to"):
        config.pluginmanager.register(Clock(), "couplet-clock")
