"""Environment: what is locked is what is in the images, and conda's files are as conda left them."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from tests.harness import base_check, checks, container
from tests.harness.container import derived, running
from tests.harness.locks import edit
from tests.harness.project import Done
from tests.mirror import images


@pytest.fixture
def dev(built):
    """A container of the dev image."""
    with running(built.dev) as host:
        yield host


def test_the_locks_are_installed_exactly_and_runtime_holds_nothing_of_dev(every_built):
    """Neither conda nor Poetry nor the dev group."""
    with running(every_built.runtime) as runtime, running(every_built.dev) as dev:
        for host, groups in ((runtime, {"main"}), (dev, {"main", "dev"})):
            assert every_built.conda is False or checks.conda_lock(host, every_built) == []
            assert checks.poetry_lock(host, every_built, groups) == []
        assert checks.runtime_contents(runtime, every_built) == []


@pytest.mark.one_variant
def test_a_version_changed_in_the_image_is_seen(built):
    """The negative control."""
    pandas = "pandas-*.dist-info/METADATA"
    change = f"USER root\nRUN sed -i 's/^Version: .*/Version: 0.0.1/' {built.prefix}/lib/python3.*/site-packages/{pandas}"
    with derived(built.runtime, change) as image, running(image) as host:
        assert [line for line in checks.poetry_lock(host, built, {"main"}) if line.startswith("pandas: ")]


def test_a_package_of_condas_that_is_gone_from_the_image_is_seen(with_conda):
    """The negative control of conda's."""
    change = f"USER root\nRUN rm {with_conda.prefix}/conda-meta/numpy-*.json"
    with derived(with_conda.runtime, change) as image, running(image) as host:
        assert [line for line in checks.conda_lock(host, with_conda) if line.startswith("numpy: ")]


def test_dev_holds_all_three(built, dev):
    """The negative control: the same check on the image that has them finds them."""
    found = checks.runtime_contents(dev, built)
    for expected in (
        *(["/opt/conda/bin/conda exists"] if built.conda else []),
        "/opt/poetry exists",
        "poetry can be called",
        "pytest of the dev group is installed",
    ):
        assert expected in found


def test_the_projects_tests_pass_in_dev(every_built):
    shown = every_built.make("test").output
    assert "3 passed" in shown


@pytest.mark.one_variant
def test_a_broken_project_fails_its_tests(built, copy_of):
    """The negative control: the tests run the folder's code, not a copy in the image."""
    project = copy_of(built)
    code = project.path / "src" / project.package / "analysis.py"
    code.write_text(code.read_text().replace("line.slope,", "line.slope + 1,"))
    assert "1 failed" in project.make("test", fails=True).output


@pytest.mark.one_variant
def test_the_code_is_in_order(built):
    assert "already formatted" in built.make("lint").output


# --- conda takes precedence -----------------------------------------------------------------------


def rebuilt(project, stage: str, extra: str, after: str):
    """Build one stage of the project's Dockerfile with lines added after a marker line; returns docker's Done."""
    dockerfile = project.path / "Dockerfile"
    text = dockerfile.read_text()
    assert text.count(after) == 1, f"the Dockerfile has {text.count(after)} lines {after!r}"
    dockerfile.write_text(text.replace(after, f"{after}\n{extra}"))
    return docker_build(project, stage)


