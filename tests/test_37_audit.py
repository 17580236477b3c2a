"""Known vulnerabilities of both halves, by a real OSV service over made-up advisories; and what is said when it gives none."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import IMAGES, SMALL
from tests.harness import leaks, template
from tests.harness.checks import locked_by_poetry
from tests.harness.project import Project
from tests.mirror import engine, osv
from tests.mirror.gate import Fault
from tests.test_30_locks import edit

FOUND, USAGE, UNAVAILABLE = 1, 64, 69


def audit(project: Project, address: str, **variables: str) -> tuple[int, str]:
    """Run .couplet/host/audit.sh, as make does; return its exit code and what it printed after the build."""
    done = subprocess.run(
        [".couplet/host/audit.sh"], cwd=project.path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "PIP_AUDIT_OSV_URL": address, **variables}, text=True, timeout=600,
    )  # fmt: skip
    assert "Traceback" not in done.stdout, done.stdout[-4000:]
    assert not (project.path / "report/audit.exit").exists()
    print(done.stdout[-3000:])
    return done.returncode, re.sub(r"(?m)^(#\d+ .*)?\n", "", done.stdout)


def data(project: Project) -> dict:
    """What the audit wrote for programs."""
    return json.loads((project.path / "report/audit.json").read_text())


@pytest.fixture
def service(sources):
    """An OSV service that knows nothing yet, on an address that containers reach."""
    with osv.running(engine.gateway(engine.find())) as running:
        yield running


@pytest.fixture(scope="module")
def locked(template_repository, sources, tmp_path_factory) -> Project:
    """conda: idna, an old certifi, and msgpack under conda-forge's name; Poetry: tabulate, and iniconfig for development."""
    path = template.render(template_repository, tmp_path_factory.mktemp("audit") / "project", SMALL)
    project = Project(path, f"{IMAGES}-audit")
    edit(project, "environment.yml", "  - pip\n  - numpy\n  - scipy\n", "  - idna\n  - certifi=2026.4.22\n  - msgpack-python\n")
    edit(project, "pyproject.toml", '"pandas>=2.2",', '"tabulate",')
    edit(project, "pyproject.toml", '    "pytest>=8",\n    "ruff>=0.9",\n', '    "iniconfig",\n')
    project.make("env-update")
    return project


@pytest.fixture(scope="module")
def locked_by_poetry_alone(template_repository, sources, tmp_path_factory) -> Project:
    """Without conda: tabulate, and iniconfig for development."""
    answers = {**SMALL, "environment": "poetry"}
    path = template.render(template_repository, tmp_path_factory.mktemp("audit") / "project", answers)
    project = Project(path, f"{IMAGES}-audit-poetry")
    text = (path / "pyproject.toml").read_text()
    text = re.sub(r"(?s)^dependencies = \[.*?\n\]", 'dependencies = ["tabulate"]', text, flags=re.M)
    text = re.sub(r"(?s)^dev = \[.*?\n\]", 'dev = ["iniconfig"]', text, flags=re.M)
    (path / "pyproject.toml").write_text(text)
    project.make("env-update")
    return project


@pytest.fixture(params=["conda-poetry", "poetry"])
def project(request) -> Project:
    """A locked project of each kind."""
    return request.getfixturevalue("locked" if request.param == "conda-poetry" else "locked_by_poetry_alone")


def pinned(project: Project) -> dict[str, str]:
    """Return {distribution: version} of what conda holds, as the lock wrote it into pyproject.toml."""
    text = (project.path / "pyproject.toml").read_text()
    listing = re.search(r"(?s)^conda = \[(.*?)\]", text, re.M)
    return dict(line.split("==") for line in re.findall('"([^" ]+==[^" ]+)', listing[1])) if listing else {}


