"""A recorded activation does what the real one does: real shells run it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from couplet.errors import UserError
from couplet.image import activation

SHELLS = [shell for shell in ("sh", "dash", "bash", "busybox") if shutil.which(shell)]
CONDA = """
conda() {{
    export CONDA_PREFIX="$2" CONDA_SHLVL=1 PATH="$2/bin:$PATH"
    {more}
}}
"""


def stand_in(folder: Path, more: str) -> Path:
    """A conda root whose `conda activate` sets two variables, and does what `more` says, as activate.d scripts do."""
    script = folder / "etc/profile.d/conda.sh"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(CONDA.format(more=more))
    return folder


def run(shell: str, script: Path, **variables: str) -> dict[str, str]:
    """Return the variables after a shell has sourced a script."""
    words = [shutil.which(shell), *(["sh"] if shell == "busybox" else [])]
    command = [*words, "-c", '. "$1"; exec /usr/bin/env -0', "x", str(script)]
    shown = subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout
    return dict(item.split("=", 1) for item in shown.split("\0") if item)


MORE = """export UNITS="it's $HOME" LIBRARIES="/new:${LIBRARIES-}"; : "${KEPT:=by default}"; export KEPT"""


@pytest.mark.parametrize("shell", SHELLS)
def test_the_recording_does_what_the_activation_does(tmp_path, shell):
    prefix = tmp_path / "env"
    activation.record_to(tmp_path / "out", prefix, "sea_ice", stand_in(tmp_path / "conda", MORE))
    script = tmp_path / "out/static.sh"
    fresh = run(shell, script, PATH="/my bin:/bin")
    assert fresh["PATH"] == f"{prefix}/bin:/my bin:/bin"
    assert (fresh["CONDA_PREFIX"], fresh["CONDA_DEFAULT_ENV"]) == (str(prefix), "sea_ice")
    assert (fresh["UNITS"], fresh["KEPT"]) == (f"it's {os.environ['HOME']}", "by default")
    used = run(shell, script, PATH="/bin", LIBRARIES="/mine and more", KEPT="mine", UNITS="gone")
    assert (used["LIBRARIES"], used["KEPT"], used["UNITS"]) == ("/new:/mine and more", "mine", fresh["UNITS"])
    variables = json.loads((tmp_path / "out/variables.json").read_text())
    assert variables["PATH"] == f"{prefix}/bin:{activation.BASE_PATH}" and variables["LIBRARIES"] == "/new:"


def test_a_shell_without_a_path_gets_the_usual_one(tmp_path):
    activation.write(activation.Activation({}, {}, {"PATH": "/env/bin:@before@"}), "env", tmp_path)
    command = ["/bin/sh", "-c", f'unset PATH; . {tmp_path}/static.sh; echo "$PATH"']
    shown = subprocess.run(command, env={}, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == f"/env/bin:{activation.BASE_PATH}"


def test_values_that_shells_read_otherwise_arrive_as_they_are(tmp_path):
    hard = 'a\'b "c" $d `e` \\ \n*'
    activation.write(activation.Activation({"HARD": hard}, {"SOFT": hard}, {}), "env", tmp_path)
    for shell in SHELLS:
        found = run(shell, tmp_path / "static.sh")
        assert (found["HARD"], found["SOFT"]) == (hard, hard), shell


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("""eval "export A=1
export B='it's'"
true""", "eval: line"),
        ("echo its own reason >&2; return 3", "exit code 3.*\n.*its own reason"),
        ("export PATH=/only", "rewrites PATH"),
    ],
)  # fmt: skip
def test_an_activation_that_fails_is_not_recorded(tmp_path, more, message):
    """The first is what conda answers for a variable with an apostrophe: bash goes on, and ends with 0."""
    with pytest.raises(UserError, match=message):
        activation.record_to(tmp_path / "out", tmp_path / "env", "env", stand_in(tmp_path / "conda", more))
    assert not (tmp_path / "out").exists()


def test_what_an_activation_says_is_passed_on(tmp_path, capsys):
    activation.record_to(tmp_path / "out", tmp_path / "env", "env", stand_in(tmp_path / "conda", "echo warning >&2"))
    assert "warning" in capsys.readouterr().err and (tmp_path / "out/static.sh").exists()
