"""The template's questions, answered from what a repository says."""

from __future__ import annotations

import contextlib
import re
from typing import Any

from packaging.licenses import canonicalize_license_expression
from poetry.core.constraints.version import Version, parse_constraint

from .layout import Part, setup_arguments
from .state import Refused, Repository

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = ("linux-64", "linux-aarch64", "osx-arm64")
TAKEN = re.compile(r"src|test|tests|docker|data|code|notebooks")
LICENCES = {
    "Apache-2.0": r"Apache License\s+Version 2\.0",
    "MIT": r"Permission is hereby granted, free of charge",
    "BSD-3-Clause": r"Redistribution and use in source(?s:.*)Neither the name",
    "GPL-3.0-or-later": r"GNU GENERAL PUBLIC LICENSE\s+Version 3",
}
SPELT = {
    "apache": "Apache-2.0", "apache 2.0": "Apache-2.0", "apache license 2.0": "Apache-2.0", "apache-2.0": "Apache-2.0",
    "mit": "MIT", "mit license": "MIT", "bsd-3-clause": "BSD-3-Clause", "proprietary": "Proprietary",
}  # fmt: skip
OFFERED = ("MIT", "BSD-3-Clause", "Apache-2.0", "Proprietary")
AUTHOR = {"name": "author", "email": "author_email"}
KERNELS = {"ipykernel", "jupyter", "jupyterlab", "notebook"}


def conda_names(repository: Repository) -> dict[str, str]:
    """Return {name: entry} of the dependencies in environment.yml, without the section pip."""
    listed = (repository.environment or {}).get("dependencies") or []
    return {
        re.split(r"[\s=<>!~\[]", entry.split("::")[-1].strip())[0].lower(): entry for entry in listed if isinstance(entry, str)
    }


def people(repository: Repository, key: str = "authors") -> list[dict[str, str]]:
    """Return the authors (or maintainers), each with a name, and an e-mail address where one is given."""
    found = []
    for person in repository.project.get(key) or repository.poetry.get(key) or ():
        if isinstance(person, str):
            name, _, email = person.partition("<")
            person = {"name": name.strip(), "email": email.rstrip("> ").strip()}
        found.append({word: str(person[word]) for word in ("name", "email") if person.get(word)})
    return found


def said_licence(repository: Repository) -> str:
    """Return the licence as the repository has it, '' where it names none."""
    said = repository.project.get("license") or repository.poetry.get("license") or setup_arguments(repository).get("license")
    return str((said.get("text") if isinstance(said, dict) else said) or "").strip()


def licence(repository: Repository) -> str:
    """Return the licence as an SPDX expression: from pyproject.toml, its classifiers, setup.py or the file; '' where none says it."""
    setup = setup_arguments(repository)
    said = said_licence(repository)
    if said and len(said) < 80:
        with contextlib.suppress(ValueError):
            return str(SPELT.get(said.lower()) or canonicalize_license_expression(said))
    for mark in repository.project.get("classifiers") or repository.poetry.get("classifiers") or setup.get("classifiers") or ():
        if known := {"Apache Software License": "Apache-2.0", "MIT License": "MIT"}.get(str(mark).split(" :: ")[-1]):
            return known
    text = "".join(repository.text(name) for name in repository.tracked if re.fullmatch(r"(LICEN[CS]E|COPYING)[^/]*", name))
    return next((name for name, pattern in LICENCES.items() if re.search(pattern, text)), "")


def python(repository: Repository) -> str:
    """Return the Python to take: conda's pin, or else the lowest that pyproject.toml allows; the nearest that the template has."""
    pinned = re.search(r"3\.(\d+)", conda_names(repository).get("python", ""))
    said = repository.project.get("requires-python") or repository.poetry.get("dependencies", {}).get("python")
    said = str(said or setup_arguments(repository).get("python_requires") or "")
    if pinned:
        where, minor = repository.environment_file, int(pinned[1])
    elif said:
        try:
            allowed = [number for number in range(6, 30) if parse_constraint(said).allows(Version.parse(f"3.{number}.99"))]
        except ValueError as error:
            raise Refused(f"{repository.path}/pyproject.toml: python: {error}") from None
        within = [number for number in allowed if f"3.{number}" in PYTHONS]
        where = "pyproject.toml" if repository.pyproject else "setup.py"
        # a patch version alone (3.7.11) allows none of the numbers above
        named = re.search(r"\b3\.(\d+)", said)
        minor = (within or allowed or [int(named[1]) if named else 11])[0]
    else:
        return "3.13"
    nearest = min(max(minor, 11), 14)
    if nearest != minor:
        why = "the template begins there" if minor < 11 else "the template has no newer one yet"
        repository.left.append(
            f"{where}: Python 3.{minor} became 3.{nearest} ({why}). Bounds of versions that have no wheel for it must be raised: "
            "`make env-update` names them"
        )
    return f"3.{nearest}"


