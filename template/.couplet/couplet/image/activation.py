"""Run the real activation once and write down what it does, as a script that takes no time.

`. conda.sh && conda activate` starts Python and costs a fifth of a second; what it does for one environment is always
the same. So it runs here, from a clean environment, activate.d scripts included, and its effect on the environment's
variables becomes a static script. A second run, with a mark in each of those variables, tells which of them are lists
that a script adds to, and which it leaves alone where they have a value.

What a recorded activation cannot carry is what is not a variable: shell functions and aliases that an activate.d script
defines, exported ones too (bash hands them on as variables that sh cannot name).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from couplet.errors import UserError

MARK = "@before@"
NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")
BASE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LEAVE = {"_", "PWD", "OLDPWD", "SHLVL", "PS1"} | {
    "CONDA_EXE",
    "CONDA_PYTHON_EXE",
    "_CE_CONDA",
    "_CE_M",
    "_CONDA_EXE",
    "_CONDA_ROOT",
}
"""What the shell itself sets, and what tells where conda is: that is the image's matter."""


class Activation(NamedTuple):
    """What activating does: variables that it sets, that it sets where they are empty, and that it adds to.

    In `lists`, MARK stands where the value that was there before goes.
    """

    fixed: dict[str, str]
    defaults: dict[str, str]
    lists: dict[str, str]


def variables(prefix: Path, before: dict[str, str], conda: Path) -> dict[str, str]:
    """Return the environment after the real activation of `prefix`, started from `before` alone."""
    script = '. "$2/etc/profile.d/conda.sh" && conda activate "$1" && exec /usr/bin/env -0'
    command = ["/bin/bash", "-c", script, "activate", str(prefix), str(conda)]
    done = subprocess.run(command, env=before, capture_output=True, text=True)
    # conda's answer is a script. Where that is no good (a value with an apostrophe in etc/conda/env_vars.d is one
    # reason), bash does half of it and goes on.
    broken = re.search(r"eval: line \d+: .*", done.stderr)
    if done.returncode or broken:
        raise UserError(
            f"`conda activate {prefix}` failed (exit code {done.returncode}):\n{done.stderr.strip()}\n"
            "It runs the scripts of etc/conda/activate.d and sets the variables of etc/conda/env_vars.d and of "
            "environment.yml (variables:)."
        )
    if MARK not in before.values():
        print(done.stderr, end="", file=sys.stderr)
    return dict(item.split("=", 1) for item in done.stdout.split("\0") if item)


def record(prefix: Path, conda: Path) -> Activation:
    """Return what activating `prefix` does. Raises UserError where it fails or cannot be recorded."""
    clean = {"PATH": BASE_PATH, "HOME": os.environ["HOME"]}
    after = variables(prefix, clean, conda)
    changed = {k: v for k, v in after.items() if NAME.fullmatch(k) and k not in LEAVE and clean.get(k) != v}
    marks = {key: MARK for key in changed if key != "PATH" and not key.startswith("CONDA_")}
    marked = variables(prefix, {**clean, **marks}, conda)
    lists = {k: marked[k] for k in changed if MARK in marked.get(k, "") and marked[k] != MARK}
    defaults = {k: v for k, v in changed.items() if marked.get(k) == MARK}
    fixed = {k: v for k, v in changed.items() if k not in {*lists, *defaults, "PATH"}}
    front = after["PATH"].removesuffix(BASE_PATH)
    if front == after["PATH"]:
        raise UserError(f"a script in {prefix}/etc/conda/activate.d rewrites PATH instead of adding to it: {after['PATH']}")
    return Activation(fixed, defaults, {"PATH": front + MARK, **lists})


def script(activation: Activation, name: str) -> str:
    """Return the text of the static script (POSIX sh)."""
    lines = [f"# What activating {name} does, recorded when the image was built."]
    lines += [f"export {key}={shlex.quote(value)}" for key, value in sorted(activation.fixed.items())]
    lines += [f'[ -n "${{{key}-}}" ] || export {key}={shlex.quote(value)}' for key, value in sorted(activation.defaults.items())]
    for key, value in sorted(activation.lists.items()):
        old = f'"${{{key}-{BASE_PATH if key == "PATH" else ""}}}"'
        lines.append(f"export {key}=" + old.join(shlex.quote(part) if part else "" for part in value.split(MARK)))
    return "\n".join([*lines, ""])


def write(activation: Activation, name: str, folder: Path) -> int:
    """Write static.sh and variables.json, for programs that read no shell script, into `folder`; return how many variables."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "static.sh").write_text(script(activation, name))
    lists = {k: v.replace(MARK, BASE_PATH if k == "PATH" else "") for k, v in activation.lists.items()}
    whole = {**activation.fixed, **activation.defaults, **lists}
    (folder / "variables.json").write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n")
    return len(whole)


def record_to(folder: Path, prefix: Path, name: str, conda: Path = Path("/opt/conda")) -> None:
    """Record the activation of `prefix` into `folder`."""
    activation = record(prefix, conda)
    # Activated by its path, an environment is called by its path; people want the name.
    activation.fixed.update(CONDA_DEFAULT_ENV=name, CONDA_PROMPT_MODIFIER=f"({name}) ")
    print(f"activation: {write(activation, name, folder)} variables recorded", flush=True)


def bring_home(mounted: Path = Path("/opt/miniforge"), home: Path = Path("/opt/conda")) -> None:
    """Link a conda that is mounted elsewhere to where it is at home: it activates nothing from anywhere else."""
    for part in mounted.iterdir() if mounted.is_dir() else ():
        if not (home / part.name).exists():
            (home / part.name).symlink_to(part)


def main(arguments: list[str]) -> None:
    """The verb `activation`."""
    parser = argparse.ArgumentParser(prog="couplet activation", description=__doc__)
    parser.add_argument("--prefix", type=Path, required=True)
    parser.add_argument("--name", required=True, help="what `conda activate` may call it, and the prompt shows")
    parser.add_argument("--conda", type=Path, default=Path("/opt/conda"), help="the root of conda")
    parser.add_argument("--out", type=Path, required=True, help="folder that stands for / of the image")
    options = parser.parse_args(arguments)

    bring_home()
    record_to(options.out / "opt/activation", options.prefix, options.name, options.conda)
