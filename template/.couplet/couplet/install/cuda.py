"""Refuse a lock that holds a CPU build where environment.yml asks for a CUDA one.

Looked at are the packages that environment.yml names. One that asks for a build with `cuda` in it
(`pytorch=*=cuda*`) has to be locked so; one that asks for no build must not be locked in a build
that calls itself a CPU one. And something has to use CUDA: conda-forge's CUDA packages all depend on
`cuda-version`. Run by conda's own Python: conda reads the specs.
"""

import argparse
import json
import re
from pathlib import Path

from conda.models.match_spec import MatchSpec
from ruamel.yaml import YAML

from errors import BuildError, run
from install_conda import read_lock


def specs(path):
    """Return the conda specs of an environment.yml, as (text, MatchSpec)."""
    asked = YAML(typ="safe").load(path.read_text())["dependencies"]
    texts = [text.split(" #")[0].strip() for text in asked if isinstance(text, str)]
    return [(text, MatchSpec(text)) for text in texts]


def locked(path):
    """Return {name: (version, build)} of an explicit lock."""
    names = [re.sub(r"(\.conda|\.tar\.bz2)$", "", url.rsplit("/", 1)[-1]) for url, _, _ in read_lock(path)]
    return {name: (version, build) for name, version, build in (stem.rsplit("-", 2) for stem in names)}


def problems(asked, packages):
    """Return (what is wrong, a line each; the CUDA builds that are locked: name, version and build)."""
    wrong, right = [], []
    for text, spec in asked:
        if spec.name not in packages:
            continue
        version, build = packages[spec.name]
        record = {"name": spec.name, "version": version, "build": build, "build_number": 0}
        wanted = str(spec.get_raw_value("build") or "")
        if "cuda" in wanted:
            if MatchSpec(name=spec.name, build=wanted).match(record):
                right.append(f"{spec.name} {version} {build}")
            else:
                wrong.append(f"{spec.name} {version} is locked in the build {build}; environment.yml: {text}")
        elif not wanted and re.search(r"(^|_)cpu(_|$)", build):
            wrong.append(
                f"{spec.name} {version} is locked in the build {build}; environment.yml ({text}) does not say which: "
                f"write {spec.name}=*=cuda*, or {spec.name}=*=*cpu* where that is meant"
            )
    if "cuda-version" not in packages:
        wrong.append(
            "no package uses CUDA (cuda-version is not locked); environment.yml: name one, such as pytorch=*=cuda*"
        )
    return wrong, right


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--locks", type=Path, required=True, help="folder of environment.yml and the locks")
    parser.add_argument("--out", type=Path, required=True, help="file for the list of CUDA builds")
    options = parser.parse_args()

    asked = specs(options.locks / "environment.yml")
    found = {}
    for lock in sorted(options.locks.glob("conda-linux-*.lock")):
        wrong, found[lock.name] = problems(asked, locked(lock))
        if wrong:
            raise BuildError(
                f"{lock.name} is no lock for CUDA (the answer to accelerator is cuda):\n"
                + "".join(f"  {line}\n" for line in wrong)
                + "docker/virtual-packages.yml has to name __cuda. Then run `make env-update ALL=1`, and build again."
            )
    options.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
