"""Say what the image is made of: base, conda's and Poetry's packages by size and owner, and the layers.

Runs inside the image that it reports on (scripts/report.sh), with its Python's standard library alone.
Standard input: `docker image inspect`, then a line of JSON from `docker history` for each layer. Prints a
summary, and writes image.svg and image.html, which need nothing else, into a folder.
"""

import argparse
import csv
import json
import os
import re
import stat
import sys
from collections import Counter
from email.parser import HeaderParser
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

# owner: (what it is called, fill, frame)
OWNERS = {
    "base": ("base", "#d9dce1", "#5b6470"),
    "conda": ("conda", "#bfe3c8", "#1f6b3a"),
    "poetry": ("Poetry", "#c4d9f7", "#1d4f9c"),
    "project": ("project and doors", "#f9d8b0", "#8a4b08"),
}
OURS = ("/opt/", "/usr/local/bin/", "/usr/bin/tini", "/work/", "/home/", "/etc/profile.d/activate.sh")
# Where the environment is a virtual one: the base's Python is in /usr/local too, and belongs to the base.
OURS_IN_PYTHON = (
    "/opt/",
    "/usr/local/sbin/",
    "/usr/local/bin/entrypoint.sh",
    "/usr/bin/dumb-init",
    *OURS[3:],
)


class Package(NamedTuple):
    """Something with a name that owns files: bytes in the image, and how many files."""

    owner: str
    name: str
    version: str
    size: int
    files: int


class Layer(NamedTuple):
    """A layer of the image, oldest first: what made it, and its bytes."""

    made_by: str
    size: int


# --- whose file is it ------------------------------------------------------------------------------


def conda_files(prefix):
    """Return {path: key} of conda's files in the environment."""
    found = {}
    for file in Path(prefix, "conda-meta").glob("*.json"):
        record = json.loads(file.read_text())
        key = ("conda", record["name"], record["version"])
        found[str(file)] = key
        found |= {f"{prefix}/{path}": key for path in record["files"]}
    return found


def python_files(prefix, project, taken):
    """Return {path: key} of the distributions in site-packages whose RECORD is in no package of conda's."""
    found = {}
    for record in Path(prefix).glob("lib/python3.*/site-packages/*.dist-info/RECORD"):
        if str(record) in taken:
            continue
        headers = HeaderParser().parsestr((record.parent / "METADATA").read_text(errors="replace"))
        name = re.sub(r"[-_.]+", "-", headers["Name"]).lower()
        key = ("project" if name == project else "poetry", name, headers["Version"])
        with record.open(newline="") as rows:
            for row in csv.reader(rows):
                found[os.path.normpath(record.parent.parent / row[0])] = key
    return found


def debian_files():
    """Return {path: key} of the base's files, by Debian package. Empty where the base is no Debian."""
    status = Path("/var/lib/dpkg/status")
    found = {}
    if status.exists():
        text = status.read_text(errors="replace")
        versions = dict(re.findall(r"^Package: (\S+)$.*?^Version: (\S+)$", text, re.M | re.S))
        for file in Path("/var/lib/dpkg/info").glob("*.list"):
            name = file.stem.partition(":")[0]
            for path in file.read_text(errors="replace").splitlines():
                # /bin and /lib are links into /usr today, and the lists name both
                found[os.path.realpath(os.path.dirname(path)) + "/" + os.path.basename(path)] = (
                    "base",
                    name,
                    versions.get(name, ""),
                )
    return found


def source_of(path):
    """Return the source of a compiled Python file, or the path itself: it belongs to whom its source belongs."""
    compiled = re.fullmatch(r"(.*/)__pycache__/([^/]+?)\.cpython-\d+(?:\.opt-\d)?\.pyc", path)
    return f"{compiled[1]}{compiled[2]}.py" if compiled else path


def files(root="/"):
    """Yield (path, bytes) of every file of the image: each once, whatever hard links lead to it."""
    seen = set()
    device = os.lstat(root).st_dev
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if on_device(os.path.join(folder, name), device)]
        for name in names:
            path = os.path.join(folder, name)
            try:
                found = os.lstat(path)
            except OSError:
                continue
            known = (found.st_dev, found.st_ino)
            regular = stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)
            if regular and found.st_dev == device and known not in seen:
                seen.add(known)
                yield path, found.st_size


