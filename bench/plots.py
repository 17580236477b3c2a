"""The plots: one picture a question, which a person can read without the table."""

from __future__ import annotations

import collections
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

FOLDER = Path(__file__).resolve().parents[1] / "docs/pictures"
NAMES = {
    "floor": "lower bound",
    "couplet": "couplet",
    "seed_conda_poetry_demo": "conda + Poetry demo",
    "seed_entrypoint": "entrypoint.sh",
    "seed_saturn": "postBuild",
    "seed_multistage_venv": "multi-stage venv",
    "seed_staged_poetry": "staged Poetry",
}
COLOURS = {"couplet": "#0b6e4f", "floor": "#8a8a8a"}
OTHER = "#c9a227"
PANELS = (
    ("cold_build", "from nothing"),
    ("cold_build_warm_caches", "another project was built before"),
    ("rebuild_source_edit", "after a source edit"),
)
"""Measures that one picture compares; one that a single system has is in the picture of that one alone."""
CHANGES = {
    "cold_build": "everything (from nothing)",
    "rebuild_conda_dependency": "one more conda dependency",
    "rebuild_pypi_dependency": "one more PyPI dependency",
    "rebuild_source_edit": "the source",
    "rebuild_nothing": "nothing",
}


def _style() -> None:
    plt.rcParams.update(
        {"svg.hashsalt": "couplet", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10, "axes.spines.top": False,
         "axes.spines.right": False}
    )  # fmt: skip


def _save(figure, name: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    # no date and no version in the file: the same figures give the same picture
    figure.savefig(FOLDER / f"{name}.svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    plt.close(figure)


def _bars(axes, values: dict[str, tuple[float, float, float]], unit: str, colours: dict[str, str]) -> None:
    """Draw one bar a name, {name: (median, least, most)}, with the spread as a thin line and the median in figures."""
    names = list(values)[::-1]
    medians = [values[name][0] for name in names]
    spread = [[values[n][0] - values[n][1] for n in names], [values[n][2] - values[n][0] for n in names]]
    axes.barh(names, medians, color=[colours[name] for name in names], xerr=spread,
              error_kw={"ecolor": "#444444", "elinewidth": 0.8})  # fmt: skip
    for row, name in enumerate(names):
        axes.annotate(f"{medians[row]:.1f}" if medians[row] < 100 else f"{medians[row]:.0f}", (values[name][2], row),
                      xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)  # fmt: skip
    axes.set_xlabel(unit)
    axes.margins(x=0.12)


def _systems(axes, values: dict[str, tuple[float, float, float]], unit: str) -> None:
    """Draw one bar a system."""
    named = {NAMES[system]: values[system] for system in NAMES if system in values}
    _bars(axes, named, unit, {NAMES[system]: COLOURS.get(system, OTHER) for system in NAMES})


def builds(rows: list[dict]) -> None:
    """How long do builds take? One panel a situation."""
    _style()
    counts = collections.Counter(row["measure"] for row in rows)
    found = [(measure, title) for measure, title in PANELS if counts[measure] > 1]
    figure, panels = plt.subplots(len(found), 1, figsize=(7, 1.9 * len(found)), squeeze=False)
    for axes, (measure, title) in zip(panels[:, 0], found, strict=True):
        values = {row["system"]: (row["median"], row["min"], row["max"]) for row in rows if row["measure"] == measure}
        _systems(axes, values, "seconds")
        axes.set_title(title, loc="left", fontsize=11)
    figure.tight_layout()
    _save(figure, "bench-builds")


def rebuilds(rows: list[dict]) -> None:
    """How long does couplet's build take after which change?"""
    _style()
    figure, axes = plt.subplots(figsize=(7, 2.2))
    found = {row["measure"]: row for row in rows if row["system"] == "couplet" and row["measure"] in CHANGES}
    values = {
        CHANGES[measure]: tuple(found[measure][key] for key in ("median", "min", "max"))
        for measure in CHANGES
        if measure in found
    }
    _bars(axes, values, "seconds", dict.fromkeys(values, COLOURS["couplet"]))
    axes.set_title("couplet, by what has changed", loc="left", fontsize=11)
    _save(figure, "bench-rebuilds")


def sizes(rows: list[dict]) -> None:
    """How large are the images?"""
    _style()
    figure, axes = plt.subplots(figsize=(7, 2.4))
    values = {
        row["system"]: tuple(row[key] / 1e6 for key in ("median", "min", "max"))
        for row in rows
        if row["measure"] == "image_bytes"
    }
    _systems(axes, values, "MB, base included")
    _save(figure, "bench-sizes")


def growth(rows: list[dict]) -> None:
    """How does a cold build grow with the number of conda packages?"""
    points: dict[str, dict[int, dict]] = {}
    for row in rows:
        if row["measure"].startswith("growth_"):
            points.setdefault(row["system"], {})[int(row["measure"].removeprefix("growth_"))] = row
    if not points:
        return
    _style()
    figure, axes = plt.subplots(figsize=(7, 3.2))
    for system, line in points.items():
        sizes_ = sorted(line)
        medians = [line[size]["median"] for size in sizes_]
        axes.plot(sizes_, medians, marker="o", color=COLOURS.get(system, OTHER), label=NAMES[system])
        axes.fill_between(
            sizes_,
            [line[s]["min"] for s in sizes_],
            [line[s]["max"] for s in sizes_],
            alpha=0.15,
            color=COLOURS.get(system, OTHER),
        )
        axes.annotate(NAMES[system], (sizes_[-1], medians[-1]), xytext=(6, 0), textcoords="offset points", va="center")
    axes.set_xlabel("conda packages")
    axes.set_ylabel("cold build, seconds")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    _save(figure, "bench-growth")


def steps(builds: dict[str, list[dict]]) -> None:
    """When does which step of a build run? One panel a build, one bar a step, the first at the top."""
    _style()
    heights = [len(found) for found in builds.values()]
    figure, panels = plt.subplots(
        len(builds), 1, figsize=(8, 0.24 * sum(heights) + 1.2 * len(builds)), sharex=True, height_ratios=heights, squeeze=False
    )
    for axes, (title, found) in zip(panels[:, 0], builds.items(), strict=True):
        rows = range(len(found), 0, -1)
        lengths = [step["ended"] - step["began"] for step in found]
        axes.barh(rows, lengths, left=[step["began"] for step in found], color=COLOURS["couplet"], height=0.7)
        for row, step, length in zip(rows, found, lengths, strict=True):
            axes.annotate(
                f"{length:.1f}", (step["ended"], row), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8
            )
        axes.set_yticks(list(rows), [step["name"] for step in found], fontsize=8)
        axes.set_title(title, loc="left", fontsize=10)
        axes.margins(x=0.06, y=0.02)
        axes.set_xlim(left=0)
    panels[-1, 0].set_xlabel("seconds from the build's begin")
    figure.tight_layout()
    _save(figure, "bench-steps")
