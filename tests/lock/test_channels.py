"""Channels where a company has them: another address, a password, a token, a certificate; and the locks say none of it."""

from __future__ import annotations

import base64
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

from couplet.errors import UserError
from couplet.lock import channels
from couplet.lock.channels import PUBLIC, Conda

from .folders import PACKAGES, Folder, channel, package, project, write_channel

__all__ = ["channel", "project"]

PASSWORD = "p@ss/a1b2:%&"
"""One that has to be percent-encoded in an address."""
TOKEN = "tk-c3d4"


class Handler(SimpleHTTPRequestHandler):
    """The files below /conda, for those who have the password or the token."""

    def do_GET(self) -> None:
        expected = "Basic " + base64.b64encode(f"ada:{PASSWORD}".encode()).decode()
        allowed = self.headers.get("Authorization") == expected or f"/t/{TOKEN}/" in self.path
        self.path = self.path.replace(f"/t/{TOKEN}/", "/")
        if allowed:
            super().do_GET() if self.command == "GET" else super().do_HEAD()
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="packages"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serve(folder: Path, context: ssl.SSLContext | None = None) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that does not trust us is no error of ours
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"localhost:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def company(tmp_path) -> Iterator[str]:
    """The host and port of a server with a channel called conda-forge, and one that is another's beginning."""
    write_channel(tmp_path / "served/conda/conda-forge", PACKAGES)
    write_channel(tmp_path / "served/conda/conda", [package("mine", "1.0")])
    yield from serve(tmp_path / "served")


def asked(project, conda: Conda, *names: str) -> Folder:
    folder = project(conda=conda)
    folder.ask("python", "numpy", channels=names or ["conda-forge"])
    return folder


def ways(host: str) -> dict[str, dict[str, str]]:
    """Return conda's mapping for each way to say where packages are, as conda has it from .condarc."""
    address = f"http://ada:{quote(PASSWORD, safe='')}@{host}/conda"
    return {
        "a password in channel_alias": {PUBLIC: address},
        "a token in channel_alias": {PUBLIC: f"http://{host}/conda/t/{TOKEN}"},
        "a password in custom_channels": {PUBLIC: "http://localhost:1", f"{PUBLIC}/conda-forge": f"{address}/conda-forge"},
        "netrc": {PUBLIC: f"http://{host}/conda"},
    }


@pytest.fixture
def netrc(tmp_path, monkeypatch) -> Path:
    """The file that NETRC names, as network.apply() has it."""
    path = tmp_path / "netrc"
    path.write_text("machine example.org login nobody password none\n")
    monkeypatch.setenv("NETRC", str(path))
    return path


@pytest.mark.parametrize("way", ways(""))
def test_the_lock_is_the_one_made_without_a_company_and_names_nobody(project, company, netrc, way):
    if way == "netrc":
        netrc.write_text(f"machine localhost login ada password {PASSWORD}\n")
    folder = asked(project, Conda(ways(company)[way]))
    assert folder.versions() == {"numpy": "2.4.6", "openssl": "3.6.0", "python": "3.13.5"}
    text = (folder.path / "conda.lock").read_text()
    assert f"{PUBLIC}/conda-forge/linux-64/numpy-2.4.6-py313_0.conda" in text
    assert not any(word in text for word in ("localhost", "ada", "a1b2", TOKEN))

    # by another way, or none, it moves nothing
    netrc.write_text(f"machine localhost login ada password {PASSWORD}\n")
    again = Folder(folder.path.parent / "again", "", ["linux-64"], Conda(ways(company)["netrc"]))
    again.ask("python", "conda-forge::numpy", channels=["conda-forge"])
    (again.path / "conda.lock").write_text(text)
    again.lock()
    assert (again.path / "conda.lock").read_text() == text


@pytest.mark.parametrize("wrong", ["http://ada:wrong-one@{}/conda", "http://{}/conda", "http://{}/conda/t/tk-wrong"])
def test_without_the_password_it_says_so_and_does_not_say_it(project, company, netrc, wrong):
    """The negative control of the ways in."""
    folder = asked(project, Conda({PUBLIC: wrong.format(company)}))
    with pytest.raises(UserError) as error:
        folder.lock()
    said = str(error.value)
    assert "channels: conda-forge (http://" in said and "answers 401 (Unauthorized)" in said and ".netrc" in said
    assert "wrong-one" not in said and "tk-wrong" not in said and not (folder.path / "conda.lock").exists()


def test_an_address_in_environment_yml_that_stands_for_a_public_one_is_locked_as_that(project, company, netrc):
    address = ways(company)["a password in channel_alias"][PUBLIC]
    folder = asked(project, Conda({PUBLIC: address}), f"{address}/conda-forge")
    folder.lock()
    text = (folder.path / "conda.lock").read_text()
    assert f"{PUBLIC}/conda-forge/linux-64/numpy" in text and "localhost" not in text and "a1b2" not in text


