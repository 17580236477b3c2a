"""Where the code lies, and its way into src/, where the template's image takes it from."""

from __future__ import annotations

import ast
import configparser
import contextlib
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from packaging.utils import canonicalize_name

from .state import Repository

NO_CODE = {"tests", "test", "docs", "doc", "notebooks", "examples", "scripts", "data", "deploy", "tools", "bench", "benchmarks"}
"""Folders of repositories that are no part of the package, though they may hold an __init__.py."""


@dataclass(frozen=True)
class Part:
    """A package or a module: `name` as it is imported (a path for a package within a namespace), `at` where it lies."""

    name: str
    at: str

    @property
    def goal(self) -> str:
        """Its place in src/."""
        return f"src/{self.name}"


COMPUTED = object()
"""Stands for what setup.py computes: it is not run."""


def setup_arguments(repository: Repository) -> dict[str, Any]:
    """Return what setup.py hands to setup() and setup.cfg says, as plain values."""
    return {name: value for name, value in setup_words(repository).items() if value is not COMPUTED}


def setup_words(repository: Repository) -> dict[str, Any]:
    """Return {keyword of setup(): its value, or COMPUTED}, from setup.py and from setup.cfg, which goes before it."""
    try:
        tree = ast.parse(repository.text("setup.py"))
    except SyntaxError:
        tree = ast.Module([], [])
    found: dict[str, Any] = {}
    constants = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "setup":
            for word in node.keywords:
                value = constants.get(word.value.id, word.value) if isinstance(word.value, ast.Name) else word.value
                try:
                    found[word.arg or "**"] = ast.literal_eval(value)
                except ValueError:
                    found[word.arg or "**"] = COMPUTED
    return found | declared_in_setup_cfg(repository)


def ini(repository: Repository, name: str) -> configparser.ConfigParser:
    """Return a file of the form of setup.cfg; what is none counts as empty."""
    found = configparser.ConfigParser(interpolation=None, strict=False)
    with contextlib.suppress(configparser.Error):
        found.read_string(repository.text(name))
    return found


def declared_in_setup_cfg(repository: Repository) -> dict[str, Any]:
    """Return what setup.cfg says instead of setup(), in the words of setup()."""
    config = ini(repository, "setup.cfg")

    def lines(text: str) -> list[str]:
        return [line.strip() for line in text.splitlines() if line.strip()]

    found: dict[str, Any] = {}
    for section in ("metadata", "options"):
        for key, value in config[section].items() if config.has_section(section) else ():
            listed = key in ("install_requires", "py_modules", "classifiers", "setup_requires", "tests_require", "scripts")
            computed = value.startswith(("attr:", "file:", "find:"))
            found[key.replace("-", "_")] = COMPUTED if computed else lines(value) if listed else value.strip()
    for section, key in (("options.extras_require", "extras_require"), ("options.entry_points", "entry_points")):
        if config.has_section(section):
            found[key] = {name: lines(value) for name, value in config[section].items()}
    return found


def parts(repository: Repository) -> list[Part]:
    """Return the packages and modules: those that [tool.poetry] names, or else those with an __init__.py in src/ or at the top."""
    tracked = repository.tracked
    named = []
    for entry in repository.poetry.get("packages", ()):
        entry = {"include": entry} if isinstance(entry, str) else entry
        name = str(entry["include"]).removesuffix("/**/*").removesuffix("/*").rstrip("/")
        at = str(PurePosixPath(str(entry.get("from", ".")), name))
        if any(path == at or path.startswith(f"{at}/") for path in tracked):
            named.append(Part(name, at))
        else:
            repository.left.append(f"pyproject.toml: packages names {at}, which is not there: taken out")
    if named:
        return named
    heads = sorted({path.removesuffix("/__init__.py") for path in tracked if path.endswith("/__init__.py")})
    in_src = [Part(path[4:], path) for path in heads if re.fullmatch(r"src/[^/]+", path)]
    flat = [Part(path, path) for path in heads if "/" not in path and path not in NO_CODE | {"src"}]
    modules = setup_arguments(repository).get("py_modules")
    listed = [str(name) for name in modules] if isinstance(modules, list) else []
    listed += [canonicalize_name(str(repository.poetry.get("name") or repository.project.get("name") or "")).replace("-", "_")]
    return in_src or flat or [Part(f"{name}.py", f"{name}.py") for name in listed if f"{name}.py" in tracked]


