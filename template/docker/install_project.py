"""Install the project itself: its metadata, its programs, and a .pth file to where its code will lie.

Needs pyproject.toml and README.md alone: an edit of the code then changes no layer but the one that
holds the code. poetry-core writes the wheel, as it does for any editable install, and uv installs it
into a folder that the image lays over the environment.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from errors import BuildError, run


def editable_wheel(project, package, folder):
    """Return the path of the editable wheel of `project`, whose code need not be there yet."""
    from poetry.core.masonry import api

    os.chdir(project)
    code = Path("src", package)
    code.mkdir(parents=True, exist_ok=True)
    (code / "__init__.py").touch()
    try:
        return Path(folder, api.build_editable(folder))
    except Exception as error:  # whatever poetry-core raises, it is about pyproject.toml
        raise BuildError(f"pyproject.toml: {error}") from None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--project", required=True, help="folder of pyproject.toml; the code will lie in its src"
    )
    parser.add_argument("--package", required=True)
    parser.add_argument("--prefix", required=True, help="the environment")
    parser.add_argument("--tools", required=True, help="folder of uv and poetry-core")
    parser.add_argument("--out", required=True, help="folder that stands for / of the image")
    options = parser.parse_args()

    sys.path.insert(0, options.tools)
    with tempfile.TemporaryDirectory() as folder:
        wheel = editable_wheel(options.project, options.package, folder)
        subprocess.run(
            [
                f"{options.tools}/bin/uv",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--offline",
                "--no-cache",
                "--python",
                f"{options.prefix}/bin/python",
                "--prefix",
                options.out + options.prefix,
                wheel,
            ],
            check=True,
            env={**os.environ, "UV_LINK_MODE": "copy", "PYTHONDONTWRITEBYTECODE": "1"},
        )
    Path(options.out + options.prefix, ".lock").unlink(missing_ok=True)


if __name__ == "__main__":
    run(main)
