"""The private engine's data folder while no engine runs: nothing left mounted in it, and no layer of it gone.

An engine that is ended in the middle of a build leaves that build's mounts behind.  The next one deletes its folder of temporary files
through them, and its collector takes layers away that are still mounted.  What has lost a layer builds no more, and says "no such file or
directory" of a path that nobody knows (decision 81).  Standard library only, as engine.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from . import cache
from .cache import Progress

MOUNTS = Path("/proc/self/mountinfo")


def settle(data: Path, progress: Progress, *, error: type[Exception] = RuntimeError) -> None:
    """Make an engine's data folder fit for a start: unmount what is left in it, and empty it when a layer of it is gone.

    No engine may be running on it.  Raises `error` when something stays mounted: a deletion would go through it.
    """
    let_go(data, error=error)
    if fault := damage(data):
        with cache.step(f"the private engine's data is damaged ({fault}): starting with empty data", progress):
            for path in data.iterdir():
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def let_go(folder: Path, *, error: type[Exception] = RuntimeError) -> None:
    """Unmount all that is mounted on a folder and below it, the last first; busy or not, since who used it has ended.

    Needs root, where something is.  Raises `error` when something stays.
    """
    for path in reversed(list(_mounted(folder))):
        subprocess.run(["umount", "--lazy", path], capture_output=True, check=False)
    if left := list(_mounted(folder)):
        places = ", ".join(map(str, left))
        raise error(
            f"an engine that has ended left {places} mounted, and that can't be unmounted; run `umount --lazy {left[-1]}`"
        )


def damage(data: Path) -> str:
    """What is wrong with the layers of an engine's data folder, or an empty string: of overlay2's, and of each image's.

    A layer is a folder of overlay2's, which names those below it in its file `lower`, by short links.  An image's layer is named in layerdb.
    """
    layers = data / "overlay2"
    for link in _entries(layers / "l"):
        if not link.exists():
            return f"layer {Path(os.readlink(link)).parent.name} has no folder"
    for file in layers.glob("*/lower"):
        for link in file.read_text().split(":"):
            if not (layers / link).exists():
                return f"layer {file.parent.name} lies on one that is gone"
    for file in (data / "image/overlay2/layerdb").glob("sha256/*/cache-id"):
        if not (layers / file.read_text()).is_dir():
            return f"layer {file.read_text()} of an image is gone"
    return ""


def _entries(folder: Path) -> Iterator[Path]:
    return folder.iterdir() if folder.is_dir() else iter(())


def _mounted(folder: Path) -> Iterator[Path]:
    """Where something is mounted at or below a folder, in the order in which it was."""
    folder = folder.resolve()
    for line in MOUNTS.read_text().splitlines():
        # the kernel writes blanks and backslashes of paths as octal numbers
        path = Path(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), line.split(" ")[4]))
        if path == folder or folder in path.parents:
            yield path
