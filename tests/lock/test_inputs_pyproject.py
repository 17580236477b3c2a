"""pyproject.toml as public repositories have it: each form is understood, or refused with its key, what stands there, and the way out."""

from __future__ import annotations

import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from couplet import settings
from couplet.errors import UserError
from couplet.formats import poetry_lock
from couplet.image import importable
from couplet.install import project as installing
from couplet.lock import command, explain, pins, pyproject

from .test_poetry import Folder, folder, index

__all__ = ["folder", "index"]

PYTHON = "3.11.9"
NEW = '[project]\nname = "sea-ice"\nversion = "1"\nrequires-python = ">=3.11"\n'
HEAD = f"{NEW}dependencies = []\n"
OLD = '[tool.poetry]\nname = "sea-ice"\nversion = "1"\ndescription = ""\nauthors = []\n[tool.poetry.dependencies]\npython = "^3.11"\n'
CORE = '[build-system]\nrequires = ["poetry-core>=2"]\nbuild-backend = "poetry.core.masonry.api"\n'


def check(text: str) -> None:
    """Look at a pyproject.toml as the verb `lock` does, before anything is solved, and at its Python."""
    document = tomllib.loads(text)
    settings.check_form(document)
    pyproject.check(document)
    settings.groups(document)
    settings.link_scripts(document)
    command.check_version(document, PYTHON, "environment.yml", "linux-64")


# --- what is locked ----------------------------------------------------------------------------------

OWN = '[[tool.poetry.source]]\nname = "own"\nurl = "{index}/simple"\npriority = "explicit"\n'
LOCKED = {
    # text ({index} is the index's address) -> what poetry.lock has
    "the old form, with dev-dependencies": (f'{OLD}lib = "^1"\n[tool.poetry.dev-dependencies]\nother = "*"\n', {"lib": "1.0", "other": "2.0"}),
    "dev-dependencies beside the group dev": (
        f'{OLD}[tool.poetry.group.dev.dependencies]\nlib = "~1.0"\n[tool.poetry.dev-dependencies]\nother = ">=1,<2"\n',
        {"lib": "1.0", "other": "1.0"},
    ),
    "several constraints": (
        f'{OLD}lib = [{{ version = "^1", python = "<3.12" }}, {{ version = "^2", python = ">=3.12" }}]\n',
        {"lib": "1.0/2.0"},
    ),
    "extras of the old form": (f'{OLD}lib = {{ version = "^1", optional = true }}\n[tool.poetry.extras]\nall = ["lib"]\n', {"lib": "1.0"}),
    "markers of the old form": (f'{OLD}lib = {{ version = "1.0", platform = "darwin" }}\nother = {{ version = "*", markers = "sys_platform == \'win32\'" }}\n', {"lib": "1.0", "other": "2.0"}),
    "optional dependencies": (f'{HEAD}[project.optional-dependencies]\nall = ["lib (>=1,<2)"]\n', {"lib": "1.0"}),
    "a group that is optional, and one that includes it": (
        f'{HEAD}[tool.poetry.group.docs]\noptional = true\n[tool.poetry.group.docs.dependencies]\nlib = "^1"\n[tool.poetry.group.dev]\ninclude-groups = ["docs"]\n',
        {"lib": "1.0"},
    ),
    "a group that includes another": (f'{HEAD}[dependency-groups]\ntest = ["lib<2"]\ndev = [{{ include-group = "test" }}, "other"]\n', {"lib": "1.0", "other": "2.0"}),
    "dependencies that are dynamic": (f'{NEW}dynamic = ["dependencies"]\n[tool.poetry.dependencies]\nlib = "^1"\n', {"lib": "1.0"}),
    "a source for one name": (f'{NEW}dependencies = ["lib<2", "other"]\n[tool.poetry.dependencies]\nlib = {{ source = "own" }}\n{OWN}', {"lib": "1.0", "other": "2.0"}),
    "blanks, pipes and a star between versions": (f'{OLD}lib = ">=1 <2"\nother = "^1 || ^2"\nneeds-lib = "1.*"\n', {"lib": "1.0", "other": "2.0", "needs-lib": "1.0"}),
    "a comment behind a dependency": (f'{NEW}dependencies = ["lib(<2)", "other  # why"]\n', {"lib": "1.0", "other": "2.0"}),
    "any version": (f"{OLD}lib = {{}}\n", {"lib": "2.0"}),
    "two spellings of a name": (f'{NEW}dependencies = ["Lib", "lib<2"]\n', {"lib": "1.0"}),
    "a licence and its classifier": (f'{HEAD}license = "Proprietary"\nlicense-files = ["LICEN[CS]E*"]\nclassifiers = ["License :: Other/Proprietary License"]\n', {}),
    "no package": ('[tool.poetry]\npackage-mode = false\n[tool.poetry.dependencies]\npython = "^3.11"\nlib = "^1"\n', {"lib": "1.0"}),
    "a licence's file": (f'{NEW}license = {{ file = "LICENSE" }}\nreadme = "README.md"\ndependencies = ["lib"]\n', {"lib": "2.0"}),
    "dotted keys": ('project.name = "x"\nproject.version = "1"\nproject.requires-python = ">=3.11"\nproject.dependencies = ["lib"]\n', {"lib": "2.0"}),
    "a byte order mark and Windows' line ends": (f'\ufeff{NEW}dependencies = ["lib"]\n'.replace("\n", "\r\n"), {"lib": "2.0"}),
}  # fmt: skip


