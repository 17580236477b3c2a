"""What runs with the environment's Python, where it needs no base image: the locks' state, and what is copied."""

from __future__ import annotations

from pathlib import Path

import pytest

from couplet.errors import UserError
from couplet.saturn import build, pack
from tests.saturn.test_pack import project  # noqa: F401  (the fixture)


def test_locks_that_do_not_fit_are_refused_with_what_to_do(project):  # noqa: F811
    (project / "environment.yml").write_text("dependencies:\n  - python\n")
    with pytest.raises(UserError, match=r"(?s)make env-update.*That needs Docker: do it on your machine"):
        build.check_locks(project)


def test_the_code_and_the_locks_are_copied_and_nothing_else(project, tmp_path_factory, monkeypatch):  # noqa: F811
    app: Path = tmp_path_factory.mktemp("app")
    monkeypatch.setattr(build, "APP", app)
    (app / "src/gone").mkdir(parents=True)
    (project / "src/sea_ice/__pycache__").mkdir()
    (project / ".env").write_text("TOKEN=secret\n")
    build.copy_project(project)
    expected = {"README.md", "conda-linux-64.lock", "poetry.lock", "pyproject.toml", "src"}
    assert {path.name for path in app.iterdir()} == expected
    assert {str(path.relative_to(app / "src")) for path in (app / "src").rglob("*")} == {
        "sea_ice",
        "sea_ice/__init__.py",
        "sea_ice/analysis.py",
    }
    # a project that lies there already, as in Dockerfile.saturn, is left alone
    build.copy_project(app)
    assert {path.name for path in app.iterdir()} == expected


def test_code_outside_of_src_is_refused_before_anything_is_installed(project, monkeypatch):  # noqa: F811
    """In Dockerfile.saturn too, where src/ is not there yet and pyproject.toml alone can tell."""
    words = ["--project", str(project), "--uv", "uv", "--packed"]
    (project / "src").rename(project / "gone")
    with pytest.raises(UserError, match=r"^sea_ice: of the code only src/"):
        build.main(words)
    monkeypatch.setattr(pack, "APP", project)
    pack.check_code(project)
    with (project / "pyproject.toml").open("a") as file:
        file.write('[tool.poetry]\npackages = [{ include = "tides" }]\n')
    with pytest.raises(UserError, match=r"^tides: of the code only src/"):
        build.main(words)
