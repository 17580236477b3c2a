"""Where a cold build's seconds go: couplet's build of `science`, step by step, by the builder's own clock.

    nox -s bench -- steps [--rounds 3]     writes bench/results/steps.json, a table and a picture in docs/benchmarks.md

Each round builds from nothing, and another project after that, as the benchmark's measures `cold_build` and
`cold_build_warm_caches` do. What is written is the round whose build took the median time: steps of one build fit together.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from tests.harness import network

from . import docker as engine
from .report import put
from .workload import Workload, channel, prepare

RESULTS = Path(__file__).parent / "results/steps.json"
LEAST = 0.15
"""Seconds: shorter steps are left out of table and picture."""
BUILDS = {"cold": "from nothing", "warm": "another project was built before"}


@dataclass(frozen=True)
class Step:
    """One step of a build: its name, and when it began and ended, in seconds from the build's begin."""

    name: str
    began: float
    ended: float


def steps(lines: list[str]) -> list[Step]:
    """Return the steps that a build ran, in the order in which they began, from the lines that buildx prints with `--progress=rawjson`."""
    seen: dict[str, dict] = {}
    for line in lines:
        if line.startswith("{"):
            for vertex in json.loads(line).get("vertexes", []):
                seen.setdefault(vertex["digest"], {}).update(vertex)
    timed = [
        (
            vertex["name"],
            *(datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", vertex[key])) for key in ("started", "completed")),
        )
        for vertex in seen.values()
        if {"started", "completed"} <= vertex.keys() and not vertex.get("cached")
    ]
    first = min(began for _, began, _ in timed)
    found = [Step(label(name), (began - first).total_seconds(), (ended - first).total_seconds()) for name, began, ended in timed]
    return sorted(found, key=lambda step: (step.began, step.ended))


def label(name: str) -> str:
    """Return what people call a step: its stage, and the verbs of couplet that it runs or its first words."""
    stage, _, instruction = re.fullmatch(r"(?:\[([\w-]+)(?: (\d+/\d+))?\] )?(.*)", name, re.S).groups()
    if stage == "internal" or not stage:
        return instruction if not stage else f"{stage}: {instruction}"
    if verbs := re.findall(r"(?:couplet\.sh|\$couplet) ([\w-]+)", instruction):
        return f"{stage}: {', '.join(verbs)}"
    words = re.sub(r"--\w[\w-]*(=\S+)?\s+", "", instruction).split()
    return f"{stage}: {' '.join(word if word.startswith('.') else word.rpartition('/')[2] or word for word in words[:4])}"


def build(workload: Workload, tag: str, salt: str, caches: str) -> list[Step]:
    """Build the runtime image as `make build` does, and return its steps. Raises RuntimeError, with the end of its output, when it fails."""
    words = [
        ".couplet/host/docker-build.sh",
        "--progress=rawjson",
        "--build-arg",
        f"BUILDKIT_CACHE_MOUNT_NS={caches}",
        "--target",
        "runtime",
    ]
    done = subprocess.run(
        [*words, "--tag", tag], cwd=workload.couplet, env={**os.environ, "REGISTRY": salt},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stdout[-4000:])
    return steps(done.stdout.splitlines())


def table(builds: dict[str, list[Step]]) -> list[str]:
    """Return the page's lines: the steps of each build that took longer than a moment."""
    lines = []
    for name, found in builds.items():
        lines += [f"**{BUILDS[name].capitalize()}**: {max(step.ended for step in found):.1f} s in the builder.", ""]
        lines += ["| step | began | ended | seconds |", "| --- | ---: | ---: | ---: |"]
        for step in shown(found):
            lines.append(f"| {step.name} | {step.began:.1f} | {step.ended:.1f} | {step.ended - step.began:.1f} |")
        lines.append("")
    return [*lines, "![A cold build, step by step](pictures/bench-steps.svg)"]


def shown(found: list[Step]) -> list[Step]:
    """Return the steps that are long enough to be shown."""
    return [step for step in found if step.ended - step.began >= LEAST]


def main() -> int:
    """Measure and write."""
    from . import plots
    from .__main__ import machine

    parser = argparse.ArgumentParser(
        prog="bench.steps", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    network.add_option(parser)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    say = partial(print, flush=True)
    with network.ready(options.network, say) as sources:
        with tempfile.TemporaryDirectory(prefix="couplet-bench-", dir="/var/tmp") as folder:
            states = prepare(Path(folder), channel(sources), say)
            rounds: dict[str, list[list[Step]]] = {name: [] for name in BUILDS}
            for number in range(options.rounds):
                before = engine.held()
                images, caches, salt = ["couplet-bench-steps"], f"steps{number}", engine.salted(f"steps{number}")
                for name, state in zip(BUILDS, ("base", "other"), strict=True):
                    rounds[name].append(build(states[state], images[0], salt, caches))
                    say(f"round {number + 1} of {options.rounds}: {BUILDS[name]}: {rounds[name][-1][-1].ended:.1f} s")
                engine.forget([*images, *(f"{salt}{base}" for base in engine.BASES)], before)
        found = machine()
    builds = {
        name: sorted(taken, key=lambda one: max(step.ended for step in one))[len(taken) // 2] for name, taken in rounds.items()
    }
    result = {
        "machine": found,
        "rounds": options.rounds,
        "builds": {name: [asdict(step) for step in taken] for name, taken in builds.items()},
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    put("steps", table(builds))
    plots.steps({BUILDS[name]: [asdict(step) for step in shown(taken)] for name, taken in builds.items()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
