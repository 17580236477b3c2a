"""Saturn Cloud: its image builder runs postBuild in a base image, and what comes of it keeps the promises of the Dockerfile.

On the closed network the base image is a stand-in (tests/mirror/README.md). The script runs as the platform runs it: as
jovyan, in a fresh bash; then the container becomes an image, and nothing that the script exported is left.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable

import pytest

from tests.harness import checks, container, saturn
from tests.harness.container import derived, docker, running
from tests.harness.project import Done, Project
from tests.harness.saturn import PREFIX, OnSaturn
from tests.harness.soak import some
from tests.harness.variants import variants

CHANGED = f"""
import json, sys; sys.path.insert(0, "/couplet")
from pathlib import Path
from couplet.install import verify
print(json.dumps(verify.changed_files(Path("{PREFIX}"))))
"""
START = ". /opt/poetry/start.sh"
Where = Callable[..., str]
"""Runs a command somewhere and returns what it prints."""
NUMPY = f"{PREFIX}/lib/python3.*/site-packages/numpy-*.dist-info"


@pytest.fixture(scope="session")
def project(build) -> OnSaturn:
    """The variant, locked and built by make."""
    made = build(next(row for row in variants() if row.name == "saturn"))
    return OnSaturn(made.path, made.images)


@pytest.fixture(scope="session")
def image(project) -> str:
    """The image that the platform makes of the repository."""
    with saturn.builder() as builder:
        saturn.copy(project, builder)
        shown = saturn.post_build(builder).output
        assert "    . /opt/poetry/start.sh\n" in shown and "export POETRY_HOME=/opt/poetry\n" in shown
        saturn.bash(builder, "rm -r /tmp/project")
        return saturn.commit(builder, f"{project.images}-post:build")


@pytest.fixture(scope="session")
def pasted(project) -> str:
    """The image that the platform makes of the one script of `make saturn`, with no other file."""
    project.make("saturn")
    with saturn.builder() as builder:
        saturn.post_build(builder, saturn.paste(builder, project.path / "build/postBuild"))
        return saturn.commit(builder, f"{project.images}-post:pasted")


@pytest.fixture(scope="session")
def registered(project) -> str:
    """The image of `make saturn-image`, which is registered with the platform."""
    project.make("saturn-image")
    return f"{project.images}:saturn"


every_way = pytest.mark.parametrize("way", some(["image", "pasted", "registered"], "image", "registered"))
"""By day, what is pasted is compared with `image` (`test_the_one_script_gives_the_same`)."""


def looked_into(project: Project) -> tuple[str, ...]:
    """Options of a container for what the two below run in it."""
    return ("--volume", f"{project.path}/.couplet:/couplet:ro", "--volume", f"{project.path}/notebooks:/notebooks:ro")


def image_of(name: str, project: Project, *options: str) -> Where:
    """An image, in a new container."""
    return lambda *command: container.run(name, *command, options=(*looked_into(project), *options))


def builder_of(name: str) -> Where:
    """A builder as it is: what its script has exported is as much gone as in an image of it, which takes long to make."""
    return lambda *command: docker("exec", name, *command).stdout


def changed_files(where: Where) -> list[str]:
    """Which files in the environment are not as they were installed? By the very module that the build uses."""
    found, looked_at = json.loads(where("/opt/poetry/venv/bin/python", "-B", "-c", CHANGED))
    assert looked_at > 10_000
    return found


def execute(where: Where) -> list[str]:
    """What the first cell of the example prints when the platform's own Jupyter, outside of the environment, runs it."""
    script = (
        "env -i HOME=/tmp/home /opt/saturncloud/bin/jupyter nbconvert --to notebook --execute --output-dir /tmp --output done.ipynb"
        " /notebooks/example.ipynb >&2 && cat /tmp/done.ipynb"
    )
    cells = [cell for cell in json.loads(where("bash", "-c", script))["cells"] if cell["cell_type"] == "code"]
    return ["".join(output.get("text", "") or output["data"]["text/plain"]) for cell in cells for output in cell["outputs"]]


def test_the_kernels_defaults_are_the_platforms(render):
    assert render("saturn", hosting="saturn").kernel == {
        "name": "python3", "display_name": "Python (Sea Ice)", "prefix": "/opt/saturncloud",
    }  # fmt: skip
    assert render("own", hosting="saturn", kernel_name="ice").kernel["name"] == "ice"
    assert not (render("docker").path / "postBuild").exists()


