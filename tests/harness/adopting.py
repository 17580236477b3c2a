"""Likenesses of repositories that have conda, Poetry or both already, made up for these tests, and what may be wrong once they are adopted.

Each check returns a list of problems, a line each: empty is good.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from poetry.core.factory import Factory

from couplet import settings
from couplet.errors import UserError
from couplet.lock import environment, pyproject
from tests.harness import template, update

REFUSES = " `make env-update` refuses it:"
PAGE = re.findall(r"```sh\n(.*?)```", (template.REPOSITORY / "docs/adopting.md").read_text(), re.S)
LEVEL = "def mean(levels):\n    return sum(levels) / len(levels)\n"
APACHE = "                                 Apache License\n                           Version 2.0, January 2004\n"

TIDES = {
    "environment.yml": """\
name: tides
channels:
  - conda-forge
dependencies:
  - python=3.11
  - pip
  # reads the gauges' files
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
    "LICENSE": "MIT License\n\nPermission is hereby granted, free of charge, to any person\n",
    "README.md": "# Tides\n\nForty years of levels.\n",
    ".gitignore": "/data/\n*.pyc\n",
    "conda-linux-64.lock": "@EXPLICIT\nhttps://conda.anaconda.org/conda-forge/linux-64/python-3.11.9-0.conda\n",
    "poetry.lock": "# made by Poetry\n[[package]]\nname = 'pandas'\n",
    "tide_gauge/__init__.py": "",
    "tide_gauge/level.py": LEVEL,
    "tests/test_level.py": "from tide_gauge.level import mean\n\n\ndef test_mean():\n    assert mean([1, 3]) == 2\n",
}
"""A flat package, conda and Poetry beside each other."""

MOORING = {
    "environment.yml": """\
name: mooring-env
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python=3.10
  - mamba>=1.0
  - conda-lock
  - poetry=1.*
  - yq
  - conda-pack
  - numpy  # for the spectra
  - pip
platforms:
  - linux-64
  - osx-64
variables:
  MOORING_DEPTH: "40"
""",
    "pyproject.toml": """\
[tool.poetry]
name = "mooring"
version = "0.1.0"
description = "Currents from moored instruments"
authors = ["Ada Ebb <ada@example.org>", "Ben Flow <ben@example.org>"]
license = "Apache-2.0"
readme = "README.md"

[tool.poetry.dependencies]
python = ">=3.8,<3.11"
pandas = ">=1.5"
tabulate = { version = ">=0.9", extras = ["widechars"] }  # tables in reports
tomli = { version = "^2.0", python = "<3.11" }

[tool.poetry.dev-dependencies]
pytest = ">=7"
ipykernel = ">=6"

[tool.poetry.scripts]
mooring = "mooring.cli:main"
""",
    "Makefile": "build:\n\tdocker build .\n\nspectra:\n\tdocker run mooring python -m mooring.spectra\n",
    "Dockerfile": 'FROM mambaorg/micromamba\nCOPY entrypoint.sh /\nENTRYPOINT ["/entrypoint.sh"]\nCMD ["mooring"]\n',
    "entrypoint.sh": '#!/bin/bash\nset -e\n. activate mooring-env\nexec "$@"\n',
    ".dockerignore": "data\n.git\n",
    ".editorconfig": "root = true\n\n[*.py]\nindent_size = 4\n",
    ".gitignore": "*.txt\n/mooring/raw/\n.*\n!.gitignore\n!.editorconfig\n!.dockerignore\n!.github\n",
    ".github/workflows/tests.yml": "on: push\njobs:\n  tests:\n    runs-on: ubuntu-latest\n    steps:\n      - run: conda env update\n",
    "LICENSE": APACHE,
    "README.md": "# Mooring\n\nMake the environment:\n\n    conda env create -f environment.yml\n    poetry install\n\nData is in `mooring/raw/`.\n",
    "conda-lock.yml": "version: 1\n",
    "poetry.lock": "# This file is generated\n",
    "mooring/__init__.py": "",
    "mooring/cli.py": 'def main():\n    print("currents")\n',
    "mooring/spectra.py": LEVEL,
    "notebooks/look.ipynb": '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}\n',
    "tests/test_spectra.py": "from mooring.spectra import mean\n\n\ndef test_mean():\n    assert mean([1, 3]) == 2\n",
}
"""Everything in one container: tools in environment.yml, an entry point, an old Python, ignored data within the package."""

