"""The cache folder shared by all clones, its locks, and keys made of a thing's inputs.  Standard library only."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent

Progress = Callable[[str], None]


def root() -> Path:
    """The cache folder: ``$COUPLET_CACHE``, else ``couplet`` in the user's cache folder.  Made when missing."""
    chosen = os.environ.get("COUPLET_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(chosen) if chosen else Path(base) / "couplet"
    folder = folder.expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def lock(name: str, *, shared: bool = False, progress: Progress | None = None) -> Iterator[int]:
    """Hold a lock of the cache folder; wait for it, and say so when that takes a while.

    The lock dies with its process, so that a killed run never blocks the next one.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    handle = os.open(root() / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if progress:
                progress(f"waiting: another process holds {name}.lock")
            fcntl.flock(handle, kind)
        yield handle
    finally:
        os.close(handle)


def key(*inputs: object) -> str:
    """A short hash of inputs: plain data, in which a path stands for its file's content.  16 hex digits."""

    def plain(value: object) -> str:
        if isinstance(value, Path):
            return hashlib.sha256(value.read_bytes()).hexdigest()
        raise TypeError(f"{value!r} cannot be part of a key")

    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=plain).encode()).hexdigest()[:16]


def build_once(target: Path, build: Callable[[Path], None]) -> bool:
    """Make ``target`` by building beside it and renaming; True when it had to be built.

    A half-built thing keeps its temporary name, and is removed by the next try.
    """
    if target.exists():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    half = target.with_name(f"{target.name}.half")
    remove(half)
    build(half)
    os.replace(half, target)
    return True


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def step(text: str, progress: Progress) -> Iterator[None]:
    """Say what is being done, and how many seconds it took."""
    progress(f"{text} ...")
    began = time.monotonic()
    yield
    progress(f"{text}: {time.monotonic() - began:.1f} s")


def run(command: Sequence[str | Path], *, error: type[Exception] = RuntimeError, log: Path | None = None, **options) -> str:
    """Run a command and return its output; a failure raises ``error`` with the command and its last lines."""
    words = [str(word) for word in command]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(done.stdout)
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-25:])
        where = f"\nThe whole output is in {log}." if log else ""
        raise error(f"`{' '.join(words)[:300]}` ended with {done.returncode}:\n{tail}{where}")
    return done.stdout
