"""A company's mirror: the channel and the Python index behind a password and a certificate of its own CA, with faults on request.

One HTTPS server in this process.  It hands on what the mirror (or the public network) has; nothing is made up.

    https://<gateway>:<port>/conda/<channel>/...         the channel, for `channel_alias`
    https://<gateway>:<port>/conda/t/<token>/...         the same, by a token
    https://<gateway>:<port>/simple/<project>/           the index (PEP 503); its files come from here too
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import html
import re
import secrets
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, urljoin

import trustme

from . import cache, settings

CONDA_PUBLIC = "https://conda.anaconda.org"


@dataclass
class Fault:
    """What to do to answers whose path matches `pattern`: the first `times` of them, or all (None).

    `kind` is unavailable (503), truncated (half of the body), corrupted (one byte is another), cut (no answer at
    all) or slow (the second half comes after `seconds`).
    """

    pattern: str
    kind: str
    times: int | None = None
    seconds: float = 5


@dataclass
class Gate:
    """The running server: its address, its secrets, what it was asked, and the faults that it is to have."""

    address: str
    authority: Path
    user: str
    password: str
    token: str
    faults: list[Fault] = field(default_factory=list)
    served: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        """Host and port."""
        return self.address.removeprefix("https://")

    @property
    def name(self) -> str:
        """The host alone, as netrc has it."""
        return self.host.split(":")[0]

    @property
    def with_password(self) -> str:
        """The address with user name and password in it, percent-encoded."""
        return f"https://{quote(self.user, safe='')}:{quote(self.password, safe='')}@{self.host}"

    def secrets(self) -> dict[str, str]:
        """Return {what it is: what to look for}.

        Of the password its middle, which no address, JSON or shell writes in another way; and the header that it makes.
        """
        pair = f"{self.user}:{self.password}".encode()
        return {
            "password": max(re.findall("[a-z0-9]+", self.password), key=len),
            "password, base64": base64.b64encode(pair).decode(),
            "token": self.token,
        }

    def fault(self, path: str) -> Fault | None:
        """Return the fault that this answer is to have, and count it."""
        for fault in self.faults:
            if re.search(fault.pattern, path) and fault.times != 0:
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None


class Handler(BaseHTTPRequestHandler):
    """Ask for the password, fetch from where this machine gets packages, hand on."""

    protocol_version = "HTTP/1.1"
    timeout = 120

    def do_GET(self) -> None:
        """Answer, or spoil the answer."""
        gate, path = self.server.gate, self.path
        token = f"/conda/t/{gate.token}/"
        expected = "Basic " + base64.b64encode(f"{gate.user}:{gate.password}".encode()).decode()
        if path.startswith(token):
            path = "/conda/" + path.removeprefix(token)
        elif self.headers.get("Authorization") != expected:
            gate.refused.append(path)
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="packages"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        gate.served.append(path)
        fault = gate.fault(path)
        if fault and fault.kind == "cut":
            self.close_connection = True
            return
        status, body, kind = (503, b"busy", "text/plain") if fault and fault.kind == "unavailable" else self.server.fetch(path)
        if fault and fault.kind == "corrupted":
            body = body[:-1] + bytes([body[-1] ^ 1])
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        half = len(body) // 2
        with contextlib.suppress(OSError):  # the client may have gone: that is what some faults are for
            self.wfile.write(body[:half])
            if fault and fault.kind == "truncated":
                self.close_connection = True
                return
            if fault and fault.kind == "slow":
                time.sleep(fault.seconds)
            self.wfile.write(body[half:])

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing: the tests read `served` and `refused`."""


class Server(ThreadingHTTPServer):
    """The server's thread pool, and its way to the packages."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, place: tuple[str, int], gate: Gate, channel: str, index: str) -> None:
        super().__init__(place, Handler)
        self.gate, self.channel, self.index = gate, channel, index
        self.kept: dict[str, tuple[int, bytes, str]] = {}
        self.links: dict[str, str] = {}

    def fetch(self, path: str) -> tuple[int, bytes, str]:
        """Return (status, body, content type) of what a path stands for."""
        if path.startswith("/conda/"):
            return self._ask(self.channel + path.removeprefix("/conda"))
        if path.startswith("/simple/"):
            status, body, kind = self._ask(self.index.rstrip("/") + path.removeprefix("/simple"), "text/html")
            return status, self._own_links(body.decode(), self.index.rstrip("/") + path.removeprefix("/simple")).encode(), kind
        if path.startswith("/files/"):
            key, _, name = path.removeprefix("/files/").partition("/")
            if key in self.links:
                suffix = ".metadata" if name.endswith(".metadata") else ""
                return self._ask(self.links[key] + suffix)
        return 404, b"", "text/plain"

    def _own_links(self, page: str, base: str) -> str:
        def own(match: re.Match) -> str:
            url, _, digest = html.unescape(match[1]).partition("#")
            url = urljoin(base, url)
            key = hashlib.sha256(url.encode()).hexdigest()[:24]
            self.links[key] = url
            return f'href="/files/{key}/{url.rsplit("/", 1)[-1]}{"#" + digest if digest else ""}"'

        return re.sub(r'href="([^"]*)"', own, page)

    def _ask(self, url: str, accept: str = "*/*") -> tuple[int, bytes, str]:
        if url not in self.kept:
            request = urllib.request.Request(url, headers={"Accept": accept, "User-Agent": "couplet-gate"})
            try:
                with urllib.request.urlopen(request, timeout=120) as answer:
                    kind = answer.headers.get("Content-Type", "application/octet-stream")
                    self.kept[url] = answer.status, answer.read(), kind
            except urllib.error.HTTPError as error:
                return error.code, b"", "text/plain"
            except OSError as error:
                return 502, str(error).encode(), "text/plain"
        return self.kept[url]

    def handle_error(self, *_: object) -> None:
        """A client that went away, or that does not trust the certificate, is no error of ours."""


@contextlib.contextmanager
def running(gateway: str, folder: Path, *, expired: bool = False, fresh: bool = False) -> Iterator[Gate]:
    """A company's mirror for the length of a block, on the address at which containers reach this machine.

    Its CA's certificate is written into `folder`. With `expired`, its own certificate was good until yesterday: what
    a machine with a wrong clock sees of a good one. With `fresh`, its port is one that no client's cache knows.
    """
    authority = trustme.CA()
    bundle = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    until = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1) if expired else None
    certificate = authority.issue_cert(gateway, not_after=until)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    # one that has to be percent-encoded in an address
    password = f"p@ss/{secrets.token_hex(8)}:%&"
    gate = Gate("", bundle, "ada", password, f"tk-{secrets.token_hex(8)}")
    values = settings.read() if settings.FILE.exists() else {}
    condarc = Path(values["CONDARC"]).read_text() if "CONDARC" in values else ""
    alias = re.search(r"^channel_alias: *(\S+)", condarc, re.M)
    server = _bind(gateway, gate, alias[1] if alias else CONDA_PUBLIC, fresh)
    # the handshake in the connection's own thread: one slow client must not keep the others out
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    gate.address = f"https://{gateway}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield gate
    finally:
        server.shutdown()
        server.server_close()


def _bind(gateway: str, gate: Gate, channel: str, fresh: bool) -> Server:
    # the same port for the same checkout: caches that are kept by address do not grow with every run
    wanted = 0 if fresh else 20000 + int(cache.key(str(cache.REPOSITORY))[:4], 16) % 10000
    index = settings.package_index()
    try:
        return Server((gateway, wanted), gate, channel, index)
    except OSError:
        return Server((gateway, 0), gate, channel, index)
