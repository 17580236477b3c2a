"""conda's part of a lock: environment.yml is solved by rattler, for all platforms side by side in one process.

Nothing changes version that need not. What is locked is preferred build by build, and held at its version as far as
there is a solution. Virtual packages are named here, so that a lock is the same on every machine.
"""

from __future__ import annotations

import asyncio
import datetime
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import rattler
from rattler import LockFile, MatchSpec, PackageName, PackageRecord, RepoDataRecord, Subdir
from rattler.exceptions import GatewayError, ParseCondaLockError, SolverError
from rattler.package import BuildString
from ruamel.yaml import YAML

from couplet import settings
from couplet.errors import UserError
from couplet.formats import conda_lock
from couplet.formats.names import normalise
from couplet.lock import cooldown, explain
from couplet.lock.channels import Conda, client, resolve, resolved
from couplet.lock.environment import Environment
from couplet.lock.stamp import DEV

Packages = dict[str, RepoDataRecord]
"""conda's name -> what is known of the package that is or was locked."""

LINUX = {"__unix": "0=0", "__linux": "5.10=0", "__glibc": "2.28=0"}
VIRTUAL = {
    "linux-64": {**LINUX, "__archspec": "1=x86_64"},
    "linux-aarch64": {**LINUX, "__archspec": "1=aarch64"},
    "osx-arm64": {"__unix": "0=0", "__osx": "11.0=0", "__archspec": "1=arm64"},
}
"""Platform -> {virtual package: version=build}: what a lock may assume of the machine. No __cuda, so that no CUDA build
is locked by accident."""
SETTABLE = {"__cuda": "linux", "__glibc": "linux", "__linux": "linux", "__osx": "osx"}
"""The virtual packages that [tool.couplet.virtual-packages] may set, and the systems where each makes sense."""
ROUNDS = 8
"""How often packages that stand in the way are released by name, before all are."""


def virtual_packages(document: dict[str, Any], subdir: str) -> dict[str, str]:
    """Return {name: version=build} for a platform, with what a pyproject.toml sets. Raises UserError for other keys."""
    found = settings.table(document).get("virtual-packages", {})
    where = "pyproject.toml, [tool.couplet.virtual-packages]"
    if not isinstance(found, dict):
        raise UserError(f'{where}: this must be a table. Example of a line: __glibc = "2.31"')
    for name, version in found.items():
        if name not in SETTABLE:
            raise UserError(f"{where}: {name} is not known. These can be set: {', '.join(SETTABLE)}.")
        if not isinstance(version, str) or not re.fullmatch(r"\d+(\.\d+)*", version):
            raise UserError(f'{where}: {name} is {version!r}, which is not a version. Example: {name} = "12.9"')
    return VIRTUAL[subdir] | {name: f"{found[name]}=0" for name in sorted(found) if subdir.startswith(SETTABLE[name])}


