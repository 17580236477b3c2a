"""Register the Jupyter kernel, and start it once.

Kernels read no profile and know no entry point, so kernel.json carries what the activation sets.
It is written by ipykernel itself, which knows the arguments that its version wants. Then the kernel
is started through the name that notebooks will ask for, and must answer from this environment.
With --out, what was written is then laid below that folder too, as if it were /: a stage can so try
the kernel for another one.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path


def start_and_ask(name, code):
    """Start kernel `name`, run `code`, and return what it printed. Raises RuntimeError where it does not answer."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name=name, startup_timeout=60)
    printed = []
    try:
        client.execute_interactive(
            code,
            timeout=60,
            allow_stdin=False,
            output_hook=lambda message: printed.append(
                message["content"].get("text", "") or str(message["content"].get("evalue", ""))
            ),
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return "".join(printed).strip()


def stale(name, written, environment):
    """Return what is wrong with the kernel.json that Jupyter finds under `name`, or an empty string."""
    from jupyter_client.kernelspec import KernelSpecManager

    found = KernelSpecManager().get_kernel_spec(name)
    if not os.path.samefile(found.resource_dir, written):
        return f"{found.resource_dir}/kernel.json, which hides {written}/kernel.json"
    if not found.argv[0].startswith(f"{environment}/bin/python"):
        return f"{found.argv[0]} (by {written}/kernel.json)"
    return ""


def lay(folder, out):
    """Copy `folder` below `out` as if that were /, inside of folders with the modes that they have there."""
    for parent in reversed(Path(folder).parents):
        if not os.path.isdir(f"{out}{parent}"):
            os.mkdir(f"{out}{parent}")
            shutil.copymode(parent, f"{out}{parent}")
    shutil.copytree(folder, out + folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernel", type=Path, required=True, help="JSON file: name, display_name, prefix")
    parser.add_argument("--variables", type=Path, required=True, help="JSON file of what the activation sets")
    parser.add_argument("--environment", required=True, help="where the kernel's Python has to be")
    parser.add_argument("--out", default="", help="a folder that stands for / of another image")
    options = parser.parse_args()

    kernel = json.loads(options.kernel.read_text())
    try:
        from ipykernel.kernelspec import install
    except ImportError:
        file = "environment.yml" if Path(sys.prefix, "conda-meta").is_dir() else "pyproject.toml"
        sys.exit(
            f"\nERROR: {file}: a kernel is asked for, and ipykernel is not in the environment. Add it, then: make env-update\n"
        )
    written = install(
        prefix=kernel["prefix"],
        kernel_name=kernel["name"],
        display_name=kernel["display_name"],
        env=json.loads(options.variables.read_text()),
    )

    with tempfile.TemporaryDirectory() as home:
        os.environ.update(
            HOME=home,
            JUPYTER_DATA_DIR=home,
            JUPYTER_RUNTIME_DIR=home,
            # A Jupyter that runs from that prefix looks there by itself.
            JUPYTER_PATH=f"{kernel['prefix']}/share/jupyter",
            IPYTHONDIR=home,
            PYTHONDONTWRITEBYTECODE="1",
        )
        problem = stale(kernel["name"], written, options.environment)
        found = start_and_ask(kernel["name"], "import sys; print(sys.prefix)") if not problem else problem
    if found != options.environment:
        sys.exit(
            f"\nERROR: kernel {kernel['name']} runs in {found or 'nothing'}, not in {options.environment}.\n"
        )
    if options.out:
        lay(written, options.out)
    print(f"kernel: {kernel['name']} ({kernel['display_name']}) starts in {found}", flush=True)


if __name__ == "__main__":
    main()
