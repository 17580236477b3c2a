"""Print one script that holds postBuild and all that it needs: for the form of Saturn Cloud's image builder.

The same files give the same script, byte for byte. What could be a secret stays out: files by name, as in
.dockerignore, and an address with a password in any file is an error.
"""

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

from errors import BuildError, run

FILES = [
    "pyproject.toml",
    "README.md",
    "poetry.lock",
    "conda-linux-64.lock",
    *(f"docker/{name}" for name in (
        "bytecode.py", "conda_packages.py", "distributions.py", "errors.py", "guard.py", "install_conda.py", "install_poetry.py",
        "install_project.py", "poetry.txt", "poetry_lock.py", "poetry_plugin.py", "proof.py", "record_activation.py", "references.py",
        "register_kernel.py", "saturn.py", "tools.txt", "verify.py",
    )),
]  # fmt: skip
OPTIONAL = ["docker/kernel.json"]
LEAVE = (".env", ".env.*", "*.pem", "*.key", ".git", ".ipynb_checkpoints", "__pycache__", "*.pyc")
PASSWORD = re.compile(rb"[a-z][a-z0-9+.-]*://[^/\s\"'@:{}$<>]+:[^/\s\"'@{}$<>]+@[^\s\"']+", re.I)

SCRIPT = """\
#!/bin/bash
# {name}: postBuild for Saturn Cloud's image builder, all in one. Made by `make saturn`: make it anew after a change.
# Inside, as a .tar.xz (SHA-256 {digest}):
{listing}
set -eu -o pipefail
python=/opt/saturncloud/bin/python
if ! [ -x "$python" ]; then
    echo "There is no conda in /opt/saturncloud: this is no base image of Saturn Cloud's, and this script is for its image builder." >&2
    exit 1
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unpack='import base64, hashlib, io, sys, tarfile
data = base64.b64decode(sys.stdin.read())
if hashlib.sha256(data).hexdigest() != sys.argv[2]:
    sys.exit("The script was cut short or changed when it was pasted: make it anew (make saturn) and paste all of it.")
tarfile.open(fileobj=io.BytesIO(data), mode="r:xz").extractall(sys.argv[1])'
"$python" -c "$unpack" "$folder" {digest} << 'END'
{body}
END
"$python" -B "$folder/docker/saturn.py" --package {package} --packed
"""


def wanted(project):
    """Return the files to pack, sorted, relative to `project`. Raises BuildError where one is missing."""
    missing = [name for name in FILES if not (project / name).is_file()]
    if missing:
        raise BuildError(f"there is no {', '.join(missing)}: `make env-update` makes locks.")
    code = [
        str(path.relative_to(project))
        for path in (project / "src").rglob("*")
        if path.is_file()
        and not path.is_symlink()
        and not any(fnmatch(part, pattern) for part in path.parts for pattern in LEAVE)
    ]
    return sorted([*FILES, *(name for name in OPTIONAL if (project / name).is_file()), *code])


def archive(project, names):
    """Return the bytes of a .tar.xz of files, which depend on their names and contents alone."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in names:
            content = (project / name).read_bytes()
            if found := PASSWORD.search(content):
                line = content[: found.start()].count(b"\n") + 1
                raise BuildError(
                    f"{name}, line {line}: an address with a password in it would be in the script for all to read.\n"
                    "Take it out; credentials belong into pip.conf, .netrc or Poetry's auth.toml."
                )
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    return lzma.compress(packed.getvalue(), preset=9 | lzma.PRESET_EXTREME)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", type=Path, default=Path("."))
    parser.add_argument("--package", required=True)
    options = parser.parse_args()

    names = wanted(options.project)
    data = archive(options.project, names)
    text = SCRIPT.format(
        name=options.package,
        package=options.package,
        digest=hashlib.sha256(data).hexdigest(),
        listing="\n".join(f"#   {name}" for name in names),
        body="\n".join(textwrap.wrap(base64.b64encode(data).decode(), 120)),
    )
    sys.stdout.write(text)
    print(f"{len(names)} files, {len(text) / 1000:.0f} kB", file=sys.stderr)


if __name__ == "__main__":
    run(main)
