"""What conda and its packages note of where things came from and who asked for them, as the next reader should find it."""

from __future__ import annotations

import json
from pathlib import Path

from couplet.formats.conda_lock import Package


def forget_sources(prefix: Path) -> None:
    """Delete the direct_url.json files that conda's packages carry.

    They say `installed from a folder on the build machine`, and it is for them that Poetry installs its own copy over
    conda's at the very same version (python-poetry/poetry#6408).
    """
    for file in prefix.glob("lib/python3.*/site-packages/*.dist-info/direct_url.json"):
        if json.loads(file.read_text()).get("url", "").startswith("file:"):
            file.unlink()


def write_history(prefix: Path, packages: list[Package]) -> None:
    """Write conda-meta/history, in which each of the packages was asked for.

    conda takes a folder for an environment when it has this file, and removes what nobody ever asked for as soon as it
    removes anything.
    """
    specs = [f"{name}=={version}={build}" for name, version, build in sorted(p.identity for p in packages)]
    history = f"==> 1980-01-01 00:00:00 <==\n# cmd: conda create --file\n# update specs: {json.dumps(specs)}\n"
    (prefix / "conda-meta/history").write_text(history)


def write_variables(prefix: Path, variables: dict[str, str]) -> None:
    """Write conda-meta/state, whose variables conda sets when it activates the environment."""
    state = prefix / "conda-meta/state"
    if variables:
        state.write_text(json.dumps({"version": 1, "env_vars": variables}, sort_keys=True) + "\n")
    else:
        state.unlink(missing_ok=True)
