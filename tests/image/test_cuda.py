"""CUDA: the CUDA build is locked wherever the lock is made, a CPU project never gets one, and GPUs go in where there are any."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest
import yaml

from tests.harness import template
from tests.harness.container import docker, mirrors, run, running
from tests.harness.demo import run_notebook
from tests.harness.locks import edit, restamp
from tests.harness.project import Done, Project
from tests.harness.variants import variants


@pytest.fixture(scope="module")
def cuda(build) -> Project:
    """The row `cuda` of the table, built on this machine, which has no GPU."""
    return build(next(row for row in variants(built=True) if row.name == "cuda"))


# --- what is locked --------------------------------------------------------------------------------


def test_the_cuda_build_is_locked_without_a_gpu(cuda):
    version, string = cuda.locked_by_conda()["pytorch"]
    assert string.startswith("cuda") and "cuda-version" in cuda.locked_by_conda()
    assert f'"torch=={version}"' in (cuda.path / "pyproject.toml").read_text(), "conda's pytorch is PyPI's torch"
    assert '"nvidia-' not in (cuda.path / "pyproject.toml").read_text(), "CUDA comes from conda alone"


def test_a_cpu_project_locks_no_cuda_build_where_conda_sees_a_gpu(render, sources):
    """conda is told of a GPU by the variable that stands for one, in the container that locks and outside of it."""
    project = render()
    edit(project, "environment.yml", "  - scipy\n", "  - scipy\n  - pytorch\n")
    edit(project, ".couplet/tasks.Dockerfile", "FROM poetry AS solve\n", "FROM poetry AS solve\nENV CONDA_OVERRIDE_CUDA=12.9\n")
    project.make("env-update", CONDA_OVERRIDE_CUDA="12.9")
    assert project.locked_by_conda()["pytorch"][1].startswith("cpu")
    assert "cuda-version" not in project.locked_by_conda()


@pytest.mark.parametrize(("gpu", "string"), [("12.9", "cuda"), ("", "cpu")])
def test_by_itself_conda_follows_the_machine(sources, gpu, string):
    """The negative control: asked without `make env-update` and its list of virtual packages, conda takes what it sees for what is wanted."""
    base = next(
        line for line in (template.REPOSITORY / "questions/90_derived.yml").read_text().splitlines() if "miniforge" in line
    )
    command = ("conda", "create", "--dry-run", "--json", "--name", "x", "pytorch")
    shown = run(base.split(": ")[1], *command, options=("--env", f"CONDA_OVERRIDE_CUDA={gpu}", *mirrors()))
    links = json.loads(shown[shown.index("{") :])["actions"]["LINK"]
    assert [link["build_string"].startswith(string) for link in links if link["name"] == "pytorch"] == [True]


# --- what is built ---------------------------------------------------------------------------------


def test_a_cpu_build_in_the_lock_fails_the_build(cuda, copy_of):
    """By the same lock as made, but for one package: stamped as if env-update had written it. What else is none: tests/install/test_cuda.py."""
    project = copy_of(cuda)
    change(project, "conda-linux-64.lock", r"\bpytorch-([\d.]+)-cuda\w+", r"pytorch-\1-cpu_generic_py313_h0000000_0")
    restamp(project)
    shown = project.make("build", fails=True).output
    assert "is locked in the build cpu_generic_py313_h0000000_0; environment.yml: pytorch=*=cuda*" in shown, shown[-3000:]
    assert "conda-linux-64.lock is not a lock for CUDA" in shown and "make env-update ALL=1" in shown and "Traceback" not in shown


def change(project: Project, file: str, pattern: str, new: str) -> None:
    """Replace a pattern in a file of the project, and be sure that it was there."""
    text, count = re.subn(pattern, new, (project.path / file).read_text())
    assert count, f"{file} has no {pattern}"
    (project.path / file).write_text(text)


def test_the_image_says_what_it_computes_on(cuda):
    with running(cuda.runtime) as host:
        environment = dict(line.split("=", 1) for line in host.check_output("env").splitlines() if "=" in line)
        assert (environment["NVIDIA_VISIBLE_DEVICES"], environment["NVIDIA_DRIVER_CAPABILITIES"]) == ("all", "compute,utility")
        assert "cuda" in json.loads(host.check_output("cat /opt/locks/cuda-builds.txt"))["conda-linux-64.lock"][0]
        shown = host.check_output("python -m %s", cuda.package)
    assert re.search(r"PyTorch would use: cpu, PyTorch \S+ built for CUDA \d+\.\d+$", shown, re.M), shown
    assert re.search(r"^cpu, PyTorch \S+ built for CUDA \d+\.\d+$", run_notebook(cuda), re.M)


# --- GPUs, where there are any ---------------------------------------------------------------------


def gpus(project: Project, *words: str, stdin: str = "", **variables: str) -> str:
    """Return what .couplet/host/gpus.sh prints: options of `docker run`."""
    environment = {name: value for name, value in {**os.environ, **variables}.items() if value}
    done = subprocess.run(
        [".couplet/host/gpus.sh", *words],
        cwd=project.path,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_no_gpus_are_passed_where_docker_has_none(cuda):
    """Asked of the engine that builds here."""
    assert gpus(cuda) == ""
    assert "nvidia" not in docker("info", "--format", "json").stdout, "this engine has GPUs: the test needs one without"


def test_gpus_are_passed_where_docker_can(cuda):
    """The negative control: what this very engine says of itself, with NVIDIA's runtime or a device of CDI in it."""
    said = json.loads(docker("info", "--format", "json").stdout)

    def decided(**more) -> str:
        return gpus(cuda, "decide", stdin=json.dumps({**said, **more}, separators=(",", ":")))

    runtimes = {**said["Runtimes"], "nvidia": {"path": "nvidia-container-runtime"}}
    devices = [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}, {"Source": "cdi", "ID": "nvidia.com/gpu=all"}]
    assert decided() == ""
    assert decided(Runtimes=runtimes) == "--gpus all"
    assert decided(DiscoveredDevices=devices) == "--device nvidia.com/gpu=all"
    assert decided(DiscoveredDevices=[{"Source": "cdi", "ID": "vendor.com/nic=eth0"}]) == ""
    assert decided(Name="nvidia", Labels=["gpu=nvidia"]) == "", "a machine's name is no GPU"