LOCKS = {
    "pyproject.toml": """\
[tool.poetry]
name = "lock-keeper"
version = "2.1.0"
description = "Opens and closes"
authors = ["Cleo Sluice <cleo@example.org>"]
license = "BSD-3-Clause"
packages = [{ include = "keeper" }]

[tool.poetry.dependencies]
python = "^3.9"
tabulate = "~0.9.0"
rich = { version = "^13", optional = true }

[tool.poetry.extras]
pretty = ["rich"]

[tool.poetry.group.test.dependencies]
pytest = "^8.0"

[tool.poetry.group.lint.dependencies]
ruff = ">=0.4"

[tool.poetry.scripts]
keeper = "keeper.gate:main"
old-keeper = "keeper.gone:main"

[tool.ruff]
line-length = 88
""",
    "Dockerfile": 'FROM python:3.9-slim\nRUN pip install poetry\nCOPY keeper ./keeper\nEXPOSE 9000\nCMD ["keeper"]\n',
    ".pre-commit-config.yaml": "repos: []\n",
    "README.md": "# Lock keeper\n\nOpens and closes.\n",
    "poetry.lock": "# This file is generated\n",
    "keeper/__init__.py": "",
    "keeper/gate.py": 'def main():\n    print("open")\n',
}
"""Poetry alone, without conda and without a test."""

SALT = {
    "environment.yaml": """\
name: salt
dependencies:
  - python>=3.11
  - ipykernel
  - scipy
  - pip
  - pip:
      - -r requirements.txt
      - -e .
      - git+https://example.org/her/tool.git
prefix: /home/her/envs/salt
""",
    "requirements.txt": "tabulate>=0.9  # tables\n",
    "setup.py": """\
from setuptools import setup

setup(
    name="salt",
    version="1.3",
    description="Salinity",
    author="Dee Brine",
    license="GPL-3.0-or-later",
    py_modules=["salt"],
    install_requires=["pandas>=2.2"],
)
""",
    "README.md": "# Salt\n\nSalinity.\n",
    "salt.py": "def psu(value):\n    return 35 * value\n",
    "test_salt.py": "from salt import psu\n\n\ndef test_psu():\n    assert psu(2) == 70\n",
}
"""A module and setup.py, with conda and pip and no pyproject.toml."""

SWELL = {
    "pyproject.toml": """\
[project]
name = "swell"
dynamic = ["version"]
description = "Waves from far away"
authors = [{ name = "Eve Crest", email = "eve@example.org" }]
license = { text = "MIT License" }
requires-python = ">=3.11"
dependencies = [
    "tabulate>=0.9",  # tables
]

[project.scripts]
swell = "swell.__main__:main"

[project.urls]
Homepage = "https://example.org/swell"

[dependency-groups]
dev = ["pytest>=8"]
docs = ["rich>=13"]

[tool.setuptools.packages.find]
where = ["src"]

[tool.pytest.ini_options]
addopts = "-q"

[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
""",
    "environment.yml": "name: swell\nchannels: [conda-forge]\ndependencies: [python=3.11, numpy]\n",
    "README.md": "# Swell\n",
    "src/swell/__init__.py": '__version__ = "0.7.1"\n',
    "src/swell/__main__.py": 'def main():\n    print("waves")\n\n\nif __name__ == "__main__":\n    main()\n',
    "tests/test_swell.py": "import swell\n\n\ndef test_version():\n    assert swell.__version__\n",
}
"""The new form of pyproject.toml in the src layout, built by setuptools."""

