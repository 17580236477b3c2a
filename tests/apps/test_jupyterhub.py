"""The jupyterlab image as a JupyterHub starts it: the real hub, its proxy, DockerSpawner and the idle culler."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By

from tests.apps.test_apps import cells, health, last_check, runs_all_cells, wait
from tests.harness import browser, hub, ports, template
from tests.harness.container import derived, docker
from tests.mirror import engine

TOKEN = "0123456789abcdef0123456789abcdef"
"""What the tests ask the hub's API with."""

CONFIG = """
{page}
# above: what docs/apps.md says; below: where this hub is, who may do what, and three users who are started in their own way
c.DockerSpawner.image = "{image}"
c.DockerSpawner.prefix = "{images}-hub"
c.DockerSpawner.volumes = {{f"{images}-{{name}}": folder for name, folder in c.DockerSpawner.volumes.items()}}
c.DockerSpawner.extra_create_kwargs = {{"healthcheck": {{"interval": 2_000_000_000}}}}
c.JupyterHub.bind_url = "{address}"
c.JupyterHub.hub_ip = "{gateway}"
c.JupyterHub.hub_port = {ports[0]}
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{ports[1]}"
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = "sesame"
c.Authenticator.allow_all = True
c.JupyterHub.services = [{{"name": "tests", "api_token": "{token}"}}]
scopes = ["admin:users", "admin:servers", "access:servers", "tokens"]
c.JupyterHub.load_roles = [{{"name": "tests", "services": ["tests"], "scopes": scopes}}]
c.Spawner.http_timeout = c.Spawner.start_timeout = 120
c.Spawner.environment = {{"JUPYTERHUB_ACTIVITY_INTERVAL": "1"}}


def in_their_own_way(spawner):
    if spawner.user.name == "kubernetes":  # as zero-to-jupyterhub does
        spawner.cmd = ["jupyterhub-singleuser"]
        spawner.environment = {{"HOME": "/home/jovyan"}}
        spawner.volumes = {{"{folder}/jovyan": "/home/jovyan"}}
    if spawner.user.name == "folder":
        spawner.notebook_dir = "/work"
    if spawner.user.name == "plain":
        spawner.image = "{plain}"


c.Spawner.pre_spawn_hook = in_their_own_way
"""


@dataclass(frozen=True)
class Hub:
    """A running hub: its address, its API's without the proxy, and the start of its containers' names."""

    address: str
    api: str
    prefix: str
    programs: Path

    def ask(self, method: str, path: str, token: str = TOKEN, **body: object) -> dict | list | None:
        """Ask the hub's API, or where the path begins with /user/, a user's server, through the proxy."""
        address = f"{self.address}{path}" if path.startswith("/user/") else f"{self.api}{path}"
        request = urllib.request.Request(address, json.dumps(body).encode() if body else None, method=method)
        request.add_header("Authorization", f"token {token}")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def server(self, user: str) -> dict:
        """Return what the hub says of a user's server, {} where there is none."""
        return self.ask("GET", f"/users/{user}")["servers"].get("", {})

    @contextlib.contextmanager
    def started(self, user: str) -> Iterator[str]:
        """A user's server, and its container; it is stopped at the end."""
        self.start(user)
        try:
            yield f"{self.prefix}-{user}"
        finally:
            self.stop(user)

    def start(self, user: str) -> None:
        """Start a user's server, and wait until the hub says that it is ready."""
        with contextlib.suppress(urllib.error.HTTPError):  # there is such a user
            self.ask("POST", f"/users/{user}")
        self.ask("POST", f"/users/{user}/server")
        wait(lambda: self.server(user).get("ready"), f"a server for {user}", 150)

    def stop(self, user: str) -> None:
        """Stop a user's server, and wait until it is gone."""
        self.ask("DELETE", f"/users/{user}/server")
        wait(lambda: not self.server(user), f"the end of {user}'s server")


@pytest.fixture(scope="module")
def running_hub(jupyterlab, tmp_path_factory) -> Iterator[Hub]:
    """The hub with the lines of docs/apps.md, for the image as it is. A user `plain` gets one that runs `jupyter lab`."""
    folder = tmp_path_factory.mktemp("hub")
    (folder / "jovyan").mkdir()
    (folder / "jovyan").chmod(0o777)
    programs = hub.programs()
    [page] = re.findall(r"^```python\n(c\.JupyterHub.*?)```$", (template.REPOSITORY / "docs/apps.md").read_text(), re.M | re.S)
    gateway, (public, *others) = engine.gateway(engine.find()), [ports.free() for _ in range(3)]
    address = f"http://127.0.0.1:{public}"
    started = Hub(address, f"http://{gateway}:{others[0]}/hub/api", f"{jupyterlab.images}-hub", programs)
    try:
        with derived(jupyterlab.runtime, 'CMD ["jupyter", "lab"]') as plain, (folder / "log").open("w") as log:
            values = {"page": page, "image": jupyterlab.runtime, "images": jupyterlab.images, "plain": plain, "token": TOKEN}
            values |= {"address": address, "gateway": gateway, "ports": others, "folder": folder}
            (folder / "jupyterhub_config.py").write_text(CONFIG.format(**values))
            process = subprocess.Popen(
                [programs / "jupyterhub"], cwd=folder, env=hub.environment(programs), stdout=log, stderr=subprocess.STDOUT
            )
            try:
                wait(lambda: started.ask("GET", "/users") == [], "a hub")
                yield started
            finally:
                process.terminate()
                process.wait(timeout=60)
    finally:
        print((folder / "log").read_text()[-10000:])
        for words in (("ps", "--all", "--quiet"), ("volume", "ls", "--quiet")):
            found = docker(*words, "--filter", f"name={jupyterlab.images}-").stdout.split()
            kind = () if words[0] == "ps" else ("volume",)
            if found:
                docker(*kind, "rm", "--force", *found)


