"""The workload `science`: what every system builds, locked once and the same for all.

Three states of one project: as it is (`base`), with one more dependency from the index (`pypi`), and with one
more from conda (`conda`); and the same under another name (`other`), which is a project of its own. Each is locked
before anything is timed; a build only ever reads locks.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.harness import template
from tests.harness.project import Project
from tests.mirror import engine as private
from tests.mirror import web

from .docker import docker, run

PYTHON = "3.13"
CONDA = ["pip", "ipykernel", "numpy", "scipy", "scikit-learn"]
PYPI = ["pandas>=2.2", "flask>=2.2,<2.3", "pendulum>=3"]
MORE = {"pypi": ("", "tqdm>=4.66"), "conda": ("pyyaml", "")}
"""State -> what it has more: (from conda, from the index)."""
NAMES = {"base": "Science", "other": "Other Science"}
MODULES = 10
POETRY = "poetry==2.5.1 poetry-plugin-pypi-mirror==0.6.5"
"""What the seeds' ways install Poetry from: the versions that couplet pins (tools.toml)."""


@dataclass(frozen=True)
class Workload:
    """One state: `couplet` is the project, `peers` the folder with what the seeds' Dockerfiles copy."""

    couplet: Path
    peers: Path


def channel(sources: str) -> str:
    """Return the channel's alias of the network in use, "public" or "mirror"."""
    return web.alias(private.find()) if sources == "mirror" else "https://conda.anaconda.org"


def prepare(folder: Path, address: str, say) -> dict[str, Workload]:
    """Render and lock each state in `folder`; returns {state: Workload}. `address` is the channel's alias in use."""
    repository = template.snapshot(folder / "template")
    states = {}
    for state in (*NAMES, *MORE):
        say(f"locking the workload: {state}")
        project = Project(folder / state / "couplet", f"couplet-bench-{state}")
        if state in NAMES:
            template.render(repository, project.path, {"project_name": NAMES[state]})
        else:
            shutil.copytree(states["base"].couplet, project.path, symlinks=True)
        _declare(project.path, *MORE.get(state, ("", "")))
        project.make("env-update")
        states[state] = Workload(project.path, lay_out_peers(folder / state / "peers", project.path, address))
    project = Project(states["base"].couplet, "couplet-bench-base")
    project.make("build-dev")
    for state in ("base", *MORE):
        say(f"locking the workload for Poetry alone: {state}")
        _poetry_alone(states[state].peers, project.dev, *MORE.get(state, ("", "")))
    return states


def edit_source(folder: Path) -> str:
    """Edit one line of one module, as a person does between two builds; returns the line, which was never there before."""
    module = folder / "src/science/step_1.py"
    text = module.read_text()
    number = int(re.search(r"EDIT = (\d+)", text)[1])
    line = f"EDIT = {number + 1}"
    module.write_text(re.sub(r"EDIT = \d+", line, text))
    return line


def _declare(project: Path, conda: str, pypi: str) -> None:
    """Write the workload's dependencies and modules into a rendered project."""
    environment = project / "environment.yml"
    names = [f"python={PYTHON}", *CONDA, *filter(None, [conda])]
    head = environment.read_text().partition("dependencies:\n")[0]
    environment.write_text(head + "dependencies:\n" + "".join(f"  - {name}\n" for name in names))
    pyproject = project / "pyproject.toml"
    listed = "".join(f'    "{name}",\n' for name in [*PYPI, *filter(None, [pypi])])
    text = re.sub(r"(?m)^dependencies = \[\n(.*\n)*?\]", f"dependencies = [\n{listed}]", pyproject.read_text(), count=1)
    pyproject.write_text(text)
    [package] = (project / "src").iterdir()
    for number in range(MODULES):
        (package / f"step_{number}.py").write_text(
            f'"""Step {number} of the analysis."""\n\nEDIT = 0\n\n\ndef step(value):\n    """Return the next value."""\n    return value * {number + 1}\n'
        )


def lay_out_peers(folder: Path, project: Path, address: str) -> Path:
    """Lay out what the seeds' Dockerfiles copy: the locks, conda's with the address in use, and the code."""
    folder.mkdir(parents=True)
    for name in ("pyproject.toml", "poetry.lock", "README.md"):
        shutil.copy(project / name, folder)
    shutil.copytree(project / "src", folder / "src")
    lock = (project / "conda-linux-64.lock").read_text().replace("https://conda.anaconda.org", address)
    (folder / "explicit.lock").write_text(lock)
    for source in (Path(__file__).parent / "peers").rglob("*"):
        if source.name in ("network.sh", "entrypoint.sh"):
            shutil.copy(source, folder)
    return folder


def _poetry_alone(folder: Path, image: str, conda: str, pypi: str) -> None:
    """Declare the same packages for Poetry alone, at conda's versions, and lock them (folder `all`)."""
    text = (folder / "pyproject.toml").read_text()
    pins = dict(re.findall(r'^    "([a-z0-9-]+)==([^" ]+)', text, re.M))
    names = [f"{name}=={pins[name]}" for name in [*CONDA, *filter(None, [conda])] if name in pins and name != "pip"]
    listed = "".join(f'    "{name}",\n' for name in [*names, *PYPI, *filter(None, [pypi])])
    text = re.sub(r"(?m)^dependencies = \[\n(.*\n)*?\]", f"dependencies = [\n{listed}]", text, count=1)
    text = re.sub(r"(?m)^conda = \[\n(.*\n)*?\]", "conda = []", text, count=1)
    alone = folder / "all"
    alone.mkdir()
    (alone / "pyproject.toml").write_text(text)
    shutil.copy(folder / "README.md", alone)
    options, variables = [], {}
    for name, place in (("PIP_CONFIG_FILE", "/pip.conf"), ("SSL_CERT_FILE", "/ca.pem")):
        if os.environ.get(name):
            options += ["--volume", f"{os.environ[name]}:{place}:ro"]
            variables[name] = place
    if "PIP_CONFIG_FILE" in variables:
        index = re.search(r"(?m)^index-url *= *(\S+)", Path(os.environ["PIP_CONFIG_FILE"]).read_text())
        variables["POETRY_PYPI_MIRROR_URL"] = index[1]
    if "SSL_CERT_FILE" in variables:
        variables["REQUESTS_CA_BUNDLE"] = "/ca.pem"
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"):
        if os.environ.get(name):
            variables[name] = os.environ[name]
    settings = [word for item in variables.items() for word in ("--env", "=".join(item))]
    docker(
        "run", "--rm", "--network", "host", "--user", "0", "--volume", f"{alone}:/all", "--workdir", "/all", *options, *settings,
        image, "poetry", "lock", "--quiet",
    )  # fmt: skip
    if not (alone / "poetry.lock").exists():
        raise RuntimeError(f"Poetry wrote no lock in {alone}")


def payload_bytes(folder: Path) -> int:
    """Return the bytes of the files under `folder`, each counted once."""
    return sum(int(line) for line in run("find", str(folder), "-type", "f", "-printf", "%s\n").split())
