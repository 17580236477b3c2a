"""Install what poetry.lock holds, and conda (where there is one) does not, into the environment: by hash, nothing else.

Poetry declares and locks; uv installs, because it can be told exactly what to touch: each package is named with its
hashes and without its dependencies, and those that conda owns are not named at all.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from couplet import network
from couplet.errors import UserError
from couplet.formats import platforms, poetry_lock, records
from couplet.formats.poetry_lock import Locked
from couplet.formats.records import Distribution
from couplet.formats.versions import same_version
from couplet.install.bytecode import compile_files
from couplet.install.tools import UV

TRIES = 3
SOURCE_TIME = 315532800
"""1980-01-01, where the time of a wheel's files begins, in seconds."""


class Part(NamedTuple):
    """Packages of one index, with uv's options and the variables that reach it."""

    packages: list[Locked]
    options: list[str]
    variables: dict[str, str]


def requirement(package: Locked) -> str:
    """Return the line of a requirements file for one package. Raises UserError for one that no hash can vouch for."""
    kind = package.source.get("type", "")
    if kind in ("git", "directory", "file"):
        where = "a git repository" if kind == "git" else "a path of some machine"
        raise UserError(
            f"poetry.lock: {package.name} comes from {where}, which no hash covers: `make env-update` says what to do instead."
        )
    if not package.hashes:
        raise UserError(f"poetry.lock: {package.name} {package.version} has no hashes. Run `make env-update ALL=1`.")
    exact = f"{package.name} @ {package.source['url']}" if kind == "url" else f"{package.name}=={package.version}"
    return " \\\n    ".join([exact, *(f"--hash={digest}" for digest in package.hashes)])


def by_index(packages: Iterable[Locked], auth: Path | None = None) -> list[Part]:
    """Return the packages of the main index, and of each index that poetry.lock names (Poetry's sources).

    Such a source is asked for its own packages alone: uv takes a version from the first index that has it, and that
    may be another file than the one that is locked. Credentials are Poetry's, from the file `auth` (auth.toml).
    """
    known = tomllib.loads(auth.read_text()).get("http-basic", {}) if auth else {}
    places: dict[tuple[str, str], list[Locked]] = {}
    for package in packages:
        source = package.source if package.source.get("type") == "legacy" else {}
        places.setdefault((source.get("reference", ""), source.get("url", "")), []).append(package)
    parts = []
    for (reference, url), part in sorted(places.items()):
        options, variables = [], {}
        if url:
            name = re.sub("[^A-Za-z0-9]+", "_", reference)
            options = ["--index", f"{name}={url}", "--index-strategy", "unsafe-best-match"]
            for key in ("username", "password"):
                if key in known.get(reference, {}):
                    variables[f"UV_INDEX_{name.upper()}_{key.upper()}"] = known[reference][key]
        parts.append(Part(part, options, variables))
    return parts


def without_condas(packages: Iterable[Locked], conda: dict[str, Distribution]) -> list[Locked]:
    """Return the packages without what conda owns.

    Raises UserError where the two locks name different versions of one package.
    """
    packages = list(packages)
    differing = [
        f"  {package.name}: conda installs {held.version} (package {held.owner}), poetry.lock has {package.version}"
        for package in packages
        if (held := conda.get(package.name)) and not same_version(held.version, package.version)
    ]
    if differing:
        lines = "\n".join(differing)
        raise UserError(f"the two locks disagree, and conda takes precedence:\n{lines}\nRun `make env-update`.")
    return [package for package in packages if package.name not in conda]


def settle(prefix: Path) -> None:
    """Give every file that uv wrote one fixed time and its group's rights, and compile: the same lock makes the same files.

    A .pyc names the time of its source, and uv leaves the time of the installation; a file's mode is that of uv's cache,
    and so of whoever filled it. conda's packages keep their own
    times, and bring or get their .pyc files with conda. The packages' own tests, more than half of the files of some,
    are not compiled: who runs them waits a moment.
    """
    site_packages = records.site_packages(prefix)
    conda = {prefix / file for record in records.conda_records(prefix) for file in record["files"]}
    sources = []
    for record in site_packages.glob("*.dist-info/RECORD"):
        if record not in conda:
            with record.open(newline="") as rows:
                files = [site_packages / row[0] for row in csv.reader(rows)]
            for file in filter(Path.exists, files):
                # what a layer below has is not touched: a touch would put all of it into this one again
                if (status := file.stat()).st_mtime != SOURCE_TIME:
                    file.chmod(status.st_mode | (status.st_mode & 0o700) >> 3)
                    os.utime(file, (SOURCE_TIME, SOURCE_TIME))
                if file.suffix == ".py" and "tests" not in file.relative_to(prefix).parts:
                    sources.append(str(file.relative_to(prefix)))
    # uv's lock on the environment, which it leaves behind, and which anyone may write
    (prefix / ".lock").unlink(missing_ok=True)
    compile_files(prefix, sources)


