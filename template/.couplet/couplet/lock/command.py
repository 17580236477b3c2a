"""Make the lock files: conda's first, then Poetry's around it.

    rattler solves environment.yml for each platform         -> conda.lock, conda-<platform>.lock
      (with environment.dev.yml, where it is there           -> conda-dev-<platform>.lock)
    the Python distributions in those packages become pins   -> pyproject.toml, group `conda`
    Poetry solves pyproject.toml under the pins              -> poetry.lock

Without conda it is the last step alone. Nothing changes version that need not: what the old locks hold is kept, except
for the packages named by --update, or all of them with --all. The new files are written to --out, with what changed
version (.changes) and the files that have to go (.delete), which is written last.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import Any

from packaging.specifiers import SpecifierSet

from couplet import network, settings
from couplet.errors import UserError
from couplet.formats import conda_lock, platforms, poetry_lock
from couplet.formats.conda_lock import Record
from couplet.formats.names import normalise
from couplet.formats.platforms import this_machine
from couplet.formats.records import NAME_PYTHON
from couplet.lock import cooldown, poetry, pyproject, stamp, wheels
from couplet.lock.changes import Versions, stayed, table_of_changes

Locked = Mapping[str, Mapping[str, Record]]
"""Platform -> conda's name -> what is locked."""
REPODATA = Path("/var/cache/conda/repodata")


def check_names(update: set[str], known: set[str], files: str) -> None:
    """Refuse names to update that no lock holds (all normalised)."""
    if unknown := sorted(update - known):
        raise UserError(f"PKG: {', '.join(unknown)}: not in the locks. Add it to {files}, then run `make env-update`.")


def check_python(document: dict[str, Any], locked: Locked) -> None:
    """Refuse a pyproject.toml (its old form too) that does not allow the Python that conda's lock holds."""
    for platform, records in locked.items():
        if "python" not in records:
            raise UserError(f"environment.yml does not list Python. {NAME_PYTHON}")
        check_version(document, records["python"].version, "environment.yml", platform)


def check_version(document: dict[str, Any], version: str, where: str, platform: str) -> None:
    """Refuse a pyproject.toml that does not allow a version of Python, which `where` gives for a platform."""
    from poetry.core.constraints.version import Version, parse_constraint

    old = document.get("tool", {}).get("poetry", {}).get("dependencies", {}).get("python")
    for key, wanted in (("requires-python", document.get("project", {}).get("requires-python")), ("python", old)):
        if wanted is None:
            continue
        try:
            if key == "requires-python":
                allowed = SpecifierSet(wanted or "nothing").contains(version, prereleases=True)
            else:
                allowed = parse_constraint(wanted).allows(Version.parse(version))
        except ValueError:
            text = f"pyproject.toml: {key} is {wanted or 'empty'}, which is not a range of versions (>=3.12,<3.13 is one)."
            raise UserError(text) from None
        if not allowed:
            exact = f" (that means {wanted}.0 alone; {wanted}.* means any)" if re.fullmatch(r"(==\s*)?\d+\.\d+", wanted) else ""
            raise UserError(
                f"{where} gives Python {version} ({platform}), and pyproject.toml has {key} = {wanted}{exact}.\n"
                "Change one of the two, then run `make env-update`."
            )


