"""Do the locks belong to environment.yml and pyproject.toml? With the standard library alone: the host asks this too.

The head of each conda-<platform>.lock (without conda: of poetry.lock) has a stamp: comments with one SHA-256 for each
file that the locks were made of or consist of. Of pyproject.toml only what a lock depends on counts, as TOML says it:
a new version or description of the project, a comment or another order of tables makes no lock stale.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from couplet import settings
from couplet.errors import UserError
from couplet.formats.conda_lock import file_name, unlocked
from couplet.formats.platforms import this_machine

DECIDE = (
    *("project.requires-python", "project.dependencies", "project.optional-dependencies", "dependency-groups"),
    *(f"tool.poetry.{key}" for key in ("dependencies", "dev-dependencies", "group", "extras", "source")),
    "tool.couplet.virtual-packages",
)
"""The keys of pyproject.toml that decide what is locked."""
STAMP = re.compile(r"^# stamp (\S+) (\S+)\n", re.M)


def text(path: Path) -> str:
    """Return a file's text with Unix line ends and without a byte order mark."""
    return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")


def environment(project: Path) -> str:
    """Return the text of environment.yml. Raises UserError where it is missing or no text."""
    try:
        return text(project / "environment.yml")
    except FileNotFoundError:
        other = (project / "environment.yaml").is_file()
        way = "Rename environment.yaml." if other else "Take it from git again: git checkout HEAD -- environment.yml"
        raise UserError(f"environment.yml is missing. {way}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"environment.yml is no UTF-8 text: {error}") from None


def digest(content: str) -> str:
    """Return the SHA-256 of a text as a stamp has it. Releases before 1.0 wrote it without `sha256:`."""
    return f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"


def _plain(content: str) -> str:
    """Return the text without the lines that are comments or empty, and without blanks at the ends of lines."""
    lines = (line.rstrip() for line in content.splitlines())
    return "".join(f"{line}\n" for line in lines if not re.match(r"\s*(#|$)", line))


def _deciding(document: dict[str, Any]) -> str:
    """Return the keys of a pyproject.toml that decide what is locked, as canonical JSON."""
    found = {}
    for key in DECIDE:
        value: Any = document
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            found[key] = value
    return json.dumps(found, sort_keys=True, ensure_ascii=False, default=str)


def current(project: Path, conda: bool) -> dict[str, str]:
    """Return {file name: digest} of what the locks in `project` should be made of and consist of, where it is there."""
    found = {"pyproject.toml": digest(_deciding(settings.pyproject(project)))}
    if conda:
        found["environment.yml"] = digest(_plain(environment(project)))
        locks = [project / name for name in ("conda.lock", "poetry.lock")]
        found |= {lock.name: digest(text(lock)) for lock in locks if lock.is_file()}
    return found


def split(content: str) -> tuple[dict[str, str], str]:
    """Return (the stamp, {file name: digest}; the lock without it)."""
    return dict(STAMP.findall(content)), STAMP.sub("", content)


def stamped(body: str, stamp: dict[str, str]) -> str:
    """Return a lock with a stamp in its head. conda and Poetry read over it."""
    lines = sorted({**stamp, "this-file": digest(body)}.items())
    return "".join(f"# stamp {name} {value}\n" for name, value in lines) + body


def _merge_markers(path: Path) -> str:
    """Return what to do about merge markers in a file, '' where it has none."""
    # (a line of ======= alone may be a text's)
    if not path.is_file() or not re.search(r"^(<<<<<<< |>>>>>>> )", text(path), re.M):
        return ""
    way = f"Take one side (git checkout --theirs {path.name})"
    if path.name in ("environment.yml", "pyproject.toml"):
        way = "Keep what is right of both sides, take the markers out"
    return f"{path.name} has merge markers. {way}, then run `make env-update`."


def check(project: Path) -> tuple[int, list[str]]:
    """Return (0, []) where the locks fit, (1, what differs), or (2, what is missing) where there are none yet."""
    made = settings.project(project)
    stamped_locks, by_hand = ["poetry.lock"], "was cut short, edited by hand, or written by Poetry alone"
    inputs, locks = ["pyproject.toml"], ["poetry.lock"]
    if made.conda:
        stamped_locks, by_hand = [file_name(platform) for platform in made.platforms], "was cut short or edited by hand"
        inputs, locks = ["environment.yml", "pyproject.toml"], ["conda.lock", "poetry.lock", *stamped_locks]
    # a file of the user's own that has such a name has no stamp
    there = [path for path in sorted(project.glob("conda-*.lock")) if made.conda and split(text(path))[0]]
    others = [path.name for path in there if path.name not in locks]
    if marked := list(filter(None, (_merge_markers(project / name) for name in [*inputs, *locks, *others]))):
        return 1, marked
    stamps = [split(text(path))[0] for path in [*there, project / "poetry.lock"] if path.is_file()]
    if any(not value.startswith("sha256:") for stamp in stamps for value in stamp.values()):
        return 1, ["The locks are of a release before 1.0. Run `make env-update`: it renews them and moves nothing."]
    if missing := [name for name in locks if not (project / name).is_file()]:
        return 2, [f"There is no {' '.join(missing)}: run `make env-update`."]

    unasked = "is of a platform that the project does not lock for. Run `make env-update`: it deletes it."
    stale = [f"{name} {unasked}" for name in others]
    now = current(project, made.conda)
    for name in stamped_locks:
        stamp, body = split(text(project / name))
        if digest(body) != stamp.get("this-file"):
            stale.append(f"{name} {by_hand}. Run `make env-update` to write it anew.")
        stale += [
            f"{file} has changed since {name} was made. Run `make env-update`, and commit what it writes."
            for file, value in now.items()
            if stamp.get(file) != value
        ]
    return int(bool(stale)), stale


def write_plain(project: Path, out: Path) -> None:
    """Write the locks that are installed into `out`, without stamps: a stamp that changes then reinstalls nothing.

    Raises UserError on a machine that none of them is for.
    """
    platforms = settings.project(project).platforms
    if platforms and this_machine() not in platforms:
        raise unlocked(this_machine(), list(platforms))
    out.mkdir(parents=True, exist_ok=True)
    linux = [file_name(platform) for platform in platforms if platform.startswith("linux-")]
    for name in (*linux, "poetry.lock"):
        (out / name).write_text(split(text(project / name))[1])


def main(arguments: list[str]) -> int:
    """Say whether the locks fit. Exit code 0: they do; 1: what differs is said; 2: there are none yet."""
    parser = argparse.ArgumentParser(prog="couplet check", description=__doc__)
    parser.add_argument("--project", type=Path, default=Path())
    parser.add_argument("--out", type=Path, help="folder for the locks without their stamps, where they fit")
    options = parser.parse_args(arguments)
    try:
        code, lines = check(options.project)
    except UnicodeDecodeError as error:
        raise UserError(f"a lock is damaged: {error}. Take it from git again, or run `make env-update`.") from None
    if code:
        print(*lines, sep="\n", file=sys.stderr)
        return code
    print("The locks are up to date.")
    if options.out:
        write_plain(options.project, options.out)
    return code
