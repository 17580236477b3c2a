"""How this machine reaches its package sources: build secrets and pip.conf as the variables that conda, pip, uv and Poetry read.

Nothing of it reaches a layer. `make` finds the settings (host/settings.sh) and hands them over as build secrets, and to
containers of the dev image as files of the same names:

    condarc      a .condarc: channel_alias, custom_channels, proxy_servers, credentials
    pip_conf     a pip.conf: index-url, extra-index-url, timeout
    poetry_auth  Poetry's auth.toml
    netrc        user names and passwords by host
    ca           a bundle of certificates that replaces the public one
    proxies      HTTP_PROXY and its like, a line each, where they hold a password

couplet network COMMAND …    runs a command with them: apt-get, or what a step of your own downloads with
"""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from couplet.errors import UserError

SECRETS = Path("/run/secrets")
CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "CONDA_SSL_VERIFY")
"""The variables by which the four clients are told of certificates."""
PATIENCE = "120"
"""Seconds: a mirror that fetches a package when it is first asked for says nothing meanwhile; pip gives up after 15, uv after 30."""


def pip_settings(path: Path) -> dict[str, str]:
    """Return {key: value} of a pip.conf, [install] over [global], lists in one line. Raises UserError for what is no pip.conf."""
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text())
    except (configparser.Error, UnicodeDecodeError) as error:
        raise UserError(f"pip.conf cannot be read: {str(error).splitlines()[0]}") from None
    found: dict[str, str] = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            found |= {key.replace("_", "-"): " ".join(value.split()) for key, value in parser.items(section)}
    return found


def default_index() -> str:
    """Return the address of the index that pip asks where it is told of none, '' where no pip is there to say."""
    code = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
    for python in (sys.executable, "/opt/conda/bin/python", "/opt/miniforge/bin/python", "/usr/local/bin/python3"):
        if os.access(python, os.X_OK):
            done = subprocess.run([python, "-IBc", code], capture_output=True, text=True)
            if done.returncode == 0:
                return done.stdout.strip()
    return ""


def index_variables(pip: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that tell pip, uv and Poetry what a pip.conf says of indexes and of patience.

    uv does not read pip.conf, and Poetry needs a plugin to use another index for what it locks.
    """
    wait = pip.get("timeout", PATIENCE).partition(".")[0]
    found = dict.fromkeys(("PIP_DEFAULT_TIMEOUT", "UV_HTTP_TIMEOUT", "POETRY_REQUESTS_TIMEOUT"), wait)
    index, extra = pip.get("index-url", ""), pip.get("extra-index-url", "")
    if index:
        found |= {"UV_DEFAULT_INDEX": index, "POETRY_PYPI_MIRROR_URL": index}
    if extra:
        # pip asks all of them and takes the file that has the right hash. uv asks these before its default and, by itself,
        # stops at the first that has any version of a package: so the main index comes first, and the others for versions
        # that it lacks.
        found["UV_INDEX"] = f"{index or default_index()} {extra}".strip()
        found["UV_INDEX_STRATEGY"] = "unsafe-first-match"
    return found


def secret(name: str) -> Path | None:
    """Return the file of a build secret, None where it was not given or is empty."""
    path = SECRETS / name
    return path if path.is_file() and path.stat().st_size else None


def apply() -> None:
    """Put into this process' environment what the build secrets say, for the programs that it starts."""
    # Where a password is missing or wrong, say so: there is nobody to be asked for it.
    os.environ["PIP_NO_INPUT"] = "1"
    if proxies := secret("proxies"):
        for line in proxies.read_text().splitlines():
            name, _, value = line.partition("=")
            os.environ[name] = value
    for name, variable in (("condarc", "CONDARC"), ("netrc", "NETRC"), ("pip_conf", "PIP_CONFIG_FILE")):
        if found := secret(name):
            os.environ[variable] = str(found)
    if ca := secret("ca"):
        os.environ.update(dict.fromkeys(CERTIFICATES, str(ca)))
    pip_conf = secret("pip_conf")
    os.environ.update(index_variables(pip_settings(pip_conf) if pip_conf else {}))


def main(arguments: list[str]) -> None:
    """The verb `network`: become a command that has the settings. Raises UserError where there is no such command."""
    apply()
    if auth := secret("poetry_auth"):
        # a folder that Poetry may write in, in this container
        os.environ["POETRY_CONFIG_DIR"] = folder = tempfile.mkdtemp()
        Path(folder, "auth.toml").symlink_to(auth)
    try:
        os.execvp(arguments[0], arguments)
    except (IndexError, OSError) as error:
        raise UserError(f"couplet network COMMAND …: {error}") from None