class Solver:
    """rattler, with the channels of a project and a cache of what they say. Its methods are for one asyncio loop."""

    def __init__(self, environment: Environment, document: dict[str, Any], conda: Conda, cache: Path) -> None:
        """Take environment.yml, pyproject.toml, conda's configuration, and the folder where repodata is kept."""
        self.environment = environment
        self.document = document
        self.channels = resolved(environment.channels, conda)
        # as conda has it, `channel::name` brings a channel of its own; it is asked last
        named = [resolve(spec.text.split("::")[0], conda) for spec in environment.specs if "::" in spec.text]
        self.channels = list({one.public: one for one in [*named[::-1], *self.channels[::-1]]}.values())[::-1]
        self.gateway = rattler.Gateway(cache_dir=cache, client=client(self.channels, conda))
        self.cooldown = cooldown.read(document)
        self._times: dict[str, tuple[datetime.datetime | None, ...]] = {}

    @property
    def sources(self) -> list[rattler.Channel]:
        """The channels as rattler takes them."""
        return [rattler.Channel(channel.source) for channel in self.channels]

    def match(self, text: str) -> MatchSpec:
        """Return what rattler reads in a spec, with the address of the channel that it names."""
        name, _, rest = text.rpartition("::")
        source = next((channel.source for channel in self.channels if name in (channel.name, channel.public)), name)
        return MatchSpec(f"{source}::{rest}" if name else text, strict=False)

    async def packages(self, subdir: str, locked: Iterable[RepoDataRecord] = (), constraints: Iterable[str] = ()) -> Packages:
        """Return a solution for a platform that prefers `locked` and keeps to `constraints`.

        Raises SolverError where there is none, GatewayError where a channel does not answer.
        """
        assumed = [(name, *value.split("=")) for name, value in virtual_packages(self.document, subdir).items()]
        sources: list[Any] = self.sources
        if self.cooldown.age:
            locked = [self.aged(record) for record in locked]
        if self.cooldown.age and self.cooldown.exclude:
            # beside each channel, so that strict priority stays as it is
            sources = [one for source in sources for one in (source, Exempt(self, source))]
        found = await rattler.solve(
            sources,
            [self.match(spec.text) for spec in self.environment.on(subdir)],
            self.gateway,
            platforms=[Subdir(subdir), Subdir("noarch")],
            locked_packages=list(locked),
            virtual_packages=[
                rattler.GenericVirtualPackage(PackageName(n), rattler.Version(v), BuildString(b)) for n, v, b in assumed
            ],
            constraints=[MatchSpec(text, strict=False) for text in constraints],
            channel_relations="disabled",
            exclude_newer=self.cooldown.age,
            timestamp_policy="require-timestamp" if self.cooldown.strict else "allow-missing",
        )
        for record in found:
            if record.url in self._times:
                record.timestamp, record.indexed_timestamp = self._times[record.url]
        return {record.name.normalized: self._public(record) for record in found}

    def aged(self, record: RepoDataRecord) -> RepoDataRecord:
        """Return a record made so old that no cooldown leaves it out; a solution has its own times again."""
        self._times.setdefault(record.url, (record.timestamp, record.indexed_timestamp))
        record.timestamp, record.indexed_timestamp = datetime.datetime.fromtimestamp(1, datetime.UTC), None
        return record

    def _public(self, record: RepoDataRecord) -> RepoDataRecord:
        """Return a record with the public address of its channel."""
        for channel in self.channels:
            if channel.source != channel.public and record.url.startswith(f"{channel.source}/"):
                record.url = channel.public + record.url[len(channel.source) :]
                record.channel = f"{channel.public}/"
        return record

    async def known(self, subdir: str, names: Collection[str]) -> list[RepoDataRecord]:
        """Return what the channels have of the packages of these names."""
        platforms = [Subdir(subdir), Subdir("noarch")]
        found = await self.gateway.query(self.sources, platforms, list(names), recursive=False, channel_relations="disabled")
        return [self._public(record) for records in found for record in records]

    def missing_virtual(self, name: str, wanted: str, subdir: str) -> str:
        """Return what to say where a virtual package is not there, or not in the version that is wanted."""
        if not subdir.startswith(SETTABLE.get(name, "none")):
            return f"{name} is a virtual package, which no machine of {subdir} has: ask for another build."
        assumed = virtual_packages(self.document, subdir).get(name, "none").split("=")[0]
        version = next(iter(re.findall(r"[\d.]*\d", wanted)), "12.9")
        return (
            f"{name} is a virtual package: it stands for what the machine has, and locks assume {assumed}. If the machines "
            f'that run the image have it, write in pyproject.toml:\n  [tool.couplet.virtual-packages]\n  {name} = "{version}"'
        )

    async def lock(self, subdir: str, old: Packages, update: Collection[str], everything: bool) -> Packages:
        """Return what is to be locked for a platform; `old` is what was.

        Those of `update` (normalised names) go as far as they would alone, whatever else has to change version for it.
        Raises UserError with an explanation where there is no solution.
        """
        try:
            if everything or not old:
                say(f"conda: solving for {subdir}")
                return await self.packages(subdir)
            moving = {name for name in old if normalise(name) in update}
            goal = []
            if moving:
                say(f"conda: solving for {subdir}: the newest possible {', '.join(sorted(moving))}")
                free = await self.packages(subdir)
                goal = [f"{name} =={free[name].version} {free[name].build}" for name in sorted(moving & free.keys())]
            specs = [spec for spec in self.environment.on(subdir) if spec.name in old]
            moving |= {spec.name for spec in specs if not self.match(spec.text).matches(old[spec.name])}
            kept = {name: record for name, record in old.items() if name not in moving}
            held = {name: f"{name} =={record.version}" for name, record in kept.items()}
            # what came from a channel that is no longer named has to come from another
            ours = tuple(f"{channel.public}/" for channel in self.channels)
            preferred = [record for record in kept.values() if record.url.startswith(ours)]
            say(f"conda: solving for {subdir}, {len(kept)} packages preferred in their locked versions")
            for left in range(ROUNDS, 0, -1):
                try:
                    return await self.packages(subdir, preferred, [*goal, *held.values()])
                except SolverError as error:
                    # what stands in the way may change version; in the end, or where nothing is named, all may
                    named = set(re.findall(r"constraint (\S+) ", str(error))) & held.keys()
                    held = {name: held[name] for name in held.keys() - named} if named and left > 2 else {}
            return await self.packages(subdir, preferred, goal)
        except SolverError as error:
            raise await explain.no_solution_error(self, subdir, str(error)) from None
        except GatewayError as error:
            raise explain.no_answer_error(self.channels, str(error)) from None

    async def complete(self, subdir: str, old: Packages) -> Packages:
        """Return the packages of a conda-lock.yml with all that the channels know of each: they have less in there."""
        try:
            there = {(r.subdir, r.file_name, r.md5): r for r in await self.known(subdir, old.keys())}
        except GatewayError as error:
            raise explain.no_answer_error(self.channels, str(error)) from None
        return {name: there.get((r.subdir, r.file_name, r.md5), r) for name, r in old.items()}


