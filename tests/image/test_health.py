"""The health check of an app, against real servers: at a base URL, behind TLS, hanging, and gone."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme

from couplet.image import health


class Handler(BaseHTTPRequestHandler):
    """Answers at the server's `path`, and with 404 elsewhere."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == self.server.path else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def serve() -> Iterator[Callable[..., int]]:
    """A function that starts a server for a path, with TLS if asked for, and returns its port."""
    servers = []

    def start(path: str, secure: bool = False) -> int:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.path = path
        if secure:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            trustme.CA().issue_cert("lab.example.org").configure_cert(context)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server.server_port

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def ask(tmp_path) -> Callable[..., tuple[int, str]]:
    """A function that asks as Docker does, in an environment of its own; returns the exit code and what was said."""

    def run(port: int, path: str, **variables: str) -> tuple[int, str]:
        command = [sys.executable, str(Path(health.__file__)), str(port), path]
        environment = {"HOME": str(tmp_path), "http_proxy": "http://127.0.0.1:9", **variables}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
        return done.returncode, done.stderr.strip()

    return run


def jupyter(folder: Path, port: int, base_url: str, secure: bool = False) -> None:
    """Write what Jupyter writes of a server that it has started."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"jpserver-{port}.json").write_text(json.dumps({"port": port, "base_url": base_url, "secure": secure}))


def test_it_is_healthy_where_its_path_answers_with_200_alone(serve, ask):
    port = serve("/health")
    assert ask(port, "/health") == (0, "")
    assert ask(port, "/other") == (1, "/other answers 404")
    assert ask(1, "/health", PORT=str(port)) == (0, ""), "$PORT moves app and check"
    code, said = ask(1, "/health")
    assert code == 1 and said.startswith("/health does not answer: ConnectionRefusedError")


@pytest.mark.parametrize("secure", [False, True])
def test_jupyter_says_where_it_is(serve, ask, tmp_path, secure):
    """The negative control: without its own word, and with another server's, it is asked where it is not."""
    port = serve("/user/ice/api", secure)
    runtime = tmp_path / ".local/share/jupyter/runtime"
    jupyter(runtime, port + 1, "/user/ice/", secure)
    assert ask(port, "/api")[0] == 1
    jupyter(runtime, port, "/user/ice/", secure)
    assert ask(port, "/api") == (0, "")
    jupyter(tmp_path / "elsewhere", port, "/", secure)
    assert ask(port, "/api", JUPYTER_RUNTIME_DIR=str(tmp_path / "elsewhere"))[0] == 1


@pytest.mark.parametrize("secure", [False, True])
def test_streamlits_variables_count(serve, ask, secure):
    port = serve("/ice/_stcore/health", secure)
    certificate = {"STREAMLIT_SERVER_SSL_CERT_FILE": "/tls/cert.pem"} if secure else {}
    assert ask(port, "/_stcore/health", **certificate)[0] == 1
    assert ask(port, "/_stcore/health", STREAMLIT_SERVER_BASE_URL_PATH="ice", **certificate) == (0, "")


def test_what_jupyter_wrote_half_is_no_traceback(serve, ask, tmp_path):
    port = serve("/api")
    (tmp_path / ".local/share/jupyter/runtime").mkdir(parents=True)
    (tmp_path / ".local/share/jupyter/runtime/jpserver-1.json").write_text("{")
    code, said = ask(port, "/api")
    assert code == 1 and said.startswith("/api does not answer: JSONDecodeError")


def test_an_app_that_says_nothing_is_not_waited_for(ask):
    """It takes the connection, and no more, as a process that hangs does."""
    with socket.socket() as hangs:
        hangs.bind(("127.0.0.1", 0))
        hangs.listen()
        code, said = ask(hangs.getsockname()[1], "/health")
    assert code == 1 and said.startswith("/health does not answer: TimeoutError")