@pytest.fixture
def lock(folder: Folder, index: str) -> Callable[[str], dict[str, str]]:
    """A function that locks a pyproject.toml with the verb, and returns {name: version}."""

    def make(text: str) -> dict[str, str]:
        (folder.path / "pyproject.toml").write_bytes(text.replace("{index}", index).encode())
        found: dict[str, set[str]] = {}
        for package in poetry_lock.read(folder.command() / "poetry.lock"):
            found.setdefault(package.name, set()).add(package.version)
        return {name: "/".join(sorted(versions)) for name, versions in found.items()}

    return make


@pytest.mark.parametrize("case", LOCKED)
def test_what_a_file_asks_for_is_locked(lock, case):
    text, versions = LOCKED[case]
    assert lock(text) == versions


def test_a_byte_order_mark_is_taken_out_of_the_users_file(folder):
    """Poetry cannot read it, in make shell neither. The negative control: a file without one is not written."""
    folder.ask("lib")
    assert not (folder.command() / "pyproject.toml").exists()
    path = folder.path / "pyproject.toml"
    plain = path.read_bytes()
    path.write_bytes(b"\xef\xbb\xbf" + plain)
    assert (folder.command() / "pyproject.toml").read_bytes() == plain


def test_programs_of_what_is_no_package_are_told_of(folder):
    (folder.path / "pyproject.toml").write_text(f'{HEAD}[project.scripts]\nice = "sea_ice:main"\n')
    said = "pyproject.toml: with package-mode = false there is no program of [project.scripts]"
    assert said not in (folder.command() / ".changes").read_text().splitlines()
    with (folder.path / "pyproject.toml").open("a") as file:
        file.write("[tool.poetry]\npackage-mode = false\n")
    assert said in (folder.command() / ".changes").read_text().splitlines()


@pytest.mark.parametrize(
    ("text", "name"), [(OLD, "sea-ice"), (HEAD, "sea-ice"), ("[tool.poetry]\npackage-mode = false\n", "non-package-mode")]
)
def test_poetry_calls_the_project_as_the_explanations_expect(lock, text, name):
    """Who asks for what conda has in another version is pyproject.toml, under whatever name Poetry speaks of it."""
    wants = '[tool.poetry.group.dev.dependencies]\nlib = ">9"\n'
    with pytest.raises(UserError) as error:
        lock(text + wants)
    assert (settings.name(tomllib.loads(text)) or "non-package-mode") == name
    held = {"lib": {"linux-64": ("2.0", "lib")}}
    assert "pyproject.toml asks for lib (>9)" in explain.against_conda(str(error.value), name, held)
    assert "pyproject.toml asks" not in explain.against_conda(str(error.value), "", held), "the negative control"


# --- what is built -----------------------------------------------------------------------------------

PACKAGES = "[tool.poetry]\npackages = "
BUILT = {
    # text -> the wheel, what the image looks for, its programs
    "no build-system": (HEAD, "sea_ice-1", ["sea_ice"], ""),
    "poetry-core": (HEAD + CORE, "sea_ice-1", ["sea_ice"], ""),
    "poetry-core of another time": (f'{OLD}[build-system]\nrequires = ["poetry-core>=1.0.0", "setuptools"]\nbuild-backend = "poetry.core.masonry.api"\n', "sea_ice-1", ["sea_ice"], ""),
    "setuptools' file beside it": (f"{HEAD}[tool.poetry.build]\ngenerate-setup-file = true\n", "sea_ice-1", ["sea_ice"], ""),
    "another name than the answer's": ('[project]\nname = "Org.Polar_Ice"\nversion = "1"\n', "org_polar_ice-1", ["org_polar_ice"], ""),
    "a version of Poetry's": ('[project]\nname = "sea-ice"\ndynamic = ["version"]\n[tool.poetry]\nversion = "2.0"\n', "sea_ice-2.0", ["sea_ice"], ""),
    "packages, none": (f"{HEAD}{PACKAGES}[]\n", "sea_ice-1", ["sea_ice"], ""),
    "packages in several places": (f'{HEAD}{PACKAGES}[{{ include = "a", from = "src" }}, {{ include = "b", from = "." }}, {{ include = "c.py" }}]\n', "sea_ice-1", ["a", "b", "c"], ""),
    "an extra of a script": (f'{HEAD}[project.optional-dependencies]\ncli = ["lib"]\n[project.scripts]\nice = "sea_ice:main [cli]"\n', "sea_ice-1", ["sea_ice"], "ice=sea_ice:main[cli]"),
    "versions of another form": (HEAD.replace('"1"', '"v2024.01.05-dev"'), "sea_ice-2024.1.5.dev0", ["sea_ice"], ""),
    "authors without an address": (OLD.replace("authors = []", 'authors = ["Ada"]\nmaintainers = ["Bo <b@example.com>"]\nlicense = "Proprietary"\nhomepage = "https://example.com"'), "sea_ice-1", ["sea_ice"], ""),
    "packages by a pattern": (f'{HEAD}{PACKAGES}[{{ include = "lib/*.py" }}]\n', "sea_ice-1", ["lib"], ""),
    "include and exclude": (f'{HEAD}[tool.poetry]\ninclude = ["data/*.csv", {{ path = "CHANGELOG.md", format = "sdist" }}]\nexclude = ["x"]\n', "sea_ice-1", ["sea_ice"], ""),
    "a readme that is not there": (f'{NEW}readme = "docs/NOWHERE.md"\n', "sea_ice-1", ["sea_ice"], ""),
    "a readme as text": (f'{NEW}readme = {{ text = "hi", content-type = "text/plain" }}\n', "sea_ice-1", ["sea_ice"], ""),
    "readmes of two kinds": (f'{NEW}dynamic = ["readme"]\n[tool.poetry]\nreadme = ["README.rst", "notes.md"]\n', "sea_ice-1", ["sea_ice"], ""),
    "a licence's file": (f'{NEW}license = {{ file = "LICENSE" }}\n', "sea_ice-1", ["sea_ice"], ""),
    "a licence's text": (f'{NEW}license = {{ text = "ours" }}\n', "sea_ice-1", ["sea_ice"], ""),
    "a byte order mark": ("\ufeff" + HEAD, "sea_ice-1", ["sea_ice"], ""),
    "scripts": (f'{HEAD}[project.scripts]\nice = "sea_ice.cli:main"\n', "sea_ice-1", ["sea_ice"], "ice=sea_ice.cli:main"),
    "scripts of the old form": (f'{OLD}[tool.poetry.scripts]\nice = "sea_ice:main"\nfloe = {{ reference = "sea_ice:floe", type = "console" }}\n', "sea_ice-1", ["sea_ice"], "floe=sea_ice:floe ice=sea_ice:main"),
    "scripts of the old form alone": (f'{HEAD}[tool.poetry.scripts]\nice = "sea_ice:main"\n', "sea_ice-1", ["sea_ice"], "ice=sea_ice:main"),
    "plugins of another program": (f'{OLD}[tool.poetry.plugins."x.y"]\na = "sea_ice:b"\n', "sea_ice-1", ["sea_ice"], "a=sea_ice:b"),
    "tables of other tools": (f"{HEAD}[tool.uv]\npackage = true\n[tool.hatch.envs.default]\n[tool.pixi.workspace]\n[[tool.x]]\na = 1\n", "sea_ice-1", ["sea_ice"], ""),
}  # fmt: skip


