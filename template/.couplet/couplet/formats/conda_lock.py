"""conda's locks: conda.lock with all platforms, and the explicit conda-<platform>.lock that is installed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from couplet.errors import UserError


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


def split_archive(file_name: str) -> tuple[str, str, str]:
    """Return (name, version, build) from the name of a conda package's archive."""
    name, version, build = re.sub(r"(\.conda|\.tar\.bz2)$", "", file_name).rsplit("-", 2)
    return name, version, build


def file_name(subdir: str) -> str:
    """Return the name of a platform's explicit lock."""
    return f"conda-{subdir}.lock"


def unlocked(here: str, platforms: list[str]) -> UserError:
    """Return the error of a machine of a platform that the project does not lock for."""
    command = f"--vcs-ref=:current: --data 'platforms=[{', '.join(sorted({*platforms, here}))}]'"
    return UserError(
        f"platforms: this machine is {here}, and the project is locked for {', '.join(platforms)} alone. Commit what you have, then add\n"
        f'it to the platforms that .copier-answers.yml has: make update ARGS="{command}" && make env-update'
    )


def read(path: Path) -> list[Package]:
    """Return the packages of an explicit lock, in its order.

    Raises UserError where the file is missing, holds no package, or a package lacks a hash.
    """
    if not path.is_file():
        others = sorted(file.name[6:-5] for file in path.parent.glob("conda-*.lock"))
        if others:
            raise unlocked(path.name[6:-5], others)
        raise UserError(f"{path.name} is missing: run `make env-update` (it asks for Docker only).")
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


def explicit(packages: list[Package], subdir: str, tools: list[str]) -> str:
    """Return the text of conda-<platform>.lock, without its stamp: what `conda create --file` takes."""
    ordered = sorted(packages, key=lambda package: package.identity)
    lines = [
        "# Written by `make env-update`: what the image installs. Outside of Docker:",
        f"#   conda create --name <environment> --file {file_name(subdir)}",
        f"# platform: {subdir}",
        *(f"# made with {tool}" for tool in tools),
        *(f"# sha256 {package.sha256} {package.file_name}" for package in ordered),
        "@EXPLICIT",
        *(f"{package.url}#{package.md5}" for package in ordered),
    ]
    return "\n".join(lines) + "\n"


class Record(NamedTuple):
    """A package of conda.lock: both hashes in hexadecimal, the conda names that it depends on, and its licence ('' unknown)."""

    name: str
    version: str
    build: str
    url: str
    md5: str
    sha256: str
    depends: tuple[str, ...]
    license: str


def records(path: Path) -> dict[str, dict[str, Record]]:
    """Return {platform: {conda's name: Record}} of conda.lock. Raises UserError where it is missing or damaged."""
    from rattler import LockFile

    if not path.is_file():
        raise UserError(f"{path.name} is missing: run `make env-update` (it asks for Docker only).")
    try:
        document = LockFile.from_path(path).default_environment()
        found = document.conda_repodata_records() if document else {}
    except Exception as error:
        raise UserError(f"{path.name} is damaged ({error}). Take it from git again, or run `make env-update`.") from None
    return {
        str(subdir): {
            record.name.normalized: Record(
                record.name.normalized,
                str(record.version),
                str(record.build),
                record.url,
                (record.md5 or b"").hex(),
                (record.sha256 or b"").hex(),
                tuple(spec.split()[0] for spec in record.depends),
                record.license or "",
            )
            for record in listed
        }
        for subdir, listed in found.items()
    }
