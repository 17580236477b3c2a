"""Compile Python files, and keep what was compiled for the next environment that is made on this machine.

Compiling takes longer than downloading and linking together, and its result depends on nothing but the
source, its time and Python itself. So it is kept in a cache of the builder, by the hash of all of these. A
path of the machine is not among them: the files are compiled with their path inside the environment, and
Python puts the whole one in when it loads them.
"""

import hashlib
import os
import struct
import subprocess
from pathlib import Path

CACHE = Path("/var/cache/bytecode")
CHECKSUM = hashlib.sha256().digest_size
# The first bytes of every .pyc file that this Python writes, and what its name ends in.
ASK = "import importlib.util, sys; print(importlib.util.MAGIC_NUMBER.hex(), sys.implementation.cache_tag, sys.version)"


def pyc_of(source, tag):
    """Return where Python looks for the compiled file of `source`."""
    folder, name = os.path.split(source)
    return os.path.join(folder, "__pycache__", f"{name[: -len('.py')]}.{tag}.pyc")


def stamp(path):
    """Return what a .pyc file says of its source: time and size, as Python writes them."""
    status = os.stat(path)
    return struct.pack("<LL", int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF)


def fresh(prefix, source, pyc, magic):
    """Return whether prefix/pyc is there and of its source as it is, which is how Python itself judges."""
    try:
        with open(f"{prefix}/{pyc}", "rb") as file:
            return file.read(16) == magic + bytes(4) + stamp(f"{prefix}/{source}")
    except OSError:
        return False


def key(prefix, source, python):
    """Return the name under which the compiled file of prefix/source is kept."""
    path = Path(prefix, source)
    return hashlib.sha256(
        b"\0".join([python.encode(), source.encode(), stamp(path), path.read_bytes()])
    ).hexdigest()


def kept(name):
    """Return what the cache has under `name`: the bytes, b"" where the source is known not to compile, or None."""
    try:
        content = (CACHE / name[:2] / name).read_bytes()
    except OSError:
        return None
    return content[CHECKSUM:] if hashlib.sha256(content[CHECKSUM:]).digest() == content[:CHECKSUM] else None


def keep(name, content):
    """Put `content` into the cache under `name`, whole or not at all."""
    place = CACHE / name[:2] / name
    place.parent.mkdir(exist_ok=True)
    half = place.with_name(f"{name}.{os.urandom(4).hex()}")  # two builds have the same process numbers
    half.write_bytes(hashlib.sha256(content).digest() + content)
    half.replace(place)


def put(content, place, source):
    """Write a .pyc file with the mode that Python gives it, which is its source's: a cache must not show in an image."""
    place.parent.mkdir(exist_ok=True)
    place.unlink(missing_ok=True)
    mode = (source.stat().st_mode | 0o200) & 0o666
    with open(place, "wb", opener=lambda path, flags: os.open(path, flags, mode)) as file:
        file.write(content)


def compile_files(prefix, sources):
    """Compile the files `sources` (paths inside `prefix`) with the environment's Python.

    Returns {source: compiled file}, both inside `prefix`, of those that compile. Some do not: packages
    carry templates and tests of syntax errors, about which pip and conda say nothing either.
    """
    if not sources:
        return {}
    python = f"{prefix}/bin/python"
    asked = subprocess.run([python, "-c", ASK], capture_output=True, text=True, check=True).stdout
    magic, tag = asked.split()[:2]
    compiled = {source: pyc_of(source, tag) for source in sources}
    missing = {}
    for source, pyc in compiled.items():
        if fresh(prefix, source, pyc, bytes.fromhex(magic)):
            # of a layer below: to write it again would be to have it twice
            continue
        name = key(prefix, source, asked)
        content = kept(name)
        if content is None:
            missing[source] = name
        elif content:
            put(content, Path(prefix, pyc), Path(prefix, source))
    if missing:
        subprocess.run(
            [python, "-m", "compileall", "-q", "-q", "-f", "-j", "0", "-s", prefix, "-i", "-"],
            input="".join(f"{prefix}/{source}\n" for source in missing),
            text=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
    if CACHE.is_dir():
        for source, name in missing.items():
            pyc = Path(prefix, compiled[source])
            keep(name, pyc.read_bytes() if pyc.exists() else b"")
    return {source: pyc for source, pyc in compiled.items() if Path(prefix, pyc).exists()}
