"""What uv is asked for, and what is said where it fails."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from couplet.errors import UserError
from couplet.formats.poetry_lock import Locked
from couplet.formats.records import Distribution
from couplet.install import project, pypi, tools
from tests.install.prefix import distribution, poetry_lock, python


def locked(name: str, version: str = "1.0", hashes: tuple[str, ...] = ("sha256:1",), **source: str) -> Locked:
    return Locked(name, version, {"main": ""}, hashes, source, ())


def test_a_requirement_is_exact_and_has_every_hash():
    line = pypi.requirement(locked("a", hashes=("sha256:1", "sha256:2")))
    assert line == "a==1.0 \\\n    --hash=sha256:1 \\\n    --hash=sha256:2"
    assert pypi.requirement(locked("a", type="url", url="https://h/a.whl")).startswith("a @ https://h/a.whl ")


@pytest.mark.parametrize(
    ("package", "message"),
    [
        (locked("a", hashes=()), "a 1.0 has no hashes"),
        (locked("a", type="git", url="https://h/a"), "a comes from a git repository"),
        (locked("a", type="directory", url="../a"), "a comes from a path"),
    ],
)
def test_what_no_hash_can_vouch_for_is_refused(package, message):
    with pytest.raises(UserError, match=message) as caught:
        pypi.requirement(package)
    assert "make env-update" in str(caught.value)


def test_each_index_is_asked_for_its_own_packages_with_its_own_password(tmp_path):
    auth = tmp_path / "auth.toml"
    auth.write_text('[http-basic.other]\nusername = "x"\npassword = "y"\n[http-basic.my-index]\nusername = "u"\npassword = "p"\n')
    mine = locked("b", type="legacy", reference="my-index", url="https://h/simple")
    main, other = pypi.by_index([mine, locked("a")], auth)
    assert ([p.name for p in main.packages], main.options, main.variables) == (["a"], [], {})
    assert [p.name for p in other.packages] == ["b"] and "my_index=https://h/simple" in other.options
    assert other.variables == {"UV_INDEX_MY_INDEX_USERNAME": "u", "UV_INDEX_MY_INDEX_PASSWORD": "p"}
    assert pypi.by_index([mine])[0].variables == {}


def test_what_conda_installs_is_not_installed_again_and_must_be_the_same_version():
    conda = {"numpy": Distribution("numpy", "2.0", "numpy")}
    assert [p.name for p in pypi.without_condas([locked("numpy", "2.0.0"), locked("a")], conda)] == ["a"]
    with pytest.raises(UserError, match=r"numpy: conda installs 2.0 \(package numpy\), poetry.lock has 2.1"):
        pypi.without_condas([locked("numpy", "2.1")], conda)


BUILD = """error: Failed to build `scikit-learn==0.23.2`
  cause: The build backend returned an error
  cause: Call to `backend.build_wheel` failed (exit status: 1)