def test_nothing_known_is_zero_and_all_of_both_locks_was_asked_about(project, service):
    """In make's own words, and with how many packages of conda's nobody can look up."""
    code, shown = audit(project, service.address)
    assert code == 0 and "No known vulnerabilities.\n" in shown
    assert f"Asked {service.address} about" in shown
    poetry = {n: v for n, v in locked_by_poetry(project, {"main", "dev"}).items() if n not in pinned(project)}
    assert dict(service.asked) == pinned(project) | poetry and len(service.asked) == len(dict(service.asked))
    assert {"tabulate", "iniconfig"} <= poetry.keys()
    if project.conda:
        assert {"idna", "certifi", "msgpack"} <= pinned(project).keys()
        without = int(re.search(r"Not covered: (\d+) packages? of conda's that hold no Python distribution", shown)[1])
        owners = {item["package"] for item in data(project)["asked"] if item["owner"] == "conda"}
        assert without == len(project.locked_by_conda().keys() - owners) > 0
        assert "python" in data(project)["not_covered"] and "msgpack-python" in owners
    else:
        assert "conda" not in shown
    assert "No known vulnerabilities.\n" in project.make("audit", PIP_AUDIT_OSV_URL=service.address).output


FINDINGS = {
    "Poetry's": ("tabulate", "tabulate", "Poetry"),
    "the dev group's": ("iniconfig", "iniconfig", "Poetry, dev"),
    "conda's": ("idna", "idna", "conda"),
    "conda's under another name": ("msgpack", "msgpack-python", "conda"),
}


@pytest.mark.parametrize("whose", FINDINGS)
def test_what_is_known_is_one_with_owner_version_and_way_out(request, service, whose):
    name, package, owner = FINDINGS[whose]
    projects = ["locked"] + (["locked_by_poetry_alone"] if owner != "conda" else [])
    service.know(name, "GHSA-made-upgh-sa01", fixed="9999.1", aliases=("CVE-0000-0001",))
    service.know(name, "PYSEC-0000-2")
    # of another package, of a version that is long gone, and one that was taken back
    service.know("not-in-the-lock", "PYSEC-0000-3")
    service.know(name, "PYSEC-0000-4", fixed="0.0.1")
    service.know(name, "PYSEC-0000-5", withdrawn="2026-01-02T00:00:00Z")
    for fixture in projects:
        project = request.getfixturevalue(fixture)
        code, shown = audit(project, service.address)
        version = dict(service.asked)[name]
        assert code == FOUND and "Known vulnerabilities: 2, in 1 packages." in shown
        head, *rows = (re.split(r" {2,}", line) for line in shown.splitlines() if re.match(rf"(package|{name}) ", line))
        assert head == ["package", "version", "owner", "known as", "fixed in", "to move it"]
        assert sorted(rows) == [
            [name, version, owner, "CVE-0000-0001 GHSA-made-upgh-sa01", "9999.1", f"make env-update PKG={package}"],
            [name, version, owner, "PYSEC-0000-2", "none yet", f"make env-update PKG={package}"],
        ]
        assert {entry["id"] for entry in data(project)["found"]} == {"CVE-0000-0001", "PYSEC-0000-2"}
        assert "Known vulnerabilities: 2" in project.make("audit", fails=True, PIP_AUDIT_OSV_URL=service.address).output


def test_the_command_that_it_prints_moves_the_package(locked, copy_of, service):
    project = copy_of(locked)
    service.know("certifi", "PYSEC-0000-1", fixed="2026.10.18")
    code, shown = audit(project, service.address)
    assert code == FOUND
    [command] = re.findall(r"certifi .* (make env-update PKG=\S+)", shown)
    edit(project, "environment.yml", "certifi=2026.4.22", "certifi")
    project.make(*command.split()[1:])
    assert audit(project, service.address)[0] == 0


