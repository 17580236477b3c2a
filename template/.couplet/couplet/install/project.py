"""Install the project itself: its metadata, its programs, and a .pth file to where its code will lie.

Needs pyproject.toml, README.md and the licence alone: an edit of the code then changes no layer but the one that
holds the code. poetry-core writes the wheel, as it does for any editable install, and uv installs it
into a folder that the image lays over the environment.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from errors import BuildError, run


def patterns(document):
    """Return [pattern] of the files that poetry-core asks for, since pyproject.toml names them."""
    project, poetry = document.get("project", {}), document.get("tool", {}).get("poetry", {})
    found = list(project.get("license-files", ()))
    licence = project.get("license")  # an expression, such as MIT, names no file
    for named in (licence if isinstance(licence, dict) else None, project.get("readme"), poetry.get("readme")):
        named = named.get("file") if isinstance(named, dict) else named
        found += named if isinstance(named, list) else [named]
    for entry in poetry.get("packages", ()):
        include = f"{entry.get('from', '.')}/{entry['include']}"
        found.append(include if include.endswith(".py") else f"{include}/__init__.py")
    return [pattern for pattern in found if pattern]


def stand_in(pattern):
    """Return the Path of a file that fits a pattern: ** is any folder, * and ? may be one letter, [CS] is its first."""
    plain = pattern.replace("**/", "").replace("*", "x").replace("?", "x")
    return Path(re.sub(r"\[!?(.)[^]]*\]", r"\1", plain))


def editable_wheel(project, package, folder):
    """Return the path of the editable wheel of `project`, whose code need not be there yet."""
    from poetry.core.masonry import api

    os.chdir(project)
    named = patterns(tomllib.loads(Path("pyproject.toml").read_text()))
    for pattern in [f"src/{package}/__init__.py", *named]:
        if not any(Path().glob(pattern)):
            path = stand_in(pattern)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    try:
        return Path(folder, api.build_editable(folder))
    except Exception as error:  # whatever poetry-core raises, it is about pyproject.toml
        raise BuildError(f"pyproject.toml: {error}") from None


def forget_the_wheel(record):
    """Delete what uv notes of the wheel that the project came in: its place and its time, other ones in each build."""
    noted = {f"{record.parent.name}/{name}" for name in ("direct_url.json", "uv_cache.json")}
    lines = record.read_text().splitlines(keepends=True)
    record.write_text("".join(line for line in lines if line.split(",")[0] not in noted))
    for name in noted:
        (record.parent.parent / name).unlink(missing_ok=True)


def install(project, package, prefix, tools, out):
    """Install `project` below `out` as if that were /."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = editable_wheel(project, package, folder)
        subprocess.run(
            [
                f"{tools}/bin/uv",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--offline",
                "--no-cache",
                "--python",
                f"{prefix}/bin/python",
                "--prefix",
                out + prefix,
                wheel,
            ],
            check=True,
            env={**os.environ, "UV_LINK_MODE": "copy", "PYTHONDONTWRITEBYTECODE": "1"},
        )
    Path(out + prefix, ".lock").unlink(missing_ok=True)
    # Of the project alone: `out` may be the environment itself, where conda's files are nobody's to touch.
    metadata = "-".join(wheel.name.split("-")[:2]) + ".dist-info"
    for record in Path(out + prefix).glob(f"lib/python3.*/site-packages/{metadata}/RECORD"):
        forget_the_wheel(record)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--project",
        required=True,
        nargs="+",
        help="folders of pyproject.toml; the code will lie in their src",
    )
    parser.add_argument("--package", required=True)
    parser.add_argument("--prefix", required=True, help="the environment")
    parser.add_argument("--tools", required=True, help="folder of uv and poetry-core")
    parser.add_argument(
        "--out", required=True, nargs="+", help="for each of these, a folder that stands for / of its image"
    )
    options = parser.parse_args()

    sys.path.insert(0, options.tools)
    for project, out in zip(options.project, options.out, strict=True):
        install(project, options.package, options.prefix, options.tools, out)


if __name__ == "__main__":
    run(main)
