"""What runs on conda's root: nothing that an old Python cannot read, pins by hash, settings of pip's own files."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import couplet
from couplet.errors import UserError
from couplet.formats.conda_lock import Package
from couplet.install import origins
from couplet.saturn import root

FOLDER = Path(couplet.__file__).parent
OLD = (3, 9)
STARTED = ("couplet.saturn.root", "couplet.install.fetch")
"""The two modules that are started with the Python of conda's root."""
TIMEOUTS = ("PIP_DEFAULT_TIMEOUT", "UV_HTTP_TIMEOUT", "POETRY_REQUESTS_TIMEOUT")


def source(module: str) -> Path:
    path = FOLDER.parent / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imported(module: str) -> set[str]:
    """The modules that a module of the package imports when it is imported itself."""
    found = set()
    for node in ast.parse(source(module).read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # of a package a module, of a module a name
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inner if name.startswith("couplet") and source(name).is_file()}
            found |= {node.module, *modules}
    return found


def reached(start: tuple[str, ...]) -> tuple[set[str], set[str]]:
    """The modules of the package, and of others, that are imported from `start` on."""
    ours, others, waiting = set(), set(), list(start)
    while waiting:
        module = waiting.pop()
        if module not in ours:
            ours.add(module)
            names = imported(module)
            waiting += [name for name in names if name.startswith("couplet")]
            others |= {name.partition(".")[0] for name in names if not name.startswith("couplet")}
    return ours, others


def later_than_3_9(others: set[str]) -> set[str]:
    """Which of these modules Python 3.9 does not have."""
    return (others - sys.stdlib_module_names) | (others & {"tomllib"})


def test_what_runs_on_the_root_imports_what_python_3_9_has():
    ours, others = reached(STARTED)
    assert {"couplet.errors", "couplet.network", "couplet.formats.conda_lock"} <= ours
    assert later_than_3_9(others) == set()
    # the negative control: what runs with the environment's Python may not
    assert "tomllib" in later_than_3_9(reached(("couplet.settings",))[1])


def test_what_runs_on_the_root_is_written_for_python_3_9():
    paths = [source(module) for module in reached(STARTED)[0]]
    for path in paths:
        ast.parse(path.read_text(), feature_version=OLD)
        assert "from __future__ import annotations" in path.read_text() or path.name == "__init__.py", path
    with pytest.raises(SyntaxError):
        ast.parse("match 1:\n    case 1: pass\n", feature_version=OLD)


def old_python() -> bool:
    """Whether there is a Python 3.9 that starts: a version manager's shim of that name need not."""
    return bool(shutil.which("python3.9")) and subprocess.run(["python3.9", "-V"], capture_output=True).returncode == 0


@pytest.mark.skipif(not old_python(), reason="there is no Python 3.9 here; tests/saturn/test_saturn.py has one")
@pytest.mark.parametrize("module", STARTED)
def test_python_3_9_imports_it(module):
    words = ["python3.9", "-B", "-c", f"import {module}"]
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parent)}
    assert subprocess.run(words, env=environment).returncode == 0


PINS = """\
poetry-core==2.5.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
uv==0.13.8 \\
    --hash=sha256:cc \\
    --hash=sha256:dd
uv-more==1 \\
    --hash=sha256:ee
"""


def test_one_project_is_taken_from_the_pins_with_all_its_hashes(tmp_path):
    pins = tmp_path / "tools.txt"
    pins.write_text(PINS)
    assert root.pin("uv", pins) == "uv==0.13.8 \\\n    --hash=sha256:cc \\\n    --hash=sha256:dd\n"
    with pytest.raises(UserError, match=r"tools.txt has no core"):
        root.pin("core", pins)


def test_the_pins_have_uv():
    assert root.pin("uv", FOLDER.parent / "pins/tools.txt").count("--hash=sha256:") > 0


@pytest.fixture
def pip(tmp_path, monkeypatch):
    """Set a pip.conf; the Python that runs the tests stands for the root's, with a home that holds nothing."""
    for name in ("PIP_INDEX_URL", *TIMEOUTS, "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CONDARC", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(root, "PYTHON", Path(sys.executable))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))

    def write(text: str) -> dict[str, str]:
        (tmp_path / "pip.conf").write_text(f"[global]\n{text}")
        return root.settings()

    return write


