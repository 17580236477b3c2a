"""A generated repository, and what its user does in it: make."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Done:
    """A finished command: exit code, what it printed on both streams, and on standard output alone if known."""

    code: int
    output: str
    stdout: str = ""


@dataclass(frozen=True)
class Project:
    """A rendered project in `path`. `images` keeps its image names apart from other tests' projects."""

    path: Path
    images: str

    @cached_property
    def package(self) -> str:
        """The package's name: the only folder of src/."""
        return next(path.name for path in (self.path / "src").iterdir() if path.is_dir())

    @property
    def prefix(self) -> str:
        """Where the environment is in the images."""
        return f"/opt/conda/envs/{self.package}" if self.conda else "/opt/venv"

    @property
    def conda(self) -> bool:
        """Whether conda has a part in the environment."""
        return (self.path / "environment.yml").exists()

    @property
    def variable(self) -> str:
        """The variable that says where the active environment is."""
        return "CONDA_PREFIX" if self.conda else "VIRTUAL_ENV"

    @property
    def stamped(self) -> str:
        """The lock that carries the stamp of what the locks were made of."""
        return "conda-linux-64.lock" if self.conda else "poetry.lock"

    @property
    def minor(self) -> str:
        """The version of Python, such as 3.13."""
        asked = tomllib.loads((self.path / "pyproject.toml").read_text())["project"]["requires-python"]
        return re.match(r">=(\d+\.\d+),", asked)[1]

    @property
    def site_packages(self) -> str:
        """Where Python packages are in the images."""
        return f"{self.prefix}/lib/python{self.minor}/site-packages"

    @property
    def runtime(self) -> str:
        """The name of the runtime image."""
        return f"{self.images}:latest"

    @property
    def dev(self) -> str:
        """The name of the dev image."""
        return f"{self.images}:dev"

    @cached_property
    def kernel(self) -> dict[str, str] | None:
        """The kernel that was asked for (name, display_name), or None."""
        return json.loads((self.path / ".couplet/project.json").read_text())["kernel"]

    def make(self, *words: str, fails: bool = False, timeout: float = 1500, **variables: str) -> Done:
        """Run make as the user does and return what it printed.

        Raises AssertionError, showing the output, when it fails (or, with `fails`, when it does not).
        """
        done = subprocess.run(
            ["make", "--no-print-directory", f"IMAGE={self.images}", *words], cwd=self.path, env={**os.environ, **variables},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout,
        )  # fmt: skip
        assert bool(done.returncode) == fails, f"make {' '.join(words)} ended with {done.returncode}:\n{done.stdout[-6000:]}"
        return Done(done.returncode, done.stdout)

    def locks(self) -> dict[str, bytes]:
        """Return the lock files, and what the lock writes into pyproject.toml, by name."""
        names = ["pyproject.toml", "poetry.lock", *(p.name for p in self.path.glob("conda*.lock"))]
        return {name: (self.path / name).read_bytes() for name in names if (self.path / name).exists()}

    def locked_by_conda(self) -> dict[str, tuple[str, str]]:
        """Return {package: (version, build)} of conda-linux-64.lock, {} where conda has no part."""
        packages = {}
        if not self.conda:
            return packages
        for url in re.findall(r"^http\S+", (self.path / "conda-linux-64.lock").read_text(), re.M):
            file = re.sub(r"(\.conda|\.tar\.bz2)(#.*)?$", "", url.rsplit("/", 1)[-1])
            name, version, build = file.rsplit("-", 2)
            packages[name] = (version, build)
        return packages
