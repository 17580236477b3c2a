"""Make a user's habits in the dev image safe for what the locks hold.

pip and uv   refuse, and say what to run instead (PEP 668: a file EXTERNALLY-MANAGED beside the standard library)
poetry       never touches a distribution of conda's (poetry_plugin.py, a plugin)
conda        works, and says that the lock does not know of it (conda_plugin.py, a plugin)
"""

from __future__ import annotations

import shutil
from pathlib import Path

import couplet
from couplet.formats import records

CONDAS = """[externally-managed]
Error=This environment is conda's and Poetry's, made from their locks, which would not have
 what pip changes. Instead:

     poetry add PACKAGE    from PyPI: into pyproject.toml, poetry.lock and this environment
     conda install PACKAGE only tries it; to keep it, name it in environment.yml

 and then, outside of the container, `make env-update`. To try something until the container
 ends: python -m venv --system-site-packages /tmp/try && /tmp/try/bin/pip install PACKAGE
"""
POETRYS = """[externally-managed]
Error=The environment is Poetry's, and made from poetry.lock; this pip belongs to another Python. Instead:

     poetry add PACKAGE    into pyproject.toml, poetry.lock and this environment

 and then, outside of the container, `make env-update`. To try something until the container
 ends: pip install --target /tmp/try PACKAGE, and PYTHONPATH=/tmp/try python
"""
POETRY_PLUGIN = (
    "__init__.py",
    "errors.py",
    "formats/__init__.py",
    "formats/names.py",
    "formats/records.py",
    "formats/versions.py",
    "image/__init__.py",
    "image/poetry_plugin.py",
)
"""The plugin and what it imports: these parts of the package, under their names."""
CONDA_PLUGIN = ("__init__.py", "image/__init__.py", "image/conda_plugin.py")


def refuse_pip(prefix: Path, text: str) -> None:
    """Let the pip of a Python refuse to install, with a text."""
    for folder in prefix.glob("lib/python3.*/"):
        (folder / "EXTERNALLY-MANAGED").write_text(text)


def add_plugin(prefix: Path, name: str, group: str, target: str, files: tuple[str, ...]) -> None:
    """Put parts of this package and the metadata of an entry point into a site-packages: no build, no download."""
    site_packages = records.site_packages(prefix)
    for file in files:
        place = site_packages / "couplet" / file
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(couplet.__file__).parent / file, place)
    info = site_packages / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")


def guard_poetry(poetry: Path) -> None:
    """Give the Poetry in the environment `poetry` its plugin."""
    target = "couplet.image.poetry_plugin:CondaFirst"
    add_plugin(poetry, "conda_first", "poetry.application.plugin", target, POETRY_PLUGIN)


def guard_conda(conda: Path) -> None:
    """Give the conda of the root `conda` its plugin."""
    add_plugin(conda, "lock_reminder", "conda", "couplet.image.conda_plugin", CONDA_PLUGIN)
