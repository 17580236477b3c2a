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


STEPS = {
    "check": (build, "check_locks"), "install": (build.pypi, "install"), "verify": (build.verify, "verify"),
    "poetry": (build, "install_poetry"), "record": (build.activation, "record_to"), "copy": (build, "copy_project"),
    "project": (build.install_project, "install"), "start": (build, "write_start_lines"), "forget": (build, "forget_sources"),
}  # fmt: skip


def test_the_environment_is_verified_before_anything_is_built_on_it(project, monkeypatch):  # noqa: F811
    """And where it is not what the locks say, nothing comes after."""
    done: list[str] = []
    for name, (module, function) in STEPS.items():
        monkeypatch.setattr(module, function, lambda *words, name=name, **more: done.append(name) or "")
    words = ["--project", str(project), "--uv", "uv"]
    build.main(words)
    assert done == ["check", "forget", "install", "verify", "poetry", "record", "copy", "project", "start"]
    for more, steps in (("--packed", "forget"), ("--only-verify", "check verify"), ("--verified", "check poetry")):
        done.clear()
        build.main([*words, more])
        assert " ".join(done).startswith(steps) and ("check" in done) == (more != "--packed"), more

    def differs(*words: object) -> None:
        done.append("verify")
        raise UserError("the environment is not what the locks say")

    monkeypatch.setattr(build.verify, "verify", differs)
    done.clear()
    with pytest.raises(UserError, match="not what the locks say"):
        build.main(words)
    assert done == ["check", "forget", "install", "verify"]
