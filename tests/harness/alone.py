"""Run a program in a network of its own, in which one port of this machine's is to be reached, and nothing else.

    unshare --net python alone.py SOCKET PORT PROGRAM [ARGUMENT ...]

The program's 127.0.0.1:PORT is what answers at the Unix socket SOCKET; `served` answers there with a port of this machine.
Its process is this one, and its open files too. For Chromium, which drops each connection that it has whenever an interface
of its network comes or goes, and with every container one does (decision 0071). Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
PR_SET_PDEATHSIG = 1


def listening(family: int, address: tuple[str, int] | str) -> socket.socket:
    """Return a socket that listens at an address."""
    server = socket.socket(family)
    server.bind(address)
    server.listen(128)
    return server


def relay(server: socket.socket, connect: Callable[[], socket.socket]) -> None:
    """Hand each connection of a server on to one of `connect`, until the server is closed."""
    with contextlib.suppress(OSError):
        while True:
            near, _ = server.accept()
            threading.Thread(target=_join, args=(near, connect), daemon=True).start()


def _join(near: socket.socket, connect: Callable[[], socket.socket]) -> None:
    with near:
        try:
            far = connect()
        except OSError:
            return  # nobody is there: the program sees a closed connection
        with far:
            back = threading.Thread(target=_pump, args=(far, near), daemon=True)
            back.start()
            _pump(near, far)
            back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Copy what comes, and then the end of it."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def served(path: Path, port: int) -> Iterator[None]:
    """Answer at a Unix socket with what a port of this machine's answers, for the length of a block."""
    with listening(socket.AF_UNIX, str(path)) as server:
        connect = lambda: socket.create_connection(("127.0.0.1", port))  # noqa: E731
        threading.Thread(target=relay, args=(server, connect), daemon=True).start()
        try:
            yield
        finally:
            server.shutdown(socket.SHUT_RDWR)


def raise_loopback() -> None:
    """Take the new network's own 127.0.0.1 into use: as it is made, it is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = fcntl.ioctl(any_socket, SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
        (flags,) = struct.unpack_from("H", asked, 16)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def main(path: str, port: str, *command: str) -> None:
    """Become the program, with a child that relays for as long as it lives."""
    raise_loopback()
    server = listening(socket.AF_INET, ("127.0.0.1", int(port)))
    program = os.getpid()
    if os.fork():
        server.close()
        os.execvp(command[0], command)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != program:
        return
    # the program's pipes end with the program
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor not in (0, 1, 2, server.fileno()):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def connect() -> socket.socket:
        far = socket.socket(socket.AF_UNIX)
        far.connect(path)
        return far

    relay(server, connect)


if __name__ == "__main__":
    main(*sys.argv[1:])
