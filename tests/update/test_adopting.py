"""Adopting: hooks/adopt.py on likenesses of repositories that have conda, Poetry or both already."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.harness import adopting, template, update
from tests.harness.update import Edit, replace

LISTED = {
    "tides": ["Dockerfile", "Dockerfile", "Makefile"],
    "mooring": [
        "environment.yml", "environment.yml", "README.md:8", ".dockerignore", "Dockerfile", "Makefile", "entrypoint.sh",
        ".gitignore:3:.*", ".github/workflows/tests.yml", "README.md:5", "README.md:6",
    ],
    "locks": ["pyproject.toml", "pyproject.toml", ".pre-commit-config.yaml", "Dockerfile"],
    "salt": ["requirements.txt", "environment.yaml", "Dockerfile", "Dockerfile", "setup.py"],
    "swell": ["pyproject.toml", "pyproject.toml"],
    "surge": ["pyproject.toml", "environment.yml", "Dockerfile", "src/surge"],
    "drift": [
        "environment.yml", "docs/conf.py:3", "environment.yml", "requirements-dev.txt", "environment.yml", "environment.yml",
        "pyproject.toml", "pyproject.toml", "pyproject.toml", ".gitignore", "MANIFEST.in", "README.rst:4", "README.md",
        "requirements.txt", "setup.cfg", "setup.py",
    ],
    "plume": [
        "pyproject.toml", "pyproject.toml", "pyproject.toml, [[tool.poetry.source]]", "pyproject.toml", "pyproject.toml",
        "src/plume/table.py:1", *["pyproject.toml"] * 7, "README.md:3",
    ],
    "port": [
        "pyproject.toml", "pyproject.toml", "pyproject.toml", "environment.yml, line 9", "environment.yml, line 12",
        "environment.yml, line 13", "pyproject.toml", "environment.yml", "pyproject.toml", "pyproject.toml", "pyproject.toml",
        "pyproject.toml", "Dockerfile", "makefile", ".github/workflows/ci.yml", ".pre-commit-config.yaml", "AGENTS.md", "Dockerfile",
        "compose.yaml", "entrypoint.sh", ".devcontainer/devcontainer.json", ".github/dependabot.yml", ".github/workflows/release.yml",
        ".readthedocs.yaml", "Pipfile", "README.md:3", "constraints.txt", "docker-compose.yml", "environment-dev.yml", "tox.ini", "uv.lock",
    ],
}  # fmt: skip
"""What somebody has to look at, by file, in the order in which it is listed."""
EVERY = pytest.mark.parametrize("name", adopting.LIKENESSES)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """The template."""
    return template.snapshot(tmp_path_factory.mktemp("template") / "couplet")


@pytest.fixture(scope="module")
def first_adoption(source, tmp_path_factory):
    """A function that adopts a likeness as it is, once: (the repository, what was printed)."""

    @functools.cache
    def make(name: str) -> tuple[Path, subprocess.CompletedProcess[str]]:
        folder = adopting.begin(tmp_path_factory.mktemp("adopted") / name, name)
        return folder, adopting.adopt(folder, source)

    return make


@pytest.fixture
def adopted(first_adoption, tmp_path):
    """A function that copies such a repository, for a test to look at and go on with."""

    def make(name: str) -> tuple[Path, subprocess.CompletedProcess[str]]:
        folder, done = first_adoption(name)
        return shutil.copytree(folder, tmp_path / name, symlinks=True), done

    return make


@pytest.fixture
def theirs(tmp_path) -> Path:
    """The repository as it was before."""
    return adopting.begin(tmp_path / "tides")


def toml(folder: Path) -> dict:
    """Return pyproject.toml of a repository."""
    return tomllib.loads((folder / "pyproject.toml").read_text())


def conda(folder: Path) -> dict:
    """Return environment.yml of a repository."""
    return yaml.safe_load((folder / "environment.yml").read_text())


def state(folder: Path) -> tuple:
    """Return all that an adoption may change: files, branch, index, and branches."""
    shown = [template.git(folder, *words) for words in (("status", "--porcelain", "--branch"), ("branch",))]
    return update.files(folder), *shown


@EVERY
def test_nothing_is_lost_and_nothing_dangles(name, tmp_path, adopted):
    folder, done = adopted(name)
    assert done.returncode == 3, done.stdout + done.stderr
    assert adopting.missing(folder, name, done.stdout) == []
    assert adopting.dangling(folder) == []
    assert adopting.unsaid(folder, done.stdout) == []
    assert adopting.refused(folder) or adopting.invalid(folder) == []
    assert [line.split(": ")[0] for line in adopting.to_look_at(done.stdout)] == LISTED[name], done.stdout
    # all is staged, on a branch of its own, and nothing is committed
    assert template.git(folder, "branch", "--show-current") == "adopt\n"
    assert template.git(folder, "log", "--format=%s") == "Forty years\n"
    assert not [line for line in template.git(folder, "status", "--porcelain").splitlines() if line[1] != " "]
    # what a clone gets is what is here
    update.commit(folder, "Adopt the template")
    clone = tmp_path / "clone"
    template.git(tmp_path, "clone", "--quiet", str(folder), str(clone))
    ignored = adopting.IGNORED.get(name, {})
    assert update.files(folder).keys() - update.files(clone).keys() == {
        path if path.startswith("data/") else f"src/{path}" for path in ignored
    }


@EVERY
def test_the_code_keeps_its_history(name, adopted):
    folder, _ = adopted(name)
    update.commit(folder, "Adopt the template")
    for path in adopting.LIKENESSES[name]:
        if path.endswith(".py") and adopting.LIKENESSES[name][path]:
            now = path if (folder / path).exists() else f"src/{path}"
            assert "Forty years" in template.git(folder, "log", "--follow", "--format=%s", "--", now), now


def test_the_checks_see_what_is_wrong(adopted):
    """The negative controls of the two tests above."""
    theirs, done = adopted("tides")
    replace(theirs, "Dockerfile", 'CMD ["python"]', 'CMD ["python", "-m", "tide_gauge"]')
    (theirs / "tests/test_analysis.py").write_text("from tide_gauge.analysis import fit\n")
    (theirs / "notebooks").mkdir()
    (theirs / "notebooks/example.ipynb").write_text('"from tide_gauge.analysis import load"')
    replace(
        theirs, "pyproject.toml", "[dependency-groups]", '[project.scripts]\ngone = "tide_gauge.gone:main"\n\n[dependency-groups]'
    )
    assert adopting.dangling(theirs) == [
        "the script gone names tide_gauge.gone, which is not there",
        "CMD names tide_gauge.__main__, which is not there",
        "test_analysis.py (tide_gauge.analysis) names tide_gauge.analysis, which is not there",
        "example.ipynb (tide_gauge.analysis) names tide_gauge.analysis, which is not there",
    ]
    replace(theirs, "pyproject.toml", 'version = "0.4.2"', "version = 4")
    assert adopting.invalid(theirs)
    (theirs / "src/tide_gauge/level.py").write_text("")
    (theirs / "before-adopting/Makefile").unlink()
    assert adopting.missing(theirs, "tides", done.stdout) == ["tide_gauge/level.py is gone"]
    silent = re.sub(r"^ *Makefile: .*\n", "", done.stdout, flags=re.M)
    assert "Makefile is gone" in adopting.missing(theirs, "tides", silent)


def test_a_plain_copy_over_it_loses_files_unsaid(theirs, source):
    """Another negative control: what the script is for, seen by the same check."""
    template.render(source, theirs / "elsewhere", {"project_name": "Tide Gauge", "package_name": "tide_gauge"})
    subprocess.run(["cp", "-r", f"{theirs}/elsewhere/.", str(theirs)], check=True)
    assert "Makefile is gone" in adopting.missing(theirs, "tides", "")


def test_answers_come_from_what_is_there(adopted):
    folder, done = adopted("mooring")
    recorded = update.answers_of(folder)
    assert recorded == {
        "author_email": "ada@example.org", "author_name": "Ada Ebb", "ci": "github", "environment": "conda-poetry",
        "kernel": True, "license": "Apache-2.0", "package_name": "mooring", "platforms": ["linux-64"],
        "profile": "standard", "project_description": "Currents from moored instruments", "project_name": "Mooring",
        "python_version": "3.11",
    }  # fmt: skip
    for name, value in recorded.items():
        assert f"  {name}: {value}" in done.stdout
    assert "Private :: Do Not Upload" not in (folder / "pyproject.toml").read_text()
    assert [author["name"] for author in toml(folder)["project"]["authors"]] == ["Ada Ebb", "Ben Flow"]


def test_an_answer_of_ones_own_goes_before_what_was_derived(theirs, source):
    done = adopting.adopt(theirs, source, "python_version=3.12", "project_name=Ebb and Flow", "kernel=true")
    answers = update.answers_of(theirs)
    assert (answers["python_version"], answers["project_name"], answers["kernel"]) == ("3.12", "Ebb and Flow", True)
    assert "python_version: 3.12  (--data)" in done.stdout
    assert conda(theirs)["dependencies"][:3] == ["python=3.12", "ipykernel", "pip"]
    assert "  # reads the gauges' files\n  - scipy>=1.11\n" in (theirs / "environment.yml").read_text()


def test_what_has_one_meaning_is_converted(adopted):
    folder, _ = adopted("mooring")
    assert (folder / "environment.yml").read_text() == (
        "name: mooring\nchannels:\n  - conda-forge\n  - nodefaults\ndependencies:\n  - python=3.11\n  - ipykernel>=6\n"
        "  - numpy  # for the spectra\n  - pip\nvariables:\n  MOORING_DEPTH: '40'\n"
    )
    document = toml(folder)
    assert document["project"]["dependencies"] == [
        "pandas>=1.5", "tabulate[widechars]>=0.9", 'tomli>=2.0,<3.0 ; python_version < "3.11"',
    ]  # fmt: skip
    assert '"tabulate[widechars]>=0.9", # tables in reports' in (folder / "pyproject.toml").read_text()
    assert document["dependency-groups"]["dev"][:2] == ["pytest>=7", "ruff>=0.9"]
    assert document["tool"]["poetry"]["packages"] == [{"include": "mooring", "from": "src"}]
    assert "dependencies" not in document["tool"]["poetry"] and "scripts" not in document["tool"]["poetry"]
    assert 'CMD ["mooring"]' in (folder / "Dockerfile").read_text()


def test_comments_of_environment_yml_stay_and_its_pip_section_goes(adopted):
    theirs, _ = adopted("tides")
    assert "  # reads the gauges' files\n  - scipy>=1.11\n" in (theirs / "environment.yml").read_text()
    assert conda(theirs)["dependencies"] == ["python=3.11", "pip", "scipy>=1.11"]
    assert toml(theirs)["project"]["dependencies"] == ["pandas>=2.2,<3.0", "tabulate==0.9.0"]
    assert toml(theirs)["tool"]["coverage"] == {"run": {"branch": True}}


def test_a_comment_stays_with_the_entry_that_it_speaks_of(theirs, source):
    """Also where the entry above it goes, where one is added (pip), and where pip's line moves to the other file."""
    replace(theirs, "environment.yml", "  - pip\n", "  - mamba  # our solver\n  # for the spectra\n  - numpy\n  - yq\n")
    replace(theirs, "environment.yml", "tabulate==0.9.0", "tabulate==0.9.0  # tables")
    update.commit(theirs)
    adopting.adopt(theirs, source)
    assert (
        (theirs / "environment.yml")
        .read_text()
        .endswith("  - pip\n  - python=3.11\n  # for the spectra\n  - numpy\n  # reads the gauges' files\n  - scipy>=1.11\n")
    )
    assert '"tabulate==0.9.0", # tables' in (theirs / "pyproject.toml").read_text()


