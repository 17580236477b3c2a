"""What this machine's apt knows: its sources, and packages from a newer Debian.  Standard library only."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import cache
from .cache import Progress

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
NEWER = "trixie"
"""Debian 13, whose tools need only the C library of Debian 12."""


class AptError(RuntimeError):
    """apt is missing or could not do what was asked; the message says what to do."""


@dataclass(frozen=True)
class Source:
    """One archive that apt uses: where, which release, which component."""

    uri: str
    release: str
    component: str


def os_release() -> dict[str, str]:
    """The fields of /etc/os-release; empty where there is none."""
    path = Path("/etc/os-release")
    if not path.exists():
        return {}
    pairs = (line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
    return {name: value.strip('"') for name, value in pairs}


def codename() -> str:
    """The release's code name, such as ``bookworm``."""
    return os_release().get("VERSION_CODENAME", "")


def is_debian_like() -> bool:
    """Whether this is Debian or a descendant of it."""
    fields = os_release()
    return "debian" in (fields.get("ID", ""), *fields.get("ID_LIKE", "").split())


@functools.cache
def sources() -> list[Source]:
    """apt's own binary archives, from its own configuration; asked once, since apt takes seconds where it keeps no cache."""
    lines = cache.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"], error=AptError
    ).splitlines()
    return [Source(*words) for words in (line.split() for line in lines) if len(words) == 3]


def archive_uri() -> str:
    """The address of the Debian archive that this machine uses.

    Raises ``AptError`` where apt has none for its own release.
    """
    for source in sources():
        if source.release == codename() and source.component == "main":
            return source.uri.rstrip("/")
    raise AptError(f"apt has no archive for {codename()!r}; add it to /etc/apt/sources.list.d and run apt-get update")


def candidate(package: str) -> str:
    """The version that apt would install now, or an empty string."""
    shown = subprocess.run(["apt-cache", "policy", package], capture_output=True, text=True, check=False).stdout
    for line in shown.splitlines():
        name, _, value = line.strip().partition(": ")
        if name == "Candidate" and value != "(none)":
            return value
    return ""


def major(version: str) -> int:
    """The leading number of a Debian version: ``1:26.1.5+dfsg1-9`` -> 26."""
    digits = version.rpartition(":")[2].split(".")[0].split("+")[0]
    return int(digits) if digits.isdigit() else 0


def update(progress: Progress) -> None:
    """Read the package lists."""
    with cache.step("apt-get update", progress):
        cache.run(["apt-get", "-qq", "update"], error=AptError, env=_environment())
    sources.cache_clear()


def add_newer(progress: Progress, release: str = NEWER) -> None:
    """Add a newer Debian to apt's sources, at a priority that changes nothing by itself.

    Raises ``AptError``, and leaves the sources as they were, where its package lists cannot be read.
    """
    signed_by = f"Signed-By: {KEYRING}\n" if _same_host_is_signed_by() else ""
    source = Path(f"/etc/apt/sources.list.d/couplet-{release}.sources")
    preference = Path(f"/etc/apt/preferences.d/couplet-{release}")
    text = f"Types: deb\nURIs: {archive_uri()}\nSuites: {release}\nComponents: main\n{signed_by}"
    # 100: never chosen over an installed or a native version, only where the release is asked for
    pin = f"Package: *\nPin: release n={release}\nPin-Priority: 100\n"
    if source.exists() and source.read_text() == text and preference.exists():
        return
    preference.write_text(pin)
    source.write_text(text)
    try:
        update(progress)
    except AptError:
        # a source that cannot be read would stop each later update
        source.unlink()
        preference.unlink()
        raise


def install(packages: list[str], progress: Progress) -> None:
    """Install packages without their recommendations, and without starting any service.

    `name/release` is a package of that release; what it depends on comes from this machine's own, where that will do.
    """
    if not all(candidate(package.partition("/")[0]) for package in packages):
        update(progress)
    words = ["apt-get", "-y", "-qq", "--no-install-recommends", "install", *packages]
    with cache.step(f"apt-get install {' '.join(packages)}", progress), _no_services():
        cache.run(words, error=AptError, env=_environment(), stdin=subprocess.DEVNULL)


def installed(package: str) -> str:
    """The installed version, or an empty string."""
    query = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", package], capture_output=True, text=True, check=False
    )
    status, _, version = query.stdout.partition(" ")
    return version if query.returncode == 0 and status == "installed" else ""


def _same_host_is_signed_by() -> bool:
    # apt refuses one archive named both with and without Signed-By, so do as the existing entries do
    folder = Path("/etc/apt")
    texts = [path.read_text(errors="replace") for path in (folder / "sources.list.d").glob("*") if "couplet" not in path.name]
    return KEYRING.exists() and any(archive_uri() in text and str(KEYRING) in text for text in texts)


def _environment() -> dict[str, str]:
    return {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"}


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    # Debian's own way to keep maintainer scripts from starting daemons
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists() or not shutil.which("dpkg"):
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)