def test_pips_settings_hold_for_uv_and_poetry_too(pip):
    found = pip(
        "index-url = https://example.com/simple\nextra-index-url =\n    https://example.com/a\n    https://example.com/b\ntimeout = 300.5\n"
    )
    assert {found[name] for name in TIMEOUTS} == {"300"}
    assert found["UV_DEFAULT_INDEX"] == found["POETRY_PYPI_MIRROR_URL"] == "https://example.com/simple"
    assert found["UV_INDEX"] == "https://example.com/simple https://example.com/a https://example.com/b"
    # the negative control: no setting is none
    found = pip("")
    assert {found[name] for name in TIMEOUTS} == {"120"} and not found.keys() & {"UV_DEFAULT_INDEX", "UV_INDEX"}


def test_a_variable_takes_precedence_over_pips_file(pip, monkeypatch):
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "7")
    monkeypatch.setenv("PIP_INDEX_URL", "https://example.com/mine")
    found = pip("index-url = https://example.com/simple\ntimeout = 300\n")
    assert {found[name] for name in TIMEOUTS} == {"7"} and found["UV_DEFAULT_INDEX"] == "https://example.com/mine"


def test_of_two_files_the_one_that_pip_prefers_counts(pip, tmp_path, monkeypatch):
    """The environment's before the machine's, whatever they are called and in whichever order an old pip names them."""
    lines = []
    for kind, name in (("env", "a.conf"), ("global", "b.conf"), ("site", "gone.conf")):
        lines.append(f"For variant '{kind}', will try loading '{tmp_path}/{name}'")
        if kind != "site":
            (tmp_path / name).write_text(f"[global]\nindex_url = https://example.com/{kind}\n")
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\ncat << 'END'\n" + "\n".join(lines) + "\nEND\n")
    program.chmod(0o755)
    monkeypatch.setattr(root, "PYTHON", program)
    assert root.pip_settings() == {"index-url": "https://example.com/env"}


def test_certificates_and_credentials_of_the_image_are_found_from_another_home(pip, tmp_path):
    before = pip("")
    # (the machine that runs the tests may have certificates of its own in /etc/pip.conf, which the file below overrides)
    assert not before.keys() & {"CONDARC", "NETRC"} and before.get("SSL_CERT_FILE") != "/etc/company.pem"
    (tmp_path / ".condarc").write_text("channels: []\n")
    (tmp_path / ".netrc").write_text("machine example.com login ada password x\n")
    found = pip("cert = /etc/company.pem\n")
    assert found["CONDARC"] == f"{tmp_path}/.condarc" and found["NETRC"] == f"{tmp_path}/.netrc"
    assert found["SSL_CERT_FILE"] == found["REQUESTS_CA_BUNDLE"] == "/etc/company.pem"


def test_another_image_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(root, "PYTHON", tmp_path / "bin/python")
    with pytest.raises(UserError, match="this is not a base image of Saturn Cloud's"):
        root.check_base()
    monkeypatch.setattr(root, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(root, "PREFIX", tmp_path / "envs/saturn")
    with pytest.raises(UserError, match="there is no conda environment `saturn`"):
        root.check_base()
    (tmp_path / "envs/saturn/conda-meta").mkdir(parents=True)
    root.check_base()


NUMPY = Package("https://conda.anaconda.org/conda-forge/linux-64/numpy-2.4.6-py313_0.conda", "0" * 32, "1" * 64)


def test_condas_records_name_the_public_address(tmp_path, monkeypatch):
    """conda has linked files that were fetched before, and would name a folder that is gone."""
    monkeypatch.setattr(root, "PREFIX", tmp_path)
    record = tmp_path / "conda-meta/numpy-2.4.6-py313_0.json"
    record.parent.mkdir()
    record.write_text(json.dumps({"fn": NUMPY.file_name, "url": "file:///tmp/x/numpy.conda", "name": "numpy", "files": []}))
    assert root.recorded() == ["numpy-2.4.6-py313_0"]
    root.name_sources([NUMPY])
    written = json.loads(record.read_text())
    assert (written["url"], written["channel"]) == (NUMPY.url, NUMPY.channel)
    assert 'update specs: ["numpy==2.4.6=py313_0"]' in (tmp_path / "conda-meta/history").read_text()


def test_only_sources_on_the_build_machine_are_forgotten(tmp_path):
    site = tmp_path / "lib/python3.13/site-packages"
    for name, url in (("numpy", "file:///home/conda/numpy"), ("mine", "https://example.com/mine.whl")):
        (site / f"{name}-1.dist-info").mkdir(parents=True)
        (site / f"{name}-1.dist-info/direct_url.json").write_text(json.dumps({"url": url}))
    origins.forget_sources(tmp_path)
    assert [path.parent.name for path in site.rglob("direct_url.json")] == ["mine-1.dist-info"]