def test_poetry_alone_stays_without_conda(adopted):
    folder, _ = adopted("locks")
    assert update.answers_of(folder)["environment"] == "poetry" and not (folder / "environment.yml").exists()
    document = toml(folder)
    assert document["project"]["dependencies"] == ["tabulate>=0.9.0,<0.10.0"]
    assert document["project"]["optional-dependencies"] == {"pretty": ["rich>=13,<14"]}
    assert document["project"]["scripts"] == {"keeper": "keeper.gate:main"}
    assert document["dependency-groups"]["dev"] == ["pytest>=8.0,<9.0", "ruff>=0.4"]
    assert document["tool"]["ruff"] == {"line-length": 88}


def test_setup_py_and_requirements_are_read(adopted):
    folder, _ = adopted("salt")
    project = toml(folder)["project"]
    assert (project["name"], project["version"], project["license"]) == ("salt", "1.3", "GPL-3.0-or-later")
    assert project["dependencies"] == ["pandas>=2.2", "tabulate>=0.9"] and "classifiers" not in project
    assert (folder / "src/salt.py").exists() and not (folder / "environment.yaml").exists()
    assert toml(folder)["tool"]["pytest"]["ini_options"]["testpaths"] == ["."]
    assert "ipykernel" in conda(folder)["dependencies"]


