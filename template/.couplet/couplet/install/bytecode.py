"""Compile Python files, and keep what was compiled for the next environment that is made on this machine.

Compiling takes longer than downloading and linking together, and its result depends on nothing but the source, its
time and Python itself. So it is kept in a cache of the builder, by the hash of all of these. A path of the machine is
not among them: the files are compiled with their path inside the environment, and Python puts the whole one in when it
loads them.
"""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

from couplet.formats.files import write_whole

CACHE = Path("/var/cache/bytecode")
CHECKSUM = hashlib.sha256().digest_size
ASK = "import importlib.util, sys; print(importlib.util.MAGIC_NUMBER.hex(), sys.implementation.cache_tag, sys.version)"
"""Prints the first bytes of every .pyc file that this Python writes, what its name ends in, and the version."""


def pyc_of(source: str, tag: str) -> str:
    """Return where Python looks for the compiled file of `source`."""
    folder, name = os.path.split(source)
    return os.path.join(folder, "__pycache__", f"{name.removesuffix('.py')}.{tag}.pyc")


def stamp(path: str) -> bytes:
    """Return what a .pyc file says of its source: time and size, as Python writes them."""
    status = os.stat(path)
    return struct.pack("<LL", int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF)


def fresh(source: str, pyc: str, magic: bytes) -> bool:
    """Return whether the file `pyc` is there and of its source as it is, which is how Python itself judges."""
    try:
        with open(pyc, "rb") as file:
            return file.read(16) == magic + bytes(4) + stamp(source)
    except OSError:
        return False


def key(prefix: Path, source: str, python: str) -> str:
    """Return the name under which the compiled file of prefix/source is kept."""
    path = prefix / source
    parts = [python.encode(), source.encode(), stamp(str(path)), path.read_bytes()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def kept(name: str) -> bytes | None:
    """Return what the cache has under `name`: b"" where the source is known not to compile, None where it has nothing."""
    try:
        content = (CACHE / name[:2] / name).read_bytes()
    except OSError:
        return None
    return content[CHECKSUM:] if hashlib.sha256(content[CHECKSUM:]).digest() == content[:CHECKSUM] else None


def put(content: bytes, place: Path, source: Path) -> None:
    """Write a .pyc file with the mode that Python gives it, its source's: a cache must not show in an image."""
    place.parent.mkdir(exist_ok=True)
    place.unlink(missing_ok=True)
    mode = (source.stat().st_mode | 0o200) & 0o666
    with open(place, "wb", opener=lambda path, flags: os.open(path, flags, mode)) as file:
        file.write(content)


def compile_files(prefix: Path, sources: Iterable[str]) -> dict[str, str]:
    """Compile the files `sources` (paths inside `prefix`) with the environment's Python.

    Returns {source: compiled file}, both inside `prefix`, of those that compile. Some do not: packages carry templates
    and tests of syntax errors, about which pip and conda say nothing either.
    """
    sources = list(sources)
    if not sources:
        return {}
    python = str(prefix / "bin/python")
    asked = subprocess.run([python, "-B", "-c", ASK], capture_output=True, text=True, check=True).stdout
    magic, tag = asked.split()[:2]
    compiled = {source: pyc_of(source, tag) for source in sources}
    missing = {}
    for source, pyc in compiled.items():
        if fresh(f"{prefix}/{source}", f"{prefix}/{pyc}", bytes.fromhex(magic)):
            # of a layer below: to write it again would be to have it twice
            continue
        name = key(prefix, source, asked)
        content = kept(name)
        if content is None:
            missing[source] = name
        elif content:
            put(content, prefix / pyc, prefix / source)
    if missing:
        subprocess.run(
            [python, "-B", "-m", "compileall", "-q", "-q", "-f", "-j", "0", "-s", str(prefix), "-i", "-"],
            input="".join(f"{prefix}/{source}\n" for source in missing),
            text=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
    if CACHE.is_dir():
        for source, name in missing.items():
            pyc_file = prefix / compiled[source]
            content = pyc_file.read_bytes() if pyc_file.exists() else b""
            write_whole(CACHE / name[:2] / name, hashlib.sha256(content).digest() + content)
    return {source: pyc for source, pyc in compiled.items() if (prefix / pyc).exists()}
