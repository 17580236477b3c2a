"""The targets, and what people look at: a table, and plots."""

from __future__ import annotations

import re
import statistics
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .systems import CONDA_SEEDS

PAGE = Path(__file__).resolve().parents[1] / "docs/benchmarks.md"
PICTURES = [
    "![Builds: seconds a system, by situation](pictures/bench-builds.svg)",
    "![Couplet's rebuilds: seconds, by what has changed](pictures/bench-rebuilds.svg)",
    "![Sizes of the images](pictures/bench-sizes.svg)",
    "![Growth with the number of conda packages](pictures/bench-growth.svg)",
]
Medians = dict[tuple[str, str], float]


@dataclass(frozen=True)
class Target:
    """One line of the table of targets: a ratio of medians in one run, and what it may be at most."""

    what: str
    most: float
    ratio: Callable[[Medians], float]
    unit: str = "x"


def _seeds(medians: Medians, measure: str) -> float:
    """Return the best (least) median of the seeds' ways that have conda."""
    return min(medians[measure, seed] for seed in CONDA_SEEDS)


TARGETS = (
    Target("cold build, against the lower bound", 1.6, lambda m: m["cold_build", "couplet"] / m["cold_build", "floor"]),
    Target("cold build, against the best conda seed's", 0.5, lambda m: m["cold_build", "couplet"] / _seeds(m, "cold_build")),
    Target(
        "cold build with warm package caches, against the lower bound's", 1.2,
        lambda m: m["cold_build_warm_caches", "couplet"] / m["cold_build_warm_caches", "floor"],
    ),
    Target(
        "rebuild after a source edit, against one with no change", 1.5,
        lambda m: m["rebuild_source_edit", "couplet"] / m["rebuild_nothing", "couplet"],
    ),
    Target(
        "rebuild after one more PyPI dependency, against the cold build", 0.35,
        lambda m: m["rebuild_pypi_dependency", "couplet"] / m["cold_build", "couplet"],
    ),
    Target(
        "rebuild after one more conda dependency, against the cold build", 0.6,
        lambda m: m["rebuild_conda_dependency", "couplet"] / m["cold_build", "couplet"],
    ),
    Target("image minus base, against the installed files", 1.05, lambda m: _added(m, "couplet") / m["payload_bytes", "couplet"]),
    Target(
        "image minus base, against the smallest conda seed's", 0.6,
        lambda m: _added(m, "couplet") / min(_added(m, seed) for seed in CONDA_SEEDS),
    ),
    Target(
        "growth: seconds a conda package, against the lower bound's", 1.6, lambda m: _slope(m, "couplet") / _slope(m, "floor"),
    ),
    Target("start, activated minus bare", 5.0, lambda m: m["start_activated", "couplet"] - m["start_bare", "couplet"], "ms"),
    Target("exec, activated minus bare", 5.0, lambda m: m["exec_activated", "couplet"] - m["exec_bare", "couplet"], "ms"),
    Target("verification of conda's files, against the cold build", 0.05, lambda m: m["verify", "couplet"] / m["cold_build", "couplet"]),
    Target("env-check", 1.0, lambda m: m["env_check", "couplet"], "s"),
    Target(
        "env-update with nothing changed, against a rebuild with no change", 2.0,
        lambda m: m["env_update_nothing", "couplet"] / m["rebuild_nothing", "couplet"],
    ),
)  # fmt: skip


def _slope(medians: Medians, system: str) -> float:
    """Return the seconds that one more package costs: the least-squares slope over the medians."""
    points = {int(measure.removeprefix("growth_")): value for (measure, of), value in medians.items()
              if measure.startswith("growth_") and of == system}  # fmt: skip
    if len(points) < 2:
        raise KeyError("growth")
    return statistics.linear_regression(list(points), list(points.values())).slope


def _added(medians: Medians, system: str) -> float:
    """Return the bytes of an image that are not its slim base's."""
    return medians["image_bytes", system] - medians["base_bytes", "debian"]


def medians_of(result: dict) -> Medians:
    """Return {(measure, system): median}."""
    return {(row["measure"], row["system"]): row["median"] for row in result["rows"]}


def show(result: dict) -> bool:
    """Print the figures and the targets that they allow to judge; returns whether one is missed."""
    for row in result["rows"]:
        scale, unit = (1e-6, "MB") if row["unit"] == "bytes" else (1, row["unit"])
        low, middle, high = (row[key] * scale for key in ("min", "median", "max"))
        print(f"{row['measure']:26}{row['system']:26}{middle:10.2f} {unit:3} ({low:.2f} to {high:.2f}, {row['runs']} runs)")
    medians, missed = medians_of(result), False
    print()
    for target in TARGETS:
        try:
            found = target.ratio(medians)
        except KeyError:
            continue
        met = found <= target.most
        missed |= not met
        print(
            f"{'met   ' if met else 'MISSED'}  {found:6.2f} {target.unit}  at most {target.most:4} {target.unit}  {target.what}"
        )
    return missed


def table_of_targets(result: dict) -> list[str]:
    """Return the targets as rows of a Markdown table."""
    medians = medians_of(result)
    lines = ["| measure | target | found | |", "| --- | --- | --- | --- |"]
    for target in TARGETS:
        try:
            found = target.ratio(medians)
        except KeyError:  # the workload growth needs a channel of our own: not with the public registries
            lines.append(f"| {target.what} | at most {target.most} {target.unit} | | not measured |")
            continue
        verdict = "met" if found <= target.most else "**missed**"
        lines.append(f"| {target.what} | at most {target.most} {target.unit} | {found:.2f} {target.unit} | {verdict} |")
    return lines


def table_of_figures(result: dict) -> list[str]:
    """Return all rows as a Markdown table."""
    lines = ["| measure | system | median | least | most | runs |", "| --- | --- | ---: | ---: | ---: | ---: |"]
    for row in result["rows"]:
        scale, unit = (1e-6, "MB") if row["unit"] == "bytes" else (1, row["unit"])
        shown = [f"{row[key] * scale:.2f} {unit}" for key in ("median", "min", "max")]
        lines.append(f"| {row['measure']} | {row['system']} | {' | '.join(shown)} | {row['runs']} |")
    return lines


def put(name: str, lines: list[str]) -> None:
    """Write lines between two marks of the page. Raises ValueError where the page has no place for them."""
    mark = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.S)
    text, count = mark.subn(lambda found: found[1] + "\n".join(lines) + "\n" + found[2], PAGE.read_text(), count=1)
    if not count:
        raise ValueError(f"{PAGE} has no place for {name}: <!-- {name} --> and <!-- end -->")
    PAGE.write_text(text)


def write(result: dict) -> None:
    """Write the page's tables, between its marks, and the plots."""
    from . import plots

    machine = ", ".join(f"{name} {value}" for name, value in result["machine"].items())
    parts = {
        "targets": table_of_targets(result),
        "pictures": PICTURES,
        "figures": [*textwrap.wrap(f"Machine and versions: {machine}.", 120), "", *table_of_figures(result)],
    }
    for name, lines in parts.items():
        put(name, lines)
    for draw in (plots.builds, plots.rebuilds, plots.sizes, plots.growth):
        draw(result["rows"])
