"""Apps: served, healthy while they answer and not when they hang, stopped in good order, and opened in a real browser.

The rows of the table with `suite = "app"`. What they share with the default (locks, entry points, users) is tested there;
here are a few of those checks that an app could break, and everything that is the app's own.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from selenium.webdriver import Keys
from selenium.webdriver.common.by import By

from tests.harness import browser, checks, container, ports, template
from tests.harness.container import derived, docker, running
from tests.harness.project import Project
from tests.harness.terminal import PROMPT, Session

PORTS = {"flask": 8000, "streamlit": 8501, "jupyterlab": 8888}
HEALTH = {"flask": "/health", "streamlit": "/_stcore/health", "jupyterlab": "/api"}
LOCKED_DOWN = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
NO_WAY_OUT = tuple(
    word
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    for word in ("--env", f"{name}=http://127.0.0.1:9")
)
"""Proxies that nothing listens at: who asks one of them gets no answer."""
IPV6 = ("--sysctl", "net.ipv6.conf.all.disable_ipv6=0")


def app_of(project: Project) -> str:
    """Return the answer to `app` of a project."""
    return re.search(r"^app: (\w+)$", (project.path / ".copier-answers.yml").read_text(), re.M).group(1)


@contextlib.contextmanager
def serving(
    image: str, *options: str, port: int, command: tuple[str, ...] = (), healthy: bool = True
) -> Iterator[tuple[str, str]]:
    """A container of an app, its port published on this machine: (container, address). Waits until it is healthy."""
    # not often for longer than that: with many checks the app itself is slow
    quick = ("--health-start-interval", "500ms")
    with running(image, *quick, "--publish", f"127.0.0.1::{port}", *options, command=command) as host:
        name = host.backend.name
        if healthy:
            assert health(name) == "healthy", docker("logs", name).output + last_check(name)
        yield name, f"http://{docker('port', name, str(port)).stdout.strip()}"


def health(name: str, until: str = "healthy", seconds: float = 60) -> str:
    """Return what Docker says of a container's health, once it is what is waited for, or as it is in the end."""
    deadline, status = time.monotonic() + seconds, ""
    while status != until and time.monotonic() < deadline:
        status = docker("inspect", "--format", "{{.State.Health.Status}}", name).stdout.strip()
        time.sleep(0.5)
    return status


def last_check(name: str) -> str:
    """Return what the health check printed last."""
    return json.loads(docker("inspect", "--format", "{{json .State.Health.Log}}", name).stdout)[-1]["Output"]


def answer(address: str) -> str:
    """Return the body at an address, asked without a proxy."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=30) as response:
        return response.read().decode()


def wait(condition: Callable[[], object], what: str, seconds: float = 60) -> object:
    """Wait for something to be true, and return it. Raises AssertionError, which says what, when it does not come."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if found := condition():
                return found
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.2)


# --- what an app could break of the environment ------------------------------------------------------


def test_the_images_hold_what_the_locks_say(with_app):
    with running(with_app.runtime, "--no-healthcheck") as runtime:
        assert checks.conda_lock(runtime, with_app) == []
        assert checks.poetry_lock(runtime, with_app, {"main"}) == []
        assert checks.runtime_contents(runtime, with_app) == []


def test_the_apps_packages_are_poetrys(with_app):
    """In pyproject.toml, and so in poetry.lock: environment.yml knows nothing of an app."""
    names = {
        "flask": {"flask", "gunicorn"},
        "streamlit": {"streamlit", "altair"},
        "jupyterlab": {"jupyterlab", "jupyterhub", "notebook"},
        "script": set(),
    }
    locked = checks.locked_by_poetry(with_app, {"main"}).keys()
    assert names[app_of(with_app)] <= locked
    assert not names[app_of(with_app)] & with_app.locked_by_conda().keys()


BREAK = {
    "flask": ("web.py", '"status": "ok"', '"status": "bad"'),
    "streamlit": ("dashboard.py", "in @chosen", "not in @chosen"),
    "jupyterlab": ("serve.py", "c.ServerApp.open_browser", "c.IdentityProvider.token = ''; c.ServerApp.open_browser"),
    "script": ("__main__.py", "return 1", "return 0"),
}