def lock_with_conda(
    project: Path, subdirs: list[str], update: set[str], everything: bool
) -> tuple[Versions, Versions, list[str]]:
    """Write pyproject.toml and all locks in `project`; return the (old, new) versions and what else to tell."""
    # Not there without conda.
    from couplet.lock import environment, explain, package_index, pins, solve
    from couplet.lock.channels import configuration

    here = this_machine()
    if here not in subdirs:  # Poetry's metadata comes from an interpreter of this machine's lock
        raise conda_lock.not_locked_error(here, subdirs)
    document = settings.pyproject(project)
    asked = environment.read(project)
    previous = solve.previous(project)
    old = {s: {name: conda_lock.record(r) for name, r in held.items()} for s, held in previous.packages.items()}
    before = versions(old) | poetry_lock.versions(project / "poetry.lock")
    old_pins = pins.current_pins(document)
    known = {normalise(name) for _, name in before} | {pins.name_of(line) for line in old_pins}
    check_names(update, known, "environment.yml or pyproject.toml")
    update |= pins.condas_names(update, old, document)

    conda_names = {normalise(name) for records in old.values() for name in records}
    if everything or update & conda_names or not fits(project, subdirs, previous, document):
        solver = solve.Solver(asked, document, configuration(), REPODATA)
        found = solve.lock_all(solver, subdirs, previous, update, everything)
        solve.write(project / "conda.lock", found, solver)
    else:
        solve.say("conda: environment.yml has not changed, and its lock stays")
    locked = conda_lock.records(project / "conda.lock", dev=True)
    runtime = conda_lock.records(project / "conda.lock")
    check_python(document, runtime)

    with ThreadPoolExecutor() as pool:
        interpreter = pool.submit(pins.interpreter, locked[here], here, settings.link_scripts(document))
        distributions = pins.provided(locked)
        owners = {name: next(iter(where.values()))[1] for name, where in distributions.items()}
        lines = pins.leave_out_unpublished(pins.pins(distributions, subdirs), set(old_pins), owners)
        pins.write_pins(project / "pyproject.toml", lines)
        python = interpreter.result()

    def explained(output: str) -> str:
        if "All attempts to connect" in output:
            package_index.has_versions([("pip", "0")])  # says why, which Poetry does not
        return explain.against_conda(output, settings.name(document) or "non-package-mode", distributions)

    variables = {"CONDA_PREFIX": str(python), "CONDA_DEFAULT_ENV": "interpreter"}
    held = [name for name, where in distributions.items() if len(where) == len(subdirs)]
    poetry.lock(project, update - distributions.keys(), everything, variables, explained, held)

    check_owners(project, runtime, distributions)
    tools = [f"{name} {metadata.version(name)}" for name in ("py-rattler", "poetry")]
    now = stamp.current(project, conda=True)
    for dev, of_image in [(False, runtime), (True, locked)] if (project / stamp.DEV).is_file() else [(False, runtime)]:
        for subdir in subdirs:
            packages = [record.package for record in of_image[subdir].values()]
            body = conda_lock.explicit(packages, subdir, tools, dev, asked.variables, settings.link_scripts(document))
            (project / conda_lock.file_name(subdir, dev)).write_text(stamp.stamped(body, now))
    pythons = {subdir: records["python"].version for subdir, records in locked.items()}
    held_on = {name: where.keys() for name, where in distributions.items()}
    after = versions(locked) | poetry_lock.versions(project / "poetry.lock")
    return before, after, wheels.notes(poetry.moved(project, before), pythons, held_on, conda=True)


def check_owners(project: Path, runtime: Locked, distributions: Mapping[str, Mapping[str, tuple[str, str]]]) -> None:
    """Refuse a conda package of environment.dev.yml alone that holds what Poetry has to install in the runtime image.

    `runtime` is what environment.yml needs, `distributions` is pins.provided().
    """
    packages, groups = poetry_lock.read(project / "poetry.lock"), settings.groups(settings.pyproject(project))["main"]
    for platform, records in runtime.items():
        environment = platforms.environment(platform, records["python"].version)
        for package in poetry_lock.wanted(packages, groups, environment):
            owner = distributions.get(package.name, {}).get(platform, ("", ""))[1]
            if owner and owner not in records:
                raise UserError(
                    f"{stamp.DEV} brings {package.name} (conda's package {owner}) into dev alone, and pyproject.toml needs "
                    f"it in the runtime image too.\nName {owner} in {stamp.ENVIRONMENT}, then run `make env-update`."
                )


def fits(project: Path, subdirs: list[str], previous: Any, document: dict[str, Any]) -> bool:
    """Return whether environment.yml, platforms, virtual packages and conda.lock are as the last lock left them."""
    from couplet.lock.solve import virtual_list

    lock = project / conda_lock.file_name(subdirs[0])
    if previous.virtual != {subdir: virtual_list(document, subdir) for subdir in subdirs} or not lock.is_file():
        return False
    now, then = stamp.current(project, conda=True), stamp.split(stamp.text(lock))[0]
    return all(now.get(name) == then.get(name) for name in (stamp.ENVIRONMENT, stamp.DEV, "conda.lock"))