def on_device(path, device):
    """Return whether a folder is of the image itself: what is mounted into the container is not."""
    try:
        return os.lstat(path).st_dev == device
    except OSError:
        return False


def packages(prefix, project):
    """Return every Package of the image, the largest first. Files of no package count for their owner's rest."""
    keys = debian_files()
    conda = conda_files(prefix)
    keys |= python_files(prefix, project, conda)
    keys |= conda  # conda has the last word
    virtual = Path(prefix, "pyvenv.cfg").exists()
    ours = OURS_IN_PYTHON if virtual else OURS
    sizes, counts = Counter(), Counter()
    for path, size in files():
        key = keys.get(path) or keys.get(source_of(path))
        if not key and virtual and path.startswith("/usr/local/") and not path.startswith(ours):
            key = ("base", "python", ".".join(map(str, sys.version_info[:3])))
        if not key:
            key = ("project" if path.startswith(ours) else "base", "(other files)", "")
        sizes[key] += size
        counts[key] += 1
    for key in keys.values():  # a package without files of its own is there all the same
        counts[key] += 0
    found = [Package(*key, sizes[key], counts[key]) for key in counts]
    return sorted(found, key=lambda package: (-package.size, package.name))


def layers(lines):
    """Return the Layers that hold anything, oldest first, from the lines of `docker history` (newest first)."""
    found = []
    for line in lines:
        row = json.loads(line)
        text = re.sub(r"\s+", " ", row["CreatedBy"]).removesuffix(" # buildkit")
        helper = re.search(r"/docker/(\w+)\.(?:py|sh)( runtime| dev)?(?! *;)(?=[^;]*$)", text)
        text = f"RUN docker/{helper[1]}" if helper else text.removeprefix("/bin/sh -c #(nop) ")
        if int(row["Size"]):
            found.append(Layer(text or "the base image", int(row["Size"])))
    return found[::-1]


def owner_of(layer):
    """Return the owner of most of a layer."""
    helpers = {
        "the base image": "base",
        "RUN docker/install_conda": "conda",
        "RUN docker/install_poetry": "poetry",
    }
    return helpers.get(layer.made_by, "project")


# --- words -----------------------------------------------------------------------------------------


def human(size):
    """Return bytes as people read them: MB with one digit, kB below."""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def percent(share, digits=1):
    """Return a share of 1 as a person writes it."""
    return f"{100 * share:.{digits}f} %"


def plural(count):
    """Return how many packages, as a person writes it."""
    return f"{count} package{'' if count == 1 else 's'}"


def by_owner(found):
    """Return {owner: (bytes, number of packages)}, in the order of OWNERS."""
    return {
        owner: (
            sum(p.size for p in found if p.owner == owner),
            sum(p.owner == owner and p.name != "(other files)" for p in found),
        )
        for owner in OWNERS
        if any(p.owner == owner for p in found)
    }


def summary(image, found, made, most=15):
    """Return the report as text for a terminal."""
    total = sum(package.size for package in found)
    lines = [f"{image['name']}: {human(image['size'])}, of which {human(total)} in files", ""]
    for owner, (size, count) in by_owner(found).items():
        share = size / total
        bar = "#" * round(40 * share)
        lines.append(
            f"  {OWNERS[owner][0]:24}{human(size):>10}  {percent(share, 0):>5}  {plural(count):>12}  {bar}".rstrip()
        )
    lines += ["", "The largest packages:", ""]
    for package in found[:most]:
        lines.append(
            f"  {package.name:24}{human(package.size):>10}  {OWNERS[package.owner][0]} {package.version}".rstrip()
        )
    lines += ["", "The layers, oldest first:", ""]
    lines += [
        f"  {human(layer.size):>10}  {layer.made_by if len(layer.made_by) < 90 else layer.made_by[:87] + '...'}"
        for layer in made
    ]
    return "\n".join(lines)


# --- pictures --------------------------------------------------------------------------------------


