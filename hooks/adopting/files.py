"""All other files: what is the template's comes in, what is the user's stays, and of two of one name the user's goes aside."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from .layout import COMPUTED, Part, ini, setup_words
from .state import ASIDE, Repository

EXAMPLE = ("src/", "tests/", "notebooks/")
"""What the template brings here is its example; a repository with code of its own needs none."""
UNION = (".gitignore", ".gitattributes")
LOCKS = re.compile(r"poetry\.lock|conda-lock\.yml|conda[^/]*\.lock|[^/]*\.conda\.lock")
STALE = re.compile(
    r"\b(conda|mamba|micromamba|conda-lock) (env |create|install|activate|update|-)|\bconda-lock\b|\bpoetry (install|shell|run|add|lock)\b"
    r"|\bpip install\b|\bdocker (build|run)\b|\bsource activate\b|\bsetup\.py\b"
)
OWN = re.compile(
    r"^\s*(RUN\b.*\b(?:install|npm|yarn|curl|wget|git clone|useradd|adduser)\b.*|(?:ENV|ENTRYPOINT|CMD|EXPOSE|VOLUME|HEALTHCHECK|USER|LABEL) .*"
    r"|(?:COPY|ADD) .*)$",
    re.M | re.I,
)
NOT_OWN = re.compile(
    r"(COPY|ADD) .*(--from=|\b(environment|requirements|pyproject|poetry|conda)[\w.-]*\.(ya?ml|txt|toml|lock)|entrypoint\.sh)",
    re.I,
)
"""What COPY and ADD bring that the template's Dockerfile brings too."""
CONVERTED = {
    "name", "version", "description", "author", "author_email", "license", "url", "install_requires", "extras_require", "entry_points",
    "python_requires", "py_modules", "classifiers", "keywords",
}  # fmt: skip
"""Words of setup() that have become some of pyproject.toml, where they are plain values."""
MEANINGLESS = {
    "packages", "package_dir", "package_data", "include_package_data", "zip_safe", "long_description", "long_description_content_type",
    "setup_requires", "tests_require", "platforms", "license_files", "license_file", "test_suite", "download_url", "project_urls",
}  # fmt: skip
"""Words of setup() that say what the new layout says by itself, or nothing."""
BUILT = ("Dockerfile", "Dockerfile.saturn", "compose.yaml", "compose.gpu.yaml")
"""The template's own of the files that build or run images."""
MAKEFILES = ("Makefile", "makefile", "GNUmakefile")
TARGET = re.compile(r"^([A-Za-z0-9][\w.-]*)\s*:(?!=)", re.M)


def rendered_files(rendered: Path) -> list[str]:
    """Return the paths of what the template rendered."""
    return sorted(str(path.relative_to(rendered)) for path in rendered.rglob("*") if path.is_file())


def in_the_way(repository: Repository, rendered: Path) -> list[str]:
    """Return files of the user's that git does not know and the template would write over."""
    tracked = set(repository.tracked)
    names = [name for name in rendered_files(rendered) if not name.startswith(EXAMPLE)]
    return [name for name in names if name not in tracked and (repository.path / name).exists()]


def advice(repository: Repository, name: str, template: str) -> str:
    """Return what of a file that went aside has to be carried over."""
    theirs = repository.text(f"{ASIDE}/{name}")
    if name in MAKEFILES:
        have = set(TARGET.findall(template))
        more = [target for target in dict.fromkeys(TARGET.findall(theirs)) if target not in have]
        return (
            f"add your targets {', '.join(more)} at its end"
            if more
            else "the template has targets with all of these names: check that they do the same"
        )
    if name == "Dockerfile":
        lines = [" ".join(line.split()) for line in OWN.findall(theirs.replace("\\\n", " ")) if not NOT_OWN.match(line.strip())]
        lines = [line if len(line) < 90 else line[:87] + "..." for line in lines]
        what = f" ({'; '.join(lines)})" if lines else ""
        return f"what your image has of its own{what} goes into the stages runtime and dev, after their FROM lines"
    if name == "entrypoint.sh":
        return "the new file activates the environment; put your other commands before `exec`"
    if name == ".pre-commit-config.yaml":
        return "add your hooks"
    if name.startswith((".github/", ".gitlab")):
        return "CI runs the template's; add your jobs"
    if name == ".dockerignore":
        return "the new file excludes all that it does not list: add a line `!path` for each path that your Dockerfile copies"
    return "copy what you need of yours into it"


def main_program(repository: Repository, main: Part | None, programs: list[str], package: str) -> list[str] | None:
    """Return the image's command where it is not the template's `python -m PACKAGE`."""
    if main and (repository.path / main.goal / "__main__.py").is_file():
        module = main.name.replace("/", ".")
        return None if module == package else ["python", "-m", module]
    if programs:
        return [programs[0]]
    repository.left.append(
        "Dockerfile: no program was found (no __main__.py, no [project.scripts]), so CMD is python: write the command of yours"
    )
    return ["python"]


