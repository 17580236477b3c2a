"""Measure couplet, the seeds' ways and the lower bound on the same work, in one run.

    nox -s bench                    everything, as the committed result was made (about 45 minutes on 2 cores)
    nox -s bench -- --rounds 1      a glance
    nox -s bench -- --only couplet
    nox -s bench -- steps           where a cold build's seconds go (bench/steps.py)
    nox -s bench -- fleet           a second builder that takes the first one's layers (bench/fleet.py)
    nox -s bench -- lock            what locking takes, beside 0.4.0, and on a large channel (bench/lock.py)
    nox -s bench -- scale           what a hundred projects cost, by those figures (bench/scale.py)
    nox -s bench -- harness --caches warm       what the tests themselves cost (bench/harness.py)

Needs package sources as the tests do. Writes bench/results/latest.json, docs/benchmarks.md's table and the plots
beside it, and prints the targets with met or missed; with fewer than 5 rounds or only some systems it only prints.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from tests.harness import network

from . import docker, growth, measure, report, start, workload

RESULTS = Path(__file__).parent / "results/latest.json"
ENOUGH = 5


def machine() -> dict:
    """Return what the figures were taken on, and the versions."""
    import rattler

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**30
    return {"cpus": os.cpu_count(), "cpu": cpu, "memory_gib": memory, "architecture": platform.machine(), "kernel": platform.release(),
            "load_before": round(os.getloadavg()[0], 2), **docker.engine(), "py_rattler": rattler.__version__,
            "uv": docker.run("uv", "--version").split()[1]}  # fmt: skip


def main() -> int:
    """Measure, print and write; returns 1 where a target is missed."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    network.add_option(parser)
    parser.add_argument("--rounds", type=int, default=ENOUGH)
    parser.add_argument("--starts", type=int, default=40, help="starts of a program of each kind")
    parser.add_argument("--only", nargs="*", help="systems")
    options = parser.parse_args()
    say = partial(print, flush=True)

    with network.ready(options.network, say) as sources:
        address = workload.channel(sources)
        found = machine()
        taken = measure.Taken()
        with tempfile.TemporaryDirectory(prefix="couplet-bench-", dir="/var/tmp") as folder:
            workloads = [measure.Science(Path(folder), address, options.only, say)]
            if sources == "mirror" and not options.only:
                workloads.append(growth.Growth(Path(folder), address, address.rsplit("/", 1)[0], say))
            for number in range(options.rounds):
                began = time.perf_counter()
                for one in workloads:
                    one.round(taken, number)
                say(f"round {number + 1} of {options.rounds}: {time.perf_counter() - began:.0f} s")
            rows = taken.rows() + start.rows("couplet-bench-start", options.starts)
    result = {"machine": found, "network": sources, "workload": "science and growth", "rows": rows}
    missed = report.show(result)
    if options.rounds >= ENOUGH and not options.only:
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
        report.write(result)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