def docker_build(project, stage: str, *words: str) -> Done:
    """Run the project's own docker-build.sh for one stage; returns Done, whatever its exit code."""
    done = subprocess.run(
        [".couplet/host/docker-build.sh", "--progress=plain", "--target", stage, *words], cwd=project.path,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    return Done(done.returncode, done.stdout)


DAMAGE = {
    "a file changed": ("echo 1 >> {site}/numpy/version.py", r"numpy\S*: lib/python\S+/numpy/version.py was changed"),
    "a file deleted": ("rm {site}/scipy/version.py", "scipy.*version.py is gone"),
    "a package that no lock knows": (
        "mkdir {site}/stray-1.0.dist-info; printf 'Metadata-Version: 2.1\\nName: stray\\nVersion: 1.0\\n' > {site}/stray-1.0.dist-info/METADATA",
        "stray: 1.0 is installed and is in no lock",
    ),
    "a package of Poetry's missing": ("rm -r {site}/pandas-*.dist-info", "pandas: poetry.lock says"),
}


@pytest.mark.one_variant
@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_environment_fails_the_build_and_is_named(built, copy_of, case):
    project = copy_of(built)
    command, message = DAMAGE[case]
    done = rebuilt(project, "env", f"RUN {command.format(site=built.site_packages)}", after="FROM poetry-packages AS env")
    assert done.code and re.search(message, done.output) and "make env-update" in done.output, done.output[-3000:]
    assert "Traceback" not in done.output


LINKS = {
    "a file that is a link now": (
        "mv {prefix}/bin/python{minor} /opt/other; ln -s /opt/other {prefix}/bin/python{minor}",
        r"python: bin/python\S+ is a link now",
    ),
    "a link that is a file now": (
        "cp {prefix}/bin/python3 /opt/other; mv /opt/other {prefix}/bin/python3",
        "python: bin/python3 is not a link any more",
    ),
    "a link that is gone": ("rm {prefix}/bin/python3", "python: bin/python3 is not a link any more"),
    "a file where a folder was": ("rm -r {site}/scipy; touch {site}/scipy", "scipy: .*/scipy/_lib/.* is gone"),
}


@pytest.mark.parametrize("case", LINKS)
@pytest.mark.one_variant
def test_condas_links_are_held_to_its_record_too(with_conda, copy_of, case):
    project = copy_of(with_conda)
    command, message = LINKS[case]
    command = command.format(prefix=with_conda.prefix, minor=with_conda.minor, site=with_conda.site_packages)
    done = rebuilt(project, "env", f"RUN {command}", after="FROM poetry-packages AS env")
    assert done.code and re.search(message, done.output), done.output[-3000:]
    assert "Traceback" not in done.output


def test_a_naive_poetry_install_overwrites_condas_files(with_conda):
    """The negative control of the whole design: with direct_url.json in place, Poetry takes numpy from conda at an equal version."""
    built = with_conda
    # the state that `conda create` leaves, before the build removes the files
    restore = (
        f"import json,glob; [open(d + '/direct_url.json', 'w').write(json.dumps({{'url': 'file:///home/conda/feedstock_root/work', 'dir_info': {{}}}}))"
        f" for d in glob.glob('{built.prefix}/lib/python3*/site-packages/numpy-*.dist-info')]"
    )
    options = ("--user", "0", "--volume", f"{built.path}:/project:ro")
    script = "cp -r /project /tmp/project && cd /tmp/project && {before} poetry install --no-interaction --no-ansi --only main --dry-run"
    naive = container.run(built.dev, "bash", "-c", script.format(before=f'python -c "{restore}" &&'), options=options)
    assert "Updating numpy" in naive
    ours = container.run(built.dev, "bash", "-c", script.format(before=""), options=options)
    assert "Updating" not in ours and "Downgrading" not in ours, ours


def test_poetry_works_on_the_environment_in_dev(built):
    where = container.run(built.dev, "poetry", "env", "info", "--path", "--no-ansi").strip().splitlines()[-1]
    assert where == built.prefix


CACHES = "find / -xdev \\( -name '*.conda' -o -name '*.whl' -o -path '/root/.cache/*' \\) -not -path '*/ensurepip/*'"


def test_the_layers_hold_no_package_caches(built):
    with running(built.runtime, "--user", "0") as root:
        assert root.check_output(CACHES) == ""
        assert root.check_output("ls -A /tmp /home/app").split() == ["/home/app:", "/tmp:"]


@pytest.mark.one_variant
def test_a_cache_left_behind_is_seen(built):
    """The negative control: the search finds one."""
    change = "USER root\nRUN mkdir -p /root/.cache/uv && touch /root/.cache/uv/x"
    with derived(built.runtime, change) as image, running(image, "--user", "0") as root:
        assert "/root/.cache/uv/x" in root.check_output(CACHES)


AS_MINIFORGE = """RUN find /opt/conda -name __pycache__ -prune -exec rm -r {{}} + && rm -rf /opt/conda/pkgs \
    && printf '%s\\n' 'channels: [conda-forge]' 'mirrored_channels:' '  conda-forge: [{first}, https://prefix.dev/conda-forge]' \
        > /opt/conda/.condarc"""


def test_a_base_as_miniforge_has_it_is_built_on(small, copy_of):
    """Without compiled files, without a package cache, and with mirrored_channels in its .condarc, of which the first counts."""
    project = copy_of(small)
    for first, good in (("https://conda.anaconda.org/conda-forge", True), ("http://127.0.0.1:9/conda-forge", False)):
        with derived(images.MINIFORGE, AS_MINIFORGE.format(first=first)) as base:
            assert base_check.missing(base, "conda") == []
            asked = container.run(base, "sh", "-c", CHANNELS, options=("--volume", f"{project.path}/.couplet:/couplet:ro"))
            assert ("127.0.0.1:9/conda-forge" in asked) != good, asked
            if good:
                done = docker_build(project, "conda-env", "--no-cache-filter", "conda-env", "--build-arg", f"CONDA_BASE={base}")
                assert done.code == 0 and "packages linked into" in done.output, done.output[-3000:]


CHANNELS = "PYTHONPATH=/couplet /opt/conda/bin/python -B -m couplet.install.fetch channels"
OLDER = """
import site
from pathlib import Path
folder = Path(site.getsitepackages()[0])
for name in ("rattler", "packaging", "tomlkit", "ruamel/yaml"):
    file = folder / name / "__init__.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    # conda itself, whose Python fetches, may have its own
    guard = f"import sys\\nif 'couplet' in sys.modules and 'couplet.install.fetch' not in sys.orig_argv:"
    guard += f" raise ImportError('an older {name}, of base')\\n"
    file.write_text((file.read_text() if file.exists() else "") + guard)
first = "import sys; sys.path.insert(0, sys.prefix + '/lib/python%d.%d/site-packages' % sys.version_info[:2])"
(folder / "first.pth").write_text(first)
"""


def test_the_tools_see_nothing_of_bases_packages(small, copy_of):
    """conda-forge's conda depends on conda-rattler-solver since 26.5.0, so that its base has a py-rattler, an older one."""
    project = copy_of(small)
    with derived(images.MINIFORGE, f"RUN {json.dumps(['/opt/conda/bin/python', '-c', OLDER])}") as base:
        words = ("--no-cache-filter", "conda-env", "--build-arg", f"CONDA_BASE={base}")
        done = docker_build(project, "conda-env", *words)
        assert done.code == 0 and "packages linked into" in done.output, done.output[-3000:]
        # the negative control: a Python that reads its site-packages
        edit(project, ".couplet/couplet.sh", ' exec "$base" -B -S -s', ' exec "$base" -B -s')
        done = docker_build(project, "conda-env", *words)
        assert done.code and re.search(r"an older [\w/]+, of base", done.output), done.output[-3000:]
