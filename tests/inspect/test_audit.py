"""The audit: whose a vulnerability is, what the ignore list does, and what is said when there is no answer."""

from __future__ import annotations

import datetime
import json
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError

import pytest

from couplet.formats import conda_lock
from couplet.inspect import audit
from couplet.inspect import osv as client
from couplet.inspect.audit import FOUND, NOTHING, UNAVAILABLE, USAGE, Ignored, Item
from tests.inspect import projects
from tests.mirror import osv
from tests.mirror.gate import Fault

TODAY = datetime.date(2026, 6, 1)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Ask again at once, and with none of this machine's passwords."""
    monkeypatch.setattr(client, "sleep", lambda seconds: None)
    monkeypatch.setenv("NETRC", "/dev/null")


@pytest.fixture
def service():
    """An OSV service that knows nothing yet."""
    with osv.running("127.0.0.1") as running:
        yield running


def made(folder: Path, pyproject: str = "", **packages: dict) -> Path:
    """A project without conda: tabulate for main, iniconfig for development, and `packages`."""
    folder = projects.project(folder, conda=False, pyproject=pyproject)
    projects.poetry_lock(folder, {"tabulate": {}, "iniconfig": {"groups": ["dev"]}, **packages})
    return folder


# --- answers ---------------------------------------------------------------------------------------


def test_nothing_known_is_zero_and_everything_was_asked_about(tmp_path, service):
    code, text, data = audit.audit(made(tmp_path / "p"), service.address, TODAY)
    assert code == NOTHING and text == (
        f"Asked {service.address} about 2 Python packages: of Poetry's.\n\nNo known vulnerabilities.\n"
    )
    assert dict(service.asked) == {"tabulate": "2.0", "iniconfig": "2.0"}
    assert {item["name"]: item["owner"] for item in data["asked"]} == {"tabulate": "Poetry", "iniconfig": "Poetry, dev"}


def test_what_is_known_is_one_with_owner_version_and_way_out(tmp_path, service):
    service.know("tabulate", "GHSA-made-upgh-sa01", fixed="2.5", aliases=("CVE-0000-0001",))
    service.know("iniconfig", "PYSEC-0000-2")
    service.know("iniconfig", "PYSEC-0000-3", fixed="1.0")
    code, text, data = audit.audit(made(tmp_path / "p"), service.address, TODAY)
    assert code == FOUND and text.splitlines()[2:6] == [
        "package    version  owner        known as                           fixed in  to update it",
        "iniconfig  2.0      Poetry, dev  PYSEC-0000-2                       none yet  make env-update PKG=iniconfig",
        "tabulate   2.0      Poetry       CVE-0000-0001 GHSA-made-upgh-sa01  2.5       make env-update PKG=tabulate",
        "",
    ]
    assert "Known vulnerabilities: 2, in 2 packages." in text and len(data["found"]) == 2


def test_a_local_version_has_the_faults_of_its_release_and_two_versions_are_both_asked_about(tmp_path, service):
    markers = [{"markers": "sys_platform == 'linux' and platform_machine == '%s'" % m} for m in ("x86_64", "aarch64")]  # noqa: UP031
    folder = made(tmp_path / "p", torch={"version": "2.5.1+cu121", **markers[0]})
    text = (folder / "poetry.lock").read_text()
    projects.poetry_lock(folder, {"torch": {"version": "2.4.0", **markers[1]}})
    other = (folder / "poetry.lock").read_text().partition("[metadata]")[0]
    (folder / "poetry.lock").write_text(other + text)
    service.know("torch", "PYSEC-0000-1", fixed="2.5.0")
    code, text, _ = audit.audit(folder, service.address, TODAY)
    assert code == FOUND and {v for n, v in service.asked if n == "torch"} == {"2.5.1", "2.4.0"}
    assert [line.split()[1] for line in text.splitlines() if line.startswith("torch ")] == ["2.4.0"]


def test_what_is_no_release_or_private_is_asked_of_nobody(tmp_path, service):
    folder = made(
        tmp_path / "p",
        '[tool.couplet.audit]\nprivate = ["Tabul*"]\n',
        floe={"source": {"type": "git", "url": "https://example.com/floe"}},
        brine={"version": "no version"},
    )
    code, text, data = audit.audit(folder, service.address, TODAY)
    assert code == NOTHING and dict(service.asked) == {"iniconfig": "2.0"}
    assert "Not covered: tabulate is private, says [tool.couplet.audit]." in text
    assert "Not covered: floe comes from git, which is not a release." in text
    assert data["not_covered"]["brine"] == "has a version that is not valid in Python: no version"


