"""What activation costs: how long a program takes to start and end, bare and through each entry point.

    python bench/start.py IMAGE        the images IMAGE:latest and IMAGE:dev, built by make

Measured inside running containers, process start to process end, all ways in turn, so that neither the
engine's own third of a second nor a neighbour's load hides a millisecond. The bare program is started
with no entry point at all: by its whole path, and in place of `docker run` by the same tini.
Prints a table and writes bench/results/start.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "start.json"
WORKLOAD = "python -c pass"
TARGET = 5.0
"""Milliseconds over the bare program that an activation may cost (median)."""

INSIDE = """
import json, os, subprocess, sys, time
runs, environment, ways = json.load(sys.stdin)
taken = {name: [] for name in ways}
for turn in range(runs + 2):                      # two to warm up
    names = list(ways) if turn % 2 else list(ways)[::-1]
    for name in names:
        began = time.perf_counter()
        code = subprocess.run(ways[name], env=environment, stdin=subprocess.DEVNULL, capture_output=True).returncode
        ended = time.perf_counter()
        assert code == 0, (name, code)
        if turn > 1:
            taken[name].append((ended - began) * 1000)
print(json.dumps(taken))
"""


def docker(*words: str, **options) -> str:
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True, **options).stdout


def environment(image: str) -> dict[str, str]:
    """Return the variables that Docker gives a process in `image`."""
    variables = json.loads(docker("image", "inspect", image))[0]["Config"]["Env"]
    return {**dict(item.split("=", 1) for item in variables), "HOSTNAME": "bench", "HOME": "/home/app"}


def measure(image: str, ways: dict[str, list[str]], runs: int) -> dict[str, list[float]]:
    """Run each way `runs` times in a container of `image`, in turn; returns {way: [milliseconds]}."""
    variables = environment(image)
    python = f"{variables['ENV_PREFIX']}/bin/python"
    options = ("--rm", "--interactive", "--network", "none", "--entrypoint", python)
    return json.loads(docker("run", *options, image, "-c", INSIDE, input=json.dumps([runs, variables, ways])))


def rows(image: str, runs: int) -> list[dict]:
    """Return the rows of the result (docs: design of bench/results/latest.json)."""
    prefix = environment(f"{image}:latest")["ENV_PREFIX"]
    program = [f"{prefix}/bin/python", "-c", "pass"]
    by_name = ["python", "-c", "pass"]
    tini = ["/usr/bin/tini", "-s", "-g", "--"]
    conda = f". /opt/conda/etc/profile.d/conda.sh && conda activate {prefix} && exec python -c pass"
    runtime = measure(
        f"{image}:latest",
        {
            "start_bare": [*tini, *program],
            "start_activated": [*tini, "/usr/local/bin/entrypoint.sh", *by_name],
            "exec_bare": program,
            "exec_activated": ["/usr/local/bin/python", "-c", "pass"],
        },
        runs,
    )
    dev = measure(f"{image}:dev", {"start_activated": ["/usr/bin/env", "-u", "BASH_ENV", "/bin/bash", "-c", conda]}, runs)
    return [
        {"measure": name, "system": system, "unit": "ms", "median": round(statistics.median(times), 3),
         "min": round(min(times), 3), "max": round(max(times), 3), "runs": len(times)}
        for system, taken in (("couplet", runtime), ("conda_sh_and_conda_activate", dev))
        for name, times in taken.items()
    ]  # fmt: skip


def machine() -> dict:
    """Return what the figures were taken on."""
    return {"cpus": os.cpu_count(), "architecture": platform.machine(), "kernel": platform.release(),
            "load": os.getloadavg()[0], "note": "a shared machine with other work on it"}  # fmt: skip


def main() -> int:
    """Measure, print and write; returns 1 where the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", help="name of both images, without a tag")
    parser.add_argument("--runs", type=int, default=40, help="runs of each way (at least 20)")
    options = parser.parse_args()
    if options.runs < 20:
        parser.error("--runs: a median of fewer than 20 says little")

    result = {"machine": machine(), "workload": WORKLOAD, "rows": rows(options.image, options.runs)}
    for row in result["rows"]:
        print(
            f"{row['measure']:16}{row['system']:30}{row['median']:8.2f} ms  ({row['min']:.2f} to {row['max']:.2f}, {row['runs']} runs)"
        )
    medians = {row["measure"]: row["median"] for row in result["rows"] if row["system"] == "couplet"}
    over = {way: medians[f"{way}_activated"] - medians[f"{way}_bare"] for way in ("start", "exec")}
    for way, cost in over.items():
        print(f"{way}: activation costs {cost:.2f} ms; the target is at most {TARGET:.0f}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    return int(max(over.values()) > TARGET)


if __name__ == "__main__":
    raise SystemExit(main())
