"""Make a user's habits in the dev image safe for conda's files.

pip and uv   refuse, and say what to run instead (PEP 668: a file EXTERNALLY-MANAGED beside the standard library)
poetry       never touches a distribution of conda's (poetry_plugin.py, a plugin)
conda        works, and says that the lock does not know of it (conda_plugin.py, a plugin)
"""

import argparse
import shutil
from pathlib import Path

from errors import BuildError, run

REFUSAL = """[externally-managed]
Error=This environment is conda's and Poetry's, and made from their locks; pip would change it
 behind their backs. Instead:

     poetry add PACKAGE    from PyPI: into pyproject.toml, poetry.lock and this environment
     conda install PACKAGE only tries it; to keep it, name it in environment.yml

 and then, outside of the container, `make env-update`. To try something that is gone with the
 container: python -m venv --system-site-packages /tmp/try && /tmp/try/bin/pip install PACKAGE
"""


def add_plugin(site_packages, name, group, target, sources):
    """Put a module and the metadata of its entry point into a site-packages: no build, no download."""
    package = site_packages / name
    package.mkdir()
    for source, file in sources.items():
        shutil.copyfile(Path(__file__).with_name(source), package / file)
    info = site_packages / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")


def guard_poetry(poetry):
    """Give the Poetry in environment `poetry` its plugin."""
    add_plugin(
        site_packages_of(poetry),
        "conda_first",
        "poetry.application.plugin",
        "conda_first:CondaFirst",
        {"poetry_plugin.py": "__init__.py", "distributions.py": "distributions.py"},
    )


def site_packages_of(prefix):
    """Return the site-packages of the environment in `prefix`."""
    found = sorted(Path(prefix).glob("lib/python3.*/site-packages"))
    if not found:
        raise BuildError(f"{prefix} holds no Python: is python in environment.yml?")
    return found[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prefix", required=True, help="the environment")
    parser.add_argument("--poetry", required=True, help="the environment of Poetry")
    parser.add_argument("--conda", required=True, help="the root of conda")
    options = parser.parse_args()

    (site_packages_of(options.prefix).parent / "EXTERNALLY-MANAGED").write_text(REFUSAL)
    guard_poetry(options.poetry)
    add_plugin(
        site_packages_of(options.conda),
        "lock_reminder",
        "conda",
        "lock_reminder",
        {"conda_plugin.py": "__init__.py"},
    )


if __name__ == "__main__":
    run(main)