def test_the_projects_tests_pass_and_see_a_broken_app(with_app, copy_of):
    assert " passed" in with_app.make("test").output
    assert "already formatted" in with_app.make("lint").output
    project = copy_of(with_app)
    name, right, wrong = BREAK[app_of(with_app)]
    file = project.path / "src" / project.package / name
    assert file.read_text().count(right) == 1
    file.write_text(file.read_text().replace(right, wrong))
    # what `make test` runs; the dev image, which has the folder's code, would be the same but for this file
    words = [".couplet/host/docker-run.sh", with_app.dev, "pytest"]
    done = subprocess.run(words, cwd=project.path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    shown = done.stdout
    assert done.returncode and re.search(r"FAILED tests/test_app\.py", shown) and "FAILED tests/test_analysis.py" not in shown


# --- served ------------------------------------------------------------------------------------------


def test_the_image_says_where_it_listens_and_how_it_is(served):
    app = app_of(served)
    config = json.loads(docker("image", "inspect", served.runtime).stdout)[0]["Config"]
    assert list(config["ExposedPorts"]) == [f"{PORTS[app]}/tcp"]
    assert config["Healthcheck"]["Test"] == ["CMD", "health", str(PORTS[app]), HEALTH[app]]
    assert config["User"] == "1000:1000"


def test_a_script_listens_nowhere(script):
    config = json.loads(docker("image", "inspect", script.runtime).stdout)[0]["Config"]
    assert "ExposedPorts" not in config and "Healthcheck" not in config
    assert "health" not in (script.path / "Dockerfile").read_text() and "ports" not in (script.path / "compose.yaml").read_text()


@pytest.fixture(scope="module")
def server(served) -> Iterator[tuple[str, str]]:
    """A container of each app, locked down, with proxies that nobody answers at, and IPv6: (container, address)."""
    with serving(served.runtime, *LOCKED_DOWN, *NO_WAY_OUT, *IPV6, port=PORTS[app_of(served)]) as found:
        yield found


def users_in(name: str) -> list[list[str]]:
    """Return which users have processes in a container.

    More than once: a health check that Docker is just starting is runc's own process for a moment, and root's.
    """
    return [docker("exec", name, "python", "-c", OWNERS).stdout.split() for _ in range(3)]


def test_it_is_healthy_locked_down_behind_proxies(served, server):
    app, (name, address) = app_of(served), server
    assert answer(address + HEALTH[app])
    assert ["1000"] in users_in(name)
    # the negative control: a check that heeds the proxies would say that a healthy app is not
    code = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{PORTS[app]}{HEALTH[app]}')"
    heeding = docker("exec", name, "python", "-c", code, check=False)
    assert heeding.code and "Connection refused" in heeding.output


OWNERS = """
import os
print(*{os.stat(f'/proc/{pid}').st_uid for pid in os.listdir('/proc') if pid.isdigit()})
"""


def test_it_is_unhealthy_when_it_hangs_and_healthy_again_when_it_goes_on(flask):
    """One app for all: who asks is the same program. What it says of an app that hangs: tests/image/test_health.py."""
    options = ("--health-interval", "500ms", "--health-retries", "2")
    with serving(flask.runtime, *options, port=8000) as (name, _):
        # everything but the first process: the app is there, its port listens, and nothing answers
        docker("exec", name, "/bin/dash", "-c", "kill -STOP -1")
        # a check that was at work is stopped too, and Docker takes 15 seconds to end that one: 5, and 10 from SIGTERM to SIGKILL
        assert health(name, "unhealthy") == "unhealthy"
        assert "does not answer" in last_check(name)
        docker("exec", name, "/bin/dash", "-c", "kill -CONT -1")
        assert health(name) == "healthy"


def test_anyone_at_another_port_gets_a_healthy_app_that_stops_in_good_order(served):
    options = ("--env", "PORT=9123", "--user", "12345:6789", *LOCKED_DOWN, *NO_WAY_OUT)
    with serving(served.runtime, *options, port=9123) as (name, address):
        assert answer(address + HEALTH[app_of(served)])
        assert ["12345"] in users_in(name)
        # the negative control: nothing is left at the usual port
        shown = docker("exec", "--env", "PORT=", name, "health", str(PORTS[app_of(served)]), "/", check=False)
        assert shown.code == 1 and "refused" in shown.output
        # after ten seconds Docker kills, and the exit code is 137
        docker("stop", name)
        assert docker("inspect", "--format", "{{.State.ExitCode}}", name).stdout.strip() == "0", docker("logs", name).output


IPV4_ALONE = {
    "flask": (("--env", "GUNICORN_CMD_ARGS=--bind=0.0.0.0:8000"), ()),
    "streamlit": (("--env", "STREAMLIT_SERVER_ADDRESS=0.0.0.0"), ()),
    "jupyterlab": ((), ("jupyter", "lab", "--ip=0.0.0.0")),
}
"""What makes an app listen on IPv4 alone: options of `docker run`, and a command."""


def test_it_listens_on_ipv6_too(served, server):
    """For clusters that have nothing else. Without IPv6, as Docker's networks are, the other tests run."""
    port = PORTS[app_of(served)]
    ask = ("python", "-c", f"import socket; socket.create_connection(('::1', {port}))")
    docker("exec", server[0], *ask)
    # the negative control
    options, command = IPV4_ALONE[app_of(served)]
    with serving(served.runtime, *IPV6, *options, port=port, command=command) as (name, _):
        assert "refused" in docker("exec", name, *ask, check=False).output


def test_a_health_that_is_not_200_is_none(served, server):
    app, (name, _) = app_of(served), server
    assert docker("exec", name, "health", str(PORTS[app]), HEALTH[app]).output == ""
    if app == "flask":
        shown = docker("exec", name, "health", str(PORTS[app]), "/no-such-page", check=False)
        assert (shown.code, shown.output) == (1, "/no-such-page answers 404\n")


def making(project: Project, *words: str) -> Session:
    """make, as its user types it."""
    return Session(["make", "--no-print-directory", f"IMAGE={project.images}", *words], cwd=project.path)


def test_make_run_serves_on_this_machine_alone_until_ctrl_c(served):
    port = ports.free()
    with making(served, "run", f"PORT={port}") as session:
        session.until(rf"Serving on http://127\.0\.0\.1:{port}\b", 300)
        wait(lambda: answer(f"http://127.0.0.1:{port}{HEALTH[app_of(served)]}"), "an answer", 90)
        name = docker("ps", "--quiet", "--filter", f"ancestor={served.runtime}", "--filter", f"publish={port}").stdout.strip()
        assert docker("port", name).stdout.split() == [f"{port}/tcp", "->", f"127.0.0.1:{port}"]
        taken = served.make("run", f"PORT={port}", fails=True).output
        assert f"add another to what you typed: PORT={port + 1}" in taken
        session.send("\x03")
        assert session.ended() == 0, session.screen
    assert docker("ps", "--quiet", "--filter", f"publish={port}").stdout == ""


def test_make_smoke_tries_and_says(served, copy_of):
    """What the generated CI does."""
    shown = served.make("smoke").output
    assert f"{served.runtime} is healthy." in shown
    assert docker("ps", "--quiet", "--filter", f"ancestor={served.runtime}").stdout == ""


def test_make_smoke_fails_with_an_app_that_cannot_start(flask, copy_of):
    """The negative control."""
    project = copy_of(flask)
    file = project.path / "src" / project.package / "serve.py"
    file.write_text("raise SystemExit('out of order')\n")
    shown = project.make("smoke", fails=True).output
    assert "is healthy." not in shown and "out of order" in shown
    docker("image", "rm", "--force", project.runtime)


def test_docker_compose_up_serves_it(served, tmp_path):
    port = ports.free()
    environment = {**os.environ, "IMAGE": served.images, "PORT": str(port)}
    # the image's own check, at another pace
    (tmp_path / "quick.yaml").write_text("services: {app: {healthcheck: {interval: 1s}}}\n")
    files = ["--file", "compose.yaml", "--file", str(tmp_path / "quick.yaml")]
    compose = ["docker", "compose", "--project-name", served.images, *files]
    try:
        subprocess.run([*compose, "up", "--detach", "app"], cwd=served.path, env=environment, check=True, capture_output=True)
        name = subprocess.run([*compose, "ps", "--quiet", "app"], cwd=served.path, env=environment, check=True,
                              capture_output=True, text=True).stdout.strip()  # fmt: skip
        assert health(name) == "healthy"
        assert docker("port", name).stdout.split() == [f"{port}/tcp", "->", f"127.0.0.1:{port}"]
        assert answer(f"http://127.0.0.1:{port}{HEALTH[app_of(served)]}")
    finally:
        subprocess.run([*compose, "down"], cwd=served.path, env=environment, check=True, capture_output=True)


# --- flask -------------------------------------------------------------------------------------------

SLOW = """
import time
from {package}.web import create_app
app = create_app()
@app.get("/slow")
def slow():
    print("at work", flush=True)
    time.sleep(4)
    return "finished"
"""


@contextlib.contextmanager
def slow_app(project: Project) -> Iterator[str]:
    """The image with one page more, which takes four seconds; everything else, gunicorn's settings too, as it is."""
    lines = "".join(
        f"RUN echo '{line}' >> /opt/app/src/{project.package}/slow.py\n"
        for line in SLOW.format(package=project.package).splitlines()
    )
    with derived(project.runtime, f"USER root\n{lines}USER 1000:1000") as image:
        yield image


def stopped_while_it_answers(project: Project, *more: str) -> tuple[object, int]:
    """Stop the app while it works at an answer; returns the answer, or the error instead of it, and the exit code."""
    command = ("gunicorn", "--config", f"python:{project.package}.serve", *more, f"{project.package}.slow:app")
    with slow_app(project) as image, serving(image, port=8000, command=command) as (name, address):
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
        connection.request("GET", "/slow")
        wait(lambda: "at work" in docker("logs", name).output, "the request at work")
        docker("stop", "--timeout=60", name)
        try:
            got = connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException) as error:
            got = error
        return got, int(docker("inspect", "--format", "{{.State.ExitCode}}", name).stdout)


