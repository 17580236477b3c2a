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
from couplet.formats.conda_lock import file_name, not_locked_error
from couplet.formats.platforms import this_machine

DECIDE = (
    *("project.requires-python", "project.dependencies", "project.optional-dependencies", "dependency-groups"),
    *(f"tool.poetry.{key}" for key in ("dependencies", "dev-dependencies", "group", "extras", "source")),
    *("tool.couplet.virtual-packages", "tool.couplet.link-scripts"),
)
"""The keys of pyproject.toml that decide what is locked."""
ENVIRONMENT, DEV = "environment.yml", "environment.dev.yml"
STAMP = re.compile(r"^# stamp (\S+) (\S+)\n", re.M)


def text(path: Path) -> str:
    """Return a file's text with Unix line ends and without a byte order mark. Raises UserError for what is no text."""
    try:
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        way = f"Take it from git again: git checkout HEAD -- {path.name}"
        raise UserError(f"{path.name} is not UTF-8 text: {error}. {way}") from None


def environment(project: Path, name: str = ENVIRONMENT) -> str:
    """Return the text of environment.yml (or of environment.dev.yml). Raises UserError where it is missing or no text."""
    try:
        return text(project / name)
    except FileNotFoundError:
        way = "Take it from git again: git checkout HEAD -- environment.yml"
        if (project / "environment.yaml").is_file():
            way = "Rename yours: git mv environment.yaml environment.yml"
        raise UserError(f"environment.yml is missing. {way}") from None


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


def _environments(project: Path) -> list[str]:
    """Return the names of conda's environment files: that for dev alone where it is there."""
    return [ENVIRONMENT, DEV] if (project / DEV).is_file() else [ENVIRONMENT]


def explicit_locks(project: Path, platforms: list[str]) -> list[str]:
    """Return the names of conda's explicit locks that a project has to have: for both images where dev has its own."""
    kinds = (False, True) if (project / DEV).is_file() else (False,)
    return [file_name(platform, dev) for dev in kinds for platform in platforms]


def current(project: Path, conda: bool) -> dict[str, str]:
    """Return {file name: digest} of what the locks in `project` should be made of and consist of, where it is there."""
    found = {"pyproject.toml": digest(_deciding(settings.pyproject(project)))}
    if conda:
        found |= {name: digest(_plain(environment(project, name))) for name in _environments(project)}
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
    if path.name in (ENVIRONMENT, DEV, "pyproject.toml"):
        way = "Keep what is right of both sides, take the markers out"
    return f"{path.name} has merge markers. {way}, then run `make env-update`."


def check(project: Path) -> tuple[int, list[str]]:
    """Return (0, []) where the locks fit, (1, what differs), or (2, what is missing) where there are none yet."""
    made = settings.project(project)
    stamped_locks, by_hand = ["poetry.lock"], "was cut short, edited by hand, or written by Poetry alone"
    inputs, locks = ["pyproject.toml"], ["poetry.lock"]
    if made.conda:
        inputs = [*_environments(project), "pyproject.toml"]
        stamped_locks = explicit_locks(project, made.platforms)
        locks, by_hand = ["conda.lock", "poetry.lock", *stamped_locks], "was cut short or edited by hand"
    # a file of the user's own that has such a name has no stamp
    there = [path for path in sorted(project.glob("conda-*.lock")) if made.conda and split(text(path))[0]]
    others = [path.name for path in there if path.name not in locks]
    if marked := list(filter(None, (_merge_markers(project / name) for name in [*inputs, *locks, *others]))):
        return 1, marked
    stamps = [split(text(path))[0] for path in [*there, project / "poetry.lock"] if path.is_file()]
    if any(not value.startswith("sha256:") for stamp in stamps for value in stamp.values()):
        return 1, ["The locks are of a release before 1.0. Run `make env-update`: it renews them and changes no version."]
    if missing := [name for name in locks if not (project / name).is_file()]:
        return 2, [f"There is no {' '.join(missing)}: run `make env-update`."]

    given_up, gone = "the project does not lock for its platform", f"there is no {DEV}"
    stale = [
        f"{name} is not needed: {gone if DEV not in inputs and name.startswith('conda-dev-') else given_up}. "
        "Run `make env-update`, which deletes it."
        for name in others
    ]
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
        raise not_locked_error(this_machine(), list(platforms))
    out.mkdir(parents=True, exist_ok=True)
    linux = [platform for platform in platforms if platform.startswith("linux-")]
    for name in (*map(file_name, linux), "poetry.lock"):
        (out / name).write_text(split(text(project / name))[1])
    for image, groups in settings.groups(settings.pyproject(project)).items():
        if groups != [image]:
            (out / f"groups-{image}.txt").write_text("".join(f"{group}\n" for group in groups))
    if platforms and (project / DEV).is_file():
        # in a folder of its own, so that runtime's stages do not see it change
        (out / "dev").mkdir(exist_ok=True)
        for platform in linux:
            (out / "dev" / file_name(platform)).write_text(split(text(project / file_name(platform, dev=True)))[1])


def main(arguments: list[str]) -> int:
    """Say whether the locks fit. Exit code 0: they do; 1: what differs is said; 2: there are none yet."""
    parser = argparse.ArgumentParser(prog="couplet check", description=__doc__)
    parser.add_argument("--project", type=Path, default=Path())
    parser.add_argument("--out", type=Path, help="folder for the locks without their stamps, where they fit")
    options = parser.parse_args(arguments)
    code, lines = check(options.project)
    if code:
        print(*lines, sep="\n", file=sys.stderr)
        return code
    print("The locks are up to date.")
    if options.out:
        write_plain(options.project, options.out)
    return code
