"""The web server of the channel: one container, described in compose.yaml."""

from __future__ import annotations

import os
import urllib.request
from urllib.error import URLError

from . import cache, channel, engine
from .cache import HERE, Progress
from .engine import Engine

COMPOSE = HERE / "compose.yaml"
PORT = 8765


class WebError(RuntimeError):
    """The web server could not be started; the message says what is in its way."""


def port() -> int:
    """The port, on the engine's bridge address and on loopback (``COUPLET_CHANNEL_PORT``)."""
    return int(os.environ.get("COUPLET_CHANNEL_PORT") or PORT)


def alias(on: Engine) -> str:
    """The address whose sub-folders are channels, as containers and this machine reach it: the current version's."""
    return f"http://{engine.gateway(on)}:{port()}/{channel.current().resolve().parent.name}"


def environment(on: Engine) -> dict[str, str]:
    """What compose.yaml needs."""
    own = {
        "COUPLET_CHANNEL_ADDRESS": engine.gateway(on),
        "COUPLET_CHANNEL_PORT": str(port()),
        "COUPLET_CHANNEL_FOLDER": str(channel.root()),
    }
    return on.environment() | own


def start(on: Engine, progress: Progress) -> str:
    """Start the server, or leave it running when nothing changed; the channel alias."""
    words = ["docker", "compose", "--file", str(COMPOSE), "up", "--detach", "--wait", "--quiet-pull", "--pull=never"]
    with cache.step(f"web server at {alias(on)}", progress):
        try:
            cache.run(words, env=environment(on), error=WebError)
        except WebError as error:
            if "already" in str(error) and "use" in str(error):
                raise WebError(
                    f"port {port()} is in use on {engine.gateway(on)} or on loopback: end what uses it, or choose another "
                    "with COUPLET_CHANNEL_PORT=<port> python -m tests.mirror up"
                ) from error
            raise
        if not answers(f"http://127.0.0.1:{port()}/current"):
            raise WebError(f"the web server runs, but http://127.0.0.1:{port()}/current does not show the channel; see `docker logs`")
    return alias(on)


def stop(on: Engine) -> None:
    """Stop the server."""
    cache.run(["docker", "compose", "--file", str(COMPOSE), "down", "--timeout=3"], env=environment(on), error=WebError)


def answers(address: str) -> bool:
    """Whether the channel can be read at an alias."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{address}/{channel.NAME}/noarch/repodata.json", timeout=5) as answer:
            return answer.status == 200
    except (URLError, OSError):
        return False
