"""Shims, shells and guards, in a folder that stands for / of an image."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import packaging
import pytest

import couplet
from couplet.image import entry_points, guards
from couplet.image.activation import MARK, Activation, write

PREFIX = Path("/opt/env")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image with an environment of two programs, a file that is none, and a shell."""
    for folder in ("opt/activation", "opt/env/bin", "usr/local/bin", "bin", "etc/profile.d", "etc/skel", "root"):
        (tmp_path / folder).mkdir(parents=True)
    for program in ("opt/env/bin/python", "opt/env/bin/tool", "bin/bash", "usr/local/bin/tool"):
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    (tmp_path / "opt/env/bin/notes.txt").touch()
    (tmp_path / "etc/bash.bashrc").write_text("# Debian's\n")
    return tmp_path


def test_programs_get_a_shim_and_what_was_there_stays(root):
    entry_points.shims(root, PREFIX, Path("usr/local/bin"))
    folder = root / "usr/local/bin"
    links = {path.name: os.readlink(path) for path in folder.iterdir() if path.is_symlink()}
    assert links == {"python": "/opt/activation/shim.sh", "bash": "/opt/activation/shim.sh"}
    assert not (folder / "tool").is_symlink() and not (folder / "notes.txt").exists()
    shim = root / "opt/activation/shim.sh"
    assert os.access(shim, os.X_OK) and "@ENV_PREFIX@" not in shim.read_text()


def here(root: Path) -> None:
    """Let the files of the image speak of this folder instead of /, to run them without being in it."""
    for file in (root / "opt/activation").iterdir():
        file.write_text(file.read_text().replace("/opt/", f"{root}/opt/"))


