"""pyproject.toml: both old forms become the template's, with the user's values and tools."""

from __future__ import annotations

import re
from typing import Any

import tomlkit
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from poetry.core.factory import Factory

from .answers import OFFERED, licence, people
from .environment import GO, UNREAD, pip_lines, requirements
from .layout import Part, ini, setup_arguments
from .state import Repository

KNOWN = {
    "name", "version", "description", "authors", "maintainers", "license", "readme", "homepage", "repository", "documentation", "urls",
    "keywords", "classifiers", "packages", "include", "exclude", "build", "source", "dependencies", "dev-dependencies", "group", "extras",
    "scripts", "plugins", "package-mode", "requires-poetry",
}  # fmt: skip
"""The keys of [tool.poetry] that have a place in the new form, or are told of by themselves."""
OTHER_BACKENDS = {
    "setuptools": ["ext-modules"], "hatch": [], "flit": ["metadata"], "pdm": [], "poetry-dynamic-versioning": [],
    "poetry-version-plugin": [], "setuptools_scm": [], "setuptools-git-versioning": [], "versioneer": [],
}  # fmt: skip
"""The tables of what built the project before -> the keys that are kept, since locking refuses them until they are settled."""
PURE = re.compile(
    r"(poetry([-_]core)?|setuptools|wheel|hatchling|flit[-_]core|pdm[-_](backend|pep517)|uv[-_]build)\b(?![-_])", re.I
)
"""What builds a project of Python alone, as poetry-core does."""
AT_DEV = re.compile(r"(dev|test|lint|doc|typ|format|style|check|ci|build|release|bench|notebook|qa|debug)", re.I)
"""What the name of a group begins with that the program itself does not need."""
ENRICHED = ("source", "allow-prereleases")
"""What [project] cannot say of a dependency, and [tool.poetry] still does."""
PATHS = {"files", "testpaths", "src", "paths", "include", "exclude", "extend-exclude", "omit", "mypy_path", "pythonpath"}
"""Keys of tools that name files and folders; elsewhere a word that is a folder's name may be a module's."""


def plain(value: Any) -> Any:
    """Return a value of tomlkit's as Python's own."""
    return value.unwrap() if hasattr(value, "unwrap") else value


def pep_508(repository: Repository, name: str, constraint: Any) -> list[str]:
    """Return a dependency of [tool.poetry] as requirements: one, or one for each of several constraints."""
    if isinstance(constraint, list):
        return [line for one in constraint for line in pep_508(repository, name, one)]
    if isinstance(constraint, dict):
        if folder := str(constraint.get("path", constraint.get("file", ""))):
            # as it stands, and refused when locking: the absolute path is this machine's alone
            return [f"{name} @ {folder if folder.startswith(('.', '/', '~')) else f'./{folder}'}"]
        constraint = {key: value for key, value in constraint.items() if key not in ("optional", "source")}
    shown = Factory.create_dependency(name, constraint).to_pep_508()
    return [re.sub(r"\s*\(([^)]*)\)", lambda match: match[1].replace(" ", ""), shown, count=1)]