"""
ADDRESS = BUILD.replace("==0.23.2", " @ https://h/scikit-learn.tar.gz")
HASH = "error: Failed to download and build `a==1`\n  cause: Hash mismatch for `a==1`\n"
AWAY = "error: Failed to download and build `a==1`\n  cause: error sending request for url\n"


@pytest.mark.parametrize(
    ("said", "tries", "message"),
    [
        (BUILD, 1, r"scikit-learn 0.23.2 has no wheel .*\n.*PKG=scikit-learn`\.$"),
        (ADDRESS, 1, "scikit-learn has no wheel"),
        (HASH, 1, "another hash than poetry.lock says"),
        (AWAY, 3, "is the index, or your mirror in pip.conf, reachable"),
    ],
)
def test_a_failure_is_explained_and_tried_again_only_where_that_can_help(tmp_path, monkeypatch, said, tries, message):
    monkeypatch.setattr(pypi.time, "sleep", lambda seconds: None)
    uv, calls = tmp_path / "uv", tmp_path / "calls"
    uv.write_text(f"#!/bin/sh\necho >> {calls}\ncat >&2 << 'END'\n{said}END\nexit 1\n")
    uv.chmod(0o755)
    with pytest.raises(UserError, match=message):
        pypi.install_part(pypi.Part([locked("a")], [], {}), tmp_path, uv)
    assert len(calls.read_text().splitlines()) == tries


def test_where_there_is_a_conda_it_is_offered_for_what_has_no_wheel():
    assert "environment.yml" in pypi.failure(BUILD, conda=True)
    assert "environment.yml" not in pypi.failure(BUILD, conda=False)


def test_files_get_one_time_and_mode_and_are_compiled_but_for_tests(tmp_path):
    folder = python(tmp_path)
    distribution(folder, "a", "1", {"a/code.py": "x = 1\n", "a/tests/test_code.py": "x = 1\n"})
    (tmp_path / ".lock").touch()
    (folder / "a/code.py").chmod(0o644)  # of a cache that was filled with the usual umask
    (folder / "a/tests/test_code.py").chmod(0o755)
    pypi.settle(tmp_path)
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.glob("a/**/*.py")} == {
        "code.py": 0o664,
        "test_code.py": 0o775,
    }
    assert {path.stat().st_mtime for path in folder.glob("a/**/*.py")} == {pypi.SOURCE_TIME}
    assert [path.parent.parent.name for path in folder.rglob("*.pyc")] == ["a"]
    assert not (tmp_path / ".lock").exists()


def test_where_conda_has_everything_uv_is_not_called(tmp_path, capsys):
    python(tmp_path)
    lock = poetry_lock(tmp_path, ("pywin32", "1", "main", "sys_platform == 'win32'"), ("pytest", "9", "dev", ""))
    pypi.install(lock, ["main"], tmp_path, uv=Path("/nowhere"))
    assert "Poetry: 0 packages for main" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError):
        pypi.install(lock, ["main", "dev"], tmp_path, uv=Path("/nowhere"))


def test_an_environment_is_made_without_pip(tmp_path):
    pypi.create(tmp_path / "env", "sea_ice")
    assert "prompt = 'sea_ice'" in (tmp_path / "env/pyvenv.cfg").read_text()
    assert not [*(tmp_path / "env/bin").glob("pip*")]


def test_tools_that_do_not_come_name_the_index_that_was_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://user:secret@index.invalid/simple")
    pins = tmp_path / "tools.txt"
    pins.touch()
    for said, message in (("no route", "could not be downloaded from https"), ("Hash mismatch", "have other hashes in https")):
        with pytest.raises(UserError, match=f"packages of tools.txt {message}://user:secret@index.invalid/simple"):
            tools.install(["sh", "-c", f"echo {said} >&2; exit 1", "sh"], [pins])
    tools.install(["true"], [pins])


def test_tools_are_compared_with_their_hashes_by_the_base_images_pip(tmp_path, monkeypatch):
    """A real wheel from a folder: with its hash it comes, with another it does not."""
    wheel = tmp_path / "tiny-1.0-py3-none-any.whl"
    info = {"METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n", "WHEEL": "Wheel-Version: 1.0\nTag: py3-none-any\n"}
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("tiny.py", "x = 1\n")
        for name, text in {**info, "RECORD": ""}.items():
            file.writestr(f"tiny-1.0.dist-info/{name}", text)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    pins = tmp_path / "tools.txt"
    pins.write_text(f"tiny==1.0 --hash=sha256:{digest}\n")
    tools.into_folder(tmp_path / "target", [pins])
    assert (tmp_path / "target/tiny.py").is_file()
    pins.write_text(f"tiny==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(UserError, match="other hashes"):
        tools.into_folder(tmp_path / "other", [pins])


def test_files_that_pyproject_names_are_stood_in_for_by_their_patterns():
    document = {
        "project": {"readme": "README.md", "license-files": ["LICEN[CS]E*"], "license": "MIT"},
        "tool": {"poetry": {"packages": [{"include": "sea_ice", "from": "lib"}, {"include": "one.py"}]}},
    }
    assert project.patterns(document) == ["LICEN[CS]E*", "README.md", "lib/sea_ice/__init__.py", "./one.py"]
    assert str(project.stand_in("docs/**/LICEN[CS]E*")) == "docs/LICENCEx"


def test_the_notes_of_the_projects_wheel_are_forgotten(tmp_path):
    info = distribution(tmp_path, "sea_ice", "1", {"sea_ice-1.dist-info/direct_url.json": "{}"})
    project.forget_the_wheel(info / "RECORD")
    assert not (info / "direct_url.json").exists() and "direct_url" not in (info / "RECORD").read_text()
    assert "METADATA" in (info / "RECORD").read_text()


def test_the_verbs_say_what_they_take():
    for verb in ("tools", "install-pypi", "verify", "install-project", "install-conda", "cuda"):
        done = subprocess.run(
            [sys.executable, "-m", "couplet", verb, "--help"], capture_output=True, text=True,
            env={"PYTHONPATH": str(Path(pypi.__file__).parents[2]), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        assert done.returncode == 0 and f"couplet {verb}" in done.stdout, done.stderr


def test_tools_are_written_for_their_group_as_packages_are(tmp_path, monkeypatch):
    """They share uv's cache with the packages, and a file's mode there is that of whoever came first."""
    uv, pins = tmp_path / "uv", tmp_path / "tools.txt"
    uv.write_text('#!/bin/sh\nif [ "$1" = venv ]; then for venv; do :; done; mkdir "$venv" && : > "$venv/file"; fi\n')
    uv.chmod(0o755)
    pins.touch()
    monkeypatch.setattr(os, "environ", dict(os.environ))
    before = os.umask(0o022)
    try:
        tools.main(["--venv", str(tmp_path / "venv"), "--uv", str(uv), str(pins)])
    finally:
        os.umask(before)
    assert (tmp_path / "venv/file").stat().st_mode & 0o777 == 0o664


def test_uv_is_told_of_names_and_hashes_and_of_nothing_else(tmp_path):
    """What a package needs is in poetry.lock, or conda installs it: uv must not add it, which might lie over conda's."""
    uv, said = tmp_path / "uv", tmp_path / "said"
    uv.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {said}\nwhile [ "$1" != --requirements ]; do shift; done\ncat "$2" >> {said}\n'
    )
    uv.chmod(0o755)
    pypi.install_part(pypi.Part([locked("a"), locked("b", "2", ("sha256:2",))], ["--index", "x=y"], {}), tmp_path, uv)
    words = said.read_text().split()
    assert {"--no-deps", "--require-hashes"} <= set(words) and words[words.index("--index") + 1] == "x=y"
    assert said.read_text().endswith("a==1.0 \\\n    --hash=sha256:1\nb==2 \\\n    --hash=sha256:2\n")
