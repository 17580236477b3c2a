"""What locking takes: couplet's `make env-update` beside that of 0.4.0, and the solver alone on a channel of conda-forge's size.

    nox -s bench -- lock [--rounds 3]     writes bench/results/lock.json and a table in docs/benchmarks.md
    nox -s bench -- lock --large          the large channel alone, without Docker

| measure | what is timed |
| --- | --- |
| env_update_first | the first lock of a project |
| env_update_nothing | with locks that fit |
| env_update_one_added | one package more in environment.yml |
| env_update_pkg | `PKG=numpy`, with a newer one there |
| large_*, shards or plain | the same three with couplet's solver in a new process, repodata cached, all of the process' seconds; and its peak memory |
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.harness import network, template

from . import channel as large
from .docker import timed
from .measure import Taken
from .report import put

RESULTS = Path(__file__).parent / "results/lock.json"
PEER = "v0.4.0"
SYSTEMS = {"couplet": None, f"couplet {PEER[1:]}": PEER}
"""Name -> the release that renders it, None: the working tree."""
OLD, ADDED = "numpy=2.3.5", "scikit-learn"


def of_the_channel(folder: Path, rounds: int, taken: Taken, say) -> None:
    """Measure `make env-update` on the channel in use, each system in turn."""
    repository = template.snapshot(folder / "template")
    for number in range(rounds + 1):  # the first makes the layers of the tools, and does not count
        for system, version in list(SYSTEMS.items())[:: 1 if number % 2 else -1]:
            found = _updates(repository, folder / f"{number}-{system.replace(' ', '-')}", version)
            say(
                f"{'warming up' if not number else f'round {number} of {rounds}'}: {system}: "
                + ", ".join(f"{k} {v:.1f} s" for k, v in found.items())
            )
            for measure, seconds in found.items():
                if number:
                    taken.add(measure, system, seconds)


def _updates(repository: Path, folder: Path, version: str | None) -> dict[str, float]:
    """Return {measure: seconds} of one project from its first lock on."""
    template.render(repository, folder, {"project_name": "Science"}, version)
    file, clock = folder / "environment.yml", partial(timed, "make", "env-update", cwd=folder)
    asked = file.read_text()
    assert "  - numpy\n" in asked, "environment.yml names numpy"
    file.write_text(asked.replace("  - numpy\n", f"  - {OLD}\n"))
    found = {"env_update_first": clock(), "env_update_nothing": clock()}
    file.write_text(f"{asked}  - {ADDED}\n")
    found["env_update_one_added"] = clock()
    lock = (folder / "conda-linux-64.lock").read_text()
    assert ADDED in lock and OLD.replace("=", "-") in lock, "one package more, and numpy as it was"
    found["env_update_pkg"] = timed("make", "env-update", "PKG=numpy", cwd=folder)
    assert OLD.replace("=", "-") not in (folder / "conda-linux-64.lock").read_text(), "numpy is newer"
    return found


# --- the large channel -----------------------------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    """Files, by HTTP, without a line for each."""

    def send_response(self, code: int, message: str | None = None) -> None:
        """Say in a 304 what has not changed: rattler takes none without it."""
        super().send_response(code, message)
        if code == 304:
            self.send_header("Last-Modified", self.headers["If-Modified-Since"])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def of_a_large_channel(folder: Path, rounds: int, scale: float, taken: Taken, say) -> None:
    """Measure couplet's solver alone, on the made channel: a new process for each call, repodata in a cache after the first."""
    for kind in ("shards", "plain"):
        say(f"making the large channel: {kind}")
        large.write(folder / kind, kind == "shards", scale)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for number in range(rounds + 1):
            for kind in ("shards", "plain"):
                project = folder / f"{kind}-{number}"
                project.mkdir()
                address = f"http://127.0.0.1:{server.server_port}/{kind}"
                for measure, more, update in (
                    ("first", [], []),
                    ("one_added", [large.MORE], []),
                    ("pkg", [large.MORE], ["python"]),
                ):
                    asked = [f"  - {name}\n" for name in ("python", *large.ROOTS, *more)]
                    (project / "environment.yml").write_text(f"channels:\n  - {address}\ndependencies:\n" + "".join(asked))
                    words = [sys.executable, "-m", "bench.solve", str(project), *update]
                    seconds = timed(*words)
                    peak = json.loads((project / "peak.json").read_text())
                    cold = measure == "first" and not number
                    say(f"  {kind}: {measure}{' without a cache' if cold else ''}: {seconds:.2f} s, {peak / 1e6:.0f} MB")
                    name = f"large_{measure}" + ("_no_cache" if cold else "")
                    if number or cold:
                        taken.add(name, kind, seconds)
                        taken.add(f"{name}_memory", kind, peak, "bytes")
        server.shutdown()


def table(rows: list[dict]) -> list[str]:
    """Return the page's lines."""
    lines = ["| measure | system | median | min | max |", "| --- | --- | ---: | ---: | ---: |"]
    for row in rows:
        shown = [
            f"{row[key] / 1e6:.0f} MB" if row["unit"] == "bytes" else f"{row[key]:.2f} s" for key in ("median", "min", "max")
        ]
        lines.append(f"| {row['measure']} | {row['system']} | {' | '.join(shown)} |")
    return lines


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="bench.lock", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    network.add_option(parser)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="the large channel alone: nothing is written")
    parser.add_argument("--scale", type=float, default=1, help="the share of the large channel's records that is made")
    options = parser.parse_args()
    say, taken = partial(print, flush=True), Taken()
    with tempfile.TemporaryDirectory(prefix="couplet-bench-", dir="/var/tmp") as folder:
        if not options.large:
            with network.ready(options.network, say):
                of_the_channel(Path(folder), options.rounds, taken, say)
        of_a_large_channel(Path(folder), options.rounds, options.scale, taken, say)
    print(*table(taken.rows()), sep="\n")
    if not options.large and options.scale == 1:
        from .__main__ import machine

        RESULTS.write_text(json.dumps({"machine": machine(), "workload": "lock", "rows": taken.rows()}, indent=1) + "\n")
        put("lock", table(taken.rows()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