def test_what_is_started_on_the_root_runs_on_its_old_python(render, package_sources):
    """The base image is of 2022, and so is the stand-in's root: what wants a newer Python runs with the environment's."""

    def on_root(*words: str) -> Done:
        volume = f"--volume={render(hosting='saturn').path}/.couplet:/couplet:ro"
        return docker(
            "run", "--rm", volume, "--env=PYTHONPATH=/couplet", saturn.BASE, "/opt/saturncloud/bin/python", *words, check=False
        )

    assert on_root("--version").output.startswith("Python 3.9.")
    for module in ("couplet.saturn.root", "couplet.install.fetch"):
        assert on_root("-B", "-c", f"import {module}").code == 0
    # the negative control: build.py is for the environment's
    done = on_root("-B", "-c", "import couplet.saturn.build")
    assert done.code and "No module named 'tomllib'" in done.output


SETTINGS = "import json; from couplet.saturn import root; print(json.dumps(root.settings()))"
INDEX = "index-url = https://example.com/simple\nextra-index-url =\n    https://example.com/a\n    https://example.com/b\n"
TIMEOUTS = ("PIP_DEFAULT_TIMEOUT", "UV_HTTP_TIMEOUT", "POETRY_REQUESTS_TIMEOUT")


PLACES = ("/etc/pip.conf", "/home/jovyan/.config/pip/pip.conf", "/opt/saturncloud/pip.conf")


@pytest.mark.parametrize("place", some(PLACES, "/etc/pip.conf"))
def test_pips_settings_in_the_base_image_hold_for_uv_and_poetry_too(render, package_sources, tmp_path, place):
    """As in builds, which tests/install/test_faults.py holds to it: the addresses, and how long a slow mirror is waited for."""

    def settings(pip_conf: str, *options: str) -> dict[str, str]:
        (tmp_path / "pip.conf").write_text(f"[global]\n{pip_conf}")
        volumes = ["--env=PYTHONPATH=/couplet", f"--volume={helpers}:/couplet:ro", f"--volume={tmp_path}/pip.conf:{place}:ro"]
        words = ("/opt/saturncloud/bin/python", "-B", "-c", SETTINGS)
        return json.loads(container.run(saturn.BASE, *words, options=(*volumes, *options)))

    helpers = render(hosting="saturn").path / ".couplet"
    found = settings(f"{INDEX}timeout = 300.5\n")
    assert {found[name] for name in TIMEOUTS} == {"300"}
    assert found["UV_DEFAULT_INDEX"] == found["POETRY_PYPI_MIRROR_URL"] == "https://example.com/simple"
    # uv asks in this order, and the main one comes first; tests/install/test_company.py has what happens else
    assert found["UV_INDEX"] == "https://example.com/simple https://example.com/a https://example.com/b"
    assert found["UV_INDEX_STRATEGY"] == "unsafe-first-match"
    # the negative controls: a variable takes precedence, and no setting is none
    found = settings("timeout = 300\n", "--env", "PIP_DEFAULT_TIMEOUT=7")
    assert {found[name] for name in TIMEOUTS} == {"7"}
    found = settings("")
    assert {found[name] for name in TIMEOUTS} == {"120"} and not found.keys() & {"UV_DEFAULT_INDEX", "UV_INDEX"}
    # without a main one of one's own it is pip's default
    main, further = settings("extra-index-url = https://example.com/a\n")["UV_INDEX"].split()
    assert main.startswith("https://") and main.endswith("/simple") and further == "https://example.com/a"


@every_way
def test_the_locks_are_installed_and_condas_files_intact(project, way, request):
    name = request.getfixturevalue(way)
    with running(name) as host:
        assert checks.conda_lock(host, project) == []
        assert checks.poetry_lock(host, project, {"main"}) == []
        assert host.run(f"find {PREFIX} -name direct_url.json -path '*numpy*'").stdout == ""
        assert host.file(PREFIX).user == "jovyan"
    assert changed_files(image_of(name, project)) == []