def test_a_request_in_flight_is_answered_before_the_stop(flask):
    assert stopped_while_it_answers(flask) == ("finished", 0)
    # the negative control: with less patience than the answer takes
    got, _ = stopped_while_it_answers(flask, "--graceful-timeout", "1")
    assert isinstance(got, Exception)


@pytest.mark.soak
def test_the_number_of_workers_is_set_from_outside(flask):
    for options, expected in (((), 2), (("--env", "WEB_CONCURRENCY=3"), 3), (("--env", "GUNICORN_CMD_ARGS=--workers 1"), 1)):
        with serving(flask.runtime, *options, port=8000) as (name, _):
            started = set(re.findall(r"Booting worker with pid: (\d+)", docker("logs", name).output))
            assert len(started) == expected


def test_requests_are_logged_on_standard_output(flask):
    with serving(flask.runtime, port=8000) as (name, address):
        figures = json.loads(answer(f"{address}/api/fit"))
        assert figures["III"]["slope"] == pytest.approx(0.5, abs=0.001)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            answer(f"{address}/other")
        said = wait(lambda: re.findall(r'"GET (\S+) HTTP/1.1" (\d+)', docker("logs", name).stdout), "a line for each request")
    assert ("/api/fit", "200") in said and ("/other", "404") in said


