"""A repository with conda and Poetry of its own, and docs/adopting.md, followed command by command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.harness import template, update
from tests.harness.update import Edit, replace

THEIRS = {
    "environment.yml": """\
name: tides
channels:
  - conda-forge
dependencies:
  - python=3.11
  - pip
  - scipy>=1.11
  - pip:
      - tabulate==0.9.0
""",
    "pyproject.toml": """\
[tool.poetry]
name = "tide-gauge"
version = "0.4.2"
description = "Tides of forty years"
authors = ["Ada Ebb <ada@example.org>"]
packages = [{ include = "tide_gauge" }]

[tool.poetry.dependencies]
python = "^3.11"
pandas = "^2.2"

[tool.poetry.group.dev.dependencies]
pytest = "^8.0"

[tool.coverage.run]
branch = true

[build-system]
requires = ["poetry-core"]
build-backend = "poetry.core.masonry.api"
""",
    "Makefile": """\
build:
	docker build --tag tides .

shell: build
	docker run --rm -it tides bash

figures:
	docker run --rm tides python -m tide_gauge.level
""",
    "Dockerfile": """\
FROM condaforge/miniforge3 AS build
COPY conda-linux-64.lock poetry.lock pyproject.toml ./
RUN conda create --name tides --file conda-linux-64.lock
RUN apt-get update && apt-get install --yes libudunits2-0
ENV TIDES_DATUM=NAP
""",
    "README.md": "# Tides\n\nForty years of levels.\n",
    ".gitignore": "/data/\n*.pyc\n",
    "conda-linux-64.lock": "@EXPLICIT\nhttps://conda.anaconda.org/conda-forge/linux-64/python-3.11.9-0.conda\n",
    "poetry.lock": "# made by Poetry\n[[package]]\nname = 'pandas'\n",
    "tide_gauge/__init__.py": "",
    "tide_gauge/level.py": "def mean(levels):\n    return sum(levels) / len(levels)\n",
    "tests/test_level.py": "from tide_gauge.level import mean\n\n\ndef test_mean():\n    assert mean([1, 3]) == 2\n",
}
IGNORED = "data/levels.csv"
PAGE = re.findall(r"```sh\n(.*?)```", (template.REPOSITORY / "docs/adopting.md").read_text(), re.S)


def begin(folder: Path) -> Path:
    """Make the repository of somebody who has never heard of the template. Returns `folder`."""
    for name, text in {**THEIRS, IGNORED: "1,2,3\n"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    update.commit(folder, "Forty years")
    return folder


def follow(block: str, folder: Path, address: Path) -> subprocess.CompletedProcess:
    """Run a block of the page as it stands, in a shell that stops at the first error."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "-eux", "-c", block.replace("ADDRESS", str(address))], cwd=folder, env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def ignored(folder: Path, source: Path) -> list[str]:
    """Render the project beside the repository; return what is said of those of its files that the repository's .gitignore matches."""
    done = follow(PAGE[0], folder, source)
    said = [line for line in done.stdout.splitlines() if line.startswith(".gitignore:")]
    assert done.returncode == (not said), done.stdout
    return said


def missing(folder: Path) -> list[str]:
    """Return each line of theirs that is no longer in the file that it was in."""
    problems = []
    for name, text in {**THEIRS, IGNORED: "1,2,3\n"}.items():
        now = (folder / name).read_text().splitlines() if (folder / name).exists() else []
        problems += [f"{name}: {line}" for line in text.splitlines() if line not in now]
    return problems


def settle(folder: Path) -> None:
    """Do what the page's tables say, as a person would in an editor."""
    for name in ("environment.yml", "pyproject.toml", "Makefile", "Dockerfile"):
        template.git(folder, "checkout", "--theirs", name)
    Edit("environment.yml", "  - scipy>=1.11\n").apply(folder)
    replace(folder, "environment.yml", "  - scipy\n", "")
    replace(folder, "pyproject.toml", 'version = "0.1.0"', 'version = "0.4.2"')
    Edit("pyproject.toml", '    "tabulate==0.9.0",\n', after='    "pandas>=2.2",\n').apply(folder)
    Edit("pyproject.toml", "\n[tool.coverage.run]\nbranch = true\n").apply(folder)
    Edit("Makefile", "\nfigures: build\n\t@.couplet/host/docker-run.sh $(IMAGE):latest python -m tide_gauge.level\n").apply(
        folder
    )
    Edit("Dockerfile", "ENV TIDES_DATUM=NAP\n", after="FROM env AS runtime\n").apply(folder)
    for name in ("README.md", ".gitignore"):
        text = (folder / name).read_text()
        (folder / name).write_text(re.sub(r"^(<{7}|={7}|>{7}).*\n", "", text, flags=re.M))
    template.git(folder, "mv", "-k", "tide_gauge/level.py", "src/tide_gauge/level.py")
    template.git(folder, "rm", "--quiet", "-r", "--force", "tide_gauge")
    template.git(folder, "rm", "--quiet", "-r", "--force", "tests/test_analysis.py")


def adopt(folder: Path, source: Path) -> None:
    """Follow the page to its end, but for what Docker does."""
    _, bring, drop_locks, lock, keep = PAGE
    assert not ignored(folder, source) and follow(bring, folder, source).returncode
    settle(folder)
    for block in (drop_locks, keep):
        done = follow(block, folder, source)
        assert done.returncode == 0, done.stdout
    assert lock == "make env-update build test\n"
