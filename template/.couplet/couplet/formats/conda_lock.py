"""conda's locks: conda.lock, with all that is known of each package, and the explicit ones that are installed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Optional

from couplet.errors import UserError
from couplet.formats.platforms import PLATFORMS

if TYPE_CHECKING:
    from rattler import RepoDataRecord


class Package(NamedTuple):
    """One line of an explicit lock: the public address and both hashes, in hexadecimal."""

    url: str
    md5: str
    sha256: str

    @property
    def file_name(self) -> str:
        """The name of the archive."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def subdir(self) -> str:
        """conda's name of the platform, or noarch."""
        return self.url.rsplit("/", 2)[-2]

    @property
    def channel(self) -> str:
        """The public address of the channel's platform folder."""
        return self.url.rsplit("/", 1)[0]

    @property
    def identity(self) -> tuple[str, str, str]:
        """(name, version, build), from the name of the archive."""
        return split_archive(self.file_name)


class Record(NamedTuple):
    """One package of conda.lock for one platform. `depends` are conda's names, `size` is in bytes (0: not known)."""

    name: str
    version: str
    build: str
    url: str
    md5: str
    sha256: str
    depends: tuple[str, ...]
    license: str
    size: int
    timestamp: int

    @property
    def package(self) -> Package:
        """The package as an explicit lock has it."""
        return Package(self.url, self.md5, self.sha256)


def record(found: RepoDataRecord) -> Record:
    """Return what is asked of a package's repodata. `timestamp` is in seconds since 1970 (0: not known)."""
    return Record(
        found.name.normalized,
        str(found.version),
        str(found.build),
        found.url,
        (found.md5 or b"").hex(),
        (found.sha256 or b"").hex(),
        tuple(re.split(r"[^\w.-]", need.rsplit("::", 1)[-1], maxsplit=1)[0] for need in found.depends),
        found.license or "",
        found.size or 0,
        int(found.timestamp.timestamp()) if found.timestamp else 0,
    )


def repodata(path: Path, dev: bool = False) -> dict[str, dict[str, RepoDataRecord]]:
    """Return {platform: {conda name: its repodata}} of a conda.lock, {} without one. Raises UserError if damaged.

    With `dev` what the dev image has: it is the same where the lock has nothing of its own for it.
    """
    if not path.is_file():
        return {}
    from rattler import LockFile
    from rattler.exceptions import ParseCondaLockError

    try:
        lock = LockFile.from_path(path)
        environment = (dev and lock.environment("dev")) or lock.default_environment()
    except ParseCondaLockError as error:
        why = str(error).splitlines()[0]
        raise UserError(f"{path.name} is damaged ({why}): git checkout HEAD -- {path.name}, or make env-update") from None
    platforms = environment.platforms() if environment else []
    return {
        platform.name: {
            found.name.normalized: found
            for found in (environment and environment.conda_repodata_records_for_platform(platform)) or []
        }
        for platform in platforms
    }


def records(path: Path, dev: bool = False) -> dict[str, dict[str, Record]]:
    """Return {platform: {conda name: Record}} of a conda.lock, {} without one. Raises UserError for a damaged one."""
    return {platform: {name: record(found) for name, found in held.items()} for platform, held in repodata(path, dev).items()}


def closure(records: Mapping[str, Record], names: Iterable[str]) -> dict[str, Record]:
    """Return those of the records that are named, and what they depend on."""
    found: dict[str, Record] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in records and name not in found:
            found[name] = records[name]
            waiting += records[name].depends
    return found


def split_archive(file_name: str) -> tuple[str, str, str]:
    """Return (name, version, build) from the name of a conda package's archive."""
    name, version, build = re.sub(r"(\.conda|\.tar\.bz2)$", "", file_name).rsplit("-", 2)
    return name, version, build


def file_name(subdir: str, dev: bool = False) -> str:
    """Return the name of a platform's explicit lock, of the runtime image or of dev."""
    return f"conda-{'dev-' if dev else ''}{subdir}.lock"


def not_locked_error(here: str, platforms: list[str]) -> UserError:
    """Return the error of a machine of a platform that the project does not lock for."""
    command = f"--vcs-ref=:current: --data 'platforms=[{', '.join(sorted({*platforms, here}))}]'"
    return UserError(
        f"platforms: this machine is {here}, and the project is locked for {', '.join(platforms)} alone. "
        f"Commit what you have, then add\n"
        f'it to the platforms that .copier-answers.yml has: make update ARGS="{command}" && make env-update'
    )


def read(path: Path) -> list[Package]:
    """Return the packages of an explicit lock, in its order.

    Raises UserError where the file is missing, holds no package, or a package lacks a hash.
    """
    if not path.is_file():
        others = sorted(name for name in PLATFORMS if (path.parent / file_name(name)).is_file())
        if others:
            raise not_locked_error(path.name[6:-5], others)
        raise UserError(f"{path.name} is missing: run `make env-update` (it needs only Docker).")
    text = path.read_text()
    sha256 = {name: digest for digest, name in re.findall(r"^# sha256 (\w+) (\S+)$", text, re.M)}
    packages = []
    for line in text.splitlines():
        if line.startswith(("#", "@")) or not line.strip():
            continue
        url, _, md5 = line.partition("#")
        name = url.rsplit("/", 1)[-1]
        if not re.fullmatch(r"[0-9a-f]{32}", md5) or name not in sha256:
            raise UserError(f"{path.name}: no MD5 and SHA-256 for {url}. Run `make env-update` to write it anew.")
        packages.append(Package(url, md5, sha256[name]))
    if not packages:
        raise UserError(f"{path.name} names no package. Run `make env-update` to write it anew.")
    return packages


def variables(path: Path) -> dict[str, str]:
    """Return the variables of an explicit lock, which conda sets when it activates the environment."""
    found = re.search(r"^# variables (\{.*\})$", path.read_text(), re.M)
    return dict(json.loads(found[1])) if found else {}


def link_scripts(path: Path) -> Optional[list[str]]:  # noqa: UP045
    """Return the packages of an explicit lock whose link scripts may run, None for all."""
    found = re.search(r"^# link-scripts (\[.*\])$", path.read_text(), re.M)
    return list(json.loads(found[1])) if found else None


def explicit(
    packages: list[Package],
    subdir: str,
    tools: list[str],
    dev: bool = False,
    variables: Optional[dict[str, str]] = None,  # noqa: UP045  (evaluated by Python 3.9, which conda's root may be)
    scripts: Optional[list[str]] = None,  # noqa: UP045
) -> str:
    """Return the text of conda-<platform>.lock, without its stamp: what `conda create --file` takes."""
    ordered = sorted(packages, key=lambda package: package.identity)
    lines = [
        f"# Written by `make env-update`: what the {'dev ' if dev else ''}image installs. Outside of Docker:",
        f"#   conda create --name <environment> --file {file_name(subdir, dev)}",
        f"# platform: {subdir}",
        *(f"# made with {tool}" for tool in tools),
        *([f"# variables {json.dumps(variables, sort_keys=True)}"] if variables else []),
        *([] if scripts is None else [f"# link-scripts {json.dumps(scripts)}"]),
        *(f"# sha256 {package.sha256} {package.file_name}" for package in ordered),
        "@EXPLICIT",
        *(f"{package.url}#{package.md5}" for package in ordered),
    ]
    return "\n".join(lines) + "\n"
