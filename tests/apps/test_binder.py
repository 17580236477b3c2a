"""A repository with app=jupyterlab in repo2docker itself, with which Binder builds: as it is, without a file for Binder."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest
import testinfra

from tests.apps.test_apps import answer, runs_all_cells, serving, wait
from tests.harness import browser, checks, hub
from tests.harness.container import docker
from tests.harness.project import Project
from tests.harness.terminal import Session

BINDERHUB = ("base_url=/user/ice-1/", "token=secret", "trust_xheaders=True", "allow_origin=*")
"""What BinderHub tells the server that it starts, under the names of both of Jupyter's servers."""


def repo2docker(project: Project, folder: Path, *words: str) -> list[str]:
    """The command that builds a project and runs it. It gets this machine's package sources, as make would hand them on."""
    said = subprocess.run([project.path / ".couplet/host/settings.sh"], capture_output=True, text=True, check=True).stdout
    secrets = ["--secret=id={},src={}".format(*line.split(" ", 1)) for line in said.splitlines()]
    config = folder / "repo2docker_config.py"
    config.write_text(f"c.DockerEngine.extra_buildx_build_args = {secrets!r}\n")
    who = ("--user-id=1000", "--user-name=jovyan")  # the tests may be root's, whom it takes for no user
    name = f"--image-name={project.images}-binder"
    # a test that was started in the background ignores SIGINT, and what it starts would too
    program = ("env", "--default-signal=INT", str(hub.programs() / "repo2docker"))
    return [*program, f"--config={config}", name, *who, *words, str(project.path)]


@browser.undisturbed
def test_repo2docker_builds_the_locks_and_runs_the_notebooks(jupyterlab, tmp_path):
    with Session(repo2docker(jupyterlab, tmp_path)) as session:
        port, token = re.search(r":(\d+)/\S*\?token=(\w+)", session.until(r":\d+/\S*\?token=\w+\s", 600)).groups()
        name = docker("ps", "--quiet", "--filter", f"publish={port}").stdout.strip()
        container = testinfra.get_host(f"docker://{name}")
        assert checks.conda_lock(container, jupyterlab) == []
        assert checks.poetry_lock(container, jupyterlab, {"main", "dev"}) == []
        assert docker("exec", name, "id", "-u").stdout.strip() == "1000"
        with browser.opened(f"http://127.0.0.1:{port}/lab/tree/notebooks/example.ipynb?token={token}") as chrome:
            runs_all_cells(chrome, jupyterlab)
        session.process.send_signal(signal.SIGINT)
        session.until("FINISHED RUNNING", 180)
    assert docker("ps", "--quiet", "--filter", f"publish={port}").stdout == ""


def test_binderhub_starts_it_in_its_way(jupyterlab, tmp_path):
    subprocess.run(repo2docker(jupyterlab, tmp_path, "--no-run"), check=True, capture_output=True)
    options = [f"--{server}.{option}" for server in ("NotebookApp", "ServerApp") for option in BINDERHUB]
    command = ("jupyter-notebook", "--ip=0.0.0.0", "--port=8888", *options)
    with serving(f"{jupyterlab.images}-binder", port=8888, command=command, healthy=False) as (_, address):
        base = f"{address}/user/ice-1"
        wait(lambda: answer(f"{base}/api"), "an answer")
        assert "JupyterLab" in answer(f"{base}/lab?token=secret")
        assert jupyterlab.kernel["name"] in json.loads(answer(f"{base}/api/kernelspecs?token=secret"))["kernelspecs"]
        found = json.loads(answer(f"{base}/api/contents?token=secret"))["content"]
        assert {"notebooks", "src"} <= {entry["path"] for entry in found}


@pytest.mark.soak
@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("pyproject.toml", '"pandas>=2.2",', '"pandas>=2.2", "tabulate",', "make env-update"),
        (
            "Dockerfile",
            "",
            "\nFROM dev\nUSER root\nRUN rm {prefix}/bin/jupyter-notebook\nUSER 1000\n",
            "jupyter-notebook: not in",
        ),
    ],
    ids=["a stale lock", "no notebook"],
)
def test_repo2docker_fails_where_it_should(jupyterlab, copy_of, tmp_path, file, old, new, words):
    """The negative controls, which repo2docker shows with our own message."""
    project = copy_of(jupyterlab)
    text = (project.path / file).read_text()
    (project.path / file).write_text(text.replace(old, new) if old else text + new.format(prefix=project.prefix))
    assert (project.path / file).read_text() != text
    done = subprocess.run(repo2docker(project, tmp_path), capture_output=True, text=True, timeout=900)
    assert done.returncode and words in done.stdout + done.stderr and "?token=" not in done.stdout + done.stderr