SURGE = {
    "environment.yml": """\
name: base
channels:
  - defaults
dependencies:
  - python=3.11.9=h955ad1f_0
  - numpy=1.26.4=py311h08b1b3b_0
  - matplotlib>=3.8
  - pip
prefix: /opt/conda
""",
    "README.md": "# Surge\n",
    "run.py": 'print("surge")\n',
    "scripts/plot.py": "import matplotlib\n",
    "Look at it.ipynb": '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}\n',
}
"""An exported environment, a notebook and scripts: no package at all."""

DRIFT = {
    "environment.yml": """\
# Made by hand
name: drift-env
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python=3.9
  - numpy>=1.21   # arrays
  - scipy # [unix]
  - pip
  - pip:
      - --extra-index-url https://pypi.example.org/simple
      - -r requirements-dev.txt
      - -e .[plot]
      - git+https://example.org/her/tracker.git@v2#egg=tracker
      - "tabulate==0.9.0; sys_platform != 'win32'"
""",
    "requirements-dev.txt": "pytest>=8\n",
    "requirements.txt": "numpy\ntabulate\n",
    "setup.py": """\
import os

from setuptools import find_packages, setup

needed = ["pandas>=1.5", "tabulate"]

setup(
    name="drift-tracker",
    version="2.3.1",
    author="Ida Current",
    author_email="ida@example.org",
    description="Follows drifters",
    long_description=open("README.rst").read(),
    license="BSD",
    url="https://example.org/drift-tracker",
    packages=find_packages(exclude=["tests"]),
    python_requires=">=3.7",
    install_requires=needed,
    extras_require={"plot": ["rich>=13"]},
    entry_points={"console_scripts": ["drift=drift.cli:main", "drift-old = drift.gone:main"], "drift.formats": ["csv = drift.cli:main"]},
    package_data={"drift": ["data/*.csv"]},
    scripts=["bin/fetch.sh"],
    cmdclass={"build": os.name},
)
""",
    "setup.cfg": "[flake8]\nmax-line-length = 100\n\n[tool:pytest]\naddopts = --strict-markers\nmarkers =\n    slow: takes long\n    quick\n",
    "MANIFEST.in": "include drift/data/*.csv\n",
    "LICENSE": "BSD 3-Clause License\n\nRedistribution and use in source and binary forms\nNeither the name of\n",
    "README.rst": "Drift\n=====\n\nInstall: ``conda env create -f environment.yml`` and ``pip install -e .``\n",
    ".gitignore": "*.nc\ndata/\n!drift/data/\n",
    "report/thesis.tex": "Drift\n",
    "drift/__init__.py": "",
    "drift/cli.py": 'def main():\n    print("drift")\n',
    "drift/data/stations.csv": "a,b\n1,2\n",
    "drift/tests/__init__.py": "",
    "drift/tests/test_cli.py": 'from drift.cli import main\n\n\ndef test_main(capsys):\n    main()\n    assert capsys.readouterr().out == "drift\\n"\n',
    "bin/fetch.sh": "#!/bin/sh\necho fetch\n",
    "docs/conf.py": 'import sys\n\nsys.path.insert(0, "../drift")\n',
}
"""setup.py and setup.cfg beside conda and pip, tests within the package, and a README in another form."""