def test_the_shim_activates_and_passes_every_variable_on(root):
    """Names that are no identifiers and exported functions too, which dash drops."""
    prefix = root / "opt/env"
    shutil.copyfile("/usr/bin/env", prefix / "bin/tool")
    entry_points.shells(root, PREFIX, Path("usr/local/bin"), conda=True)
    entry_points.shims(root, PREFIX, Path("usr/local/bin"))
    write(Activation({"ACTIVE": "yes"}, {}, {"PATH": f"{PREFIX}/bin:{MARK}"}), "env", root / "opt/activation")
    (root / "opt/activation/stamp").touch()
    here(root)
    shim = root / "opt/activation/shim.sh"
    link = root / "usr/local/bin/mine"
    link.symlink_to(shim)
    (prefix / "bin/tool").rename(prefix / "bin/mine")
    given = {"PATH": "/usr/bin:/bin", "HOME": str(root), "USER": "me", "a.b": "1", "BASH_FUNC_f%%": "() { :; }"}
    shown = subprocess.run([link], env=given, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {"a.b=1", "BASH_FUNC_f%%=() { :; }", "ACTIVE=yes", f"ENV_PREFIX={root}/opt/env"} <= set(shown)
    by_dash = shim.read_text().replace("#!/bin/bash -p", "#!/bin/sh")
    shim.write_text(by_dash)
    if os.path.realpath("/bin/sh").endswith("dash"):
        shown = subprocess.run([link], env=given, capture_output=True, text=True, check=True).stdout.splitlines()
        assert "ACTIVE=yes" in shown and "a.b=1" not in shown, "that is why it is bash"
    (prefix / "bin/mine").unlink()
    gone = subprocess.run([link], env=given, capture_output=True, text=True)
    assert gone.returncode == 127 and "mine: not in the environment any more" in gone.stderr


def test_a_home_that_cannot_be_written_in_is_replaced_and_named(root):
    shutil.copyfile(entry_points.HERE / "user.sh", root / "user.sh")

    def ask(**variables: str) -> subprocess.CompletedProcess[str]:
        script = f'. {root}/user.sh; echo "$HOME $USER"'
        return subprocess.run(["sh", "-c", script], env=variables, capture_output=True, text=True, check=True)

    home = Path(os.path.expanduser("~"))
    name = pwd.getpwuid(os.getuid()).pw_name
    assert ask().stdout.split() == [str(home), name] and ask().stderr == ""
    assert ask(HOME=str(root), USER="someone").stdout.split() == [str(root), "someone"]
    assert ask(HOME="/nowhere", USER="someone").stdout.split() == [str(home), "someone"]
    asked = ask(HOME="/nowhere")
    assert asked.stdout.split() == [str(home), name] and "cannot write in HOME=/nowhere" in asked.stderr


@pytest.mark.parametrize(("conda", "prompt"), [(True, "CONDA_PROMPT_MODIFIER"), (False, "VIRTUAL_ENV_PROMPT")])
def test_shells_activate_and_their_prompt_says_so(root, conda, prompt):
    (root / "etc/skel/.bashrc").write_text("conda activate base\n")
    entry_points.shells(root, PREFIX, Path("usr/local/bin"), conda)
    rc = (root / "etc/bash.bashrc").read_text()
    assert rc.startswith("# Debian's\n") and prompt in rc and ("conda.sh" in rc) == conda
    assert (root / "opt/activation/activate.sh").read_text().startswith("ENV_PREFIX=/opt/env; export ENV_PREFIX\n")
    assert "PATH=/usr/local/bin:$PATH" in (root / "etc/profile.d/activate.sh").read_text()
    assert (root / "etc/skel/.bashrc").read_text() == "", "a user that is added later must not get conda's base"
    for file in ("etc/bash.bashrc", "etc/profile.d/activate.sh"):
        subprocess.run(["bash", "-n", root / file], check=True)
    script = rc.replace(". /opt/activation/activate.sh", "").replace(". /opt/conda/etc/profile.d/conda.sh", "")
    value = "(sea_ice) " if conda else "sea_ice"
    command = ["bash", "-c", f'PS1="\\u: "; {prompt}="{value}"; USER=me\n{script}{script}\necho "${{PS1@P}}"']
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown == "(sea_ice) me: \n", "once, however often it is read"


def plugin(prefix: Path) -> Path:
    folder = prefix / f"lib/python3.{sys.version_info[1]}/site-packages"
    folder.mkdir(parents=True)
    return folder


def test_a_plugin_is_found_by_its_metadata_and_has_all_that_it_imports(tmp_path):
    """Imported where nothing else of the package is."""
    folder = plugin(tmp_path)
    guards.guard_poetry(tmp_path)
    code = (
        "import importlib.metadata as m, couplet.formats.records, couplet.formats.versions;"
        "print(couplet.__file__, *[e.value for e in m.entry_points(group='poetry.application.plugin')])"
    )
    above = Path(packaging.__file__).parents[1]
    command = [sys.executable, "-S", "-c", code]
    environment = {"PYTHONPATH": f"{folder}:{above}"}
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    assert shown == [f"{folder}/couplet/__init__.py", "couplet.image.poetry_plugin:CondaFirst"]
    (folder / "couplet/formats/names.py").unlink()
    assert subprocess.run(command, env=environment, capture_output=True).returncode, "it does need that file"


def test_condas_plugin_is_found_by_its_metadata(tmp_path):
    folder = plugin(tmp_path)
    guards.guard_conda(tmp_path)
    assert (folder / "lock_reminder-1.0.dist-info/entry_points.txt").read_text() == (
        "[conda]\nlock_reminder = couplet.image.conda_plugin\n"
    )
    source = Path(couplet.__file__).parent / "image/conda_plugin.py"
    assert (folder / "couplet/image/conda_plugin.py").read_text() == source.read_text()


def test_pip_refuses_where_the_marker_is(tmp_path):
    plugin(tmp_path)
    guards.refuse_pip(tmp_path, guards.CONDAS)
    text = next(tmp_path.rglob("EXTERNALLY-MANAGED")).read_text()
    assert text.startswith("[externally-managed]\nError=") and "poetry add PACKAGE" in text
    assert not [*tmp_path.joinpath("lib").glob("*/site-packages/EXTERNALLY-MANAGED")], "beside the standard library"


CONDA = """conda() { export REALLY=yes; }
"""
MADE = ("conda-meta", "conda-meta/history", "conda-meta/state", "etc/conda/activate.d")


@pytest.mark.parametrize("shell", [shell for shell in ("dash", "bash") if shutil.which(shell)])
def test_the_recording_is_used_until_conda_has_changed_the_environment(root, shell):
    """What conda writes when it changes an environment, or its variables, is newer than the recording then."""
    prefix, place = root / "opt/env", root / "opt/activation"
    for name in MADE:
        (prefix / name).mkdir(parents=True) if "." in name or name == "conda-meta" else (prefix / name).touch()
    (root / "opt/conda/etc/profile.d").mkdir(parents=True)
    (root / "opt/conda/etc/profile.d/conda.sh").write_text(CONDA)
    entry_points.shells(root, PREFIX, Path("usr/local/bin"), conda=True)
    write(Activation({"RECORDED": "yes"}, {}, {}), "env", place)
    (place / "stamp").touch()
    here(root)

    def way_in(**variables: str) -> str:
        for name in MADE:
            os.utime(prefix / name, (1, 2) if name == variables.get("newer") else (1, 0))
        os.utime(place / "stamp", (1, 1))
        given = {"HOME": str(root), "USER": "me", "PATH": "/usr/bin:/bin", **variables}
        script = f'. {place}/activate.sh; echo "${{RECORDED-}} ${{REALLY-}} ${{ACTIVATED_PREFIX-}}"'
        return subprocess.run([shell, "-c", script], env=given, capture_output=True, text=True, check=True).stdout.rstrip("\n")

    assert way_in() == f"yes  {prefix}", "the negative control: nothing is newer"
    for name in MADE:
        assert way_in(newer=name) == f" yes {prefix}", name
    assert way_in(ACTIVATED_PREFIX=str(prefix)) == f"  {prefix}", "once"
    assert way_in(ACTIVATED_PREFIX="/another") == f"yes  {prefix}"
    assert way_in(NO_ACTIVATE="1") == "  "


@pytest.mark.parametrize("conda", [True, False])
@pytest.mark.parametrize("kernel", [True, False])
def test_each_image_gets_its_kernel_and_its_guards(root, tmp_path, monkeypatch, conda, kernel):
    """runtime has neither conda nor Poetry, and with conda its kernel was started where the activation was recorded."""
    made = {"environment": "conda-poetry" if conda else "poetry", "package": "ice", "distribution": "ice", "prefix": str(PREFIX)}
    made |= {"platforms": ["linux-64"] if conda else [], "accelerator": "cpu", "base_image": "debian", "kernel": None}
    if kernel:
        made["kernel"] = {"name": "ice", "display_name": "Ice", "prefix": str(PREFIX)}
    (tmp_path / ".couplet").mkdir()
    (tmp_path / ".couplet/project.json").write_text(json.dumps(made))
    done: list[str] = []
    for module, names in ((entry_points, ("one_user", "kernel")), (guards, ("refuse_pip", "guard_poetry", "guard_conda"))):
        for name in names:
            monkeypatch.setattr(module, name, lambda *words, name=name: done.append(name))
    (root / "usr/local/sbin").mkdir()
    expected = {
        "runtime": ["kernel"] * (kernel and not conda),
        "dev": ["kernel"] * kernel + ["refuse_pip"] + ["guard_poetry", "guard_conda"] * conda,
    }
    for kind, steps in expected.items():
        done.clear()
        entry_points.finish(kind, tmp_path, root)
        assert done == ["one_user", *steps], kind
        for link in root.glob("usr/local/*bin/*"):
            link.unlink()
    assert (root / "opt/activation/stamp").exists()