@pytest.mark.parametrize("case", BUILT)
def test_the_project_is_built_as_its_file_says(tmp_path, case):
    text, wheel, modules, programs = BUILT[case]
    (tmp_path / "app").mkdir()
    (tmp_path / "app/pyproject.toml").write_text(text)
    if not text.startswith("\ufeff"):
        check(text)
    path = installing.editable_wheel(tmp_path / "app", str(tmp_path))
    assert "-".join(path.name.split("-")[:2]) == wheel
    assert importable.modules(settings.pyproject(tmp_path / "app")) == modules
    archive = zipfile.ZipFile(path)
    points = [archive.read(name).decode() for name in archive.namelist() if name.endswith("entry_points.txt")]
    assert " ".join(line for one in points for line in one.split() if "=" in line) == programs


def test_code_beside_it_is_found_though_packages_is_empty(tmp_path):
    """As Poetry does it; the negative control: with a package that is named, only that one is."""
    for text, found in ((f"{HEAD}{PACKAGES}[]\n", True), (f'{HEAD}{PACKAGES}[{{ include = "ice" }}]\n', False)):
        installing.write_path(tomllib.loads(text), tmp_path, tmp_path / str(found), "sea_ice")
        assert (tmp_path / str(found) / "sea_ice.code.pth").exists() == found


# --- conda's Python ----------------------------------------------------------------------------------

ALLOWED = ["^3.9", "~3.11", "3.11.*", "*", ">=3.9,<4", "~2.7 || ^3.8", "3.11.9", ">=3.11 <3.12"]
FORBIDDEN = {
    "~3.10": "pyproject.toml has python = ~3.10.",
    "^3.12": "pyproject.toml has python = ^3.12.",
    "3.11": "pyproject.toml has python = 3.11 (that means 3.11.0 alone; 3.11.* means any).",
    "three": "python is three, which is not a range of versions",
    "": "python is empty, which is not a range of versions",
}
OF_THE_STANDARD = {
    "~=3.10": "",
    ">=3.11,!=3.11.3": "",
    "==3.11.*": "",
    "==3.11": "requires-python = ==3.11 (that means ==3.11.0 alone; ==3.11.* means any).",
    ">=3.12": "requires-python = >=3.12.",
    "^3.11": "requires-python is ^3.11, which is not a range of versions (>=3.12,<3.13 is one).",
    "3.11": "requires-python is 3.11, which is not a range of versions",
    ">=3.9 || <4": "which is not a range of versions",
    "": "requires-python is empty, which is not a range of versions",
}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *((OLD.replace("^3.11", wanted), "") for wanted in ALLOWED),
        *((OLD.replace("^3.11", wanted), words) for wanted, words in FORBIDDEN.items()),
        *((HEAD.replace(">=3.11", wanted), words) for wanted, words in OF_THE_STANDARD.items()),
        (OLD.replace('python = "^3.11"\n', ""), ""),
        (HEAD.replace('requires-python = ">=3.11"\n', ""), ""),
        # both count
        (f'{HEAD}[tool.poetry.dependencies]\npython = ">=3.11,<3.14"\n', ""),
        (f'{HEAD}[tool.poetry.dependencies]\npython = ">=3.12"\n', "environment.yml gives Python 3.11.9 (linux-64), and pyproject.toml has python = >=3.12.\nChange one"),
    ],
)  # fmt: skip
def test_condas_python_is_compared_with_both_forms(text, words):
    if not words:
        return check(text)
    with pytest.raises(UserError) as error:
        check(text)
    assert words in str(error.value)


