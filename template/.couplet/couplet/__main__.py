"""The command line: `python -m couplet VERB [OPTION …]`."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from couplet.errors import run

VERBS = {
    "network": ("couplet.network", "run a command with this machine's mirrors, certificates and proxies"),
    "tools": ("couplet.install.tools", "install the pinned tools"),
    "lock": ("couplet.lock.command", "make the lock files"),
    "propose": ("couplet.lock.propose", "open or renew the one request that brings new locks"),
    "check": ("couplet.lock.stamp", "do the locks belong to environment.yml and pyproject.toml?"),
    "install-conda": ("couplet.install.conda", "make the environment from conda's lock"),
    "install-pypi": ("couplet.install.pypi", "add what poetry.lock holds and conda does not"),
    "install-project": ("couplet.install.project", "install the project's metadata and programs"),
    "verify": ("couplet.install.verify", "compare the environment with the locks and conda's records"),
    "cuda": ("couplet.install.cuda", "are the locked builds the CUDA ones?"),
    "activation": ("couplet.image.activation", "record what `conda activate` does"),
    "kernel": ("couplet.image.kernel", "register the Jupyter kernel, and start it once"),
    "entry-points": ("couplet.image.entry_points", "make every way into the image activate the environment"),
    "importable": ("couplet.image.importable", "does Python find the project in the image?"),
    "report": ("couplet.inspect.report", "what an image is made of"),
    "sbom": ("couplet.inspect.sbom", "the SBOM of the locks"),
    "audit": ("couplet.inspect.audit", "known vulnerabilities of what the locks hold"),
    "verify-image": ("couplet.inspect.image", "compare an image in a registry with the locks"),
    "facts": ("couplet.facts", "labels and base images of a build"),
    "doctor": ("couplet.doctor", "are the template's files as the template has them?"),
    "update": ("couplet.update", "bring in the newest template"),
    "saturn": ("couplet.saturn.build", "make the environment in a base image of Saturn Cloud's"),
    "saturn-pack": ("couplet.saturn.pack", "write one script that does that"),
}
"""Verb -> (the module whose `main(arguments)` does it, a line of help). Each needs only what its module imports."""


def main() -> int | None:
    """Run one verb; return the exit code."""
    # What found this package must not reach the programs that are started from here: conda's and the environment's Python.
    os.environ.pop("PYTHONPATH", None)
    verb, *arguments = sys.argv[1:] or ["--help"]
    if verb in VERBS:
        code: int | None = import_module(VERBS[verb][0]).main(arguments)
        return code
    lines = [f"  {name:<16} {text}" for name, (_, text) in VERBS.items()]
    print("usage: python -m couplet VERB [OPTION …]", *lines, sep="\n", file=sys.stderr)
    return 0 if verb in ("-h", "--help") else 64


if __name__ == "__main__":
    run(main, for_a_person=True)
