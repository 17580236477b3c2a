"""Which network the tests build on, and what has to be there for it: an engine, and perhaps the mirror."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from tests.mirror import __main__ as mirror
from tests.mirror import engine, network, settings


@contextmanager
def ready(choice: str = "auto", progress=print, *, keep: bool = False, **wanted) -> Iterator[str]:
    """Have an engine and package sources for the length of a block; yields `public` or `mirror`.

    `choice` is auto, public or mirror. The environment of this process is set for docker and make. What
    was started here is stopped at the end, unless `keep`; what ran before goes on. `wanted` narrows
    what the mirror makes (see tests.mirror.up).
    """
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
