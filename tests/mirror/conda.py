"""A real conda as a conda package: 24.7.1 and, for an old root, 22.9.0, which wheels of conda-lock carry, as the package it once was.

conda itself is not on PyPI.  conda-lock vendors all of it but for its shell files, with the imports renamed; here they
get their names back, and the shell files are written anew from what conda's documentation says that they do.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

from .package import PLACEHOLDER

INSIDE = "conda_lock/_vendor/conda/"
TOKEN_FILTER = r'partial(TOKEN_URL_PATTERN.sub, r"\1\2\3/t/<TOKEN>/")'

RENAMED = (("conda_lock._vendor.conda", "conda"), ("conda_lock.vendor.conda", "conda"))


@dataclass(frozen=True)
class Release:
    """A conda: the version of conda-lock that carries it, what is changed in its text, and what it imports, by conda's names."""

    version: str
    vendored_by: str
    changes: tuple[tuple[str, str], ...]
    depends: tuple[str, ...]


NEW = Release(
    "24.7.1",
    "4.0.3",
    (
        *RENAMED,
        # gone from Python 3.13's logging, which this conda is older than
        ("logging._acquireLock()", "logging._lock.acquire()"),
        ("logging._releaseLock()", "logging._lock.release()"),
        # libmamba is not on PyPI; a setting would not do, since conda-lock hides the base's .condarc from the conda it calls
        ('DEFAULT_SOLVER = "libmamba"', 'DEFAULT_SOLVER = "classic"'),
        # warns on every start otherwise
        (TOKEN_FILTER, f"staticmethod({TOKEN_FILTER})"),
    ),
    (
        "archspec", "boltons >=23.0.0", "conda-package-handling >=2.2.0", "conda-package-streaming >=0.9.0", "distro", "frozendict",
        "jsonpatch", "packaging", "platformdirs", "pluggy >=1.0.0", "pycosat", "requests", "ruamel.yaml", "setuptools",
        "tqdm", "truststore", "zstandard",
    ),
)  # fmt: skip

OLD = Release(
    "22.9.0",
    "1.4.0",
    RENAMED,
    ("conda-package-handling", "pluggy", "pycosat", "requests", "ruamel.yaml >=0.16,<0.18", "setuptools", "toolz", "tqdm"),
)
"""The oldest that a wheel carries whole: two releases after the 4.13 of Saturn Cloud's base image."""

ENTRY = f"""#!{PLACEHOLDER}/bin/python
import sys

from conda.cli import main

if __name__ == "__main__":
    sys.exit(main())
"""

CONDA_SH = f"""# Defines the shell function `conda`, so that `conda activate` can change the shell that calls it.
export CONDA_EXE='{PLACEHOLDER}/bin/conda'
export CONDA_PYTHON_EXE='{PLACEHOLDER}/bin/python'
export _CE_M=''
export _CE_CONDA=''

__conda_apply() {{
    \\local __conda_commands
    __conda_commands="$("$CONDA_EXE" shell.posix "$@")" || \\return
    \\eval "$__conda_commands"
    \\hash -r
}}

conda() {{
    case "${{1-}}" in
        activate | deactivate)
            __conda_apply "$@"
            ;;
        install | update | upgrade | remove | uninstall)
            "$CONDA_EXE" "$@" || \\return
            __conda_apply reactivate
            ;;
        *)
            "$CONDA_EXE" "$@"
            ;;
    esac
}}

if [ -z "${{CONDA_SHLVL+x}}" ]; then
    export CONDA_SHLVL=0
    PATH="{PLACEHOLDER}/condabin${{PATH:+":$PATH"}}"
    export PATH
    # an interactive shell with nounset must not trip over it
    if [ -z "${{PS1+x}}" ]; then PS1=; fi
fi
"""

ACTIVATE = f""". '{PLACEHOLDER}/etc/profile.d/conda.sh' && conda activate "$@"
"""
DEACTIVATE = f""". '{PLACEHOLDER}/etc/profile.d/conda.sh' && conda deactivate
"""


def stage(release: Release, wheel: Path, folder: Path, minor: str) -> None:
    """Lay out conda's files from conda-lock's wheel."""
    site = folder / f"lib/python{minor}/site-packages"
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if name.startswith(INSIDE) and not name.endswith("/")}
    for before, after in release.changes:
        if not any(before.encode() in content for content in files.values()):
            raise ValueError(f"{wheel.name} has no {before!r} to change; mend it in conda.py")
        files = {name: _replaced(name, content, before, after) for name, content in files.items()}
    for name, content in files.items():
        _write(site / "conda" / name.removeprefix(INSIDE), content)
    info = site / f"conda-{release.version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: conda\nVersion: {release.version}\nSummary: a package and environment manager\n"
    _write(info / "METADATA", metadata.encode())
    _write(info / "INSTALLER", b"conda\n")
    _write(info / "entry_points.txt", b"[console_scripts]\nconda = conda.cli:main\n")
    for script in ("bin/conda", "condabin/conda"):
        _write(folder / script, ENTRY.encode(), executable=True)
    # the second place is where `conda shell.bash hook` reads it
    for place in (folder / "etc/profile.d/conda.sh", site / "conda/shell/etc/profile.d/conda.sh"):
        _write(place, CONDA_SH.encode())
    _write(folder / "bin/activate", ACTIVATE.encode())
    _write(folder / "bin/deactivate", DEACTIVATE.encode())


def _replaced(name: str, content: bytes, before: str, after: str) -> bytes:
    return content.replace(before.encode(), after.encode()) if name.endswith(".py") else content


def _write(path: Path, content: bytes, *, executable: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o755 if executable else 0o644)