PLUME = {
    "pyproject.toml": """\
[tool.poetry]
name = "plume-model"
version = "0.9.0"
description = "Smoke and where it goes"
authors = ["Oz One <oz@example.org>"]
maintainers = ["Ray Mist <ray@example.org>"]
license = "MIT"
package-mode = false
homepage = "https://example.org/plume"

[tool.poetry.dependencies]
python = ">=3.11,<3.14"
pandas = { version = ">=2.1", source = "inhouse", allow-prereleases = true }
rich = { version = "^13", optional = true }
conda-lock = "^2"
windfield = { git = "https://example.org/oz/windfield.git", rev = "v1" }
plume-core = { path = "../plume-core", develop = true }
tabulate = [
  { version = "^0.9", python = "<3.12" },
  { version = ">=0.9", python = ">=3.12" },
]

[tool.poetry.extras]
pretty = ["rich"]

[tool.poetry.group.test.dependencies]
pytest = { version = ">=8", source = "inhouse" }

[tool.poetry.group.server.dependencies]
flask = "*"

[[tool.poetry.source]]
name = "inhouse"
url = "https://ada:secret@pypi.example.org/simple"
secondary = true

[tool.poetry.requires-plugins]
poetry-plugin-export = ">=1.8"

[tool.poetry-dynamic-versioning]
enable = false

[tool.uv.sources]
windfield = { git = "https://example.org/oz/windfield.git" }

[tool.conda-lock.dependencies]
numpy = ">=1.26"

[tool.black]
line-length = 100

[tool.mypy]
files = ["plume"]
exclude = ["plume/tables/", "docs"]  # generated

[tool.isort]
known_first_party = ["plume"]

[tool.pytest.ini_options]
testpaths = ["tests", "plume"]

[build-system]
requires = ["poetry-core", "poetry-dynamic-versioning"]
build-backend = "poetry_dynamic_versioning.backend"
""",
    "poetry.lock": "# This file is automatically @generated by Poetry\n",
    "plume/__init__.py": "",
    "plume/__main__.py": "print('plume')\n",
    "plume/tables/a.csv": "1\n",
    "plume/table.py": "PATH = 'plume/tables/a.csv'\n",
    "tests/test_plume.py": "import plume\n\n\ndef test_plume():\n    assert plume\n",
    "README.md": "# Plume\n\n    poetry run python -m plume\n",
}
"""[tool.poetry] of all years, in the flat layout, with what no lock can vouch for and the tables of other tools."""

PORT = {
    "Dockerfile": """\
FROM continuumio/miniconda3 AS base
RUN apt-get update \\
 && apt-get install -y libgl1
COPY environment.yml /tmp/
RUN conda env create -f /tmp/environment.yml
COPY config/ /app/config/
RUN pip install gunicorn
EXPOSE 8080
HEALTHCHECK CMD curl localhost:8080
ENTRYPOINT ["/app/entrypoint.sh"]
CMD ["gunicorn", "port.web:app"]
""",
    "entrypoint.sh": '#!/bin/bash\nsource activate port\npython -m port.migrate\nexec "$@"\n',
    "docker-compose.yml": "services:\n  web:\n    build: .\n  db:\n    image: postgres\n",
    "compose.yaml": "services:\n  web:\n    build: .\n",
    "makefile": "include vars.mk\n\nmigrate:\n\tdocker compose run web python -m port.migrate\n",
    "vars.mk": "X = 1\n",
    "environment.yml": """\
name: port
channels: [conda-forge]
dependencies:
- python=3.13
- numpy
- pip
- pip:
  - tabulate~=0.9
  - -c constraints.txt
- scipy: 1.17
variables:
  PORT_HOME: /app
  PATH: /app/bin
category: main
""",
    "environment-dev.yml": "name: port-dev\ndependencies:\n  - pre-commit\n",
    "constraints.txt": "werkzeug<3\n",
    "Pipfile": "[packages]\n",
    "uv.lock": "version = 1\n",
    "pyproject.toml": """\
[project]
name = "Port_Office"
version = "1.0"
description = "Harbour dues"
requires-python = ">=3.10"
dependencies = ["tabulate", "ship-types @ git+https://example.org/ship-types.git"]
authors = [{ name = "Port Authority" }]
license = { file = "LICENSE" }
optional-dependencies = { dev = ["pytest"] }

[build-system]
requires = ["hatchling", "cython>=3"]
build-backend = "hatchling.build"

[tool.hatch.build.targets.wheel]
packages = ["port"]

[tool.uv]
dev-dependencies = ["pytest>=8"]

[tool.pixi.dependencies]
numpy = "*"

[office]
open = 9
""",
    "tox.ini": "[tox]\nenvlist = py312\n\n[testenv]\ncommands = pytest\n\n[pytest]\naddopts = -m 'not slow'\ntestpaths = tests port\n",
    ".pre-commit-config.yaml": "repos: []\n",
    ".github/workflows/ci.yml": "on: push\njobs:\n  t:\n    runs-on: ubuntu-latest\n    steps:\n      - run: tox\n",
    ".github/workflows/release.yml": "on: push\njobs:\n  t:\n    runs-on: ubuntu-latest\n    steps:\n      - run: docker build .\n",
    ".github/dependabot.yml": "version: 2\n",
    ".devcontainer/devcontainer.json": '{"build": {"dockerfile": "../Dockerfile"}}\n',
    ".readthedocs.yaml": "version: 2\nconda:\n  environment: environment.yml\n",
    "AGENTS.md": "# For agents\n\nNever touch config/.\n",
    "LICENSE": "A licence of our own\n",
    "README.md": "# Port\n\nRun `docker build -t port .`\n",
    "config/port.toml": "a = 1\n",
    "port/__init__.py": "",
    "port/web.py": "app = 1\n",
    "port/migrate.py": "print('migrate')\n",
    "tests/test_web.py": "from port.web import app\n\n\ndef test_app():\n    assert app\n",
}
"""A service with everything around it: an image, Compose, CI, tox, an editor's container, and locks of other tools."""

