"""Base images under their real names, made of Debian packages and the channel, so that ``FROM`` needs no pull."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from . import cache, debian, engine
from .cache import HERE, Progress
from .engine import Engine

LABEL = "org.couplet.mirror"
"""Says that an image is a stand-in, in words; ``<LABEL>.key`` is the hash of what it was made of."""

DEBIAN = "debian:bookworm-slim"
SUITE = "bookworm"
BUILD = "couplet-mirror/build:bookworm"
BUILD_RECIPE = HERE / "images" / "build.Dockerfile"
WEB = "couplet-mirror/web:bookworm"
MINIFORGE = "condaforge/miniforge3:26.3.2-3"
SATURN = "public.ecr.aws/saturncloud/saturnbase-python:2022.06.01"
KUSTOMIZE = "registry.k8s.io/kustomize/kustomize:v5.6.0"

SLIM = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/lintian/*"]
"""What the real slim image leaves out too (it keeps copyright files, and so do we)."""


def python_image(minor: str) -> str:
    """The name of the slim image of a Python, such as ``python:3.13-slim-bookworm``."""
    return f"python:{minor}-slim-bookworm"


def debian_slim(on: Engine, progress: Progress) -> str:
    """Make the Debian image; its key, on which the others depend."""
    exclude = [f"--dpkgopt=path-exclude={pattern}" for pattern in SLIM]
    keep = "--dpkgopt=path-include=/usr/share/doc/*/copyright"
    options = ["--quiet", "--variant=minbase", *exclude, keep]
    changes = ['CMD ["bash"]', "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    sources = _debian_sources()
    key = cache.key(options, changes, sources)
    if _wanted(on, DEBIAN, key, progress):
        if not debian.installed("mmdebstrap"):
            debian.install(["mmdebstrap"], progress)
        with cache.step(f"image {DEBIAN} (mmdebstrap)", progress), tempfile.TemporaryDirectory(dir=cache.root()) as scratch:
            archive = Path(scratch) / "root.tar"
            cache.run(["mmdebstrap", *options, SUITE, archive, *sources], log=_log(DEBIAN))
            labels = [f"LABEL {name}={json.dumps(value)}" for name, value in _labels(DEBIAN, key).items()]
            words = [word for change in (*changes, *labels) for word in ("--change", change)]
            engine.docker(on, "import", *words, archive, DEBIAN)
    return key


def build(
    on: Engine,
    name: str,
    dockerfile: str,
    context: Path,
    inputs: object,
    progress: Progress,
    fill: Callable[[Path], None] | None = None,
) -> str:
    """Build a stand-in from ``images/<dockerfile>`` unless it is there already; its key.

    ``fill`` puts the files into the context, and is only called when the image has to be built.
    """
    recipe = HERE / "images" / dockerfile
    key = cache.key(recipe, inputs)
    if _wanted(on, name, key, progress):
        labels = [f"--label={label}={value}" for label, value in _labels(name, key).items()]
        words: list[str | Path] = ["build", "--quiet", *labels, "--provenance=false", "--tag", name, "--file", recipe, context]
        with cache.step(f"image {name}", progress):
            if fill:
                fill(context)
            engine.docker(on, *words, log=_log(name))
    return key


def state(on: Engine, name: str) -> str:
    """What an image is: ``missing``, ``stand-in`` or ``real``."""
    labels = _inspect(on, name)
    return "missing" if labels is None else "stand-in" if LABEL in labels else "real"


def describe(on: Engine, name: str) -> str:
    """An image's state and size, for people."""
    found = state(on, name)
    if found == "missing":
        return found
    size = int(engine.docker(on, "image", "inspect", name, "--format", "{{.Size}}"))
    return f"{found}, {size / 1e6:.0f} MB"


def _wanted(on: Engine, name: str, key: str, progress: Progress) -> bool:
    labels = _inspect(on, name)
    if labels is None:
        return True
    if LABEL not in labels and not on.private:
        progress(f"image {name}: the engine has a real one, which is left as it is")
        return False
    return labels.get(f"{LABEL}.key") != key


def _inspect(on: Engine, name: str) -> dict[str, str] | None:
    try:
        return json.loads(engine.docker(on, "image", "inspect", name, "--format", "{{json .Config.Labels}}")) or {}
    except engine.EngineError:
        return None


def _labels(name: str, key: str) -> dict[str, str]:
    return {LABEL: f"a stand-in for {name}, made by couplet's test mirror; not the real image", f"{LABEL}.key": key}


def _log(name: str) -> Path:
    return cache.root() / "log" / f"{name.replace('/', '_').replace(':', '_')}.log"


def _debian_sources() -> list[str]:
    """The archives of the wanted release that this machine uses; none means mmdebstrap's own choice."""
    found = [source for source in debian.sources() if source.release.split("-")[0] == SUITE and source.component == "main"]
    return [f"deb {source.uri} {source.release} main" for source in found]
