"""The report: whose each file is, what each layer is, and pictures whose areas add up."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from couplet.inspect import report
from couplet.inspect.report import Box, Layer

SITE = "lib/python3.13/site-packages"


def put(path: Path, size: int) -> None:
    """Write a file of so many bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


def distribution(prefix: Path, name: str, size: int) -> None:
    """Install a distribution as pip does: one module, METADATA and RECORD, the last two of few bytes."""
    put(prefix / SITE / f"{name}.py", size)
    folder = prefix / SITE / f"{name}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (folder / "RECORD").write_text(f"{name}.py,,\n{name}-1.0.dist-info/METADATA,,\n../../../bin/{name},,\n")


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """A small environment: conda's scipy with its compiled file, pip's floe, the project ice, and a file of nobody's."""
    prefix = tmp_path / "env"
    put(prefix / SITE / "scipy.py", 2000)
    put(prefix / SITE / "__pycache__/scipy.cpython-313.pyc", 1000)
    (prefix / "conda-meta").mkdir()
    record = {"name": "scipy", "version": "1.16", "build": "0", "files": [f"{SITE}/scipy.py"]}
    (prefix / "conda-meta/scipy-1.16-0.json").write_text(json.dumps(record))
    distribution(prefix, "floe", 500)
    put(prefix / "bin/floe", 70)
    distribution(prefix, "ice", 300)
    put(prefix / "notes.txt", 11)
    return prefix


def owned(prefix: Path) -> dict[tuple[str, str], report.Package]:
    """Return the packages of an environment by owner and name, without those of this machine's Debian."""
    found = report.packages(prefix, "ice", str(prefix))
    return {(p.owner, p.name): p for p in found if p.size}


def test_every_file_counts_for_its_owner_once(prefix):
    found = owned(prefix)
    record = (prefix / "conda-meta/scipy-1.16-0.json").stat().st_size
    assert found["conda", "scipy"] == ("conda", "scipy", "1.16", 3000 + record, 3)
    assert found["poetry", "floe"].files == 3 and found["poetry", "floe"].size > 570
    assert found["project", "ice"].size > 300
    assert found["base", report.REST].size == 11 + sum(file.stat().st_size for file in prefix.rglob("RECORD"))
    everything = sum(file.stat().st_size for file in prefix.rglob("*") if file.is_file())
    assert sum(package.size for package in found.values()) == everything
    os.link(prefix / "notes.txt", prefix / "same.txt")
    assert sum(package.size for package in owned(prefix).values()) == everything, "a hard link is no second file"


def test_what_conda_does_not_record_is_not_condas(prefix):
    (prefix / "conda-meta/scipy-1.16-0.json").unlink()
    assert ("conda", "scipy") not in owned(prefix)


def test_debians_files_are_the_bases_by_package_and_through_links(prefix):
    (prefix / "usr/bin").mkdir(parents=True)
    (prefix / "bin/floe").rename(prefix / "usr/bin/floe")
    (prefix / "bin").rmdir()
    (prefix / "bin").symlink_to("usr/bin")
    put(prefix / "usr/bin/bash", 900)
    put(prefix / "var/lib/dpkg/info/bash:amd64.list", 0)
    (prefix / "var/lib/dpkg/info/bash:amd64.list").write_text("/bin\n/bin/bash\n")
    (prefix / "var/lib/dpkg/status").write_text("Package: bash\nStatus: install ok installed\nVersion: 5.2\n\nPackage: zsh\n")
    assert owned(prefix)["base", "bash"] == ("base", "bash", "5.2", 900, 1)
    (prefix / "var/lib/dpkg/info/bash:amd64.list").write_text("/bin\n")
    assert ("base", "bash") not in owned(prefix)


def test_a_distribution_of_condas_is_condas_alone(prefix):
    path = prefix / "conda-meta/floe-1.0-0.json"
    files = [f"{SITE}/floe.py", f"{SITE}/floe-1.0.dist-info/METADATA", f"{SITE}/floe-1.0.dist-info/RECORD"]
    path.write_text(json.dumps({"name": "floe", "version": "1.0", "build": "0", "files": files}))
    found = owned(prefix)
    assert ("conda", "floe") in found and ("poetry", "floe") not in found


def history(*rows: tuple[str, int]) -> list[str]:
    """Return lines as `docker history` prints them: (what it was made by, bytes), newest first."""
    return [json.dumps({"CreatedBy": text, "Size": str(size)}) for text, size in rows]


