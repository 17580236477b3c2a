"""Where the work is done: on the Dask cluster that DASK_SCHEDULER_ADDRESS names, or else by this machine's threads.

The code that computes is the same in both cases:

    with connected() as where:
        results = spread(function, partitions)

`python -m PACKAGE.cluster 3` waits for three workers and compares versions: `make cluster` runs it.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import dask
from distributed import Client, KilledWorker

ADDRESS = "DASK_SCHEDULER_ADDRESS"


class ClusterError(RuntimeError):
    """Something about the cluster that a person can fix; the message says how."""


@contextmanager
def connected(timeout: float = 30) -> Iterator[str]:
    """Let Dask compute where DASK_SCHEDULER_ADDRESS says while the block runs. Yields where that is, in words.

    Raises ClusterError where no scheduler answers in `timeout` seconds, where a worker's versions are not
    this program's, and where a task took its workers with it.
    """
    address = os.environ.get(ADDRESS)
    if not address:
        with dask.config.set(scheduler="threads"):
            yield "the threads of this machine"
        return
    try:
        client = Client(address, timeout=timeout)
    except (OSError, TimeoutError) as error:
        raise ClusterError(
            f"no Dask scheduler answers at {address} ({ADDRESS}): {error}\n"
            "Start one with `make cluster`, or unset the variable to compute on this machine."
        ) from None
    with client:
        check_versions(client)
        try:
            yield f"{len(client.scheduler_info(n_workers=-1)['workers'])} workers of {address}"
        except KilledWorker as error:
            raise ClusterError(
                f"{error.task} ended {error.allowed_failures + 1} workers, each with {memory(client)}. Most often it needs more "
                "memory than a worker has:\nmake the partitions smaller, or the workers bigger (make cluster WORKER_MEMORY=4g). "
                "`docker compose logs worker` shows what they printed last."
            ) from error


def spread(function: Callable[[Any], Any], partitions: Iterable[Any]) -> list[Any]:
    """Return [function(partition) for each partition], computed side by side, in the order of the partitions."""
    return list(dask.compute(*(dask.delayed(function, pure=False)(partition) for partition in partitions)))


def check_versions(client: Client) -> None:
    """Raise ClusterError where scheduler, workers and this program do not have the same packages.

    Results would be computed by other code than the one that was tested, or could not be read at all. One
    image for all of them is what prevents it.
    """
    found = client.get_versions()
    mine = found["client"]["packages"]
    differing = [
        f"  {package}: {version or 'none'} on {who}, here {mine[package] or 'none'}"
        for who, other in [("the scheduler", found["scheduler"]), *sorted(found["workers"].items())]
        for package, version in sorted(other["packages"].items())
        if package in mine and version != mine[package]
    ]
    if differing:
        raise ClusterError(
            "the cluster has other versions than this program:\n"
            + "\n".join(differing)
            + "\nAll of it has to come from one image: make cluster-stop build cluster"
        )


def memory(client: Client) -> str:
    """Return the workers' memory limits, as text."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    limits = sorted({worker["memory_limit"] for worker in workers})
    return " or ".join(f"{limit / 2**20:.0f} MiB" for limit in limits) or "unknown memory"


def main() -> None:
    """Wait for as many workers as the command line says, and compare versions."""
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    try:
        with Client(os.environ.get(ADDRESS, "tcp://127.0.0.1:8786"), timeout=30) as client:
            client.wait_for_workers(wanted, timeout=60)
            check_versions(client)
            print(f"{wanted} workers, {memory(client)} each, all of one version")
    except (ClusterError, OSError, TimeoutError) as error:
        sys.exit(f"\nERROR: {error}\n")


if __name__ == "__main__":
    main()
