"""Write the files of hashes: template/.couplet/pins/*.txt from tools.toml, requirements/*.txt from pyproject.toml's groups.

Versions are uv's choice, and those that a file has already stay where they still fit. Hashes of wheels that nobody installs would
be text that somebody has to review: the generated images have CPython 3.11 to 3.14 on Linux with glibc, x86_64 and aarch64; who
develops the template may have a newer Python or a Mac, and builds from the source where there is no wheel. The index is the one
that pip is configured for; its address is written nowhere.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.tags import Tag
from packaging.utils import parse_wheel_filename

REPOSITORY = Path(__file__).parents[2]
PINS = Path("template/.couplet/pins")
REQUIREMENTS = Path("requirements")
GROUPS = ("mirror", "tools", "lint", "tests", "bench", "hub")
"""The groups that nox installs (`hub`: tests/harness/hub.py), included ones first. A file names the file of a group that it includes, and holds the rest."""
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")
MAC = "arm64"
CODES = {
    **{machine: re.compile(rf"(?:manylinux\w*|linux)_{machine}") for machine in MACHINES},
    MAC: re.compile(r"macosx_\d+_\d+_(?:arm64|universal2)"),
}
"""Machine -> the platforms of the wheels that it installs."""


@dataclass(frozen=True)
class Target:
    """Who installs a file: which Pythons, on which machines, and whether they can build from the source."""

    pythons: tuple[str, ...]
    machines: tuple[str, ...]
    builds: bool = False

    def places(self) -> list[tuple[str, str]]:
        """Return each (Python, machine)."""
        return list(itertools.product(self.pythons, self.machines))


IMAGES = Target(PYTHONS, MACHINES)
DEVELOPERS = Target((*PYTHONS, "3.15"), (*MACHINES, MAC), builds=True)


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
    """Return whether CPython `python` (such as 3.13) installs a wheel of this tag on Linux with glibc, or on a Mac (`MAC`)."""
    if tag.platform != "any" and not CODES[machine].fullmatch(tag.platform):
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
    """Return the PEP 508 environment of CPython `python` on Linux, or on a Mac (`MAC`)."""
    return {
        "python_version": python, "python_full_version": f"{python}.0", "platform_machine": machine, "os_name": "posix",
        "sys_platform": "darwin" if machine == MAC else "linux", "platform_system": "Darwin" if machine == MAC else "Linux",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython", "extra": "",
    }  # fmt: skip


def pin(package: dict[str, Any], target: Target = IMAGES) -> tuple[list[str], list[str]]:
    """Return (the words of a requirement: name and version, marker, hashes; what a person should know) of a locked package.

    Both are empty for a package that the target does not want.
    """
    name, version, marker = package["name"], package["version"], package.get("marker", "")
    everywhere = target.places()
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
        if without and target.builds and "sdist" in package:
            hashes.append(package["sdist"]["hashes"]["sha256"])
            said = [f"{name} {version}: built from the source where there is no wheel"]
    else:
        hashes = [package["sdist"]["hashes"]["sha256"]]
        said = [f"{name} {version}: no wheel at all, so the hash is the source distribution's"]
    requirement = f"{name}=={version}" + ("" if where == everywhere else f" ; {marker}")
    return [requirement, *(f"--hash=sha256:{digest}" for digest in hashes)], said


def uv(*words: object, address: str) -> None:
    """Run `uv pip compile` for every Python from the oldest on, against one index."""
    command = ["uv", "pip", "compile", "--quiet", "--universal", f"--python-version={PYTHONS[0]}", "--no-header", "--no-annotate"]
    subprocess.run([*command, f"--default-index={address}", *map(str, words)], check=True)


def text(requirements: list[str], before: str, address: str, target: Target = IMAGES) -> tuple[list[str], list[str]]:
    """Return (requirements with hashes, what a person should know). `before` has the versions that stay where they fit."""
    with tempfile.TemporaryDirectory() as scratch:
        source, resolved, locked = (Path(scratch, name) for name in ("in.txt", "out.txt", "pylock.toml"))
        source.write_text("".join(f"{requirement}\n" for requirement in requirements))
        resolved.write_text(before)
        uv("--output-file", resolved, source, address=address)
        # the same once more, in the format that says which file has which hash
        uv("--no-deps", "--format=pylock.toml", "--output-file", locked, resolved, address=address)
        found = [pin(package, target) for package in tomllib.loads(locked.read_text())["packages"]]
    pinned = [" \\\n    ".join(words) + "\n" for words, _ in found if words]
    return pinned, [note for _, said in found for note in said]


def groups() -> dict[str, list[str | dict[str, str]]]:
    """Return pyproject.toml's dependency groups as they stand there."""
    found: dict[str, list[str | dict[str, str]]] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["dependency-groups"]
    return found


def direct(group: str) -> list[str]:
    """Return the requirements of a group, with those of the groups that it includes."""
    return [
        requirement
        for entry in groups()[group]
        for requirement in ([entry] if isinstance(entry, str) else direct(entry["include-group"]))
    ]


def included(group: str) -> list[str]:
    """Return the groups that this one includes and that have a file of their own."""
    return [entry["include-group"] for entry in groups()[group] if isinstance(entry, dict) and entry["include-group"] in GROUPS]


def locked(file: Path) -> dict[Requirement, list[str]]:
    """Return requirement -> its hashes, of a file and of those that it names."""
    found: dict[Requirement, list[str]] = {}
    for line in file.read_text().replace(" \\\n", "").splitlines():
        if line.startswith("-r "):
            found |= locked(file.parent / line.removeprefix("-r "))
        else:
            requirement, *hashes = line.split("    --hash=")
            found[Requirement(requirement)] = hashes
    return found


def stale(group: str, file: Path) -> list[str]:
    """Return what a group asks for and its file does not hold, by the direct pins alone: no index is asked."""
    held = {(requirement.name.lower().replace(".", "-"), str(requirement.specifier)) for requirement in locked(file)}
    asked = map(Requirement, direct(group))
    return [str(each) for each in asked if (each.name.lower().replace(".", "-"), str(each.specifier)) not in held]


def write(file: Path, head: str, pinned: list[str], said: list[str]) -> None:
    """Write a file, and say what it is."""
    content = head + "".join(pinned)
    (REPOSITORY / file).write_text(content)
    print(f"{file}: {len(pinned)} packages, {content.count('--hash')} hashes, {content.count(chr(10))} lines")
    print("".join(f"  {note}\n" for note in said), end="")


def before(*files: Path) -> str:
    """Return the versions that files hold already."""
    held = {str(requirement) for file in files if (REPOSITORY / file).is_file() for requirement in locked(REPOSITORY / file)}
    return "".join(f"{requirement}\n" for requirement in sorted(held))


def main() -> None:
    """Write every file."""
    address = index()
    for name, tools in tomllib.loads((REPOSITORY / "tools.toml").read_text()).items():
        file = PINS / f"{name}.txt"
        write(file, "", *text([f"{tool}=={version}" for tool, version in tools.items()], before(file), address))
    for group in GROUPS:
        file, others = REQUIREMENTS / f"{group}.txt", [REQUIREMENTS / f"{other}.txt" for other in included(group)]
        there = {str(requirement) for other in others for requirement in locked(REPOSITORY / other)}
        pinned, said = text(direct(group), before(*others, file), address, DEVELOPERS)
        rest = [entry for entry in pinned if str(Requirement(entry.partition(" \\\n")[0])) not in there]
        write(file, "".join(f"-r {other.name}\n" for other in others), rest, said)


if __name__ == "__main__":
    main()
