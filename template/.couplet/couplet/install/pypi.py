"""Install what poetry.lock holds, and conda (where there is one) does not, into the environment: by hash, nothing else.

Poetry declares and locks; uv installs, because it can be told exactly what to touch: each package is
named with its hashes and without its dependencies, and those that conda owns are not named at all.
"""

import argparse
import csv
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import poetry_lock
import references
from bytecode import compile_files
from distributions import conda_distributions, conda_records, same_version
from errors import BuildError, run

AUTH = Path("/run/secrets/poetry_auth")
TRIES = 3
SOURCE_TIME = 315532800  # 1980-01-01, where the time of a wheel's files begins


def requirement(package):
    """Return the line of a requirements file for one Locked package."""
    if package.source.get("type") in ("git", "directory", "file"):
        kind = "git" if package.source["type"] == "git" else "path"
        raise references.refuse("poetry.lock", package.name, kind)
    exact = (
        f"{package.name} @ {package.source['url']}"
        if package.source.get("type") == "url"
        else f"{package.name}=={package.version}"
    )
    if not package.hashes:
        raise BuildError(
            f"poetry.lock: {package.name} {package.version} has no hashes. Run `make env-update ALL=1`."
        )
    return " \\\n    ".join([exact, *(f"--hash={digest}" for digest in package.hashes)])


def by_index(packages, auth=AUTH):
    """Return [(packages, uv's options, variables)]: those of the main index, and of each that poetry.lock names (Poetry's sources).

    Such a source is asked for its own packages alone: uv takes a version from the first index that has it, and that
    may be another file than the one that is locked. Credentials are Poetry's, from auth.toml.
    """
    known = tomllib.loads(auth.read_text()).get("http-basic", {}) if auth.is_file() else {}
    places, parts = {}, []
    for package in packages:
        source = package.source if package.source.get("type") == "legacy" else {}
        places.setdefault((source.get("reference", ""), source.get("url", "")), []).append(package)
    for (reference, url), part in sorted(places.items()):
        options, variables = [], {}
        if url:
            name = re.sub("[^A-Za-z0-9]+", "_", reference)
            options = ["--index", f"{name}={url}", "--index-strategy", "unsafe-best-match"]
            for key in ("username", "password"):
                if key in known.get(reference, {}):
                    variables[f"UV_INDEX_{name.upper()}_{key.upper()}"] = known[reference][key]
        parts.append((part, options, variables))
    return parts


def without_condas(packages, conda):
    """Return the Locked `packages` without what conda owns.

    Raises BuildError where the two locks name different versions of one package.
    """
    differing = [
        f"  {package.name}: conda holds {conda[package.name].version} (package {conda[package.name].owner}), "
        f"poetry.lock {package.version}"
        for package in packages
        if package.name in conda and not same_version(conda[package.name].version, package.version)
    ]
    if differing:
        raise BuildError(
            "the two locks disagree, and conda has the last word:\n"
            + "\n".join(differing)
            + "\nRun `make env-update`."
        )
    return [package for package in packages if package.name not in conda]


def settle(prefix):
    """Give every file that uv wrote one fixed time, and compile: the same lock then makes the same .pyc files.

    A .pyc names the time of its source, and uv leaves the time of the installation. conda's packages
    keep their own times, and bring or get their .pyc files with conda. The packages' own tests, more than
    half of the files of some, are not compiled: who runs them waits a moment.
    """
    site_packages = next(Path(prefix).glob("lib/python3.*/site-packages"))
    conda = {Path(prefix, file) for record in conda_records(prefix) for file in record["files"]}
    sources = []
    for record in site_packages.glob("*.dist-info/RECORD"):
        if record not in conda:
            with record.open(newline="") as rows:
                files = [site_packages / row[0] for row in csv.reader(rows)]
            for file in filter(Path.exists, files):
                # what a layer below has is not touched: a touch would put all of it into this one again
                if file.stat().st_mtime != SOURCE_TIME:
                    os.utime(file, (SOURCE_TIME, SOURCE_TIME))
                if file.suffix == ".py" and "tests" not in file.relative_to(prefix).parts:
                    sources.append(str(file.relative_to(prefix)))
    # uv's lock on the environment, which it leaves behind, and which anyone may write
    Path(prefix, ".lock").unlink(missing_ok=True)
    compile_files(prefix, sources)


def install(lines, options, indexes, credentials):
    """Have uv install the lines of a requirements file, with some tries; return its exit code.

    uv asks again by itself for what does not come, but not for a file that comes cut short. Another hash is no matter of luck.
    """
    variables = {"UV_LINK_MODE": "copy", "PYTHONDONTWRITEBYTECODE": "1", "UV_PYTHON_DOWNLOADS": "never"}
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        command = [options.uv, "pip", "install", "--quiet", "--require-hashes", "--no-deps"]
        command += ["--python", f"{options.prefix}/bin/python", "--requirements", file.name, *indexes]
        for attempt in range(TRIES):
            time.sleep(attempt)
            done = subprocess.run(
                command, env={**os.environ, **credentials, **variables}, stderr=subprocess.PIPE, text=True
            )
            print(done.stderr, end="", file=sys.stderr, flush=True)
            if not done.returncode or "ash mismatch" in done.stderr:
                break
    return done.returncode


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lock", required=True)
    parser.add_argument("--groups", nargs="+", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--uv", required=True)
    options = parser.parse_args()

    environment = poetry_lock.environment_of(options.prefix)
    packages = poetry_lock.wanted(poetry_lock.read(options.lock), options.groups, environment)
    packages = without_condas(packages, conda_distributions(options.prefix))
    print(f"Poetry: {len(packages)} packages for {', '.join(options.groups)}", flush=True)
    if not packages:
        return
    parts = [([requirement(package) for package in part], *index) for part, *index in by_index(packages)]
    for lines, indexes, credentials in parts:
        code = install(lines, options, indexes, credentials)
        if code:
            raise BuildError(
                f"uv could not install what poetry.lock names (exit code {code}; see above).\n"
                "A package that cannot be fetched: is the index, or your mirror in pip.conf, in reach?\n"
                "One that timed out: `timeout = 300` under [global] in pip.conf waits longer.\n"
                "A hash that differs: the download or the lock was tampered with; `make env-update ALL=1` makes the lock anew."
            )
    settle(options.prefix)


if __name__ == "__main__":
    run(main)
