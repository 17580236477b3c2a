"""`make hpc`: the image as one file runs where there is no Docker, as any user, read-only, with nothing of its entry point."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import hpc
from tests.harness.checks import NOTEBOOK
from tests.harness.container import derived, docker
from tests.harness.hpc import Node
from tests.harness.project import Done, Project

LOOK = """
import json, os, sys
def writable(path):
    try:
        open(os.path.join(path, "written"), "w").close()
    except OSError:
        return False
    return True
names = ("CONDA_PREFIX", "UDUNITS2_XML_PATH", "LANG", "USER")
print(json.dumps({"prefix": sys.prefix, "uid": os.getuid(), "home": writable(os.environ.get("HOME", "/")), "root": writable("/opt"),
                  "here": os.getcwd(), **{name: os.environ.get(name) for name in names}}))
"""
STALE = """
import glob, importlib.util, os, sys
found = glob.glob(sys.prefix + "/lib/python3*/**/*.py", recursive=True)
compiled = [(file, path) for file in found if os.path.exists(path := importlib.util.cache_from_source(file))]
def stale(file, path):
    header = open(path, "rb").read(12)
    return header[4:8] == bytes(4) and int.from_bytes(header[8:12], "little") != int(os.stat(file).st_mtime) & 0xFFFFFFFF