def test_every_platform_is_looked_up(render, sources, service):
    """scipy's newest release is not there for one platform, which holds the one before."""
    project = render(**{**SMALL, "platforms": ["linux-64", "osx-arm64"]})
    edit(project, "environment.yml", "  - pip\n  - numpy\n", "")
    edit(project, "pyproject.toml", '"pandas>=2.2",', '"tabulate",')
    edit(project, "pyproject.toml", '    "pytest>=8",\n    "ruff>=0.9",\n', "")
    project.make("env-update")
    service.know("scipy", "PYSEC-0000-1", fixed="1.16.4")
    code, shown = audit(project, service.address)
    versions = sorted(version for name, version in service.asked if name == "scipy")
    assert code == FOUND and len(versions) == 2 and versions[0] == "1.16.3"
    assert re.findall(r"^scipy +(\S+)", shown, re.M) == ["1.16.3"]


def test_a_local_version_has_the_faults_of_its_release(locked_by_poetry_alone, copy_of, service):
    """pytorch's own index calls its builds 2.5.1+cu121, which no advisory names."""
    project = copy_of(locked_by_poetry_alone)
    lock = (project.path / "poetry.lock").read_text()
    version = re.search(r'name = "tabulate"\nversion = "(\S+)"', lock)[1]
    (project.path / "poetry.lock").write_text(
        lock.replace(f'"tabulate"\nversion = "{version}"', f'"tabulate"\nversion = "{version}+cu121"')
    )
    service.know("tabulate", "PYSEC-0000-1", fixed="9999")
    code, shown = audit(project, service.address)
    assert code == FOUND and ("tabulate", version) in service.asked
    assert re.search(rf"^tabulate +{re.escape(version)}\+cu121 ", shown, re.M)


# --- the ignore list -------------------------------------------------------------------------------

IGNORE = '\n[[tool.couplet.audit.ignore]]\nid = "{id}"\npackage = "{package}"\nreason = "{reason}"\nuntil = {until}\n'


def ignoring(project: Project, **more: str) -> Project:
    """Add an entry to the project's ignore list."""
    entry = {"id": "CVE-0000-0001", "package": "tabulate", "reason": "no table of ours is foreign", "until": "2999-12-31", **more}
    with (project.path / "pyproject.toml").open("a") as file:
        file.write(IGNORE.format(**entry))
    return project


def test_what_is_ignored_is_said_and_is_no_error(project, copy_of, service):
    """By any of its names; and the locks do not depend on the list."""
    service.know("tabulate", "GHSA-made-upgh-sa01", aliases=("CVE-0000-0001",))
    ours = ignoring(copy_of(project), id="GHSA-made-upgh-sa01", package="Tabulate")
    code, shown = audit(ours, service.address)
    assert code == 0 and "No known vulnerabilities.\n" in shown
    version = dict(service.asked)["tabulate"]
    said = f"Ignored until 2999-12-31: CVE-0000-0001 of tabulate {version} (no table of ours is foreign)"
    assert said in shown and data(ours)["ignored"][0]["reason"] == "no table of ours is foreign"
    ours.make("env-check")


NO_LONGER = {
    "its date is over": ({"until": "2026-01-31"}, "CVE-0000-0001 of tabulate was ignored until 2026-01-31, which is over"),
    "it is another package's": ({"package": "iniconfig"}, "CVE-0000-0001 of iniconfig is ignored and not found: take it out"),
    "it is another one": ({"id": "CVE-0000-0009"}, "CVE-0000-0009 of tabulate is ignored and not found: take it out"),
}


@pytest.mark.parametrize("why", NO_LONGER)
def test_what_is_ignored_no_longer_is_found_and_said(locked_by_poetry_alone, copy_of, service, why):
    changed, note = NO_LONGER[why]
    service.know("tabulate", "CVE-0000-0001")
    code, shown = audit(ignoring(copy_of(locked_by_poetry_alone), **changed), service.address)
    assert code == FOUND and f"Note: {note}" in shown and "Known vulnerabilities: 1," in shown
    assert "Ignored until" not in shown