def main_part(repository: Repository, found: list[Part]) -> Part | None:
    """Return the part that gives the project its name: the one of that name, or else the largest."""
    name = canonicalize_name(str(repository.project.get("name") or repository.poetry.get("name") or ""))
    same = [part for part in found if canonicalize_name(part.name.removesuffix(".py")) == name]
    sizes = {part: sum(path.startswith(f"{part.at}/") for path in repository.tracked) for part in found}
    return same[0] if same else max(found, key=lambda part: sizes[part], default=None)


def ignored(repository: Repository) -> set[str]:
    """Return the files that git ignores; a folder that is ignored whole is one entry."""
    shown = repository.git("status", "--porcelain", "-z", "--ignored").split("\0")
    return {line[3:] for line in shown if line.startswith("!! ")}


def move(repository: Repository, found: list[Part]) -> None:
    """Move what is not in src/ there, let .gitignore match what it matched before, and list who speaks of the old paths."""
    moved = [part for part in found if part.at != part.goal]
    if "src/__init__.py" in repository.tracked:
        repository.left.append(
            "src/__init__.py: `src` is a package here, imported as `src.…`. src/ is a folder of packages now: "
            "move the code into src/PACKAGE with git mv, and write PACKAGE for src in the imports"
        )
    for part in moved:
        if (repository.path / part.goal).exists():
            repository.left.append(f"{part.at}: {part.goal} is there too, so nothing was moved: put both together, in src/")
            continue
        quiet = {path for path in ignored(repository) if path.startswith(f"{part.at}/")}
        users = mentions(repository, part.at) if not part.at.endswith(".py") else []
        repository.move(part.at, part.goal)
        repository.done.append(f"{part.at} is {part.goal} now (git mv)")
        lines = repository.text(".gitignore").splitlines()
        old = re.compile(rf"^(!?)/?{re.escape(part.at)}/")
        again = [old.sub(rf"\1/{part.goal}/", line) for line in lines if old.match(line)]
        if again:
            repository.append(".gitignore", "\n".join(again) + "\n")
            repository.done.append(f".gitignore: {', '.join(again)} added, for what was ignored in {part.at}/")
        if quiet:
            repository.done.append(f"{part.goal}: what git ignores in it moved too: {', '.join(sorted(quiet))}")
        for path in sorted(quiet):
            new = part.goal + path.removeprefix(part.at)
            if not repository.git("check-ignore", "--no-index", new, check=False):
                repository.left.append(f"{new}: git ignored it as {path} and would not any more: add a line to .gitignore")
        users = [part.goal + user.removeprefix(part.at) if user.startswith(f"{part.at}/") else user for user in users]
        repository.left += [f"{user}: speaks of {part.at}/, which is {part.goal}/ now" for user in users]


def mentions(repository: Repository, folder: str) -> list[str]:
    """Return FILE:LINE of each tracked line that speaks of a folder by a path: `folder/…`, `../folder`, quoted or not."""
    name = re.escape(folder)
    pattern = rf"(^|[^A-Za-z0-9_./-])((\./)?{name}/|(\.\./)+{name}($|[^A-Za-z0-9_]))"
    shown = repository.git("grep", "-nIE", pattern, check=False)
    found = [":".join(line.split(":")[:2]) for line in shown.splitlines()]
    # what goes aside, is written anew or is no more is listed or converted anyway
    elsewhere = ("Dockerfile:", "Makefile:", ".gitignore:", "pyproject.toml:", "MANIFEST.in:", "setup.py:", "setup.cfg:")
    return [line for line in found if not line.startswith(elsewhere)]
