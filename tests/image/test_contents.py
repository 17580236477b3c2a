"""Product: the image says what it is, and holds nothing that it does not need."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tomllib
import uuid
import xml.etree.ElementTree as ET

import pytest

from tests.harness import checks, container, template
from tests.harness.container import derived, docker
from tests.harness.locks import edit, restamp


def config(image: str) -> dict:
    return json.loads(docker("image", "inspect", image).stdout)[0]


def test_the_labels_say_what_it_is(built):
    for image in (built.runtime, built.dev):
        labels = config(image)["Config"]["Labels"]
        project = tomllib.loads((built.path / "pyproject.toml").read_text())["project"]
        assert labels["org.opencontainers.image.title"] == project["name"]
        assert labels["org.opencontainers.image.version"] == project["version"]
        locks = {"conda-lock": "conda.lock", "poetry-lock": "poetry.lock"}
        assert {f"org.couplet.{label}.sha256" in labels for label in locks} == {True, built.conda}
        for label, lock in locks.items() if built.conda else [("poetry-lock", "poetry.lock")]:
            expected = hashlib.sha256((built.path / lock).read_bytes()).hexdigest()
            assert labels[f"org.couplet.{label}.sha256"] == expected


@pytest.mark.one_variant
def test_the_revision_is_the_commits_and_costs_no_layer(built, copy_of):
    project = copy_of(built)
    # one after the other: what the cache loses meanwhile, for room, is made anew with other times
    project.make("build")
    found = [config(project.runtime)]
    # without a git there is nothing to say
    assert found[0]["Config"]["Labels"]["org.opencontainers.image.revision"] == ""
    template.git(project.path, "init", "--quiet")
    for number in (1, 2):
        template.git(project.path, "add", "--all")
        template.git(project.path, "commit", "--quiet", "--allow-empty", "--message", str(number))
        os.utime(project.path / "README.md", (number, number))  # a copy's dates are no change
        project.make("build")
        found.append(config(project.runtime))
        head = template.git(project.path, "rev-parse", "HEAD").strip()
        assert found[-1]["Config"]["Labels"]["org.opencontainers.image.revision"] == head
    first, *others = (image["RootFS"]["Layers"] for image in found)
    assert others == [first, first]
    # the negative controls: what is not committed says so, code that git does not know too
    (project.path / "notes.txt").write_text("No part of the image.\n")
    project.make("build")
    assert config(project.runtime)["Config"]["Labels"]["org.opencontainers.image.revision"] == head
    for name in (f"src/{project.package}/new.py", "README.md"):
        with (project.path / name).open("a") as file:
            file.write("# More.\n")
        project.make("build")
        assert config(project.runtime)["Config"]["Labels"]["org.opencontainers.image.revision"] == f"{head}-dirty"
        template.git(project.path, "clean", "--quiet", "--force", "--", "src")
    docker("image", "rm", "--force", project.runtime)


MORE = """
import importlib.metadata, json
import helpers, corp.ice, single
found = importlib.metadata.distribution("{name}")
licences = sorted(str(file).split("licenses/")[1] for file in found.files if "/licenses/" in str(file))
print(json.dumps([helpers.X, corp.ice.X, single.X, licences, "May be used" in (found.read_text("licenses/LICENSE") or "")]))
"""


@pytest.mark.one_variant
def test_what_pyproject_names_need_not_be_there_when_the_project_is_installed(built, copy_of):
    """More packages, a namespace, a module, licences and readmes of other names: the layer of the metadata has no code yet."""
    project = copy_of(built)
    text = (project.path / "pyproject.toml").read_text()
    more = [
        '{ include = "helpers", from = "src" }',
        '{ include = "corp/ice", from = "src" }',
        '{ include = "single.py", from = "src" }',
    ]
    changes = {
        'from = "src" }]': f'from = "src" }}, {", ".join(more)}]\nreadme = ["README.rst", "notes/CHANGES.md"]',
        'readme = "README.md"\n': 'dynamic = ["readme"]\nlicense-files = ["LICEN[CS]E*", "notes/**/*.txt"]\n',
    }
    for old, new in changes.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    (project.path / "pyproject.toml").write_text(text)
    (project.path / "README.md").rename(project.path / "README.rst")
    (project.path / "LICENSE").write_text("May be used.\n")
    for name in ("helpers/__init__.py", "corp/ice/__init__.py", "single.py"):
        (project.path / "src" / name).parent.mkdir(parents=True, exist_ok=True)
        (project.path / "src" / name).write_text(f"X = '{name}'\n")
    project.make("build")
    try:
        shown = docker(
            "run", "--rm", project.runtime, "python", "-c", MORE.format(name=tomllib.loads(text)["project"]["name"])
        ).stdout
        assert json.loads(shown) == ["helpers/__init__.py", "corp/ice/__init__.py", "single.py", ["LICENSE", "notes/x.txt"], True]
        # the negative control: what nobody could make up is still an error that names the file
        (project.path / "pyproject.toml").write_text(text.replace("[project.scripts]", '[project.scripts]\n"two words" = 1'))
        shown = project.make("build", fails=True).output
        assert "ERROR: pyproject.toml:\n  project.scripts.two words must be string\n" in shown
    finally:
        docker("image", "rm", "--force", project.runtime)


@pytest.mark.one_variant
def test_code_lies_beside_pyproject_too(built, copy_of):
    """A package beside pyproject.toml, then the same in a project that is no package."""
    project = copy_of(built)
    text = (project.path / "pyproject.toml").read_text()
    (project.path / "src" / project.package).rename(project.path / project.package)
    # what pyproject.toml still has in src/ is nowhere
    refused = project.make("build", fails=True).output
    assert f"names the package {project.package}, and Python does not find it in the image" in refused
    edit(project, "Dockerfile", "COPY src/ /opt/app/src/", f"COPY {project.package}/ /opt/app/{project.package}/")
    # the negative control: Docker is told to leave it out
    assert f'"/{project.package}": not found' in project.make("build", fails=True).output
    with (project.path / ".dockerignore").open("a") as ignored:
        ignored.write(f"!{project.package}\n")
    look = ("python", "-c", f"import {project.package}.analysis as a; print(a.__file__)")
    try:
        for mode in ("", "package-mode = false"):
            changed = re.sub(r"^packages = .*", mode, text, flags=re.M) if mode else text.replace(', from = "src" }]', " }]")
            (project.path / "pyproject.toml").write_text(changed)
            project.make("build")
            shown = docker("run", "--rm", "--workdir", "/", project.runtime, *look).stdout
            assert shown.strip() == f"/opt/app/{project.package}/analysis.py"
    finally:
        docker("image", "rm", "--force", project.runtime)


LOOK = """
set -u
find /tmp /var/tmp /root /home -xdev -type f -size +1024k | sed 's/$/ is over 1 MB/'
for folder in /opt/conda/pkgs /root/.cache /root/.conda /home/*/.cache /var/cache/conda /root/.condarc /root/.config; do
    [ ! -e "$folder" ] || echo "$folder is there"
done
find / -xdev '(' -name '*.conda' -o -name '*.tar.bz2' -o -name '*.whl' -o -name '*.deb' -o -path '/var/cache/apt/*.bin' \
    -o -path '/var/lib/apt/lists/*_*' ')' -type f ! -path '*/ensurepip/_bundled/*' | sed 's/$/ is a package/'
for program in gcc g++ cc c++ clang ld as make cmake gfortran rustc x86_64-conda-linux-gnu-cc; do
    ! command -v $program > /dev/null || echo "$program can be called"
done
find /tmp /var/tmp -mindepth 1 | sed 's/$/ was left behind/'
"""


def unneeded(image: str) -> list[str]:
    """What a runtime image should not hold, a line each."""
    return container.run(image, "/bin/sh", "-c", LOOK, options=("--user", "0", "--entrypoint", "")).splitlines()


def test_nothing_unneeded_is_in_the_image(every_built):
    # what the base of a project without conda brings is the base's
    base = [] if every_built.conda else unneeded(f"python:{every_built.minor}-slim-bookworm")
    assert [line for line in unneeded(every_built.runtime) if line not in base] == []


@pytest.mark.one_variant
def test_something_unneeded_is_seen(built):
    mess = (
        "USER root\nRUN head -c 1100000 /dev/zero > /root/big && mkdir -p /opt/conda/pkgs /home/app/.cache"
        " && touch /tmp/x /opt/numpy-1-0.conda /var/lib/apt/lists/deb_x && ln -s /bin/true /usr/local/bin/gcc"
    )
    with derived(built.runtime, mess) as image:
        text = "\n".join(unneeded(image))
    for part in (
        "/root/big is over",
        "pkgs is there",
        ".cache is there",
        "1-0.conda is a",
        "deb_x is a",
        "gcc can",
        "/tmp/x was",
    ):
        assert part in text


COMPILED = """
import glob, hashlib, json, os, struct, sys
found, wrong = {}, []
for record in glob.glob(sys.prefix + '/lib/python3.*/site-packages/*.dist-info/RECORD'):
    folder = os.path.dirname(os.path.dirname(record))
    installer = os.path.join(os.path.dirname(record), 'INSTALLER')
    if not os.path.exists(installer) or open(installer).read().strip() != 'uv':
        continue
    for line in open(record):
        path = os.path.join(folder, line.split(',')[0])
        if path.endswith('.py') and '/bin/' not in path:
            compiled = __import__('importlib.util').util.cache_from_source(path)
            if '/tests/' in path:
                if os.path.exists(compiled):
                    wrong.append(path + ' is compiled: tests are not')
                continue
            if not os.path.exists(compiled):
                wrong.append(path + ' is not compiled')
                continue
            data, source = open(compiled, 'rb').read(), os.stat(path)
            flags, time, size = struct.unpack('<III', data[4:16])
            if (flags, time, size) != (0, int(source.st_mtime), source.st_size):
                wrong.append(path + ' was changed after it was compiled')
            found[compiled] = hashlib.sha256(data).hexdigest()
print(json.dumps([found, wrong]))
"""


def compiled(image: str, project) -> tuple[dict[str, str], list[str]]:
    """Return ({.pyc file of Poetry's packages: SHA-256}, what is not compiled as it should be)."""
    python = ("--entrypoint", f"{project.prefix}/bin/python")
    return json.loads(container.run(image, "-B", "-c", COMPILED, options=python))


def test_poetrys_packages_are_compiled_and_nothing_is_compiled_again(built):
    found, wrong = compiled(built.runtime, built)
    assert len(found) > 250 and wrong == []
    code = f"import pandas, {built.package}.analysis"
    name = docker("run", "--detach", "--user", "0", built.runtime, "python", "-c", code).stdout.strip()
    assert docker("wait", name).stdout.strip() == "0"
    written = re.findall(r"^A (\S*/pandas/\S*\.pyc)$", docker("diff", name).stdout, re.M)
    docker("rm", name)
    assert written == []