@pytest.mark.parametrize("name", adopting.SETTLED)
def test_what_locking_refuses_is_at_the_top_of_the_list_and_nothing_else_is_refused(name, adopted):
    """Each line is one that locking says; settled one by one, the last leaves nothing, and before that something is refused."""
    folder, done = adopted(name)
    settled = [(file, *change) for file, changes in adopting.SETTLED[name].items() for change in changes.items()]
    shown = adopting.refusals(done.stdout)
    assert len(shown) == len(settled) and all(adopting.REFUSES in line for line in shown), done.stdout
    assert f"first repair what the lines with `refuses` name ({len(shown)})" in done.stdout and "secret" not in done.stdout
    for change in settled:
        assert adopting.refused(folder) and adopting.unsaid(folder, done.stdout) == []
        assert adopting.unsaid(folder, "\nTo look at:\n  README.md: is this true?\n"), "the negative control of the check"
        replace(folder, *change)
    assert adopting.refused(folder) == "" and adopting.invalid(folder) == []


def test_what_locking_refuses_is_said_where_the_list_is_otherwise_short(theirs, source):
    """And what has been settled before is not said: the negative control is every likeness without such a line."""
    replace(theirs, "pyproject.toml", 'pandas = "^2.2"', 'pandas = { git = "https://example.org/pandas.git" }')
    update.commit(theirs)
    done = adopting.adopt(theirs, source)
    assert [line.split(": ")[0] for line in adopting.to_look_at(done.stdout)] == ["pyproject.toml", *LISTED["tides"]]
    assert adopting.refused(theirs) and adopting.unsaid(theirs, done.stdout) == []


