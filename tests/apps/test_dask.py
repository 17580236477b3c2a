"""Dask: a scheduler and workers from the project's own image give the results of one machine, and say what is wrong."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import browser, hpc, ports
from tests.harness.container import docker
from tests.harness.hpc import Node
from tests.harness.project import Done, Project
from tests.harness.variants import Variant

WORKERS = 3
MEMORY = "700m"
OTHER = "2026.7.1"
"""A version of Dask that the channel does not have, for a worker from another image."""

ANALYSIS = """
import glob, json, os, sys, time
import pandas as pd
from star_count.cluster import connected, spread

SECONDS = float(sys.argv[1])

def part(path):
    time.sleep(SECONDS)
    return os.uname().nodename, pd.read_csv(path).groupby("kind")["value"].agg(["count", "sum", "min", "max"])

with connected() as where:
    print("begun", flush=True)
    done = spread(part, sorted(glob.glob("data/part-*.csv")))
how = {"count": "sum", "sum": "sum", "min": "min", "max": "max"}
table = pd.concat([table for _, table in done]).groupby(level=0).agg(how)
print(json.dumps({"where": where, "hosts": sorted({host for host, _ in done}), "table": table.to_dict()}))
"""
WHOLE = """
import glob, json
import pandas as pd
data = pd.concat(pd.read_csv(path) for path in glob.glob("data/part-*.csv"))
print(json.dumps(data.groupby("kind")["value"].agg(["count", "sum", "min", "max"]).to_dict()))
"""
EATER = """
import sys, time
from star_count.cluster import connected, spread

