"""What the Python index has, and what becomes of pins that it lacks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from couplet.errors import UserError
from couplet.lock import pins

PAGES = {
    "/simple/numpy/": '<a href="numpy-2.4.6-cp313-cp313-linux_x86_64.whl#sha256=0a">',
    "/simple/six/": '<a href="six-1.tar.gz">',
}


class Handler(BaseHTTPRequestHandler):
    """An index of two projects; /broken is none."""

    def do_GET(self) -> None:
        self.send_response(403 if "broken" in self.path else 200 if self.path in PAGES else 404)
        self.end_headers()
        self.wfile.write(PAGES.get(self.path, "").encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def index() -> Iterator[str]:
    """The address of a server with an index."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


OWNERS = {"no-such-thing": "nosuch", "numpy": "numpy", "six": "six"}


def test_pins_that_the_index_cannot_satisfy_are_left_out_with_a_note(index, monkeypatch, capsys):
    """Except those that it could before: a release that was taken back breaks no lock."""
    monkeypatch.setenv("POETRY_PYPI_MIRROR_URL", f"{index}/simple/")
    marked = "numpy==2.4.6 ; sys_platform == 'linux'"
    lines = ["no-such-thing==1.0", marked, "numpy==999.0", "six==1.0.0", "six==7"]
    assert pins.leave_out_unpublished(lines, {"six==7"}, OWNERS) == [marked, "six==1.0.0", "six==7"]
    said = capsys.readouterr().out
    assert "note: no-such-thing 1.0 (conda package nosuch) is not on the Python index" in said and said.count("note:") == 2


@pytest.mark.parametrize(
    ("path", "words"),
    [("/broken", r"index http://\S+/broken answers HTTP 403 .a user name"), (":1", r"index http://\S+:1 does not answer: ")],
)
def test_an_index_that_cannot_be_asked_is_an_error(index, monkeypatch, path, words):
    """The negative control: a lock made without knowing would be wrong."""
    monkeypatch.setenv("POETRY_PYPI_MIRROR_URL", index.replace(index.rsplit(":")[-1], "1") if path == ":1" else index + path)
    monkeypatch.setattr("urllib3.util.Retry.get_backoff_time", lambda _: 0)
    with pytest.raises(UserError, match=words):
        pins.leave_out_unpublished(["numpy==2.4.6"], set(), OWNERS)
