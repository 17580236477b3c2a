"""What 100 projects, 1,000 developers and 10,000 pulls a day cost: worked out from bench/results/fleet.json.

    nox -s bench -- scale      writes the tables of docs/scale.md and the picture docs/pictures/scale.svg

Arithmetic alone, in the order of the page: what is measured, what is assumed, what follows. tests/suite/test_scale.py holds the page to it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

HERE = Path(__file__).parent
FIGURES = HERE / "results/fleet.json"
PAGE = HERE.parent / "docs/scale.md"
PICTURE = HERE.parent / "docs/pictures/scale.svg"
MB, GB, TB = 1e6, 1e9, 1e12

ASSUMED = {
    "projects": (100, "projects, each with an image of its own"),
    "developers": (1000, "developers"),
    "pulls": (10_000, "pulls of images a day, by nodes of clusters and by people"),
    "pushes": (5, "pushes a developer and day, each of which CI builds"),
    "updates": (1, "changes of a project's locks a week (of five days); CI builds each from nothing"),
    "known": (0.9, "of the pulls are by a node that had an image of the same locks before: it takes the code's layer alone"),
    "bases": (0.95, "of the rest had an image on the same base"),
    "kept": (30, "days that published images are kept"),
}
"""Name -> value and what it means. Change them for your own fleet, and run this again."""


def measured(file: Path = FIGURES) -> dict[str, float]:
    """The medians of a results file by measure."""
    return {row["measure"]: row["median"] for row in json.loads(file.read_text())["rows"]}


def work_out(of: dict[str, float], assumed: dict[str, float] | None = None) -> dict[str, float]:
    """What a day costs: bytes, minutes of one builder (two cores), and bytes kept. From measured medians and assumed values."""
    given = {name: value for name, (value, _) in ASSUMED.items()} | (assumed or {})
    image, code, base = of["pull_image_bytes"], of["pull_code_bytes"], of["pull_base_bytes"]
    builds = given["developers"] * given["pushes"]
    fresh = given["projects"] * given["updates"] / 5
    unknown = given["pulls"] * (1 - given["known"])
    share = given["known"] * code + (1 - given["known"]) * (given["bases"] * (image - base) + (1 - given["bases"]) * image)
    return {
        "builds": builds,
        "fresh": fresh,
        "pulls_all": given["pulls"] * image,
        "pulls_kept": given["pulls"] * share,
        "pulls_one_base": given["pulls"] * (given["known"] * code + (1 - given["known"]) * (image - base)),
        "unknown": unknown,
        "minutes_cold": (builds + fresh) * of["fleet_cold"] / 60,
        "minutes_cache": (builds * of["fleet_from_cache"] + fresh * of["fleet_cold"]) / 60,
        "minutes_lasting": (builds * of["fleet_edit_second"] + fresh * of["fleet_cold"]) / 60,
        "cache_read": builds * image,
        "cache_read_lasting": fresh * image,
        "cache_kept": given["projects"] * of["cache_bytes"],
        "images_kept": given["projects"] * (image + given["kept"] / 7 * given["updates"] * (image - base))
        + builds * given["kept"] * code,
    }


def size(value: float) -> str:
    """Bytes for people: three digits."""
    for unit, name in ((TB, "TB"), (GB, "GB"), (MB, "MB")):
        if value >= unit:
            number = value / unit
            return f"{number:.0f} {name}" if number >= 100 else f"{number:.1f} {name}"
    return f"{value / 1e3:.1f} kB"


def time(minutes: float) -> str:
    """Minutes for people."""
    return f"{minutes / 60:,.0f} hours" if minutes >= 120 else f"{minutes:.0f} minutes"


def tables(of: dict[str, float]) -> dict[str, str]:
    """The tables of the page by the name of their place in it."""
    cost = work_out(of)
    seconds = {
        "fleet_cold": "a cold build on an empty builder, base images pulled too",
        "fleet_from_cache": "the same on an empty builder, layers from the shared cache",
        "fleet_pull": "for comparison: an empty engine pulls that image, ready-made",
        "fleet_edit_second": "after an edit of the code, on a builder that lasts",
    }
    lengths = {
        "pull_image_bytes": "the runtime image, as it travels (compressed)",
        "pull_base_bytes": "of it the base image",
        "pull_code_bytes": "of it the example's code, the layer that most builds change",
        "cache_bytes": "layer cache of both images in the registry",
    }
    rows = [f"| {text} | {of[name]:.1f} s |" for name, text in seconds.items()]
    rows += [f"| {text} | {size(of[name])} |" for name, text in lengths.items()]
    head = "| {} | |\n| --- | ---: |\n"
    first = f"| {time(cost['minutes_cold'])} | {time(cost['minutes_cache'])} | {time(cost['minutes_lasting'])} |"
    return {
        "measured": head.format("measured") + "\n".join(rows),
        "assumed": head.format("assumed") + "\n".join(f"| {text} | {value:,} |" for value, text in ASSUMED.values()),
        "minutes": "| every build from nothing | with a shared cache | with builders that last |\n| ---: | ---: | ---: |\n"
        + first,
        "traffic": "\n".join(
            [
                "| a day | |",
                "| --- | ---: |",
                f"| {ASSUMED['pulls'][0]:,} pulls, each of a whole image | {size(cost['pulls_all'])} |",
                f"| the same, by nodes that keep what they have | {size(cost['pulls_kept'])} |",
                f"| the same, with the base on every node beforehand | {size(cost['pulls_one_base'])} |",
                f"| {cost['builds']:,.0f} builds that take the image's layers from the shared cache | {size(cost['cache_read'])} |",
                f"| the same, on builders that last: new locks alone | {size(cost['cache_read_lasting'])} |",
            ]
        ),
        "storage": "\n".join(
            [
                "| kept | |",
                "| --- | ---: |",
                f"| layer cache of {ASSUMED['projects'][0]} projects, one a project | {size(cost['cache_kept'])} |",
                f"| images of {ASSUMED['kept'][0]} days | {size(cost['images_kept'])} |",
            ]
        ),
    }


def page(text: str, of: dict[str, float]) -> str:
    """The page with its tables made anew."""
    for name, table in tables(of).items():
        mark, end = f"<!-- {name} -->", "<!-- end -->"
        assert mark in text, f"docs/scale.md has no place for the table {name}: write {mark} and {end}"
        text = re.sub(f"{mark}\n.*?{end}", lambda _, made=f"{mark}\n{table}\n{end}": made, text, count=1, flags=re.S)
    return text


def picture(of: dict[str, float]) -> str:
    """An SVG of a day's traffic: one bar a line of the table."""
    cost = work_out(of)
    bars = [
        ("10,000 pulls of whole images", cost["pulls_all"]),
        ("nodes that keep layers", cost["pulls_kept"]),
        ("and have the base already", cost["pulls_one_base"]),
        ("CI from the shared cache", cost["cache_read"]),
        ("CI on builders that last", cost["cache_read_lasting"]),
    ]
    longest = max(value for _, value in bars)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {30 * len(bars) + 10}" font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, (name, value) in enumerate(bars):
        top, width = 30 * number + 8, max(1.0, 400 * value / longest)
        lines += [
            f'<text x="210" y="{top + 15}" text-anchor="end">{name}</text>',
            f'<rect x="220" y="{top}" width="{width:.1f}" height="20" fill="#3b7dd8"/>',
            f'<text x="{226 + width:.1f}" y="{top + 15}">{size(value)}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(), measured()))
    PICTURE.write_text(picture(measured()))
