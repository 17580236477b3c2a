"""Kernel: registered under the asked name, naming the environment's Python, and running cells."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from tests.harness import checks, container, ports
from tests.harness.container import derived
from tests.harness.locks import edit
from tests.harness.project import Project
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
    "it names another Python": 'sed -i \'s|"/opt/[^"]*/bin/python[0-9.]*"|"/usr/bin/env", "python"|\'',
    "it is called otherwise": 'sed -i \'s|"display_name": "|&Other |\'',
    "it does not carry the activation": "sed -i 's|CONDA_PREFIX|CONDA_PREFFIX|; s|VIRTUAL_ENV\"|VIRTUAL_ENVV\"|'",
    "it is gone": "rm",
}


def past_the_entry_points(project: Project) -> tuple[str, ...]:
    """Options without which `docker run` would activate before the kernel starts, and hide what kernel.json lacks."""
    return ("--env", "NO_ACTIVATE=1", *(() if project.conda else ("--env", "VIRTUAL_ENV=")))


@pytest.mark.one_variant
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_kernel_is_seen(with_kernel, case):
    """The negative control of the first test and of the next."""
    file = f"{with_kernel.kernel['prefix']}/share/jupyter/kernels/{with_kernel.kernel['name']}/kernel.json"
    with derived(with_kernel.runtime, f"USER root\nRUN {BROKEN[case]} {file}") as image:
        assert checks.kernel(image, with_kernel, *past_the_entry_points(with_kernel))


def test_the_kernel_lacks_nothing_that_the_entry_points_set(with_kernel):
    assert checks.kernel(with_kernel.runtime, with_kernel, *past_the_entry_points(with_kernel)) == []


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


KERNEL = ".couplet/couplet/image/kernel.py"


@pytest.mark.one_variant
def test_a_kernel_that_cannot_start_fails_the_build(with_kernel, copy_of):
    project = copy_of(with_kernel)
    edit(project, KERNEL, '"import sys; print(sys.prefix)"', '"import sys; sys.prefix = 1 / 0"')
    shown = project.make("build", fails=True).output
    assert f"ERROR: kernel {project.kernel['name']} runs in" in shown


def test_make_lab_serves_the_kernel_to_who_has_the_token(with_kernel):
    port = ports.free()
    command = ["make", "--no-print-directory", f"IMAGE={with_kernel.images}", "lab", f"PORT={port}", "OPTIONS=--label of=lab"]
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
        labelled = ("ps", "--quiet", "--filter", f"publish={port}", "--filter", "label=of=lab")
        assert container.docker(*labelled).stdout, "what OPTIONS says goes to docker run beside the port"
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/kernelspecs", timeout=30)
    finally:
        for name in container.docker("ps", "--quiet", "--filter", f"publish={port}").stdout.split():
            container.docker("stop", name)
        server.wait(timeout=30)


def answer_of(address: str, seconds: float = 60) -> dict:
    """Return the JSON at an address, which may not be listened on yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return json.load(answer)
        except ConnectionError:
            assert time.monotonic() < deadline, f"{address} does not answer"
            time.sleep(0.2)


LIFE = """
import contextlib, json, os, queue, signal, sys, time
from jupyter_client.manager import start_new_kernel
name, package = sys.argv[1:]
manager, client = start_new_kernel(kernel_name=name, startup_timeout=60)
def ask(code):
    out = []
    reply = client.execute_interactive(code, timeout=60, allow_stdin=False, output_hook=lambda m: out.append(
        m['content'].get('text') or m['content'].get('ename') or ''))
    # a kernel drops what waits in its queue when a cell fails, and what comes just then too
    return ask(code) if reply['content']['status'] == 'aborted' else ''.join(out).strip()
told = {'variable': ask("import os; print(os.environ.get('UDUNITS2_XML_PATH'))"), 'pid': ask('print(os.getpid())')}
told['project'] = ask(f'import {package}.analysis as a; print(len(a.load()))')
client.execute('import time; print("busy", flush=True); time.sleep(60)')
shown = ''  # it can come in parts
while 'busy' not in shown:
    shown += client.get_iopub_msg(timeout=30)['content'].get('text', '')
for _ in range(3):  # on a busy machine one interrupt in a hundred is lost: whoever pressed the button presses it again
    manager.interrupt_kernel()
    with contextlib.suppress(queue.Empty):
        told['interrupted'] = client.get_shell_msg(timeout=10)['content'].get('ename')
        break
told['goes on'] = ask('print(6 * 7)')
os.kill(int(told['pid']), signal.SIGKILL)
while manager.is_alive():
    time.sleep(0.1)
manager.restart_kernel(now=True)
client.wait_for_ready(timeout=60)
told['restarted'] = ask('import os; print(os.getpid())') != told['pid'] and ask("print(os.environ.get('UDUNITS2_XML_PATH'))")
client.stop_channels()
manager.shutdown_kernel(now=True)
print(json.dumps(told))
"""