@pytest.mark.parametrize(("works", "expected"), [("exit 0", "--gpus all"), ("exit 9", "")])
def test_an_engine_on_this_machine_may_find_the_hook_by_itself(cuda, tmp_path, works, expected):
    """Without a word in `docker info`: NVIDIA's hook is installed, and its nvidia-smi sees a GPU, or none."""
    for name, text in {"nvidia-container-runtime-hook": "exit 1", "nvidia-smi": works}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    assert gpus(cuda, DOCKER_HOST="", PATH=f"{tmp_path}:{os.environ['PATH']}") == expected
    assert gpus(cuda, DOCKER_HOST="tcp://127.0.0.1:1", PATH=f"{tmp_path}:{os.environ['PATH']}") == "", "another machine's engine"


def test_make_passes_what_is_decided_to_docker(cuda):
    """No GPU here, so that the options arrive is seen by what Docker says of them; without them the same command works."""

    def ran(**variables: str) -> Done:
        words = [".couplet/host/docker-run.sh", cuda.runtime, "true"]
        done = subprocess.run(words, cwd=cuda.path, env={**os.environ, **variables}, capture_output=True, text=True)
        return Done(done.returncode, done.stdout + done.stderr)

    assert ran().code == ran(GPUS="none").code == 0
    for chosen in ("all", "device=0,1"):
        refused = ran(GPUS=chosen)
        assert refused.code and "capabilities: [[gpu]]" in refused.output, refused.output


def test_compose_passes_gpus_with_its_second_file(cuda):
    def compose(*words: str) -> Done:
        environment = {**os.environ, "IMAGE": cuda.images}
        done = subprocess.run(["docker", "compose", *words], cwd=cuda.path, env=environment, capture_output=True, text=True)
        return Done(done.returncode, done.stdout + done.stderr, done.stdout)

    both = ("-f", "compose.yaml", "-f", "compose.gpu.yaml")
    services = yaml.safe_load(compose(*both, "config").stdout)["services"]
    for service in ("app", "dev"):
        device = services[service]["deploy"]["resources"]["reservations"]["devices"][0]
        assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert compose("run", "--rm", "-T", "app", "true").code == 0
    refused = compose(*both, "run", "--rm", "-T", "app", "true")
    assert refused.code and "gpu" in refused.output, "Docker has none to pass in, and the file asks"
    compose("down")


def test_a_project_for_the_cpu_has_none_of_it(render):
    project = render()
    names = {path.name for path in project.path.rglob("*")}
    assert not names & {"gpus.sh", "compose.gpu.yaml", "device.py"}
    rendered = [file for file in project.path.rglob("*") if file.is_file() and "couplet/couplet/" not in str(file)]
    assert [file for file in rendered if re.search("NVIDIA|__cuda", file.read_text()) and file.name != "docker-run.sh"] == []