@pytest.mark.one_variant
def test_a_source_that_is_newer_than_its_pyc_is_seen(built):
    """The negative control."""
    init = f"{built.site_packages}/pandas/__init__.py"
    with derived(built.runtime, f"USER root\nRUN touch {init}") as image:
        assert compiled(image, built)[1] == [f"{init} was changed after it was compiled"]
        name = docker("run", "--detach", "--user", "0", image, "python", "-c", "import pandas").stdout.strip()
        docker("wait", name)
        assert "/pandas/__pycache__/__init__" in docker("diff", name).stdout
        docker("rm", name)


def poetrys_half_again(project, tag: str, namespace: str) -> str:
    """Make Poetry's half anew with the builder's caches of that namespace (a new one is empty); returns the image."""
    again = ["--no-cache-filter", "poetry-packages", "--build-arg", f"BUILDKIT_CACHE_MOUNT_NS={namespace}"]
    again += ["--target", "poetry-packages", "--tag", f"{project.images}:{tag}"]
    done = subprocess.run([".couplet/host/docker-build.sh", *again], cwd=project.path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return f"{project.images}:{tag}"


@pytest.mark.one_variant
def test_the_same_locks_make_the_same_pyc_files(built):
    image = poetrys_half_again(built, "again", str(uuid.uuid4()))
    first, second = compiled(built.runtime, built)[0], compiled(image, built)[0]
    assert first == second
    recompile = f"USER root\nRUN touch {built.site_packages}/pandas/_config/*.py && {built.prefix}/bin/python -m compileall -q {built.site_packages}/pandas/_config"
    with derived(image, recompile) as other:
        assert compiled(other, built)[0] != first, "the negative control: compiled at another time"
    docker("image", "rm", image)


CONDAS_LAYER = re.compile(r"^#(\d+) \[conda-env \d+/\d+\] RUN .*couplet\.sh install-conda", re.M)


def condas_layer_is_kept(project) -> bool:
    """Whether a build takes conda's half from the cache."""
    command = [".couplet/host/docker-build.sh", "--progress=plain", "--target", "poetry-packages"]
    done = subprocess.run(command, cwd=project.path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return f"\n#{CONDAS_LAYER.search(done.stderr)[1]} CACHED\n" in done.stderr


@pytest.mark.one_variant
def test_another_package_of_poetrys_leaves_condas_layer_as_it_is(with_conda, copy_of):
    """What a new lock changes in the head of conda's is no reason to install conda's half anew; a change of its list is."""
    project = copy_of(with_conda)
    condas_layer_is_kept(project)  # or made again, where the engine was short of room and gave it up
    lock = project.path / "conda-linux-64.lock"
    text = lock.read_text()
    with (project.path / "poetry.lock").open("a") as file:
        file.write("# more\n")
    restamp(project)
    assert lock.read_text() != text and condas_layer_is_kept(project)
    # never the same list twice: an engine that has run this test before would have the layer
    lock.write_text(text.replace("@EXPLICIT", f"# list {uuid.uuid4()}\n@EXPLICIT"))
    restamp(project)
    assert not condas_layer_is_kept(project), "the negative control"


# --- make report -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report(built):
    """What `make report` prints, and the folder that it fills."""
    return built.make("report").output, built.path / "report"


def rows(html: str) -> dict[tuple[str, str], tuple[str, float]]:
    """Return {(name, owner): (version, bytes)} of the page's table of packages: tzdata is two, conda's and PyPI's."""
    body = ET.fromstring(html.removeprefix("<!DOCTYPE html>")).find("body")
    found = {}
    for row in body.find("table").iter("tr"):
        cells = ["".join(cell.itertext()) for cell in row]
        if cells[0] not in ("name", "(other files)"):
            number, unit = cells[3].split()
            found[cells[0], cells[2]] = cells[1], float(number) * {"MB": 1e6, "kB": 1e3}[unit]
    return found


def test_the_reports_numbers_add_up(built, report):
    text, _ = report
    size = config(built.runtime)["Size"]
    numbers = dict(re.findall(r"^  (base|conda|Poetry|project) +([\d.]+) MB", text, re.M))
    assert abs(sum(map(float, numbers.values())) * 1e6 - size) < 0.03 * size
    of_layers = re.findall(r"^ +([\d.]+) (MB|kB)  \S", text.partition("oldest first:")[2], re.M)
    assert abs(sum(float(n) * {"MB": 1e6, "kB": 1e3}[unit] for n, unit in of_layers) - size) < 0.03 * size
    largest = re.search(
        rf"^ +{max(float(n) for n, unit in of_layers if unit == 'MB')} MB  (.*)", text.partition("oldest first:")[2], re.M
    )
    assert largest[1] == f"RUN couplet install-{'conda' if built.conda else 'pypi'}", "`docker history` names the layers wrongly"


def test_every_locked_package_is_in_the_report_under_its_owner(built, report):
    found = rows((report[1] / "image.html").read_text())
    conda = built.locked_by_conda()
    for name, (version, _) in conda.items():
        assert found[name, "conda"][0] == version
    assert {owner for _, owner in found} == {"base", "Poetry", "project", *(["conda"] if built.conda else [])}
    owned = {name.removeprefix("python-") for name in conda} | set(conda)
    poetry = {name: v for name, v in checks.locked_by_poetry(built, {"main"}).items() if name not in owned}
    assert poetry
    for name, version in poetry.items():
        assert found[name, "Poetry"][0] == version
    assert found["scipy", "conda" if built.conda else "Poetry"][1] > 10e6 and ("libc6", "base") in found


def test_the_picture_and_the_page_are_well_formed_and_need_nothing_else(report):
    _, folder = report
    picture = ET.parse(folder / "image.svg").getroot()
    assert picture.tag.endswith("svg") and len(list(picture.iter("{http://www.w3.org/2000/svg}rect"))) > 100
    for file in folder.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|<script|<link|@import|url\(", text), f"{file.name} loads something"


def test_the_report_sees_what_is_added(with_conda, tmp_path):
    """The negative control: 20 MB in the image are 20 MB more in the report, and what conda does not record is not conda's."""
    change = f"USER root\nRUN head -c 20000000 /dev/urandom > /opt/ballast && rm {with_conda.prefix}/conda-meta/scipy-*.json"
    with derived(with_conda.runtime, change) as image:
        script = str(with_conda.path / ".couplet/host/report.sh")
        (tmp_path / ".couplet").symlink_to(with_conda.path / ".couplet")
        shown = subprocess.run(
            [script, image, with_conda.prefix, "x"], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout
    ours = re.search(r"project +([\d.]+) MB", shown)
    assert float(ours[1]) > 20
    assert ("scipy", "conda") not in rows((tmp_path / "report/image.html").read_text())