def squarify(items, x, y, width, height):
    """Yield (item, x, y, width, height): a rectangle cut into pieces as near to squares as they get.

    `items` are (item, weight), the heaviest first (Bruls, Huizing and van Wijk, 2000).
    """
    items = [(item, weight) for item, weight in items if weight > 0]
    weight = sum(weight for _, weight in items)
    while items and width > 0 and height > 0:
        scale = width * height / weight
        side = min(width, height)
        row, best = 1, None
        while row <= len(items):
            areas = [w * scale for _, w in items[:row]]
            thick = sum(areas) / side
            worst = max(max(thick * thick / a, a / thick / thick) for a in areas)
            if best is not None and worst > best:
                break
            best, row = worst, row + 1
        row -= 1
        thick = sum(w for _, w in items[:row]) * scale / side
        at = 0.0
        for item, w in items[:row]:
            length = w * scale / thick
            if width >= height:
                yield item, x, y + at, thick, length
            else:
                yield item, x + at, y, length, thick
            at += length
        weight -= sum(w for _, w in items[:row])
        items = items[row:]
        if width >= height:
            x, width = x + thick, width - thick
        else:
            y, height = y + thick, height - thick


def words(x, y, text, size=12, **more):
    """Return an SVG text."""
    rest = "".join(f" {key.replace('_', '-')}={quoteattr(str(value))}" for key, value in more.items())
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}"{rest}>{escape(text)}</text>'


def box(x, y, width, height, fill, title, **more):
    """Return an SVG rectangle that says what it is when pointed at."""
    rest = "".join(f" {key.replace('_', '-')}={quoteattr(str(value))}" for key, value in more.items())
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.1):.1f}" height="{max(height, 0.1):.1f}" fill="{fill}"{rest}>'
        f"<title>{escape(title)}</title></rect>"
    )


def fits(text, size, width):
    """Return whether a text is sure to fit a width (a wide letter is some 0.6 of the size)."""
    return len(text) * size * 0.6 <= width


def tile(package, x, y, width, height):
    """Return the SVG of one package in the treemap."""
    _, fill, ink = OWNERS[package.owner]
    title = f"{package.name} {package.version}: {human(package.size)} in {package.files} files"
    parts = [box(x, y, width, height, fill, title, stroke="#fff", stroke_width=1)]
    for size in (15, 12, 10):
        if fits(package.name, size, width - 8) and height > size + 6:
            middle = y + height / 2 + size * 0.35
            two = height > 2.6 * size + 6 and fits(human(package.size), size - 2, width - 8)
            place = {"text_anchor": "middle", "fill": ink, "pointer_events": "none"}
            parts.append(
                words(x + width / 2, middle - (size * 0.6 if two else 0), package.name, size, **place)
            )
            if two:
                parts.append(
                    words(x + width / 2, middle + size * 0.7, human(package.size), size - 2, **place)
                )
            break
    return "".join(parts)


def svg(image, found, made):
    """Return the picture: owners and packages by area, the layers as one bar."""
    width, margin, top, tall = 1200, 24, 112, 560
    inner = width - 2 * margin
    total = sum(package.size for package in found)
    out = [words(margin, 44, f"{image['name']}", 26, font_weight="bold")]
    what = ", ".join(filter(None, [human(image["size"]), image["version"], image["revision"][:12]]))
    out.append(words(margin, 68, what, 14, fill="#555"))

    at = margin
    for owner, (size, count) in by_owner(found).items():
        name, fill, ink = OWNERS[owner]
        text = f"{name} {human(size)} ({percent(size / total, 0)}, {plural(count)})"
        out.append(box(at, 84, 14, 14, fill, name, stroke=ink))
        out.append(words(at + 20, 96, text, 13))
        at += 20 + len(text) * 7.2 + 18

    groups = sorted(((o, size) for o, (size, _) in by_owner(found).items()), key=lambda pair: -pair[1])
    for owner, x, y, w, h in squarify(groups, margin, top, inner, tall):
        mine = [(package, package.size) for package in found if package.owner == owner]
        out += [tile(*piece) for piece in squarify(mine, x + 1.5, y + 1.5, w - 3, h - 3)]
        frame = OWNERS[owner][2]
        out.append(
            f'<rect x="{x + 1:.1f}" y="{y + 1:.1f}" width="{max(w - 2, 0.1):.1f}" height="{max(h - 2, 0.1):.1f}" '
            f'fill="none" stroke="{frame}" stroke-width="2"/>'
        )

    y = top + tall + 40
    out.append(words(margin, y, "Layers, oldest first", 16, font_weight="bold"))
    x, y = margin, y + 14
    whole = sum(layer.size for layer in made) or 1
    notes = []
    for number, layer in enumerate(made, 1):
        w = inner * layer.size / whole
        _, fill, ink = OWNERS[owner_of(layer)]
        out.append(box(x, y, w, 34, fill, f"{layer.made_by}: {human(layer.size)}", stroke="#fff"))
        if fits(str(number), 13, w - 4):
            place = {"text_anchor": "middle", "fill": ink, "pointer_events": "none"}
            out.append(words(x + w / 2, y + 22, str(number), 13, **place))
        x += w
        text = layer.made_by if len(layer.made_by) <= 120 else layer.made_by[:117] + "..."
        notes.append((number, human(layer.size), text))
    y += 60
    for number, size, text in notes:
        out.append(words(margin + 18, y, str(number), 13, text_anchor="end", fill="#555"))
        out.append(words(margin + 110, y, size, 13, text_anchor="end"))
        out.append(words(margin + 126, y, text, 13))
        y += 20
    height = y + 8
    label = quoteattr(f"What {image['name']} is made of")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f"role=\"img\" aria-label={label} font-family=\"system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif\" "
        f'fill="#1b1f24">\n<rect width="{width}" height="{height}" fill="#fff"/>\n'
        + "\n".join(out)
        + "\n</svg>\n"
    )