def test_layers_are_named_after_what_the_package_did():
    found = report.layers(
        history(
            ('CMD ["bash"]', 0),
            ("RUN /bin/sh -c umask 002; /couplet/couplet.sh install-project --package ice # buildkit", 5),
            ("RUN /bin/sh -c couplet=/p/couplet.sh; $couplet activation --out /a;  $couplet kernel --project /p # buildkit", 6),
            ("RUN /bin/sh -c umask 002; /couplet/couplet.sh install-pypi --groups main # buildkit", 20),
            ("RUN /bin/sh -c mkdir -p /opt; /couplet/couplet.sh install-conda --prefix /opt/e # buildkit", 30),
            ("RUN /bin/sh -c apt-get install couplets # buildkit", 4),
            ("/bin/sh -c #(nop) ADD file:0 in / ", 50),
            ("", 7),
        )
    )
    assert found == [
        Layer("the base image", 7, "base"),
        Layer("ADD file:0 in / ", 50, "project"),
        Layer("RUN /bin/sh -c apt-get install couplets", 4, "project"),
        Layer("RUN couplet install-conda", 30, "conda"),
        Layer("RUN couplet install-pypi", 20, "poetry"),
        Layer("RUN couplet activation, kernel", 6, "project"),
        Layer("RUN couplet install-project", 5, "project"),
    ]


@pytest.mark.parametrize("box", [Box(10, 20, 600, 400), Box(0, 0, 100, 900)])
def test_the_treemap_covers_its_box_with_areas_in_proportion(box):
    weights = [500.0, 300, 100, 60, 30, 9, 1]
    found = list(report.squarify([*enumerate(weights), (7, 0.0)], box))
    assert [item for item, _ in found] == list(range(7)), "what weighs nothing has no tile"
    for item, tile in sorted(found):
        assert tile.width * tile.height == pytest.approx(weights[item] / 1000 * box.width * box.height)
        assert tile.x >= box.x - 1e-6 and tile.x + tile.width <= box.x + box.width + 1e-6
        assert tile.y >= box.y - 1e-6 and tile.y + tile.height <= box.y + box.height + 1e-6
    for number, (_, one) in enumerate(found):
        for _, other in found[:number]:
            across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
            down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
            assert across <= 1e-6 or down <= 1e-6, "two tiles overlap"
    # squares, where slices of the whole width would be 900 times as wide as tall
    assert max(max(t.width / t.height, t.height / t.width) for _, t in found[:4]) < 5
    assert list(report.squarify([("a", 1.0)], Box(0, 0, 0, 10))) == []


def test_the_verb_prints_a_summary_and_writes_a_page_that_loads_nothing(prefix, tmp_path, monkeypatch, capsys):
    labels = {"org.opencontainers.image.version": "1.2", "org.opencontainers.image.revision": "f" * 40, "odd": "<&>"}
    inspected = json.dumps([{"Size": 123_456_789, "Config": {"Labels": labels}}], indent=1)
    lines = "\n".join(history(("RUN /couplet/couplet.sh install-conda", 90_000_000), ("", 33_000_000)))
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"\n{inspected}\n{lines}\n"))
    # of this machine, only the environment: the whole of it would take a while
    whole = report.packages
    monkeypatch.setattr(report, "packages", lambda prefix, project: whole(prefix, project, str(prefix)))
    report.main(["--name", "ice:latest", "--prefix", str(prefix), "--project", "ice", "--out", str(tmp_path)])
    text = capsys.readouterr().out
    assert text.startswith("ice:latest: 123.5 MB, of which ") and re.search(
        r"^  conda +\d\.\d kB +\d\d%  +1 package ", text, re.M
    )
    assert "     33.0 MB  the base image\n     90.0 MB  RUN couplet install-conda\n" in text
    picture = ET.parse(tmp_path / "image.svg").getroot()
    assert picture.tag.endswith("svg") and len(list(picture.iter("{http://www.w3.org/2000/svg}rect"))) > 10
    page = (tmp_path / "image.html").read_text()
    body = ET.fromstring(page.removeprefix("<!DOCTYPE html>")).find("body")
    first = ["".join(cell.itertext()) for cell in list(body.find("table").iter("tr"))[1]]
    assert first[:3] == ["scipy", "1.16", "conda"] and first[5] == "3" and "<td>&lt;&amp;&gt;</td>" in page
    for name in ("image.svg", "image.html"):
        loaded = (tmp_path / name).read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|<script|<link|@import|url\(", loaded), f"{name} loads something"