def eat(megabytes):
    held = []
    for _ in range(megabytes // 20):
        held.append(bytearray(b"x" * 20_000_000))
        time.sleep(0.05)
    return len(held)

with connected():
    print(spread(eat, [int(sys.argv[1])]))
"""


def name_of(project: Project) -> str:
    """What Compose calls the project's cluster."""
    return re.sub("[^a-z0-9_-]", "-", project.images)


@pytest.fixture(scope="session")
def project(dask, tmp_path_factory) -> Project:
    """The variant, built, with a data set in partitions in its folder."""
    path = tmp_path_factory.mktemp("dask-data") / "project"
    shutil.copytree(dask.path, path, symlinks=True)
    numbers = random.Random(77)
    (path / "data").mkdir()
    for part in range(12):
        rows = [f"{numbers.choice('abcd')},{numbers.randrange(1_000_000)}" for _ in range(2000)]
        (path / "data" / f"part-{part:02}.csv").write_text("\n".join(["kind,value", *rows, ""]))
    for name, text in {"analysis.py": ANALYSIS, "whole.py": WHOLE, "eater.py": EATER}.items():
        (path / name).write_text(text)
    return Project(path, dask.images)


@pytest.fixture(scope="module")
def cluster(project) -> dict:
    """A cluster of three workers, started by make; what make said, and the dashboard's address."""
    port = str(ports.free())
    try:
        shown = project.make("cluster", f"N={WORKERS}", f"WORKER_MEMORY={MEMORY}", f"DASHBOARD_PORT={port}").output
        yield {"shown": shown, "address": f"http://127.0.0.1:{port}"}
    finally:
        project.make("cluster-stop")
    assert not docker("ps", "--quiet", "--filter", f"label=com.docker.compose.project={name_of(project)}").stdout


def client(project: Project, *command: str, check: bool = True, address: str = "tcp://scheduler:8786") -> Done:
    """Run a command of the project's image on the cluster's network, with the project's folder, as `make run` does."""
    options = ["--rm", "--network", f"{name_of(project)}_cluster", "--env", f"DASK_SCHEDULER_ADDRESS={address}"]
    return docker("run", *options, "--volume", f"{project.path}:/work", project.runtime, *command, check=check, timeout=600)


def workers(project: Project) -> list[str]:
    """The names of the containers that are workers."""
    service = "label=com.docker.compose.service=worker"
    project_label = f"label=com.docker.compose.project={name_of(project)}"
    return docker("ps", "--format", "{{.Names}}", "--filter", service, "--filter", project_label).stdout.split()


def whole(project: Project) -> dict:
    """The result of one machine, without Dask."""
    done = docker("run", "--rm", "--volume", f"{project.path}:/work", project.runtime, "python", "whole.py")
    return json.loads(done.stdout)


def result(done: Done) -> dict:
    """What analysis.py printed last."""
    return json.loads(done.stdout.splitlines()[-1])


def test_without_a_cluster_the_same_code_computes_on_this_machine(project):
    done = docker("run", "--rm", "--network", "none", "--volume", f"{project.path}:/work", project.runtime, "python", "analysis.py", "0")  # fmt: skip
    assert result(done)["where"] == "the threads of this machine"
    assert result(done)["table"] == whole(project)
    shown = docker("run", "--rm", "--network", "none", project.runtime).stdout
    assert "computed by the threads of this machine" in shown and "0.82" in shown


def test_make_starts_the_cluster_and_says_where_to_look(project, cluster):
    assert f"{WORKERS} workers, " in cluster["shown"] and "all of one version" in cluster["shown"]
    assert f"Dashboard: {cluster['address']}/status" in cluster["shown"]
    assert len(workers(project)) == WORKERS


def test_a_partitioned_data_set_gives_the_result_of_one_machine(project, cluster):
    found = result(client(project, "python", "analysis.py", "0.5"))
    assert found["where"] == f"{WORKERS} workers of tcp://scheduler:8786"
    assert len(found["hosts"]) == WORKERS, "every worker had a part in it"
    assert found["table"] == whole(project)
    # the negative control: with one partition gone it is another
    gone = project.path / "data" / "part-00.csv"
    gone.rename(project.path / "part-00.csv")
    try:
        assert result(client(project, "python", "analysis.py", "0"))["table"] != found["table"]
    finally:
        (project.path / "part-00.csv").rename(gone)


def test_make_run_and_the_example_compute_on_the_cluster(project, cluster):
    shown = project.make("run").output
    assert f"computed by {WORKERS} workers of tcp://scheduler:8786" in shown and "0.82" in shown


def test_a_worker_killed_in_the_middle_loses_nothing(project, cluster):
    expected = whole(project)
    command = ["docker", "run", "--rm", "--network", f"{name_of(project)}_cluster", "--volume", f"{project.path}:/work",
               "--env", "DASK_SCHEDULER_ADDRESS=tcp://scheduler:8786", project.runtime, "python", "analysis.py", "3"]  # fmt: skip
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout.readline() == "begun\n"
    time.sleep(5)
    killed = workers(project)[0]
    try:
        docker("kill", killed)
        out, errors = running.communicate(timeout=300)
        assert running.returncode == 0, errors
        found = json.loads(out.splitlines()[-1])
        assert found["table"] == expected
    finally:
        docker("start", killed)
    docker("exec", f"{name_of(project)}-scheduler-1", "python", "-m", f"{project.package}.cluster", str(WORKERS))


def test_a_worker_over_its_memory_limit_is_a_clear_error(project, cluster):
    for name in workers(project):
        assert docker("inspect", "--format", "{{.HostConfig.Memory}}", name).stdout.strip() == str(700 * 2**20)
    assert client(project, "python", "eater.py", "100").stdout == "[5]\n"
    done = client(project, "python", "eater.py", "1200", check=False)
    assert done.code
    assert re.search(r"eat-\S+ ended 4 workers, each with \d+ MiB. Most often it needs more memory", done.output), done.output
    assert "make cluster WORKER_MEMORY=4g" in done.output
    # and the cluster is there for the next one
    assert client(project, "python", "eater.py", "100").stdout == "[5]\n"


DRAWN = """
const canvases = (root) => [...root.querySelectorAll("*")].flatMap(
    (node) => [...(node.tagName === "CANVAS" ? [node] : []), ...(node.shadowRoot ? canvases(node.shadowRoot) : [])]);
return canvases(document).filter((canvas) => canvas.width && canvas.height
    && canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value)).length;
"""
"""How many of a page's canvases have something on them, those of custom elements included."""


@browser.undisturbed
def test_the_dashboard_is_served_and_opens_in_a_browser(project, cluster):
    with urllib.request.urlopen(f"{cluster['address']}/health", timeout=30) as answer:
        assert answer.read() == b"ok"
    with browser.opened(f"{cluster['address']}/info/main/workers.html") as chrome:
        browser.until(chrome, lambda: chrome.page_source.count("tcp://") >= WORKERS, "a row for each worker")
    with browser.opened(f"{cluster['address']}/status") as chrome:
        # The page is empty at first, and then draws what the scheduler tells it.
        browser.until(chrome, lambda: chrome.execute_script(DRAWN) >= 3, "the dashboard's drawings")
        browser.picture(chrome, Path("screenshots/dask.png"))


def test_nothing_but_the_dashboard_is_published_and_nothing_can_be_written(project, cluster):
    for name in [*workers(project), f"{name_of(project)}-scheduler-1"]:
        found = json.loads(docker("inspect", name).stdout)[0]
        host = found["HostConfig"]
        assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and "no-new-privileges:true" in host["SecurityOpt"]
        published = {port: [b["HostIp"] for b in bound] for port, bound in found["NetworkSettings"]["Ports"].items() if bound}
        assert published == ({"8787/tcp": ["127.0.0.1"]} if "scheduler" in name else {})
        assert docker("exec", name, "sh", "-c", "touch /opt/here", check=False).code


def joining(project: Project, image: str, *options: str):
    """Start one more worker by hand; returns its name."""
    words = ("--network", f"{name_of(project)}_cluster", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL")
    command = ("dask", "worker", "tcp://scheduler:8786", "--nthreads", "1", "--local-directory", "/tmp")
    return docker("run", "--detach", *words, *options, image, *command).stdout.strip()


def wait_for(project: Project, number: int) -> Done:
    """Run the check of `make cluster` for a number of workers; returns what it said."""
    scheduler = f"{name_of(project)}-scheduler-1"
    return docker("exec", scheduler, "python", "-m", f"{project.package}.cluster", str(number), check=False)


def test_a_worker_of_any_user_joins(project, cluster):
    name = joining(project, project.runtime, "--user", "12345:0")
    try:
        assert f"{WORKERS + 1} workers" in wait_for(project, WORKERS + 1).output
    finally:
        docker("rm", "--force", name)


def test_a_worker_from_another_image_is_seen(project, cluster, tmp_path):
    """The negative control of one image for all: another version of Dask on one worker."""
    names = [f"{name}=={OTHER}" for name in ("dask", "distributed")]
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(tmp_path), *names], check=True)
    python = f"{project.prefix}/bin/python -m pip install --quiet --no-deps --no-index --force-reinstall"
    (tmp_path / "Dockerfile").write_text(
        f"FROM {project.runtime}\nUSER root\nCOPY *.whl /wheels/\n"
        f"RUN {python} --break-system-packages --root-user-action=ignore /wheels/*.whl\nUSER 1000\n"
    )
    other = f"{project.images}-other:dask"
    docker("buildx", "build", "--quiet", "--tag", other, str(tmp_path))
    name = joining(project, other)
    try:
        done = wait_for(project, WORKERS + 1)
        assert done.code and re.search(rf"  distributed: {OTHER} on tcp://\S+, here \d", done.output), done.output
        assert "make cluster-stop build cluster" in done.output
        done = client(project, "python", "analysis.py", "0", check=False)
        assert done.code and f"distributed: {OTHER} on tcp://" in done.output
    finally:
        docker("rm", "--force", name)


