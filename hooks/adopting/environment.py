"""environment.yml: conda's half stays there, what pip installed becomes Poetry's, and the old tools go."""

from __future__ import annotations

import io
import re
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from ruamel.yaml import YAML
from ruamel.yaml.tokens import CommentToken

from .state import Repository

UNREAD = "{}: what it lists is in pyproject.toml now, and nothing reads it any more: git rm it"
GO = {
    "mamba", "micromamba", "conda", "conda-lock", "conda-libmamba-solver", "conda-pack", "poetry", "poetry-plugin-export", "yq",
    "pip-tools", "libmamba", "libmambapy",
}  # fmt: skip
"""What made or moved environments before, and what the template brings by itself or does without."""


def name_of(entry: str) -> str:
    """Return the package's name of an entry of environment.yml."""
    return re.split(r"[\s=<>!~\[]", entry.split("::")[-1].strip())[0].lower()


def requirements(repository: Repository, lines: list[str], where: str) -> list[tuple[str, str]]:
    """Return pip's lines as (requirement, comment), with those of the files that -r names; list those that are none."""
    found: list[tuple[str, str]] = []
    for line in lines:
        plain, _, comment = f" {line}".partition(" #")
        plain = plain.strip()
        file = re.fullmatch(r"(?:-r|--requirement)[\s=]*(\S+)", plain)
        if not plain or re.fullmatch(r"((-e|--editable)\s*)?\./?", plain):
            continue  # the project itself is installed anyway
        if file and file[1] in repository.tracked and file[1] != where:
            found += requirements(repository, repository.text(file[1]).splitlines(), file[1])
            repository.left.append(UNREAD.format(file[1]))
            continue
        try:
            Requirement(plain)
            found.append((plain, comment.strip()))
        except InvalidRequirement:
            repository.left.append(
                f"{where}: `{plain}` is not a requirement that Poetry can lock, and was left out: add it to pyproject.toml by hand"
            )
    return found


def pip_lines(repository: Repository) -> list[tuple[str, str]]:
    """Return the requirements of the section pip, with their comments."""
    lines: list[str] = []
    for entry in (repository.environment or {}).get("dependencies") or ():
        section: Any = entry.get("pip") if isinstance(entry, dict) else None
        for index, line in enumerate([section] if isinstance(section, str) else section or ()):
            notes = None if isinstance(section, str) else section.ca.items.get(index)
            lines.append(f"{line} {notes[0].value.splitlines()[0] if notes and notes[0] else ''}")
    return requirements(repository, lines, repository.environment_file)


def drop(listed: Any, index: int) -> None:
    """Delete an entry of a list with what stands behind it in its line; a comment in the lines below it stays where it was."""
    notes = listed.ca.items.pop(index, None)
    below = notes[0].value.partition("\n")[2] if notes and notes[0] else ""
    if below.strip() and index:
        before = listed.ca.items.get(index - 1)
        if before and before[0]:
            before[0].value += below
        else:
            listed.ca.items[index - 1] = [CommentToken(f"\n{below}", notes[0].start_mark), None, None, None]
    del listed[index]


def convert(repository: Repository, answers: dict[str, Any], kernel: str) -> str:
    """Return the new environment.yml: the user's, with the template's head, and with what Python, pip and the kernel need.

    Comments and the order of the entries stay. `kernel` are the bounds that ipykernel had in pyproject.toml.
    """
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.preserve_quotes = True
    yaml.width = 4096
    document: Any = repository.environment if repository.environment is not None else yaml.load("name: x\ndependencies: []\n")
    where = repository.environment_file or "environment.yml"
    document["name"] = answers["package_name"]
    channels = list(document.get("channels") or ["conda-forge"])
    if "channels" not in document:
        document.insert(1, "channels", channels)
    if not {"defaults", "nodefaults"} & set(channels):
        document["channels"] = [*channels, "nodefaults"]
    listed: Any = document["dependencies"]
    if not listed and listed is not None:
        listed.fa.set_block_style()
    if listed is None:
        listed = document["dependencies"] = yaml.load("[]")
    for key in ("prefix", "platforms"):
        if document.pop(key, None) is not None:
            repository.done.append(
                f"{where}: `{key}` taken out{' (an answer of the template now)' if key == 'platforms' else ''}"
            )
    gone = [entry for entry in listed if isinstance(entry, str) and name_of(entry) in GO]
    wanted = f"python={answers['python_version']}"
    for index in reversed(range(len(listed))):
        entry = listed[index]
        if isinstance(entry, dict) and "pip" in entry:
            repository.done.append(f"{where}: what stood under pip: is in pyproject.toml")
            drop(listed, index)
        elif not isinstance(entry, str):
            continue  # locking refuses it, with its line
        elif entry in gone:
            drop(listed, index)
        elif name_of(entry) == "python":
            # 3.11.4 stays 3.11.4; what the template cannot have becomes what it has
            listed[index] = entry if re.match(rf"{re.escape(wanted)}(\.|$)", re.sub(r"\s|=(?==)", "", entry)) else wanted
    if gone:
        repository.done.append(f"{where}: {', '.join(gone)} taken out: the template brings what it needs")
    texts = [entry for entry in listed if isinstance(entry, str)]
    names = [name_of(entry) for entry in texts]
    needed = [("python", wanted), ("pip", "pip")] + ([("ipykernel", f"ipykernel{kernel}")] if answers.get("kernel") else [])
    for name, entry in needed:
        if name not in names:
            # not between an entry and the comment below it, which belongs to the next
            listed.insert(0 if name == "python" or 0 in listed.ca.items else 1, entry)
            if repository.environment_file:
                repository.done.append(f"{where}: {entry} added{', for the kernel' if name == 'ipykernel' else ''}")
    built = [entry for entry in texts if re.fullmatch(r"[^=<>[]+=[^=]+=[^=]+", entry) and "*" not in entry]
    if built:
        repository.left.append(
            f"{where}: {len(built)} entries name a build ({built[0]}), which conda may no longer have: keep only the names and the version bounds that you need"
        )
    out = io.StringIO()
    yaml.dump(document, out)
    return out.getvalue()
