"""Is an image in a registry what this project's locks say? Its labels, the SBOM attached to it, and the files of its packages.

Nothing of the image runs: it is mounted where another Python looks at its files (host/verify-image.sh). What is not
looked at: the project's own code, the base image's files, and what Python compiled.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from couplet import settings
from couplet.errors import UserError
from couplet.formats import platforms, poetry_lock, records
from couplet.inspect.sbom import sbom, spdx
from couplet.install import verify
from couplet.lock import stamp

LIBRARY = re.compile(r"^lib/python3\.\d+/")
BY_UV = ("site-packages/_virtualenv.py", "site-packages/_virtualenv.pth")
"""What uv writes into every virtual environment."""


def differing_labels(labels: Mapping[str, str], facts: str) -> list[str]:
    """Return which labels are not what a build would give today, a line each; `facts` is what couplet.facts prints."""
    wanted = re.findall(r"^label (?:\*|runtime) ([^=]+)=(.*)$", facts, re.M)
    return [
        f"{key}: the image has {labels.get(key, 'none')}, here it is {value}" for key, value in wanted if labels.get(key) != value
    ]


def listed(document: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return {package URL: its hashes} of an SBOM in SPDX's form."""
    return {
        reference["referenceLocator"]: sorted(one["checksumValue"] for one in package.get("checksums", ()))
        for package in document["packages"]
        for reference in package.get("externalRefs", ())
    }


def differing_packages(attached: Mapping[str, Any], locked: Mapping[str, Any]) -> list[str]:
    """Return in which packages two SBOMs in SPDX's form differ, a line each."""
    there, here = listed(attached), listed(locked)
    words = {(True, False): "stands in the SBOM alone", (False, True): "is missing in the SBOM"}
    return [
        f"{purl} {words.get((purl in there, purl in here), 'has other hashes in the SBOM')}"
        for purl in sorted(there.keys() | here.keys())
        if there.get(purl) != here.get(purl)
    ]


def strangers(prefix: Path, package: str) -> list[str]:
    """Return what Python could import and no package brought: the files beside its modules that no record has, a line each."""
    site = records.site_packages(prefix).resolve()
    known = {LIBRARY.sub("", file.path) for file in verify.conda_files(prefix, records.conda_records(prefix))}
    for record in site.glob("*.dist-info/RECORD"):
        with record.open(newline="") as rows:
            known |= {os.path.normpath(f"site-packages/{row[0]}") for row in csv.reader(rows)}
    known |= {f"site-packages/{package}.code.pth", *BY_UV}
    found = (path for path in site.parent.rglob("*") if path.suffix != ".pyc" and not path.is_dir())
    return sorted(f"{path} belongs to no package" for path in found if str(path.relative_to(site.parent)) not in known)


def problems(project: Path, root: Path, about: Path) -> tuple[dict[str, list[str]], str]:
    """Return ({title: a line for each problem}, what to know where there is none). Raises UserError for stale locks.

    `root` is where the image's files are, `about` a folder with what the registry says of it (image.json), and with this
    project's labels (facts).
    """
    code, lines = stamp.check(project)
    if code:
        raise UserError("\n".join(["The locks are not up to date, so no image can be compared with them.", *lines]))
    made, document, here = settings.project(project), settings.pyproject(project), platforms.this_machine()
    said = json.loads((about / "image.json").read_text())
    # of an image for several platforms, what is this one's
    image, attached = (found.get(platforms.PLATFORMS[here].docker, found) for found in (said["image"], said["sbom"]))
    labels, prefix = image["config"].get("Labels") or {}, root / made.prefix.lstrip("/")
    with tempfile.TemporaryDirectory() as scratch:
        locks = Path(scratch)
        stamp.write_plain(project, locks)
        groups = poetry_lock.with_groups(locks / "poetry.lock", ["main"])
        found, count = verify.offenders(locks, groups, prefix, [made.distribution, settings.name(document)])
    found["files of no package"] = strangers(prefix, made.package)
    found["labels"] = differing_labels(labels, (about / "facts").read_text())
    if spdx_form := attached.get("SPDX"):
        found["the attached SBOM"] = differing_packages(spdx_form, spdx(sbom(project, here, named={})))
    revision = labels.get("org.opencontainers.image.revision") or "no commit"
    words = "" if spdx_form else "No SBOM is attached to it.\n"
    words += f"{count} files of its packages are as the locks say, and so are its labels. It was built from {revision}."
    return found, f"{words}\n"


def main(arguments: list[str]) -> None:
    """The verb `verify-image`."""
    parser = argparse.ArgumentParser(prog="couplet verify-image", description=__doc__)
    parser.add_argument("--project", type=Path, required=True, help="folder of the project")
    parser.add_argument("--image", type=Path, required=True, help="folder of the image's files")
    parser.add_argument("--about", type=Path, required=True, help="folder with image.json and facts")
    parser.add_argument("--out", type=Path, required=True, help="file for what was found out")
    options = parser.parse_args(arguments)
    found, words = problems(options.project, options.image, options.about)
    if text := verify.listing(found):
        advice = "Was it built from another commit? Check that one out, and try again."
        raise UserError(f"the image is not what these locks say.\n{text}{advice}")
    options.out.write_text(words)
