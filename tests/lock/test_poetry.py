"""Poetry's part of a lock, by the pinned Poetry and an index in this process: min-release-age, and the user's poetry.toml."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from couplet.errors import UserError
from couplet.formats import poetry_lock
from couplet.lock import command, poetry
from tests.harness.poetry import program

NOW = datetime.now(UTC)
RELEASES = {
    "lib": {"1.0": 100, "2.0": 1},
    "other": {"1.0": 100, "2.0": 1},
    "needs-lib": {"1.0": 100},
    "timeless": {"1.0": None},
    "half": {"1.0": 100, "2.0": None},
    "compiled": {"1.0": 100},
}
"""Project -> version -> how many days ago it was uploaded, None: the index does not say."""
NEEDS = {"needs-lib": "Requires-Dist: lib\n"}
TAGS = {"compiled": "py2-none-any"}
"""Project -> the tags of its wheel, where it is not for this Python."""


def metadata(name: str, version: str) -> bytes:
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{NEEDS.get(name, '')}".encode()


class Handler(BaseHTTPRequestHandler):
    """An index of RELEASES (PEP 691, 700 and 658); below /html the same as HTML, which has no times."""

    def do_GET(self) -> None:
        kind, name, *_ = [*self.path.strip("/").split("/"), ""]
        if name.endswith(".metadata"):
            self._answer("text/plain", metadata(*re.split("-py[23]", name)[0].replace("_", "-").rsplit("-", 1)))
        elif name not in RELEASES:
            self.send_error(404)
        elif kind == "html":
            files = [
                f'<a href="/files/{one["filename"]}#sha256={one["hashes"]["sha256"]}" data-core-metadata="true">{one["filename"]}</a>'
                for one in self._files(name)
            ]
            self._answer("text/html", "".join(files).encode())
        else:
            said = {"meta": {"api-version": "1.1"}, "name": name, "files": self._files(name)}
            self._answer("application/vnd.pypi.simple.v1+json", json.dumps(said).encode())

    @staticmethod
    def _files(name: str) -> list[dict]:
        found = []
        for version, days in RELEASES[name].items():
            file = f"{name.replace('-', '_')}-{version}-{TAGS.get(name, 'py3-none-any')}.whl"
            digest = hashlib.sha256(metadata(name, version)).hexdigest()
            found.append(
                {"filename": file, "url": f"/files/{file}", "hashes": {"sha256": digest}, "core-metadata": {"sha256": digest}}
            )
            if days is not None:
                found[-1]["upload-time"] = (NOW - timedelta(days=days)).isoformat().replace("+00:00", "Z")
        return found

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Folder:
    """A project's folder, locked by Poetry alone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def ask(self, *dependencies: str, **settings: object) -> None:
        """Write pyproject.toml; `settings` are keys of [tool.couplet] with _ for -."""
        lines = [
            "[project]",
            'name = "ice"',
            'version = "1"',
            'requires-python = ">=3.11"',
            f"dependencies = {json.dumps(dependencies)}",
        ]
        lines += ["[tool.couplet]", *(f"{key.replace('_', '-')} = {json.dumps(value)}" for key, value in settings.items())]
        (self.path / "pyproject.toml").write_text("\n".join(lines) + "\n")

    def versions(self, *update: str, everything: bool = False, held: tuple[str, ...] = ()) -> dict[str, str]:
        """Lock, and return {name: version}."""
        poetry.lock(self.path, update, everything, {}, lambda _: "", held)
        return {name: version for (_, name), version in poetry_lock.versions(self.path / "poetry.lock").items()}

    def command(self) -> Path:
        """Run the verb `lock`, and return the folder with what it wrote."""
        made = {"environment": "poetry", "package": "ice", "distribution": "ice", "prefix": "/opt/ice", "platforms": []}
        made |= {"accelerator": "cpu", "base_image": "debian", "kernel": None}
        (self.path / ".couplet").mkdir(exist_ok=True)
        (self.path / ".couplet/project.json").write_text(json.dumps(made))
        out = self.path.with_name("out")
        command.main(["--project", str(self.path), "--out", str(out)])
        return out


