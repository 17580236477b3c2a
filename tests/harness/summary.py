"""A table of what was tested, for people: by variant, as Markdown and HTML in reports/, and in CI's step summary.

A pytest plugin. The images' sizes and the seconds of their builds are in container. `reports/summary.json` has the same for `nox -s bench -- harness`.
"""

from __future__ import annotations

import html
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.harness import container
from tests.harness.variants import Variant

FOLDER = "reports"
HEAD = ("variant", "tests", "failed", "seconds", "image", "dev image")
NONE = "(no variant)"


@dataclass
class Row:
    """Tests of a variant: how many ran, how many failed, and the seconds that they took, builds included."""

    tests: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    seconds: float = 0.0


def lines(rows: dict[str, Row], sizes: dict[str, tuple[int, int]]) -> list[tuple[str, ...]]:
    """Return the table's cells: a line for each variant, those without one first, and the sum."""
    found = []
    for name in sorted(rows, key=lambda name: (name != NONE, name)):
        row = rows[name]
        images = [f"{size / 1e6:.0f} MB" for size in sizes[name]] if name in sizes else ["", ""]
        found.append((name, str(len(row.tests)), str(len(row.failed)), f"{row.seconds:.0f}", *images))
    total = [sum(map(len, values)) for values in ([r.tests for r in rows.values()], [r.failed for r in rows.values()])]
    return [*found, ("all", str(total[0]), str(total[1]), f"{sum(row.seconds for row in rows.values()):.0f}", "", "")]


def markdown(cells: list[tuple[str, ...]]) -> str:
    """Return the table as Markdown."""
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in cells]
    rule = ["---", *["---:"] * (len(HEAD) - 1)]
    return "".join(f"| {' | '.join(line)} |\n" for line in [HEAD, rule, *escaped])


def page(cells: list[tuple[str, ...]], below: str = "") -> str:
    """Return the table as a page of HTML, with a line below it."""

    def line(tag: str, words: tuple[str, ...]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(word)}</{tag}>" for word in words) + "</tr>\n"

    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>couplet: tests</title>\n'
        "<style>body{font:16px sans-serif;margin:2em}td,th{padding:.3em 1em;text-align:right;border-bottom:1px solid #ccc}"
        "td:first-child,th:first-child{text-align:left}tr:last-child{font-weight:bold}</style>\n"
        f"<h1>couplet: tests</h1>\n<table>\n{line('th', HEAD)}{''.join(line('td', words) for words in cells)}</table>\n"
        f"<p>{html.escape(below)}</p>\n</html>\n"
    )


def coverage(config: pytest.Config) -> str:
    """Return how much of the package in .couplet/ its unit tests ran: '' where pytest-cov did not measure it."""
    total = getattr(config.pluginmanager.getplugin("_cov"), "cov_total", None)
    return "" if total is None else f"coverage of the package in .couplet/, by the tests that ran: TOTAL {total:.0f} %"


def figures(processes: int) -> dict[str, Any]:
    """Return the run's figures: seconds by the clock and of all tests, and for each variant its tests, steps and image bytes."""
    plain = {
        name: {"tests": len(row.tests), "failed": len(row.failed), "seconds": round(row.seconds, 1),
               "steps": {step: round(value, 1) for step, value in container.steps.get(name, {}).items()},
               "bytes": container.sizes.get(name, ())}
        for name, row in sorted(rows.items())
    }  # fmt: skip
    return {"seconds": round(time.time() - began), "processes": processes, "containers": container.started, "variants": plain}


def note(text: str) -> None:
    """Have a figure printed at the end of the run."""
    notes.append(text)


notes: list[str] = []
counts: Counter[str] = Counter()
"""What tests that passed have counted, by `record_property(what, number)`; and those marked `fault`, as faults survived."""
began = time.time()
inside: set[str] = set()
"""The tests that started a container."""


def state() -> dict[str, Any]:
    """Return this process' figures as plain data, for `add`."""
    plain = {
        name: {"tests": sorted(row.tests), "failed": sorted(row.failed), "seconds": row.seconds} for name, row in rows.items()
    }
    told = {"rows": plain, "notes": notes, "counts": counts, "inside": sorted(inside)}
    return told | {"started": container.started, "sizes": container.sizes, "steps": container.steps}


def add(told: dict[str, Any]) -> None:
    """Add another process' figures to this one's."""
    for name, figures in told["rows"].items():
        row = rows.setdefault(name, Row())
        row.tests.update(figures["tests"])
        row.failed.update(figures["failed"])
        row.seconds += figures["seconds"]
    notes.extend(told["notes"])
    counts.update(told["counts"])
    inside.update(told["inside"])
    container.started += told["started"]
    container.sizes.update(told["sizes"])
    container.steps.update(told["steps"])


# --- pytest ----------------------------------------------------------------------------------------

rows: dict[str, Row] = {}


def variant_of(item: pytest.Item) -> str:
    """Return the variant that a test is about."""
    params = getattr(getattr(item, "callspec", None), "params", {}).values()
    names = [value.name for value in params if isinstance(value, Variant)]
    return names[0] if names else "scripted" if "scripted" in item.fixturenames else NONE


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    outcome = yield
    row = rows.setdefault(variant_of(item), Row())
    row.tests.add(item.nodeid)
    row.seconds += call.duration
    report = outcome.get_result()
    if report.failed:
        row.failed.add(item.nodeid)
    if report.when == "call" and report.passed:
        counts.update({what: number for what, number in item.user_properties if isinstance(number, int)})
        counts["faults survived"] += item.get_closest_marker("fault") is not None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Note which tests ran on a built image."""
    started = container.started
    yield
    if container.started > started:
        inside.add(item.nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Name a failure when it happens: a whole run takes half an hour, and its log may end with the machine."""
    if report.failed and not (os.environ.get("PYTEST_XDIST_WORKER")):
        told = [line[:300] for line in report.longreprtext.splitlines() if line.startswith("E  ")]
        shown = "\n".join([f"{'FAILED' if report.when == 'call' else 'ERROR'} {report.nodeid}", *told[:1], *told[1:][-3:]])
        print(f"\n{shown}", flush=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"{len(inside)} tests ran inside containers ({container.started} containers started)")
    if not rows:
        return
    cells, covered = lines(rows, container.sizes), coverage(terminalreporter.config)
    table = markdown(cells) + (f"\n{covered}\n" if covered else "")
    folder = terminalreporter.config.rootpath / FOLDER
    folder.mkdir(exist_ok=True)
    (folder / "summary.md").write_text(table)
    (folder / "summary.html").write_text(page(cells, covered))
    processes = terminalreporter.config.getoption("numprocesses", 0) or 1
    (folder / "summary.json").write_text(json.dumps(figures(processes), indent=1) + "\n")
    if os.environ.get("GITHUB_STEP_SUMMARY"):
        with open(os.environ["GITHUB_STEP_SUMMARY"], "a") as file:
            file.write(table + "\n")
    terminalreporter.write_line(", ".join(f"{number} {what}" for what, number in sorted(counts.items()) if number))
    terminalreporter.write_line("")
    for text in notes:
        terminalreporter.write_line(f"  {text}")
    for line in [HEAD, *cells]:
        terminalreporter.write_line("  " + line[0].ljust(24) + "".join(word.rjust(12) for word in line[1:]))
    if covered:
        terminalreporter.write_line(f"  {covered}")
    terminalreporter.write_line(f"  also as {FOLDER}/summary.md and summary.html")
