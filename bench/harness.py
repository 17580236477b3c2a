"""What the tests themselves cost: the render of a variant, the suite from warm or cold caches, and where its seconds go.

    nox -s tests                               leaves reports/summary.json
    nox -s bench -- harness --caches warm      puts it, and renders measured anew, into bench/results/harness.json
                                               and docs/benchmarks.md; what is there of the other caches stays

Cold is a machine without an engine, a mirror or a layer; warm is the same after one run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from tests.harness import network, template
from tests.harness.summary import FOLDER, NONE
from tests.harness.variants import variants

from .measure import Taken
from .report import put

RESULTS = Path(__file__).parent / "results/harness.json"
RUNS = 5
STEPS = {"lock": "lock", "build": "image", "dev": "dev image"}


def renders(runs: int = RUNS) -> list[dict]:
    """Measure `copier copy` of every row of tests/variants.toml, all in turn; returns rows as those of the benchmark."""
    taken = Taken()
    with tempfile.TemporaryDirectory() as folder:
        source = template.snapshot(Path(folder) / "template")
        for number in range(runs):
            for row in variants():
                began = time.perf_counter()
                template.render(source, Path(folder) / f"{row.name}-{number}", row.answers)
                taken.add("render", row.name, time.perf_counter() - began)
    return taken.rows()


def table(found: dict) -> list[str]:
    """Return the page's lines: the suite by caches, then by variant, in seconds."""
    render = {row["system"]: row["median"] for row in found["renders"]}
    suites = found["suites"]
    lines = [
        "| the suite | by the clock | all tests, one after the other | processes | containers | failed |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for caches, run in suites.items():
        rows = run["variants"].values()
        total, failed = sum(row["seconds"] for row in rows), sum(row["failed"] for row in rows)
        lines.append(
            f"| {caches} caches | {run['seconds'] / 60:.1f} min | {total / 60:.1f} min | {run['processes']} | {run['containers']} | {failed} |"
        )
    names = [caches for caches in ("warm", "cold") if caches in suites]
    steps = [f"{text}, {caches}" for caches in names for text in STEPS.values()]
    lines += [
        "",
        f"| variant | render | tests, {names[0]} | {' | '.join(steps)} |",
        f"| --- | {' | '.join(['---:'] * (2 + len(steps)))} |",
    ]
    for name, row in suites[names[0]]["variants"].items():
        shown = [f"{render[name]:.1f} s" if name in render else "", f"{row['seconds']:.0f} s"]
        for caches in names:
            other = suites[caches]["variants"].get(name, {}).get("steps", {})
            shown += [f"{other[step]:.1f} s" if step in other else "" for step in STEPS]
        lines.append(f"| {name.replace(NONE, '(none)')} | {' | '.join(shown)} |")
    return lines


def main() -> int:
    """Measure, merge and write. Raises FileNotFoundError where no suite has run."""
    from .__main__ import machine

    parser = argparse.ArgumentParser(
        prog="bench.harness", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--caches", choices=["warm", "cold"], required=True)
    network.add_option(parser)
    options = parser.parse_args()
    run = json.loads((FOLDER / "summary.json").read_text())
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"suites": {}}
    # an engine, which says its version
    with network.ready(options.network, partial(print, flush=True)):
        found = {"machine": machine(), "renders": renders(), "suites": {**found["suites"], options.caches: run}}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    put("harness", table(found))
    print("\n".join(table(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
