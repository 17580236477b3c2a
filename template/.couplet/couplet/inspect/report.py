"""What an image is made of: its packages by size and owner (the base, conda, Poetry, the project), and its layers.

Runs inside the image that it reports on (host/report.sh), with the environment's Python and the standard library alone.
Standard input: `docker image inspect`, then a line of JSON from `docker history` for each layer. Prints a summary, and
writes image.svg and image.html, which load nothing.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar
from xml.sax.saxutils import escape, quoteattr

from couplet.formats.records import conda_records, licence, metadata
from couplet.inspect.words import plural

OWNERS = {
    "base": ("base", "#d9dce1", "#5b6470"),
    "conda": ("conda", "#bfe3c8", "#1f6b3a"),
    "poetry": ("Poetry", "#c4d9f7", "#1d4f9c"),
    "project": ("project", "#f9d8b0", "#8a4b08"),
}
"""Owner -> what it is called, the colour of its tiles, the colour of its frame and text."""
PROGRAMS = ("local/sbin/", "local/bin/entrypoint.sh", "local/bin/health", "bin/dumb-init")
OURS = ("/opt/", "/work/", "/home/", "/etc/profile.d/activate.sh", "/usr/local/bin/", "/usr/bin/tini")
OURS_BESIDE_PYTHON = (*OURS[:4], *(f"/usr/{path}" for path in PROGRAMS))
"""Where the environment is a virtual one: the base's Python is in /usr/local too, and belongs to the base."""
INSTALLERS = {"install-conda": "conda", "install-pypi": "poetry"}
"""Verb of this package -> the owner of the layer that it makes."""
REST = "(other files)"
COMPILED = re.compile(r"__pycache__/([^/]+?)\.cpython-\d+(?:\.opt-\d)?\.pyc$")

Key = tuple[str, str, str]
"""Owner, name and version of a package."""
T = TypeVar("T")
MIDDLE = {"text_anchor": "middle", "pointer_events": "none"}
"""The SVG attributes of a text in the middle of a rectangle."""


class Package(NamedTuple):
    """Something with a name that owns files: bytes in the image, and how many files."""

    owner: str
    name: str
    version: str
    size: int
    files: int


class Layer(NamedTuple):
    """A layer of the image: what made it, its bytes, and the owner of most of it."""

    made_by: str
    size: int
    owner: str


class Image(NamedTuple):
    """What the report is about; sizes are bytes."""

    name: str
    size: int
    labels: Mapping[str, str]
    packages: list[Package]
    layers: list[Layer]
    licences: Mapping[str, list[str]] = {}

    @property
    def in_files(self) -> int:
        """The bytes of all packages together."""
        return sum(package.size for package in self.packages)

    @property
    def owners(self) -> dict[str, tuple[int, int]]:
        """{owner: (bytes, number of packages)} of those that own something, in the order of OWNERS."""
        found = {}
        for owner in OWNERS:
            if mine := [package for package in self.packages if package.owner == owner]:
                found[owner] = sum(p.size for p in mine), sum(p.name != REST for p in mine)
        return found


# --- whose file is it ------------------------------------------------------------------------------


def conda_files(prefix: Path) -> dict[str, Key]:
    """Return {path: key} of conda's files in the environment, its records of them included."""
    found: dict[str, Key] = {}
    for record in conda_records(prefix):
        key = ("conda", record["name"], record["version"])
        record_file = f"conda-meta/{record['name']}-{record['version']}-{record['build']}.json"
        found |= {f"{prefix}/{path}": key for path in (record_file, *record["files"])}
    return found


def python_files(prefix: Path, project: str, taken: Mapping[str, Key]) -> dict[str, Key]:
    """Return {path: key} of the distributions in site-packages whose RECORD is in no package of conda's."""
    found: dict[str, Key] = {}
    for record in prefix.glob("lib/python3.*/site-packages/*.dist-info/RECORD"):
        if str(record) not in taken:
            name, version = metadata((record.parent / "METADATA").read_text(errors="replace"))
            key = ("project" if name == project else "poetry", name, version)
            with record.open(newline="") as rows:
                found |= {os.path.normpath(record.parent.parent / row[0]): key for row in csv.reader(rows)}
    return found