def test_without_conda_the_base_images_python_is_compared(folder):
    (folder.path / "pyproject.toml").write_text(HEAD.replace(">=3.11", "<3"))
    with pytest.raises(
        UserError, match=r"^the base image gives Python 3\.\S+ \(linux-\S+\), and pyproject.toml has requires-python = <3\."
    ):
        folder.command()


# --- what is refused ---------------------------------------------------------------------------------

BOTH = "are both set. The latter will be ignored."
PATH = "r comes from a path of your machine, which the image does not have.\nMove its code into src/"
REFUSED = {
    # the form
    "nothing": ("", "Either [project.name] or [tool.poetry.name] is required in package mode."),
    "no version": ('[project]\nname = "x"\n', "Either [project.version] or [tool.poetry.version] is required"),
    "a version that is dynamic and nowhere": ('[project]\nname = "x"\ndynamic = ["version"]\n', "Either [project.version] or"),
    "a version that is none": (HEAD.replace('"1"', '"one"'), "project.version has another form: a version is 1.2.3, a name my-project\n"),
    "a version that is a number": (HEAD.replace('"1"', "1.0"), "project.version must be string"),
    "a name with a blank": (HEAD.replace("sea-ice", "Sea Ice"), "project.name has another form"),
    "requires-python as a number": (HEAD.replace('">=3.11"', "3.11"), "project.requires-python must be string"),
    "requires-python as a list": (HEAD.replace('">=3.11"', '[">=3.11"]'), "project.requires-python must be string"),
    "dependencies as a text": (f'{NEW}dependencies = "lib"\n', "project.dependencies must be array"),
    "dependencies as a table": (f'{NEW}[project.dependencies]\nlib = "1"\n', "project.dependencies must be array"),
    "a dependency that is a number": (f"{NEW}dependencies = [1]\n", "project.dependencies[0] must be string"),
    "a dependency of the old form that is a number": (f"{OLD}lib = 1\n", 'tool.poetry.dependencies.lib has another form: "^1.2", or { version = "^1.2" }'),
    "optional dependencies as a list": (f'{HEAD}optional-dependencies = ["lib"]\n', "project.optional-dependencies must be object"),
    "a group as a table": (f'{HEAD}[dependency-groups.dev]\nlib = "1"\n', "dependency-groups.dev must be array"),
    "a group as a text": (f'{HEAD}[tool.poetry.group]\ndocs = "x"\n', "project, tool.poetry and its groups must be tables. A header: [project]"),
    "a group's list in the old form": (f'{HEAD}[tool.poetry.group.docs]\ndependencies = ["lib"]\n', "tool.poetry.group.docs.dependencies must be object"),
    "groups in a circle": (f'{HEAD}[dependency-groups]\na = [{{ include-group = "b" }}]\nb = [{{ include-group = "a" }}]\n', "Cyclic dependency group include in a"),
    "a group in two spellings": (f'{HEAD}[dependency-groups]\nDev = ["lib"]\ndev = ["other"]\n', "Duplicate dependency group name after normalization: dev (Dev, dev)"),
    "project as a text": ('project = "x"\n', "project, tool.poetry and its groups must be tables"),
    "package-mode as a text": (f'{HEAD}[tool.poetry]\npackage-mode = "false"\n', "tool.poetry.package-mode must be boolean"),
    "packages as texts": (f'{HEAD}{PACKAGES}["sea_ice"]\n', "tool.poetry.packages[0] must be object"),
    "packages as a table": (f'{HEAD}{PACKAGES}{{ include = "sea_ice" }}\n', "tool.poetry.packages must be array"),
    "a package without its name": (f'{HEAD}{PACKAGES}[{{ from = "src" }}]\n', "tool.poetry.packages[0] must contain ['include'] properties"),
    "a package in another place": (f'{HEAD}{PACKAGES}[{{ include = "x", to = "y" }}]\n', "tool.poetry.packages: `to` has no effect here, where code stays where it is: {'include': 'x', 'to': 'y'}"),
    "authors of the old form": (f'{HEAD}authors = ["A <a@b.c>"]\n', "project.authors[0] must be object"),
    # keys
    "a key of [project] with a slip": (f'{NEW}dependancies = ["lib"]\n', "pyproject.toml, [project]: dependancies is not known. Is it dependencies?"),
    "a key of Poetry's": (f"{HEAD}package-mode = false\n", "pyproject.toml, [project]: package-mode is not known. It goes into [tool.poetry]."),
    "packages of Poetry's": (f'{HEAD}packages = [{{ include = "sea_ice" }}]\n', "packages is not known. It goes into [tool.poetry]."),
    "the old development dependencies": (f'{HEAD}dev-dependencies = ["lib"]\n', "dev-dependencies is not known. It is the list dev of [dependency-groups]."),
    "an address beside urls": (f'{HEAD}homepage = "https://example.com"\n', "homepage is not known. It goes into [project.urls]."),
    "Python as a key": (f'{HEAD}python = "^3.11"\n', "python is not known. It is called requires-python."),
    "Python as a dependency": (f'{NEW}dependencies = ["python >=3.11", "lib"]\n', "`python >=3.11` cannot be a dependency. Python's versions are set with requires-python in [project]."),
    "several readmes": (f'{HEAD}readme = ["README.md"]\n', 'project.readme has another form: a text in quotes, or { file = "…" }'),
    "a group that includes in its own way": (f'{HEAD}[dependency-groups]\ndev = [{{ include = "test" }}]\n', 'dependency-groups.dev[0] has another form: "numpy>=2", or { include-group = "test" }'),
    "a group's table with a slip": (f'{OLD}[tool.poetry.group.dev.dependency]\nlib = "^1"\n', "tool.poetry.group.dev has another form: packages are in its table dependencies"),
    "a dependency's table with a slip": (f'{OLD}lib = {{ ver = "^1" }}\n', 'tool.poetry.dependencies.lib has another form: "^1.2", or { version = "^1.2" }'),
    "a key that Poetry no longer reads": (f'{OLD}lib = {{ version = "^1", allows-prereleases = true }}\n', "[tool.poetry.dependencies]: lib has allows-prereleases, which Poetry ignores. Write allow-prereleases."),
    "the same in a group": (f'{OLD}[tool.poetry.group.dev.dependencies]\nlib = {{ version = "^1", allows-prereleases = true }}\n', "[tool.poetry.group.dev.dependencies]: lib has allows-prereleases"),
    "couplet's table as a list": (f'{HEAD}[[tool.couplet]]\nmin-release-age = "7d"\n', "tool.couplet must be a table. Its header: [tool.couplet]"),
    "link scripts without brackets": (f'{HEAD}[tool.couplet]\nlink-scripts = false\n', "pyproject.toml, [tool.couplet]: link-scripts is False. Example: link-scripts = ["),
    "a key with an underscore": (f'{HEAD}[project.optional_dependencies]\na = ["lib"]\n', "optional_dependencies is not known. Is it optional-dependencies?"),
    "a table with a slip": (f'{HEAD}[dependency-group]\ndev = ["lib"]\n', "pyproject.toml: dependency-group is not known. Is it dependency-groups?"),
    # the old form beside [project]
    "a name twice": (f'{HEAD}[tool.poetry]\nname = "other"\n', f"[project.name] and [tool.poetry.name] {BOTH}"),
    "a version twice": (f'{HEAD}[tool.poetry]\nversion = "9"\n', f"[project.version] and [tool.poetry.version] {BOTH}\nCorrect"),
    "scripts twice": (f'{HEAD}[project.scripts]\na = "a:b"\n[tool.poetry.scripts]\nc = "a:b"\n', "[project.scripts] is set and there are console scripts in [tool.poetry.scripts]. The latter will be ignored."),
    "entry points twice": (f'{HEAD}[project.entry-points.a]\nb = "c:d"\n[tool.poetry.plugins.a]\ne = "c:d"\n', f"[project.entry-points] and [tool.poetry.plugins] {BOTH}"),
    "extras twice": (f'{HEAD}[project.optional-dependencies]\na = ["lib"]\n[tool.poetry.extras]\nb = ["lib"]\n', f"[project.optional-dependencies] and [tool.poetry.extras] {BOTH}"),
    "extras of nothing": (f'{HEAD}[tool.poetry.extras]\na = ["lib"]\n', 'Cannot find dependency "lib" for extra "a" in main dependencies.'),
    "a dependency of the old form": (f'{NEW}dependencies = ["lib"]\n[tool.poetry.dependencies]\nother = "^1"\n', "other is in [tool.poetry.dependencies] alone, and Poetry reads the names in project.dependencies.\nMove it to"),
    "a group of the old form": (f'{HEAD}[dependency-groups]\ndev = []\n[tool.poetry.group.dev.dependencies]\nother = "^1"\n', "other is in [tool.poetry.group.dev.dependencies] alone"),
    "dev-dependencies": (f'{HEAD}[dependency-groups]\ndev = []\n[tool.poetry.dev-dependencies]\nother = "^1"\n', "other is in [tool.poetry.dev-dependencies] alone"),
    "Python as a table": (OLD.replace('"^3.11"', '{ version = "^3.11" }'), "pyproject.toml, [tool.poetry.dependencies]: python is {'version': '^3.11'}, which Poetry ignores. Example: python = \"^3.11\""),
    "Python as a number": (OLD.replace('"^3.11"', "3.11"), "tool.poetry.dependencies.python has another form"),
    # where dependencies come from
    "git": (f'{NEW}dependencies = ["r @ git+https://github.com/o/r.git@main"]\n', "r comes from a git repository, which no hash covers.\nBuild a wheel"),
    "git, in the old form": (f'{OLD}r = {{ git = "https://github.com/o/r.git", branch = "main" }}\n', "r comes from a git repository"),
    "git as one of several": (f'{OLD}lib = [{{ version = "^1", python = "<3.12" }}, {{ git = "https://x/y.git", python = ">=3.12" }}]\n', "lib comes from a git repository"),
    "a folder": (f'{NEW}dependencies = ["r @ ./r"]\n', PATH),
    "a folder as Hatch has it": (f'{NEW}dependencies = ["r @ {{root:uri}}/r"]\n', PATH),
    "a folder, in the old form": (f'{OLD}r = {{ path = "../r", develop = true }}\n', PATH),
    "a folder without a dot": (f'{NEW}dependencies = ["r @ vendor/r-1.0-py3-none-any.whl"]\n', PATH),
    "a drive of Windows": (f'{NEW}dependencies = ["r @ C:/r"]\n', PATH),
    "git by ssh": (f'{NEW}dependencies = ["r @ git+ssh://git@github.com/o/r.git"]\n', "r comes from a git repository"),
    "a file": (f'{NEW}dependencies = ["r[x] @ file:///work/r-1.0-py3-none-any.whl"]\n', PATH),
    "a file, in the old form": (f'{OLD}r = {{ file = "r-1.0-py3-none-any.whl" }}\n', PATH),
    "a password": (f'{NEW}dependencies = ["r @ https://ada:secret@example.com/r-1.0-py3-none-any.whl"]\n', "r has a user name or a password in its address, which would be in poetry.lock and in the image.\nWrite it without"),
    "a password, in the old form": (f'{OLD}r = {{ url = "https://ada:secret@example.com/r-1.0-py3-none-any.whl" }}\n', "r has a user name or a password in its address"),
    "a source's password": (f'{HEAD}[[tool.poetry.source]]\nname = "own"\nurl = "https://ada:secret@example.com/simple"\n', "pyproject.toml, [[tool.poetry.source]]: own has a user name or a password in its address"),
    # the group that the pins go into
    "a group conda": (f'{HEAD}[dependency-groups]\nconda = ["lib>=1"]\n', "the group name conda is reserved for `make env-update`. Choose another."),
    "a group conda of the old form": (f'{OLD}[tool.poetry.group.conda.dependencies]\nlib = "^1"\n', "the group name conda is reserved"),
    # what builds the project
    "Poetry before poetry-core": (f'{OLD}[build-system]\nrequires = ["poetry>=0.12"]\nbuild-backend = "poetry.masonry.api"\n', "build-system.build-backend is poetry.masonry.api. The image is built by poetry-core alone: write build-backend"),
    "setuptools": (f'{HEAD}[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n', "build-system.build-backend is setuptools.build_meta"),
    "setuptools, by saying nothing": (f'{HEAD}[build-system]\nrequires = ["setuptools", "wheel"]\n', "build-system.build-backend is missing, which stands for setuptools. The image"),
    "setuptools of another time": (f'{HEAD}[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta:__legacy__"\n', "build-system.build-backend is setuptools.build_meta:__legacy__"),
    "uv": (f'{HEAD}[build-system]\nrequires = ["uv_build"]\nbuild-backend = "uv_build"\n', "build-system.build-backend is uv_build"),
    "the old build script": (f'{OLD.replace("authors", "build = " + chr(34) + "build.py" + chr(34) + chr(10) + "authors")}', "[tool.poetry.build] runs a script"),
    "a compiler for Rust": (f'{HEAD}[build-system]\nrequires = ["maturin"]\nbuild-backend = "maturin"\n', "build-system.build-backend is maturin"),
    "a build script": (f'{HEAD}[tool.poetry.build]\nscript = "build.py"\n', "[tool.poetry.build] runs a script"),
    "C extensions": (f'{HEAD}[[tool.setuptools.ext-modules]]\nname = "x"\nsources = ["x.c"]\n', "nothing here reads [tool.setuptools.ext-modules], so that it would have no effect.\nTake it out."),
    "a version from git's tags": (f"{HEAD}[tool.poetry-dynamic-versioning]\nenable = true\n", "nothing here reads [tool.poetry-dynamic-versioning]"),
    "plugins of Poetry's": (f'{HEAD}[tool.poetry.requires-plugins]\npoetry-plugin-export = ">=1.8"\n', "nothing here reads [tool.poetry.requires-plugins], so that it would have no effect.\nTake it out."),
    "a script in a file": (f'{OLD}[tool.poetry.scripts]\nice = {{ reference = "bin/ice.sh", type = "file" }}\n', "the program ice is {'reference': 'bin/ice.sh', 'type': 'file'}. Example: ice = \"my_package.module:function\""),
    "a script without its function": (f'{HEAD}[project.scripts]\nice = "sea_ice.main"\n', "the program ice is 'sea_ice.main'. Example"),
    "a script with its parentheses": (f'{HEAD}[project.scripts]\nice = "sea_ice:main()"\n', "the program ice is 'sea_ice:main()'. Example"),
    "a script by its path": (f'{HEAD}[project.scripts]\nice = "src/sea_ice/main.py"\n', "the program ice is 'src/sea_ice/main.py'. Example"),
    "a script of a name with a dash": (f'{HEAD}[project.scripts]\nice = "sea-ice:main"\n', "the program ice is 'sea-ice:main'. Example"),
    "a script that is a command": (f'{HEAD}[project.gui-scripts]\nice = "python main.py"\n', "the program ice is 'python main.py'"),
    "a script of an extra that is none": (f'{OLD}[tool.poetry.scripts]\nice = {{ callable = "a:b", extras = ["x"] }}\n', 'The script "ice" requires extra "x" which is not defined.'),
    # other tools' dependencies
    "dependencies that another tool makes": (f'{NEW}dynamic = ["dependencies"]\n', "project.dynamic has dependencies, and nothing here makes them. Write [project] dependencies."),
    "dependencies that setuptools reads": (f'{NEW}[tool.setuptools.dynamic]\ndependencies = {{ file = "requirements.txt" }}\n', "nothing here reads [tool.setuptools.dynamic]"),
    "uv's sources": (f'{NEW}dependencies = ["lib"]\n[tool.uv.sources]\nlib = {{ git = "https://x/y" }}\n', "nothing here reads [tool.uv.sources]"),
    "uv's group": (f'{HEAD}[tool.uv]\ndev-dependencies = ["lib"]\n', "nothing here reads [tool.uv.dev-dependencies]"),
    "uv's index": (f'{HEAD}[[tool.uv.index]]\nname = "own"\nurl = "https://example.com/simple"\n', "nothing here reads [tool.uv.index], so that it would have no effect.\nTake it out. What you need of it goes into [project], [dependency-groups] or environment.yml, an index into [[tool.poetry.source]]"),
    "uv's constraints": (f'{HEAD}[tool.uv]\nconstraint-dependencies = ["lib<2"]\n', "nothing here reads [tool.uv.constraint-dependencies]"),
    "uv's overrides": (f'{HEAD}[tool.uv]\noverride-dependencies = ["lib<2"]\n', "nothing here reads [tool.uv.override-dependencies]"),
    "uv's workspace": (f'{HEAD}[tool.uv.workspace]\nmembers = ["a"]\n', "nothing here reads [tool.uv.workspace]"),
    "pdm's index": (f'{HEAD}[[tool.pdm.source]]\nname = "own"\nurl = "https://example.com/simple"\n', "nothing here reads [tool.pdm.source]"),
    "pdm's overrides": (f'{HEAD}[tool.pdm.resolution.overrides]\nlib = "1"\n', "nothing here reads [tool.pdm.resolution]"),
    "rye's index": (f'{HEAD}[[tool.rye.sources]]\nname = "own"\nurl = "https://example.com/simple"\n', "nothing here reads [tool.rye.sources]"),
    "pixi's packages for one platform": (f'{HEAD}[tool.pixi.target.linux-64.dependencies]\nnumpy = "*"\n', "nothing here reads [tool.pixi.target]"),
    "conda-lock's channels": (f'{HEAD}[tool.conda-lock]\nchannels = ["own"]\n', "nothing here reads [tool.conda-lock.channels]"),
    "unidep's packages": (f'{HEAD}[tool.unidep]\ndependencies = ["numpy"]\n', "nothing here reads [tool.unidep.dependencies]"),
    "pdm's groups": (f'{HEAD}[tool.pdm.dev-dependencies]\ntest = ["lib"]\n', "nothing here reads [tool.pdm.dev-dependencies]"),
    "pixi's packages": (f'{HEAD}[tool.pixi.dependencies]\nnumpy = "*"\n', "nothing here reads [tool.pixi.dependencies]"),
    "conda-lock's packages": (f'{HEAD}[tool.conda-lock.dependencies]\nnumpy = "1"\n', "nothing here reads [tool.conda-lock.dependencies]"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_ignored_or_lost_is_refused_by_name(case):
    text, words = REFUSED[case]
    with pytest.raises(UserError) as error:
        check(text)
    said = str(error.value)
    assert said.startswith("pyproject.toml") and words in said and "secret" not in said and "^v?" not in said


NEAR = f'{NEW}dependencies = ["r @ https://example.com/r-1.0-py3-none-any.whl", "python-dateutil", "python.x"]\n'


@pytest.mark.parametrize("text", [NEW, HEAD, OLD, HEAD + CORE, OLD + CORE, NEAR])
def test_what_the_rows_are_made_of_is_not_refused(text):
    """Their negative control."""
    check(text)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (HEAD.encode("utf-16"), "pyproject.toml is not UTF-8 text: "),
        (f'{NEW}description = "Möwe"\n'.encode("latin-1"), "Save it as UTF-8."),
        ((HEAD + "dependencies = []\n").encode(), "pyproject.toml is not valid TOML: Cannot overwrite a value (at line 6"),
        (f"{HEAD}[tool.poetry]\n[tool.ruff]\n[tool.poetry]\n".encode(), "Cannot declare ('tool', 'poetry') twice (at line 8"),
    ],
)
def test_what_is_no_toml_is_said_with_its_line(tmp_path, written, words):
    (tmp_path / "pyproject.toml").write_bytes(written)
    with pytest.raises(UserError) as error:
        settings.pyproject(tmp_path)
    assert words in str(error.value)