def test_make_serve_follows_an_edit(with_serve, copy_of):
    """In dev, from the folder's code; the runtime image would not."""
    project = copy_of(with_serve)
    port, app = ports.free(), app_of(with_serve)
    file = project.path / "src" / project.package / ("templates/index.html" if app == "flask" else "dashboard.py")
    address = f"http://127.0.0.1:{port}"
    with making(project, "serve", f"PORT={port}") as session:
        session.until("Serving on", 300)
        wait(lambda: answer(address + HEALTH[app]), "an answer", 90)
        with browser.opened(address) as chrome:
            assert heading(chrome) == "Four data sets, one line"
            file.write_text(file.read_text().replace("Four data sets", "Edited data sets"))
            if app == "flask":
                wait(lambda: "Edited" in answer(address), "the edited page")
                chrome.refresh()
            browser.until(chrome, lambda: heading(chrome) == "Edited data sets, one line", "the edited heading")
        session.send("\x03")
        session.ended()
    docker("image", "rm", "--force", project.dev)


# --- in a browser ------------------------------------------------------------------------------------


def heading(chrome) -> str:
    """Return the page's first heading, once there is one."""
    texts = lambda: [found.text for found in chrome.find_elements(By.TAG_NAME, "h1") if found.text]  # noqa: E731
    return browser.until(chrome, texts, "a heading")[0]