@pytest.mark.parametrize("kind", ["runtime", "dev"])
def test_the_kernels_life(scripted, kind):
    """It sees activate.d's variables, imports the project, is interrupted and goes on, is killed and starts again.

    It is started without the entry points, so that what it knows is what kernel.json tells it.
    """
    bare = ("--env", "NO_ACTIVATE=1", "--entrypoint", f"{scripted.prefix}/bin/python", "--env", "HOME=/tmp")
    command = ("-c", LIFE, scripted.kernel["name"], scripted.package)
    told = json.loads(container.run(getattr(scripted, kind), *command, options=bare))
    units = f"{scripted.prefix}/share/udunits/udunits2.xml"
    assert told.pop("pid").isdigit()
    assert told == {
        "variable": units, "project": "44", "interrupted": "KeyboardInterrupt", "goes on": "42", "restarted": units,
    }  # fmt: skip
    # the negative control: ipykernel's own kernel, which knows nothing of the activation
    if kind == "runtime":
        told = json.loads(container.run(scripted.runtime, "-c", LIFE, "python3", scripted.package, options=bare))
        assert (told["variable"], told["restarted"]) == ("None", "None")


@pytest.mark.one_variant
def test_a_kernel_whose_json_is_stale_fails_the_build(with_kernel, copy_of):
    project = copy_of(with_kernel)
    stale = (
        "    spec = Path(written, 'kernel.json')\n"
        "    spec.write_text(spec.read_text().replace(f'{environment}/bin/', '/opt/old/bin/'))\n"
    )
    edit(project, KERNEL, "    with tempfile", stale + "    with tempfile")
    shown = project.make("build", fails=True).output
    assert f"ERROR: kernel {project.kernel['name']} runs in /opt/old/bin/python" in shown


@pytest.fixture
def elsewhere(with_kernel, render):
    """The built project with its kernel registered as python3 under another prefix, as Saturn Cloud does."""
    package = with_kernel.package
    answers = {"package_name": package, "kernel_name": "python3", "kernel_prefix": "/opt/saturncloud"}
    answers["environment"] = "conda-poetry" if with_kernel.conda else "poetry"
    project = render(**answers)
    for name in with_kernel.locks():
        shutil.copy2(with_kernel.path / name, project.path / name)
    project.make("build")
    yield project
    container.docker("image", "rm", "--force", project.runtime)


@pytest.mark.one_variant
def test_the_kernel_can_be_registered_as_python3_under_another_prefix(with_kernel, elsewhere: Project):
    assert elsewhere.kernel["prefix"] == "/opt/saturncloud"
    assert checks.kernel(elsewhere.runtime, elsewhere) == []
    code = "from jupyter_client.kernelspec import KernelSpecManager as M; print(M().get_kernel_spec('python3').resource_dir)"
    found = container.run(elsewhere.runtime, "python", "-c", code).strip()
    assert found == "/opt/saturncloud/share/jupyter/kernels/python3"
    # the negative control: the environment's own python3, a file of conda's, is as it was
    found = container.run(elsewhere.runtime, "python", "-c", code, options=("--env", "JUPYTER_PATH=")).strip()
    assert found == f"{elsewhere.prefix}/share/jupyter/kernels/python3"
    digest = ("sha256sum", f"{found}/kernel.json")
    assert container.run(elsewhere.runtime, *digest) == container.run(with_kernel.runtime, *digest)


def test_a_kernel_is_never_registered_over_condas_own(render):
    with pytest.raises(ValueError, match="python3 is the name of ipykernel's own kernel"):
        render(kernel_name="python3", kernel_prefix="/opt/conda/envs/sea_ice")
    with pytest.raises(ValueError, match="absolute path"):
        render("second", kernel_prefix="opt/saturncloud")
    assert render("third", kernel_name="python3").kernel["prefix"] == "/opt/jupyter"
    assert render("fourth").kernel["prefix"] == "/opt/conda/envs/sea_ice"
    with pytest.raises(ValueError, match="python3 is the name of ipykernel's own kernel"):
        render("fifth", environment="poetry", kernel_name="python3", kernel_prefix="/opt/venv")
    assert render("sixth", environment="poetry").kernel["prefix"] == "/opt/venv"