def old_table(repository: Repository, table: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (requirement, comment) of a table of dependencies in [tool.poetry]."""
    found = []
    for name, constraint in table.items():
        if name.lower() != "python" and not (isinstance(constraint, dict) and constraint.get("optional")):
            note = getattr(getattr(table, "item", lambda _: None)(name), "trivia", None)
            comment = (note.comment if note else "").lstrip("# ")
            found += [(line, comment) for line in pep_508(repository, name, plain(constraint))]
    return found


def enriched(table: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what a table of [tool.poetry] says of its dependencies that requirements cannot say."""
    found = {}
    for name, value in table.items():
        versions = [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]
        said = {key: plain(one[key]) for one in versions for key in ENRICHED if key in one}
        if said:
            found[str(name)] = said
    return found


def name_in(line: str) -> str:
    """Return the canonical name of the distribution that a requirement asks for."""
    try:
        return canonicalize_name(Requirement(line).name)
    except InvalidRequirement:
        return canonicalize_name(re.split(r"[^\w.-]", line)[0])


def merged(repository: Repository, sources: list[tuple[str, list[tuple[str, str]]]]) -> list[tuple[str, str]]:
    """Return the requirements of several sources; what stands in two stays as the first says it, and a difference is listed."""
    kept: list[tuple[str, str]] = []
    first: dict[str, tuple[str, str]] = {}
    for where, lines in sources:
        for line, comment in lines:
            name = name_in(line)
            if name in first and first[name][0] != where:
                if first[name][1].replace(" ", "") != line.replace(" ", ""):
                    repository.left.append(f"pyproject.toml: `{first[name][1]}` was kept, and {where} says `{line}`: choose")
                continue
            first.setdefault(name, (where, line))
            kept.append((line, comment))
    return kept


def array(lines: list[tuple[str, str]]) -> Any:
    """Return an array of TOML, a line each, with the comments."""
    listing = tomlkit.array()
    for line, comment in lines:
        listing.add_line(line, comment=comment or None)
    if lines:
        listing.add_line(indent="")
    return listing


def inline(tables: list[dict[str, str]]) -> Any:
    """Return an array of inline tables, a line each if there are several."""
    listing = tomlkit.array().multiline(len(tables) > 1)
    for values in tables:
        table = tomlkit.inline_table()
        table.update(values)
        listing.append(table)
    return listing


def spaced(text: str) -> str:
    """Return TOML with a blank line before each table; as it was, if that would change what it says."""
    again = re.sub(r"(?<=[^\n])\n(?=\[\[?[\w.\"' -]+\]\]?[ \t]*$)", "\n\n", text, flags=re.M)
    return again if tomlkit.parse(again).unwrap() == tomlkit.parse(text).unwrap() else text


def listed(values: Any) -> list[tuple[str, str]]:
    """Return an array's strings as (requirement, comment)."""
    return [(str(value), "") for value in values or () if isinstance(value, str)]


def main_dependencies(repository: Repository) -> list[tuple[str, str]]:
    """Return what the project itself needs from PyPI, from wherever the repository says it."""
    setup = setup_arguments(repository).get("install_requires", [])
    setup = setup.splitlines() if isinstance(setup, str) else setup
    read = repository.pyproject.get("tool", {}).get("setuptools", {}).get("dynamic", {}).get("dependencies", {}).get("file", [])
    files = [str(name) for name in ([read] if isinstance(read, str) else read)]
    sources = [
        ("[project]", listed(repository.project.get("dependencies"))),
        ("[tool.poetry]", old_table(repository, repository.poetry.get("dependencies", {}))),
        ("setup.py", [(line.strip(), "") for line in setup if line.strip()]),
        (f"{repository.environment_file} (pip:)", pip_lines(repository)),
    ]
    if not files and not any(lines for _, lines in sources):
        files = ["requirements.txt"]
    for name in (name for name in files if name in repository.tracked):
        sources.append((name, requirements(repository, repository.text(name).splitlines(), name)))
        repository.left.append(UNREAD.format(name))
    return merged(repository, sources)


def dev_dependencies(repository: Repository, template: list[str]) -> list[tuple[str, str]]:
    """Return the group dev: all groups of the user's, since no other is installed, and what the template's own targets run."""
    sources = []
    groups = {"dev": {}, **repository.pyproject.get("dependency-groups", {})}
    for name, lines in groups.items():
        sources.append((f"the group {name}", listed(lines)))
    for tool in ("uv", "pdm", "rye"):
        lines = repository.pyproject.get("tool", {}).get(tool, {}).get("dev-dependencies", [])
        lines = [line for one in lines.values() for line in one] if isinstance(lines, dict) else lines
        sources.append((f"[tool.{tool}]", listed(lines)))
    sources.append(("[tool.poetry.dev-dependencies]", old_table(repository, repository.poetry.get("dev-dependencies", {}))))
    for name, group in repository.poetry.get("group", {}).items():
        sources.append((f"[tool.poetry.group.{name}]", old_table(repository, group.get("dependencies", {}))))
    others = sorted((set(groups) | set(repository.poetry.get("group", {}))) - {"dev"})
    if others:
        repository.done.append(f"pyproject.toml: the groups {', '.join(others)} are in dev, which the dev image has")
    if mains := [name for name in others if not AT_DEV.match(name)]:
        repository.left.append(
            f"pyproject.toml: what the groups {', '.join(mains)} list is in the group dev, which the runtime image does not have: "
            "what the program needs goes into dependencies"
        )
    kept = merged(repository, sources)
    have = {name_in(line) for line, _ in kept}
    return kept + [(line, "") for line in template if name_in(line) not in have]


def optional(repository: Repository) -> dict[str, list[tuple[str, str]]]:
    """Return the extras: those of [project], and those of [tool.poetry] with the dependencies that are optional there."""
    said = setup_arguments(repository).get("extras_require", {}) | plain(repository.project.get("optional-dependencies", {}))
    found = {str(name): listed(lines) for name, lines in said.items()}
    table = repository.poetry.get("dependencies", {})
    loose = {name for name, value in table.items() if isinstance(value, dict) and value.get("optional")}
    for extra, names in repository.poetry.get("extras", {}).items():
        wanted = [name for name in table if canonicalize_name(name) in {canonicalize_name(str(one)) for one in names}]
        found[extra] = [(line, "") for name in wanted for line in pep_508(repository, name, plain(table[name]))]
        loose -= set(wanted)
    if loose:
        found["optional"] = [(line, "") for name in sorted(loose) for line in pep_508(repository, name, plain(table[name]))]
    if found:
        repository.left.append(
            f"pyproject.toml: of the extras ({', '.join(found)}) none is in the image: what it needs goes into dependencies"
        )
    return found


def entry_points(repository: Repository) -> dict[str, dict[str, str]]:
    """Return {group: {name: what is called}} of setup.py and setup.cfg."""
    said = setup_arguments(repository).get("entry_points", {})
    found = {}
    for group, lines in said.items() if isinstance(said, dict) else ():
        pairs = [str(line).partition("=") for line in (lines.splitlines() if isinstance(lines, str) else lines)]
        found[group] = {name.strip(): called.strip() for name, _, called in pairs if called}
    return found


def scripts(repository: Repository) -> dict[str, str]:
    """Return the programs. Those that are no function, and those whose module is not there, are listed."""
    found: dict[str, Any] = {**entry_points(repository).get("console_scripts", {})}
    found |= {str(name): plain(value) for name, value in repository.project.get("scripts", {}).items()}
    found |= {str(name): plain(value) for name, value in repository.poetry.get("scripts", {}).items()}
    for name, value in list(found.items()):
        value = (
            value.get("callable", value.get("reference") if value.get("type") == "console" else None)
            if isinstance(value, dict)
            else value
        )
        if value is None:
            del found[name]
            repository.left.append(
                f"pyproject.toml: the script {name} is a file, which [project.scripts] does not have: give it a function"
            )
            continue
        found[name] = value
        module = str(value).split(":")[0].strip().replace(".", "/")
        if not any((repository.path / "src" / place).exists() for place in (f"{module}.py", f"{module}/__init__.py", module)):
            del found[name]
            repository.left.append(f'pyproject.toml: the script {name} = "{value}" was taken out: there is no src/{module}.py')
    return found


def version(repository: Repository, main: Part | None) -> str:
    """Return the project's version: said, or __version__ in the package."""
    said = repository.project.get("version") or repository.poetry.get("version") or setup_arguments(repository).get("version")
    noted = re.search(r"^__version__\s*=\s*['\"]([^'\"]+)", repository.text(f"{main.goal}/__init__.py") if main else "", re.M)
    if not said and not noted:
        (repository.left if repository.pyproject else repository.done).append("pyproject.toml: no version was found: it is 0.1.0")
    elif not said:
        repository.left.append(
            "pyproject.toml: version was computed, and is a fixed one now: change it here alone, and have the code read it by importlib.metadata"
        )
    return str(said or (noted[1] if noted else "0.1.0"))


def urls(repository: Repository) -> dict[str, str]:
    """Return the project's addresses."""
    names = {"homepage": "Homepage", "repository": "Repository", "documentation": "Documentation"}
    found = {title: str(repository.poetry[key]) for key, title in names.items() if repository.poetry.get(key)}
    if address := setup_arguments(repository).get("url"):
        found["Homepage"] = str(address)
    more: dict[str, str] = {**plain(repository.poetry.get("urls", {})), **plain(repository.project.get("urls", {}))}
    return found | more


def without_the_kernel(lines: list[tuple[str, str]], bounds: list[str]) -> list[tuple[str, str]]:
    """Return requirements without ipykernel, and add its bounds to `bounds`: conda installs it, and may have a newer one."""
    bounds += [re.sub(r"^[\w.-]+(\[.*?\])?", "", line.split(";")[0]).strip() for line, _ in lines if name_in(line) == "ipykernel"]
    return [(line, comment) for line, comment in lines if name_in(line) != "ipykernel"]


def convert(
    repository: Repository, rendered: str, found: list[Part], main: Part | None, answers: dict[str, Any]
) -> tuple[str, str]:
    """Return the new pyproject.toml, and the bounds of ipykernel, which is conda's now.

    It is the template's, in its order, with the user's values in it and the user's tools after it.
    """
    document: Any = tomlkit.parse(rendered)
    project, poetry = document["project"], document["tool"]["poetry"]
    template_main = [] if repository.environment is not None else [str(line) for line in project["dependencies"]]
    dependencies = main_dependencies(repository)
    if any(line.startswith("ipykernel") for line in template_main) and not any(
        name_in(line) == "ipykernel" for line, _ in dependencies
    ):
        dependencies.insert(0, (next(line for line in template_main if line.startswith("ipykernel")), ""))
    dev = dev_dependencies(repository, [str(line) for line in document["dependency-groups"]["dev"]])
    bounds: list[str] = []
    if answers["environment"] == "conda-poetry" and answers.get("kernel"):
        dependencies, dev = without_the_kernel(dependencies, bounds), without_the_kernel(dev, bounds)
        if bounds:
            repository.done.append("pyproject.toml: ipykernel is in environment.yml, where the kernel comes from")
    if tools_of_old := [name for name in (name_in(line) for line, _ in [*dependencies, *dev]) if name in GO]:
        repository.left.append(
            f"pyproject.toml: {', '.join(dict.fromkeys(tools_of_old))} made or moved environments before, and the template brings what it "
            "needs: take it out if your code does not use it"
        )
    extras, programs, setup, entries = (
        optional(repository),
        scripts(repository),
        setup_arguments(repository),
        entry_points(repository),
    )

    if said := repository.project.get("name") or repository.poetry.get("name") or setup.get("name"):
        project["name"] = str(said)
    project["version"] = version(repository, main)
    if len(authors := people(repository)) > 1:
        project["authors"] = inline(authors)
    spdx = licence(repository)
    if spdx and spdx not in OFFERED:
        project.pop("classifiers", None)
        project["license"] = spdx
        repository.left.append(
            f"Dockerfile: the label org.opencontainers.image.licenses says Proprietary, and your licence is {spdx}: write it there"
        )
    readme = repository.project.get("readme") or repository.poetry.get("readme")
    if not readme and "README.md" not in repository.tracked:
        readme = next((name for name in repository.tracked if re.fullmatch(r"README\.(rst|txt)", name)), None)
    if isinstance(readme, str) and readme in repository.tracked:
        project["readme"] = readme
    if keepers := people(repository, "maintainers"):
        project["maintainers"] = inline(keepers)
    marks = repository.project.get("classifiers") or repository.poetry.get("classifiers") or setup.get("classifiers") or ()
    # beside a licence expression, classifiers of licences are not allowed (PEP 639); those of Python come from requires-python
    marks = [str(mark) for mark in marks if not str(mark).startswith("License ::")]
    if marks:
        project["classifiers"] = [*marks, *(mark for mark in project.get("classifiers", ()) if mark not in marks)]
    for key in ("keywords",):
        if values := repository.project.get(key) or repository.poetry.get(key) or setup.get(key):
            values = values.replace(",", " ").split() if isinstance(values, str) else values
            project[key] = plain(values)
    project["dependencies"] = array(dependencies)
    del project["scripts"]
    for key, table in (
        ("scripts", programs),
        ("optional-dependencies", {name: array(lines) for name, lines in extras.items()}),
        ("urls", urls(repository)),
        (
            "entry-points",
            {name: table for name, table in entries.items() if not name.endswith("_scripts")}
            | plain(repository.project.get("entry-points", {}))
            | plain(repository.poetry.get("plugins", {})),
        ),
        ("gui-scripts", entries.get("gui_scripts", {}) | plain(repository.project.get("gui-scripts", {}))),
    ):
        if table:
            project[key] = table
    known = {
        "name", "version", "description", "readme", "requires-python", "license", "license-files", "authors", "maintainers", "keywords",
        "classifiers", "urls", "scripts", "gui-scripts", "entry-points", "dependencies", "optional-dependencies", "dynamic",
    }  # fmt: skip
    for key in repository.project.keys() - known:
        repository.left.append(f"pyproject.toml: [project] {key} is not a key of [project], and was left out")
    if "license-files" in repository.project:
        project["license-files"] = plain(repository.project["license-files"])

    document["dependency-groups"]["dev"] = array(dev)
    if found:
        poetry["packages"] = inline([{"include": part.name, "from": "src"} for part in found])
    priorities(repository)
    for key in ("source", "include", "exclude", "build"):
        if key in repository.poetry:
            poetry[key] = relocated(repository, repository.poetry[key], found, f"tool.poetry.{key}", key)
    for key in ("include", "exclude", "build"):
        if key in repository.poetry:
            repository.left.append(
                f"pyproject.toml: [tool.poetry] {key} stays: see whether its paths are right since the code is in src/"
            )
    if more := enriched(repository.poetry.get("dependencies", {})):
        poetry["dependencies"] = more
    tables = [repository.poetry.get("dev-dependencies", {})]
    tables += [group.get("dependencies", {}) for group in repository.poetry.get("group", {}).values()]
    if more := {name: said for table in tables for name, said in enriched(table).items()}:
        if "group" not in poetry:
            poetry["group"] = {}
        poetry["group"]["dev"] = {"dependencies": more}
    if repository.poetry.get("package-mode") is False:
        repository.left.append(
            "pyproject.toml: package-mode = false was taken out: the code in src/ is installed, so that it can be imported"
        )
    for key in sorted(repository.poetry.keys() - KNOWN):
        repository.left.append(f"pyproject.toml: [tool.poetry] {key} was left out: the template's form has no place for it")
    if repository.pyproject:
        repository.done.append("pyproject.toml: the template's form, with your values and your tools' tables in it")
    compiled = [
        str(line) for line in repository.pyproject.get("build-system", {}).get("requires", ()) if not PURE.match(str(line))
    ]
    if compiled:
        repository.left.append(
            f"pyproject.toml: [build-system] asked for {', '.join(compiled)}, and poetry-core builds the project now: what needs a "
            "compiler or another program for it goes into a package of its own"
        )
    tools(repository, document, found)
    return spaced(tomlkit.dumps(document)), next(filter(None, bounds), "")


def tests_of(repository: Repository) -> list[str]:
    """Return the folders that hold tests, where not all of them are in tests/."""
    files = [path for path in repository.tracked if re.search(r"(^|/)(test_[^/]*|[^/]*_test)\.py$", path)]
    folders = {path.rpartition("/")[0] or "." for path in files}
    roots = {"tests" if f"{folder}/".startswith("tests/") else folder for folder in folders}
    roots = {root for root in roots if not any(root != other and f"{root}/".startswith(f"{other}/") for other in roots)}
    return [] if roots == {"tests"} else ["."] if "." in roots else sorted(roots)


def priorities(repository: Repository) -> None:
    """Write the sources' priorities as Poetry 2 has them."""
    for source in repository.poetry.get("source", []):
        old = str(source.get("priority", ""))
        first, second = source.pop("default", None), source.pop("secondary", None)
        if first or old == "default":
            source["priority"] = "primary"
        elif second or old == "secondary":
            source["priority"] = "supplemental"
        if first is not None or second is not None or source.get("priority", "") != old:
            repository.done.append(
                f"pyproject.toml: the source {source.get('name')} is {source.get('priority', 'primary')}, as Poetry 2 calls it"
            )


def relocated(repository: Repository, value: Any, found: list[Part], where: str, key: str) -> Any:
    """Return a tool's setting with the paths of what has moved to src/; what names a folder or a module is left as it is."""
    if isinstance(value, str):
        for part in found:
            path = value.removeprefix("./")
            if part.at != part.goal and (path.startswith(f"{part.at}/") or (path == part.at and key in PATHS)):
                repository.done.append(f"pyproject.toml: [{where}] says {part.goal}{path.removeprefix(part.at)} for {value} now")
                return f"{part.goal}{path.removeprefix(part.at)}"
    elif isinstance(value, dict):
        for name, one in list(value.items()):
            if (new := relocated(repository, one, found, f"{where}.{name}", str(name))) is not one:
                value[name] = new
    elif isinstance(value, list):
        for index, one in enumerate(list(value)):
            if (new := relocated(repository, one, found, where, key)) is not one:
                value[index] = new
    return value


def pytests_own(repository: Repository) -> dict[str, Any]:
    """Return pytest's settings in tox.ini or setup.cfg: pytest reads neither where pyproject.toml has some."""
    if {"pytest.ini", ".pytest.ini"} & set(repository.tracked) or "pytest" in repository.pyproject.get("tool", {}):
        return {}
    for name, section in (("tox.ini", "pytest"), ("setup.cfg", "tool:pytest")):
        config = ini(repository, name)
        if config.has_section(section):
            repository.done.append(
                f"pyproject.toml: [tool.pytest.ini_options] is [{section}] of {name}, which pytest reads no more"
            )
            many = {"testpaths": str.split, "norecursedirs": str.split, "python_files": str.split}
            found: dict[str, Any] = {}
            for key, value in config[section].items():
                lines = [line.strip() for line in value.strip().splitlines()]
                found[key] = many[key](value) if key in many else " ".join(lines) if key == "addopts" else lines
                if len(lines) == 1 and key not in many:
                    found[key] = lines[0]
            return found
    return {}


def tools(repository: Repository, document: Any, found: list[Part]) -> None:
    """Put the user's tables of tools in, in the place of the template's where both have one."""
    if folders := tests_of(repository):
        document["tool"]["pytest"]["ini_options"]["testpaths"] = folders
    if own := pytests_own(repository):
        folders = document["tool"]["pytest"]["ini_options"]["testpaths"]
        document["tool"]["pytest"]["ini_options"] = relocated(
            repository, {"testpaths": folders, **own}, found, "tool.pytest.ini_options", ""
        )
    for name, table in repository.pyproject.get("tool", {}).items():
        if name == "poetry":
            continue
        if name in OTHER_BACKENDS:
            kept = {key: table[key] for key in OTHER_BACKENDS[name] if isinstance(table, dict) and key in table}
            repository.left.append(
                f"pyproject.toml: [tool.{name}] was left out, since Poetry builds the project (git show HEAD:pyproject.toml)"
            )
            if kept:
                document["tool"][name] = kept
            continue
        if name in ("uv", "pdm", "rye") and table.pop("dev-dependencies", None) is not None:
            repository.done.append(f"pyproject.toml: the dev-dependencies of [tool.{name}] are in the group dev")
            if not table:
                continue
        table = relocated(repository, table, found, f"tool.{name}", "")
        ours = document["tool"].get(name)
        if name == "black" and "force-exclude" not in table and ours:
            table["force-exclude"] = ours["force-exclude"]
        if ours is not None:
            repository.done.append(f"pyproject.toml: [tool.{name}] is yours")
        document["tool"][name] = table
    for name in repository.pyproject.keys() - {"project", "tool", "build-system", "dependency-groups"}:
        document[name] = repository.pyproject[name]