def debian_files(root: str) -> dict[str, Key]:
    """Return {path: key} of the base's files, by Debian package. Empty where the base is no Debian."""
    database = Path(root, "var/lib/dpkg")
    if not (database / "status").exists():
        return {}
    text = (database / "status").read_text(errors="replace")
    versions = dict(re.findall(r"^Package: (\S+)$.*?^Version: (\S+)$", text, re.M | re.S))
    found: dict[str, Key] = {}
    for listing in database.glob("info/*.list"):
        name = listing.stem.partition(":")[0]
        for path in listing.read_text(errors="replace").splitlines():
            # /bin and /lib are links into /usr today, and the lists name both
            folder, _, file = path.rpartition("/")
            found[f"{os.path.realpath(root + folder)}/{file}"] = ("base", name, versions.get(name, ""))
    return found


def files(root: str) -> Iterator[tuple[str, int]]:
    """Yield (path, bytes) of every file below `root`: each once, whatever links lead to it, and none of a mount."""
    seen = set()
    device = os.lstat(root).st_dev
    for folder, folders, names in os.walk(root):
        if os.lstat(folder).st_dev != device:
            folders.clear()
            continue
        for name in names:
            path = os.path.join(folder, name)
            try:
                found = os.lstat(path)
            except OSError:
                continue
            regular = stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)
            if regular and found.st_dev == device and found.st_ino not in seen:
                seen.add(found.st_ino)
                yield path, found.st_size


def packages(prefix: Path, project: str, root: str = "/") -> list[Package]:
    """Return every package below `root`, the largest first. Files of no package count for their owner's rest.

    `project` is the name of the project's own distribution.
    """
    conda = conda_files(prefix)
    # where two name the same file, conda takes precedence
    keys = debian_files(root) | python_files(prefix, project, conda) | conda
    virtual = (prefix / "pyvenv.cfg").exists()
    ours = OURS_BESIDE_PYTHON if virtual else OURS
    python = ("base", "python", ".".join(map(str, sys.version_info[:3])))
    sizes: Counter[Key] = Counter()
    # a package without files of its own is there all the same
    counts: Counter[Key] = Counter(dict.fromkeys(keys.values(), 0))
    for path, size in files(root):
        # a compiled file belongs to whom its source belongs
        key = keys.get(path) or keys.get(COMPILED.sub(r"\1.py", path))
        if not key and path.startswith(ours):
            key = ("project", REST, "")
        elif not key:
            key = python if virtual and path.startswith("/usr/local/") else ("base", REST, "")
        sizes[key] += size
        counts[key] += 1
    return sorted((Package(*key, sizes[key], counts[key]) for key in counts), key=lambda p: (-p.size, p.name))


def licences(prefix: Path) -> dict[str, list[str]]:
    """Return {licence: names} of conda's and Poetry's packages, the most frequent first; '' for those that name none."""
    conda = conda_files(prefix)
    found = [(record.get("license") or "", record["name"]) for record in conda_records(prefix)]
    for file in prefix.glob("lib/python3.*/site-packages/*.dist-info/METADATA"):
        if str(file) not in conda:
            text = file.read_text(errors="replace")
            found.append((licence(text), metadata(text)[0]))
    by_licence: dict[str, list[str]] = {}
    for name, package in sorted(found):
        by_licence.setdefault(name, []).append(package)
    return dict(sorted(by_licence.items(), key=lambda item: -len(item[1])))


