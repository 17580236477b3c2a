"""Ports of this machine for what a test serves."""

from __future__ import annotations

import random
import socket
from pathlib import Path

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on, and that the system gives to nobody by itself.

    What will listen on it starts seconds later. A port of the system's own range, which binding port 0 takes from, may be
    another's by then: Docker publishes from that range, and each connection leaves from it. Raises OSError where no port is free.
    """
    # where the system's range begins so low that nothing is left below it, one of it has to do
    first = int(RANGE.read_text().split()[0]) if RANGE.exists() else 32768
    # by the system's randomness: Hypothesis gives every process the same seed
    for port in random.SystemRandom().sample(range(10_000, max(first, 10_100)), 100):
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no port of 127.0.0.1 is free")
