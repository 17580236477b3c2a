"""Where this machine gets conda's packages from: environment.yml names channels, conda's configuration places them.

Locks hold public addresses alone. rattler is asked for those too, and a middleware of its client turns each into the
address that conda's configuration (.condarc) gives it, with its token or password. netrc, the variables of proxies and
SSL_CERT_FILE rattler reads by itself.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from rattler import Client, Config
from rattler.networking import middleware

from couplet.errors import UserError

CONDAS_PYTHON = "/opt/conda/bin/python"
PACKAGE = Path(__file__).parents[2]
PUBLIC = "https://conda.anaconda.org"
SETTINGS = """
import json, runpy, sys
from conda.base.context import context, reset_context
reset_context()
verify = context.ssl_verify
print(json.dumps({
    "channels": list(context.channels),
    "defaults": [one.urls(True, ["noarch"])[0].removesuffix("/noarch") for one in context.default_channels],
    "proxies": dict(context.proxy_servers), "verify": verify if isinstance(verify, (str, bool)) else True,
}), flush=True)
sys.argv[1:] = ["channels"]
runpy.run_module("couplet.install.fetch", run_name="__main__", alter_sys=True)
"""
"""Run by conda's own Python: its settings, then what couplet.install.fetch says of channels, a line of JSON each."""


class Conda(NamedTuple):
    """conda's configuration.

    {public address: address to use instead}, the channels where none is named, what `defaults` means, proxies by
    scheme, and what certificates are compared with (a file, True: the known ones, False: nothing).
    """

    mapping: dict[str, str]
    channels: list[str] = ["conda-forge"]  # noqa: RUF012  (nobody changes it)
    defaults: list[str] = ["pkgs/main", "pkgs/r"]  # noqa: RUF012
    proxies: dict[str, str] = {}  # noqa: RUF012
    verify: str | bool = True


class Channel(NamedTuple):
    """A channel: its name, its public address, and the one that is asked, each without a slash at the end."""

    name: str
    public: str
    address: str

    @property
    def source(self) -> str:
        """The address that rattler is given: the public one, except for a folder, which no middleware can stand for."""
        return self.address if self.address.startswith("file:") else self.public


def with_condas_python(*arguments: str | Path) -> str:
    """Run conda's own Python, which finds conda and this package; return what it prints, or raise it as UserError."""
    # of ours it sees this package alone, and only in this process
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    done = subprocess.run([CONDAS_PYTHON, "-B", *arguments], capture_output=True, text=True, env=environment, cwd="/")
    if done.returncode:
        # our own message, or the last of what conda says
        raise UserError(re.split(r"\nERROR: |\n(?=[\w.]*(?:Error|Exception)\b)", f"\n{done.stderr}")[-1].strip())
    return done.stdout


def configuration() -> Conda:
    """Return conda's configuration, as conda itself reads it."""
    said = with_condas_python("-c", SETTINGS).splitlines()
    found, mapping = json.loads(said[0]), json.loads(said[-1])
    return Conda(mapping, found["channels"], found["defaults"], found["proxies"], found["verify"])


def without_credentials(address: str) -> str:
    """Return an address without its user name, password and token (/t/…), and without a slash at its end."""
    return re.sub(r"/t/[^/]+", "", re.sub(r"://[^/@]*@", "://", address)).rstrip("/")


def mapped(address: str, mapping: dict[str, str]) -> str:
    """Return what stands for an address: the longest of the mapping's that it begins with decides."""
    for public in sorted(mapping, key=len, reverse=True):
        if f"{address}/".startswith(f"{public}/"):
            return mapping[public].rstrip("/") + address[len(public) :]
    return address


def resolve(name: str, conda: Conda) -> Channel:
    """Return the channel of a name or an address. An address that stands for a public one gets that one."""
    asked = name.rstrip("/")
    if "://" not in asked:
        public = f"{PUBLIC}/{asked}"
        return Channel(name, public, mapped(public, conda.mapping))
    behind = {without_credentials(address): public for public, address in conda.mapping.items()}
    plain = without_credentials(asked)
    public = mapped(plain, behind)
    return Channel(name, public, asked if asked != plain else mapped(public, conda.mapping))


def resolved(names: list[str], conda: Conda) -> list[Channel]:
    """Return the channels of environment.yml's names, or conda's own where it names none."""
    wanted: list[str] = []
    for name in names or conda.channels:
        wanted += conda.defaults if name == "defaults" else [name]
    return [resolve(name, conda) for name in dict.fromkeys(wanted)]


def _authorization(channels: list[Channel]) -> dict[tuple[str, str], str]:
    """Return {(host, beginning of the path): header} for the addresses that have a user name and a password in them."""
    found = {}
    for channel in channels:
        parts = urlsplit(channel.address)
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            found[parts.hostname or "", f"{parts.path}/"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return found


def client(channels: list[Channel], conda: Conda) -> Client:
    """Return rattler's client for these channels."""
    for scheme, proxy in conda.proxies.items():
        os.environ.setdefault(f"{scheme.upper()}_PROXY", proxy)
    if isinstance(conda.verify, str) and conda.verify != "truststore":
        os.environ["SSL_CERT_FILE"] = conda.verify
    plain = {
        channel.public: re.sub(r"://[^/@]*@", "://", channel.address) for channel in channels if channel.source == channel.public
    }
    mirrors = {f"{public}/": [f"{address}/"] for public, address in plain.items() if address != public}
    if conda.verify is False:
        text = [
            "tls-no-verify = true",
            "[mirrors]",
            *(f"{json.dumps(one)} = {json.dumps(where)}" for one, where in mirrors.items()),
        ]
        return Client.from_config(Config.from_toml("\n".join(text)))
    known = _authorization(channels)

    def header(host: str, path: str) -> dict[str, str] | None:
        value = next((value for (where, begin), value in known.items() if host == where and path.startswith(begin)), None)
        return {"Authorization": value} if value else None

    # The order matters: first where to go, then who asks.
    middlewares: list[Any] = [
        middleware.MirrorMiddleware(mirrors),
        middleware.RetryMiddleware(3),
        middleware.OciMiddleware(),
    ]
    middlewares += [middleware.AddHeadersMiddleware(header)] if known else []
    return Client([*middlewares, middleware.AuthenticationMiddleware()])