LIKENESSES: dict[str, dict[str, str]] = {
    "tides": TIDES,
    "mooring": MOORING,
    "locks": LOCKS,
    "salt": SALT,
    "swell": SWELL,
    "surge": SURGE,
    "drift": DRIFT,
    "plume": PLUME,
    "port": PORT,
}
SETTLED = {
    "plume": {
        "pyproject.toml": {
            '    "windfield @ git+https://example.org/oz/windfield.git@v1",\n': "",
            '    "plume-core @ ../plume-core",\n': "",
            "https://ada:secret@": "https://",
            '[tool.uv.sources]\nwindfield = { git = "https://example.org/oz/windfield.git" }\n': "",
            '[tool.conda-lock.dependencies]\nnumpy = ">=1.26"\n': "",
        }
    },
    "port": {
        "pyproject.toml": {
            '    "ship-types @ git+https://example.org/ship-types.git",\n': "",
            '[tool.pixi.dependencies]\nnumpy = "*"\n': "",
            "[office]\nopen = 9\n": "",
        },
        # from its end: the lines of the others keep their numbers
        "environment.yml": {"category: main\n": "", "  PATH: /app/bin\n": "", "  - scipy: 1.17\n": "  - scipy=1.17\n"},
    },
}
"""Likeness -> file -> what locking refuses in it, and what its owner writes instead."""
IGNORED = {"tides": {"data/levels.csv": "1,2,3\n"}, "mooring": {"mooring/raw/a.dat": "4\n"}}
"""Files of theirs that git does not know."""


def begin(folder: Path, name: str = "tides") -> Path:
    """Make the repository of somebody who has never heard of the template. Returns `folder`."""
    for path, text in {**LIKENESSES[name], **IGNORED.get(name, {})}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    update.commit(folder, "Forty years")
    return folder