@browser.undisturbed
def test_a_user_works_in_a_browser_and_finds_it_again(running_hub, jupyterlab):
    """Log in, have the server started, run the notebook, save it; it is there in the next container."""
    notebook = (jupyterlab.path / "notebooks/example.ipynb").read_text()
    assert jupyterlab.prefix not in notebook
    with browser.opened(running_hub.address) as chrome:
        for field, text in (("username", "ada"), ("password", "sesame")):
            browser.until(chrome, lambda name=field: chrome.find_elements(By.NAME, name), "the hub's login")[0].send_keys(text)
        chrome.find_element(By.NAME, "password").send_keys(Keys.ENTER)
        browser.until(chrome, lambda: "/user/ada/lab" in chrome.current_url, "ada's JupyterLab")
        name = f"{running_hub.prefix}-ada"
        assert docker("exec", name, "/bin/sh", "-c", "id -un; id -u; pwd").stdout.split() == ["app", "1000", "/work"]
        docker("exec", "--interactive", name, "/bin/sh", "-c", "cat > ~/mine.ipynb", stdin=notebook)
        chrome.get(f"{running_hub.address}/user/ada/lab/tree/mine.ipynb")
        runs_all_cells(chrome, jupyterlab)
        ActionChains(chrome).key_down(Keys.CONTROL).send_keys("s").key_up(Keys.CONTROL).perform()
        # what the cells printed: the prefix stands in no cell
        wait(lambda: jupyterlab.prefix in docker("exec", name, "cat", "/home/app/mine.ipynb").stdout, "a saved notebook")
        assert health(name) == "healthy"
        running_hub.stop("ada")
        with running_hub.started("ada"):
            chrome.get(f"{running_hub.address}/user/ada/lab/tree/mine.ipynb")
            browser.until(chrome, lambda: "slope" in cells(chrome), "what was saved")


def test_only_who_the_hub_lets_in_gets_in(running_hub, jupyterlab):
    tokens = {"": ""}
    for user in ("eve", "bob"):
        running_hub.ask("POST", f"/users/{user}")
        tokens[user] = running_hub.ask("POST", f"/users/{user}/tokens", note="tests")["token"]
    with running_hub.started("eve"):
        assert jupyterlab.kernel["name"] in running_hub.ask("GET", "/user/eve/api/kernelspecs", tokens["eve"])["kernelspecs"]
        for user in ("bob", ""):
            with pytest.raises(urllib.error.HTTPError, match="403"):
                running_hub.ask("GET", "/user/eve/api/kernelspecs", tokens[user])


@pytest.mark.parametrize(
    ("user", "root"),
    [("grace", "/home/app"), ("kubernetes", "/home/jovyan"), pytest.param("folder", "/work", marks=pytest.mark.soak)],
)
def test_it_opens_what_the_hub_keeps(running_hub, user, root):
    """By the image's own command or by `jupyterhub-singleuser`: the home, wherever it is, or what the hub says."""
    with running_hub.started(user) as name:
        assert health(name) == "healthy", last_check(name)
        docker("exec", name, "touch", f"{root}/here")
        found = running_hub.ask("GET", f"/user/{user}/api/contents")["content"]
        assert "here" in [entry["path"] for entry in found]


def test_jupyter_lab_by_itself_is_no_hubs_server(running_hub):
    """The negative control: the command that the image ran before serves another address and asks no hub."""
    with running_hub.started("plain") as name, pytest.raises(urllib.error.HTTPError, match="404"):
        assert "lab?token=" in docker("logs", name).output
        running_hub.ask("GET", "/user/plain/api/kernelspecs")


@pytest.mark.soak
def test_an_idle_server_is_culled_and_one_in_use_is_not(running_hub):
    """What the image's health check asks is no use."""
    running_hub.start("busy")
    running_hub.start("idle")
    words = [running_hub.programs / "jupyterhub-idle-culler", "--timeout=15", "--cull-every=1", f"--url={running_hub.api}"]
    culler = subprocess.Popen(words, env={**os.environ, "JUPYTERHUB_API_TOKEN": TOKEN}, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 90
        while running_hub.server("idle"):
            running_hub.ask("GET", "/user/busy/api/contents")
            assert time.monotonic() < deadline, "the idle server is still there"
            time.sleep(0.5)
        # the negative control
        assert running_hub.server("busy")["ready"]
        wait(lambda: not running_hub.server("busy"), "the end of a server that is idle by now", 90)
    finally:
        culler.terminate()
        culler.wait()
