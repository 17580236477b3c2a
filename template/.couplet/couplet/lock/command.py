"""Make the lock files: conda's first, then Poetry's around it.

    rattler solves environment.yml for each platform         -> conda.lock, conda-<platform>.lock
    the Python distributions in those packages become pins   -> pyproject.toml, group `conda`
    Poetry solves pyproject.toml under the pins              -> poetry.lock

Without conda it is the last step alone. Nothing changes version that need not: what the old locks hold is kept, except
for the packages named by --update, or all of them with --all. The new files are written to --out, with a list of files
that have to go (.delete).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

from couplet import network, settings
from couplet.errors import UserError
from couplet.formats import conda_lock
from couplet.formats.conda_lock import Record
from couplet.formats.names import normalise
from couplet.formats.platforms import this_machine
from couplet.lock import poetry, references, stamp
from couplet.lock.changes import Versions, stayed, table_of_changes

REPODATA = Path("/var/cache/conda/repodata")


def check_names(update: set[str], known: set[str], files: str) -> None:
    """Refuse names to update that no lock holds (all normalised)."""
    if unknown := sorted(update - known):
        raise UserError(f"PKG: the locks hold no {', '.join(unknown)}. Add it to {files}, then run `make env-update`.")


def check_python(document: dict[str, Any], locked: Mapping[str, Mapping[str, Record]]) -> None:
    """Refuse a pyproject.toml (its old form too) that does not allow the Python that conda's lock holds."""
    wanted, key = document.get("project", {}).get("requires-python"), "requires-python"
    if not wanted:
        wanted, key = document.get("tool", {}).get("poetry", {}).get("dependencies", {}).get("python"), "python"
    for platform, records in locked.items():
        if "python" not in records:
            raise UserError(
                "environment.yml asks for no Python. Name it (`  - python=3.13`), then run `make env-update`."
            )
        version = records["python"].version
        try:
            if key == "requires-python":
                allowed = SpecifierSet(wanted).contains(version, prereleases=True)
            else:
                from poetry.core.constraints.version import Version, parse_constraint

                allowed = not isinstance(wanted, str) or parse_constraint(wanted).allows(Version.parse(version))
        except ValueError:
            text = f"pyproject.toml: {key} is {wanted}, which is no range of versions (>=3.12,<3.13 is one)."
            raise UserError(text) from None
        if not allowed:
            raise UserError(
                f"environment.yml gives Python {version} ({platform}), and pyproject.toml has {key} = {wanted}.\n"
                "Change one of the two, then run `make env-update`."
            )


def lock_with_conda(
    project: Path, platforms: list[str], update: set[str], everything: bool
) -> tuple[Versions, Versions]:
    """Write pyproject.toml and all locks in `project`; return the (old, new) versions."""
    # Not there without conda.
    from couplet.lock import environment, explain, index, pins, solve
    from couplet.lock.channels import configuration

    here = this_machine()
    if here not in platforms:  # Poetry's metadata comes from an interpreter of this machine's lock
        raise conda_lock.unlocked(here, platforms)
    document = settings.pyproject(project)
    asked = environment.read(project)
    previous = solve.previous(project)
    old = {s: {name: conda_lock.record(r) for name, r in held.items()} for s, held in previous.packages.items()}
    before = versions(old) | poetry.versions(project)
    old_pins = pins.current_pins(document)
    known = {normalise(name) for _, name in before} | {pins.name_of(line) for line in old_pins}
    check_names(update, known, "environment.yml or pyproject.toml")
    update |= pins.condas_names(update, old, document)

    conda_names = {normalise(name) for records in old.values() for name in records}
    if everything or update & conda_names or not fits(project, platforms, previous, document):
        solver = solve.Solver(asked, document, configuration(), REPODATA)
        found = solve.lock_all(solver, platforms, previous, update, everything)
        solve.write(project / "conda.lock", found, solver.channels, document)
    else:
        solve.say("conda: environment.yml is as it was locked")
    locked = conda_lock.records(project / "conda.lock")
    check_python(document, locked)

    with ThreadPoolExecutor() as pool:
        interpreter = pool.submit(pins.make_interpreter, locked[here], here)
        distributions = pins.provided(locked)
        owners = {name: next(iter(where.values()))[1] for name, where in distributions.items()}
        lines = pins.leave_out_unpublished(pins.pins(distributions, platforms), set(old_pins), owners)
        pins.write_pins(project / "pyproject.toml", lines)
        interpreter.result()

    def explained(output: str) -> str:
        if "All attempts to connect" in output:
            index.has_version([("pip", "0")])  # says why, which Poetry does not
        return explain.against_conda(output, document.get("project", {}).get("name", ""), distributions)

    variables = {"CONDA_PREFIX": pins.INTERPRETER, "CONDA_DEFAULT_ENV": "interpreter"}
    poetry.lock(project, update - distributions.keys(), everything, variables, explained)

    tools = [f"{name} {metadata.version(name)}" for name in ("py-rattler", "poetry")]
    now = stamp.current(project, conda=True)
    for platform in platforms:
        body = conda_lock.explicit([record.package for record in locked[platform].values()], platform, tools)
        (project / conda_lock.file_name(platform)).write_text(stamp.stamped(body, now))
    return before, versions(locked) | poetry.versions(project)


