"""How a build reaches its package sources: what the build secrets say, as variables; and what messages show of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from couplet import network
from couplet.errors import UserError, without_password


@pytest.fixture
def secrets(tmp_path, monkeypatch):
    """The folder of build secrets; the environment is that of before when the test ends."""
    monkeypatch.setattr(network, "SECRETS", tmp_path)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    return tmp_path


INDEXES = {
    "one": ({"index-url": "https://a/simple"}, {"UV_DEFAULT_INDEX": "https://a/simple", "POETRY_PYPI_MIRROR_URL": "https://a/simple"}),
    "a further one": (
        {"index-url": "https://a", "extra-index-url": "https://b https://c"},
        {
            "UV_DEFAULT_INDEX": "https://a", "POETRY_PYPI_MIRROR_URL": "https://a",
            "UV_INDEX": "https://a https://b https://c", "UV_INDEX_STRATEGY": "unsafe-first-match",
        },
    ),
    "a further one beside pip's default": (
        {"extra-index-url": "https://b"}, {"UV_INDEX": "https://default https://b", "UV_INDEX_STRATEGY": "unsafe-first-match"},
    ),
    "none": ({}, {}),
}  # fmt: skip


@pytest.mark.parametrize("case", INDEXES)
def test_pip_conf_says_which_index_is_asked_first(monkeypatch, case):
    monkeypatch.setattr(network, "default_index", lambda: "https://default")
    pip, expected = INDEXES[case]
    found = network.index_variables(pip)
    assert {name: value for name, value in found.items() if not name.endswith("TIMEOUT")} == expected
    assert {value for name, value in found.items() if name.endswith("TIMEOUT")} == {network.PATIENCE}
    assert set(network.index_variables({**pip, "timeout": "9.5"}).values()) >= {"9"}


def test_pip_conf_is_read_as_pip_reads_it(tmp_path):
    file = tmp_path / "pip.conf"
    file.write_text(
        "[global]\nindex-url = https://a\nextra-index-url =\n    https://b\n    https://c%20d\n[install]\nindex_url=x\nindex-url: https://e\n"
    )
    found = network.pip_settings(file)
    assert (found["index-url"], found["extra-index-url"]) == ("https://e", "https://b https://c%20d")
    file.write_text("index-url = https://a\n")
    with pytest.raises(UserError, match=r"pip\.conf cannot be read: "):
        network.pip_settings(file)


def test_secrets_become_variables_and_a_password_is_no_shell(secrets):
    address = "http://ada:a&b;$(c) 'd'=@proxy.example.org:3128"
    (secrets / "proxies").write_text(f"HTTPS_PROXY={address}\nNO_PROXY=.example.org\n")
    (secrets / "ca").write_text("a certificate")
    (secrets / "netrc").write_text("machine a login b password c")
    (secrets / "condarc").write_text("")
    before = os.environ.get("CONDARC")
    network.apply()
    assert (os.environ["HTTPS_PROXY"], os.environ["NO_PROXY"]) == (address, ".example.org")
    clients = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "CONDA_SSL_VERIFY")
    assert {os.environ[name] for name in clients} == {str(secrets / "ca")}
    assert os.environ["NETRC"] == str(secrets / "netrc") and os.environ["PIP_NO_INPUT"] == "1"
    assert os.environ.get("CONDARC") == before, "the negative control: an empty secret is none"


def test_a_command_has_the_settings(secrets, monkeypatch, capfd):
    (secrets / "netrc").write_text("machine a login b password c")
    monkeypatch.setattr(network.os, "execvp", lambda file, words: os.spawnvpe(os.P_WAIT, file, words, os.environ))
    network.main([sys.executable, "-c", "import os; print(os.environ['NETRC'])"])
    assert capfd.readouterr().out == f"{secrets / 'netrc'}\n"


@pytest.mark.parametrize("command", [[], ["no such command"]])
def test_no_such_command_is_said(secrets, command):
    with pytest.raises(UserError, match="couplet network COMMAND"):
        network.main(command)


SHOWN = {
    "debian:bookworm-slim@sha256:0a1b is pinned": "debian:bookworm-slim@sha256:0a1b is pinned",
    "https://ada:secret@conda.example.com/a": "https://***@conda.example.com/a",
    "https://conda.example.com/t/tk-1234/conda-forge/noarch": "https://conda.example.com/t/***/conda-forge/noarch",
    "https://conda.example.com/t/tk-1234": "https://conda.example.com/t/***",
    "https://conda.example.com/t/tk-1234 is gone": "https://conda.example.com/t/*** is gone",
    "HTTP 401 for 'https://conda.example.com/t/tk-1234'": "HTTP 401 for 'https://conda.example.com/t/***'",
    # as Poetry writes it
    "All attempts to connect to ada:secret@pypi.example.com failed": "All attempts to connect to ***@pypi.example.com failed",
    # the negative control: nothing to hide
    "ada@example.com has numpy @ https://example.com/a.whl at 10:30": "ada@example.com has numpy @ https://example.com/a.whl at 10:30",
    "https://conda.example.com/tk/1234 and /tmp/t": "https://conda.example.com/tk/1234 and /tmp/t",
}


@pytest.mark.parametrize("text", SHOWN)
def test_messages_show_no_password_and_no_token_wherever_it_stands(text):
    assert without_password(text) == SHOWN[text]


def test_a_command_finds_poetrys_credentials_where_poetry_may_write(secrets, monkeypatch):
    """Without them Poetry keeps the folder that it has."""
    os.environ.pop("POETRY_CONFIG_DIR", None)
    started = []
    monkeypatch.setattr(os, "execvp", lambda *words: started.append((words, os.environ.get("POETRY_CONFIG_DIR"))))
    network.main(["true", "x"])
    (secrets / "poetry_auth").write_text("[http-basic.corp]\n")
    network.main(["true", "x"])
    assert started[0] == (("true", ["true", "x"]), None)
    folder = Path(started[1][1])
    assert (folder / "auth.toml").read_text() == "[http-basic.corp]\n" and folder != secrets
    (folder / "config.toml").write_text("")


FAILS = """
from couplet.errors import UserError, run

def main():
    raise UserError("nothing comes from https://ada:canary@example.com/t/token-1/x")

run(main)
"""


def test_a_verb_that_fails_says_why_without_a_password_and_with_its_exit_code():
    environment = {"PYTHONPATH": str(Path(network.__file__).parents[1]), "PATH": "/usr/bin:/bin"}

    def python(*words: str) -> tuple[int, str]:
        done = subprocess.run([sys.executable, "-B", *words], capture_output=True, text=True, env=environment)
        return done.returncode, done.stdout + done.stderr

    assert python("-c", FAILS) == (1, "\nERROR: nothing comes from https://***@example.com/t/***/x\n\n")
    assert python("-m", "couplet", "network", "true") == (0, ""), "the negative control"
    assert python("-m", "couplet", "nonsense")[0] == 64
    code, listed = python("-m", "couplet", "--help")
    assert code == 0 and "install-conda" in listed