def columns(chrome) -> list[list[str]]:
    """Return the text of each row of the page's table, once there is one."""

    def rows() -> list[list[str]]:
        found = chrome.find_elements(By.CSS_SELECTOR, "tbody tr")
        return [[cell.text for cell in row.find_elements(By.CSS_SELECTOR, "th, td")] for row in found]

    return browser.until(chrome, rows, "a table")


@browser.undisturbed
def test_the_web_app_in_a_browser(flask, pictured):
    with serving(flask.runtime, port=8000) as (_, address), browser.opened(address) as chrome:
        assert heading(chrome) == "Four data sets, one line"
        assert columns(chrome)[2] == ["III", "0.50", "3.00", "0.82", "2.62"]
        drawn = [circle.rect for circle in chrome.find_elements(By.CSS_SELECTOR, "svg circle")]
        assert len(drawn) == 44 and all(rect["width"] > 2 for rect in drawn)
        assert len({(rect["x"], rect["y"]) for rect in drawn}) > 40, "the points lie apart"
        assert [entry for entry in chrome.get_log("browser") if entry["level"] == "SEVERE"] == []
        pictured(chrome, "flask")
        chrome.find_element(By.LINK_TEXT, "JSON").click()
        assert json.loads(chrome.find_element(By.TAG_NAME, "body").text)["I"]["slope"] == pytest.approx(0.5, abs=0.001)


ERROR_BOX = "[data-testid=stException], [data-testid=stAlertContentError]"
MARKS = "[data-testid=stVegaLiteChart] svg .mark-{} path"
"""What Vega draws in a chart, of one kind."""


@browser.undisturbed
def test_the_dashboard_in_a_browser(streamlit, pictured):
    with serving(streamlit.runtime, port=8501) as (name, address), browser.opened(address) as chrome:
        assert heading(chrome) == "Four data sets, one line"
        assert [row[0] for row in columns(chrome)] == ["I", "II", "III", "IV"]
        assert columns(chrome)[2][1:] == ["0.50", "3.00", "0.82", "2.62"]
        points = browser.until(chrome, lambda: chrome.find_elements(By.CSS_SELECTOR, MARKS.format("symbol")), "a chart")
        assert len(points) == 44 and len(chrome.find_elements(By.CSS_SELECTOR, MARKS.format("line"))) == 4
        places = {(point.rect["x"], point.rect["y"]) for point in points if point.rect["width"] > 2}
        assert len(places) > 40, "the points lie apart"
        assert chrome.find_elements(By.CSS_SELECTOR, ERROR_BOX) == []
        time.sleep(1)  # until it has settled, for the picture
        pictured(chrome, "streamlit")
        # one data set less, chosen as a visitor does
        chrome.find_element(By.CSS_SELECTOR, "[aria-label='Remove I']").click()
        browser.until(chrome, lambda: [row[0] for row in columns(chrome)] == ["II", "III", "IV"], "a table of three")
        assert "Traceback" not in docker("logs", name).output


@browser.undisturbed
def test_an_error_on_the_dashboard_is_seen_and_its_details_are_not(streamlit):
    """The negative control: the box that the test above does not find. The visitor is told nothing; the log has it all."""
    page = f"/opt/app/src/{streamlit.package}/dashboard.py"
    with (
        derived(streamlit.runtime, f"USER root\nRUN echo \"raise ValueError('the secret')\" >> {page}\nUSER 1000") as image,
        serving(image, port=8501) as (name, address),
        browser.opened(address) as chrome,
    ):
        box = browser.until(chrome, lambda: chrome.find_elements(By.CSS_SELECTOR, ERROR_BOX), "an error box")[0]
        assert "secret" not in box.text
        assert "ValueError: the secret" in docker("logs", name).output


def cells(chrome) -> str:
    """Return the text of all outputs in the notebook on the screen."""
    return "\n".join(area.text for area in chrome.find_elements(By.CSS_SELECTOR, ".jp-OutputArea-output"))


