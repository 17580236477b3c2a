"""Build everything in turn, several times over, and write down what it took."""

from __future__ import annotations

import statistics
from collections import defaultdict
from pathlib import Path

from . import docker as engine
from .docker import docker, image_bytes, run, timed
from .systems import SEEDS, Couplet, LowerBound, Seed, works
from .workload import Workload, edit_source, payload_bytes, prepare

DEPENDENCIES = ("pypi", "conda")
EDITED = "import science.step_1; print(open(science.step_1.__file__).read())"


class Taken:
    """What was measured: {(measure, system): [values]}."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.units: dict[str, str] = {}

    def add(self, measure: str, system: str, value: float, unit: str = "s") -> None:
        """Add one value."""
        self.values[measure, system].append(value)
        self.units[measure] = unit

    def rows(self) -> list[dict]:
        """Return the rows of bench/results/latest.json."""
        digits = {"s": 3, "ms": 3, "bytes": 0}
        return [
            {"measure": measure, "system": system, "unit": self.units[measure],
             "median": round(statistics.median(values), digits[self.units[measure]]),
             "min": round(min(values), digits[self.units[measure]]), "max": round(max(values), digits[self.units[measure]]),
             "runs": len(values)}
            for (measure, system), values in self.values.items()
        ]  # fmt: skip


class Science:
    """The workload `science`, locked, and the systems that build it."""

    def __init__(self, folder: Path, address: str, only: list[str] | None, say) -> None:
        self.say = say
        self.states = prepare(folder, address, say)
        self.systems = [Couplet(), LowerBound(folder / "floor"), *map(Seed, SEEDS)]
        self.systems = [system for system in self.systems if not only or system.name in only]
        # bench/start.py looks into these
        for target in ("build", "build-dev"):
            run("make", target, "IMAGE=couplet-bench-start", cwd=self.states["base"].couplet)

    def round(self, taken: Taken, number: int) -> None:
        """Measure all systems in turn, each from nothing to its rebuilds."""
        before = engine.held()
        taken.add("base_bytes", "debian", image_bytes("debian:bookworm-slim"), "bytes")
        salt, other = (engine.salted(f"bench{number}{suffix}") for suffix in ("", "-other"))
        images = [f"{prefix}{base}" for prefix in (salt, other) for base in engine.BASES]
        for system in self.systems if number % 2 == 0 else self.systems[::-1]:
            tag = f"couplet-bench-{system.name}"
            images.append(tag)
            _one(taken, system, self.states, tag, salt, other, number, self.say)
        engine.forget(images, before)


def _one(taken: Taken, system, states: dict[str, Workload], tag: str, salt: str, other: str, number: int, say) -> None:
    """Measure one system in one round."""
    base, caches = states["base"], f"round{number}"
    taken.add("cold_build", system.name, cold := system.build(base, tag, salt, caches))
    say(f"  {system.name}: cold build {cold:.1f} s")
    if system.name == "couplet":
        taken.add("verify", system.name, system.verified)
    taken.add("image_bytes", system.name, image_bytes(tag), "bytes")
    if number == 0:
        assert works(tag, getattr(system, "prefix", None)), f"{system.name}: the image does not work"
    if system.name == "floor":
        taken.add("payload_bytes", system.name, payload_bytes(system.prefix), "bytes")
        taken.add("cold_build_warm_caches", system.name, system.build(base, tag, other, caches))
        return
    if system.name == "couplet":
        inside = docker("run", "--rm", tag, "sh", "-c", 'find "$CONDA_PREFIX" -type f -printf "%s\\n"')
        taken.add("payload_bytes", system.name, sum(map(int, inside.split())), "bytes")
    taken.add("rebuild_nothing", system.name, system.build(base, tag, salt, caches))
    if system.name == "couplet":
        taken.add("env_check", system.name, timed("make", "env-check", cwd=base.couplet))
        taken.add("env_update_nothing", system.name, timed("make", "env-update", cwd=base.couplet))
    line = edit_source(system.source(base))
    taken.add("rebuild_source_edit", system.name, system.build(base, tag, salt, caches))
    assert line in docker("run", "--rm", tag, "python", "-c", EDITED), f"{system.name}: the edit did not arrive"
    if system.name != "couplet":
        return  # a seed's way installs everything anew after another dependency: its cold build says what that takes
    for state in DEPENDENCIES:
        taken.add(f"rebuild_{state}_dependency", system.name, system.build(states[state], f"{tag}-{state}", salt, caches))
        docker("image", "rm", "--force", f"{tag}-{state}")
    # Another project, where this one has been built before: it shares the packages and the layers of the tools.
    taken.add("cold_build_warm_caches", system.name, system.build(states["other"], f"{tag}-other", salt, caches))
    docker("image", "rm", "--force", f"{tag}-other")
