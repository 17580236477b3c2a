"""The documents run: each command of the pages is run by a test, or listed in tests/documents.toml with the reason why not."""

from __future__ import annotations

import os
import re
import subprocess
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path

import trustme

from tests.harness import adopting, prose, template, update
from tests.harness.programs import in_front
from tests.harness.terminal import Session
from tests.render.test_docs import of_users, tree

TABLE = tomllib.loads((template.REPOSITORY / "tests/documents.toml").read_text())
PAGES = {name: text for name, text in prose.pages().items() if of_users(name)}
PIPX = 'shift\ncase $1 in *.py) exec python -B "$@" ;; *) exec "$@" ;; esac'
"""`pipx run`, once it has fetched what it runs: the tests' own environment has the same Copier."""


def is_test(how: str) -> bool:
    """Say whether a value of the table is the name of a test that exists."""
    file, _, name = how.partition("::")
    path = template.REPOSITORY / file
    return bool(name) and path.is_file() and re.search(rf"^def {name}\(", path.read_text(), re.MULTILINE) is not None


def amiss(pages: Mapping[str, str], table: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return a line for each command that only the pages or only the table have, and each value that says nothing."""
    found = []
    for page in sorted(pages.keys() | table.keys()):
        written, listed = set(prose.commands(pages.get(page, ""))), table.get(page, {})
        found += [f"{page}: {command}: say in tests/documents.toml what runs it" for command in sorted(written - listed.keys())]
        found += [f"{page}: {command}: the page no longer has it" for command in sorted(listed.keys() - written)]
        for command, how in listed.items():
            if how not in ("here", "image") and not is_test(how) and ("::" in how or " " not in how):
                found.append(f"{page}: {command}: {how}: no such test")
    return found


def of(page: str, how: str) -> list[str]:
    """Return the commands of a page that the table has with a value, in the page's order. There is at least one."""
    found = [command for command in prose.commands(PAGES[page]) if TABLE[page][command] == how]
    assert found, f"{page}: {how}"
    return found


def walk(commands: list[str], folder: Path, **variables: str) -> list[tuple[int, str]]:
    """Type commands one after the other in one shell; return the exit code and the output of each."""
    script = "\n".join(f"{command}\nprintf '\\n<%s>\\n' $?" for command in commands)
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env={**os.environ, **variables}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    parts = re.split(r"\n<(\d+)>\n", done.stdout)
    return [(int(code), output) for output, code in zip(parts[::2], parts[1::2], strict=False)]


def test_each_command_is_run_or_listed_with_the_reason():
    assert amiss(PAGES, TABLE) == []


def test_a_new_command_in_a_page_is_seen():
    new = {
        "README.md": PAGES["README.md"] + "\n```sh\nmake biuld \\\n    X=1  # a new one\n```\n",
        "docs/scale.md": "```console\n$ docker ps\n```\n```\n$ git status\nits output\n```\n```toml\nmake = 1\n```\n",
    }
    told = "say in tests/documents.toml what runs it"
    expected = [f"README.md: make biuld X=1: {told}", f"docs/scale.md: docker ps: {told}", f"docs/scale.md: git status: {told}"]
    assert [line for line in amiss({**PAGES, **new}, TABLE) if told in line] == expected
    table = {**TABLE, "docs/saturn.md": {"make gone": "here", ". /opt/poetry/start.sh": "tests/saturn/test_saturn.py::test_gone"}}
    assert amiss(PAGES, table) == [
        "docs/saturn.md: make gone: the page no longer has it",
        "docs/saturn.md: . /opt/poetry/start.sh: tests/saturn/test_saturn.py::test_gone: no such test",
    ]


# --- what needs no Docker --------------------------------------------------------------------------


def test_readmes_first_commands_make_a_project(template_repository, tmp_path, monkeypatch):
    """In a clone, with the answers typed: the name, then twice the default."""
    template.git(tmp_path, "clone", "--quiet", str(template_repository), "clone")
    monkeypatch.setenv("PATH", in_front(tmp_path / "bin", pipx=PIPX))
    with Session(["bash", "-ec", "\n".join(of("README.md", "here"))], cwd=tmp_path / "clone") as somebody:
        for question, answer in {"project.s name": "Sea Ice", "Which profile": "", "Python version": ""}.items():
            somebody.until(question)
            time.sleep(0.5)  # until it is drawn, and takes keys
            somebody.send(f"{answer}\r")
        assert somebody.ended() == 0 and "Sea Ice is ready." in somebody.screen, somebody.screen
    there = {path.name for path in (tmp_path / "clone/sea-ice").iterdir()}
    assert there == tree(PAGES["README.md"])


def test_a_repository_is_adopted_by_the_pages_commands(template_repository, tmp_path):
    theirs = adopting.begin(tmp_path / "tides")
    path = in_front(tmp_path / "bin", pipx=PIPX)
    codes = [code for code, _ in walk(of("docs/adopting.md", "here"), theirs, COUPLET=str(template_repository), PATH=path)]
    assert codes == [0, 3, 0, 0, 0], "3: there is something to look at, as the page says"
    assert (tmp_path / "couplet/hooks/adopt.py").exists() and (theirs / ".couplet").is_dir()
    assert template.git(theirs, "log", "--format=%s", "-1") == "Adopt the template\n"
    assert template.git(theirs, "status", "--porcelain") == ""


def test_an_update_is_committed_or_taken_back_by_the_pages_commands(template_repository, tmp_path):
    project = update.project(template_repository, tmp_path / "project", {"project_name": "Sea Ice"})
    *commands, back = of("docs/upgrading.md", "here")
    (project / "README.md").write_text("updated\n")  # what `make update` leaves is not committed
    done = walk(commands, project)
    assert [code for code, _ in done] == [0, 0, 0] and "+updated" in done[1][1], done
    assert template.git(project, "log", "--format=%s", "-1", "update") == "Template updated\n"
    (project / "README.md").write_text("once more\n")
    (project / "new.txt").write_text("")
    assert walk([back], project)[0][0] == 0 and template.git(project, "status", "--porcelain") == ""
    assert (project / "README.md").read_text() == "updated\n"


def test_the_bundle_of_certificates_has_the_companys_too(tmp_path):
    authority = trustme.CA().cert_pem.bytes().decode()
    (tmp_path / "company.pem").write_text(authority)
    assert [code for code, _ in walk(of("docs/networks.md", "here"), tmp_path, HOME=str(tmp_path))] == [0, 0]
    bundle = (tmp_path / "bundle.pem").read_text()
    assert bundle.endswith(authority) and bundle.count("BEGIN CERTIFICATE") > 2
