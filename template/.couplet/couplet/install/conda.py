"""Create the environment from conda's explicit lock.

conda fetches (conda_packages.py), rattler links: the same environment with the same records as
`conda create --file` makes, in a quarter of the time. What conda does besides is done here:
noarch packages are compiled, and their .pyc files recorded.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

from bytecode import compile_files
from conda_packages import CACHE, SUBDIRS, fetch, info_file, read_lock
from errors import run


def records(packages, folder):
    """Return what rattler needs of each locked package, from the package's own metadata."""
    from rattler import PackageRecord, RepoDataRecord

    found = []
    for package in packages:
        index = folder / "index.json"
        index.write_text(info_file(package.archive, "info/index.json"))
        record = PackageRecord.from_index_json(
            index, size=package.archive.stat().st_size, sha256=package.sha256, md5=package.md5
        )
        channel = package.url.rsplit("/", 2)[0]
        found.append(RepoDataRecord(record, package.file_name, package.archive.as_uri(), channel))
    return found


def unpacked_packages():
    """Return rattler's cache of unpacked packages: each is compared with its own list of hashes before it is used."""
    from rattler import PackageCache, ValidationMode

    return PackageCache.new_layered([f"{CACHE}/unpacked"], validation_mode=ValidationMode.full())


def link(packages, prefix):
    """Unpack and link the packages into `prefix`, and run their link scripts, as conda does."""
    import rattler

    with tempfile.TemporaryDirectory() as folder:
        needed = records(packages, Path(folder))
    asyncio.run(
        rattler.install(
            needed,
            prefix,
            package_cache=unpacked_packages(),
            installed_packages=[],
            execute_link_scripts=True,
            show_progress=False,
        )
    )


def noarch_sources(recorded):
    """Return the Python files of noarch packages, which conda compiles when it installs them: paths in the environment."""
    return sorted(
        path
        for record in recorded
        if record.get("noarch") == "python"
        for path in record["files"]
        if path.endswith(".py") and "/site-packages/" in path
    )


def finish_records(packages, prefix):
    """Write into conda-meta what conda writes there: the public address, and what was compiled."""
    public = {package.file_name: package.url for package in packages}
    files = {path: json.loads(path.read_text()) for path in sorted(Path(prefix, "conda-meta").glob("*.json"))}
    compiled = compile_files(prefix, noarch_sources(files.values()))
    for path, record in files.items():
        record["url"] = public[record["fn"]]
        record["channel"] = record["url"].rsplit("/", 1)[0]
        record["link"]["source"] = record["extracted_package_dir"]
        made = [compiled[source] for source in record["files"] if source in compiled]
        record["files"] += made
        record["paths_data"]["paths"] += [{"_path": pyc, "path_type": "pyc_file"} for pyc in made]
        path.unlink()  # rattler's file is for root's eyes only
        path.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
    # conda takes a folder for an environment when it has this file
    Path(prefix, "conda-meta/history").touch()


def forget_sources(prefix):
    """Delete the direct_url.json files that conda's packages carry.

    They say `installed from a folder on the build machine`, and it is for them that Poetry installs
    its own copy over conda's at the very same version (python-poetry/poetry#6408).
    """
    for file in Path(prefix).glob("lib/python3.*/site-packages/*.dist-info/direct_url.json"):
        if json.loads(file.read_text()).get("url", "").startswith("file:"):
            file.unlink()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--locks", type=Path, required=True, help="folder of the explicit locks")
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--tools", required=True, help="folder where rattler is installed")
    options = parser.parse_args()

    sys.path.append(options.tools)
    packages = read_lock(options.locks / f"conda-{SUBDIRS[platform.machine()]}.lock")
    # What anything would leave in a home folder goes where the layer does not see it. And the environment's
    # Python, started by a link script, must not touch what is compiled already.
    os.environ.update(HOME=tempfile.mkdtemp(), PYTHONDONTWRITEBYTECODE="1")
    fetch(packages)
    link(packages, options.prefix)
    finish_records(packages, options.prefix)
    forget_sources(options.prefix)
    print(f"conda: {len(packages)} packages linked into {options.prefix}", flush=True)


if __name__ == "__main__":
    run(main)
