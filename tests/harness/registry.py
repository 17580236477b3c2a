"""A real registry on loopback, for what is pushed and pulled."""

from __future__ import annotations

import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bcrypt

from tests.harness import container, ports
from tests.mirror import cache, debian

CONFIG = """\
version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {folder}/data}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@contextmanager
def running(folder: Path, public: bool, login: tuple[str, str] | None = None) -> Iterator[str]:
    """A registry for the length of a block; yields its address, such as 127.0.0.1:5000. `login` is who may use it.

    On the public network it is the official image, elsewhere Debian's docker-registry, unpacked into the cache:
    nothing is installed. The engine has to run on this machine.
    """
    port = ports.free()
    address = f"127.0.0.1:{port}"
    access, options = "", ()
    if login:
        (folder / "htpasswd").write_text(f"{login[0]}:{bcrypt.hashpw(login[1].encode(), bcrypt.gensalt(4)).decode()}\n")
        access = f"auth: {{htpasswd: {{realm: packages, path: {folder}/htpasswd}}}}\n"
        options = ("--volume", f"{folder}/htpasswd:/htpasswd:ro", "--env", "REGISTRY_AUTH=htpasswd")
        options += ("--env", "REGISTRY_AUTH_HTPASSWD_REALM=packages", "--env", "REGISTRY_AUTH_HTPASSWD_PATH=/htpasswd")
    if public:
        name = container.docker("run", "--detach", "--publish", f"{address}:5000", *options, "registry:2").stdout.strip()
        try:
            yield _wait(address)
        finally:
            container.docker("rm", "--force", "--volumes", name)
        return
    (folder / "config.yml").write_text(CONFIG.format(folder=folder, port=port) + access)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([_program(), "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        yield _wait(address)
    finally:
        process.terminate()
        process.wait(10)


def hold(address: str, *names: str) -> None:
    """Put images of this engine's into the registry at an address, where another builder finds them. They get no further name here."""
    for name in names:
        container.docker("tag", name, f"{address}/{name}")
        container.docker("push", "--quiet", f"{address}/{name}")
        container.docker("image", "rm", f"{address}/{name}")


def _program() -> str:
    """Return Debian's program, which is unpacked once into the cache: to ask apt takes eight seconds where it keeps no cache."""
    folder = cache.root() / "docker-registry"
    with cache.lock("docker-registry"):
        cache.build_once(folder, _unpack)
    return str(folder / "usr/bin/docker-registry")


def _unpack(folder: Path) -> None:
    # as _apt, the user that apt downloads as, has no right to the folder: apt says so, and goes on as root
    if not debian.candidate("docker-registry"):
        debian.update(print)
    with tempfile.TemporaryDirectory() as place:
        subprocess.run(["apt-get", "download", "docker-registry"], cwd=place, check=True, capture_output=True)
        [package] = Path(place).glob("docker-registry_*.deb")
        subprocess.run(["dpkg", "-x", str(package), str(folder)], check=True, capture_output=True)


def _wait(address: str) -> str:
    deadline = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(f"http://{address}/v2/", timeout=5).close()
            return address
        except urllib.error.HTTPError:
            return address  # it answers: it wants a login
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
