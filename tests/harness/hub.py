"""JupyterHub with its proxy, and repo2docker: the programs themselves, in an environment of their own.

They are no part of the tests' own environment, which every session of nox installs. Node.js, for the proxy, is from PyPI too.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.harness import template
from tests.mirror import cache

REQUIREMENTS = template.REPOSITORY / "requirements/hub.txt"
PROXY = "configurable-http-proxy@5.3.0"


def programs() -> Path:
    """Return the folder of the programs. The first time, they are installed into the cache."""
    folder = cache.root() / f"hub-{cache.key(REQUIREMENTS, PROXY, sys.version)}"
    with cache.lock("hub"):
        if not (folder / "complete").exists():
            cache.remove(folder)
            cache.run([sys.executable, "-m", "virtualenv", "--quiet", folder])
            cache.run([folder / "bin/pip", "install", "--quiet", "--require-hashes", "--requirement", REQUIREMENTS])
            words = ["install", "--no-fund", "--no-audit", "--global", "--prefix", folder, PROXY]
            cache.run([folder / "bin/npm", *words], env=environment(folder / "bin"))
            (folder / "complete").touch()
    return folder / "bin"


def environment(programs: Path) -> dict[str, str]:
    """Return this process's environment, with the programs first in PATH."""
    return {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
