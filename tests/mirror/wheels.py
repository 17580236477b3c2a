"""Turn wheels into what conda-forge makes of the same project: files in place, real dependencies, ``direct_url.json``."""

from __future__ import annotations

import base64
import configparser
import csv
import email
import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from .package import PLACEHOLDER


class WheelError(RuntimeError):
    """A wheel needs something that the channel does not hold; the message names both."""


@dataclass(frozen=True)
class Wheel:
    """A wheel file and what it says of itself."""

    path: Path

    @cached_property
    def name(self) -> str:
        """The normalized PyPI name."""
        return canonicalize_name(parse_wheel_filename(self.path.name)[0])

    @cached_property
    def version(self) -> str:
        """The version."""
        return str(parse_wheel_filename(self.path.name)[1])

    @cached_property
    def pure(self) -> bool:
        """Whether one build serves every Python and platform."""
        return all(tag.platform == "any" and tag.abi == "none" for tag in parse_wheel_filename(self.path.name)[3])

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self.path)

    @cached_property
    def _info(self) -> str:
        return next(name.split("/")[0] for name in self._archive.namelist() if name.endswith(".dist-info/METADATA"))

    @cached_property
    def metadata(self) -> email.message.Message:
        """The core metadata."""
        return email.message_from_bytes(self._archive.read(f"{self._info}/METADATA"))

    @cached_property
    def scripts(self) -> list[str]:
        """The console and GUI entry points as ``name = module:function``."""
        try:
            text = self._archive.read(f"{self._info}/entry_points.txt").decode()
        except KeyError:
            return []
        parser = configparser.ConfigParser(delimiters=("=",))
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(text)
        groups = [name for name in ("console_scripts", "gui_scripts") if parser.has_section(name)]
        return [f"{name} = {target.split('[')[0].strip()}" for group in groups for name, target in parser[group].items()]

    def requirements(self, minor: str, platform: str, extra: str = "") -> list[Requirement]:
        """What the wheel needs on a Python and platform, with one of its extras or without."""
        found = [Requirement(str(text)) for text in self.metadata.get_all("Requires-Dist", [])]
        environment = marker_environment(minor, platform) | {"extra": extra}
        plain = environment | {"extra": ""}
        kept = [item for item in found if item.marker is None or item.marker.evaluate(environment)]
        if extra:
            kept = [item for item in kept if item.marker is not None and not item.marker.evaluate(plain)]
        return kept

    def stage(self, folder: Path, site_packages: str, scripts: str, *, launchers: bool) -> None:
        """Put the wheel's files in place, with the metadata that an installer writes.

        ``launchers``: also write the entry points, which the installer of a noarch package makes itself.
        """
        record: list[tuple[str, str, str]] = []
        root = Path(site_packages)
        up = "../" * len(root.parts)
        for member in self._archive.infolist():
            if member.is_dir() or member.filename == f"{self._info}/RECORD":
                continue
            target = _target(member.filename, root, scripts)
            content = self._archive.read(member)
            executable = bool(member.external_attr >> 16 & 0o111)
            if target.parent == Path(scripts):
                executable = True
                if content.startswith(b"#!python"):
                    content = content.replace(b"#!python", f"#!{PLACEHOLDER}/bin/python".encode(), 1)
            record.append(_write(folder, target, content, root, up, executable=executable))
        if launchers:
            for line in self.scripts:
                name, target_text = (part.strip() for part in line.split("=", 1))
                record.append(_write(folder, Path("bin") / name, _launcher(target_text), root, up, executable=True))
        source = f"file:///home/conda/feedstock_root/build_artifacts/{self.name}_{PLACEHOLDER_TIME}/work"
        extra_files = {
            "INSTALLER": "conda\n",
            "REQUESTED": "",
            # conda-forge's packages carry it too; Poetry takes it for another origin and reinstalls
            "direct_url.json": json.dumps({"dir_info": {}, "url": source}),
        }
        for name, text in extra_files.items():
            record.append(_write(folder, root / self._info / name, text.encode(), root, up))
        record.append((f"{self._info}/RECORD", "", ""))
        text_stream = io.StringIO()
        csv.writer(text_stream, lineterminator="\n").writerows(sorted(record))
        (folder / root / self._info / "RECORD").write_text(text_stream.getvalue())


PLACEHOLDER_TIME = "1767225600000"
"""Stands where conda-forge has the time of the build, in milliseconds."""


def marker_environment(minor: str, platform: str) -> dict[str, str]:
    """The values of environment markers on a Python (``3.13``) and conda platform (``linux-64``)."""
    system, _, machine = platform.partition("-")
    system_name, sys_platform = {"linux": ("Linux", "linux"), "osx": ("Darwin", "darwin"), "win": ("Windows", "win32")}[system]
    machines = {"64": "x86_64", "aarch64": "aarch64", "arm64": "arm64"}
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{minor}.0",
        "os_name": "nt" if system == "win" else "posix",
        "platform_machine": machines[machine],
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": system_name,
        "platform_version": "",
        "python_full_version": f"{minor}.0",
        "python_version": minor,
        "sys_platform": sys_platform,
    }


def _target(name: str, root: Path, scripts: str) -> Path:
    """Where a file of the wheel goes, from the prefix: the rules of PEP 427."""
    first, _, rest = name.partition("/")
    if not first.endswith(".data"):
        return root / name
    kind, _, inner = rest.partition("/")
    places = {"purelib": root, "platlib": root, "scripts": Path(scripts), "data": Path(), "headers": Path("include")}
    return places[kind] / inner


def _write(folder: Path, target: Path, content: bytes, root: Path, up: str, *, executable: bool = False) -> tuple[str, str, str]:
    path = folder / target
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o755 if executable else 0o644)
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    installed = Path("bin") / target.name if target.parts[0] == "python-scripts" else target
    name = target.relative_to(root).as_posix() if target.is_relative_to(root) else _up(root, up) + installed.as_posix()
    return name, f"sha256={digest}", str(len(content))


def _up(root: Path, up: str) -> str:
    # a noarch package's site-packages folder lies three levels deep once it is installed
    return "../../../" if root.parts == ("site-packages",) else up


def _launcher(target: str) -> bytes:
    module, _, function = target.partition(":")
    first = function.split(".")[0]
    return (
        f"#!{PLACEHOLDER}/bin/python\n"
        "import sys\n"
        f"from {module} import {first}\n\n"
        'if __name__ == "__main__":\n'
        f"    sys.exit({function}())\n"
    ).encode()