@every_way
def test_the_platforms_jupyter_runs_the_notebook_in_the_environment(project, way, request):
    """Without network, and with the resource's disk mounted over the home folder, as the platform does."""
    resource = ("--network", "none", "--mount", "type=tmpfs,dst=/home/jovyan,tmpfs-mode=1777")
    outputs = execute(image_of(request.getfixturevalue(way), project, *resource))
    assert outputs[0] == f"{PREFIX}\n"
    assert "slope" in outputs[1]


def test_without_post_build_the_same_kernel_is_the_platforms_own(project):
    """The negative control: python3 is there before, and is not the project's."""
    script = 'env -i HOME=/tmp/home /opt/saturncloud/bin/python -c "$0" \'["python3", ["import sys; print(sys.prefix)"]]\''
    assert container.run(saturn.BASE, "bash", "-c", script, checks.NOTEBOOK).strip() == "/opt/saturncloud"


@every_way
def test_poetry_is_the_pinned_one_and_knows_the_environment(project, way, request):
    name, begin = request.getfixturevalue(way), "true" if way == "registered" else START
    pinned = next(
        line for line in (project.path / ".couplet/pins/poetry.txt").read_text().splitlines() if line.startswith("poetry==")
    )
    script = (
        f"{begin}; cd /opt/app; poetry --version; poetry env info --path; poetry config cache-dir; poetry install --only main"
    )
    shown = container.run(name, "bash", "-c", script, options=("--network", "none"))
    assert shown.startswith(f"Poetry (version {pinned.split()[0].removeprefix('poetry==')})\n{PREFIX}\n/opt/poetry/cache\n")
    assert "No dependencies to install or update" in shown, shown
    code = f"import sys, {project.package} as p; print(sys.prefix, p.__file__)"
    found = container.run(name, "bash", "-c", f"{begin}; cd /; python -c '{code}'")
    assert found.split() == [PREFIX, f"/opt/app/src/{project.package}/__init__.py"]


def test_poetry_brings_no_python_of_its_own_onto_the_path(image):
    assert container.run(image, "ls", "/opt/poetry/bin").split() == ["poetry"]
    assert container.run(image, "bash", "-c", f"{START}; command -v python").strip() == f"{PREFIX}/bin/python"


def test_without_condas_variables_poetry_takes_another_environment(image):
    """The negative control: what CONDA_PREFIX and CONDA_DEFAULT_ENV are for."""
    for without in ("unset CONDA_PREFIX CONDA_DEFAULT_ENV", "export CONDA_DEFAULT_ENV=base"):
        shown = container.run(image, "bash", "-c", f"{START}; {without}; cd /opt/app; poetry env info --path", check=False)
        assert shown.strip() != PREFIX


def test_nothing_is_left_in_home_or_tmp(image):
    """A resource mounts its disk over /home/jovyan: what lay there would be lost."""
    assert container.run(image, "find", "/tmp", "/home/jovyan", "-mindepth", "1", "-newer", f"{PREFIX}/conda-meta/history") == ""
    assert container.run(image, "find", "/home/jovyan", "-name", ".c*") == ""


def test_a_naive_poetry_install_changes_condas_files_and_is_seen(project, image):
    """The negative control: Poetry as its installer leaves it, in the environment as conda leaves it (python-poetry/poetry#6408)."""
    conda_left = f'echo \'{{"dir_info": {{}}, "url": "file:///home/conda/numpy"}}\' > $(echo {NUMPY})/direct_url.json'
    for plugin, intact in (("true", True), ("rm -r /opt/poetry/venv/lib/python3.*/site-packages/conda_first*", False)):
        with saturn.builder(image, *looked_into(project)) as builder:
            index = "export POETRY_PYPI_MIRROR_URL=$(python -m pip config get global.index-url || :)"
            quiet = "export PYTHONDONTWRITEBYTECODE=1 REQUESTS_CA_BUNDLE=${SSL_CERT_FILE-}"
            install = f"{START}; cd /opt/app; poetry install --only main"
            # afterwards that file of ours goes again: it is not the one that conda's package brought
            saturn.bash(builder, f"{conda_left}; {plugin}; {index}; {quiet}; {install}; rm -f {NUMPY}/direct_url.json")
            # (the project itself is Poetry's to install again, with a record of its own)
            seen = [line for line in changed_files(builder_of(builder)) if not line.startswith(f"{project.package}-")]
        assert (not seen) == intact, seen
        assert intact or any(line.startswith("numpy: ") for line in seen)


