"""Install the project itself: its metadata, its programs, and a .pth file to where its code will lie.

Needs pyproject.toml, README.md and the licence alone: an edit of the code then changes no layer but the one that holds
the code. poetry-core writes the wheel, as it does for any editable install, and uv installs it into a folder that the
image lays over the environment.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from couplet import settings
from couplet.errors import UserError
from couplet.install.tools import UV


def patterns(document: dict[str, Any]) -> list[str]:
    """Return patterns of the files that poetry-core asks for, since pyproject.toml names them."""
    project, poetry = document.get("project", {}), document.get("tool", {}).get("poetry", {})
    found: list[Any] = list(project.get("license-files", ()))
    licence = project.get("license")  # an expression, such as MIT, names no file
    for named in (licence if isinstance(licence, dict) else None, project.get("readme"), poetry.get("readme")):
        named = named.get("file") if isinstance(named, dict) else named
        found += named if isinstance(named, list) else [named]
    for entry in poetry.get("packages") or [{"include": settings.module(document), "from": "src"}]:
        include = f"{entry.get('from', '.')}/{entry['include']}"
        found.append(include if include.endswith(".py") else f"{include}/__init__.py")
    return [pattern for pattern in found if pattern]


def stand_in(pattern: str) -> Path:
    """Return the path of a file that fits a pattern: ** is any folder, * and ? may be one letter, [CS] is its first."""
    plain = pattern.replace("**/", "").replace("*", "x").replace("?", "x")
    return Path(re.sub(r"\[!?(.)[^]]*\]", r"\1", plain))


def editable_wheel(project: Path, folder: str) -> Path:
    """Return the path of the editable wheel of `project`, whose code need not be there yet."""
    from poetry.core.masonry import api

    settings.without_mark(project)
    document = settings.pyproject(project)
    settings.check_form(document)
    for pattern in patterns(document):
        if not any(project.glob(pattern)):
            path = project / stand_in(pattern)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    try:
        with contextlib.chdir(project):
            return Path(folder, api.build_editable(folder))
    except Exception as error:  # whatever poetry-core raises, it is about pyproject.toml
        raise UserError(f"pyproject.toml: {error}") from None


def forget_the_wheel(record: Path) -> None:
    """Delete what uv notes of the wheel that the project came in: its place and its time, other ones in each build."""
    noted = {f"{record.parent.name}/{name}" for name in ("direct_url.json", "uv_cache.json")}
    lines = record.read_text().splitlines(keepends=True)
    record.write_text("".join(line for line in lines if line.split(",")[0] not in noted))
    for name in noted:
        (record.parent.parent / name).unlink(missing_ok=True)


def write_path(document: dict[str, Any], project: Path, site: Path, package: str) -> None:
    """Write a .pth file where pyproject.toml does not say where the code will lie: in src/, or beside pyproject.toml."""
    if not settings.is_package(document) or not document.get("tool", {}).get("poetry", {}).get("packages"):
        site.mkdir(parents=True, exist_ok=True)
        (site / f"{package}.code.pth").write_text(f"{project}/src\n{project}\n")


def install(project: Path, package: str, prefix: Path, out: Path = Path("/"), uv: Path = UV) -> None:
    """Install `project` for the environment `prefix`, below `out` as if that were /."""
    target = out / prefix.relative_to("/")
    document = settings.pyproject(project)
    write_path(document, project.resolve(), out / next(prefix.glob("lib/python3.*/site-packages")).relative_to("/"), package)
    if not settings.is_package(document):
        return  # no metadata and no programs
    command = [str(uv), "pip", "install", "--quiet", "--no-deps", "--offline", "--no-cache"]
    with tempfile.TemporaryDirectory() as folder:
        wheel = editable_wheel(project.resolve(), folder)
        command += ["--python", f"{prefix}/bin/python", "--prefix", str(target), str(wheel)]
        environment = {**os.environ, "UV_LINK_MODE": "copy", "PYTHONDONTWRITEBYTECODE": "1"}
        if subprocess.run(command, env=environment).returncode:
            raise UserError("the project could not be installed (see above): correct pyproject.toml, then build again.")
    (target / ".lock").unlink(missing_ok=True)
    # Of the project alone: `out` may be the environment itself, where conda's files are nobody's to touch.
    metadata = "-".join(wheel.name.split("-")[:2]) + ".dist-info"
    for record in target.glob(f"lib/python3.*/site-packages/{metadata}/RECORD"):
        forget_the_wheel(record)


def main(arguments: list[str]) -> None:
    """The verb `install-project`."""
    parser = argparse.ArgumentParser(prog="couplet install-project", description=__doc__)
    folders = "folders of pyproject.toml; the code will lie in their src"
    parser.add_argument("--project", type=Path, required=True, nargs="+", help=folders)
    parser.add_argument("--package", required=True)
    parser.add_argument("--prefix", type=Path, required=True, help="the environment")
    help_out = "for each of these, a folder that stands for / of its image"
    parser.add_argument("--out", type=Path, required=True, nargs="+", help=help_out)
    parser.add_argument("--uv", type=Path, default=UV)
    options = parser.parse_args(arguments)

    for out in options.out:
        # these are there in the image, and writable by root alone
        (out / options.prefix.parent.relative_to("/")).mkdir(parents=True, exist_ok=True)
    os.umask(0o002)
    for project, out in zip(options.project, options.out, strict=True):
        install(project, options.package, options.prefix, out.resolve(), options.uv)
