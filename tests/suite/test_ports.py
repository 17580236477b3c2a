"""The ports that tests serve on are their own."""

from __future__ import annotations

import contextlib
import socket

import pytest

from tests.harness import ports


def test_a_port_is_none_that_the_system_gives_away():
    first = int(ports.RANGE.read_text().split()[0])
    found = {ports.free() for _ in range(50)}
    assert max(found) < first and len(found) > 40
    with socket.socket() as listener:  # the negative control: what the system gives to who binds port 0
        listener.bind(("127.0.0.1", 0))
        assert listener.getsockname()[1] >= first


def test_a_port_that_is_listened_on_is_not_given(monkeypatch, tmp_path):
    (tmp_path / "range").write_text("10100\t60999\n")
    monkeypatch.setattr(ports, "RANGE", tmp_path / "range")
    with contextlib.ExitStack() as stack:
        for port in range(10_000, 10_100):
            with contextlib.suppress(OSError):  # another test's
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
        with pytest.raises(OSError, match=r"^no port of .* is free$"):
            ports.free()
    assert 10_000 <= ports.free() < 10_100