@pytest.mark.soak
def test_a_second_run_changes_nothing(project, image):
    own = f"*/{project.package.replace('_', '?')}*"  # the project itself: its metadata and its program are written again
    listing = f"find {PREFIX} /opt/poetry/venv -path '{own}' -prune -o -type f -printf '%p %s %T@\\n' | sort"
    with saturn.builder(image, *looked_into(project)) as builder:
        before = saturn.bash(builder, listing).stdout
        saturn.copy(project, builder)
        shown = saturn.post_build(builder).output
        assert f"{PREFIX} is what the locks say already" in shown
        after = saturn.bash(builder, listing).stdout
        assert sorted(set(after.splitlines()) - set(before.splitlines())) == []
        assert changed_files(builder_of(builder)) == []
        assert execute(builder_of(builder))[0] == f"{PREFIX}\n"


@pytest.mark.soak
def test_an_environment_with_other_things_in_it_is_made_what_the_locks_say(project, image):
    """A damaged file, a package of nobody's, conda packages that the lock does not name: said, and gone."""
    damage = f"echo 1 >> $(echo {PREFIX}/lib/python3.*/site-packages/numpy/version.py); {PREFIX}/bin/pip install --quiet toolz"
    with saturn.builder(image, *looked_into(project)) as builder:
        saturn.bash(builder, damage)
        assert changed_files(builder_of(builder))
        saturn.copy(project, builder)
        assert "conda: saturn is made anew from the lock; it held " in saturn.post_build(builder).output
        assert changed_files(builder_of(builder)) == []
        assert "toolz" not in json.loads(builder_of(builder)(f"{PREFIX}/bin/python", "-c", checks.DISTRIBUTIONS))


def test_the_one_script_gives_the_same(project, image, pasted):
    for code in (checks.DISTRIBUTIONS, checks.RECORDS):
        one, other = (json.loads(container.run(name, f"{PREFIX}/bin/python", "-c", code)) for name in (image, pasted))
        assert one == other
    files = ("cat", "/opt/poetry/start.sh", "/opt/saturncloud/share/jupyter/kernels/python3/kernel.json")
    assert container.run(image, *files) == container.run(pasted, *files)


def test_the_one_script_is_the_same_wherever_it_is_made(project, copy_of):
    first = project.make("saturn").output
    assert "Written: build/postBuild" in first
    digest = hashlib.sha256((project.path / "build/postBuild").read_bytes()).hexdigest()
    copy = copy_of(project)
    for file in copy.path.rglob("*.py"):
        file.touch()
    (copy.path / "src" / copy.package / ".env").write_text("TOKEN=secret\n")
    (copy.path / "src" / copy.package / "host.pem").write_text("secret\n")
    copy.make("saturn")
    script = (copy.path / "build/postBuild").read_bytes()
    assert hashlib.sha256(script).hexdigest() == digest
    # the negative control: what belongs into it makes it another
    code = copy.path / "src" / copy.package / "analysis.py"
    code.write_text(code.read_text() + "\n# one more line\n")
    copy.make("saturn")
    assert (copy.path / "build/postBuild").read_bytes() != script


def test_an_address_with_a_password_is_not_packed(project, copy_of):
    copy = copy_of(project)
    code = copy.path / "src" / copy.package / "analysis.py"
    code.write_text(code.read_text() + '\nSOURCE = "https://ada:secret@data.example.org/levels.csv"\n')
    shutil.rmtree(copy.path / "build", ignore_errors=True)
    shown = copy.make("saturn", fails=True).output
    assert f"src/{copy.package}/analysis.py, line" in shown and "an address with a password" in shown
    assert not list((copy.path / "build").iterdir())


def test_a_script_that_was_cut_when_pasted_is_refused(project, tmp_path):
    project.make("saturn")
    lines = (project.path / "build/postBuild").read_text().splitlines(keepends=True)
    (tmp_path / "postBuild").write_text("".join(lines[:200] + lines[220:]))
    with saturn.builder() as builder:
        done = saturn.post_build(builder, saturn.paste(builder, tmp_path / "postBuild"), check=False)
    assert done.code and "cut short or changed" in done.output