def test_what_setup_py_and_setup_cfg_say_is_converted_and_the_rest_is_named(adopted):
    folder, done = adopted("drift")
    project = toml(folder)["project"]
    assert project["authors"] == [{"name": "Ida Current", "email": "ida@example.org"}]
    assert (project["license"], project["version"], project["readme"]) == ("BSD-3-Clause", "2.3.1", "README.rst")
    assert project["dependencies"] == ["pandas>=1.5", "tabulate", "pytest>=8"]
    assert project["optional-dependencies"] == {"plot": ["rich>=13"]}
    assert (
        project["scripts"] == {"drift": "drift.cli:main"}
        and 'the script drift-old = "drift.gone:main" was taken out' in done.stdout
    )
    assert project["entry-points"] == {"drift.formats": {"csv": "drift.cli:main"}}
    assert project["urls"] == {"Homepage": "https://example.org/drift-tracker"}
    assert (
        "setup.py: pyproject.toml takes its place, but has nothing of cmdclass, scripts: add what you need of it, then git rm it"
        in done.stdout
    )
    assert "take out [metadata] and [options]; other programs read [flake8]" in done.stdout
    assert (
        "`tabulate` was kept, and environment.yml (pip:) says `tabulate==0.9.0; sys_platform != 'win32'`: choose" in done.stdout
    )
    # pytest reads setup.cfg no more
    assert toml(folder)["tool"]["pytest"]["ini_options"] == {
        "testpaths": ["src/drift/tests"], "addopts": "--strict-markers", "markers": ["slow: takes long", "quick"],
    }  # fmt: skip
    # git would not see new files of theirs
    assert ".gitignore: the template's line `report/` matches report/thesis.tex of yours" in done.stdout
    assert "  - scipy # [unix]\n" in (folder / "environment.yml").read_text()


def test_what_setup_cfg_alone_declares_is_read(tmp_path, source):
    folder = tmp_path / "fog"
    declared = "[metadata]\nname = fog\nversion = attr: fog.__version__\nlicense = MIT\n[options]\npython_requires = ==3.7.11\ninstall_requires =\n    numpy\n    scipy>1\n"
    Edit("setup.cfg", declared + "[options.entry_points]\nconsole_scripts =\n    fog = fog:main\n").apply(folder)
    Edit("fog/__init__.py", '__version__ = "3"\n\n\ndef main(): ...\n').apply(folder)
    update.commit(folder)
    assert "setup.py: Python 3.7 became 3.11" in adopting.adopt(folder, source).stdout
    project = toml(folder)["project"]
    assert (project["name"], project["version"], project["license"]) == ("fog", "3", "MIT")
    assert project["dependencies"] == ["numpy", "scipy>1"] and project["scripts"] == {"fog": "fog:main"}


