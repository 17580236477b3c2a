"""The one script of `make saturn`: what goes in, what stays out, and that the same files give the same bytes."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import couplet
from couplet.errors import UserError
from couplet.saturn import pack

PACKAGE = Path(couplet.__file__).parent
SETTINGS = {
    "environment": "conda-poetry",
    "package": "sea_ice",
    "distribution": "sea-ice",
    "prefix": "/opt/conda/envs/sea_ice",
    "platforms": ["linux-64"],
    "accelerator": "cpu",
    "base_image": "debian:bookworm-slim",
    "kernel": None,
}


@pytest.fixture
def project(tmp_path) -> Path:
    """A project with the template's own package in it."""
    texts = {
        "pyproject.toml": '[project]\nname = "sea-ice"\n',
        "README.md": "# Sea ice\n",
        "poetry.lock": "# lock\n",
        "conda-linux-64.lock": "@EXPLICIT\n",
        "src/sea_ice/__init__.py": "",
        "src/sea_ice/analysis.py": "STEPS = 3\n",
        ".couplet/project.json": json.dumps(SETTINGS),
        ".couplet/pins/tools.txt": "uv==1\n",
        ".couplet/pins/poetry.txt": "poetry==2\n",
        ".couplet/pins/copier.txt": "copier==9\n",
    }
    for file in PACKAGE.rglob("*.py"):
        texts[f".couplet/couplet/{file.relative_to(PACKAGE)}"] = file.read_text()
    for name, text in texts.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def script(project: Path, capsys: pytest.CaptureFixture[str]) -> str:
    pack.main(["--project", str(project)])
    return capsys.readouterr().out


def packed(text: str) -> list[str]:
    """The names of the files in a script."""
    body = text.partition("<< 'END'\n")[2].partition("\nEND\n")[0]
    return tarfile.open(fileobj=io.BytesIO(base64.b64decode(body)), mode="r:xz").getnames()


def test_everything_that_the_build_needs_is_in_it(project, capsys):
    text = script(project, capsys)
    names = packed(text)
    assert {"poetry.lock", "conda-linux-64.lock", "src/sea_ice/analysis.py", ".couplet/project.json"} <= set(names)
    needed = {f".couplet/couplet/{name}" for name in ("errors.py", "saturn/root.py", "saturn/build.py", "install/fetch.py")}
    assert needed <= set(names)
    assert names == sorted(names) and all(f"#   {name}\n" in text for name in names)


def test_what_the_build_does_not_need_stays_out(project, capsys):
    names = packed(script(project, capsys))
    assert any(path.name == "report.py" for path in PACKAGE.joinpath("inspect").iterdir()), "there is something to leave out"
    assert not [name for name in names if "/inspect/" in name or name.endswith("copier.txt")]


def test_the_same_files_give_the_same_script(project, capsys):
    before = script(project, capsys)
    for file in project.rglob("*.py"):
        os.utime(file, (1, 1))
    for name in (".env", "host.pem", "server.key", "module.cpython-313.pyc", ".env.local"):
        (project / "src/sea_ice" / name).write_text("TOKEN=secret\n")
    assert script(project, capsys) == before
    # the negative control: what belongs into it makes it another
    (project / "src/sea_ice/analysis.py").write_text("STEPS = 4\n")
    assert script(project, capsys) != before


def test_a_link_is_not_followed_out_of_the_project(project, capsys):
    (project / "src/sea_ice/passwords.py").symlink_to("/etc/passwd")
    assert not [name for name in packed(script(project, capsys)) if "passwords" in name]


@pytest.mark.parametrize("name", ["src/sea_ice/analysis.py", "pyproject.toml"])
def test_an_address_with_a_password_is_refused(project, capsys, name):
    with (project / name).open("a") as file:
        file.write('# SOURCE = "https://ada:secret@data.example.org/levels.csv"\n')
    with pytest.raises(UserError, match=rf"{name}, line \d+: an address with a password") as raised:
        script(project, capsys)
    assert "secret" not in str(raised.value)


def test_an_address_without_a_password_is_not(project, capsys):
    (project / "src/sea_ice/analysis.py").write_text('SOURCE = "https://data.example.org/levels.csv"\n')
    assert "src/sea_ice/analysis.py" in packed(script(project, capsys))


def test_without_locks_it_says_how_to_get_them(project, capsys):
    (project / "poetry.lock").unlink()
    with pytest.raises(UserError, match=r"there is no poetry.lock: `make env-update` makes locks"):
        script(project, capsys)


OTHER = '[tool.poetry]\npackages = [{ include = "sea_ice", from = "src" }, { include = "%s"%s }]\n'


@pytest.mark.parametrize(("include", "more"), [("tides", ""), ("tides", ', from = "lib"'), ("tides.py", ', format = ["wheel"]')])
def test_code_outside_of_src_is_refused(project, capsys, include, more):
    (project / "pyproject.toml").write_text(OTHER % (include, more))
    with pytest.raises(UserError, match=rf"^(lib/)?{include}: of the code only src/ goes into Saturn's images"):
        script(project, capsys)


def test_a_package_beside_pyproject_is_refused(project, capsys):
    (project / "src/sea_ice").rename(project / "sea_ice")
    (project / "src").rmdir()
    with pytest.raises(UserError, match=r"^sea_ice: of the code only src/"):
        script(project, capsys)


@pytest.mark.parametrize("more", [', from = "./src"', ', from = "src/more"', ', format = "sdist"'])
def test_other_packages_in_src_and_what_no_wheel_holds_are_not(project, capsys, more):
    (project / "pyproject.toml").write_text(OTHER % ("tides", more))
    assert "pyproject.toml" in packed(script(project, capsys))


def test_a_script_that_was_changed_runs_nothing(project, tmp_path_factory, capsys):
    """Pasted whole, it unpacks itself and starts; cut short or changed, it ends before anything of it is unpacked."""
    text = script(project, capsys).replace("/opt/saturncloud/bin/python", sys.executable)
    start, _, end = text.rpartition("PYTHONPATH=")
    assert end.startswith("$folder/.couplet")
    head, body, end = re.split(r"(?<='END'\n)|(?=\nEND\n)", f'{start}ls -A "$folder"\n')
    other = "B" if body[100] == "A" else "A"
    # at any character: base64 has four for three bytes
    cut = [(body[: len(body) // 2 + more], False) for more in range(4)]
    for content, whole in ((body, True), *cut, (body[:100] + other + body[101:], False)):
        done = subprocess.run(["bash", "-c", head + content + end], capture_output=True, text=True)
        assert (done.returncode == 0) == whole == ("pyproject.toml" in done.stdout), done.stderr
        assert whole or "make saturn" in done.stderr
