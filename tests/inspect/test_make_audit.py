"""`make audit` on real locks, over made-up advisories. What is asked, ignored and said: tests/inspect/test_audit.py."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import IMAGES, SMALL
from tests.harness import leaks, template
from tests.harness.checks import locked_by_poetry
from tests.harness.locks import edit
from tests.harness.project import Project
from tests.harness.soak import some
from tests.mirror import engine, osv

FOUND, UNAVAILABLE = 1, 69


def audit(project: Project, address: str, **variables: str) -> tuple[int, str]:
    """Run .couplet/host/audit.sh, as make does; return its exit code and what it printed after the build."""
    done = subprocess.run(
        [".couplet/host/audit.sh"], cwd=project.path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "OSV_URL": address, **variables}, text=True, timeout=600,
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


@pytest.fixture(params=some(["conda-poetry", "poetry"], "conda-poetry"))
def project(request, sources) -> Project:
    """A locked project of each kind. What the audit reads of a lock, and asks: tests/inspect/test_audit.py, of both kinds."""
    return request.getfixturevalue("locked" if request.param == "conda-poetry" else "locked_by_poetry_alone")


def pinned(project: Project) -> dict[str, str]:
    """Return {distribution: version} of what conda installs, as the lock wrote it into pyproject.toml."""
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
        without = int(re.search(r"Not covered: (\d+) packages? of conda's without a Python distribution", shown)[1])
        owners = {item["package"] for item in data(project)["asked"] if item["owner"] == "conda"}
        assert without == len(project.locked_by_conda().keys() - owners) > 0
        assert "python" in data(project)["not_covered"] and "msgpack-python" in owners
    else:
        assert "conda" not in shown
    assert "No known vulnerabilities.\n" in project.make("audit", PIP_AUDIT_OSV_URL=f"{service.address}/v1/query").output, (
        "as in 0.x"
    )


OWNERS = {
    "iniconfig": ("iniconfig", "Poetry, dev"),
    "tabulate": ("tabulate", "Poetry"),
    "idna": ("idna", "conda"),
    "msgpack": ("msgpack-python", "conda"),
}
"""Distribution -> the name that it is installed by, and who holds it."""


def test_what_is_known_is_one_with_owner_version_and_way_out(project, service):
    """The last of them is conda's under another name."""
    owners = {name: about for name, about in OWNERS.items() if project.conda or about[1] != "conda"}
    for name in owners:
        service.know(name, f"GHSA-{name}", fixed="9999.1", aliases=(f"CVE-{name}",))
        # of a version that is long gone, and one that was taken back
        service.know(name, f"PYSEC-{name}-1", fixed="0.0.1")
        service.know(name, f"PYSEC-{name}-2", withdrawn="2026-01-02T00:00:00Z")
    service.know("not-in-the-lock", "PYSEC-0000-3")
    code, shown = audit(project, service.address)
    count = len(owners)
    assert code == FOUND and f"Known vulnerabilities: {count}, in {count} packages." in shown
    rows = [re.split(r" {2,}", line) for line in shown.splitlines() if line.partition(" ")[0] in owners]
    assert sorted(rows) == sorted(
        [name, dict(service.asked)[name], owner, f"CVE-{name} GHSA-{name}", "9999.1", f"make env-update PKG={package}"]
        for name, (package, owner) in owners.items()
    )
    assert {entry["id"] for entry in data(project)["found"]} == {f"CVE-{name}" for name in owners}
    assert "Known vulnerabilities: " in project.make("audit", fails=True, OSV_URL=service.address).output


def test_a_denied_licence_is_found_in_both_locks(project, copy_of, service):
    """Poetry's packages name theirs in their wheels; conda's in the channel, where the closed network's say `see the package`."""
    copy = copy_of(project)
    with (copy.path / "pyproject.toml").open("a") as file:
        file.write('\n[tool.couplet.audit]\ndeny = ["MIT", "Python-2.0", "see *"]\n')
    code, shown = audit(copy, service.address)
    found = {entry["package"]: entry["owner"] for entry in data(copy)["denied"]}
    assert code == FOUND and found.items() >= {"tabulate": "Poetry", "iniconfig": "Poetry"}.items()
    assert found.get("python") == ("conda" if project.conda else None)
    assert "tabulate" in shown and '[tool.couplet.audit], deny: "MIT"' in shown
    # the negative control: a licence that nothing has
    edit(copy, "pyproject.toml", 'deny = ["MIT", "Python-2.0", "see *"]', 'deny = ["EUPL-1.2"]')
    assert audit(copy, service.address)[0] == 0 and data(copy)["denied"] == []


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


# --- a service that gives no answer ----------------------------------------------------------------


def says_what_to_do(project: Project, shown: str, address: str) -> None:
    """Assert that a message names what was asked and the ways out, and that nothing looks like an all-clear."""
    assert f"Request to {address}:\n" in shown and "OSV_URL=" in shown and "could not be checked" in shown
    assert "No known vulnerabilities" not in shown and "found" not in data(project)


def test_a_service_out_of_reach_is_neither_found_nor_nothing(project):
    nowhere = "https://osv.invalid"
    shown = project.make("audit", fails=True, OSV_URL=nowhere).output
    assert "no name server knows osv.invalid" in shown and "Error 69" in shown, shown
    says_what_to_do(project, shown, nowhere)


def test_a_password_and_a_private_ca_come_in_as_for_builds(project, sources, tmp_path):
    """From .netrc and SSL_CERT_FILE; without either the message says which is missing. And nothing keeps the password."""
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
