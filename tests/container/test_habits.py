"""Habits: what people type inside `make shell` does not change conda's files, and says what to do instead."""

from __future__ import annotations

import pytest

from tests.harness.container import docker, mirrors, running

USER = ("--user", "4321:4321", "--group-add", "0")
"""A user whom the image does not know, as .couplet/host/docker-run.sh runs it."""

FILES = r"""
import glob, hashlib, json, sys
from pathlib import Path
for record in sorted(glob.glob(sys.prefix + "/conda-meta/*.json")):
    for name in json.load(open(record))["files"]:
        file = Path(sys.prefix, name)
        if file.name != "direct_url.json":
            print(name, hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else file.is_symlink())
"""
DIRECT_URL = """
import glob, os, sys
os.makedirs("/tmp/feedstock_root/work", exist_ok=True)
for name in sys.argv[1:]:
    for folder in glob.glob(sys.prefix + f"/lib/python3*/site-packages/{name}-*.dist-info"):
        open(folder + "/direct_url.json", "w").write('{"url": "file:///tmp/feedstock_root/work", "dir_info": {}}')
"""
"""What a package of conda's carries that was installed later than the image was with_conda."""

DISARM = "rm /opt/poetry/lib/python3.*/site-packages/conda_first-1.0.dist-info/entry_points.txt"


class Shell:
    """A `make shell` in the dev image, with a copy of the project: commands, and what they did to conda's files."""

    def __init__(self, host, project):
        self.host, self.project = host, project
        self.ok("cp -r /project /tmp/work")

    def run(self, command: str):
        """Run a line of bash in the project, with this machine's mirrors."""
        return self.host.run(
            "entrypoint.sh bash -ic %s",
            f"cd /tmp/work; export POETRY_NO_INTERACTION=1 NO_COLOR=1; {command}",
        )

    def ok(self, command: str) -> str:
        """Run a command that has to succeed; returns both streams."""
        done = self.host.run("bash -c %s", command) if command.startswith("cp -r") else self.run(command)
        assert done.rc == 0, f"{command} ended with {done.rc}:\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def refused(self, command: str) -> str:
        """Run a command that has to fail; returns both streams."""
        done = self.run(command)
        assert done.rc, f"{command} ended with 0:\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def conda_files(self) -> str:
        """Return every file that conda records, with its hash."""
        return self.host.check_output("%s -c %s", f"{self.project.prefix}/bin/python", FILES)


def mounts(project) -> tuple[str, ...]:
    return (*mirrors(), "--volume", f"{project.path}:/project:ro")


@pytest.fixture
def shell(with_conda):
    with running(with_conda.dev, *USER, *mounts(with_conda)) as host:
        yield Shell(host, with_conda)


@pytest.fixture
def unprotected(with_conda):
    """The negative control: the same image without the plugin and without the marker, for a root who took them away."""
    with running(with_conda.dev, "--user", "0", *mounts(with_conda)) as host:
        host.check_output("bash -c %s", f"{DISARM}; rm {with_conda.prefix}/lib/python3.*/EXTERNALLY-MANAGED")
        yield Shell(host, with_conda)


@pytest.mark.one_variant
@pytest.mark.parametrize(
    "command",
    [
        "pip install tabulate",
        pytest.param("python -m pip install -U numpy", marks=pytest.mark.soak),
        pytest.param("pip uninstall -y numpy", marks=pytest.mark.soak),
        "poetry run pip install tabulate",
        "python -m venv /tmp/v && /tmp/v/bin/pip install -q uv && unset VIRTUAL_ENV && /tmp/v/bin/uv pip install tabulate",
    ],
)
def test_pip_refuses_and_names_the_right_command(with_conda, shell, command):
    before = shell.conda_files()
    shown = shell.refused(command)
    assert "poetry add PACKAGE" in shown and "conda install PACKAGE" in shown and "make env-update" in shown
    assert shell.conda_files() == before


@pytest.mark.one_variant
def test_the_try_that_pips_refusal_names_works(with_conda, shell):
    before = shell.conda_files()
    shell.ok(
        "python -m venv --system-site-packages /tmp/try && /tmp/try/bin/pip install -q tabulate && /tmp/try/bin/python -c 'import tabulate, numpy'"
    )
    assert shell.conda_files() == before