STYLE = """
body { font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; color: #1b1f24; background: #fff;
  max-width: 1200px; margin: 0 auto; padding: 0 1rem 3rem; }
svg { width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2rem .6rem; border-bottom: 1px solid #e3e6ea; vertical-align: top; }
th { position: sticky; top: 0; background: #fff; }
.number { text-align: right; white-space: nowrap; }
code { font-size: 13px; overflow-wrap: anywhere; }
.mark { display: inline-block; width: .8em; height: .8em; margin-right: .5em; }
"""


def table(heads, rows):
    """Return an HTML table; the cells are HTML already. Heads that start with # are numbers."""
    kinds = [' class="number"' if head.startswith("#") else "" for head in heads]
    parts = ["".join(f"<th{kind}>{head.lstrip('#')}</th>" for head, kind in zip(heads, kinds, strict=True))]
    parts += [
        "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, kinds, strict=True)) for row in rows
    ]
    body = "\n".join(f"<tr>{part}</tr>" for part in parts[1:])
    return f"<table>\n<thead><tr>{parts[0]}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def html(image, found, made):
    """Return the page: the picture, then every package and every layer, and what the labels say."""
    total = sum(package.size for package in found)
    rows = [
        (
            escape(p.name),
            escape(p.version),
            f'<span class="mark" style="background: {OWNERS[p.owner][1]}"></span>{OWNERS[p.owner][0]}',
            human(p.size),
            percent(p.size / total),
            str(p.files),
        )
        for p in found
    ]
    title = escape(f"What {image['name']} is made of")
    labels = [(f"<code>{escape(k)}</code>", f"<code>{escape(v)}</code>") for k, v in image["labels"].items()]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
{svg(image, found, made)}
<h2>Packages</h2>
{table(["name", "version", "owner", "#size", "#share", "#files"], rows)}
<h2>Layers</h2>
{table(["#size", "made by"], [(human(layer.size), f"<code>{escape(layer.made_by)}</code>") for layer in made])}
<h2>Labels</h2>
{table(["label", "value"], labels)}
</body>
</html>
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="what the image is called")
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--project", required=True, help="name of the project's distribution")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()

    inspected, end = json.JSONDecoder().raw_decode(text := sys.stdin.read().lstrip())
    labels = inspected[0]["Config"].get("Labels") or {}
    image = {
        "name": options.name,
        "size": inspected[0]["Size"],
        "labels": labels,
        "version": labels.get("org.opencontainers.image.version", ""),
        "revision": labels.get("org.opencontainers.image.revision", ""),
    }
    made = layers(filter(str.strip, text[end:].splitlines()))
    found = packages(options.prefix, options.project)
    print(summary(image, found, made))
    (options.out / "image.svg").write_text(svg(image, found, made))
    (options.out / "image.html").write_text(html(image, found, made))


if __name__ == "__main__":
    main()
