"""A company's network: packages behind a password and a CA of its own, and no trace of either afterwards."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import json
import os
import re
import subprocess
import threading
import time
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import pytest

from tests.conftest import IMAGES, SMALL
from tests.harness import container, leaks, registry, template
from tests.harness.locks import check, edit, restamp
from tests.harness.project import Project
from tests.harness.soak import some
from tests.mirror import engine, gate, images


def home(folder: Path, files: dict[str, str], company: gate.Gate) -> dict[str, str]:
    """Write a user's settings where their tools look for them; return the variables of that user's shell."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o600)
    named = ("CONDARC", "PIP_CONFIG_FILE", "POETRY_CONFIG_DIR", "NETRC", "XDG_CONFIG_HOME", "REQUESTS_CA_BUNDLE")
    return {"HOME": str(folder), "SSL_CERT_FILE": str(company.authority), **dict.fromkeys(named, "")}


def written(way: str, company: gate.Gate) -> dict[str, str]:
    """Return the files of a user who has a way of saying the password, by name below the home folder."""
    netrc = f"machine {company.name} login {company.user} password {company.password}\n"
    bare = f"[global]\nindex-url = {company.address}/simple/\n"
    return {
        "in the addresses": {
            ".condarc": f"channel_alias: {company.with_password}/conda\n",
            ".config/pip/pip.conf": f"[global]\nindex-url = {company.with_password}/simple/\n",
        },
        "in .netrc": {
            ".condarc": f"channel_alias: {company.address}/conda\n",
            ".config/pip/pip.conf": bare,
            ".netrc": netrc,
        },
        "by a token, and by channel": {
            ".condarc": f"custom_channels:\n  conda-forge: {company.address}/conda/t/{company.token}\n",
            ".pip/pip.conf": bare,
            ".netrc": netrc,
        },
        "in auth.toml": {
            ".config/pip/pip.conf": f"[global]\nindex-url = {company.with_password}/simple/\n",
            ".config/pypoetry/auth.toml": f"[http-basic.corp]\nusername = '{company.user}'\npassword = '{company.password}'\n",
        },
    }[way]  # fmt: skip


@pytest.fixture
def project(small: Project, tmp_path: Path) -> Project:
    """The same project without its locks."""
    subprocess.run(["cp", "-a", f"{small.path}/.", str(tmp_path / "project")], check=True)
    for lock in [*(tmp_path / "project").glob("conda*lock*"), tmp_path / "project/poetry.lock"]:
        lock.unlink()
    text = (tmp_path / "project/pyproject.toml").read_text()
    (tmp_path / "project/pyproject.toml").write_text(re.sub(r"^conda = \[.*?\n\]", "conda = []", text, flags=re.M | re.S))
    return Project(tmp_path / "project", f"{IMAGES}-company")


