"""What a build is told of the project: the labels of its images, and its base images where they are pinned by digest.

One line each, for host/docker-build.sh: `label TARGET KEY=VALUE` or `build-arg TARGET KEY=VALUE`, where TARGET is a stage of
the Dockerfile, or * for all of them.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from couplet import settings
from couplet.errors import UserError

LOCK = "base-images.lock"
ENTRY = re.compile(r"([A-Z_]+_BASE)=([^@\s]+)@(sha256:[0-9a-f]{64})")
TARGETS = {"RUNTIME_BASE": ("runtime", "platforms"), "CONDA_BASE": ("dev",), "PYTHON_BASE": ("*",), "SATURN_BASE": ("saturn",)}
"""Which images have a base image as their base."""


def base_images(project: Path) -> dict[str, str]:
    """Return {build argument: image:tag} of the base images that the Dockerfiles name by tag."""
    files = [project / "Dockerfile", *sorted(project.glob("Dockerfile.*"))]
    lines = [line.rstrip() for file in files if file.is_file() for line in file.read_text().splitlines()]
    found = (re.fullmatch(r"ARG ([A-Z_]*_BASE)=\$\{REGISTRY\}([^@\s]+)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


def pinned(project: Path) -> dict[str, tuple[str, str]]:
    """Return {build argument: (image:tag, digest)} of base-images.lock, {} where there is none.

    Raises UserError where it is damaged, or is not of the base images that the Dockerfiles name.
    """
    path = project / LOCK
    if not path.is_file():
        return {}
    mend = f"Run `make pin-images`, or delete {LOCK} to build from the tags."
    found: dict[str, tuple[str, str]] = {}
    for line in path.read_text().splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if not (entry := ENTRY.fullmatch(line.rstrip())):
            raise UserError(f"{LOCK} is damaged: {line}\n{mend}")
        found[entry[1]] = (entry[2], entry[3])
    wanted = base_images(project)
    problems = [
        f"The Dockerfile asks for {image} ({name}), and {LOCK} has {found[name][0] if name in found else 'nothing'} for it."
        for name, image in sorted(wanted.items())
        if found.get(name, ("",))[0] != image
    ]
    problems += [
        f"{LOCK} has {found[name][0]} as {name}, which is not in the Dockerfile, or is pinned there already."
        for name in sorted(found.keys() - wanted.keys())
    ]
    if problems:
        raise UserError("\n".join([*problems, mend]))
    return found


def lines(project: Path, registry: str) -> list[str]:
    """Return the lines for a project; `registry` is a prefix of the base images such as registry.example.com/, or ''."""
    document = settings.pyproject(project)
    version = document.get("project", {}).get("version") or document.get("tool", {}).get("poetry", {}).get("version", "")
    labels = [("*", "org.opencontainers.image.version", version)]
    for name in ("conda", "poetry"):
        lock = project / f"{name}.lock"
        if lock.is_file():
            labels.append(("*", f"org.couplet.{name}-lock.sha256", hashlib.sha256(lock.read_bytes()).hexdigest()))
    pins, arguments = pinned(project), []
    for name, image in base_images(project).items():
        labels += [(target, "org.opencontainers.image.base.name", image) for target in TARGETS.get(name, ())]
        if name in pins:
            digest = pins[name][1]
            labels += [(target, "org.opencontainers.image.base.digest", digest) for target in TARGETS.get(name, ())]
            arguments.append(f"build-arg * {name}={registry}{image}@{digest}")
    return [*(f"label {target} {key}={value}" for target, key, value in labels), *arguments]


def main(arguments: list[str]) -> int:
    """Print the lines of the project in the current folder; with `check` only look at base-images.lock."""
    registry = os.environ.get("REGISTRY", "")
    found = lines(Path(), f"{registry.rstrip('/')}/" if registry else "")
    if arguments != ["check"]:
        print(*found, sep="\n")
    return 0
