"""Refuse a lock that holds a CPU build where environment.yml asks for a CUDA one.

Looked at are the packages that environment.yml names. One that asks for a build with `cuda` in it (`pytorch=*=cuda*`)
has to be locked so; one that asks for no build must not be locked in a build that calls itself a CPU one. And something
has to use CUDA: conda-forge's CUDA packages all depend on `cuda-version`.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable
from pathlib import Path

from rattler import BuildString, MatchSpec, PackageRecord

from couplet.errors import UserError
from couplet.formats import conda_lock


def asked(path: Path) -> list[str]:
    """Return the conda specs of an environment.yml, as they stand there."""
    from ruamel.yaml import YAML

    return [entry for entry in YAML(typ="safe").load(path.read_text())["dependencies"] if isinstance(entry, str)]


def problems(specs: Iterable[str], locked: Iterable[conda_lock.Package]) -> tuple[list[str], list[str]]:
    """Return (what is wrong, a line each; the CUDA builds that are locked: name, version and build)."""
    packages = {name: (version, build) for name, version, build in (package.identity for package in locked)}
    wrong, right = [], []
    for text in specs:
        spec = MatchSpec(text)
        name = spec.name.normalized if spec.name else ""
        if name not in packages:
            continue
        version, build = packages[name]
        wanted = spec.build or ""
        if "cuda" in wanted:
            record = PackageRecord(name, version, BuildString(build), 0, "linux-64", None, None)
            if MatchSpec(f"{name} * {wanted}").matches(record):
                right.append(f"{name} {version} {build}")
            else:
                wrong.append(f"{name} {version} is locked in the build {build}; environment.yml: {text}")
        elif not wanted and re.search(r"(^|_)cpu(_|$)", build):
            wrong.append(
                f"{name} {version} is locked in the build {build}; environment.yml ({text}) names no build: "
                f"write {name}=*=cuda* for CUDA, or {name}=*=*cpu* if the CPU build is meant"
            )
    if "cuda-version" not in packages:
        wrong.append("no package uses CUDA (cuda-version is not locked); environment.yml: name one, such as pytorch=*=cuda*")
    return wrong, right


def main(arguments: list[str]) -> None:
    """The verb `cuda`."""
    parser = argparse.ArgumentParser(prog="couplet cuda", description=__doc__)
    parser.add_argument("--locks", type=Path, required=True, help="folder of environment.yml and the locks")
    parser.add_argument("--out", type=Path, required=True, help="file for the list of CUDA builds")
    options = parser.parse_args(arguments)

    specs, found = asked(options.locks / "environment.yml"), {}
    for lock in sorted(options.locks.glob("conda-linux-*.lock")):
        wrong, found[lock.name] = problems(specs, conda_lock.read(lock))
        if wrong:
            raise UserError(
                f"{lock.name} is not a lock for CUDA (the answer to accelerator is cuda):\n"
                + "".join(f"  {line}\n" for line in wrong)
                + "Run `make env-update ALL=1`, and build again."
            )
    options.out.write_text(json.dumps(found, indent=2) + "\n")
