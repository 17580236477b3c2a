"""`nox -s demo`: the default project from nothing, with what it made and how long that took."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.harness import checks, container, network, template
from tests.harness.project import Project
from tests.mirror import engine, settings
from tests.mirror.engine import EngineError

FOLDER = template.REPOSITORY / ".cache" / "demo" / "sea-ice"


@contextmanager
def step(text: str) -> Iterator[None]:
    """Say what begins, and the seconds it took."""
    print(f"{text} ...", flush=True)
    began = time.monotonic()
    yield
    print(f"  {time.monotonic() - began:.1f} s", flush=True)


def demonstrate() -> None:
    """Render, lock, build, run; raises AssertionError with the output of the step that failed."""
    began = time.monotonic()
    rendering = f"Rendering the default project into {FOLDER.relative_to(template.REPOSITORY)}"
    with tempfile.TemporaryDirectory() as scratch, step(rendering):
        shutil.rmtree(FOLDER, ignore_errors=True)
        source = template.snapshot(Path(scratch) / "couplet")
        template.render(source, FOLDER, {"project_name": "Sea Ice"})
    project = Project(FOLDER, "sea-ice")
    with step("make env-update: conda's lock, then Poetry's around it"):
        project.make("env-update")
    with step("make build: the environment from both locks, verified; then the slim image"):
        project.make("build")
    with step("notebooks/example.ipynb, through the kernel in the image"):
        problems = checks.kernel(project.runtime, project)
        assert not problems, "\n".join(problems)
        where = run_notebook(project)
        assert where.startswith(project.prefix), where
    with step(f"docker run {project.runtime}: the analysis"):
        result = container.run(project.runtime)

    conda = project.locked_by_conda()
    poetry = checks.locked_by_poetry(project, {"main"}).keys() - checks.locked_by_poetry(project, {"conda"}).keys()
    size = int(container.docker("image", "inspect", "--format", "{{.Size}}", project.runtime).stdout)
    print()
    print(f"  image     {project.runtime}, {size / 1e6:.0f} MB, in {time.monotonic() - began:.0f} s from the template")
    print(f"  packages  {len(conda)} from conda, {len(poetry)} from Poetry")
    print(f"  kernel    {project.kernel['name']} ({project.kernel['display_name']}): ran the notebook in {project.prefix}")
    print("  result    the same straight line through four different data sets:")
    print("".join(f"              {line}\n" for line in result.rstrip().splitlines()))
    print("Next:")
    print(f"  cd {FOLDER.relative_to(template.REPOSITORY)}{prepare()}")
    print("  make shell")
    print("  make lab")
    if os.environ.get("DOCKER_HOST", "").endswith("/docker.sock") and engine.keep_marker().exists():
        print("\nThe private Docker engine goes on running for that; `nox -s mirror -- down` stops it.")


def run_notebook(project: Project) -> str:
    """Run the code of the example notebook through the kernel, in the image; returns what the cells printed."""
    notebook = json.loads((project.path / "notebooks/example.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return container.run(project.runtime, "python", "-c", checks.NOTEBOOK, json.dumps([project.kernel["name"], cells]))


def prepare() -> str:
    """Return what a shell needs first, where the engine or the package sources are not the usual ones."""
    if os.environ.get("CONDARC") == str(settings.FOLDER / "condarc"):
        return f" && . {os.path.relpath(settings.FILE, FOLDER)}"
    return f" && export DOCKER_HOST={os.environ['DOCKER_HOST']}" if os.environ.get("DOCKER_HOST") else ""


def main() -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    network.add_option(parser)
    options = parser.parse_args()
    os.environ.update(template.isolated())
    try:
        # The engine stays: what is shown is there to be used. One Python is enough for it.
        say = partial(print, flush=True)
        with network.ready(options.network, say, keep=True, minors=["3.13"]):
            demonstrate()
    except (AssertionError, EngineError) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