def test_what_requirements_cannot_say_stays_in_poetrys_table(adopted):
    """A source that was dropped would let another's package of that name be taken from PyPI."""
    folder, done = adopted("plume")
    poetry = toml(folder)["tool"]["poetry"]
    assert poetry["dependencies"] == {"pandas": {"source": "inhouse", "allow-prereleases": True}}
    assert poetry["group"]["dev"]["dependencies"] == {"pytest": {"source": "inhouse"}}
    assert poetry["source"][0]["priority"] == "supplemental" and "secondary" not in poetry["source"][0]
    assert "what the groups server list is in the group dev, which the runtime image does not have" in done.stdout
    assert (
        "[tool.poetry-dynamic-versioning] was left out" in done.stdout and "poetry-dynamic-versioning" not in toml(folder)["tool"]
    )
    assert "[build-system] asked for poetry-dynamic-versioning" in done.stdout
    assert "pyproject.toml: conda-lock made or moved environments before" in done.stdout
    assert '"plume-core @ ../plume-core"' in (folder / "pyproject.toml").read_text(), "no path of this machine"


def test_paths_in_the_tables_of_tools_follow_the_code(adopted):
    folder, done = adopted("plume")
    tool = toml(folder)["tool"]
    assert tool["mypy"] == {"files": ["src/plume"], "exclude": ["src/plume/tables/", "docs"]}
    assert tool["pytest"]["ini_options"]["testpaths"] == ["tests", "src/plume"]
    assert tool["isort"] == {"known_first_party": ["plume"]}, "a module's name stays"
    assert "[tool.mypy.exclude] says src/plume/tables/ for plume/tables/ now" in done.stdout


def test_what_other_tools_declare_is_converted_or_named(adopted):
    folder, done = adopted("port")
    document = toml(folder)
    assert document["dependency-groups"]["dev"][0] == "pytest>=8" and "uv" not in document["tool"]
    assert "hatch" not in document["tool"] and "[build-system] asked for cython>=3" in done.stdout
    assert document["tool"]["pytest"]["ini_options"] == {"testpaths": ["tests", "src/port"], "addopts": "-m 'not slow'"}
    own = next(line for line in done.stdout.splitlines() if line.startswith("  Dockerfile: the template's"))
    for words in ("COPY config/", "pip install gunicorn", "HEALTHCHECK", "libgl1", 'CMD ["gunicorn", "port.web:app"]'):
        assert words in own
    assert "COPY environment.yml" not in own
    # make reads makefile before Makefile
    assert not (folder / "makefile").exists() and (folder / "before-adopting/makefile").exists()
    assert "add your targets migrate at its end" in done.stdout


def test_dependencies_that_setuptools_reads_from_a_file_are_converted(tmp_path, source):
    folder = adopting.begin(tmp_path / "swell", "swell")
    replace(folder, "pyproject.toml", 'dynamic = ["version"]', 'dynamic = ["version", "dependencies"]')
    replace(folder, "pyproject.toml", 'dependencies = [\n    "tabulate>=0.9",  # tables\n]\n', "")
    replace(
        folder,
        "pyproject.toml",
        "[tool.pytest",
        '[tool.setuptools.dynamic]\ndependencies = { file = ["needs.txt"] }\n\n[tool.pytest',
    )
    Edit("needs.txt", "tabulate>=0.8\n").apply(folder)
    update.commit(folder)
    shown = adopting.adopt(folder, source).stdout
    assert toml(folder)["project"]["dependencies"] == ["tabulate>=0.8"]
    assert "needs.txt: what it lists is in pyproject.toml now" in shown and adopting.refused(folder) == ""


