"""Register the Jupyter kernel, and start it once. Runs with the environment's Python.

Kernels read no profile and know no entry point, so kernel.json carries what the activation sets. It is written by
ipykernel itself, which knows the arguments that its version wants. Then the kernel is started through the name that
notebooks will ask for, and must answer from this environment. With --out, what was written is then laid below that
folder too, as if it were /: a stage can so try the kernel for another one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from couplet import settings
from couplet.errors import UserError


def start_and_ask(name: str, code: str) -> str:
    """Start kernel `name`, run `code`, and return what it printed. Raises RuntimeError where it does not answer."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name=name, startup_timeout=60)
    printed: list[str] = []
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


def stale(name: str, written: str, environment: Path) -> str:
    """Return what is wrong with the kernel.json that Jupyter finds under `name`, or an empty string."""
    from jupyter_client.kernelspec import KernelSpecManager

    found = KernelSpecManager().get_kernel_spec(name)
    if not os.path.samefile(found.resource_dir, written):
        return f"{found.resource_dir}/kernel.json, which hides {written}/kernel.json"
    if not found.argv[0].startswith(f"{environment}/bin/python"):
        return f"{found.argv[0]} (by {written}/kernel.json)"
    return ""


def lay(folder: str, out: Path) -> None:
    """Copy `folder` below `out` as if that were /, inside of folders with the modes that they have there."""
    for parent in reversed(Path(folder).parents):
        place = Path(f"{out}{parent}")
        if not place.is_dir():
            place.mkdir()
            shutil.copymode(parent, place)
    shutil.copytree(folder, f"{out}{folder}")


def register(kernel: settings.Kernel, variables: dict[str, str], environment: Path, out: Path | None = None) -> None:
    """Register a kernel, start it, and copy it below `out`. Raises UserError where it does not run in `environment`."""
    try:
        from ipykernel.kernelspec import install
    except ImportError:
        file = "environment.yml" if Path(sys.prefix, "conda-meta").is_dir() else "pyproject.toml"
        raise UserError(
            f"{file}: a kernel is asked for, and ipykernel is not in the environment. Add it, then: make env-update"
        ) from None
    written = install(prefix=kernel.prefix, kernel_name=kernel.name, display_name=kernel.display_name, env=variables)
    with tempfile.TemporaryDirectory() as home:
        names = ("HOME", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
        # A Jupyter that runs from that prefix looks there by itself.
        os.environ.update(dict.fromkeys(names, home), JUPYTER_PATH=f"{kernel.prefix}/share/jupyter")
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        problem = stale(kernel.name, written, environment)
        found = problem or start_and_ask(kernel.name, "import sys; print(sys.prefix)")
    if found != str(environment):
        way = 'If a package has one of that name, choose another: make update ARGS="--vcs-ref=:current: --data kernel_name=NAME"'
        raise UserError(f"kernel {kernel.name} runs in {found or 'nothing'}, not in {environment}.\n{way}")
    if out:
        lay(written, out)
    print(f"kernel: {kernel.name} ({kernel.display_name}) starts in {found}", flush=True)


def main(arguments: list[str]) -> None:
    """The verb `kernel`."""
    parser = argparse.ArgumentParser(prog="couplet kernel", description=__doc__)
    parser.add_argument("--project", type=Path, required=True, help="folder of .couplet, which says how it is called")
    parser.add_argument("--variables", type=Path, required=True, help="JSON file of what the activation sets")
    parser.add_argument("--environment", type=Path, required=True, help="where the kernel's Python has to be")
    parser.add_argument("--out", type=Path, help="a folder that stands for / of another image")
    options = parser.parse_args(arguments)

    os.umask(0o002)
    if kernel := settings.project(options.project).kernel:
        register(kernel, json.loads(options.variables.read_text()), options.environment, options.out)