OF_POETRYS = {
    "a source of another time": ('[[tool.poetry.source]]\nname = "own"\nurl = "{index}/simple"\ndefault = true\n', "tool.poetry.source[0] must not contain {'default'} properties"),
    "a priority of another time": ('[[tool.poetry.source]]\nname = "own"\nurl = "{index}/simple"\npriority = "secondary"\n', "tool.poetry.source[0].priority must be one of ['primary', 'supplemental', 'explicit']"),
    "a key with a slip": ('[tool.poetry]\npackags = [{ include = "x" }]\n', "Additional properties are not allowed ('packags' was unexpected)"),
    "another Poetry": ('[tool.poetry]\nrequires-poetry = "<2"\n', "This project requires Poetry <2"),
    "a requirement as conda has it": ('[project.optional-dependencies]\na = ["lib=1.0"]\n', "lib=1.0\n"),
    "a caret beside [project]": ('[project.optional-dependencies]\na = ["lib (^1)"]\n', "lib (^1)\n"),
    "a file of requirements": ('[project.optional-dependencies]\na = ["-r requirements.txt"]\n', "-r requirements.txt\n"),
    "an address without a name": ('[project.optional-dependencies]\na = ["git+https://github.com/o/r"]\n', "git+https://github.com/o/r\n"),
    "conditions without a comma": ('[project.optional-dependencies]\na = ["lib>=1 <2"]\n', "lib>=1 <2\n"),
    "the newest": ('[tool.poetry.group.dev.dependencies]\nlib = "latest"\n', "Could not parse version constraint: latest"),
    "itself, for an extra of all": ('[project.optional-dependencies]\na = ["lib"]\nall = ["sea-ice[a]"]\n', "Package 'sea-ice[a]' is listed as a dependency of itself."),
    "groups with a slip": ('[tool.poetry.groups.dev.dependencies]\nlib = "*"\n', "('groups' was unexpected)"),
    "an underscore": ('[tool.poetry.dev_dependencies]\nlib = "*"\n', "('dev_dependencies' was unexpected)"),
    "settings of poetry.toml": ("[tool.poetry.virtualenvs]\nin-project = true\n", "('virtualenvs' was unexpected)"),
    "a source without an address": ('[[tool.poetry.source]]\nname = "own"\n', "Missing [url] in source 'own'."),
    "a source as a table": ('[tool.poetry.source]\nname = "own"\nurl = "{index}/simple"\n', "tool.poetry.source must be array"),
    "a source that is none": ('[tool.poetry.group.dev.dependencies]\nlib = { version = "*", source = "none" }\n', 'Repository "none" does not exist.'),
    "a group that includes none": ('[dependency-groups]\ndev = [{ include-group = "test" }]\n', "Group 'dev' includes group 'test' which is not defined."),
}  # fmt: skip


