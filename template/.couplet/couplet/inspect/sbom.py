"""Write a bill of materials (CycloneDX 1.6, JSON) of what the locks hold: conda's packages and Poetry's.

The same locks make the same bill, byte for byte: it has no date, and its number is made of its content.
What the base image brings is one component, by its name; its own packages are its maker's to list.
"""

import argparse
import json
import platform
import re
import tomllib
import uuid
from pathlib import Path
from urllib.parse import quote

from packaging.markers import default_environment
from packaging.requirements import Requirement

import poetry_lock
from distributions import normalise
from errors import BuildError, run

SUBDIRS = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}


def conda_entries(path, subdir):
    """Return the entries of conda-lock.yml for one platform, [] where conda has no part."""
    if not path.is_file():
        return []
    from ruamel.yaml import YAML

    document = YAML(typ="safe").load(path.read_text())
    entries = [entry for entry in document["package"] if entry["platform"] == subdir]
    if not entries:
        raise BuildError(f"conda-lock.yml holds nothing for {subdir}, which this machine is.")
    return entries


def conda_component(entry):
    """Return the component of one of conda's packages."""
    channel, subdir, archive = entry["url"].rsplit("/", 2)
    stem, kind = re.fullmatch(r"(.*)\.(conda|tar\.bz2)", archive).groups()
    name, version, build = stem.rsplit("-", 2)
    about = f"build={quote(build)}&channel={quote(channel.rsplit('/', 1)[-1])}&subdir={subdir}&type={kind}"
    purl = f"pkg:conda/{quote(name)}@{quote(version)}?{about}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "hashes": [
            {"alg": "MD5", "content": entry["hash"]["md5"]},
            {"alg": "SHA-256", "content": entry["hash"]["sha256"]},
        ],
        "externalReferences": [{"type": "distribution", "url": entry["url"]}],
    }


def python_component(package):
    """Return the component of one of Poetry's packages (poetry_lock.Locked), with the hash of each of its files."""
    purl = f"pkg:pypi/{package.name}@{quote(package.version)}"
    component = {
        "type": "library",
        "bom-ref": purl,
        "name": package.name,
        "version": package.version,
        "purl": purl,
    }
    component["properties"] = [
        {"name": "couplet:poetry.lock:hash", "value": digest} for digest in sorted(package.hashes)
    ]
    if package.source.get("url"):
        component["externalReferences"] = [{"type": "distribution", "url": package.source["url"]}]
    return component


def condas(document, environment):
    """Return the names that conda holds in `environment`: what `make env-update` has pinned in pyproject.toml."""
    pins = map(Requirement, document.get("dependency-groups", {}).get("conda", ()))
    return {normalise(pin.name) for pin in pins if not pin.marker or pin.marker.evaluate(environment)}


def base_component(image, pinned):
    """Return the component of the image that everything lies on, such as debian:bookworm-slim.

    `pinned` is the text of base-images.lock, which may hold its digest.
    """
    name, _, tag = image.rpartition(":")
    purl = f"pkg:docker/{quote(name, safe='/')}@{quote(tag)}"
    component = {"type": "container", "bom-ref": purl, "name": name, "version": tag, "purl": purl}
    if digest := re.search(rf"^\w+={re.escape(image)}@sha256:([0-9a-f]+)\s*$", pinned, re.M):
        component["purl"] = f"pkg:docker/{quote(name, safe='/')}@sha256%3A{digest[1]}?tag={quote(tag)}"
        component["hashes"] = [{"alg": "SHA-256", "content": digest[1]}]
    return component


def bill(project, base, subdir):
    """Return the bill of materials of the project in a folder, as plain data."""
    document = tomllib.loads((project / "pyproject.toml").read_text())
    about = document["project"]
    entries = conda_entries(project / "conda-lock.yml", subdir)
    python = next(
        (entry["version"] for entry in entries if entry["name"] == "python"), platform.python_version()
    )
    environment = {
        **default_environment(),
        "python_version": ".".join(python.split(".")[:2]),
        "python_full_version": python,
        "extra": "",
    }
    packages = poetry_lock.wanted(poetry_lock.read(project / "poetry.lock"), ["main"], environment)
    # what conda holds, Poetry's lock names too, and does not install; what the pins need beyond that, it does
    held = condas(document, environment)
    packages = [package for package in packages if package.name not in held]

    conda = {entry["name"]: conda_component(entry) for entry in entries}
    poetry = {package.name: python_component(package) for package in packages}
    refs = {normalise(name): component["bom-ref"] for name, component in [*conda.items(), *poetry.items()]}
    needs = {conda[entry["name"]]["bom-ref"]: entry["dependencies"] for entry in entries}
    for package in tomllib.loads((project / "poetry.lock").read_text()).get("package", ()):
        name = normalise(package["name"])
        if name in poetry:
            needs[poetry[name]["bom-ref"]] = package.get("dependencies", {})
    graph = {
        ref: sorted({refs[normalise(name)] for name in names if normalise(name) in refs} - {ref})
        for ref, names in needs.items()
    }
    pinned = project / "base-images.lock"
    on = base_component(base, pinned.read_text() if pinned.is_file() else "")
    components = [*conda.values(), *poetry.values(), on]
    own = {
        "type": "application",
        "bom-ref": about["name"],
        "name": about["name"],
        "version": about["version"],
    }
    needed = {ref for refs_of_one in graph.values() for ref in refs_of_one}
    graph[about["name"]] = [c["bom-ref"] for c in components if c["bom-ref"] not in needed]
    content = {
        "metadata": {"component": own},
        "components": sorted(components, key=lambda component: component["bom-ref"]),
        "dependencies": [{"ref": ref, "dependsOn": sorted(graph[ref])} for ref in sorted(graph)],
    }
    number = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(content, sort_keys=True))
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{number}",
        "version": 1,
        **content,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", type=Path, required=True)
    parser.add_argument("--base", required=True, help="the base image, such as debian:bookworm-slim")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    found = bill(options.project, options.base, SUBDIRS[platform.machine()])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    kinds = [component["purl"].split("/")[0] for component in found["components"]]
    print(
        f"{kinds.count('pkg:conda')} packages of conda's, {kinds.count('pkg:pypi')} of Poetry's", flush=True
    )


if __name__ == "__main__":
    run(main)