def runs_all_cells(chrome, project: Project) -> None:
    """Run the example notebook that is being opened, by JupyterLab's menu, and look at what its cells print."""
    browser.until(chrome, lambda: chrome.find_elements(By.CSS_SELECTOR, ".jp-Notebook .jp-CodeCell"), "the notebook")
    # in the status bar; cells that are run before the kernel is there are run by nobody
    there = f"{project.kernel['display_name']} | Idle"
    browser.until(chrome, lambda: there in chrome.find_element(By.TAG_NAME, "body").text, "the kernel")
    chrome.execute_script("document.querySelector('.jp-Notebook .jp-CodeCell .cm-content').focus()")
    menu = chrome.find_element(By.XPATH, "//div[contains(@class, 'lm-MenuBar-itemLabel') and text()='Run']")
    menu.click()
    item = (By.XPATH, "//div[contains(@class, 'lm-Menu-itemLabel') and text()='Run All Cells']")
    browser.until(chrome, lambda: chrome.find_elements(*item), "the menu")
    chrome.find_element(*item).click()
    browser.until(chrome, lambda: project.prefix in cells(chrome) and "slope" in cells(chrome), "the cells' output")
    assert "Traceback" not in cells(chrome) and "Error" not in cells(chrome)
    assert chrome.find_elements(By.CSS_SELECTOR, ".jp-Dialog, .jp-toast-container button") == []


@browser.undisturbed
def test_jupyterlab_in_a_browser(jupyterlab, pictured):
    options = ("--volume", f"{jupyterlab.path}:/work", "--user", f"{os.getuid()}:{os.getgid()}")
    with serving(jupyterlab.runtime, *options, port=8888) as (name, address):
        token = re.search(r"http://127\.0\.0\.1:8888/lab\?token=(\w{20,})", docker("logs", name).output).group(1)
        with browser.opened(f"{address}/lab/tree/notebooks/example.ipynb") as chrome:
            # without the token: a page that asks for it, and nothing of the notebook
            assert "/login" in chrome.current_url and not chrome.find_elements(By.CSS_SELECTOR, ".jp-Notebook")
            field = chrome.find_element(By.NAME, "password")
            field.send_keys("wrong", Keys.ENTER)
            browser.until(chrome, lambda: "Invalid" in chrome.find_element(By.TAG_NAME, "body").text, "a refusal")
            field = chrome.find_element(By.NAME, "password")
            field.send_keys(token, Keys.ENTER)
            runs_all_cells(chrome, jupyterlab)
            time.sleep(1)
            pictured(chrome, "jupyterlab")


def test_jupyterlab_takes_a_token_and_never_goes_without(jupyterlab):
    for given in ("from outside", ""):
        token = given.replace(" ", "-")
        with serving(jupyterlab.runtime, "--env", f"JUPYTER_TOKEN={token}", port=8888) as (name, address):
            for query in ("", "?token=", "?token=wrong"):
                with pytest.raises(urllib.error.HTTPError, match="403"):
                    answer(f"{address}/api/kernelspecs{query}")
            shown = re.search(r"http://127\.0\.0\.1:8888/lab\?token=(\S+)", docker("logs", name).output)
            token = token or shown.group(1)
            specs = json.loads(answer(f"{address}/api/kernelspecs?token={token}"))
            assert jupyterlab.kernel["name"] in specs["kernelspecs"]


def test_jupyterlab_is_healthy_behind_a_base_url(jupyterlab):
    """Kubeflow's variable, and an option of another of Jupyter's servers; as any user, whose runtime folder is elsewhere."""
    for options, words in ((("--env", "NB_PREFIX=/ice/lab"), ()), ((), ("--ServerApp.base_url=/ice/lab",))):
        command = ("jupyter", "server", *words) if words else ()
        with serving(jupyterlab.runtime, *options, "--user", "4321:0", port=8888, command=command) as (_, address):
            assert "version" in json.loads(answer(f"{address}/ice/lab/api"))
            # the negative control: where the check asked before, nothing is
            with pytest.raises(urllib.error.HTTPError, match="404"):
                answer(f"{address}/api")


CANARY = {
    "user": "[ $(whoami) = jovyan ]",
    "uid": "id | grep uid=1000",
    "home": "[ $HOME = /home/jovyan ]",
    "jupyter": "which jupyter",
}
"""What container-canary runs in a container for Kubeflow and for Binder."""


