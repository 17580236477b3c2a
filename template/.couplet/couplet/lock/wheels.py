"""Which packages of poetry.lock have no wheel, so that the build makes them from source."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set

from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from couplet.formats import platforms, poetry_lock
from couplet.formats.poetry_lock import Locked


def suits(file: str, python: str, subdir: str) -> bool:
    """Return whether a file is a wheel for a CPython, such as `3.13.2`, and a platform.

    How old a C library may be is not asked: images have a newer one than any wheel wants.
    """
    where, (major, minor) = platforms.PLATFORMS[subdir], map(int, python.split(".")[:2])
    system = {"linux": "(many)?linux", "darwin": "macosx"}[where.sys_platform]
    machine = re.compile(f"any|{system}.*_({where.platform_machine}{'|universal2' * (system == 'macosx')})")
    fits = {(tag.interpreter, tag.abi) for tag in cpython_tags((major, minor), platforms=["any"])}
    fits |= {(tag.interpreter, tag.abi) for tag in compatible_tags((major, minor), f"cp{major}{minor}", ["any"])}
    try:
        tags = parse_wheel_filename(file)[3]
    except InvalidWheelFilename:
        return False
    return any((tag.interpreter, tag.abi) in fits and machine.fullmatch(tag.platform) for tag in tags)


def notes(packages: Iterable[Locked], pythons: Mapping[str, str], held: Mapping[str, Set[str]], conda: bool) -> list[str]:
    """Return what to tell of the packages of an index that a platform wants, and that have no wheel for it.

    `pythons` is {platform: version of Python}, `held` {name: platforms where conda has it}.
    """
    lines = []
    for p in packages:
        groups = p.markers.keys() - {"conda"}
        where = [
            subdir
            for subdir, python in pythons.items()
            if p.files
            and subdir not in held.get(p.name, ())
            and poetry_lock.wanted([p], groups, platforms.environment(subdir, python))
            and not any(suits(file, python, subdir) for file in p.files)
        ]
        if where:
            lines += [
                f"{p.name} {p.version} has no wheel for this Python ({', '.join(where)}): the build makes it from source, without a compiler.",
                f"  If it needs one: raise its lower bound in pyproject.toml and run `make env-update PKG={p.name}`"
                + (", or take it from conda (environment.yml)." if conda else "."),
            ]
    return lines