def bring(
    repository: Repository,
    rendered: Path,
    written: dict[str, str],
    answers: dict[str, Any],
    main: Part | None,
    programs: list[str],
) -> None:
    """Write the template's files, with `written` in the place of those that were put together, and stage everything."""
    package = answers["package_name"]
    tracked = set(repository.tracked)
    new: list[str] = []
    for name in [path for path in repository.tracked if LOCKS.fullmatch(path)]:
        repository.git("rm", "--quiet", name)
        repository.done.append(f"{name}: deleted, because it does not record what it was made from (git show HEAD:{name})")
    command = main_program(repository, main, programs, package)
    for name in sorted(tracked & {*MAKEFILES} - {"Makefile"}):
        # make would read it in the place of the template's
        repository.move(name, f"{ASIDE}/{name}")
        what = advice(repository, name, (rendered / "Makefile").read_text())
        repository.left.append(f"{name}: Makefile takes its place; yours is {ASIDE}/{name}: {what}, then git rm it")
    quiet = set(repository.git("ls-files", "-z", "--cached", "--ignored", "--exclude-standard").split("\0"))
    for name in rendered_files(rendered):
        if name.startswith(EXAMPLE) and (main or name != f"src/{package}/__init__.py"):
            continue
        text = (rendered / name).read_text()
        if command and name in ("Dockerfile", "Makefile", "README.md", "AGENTS.md"):
            text = text.replace(f'CMD ["python", "-m", "{package}"]', f"CMD {json.dumps(command)}")
            text = text.replace(f"python -m {package}", " ".join(command))
        if name.startswith("src/"):
            text = f'"""{answers["project_name"]}."""\n'.replace("\\", "")
        if name in written:
            repository.write(name, written[name])
        elif name in UNION and name in tracked:
            lines = repository.text(name).splitlines()
            more = [line for line in text.splitlines() if line and line not in lines]
            repository.append(name, "\n".join(["", *more]) + "\n")
            repository.done.append(f"{name}: yours, and the template's lines after them")
        elif name == "README.md" and name in tracked:
            repository.append(name, "\n" + text[text.index("## Start") :])
            repository.done.append("README.md: yours, and the template's sections after it")
        elif name == ".editorconfig" and name in tracked:
            repository.done.append(".editorconfig: yours")
            continue
        elif name in tracked:
            same = repository.text(name) == text
            if not same:
                repository.move(name, f"{ASIDE}/{name}")
                what = advice(repository, name, text)
                repository.left.append(f"{name}: the template's; yours is {ASIDE}/{name}: {what}, then git rm it")
            repository.write(name, text)
        else:
            repository.write(name, text)
        if name not in written:
            shutil.copymode(rendered / name, repository.path / name)
        new.append(name)
    if not any(re.search(r"(^|/)(test_[^/]*|[^/]*_test)\.py$", path) for path in tracked):
        module = (main.name.removesuffix(".py") if main else package).replace("/", ".")
        repository.write(
            "tests/test_import.py",
            f'"""The package can be imported. A place to begin."""\n\n\ndef test_import():\n    import {module}  # noqa: F401\n',
        )
        repository.done.append(f"tests/test_import.py: new, so that make test has a test: it imports {module}")
        new.append("tests/test_import.py")
    repository.git("add", "--update")
    repository.git("add", "--force", "--", *new)
    for pattern, names in matched(repository, new).items():
        repository.left.append(f"{pattern}: matches {some(names)} of the template, added by force now: make the line narrower")
    locks = ["poetry.lock", "conda.lock", "conda-linux-64.lock"][: 3 if answers["environment"] == "conda-poetry" else 1]
    for pattern, names in matched(repository, locks).items():
        repository.left.append(
            f"{pattern}: matches {some(names)}, which belongs into git: take the line out, or make it narrower"
        )
    if not main:
        outside(repository, package)
    shadowed(repository, {*quiet, *new})
    look(repository, "renovate.json" in new)


def outside(repository: Repository, package: str) -> None:
    """List the code that is in no package, so that it stays where no image has it."""
    beside = (f"{ASIDE}/", "src/", "tests/", "docs/", "setup.py", "noxfile.py")
    stay = [name for name in repository.tracked if name.endswith(".py") and not name.startswith(beside)]
    if stay:
        others = f" and {len(stay) - 3} more" if stay[3:] else ""
        repository.left.append(
            f"src/{package}: new and empty, since no package was found (a folder with __init__.py). {', '.join(stay[:3])}{others} "
            "stay where they are, where the image does not have them: git mv what it needs into it"
        )


def shadowed(repository: Repository, before: set[str]) -> None:
    """List tracked files, but for `before`, that git would not know if they were new: the template's lines of .gitignore match them."""
    now = set(repository.git("ls-files", "-z", "--cached", "--ignored", "--exclude-standard").split("\0")) - before
    for pattern, names in matched(repository, [name for name in now if not name.startswith(f"{ASIDE}/")]).items():
        repository.left.append(
            f".gitignore: the template's line `{pattern.split(':', 2)[2]}` matches {some(names)} of yours, so that git would not see "
            "a new one: take the line out, or the files out of git"
        )