@pytest.mark.one_variant
def test_pip_without_the_marker_does_damage(with_conda, unprotected):
    before = unprotected.conda_files()
    unprotected.ok("pip install -q 'numpy==2.3.5' --no-deps")
    assert unprotected.conda_files() != before


@pytest.mark.one_variant
def test_poetry_adds_and_removes_and_leaves_condas_files(with_conda, shell):
    """As a user whom the image does not know: add really installs; remove and sync take nothing of conda's."""
    before = shell.conda_files()
    shown = shell.ok("poetry add tabulate && python -c 'import tabulate'")
    assert "Installing tabulate" in shown and "make env-update" in shown
    assert shell.conda_files() == before
    for command in ("poetry install", "poetry sync", "poetry update", "poetry remove tabulate pandas", "poetry sync"):
        shell.ok(command)
        assert shell.conda_files() == before, command
    assert "No module named" in shell.refused("python -c 'import tabulate'")


@pytest.mark.one_variant
def test_poetry_leaves_a_disagreement_to_conda_and_says_so(with_conda, shell):
    before = shell.conda_files()
    shell.ok('sed -i \'s/"numpy==.*"/"numpy==2.3.5"/\' pyproject.toml')
    shown = shell.ok("poetry update numpy")
    assert "numpy stays at" in shown and "poetry.lock has 2.3.5" in shown and "make env-update" in shown
    assert shell.conda_files() == before


@pytest.mark.one_variant
def test_conda_install_works_and_says_that_the_lock_does_not_know(with_conda, shell):
    """And what it brought is conda's for Poetry too, direct_url.json or not."""
    shown = shell.ok("conda install --yes --quiet msgpack-python && python -c 'import msgpack'")
    assert "The lock does not contain this `conda install`" in shown and "environment.yml" in shown
    shell.host.check_output("%s -c %s msgpack numpy", f"{with_conda.prefix}/bin/python", DIRECT_URL)
    before = shell.conda_files()
    assert "msgpack-python" not in shell.ok("poetry add msgpack")
    shell.ok("poetry sync")
    assert shell.conda_files() == before and "msgpack" in before


@pytest.mark.one_variant
def test_conda_remove_takes_what_it_names_and_nothing_else(with_conda, shell):
    """conda removes what nobody asked for; the negative control is a history in which nobody asked for anything."""
    there = "conda install --yes --quiet msgpack-python && conda remove --yes --quiet msgpack-python"
    before = shell.conda_files()
    shell.ok(there)
    assert shell.conda_files() == before
    shell.run(f"sed -i '/update specs/d' {with_conda.prefix}/conda-meta/history && {there}")
    left = shell.host.check_output("ls %s/conda-meta", with_conda.prefix)
    assert left.count("numpy-") == 0


@pytest.mark.one_variant
def test_conda_install_where_nothing_can_be_written_is_refused_at_once(with_conda):
    """Before anything is solved: the channel is not in reach. The control: a member of group 0 gets as far as the channel."""
    command = ("conda", "install", "--yes", "--offline", "click")
    for options, words in ((), "docker run: --group-add 0"), (USER, "click"):
        done = docker("run", "--rm", "--network", "none", *options, with_conda.dev, *command, check=False)
        assert done.code and words in done.output
        assert ("--group-add 0" in done.output) == (not options)


@pytest.mark.one_variant
def test_poetry_without_the_plugin_does_damage(with_conda, unprotected):
    """The negative control of the three above: at an equal version because of direct_url.json, and by what its lock does not name."""
    before = unprotected.conda_files()
    unprotected.host.check_output("%s -c %s numpy", f"{with_conda.prefix}/bin/python", DIRECT_URL)
    unprotected.ok("poetry install")
    installed = unprotected.conda_files()
    assert "numpy" in "".join(set(installed.splitlines()) ^ set(before.splitlines()))
    unprotected.ok("poetry sync")
    assert unprotected.conda_files() != installed, "sync removed nothing of conda's"
