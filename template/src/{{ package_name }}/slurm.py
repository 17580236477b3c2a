"""Dask workers as Slurm's jobs: `python -m PACKAGE.slurm 4 COMMAND …` runs COMMAND with the workers of four.

COMMAND finds them through `connected()` of cluster.py, as it finds any cluster. What a job gets, and how it
runs the image, is in ~/.config/dask/jobqueue.yaml (dask-jobqueue's). Without a COMMAND its script is printed.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from dask_jobqueue import SLURMCluster

from .cluster import ADDRESS


def main() -> int:
    """Run the command of the command line, and its jobs meanwhile; return the command's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jobs", type=int, nargs="?", default=0)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()

    try:
        cluster = SLURMCluster()
    except ValueError as error:
        sys.exit(f"\nERROR: {error}\nIt goes into ~/.config/dask/jobqueue.yaml, under jobqueue: slurm:\n")
    with cluster:
        if not options.command:
            print(cluster.job_script())
            return 0
        if shutil.which("sbatch"):
            cluster.scale(jobs=options.jobs)
        else:
            name = "$SLURM_ARRAY_JOB_ID-$SLURM_ARRAY_TASK_ID"
            Path("dask-worker.sh").write_text(cluster.job_script().replace("dummy-name", name))
            print(f"Type outside: sbatch --array=1-{options.jobs} dask-worker.sh", flush=True)
        cluster.wait_for_workers(1)  # as long as Slurm's queue
        return subprocess.run(
            options.command, env={**os.environ, ADDRESS: cluster.scheduler_address}
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