def versions(locked: Locked) -> Versions:
    """Return {("conda <platform>", name): version} of conda's part of a lock."""
    return {(f"conda {subdir}", name): r.version for subdir, held in locked.items() for name, r in held.items()}


def lock_poetry_alone(project: Path, update: set[str], everything: bool) -> tuple[Versions, Versions, list[str]]:
    """Write poetry.lock in `project`; return the (old, new) versions and what else to tell."""
    before = poetry_lock.versions(project / "poetry.lock")
    check_names(update, {name for _, name in before}, "pyproject.toml")
    check_version(settings.pyproject(project), python_version(), "the base image", this_machine())
    poetry.lock(project, update, everything, {}, lambda output: "")
    # comments, which Poetry reads over and leaves out
    body = stamp.split(stamp.text(project / "poetry.lock"))[1]
    (project / "poetry.lock").write_text(stamp.stamped(body, stamp.current(project, conda=False)))
    pythons = {this_machine(): python_version()}  # the base image's, which the environment gets
    return (
        before,
        poetry_lock.versions(project / "poetry.lock"),
        wheels.notes(poetry.moved(project, before), pythons, {}, conda=False),
    )


def to_delete(project: Path, made: list[str]) -> list[str]:
    """Return the names of lock files in `project` that have to go, given those that are made now."""
    stamped = [path.name for path in project.glob("conda-*.lock") if stamp.split(stamp.text(path))[0]]
    old = ["conda-lock.yml"] if (project / "conda-lock.yml").is_file() else []
    return old + sorted(set(stamped) - set(made))


def main(arguments: list[str]) -> None:
    """Make the locks of a project, and write down what changed version."""
    parser = argparse.ArgumentParser(prog="couplet lock", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--project", type=Path, required=True, help="a copy of the project's files, which is changed")
    parser.add_argument("--out", type=Path, required=True, help="folder for the new files")
    parser.add_argument("--update", default="", help="names of packages that may change version, conda's or Poetry's")
    parser.add_argument("--all", default="", help="not empty: everything may change version")
    options = parser.parse_args(arguments)
    network.apply()
    project, made = options.project, settings.project(options.project)
    update = {normalise(name) for name in options.update.replace(",", " ").split()}
    mark = settings.without_mark(project)
    document = settings.pyproject(project)
    settings.check_form(document)
    pyproject.check(document)
    # a wrong value is no reason to wait for conda
    cooldown.read(document)
    settings.groups(document)
    settings.link_scripts(document)

    if made.conda:
        subdirs = sorted(made.platforms)
        before, after, notes = lock_with_conda(project, subdirs, update, bool(options.all))
        names = ["pyproject.toml", "conda.lock", "poetry.lock", *stamp.explicit_locks(project, subdirs)]
        files = "environment.yml, pyproject.toml"
    else:
        before, after, notes = lock_poetry_alone(project, update, bool(options.all))
        names, files = ["poetry.lock", *["pyproject.toml"] * mark], "pyproject.toml"

    options.out.mkdir(parents=True, exist_ok=True)
    for name in names:
        (options.out / name).write_bytes((project / name).read_bytes())
    gone = to_delete(project, names) if made.conda else []
    lines = table_of_changes(before, after) if before else [f"{len(after)} packages locked"]
    lines += [f"{name} stays: nothing newer fits {files} and the other packages" for name in stayed(update, before, after)]
    lines += notes
    if not settings.is_package(document) and document.get("project", {}).get("scripts"):
        lines.append("pyproject.toml: with package-mode = false there is no program of [project.scripts]")
    if "conda-lock.yml" in gone:
        lines.append("conda-lock.yml is replaced by conda.lock: it is deleted")
    for name, text in ((".changes", lines), (".delete", gone)):
        (options.out / name).write_text("".join(f"{line}\n" for line in text))