def layers(lines: Iterable[str]) -> list[Layer]:
    """Return the layers that hold anything, oldest first, from the lines of `docker history` (newest first)."""
    found = []
    for line in lines:
        row = json.loads(line)
        size = int(row["Size"])
        text = re.sub(r"\s+", " ", row["CreatedBy"]).removesuffix(" # buildkit").removeprefix("/bin/sh -c #(nop) ")
        verbs = re.findall(r"\bcouplet(?:\.sh)? ([a-z]+(?:-[a-z]+)*)", text)
        owner = next((owner for verb, owner in INSTALLERS.items() if verb in verbs), "project" if text else "base")
        if verbs:
            text = f"RUN couplet {', '.join(verbs)}"
        if size:
            found.append(Layer(text or "the base image", size, owner))
    return found[::-1]


# --- words -----------------------------------------------------------------------------------------


def human(size: float) -> str:
    """Return bytes as people read them: MB with one digit, kB below 0.1 MB."""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def short(text: str, width: int) -> str:
    """Return the text, cut to `width` characters where it is longer."""
    return text if len(text) <= width else f"{text[: width - 3]}..."


def summary(image: Image, most: int = 15) -> str:
    """Return the report as text for a terminal, with the `most` largest packages."""
    total = image.in_files
    lines = [f"{image.name}: {human(image.size)}, of which {human(total)} in files", ""]
    for owner, (size, count) in image.owners.items():
        share = size / total
        about = f"  {OWNERS[owner][0]:24}{human(size):>10}  {format(share, '>5.0%')}  {plural(count, 'package'):>12}"
        lines.append(f"{about}  {'#' * round(40 * share)}".rstrip())
    lines += ["", "The largest packages:", ""]
    for p in image.packages[:most]:
        lines.append(f"  {p.name:24}{human(p.size):>10}  {OWNERS[p.owner][0]} {p.version}".rstrip())
    lines += ["", "The licences of conda's and Poetry's packages:", ""]
    lines += [
        f"  {len(names):>4}  {name or 'not known'}: {short(', '.join(names), 60)}" for name, names in image.licences.items()
    ]
    lines += ["", "The layers, oldest first:", ""]
    lines += [f"  {human(layer.size):>10}  {short(layer.made_by, 90)}" for layer in image.layers]
    return "\n".join(lines)


# --- pictures --------------------------------------------------------------------------------------


class Box(NamedTuple):
    """A rectangle in pixels, from its upper left corner."""

    x: float
    y: float
    width: float
    height: float

    def inside(self, by: float) -> Box:
        """Return the rectangle that is smaller by so many pixels on each side."""
        return Box(self.x + by, self.y + by, max(self.width - 2 * by, 0.1), max(self.height - 2 * by, 0.1))


def worst(areas: Sequence[float], side: float) -> float:
    """Return how far from a square the worst of some pieces is, that make one row along a side: 1 is a square."""
    thick = sum(areas) / side
    return max(max(thick * thick / area, area / thick / thick) for area in areas)


def squarify(items: Iterable[tuple[T, float]], box: Box) -> Iterator[tuple[T, Box]]:
    """Yield (item, rectangle): `box` cut into pieces, each as large as its item's weight and nearly a square.

    `items` are (item, weight), the heaviest first. Source: Bruls, Huizing and van Wijk, Squarified Treemaps, 2000.
    """
    left = [(item, weight) for item, weight in items if weight > 0]
    x, y, width, height = box
    while left and width > 0 and height > 0:
        scale = width * height / sum(weight for _, weight in left)
        areas = [weight * scale for _, weight in left]
        side, across, count = min(width, height), width < height, 1
        while count < len(left) and worst(areas[: count + 1], side) <= worst(areas[:count], side):
            count += 1
        thick, at = sum(areas[:count]) / side, 0.0
        for (item, _), area in zip(left[:count], areas, strict=False):
            length = area / thick
            yield item, Box(x + at, y, length, thick) if across else Box(x, y + at, thick, length)
            at += length
        left = left[count:]
        x, y, width, height = (x, y + thick, width, height - thick) if across else (x + thick, y, width - thick, height)


