"""Install what poetry.lock holds, and conda does not, into conda's environment: by hash, nothing else.

Poetry declares and locks; uv installs, because it can be told exactly what to touch: each package is
named with its hashes and without its dependencies, and those that conda owns are not named at all.
"""

import argparse
import csv
import os
import subprocess
import tempfile
from pathlib import Path

import poetry_lock
from distributions import conda_distributions, conda_records, same_version
from errors import BuildError, run

SOURCE_TIME = 315532800  # 1980-01-01, where the time of a wheel's files begins


def requirement(package):
    """Return the line of a requirements file for one Locked package."""
    if package.source.get("type") == "git":
        raise BuildError(
            f"poetry.lock: {package.name} comes from a git repository, which no hash can vouch for.\n"
            "Build a wheel of it and name its address in pyproject.toml, or publish it to an index."
        )
    if package.source.get("type") in ("directory", "file"):
        raise BuildError(
            f"poetry.lock: {package.name} comes from a path of your machine, which the image does not have."
        )
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


def requirements(packages, conda):
    """Return the requirements for the Locked `packages`, without what conda owns.

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
    return [requirement(package) for package in packages if package.name not in conda]


def settle(prefix):
    """Give every file that uv wrote one fixed time, and compile: the same lock then makes the same .pyc files.

    A .pyc names the time of its source, and uv leaves the time of the installation. conda's packages
    keep their own times, and bring or get their .pyc files with conda.
    """
    site_packages = next(Path(prefix).glob("lib/python3.*/site-packages"))
    conda = {Path(prefix, file) for record in conda_records(prefix) for file in record["files"]}
    sources = []
    for record in site_packages.glob("*.dist-info/RECORD"):
        if record not in conda:
            with record.open(newline="") as rows:
                files = [site_packages / row[0] for row in csv.reader(rows)]
            for file in filter(Path.exists, files):
                os.utime(file, (SOURCE_TIME, SOURCE_TIME))
                if file.suffix == ".py":
                    sources.append(f"{file}\n")
    # uv's lock on the environment, which it leaves behind, and which anyone may write
    Path(prefix, ".lock").unlink(missing_ok=True)
    # Some packages carry files that no Python can compile (templates, tests): pip says nothing either.
    subprocess.run(
        [f"{prefix}/bin/python", "-m", "compileall", "-q", "-q", "-j", "0", "-i", "-"],
        input="".join(sources),
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lock", required=True)
    parser.add_argument("--groups", nargs="+", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--uv", required=True)
    options = parser.parse_args()

    environment = poetry_lock.environment_of(options.prefix)
    packages = poetry_lock.wanted(poetry_lock.read(options.lock), options.groups, environment)
    lines = requirements(packages, conda_distributions(options.prefix))
    print(f"Poetry: {len(lines)} packages for {', '.join(options.groups)}", flush=True)
    if not lines:
        return
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        done = subprocess.run(
            [
                options.uv,
                "pip",
                "install",
                "--quiet",
                "--require-hashes",
                "--no-deps",
                "--python",
                f"{options.prefix}/bin/python",
                "--requirements",
                file.name,
            ],
            env={
                **os.environ,
                "UV_LINK_MODE": "copy",
                "PYTHONDONTWRITEBYTECODE": "1",
                "UV_PYTHON_DOWNLOADS": "never",
            },
        )
    if done.returncode:
        raise BuildError(
            f"uv could not install what poetry.lock names (exit code {done.returncode}; see above).\n"
            "A package that cannot be fetched: is the index, or your mirror in pip.conf, in reach?\n"
            "A hash that differs: the download or the lock was tampered with; `make env-update ALL=1` makes the lock anew."
        )
    settle(options.prefix)


if __name__ == "__main__":
    run(main)
