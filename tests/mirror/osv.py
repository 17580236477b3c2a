"""An OSV service: `POST /v1/querybatch` and `GET /v1/vulns/ID` as OSV's API has them, over advisories that a test makes up.

In the form of OSV's schema 1.6. It evaluates `versions` and the ranges of kind ECOSYSTEM as PEP 440 orders versions,
answers `{}` for a package without a known vulnerability, in pages where a test says how long they are, and refuses what OSV refuses. It knows
nothing of other ecosystems, commits, or `query`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import trustme
from packaging.version import Version

from .gate import Fault


@dataclass
class Osv:
    """The running service: its address, what it knows, what it was asked, and the faults that it is to have."""

    address: str = ""
    authority: Path | None = None
    login: tuple[str, str] | None = None
    advisories: list[dict] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    page: int = 1000
    refused: int = 0

    def know(self, name: str, id: str, *, fixed: str | None = None, aliases: tuple[str, ...] = (), **more) -> None:
        """Add an advisory: every version of a package below `fixed` is affected, or every one."""
        events = [{"introduced": "0"}, *([{"fixed": fixed}] if fixed else [])]
        package = {"name": name, "ecosystem": "PyPI"}
        affected = [{"package": package, "ranges": [{"type": "ECOSYSTEM", "events": events}]}]
        about = {"schema_version": "1.6.0", "id": id, "aliases": list(aliases), "summary": f"Made up, of {name}."}
        self.advisories.append({**about, "modified": "2026-01-01T00:00:00Z", "affected": affected, **more})

    def query(self, question: dict) -> dict:
        """Return the answer to one question of a batch."""
        name, version = question["package"]["name"], question["version"]
        assert question["package"]["ecosystem"] == "PyPI"
        first = int(question.get("page_token", 0))
        if not first:
            self.asked.append((name, version))
        found = [a for a in self.advisories if any(affects(part, name, version) for part in a.get("affected", ()))]
        page = [{"id": a["id"], "modified": a["modified"]} for a in found[first : first + self.page]]
        more = {"next_page_token": str(first + self.page)} if found[first + self.page :] else {}
        return {"vulns": page, **more} if page else {}


def affects(part: dict, name: str, version: str) -> bool:
    """Return whether one entry of an advisory's `affected` has this version of the package."""
    if part["package"] != {"name": name, "ecosystem": "PyPI"}:
        return False
    if version in part.get("versions", ()):
        return True
    for span in part.get("ranges", ()):
        inside = False
        if span["type"] == "ECOSYSTEM":
            for event in span["events"]:
                [(kind, edge)] = event.items()
                if kind == "introduced" and (edge == "0" or Version(version) >= Version(edge)):
                    inside = True
                if kind == "fixed" and Version(version) >= Version(edge):
                    inside = False
        if inside:
            return True
    return False


class Handler(BaseHTTPRequestHandler):
    """Answer requests: which packages have what, and what that is."""

    protocol_version = "HTTP/1.1"
    timeout = 120

    def do_POST(self) -> None:
        """Answer a batch of questions."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if (truncated := self.refuses(self.path == "/v1/querybatch")) is None:
            return
        try:
            questions = json.loads(body)["queries"]
            assert len(questions) <= 1000
            answer = {"results": [self.server.osv.query(question) for question in questions]}
        except (ValueError, KeyError, TypeError, AssertionError):
            self.answer(400, {"code": 3, "message": "Invalid query."})
            return
        self.answer(200, answer, truncated=truncated)

    def do_GET(self) -> None:
        """Answer with one advisory."""
        known = {f"/v1/vulns/{advisory['id']}": advisory for advisory in self.server.osv.advisories}
        if (truncated := self.refuses(self.path in known)) is not None:
            self.answer(200, known[self.path], truncated=truncated)

    def refuses(self, there: bool) -> bool | None:
        """Refuse who may not ask and what is not there, and have the faults; else return whether to cut the answer short."""
        osv = self.server.osv
        osv.requests.append(self.path)
        if osv.login and self.headers.get("Authorization") != "Basic " + base64.b64encode(":".join(osv.login).encode()).decode():
            osv.refused += 1
            self.answer(401, {"code": 16, "message": "who is asking?"}, ("WWW-Authenticate", 'Basic realm="osv"'))
            return None
        if not there:
            self.answer(404, {"code": 5, "message": "Not Found"})
            return None
        fault = next((f for f in osv.faults if f.times != 0 and re.search(f.pattern, self.path)), None)
        if not fault:
            return False
        if fault.times is not None:
            fault.times -= 1
        if fault.kind == "cut":
            self.close_connection = True
            return None
        if fault.kind == "unavailable":
            self.answer(503, {"code": 14, "message": "busy"})
            return None
        if fault.kind == "slow":
            time.sleep(fault.seconds)
        return fault.kind == "truncated"

    def answer(self, status: int, content: dict, *headers: tuple[str, str], truncated: bool = False) -> None:
        """Send a JSON answer; `truncated`: half of it, and the end of the connection."""
        body = json.dumps(content).encode()
        self.send_response(status)
        for header in (("Content-Type", "application/json"), ("Content-Length", str(len(body))), *headers):
            self.send_header(*header)
        self.end_headers()
        with contextlib.suppress(OSError):  # the client may have gone
            self.wfile.write(body[: len(body) // 2] if truncated else body)
        if truncated:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing: the tests read `asked` and `refused`."""


class Server(ThreadingHTTPServer):
    """The server's thread pool."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, place: tuple[str, int], osv: Osv) -> None:
        super().__init__(place, Handler)
        self.osv = osv

    def handle_error(self, *_: object) -> None:
        """A client that went away, or that does not trust the certificate, is no error of ours."""


@contextlib.contextmanager
def running(gateway: str, tls: Path | None = None, login: tuple[str, str] | None = None) -> Iterator[Osv]:
    """A service for the length of a block, on the address at which containers reach this machine, port chosen by the system.

    With `tls`, a folder, it speaks HTTPS by a CA of its own, whose certificate it leaves there. `login` is who may ask.
    """
    osv = Osv(login=login)
    server = Server((gateway, 0), osv)
    if tls:
        authority = trustme.CA()
        osv.authority = tls / "osv-authority.pem"
        authority.cert_pem.write_to_path(str(osv.authority))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(gateway).configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    osv.address = f"{'https' if tls else 'http'}://{gateway}:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    try:
        yield osv
    finally:
        server.shutdown()
        server.server_close()