class Exempt(NamedTuple):
    """What a channel has of the packages that the cooldown does not concern, as a source of rattler's."""

    solver: Solver
    channel: rattler.Channel

    async def fetch_package_records(self, platform: Subdir, name: PackageName) -> list[RepoDataRecord]:
        """Return the packages of a name."""
        if normalise(name.normalized) not in self.solver.cooldown.exclude:
            return []
        ask = self.solver.gateway.query
        found = await ask([self.channel], [platform], [name.normalized], recursive=False, channel_relations="disabled")
        return [self.solver.aged(record) for records in found for record in records]

    def package_names(self, platform: Subdir) -> list[str]:
        """Return none: the channel says which there are."""
        return []


def say(text: str) -> None:
    """Print a line of progress."""
    print(text, flush=True)


class Previous(NamedTuple):
    """What was locked: {platform: packages}, whether a conda-lock.yml says so, and {platform: its virtual packages}."""

    packages: dict[str, Packages]
    legacy: bool
    virtual: dict[str, list[str]]


def lock_all(
    solver: Solver, platforms: list[str], previous: Previous, update: Collection[str], everything: bool
) -> dict[str, Packages]:
    """Return {platform: what is to be locked}, solved side by side. Raises UserError as Solver.lock does."""

    async def one(subdir: str) -> Packages:
        old = previous.packages.get(subdir, {})
        return await solver.lock(subdir, await solver.complete(subdir, old) if previous.legacy else old, update, everything)

    async def side_by_side() -> list[Packages | BaseException]:
        return await asyncio.gather(*map(one, platforms), return_exceptions=True)

    locked = {}
    for subdir, result in zip(platforms, asyncio.run(side_by_side()), strict=True):
        if isinstance(result, BaseException):
            raise result
        locked[subdir] = result
    return locked


# --- files -----------------------------------------------------------------------------------------


def previous(project: Path) -> Previous:
    """Return what conda.lock holds, or conda-lock.yml of a release before 1.0; nothing where neither can be read."""
    path = project / "conda.lock"
    if path.is_file():
        try:
            virtual = {one.name: sorted(one.virtual_packages) for one in LockFile.from_path(path).platforms()}
            return Previous(conda_lock.repodata(path, dev=True), False, virtual)
        except (ParseCondaLockError, UserError) as error:
            say(f"conda.lock is damaged ({str(error).splitlines()[0]}): solving without it")
    elif (project / "conda-lock.yml").is_file():
        try:
            return Previous(_conda_lock_yml(project / "conda-lock.yml"), True, {})
        except Exception as error:  # whatever the parser finds: a damaged lock is no lock
            say(f"conda-lock.yml is damaged ({str(error).splitlines()[0]}): solving without it")
    return Previous({}, False, {})


def _conda_lock_yml(path: Path) -> dict[str, Packages]:
    """Return {platform: packages} of a conda-lock.yml, as far as it says something of them."""
    document = YAML(typ="safe").load(path.read_text())
    found: dict[str, Packages] = {platform: {} for platform in document["metadata"]["platforms"]}
    for entry in document["package"]:
        channel, subdir, file_name = entry["url"].rsplit("/", 2)
        name, version, build = conda_lock.split_archive(file_name)
        record = PackageRecord(
            name,
            version,
            BuildString(build),
            0,
            subdir,
            depends=[f"{need} {wanted}".strip() for need, wanted in entry["dependencies"].items()],
            md5=bytes.fromhex(entry["hash"]["md5"]),
            sha256=bytes.fromhex(entry["hash"]["sha256"]),
        )
        found[entry["platform"]][name] = RepoDataRecord(record, file_name, entry["url"], f"{channel}/")
    return found


def virtual_list(document: dict[str, Any], subdir: str) -> list[str]:
    """Return the virtual packages of a platform as conda.lock has them: name=version=build."""
    return sorted(f"{name}={value}" for name, value in virtual_packages(document, subdir).items())


def write(path: Path, locked: dict[str, Packages], solver: Solver) -> None:
    """Write conda.lock: the same bytes for the same packages. Raises UserError for a package without hashes.

    What environment.yml asks for, with all that it needs, is the environment `default`; where there is an
    environment.dev.yml, all of it is the environment `dev`.
    """
    platforms = {s: rattler.LockPlatform(s, Subdir(s), virtual_list(solver.document, s)) for s in sorted(locked)}
    lock = LockFile(list(platforms.values()))
    names = ["default", "dev"] if any(spec.file == DEV for spec in solver.environment.specs) else ["default"]
    for name in names:
        lock.set_channels(name, [rattler.LockChannel(f"{channel.public}/") for channel in solver.channels])
    for subdir, platform in platforms.items():
        needed = conda_lock.closure(
            {name: conda_lock.record(r) for name, r in locked[subdir].items()}, solver.environment.runtime(subdir)
        )
        for key, record in sorted(locked[subdir].items()):
            if not (record.md5 and record.sha256):
                raise UserError(f"{record.url}: its channel gives no MD5 and SHA-256 for it. Ask for another version or channel.")
            for name in names:
                if name == "dev" or len(names) == 1 or key in needed:
                    lock.add_conda_package(name, platform, record)
    lock.to_path(path)