# --- conda's half ----------------------------------------------------------------------------------


def record(name: str, version: str = "1", depends: tuple[str, ...] = ("python",)) -> conda_lock.Record:
    """Return a package of conda.lock."""
    return conda_lock.Record(
        name, version, "0", f"https://c.invalid/x/noarch/{name}-{version}-0.conda", "0" * 32, "0" * 64, depends, "", 0, 0
    )


def test_condas_packages_are_asked_about_by_what_they_hold(monkeypatch):
    locked = {
        "linux-64": {
            r.name: r for r in (record("python", "3.13", ()), record("msgpack-python"), record("scipy", "2"), record("fonts"))
        },
        "osx-arm64": {r.name: r for r in (record("msgpack-python"), record("scipy", "1"))},
    }
    asked = []

    def held(records):
        asked.extend(sorted((r.name, r.version) for r in records))
        own = {"msgpack-python": {"msgpack": "1"}, "fonts": {}}
        return {r.url.rsplit("/", 1)[-1]: own.get(r.name, {r.name: r.version}) for r in records}

    monkeypatch.setattr(audit, "distributions", held)
    items, without = audit.of_conda(locked)
    assert items["osx-arm64"] == [Item("msgpack", "1", "conda", "msgpack-python"), Item("scipy", "1", "conda", "scipy")]
    assert Item("scipy", "2", "conda", "scipy") in items["linux-64"] and without == ["fonts", "python"]
    # once for each version, and not of what cannot hold a distribution
    assert asked == [("fonts", "1"), ("msgpack-python", "1"), ("scipy", "1"), ("scipy", "2")]


def test_what_conda_installs_is_not_poetrys(tmp_path, monkeypatch, service):
    """numpy is in both locks; on the platform where conda does not hold it, it is Poetry's."""
    folder = projects.project(tmp_path / "p", conda=True)
    python = ("python", "3.13.2", (), "")
    projects.conda_lock(folder, {"linux-64": [python, ("numpy", "2.0", ("python",), "")], "linux-aarch64": [python]})
    projects.poetry_lock(folder, {"numpy": {"version": "2.1"}, "tabulate": {}})
    monkeypatch.setattr(audit, "distributions", lambda records: {"numpy-2.0-0.conda": {"numpy": "2.0"}} if records else {})
    items, _, without = audit.locked_items(folder)
    assert items == [
        Item("numpy", "2.0", "conda", "numpy"), Item("numpy", "2.1", "Poetry", "numpy"), Item("tabulate", "2.0", "Poetry", "tabulate"),
    ]  # fmt: skip
    assert without == ["python"]
    projects.conda_lock(folder, {"linux-64": [python, ("numpy", "2.0", ("python",), "")]})
    assert [item.owner for item in audit.locked_items(folder)[0]] == ["conda", "Poetry"], "the negative control"


def test_what_dev_alone_has_is_asked_about_too(tmp_path, monkeypatch):
    folder = projects.project(tmp_path / "p", conda=True)
    python = ("python", "3.13.2", (), "")
    projects.conda_lock(folder, {"linux-64": [python]}, {"linux-64": [python, ("ipdb", "1.0", ("python",), "")]})
    projects.poetry_lock(folder, {})
    monkeypatch.setattr(audit, "distributions", lambda records: {"ipdb-1.0-0.conda": {"ipdb": "1.0"}} if records else {})
    assert Item("ipdb", "1.0", "conda", "ipdb") in audit.locked_items(folder)[0]


# --- what is asked, and what an answer means -------------------------------------------------------


def test_all_are_asked_about_at_once_and_each_vulnerability_is_read_once(tmp_path, service):
    for name in ("tabulate", "iniconfig"):
        service.know(name, f"PYSEC-0000-{name}")
    audit.audit(made(tmp_path / "p"), service.address, TODAY)
    assert sorted(service.requests) == ["/v1/querybatch", "/v1/vulns/PYSEC-0000-iniconfig", "/v1/vulns/PYSEC-0000-tabulate"]


def test_more_than_one_request_holds_are_asked_in_several(service, monkeypatch):
    monkeypatch.setattr(client, "MOST", 2)
    packages = [(name, "1.0") for name in "abcde"]
    service.know("d", "PYSEC-1")
    found = client.ask(service.address, packages)
    assert found.keys() == set(packages) and service.requests.count("/v1/querybatch") == 3
    assert [package for package, known in found.items() if known] == [("d", "1.0")]