def matched(repository: Repository, names: list[str]) -> dict[str, list[str]]:
    """Return {FILE:LINE:PATTERN of .gitignore: the names that it matches}, whether git knows them or not."""
    found: dict[str, list[str]] = {}
    for line in (
        repository.git("check-ignore", "--verbose", "--no-index", "--", *sorted(names), check=False).splitlines() if names else ()
    ):
        pattern, name = line.split("\t")
        if not pattern.split(":", 2)[2].startswith("!"):
            found.setdefault(pattern, []).append(name)
    return found


def some(names: list[str]) -> str:
    """Return the first of some names, and how many more there are."""
    return f"{names[0]} and {len(names) - 1} more" if names[1:] else names[0]


def setup_file(repository: Repository, name: str) -> str:
    """Return what has to be done about setup.py or setup.cfg."""
    words = setup_words(repository).items()
    rest = sorted(
        word for word, value in words if word not in {*MEANINGLESS, "version"} and (value is COMPUTED or word not in CONVERTED)
    )
    what = (
        f"pyproject.toml takes its place, but has nothing of {', '.join(rest)}: add what you need of it"
        if rest
        else "pyproject.toml takes its place"
    )
    if name == "setup.py":
        return f"{what}, then git rm it"
    sections = [
        one for one in ini(repository, name).sections() if one.split(".")[0] not in ("metadata", "options", "tool:pytest")
    ]
    others = f"take out [metadata] and [options]; other programs read [{'], ['.join(sections)}]" if sections else "git rm it"
    return f"{what}, then {others}"


def look(repository: Repository, renovate: bool) -> None:
    """List what stays as it is and may speak of the old ways. `renovate`: whether the template's renovate.json has come in."""
    told = {line.split(":")[0] for line in repository.left}
    for name in repository.tracked:
        if name.startswith(f"{ASIDE}/"):
            continue
        theirs = repository.text(name) if re.search(r"\.(ya?ml|md|rst|py|cfg|json|sh|txt|toml|ini)$|Dockerfile", name) else ""
        base = name.rpartition("/")[2]
        if name in ("setup.py", "setup.cfg"):
            repository.left.append(f"{name}: {setup_file(repository, name)}")
        elif name == "MANIFEST.in" or re.match(r"virtual-packages\.ya?ml$", name):
            repository.left.append(f"{name}: nothing reads it any more: git rm it")
        elif name in repository.others:
            repository.left.append(
                f"{name}: nothing reads it. What the image needs goes into environment.yml, what work in it needs into environment.dev.yml"
            )
        elif re.match(r"(uv|pdm|pixi|Pipfile)\.lock$", base):
            repository.left.append(f"{name}: poetry.lock takes its place: git rm it")
        elif (
            re.match(r"(dev[-_])?(requirements|constraints)[\w.-]*\.(txt|in)$|(Pipfile|pixi\.toml)$", base)
            or "requirements/" in name
        ):
            if name not in told:
                repository.left.append(
                    f"{name}: nothing reads it, and it is in no lock: what is missing goes into pyproject.toml"
                )
        elif re.match(r"README|docs/|CONTRIBUTING", name):
            before = repository.git("show", f"HEAD:{name}", check=False).splitlines()
            for number, line in enumerate(before, 1):
                if STALE.search(line):
                    repository.left.append(f"{name}:{number}: check whether this line is still right: {line.strip()[:90]}")
            if (
                "/" not in name
                and name.startswith("README.")
                and name != "README.md"
                and "README.md" not in before_it(repository)
            ):
                repository.left.append(f"README.md: the template's, beside your {name}: keep one of them")
        elif name.startswith(".github/workflows/") and not (name.endswith(("/ci.yml", "/audit.yml"))):
            if re.search(r"\b(conda|mamba|micromamba|poetry|pip install|tox|setup\.py|docker build)\b", theirs):
                repository.left.append(f"{name}: it installs packages itself: make it run make (as ci.yml does), or git rm it")
        elif name in ("tox.ini", "noxfile.py", "Procfile", "apt.txt") or re.match(
            r"\.(readthedocs|travis|appveyor)\.ya?ml$", name
        ):
            repository.left.append(f"{name}: what it installs is in no lock: make it run make, or git rm it")
        elif renovate and re.match(r"\.github/(dependabot\.ya?ml|renovate\.json5?)$|\.renovaterc|renovate\.json5$", name):
            repository.left.append(f"{name}: renovate.json came in beside it: keep one of them")
        elif name not in BUILT and re.search(
            r"^\.devcontainer/|(^|/)(Dockerfile[^/]*|[^/]*\.Dockerfile|(docker-)?compose[^/]*\.ya?ml)$", name
        ):
            repository.left.append(f"{name}: builds beside the template's Dockerfile: see whether it is still needed")


def before_it(repository: Repository) -> list[str]:
    """Return the files at the top of the last commit."""
    return repository.git("ls-tree", "--name-only", "HEAD").splitlines()