def refused_by(image: str) -> set[str]:
    """Return what of Kubeflow's and Binder's requirements an image does not meet, started as each of them starts it."""
    found = set()
    starts = {
        "Kubeflow": (("--env", "NB_PREFIX=/hub/jovyan/", "--volume", "/home/jovyan"), (), "/hub/jovyan"),
        "Binder": ((), ("jupyter", "lab", "--ip=0.0.0.0", "--port=8888"), ""),
    }
    for options, command, base in starts.values():
        with serving(image, *options, port=8888, command=command) as (name, address):
            found |= {what for what, line in CANARY.items() if docker("exec", name, "/bin/sh", "-c", line, check=False).code}
            for path in (base, f"{base}/lab"):
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                with opener.open(address + path, timeout=30) as page:
                    found |= {"login"} if "/login" not in page.url else set()
                    found |= {"origin"} if page.headers["Access-Control-Allow-Origin"] != "*" else set()
            # that it listens on all addresses without encryption is what is asked of it
            said = re.findall(r"^.*\b(?:ERROR|Traceback)\b.*$|^\[[WE] .*$", docker("logs", name).output, re.M)
            found |= {line for line in said if "listening on all IP addresses and not using encryption" not in line}
    return found


@pytest.mark.soak
def test_notebook_platforms_find_what_they_ask_for(jupyterlab):
    """With the lines of docs/apps.md, and without (the negative control): then it is `app`, who has a home of his own."""
    page = (template.REPOSITORY / "docs/apps.md").read_text()
    [lines] = re.findall(r"^```dockerfile\nFROM \S+\n(USER root\n.*?)```$", page, re.M | re.S)
    with derived(jupyterlab.runtime, lines) as image:
        assert refused_by(image) == set()
    assert refused_by(jupyterlab.runtime) == {"user", "home", "origin"}


def test_the_lab_image_converts_and_runs_notebooks(jupyterlab, tmp_path):
    """As a batch job does. The negative control: a cell that fails."""
    tmp_path.chmod(0o777)
    cell = {"cell_type": "code", "execution_count": None, "id": "a", "metadata": {}, "outputs": []}
    spec = {"kernelspec": {"name": jupyterlab.kernel["name"], "display_name": "x"}}
    for source, code in (("print(6 * 7)", 0), ("1 / 0", 1)):
        notebook = {"cells": [{**cell, "source": source}], "metadata": spec, "nbformat": 4, "nbformat_minor": 5}
        (tmp_path / "a.ipynb").write_text(json.dumps(notebook))
        command = ("jupyter", "nbconvert", "--to", "markdown", "--execute", "--stdout", "a.ipynb")
        done = docker("run", "--rm", "--volume", f"{tmp_path}:/work", jupyterlab.runtime, *command, check=False)
        assert done.code == code and ("42" in done.stdout) == (not code), done.output


def test_a_port_that_is_none_is_an_error(jupyterlab):
    shown = docker("run", "--rm", "--env", "PORT=8888/tcp", jupyterlab.runtime, check=False)
    assert (shown.code, shown.output.strip().split("\n")[-1]) == (1, "PORT=8888/tcp is not a port: give a number.")


def test_a_users_own_settings_of_jupyter_take_precedence(jupyterlab, tmp_path):
    """And what the template sets holds without them: extensions come from the locks."""
    (tmp_path / "jupyter_server_config.py").write_text("c.ServerApp.base_url = '/mine'\n")
    tmp_path.chmod(0o755)
    home = ("--volume", f"{tmp_path}:/home/app/.jupyter:ro")
    with serving(jupyterlab.runtime, *home, "--env", "JUPYTER_TOKEN=t", port=8888) as (_, address):
        page = answer(f"{address}/mine/lab?token=t")
        assert (
            json.loads(re.search(r"<script id=.jupyter-config-data.[^>]*>(.*?)</script>", page, re.S).group(1))[
                "extensionManager"
            ]["can_install"]
            is False
        )


# --- a script ----------------------------------------------------------------------------------------