def tag(name: str, content: str, **attributes: object) -> str:
    """Return an element of SVG or HTML around `content`; numbers get one digit, and _ in a name is a dash."""
    texts = ((key, f"{value:.1f}" if isinstance(value, float) else str(value)) for key, value in attributes.items())
    rest = "".join(f" {key.replace('_', '-')}={quoteattr(text)}" for key, text in texts)
    return f"<{name}{rest}>{content}</{name}>"


def words(x: float, y: float, text: str, size: int, **more: object) -> str:
    """Return an SVG text of a size in pixels."""
    return tag("text", escape(text), x=float(x), y=float(y), font_size=size, **more)


def rectangle(box: Box, title: str, **more: object) -> str:
    """Return an SVG rectangle that says what it is when pointed at."""
    return tag("rect", f"<title>{escape(title)}</title>", **box.inside(0)._asdict(), **more)


def fits(text: str, size: int, width: float) -> bool:
    """Return whether a text is sure to fit a width (a wide letter is some 0.6 of the size)."""
    return len(text) * size * 0.6 <= width


def tile(package: Package, box: Box) -> str:
    """Return the SVG of one package in the treemap: its name and size where there is room."""
    _, fill, ink = OWNERS[package.owner]
    size_text = human(package.size)
    title = f"{package.name} {package.version}: {size_text} in {package.files} files"
    parts = [rectangle(box, title, fill=fill, stroke="#fff")]
    for size in (15, 12, 10):
        if fits(package.name, size, box.width - 8) and box.height > size + 6:
            x, middle = box.x + box.width / 2, box.y + box.height / 2 + size * 0.35
            two = box.height > 2.6 * size + 6 and fits(size_text, size - 2, box.width - 8)
            parts.append(words(x, middle - (size * 0.6 if two else 0), package.name, size, fill=ink, **MIDDLE))
            if two:
                parts.append(words(x, middle + size * 0.7, size_text, size - 2, fill=ink, **MIDDLE))
            break
    return "".join(parts)


FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
WIDTH, MARGIN, TOP, TALL = 1200, 24, 112, 560
"""Pixels: the picture's width and margin, and where its treemap begins and how tall it is."""


def svg(image: Image) -> str:
    """Return the picture: owners and packages by area, the layers as one bar with a list below."""
    version, revision = (image.labels.get(f"org.opencontainers.image.{key}", "") for key in ("version", "revision"))
    about = ", ".join(filter(None, [human(image.size), version, revision[:12]]))
    out = [words(MARGIN, 44, image.name, 26, font_weight="bold"), words(MARGIN, 68, about, 14, fill="#555")]
    at = float(MARGIN)
    for owner, (size, count) in image.owners.items():
        name, fill, ink = OWNERS[owner]
        text = f"{name} {human(size)} ({format(size / image.in_files, '.0%')}, {plural(count, 'package')})"
        out += [rectangle(Box(at, 84, 14, 14), name, fill=fill, stroke=ink), words(at + 20, 96, text, 13)]
        at += 20 + len(text) * 7.2 + 18

    groups = sorted(((owner, size) for owner, (size, _) in image.owners.items()), key=lambda pair: -pair[1])
    for owner, box in squarify(groups, Box(MARGIN, TOP, WIDTH - 2 * MARGIN, TALL)):
        mine = [(package, package.size) for package in image.packages if package.owner == owner]
        out += [tile(*piece) for piece in squarify(mine, box.inside(1.5))]
        out.append(tag("rect", "", **box.inside(1)._asdict(), fill="none", stroke=OWNERS[owner][2], stroke_width=2))

    y = TOP + TALL + 40
    out.append(words(MARGIN, y, "Layers, oldest first", 16, font_weight="bold"))
    at, per_byte = float(MARGIN), (WIDTH - 2 * MARGIN) / (sum(layer.size for layer in image.layers) or 1)
    for number, layer in enumerate(image.layers, 1):
        wide, below, size_text = layer.size * per_byte, y + 54 + 20 * number, human(layer.size)
        _, fill, ink = OWNERS[layer.owner]
        out.append(rectangle(Box(at, y + 14, wide, 34), f"{layer.made_by}: {size_text}", fill=fill, stroke="#fff"))
        if fits(str(number), 13, wide - 4):
            out.append(words(at + wide / 2, y + 36, str(number), 13, fill=ink, **MIDDLE))
        out += [
            words(MARGIN + 18, below, str(number), 13, text_anchor="end", fill="#555"),
            words(MARGIN + 110, below, size_text, 13, text_anchor="end"),
            words(MARGIN + 126, below, short(layer.made_by, 120), 13),
        ]
        at += wide
    height = y + 82 + 20 * len(image.layers)
    paper = f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>'
    picture = tag(
        "svg", "\n".join(["", paper, *out, ""]), xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {WIDTH} {height}",
        width=WIDTH, height=height, role="img", aria_label=f"What {image.name} is made of",
        font_family=FONT, fill="#1b1f24",
    )  # fmt: skip
    return f"{picture}\n"


