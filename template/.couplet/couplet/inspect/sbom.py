"""The SBOM (CycloneDX 1.6, JSON) of what the locks hold: conda's packages and Poetry's.

The same locks make the same SBOM, byte for byte: it has no date, and its serial number is made of its content.
BuildKit attaches one to an image in another form, SPDX, which is made of it.
What the base image brings is one component, by its name; its own packages are its maker's to list.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from couplet import network, settings
from couplet.formats import conda_lock, platforms, poetry_lock
from couplet.formats.files import write_whole
from couplet.formats.names import normalise
from couplet.inspect import licences, locked

Component = dict[str, Any]
"""A component in CycloneDX's own form."""


def component(purl: str, name: str, version: str, kind: str = "library", **more: object) -> Component:
    """Return a component, with those of `more` that are not empty."""
    about = {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl}
    return about | {key: value for key, value in more.items() if value}


def in_cyclonedx(text: str) -> list[dict[str, Any]]:
    """Return a licence in CycloneDX's form: as an SPDX expression where it is one, else by its name; [] for ''."""
    if found := licences.spdx(text):
        return [{"expression": found}]
    return [{"license": {"name": text}}] if text else []


def conda_component(record: conda_lock.Record, scripted: Collection[str]) -> Component:
    """Return the component of one of conda's packages; that it runs a script when it is installed is a property."""
    script = {"name": "couplet:link-script", "value": f"bin/.{record.name}-post-link.sh"}
    channel, subdir, archive = record.url.rsplit("/", 3)[1:]
    kind = "conda" if archive.endswith(".conda") else "tar.bz2"
    about = f"build={quote(record.build)}&channel={quote(channel)}&subdir={subdir}&type={kind}"
    return component(
        f"pkg:conda/{quote(record.name)}@{quote(record.version)}?{about}",
        record.name,
        record.version,
        licenses=in_cyclonedx(record.license),
        hashes=[{"alg": "MD5", "content": record.md5}, {"alg": "SHA-256", "content": record.sha256}],
        properties=[script] * (record.name in scripted),
        externalReferences=[{"type": "distribution", "url": record.url}],
    )


def link_scripts(folder: Path, subdir: str) -> list[str]:
    """Return the names of conda's packages that run a script when they are installed. Fetches what the cache has not."""
    records = locked.conda(folder).get(subdir, {}).values()
    if not records:
        return []
    from couplet.install import conda  # which a project without conda does not have

    locked.ask_conda("fetch", records, subdir)
    return conda.with_scripts(asyncio.run(conda.contents([record.package for record in records])))


def python_component(package: poetry_lock.Locked, licence: str) -> Component:
    """Return the component of one of Poetry's packages, with the hash of each of its files."""
    url = package.source.get("url")
    return component(
        f"pkg:pypi/{package.name}@{quote(package.version)}",
        package.name,
        package.version,
        licenses=in_cyclonedx(licence),
        properties=[{"name": "couplet:poetry.lock:hash", "value": digest} for digest in sorted(package.hashes)],
        externalReferences=[{"type": "distribution", "url": url}] if url else [],
    )


def base_component(image: str, pinned: str) -> Component:
    """Return the component of the image that everything lies on, such as debian:bookworm-slim.

    `pinned` is the text of base-images.lock, which may hold its digest.
    """
    name, _, tag = image.rpartition(":")
    purl = f"pkg:docker/{quote(name, safe='/')}@{quote(tag)}"
    found = component(purl, name, tag, "container")
    if digest := re.search(rf"^\w+={re.escape(image)}@sha256:([0-9a-f]+)\s*$", pinned, re.M):
        found["purl"] = f"pkg:docker/{quote(name, safe='/')}@sha256%3A{digest[1]}?tag={quote(tag)}"
        found["hashes"] = [{"alg": "SHA-256", "content": digest[1]}]
    return found