WRONG = {
    "no reason": ({"reason": ""}, "number 1 has no reason"),
    "a date in quotes": ({"until": '"2999-12-31"'}, "until is a date without quotes"),
    "a date with a time": ({"until": "2999-12-31T00:00:00"}, "until is a date without quotes"),
    "a key that is none": ({"until": '2999-12-31\nsince = "ever"'}, "there is no since, only id, package, reason, until"),
    "another list": ({"until": "2999-12-31\n[tool.couplet.audit.ignored]"}, "there is no ignored, only ignore and private"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_ignore_list_is_an_error_that_names_the_key(locked_by_poetry_alone, copy_of, service, what):
    changed, message = WRONG[what]
    code, shown = audit(ignoring(copy_of(locked_by_poetry_alone), **changed), service.address)
    assert code == USAGE and "ERROR: pyproject.toml, [" in shown and message in shown
    assert service.asked == []


def test_private_names_are_told_to_nobody(project, copy_of, service):
    ours = copy_of(project)
    with (ours.path / "pyproject.toml").open("a") as file:
        file.write('\n[tool.couplet.audit]\nprivate = ["Tabul*"]\n')
    code, shown = audit(ours, service.address)
    assert code == 0 and "tabulate" not in dict(service.asked) and "iniconfig" in dict(service.asked)
    assert "Not covered: tabulate is private" in shown


# --- a service that gives no answer ----------------------------------------------------------------


def says_what_to_do(project: Project, shown: str, address: str) -> None:
    """Assert that a message names what was asked and the ways out, and that nothing looks like an all-clear."""
    assert f"Asked was {address}\n" in shown and "PIP_AUDIT_OSV_URL=" in shown and "nothing is known" in shown
    assert "No known vulnerabilities" not in shown and "found" not in data(project)


def test_a_service_out_of_reach_is_neither_found_nor_nothing(locked, locked_by_poetry_alone, service):
    with socket.socket() as probe:
        probe.bind((engine.gateway(engine.find()), 0))
        closed = f"http://{':'.join(map(str, probe.getsockname()))}/v1/query"
    code, shown = audit(locked_by_poetry_alone, closed)
    assert code == UNAVAILABLE and "nobody listens there (connection refused)" in shown, shown
    says_what_to_do(locked_by_poetry_alone, shown, closed)
    nowhere = "https://osv.invalid/v1/query"
    shown = locked.make("audit", fails=True, PIP_AUDIT_OSV_URL=nowhere).output
    assert "no name server knows osv.invalid" in shown and "Error 69" in shown, shown
    says_what_to_do(locked, shown, nowhere)


SPOILED = {
    "unavailable": "it answers HTTP 503",
    "truncated": "its answer was cut short, or is none of OSV's",
    "cut": "it ended the connection without an answer",
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_service_with_a_fault_is_asked_again_and_then_named(locked_by_poetry_alone, service, kind):
    """In the midst of the answers: what was known of the packages before is no audit."""
    service.know("tabulate", "PYSEC-0000-1")
    service.faults = [Fault("", kind, times=1)]
    code, shown = audit(locked_by_poetry_alone, service.address)
    assert code == FOUND, f"once is no reason to give up: {shown}"
    service.faults = [Fault("", "slow", times=1, seconds=0), Fault("", kind)]
    code, shown = audit(locked_by_poetry_alone, service.address)
    assert code == UNAVAILABLE and SPOILED[kind] in shown, shown
    says_what_to_do(locked_by_poetry_alone, shown, service.address)


SAID = {
    "no answer within 30 seconds": "ERROR:pip_audit._cli:Could not connect to OSV's vulnerability feed\nERROR:pip_audit._cli:Tip: your …",
    "the proxy does not let it through": "  raise ProxyError(e)\nrequests.exceptions.ProxyError: HTTPSConnectionPool(host='x'): Tunnel failed",
    "some.new.Error: nobody has seen it": "Traceback (most recent call last):\n  timeout(1)\nsome.new.Error: nobody has seen it\n",
}
"""What is said, and what pip-audit said; these take minutes, or a proxy, to come about."""


@pytest.mark.parametrize("why", SAID)
def test_what_pip_audit_says_is_read_as_it_is_meant(why):
    words = [
        sys.executable,
        "-c",
        "import audit, sys; print(audit.explained(sys.argv[1], 'https://osv.example.com/v1/query', 3))",
    ]
    helpers = {**os.environ, "PYTHONPATH": str(template.REPOSITORY / "template/docker"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([*words, SAID[why]], env=helpers, check=True, capture_output=True, text=True)
    assert f"\n  {why}\n" in done.stdout


def test_an_address_that_is_none_of_osvs_is_named(locked_by_poetry_alone, service):
    address = service.address.removesuffix("/v1/query")
    code, shown = audit(locked_by_poetry_alone, address)
    assert code == UNAVAILABLE and "Is the address whole?" in shown
    says_what_to_do(locked_by_poetry_alone, shown, address)


def test_an_advisory_that_cannot_be_read_is_no_all_clear(locked_by_poetry_alone, service):
    service.know("tabulate", "PYSEC-0000-1", schema_version="2.0.0")
    code, shown = audit(locked_by_poetry_alone, service.address)
    assert code == UNAVAILABLE and "in a form that pip-audit does not read (Unsupported OSV schema version: 2.0.0)" in shown, (
        shown
    )


def test_a_password_and_a_private_ca_come_in_as_for_builds(project, sources, tmp_path):
    """From .netrc and SSL_CERT_FILE; without either the message says which is missing. And nothing keeps the password.

    What is said does not depend on conda, so conda's half stops early.
    """
    home = {"HOME": str(tmp_path), "NETRC": "", "REQUESTS_CA_BUNDLE": ""}
    (tmp_path / "both.pem").write_text("")
    password = f"pw{os.urandom(8).hex()}"
    with osv.running(engine.gateway(engine.find()), tls=tmp_path, login=("ada", password)) as service:
        # the public index is in reach by the machine's own bundle
        bundle = Path(os.environ["SSL_CERT_FILE"]).read_text() if os.environ.get("SSL_CERT_FILE") else ""
        (tmp_path / "both.pem").write_text(bundle + service.authority.read_text())
        trusted = {**home, "SSL_CERT_FILE": str(tmp_path / "both.pem")}
        service.know("tabulate", "PYSEC-0000-1")

        host = service.address.split("/")[2].split(":")[0]
        (tmp_path / "netrc").write_text(f"machine {host} login ada password {password}\n")
        (tmp_path / "netrc").chmod(0o600)
        code, shown = audit(project, service.address, **{**trusted, "NETRC": str(tmp_path / "netrc")})
        assert code == FOUND, shown
        if project.conda:
            return

        code, shown = audit(project, service.address, **home)
        assert code == UNAVAILABLE and "its certificate is not known here" in shown, shown
        says_what_to_do(project, shown, service.address)

        before = service.refused
        code, shown = audit(project, service.address, **trusted)
        assert code == UNAVAILABLE and "it answers HTTP 401" in shown and ".netrc" in shown, shown
        says_what_to_do(project, shown, service.address)
        assert service.refused == before + 1, "who is refused asks once"

        within = service.address.replace("https://", f"https://ada:{password}@")
        code, shown = audit(project, within, **trusted)
        assert code == FOUND and "https://***@" in shown, shown
        secrets = {"password": password}
        kept = leaks.in_files((project.path / "report").iterdir(), secrets).found
        assert leaks.named(shown.encode(), secrets) + kept + leaks.in_builder(secrets).found == []


def test_nobody_else_pays_for_it(project):
    """Of the stages, only the audit's own come from pip-audit's."""
    text = (project.path / "Dockerfile").read_text()
    assert re.findall(r"^FROM pip-audit AS (\S+)|from=pip-audit", text, re.M) == ["advisories"]
    assert re.findall(r"^.*\badvisories\b.*$", re.sub("(?m)^#.*", "", text), re.M) == [
        "FROM pip-audit AS advisories", "COPY --from=advisories /audit/ /",
    ]  # fmt: skip