def package(name: str) -> str:
    """Return a name as the template takes it for a package and an environment."""
    words = re.sub(r"[^a-z0-9]+", "_", name.lower().removesuffix(".py")).strip("_") or "project"
    words = f"project_{words}" if words[0].isdigit() else words
    return f"{words}_project" if TAKEN.fullmatch(words) else words


def platforms(repository: Repository) -> list[str]:
    """Return the platforms that the repository was locked for and the template knows."""
    said = list((repository.environment or {}).get("platforms") or [])
    said += [m[1] for path in repository.tracked if (m := re.fullmatch(r"conda-((?:linux|osx|win)-\w+)\.lock", path))]
    for other in sorted(set(said) - set(PLATFORMS)):
        repository.left.append(
            f"{repository.environment_file}: no lock is made for {other} any more; the template has {', '.join(PLATFORMS)}"
        )
    kept = [name for name in PLATFORMS if name in said]
    return kept if any(name.startswith("linux") for name in kept) else ["linux-64", *kept]


def derive(repository: Repository, main: Part | None) -> dict[str, Any]:
    """Return answers to the template's questions, of those alone that the repository says something about."""
    setup = setup_arguments(repository)
    name = str(
        repository.project.get("name") or repository.poetry.get("name") or setup.get("name") or repository.path.resolve().name
    )
    conda = conda_names(repository)
    files = "".join(repository.text(file) for file in ("Dockerfile", "postBuild"))
    tools = repository.pyproject.get("tool", {})
    with_conda = repository.environment is not None or bool(repository.others or {"pixi", "conda-lock"} & set(tools))
    with_conda = with_conda or bool(re.search(r"\b(conda|mamba|micromamba|miniforge)\b", files))
    authors = people(repository) or [{word: str(setup[key]) for word, key in AUTHOR.items() if setup.get(key)}]
    found: dict[str, Any] = {
        "project_name": re.sub(r"[-_.]+", " ", name).strip().title() if re.fullmatch(r"[a-z0-9._-]+", name) else name,
        "package_name": package(main.name.split("/")[0] if main else name),
        "python_version": python(repository),
        "environment": "conda-poetry" if with_conda else "poetry",
    }
    if described := repository.project.get("description") or repository.poetry.get("description") or setup.get("description"):
        found["project_description"] = " ".join(str(described).split())
    if authors[0].get("name"):
        found["author_name"] = authors[0]["name"]
    if authors[0].get("email"):
        found["author_email"] = authors[0]["email"]
    spdx = licence(repository)
    if spdx:
        found["license"] = spdx if spdx in OFFERED else "Proprietary"
    else:
        said = said_licence(repository)
        why = f"`{said}` is not an SPDX licence" if said else "no licence was found"
        repository.left.append(
            f'pyproject.toml: {why}, so it says `Private :: Do Not Upload`: write `license = "…"` if there is one'
        )
    everything = set(conda) | declared(repository)
    found["kernel"] = bool(everything & KERNELS) or any(path.endswith(".ipynb") for path in repository.tracked)
    if "saturncloud" in files and with_conda:
        found["hosting"] = "saturn"
    remote = repository.git("remote", "get-url", "origin", check=False)
    gitlab = ".gitlab-ci.yml" in repository.tracked or "gitlab" in remote
    github = any(path.startswith(".github/") for path in repository.tracked) or "github" in remote
    found["ci"] = "gitlab" if gitlab else "github" if github else "none"
    if with_conda:
        found["platforms"] = platforms(repository)
        if gpu := sorted(set(conda) & {"cudatoolkit", "pytorch-cuda", "cuda-version", "cuda-toolkit", "cudnn"}):
            repository.left.append(
                f"{repository.environment_file}: {', '.join(gpu)} is for GPUs: adopt with --data accelerator=cuda, or take it out"
            )
    return found


def declared(repository: Repository) -> set[str]:
    """Return the names of what pyproject.toml and the section pip declare, in any group."""
    tables = [repository.poetry.get("dependencies", {}), repository.poetry.get("dev-dependencies", {})]
    tables += [group.get("dependencies", {}) for group in repository.poetry.get("group", {}).values()]
    listed = list(repository.project.get("dependencies", ()))
    for group in repository.pyproject.get("dependency-groups", {}).values():
        listed += [line for line in group if isinstance(line, str)]
    for entry in (repository.environment or {}).get("dependencies") or ():
        listed += entry.get("pip") or [] if isinstance(entry, dict) else []
    return {name.lower() for table in tables for name in table} | {re.split(r"[^\w.-]", str(line))[0].lower() for line in listed}