def sbom(folder: Path, subdir: str, scripted: Collection[str] = (), named: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the SBOM of the project in a folder, for one platform, as plain data; `scripted` are link_scripts().

    `named` are the licences of Poetry's packages, for who needs none: they are not looked up then.
    """
    project, document = settings.project(folder), settings.pyproject(folder)
    of_conda = locked.conda(folder) or {subdir: {}}
    if subdir not in of_conda:
        raise conda_lock.not_locked_error(subdir, sorted(of_conda))
    records = of_conda[subdir]
    python = locked.python(records)
    packages = locked.poetry(folder, subdir, python, settings.groups(document)["main"])
    named = licences.of_poetry(packages, python) if named is None else named
    conda = {name: conda_component(record, scripted) for name, record in records.items()}
    poetry = {package.name: python_component(package, named.get(package.name, "")) for package in packages}
    lock = folder / "base-images.lock"
    base = base_component(project.base_image, lock.read_text() if lock.is_file() else "")
    components = [*conda.values(), *poetry.values(), base]

    refs = {normalise(name): found["bom-ref"] for name, found in [*conda.items(), *poetry.items()]}
    needs = {conda[name]["bom-ref"]: record.depends for name, record in records.items()}
    needs |= {poetry[package.name]["bom-ref"]: package.dependencies for package in packages}
    graph = {ref: {refs[name] for name in map(normalise, names) if name in refs} - {ref} for ref, names in needs.items()}
    own = settings.name(document) or project.distribution
    # nobody says what the project needs of conda: what nothing else needs
    graph[own] = {found["bom-ref"] for found in components} - set().union(*graph.values())
    about = {"type": "application", "bom-ref": own, "name": own, "version": settings.version(document)}
    content = {
        "metadata": {"component": about},
        "components": sorted(components, key=lambda found: str(found["bom-ref"])),
        "dependencies": [{"ref": ref, "dependsOn": sorted(graph[ref])} for ref in sorted(graph)],
    }
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(content, sort_keys=True))}",
        "version": 1,
        **content,
    }


def spdx(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return an SBOM in SPDX's form (2.3): its packages with their hashes and licences, and who needs whom."""
    about, unknown = found["metadata"]["component"], "NOASSERTION"
    components = [about, *found["components"]]
    ids = {component["bom-ref"]: f"SPDXRef-{number}" for number, component in enumerate(components)}
    packages = [
        {
            "SPDXID": ids[component["bom-ref"]],
            "name": component["name"],
            "versionInfo": component["version"],
            "downloadLocation": next((one["url"] for one in component.get("externalReferences", ())), unknown),
            "filesAnalyzed": False,
            "licenseConcluded": unknown,
            "licenseDeclared": next((one.get("expression", unknown) for one in component.get("licenses", ())), unknown),
            "copyrightText": unknown,
            "checksums": [
                {"algorithm": one["alg"].replace("-", ""), "checksumValue": one["content"]} for one in component.get("hashes", ())
            ],
            "externalRefs": [
                {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": component[key]}
                for key in component.keys() & {"purl"}
            ],
        }
        for component in components
    ]
    needs = [(ids[entry["ref"]], "DEPENDS_ON", ids[ref]) for entry in found["dependencies"] for ref in entry["dependsOn"]]
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": about["name"],
        "documentNamespace": found["serialNumber"],
        # a date has to be there
        "creationInfo": {"created": "1970-01-01T00:00:00Z", "creators": ["Tool: couplet"]},
        "packages": packages,
        "relationships": [
            {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}
            for one, kind, other in [("SPDXRef-DOCUMENT", "DESCRIBES", ids[about["bom-ref"]]), *needs]
        ],
    }


def main(arguments: list[str]) -> None:
    """Write the SBOM of a project for the platform that this runs on."""
    parser = argparse.ArgumentParser(prog="couplet sbom", description=__doc__)
    parser.add_argument("--project", type=Path, required=True, help="folder of the project")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("--statement", type=Path, help="file for the same in SPDX's form, as in-toto's statement")
    options = parser.parse_args(arguments)
    network.apply()
    here = platforms.this_machine()
    found = sbom(options.project, here, link_scripts(options.project, here))
    write_whole(options.out, f"{json.dumps(found, indent=2)}\n".encode())
    if options.statement:
        about = {"_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://spdx.dev/Document", "subject": []}
        write_whole(options.statement, json.dumps({**about, "predicate": spdx(found)}).encode())
    kinds = [component["purl"].partition("/")[0] for component in found["components"]]
    print(f"{kinds.count('pkg:conda')} packages of conda's, {kinds.count('pkg:pypi')} of Poetry's", flush=True)
