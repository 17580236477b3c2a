"""Run the real activation once and write down what it does, as a script that takes no time.

`. conda.sh && conda activate` starts Python and costs a fifth of a second; what it does for one
environment is always the same. So it runs here, from a clean environment, activate.d scripts
included, and its effect on the environment's variables becomes a static script. A second run, with a
mark in each of those variables, tells which of them are lists that a script adds to, and which it leaves
alone where they have a value.

What a recorded activation cannot carry is what is not a variable: shell functions and aliases that
an activate.d script defines, exported ones too (bash hands them on as variables that sh cannot name).
"""

import argparse
import json
import os
import re
import shlex
import subprocess
from pathlib import Path

from errors import BuildError, run

MARK = "@before@"
NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")
BASE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What the shell itself sets, and what tells where conda is: that is the image's matter.
LEAVE = {
    "_",
    "PWD",
    "OLDPWD",
    "SHLVL",
    "PS1",
    "CONDA_EXE",
    "CONDA_PYTHON_EXE",
    "_CE_CONDA",
    "_CE_M",
    "_CONDA_EXE",
    "_CONDA_ROOT",
}


def variables(prefix, before, conda):
    """Return the environment after the real activation of `prefix`, started from `before` alone."""
    script = '. "$2/etc/profile.d/conda.sh" && conda activate "$1" && exec /usr/bin/env -0'
    done = subprocess.run(
        ["/bin/bash", "-c", script, "activate", prefix, conda], env=before, capture_output=True, text=True
    )
    if done.returncode:
        raise BuildError(f"`conda activate {prefix}` failed (exit code {done.returncode}):\n{done.stderr}")
    return dict(item.split("=", 1) for item in done.stdout.split("\0") if item)


def record(prefix, conda):
    """Return ({variable: new value}, {variable: value if it has none}, {variable: value with MARK where its old one goes})."""
    clean = {"PATH": BASE_PATH, "HOME": os.environ["HOME"]}
    after = variables(prefix, clean, conda)
    changed = {k: v for k, v in after.items() if NAME.fullmatch(k) and k not in LEAVE and clean.get(k) != v}
    marked = variables(
        prefix, {**clean, **{k: MARK for k in changed if k != "PATH" and not k.startswith("CONDA_")}}, conda
    )
    lists = {k: marked[k] for k in changed if MARK in marked.get(k, "") and marked[k] != MARK}
    defaults = {k: v for k, v in changed.items() if marked.get(k) == MARK}
    fixed = {k: v for k, v in changed.items() if k not in {*lists, *defaults, "PATH"}}
    front = after["PATH"].removesuffix(BASE_PATH)
    if front == after["PATH"]:
        raise BuildError(
            f"an activate.d script of {prefix} rewrites PATH instead of adding to it: {after['PATH']}"
        )
    return fixed, defaults, {"PATH": front + MARK, **lists}


def script(fixed, defaults, lists, name):
    """Return the text of the static script (POSIX sh)."""
    lines = [f"# What `conda activate {name}` does, recorded when the image was built."]
    lines += [f"export {key}={shlex.quote(value)}" for key, value in sorted(fixed.items())]
    lines += [
        f'[ -n "${{{key}-}}" ] || export {key}={shlex.quote(value)}'
        for key, value in sorted(defaults.items())
    ]
    for key, value in sorted(lists.items()):
        old = f"${{{key}-}}"
        lines.append(
            f"export {key}=" + old.join(shlex.quote(part) if part else "" for part in value.split(MARK))
        )
    return "\n".join([*lines, ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prefix", required=True)
    parser.add_argument(
        "--name", required=True, help="what `conda activate` may call it, and the prompt shows"
    )
    parser.add_argument("--conda", default="/opt/conda", help="the root of conda")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()

    fixed, defaults, lists = record(options.prefix, options.conda)
    # Activated by its path, an environment is called by its path; people want the name.
    fixed["CONDA_DEFAULT_ENV"] = options.name
    fixed["CONDA_PROMPT_MODIFIER"] = f"({options.name}) "
    folder = options.out / "opt/activation"
    folder.mkdir(parents=True)
    (folder / "static.sh").write_text(script(fixed, defaults, lists, options.name))
    whole = {
        **fixed,
        **defaults,
        **{key: value.replace(MARK, BASE_PATH if key == "PATH" else "") for key, value in lists.items()},
    }
    (folder / "variables.json").write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n")
    print(f"activation: {len(whole)} variables recorded", flush=True)


if __name__ == "__main__":
    run(main)
