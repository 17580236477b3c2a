"""Create the environment from conda's explicit lock.

conda fetches (fetch.py), rattler links: the same environment with the same records as `conda create --file` makes, in
a quarter of the time. What conda does besides is done here: noarch packages are compiled, and their .pyc files recorded.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import rattler
from rattler.exceptions import ExtractError, InstallerError
from rattler.package_streaming import PackageArchive

from couplet import network
from couplet.errors import UserError
from couplet.formats import conda_lock, files, platforms, records
from couplet.formats.conda_lock import Package
from couplet.install import conda_root
from couplet.install.bytecode import compile_files
from couplet.install.origins import forget_sources, write_history, write_variables

OTHER = "Ask for another version or build in environment.yml, and run `make env-update`."


class LinkScripts:
    """Notes which packages ran a post-link script, and which scripts failed: rattler itself goes on.

    An InstallerReporter of rattler's, which calls the methods that are there.
    """

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.failed: list[str] = []

    def on_post_link_start(self, package_name: str, script_path: str) -> int:
        """Note a script; its number is what rattler hands back when it has ended."""
        self.ran.append(package_name)
        return len(self.ran) - 1

    def on_post_link_complete(self, index: int, success: bool) -> None:
        """Note a script that failed."""
        if not success:
            self.failed.append(self.ran[index])


def unpacked_packages() -> rattler.PackageCache:
    """Return rattler's cache of unpacked packages: each is compared with its own list of hashes before it is used."""
    folder = str(conda_root.CACHE / "unpacked")
    return rattler.PackageCache.new_layered([folder], validation_mode=rattler.ValidationMode.full())


async def needed(package: Package, scratch: Path) -> rattler.RepoDataRecord:
    """Return what rattler needs of a fetched package, from the package's own metadata."""
    archive, index = conda_root.archive(package), scratch / f"{package.sha256}.json"
    content = await (await PackageArchive.from_path(archive)).read_file("info/index.json")
    if content is None:
        raise UserError(f"{package.file_name} has no info/index.json, so it is not a conda package. {OTHER}")
    index.write_bytes(content)
    size = archive.stat().st_size
    record = rattler.PackageRecord.from_index_json(index, size=size, sha256=package.sha256, md5=package.md5)
    return rattler.RepoDataRecord(record, package.file_name, archive.as_uri(), package.url.rsplit("/", 2)[0])


async def contents(packages: list[Package]) -> dict[str, list[str]]:
    """Return {name: paths of its files} of fetched packages, as they list them themselves; links are none."""

    async def files_of(package: Package) -> list[str]:
        archive = await PackageArchive.from_path(conda_root.archive(package))
        if listed := await archive.read_file("info/paths.json"):
            return real_files(json.loads(listed)["paths"])
        return (await archive.read_file("info/files") or b"").decode().splitlines()

    found = await asyncio.gather(*map(files_of, packages))
    return {package.identity[0]: paths for package, paths in zip(packages, found, strict=True)}


def real_files(entries: list[dict[str, Any]]) -> list[str]:
    """Return the paths of entries of a paths.json, or of a record's paths_data, that are neither a link nor a folder."""
    return [entry["_path"] for entry in entries if entry.get("path_type") not in ("softlink", "directory")]


def with_scripts(brought: dict[str, list[str]]) -> list[str]:
    """Return which packages of {name: paths} bring a link script, which runs when they are installed."""
    return [name for name, paths in brought.items() if f"bin/.{name}-post-link.sh" in paths]


def files_for_folders(brought: dict[str, list[str]]) -> list[str]:
    """Return what one package of {name: paths} has as a file and another as a folder, as sentences.

    conda refuses such packages; rattler links them in any order, and may lose both files.
    """
    owners, folders = {}, {}
    for name, paths in brought.items():
        for listed in paths:
            path = re.sub(r"^lib/python[^/]+/(?=site-packages/)", "", listed)  # which a noarch package leaves out
            owners[path] = name
            while (path := path.rpartition("/")[0]) and path not in folders:
                folders[path] = name
    return [f"{path} is a file of {owners[path]} and a folder of {folders[path]}" for path in sorted(owners.keys() & folders)]


def link(packages: list[Package], prefix: Path, allowed: list[str] | None = None) -> list[str]:
    """Unpack and link fetched packages into `prefix`, beside what it holds, and run their link scripts, as conda does.

    Returns the names of the packages whose scripts ran. Raises UserError for a package that cannot be linked, or whose
    script fails or may not run: with `allowed`, that of no other.
    """
    scripts = LinkScripts()
    installed = [rattler.PrefixRecord.from_path(path) for path in sorted(prefix.glob("conda-meta/*.json"))]

    async def work() -> None:
        with tempfile.TemporaryDirectory() as scratch:
            found = await asyncio.gather(*(needed(package, Path(scratch)) for package in packages))
        await rattler.install(
            [*installed, *found],
            prefix,
            package_cache=unpacked_packages(),
            installed_packages=installed,
            execute_link_scripts=True,
            show_progress=False,
            reporter=scripts,  # type: ignore[arg-type]
        )

    try:
        brought = asyncio.run(contents(packages))
        if allowed is not None and (refused := sorted({*with_scripts(brought)} - {*allowed})):
            raise UserError(
                f"{', '.join(refused)}: a post-link script would run (bin/.NAME-post-link.sh in the package), and `link-scripts` under\n"
                f"[tool.couplet] in pyproject.toml does not name the package. Name it there, and run `make env-update`. Or: {OTHER}"
            )
        held = {record["name"]: real_files(record["paths_data"]["paths"]) for record in records.conda_records(prefix)}
        if found := files_for_folders(held | brought):
            raise UserError(f"these packages do not go together: {'; '.join(found)}.\n{OTHER}")
        asyncio.run(work())
    except (InstallerError, ExtractError, OSError) as error:
        text = f"conda's packages cannot be linked: {error}.\nIf a package is damaged or two do not go together: {OTHER}"
        raise UserError(text) from None
    if scripts.failed:
        raise UserError(
            f"the post-link script of {', '.join(scripts.failed)} failed. It comes with the package "
            f"(bin/.NAME-post-link.sh), and conda refuses such an installation too.\n{OTHER}"
        )
    clashes(prefix)
    return scripts.ran


