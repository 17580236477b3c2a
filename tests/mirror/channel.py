"""The channel: what channel.toml lists, as conda packages with an index, laid out as ``<alias>/conda-forge/<subdir>``."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from . import cache, conda, cpython, engine, images, package, pytorch
from .cache import HERE, Progress
from .engine import Engine
from .package import PLACEHOLDER, Package
from .wheels import Wheel, WheelError

NAME = "conda-forge"
LIST = HERE / "channel.toml"
OLD_ROOT = HERE / "old-root.toml"
PLATFORM: Literal["linux-64"] = "linux-64"
"""The platform whose Python and libraries are built here; the others are there to be locked."""

Stage = Callable[[Path], None]

SSL_PATCH = '''    def set_default_verify_paths(self):
        """Trust what conda's ca-certificates holds, as the openssl of conda-forge does by its compiled-in path."""
        super().set_default_verify_paths()
        bundle = os.path.join(sys.base_prefix, "ssl", "cacert.pem")
        if "SSL_CERT_FILE" not in os.environ and os.path.isfile(bundle):
            self.load_verify_locations(bundle)
'''


@dataclass(frozen=True)
class LockOnly:
    """A platform that is locked from here and never installed."""

    tags: list[str]
    packages: list[str]
    versions: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """channel.toml, read."""

    pythons: list[str]
    platforms: dict[str, list[str]]
    lock_only: dict[str, LockOnly]
    names: dict[str, str]
    depends: dict[str, list[str]]
    sdists: dict[str, dict[str, list[str]]]
    wheels: dict[str, list[str]]
    conda: conda.Release = conda.NEW

    def conda_name(self, name: str) -> str:
        """The name at conda-forge of a PyPI project."""
        normalized = canonicalize_name(name)
        return self.names.get(normalized, normalized)


def listing(minors: Iterable[str] | None = None, file: Path = LIST) -> Listing:
    """Read the list of packages, for some Pythons or for all.

    Who wants only some of the Pythons builds images, in a hurry, and gets no platforms that can only be locked.
    """
    read = tomllib.loads(LIST.read_text())
    if file != LIST:
        read |= {"lock-only": {}, "conda": conda.OLD, **tomllib.loads(file.read_text())}
    items = Listing(lock_only={name: LockOnly(**entry) for name, entry in read.pop("lock-only").items()}, **read)
    pythons = [minor for minor in items.pythons if minors is None or minor in minors]
    return replace(items, pythons=pythons, lock_only=items.lock_only if pythons == items.pythons else {})


def root() -> Path:
    """The folder that the web server shows: the channel lies in it under its name."""
    path = cache.root() / "channel"
    path.mkdir(exist_ok=True)
    return path


def current() -> Path:
    """The channel as it was last built."""
    return root() / "current" / NAME


def ensure(on: Engine, pythons: dict[str, Path], progress: Progress) -> tuple[Path, Path]:
    """Build what is missing, index it, and make it current; the channel's folder, and the wheel of pip."""
    items = listing(pythons)
    target = _made(on, items, pythons, root(), [LIST], progress)
    _make_current(target)
    return target / NAME, _pip_wheel(items)


def old_root(on: Engine, pythons: dict[str, Path], progress: Progress) -> Path:
    """Build what the root environment of an old conda is made of; a channel's folder, which is not served."""
    folder = cache.root() / "old-root"
    folder.mkdir(exist_ok=True)
    return _made(on, listing(pythons, OLD_ROOT), pythons, folder, [LIST, OLD_ROOT], progress) / NAME


def _made(on: Engine, items: Listing, pythons: dict[str, Path], folder: Path, lists: list[Path], progress: Progress) -> Path:
    """Build what is missing of a list, and index it; the folder that holds the channel, inside of `folder`."""
    parts = [
        *lists,
        *(HERE / f"{name}.py" for name in ("channel", "conda", "package", "pytorch", "wheels")),
        HERE / "stage-udunits2.sh",
    ]
    key = cache.key(*parts, sorted(path.name for path in pythons.values()))
    target = folder / key
    if not target.exists():
        found = _download(items, progress)
        sdists = _compile(on, items, pythons, progress)
        with cache.step("conda packages", progress):
            files = _packages(on, items, pythons, found, sdists)

        def build(half: Path) -> None:
            for file in files:
                place = half / NAME / file.parent.parent.name / file.name
                place.parent.mkdir(parents=True, exist_ok=True)
                os.link(file, place)
            for subdir in ("noarch", *items.platforms, *items.lock_only):
                (half / NAME / subdir).mkdir(parents=True, exist_ok=True)
            _index(half / NAME)

        with cache.step("index of the channel", progress):
            cache.build_once(target, build)
    return target


def fetch(progress: Progress, minors: Iterable[str], *, old: bool = False) -> None:
    """Download the wheels of the list: work for the network, to be done while CPython keeps the processors busy.

    With `old`, those of an old conda's root too.
    """
    _download(listing(minors), progress)
    if old:
        _download(listing(file=OLD_ROOT), progress)


def counts() -> dict[str, int]:
    """How many packages each folder of the current channel holds."""
    return {folder.name: len(list(folder.glob("*.conda"))) for folder in sorted(current().glob("[!.]*")) if folder.is_dir()}


def _pip_wheel(items: Listing) -> Path:
    name = f"pip-{items.wheels['pip'][0]}-py3-none-any.whl"
    return cache.root() / "wheels" / name


def _make_current(target: Path) -> None:
    link = root() / "current"
    if link.is_symlink() and os.readlink(link) == target.name:
        return
    half = root() / "current.half"
    half.unlink(missing_ok=True)
    half.symlink_to(target.name)
    os.replace(half, link)


def _index(folder: Path) -> None:
    from rattler.index import index_fs

    asyncio.run(index_fs(folder, write_zst=True, write_shards=False, force=True))
    cache.remove(folder / ".tmp")


def _download(items: Listing, progress: Progress) -> list[tuple[Wheel, str, str]]:
    """The wheels of the list: each with the Python and platform that it serves ("" for a pure one)."""
    folder = cache.root() / "wheels"
    folder.mkdir(exist_ok=True)
    known_file = folder / "known.json"
    known: dict[str, str] = json.loads(known_file.read_text()) if known_file.exists() else {}
    for minor, platform, tags, listed in _wanted(items):
        rounds = range(max(len(versions) for versions in listed.values()))
        for number in rounds:
            wanted = {name: versions[number] for name, versions in listed.items() if number < len(versions)}
            missing = [f"{name}=={wanted[name]}" for name in wanted if not _known(known, name, wanted[name], minor, platform)]
            if missing:
                with cache.step(f"{len(missing)} wheels for Python {minor} on {platform}", progress):
                    for pin, file in _pip_download(missing, minor, tags, folder):
                        known[pin if Wheel(file).pure else f"{pin} {minor} {platform}"] = file.name
                known_file.with_suffix(".half").write_text(json.dumps(known, indent=1, sort_keys=True))
                os.replace(known_file.with_suffix(".half"), known_file)
    found: dict[tuple[Wheel, str, str], None] = {}
    for minor, platform, _, listed in _wanted(items):
        for name, versions in listed.items():
            for version in versions:
                file = folder / _known(known, name, version, minor, platform)
                pure = f"{name}=={version}" in known
                # a stable-ABI wheel serves several Pythons, yet becomes a package for each
                found.setdefault((Wheel(file), "" if pure else minor, "" if pure else platform))
    return list(found)


def _wanted(items: Listing) -> Iterable[tuple[str, str, list[str], dict[str, list[str]]]]:
    """For each Python and platform: the tags of its wheels, and the versions that are wanted by name."""
    everything = items.wheels | {"conda-lock": [items.conda.vendored_by]}
    for platform, tags in items.platforms.items():
        for minor in items.pythons:
            yield minor, platform, tags, everything
    for platform, entry in items.lock_only.items():
        yield items.pythons[0], platform, entry.tags, {name: items.wheels[name] for name in entry.packages} | entry.versions


def _known(known: dict[str, str], name: str, version: str, minor: str, platform: str) -> str:
    pin = f"{name}=={version}"
    return known.get(pin) or known.get(f"{pin} {minor} {platform}", "")


def _pip_download(pins: list[str], minor: str, tags: list[str], folder: Path) -> Iterable[tuple[str, Path]]:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        platforms = [f"--platform={tag}" for tag in tags]
        words = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            f"--python-version={minor}",
        ]
        cache.run([*words, *platforms, f"--dest={scratch}", *pins], log=cache.root() / "log" / "wheels.log")
        by_name = {Wheel(path).name: path for path in Path(scratch).glob("*.whl")}
        for pin in pins:
            path = by_name[canonicalize_name(pin.partition("==")[0])]
            os.replace(path, folder / path.name)
            yield pin, folder / path.name


def _compile(on: Engine, items: Listing, pythons: dict[str, Path], progress: Progress) -> list[tuple[Wheel, str, str]]:
    """Wheels of the projects that publish none, compiled in the build image."""
    built: list[tuple[Wheel, str, str]] = []
    for name, entry in items.sdists.items():
        for version in entry["versions"]:
            for minor in entry["pythons"]:
                target = cache.root() / "compiled" / cache.key(name, version, pythons[minor].name)

                def build(half: Path, pin: str = f"{name}=={version}", minor: str = minor) -> None:
                    half.mkdir(parents=True)
                    _compile_one(on, items, pythons[minor], pin, half)

                with cache.step(f"{name} {version} for Python {minor}", progress):
                    cache.build_once(target, build)
                built.append((Wheel(next(target.glob("*.whl"))), minor, PLATFORM))
    return built


def _compile_one(on: Engine, items: Listing, python: Path, pin: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache.root()) as scratch:
        words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:", f"--dest={scratch}"]
        source = Path(scratch)
        cache.run([*words, pin])
        for name in ("setuptools", "wheel", "pip", "packaging"):
            wheel = cache.root() / "wheels" / f"{name}-{items.wheels[name][0]}-py3-none-any.whl"
            shutil.copy(wheel, source)
        # the headers and compiler flags name this prefix, so the build sees Python there
        mounts = [f"--volume={python}:{cpython.PREFIX}:ro", f"--volume={source}:/source:ro", f"--volume={folder}:/out"]
        script = (
            "set -e; export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/tmp/site; cd /source; "
            f'pip() {{ {cpython.PREFIX}/bin/python $(echo /source/pip-*.whl)/pip "$@"; }}; '
            "pip install -q --no-index --target=/tmp/site setuptools-*.whl wheel-*.whl packaging-*.whl; "
            "pip wheel -q --no-index --no-deps --no-build-isolation -w /out ./*.tar.gz"
        )
        engine.docker(on, "run", "--rm", "--network=none", *mounts, images.BUILD, "bash", "-c", script)


def _packages(
    on: Engine,
    items: Listing,
    pythons: dict[str, Path],
    found: list[tuple[Wheel, str, str]],
    sdists: list[tuple[Wheel, str, str]],
) -> list[Path]:
    newest = {str(canonicalize_name(name)): versions[0] for name, versions in items.wheels.items()}
    by_name = {wheel.name: wheel for wheel, _, _ in found if newest.get(wheel.name) == wheel.version}
    listed = set(by_name) | {wheel.name for wheel, _, _ in sdists}
    conda_lock = next(wheel for wheel, _, _ in found if wheel.name == "conda-lock")
    jobs = [
        (wheel, minor, platform, items, by_name, listed)
        for wheel, minor, platform in [*found, *sdists]
        if wheel.name != "conda-lock"
    ]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        heavy = [pool.submit(_python_package, on, minor, folder) for minor, folder in pythons.items()]
        results = [file for files in pool.map(_wheel_packages, jobs, chunksize=4) for file in files]
        results += [job.result() for job in heavy]
    results += [_conda_package(items.conda, conda_lock, items.pythons[0])]
    if items.pythons[0] not in cpython.OLD:
        # what projects ask for, and a conda root does not
        pythons_of = dict.fromkeys(items.platforms, items.pythons) | dict.fromkeys(items.lock_only, items.pythons[:1])
        results += [_udunits_package(on), *_lock_only_packages(items, pythons)]
        torches = pytorch.packages(pythons_of)
        results += [_store(described, [HERE / "pytorch.py"], partial(pytorch.stage, described)) for described in torches]
    results += [_certificates_package(by_name["certifi"]), _zones_package(by_name["tzdata"])]
    return results


def _store(described: Package, inputs: object, stage: Stage) -> Path:
    """Build a package once for its inputs; its build string carries the hash, so that a changed one has another name."""
    code = [HERE / name for name in ("package.py", "wheels.py")]
    digest = cache.key(*code, inputs, described.__dict__)
    described = replace(described, build=described.build.format(hash=f"h{digest[:7]}"))
    target = cache.root() / "packages" / digest / described.subdir

    def build(half: Path) -> None:
        with tempfile.TemporaryDirectory(dir=cache.root()) as scratch:
            stage(Path(scratch))
            package.write(described, Path(scratch), half)

    file = target / "0" / described.filename
    cache.build_once(target / "0", build)
    return file


def _wheel_packages(job: tuple[Wheel, str, str, Listing, dict[str, Wheel], set[str]]) -> list[Path]:
    """A wheel as conda packages: one, or for a pure wheel that needs more on one system than on another one for each."""
    wheel, minor, platform, items, by_name, listed = job
    summary = str(wheel.metadata.get("Summary", ""))
    if minor:
        depends = sorted(_depends(wheel, [minor], [platform], items, by_name, listed))
        described = Package(
            items.conda_name(wheel.name), wheel.version, f"py{minor.replace('.', '')}{{hash}}_0",
            [*depends, _python_range(minor)], subdir=platform, summary=summary,
        )  # fmt: skip
        site = f"lib/python{minor}/site-packages"
        return [_store(described, wheel.path, lambda folder: wheel.stage(folder, site, "bin", launchers=True))]

    python = f"python {wheel.metadata.get('Requires-Python', '')}".strip().replace(", ", ",")
    systems: dict[str, list[str]] = {}
    for name in [*items.platforms, *items.lock_only]:
        systems.setdefault(name.split("-")[0], []).append(name)
    needs = {name: sorted(_depends(wheel, items.pythons, where, items, by_name, listed)) for name, where in systems.items()}
    alike = len({tuple(depends) for depends in needs.values()}) == 1
    variants = [needs["linux"]] if alike else [[f"__{name}", *depends] for name, depends in needs.items()]
    return [
        _store(
            Package(
                items.conda_name(wheel.name), wheel.version, "py{hash}_0", [*depends, python], noarch="python",
                entry_points=wheel.scripts, summary=summary,
            ),
            wheel.path, lambda folder: wheel.stage(folder, "site-packages", "python-scripts", launchers=False),
        )
        for depends in variants
    ]  # fmt: skip


def _python_range(minor: str) -> str:
    """What a package that is compiled for a Python says of it."""
    major, _, number = minor.partition(".")
    return f"python >={minor},<{major}.{int(number) + 1}.0a0"


def _depends(
    wheel: Wheel, minors: list[str], platforms: list[str], items: Listing, by_name: dict[str, Wheel], listed: set[str]
) -> set[str]:
    """A wheel's requirements as conda's; a noarch package needs whatever any Python or platform needs."""
    found = set(items.depends.get(wheel.name, []))

    def add(requirement: Requirement, minor: str, platform: str) -> None:
        name = canonicalize_name(requirement.name)
        if name not in listed:
            raise WheelError(f"channel.toml has no {name}, which {wheel.name} {wheel.version} needs; add it under [wheels]")
        found.add(f"{items.conda_name(name)} {conda_spec(requirement)}".strip())
        for extra in requirement.extras:
            for inner in by_name[name].requirements(minor, platform, extra):
                add(inner, minor, platform)

    for minor in minors:
        for platform in platforms:
            for requirement in wheel.requirements(minor, platform):
                add(requirement, minor, platform)
    return found


def conda_spec(requirement: Requirement) -> str:
    """A requirement's versions in conda's words."""
    parts = []
    for specifier in sorted(requirement.specifier, key=str):
        operator, version = specifier.operator, specifier.version
        starred = operator == "==" and version.endswith(".*")
        parts.append(version if starred else f"{operator.replace('===', '==')}{version}")
    return ",".join(parts)


def _lock_only_packages(items: Listing, pythons: dict[str, Path]) -> list[Path]:
    """What is built here for one platform, for the others: name, version and dependencies, and a file that says so."""
    depends = {("python", cpython.version(pythons[items.pythons[0]])): PYTHON_DEPENDS, ("udunits2", _udunits_version()): []}

    def stage(folder: Path) -> None:
        (folder / "share").mkdir()
        (folder / "share/LOCK-ONLY").write_text(
            "This package can be locked, and holds nothing else: see tests/mirror/README.md.\n"
        )

    return [
        _store(Package(name, version, "{hash}_0", needs, subdir=platform, summary="can be locked only"), "lock only", stage)
        for platform in items.lock_only
        for (name, version), needs in depends.items()
    ]


PYTHON_DEPENDS = ["ca-certificates", "tzdata"]


def _python_package(on: Engine, minor: str, folder: Path) -> Path:
    version = cpython.version(folder)
    described = Package(
        "python", version, "{hash}_0_cpython", PYTHON_DEPENDS, subdir=PLATFORM, summary="CPython from Debian's source"
    )

    def stage(target: Path) -> None:
        shutil.copytree(folder, target, symlinks=True, dirs_exist_ok=True)
        (target / "version").unlink()
        for path in target.rglob("*"):
            if path.is_file() and not path.is_symlink():
                replace_prefix(path, PLACEHOLDER)
        library = target / f"lib/python{minor}"
        _zones_of_conda(library)
        _trust_conda(library)
        for pattern in ("__pycache__/_sysconfigdata*.pyc", "config-*/__pycache__/*.pyc"):
            for stale in library.glob(pattern):
                stale.unlink()
        names = [f"{cpython.PREFIX}/lib/python{minor}/ssl.py"]
        words = [f"{cpython.PREFIX}/bin/python", "-m", "compileall", "-q", "-f", "--invalidation-mode=unchecked-hash", *names]
        engine.docker(on, "run", "--rm", "--network=none", f"--volume={target}:{cpython.PREFIX}", images.BUILD, *words)

    return _store(described, [folder.name, SSL_PATCH, "zones of conda"], stage)


def replace_prefix(path: Path, prefix: str) -> None:
    """Put another prefix in the place of the one that a text file of a CPython build names."""
    content = path.read_bytes()
    if b"\0" not in content and cpython.PREFIX.encode() in content:
        path.write_bytes(content.replace(cpython.PREFIX.encode(), prefix.encode()))


def _trust_conda(library: Path) -> None:
    # Debian's OpenSSL looks below /usr/lib/ssl, a name too short to hold a prefix
    module = library / "ssl.py"
    text = module.read_text()
    mark = "    def load_default_certs(self"
    if text.count(mark) != 1:
        raise WheelError(f"{module} has no single {mark.strip()!r}; mend SSL_PATCH in channel.py")
    module.write_text(text.replace(mark, f"{SSL_PATCH}\n{mark}"))


def _zones_of_conda(library: Path) -> None:
    # conda-forge configures its Python to read the zone files of its own tzdata
    for module in library.glob("_sysconfigdata*.py"):
        text = module.read_text()
        mark = "'TZPATH': '"
        if text.count(mark) != 1:
            raise WheelError(f"{module} has no single {mark!r}; mend _zones_of_conda in channel.py")
        module.write_text(text.replace(mark, f"{mark}{PLACEHOLDER}/share/zoneinfo:"))


def _conda_package(release: conda.Release, wheel: Wheel, minor: str) -> Path:
    depends = [*release.depends, _python_range(minor)]
    described = Package("conda", release.version, f"py{minor.replace('.', '')}{{hash}}_0", depends, subdir=PLATFORM)
    return _store(described, [HERE / "conda.py", wheel.path], lambda folder: conda.stage(release, wheel.path, folder, minor))


def _udunits_staged() -> Path:
    return cache.root() / "staged" / f"udunits2-{cache.key(HERE / 'stage-udunits2.sh', images.BUILD_RECIPE)}"


def _udunits_version() -> str:
    return (_udunits_staged() / "version").read_text().strip()


def _udunits_package(on: Engine) -> Path:
    script, staged = HERE / "stage-udunits2.sh", _udunits_staged()

    def build(half: Path) -> None:
        half.mkdir(parents=True)
        engine.docker(
            on, "run", "--rm", f"--volume={half}:/out", f"--volume={script}:/stage.sh:ro", images.BUILD, "bash", "/stage.sh"
        )

    cache.build_once(staged, build)
    described = Package("udunits2", _udunits_version(), "{hash}_0", [], subdir=PLATFORM)

    def stage(folder: Path) -> None:
        shutil.copytree(staged, folder, dirs_exist_ok=True)
        (folder / "version").unlink()
        scripts = {"activate": UDUNITS_ACTIVATE, "deactivate": UDUNITS_DEACTIVATE}
        for verb, text in scripts.items():
            path = folder / f"etc/conda/{verb}.d/udunits2-{verb}.sh"
            path.parent.mkdir(parents=True)
            path.write_text(text)

    return _store(described, [staged.name, UDUNITS_ACTIVATE, UDUNITS_DEACTIVATE], stage)


UDUNITS_ACTIVATE = """if [ -n "${UDUNITS2_XML_PATH+x}" ]; then
    export _CONDA_SET_UDUNITS2_XML_PATH="$UDUNITS2_XML_PATH"
fi
export UDUNITS2_XML_PATH="$CONDA_PREFIX/share/udunits/udunits2.xml"
"""

UDUNITS_DEACTIVATE = """unset UDUNITS2_XML_PATH
if [ -n "${_CONDA_SET_UDUNITS2_XML_PATH+x}" ]; then
    export UDUNITS2_XML_PATH="$_CONDA_SET_UDUNITS2_XML_PATH"
    unset _CONDA_SET_UDUNITS2_XML_PATH
fi
"""


def _certificates_package(certifi: Wheel) -> Path:
    described = Package("ca-certificates", certifi.version, "{hash}_0", [], noarch="generic")

    def stage(folder: Path) -> None:
        import zipfile

        (folder / "ssl").mkdir()
        (folder / "ssl/cacert.pem").write_bytes(zipfile.ZipFile(certifi.path).read("certifi/cacert.pem"))
        (folder / "ssl/cert.pem").symlink_to("cacert.pem")

    return _store(described, certifi.path, stage)


def _zones_package(tzdata: Wheel) -> Path:
    year, _, number = tzdata.version.partition(".")
    described = Package("tzdata", f"{year}{chr(ord('a') + int(number) - 1)}", "{hash}_0", [], noarch="generic")

    def stage(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            subprocess.run([sys.executable, "-m", "zipfile", "-e", tzdata.path, scratch], check=True)
            ignored = shutil.ignore_patterns("*.py", "__pycache__")
            shutil.copytree(Path(scratch) / "tzdata/zoneinfo", folder / "share/zoneinfo", ignore=ignored)

    return _store(described, tzdata.path, stage)