STYLE = """
body { color: #1b1f24; max-width: 1200px; margin: 0 auto; padding: 0 1rem 3rem; }
svg { width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2rem .6rem; border-bottom: 1px solid #e3e6ea; overflow-wrap: anywhere; }
th { position: sticky; top: 0; background: #fff; }
.number { text-align: right; white-space: nowrap; }
"""


def table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return an HTML table below a heading. Heads that start with # are of numbers."""

    def row(kind: str, cells: Sequence[str]) -> str:
        classes = [{"class": "number"} if head.startswith("#") else {} for head in heads]
        return tag("tr", "".join(tag(kind, escape(cell), **about) for cell, about in zip(cells, classes, strict=True)))

    lines = [row("th", [head.lstrip("#") for head in heads]), *(row("td", cells) for cells in rows)]
    return tag("h2", title) + tag("table", "\n".join(lines))


def html(image: Image) -> str:
    """Return the page: the picture, then every package and every layer, and what the labels say."""
    total, title = image.in_files, escape(f"What {image.name} is made of")
    packages = [
        (p.name, p.version, OWNERS[p.owner][0], human(p.size), format(p.size / total, ".1%"), str(p.files))
        for p in image.packages
    ]
    viewport = '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"/>{viewport}<title>{title}</title><style>{STYLE}</style></head>
<body style="font: 15px/1.5 {FONT}">
{svg(image)}
{table("Packages", ["name", "version", "owner", "#size", "#share", "#files"], packages)}
{table("Licences", ["licence", "#packages", "names"], [(n or "not known", str(len(of)), ", ".join(of)) for n, of in image.licences.items()])}
{table("Layers", ["#size", "made by"], [(human(layer.size), layer.made_by) for layer in image.layers])}
{table("Labels", ["label", "value"], list(image.labels.items()))}
</body>
</html>
"""


def main(arguments: list[str]) -> None:
    """Report on the image that this runs in."""
    parser = argparse.ArgumentParser(prog="couplet report", description=__doc__)
    parser.add_argument("--name", required=True, help="what the image is called")
    parser.add_argument("--prefix", type=Path, required=True, help="the environment")
    parser.add_argument("--project", required=True, help="name of the project's distribution")
    parser.add_argument("--out", type=Path, required=True, help="folder for image.svg and image.html")
    options = parser.parse_args(arguments)

    inspected, end = json.JSONDecoder().raw_decode(text := sys.stdin.read().lstrip())
    image = Image(
        options.name,
        inspected[0]["Size"],
        inspected[0]["Config"].get("Labels") or {},
        packages(options.prefix, options.project),
        layers(filter(str.strip, text[end:].splitlines())),
        licences(options.prefix),
    )
    print(summary(image))
    (options.out / "image.svg").write_text(svg(image))
    (options.out / "image.html").write_text(html(image))