@pytest.mark.parametrize("case", OF_POETRYS)
def test_what_poetry_itself_refuses_is_not_called_a_dependency(lock, case):
    text, words = OF_POETRYS[case]
    with pytest.raises(UserError) as error:
        lock(HEAD + text)
    said = str(error.value)
    assert words in said and said.endswith("Correct what it names in pyproject.toml, then run `make env-update`.")


def test_a_dependency_that_cannot_be_had_is_one_to_widen(lock):
    """The negative control of the above."""
    with pytest.raises(UserError, match=r"Loosen, raise or drop the requirement that it names in pyproject.toml"):
        lock(f'{NEW}dependencies = ["lib>9"]\n')


# --- conda's pins come in ----------------------------------------------------------------------------

WRITTEN = {
    "no tables": HEAD,
    "the old form": OLD,
    "tool in one line": f"tool = {{ poetry = {{ package-mode = false }} }}\n{HEAD}",
    "tool in one line without Poetry": f"tool = {{ ruff = {{ line-length = 99 }} }}\n{HEAD}",
    "Poetry in one line": f"{HEAD}[tool]\npoetry = {{ packages = [] }}\n",
    "groups in one line": f'dependency-groups = {{ dev = ["lib"] }}\n{HEAD}',
    "Poetry's groups in one line": f'{HEAD}[tool.poetry]\ngroup = {{ dev = {{ dependencies = {{ lib = "^1" }} }} }}\n',
    "tables out of order": f'{HEAD}[tool.poetry.group.dev.dependencies]\nlib = "^1"\n[tool.ruff]\n[tool.poetry]\npackages = []\n[tool.poetry.group.docs]\noptional = true\n',
    "dotted keys": 'project.name = "x"\nproject.version = "1"\ntool.poetry.package-mode = false\n',
    "comments": f"# top\n{HEAD}# of tool\n[tool.poetry]  # ours\npackages = []  # none\n",
}  # fmt: skip


