"""Build CPython from Debian's source packages, once for each recipe: the slow part, so it is kept in the cache."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import cache, engine
from .cache import HERE, Progress
from .engine import Engine
from .images import BUILD, BUILD_RECIPE

SUITES = {"3.11": "bookworm", "3.13": "trixie"}
"""Which Debian release carries the source of which Python."""

OLD = {"3.9": "bullseye"}
"""The Python of a conda root of 2022, as Saturn Cloud's base image has it: no image and no environment is made of it."""

PREFIX = "/couplet-python"
"""The prefix in the text files of a build (also in build-cpython.sh): whoever installs it puts another in its place."""

RECIPE = HERE / "build-cpython.sh"


def folder(minor: str) -> Path:
    """Where a Python's build is kept, whether it is there or not."""
    return cache.root() / "cpython" / f"{minor}-{cache.key(RECIPE, (SUITES | OLD)[minor], BUILD_RECIPE)}"


def ensure(on: Engine, progress: Progress, minors: Iterable[str] = SUITES) -> dict[str, Path]:
    """The folder of each Python, built when it is missing: two at a time, since configure uses one core only."""

    def one(minor: str) -> Path:
        suite, target = (SUITES | OLD)[minor], folder(minor)

        def build(half: Path) -> None:
            half.mkdir(parents=True)
            mounts = [f"--volume={half}:/out", f"--volume={RECIPE}:/build.sh:ro", *host_ca_mount()]
            name = f"couplet-mirror-cpython-{minor}"
            # a killed run may have left its container at work on a folder that is gone
            engine.docker(on, "rm", "--force", name)
            words = ["run", "--rm", "--name", name, *mounts, BUILD, "bash", "/build.sh", minor, suite]
            with cache.step(f"CPython {minor} from Debian's source (a few minutes)", progress):
                engine.docker(on, *words, log=cache.root() / "log" / f"cpython-{minor}.log")

        cache.build_once(target, build)
        return target

    chosen = list(minors)
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(chosen, pool.map(one, chosen), strict=True))


def version(folder: Path) -> str:
    """The full version of a build, such as ``3.13.5``."""
    return (folder / "version").read_text().strip()


def host_ca() -> Path | None:
    """The bundle of certificate authorities that this machine trusts, if it has one."""
    chosen = os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE") or "/etc/ssl/certs/ca-certificates.crt"
    return Path(chosen) if Path(chosen).is_file() else None


def host_ca_mount() -> list[str]:
    """Options of ``docker run`` that let a container trust what this machine trusts, leaving no trace in an image."""
    bundle = host_ca()
    return [f"--volume={bundle}:/etc/ssl/certs/ca-certificates.crt:ro"] if bundle else []
