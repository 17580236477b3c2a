"""A program on a terminal of its own, and somebody who types."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")
PROMPT = r"[$#] $"


class Session:
    """A program on a terminal of 40 rows and 132 columns; whatever happens, it is gone at the end of the block."""

    def __init__(self, command: list[str], cwd: Path | None = None) -> None:
        self.command, self.cwd = command, cwd
        self.screen = ""
        self.seen = 0

    def __enter__(self) -> Session:
        self.leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 132, 0, 0))
        self.process = subprocess.Popen(
            self.command, stdin=follower, stdout=follower, stderr=follower, cwd=self.cwd, start_new_session=True
        )
        os.close(follower)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self.leader)

    def send(self, text: str) -> None:
        """Type, and wait for nothing."""
        self._read(0)
        self.seen = len(self.screen)
        os.write(self.leader, text.encode())

    def until(self, pattern: str, seconds: float = 60) -> str:
        """Return what came since the last typing, once it matches a regular expression.

        Raises AssertionError, showing the screen, when it does not, or when the program ends before.
        """
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.screen[self.seen :]):
            assert time.monotonic() < deadline, f"no {pattern!r} on the screen:\n{self.screen}"
            if not self._read(0.2):
                assert re.search(pattern, self.screen[self.seen :]), f"ended without {pattern!r} on the screen:\n{self.screen}"
        return self.screen[self.seen :]

    def press(self, key: str, pattern: str, tries: int = 20) -> str:
        """Press a key, and again every two seconds, until the pattern comes: a program that is just beginning hears nothing yet."""
        self.send(key)
        for _ in range(tries - 1):
            with contextlib.suppress(AssertionError):
                return self.until(pattern, 2)
            os.write(self.leader, key.encode())
        return self.until(pattern, 2)

    def type(self, line: str) -> str:
        """Type a line at a prompt; return what it prints until the next one."""
        self.send(f"{line}\n")
        self.until(r"\n")
        self.seen += self.screen[self.seen :].index("\n") + 1
        return self.until(PROMPT)

    def ended(self, seconds: float = 30) -> int:
        """Return the exit code, once the program has ended. Raises TimeoutExpired where it does not."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            self._read(0.1)
        self._read(0)  # what it wrote last
        return self.process.wait(timeout=max(0.1, deadline - time.monotonic()))

    def _read(self, seconds: float) -> bool:
        """Take in what has come; False once nobody is left to write."""
        while select.select([self.leader], [], [], seconds)[0]:
            try:
                block = os.read(self.leader, 65536)
            except OSError:
                return False
            self.screen += ESCAPES.sub("", block.decode(errors="replace"))
            seconds = 0
        return self.process.poll() is None