def build(project: Project, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess:
    """Run `.couplet/host/docker-build.sh` as make does, showing all of the steps."""
    return subprocess.run(
        [".couplet/host/docker-build.sh", "--progress=plain", *words], cwd=project.path, env={**os.environ, **environment},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900,
    )  # fmt: skip


def own_steps(project: Project) -> None:
    """Make the steps of a project's build its own.

    One that is made at the same moment for another build too gets its secrets from either: a password from here with a
    certificate from there fetches nothing, and both builds fail.
    """
    with (project.path / ".couplet/couplet/network.py").open("a") as file:
        file.write(f"# {uuid.uuid4()}\n")


# The stages that fetch something; without these, the cache would answer instead of the company.
FETCHING = "tools,poetry,conda-env,poetry-packages"
TASKS = ("--file", ".couplet/tasks.Dockerfile")


@pytest.mark.parametrize(
    # .netrc is how every fault of tests/install/test_faults.py is met
    "way",
    some(["in the addresses", "in .netrc", "by a token, and by channel"], "in the addresses", "by a token, and by channel"),
)
def test_the_password_gets_there_and_leaves_no_trace(project, small, company, tmp_path, way, record_property):
    environment = home(tmp_path / "home", written(way, company), company)
    if way == "in the addresses":
        own_steps(project)
    before = len(company.served)
    shown = project.make("env-update", **environment).output
    assert project.locks() == small.locks(), "the locks are not those made without the mirror"
    assert any("/conda-forge/linux-64/repodata" in path for path in company.served[before:])
    assert any(path.startswith("/simple/") for path in company.served[before:])

    before = len(company.served)
    stages = FETCHING if way == "in the addresses" else "conda-env,poetry-packages"
    # caches of packages of its own, empty ones: what another test fetched would not be asked for again
    empty = ("--build-arg", f"BUILDKIT_CACHE_MOUNT_NS={uuid.uuid4()}")
    done = build(project, environment, "--target", "runtime", "--tag", project.runtime, "--no-cache-filter", stages, *empty)
    assert done.returncode == 0, done.stdout[-4000:]
    assert any("/simple/tabulate" in path for path in company.served[before:])

    secrets = company.secrets()
    assert leaks.named((shown + done.stdout).encode(), secrets) == [], "in what make prints"
    of_image = leaks.in_image(project.runtime, secrets)
    of_files = leaks.in_files(project.path.rglob("*"), secrets)
    of_builder = leaks.in_builder(secrets)
    assert of_image.found + of_files.found + of_builder.found == []
    record_property("layers searched", of_image.layers)
    print(f"{of_image.layers} layers, {of_files.files} files of the project, {of_builder.files} of the builder: no secret")
    if way == "in the addresses":
        # what made the locks is in no image, but in the cache of the builder, which may be shared
        done = build(project, environment, *TASKS, "--target", "solve", "--tag", f"{project.images}:solve")
        assert done.returncode == 0, done.stdout[-4000:]
        assert leaks.in_image(f"{project.images}:solve", secrets).found == []


def test_poetrys_own_source_is_asked_with_the_password_of_auth_toml(render, company, tmp_path):
    """A source in pyproject.toml, locked and installed; without auth.toml both are refused, and say so."""
    project = render(**SMALL, environment="poetry")
    edit(project, "pyproject.toml", '"pandas>=2.2",', '"tabulate",')
    edit(project, "pyproject.toml", '    "pytest>=8",\n    "ruff>=0.9",\n', "")
    with (project.path / "pyproject.toml").open("a") as file:
        file.write(f'\n[[tool.poetry.source]]\nname = "corp"\nurl = "{company.address}/simple/"\npriority = "explicit"\n')
        file.write('\n[tool.poetry.dependencies]\ntabulate = { source = "corp" }\n')
    files = written("in auth.toml", company)
    environment = home(tmp_path / "home", files, company)
    project.make("env-update", **environment)
    lock = (project.path / "poetry.lock").read_text()
    assert f'url = "{company.address}/simple"' in lock and 'reference = "corp"' in lock
    words = ("--target", "poetry-packages", "--tag", project.runtime, "--no-cache-filter", "poetry-packages")
    done = build(project, environment, *words)
    assert done.returncode == 0, done.stdout[-4000:]
    secrets = company.secrets()
    assert leaks.in_image(project.runtime, secrets).found + leaks.in_files(project.path.rglob("*"), secrets).found == []

    (tmp_path / "home/.config/pypoetry/auth.toml").unlink()
    (tmp_path / "home/.config/pip/pip.conf").write_text(Path(os.environ["PIP_CONFIG_FILE"]).read_text())
    (tmp_path / "both.pem").write_text(company.authority.read_text() + Path(os.environ["SSL_CERT_FILE"]).read_text())
    environment["SSL_CERT_FILE"] = str(tmp_path / "both.pem")
    before = project.locks()
    shown = project.make("env-update", "ALL=1", fails=True, **environment).output
    assert "Authorization error accessing" in shown and project.locks() == before, shown[-3000:]


def test_a_wrong_password_is_an_error_that_does_not_say_it(project, company, tmp_path):
    """In each of the four clients, and nobody waits for an answer."""
    wrong = gate.Gate(company.address, company.authority, "ada", f"no/{token_hex(8)}=", "tk-wrong")
    environment = home(tmp_path / "home", written("in the addresses", wrong), company)
    began = time.monotonic()
    shown = project.make("env-update", fails=True, **environment).output
    assert re.search(r"401|[Uu]nauthorized|UNAUTHORIZED|credentials", shown), shown[-3000:]
    assert "no file was replaced" in shown
    own_steps(project)
    done = build(project, environment, "--target", "tools", "--no-cache-filter", "tools")
    assert done.returncode and "401" in done.stdout and "Traceback" not in done.stdout, done.stdout[-3000:]
    assert leaks.named((shown + done.stdout).encode(), wrong.secrets()) == []
    assert not (project.path / "poetry.lock").exists() and time.monotonic() - began < 120


def test_a_ca_that_is_not_known_is_named(project, company, tmp_path):
    """The negative control of the certificate: the public bundle alone does not do."""
    environment = home(tmp_path / "home", written("in .netrc", company), company)
    environment["SSL_CERT_FILE"] = os.environ.get("SSL_CERT_FILE", "")
    shown = project.make("env-update", fails=True, **environment).output
    assert re.search("certificate|SSL", shown), shown[-3000:]


@pytest.mark.parametrize("mode", [",mode=0444", ""], ids=["for all to read", "the negative control"])
def test_apt_knows_a_ca_that_it_may_read(render, company, tmp_path, mode):
    """Where Debian comes by https, from a base image of one's own: apt reads the certificates as a user of its own."""
    project = render(**SMALL, environment="poetry")
    tools = build(project, {}, *TASKS, "--target", "tools")
    assert tools.returncode == 0, tools.stdout[-3000:]
    source = f"RUN rm -rf /etc/apt/sources.list*; echo 'deb [trusted=yes] {company.address}/debian ./' > /etc/apt/sources.list\n"
    edit(project, TASKS[1], "FROM base AS copier\n", f"FROM base AS copier\n{source}")
    edit(project, TASKS[1], "id=ca,mode=0444", f"id=ca{mode}")
    done = build(project, home(tmp_path / "home", {}, company), *TASKS, "--target", "copier", "--no-cache-filter", "copier")
    # the company lets nobody in without a password: who is asked for one has got as far as that
    refused, unread = "401" in done.stdout, "Could not load certificates" in done.stdout
    assert done.returncode and (refused, unread) == ((True, False) if mode else (False, True)), done.stdout[-3000:]


LEAKS = {
    "a file that a later layer deletes": (
        "RUN --mount=type=secret,id=netrc cp /run/secrets/netrc /opt/kept\nRUN rm /opt/kept\n",
        "layer ",
    ),
    "an argument": ('ARG TOKEN\nRUN : "$TOKEN"\n', "json: password"),
    "a label": ('ARG TOKEN\nLABEL index="$TOKEN"\n', "json: password"),
}


@pytest.mark.parametrize("way", LEAKS)
def test_a_dockerfile_that_leaks_is_seen(project, company, tmp_path, way):
    """The negative control of the search, by the same scripts."""
    instructions, where = LEAKS[way]
    # a password of its own: the builder will know it from now on
    other = gate.Gate(company.address, company.authority, "ada", f"o/{token_hex(8)}&", "tk-other")
    environment = home(tmp_path / "home", written("in .netrc", other), company) | {"TOKEN": other.password}
    with (project.path / "Dockerfile").open("a") as file:
        file.write(f"\nFROM ${{RUNTIME_BASE}} AS leaking\n{instructions}")
    # the linter of Docker warns of a token in ARG: what is tested is what happens without one
    edit(project, "Dockerfile", "# check=error=true\n", "")
    image = f"{project.images}:leaking"
    words = ("--no-cache-filter", "leaking", "--target", "leaking", "--tag", image)
    done = build(project, environment, *words, *(("--build-arg", "TOKEN") if "TOKEN" in instructions else ()))
    assert done.returncode == 0, done.stdout[-3000:]
    found = leaks.in_image(image, other.secrets()).found
    assert any(where in re.sub(r"^[0-9a-f/a-z]*/?[0-9a-f]{64}:", "json:", line) for line in found), found
    if "TOKEN" in instructions:
        known(other.secrets())
    container.docker("image", "rm", "--force", image)


def known(secrets: dict[str, str]) -> None:
    """Expect that the builder's records name a secret; where they are out of reach, nothing is said of them."""
    deadline = time.monotonic() + 10
    while (search := leaks.in_builder(secrets)).files and not search.found:
        assert time.monotonic() < deadline, "the records of the build do not show an argument: what is searched?"
        time.sleep(0.5)


def test_a_proxys_password_is_in_no_record_of_the_build(project, company):
    """A build argument is kept with its value, the predefined ones too: seen here, and why a secret is used instead."""
    with (project.path / "Dockerfile").open("a") as file:
        file.write(
            "\nFROM conda-base AS asking\nRUN --mount=type=bind,from=couplet,target=/couplet --mount=type=secret,id=proxies \\\n"
            '    /couplet/couplet.sh network sh -euc \'test "${HTTPS_PROXY#*@}" = proxy.example.org:3128; test "$NO_PROXY" = .example.org\'\n'
        )
    address = f"http://{company.with_password.removeprefix('https://').split('@')[0]}@proxy.example.org:3128"
    environment = {"HTTPS_PROXY": address, "NO_PROXY": ".example.org"}
    image = f"{project.images}:asking"
    done = build(project, environment, "--no-cache-filter", "asking", "--target", "asking", "--tag", image)
    assert done.returncode == 0, done.stdout[-3000:]
    secrets = company.secrets()
    assert leaks.named(done.stdout.encode(), secrets) == []
    assert leaks.in_image(image, secrets).found == []
    container.docker("image", "rm", "--force", image)
    # the negative control, as it would be without the secret; its record comes after the other one's
    password = token_hex(8)
    given = f"HTTPS_PROXY=http://ada:{password}@proxy.example.org:3128"
    container.docker("buildx", "build", "--build-arg", given, "-", stdin="FROM scratch\nLABEL proxied=yes\n")
    known({"password": password})
    assert leaks.in_builder(secrets).found == []


def test_base_images_come_through_a_registry_that_wants_a_login(render, sources, tmp_path):
    """REGISTRY is a prefix; who may pull is Docker's own login, and no login is refused."""
    project = render(**SMALL, environment="poetry")
    base = images.python_image(project.minor)
    docker_config = tmp_path / "docker"
    with registry.running(tmp_path, sources == "public", login=("ada", "open sesame")) as address:
        environment = {"REGISTRY": address, "DOCKER_CONFIG": str(docker_config)}
        login = ["docker", "--config", str(docker_config), "login", address, "--username", "ada", "--password-stdin"]
        subprocess.run(login, input="open sesame", text=True, check=True, capture_output=True)
        container.docker("tag", base, f"{address}/{base}")
        container.docker("--config", str(docker_config), "push", "--quiet", f"{address}/{base}")
        container.docker("image", "rm", f"{address}/{base}")
        words = ("--target", "os-base", "--no-cache-filter", "os-base")
        refused = build(project, environment | {"DOCKER_CONFIG": str(tmp_path / "nobody")}, *words)
        assert refused.returncode and re.search("authorization|basic auth|401|unauthorized", refused.stdout), refused.stdout
        done = build(project, environment, *words)
        assert done.returncode == 0 and f"{address}/{base}" in done.stdout, done.stdout[-3000:]
    assert check(project).returncode == 2, "nothing was locked here"


# --- a further index -------------------------------------------------------------------------------


def publish(folder: Path, name: str, version: str, content: str) -> str:
    """Put a wheel into an index, which is a folder; return the hash of the file."""
    page = folder / name
    page.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    wheel = page / f"{name}-{version}-py3-none-any.whl"
    members = {
        f"{name}.py": f"whose = {content!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: couplet\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in members.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in [*members, f"{info}/RECORD"]))
    links = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(page.glob("*.whl"))}
    text = "".join(f'<a href="{file}#sha256={digest}">{file}</a>\n' for file, digest in links.items())
    (page / "index.html").write_text(text)
    return f"sha256:{links[wheel.name]}"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A folder, without a line for each answer."""

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder to containers for the length of a block; the value is its address."""
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer((engine.gateway(engine.find()), 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    try:
        yield f"http://{server.server_address[0]}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def lock(project: Project, hashes: dict[str, str], sources: dict[str, str] | None = None) -> None:
    """Write a poetry.lock of version 2.0 of each package, some of them from a source of Poetry's ({name: address})."""
    text = ""
    for name, digest in hashes.items():
        text += f'[[package]]\nname = "{name}"\nversion = "2.0"\noptional = false\ngroups = ["main"]\n'
        text += f'files = [{{file = "{name}-2.0-py3-none-any.whl", hash = "{digest}"}}]\n\n'
        if source := (sources or {}).get(name):
            text += f'[package.source]\ntype = "legacy"\nurl = "{source}"\nreference = "corp"\n\n'
    text += '[metadata]\nlock-version = "2.1"\npython-versions = "*"\ncontent-hash = ""\n'
    (project.path / "poetry.lock").write_text(text)
    restamp(project)


OTHER = {"another version": "1.0", "another file of the same version": "2.0"}


@pytest.mark.parametrize("what", some(OTHER, "another version"))
def test_a_further_index_may_have_what_is_locked_in_another_form(render, sources, tmp_path, what):
    """As pip has it: the file is the one with the right hash. What the main index lacks comes from the further one."""
    project = render(**SMALL, environment="poetry")
    main, further = tmp_path / "index/main", tmp_path / "index/further"
    locked = {"floe": publish(main, "floe", "2.0", "main"), "brine": publish(further, "brine", "2.0", "further")}
    publish(further, "floe", OTHER[what], "further")
    publish(main, "brine", "1.0", "main")
    lock(project, locked)
    words = ("--target", "poetry-packages", "--tag", project.runtime, "--no-cache-filter", "poetry-packages")
    with served(tmp_path / "index") as address:
        pip = tmp_path / "pip.conf"
        pip.write_text(f"[global]\nindex-url = {address}/main\nextra-index-url =\n    {address}/further\n")
        user = {"PIP_CONFIG_FILE": str(pip)}

        def built() -> subprocess.CompletedProcess:
            # the tools come from where this machine has them
            tools = build(project, {}, "--target", "tools")
            assert tools.returncode == 0, tools.stdout[-3000:]
            return build(project, user, *words)

        done = built()
        assert done.returncode == 0, done.stdout[-3000:]
        code = "import brine, floe; print(floe.whose, brine.whose)"
        assert container.run(project.runtime, f"{project.prefix}/bin/python", "-c", code) == "main further\n"
        # the negative control: uv as it is by itself, with these before the main one
        edit(
            project,
            ".couplet/couplet/network.py",
            'f"{index or default_index()} {extra}".strip()\n        found["UV_INDEX_STRATEGY"] = "unsafe-first-match"',
            "extra",
        )
        done = built()
        assert done.returncode and re.search("no version of floe==2.0|Hash mismatch for `floe==2.0`", done.stdout), done.stdout[
            -3000:
        ]
    container.docker("image", "rm", "--force", project.runtime)


def test_a_source_of_poetrys_is_asked_for_its_own_packages_alone(render, sources, tmp_path):
    """And pip.conf's indexes for all others: PyTorch's index has files of its own of what everybody uses."""
    project = render(**SMALL, environment="poetry")
    main, further, source = (tmp_path / "index" / name for name in ("main", "further", "source"))
    hashes = {
        "floe": publish(main, "floe", "2.0", "main"),
        "brine": publish(further, "brine", "2.0", "further"),
        "frazil": publish(source, "frazil", "2.0", "source"),
    }
    publish(source, "floe", "2.0", "source")
    words = ("--target", "poetry-packages", "--tag", project.runtime, "--no-cache-filter", "poetry-packages")
    tools = build(project, {}, "--target", "tools")
    assert tools.returncode == 0, tools.stdout[-3000:]
    with served(tmp_path / "index") as address:
        pip = tmp_path / "pip.conf"
        pip.write_text(f"[global]\nindex-url = {address}/main\nextra-index-url = {address}/further\n")
        own = {"frazil": f"{address}/source"}
        lock(project, hashes, own)
        done = build(project, {"PIP_CONFIG_FILE": str(pip)}, *words)
        assert done.returncode == 0, done.stdout[-3000:]
        code = "import brine, floe, frazil; print(floe.whose, brine.whose, frazil.whose)"
        shown = container.run(project.runtime, f"{project.prefix}/bin/python", "-c", code)
        assert shown == "main further source\n"
        # the negative control: were it asked for the others too
        lock(project, hashes, own | {"floe": f"{address}/source"})
        done = build(project, {"PIP_CONFIG_FILE": str(pip)}, *words)
        assert done.returncode and "Hash mismatch for `floe==2.0`" in done.stdout, done.stdout[-3000:]
    container.docker("image", "rm", "--force", project.runtime)


SAYS = "from couplet import network; print(network.default_index())"
PIP_SAYS = "python -m pip download --help | sed -n 's/.*Base URL of the Python Package Index (default *//p' | sed 's/).*//'"


@pytest.mark.parametrize("image", [images.MINIFORGE, images.python_image("3.13")])
def test_without_an_index_of_ones_own_pips_default_is_asked_first(sources, image):
    """By whatever pip the base image has; what becomes of it: tests/install/test_network.py."""
    mount = f"--volume={template.REPOSITORY}/template/.couplet:/couplet:ro"
    script = f'COLUMNS=999 {PIP_SAYS}; PYTHONPATH=/couplet python -BSc "{SAYS}"'
    default, found = container.run(image, "sh", "-euc", script, options=(mount,)).splitlines()
    assert default == found and found.startswith("https://")


@pytest.mark.parametrize("way", some(["in the addresses", "in .netrc"], "in .netrc"))
def test_a_container_of_dev_gets_the_settings_and_keeps_none(small, copy_of, company, tmp_path, way):
    """`make shell`, for programs: what Poetry and conda fetch inside comes from the company. The negative control: without its settings neither gets anything."""
    project = copy_of(small)
    project.make("build-dev")
    try:
        run = (".couplet/host/docker-run.sh", project.dev)
        add = (*run, "sh", "-c", "poetry add --quiet six && conda install --yes --quiet locket && python -c 'import six, locket'")
        before = project.locks()
        bare = home(tmp_path / "bare", {".config/pip/pip.conf": "[global]\nindex-url = http://127.0.0.1:9/simple/\n"}, company)
        bare |= {"SSL_CERT_FILE": "", "DOCKER_CONFIG": os.environ.get("DOCKER_CONFIG") or str(Path.home() / ".docker")}
        failed = subprocess.run(add, cwd=project.path, env={**os.environ, **bare}, capture_output=True, text=True)
        assert failed.returncode and project.locks() == before

        environment = home(tmp_path / "home", written(way, company), company) | {"DOCKER_CONFIG": bare["DOCKER_CONFIG"]}
        served = len(company.served)
        done = subprocess.run(add, cwd=project.path, env={**os.environ, **environment}, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        asked = company.served[served:]
        assert any(path.startswith("/simple/six") for path in asked) and any(
            "/conda-forge/noarch/locket" in path for path in asked
        )
        assert leaks.in_files(project.path.rglob("*"), company.secrets()).found == []
        assert leaks.in_image(project.dev, company.secrets()).found == []
        # and the next container has nothing of it
        shown = container.run(project.dev, "sh", "-c", "ls /run/secrets 2> /dev/null; echo ${PIP_CONFIG_FILE-} ${CONDARC-}")
        assert shown.strip() == ""
    finally:
        container.docker("image", "rm", "--force", project.dev)


# --- which files ----------------------------------------------------------------------------------

PLACES = {
    "pip_conf": ["Library/Application Support/pip/pip.conf", ".config/pip/pip.conf", ".pip/pip.conf"],
    "poetry_auth": ["Library/Application Support/pypoetry/auth.toml", ".config/pypoetry/auth.toml"],
}


@pytest.mark.parametrize("name", PLACES)
def test_a_file_is_found_where_its_tool_looks_and_in_that_order(render, sources, tmp_path, name):
    """macOS' places first, as pip and Poetry have it; what Docker reads of it, blanks included."""
    project = render(**SMALL)
    user = tmp_path / "home"
    user.mkdir()
    unset = ("PIP_CONFIG_FILE", "POETRY_CONFIG_DIR", "XDG_CONFIG_HOME")
    environment = {**os.environ, "HOME": str(user), "IMAGE": "none", **dict.fromkeys(unset, "")}
    # where Docker's client keeps its plugins and its logins
    environment["DOCKER_CONFIG"] = os.environ.get("DOCKER_CONFIG") or str(Path.home() / ".docker")

    def found() -> str | None:
        words = [".couplet/host/docker-build.sh", "bake", "--print"]
        shown = subprocess.run(words, cwd=project.path, env=environment, check=True, capture_output=True, text=True).stdout
        targets = [target.get("secret", ()) for target in json.loads(shown)["target"].values()]
        [files] = {tuple(secret["src"] for secret in secrets if secret["id"] == name) for secrets in targets}
        return files[0] if files else None

    assert found() in (None, "/etc/pip.conf", "/Library/Application Support/pip/pip.conf")
    for place in reversed(PLACES[name]):
        path = user / place
        path.parent.mkdir(parents=True)
        path.write_text("")
        assert found() == str(path)
