"""Which network the tests build on, and what has to be there for it: an engine, and perhaps the mirror."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from tests.mirror import __main__ as mirror
from tests.mirror import debian, engine, network, settings

CHOICES = ("auto", "public", "mirror")


def need_make(progress) -> None:
    """Have make: users are told to have it, and a bare Debian does not.

    Raises EngineError, saying what to install, where this cannot do it.
    """
    if shutil.which("make"):
        return
    if not (debian.is_debian_like() and os.geteuid() == 0):
        raise engine.EngineError("there is no make here. Install it (Debian, Ubuntu: apt-get install make), then try again.")
    try:
        debian.install(["make"], progress)
    except debian.AptError as error:
        raise engine.EngineError(f"there is no make here, and apt could not install it: {error}") from error


def add_option(parser: argparse.ArgumentParser) -> None:
    """Give a command line the `choice` of `ready`: --network auto, public or mirror."""
    parser.add_argument("--network", choices=CHOICES, default=CHOICES[0], help="where packages and base images come from")


@contextmanager
def ready(choice: str = "auto", progress=print, *, keep: bool = False, **wanted) -> Iterator[str]:
    """Have an engine and package sources for the length of a block; yields `public` or `mirror`.

    `choice` is auto, public or mirror. The environment of this process is set for docker and make. What
    was started here is stopped at the end, unless `keep`; what ran before goes on. `wanted` narrows
    what the mirror makes (see tests.mirror.up).
    """
    need_make(progress)
    with engine.session(progress) as found:
        if found.host:
            os.environ["DOCKER_HOST"] = found.host
        if keep and found.private:
            engine.keep()
        chosen = network.detect() if choice == "auto" else choice
        progress(f"network: {chosen}" + (" (package registries only: see tests/mirror)" if chosen == network.MIRROR else ""))
        if chosen == network.MIRROR:
            mirror.up(progress, keep=False, **wanted)
            os.environ.update(settings.read())
        yield chosen
