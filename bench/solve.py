"""Lock a folder's environment.yml with couplet's solver, for linux-64: `python -m bench.solve FOLDER [PACKAGE …]`.

A process that imports nothing else, so that its seconds and its memory are the solver's. It writes conda.lock, and into
peak.json the most memory that it took, in bytes.
"""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "template/.couplet"))

from couplet.errors import run
from couplet.lock import environment, solve
from couplet.lock.channels import Conda


def main(project: Path, update: set[str]) -> None:
    """Lock the folder; the packages of `update` may change version."""
    cache = project.parent / f"cache-{project.name.split('-')[0]}"
    solver = solve.Solver(environment.read(project), {}, Conda({}), cache)
    found = solve.lock_all(solver, ["linux-64"], solve.previous(project), update, False)
    solve.write(project / "conda.lock", found, solver)
    # the most of this program, not of the one that started it, which getrusage would say
    kilobytes = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    (project / "peak.json").write_text(str(int(kilobytes[1]) * 1024))


if __name__ == "__main__":
    # ends as the package's own programs do: a thread of rattler's may abort the interpreter on its way out
    run(partial(main, Path(sys.argv[1]), set(sys.argv[2:])))
