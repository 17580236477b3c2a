"""Where temporary files lie: in memory, where there is room.

The tests write and delete some hundred thousand small files, Copier's clones of the template above all. On a disk, beside an
engine that syncs what it writes, that is most of what an update costs. See decision 0075.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")
ROOM = 4 << 30
"""Bytes that have to be free there; a run needs about one in four of them."""


def use(memory: Path = MEMORY, room: int = ROOM) -> str:
    """Put temporary files into memory, for this process and those that it starts, and return the folder.

    Whoever names a folder in TMPDIR gets that one; so does a machine with little memory, or where nothing may be run from there.
    """
    if "TMPDIR" not in os.environ and _fits(memory, room):
        os.environ["TMPDIR"] = str(memory)
        # pytest's capture has asked before us
        tempfile.tempdir = str(memory)
    return tempfile.gettempdir()


def _fits(memory: Path, room: int) -> bool:
    if not memory.is_dir() or not os.access(memory, os.W_OK):
        return False
    found = os.statvfs(memory)
    return found.f_bavail * found.f_frsize >= room and not found.f_flag & os.ST_NOEXEC


@contextmanager
def on_disk() -> Iterator[Path]:
    """A folder for what is large, such as an engine's images; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="couplet-", dir="/var/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