def ends(text: str) -> list[tuple[str, str]]:
    """Return what each line of a text begins with, up to its value, and its end."""
    return [(line.split("=")[0].rstrip(), line[-1:] * line.endswith("\r")) for line in text.split("\n")[:-1]]


@pytest.mark.parametrize(
    "kinds", [["\n"], ["\r\n"], ["\n", "\r\n"], ["\r\n", "\r\n", "\n"]], ids=["Unix", "Windows", "both", "more of Windows'"]
)
@pytest.mark.parametrize("case", WRITTEN)
def test_pins_come_in_and_all_else_stays(tmp_path: Path, case: str, kinds: list[str]):
    """Each line of the user's keeps its own end; the new ones get that of most."""
    path, text = tmp_path / "pyproject.toml", WRITTEN[case]
    given = "".join(line + kinds[number % len(kinds)] for number, line in enumerate(text.splitlines()))
    path.write_bytes(given.encode())
    pins.write_pins(path, ["lib==2.0"])
    written = path.read_bytes().decode()
    new, left = [], ends(written)
    for line in ends(given):
        assert line in left, (line, left)
        new += left[: left.index(line)]
        left = left[left.index(line) + 1 :]
    most = "\r" * (given.count("\r\n") * 2 > given.count("\n"))
    assert {end for _, end in [*new, *left]} == {most}
    after = tomllib.loads(written)
    assert after["dependency-groups"].pop("conda") == ["lib==2.0"] and after["tool"]["poetry"]["group"].pop("conda") == {
        "optional": True
    }
    before = tomllib.loads(text)
    groups = before.setdefault("tool", {}).setdefault("poetry", {}).setdefault("group", {})
    assert before.setdefault("dependency-groups", {}) == after["dependency-groups"] and groups == after["tool"]["poetry"]["group"]
    assert before == after and [line for line in text.splitlines() if "#" in line and line not in written] == []