def test_no_scheduler_is_said(project, cluster):
    done = client(project, "python", "-c", "from star_count.cluster import connected\nwith connected(3): pass",
                  address="tcp://nobody:8786", check=False)  # fmt: skip
    assert done.code and "no Dask scheduler answers at tcp://nobody:8786 (DASK_SCHEDULER_ADDRESS)" in done.output
    assert "make cluster" in done.output


def test_a_taken_port_is_said(project, cluster):
    taken = cluster["address"].rsplit(":", 1)[-1]
    other = Project(Path(project.path), f"{project.images}-second")
    docker("tag", project.runtime, other.runtime)
    try:
        shown = other.make("cluster", "N=1", f"DASHBOARD_PORT={taken}", fails=True).output
        assert "make cluster DASHBOARD_PORT=" in shown
    finally:
        other.make("cluster-stop")


@pytest.mark.soak
def test_without_conda_the_cluster_is_the_same(build):
    """Dask from PyPI, in a virtual environment; the dashboard's own page needs bokeh."""
    answers = {"project_name": "Star Count", "environment": "poetry", "cluster": "dask", "kernel": False, "hosting": "hpc"}
    made = build(Variant("dask-poetry", "a Dask cluster without conda", answers, build=True))
    port = ports.free()
    try:
        shown = made.make("cluster", "N=2", f"DASHBOARD_PORT={port}").output
        assert "2 workers, " in shown and "all of one version" in shown
        assert "computed by 2 workers of tcp://scheduler:8786" in made.make("run").output
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=60) as answer:
            assert b"bokeh" in answer.read().lower()
    finally:
        made.make("cluster-stop")
    assert "computed by the threads of this machine" in made.make("run").output
    made.make("run", "CMD=python -m star_count.slurm --help")


def test_the_cluster_is_only_where_it_was_asked_for(render):
    for environment, file in {"conda-poetry": "environment.yml", "poetry": "pyproject.toml"}.items():
        plain = render(f"plain-{environment}", environment=environment)
        dask = render(f"dask-{environment}", environment=environment, cluster="dask")
        assert "scheduler" not in (plain.path / "compose.yaml").read_text() + (plain.path / "Makefile").read_text()
        assert "distributed" in (dask.path / file).read_text() and "distributed" not in (plain.path / file).read_text()


