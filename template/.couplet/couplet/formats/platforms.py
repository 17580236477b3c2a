"""The platforms that can be locked for: what conda, Docker and PEP 508 call each."""

from __future__ import annotations

import platform
from typing import NamedTuple


class Platform(NamedTuple):
    """A platform by its conda name (`subdir`), with Docker's name ('' where no image can be built) and PEP 508's three."""

    subdir: str
    docker: str
    sys_platform: str
    platform_system: str
    platform_machine: str

    @property
    def marker(self) -> str:
        """The PEP 508 marker that is true on this platform alone."""
        return f"sys_platform == '{self.sys_platform}' and platform_machine == '{self.platform_machine}'"


PLATFORMS = {
    platform.subdir: platform
    for platform in (
        Platform("linux-64", "linux/amd64", "linux", "Linux", "x86_64"),
        Platform("linux-aarch64", "linux/arm64", "linux", "Linux", "aarch64"),
        Platform("osx-arm64", "", "darwin", "Darwin", "arm64"),
    )
}
"""conda's name -> Platform, in alphabetical order."""


def this_machine() -> str:
    """Return conda's name of the platform that this process runs on."""
    machine = platform.machine()
    return next((p.subdir for p in PLATFORMS.values() if p.docker and p.platform_machine == machine), machine)


def environment(subdir: str, python: str) -> dict[str, str]:
    """Return the PEP 508 environment of a platform and a CPython version such as `3.13.2`, for evaluating markers.

    Source: the dependency specifiers' specification, "environment markers".
    """
    where = PLATFORMS[subdir]
    return {
        "implementation_name": "cpython",
        "implementation_version": python,
        "os_name": "posix",
        "platform_machine": where.platform_machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": where.platform_system,
        "platform_version": "",
        "python_full_version": python,
        "python_version": ".".join(python.split(".")[:2]),
        "sys_platform": where.sys_platform,
        "extra": "",
    }