print(len(compiled), [file for file, path in compiled if stale(file, path)][:3])
"""
APPTAINER = """
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
for script in /.singularity.d/env/*.sh; do . "$script"; done
exec "$@"
"""
"""What Apptainer's `exec` does of the environment: a PATH of its own, then the scripts of the image."""


@pytest.fixture(scope="module")
def made(scripted: Project) -> str:
    """What `make hpc` printed."""
    return scripted.make("hpc").output


@pytest.fixture(scope="module")
def node(scripted: Project, made: str) -> Iterator[Node]:
    """The image of the project with udunits2 on a machine of a cluster."""
    with hpc.node(scripted) as found:
        yield found


def bundle(node: Node, *command: str) -> Done:
    """Run a command in an OCI bundle, as Slurm's --container does: the runtime's own settings, the job's command."""
    folder = node.folder.parent
    if not (folder / "config.json").exists():
        assert node.run("runc", "spec", "--rootless", "--bundle", str(folder)).code == 0
    settings = json.loads((folder / "config.json").read_text())
    settings["process"] |= {"terminal": False, "args": command, "env": [f"PATH={hpc.PATH}"]}
    (folder / "config.json").write_text(json.dumps(settings))
    return node.run("runc", "--root", str(node.work / "state"), "run", "--bundle", str(folder), f"job-{os.getpid()}")


def charliecloud(node: Node, *command: str, **variables: str) -> Done:
    """Run a command by the line of README.md."""
    return node.run(*node.line("ch-run"), *command, variables=variables)


def apptainer(node: Node, *command: str) -> Done:
    """Run a command in what Apptainer makes of an image: a home, /tmp and nothing else of the machine's; no name for the user."""
    home = [f"--bind={node.home}:/mnt/1", "--unset-env=*", "--set-env=HOME=/mnt/1"]
    return node.run("ch-run", "--no-passwd", *home, str(node.file), "--", "/bin/sh", "-c", APPTAINER, "sh", *command)


RUNTIMES = {
    "Charliecloud": charliecloud,
    "Charliecloud, unpacked": lambda node, *command: node.run("ch-run", "--home", "--set-env", str(node.folder), "--", *command),
    "what Apptainer does": apptainer,
    "an OCI bundle": bundle,
}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_environment_is_active(scripted, node, runtime):
    done = RUNTIMES[runtime](node, "python", "-c", LOOK)
    assert done.code == 0, done.output
    found = json.loads(done.stdout)
    units = f"{scripted.prefix}/share/udunits/udunits2.xml"
    assert (found["prefix"], found["CONDA_PREFIX"], found["UDUNITS2_XML_PATH"]) == (scripted.prefix, scripted.prefix, units)
    assert not found["root"] and found["USER"]
    if runtime != "an OCI bundle":  # which has root's number inside, and no home
        assert found["uid"] == (hpc.USER if os.geteuid() == 0 else os.getuid()) and found["home"] and found["LANG"] == "C.UTF-8"
    for shell in (["bash", "-c"], ["bash", "-lc"], ["sh", "-c"]):
        assert RUNTIMES[runtime](node, *shell, 'echo "$UDUNITS2_XML_PATH"').stdout == f"{units}\n", shell
    # the negative control: past every way in
    done = RUNTIMES[runtime](node, f"{scripted.prefix}/bin/python", "-c", LOOK)
    assert json.loads(done.stdout)["UDUNITS2_XML_PATH"] is None


def test_the_project_works_in_the_folder_where_it_is_called(scripted, node):
    assert json.loads(charliecloud(node, "python", "-c", LOOK).stdout)["here"] == "/work"
    done = charliecloud(node, "sh", "-c", f"python -m {scripted.package} > lines.txt")
    assert done.code == 0, done.output
    written = node.work / "lines.txt"
    assert f"computed in {scripted.prefix}" in written.read_text()
    assert written.stat().st_uid == (hpc.USER if os.geteuid() == 0 else os.getuid())


def test_the_kernel_runs_cells(scripted, node):
    cells = ["import os, sys\nprint(sys.prefix)", "print(os.environ['UDUNITS2_XML_PATH'])"]
    command = [f"{scripted.prefix}/bin/python", "-c", NOTEBOOK, json.dumps([scripted.kernel["name"], cells])]
    assert charliecloud(node, *command).stdout.split() == [scripted.prefix, f"{scripted.prefix}/share/udunits/udunits2.xml"]
    # the negative control
    done = charliecloud(node, *command[:-1], json.dumps(["another", cells]))
    assert done.code and "another" in done.output


def test_packages_of_a_home_or_of_a_module_stay_out(scripted, node):
    """The image's own are those that were locked; a cluster's home is mounted, and its modules set PYTHONPATH."""
    site = node.home / f".local/lib/python{scripted.minor}/site-packages"
    for folder, name in ((site, "of_home"), (node.work, "of_module")):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.py").touch()
    line = node.line("ch-run")
    ask = ["python", "-P", "-c", "import importlib.util as u; print(*[n for n in ('of_home', 'of_module') if u.find_spec(n)])"]
    assert node.run(*line, *ask, variables={"PYTHONPATH": "/work"}).stdout.split() == []
    # the negative control: without the image's variables
    without = [word for word in line if word != "--set-env"]
    assert node.run(*without, *ask, variables={"PYTHONPATH": "/work"}).stdout.split() == ["of_home", "of_module"]


def test_nothing_is_compiled_anew_at_each_start(node, scripted):
    """Times are the image's: a compiled file names that of its source."""
    count, stale = charliecloud(node, "python", "-c", STALE).stdout.split(maxsplit=1)
    assert int(count) > 500 and stale == "[]\n"
    # the negative control: a source of another time
    file = f"{scripted.site_packages}/pandas/__init__.py"
    os.utime(f"{node.folder}{file}", (1, 1))
    done = node.run("ch-run", "--set-env", str(node.folder), "--", "python", "-c", STALE)
    assert done.stdout == f"{count} ['{file}']\n"


def test_make_hpc_says_how_it_is_run(scripted, made):
    readme = (scripted.path / "build/hpc/README.md").read_text()
    assert made.endswith(readme)
    for line in ('ch-run --home --set-env --bind="$PWD:/work" --cd=/work sea-ice.sqfs -- ', "apptainer exec sea-ice.sqfs "):
        assert f"    {line}python -m {scripted.package}\n" in readme


def again(project: Project, images: str, bake: str = "") -> Path:
    """Write the file anew, from the image of a name and with a setting of the target in bake.hcl; return it."""
    file, setting = project.path / "build/hpc/sea-ice.sqfs", project.path / "build/setting.hcl"
    file.unlink()
    # in a file, since buildx forgets a `--set hpc.no-cache-filter=…`
    setting.write_text(f'target "hpc" {{ {bake} }}\n')
    command = [".couplet/host/hpc.sh", "sea-ice", "python", "--file", str(setting)]
    environment = {**os.environ, "IMAGE": images, "BUILDX_BUILDER": "one-that-has-not-the-image"}
    done = subprocess.run(command, cwd=project.path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return file


def listed(file: Path) -> set[str]:
    """What is in it: a line each with kind, mode, owner, size, time and path."""
    done = subprocess.run(["unsquashfs", "-llnumeric", file], check=True, capture_output=True, text=True)
    return set(done.stdout.splitlines())


def test_the_same_image_gives_the_same_file(scripted, node):
    """It is made from the image, not from the folder: what another builder or a later build would give is something else."""
    code = scripted.path / f"src/{scripted.package}/__init__.py"
    before = code.read_text()
    code.write_text(before + "EDITED = True\n")
    try:
        same = again(scripted, scripted.images, 'no-cache-filter = ["squash"]')
    finally:
        code.write_text(before)
    assert listed(same) ^ listed(node.file) == set() and filecmp.cmp(same, node.file, shallow=False)


def test_an_image_of_another_time_gives_another_file(scripted, node):
    """The negative control, and more: to the builder's cache such an image is the same, since it does not look at times."""
    images = f"{scripted.images}-other"
    with derived(scripted.runtime, "USER root\nRUN touch --date=@86400 /etc/motd") as name:
        docker("tag", name, f"{images}:latest")
        try:
            other = again(scripted, images)
        finally:
            docker("image", "rm", f"{images}:latest")
    changed = {path: date for *_, date, _, path in map(str.split, listed(other) - listed(node.file))}
    # the folder too, where Docker makes files in it
    assert changed.pop("squashfs-root/etc/motd") == "1970-01-02" and changed.keys() <= {"squashfs-root/etc"}


def test_variables_reach_the_image_as_they_are(node, scripted):
    """Those of the image's ENV, the ones of a user's own too."""
    found = json.loads(docker("image", "inspect", "--format", "{{json .Config.Env}}", scripted.runtime).stdout)
    told = (node.folder / "ch/environment").read_text().splitlines()
    assert told[3:] == found and "PYTHONNOUSERSITE=1" in told[:3]
    assert (node.folder / "etc/resolv.conf").is_file() and Path(node.folder / "mnt/9").is_dir()


def test_without_conda_the_image_is_active_without_docker(without_conda):
    without_conda.make("hpc")
    look = "import os, sys; print(sys.prefix, os.environ.get('VIRTUAL_ENV'))"
    with hpc.node(without_conda) as node:
        line = node.line("ch-run")
        assert node.run(*line, "python", "-c", look).stdout.split() == [without_conda.prefix, without_conda.prefix]
        assert node.run(*line, "bash", "-lc", 'echo "$VIRTUAL_ENV"').stdout == f"{without_conda.prefix}\n"
        # the negative control: the image's Python, without its variables
        without = [word for word in line if word != "--set-env"]
        assert node.run(*without, "python", "-c", look).stdout.split() == ["/usr/local", "None"]
    shutil.rmtree(without_conda.path / "build")