# --- Slurm, by dask-jobqueue in the flat image; Slurm itself is not there (decision 104) -----------------

JOBS = """
jobqueue:
  slurm:
    cores: 2
    processes: 1
    memory: 2GB
    walltime: "00:10:00"
    queue: short
    interface: lo
    python: {python}
"""
SBATCH = """#!/bin/sh
cp "$1" /mnt/0/jobs/ && echo Submitted batch job 1
"""
"""As much of Slurm as submitting is: the script is where a node finds it."""


@pytest.fixture(scope="module")
def node(project) -> Iterator[Node]:
    """The image as one file on a machine of an HPC cluster, with a folder of Slurm's programs and jobs."""
    project.make("hpc")
    with hpc.node(project) as found:
        for folder in ("slurm", "slurm/jobs"):
            assert found.run("mkdir", folder).code == 0
        for name, text in {"sbatch": SBATCH, "scancel": "#!/bin/sh\n"}.items():
            (found.work / "slurm" / name).write_text(text)
            (found.work / "slurm" / name).chmod(0o755)
        yield found


@pytest.fixture
def jobs(node) -> Iterator[str]:
    """The user's settings of a job; the value is what runs Python in the image."""
    python = f"ch-run --home --set-env {node.file} -- python"
    folder = node.home / ".config/dask"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "jobqueue.yaml").write_text(JOBS.format(python=python))
    yield python
    (folder / "jobqueue.yaml").unlink()


def slurm(node: Node, *words: str) -> Done:
    """Run the module in the image, without Slurm's programs."""
    return node.run(*node.line("ch-run"), "python", "-m", "star_count.slurm", *words)


def test_a_jobs_script_asks_for_what_the_settings_say_and_runs_the_image(node, jobs):
    done = slurm(node)
    assert done.code == 0, done.output
    lines = done.stdout.splitlines()
    assert {"#SBATCH -p short", "#SBATCH --cpus-per-task=2", "#SBATCH --mem=2G", "#SBATCH -t 00:10:00"} <= set(lines)
    worker = rf"{re.escape(jobs)} -m distributed\.cli\.dask_worker tcp://127\.0\.0\.1:\d+ .*--nthreads 2 .*"
    assert re.fullmatch(worker, [line for line in lines if line][-1])


def test_without_settings_it_is_said_where_they_go(node):
    done = slurm(node)
    assert done.code == 1 and "ERROR: You must specify how much cores" in done.output and "jobqueue.yaml" in done.output
    assert "Traceback" not in done.output


def computing(node: Node, *options: str, submitted: str) -> str:
    """Run the example by the module, and each script that is submitted as Slurm does on a node; return what it printed."""
    line = node.line("ch-run")
    command = [*line[:-2], *options, *line[-2:], "python", "-m", "star_count.slurm", "1", "python", "-m", "star_count"]
    started: list[subprocess.Popen] = []
    with subprocess.Popen(**node.command(*command), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        try:
            deadline = time.monotonic() + 120
            while not started and time.monotonic() < deadline and running.poll() is None:
                time.sleep(0.2)
                for job in (path for path in node.work.glob(submitted) if path.stat().st_size):
                    started.append(subprocess.Popen(**node.command("bash", str(job)), start_new_session=True))
            out, errors = running.communicate(timeout=300)
        finally:
            running.kill()
            for job in started:
                # as scancel does; by itself it would end a minute later
                os.killpg(job.pid, signal.SIGTERM)
                job.wait(60)
    assert running.returncode == 0 and started, out + errors
    return out


def test_the_same_code_computes_in_jobs_that_somebody_submits(node, jobs):
    shown = computing(node, submitted="dask-worker.sh")
    assert "Type outside: sbatch --array=1-1 dask-worker.sh\n" in shown
    assert "computed by 1 workers of tcp://127.0.0.1:" in shown and f"computed in {node.project.prefix}" in shown
    # the negative control: without a cluster
    shown = node.run(*node.line("ch-run"), "python", "-m", "star_count").stdout
    assert "computed by the threads of this machine" in shown


def test_where_there_is_sbatch_nobody_has_to_submit(node, jobs):
    shown = computing(node, f"--bind={node.work}/slurm:/mnt/0", "--set-env=PATH=/mnt/0:$PATH", submitted="slurm/jobs/*")
    assert "outside" not in shown and "computed by 1 workers of tcp://127.0.0.1:" in shown