# --- what is wrong is said ---------------------------------------------------------------------------

WRONG = {
    "sudo asks for a password": ("USER 0\nRUN rm /etc/sudoers.d/notebook\nUSER 1000", "/opt/poetry cannot be made: "),
    "there is no sudo": ("USER 0\nRUN rm /usr/bin/sudo\nUSER 1000", "/opt/poetry cannot be made: there is no sudo"),
    "there is no environment": ("RUN rm -r /opt/saturncloud/envs/saturn", "there is no conda environment `saturn`"),
    "the environment is root's": ("USER 0\nRUN chown root /opt/saturncloud/envs/saturn\nUSER 1000", "jovyan may not write in"),
    "conda is elsewhere": ("USER 0\nRUN mv /opt/saturncloud /opt/conda\nUSER 1000", "There is no conda in /opt/saturncloud"),
}


@pytest.mark.parametrize("case", some(WRONG, "sudo asks for a password", "there is no environment"))
def test_what_the_base_image_lacks_is_named(project, case):
    instructions, message = WRONG[case]
    # the layers of `derived` are of an image with a plain name
    docker("tag", saturn.BASE, f"{project.images}-base:saturn")
    with derived(f"{project.images}-base:saturn", instructions) as base, saturn.builder(base) as builder:
        saturn.copy(project, builder)
        done = saturn.post_build(builder, check=False)
    assert done.code == 1 and message in done.output, done.output


def test_a_stale_lock_is_named(project, copy_of):
    copy = copy_of(project)
    with (copy.path / "environment.yml").open("a") as file:
        file.write("  - scikit-learn\n")
    with saturn.builder() as builder:
        saturn.copy(copy, builder)
        done = saturn.post_build(builder, check=False)
    assert done.code == 1
    assert "environment.yml has changed since conda-linux-64.lock was made. Run `make env-update`" in done.output
    assert "make env-update" in copy.make("saturn", fails=True).output, "and a script is not made of it"


def test_post_build_alone_says_what_to_do(project, tmp_path):
    shutil.copy2(project.path / "postBuild", tmp_path / "postBuild")
    with saturn.builder() as builder:
        done = saturn.post_build(builder, saturn.paste(builder, tmp_path / "postBuild"), check=False)
    assert done.code == 1 and "make saturn" in done.output


def conda_meta(builder: str) -> str:
    """What conda has recorded in the environment of a builder."""
    return saturn.bash(builder, f"find {PREFIX}/conda-meta -name '*.json'").stdout


def test_an_archive_with_another_sha256_than_the_lock_says_installs_nothing(project, copy_of):
    """MD5 is what conda itself compares; the lock has both. (The negative control: `image` is built of the same lock.)"""
    copy = copy_of(project)
    lock = copy.path / "conda-linux-64.lock"
    text = lock.read_text()
    line = next(line for line in text.splitlines() if line.startswith("# sha256") and "numpy" in line)
    lock.write_text(text.replace(line, line.replace(line.split()[2], "0" * 64)))
    with saturn.builder() as builder:
        saturn.copy(copy, builder)
        done = saturn.post_build(builder, check=False)
        assert done.code == 1 and f"{line.split()[3]}: it has SHA-256 {line.split()[2]}, the lock says {'0' * 64}" in done.output
        assert conda_meta(builder) == "", "nothing was linked"


DAMAGE = f"""

_install = install


def install(*words, **more):
    _install(*words, **more)
    with next(Path("{PREFIX}").glob("lib/python3.*/site-packages/numpy/version.py")).open("a") as file:
        file.write("# changed\\n")
"""


@pytest.mark.soak
def test_an_environment_that_changes_during_the_build_fails_the_final_verification(project, copy_of):
    """As a package's script or a broken installer might change it, after everything was installed by hash."""
    copy = copy_of(project)
    with (copy.path / ".couplet/couplet/install/pypi.py").open("a") as file:
        file.write(DAMAGE)
    with saturn.builder() as builder:
        saturn.copy(copy, builder)
        done = saturn.post_build(builder, check=False)
        assert done.code == 1 and "numpy/version.py was changed" in done.output and "\nDone." not in done.output
        assert saturn.bash(builder, "ls /opt/poetry").stdout == "", "nothing is made that a resource could start"