def adopt(folder: Path, source: Path, *data: str) -> subprocess.CompletedProcess[str]:
    """Adopt a repository, as the page's command does."""
    script = template.REPOSITORY / "hooks/adopt.py"
    given = [word for pair in data for word in ("--data", pair)]
    return subprocess.run(
        [sys.executable, "-B", str(script), "--template", str(source), *given, str(folder)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip


def to_look_at(shown: str) -> list[str]:
    """Return the lines under "To look at"."""
    _, _, rest = shown.partition("\nTo look at:\n")
    return [line.strip() for line in rest.split("\n\n")[0].splitlines()]


def refusals(shown: str) -> list[str]:
    """Return the lines that say what locking refuses; they stand before all others."""
    lines = to_look_at(shown)
    return lines[: max((at for at, line in enumerate(lines, 1) if REFUSES in line), default=0)]


def refused(folder: Path) -> str:
    """Return what `make env-update` says first of a project, before it solves anything; '' for nothing."""
    document = settings.pyproject(folder)
    try:
        settings.check_form(document)
        pyproject.check(document)
        if (folder / "environment.yml").exists():
            environment.read(folder)
    except UserError as error:
        return str(error)
    return ""


def unsaid(folder: Path, shown: str) -> list[str]:
    """Does locking refuse what was not said at the top of the list?"""
    told = " ".join(line.replace(REFUSES, "") for line in refusals(shown))
    error = " ".join(refused(folder).split())
    return [error] if error not in told else []


def missing(folder: Path, name: str, shown: str) -> list[str]:
    """Is each file of theirs somewhere as it was, or named in what was printed? Code is only kept."""
    problems = []
    content = [path.read_bytes() for path in folder.rglob("*") if path.is_file() and ".git" not in path.relative_to(folder).parts]
    for path, text in {**LIKENESSES[name], **IGNORED.get(name, {})}.items():
        said = any(line.strip().startswith((f"{path}:", f"{path}: ")) for line in shown.splitlines())
        if text.encode() not in content and (path.endswith(".py") or not said):
            problems.append(f"{path} is gone")
    return problems


def dangling(folder: Path) -> list[str]:
    """Does a program, the image's command, or an import in a test or a notebook name a module that is not in src/?"""
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    named = {f"the script {key}": value.split(":")[0] for key, value in project["project"].get("scripts", {}).items()}
    command = json.loads(re.findall(r"^CMD (.*)$", (folder / "Dockerfile").read_text(), re.M)[-2])
    if command[:2] == ["python", "-m"]:
        named["CMD"] = f"{command[2]}.__main__"
    elif command != ["python"] and command[0] not in project["project"].get("scripts", {}):
        named["CMD"] = command[0]
    ours = {path.stem for path in (folder / "src").iterdir()} | {"analysis"}
    for file in [*folder.glob("test*/**/*.py"), *folder.glob("test_*.py"), *folder.glob("src/**/*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            named |= {f"{file.name} ({module})": module for module in modules if module and module.split(".")[0] in ours}
    for file in folder.glob("notebooks/*.ipynb"):
        for module in re.findall(r"from ([\w.]+) import", file.read_text()):
            named[f"{file.name} ({module})"] = module
    problems = []
    for who, module in named.items():
        path = folder / "src" / module.replace(".", "/")
        if not path.with_suffix(".py").exists() and not path.is_dir():
            problems.append(f"{who} names {module}, which is not there")
    problems += [
        f"{who['include']} is in packages and not in src"
        for who in project["tool"]["poetry"]["packages"]
        if not (folder / "src" / who["include"]).exists()
    ]
    return problems


def invalid(folder: Path) -> list[str]:
    """Does poetry-core take pyproject.toml, and make the project's metadata of it?"""
    document = tomllib.loads((folder / "pyproject.toml").read_text())
    said = Factory.validate(document, strict=True)
    problems = [*said["errors"], *said["warnings"]]
    if not problems:
        with tempfile.TemporaryDirectory() as out:
            done = subprocess.run(
                [sys.executable, "-c", f"from poetry.core.masonry import api; api.prepare_metadata_for_build_wheel({out!r})"],
                cwd=folder, capture_output=True, text=True,
            )  # fmt: skip
            problems += done.stderr.splitlines()[-1:] if done.returncode else []
    return problems