POINTS = "dataset,x,y\nup,0,1\nup,1,3.1\nup,2,4.9\ndown,0,5\ndown,1,4\ndown,2,3.3\n"


def test_docker_run_runs_the_script(script):
    shown = container.run(script.runtime)
    assert f"computed in {script.prefix}" in shown and re.search(r"III\s+0\.5\s+3\.0", shown)


@pytest.mark.parametrize("user", [None, "12345:6789"])
def test_the_script_reads_and_writes_the_mounted_folder(script, tmp_path, user):
    (tmp_path / "points.csv").write_text(POINTS)
    tmp_path.chmod(0o777)
    options = ("--volume", f"{tmp_path}:/work", *LOCKED_DOWN, *(("--user", user) if user else ()))
    done = docker("run", "--rm", *options, script.runtime, "sea-ice", "points.csv", "--output", "lines.csv")
    assert done.stdout == "lines.csv: 2 lines\n"
    lines = (tmp_path / "lines.csv").read_text().splitlines()
    assert lines[0].startswith("dataset,slope,") and [line.split(",")[0] for line in lines[1:]] == ["down", "up"]
    assert (tmp_path / "lines.csv").stat().st_uid == int((user or "1000").split(":")[0])


def test_what_goes_wrong_is_the_exit_code(script, tmp_path):
    (tmp_path / "points.csv").write_text("dataset,x\nup,0\n")
    tmp_path.chmod(0o755)
    options = ("--rm", "--volume", f"{tmp_path}:/work", script.runtime, "sea-ice")
    for words, code, reason in ((["points.csv"], 1, "no column y"), (["gone.csv"], 1, "gone.csv"), (["--no-such"], 2, "usage")):
        done = docker("run", *options, *words, check=False)
        assert done.code == code and reason in done.output and "Traceback" not in done.output


def test_make_run_hands_arguments_on(script):
    points = script.path / "my points.csv"
    points.write_text(POINTS)
    try:
        shown = script.make("run", 'ARGS="my points.csv" --output lines.csv').output
        assert "lines.csv: 2 lines" in shown
        file = script.path / "lines.csv"
        assert (file.stat().st_uid, file.stat().st_gid) == (os.getuid(), os.getgid())
        file.unlink()
        assert "no such option" not in script.make("run").output
        assert "Error 2" in script.make("run", "ARGS=--no-such", fails=True).output
        assert script.make("run", "CMD=echo instead").output.endswith("instead\n")
    finally:
        points.unlink()


def test_docker_run_it_bash_is_a_session(script):
    """The environment, the prompt, job control, Ctrl-C, and the exit code: as by SSH."""
    with Session(["docker", "run", "--rm", "-it", script.runtime, "/bin/bash"]) as session:
        assert f"({script.package}) " in session.until(PROMPT)
        assert f"{script.prefix} {script.prefix}" in session.type(
            "python -c \"import os, sys; print(sys.prefix, os.environ['CONDA_PREFIX'])\""
        )
        assert "/dev/pts/" in session.type("tty")
        assert "no job control" not in session.screen and "cannot set terminal" not in session.screen
        # Ctrl-C ends the program and not the shell
        session.send("python -c \"import time; print('be' + 'gun'); time.sleep(600)\"\n")
        session.until("begun")
        assert "KeyboardInterrupt" in session.press("\x03", PROMPT)
        assert "130" in session.type("echo $?")
        # Ctrl-Z, background, foreground
        session.send("sleep 600\n")
        session.until(r"sleep 600\r\n")
        assert "Stopped" in session.press("\x1a", r"Stopped[^\0]*" + PROMPT)
        assert re.search(r"Running\s+sleep 600", session.type("bg; jobs"))
        session.send("fg\n")
        session.until("sleep 600\r\n")
        session.press("\x03", PROMPT)
        assert "none left" in session.type("jobs; echo none left")
        assert "40 132" in session.type("stty size")
        session.send("exit 7\n")
        assert session.ended() == 7


def test_a_session_without_the_activation_is_seen(script):
    """The negative control."""
    with Session(["docker", "run", "--rm", "-it", "--env", "NO_ACTIVATE=1", script.runtime, "/bin/bash"]) as session:
        assert f"({script.package}) " not in session.until(PROMPT)
        session.send("exit\n")
        assert session.ended() == 0
