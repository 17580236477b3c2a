"""Kernel: registered under the asked name, naming the environment's Python, and running cells."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from tests.harness import checks, container
from tests.harness.container import derived
from tests.harness.variants import variants


def test_the_table_has_a_variant_with_and_one_without_a_kernel():
    assert {row.answers.get("kernel", True) for row in variants(built=True)} == {True, False}


def test_a_variant_without_a_kernel_has_none(without_kernel):
    listed = container.docker(
        "run", "--rm", without_kernel.runtime, "ls", f"{without_kernel.prefix}/share/jupyter/kernels", check=False
    )
    assert listed.code and "No such file" in listed.output


def test_the_kernel_is_registered_and_runs_cells(with_kernel):
    assert checks.kernel(with_kernel.runtime, with_kernel) == []
    assert checks.kernel(with_kernel.dev, with_kernel) == []


def test_the_kernel_runs_for_an_unknown_user(with_kernel):
    assert checks.kernel(with_kernel.runtime, with_kernel, "--user", "12345:0") == []


BROKEN = {
    "it names a Python that is not there": "sed -i 's|/bin/python[0-9.]*\"|/bin/python-gone\"|'",
    "it names another Python": 'sed -i \'s|"/opt/conda[^"]*/bin/python[0-9.]*"|"/usr/bin/env", "python"|\'',
    "it is called otherwise": 'sed -i \'s|"display_name": "|&Other |\'',
    "it does not carry the activation": "sed -i 's|CONDA_PREFIX|CONDA_PREFFIX|'",
    "it is gone": "rm",
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_kernel_is_seen(with_kernel, case):
    """The twin of the first test."""
    file = f"{with_kernel.prefix}/share/jupyter/kernels/{with_kernel.kernel['name']}/kernel.json"
    with derived(with_kernel.runtime, f"USER root\nRUN {BROKEN[case]} {file}") as image:
        # docker run would activate before the kernel starts, and hide what kernel.json lacks
        assert checks.kernel(image, with_kernel, "--env", "NO_ACTIVATE=1")
    assert checks.kernel(with_kernel.runtime, with_kernel, "--env", "NO_ACTIVATE=1") == []


def test_the_example_notebook_runs(with_kernel, copy_of):
    project = copy_of(with_kernel)
    name = project.kernel["name"]
    command = "jupyter nbconvert --to notebook --execute --output done.ipynb notebooks/example.ipynb"
    options = ("--volume", f"{project.path}:/work", "--user", "0")
    container.run(with_kernel.dev, *command.split(), options=options)
    notebook = json.loads((project.path / "notebooks/done.ipynb").read_text())
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", ())]
    assert outputs[0]["text"] == [f"{project.prefix}\n"]
    assert "slope" in "".join(outputs[1]["data"]["text/plain"])
    assert notebook["metadata"]["kernelspec"]["name"] == name


def test_a_kernel_that_cannot_start_fails_the_build(with_kernel, copy_of):
    project = copy_of(with_kernel)
    script = project.path / "docker" / "register_kernel.py"
    script.write_text(script.read_text().replace('"import sys; print(sys.prefix)"', '"import sys; sys.prefix = 1 / 0"'))
    shown = project.make("build", fails=True).output
    assert f"ERROR: kernel {project.kernel['name']} runs in" in shown


def test_make_lab_serves_the_kernel_to_who_has_the_token(with_kernel):
    port = free_port()
    command = ["make", "--no-print-directory", f"IMAGE={with_kernel.images}", "lab", f"PORT={port}"]
    server = subprocess.Popen(
        command, cwd=with_kernel.path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        shown, token = "", None
        for line in server.stdout:
            shown += line
            if found := re.search(rf"http://127\.0\.0\.1:{port}/lab\?token=(\w+)", line):
                token = found.group(1)
                break
        assert token, f"make lab showed no address with a token:\n{shown}"
        specs = answer_of(f"http://127.0.0.1:{port}/api/kernelspecs?token={token}")
        assert with_kernel.kernel["name"] in specs["kernelspecs"]
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/kernelspecs", timeout=30)
    finally:
        for name in container.docker("ps", "--quiet", "--filter", f"ancestor={with_kernel.dev}").stdout.split():
            container.docker("stop", name)
        server.wait(timeout=30)


def answer_of(address: str, seconds: float = 20) -> dict:
    """Return the JSON at an address, which may not be listened on yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return json.load(answer)
        except ConnectionError:
            assert time.monotonic() < deadline, f"{address} does not answer"
            time.sleep(0.2)


def free_port() -> int:
    """Return a port that nothing listens on at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