def test_an_address_of_the_companys_own_is_locked_without_its_password(project, company, netrc):
    address = f"http://ada:{quote(PASSWORD, safe='')}@{company}/conda/conda-forge"
    folder = asked(project, Conda({}), address)
    folder.lock()
    text = (folder.path / "conda.lock").read_text()
    assert f"http://{company}/conda/conda-forge/linux-64/numpy" in text and "a1b2" not in text


def test_a_channel_whose_name_begins_another_ones_is_not_mixed_up_with_it(project, company, netrc):
    netrc.write_text(f"machine localhost login ada password {PASSWORD}\n")
    folder = asked(project, Conda({PUBLIC: f"http://{company}/conda"}), "conda", "conda-forge")
    folder.ask("python", "mine", "conda-forge::numpy", channels=["conda", "conda-forge"])
    assert {"mine", "numpy"} <= folder.versions().keys()
    assert f"{PUBLIC}/conda/noarch/mine-1.0-0.conda" in (folder.path / "conda.lock").read_text()


def test_a_folder_may_stand_for_a_channel(project, tmp_path):
    address = write_channel(tmp_path / "disk/conda-forge", PACKAGES).removesuffix("/conda-forge")
    folder = asked(project, Conda({PUBLIC: address}))
    folder.ask("python", "conda-forge::numpy=2.3.5", channels=["conda-forge"])
    assert folder.versions()["numpy"] == "2.3.5"
    assert "file:" not in (folder.path / "conda.lock").read_text()
    folder.ask("python", "conda-forge::numpy", channels=["conda-forge"])
    assert folder.versions()["numpy"] == "2.3.5"


UNREACHABLE = {
    "nobody there": ("http://localhost:1/conda", "does not answer: Connection refused"),
    "no such host": ("http://nowhere.invalid/conda", "does not answer: "),
}


@pytest.mark.parametrize("case", UNREACHABLE)
def test_a_channel_that_does_not_answer_is_named(project, case):
    address, words = UNREACHABLE[case]
    with pytest.raises(UserError, match=f"channels: conda-forge \\({address}/conda-forge\\) {words}"):
        asked(project, Conda({PUBLIC: address})).lock()


def test_a_channel_that_is_none_is_named(project, company):
    with pytest.raises(UserError, match=r"channels: nochan .* is not a channel: it has no repodata.json \(404\)"):
        asked(project, Conda({PUBLIC: f"http://{company}/conda/t/{TOKEN}"}), "nochan").lock()


def test_a_certificate_of_the_companys_own(project, tmp_path, monkeypatch):
    """Known by SSL_CERT_FILE, as network.apply() sets it, or by ssl_verify of .condarc; else an error that says so."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    write_channel(tmp_path / "served/conda/conda-forge", PACKAGES)
    for host in serve(tmp_path / "served", context):
        mapping = {PUBLIC: f"https://{host}/conda/t/{TOKEN}"}
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert asked(project, Conda(mapping)).versions()["numpy"] == "2.4.6"
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "other.pem"))
        with pytest.raises(
            UserError, match=r"has a certificate that is not known here .*\nName your company's certificates in SSL_CERT_FILE"
        ):
            asked(project, Conda(mapping)).lock()
        assert asked(project, Conda(mapping, verify=str(tmp_path / "ca.pem"))).versions()["numpy"] == "2.4.6"


def test_names_are_condas():
    conda = Conda({PUBLIC: "https://mirror.example/conda"}, ["conda-forge", "bioconda"], ["pkgs/main", "pkgs/r"])
    assert [channel.public for channel in channels.resolved([], conda)] == [f"{PUBLIC}/conda-forge", f"{PUBLIC}/bioconda"]
    assert [channel.public for channel in channels.resolved(["defaults", "pkgs/r"], conda)] == [
        f"{PUBLIC}/pkgs/main",
        f"{PUBLIC}/pkgs/r",
    ]
    assert channels.resolve("https://example.org/t/abc/own/", conda) == (
        "https://example.org/t/abc/own/", "https://example.org/own", "https://example.org/t/abc/own"
    )  # fmt: skip


ENDS = """
import sys
from pathlib import Path
from couplet.errors import run
from couplet.lock import environment, solve
from couplet.lock.channels import Conda, PUBLIC

def main():
    solver = solve.Solver(environment.read(Path(sys.argv[1])), {}, Conda({PUBLIC: sys.argv[2]}), Path(sys.argv[1], "cache"))
    solve.lock_all(solver, ["linux-64"], solve.Previous({}, False, {}), set(), False)

run(main)
"""


def test_an_error_ends_it_while_other_requests_are_under_way(project):
    """They would bring the interpreter down when it ends ("Fatal Python error", code 134): run() ends it at once."""
    folder = asked(project, Conda({}))
    command = [sys.executable, "-c", ENDS, str(folder.path), "http://localhost:1/conda"]
    environment = {**os.environ, "PYTHONPATH": str(channels.PACKAGE), "PYTHONDONTWRITEBYTECODE": "1"}
    for started in [subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=environment) for _ in range(2)]:
        _, said = started.communicate()
        assert started.returncode == 1 and said.startswith("\nERROR: environment.yml, channels: conda-forge"), said
        assert "Fatal" not in said and "Traceback" not in said