def test_answers_in_pages_are_read_to_the_end(service):
    for number in range(5):
        service.know("a", f"PYSEC-{number}")
    service.know("b", "PYSEC-9")
    service.page = 2
    found = client.ask(service.address, [("a", "1.0"), ("b", "1.0")])
    assert [known.names[0] for known in found["a", "1.0"]] == [f"PYSEC-{number}" for number in range(5)]
    assert [known.names[0] for known in found["b", "1.0"]] == ["PYSEC-9"], "the negative control: what has no further page"


def test_advisories_that_share_a_name_are_one_vulnerability(service):
    service.know("a", "GHSA-1", fixed="2.0", aliases=("CVE-1",))
    service.know("a", "GHSA-2", fixed="2.1")
    service.know("a", "PYSEC-1", fixed="1.5", aliases=("CVE-1", "GHSA-3"))
    service.know("a", "GHSA-4", fixed="0.1")
    service.know("a", "GHSA-5", withdrawn="2026-01-02T00:00:00Z")
    found = client.ask(service.address, [("a", "1.0")])["a", "1.0"]
    assert [(known.names, known.fixed_in) for known in found] == [
        (["PYSEC-1", "CVE-1", "GHSA-1", "GHSA-3"], ["1.5", "2.0"]), (["GHSA-2"], ["2.1"]),
    ]  # fmt: skip


def test_an_advisory_without_ranges_has_no_fixed_version(service):
    """And neither has one whose fix is of another package, ecosystem or kind."""
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.0"}]}]
    others = [
        {"package": {"name": "a", "ecosystem": "PyPI"}, "versions": ["1.0"], "ranges": [{"type": "GIT", "events": [{"fixed": "9f"}]}]},
        {"package": {"name": "b", "ecosystem": "PyPI"}, "ranges": ranges},
        {"package": {"name": "a", "ecosystem": "Debian:12"}, "ranges": ranges},
    ]  # fmt: skip
    service.know("a", "PYSEC-1", affected=others)
    assert client.ask(service.address, [("a", "1.0")])["a", "1.0"][0].fixed_in == []
    service.know("a", "PYSEC-2", affected=[*others, {"package": {"name": "A", "ecosystem": "PyPI"}, "ranges": ranges}])
    assert client.ask(service.address, [("a", "1.0")])["a", "1.0"][1].fixed_in == ["3.0"], "the negative control"


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/query", "/v1/query/"])
def test_an_address_may_end_as_pip_audit_had_it(end):
    assert client.address(f"https://ada:pw@osv.example.com/api{end}") == "https://ada:pw@osv.example.com/api"


# --- the ignore list -------------------------------------------------------------------------------

ENTRY = {"id": '"CVE-0000-0001"', "package": '"Tabulate"', "reason": '"ours are not foreign"', "until": "2999-12-31"}


def ignoring(**changed: str) -> str:
    """Return an entry of the ignore list as TOML; '' leaves a key out."""
    lines = [f"{key} = {value}" for key, value in {**ENTRY, **changed}.items() if value]
    return "\n".join(["[[tool.couplet.audit.ignore]]", *lines, ""])


def test_what_is_ignored_is_said_and_is_no_error(tmp_path, service):
    service.know("tabulate", "GHSA-made-upgh-sa01", aliases=("CVE-0000-0001",))
    code, text, data = audit.audit(made(tmp_path / "p", ignoring()), service.address, TODAY)
    assert code == NOTHING and "Ignored until 2999-12-31: CVE-0000-0001 of tabulate 2.0 (ours are not foreign)" in text
    assert data["ignored"][0]["reason"] == "ours are not foreign"


def rule(**changed) -> Ignored:
    """Return an entry of the ignore list."""
    return Ignored(**{"id": "CVE-1", "package": "tabulate", "reason": "why", "until": TODAY, **changed})


NO_LONGER = {
    "its date is over": (rule(until=TODAY - datetime.timedelta(days=1)), "was ignored until 2026-05-31, which is past (why)"),
    "it is another package's": (rule(package="other"), "CVE-1 of other is ignored and not found: take it out of"),
    "it is another one": (rule(id="CVE-2"), "CVE-2 of tabulate is ignored and not found: take it out of"),
}


@pytest.mark.parametrize("why", NO_LONGER)
def test_what_is_ignored_no_longer_counts_and_is_said(why):
    found = [{"package": "tabulate", "id": "GHSA-1", "aliases": ["CVE-1"]}]
    counts, quiet, notes = audit.sort_out(found, [rule()], TODAY)
    assert (counts, notes) == ([], []) and quiet[0]["until"] == "2026-06-01", "the last day is in"
    entry, note = NO_LONGER[why]
    counts, quiet, notes = audit.sort_out(found, [entry], TODAY)
    assert counts == found and quiet == [] and note in notes[0]


