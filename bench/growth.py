"""The workload `growth`: 10, 50, 150 and 400 conda packages, to see how the cost of an environment grows.

The packages are made for it, with as many files and bytes as packages of a channel have: most are small, a few large
(log-normal: the median is 37 files of 5 kB each). They depend on nothing, so that the count is the count.
"""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import tempfile
from pathlib import Path

from tests.harness import template
from tests.harness.project import Project
from tests.mirror import channel, package

from . import docker as engine
from .measure import Taken
from .systems import Couplet, LowerBound
from .workload import PYTHON, Workload, lay_out_peers

SIZES = (10, 50, 150, 400)
FOLDER = "growth"
WORDS = [
    "ice",
    "sea",
    "tide",
    "wind",
    "cold",
    "salt",
    "melt",
    "drift",
    "floe",
    "brine",
    "polar",
    "shelf",
    "front",
    "gyre",
    "ridge",
]


def publish(count: int) -> str:
    """Make the channel beside the mirror's, unless it is there; returns its folder's name below the server's root."""
    from rattler.index import index_fs

    root = channel.root() / FOLDER
    if len(list(root.glob("noarch/*.conda"))) < count:
        half = root.with_name(f"{FOLDER}.half")
        shutil.rmtree(half, ignore_errors=True)
        for number in range(count):
            _package(number, half / "noarch")
        asyncio.run(index_fs(half, write_zst=True, write_shards=False, force=True))
        shutil.rmtree(root, ignore_errors=True)
        half.rename(root)
    return FOLDER


def _package(number: int, folder: Path) -> None:
    """Write package `grown-NNN`: a folder of text files under share/."""
    dice = random.Random(number)
    with tempfile.TemporaryDirectory() as stage:
        for index in range(min(900, int(dice.lognormvariate(3.6, 1.1)) + 2)):
            file = Path(stage, f"share/grown-{number:03}/part-{index % 7}/file-{index:03}.txt")
            file.parent.mkdir(parents=True, exist_ok=True)
            size = min(2_000_000, int(dice.lognormvariate(8.5, 1.2)))
            file.write_text(" ".join(dice.choices(WORDS, k=size // 5 + 1)))
        package.write(package.Package(f"grown-{number:03}", "1.0", "0", [], noarch="generic"), Path(stage), folder)


class Growth:
    """The workload `growth`, locked in each size. `server` is the web server's own address."""

    def __init__(self, folder: Path, address: str, server: str, say) -> None:
        self.say = say
        publish(max(SIZES))
        repository = template.snapshot(folder / "growth-template")
        self.workloads = {
            count: _workload(folder / f"growth-{count}", repository, address, f"{server}/{FOLDER}", count, say) for count in SIZES
        }
        self.systems = [Couplet(), LowerBound(folder / "growth-floor")]

    def round(self, taken: Taken, number: int) -> None:
        """Measure cold builds of each size, couplet and the lower bound in turn."""
        before, images = engine.held(), []
        for count, workload in self.workloads.items():
            salt = engine.salted(f"growth{number}-{count}")
            images += [f"{salt}{base}" for base in engine.BASES]
            for system in self.systems if number % 2 == 0 else self.systems[::-1]:
                images.append(tag := f"couplet-bench-growth-{system.name}")
                seconds = system.build(workload, tag, salt, f"growth{number}-{count}-{system.name}")
                taken.add(f"growth_{count}", system.name, seconds)
                self.say(f"  {count} packages, {system.name}: {seconds:.1f} s")
        engine.forget(images, before)


def _workload(folder: Path, repository: Path, address: str, grown: str, count: int, say) -> Workload:
    """Render and lock a project of `count` made-up packages beside Python, with nothing from the index."""
    say(f"locking {count} packages")
    project = Project(folder / "couplet", f"couplet-bench-growth-{count}")
    template.render(repository, project.path, {"project_name": "Science", "kernel": False})
    names = [f"python={PYTHON}", "pip", *(f"grown-{number:03}" for number in range(count))]
    environment = project.path / "environment.yml"
    environment.write_text(
        f"name: science\nchannels:\n  - {grown}\n  - conda-forge\n  - nodefaults\ndependencies:\n"
        + "".join(f"  - {name}\n" for name in names)
    )
    pyproject = project.path / "pyproject.toml"
    pyproject.write_text(re.sub(r"(?m)^dependencies = \[\n(.*\n)*?\]", "dependencies = []", pyproject.read_text(), count=1))
    project.make("env-update")
    return Workload(project.path, lay_out_peers(folder / "peers", project.path, address))
