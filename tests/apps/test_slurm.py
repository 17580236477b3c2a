"""Dask on Slurm: dask-jobqueue's script of a job, and its worker in the flat image. Slurm itself is not there: decision 104."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.harness import hpc
from tests.harness.hpc import Node
from tests.harness.project import Done
from tests.harness.variants import variants

SETTINGS = """
jobqueue:
  slurm:
    cores: 2
    processes: 1
    memory: 2GB
    walltime: "00:10:00"
    queue: short
    interface: lo
    death-timeout: 10
    python: {python}
"""
SBATCH = """#!/bin/sh
cp "$1" /mnt/0/jobs/ && echo Submitted batch job 1
"""
"""As much of Slurm as submitting is: the script is where a node finds it."""


@pytest.fixture(scope="module")
def node(build) -> Iterator[Node]:
    """The Dask variant's image on a machine of a cluster, with a folder of Slurm's programs and jobs."""
    project = build(next(row for row in variants() if row.name == "dask"))
    project.make("hpc")
    with hpc.node(project) as found:
        for folder in ("slurm", "slurm/jobs"):
            assert found.run("mkdir", folder).code == 0
        for name, text in {"sbatch": SBATCH, "scancel": "#!/bin/sh\n"}.items():
            (found.work / "slurm" / name).write_text(text)
            (found.work / "slurm" / name).chmod(0o755)
        yield found


@pytest.fixture
def settings(node) -> Iterator[str]:
    """The user's settings of a job; the value is what runs Python in the image."""
    python = f"ch-run --home --set-env {node.file} -- python"
    folder = node.home / ".config/dask"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "jobqueue.yaml").write_text(SETTINGS.format(python=python))
    yield python
    (folder / "jobqueue.yaml").unlink()


def slurm(node: Node, *words: str) -> Done:
    """Run the module in the image, without Slurm's programs."""
    return node.run(*node.line("ch-run"), "python", "-m", "star_count.slurm", *words)


def test_a_jobs_script_asks_for_what_the_settings_say_and_runs_the_image(node, settings):
    done = slurm(node)
    assert done.code == 0, done.output
    lines = done.stdout.splitlines()
    assert {"#SBATCH -p short", "#SBATCH --cpus-per-task=2", "#SBATCH --mem=2G", "#SBATCH -t 00:10:00"} <= set(lines)
    worker = rf"{re.escape(settings)} -m distributed\.cli\.dask_worker tcp://127\.0\.0\.1:\d+ .*--nthreads 2 .*"
    assert re.fullmatch(worker, [line for line in lines if line][-1])


def test_without_settings_it_is_said_where_they_go(node):
    done = slurm(node)
    assert done.code == 1 and "ERROR: You must specify how much cores" in done.output and "jobqueue.yaml" in done.output
    assert "Traceback" not in done.output


def test_without_sbatch_nothing_waits(node, settings):
    done = slurm(node, "1", "python", "-m", "star_count")
    assert done.code == 1 and "there is no sbatch here" in done.output and "Traceback" not in done.output


def test_the_same_code_computes_in_the_jobs(node, settings):
    line = node.line("ch-run")
    mounted = [line[0], f"--bind={node.work}/slurm:/mnt/0", *line[1:-2], "--set-env=PATH=/mnt/0:$PATH", *line[-2:]]
    program = node.command(*mounted, "python", "-m", "star_count.slurm", "1", "python", "-m", "star_count")
    jobs: list[subprocess.Popen] = []
    with subprocess.Popen(**program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        try:
            deadline = time.monotonic() + 120
            while not jobs and time.monotonic() < deadline and running.poll() is None:
                time.sleep(0.2)
                # what Slurm does with it on a node
                jobs += [subprocess.Popen(**node.command("bash", str(job))) for job in node.work.glob("slurm/jobs/*")]
            out, errors = running.communicate(timeout=120)
        finally:
            running.kill()
            for job in jobs:
                job.wait(60)
    assert running.returncode == 0 and jobs, out + errors
    assert "computed by 1 workers of tcp://127.0.0.1:" in out and f"computed in {node.project.prefix}" in out
    # the negative control: without a cluster
    assert "computed by the threads of this machine" in node.run(*line, "python", "-m", "star_count").stdout