@pytest.fixture(scope="session")
def index() -> Iterator[str]:
    """The address of the index."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def folder(index, tmp_path, monkeypatch) -> Folder:
    """A project's folder, the pinned Poetry, and the index as PyPI's mirror."""
    monkeypatch.setattr(poetry, "POETRY", str(program()))
    monkeypatch.setenv("POETRY_PYPI_MIRROR_URL", f"{index}/simple")
    monkeypatch.setenv("POETRY_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("POETRY_CONFIG_DIR", str(tmp_path / "config"))
    (tmp_path / "project").mkdir()
    return Folder(tmp_path / "project")


def test_what_was_uploaded_yesterday_comes_in_without_it_and_waits_with_it(folder):
    folder.ask("needs-lib", min_release_age="7d")
    assert folder.versions() == {"lib": "1.0", "needs-lib": "1.0"}
    folder.ask("needs-lib")
    assert folder.versions(everything=True) == {"lib": "2.0", "needs-lib": "1.0"}, "the negative control"


def test_what_is_locked_stays_until_it_is_let_go(folder):
    folder.ask("lib", "timeless")
    before = folder.versions()
    assert before == {"lib": "2.0", "timeless": "1.0"}
    folder.ask("lib", "timeless", min_release_age="7d")
    assert folder.versions() == before
    folder.ask("lib", "timeless", "other", min_release_age="7d")
    assert folder.versions() == {**before, "other": "1.0"}
    assert folder.versions("lib")["lib"] == "1.0"


def test_a_package_is_exempt_by_its_name_and_no_other(folder):
    folder.ask("lib", "other", min_release_age="7d", min_release_age_exclude=["Lib"])
    assert folder.versions() == {"lib": "2.0", "other": "1.0"}


def test_the_age_of_what_conda_installs_is_condas_affair(folder):
    """Its pin has to be met whatever the index says of the upload. The negative control: nobody holds it."""
    folder.ask("lib==2.0", min_release_age="7d")
    with pytest.raises(UserError, match="Poetry could not lock"):
        folder.versions()
    assert folder.versions(held=("lib",)) == {"lib": "2.0"}


def test_whoever_asks_for_what_waits_is_told_so(folder):
    folder.ask("lib>=2", min_release_age="7d")
    with pytest.raises(UserError, match="published in the last 7 days") as error:
        folder.versions()
    assert "ignore-missing-time" not in str(error.value)
    folder.ask("lib>=3", min_release_age="7d")
    with pytest.raises(UserError) as error:
        folder.versions()
    assert "Loosen, raise or drop" in str(error.value) or "published in the last" in str(error.value)


def test_what_has_no_time_is_left_out_unless_the_switch_lets_it_in(folder, capsys):
    folder.ask("timeless", min_release_age="7d")
    with pytest.raises(UserError, match="The index PyPI gives no upload times") as error:
        folder.versions()
    assert "min-release-age-ignore-missing-time = true" in str(error.value)
    folder.ask("half", min_release_age="7d")
    assert folder.versions() == {"half": "1.0"}
    assert "note: The index PyPI gives no upload times" in capsys.readouterr().out
    folder.ask("timeless", "half", "lib", min_release_age="7d", min_release_age_ignore_missing_time=True)
    assert folder.versions(everything=True) == {"timeless": "1.0", "half": "2.0", "lib": "1.0"}


def test_an_index_of_html_has_no_times(folder, index, monkeypatch):
    monkeypatch.setenv("POETRY_PYPI_MIRROR_URL", f"{index}/html")
    folder.ask("lib", min_release_age="7d")
    with pytest.raises(UserError, match="The index PyPI gives no upload times"):
        folder.versions()
    folder.ask("lib")
    assert folder.versions() == {"lib": "2.0"}, "the negative control"


def test_a_source_of_poetrys_counts_too(folder, index):
    folder.ask("lib", min_release_age="7d")
    source = f'\n[[tool.poetry.source]]\nname = "own"\nurl = "{index}/html"\npriority = "primary"\n'
    (folder.path / "pyproject.toml").write_text((folder.path / "pyproject.toml").read_text() + source)
    with pytest.raises(UserError, match="The index own gives no upload times"):
        folder.versions()
    (folder.path / "poetry.toml").write_text('[solver]\nmin-release-age-exclude-source = ["own"]\n')
    assert folder.versions() == {"lib": "2.0"}


# --- poetry.toml -----------------------------------------------------------------------------------


def test_the_users_poetry_toml_counts(folder):
    folder.ask("lib")
    (folder.path / "poetry.toml").write_text("[solver]\nmin-release-age = 7\n")
    assert folder.versions() == {"lib": "1.0"}
    (folder.path / "poetry.toml").unlink()
    assert folder.versions(everything=True) == {"lib": "2.0"}, "the negative control"


def test_the_longer_wait_and_all_exemptions_count(folder):
    folder.ask("lib", "other", "half", min_release_age="7d", min_release_age_exclude=["lib"])
    (folder.path / "poetry.toml").write_text('[solver]\nmin-release-age = 99\nmin-release-age-exclude = ["other"]\n')
    assert folder.versions() == {"lib": "2.0", "other": "2.0", "half": "1.0"}
    (folder.path / "poetry.toml").write_text("[solver]\nmin-release-age = 101\n")
    with pytest.raises(UserError, match="Poetry could not lock"):
        folder.versions(everything=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[solver\n", "poetry.toml cannot be read: "),
        ('[solver]\nmin-release-age = "soon"\n', "poetry.toml cannot be read: invalid literal for int"),
    ],
)
def test_a_poetry_toml_that_cannot_be_read_is_refused(folder, text, words):
    folder.ask("lib", min_release_age="7d")
    (folder.path / "poetry.toml").write_text(text)
    with pytest.raises(UserError) as error:
        folder.versions()
    assert words in str(error.value)


def test_a_wrong_value_is_refused_before_anything_is_solved(folder):
    folder.ask("lib", min_release_age=7)
    with pytest.raises(UserError, match=r"min-release-age is 7\. Example"):
        folder.command()
    folder.ask("lib", min_release_age="7d")
    assert 'version = "1.0"' in (folder.command() / "poetry.lock").read_text()


def test_a_group_that_is_none_is_refused_before_anything_is_solved(folder):
    folder.ask("lib", dev_groups=["docs"])
    with pytest.raises(UserError, match="dev-groups names docs, which is not a group here"):
        folder.command()


def test_what_has_no_wheel_is_told_with_the_changes(folder):
    """Once: an update that leaves it as it is says nothing."""
    folder.ask("lib", "compiled")
    told = (folder.command() / ".changes").read_text().splitlines()
    assert told[0] == "2 packages locked" and told[1].startswith("compiled 1.0 has no wheel for this Python (linux-")
    assert told[2].endswith("run `make env-update PKG=compiled`.") and len(told) == 3
    assert (folder.command() / ".changes").read_text() == "no package changed version\n"


def test_a_named_package_moves_and_no_other(folder):
    """The negative control: with everything let go both move."""
    folder.ask("lib<2", "other<2")
    folder.versions()
    folder.ask("lib", "other")
    assert folder.versions() == {"lib": "1.0", "other": "1.0"}
    assert folder.versions("lib") == {"lib": "2.0", "other": "1.0"}
    assert folder.versions(everything=True) == {"lib": "2.0", "other": "2.0"}