WRONG = {
    "no reason": (ignoring(reason=""), "number 1 has no reason"),
    "an empty reason": (ignoring(reason='""'), "number 1 has no reason"),
    "a date in quotes": (ignoring(until='"2999-12-31"'), "until is a date without quotes"),
    "a date with a time": (ignoring(until="2999-12-31T00:00:00"), "until is a date without quotes"),
    "a key that is none": (ignoring(since='"ever"'), "since is not known. Known are id, package, reason, until"),
    "another list": ("[tool.couplet.audit.ignored]\n", "ignored is not known. Known are ignore, private and deny"),
    "names that are none": ("[tool.couplet.audit]\nprivate = 'corp-*'\n", "private is a list of names"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_table_is_an_error_that_names_the_key_and_asks_nobody(tmp_path, service, what):
    toml, message = WRONG[what]
    code, text, data = audit.audit(made(tmp_path / "p", toml), service.address, TODAY)
    assert code == USAGE and text.startswith("ERROR: pyproject.toml, [") and message in text
    assert service.asked == [] and data["error"] in text


def test_an_entry_is_read_with_its_name_normalised(tmp_path):
    ignored, private, _ = audit.table(made(tmp_path / "p", ignoring() + '[tool.couplet.audit]\nprivate = ["Corp_*"]\n'))
    assert ignored == [Ignored("CVE-0000-0001", "tabulate", "ours are not foreign", datetime.date(2999, 12, 31))]
    assert private == ["corp-*"]


# --- a service that gives no answer ----------------------------------------------------------------


def not_checked(outcome: tuple[int, str, dict], address: str, why: str) -> None:
    """Assert that there is no audit, that the message says why, and that nothing looks like an all-clear."""
    code, text, data = outcome
    assert code == UNAVAILABLE and f"\n  {why}" in text, text
    assert f"Request to {address}:\n" in text and "OSV_URL=" in text and "could not be checked" in text
    assert "No known vulnerabilities" not in text and "found" not in data and "Traceback" not in text


def test_a_service_that_does_not_listen_is_neither_found_nor_nothing(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    outcome = audit.audit(made(tmp_path / "p"), address, TODAY)
    not_checked(outcome, address, "nobody listens there (connection refused)")


SPOILED = {
    "unavailable": "it answers HTTP 503",
    "truncated": "its answer was cut short, or is not in OSV's format",
    "cut": "it ended the connection without an answer",
}


@pytest.mark.parametrize("path", ["querybatch", "vulns"])
@pytest.mark.parametrize("kind", SPOILED)
def test_a_service_with_a_fault_is_asked_again_and_then_named(tmp_path, service, kind, path):
    """In the midst of the answers too: what was known of the packages before is no audit."""
    service.know("tabulate", "PYSEC-0000-1")
    service.faults = [Fault(path, kind, times=1)]
    folder = made(tmp_path / "p")
    assert audit.audit(folder, service.address, TODAY)[0] == FOUND, "once is no reason to give up"
    service.faults = [Fault(path, kind)]
    not_checked(audit.audit(folder, service.address, TODAY), service.address, SPOILED[kind])


def test_a_service_that_says_nothing_is_not_waited_for(tmp_path, service, monkeypatch):
    monkeypatch.setattr(client, "PATIENCE", 0.2)
    service.faults = [Fault("", "slow", seconds=1)]
    outcome = audit.audit(made(tmp_path / "p"), service.address, TODAY)
    not_checked(outcome, service.address, "no answer within 0.2 seconds")


ANSWERS = [[], {}, {"results": []}, {"results": [{}]}, {"results": [{"vulns": [{"modified": "x"}]}, {}]}, {"results": [[], []]}]


@pytest.mark.parametrize("answer", ANSWERS, ids=map(str, range(len(ANSWERS))))
def test_an_answer_that_is_none_of_osvs_is_no_all_clear(tmp_path, monkeypatch, answer):
    monkeypatch.setattr(client, "call", lambda *words: answer)
    outcome = audit.audit(made(tmp_path / "p"), "https://osv.example.com", TODAY)
    not_checked(outcome, "https://osv.example.com", client.UNREAD)
    monkeypatch.setattr(client, "call", lambda *words: {"results": [{}, {}]})
    assert audit.audit(tmp_path / "p", "https://osv.example.com", TODAY)[0] == NOTHING, "the negative control"


def test_who_is_refused_asks_once_and_the_password_is_not_shown(tmp_path, monkeypatch):
    with osv.running("127.0.0.1", login=("ada", "sec/ret@")) as service:
        wrong = service.address.replace("://", "://ada:guess@")
        outcome = audit.audit(made(tmp_path / "p"), wrong, TODAY)
        shown = wrong.replace("ada:guess", "***")
        not_checked(outcome, shown, "it answers HTTP 401. User name and password go into .netrc: machine 127.0.0.1")
        assert service.refused == 1 and "guess" not in json.dumps(outcome)
        assert audit.audit(tmp_path / "p", wrong.replace("guess", "sec%2Fret%40"), TODAY)[0] == NOTHING
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login ada password sec/ret@\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        assert audit.audit(tmp_path / "p", service.address, TODAY)[0] == NOTHING
        (tmp_path / "netrc").write_text("machine\n")
        not_checked(audit.audit(tmp_path / "p", service.address, TODAY), service.address, ".netrc cannot be read: ")


def test_a_certificate_that_is_not_known_is_named_and_ones_own_is_taken(tmp_path, monkeypatch):
    with osv.running("127.0.0.1", tls=tmp_path) as service:
        outcome = audit.audit(made(tmp_path / "p"), service.address, TODAY)
        not_checked(outcome, service.address, "its certificate is not known here (")
        assert "Your own CA: SSL_CERT_FILE=/path/to/ca.pem" in outcome[1]
        monkeypatch.setenv("SSL_CERT_FILE", str(service.authority))
        assert audit.audit(tmp_path / "p", service.address, TODAY)[0] == NOTHING


def test_an_address_that_is_none_of_osvs_is_named(tmp_path, service):
    address = f"{service.address}/elsewhere"
    not_checked(audit.audit(made(tmp_path / "p"), address, TODAY), address, "it answers HTTP 404. Is the address right?")
    for address in ("osv.example.com", "file:///etc/passwd"):
        outcome = audit.audit(tmp_path / "p", address, TODAY)
        not_checked(outcome, address, "that is not an address. Example: https://")


def test_an_advisory_in_another_schema_is_no_all_clear(tmp_path, service):
    service.know("tabulate", "PYSEC-0000-1", schema_version="2.0.0")
    outcome = audit.audit(made(tmp_path / "p"), service.address, TODAY)
    not_checked(outcome, service.address, "it answers in a form that is not known here (PYSEC-0000-1 in schema 2.0.0)")


RAISED = {
    "no answer within 30 seconds": URLError(TimeoutError("timed out")),
    "the proxy does not let it through (Tunnel connection failed: 403 Forbidden)": URLError(
        OSError("Tunnel connection failed: 403 Forbidden")
    ),
    "no name server knows osv.example.com": URLError(socket.gaierror(-2, "Name or service not known")),
    "SSLError: ('handshake failure',)": URLError(ssl.SSLError("handshake failure")),
    "OSError: nobody has seen it": OSError("nobody has seen it"),
}
"""What is said, and what was raised; these take minutes or a proxy to come about."""


@pytest.mark.parametrize("why", RAISED)
def test_an_error_is_said_in_plain_words(why):
    assert client.reason(RAISED[why], "osv.example.com") == why


def test_the_verb_writes_three_files_whatever_the_exit_code(tmp_path, monkeypatch, service):
    folder, out = made(tmp_path / "p"), tmp_path / "out"
    monkeypatch.setattr(client, "SERVICE", service.address)
    monkeypatch.setattr(audit.network, "apply", lambda: None)
    for expected in (NOTHING, FOUND):
        audit.main(["--project", str(folder), "--out", str(out)])
        assert (out / "audit.exit").read_text() == f"{expected}\n"
        assert bool(json.loads((out / "audit.json").read_text())["found"]) == bool(expected)
        assert ("No known" in (out / "audit.txt").read_text()) != bool(expected)
        service.know("tabulate", "PYSEC-0000-1")


class Elsewhere(BaseHTTPRequestHandler):
    """Sends whoever asks at /moved/... to /v1/..., and notes who came with a password."""

    def do_GET(self) -> None:
        self.server.came.append((self.path, bool(self.headers.get("Authorization"))))
        moved = self.path.startswith("/moved")
        self.send_response(302 if moved else 200)
        if moved:
            self.send_header("Location", f"http://localhost:{self.server.server_port}/v1/elsewhere")
        self.end_headers()
        if not moved:
            self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_the_password_is_not_for_whom_the_service_redirects_to():
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        server.came = []
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        client.call(f"http://ada:secret@127.0.0.1:{server.server_port}/moved", "/v1/vulns/X")
        server.shutdown()
    assert server.came == [("/moved/v1/vulns/X", True), ("/v1/elsewhere", False)]
