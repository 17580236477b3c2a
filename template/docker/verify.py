"""Prove that the environment is what the two locks say, and that conda's files are as conda left them.

Fails with the list of offenders. Reads every file that conda owns once and compares its SHA-256
with conda's record of the installation.
"""

import argparse
import hashlib
import platform
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import poetry_lock
from distributions import conda_records, installed_distributions, same_version
from errors import BuildError, run
from install_conda import SUBDIRS, read_lock


def ours(path):
    """Return whether the build itself deletes `path` (see install_conda.forget_sources)."""
    return path.endswith(".dist-info/direct_url.json")


def place(path, site_packages):
    """Return where a file lies that a record names as it stood in the package: noarch ones move when installed."""
    folder, _, rest = path.partition("/")
    return {"site-packages": f"{site_packages}/{rest}", "python-scripts": f"bin/{rest}"}.get(folder, path)


def check_file(path, entry):
    """Return what is wrong with one file of conda's record, or None."""
    expected = entry.get("sha256_in_prefix") or entry.get("sha256")
    if entry.get("path_type") == "softlink":
        return None if path.is_symlink() else "is no link any more"
    if path.is_symlink():
        return "is a link now"
    if not path.exists():
        return None if ours(entry["_path"]) or entry.get("path_type") == "pyc_file" else "is gone"
    if expected and hashlib.sha256(path.read_bytes()).hexdigest() != expected:
        return "was changed"
    return None


def changed_files(prefix):
    """Return (a line for every file of conda's that is not as conda left it, number of files looked at)."""
    root = Path(prefix)
    site_packages = next(root.glob("lib/python3.*/site-packages")).relative_to(root)
    entries = [
        (record["name"], root / place(entry["_path"], site_packages), entry)
        for record in conda_records(prefix)
        for entry in record.get("paths_data", {}).get("paths", ())
    ]
    if not entries:
        raise BuildError(f"{prefix}/conda-meta records no files: this is no environment that conda made.")
    with ThreadPoolExecutor() as pool:
        verdicts = pool.map(lambda item: check_file(*item[1:]), entries)
    found = [
        f"{name}: {path.relative_to(root)} {verdict}"
        for (name, path, _), verdict in zip(entries, verdicts, strict=True)
        if verdict
    ]
    return found, len(entries)


def conda_differences(prefix, locks):
    """Return what conda recorded otherwise than its lock says, a line each."""
    locked = {}
    for url, *_ in read_lock(Path(locks, f"conda-{SUBDIRS[platform.machine()]}.lock")):
        name, version, build = re.sub(r"(\.conda|\.tar\.bz2)$", "", url.rsplit("/", 1)[-1]).rsplit("-", 2)
        locked[name] = f"{version} {build}"
    recorded = {record["name"]: f"{record['version']} {record['build']}" for record in conda_records(prefix)}
    return [
        f"{name}: conda's lock says {locked.get(name, 'nothing')}, installed is {recorded.get(name, 'nothing')}"
        for name in sorted(locked.keys() | recorded.keys())
        if locked.get(name) != recorded.get(name)
    ]


def poetry_differences(prefix, locks, groups):
    """Return which distributions are installed otherwise than poetry.lock says, or stand in no lock, a line each."""
    installed = installed_distributions(prefix)
    packages = poetry_lock.read(Path(locks, "poetry.lock"))
    locked = {p.name: p for p in poetry_lock.wanted(packages, groups, poetry_lock.environment_of(prefix))}
    found = [
        f"{name}: poetry.lock says {locked[name].version}, nothing is installed"
        for name in locked.keys() - installed.keys()
    ]
    for name, distribution in installed.items():
        if name in locked and not same_version(locked[name].version, distribution.version):
            found.append(
                f"{name}: poetry.lock says {locked[name].version}, installed is {distribution.version}"
            )
        elif name not in locked and distribution.owner is None:
            found.append(f"{name}: {distribution.version} is installed and stands in neither lock")
    return sorted(found)


def unmet_dependencies(prefix, uv):
    """Return the dependency problems over all distributions, conda's and Poetry's, as uv reports them."""
    command = [uv, "pip", "check", "--no-cache", "--quiet", "--python", f"{prefix}/bin/python"]
    done = subprocess.run(command, capture_output=True, text=True)
    # uv's lock on the environment, which it leaves behind, and which anyone may write
    Path(prefix, ".lock").unlink(missing_ok=True)
    if done.returncode == 0:
        return []
    loud = subprocess.run([part for part in command if part != "--quiet"], capture_output=True, text=True)
    return [line for line in loud.stderr.splitlines() if line.startswith("The package")] or [
        loud.stderr.strip()
    ]


def first(lines, most=40):
    """Return the first lines, indented, and how many more there are: a list of ten thousand helps nobody."""
    more = [f"  and {len(lines) - most} more"] if len(lines) > most else []
    return "\n".join([*(f"  {line}" for line in lines[:most]), *more])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--locks", required=True)
    parser.add_argument("--groups", nargs="+", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--uv", required=True)
    options = parser.parse_args()

    changed, count = changed_files(options.prefix)
    problems = {
        "files of conda's that something changed": changed,
        "differences between the locks and what is installed": [
            *conda_differences(options.prefix, options.locks),
            *poetry_differences(options.prefix, options.locks, options.groups),
        ],
        "dependencies that are not met": unmet_dependencies(options.prefix, options.uv),
    }
    if any(problems.values()):
        shown = "\n".join(f"{title}:\n{first(lines)}" for title, lines in problems.items() if lines)
        raise BuildError(
            f"the environment is not what the locks say.\n{shown}\nRun `make env-update`, then build again."
        )
    print(
        f"verified: {count} files of conda's as conda left them, both locks as installed, all dependencies met",
        flush=True,
    )


if __name__ == "__main__":
    run(main)