def test_no_byte_of_a_text_that_is_added_to_changes(theirs, source):
    """Another encoding, and the line ends of Windows."""
    texts = {"README.md": "# Gezeiten für Möwen\r\n".encode("latin-1"), ".gitignore": b"/data/\r\n*.pyc\r\n"}
    for name, text in texts.items():
        (theirs / name).write_bytes(text)
    conda_file = (theirs / "environment.yml").read_bytes().replace(b"\n", b"\r\n")
    (theirs / "environment.yml").write_bytes(conda_file)
    update.commit(theirs)
    assert adopting.adopt(theirs, source).returncode == 3
    for name, text in texts.items():
        now = (theirs / name).read_bytes()
        assert now.startswith(text) and len(now) > len(text) and now.count(b"\n") == now.count(b"\r\n")
    now = (theirs / "environment.yml").read_bytes()
    assert now.count(b"\n") == now.count(b"\r\n") > 0


def test_locks_that_gitignore_would_keep_out_of_git_are_named(theirs, source):
    """The negative control are the likenesses that have no such line. `!` takes a file in again."""
    Edit(".gitignore", "*.lock\n!/conda.lock\n").apply(theirs)
    update.commit(theirs)
    template.git(theirs, "rm", "--quiet", "--cached", "poetry.lock", "conda-linux-64.lock")
    update.commit(theirs)
    shown = adopting.to_look_at(adopting.adopt(theirs, source).stdout)
    named = [line.split(",")[0] for line in shown if "belongs into git" in line]
    assert named == [".gitignore:3:*.lock: matches conda-linux-64.lock and 1 more"]


def test_an_environment_file_elsewhere_is_found(tmp_path, source):
    """Of several, none is taken unsaid."""
    folder = tmp_path / "eddy"
    Edit("envs/main.yml", "name: eddy\nchannels: [conda-forge]\ndependencies:\n  - python=3.12\n  - numpy\n").apply(folder)
    update.commit(folder)
    shown = adopting.adopt(folder, source).stdout
    assert "numpy" in conda(folder)["dependencies"] and "envs/main.yml is environment.yml now (git mv)" in shown
    template.git(folder, "reset", "--quiet", "--hard")
    template.git(folder, "switch", "--quiet", "main")
    template.git(folder, "branch", "--quiet", "-D", "adopt")
    Edit("envs/gpu.yml", "name: gpu\ndependencies:\n  - python=3.12\n").apply(folder)
    update.commit(folder)
    listed = adopting.to_look_at(adopting.adopt(folder, source).stdout)
    assert {"envs/main.yml", "envs/gpu.yml"} <= {line.split(": ")[0] for line in listed}


def test_a_dependency_that_is_said_twice_is_listed(theirs, source):
    """And the negative control: said twice in the same words, it is not."""
    replace(theirs, "environment.yml", "tabulate==0.9.0\n", "tabulate==0.9.0\n      - Pandas>=1\n")
    replace(theirs, "pyproject.toml", 'pandas = "^2.2"\n', 'pandas = "^2.2"\ntabulate = "0.9.0"\n')
    update.commit(theirs)
    shown = adopting.to_look_at(adopting.adopt(theirs, source).stdout)
    said = [line for line in shown if "choose" in line]
    assert said == ["pyproject.toml: `pandas>=2.2,<3.0` was kept, and environment.yml (pip:) says `Pandas>=1`: choose"]


def test_where_nothing_is_left_the_exit_code_is_0(tmp_path, source):
    folder = adopting.begin(tmp_path / "swell", "swell")
    replace(folder, "pyproject.toml", 'dynamic = ["version"]', 'version = "0.7.1"')
    replace(folder, "pyproject.toml", '[tool.setuptools.packages.find]\nwhere = ["src"]\n', "")
    update.commit(folder)
    done = adopting.adopt(folder, source)
    assert done.returncode == 0 and "To look at" not in done.stdout, done.stdout + done.stderr


def test_what_an_answer_settles_is_not_listed(tmp_path, source):
    """The negative control is `LISTED`: without the answers, both lines are there."""
    folder = adopting.begin(tmp_path / "surge", "surge")
    done = adopting.adopt(folder, source, "license=MIT")
    assert "licence" not in done.stdout and toml(folder)["project"]["license"] == "MIT"
    folder = adopting.begin(tmp_path / "mooring", "mooring")
    assert "Python 3.10" not in adopting.adopt(folder, source, "python_version=3.12").stdout


