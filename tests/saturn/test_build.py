"""What runs with the environment's Python, where it needs no base image: the locks' state, and what is copied."""

from __future__ import annotations

from pathlib import Path

import pytest

from couplet.errors import UserError
from couplet.saturn import build
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
