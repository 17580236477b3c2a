"""Write the pinned tools, template/.couplet/pins/*.txt, from tools.toml: versions by uv, hashes of what the images can install.

The generated images have CPython 3.11 to 3.14 on Linux with glibc, x86_64 and aarch64: hashes of wheels for anything else would
be text that nobody needs and somebody has to review. Versions that a file has already stay, where they still fit. The index
is the one that pip is configured for; its address is written nowhere.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.tags import Tag
from packaging.utils import parse_wheel_filename

REPOSITORY = Path(__file__).parents[2]
PINS = Path("template/.couplet/pins")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")
MACHINE_CODE = re.compile(rf"(?:manylinux\w*|linux)_({'|'.join(MACHINES)})")


def index() -> str:
    """Return the address of the index that pip asks."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for place in (":env:", "install", "global"):
        if found := re.search(rf"^{place}\.index-url='(.*)'$", listed, re.M):
            return found[1]
    from pip._internal.models.index import PyPI

    return str(PyPI.simple_url)


def serves(tag: Tag, python: str, machine: str) -> bool:
    """Return whether CPython `python` (such as 3.13) installs a wheel of this tag on Linux with glibc."""
    platform = MACHINE_CODE.fullmatch(tag.platform)
    if tag.platform != "any" and (platform is None or platform[1] != machine):
        return False
    minor = int(python.partition(".")[2])
    kind, number = tag.interpreter[:2], tag.interpreter[2:]
    if kind == "py":
        return tag.abi == "none" and (number == "3" or number in {f"3{older}" for older in range(minor + 1)})
    if kind != "cp" or not re.fullmatch(r"3\d+", number):
        return False
    if tag.abi == "abi3":
        return int(number[1:]) <= minor
    return number == f"3{minor}" and tag.abi in (f"cp3{minor}", "none")


def wheels(package: dict[str, Any]) -> Iterator[tuple[str, frozenset[Tag]]]:
    """Yield (SHA-256, tags) of each wheel of a package of a pylock.toml (PEP 751)."""
    for wheel in package.get("wheels", ()):
        name = wheel.get("name") or wheel["url"].rpartition("/")[2]
        yield wheel["hashes"]["sha256"], parse_wheel_filename(name)[3]


def environment(python: str, machine: str) -> dict[str, str]:
    """Return the PEP 508 environment of CPython `python` on Linux."""
    return {
        "python_version": python, "python_full_version": f"{python}.0", "platform_machine": machine, "os_name": "posix",
        "sys_platform": "linux", "platform_system": "Linux", "implementation_name": "cpython",
        "platform_python_implementation": "CPython", "extra": "",
    }  # fmt: skip


def pin(package: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return (the words of a requirement: name and version, marker, hashes; what a person should know) of a locked package.

    Both are empty for a package that no image wants.
    """
    name, version, marker = package["name"], package["version"], package.get("marker", "")
    everywhere = list(itertools.product(PYTHONS, MACHINES))
    where = [place for place in everywhere if not marker or Marker(marker).evaluate(environment(*place))]
    if not where:
        return [], []
    served: dict[str, set[tuple[str, str]]] = {}
    for digest, tags in wheels(package):
        if places := {place for place in where if any(serves(tag, *place) for tag in tags)}:
            served[digest] = places
    said = []
    if served:
        without = [place for place in where if place not in set().union(*served.values())]
        said = [f"{name} {version}: no wheel for CPython {python} on {machine}" for python, machine in without]
        hashes = sorted(served)
    else:
        hashes = [package["sdist"]["hashes"]["sha256"]]
        said = [f"{name} {version}: no wheel at all, so the hash is the source distribution's"]
    requirement = f"{name}=={version}" + ("" if where == everywhere else f" ; {marker}")
    return [requirement, *(f"--hash=sha256:{digest}" for digest in hashes)], said


def uv(*words: object, address: str) -> None:
    """Run `uv pip compile` for every Python of the images, against one index."""
    command = ["uv", "pip", "compile", "--quiet", "--universal", f"--python-version={PYTHONS[0]}", "--no-header", "--no-annotate"]
    subprocess.run([*command, f"--default-index={address}", *map(str, words)], check=True)


def text(requirements: dict[str, str], before: str, address: str) -> tuple[str, list[str]]:
    """Return (a requirements file with hashes, what a person should know). `before` is the file as it was."""
    with tempfile.TemporaryDirectory() as scratch:
        source, resolved, locked = (Path(scratch, name) for name in ("in.txt", "out.txt", "pylock.toml"))
        source.write_text("".join(f"{package}=={version}\n" for package, version in requirements.items()))
        resolved.write_text(before)
        uv("--output-file", resolved, source, address=address)
        # the same once more, in the format that says which file has which hash
        uv("--no-deps", "--format=pylock.toml", "--output-file", locked, resolved, address=address)
        found = [pin(package) for package in tomllib.loads(locked.read_text())["packages"]]
    pinned = [" \\\n    ".join(words) for words, _ in found if words]
    return "\n".join(pinned) + "\n", [note for _, said in found for note in said]


def main() -> None:
    """Write each file, and say what it is."""
    address = index()
    for name, requirements in tomllib.loads((REPOSITORY / "tools.toml").read_text()).items():
        file = REPOSITORY / PINS / f"{name}.txt"
        content, said = text(requirements, file.read_text() if file.is_file() else "", address)
        file.write_text(content)
        print(
            f"{PINS}/{name}.txt: {content.count('==')} packages, {content.count('--hash')} hashes, {content.count(chr(10))} lines"
        )
        print("".join(f"  {note}\n" for note in said), end="")


if __name__ == "__main__":
    main()
