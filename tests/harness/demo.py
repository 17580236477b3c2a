"""`nox -s demo`: the default project from nothing, with what it made and how long that took."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.harness import checks, container, network, template
from tests.harness.project import Project
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
    with step("A notebook's cells, through the kernel in the image"):
        problems = checks.kernel(project.runtime, project)
        assert not problems, "\n".join(problems)
    with step(f"docker run {project.runtime}: the analysis"):
        result = container.run(project.runtime)

    conda = project.locked_by_conda()
    poetry = checks.locked_by_poetry(project, {"main"})
    size = int(container.docker("image", "inspect", "--format", "{{.Size}}", project.runtime).output)
    names = {re.sub(r"[-_.]+", "-", name).lower() for name in conda}
    print()
    print(f"  image     {project.runtime}, {size / 1e6:.0f} MB, in {time.monotonic() - began:.0f} s from the template")
    print(f"  packages  {len(conda)} from conda, {len(poetry.keys() - names)} from Poetry")
    print(f"  kernel    {project.kernel['name']} ({project.kernel['display_name']}): ran a notebook's cells in {project.prefix}")
    print("  result    the same straight line through four different data sets:")
    print("".join(f"              {line}\n" for line in result.strip().splitlines()))
    print("Next:")
    settings = template.REPOSITORY / ".cache" / "mirror.env"
    prepare = (
        f". {os.path.relpath(settings, FOLDER)} && " if os.environ.get("CONDARC", "").startswith(str(settings.parent)) else ""
    )
    print(f"  cd {FOLDER.relative_to(template.REPOSITORY)}")
    print(f"  {prepare}make shell")
    print("  make lab" if project.kernel else "  make run")


def main() -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=["auto", "public", "mirror"], default="auto")
    options = parser.parse_args()
    os.environ.update(template.isolated())
    try:
        with network.ready(options.network, progress=lambda text: print(text, flush=True)):
            demonstrate()
    except (AssertionError, EngineError) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