def no_luck(said: str) -> bool:
    """Return whether uv's failure would be the same another time: another hash, or a build that fails."""
    return "ash mismatch" in said or "build backend" in said


def failure(said: str, conda: bool) -> str:
    """Return what to tell somebody of uv's failure, from what it said on stderr."""
    if "ash mismatch" in said:
        return (
            "a downloaded file has another hash than poetry.lock says (see above): the download or the lock was tampered with; "
            "`make env-update ALL=1` makes the lock anew."
        )
    built = re.search(r"Failed to (?:download and )?build `([\w.-]+)(?:==([^`]+))?", said)
    if built and no_luck(said):
        name, version = built[1], f" {built[2]}" if built[2] else ""
        other = ", or take it from conda: name it in environment.yml and run `make env-update`" if conda else ""
        return (
            f"{name}{version} has no wheel for this Python and platform, and building it from source failed (see above).\n"
            f"Raise its lower bound in pyproject.toml and run `make env-update PKG={name}`{other}."
        )
    return (
        "uv could not install what poetry.lock names (see above).\n"
        "A package that cannot be fetched: is the index, or your mirror in pip.conf, reachable?\n"
        "One that timed out: `timeout = 300` under [global] in pip.conf waits longer."
    )


def install_part(part: Part, prefix: Path | None, uv: Path = UV) -> None:
    """Have uv install packages, with some tries: into an environment, or where the part's options say. Raises UserError.

    uv asks again by itself for what does not come, but not for a file that comes cut short. Another hash and a failing
    compiler are no matter of luck.
    """
    variables = {"UV_LINK_MODE": "copy", "PYTHONDONTWRITEBYTECODE": "1", "UV_PYTHON_DOWNLOADS": "never"}
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"{requirement(package)}\n" for package in part.packages)
        file.flush()
        command = [str(uv), "pip", "install", "--quiet", "--require-hashes", "--no-deps"]
        command += ["--python", f"{prefix}/bin/python" if prefix else sys.executable, "--requirements", file.name, *part.options]
        said = ""
        for attempt in range(TRIES):
            time.sleep(attempt)
            environment = {**os.environ, **part.variables, **variables}
            done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
            said = done.stderr
            print(said, end="", file=sys.stderr, flush=True)
            if not done.returncode:
                return
            if no_luck(said):
                break
    raise UserError(failure(said, bool(prefix and (prefix / "conda-meta").is_dir())))


def install(lock: Path, groups: list[str], prefix: Path, uv: Path = UV, auth: Path | None = None) -> None:
    """Install what the groups of a poetry.lock want here, and conda does not hold, into the environment `prefix`."""
    environment = platforms.environment(platforms.this_machine(), records.python_version(prefix))
    packages = poetry_lock.wanted(poetry_lock.read(lock), groups, environment)
    packages = without_condas(packages, records.conda_distributions(prefix))
    print(f"Poetry: {len(packages)} packages for {', '.join(groups)}", flush=True)
    for part in by_index(packages, auth):
        install_part(part, prefix, uv)
    if packages:
        settle(prefix)


def create(prefix: Path, prompt: str) -> None:
    """Make the virtual environment `prefix` of this process' Python, without pip."""
    python = str(Path(sys.executable).resolve())
    command = [python, "-I", "-B", "-m", "venv", "--without-pip", "--prompt", prompt, str(prefix)]
    subprocess.run(command, check=True)


def main(arguments: list[str]) -> None:
    """The verb `install-pypi`."""
    parser = argparse.ArgumentParser(prog="couplet install-pypi", description=__doc__)
    parser.add_argument("--lock", type=Path, required=True, help="poetry.lock")
    parser.add_argument("--groups", nargs="+", required=True)
    parser.add_argument("--prefix", type=Path, required=True, help="the environment")
    parser.add_argument("--create", action="store_true", help="make it first, of the base image's Python")
    parser.add_argument("--prompt", default="", help="with --create: what the prompt shows")
    parser.add_argument("--uv", type=Path, default=UV)
    options = parser.parse_args(arguments)

    network.apply()
    os.umask(0o002)
    if options.create:
        create(options.prefix, options.prompt or options.prefix.name)
    groups = poetry_lock.with_groups(options.lock, options.groups)
    install(options.lock, groups, options.prefix, options.uv, network.secret("poetry_auth"))