def test_what_was_ignored_stays_ignored(tmp_path, source, adopted):
    """A file within a package moves with it, and `git add --all` does not publish it; without the line it would be told."""
    folder, _ = adopted("mooring")
    template.git(folder, "add", "--all")
    assert (folder / "src/mooring/raw/a.dat").exists()
    assert "raw" not in template.git(folder, "ls-files")

    other = adopting.begin(tmp_path / "other", "mooring")
    replace(other, ".gitignore", "/mooring/raw/", "*oring/raw/")
    replace(other, ".gitignore", "*oring/raw/", "/moor*/raw/")
    update.commit(other)
    listed = adopting.to_look_at(adopting.adopt(other, source).stdout)
    assert "src/mooring/raw/: git ignored it as mooring/raw/ and would not any more: add a line to .gitignore" in listed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (Edit("README.md", "more\n"), "not everything is committed (README.md)"),
        (Edit("new.py", "more\n"), "not everything is committed (new.py)"),
        (Edit(".copier-answers.yml", "_src_path: x\n"), ".copier-answers.yml: a template of Copier's is here already"),
        (Edit("environment.yml", "  - [\n"), "environment.yml: "),
        (Edit("pyproject.toml", "[project]\ndependencies = 3\n"), "this cannot be "),
        (Edit("pyproject.toml", "[[\n"), "pyproject.toml: "),
        (Edit("pyproject.toml", '[tool.poetry.group.x.dependencies]\nscipy = "^^2"\n'), "this cannot be converted: "),
    ],
    ids=lambda value: value.path if isinstance(value, Edit) else "",
)
def test_refused_and_nothing_changed(theirs, source, change, said):
    change.apply(theirs)
    if "committed" not in said:
        update.commit(theirs)
    before = state(theirs)
    done = adopting.adopt(theirs, source)
    assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert state(theirs) == before


def test_a_folder_without_git_is_refused(tmp_path, source):
    (tmp_path / "plain").mkdir()
    done = adopting.adopt(tmp_path / "plain", source)
    assert done.returncode == 1 and "git init" in done.stderr
    done = adopting.adopt(tmp_path / "none", source)
    assert done.returncode == 1 and "there is no such folder" in done.stderr


@pytest.mark.parametrize("pair", ["python_version=3.10", "nonsense=1", "package_name=Upper", "license=WTFPL"])
def test_an_answer_that_the_template_does_not_take_is_refused_in_a_line(theirs, source, pair):
    before = state(theirs)
    done = adopting.adopt(theirs, source, pair)
    assert done.returncode == 1 and pair.split("=")[0] in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert state(theirs) == before


def test_a_call_without_an_equals_sign_is_wrong(theirs, source):
    assert adopting.adopt(theirs, source, "python_version").returncode == 2


def test_an_ignored_file_in_the_way_is_refused(theirs, source):
    """git knows no copy of it, so the template must not write there; and the ignored data is no hindrance."""
    Edit(".gitignore", "AGENTS.md\n").apply(theirs)
    update.commit(theirs)
    Edit("AGENTS.md", "mine\n").apply(theirs)
    done = adopting.adopt(theirs, source)
    assert done.returncode == 1 and "AGENTS.md: git ignores it here" in done.stderr
    assert (theirs / "AGENTS.md").read_text() == "mine\n"


def test_an_adopted_repository_is_a_project_like_any_other(theirs, tmp_path):
    """It has history, values and answers, and the next release comes in without a loss or a conflict."""
    source = template.snapshot(tmp_path / "couplet")
    adopting.adopt(theirs, source)
    update.commit(theirs, "Adopt the template")
    update.release(source, "v9999.0.1", lambda folder: Edit("template/README.md.jinja", "\nA new paragraph.\n").apply(folder))
    before = update.files(theirs)
    update.update(theirs, source)
    assert not update.conflicts(theirs)
    after = update.files(theirs)
    assert {name for name in after if after[name] != before.get(name)} == {"README.md"}
    assert before.keys() == after.keys()


def test_the_page_has_six_commands_and_pins_are_said_once():
    commands = [line for block in adopting.PAGE for line in block.splitlines()]
    assert len(commands) <= 6, commands
    assert "pipx run ../couplet/hooks/adopt.py ." in commands
    head = (template.REPOSITORY / "hooks/adopt.py").read_text().split("# ///")[1].removeprefix(" script\n")
    wanted = tomllib.loads(re.sub("^# ", "", head, flags=re.M))["dependencies"]
    own = tomllib.loads((template.REPOSITORY / "pyproject.toml").read_text())
    assert wanted and set(wanted) <= {*own["project"]["dependencies"], *own["dependency-groups"]["package"]}