def clashes(prefix: Path) -> None:
    """Say which files of one package another's are in the place of: those lie below __clobbers__ now."""
    other = []
    for record in records.conda_records(prefix):
        for entry in [entry for entry in record["paths_data"]["paths"] if entry.get("original_path")]:
            place = prefix / entry["original_path"]
            if not place.is_file() or files.sha256(str(place)) != entry.get("sha256_in_prefix"):
                other.append(f"{entry['original_path']} of {record['name']}")
    if other:
        print(f"conda: packages have different files at the same path; overwritten: {', '.join(other)}", flush=True)


def noarch_sources(recorded: list[dict[str, Any]]) -> list[str]:
    """Return the Python files of noarch packages, which conda compiles when it installs them: paths in the environment."""
    return sorted(
        path
        for record in recorded
        if record.get("noarch") == "python"
        for path in record["files"]
        if path.endswith(".py") and "/site-packages/" in path
    )


def finish_records(packages: list[Package], prefix: Path, scripted: list[str]) -> None:
    """Write into conda-meta what conda writes there of these packages: public addresses, and what was compiled.

    `scripted` are packages whose link scripts ran: what such a script made of its own package's files is how they are.
    """
    public = {package.file_name: package for package in packages}
    every = {path: json.loads(path.read_text()) for path in sorted(prefix.glob("conda-meta/*.json"))}
    found = {path: record for path, record in every.items() if record["fn"] in public}
    compiled = compile_files(prefix, noarch_sources(list(found.values())))
    for path, record in found.items():
        package = public[record["fn"]]
        record["url"], record["channel"] = package.url, package.channel
        record["link"]["source"] = record["extracted_package_dir"]
        entries = record["paths_data"]["paths"]
        if record["name"] in scripted:
            for entry in entries:
                file = prefix / entry["_path"]
                if file.is_file() and not file.is_symlink():
                    entry["sha256_in_prefix"] = files.sha256(str(file))
        made = [compiled[source] for source in record["files"] if source in compiled]
        record["files"] += made
        entries += [{"_path": pyc, "path_type": "pyc_file"} for pyc in made]
        path.unlink()  # rattler's file is for root's eyes only
        path.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")


def install(locks: Path, prefix: Path) -> None:
    """Fetch what this machine's lock in the folder `locks` names and `prefix` does not hold, and link it into that."""
    here = platforms.this_machine()
    named = locks / conda_lock.file_name(here)
    locked = conda_lock.read(named)
    held = {(record["name"], record["version"], record["build"]) for record in records.conda_records(prefix)}
    packages = [package for package in locked if package.identity not in held]
    print(f"conda: fetching {len(packages)} packages", flush=True)
    with tempfile.NamedTemporaryFile("w", suffix=".lock") as lock:
        lock.write(conda_lock.explicit(packages, here, []))
        lock.flush()
        conda_root.call("fetch", lock.name)
    print("conda: linking them", flush=True)
    # What anything would leave in a home folder goes where the layer does not see it. And the environment's
    # Python, started by a link script, must not touch what is compiled already.
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(HOME=home, PYTHONDONTWRITEBYTECODE="1")
        try:
            scripted = link(packages, prefix, conda_lock.link_scripts(named))
            finish_records(packages, prefix, scripted)
            write_history(prefix, locked)
            write_variables(prefix, conda_lock.variables(named))
        finally:
            os.environ.clear()
            os.environ.update(before)
    forget_sources(prefix)
    print(f"conda: {len(packages)} packages linked into {prefix}", flush=True)
    if scripted:
        print(f"conda: these ran a post-link script of their own: {', '.join(scripted)}", flush=True)


def main(arguments: list[str]) -> None:
    """The verb `install-conda`."""
    parser = argparse.ArgumentParser(prog="couplet install-conda", description=__doc__)
    parser.add_argument("--locks", type=Path, required=True, help="folder of the explicit locks")
    parser.add_argument("--prefix", type=Path, required=True)
    parser.add_argument("--more", action="store_true", help="add to an environment, where there is such a folder")
    options = parser.parse_args(arguments)

    if options.more and not options.locks.is_dir():
        return
    network.apply()
    options.prefix.parent.mkdir(parents=True, exist_ok=True)
    os.umask(0o002)
    install(options.locks, options.prefix)