def fits(project: Path, platforms: list[str], previous: Any, document: dict[str, Any]) -> bool:
    """Return whether environment.yml, platforms, virtual packages and conda.lock are as the last lock left them."""
    from couplet.lock.solve import virtual_list

    lock = project / conda_lock.file_name(platforms[0])
    if previous.virtual != {platform: virtual_list(document, platform) for platform in platforms} or not lock.is_file():
        return False
    now, then = stamp.current(project, conda=True), stamp.split(stamp.text(lock))[0]
    return all(now.get(name) == then.get(name) for name in ("environment.yml", "conda.lock"))


def versions(locked: Mapping[str, Mapping[str, Record]]) -> Versions:
    """Return {("conda <platform>", name): version} of conda's part of a lock."""
    return {(f"conda {subdir}", name): r.version for subdir, held in locked.items() for name, r in held.items()}


def lock_poetry_alone(project: Path, update: set[str], everything: bool) -> tuple[Versions, Versions]:
    """Write poetry.lock in `project`; return the (old, new) versions."""
    before = poetry.versions(project)
    check_names(update, {name for _, name in before}, "pyproject.toml")
    poetry.lock(project, update, everything, {}, lambda output: "")
    # comments, which Poetry reads over and leaves out
    body = stamp.split(stamp.text(project / "poetry.lock"))[1]
    (project / "poetry.lock").write_text(stamp.stamped(body, stamp.current(project, conda=False)))
    return before, poetry.versions(project)


def to_delete(project: Path, made: list[str]) -> list[str]:
    """Return the names of lock files in `project` that have to go, given those that are made now."""
    stamped = [path.name for path in project.glob("conda-*.lock") if stamp.split(stamp.text(path))[0]]
    old = ["conda-lock.yml"] if (project / "conda-lock.yml").is_file() else []
    return old + sorted(set(stamped) - set(made))


def main(arguments: list[str]) -> None:
    """Make the locks of a project, and print what changed version."""
    parser = argparse.ArgumentParser(prog="couplet lock", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--project", type=Path, required=True, help="a copy of the project's files, which is changed")
    parser.add_argument("--out", type=Path, required=True, help="folder for the new files")
    parser.add_argument("--update", default="", help="names of packages that may change version, conda's or Poetry's")
    parser.add_argument("--all", default="", help="not empty: everything may change version")
    options = parser.parse_args(arguments)
    network.apply()
    project, made = options.project, settings.project(options.project)
    update = {normalise(name) for name in options.update.replace(",", " ").split()}
    references.check(settings.pyproject(project))

    if made.conda:
        platforms = sorted(made.platforms)
        before, after = lock_with_conda(project, platforms, update, bool(options.all))
        names = ["pyproject.toml", "conda.lock", "poetry.lock", *map(conda_lock.file_name, platforms)]
        files = "environment.yml, pyproject.toml"
    else:
        before, after = lock_poetry_alone(project, update, bool(options.all))
        names, files = ["poetry.lock"], "pyproject.toml"

    options.out.mkdir(parents=True, exist_ok=True)
    for name in names:
        (options.out / name).write_bytes((project / name).read_bytes())
    gone = to_delete(project, names) if made.conda else []
    (options.out / ".delete").write_text("".join(f"{name}\n" for name in gone))
    print()
    print(*(table_of_changes(before, after) if before else [f"{len(after)} packages locked"]), sep="\n")
    for name in stayed(update, before, after):
        print(f"{name} stays: nothing newer fits {files} and the other packages")
    if "conda-lock.yml" in gone:
        print("conda-lock.yml is replaced by conda.lock: it is deleted")
