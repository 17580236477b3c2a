"""Write one script that holds postBuild and all that it needs, for the form of Saturn Cloud's image builder.

The same files give the same script, byte for byte. What could be a secret stays out: files by name, as in
.dockerignore, and an address with a password in any file is an error.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import lzma
import re
import sys
import tarfile
import textwrap
from fnmatch import fnmatch
from pathlib import Path

from couplet import settings
from couplet.errors import UserError
from couplet.saturn import APP

FILES = (
    *("pyproject.toml", "README.md", "poetry.lock", "conda-linux-64.lock"),
    *(f".couplet/{name}" for name in ("project.json", "pins/tools.txt", "pins/poetry.txt")),
)
FOLDERS = ("src", ".couplet/couplet")
LEAVE = (
    ".env",
    ".env.*",
    "*.pem",
    "*.key",
    ".git",
    ".ipynb_checkpoints",
    "__pycache__",
    "*.pyc",
    ".couplet/couplet/inspect/*",
)
PASSWORD = re.compile(rb"[a-z][a-z0-9+.-]*://[^/\s\"'@:{}$<>]+:[^/\s\"'@{}$<>]+@[^\s\"']+", re.I)

SCRIPT = """\
#!/bin/bash
# {name}: postBuild for Saturn Cloud's image builder, all in one. Made by `make saturn`: make it anew after a change.
# Inside, as a .tar.xz (SHA-256 {digest}):
{listing}
set -eu -o pipefail
python=/opt/saturncloud/bin/python
if ! [ -x "$python" ]; then
    echo "There is no conda in /opt/saturncloud: this is not a base image of Saturn Cloud's, and this script is for its image builder." >&2
    exit 1
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unpack='import base64, hashlib, io, sys, tarfile
try:
    data = base64.b64decode(sys.stdin.read())
except ValueError:
    data = b""
if hashlib.sha256(data).hexdigest() != sys.argv[2]:
    sys.exit("The script was cut short or changed when it was pasted: make it anew (make saturn) and paste all of it.")
tarfile.open(fileobj=io.BytesIO(data), mode="r:xz").extractall(sys.argv[1])'
"$python" -c "$unpack" "$folder" {digest} << 'END'
{body}
END
PYTHONPATH=$folder/.couplet "$python" -B -s -m couplet.saturn.root --project "$folder" --packed
"""


def wanted(project: Path) -> list[str]:
    """Return the files to pack, sorted, relative to `project`. Raises UserError where one is missing."""
    missing = [name for name in FILES if not (project / name).is_file()]
    if missing:
        raise UserError(f"there is no {', '.join(missing)}: `make env-update` makes locks.")
    found = [path for folder in FOLDERS for path in (project / folder).rglob("*") if path.is_file() and not path.is_symlink()]
    names = [path.relative_to(project) for path in found]
    kept = [n for n in names if not any(fnmatch(part, pattern) for part in (str(n), *n.parts) for pattern in LEAVE)]
    return sorted([*FILES, *map(str, kept)])


def check_code(project: Path) -> None:
    """Raise UserError where code lies outside of src/, the one folder of code that goes into an image."""
    poetry = settings.pyproject(project).get("tool", {}).get("poetry", {})
    packages = [entry for entry in poetry.get("packages", ()) if "wheel" in entry.get("format", "wheel")]
    paths = [Path(entry.get("from", "."), entry.get("include", "")) for entry in packages]
    elsewhere = [str(path) for path in paths if path.parts[:1] != ("src",)]
    # Dockerfile.saturn lays src/ over the environment in the end
    if project != APP and not (project / "src").is_dir():
        elsewhere = elsewhere or [settings.project(project).package]
    if elsewhere:
        raise UserError(
            f"{', '.join(elsewhere)}: of the code only src/ goes into Saturn's images. Move it there (git mv), and write\n"
            'from = "src" into its entry of [tool.poetry] packages in pyproject.toml.'
        )


def archive(project: Path, names: list[str]) -> bytes:
    """Return a .tar.xz of files, which depends on their names and contents alone. Raises UserError for a password in one."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in names:
            content = (project / name).read_bytes()
            if found := PASSWORD.search(content):
                line = content[: found.start()].count(b"\n") + 1
                raise UserError(
                    f"{name}, line {line}: an address with a password in it would be in the script for all to read.\n"
                    "Take it out; credentials belong into pip.conf, .netrc or Poetry's auth.toml."
                )
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    return lzma.compress(packed.getvalue(), preset=9 | lzma.PRESET_EXTREME)


def main(arguments: list[str]) -> None:
    """The verb `saturn-pack`: print the script."""
    parser = argparse.ArgumentParser(prog="couplet saturn-pack", description=__doc__)
    parser.add_argument("--project", type=Path, default=Path())
    project = parser.parse_args(arguments).project

    check_code(project)
    names = wanted(project)
    data = archive(project, names)
    text = SCRIPT.format(
        name=settings.project(project).package,
        digest=hashlib.sha256(data).hexdigest(),
        listing="\n".join(f"#   {name}" for name in names),
        body="\n".join(textwrap.wrap(base64.b64encode(data).decode(), 120)),
    )
    sys.stdout.write(text)
    print(f"{len(names)} files, {len(text) / 1000:.0f} kB", file=sys.stderr)
