"""The browser of the tests: what else goes on on this machine does not reach it."""

from __future__ import annotations

import http.server
import threading
import time

import pytest

from tests.harness import browser
from tests.harness.container import docker


class Page(http.server.BaseHTTPRequestHandler):
    """A page, and an answer that takes four seconds."""

    def do_GET(self) -> None:
        slow = self.path.startswith("/slow")
        if slow:
            time.sleep(4)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"finished" if slow else b"<!doctype html><title>a page</title>")

    def log_message(self, *words) -> None:
        """Say nothing."""


@pytest.fixture
def page():
    """The address of that page."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


ASK = """
window.said = null;
const requests = Array.from({length: 12}, (_, number) => fetch('/slow?' + number).then((answer) => answer.text()));
Promise.all(requests).then((texts) => { window.said = texts.join(' ') });
"""
"""Twice as many requests as the browser has connections to one host: when the network changes, it drops those that wait."""


def asks_while_a_container_starts(page: str) -> str:
    """Return what slow requests bring. Raises Disturbed where the browser drops one."""
    with browser.opened(page) as chrome:
        chrome.execute_script(ASK)
        docker("run", "--rm", "debian:bookworm-slim", "sleep", "2")
        return browser.until(chrome, lambda: chrome.execute_script("return window.said"), "the answers", 30)


def test_a_container_that_starts_and_ends_disturbs_no_page(sources, page):
    if browser.own_network():
        assert asks_while_a_container_starts(page).split() == ["finished"] * 12


def test_in_this_machines_network_it_does(sources, page, monkeypatch):
    """The negative control: how the browser ran before, and runs where nobody may make a network of their own."""
    monkeypatch.setattr(browser, "own_network", lambda: None)
    with pytest.raises(browser.Disturbed):
        asks_while_a_container_starts(page)


def test_the_browser_reaches_the_pages_port_and_no_other(sources, page):
    """Neither another port of this machine, nor anything beyond it."""
    if browser.own_network():
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as other:
            threading.Thread(target=other.serve_forever, daemon=True).start()
            code = "fetch(arguments[0], {mode: 'no-cors'}).then(() => arguments[1]('reached'), () => arguments[1]('refused'))"
            with browser.opened(page) as chrome:
                assert chrome.execute_async_script(code, page) == "reached"
                assert chrome.execute_async_script(code, f"http://127.0.0.1:{other.server_port}") == "refused"
            other.shutdown()
