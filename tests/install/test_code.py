"""The project's code, in each layout that Poetry builds, is found where the project was installed before the code was there."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from couplet import settings
from couplet.errors import UserError
from couplet.image import importable
from couplet.install import project

HEAD = '[project]\nname = "sea-ice"\nversion = "1.0"\n'
SRC = '[tool.poetry]\npackages = [{ include = "sea_ice", from = "src" }]\n'
LAYOUTS = {
    "src": (HEAD + SRC, ["src/sea_ice/__init__.py"], ["sea_ice"]),
    "src, by itself": (HEAD, ["src/sea_ice/__init__.py", "src/sea_ice/data/a.csv"], ["sea_ice"]),
    "src, with a package that nobody names": (HEAD + SRC, ["src/sea_ice/__init__.py", "src/snow/__init__.py"], ["sea_ice", "snow"]),
    "files that the image does not get": (
        HEAD + 'dynamic = ["readme"]\nlicense-files = ["notes/**/*.txt"]\n[tool.poetry]\nreadme = ["README.rst", "notes/a.md"]\n',
        ["src/sea_ice/__init__.py"],
        ["sea_ice"],
    ),
    "flat": (HEAD, ["sea_ice/__init__.py", "sea_ice/deep/__init__.py", "sea_ice/a.csv"], ["sea_ice.deep"]),
    "flat, named": (HEAD + '[tool.poetry]\npackages = [{ include = "ice" }]\n', ["ice/__init__.py"], ["ice"]),
    "the old form": (
        '[tool.poetry]\nname = "x"\nversion = "1"\ndescription = ""\nauthors = []\npackages = [{ include = "ice" }]\n',
        ["ice/__init__.py"],
        ["ice"],
    ),
    "a module": (HEAD, ["sea_ice.py"], ["sea_ice"]),
    "a module in src": (HEAD, ["src/sea_ice.py"], ["sea_ice"]),
    "another folder": (HEAD + '[tool.poetry]\npackages = [{ include = "ice", from = "lib" }]\n', ["lib/ice/__init__.py"], ["ice"]),
    "two": (
        HEAD + '[tool.poetry]\npackages = [{ include = "ice" }, { include = "snow", from = "src" }]\n',
        ["ice/__init__.py", "src/snow/__init__.py"],
        ["ice", "snow"],
    ),
    "a namespace": (
        HEAD + '[tool.poetry]\npackages = [{ include = "polar/ice", from = "src" }]\n',
        ["src/polar/ice/__init__.py"],
        ["polar.ice"],
    ),
    "no package, src": ("[tool.poetry]\npackage-mode = false\n", ["src/sea_ice/__init__.py"], ["sea_ice"]),
    "no package, flat": (
        "[tool.poetry]\npackage-mode = false\n",
        ["main.py", "ice/__init__.py", "ice/deep/a.py"],
        ["main", "ice.deep.a"],
    ),
}  # fmt: skip


def write(folder: Path, text: str, files: list[str]) -> Path:
    """Write a project."""
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    folder.mkdir(exist_ok=True)
    (folder / "pyproject.toml").write_text(text)
    return folder


def installed(text: str, folder: Path) -> list[str]:
    """Return the folders that are on the path once the project is installed, before its code is there."""
    bare = write(folder / "app", text, [])
    document = settings.pyproject(bare)
    project.write_path(document, bare, folder / "site", "sea_ice")
    found = [line for path in folder.glob("site/*.pth") for line in path.read_text().split()]
    if settings.is_package(document):
        wheel = zipfile.ZipFile(project.editable_wheel(bare, str(folder)))
        found += [line for name in wheel.namelist() if name.endswith(".pth") for line in wheel.read(name).decode().split()]
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_code_is_there_and_can_be_imported(tmp_path, layout):
    text, files, modules = LAYOUTS[layout]
    write(tmp_path / "code", text, files)
    app = tmp_path / "app"
    path = [folder.replace(str(app), str(tmp_path / "code")) for folder in installed(text, tmp_path)]
    program = f"import sys; sys.path[:0] = {path}; import {', '.join(modules)}"
    assert subprocess.run([sys.executable, "-IBc", program], cwd=tmp_path).returncode == 0
    # the negative control: the same without the code
    assert subprocess.run([sys.executable, "-IBc", f"import {modules[0]}"], cwd=tmp_path, capture_output=True).returncode


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if not layout.startswith("no package")])
def test_the_build_looks_for_what_pyproject_names(tmp_path, monkeypatch, layout):
    """Without running it: each file here ends the process. The negative control: the same without the code."""
    text, files, modules = LAYOUTS[layout]
    code = write(tmp_path / "code", text, files)
    for path in code.rglob("*.py"):
        path.write_text("raise SystemExit('it was run')\n")
    with pytest.raises(UserError, match=f"names the package {modules[0].partition('.')[0]}.*, and Python does not find"):
        importable.main(["--project", str(code)])
    for folder in ("src", ".", "lib"):
        monkeypatch.syspath_prepend(code / folder)
    importable.main(["--project", str(code)])


@pytest.mark.parametrize(
    ("packages", "modules"),
    [
        ('{ include = "ice/**/*.py" }, { include = "deep/*" }', ["ice", "deep"]),
        ('{ include = "ice", format = "sdist" }, { include = "snow.py", format = ["sdist", "wheel"] }', ["snow"]),
        ('{ include = "polar/ice/", from = "src" }, { include = "**/*.py" }', ["polar.ice"]),
    ],
)
def test_what_a_pattern_names_is_looked_for_up_to_the_first_folder_of_any_name(packages, modules):
    assert importable.modules(tomllib.loads(f"{HEAD}[tool.poetry]\npackages = [{packages}]")) == modules
    assert importable.modules({"tool": {"poetry": {"package-mode": False, "packages": [{"include": "ice"}]}}}) == []


@pytest.mark.parametrize("packages", ["", 'packages = [{ include = "ice" }]\n'])
def test_what_is_no_package_gets_a_path_and_nothing_else(tmp_path, packages):
    """No wheel is made, and uv is not started; the negative control: a package has one, and this uv is none."""
    prefix = tmp_path / "prefix"
    (prefix / "lib/python3.13/site-packages").mkdir(parents=True)
    bare = write(tmp_path / "app", f"[tool.poetry]\npackage-mode = false\n{packages}", [])
    project.install(bare, "sea_ice", prefix, tmp_path / "out", tmp_path / "no-uv")
    assert [path.name for path in tmp_path.glob("out/**/*") if path.is_file()] == ["sea_ice.code.pth"]
    with pytest.raises(FileNotFoundError):
        project.install(write(tmp_path / "app", HEAD, []), "sea_ice", prefix, tmp_path / "out", tmp_path / "no-uv")
