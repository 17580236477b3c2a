"""Make the lock files: conda's first, then Poetry's around it.

    conda solves environment.yml for each platform           -> conda-lock.yml, conda-<platform>.lock
    the Python distributions in those packages become pins   -> pyproject.toml, group `conda`
    Poetry solves pyproject.toml under the pins              -> poetry.lock

Nothing moves that need not: what the old locks hold is held, except for the packages named by
--update, or all of them with --all. Everything is written to --out; nothing in the project changes.
"""

import argparse
import hashlib
import json
import os
import platform as machine
import re
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path

from ruamel.yaml import YAML
from tomlkit import array, dumps, parse, table

import poetry_lock
from distributions import metadata, metadata_file, normalise
from errors import BuildError, run
from index import has_version
from install_conda import CACHE, SUBDIRS, channel_map, mapped_url

CONDA = "/opt/conda/bin/conda"
CONDA_LOCK = "/opt/conda-lock/bin/conda-lock"
POETRY = "/opt/poetry/bin/poetry"
STATE = "/scripts/lock-state.sh"
INTERPRETER = "/tmp/interpreter"
MARKERS = {
    "linux-64": "sys_platform == 'linux' and platform_machine == 'x86_64'",
    "linux-aarch64": "sys_platform == 'linux' and platform_machine == 'aarch64'",
    "osx-arm64": "sys_platform == 'darwin' and platform_machine == 'arm64'",
}


def say(text):
    """Print a line of progress."""
    print(text, flush=True)


# --- conda's side ----------------------------------------------------------------------------------


def read_conda_lock(path):
    """Return {platform: {package name: entry}} of a conda-lock.yml, {} where there is none or it is damaged."""
    if not path.is_file():
        return {}
    try:
        document = YAML(typ="safe").load(path.read_text())
        locked = {platform: {} for platform in document["metadata"]["platforms"]}
        for entry in document["package"]:
            locked[entry["platform"]][entry["name"]] = entry
        return locked
    except Exception as error:  # whatever the parser finds: a damaged lock is no lock
        say(f"conda-lock.yml is damaged ({str(error).splitlines()[0]}): solving from nothing")
        return {}


def solve_conda(project, platform, held):
    """Solve environment.yml for one platform with conda-lock, and return the text of its lock.

    `held` is {package: entry} whose versions stay if they can: conda's pinned packages, which hold a
    version without asking for the package. Raises BuildError where conda finds no solution.
    """
    target = Path("/tmp", f"conda-lock-{platform}.yml")
    target.unlink(missing_ok=True)
    pins = "&".join(f"{name}={entry['version']}" for name, entry in sorted(held.items()))
    # conda-lock carries a conda of its own, whose idea of the root prefix would reach the real one
    # and hide the settings in its root, a company's base image's for example.
    clean = Path("/tmp/conda-as-it-is")
    clean.write_text(f'#!/bin/sh\nunset CONDA_ROOT\nexec {CONDA} "$@"\n')
    clean.chmod(0o755)
    done = subprocess.run(
        [
            CONDA_LOCK,
            "lock",
            "--conda",
            clean,
            "--no-mamba",
            "--file",
            project / "environment.yml",
            "--platform",
            platform,
            "--virtual-package-spec",
            Path(__file__).with_name("virtual-packages.yml"),
            "--lockfile",
            target,
        ],
        env={**os.environ, "CONDA_PINNED_PACKAGES": pins} if pins else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode or not target.is_file():
        raise BuildError(f"conda found no solution of environment.yml for {platform}:\n{digest(done.stdout)}")
    return target.read_text()


def digest(output):
    """Return what a person needs of conda-lock's output: conda's own message, without the traceback."""
    message = re.findall(r'"(?:message|error)": "((?:[^"\\]|\\.)*)"', output)
    if message:
        return json.loads(f'"{message[0]}"').strip()
    lines = [line for line in output.splitlines() if not re.match(r"\s+(File|\^)|Traceback", line)]
    return "\n".join(lines[-25:])


def lock_conda(project, platforms, previous, update, everything):
    """Return {platform: text of a conda-lock.yml for that platform alone}."""
    texts = {}
    for platform in platforms:
        held = {} if everything else {n: e for n, e in previous.get(platform, {}).items() if n not in update}
        say(f"conda: solving for {platform}" + (f", {len(held)} packages held" if held else ""))
        try:
            texts[platform] = solve_conda(project, platform, held)
        except BuildError:
            if not held:
                raise
            say("conda: no solution with those held; solving again with none")
            texts[platform] = solve_conda(project, platform, {})
    return texts


def merge(texts, mapping):
    """Return one conda-lock.yml from one a platform, with the public channel's addresses."""
    yaml = YAML(typ="safe")
    yaml.default_flow_style, yaml.width = False, 4096
    merged = None
    for platform, text in sorted(texts.items()):
        for public, address in mapping.items():
            text = text.replace(address + "/", public + "/")
        document = yaml.load(text)
        if merged is None:
            merged = document
        else:
            merged["metadata"]["content_hash"] |= document["metadata"]["content_hash"]
            merged["metadata"]["platforms"] += [platform]
            merged["package"] += document["package"]
    # What belongs to this machine and this call, not to the lock.
    merged["metadata"]["sources"] = ["environment.yml"]
    for key in ("time_metadata", "git_metadata", "inputs_metadata", "custom_metadata"):
        merged["metadata"].pop(key, None)
    merged["package"].sort(key=lambda entry: (entry["platform"], entry["name"]))
    out = StringIO()
    yaml.dump(merged, out)
    return "# Written by `make env-update`: conda's lock, for all platforms.\n" + out.getvalue()


def explicit(entries, platform, tools):
    """Return the text of conda-<platform>.lock, without its stamp: what `conda create --file` takes."""
    ordered = sorted(entries.values(), key=lambda entry: entry["name"])
    lines = [
        "# Written by `make env-update`: what the image installs. Outside of Docker:",
        f"#   conda create --name <environment> --file conda-{platform}.lock",
        f"# platform: {platform}",
        *(f"# made with {tool}" for tool in tools),
        *(f"# sha256 {entry['hash']['sha256']} {entry['url'].rsplit('/', 1)[-1]}" for entry in ordered),
        "@EXPLICIT",
        *(f"{entry['url']}#{entry['hash']['md5']}" for entry in ordered),
    ]
    return "\n".join(lines) + "\n"


# --- from conda to Poetry --------------------------------------------------------------------------


def python_packages(entries):
    """Return the entries that can hold a Python distribution: they depend on Python."""
    return {
        name: e
        for name, e in entries.items()
        if any(d.startswith(("python", "_python")) for d in e["dependencies"])
    }


def conda_create(entries, mapping, *options):
    """Run `conda create` on locked packages: download them into conda's cache, and with a prefix link them."""
    listing = Path("/tmp/packages.txt")
    listing.write_text(
        "@EXPLICIT\n" + "".join(f"{mapped_url(e['url'], mapping)}#{e['hash']['md5']}\n" for e in entries)
    )
    done = subprocess.run(
        [CONDA, "create", "--yes", "--quiet", "--file", listing, *options],
        env={**os.environ, "CONDA_PKGS_DIRS": CACHE},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise BuildError(f"conda could not fetch the packages that it locked:\n{done.stdout.strip()[-2000:]}")


def make_interpreter(entries, mapping):
    """Make an environment of the locked Python alone: Poetry locks for the Python that it finds active."""
    needed, waiting = {}, ["python"]
    while waiting:
        name = waiting.pop()
        if name in entries and name not in needed:
            needed[name] = entries[name]
            waiting += entries[name]["dependencies"]
    conda_create(needed.values(), mapping, "--prefix", INTERPRETER)


def distributions_of(entry):
    """Return {normalised name: version} of the Python distributions in one unpacked package."""
    folder = Path(CACHE, re.sub(r"(\.conda|\.tar\.bz2)$", "", entry["url"].rsplit("/", 1)[-1]))
    found = {}
    for path in (folder / "info/files").read_text().splitlines():
        if metadata_file(path):
            name, version = metadata((folder / path).read_text(errors="replace"))
            found[name] = version
    return found


def provided(locked, mapping):
    """Return {distribution: {platform: (version, conda package)}} from the packages' own metadata.

    Other platforms' packages are fetched only where they differ in version from the first one's:
    the same release of the same package holds the same distributions.
    """
    platforms = sorted(locked)
    known, result = {}, {}
    for platform in platforms:
        entries = python_packages(locked[platform])
        new = [e for name, e in entries.items() if (name, e["version"]) not in known]
        say(f"conda: reading what {len(new)} packages for {platform} hold")
        if new:
            conda_create(new, mapping, "--download-only", "--prefix", "/tmp/nowhere")
        for name, entry in entries.items():
            if (name, entry["version"]) not in known:
                known[name, entry["version"]] = distributions_of(entry)
            for distribution, version in known[name, entry["version"]].items():
                result.setdefault(distribution, {})[platform] = (version, name)
    return result


def pins(distributions, platforms):
    """Return the requirements that hold Poetry to conda's versions, with markers where platforms differ."""
    lines = []
    for name, where in sorted(distributions.items()):
        versions = {version for version, _ in where.values()}
        if len(versions) == 1 and len(where) == len(platforms):
            lines.append(f"{name}=={versions.pop()}")
        else:
            lines += [
                f"{name}=={version} ; {MARKERS[platform]}" for platform, (version, _) in sorted(where.items())
            ]
    return lines


def leave_out_unpublished(lines, known, owners):
    """Return the pins that the index can satisfy, and say which it cannot: Poetry would find no solution."""
    unknown = [line for line in lines if line not in known]
    published = has_version([tuple(line.split(" ;")[0].split("==")) for line in unknown])
    for line, there in zip(unknown, published, strict=True):
        if not there:
            name, version = line.split(" ;")[0].split("==")
            say(
                f"note: {name} {version} (conda package {owners[name]}) is not on the Python index, so Poetry cannot be held to it.\n"
                f"      If something of Poetry's needs {name}, locking or building fails and says so; conda's copy stays."
            )
    gone = {line for line, there in zip(unknown, published, strict=True) if not there}
    return [line for line in lines if line not in gone]


def write_pins(path, lines):
    """Write the group `conda` of pyproject.toml, and leave every other byte as it is."""
    document = parse(path.read_text())
    groups = document.setdefault("dependency-groups", table())
    if list(groups.get("conda", [])) != lines:
        listing = array()
        listing.extend(lines)
        groups["conda"] = listing.multiline(True)
    poetry = document.setdefault("tool", table(True)).setdefault("poetry", table())
    if not poetry.get("group", {}).get("conda", {}).get("optional"):
        poetry.setdefault("group", table(True))["conda"] = {"optional": True}
    path.write_text(dumps(document))


# --- Poetry's side ---------------------------------------------------------------------------------


def poetry(project, *arguments):
    """Run Poetry in the project and return (exit code, output)."""
    done = subprocess.run(
        [POETRY, *arguments, "--no-interaction", "--no-ansi", "--directory", project],
        env={
            **os.environ,
            "POETRY_VIRTUALENVS_CREATE": "false",
            "CONDA_PREFIX": INTERPRETER,
            "CONDA_DEFAULT_ENV": "interpreter",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


def lock_poetry(project, update, everything, distributions):
    """Write poetry.lock in `project` under the pins. Raises BuildError with an explained conflict."""
    steps = [["lock", "--regenerate"]] if everything else [["lock"]]
    if update and not everything:
        held = (
            {package.name for package in poetry_lock.read(project / "poetry.lock")}
            if (project / "poetry.lock").is_file()
            else set()
        )
        mine = sorted(name for name in update if name in held and name not in distributions)
        if mine:
            steps.append(["update", "--lock", *mine])
    for step in steps:
        say(f"Poetry: {' '.join(step)}")
        code, output = poetry(project, *step)
        if code:
            raise BuildError(explain(output, project, distributions))


def explain(output, project, distributions):
    """Return the message for a lock that Poetry could not make."""
    mentioned = {
        name: where
        for name, where in distributions.items()
        if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", output, re.I)
        and "version solving failed" in output
    }
    text = f"Poetry could not lock pyproject.toml:\n\n{output.strip()}\n"
    if mentioned:
        held = {
            f"  {name} {version}, from conda's package {owner}"
            for name, where in mentioned.items()
            for version, owner in where.values()
        }
        text += (
            "\nconda has the last word, and of those named above it holds\n" + "\n".join(sorted(held)) + "\n"
            "Two ways out:\n"
            "  - widen or drop the dependency in pyproject.toml that excludes conda's version, or\n"
            "  - ask for another version in environment.yml (or take the package out of it, so that Poetry installs it).\n"
            "Then run `make env-update`."
        )
    return text


# --- all of it -------------------------------------------------------------------------------------


def versions(folder):
    """Return {(owner, name): version} of the locks in `folder`; {} where there are none."""
    found = {}
    for platform, entries in read_conda_lock(folder / "conda-lock.yml").items():
        found |= {(f"conda {platform}", name): entry["version"] for name, entry in entries.items()}
    if (folder / "poetry.lock").is_file():
        try:
            packages = poetry_lock.read(folder / "poetry.lock")
        except BuildError:
            return found
        found |= {("Poetry", p.name): p.version for p in packages if set(p.markers) != {"conda"}}
    return found


def table_of_changes(old, new):
    """Return the lines of a table `old -> new` with the owner of each package that moved."""
    moved = [
        (owner, name)
        for owner, name in sorted(old.keys() | new.keys())
        if old.get((owner, name)) != new.get((owner, name))
    ]
    rows = [(name, old.get((owner, name), "-"), new.get((owner, name), "-"), owner) for owner, name in moved]
    if not rows:
        return ["no package moved"]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [f"{n:<{widths[0]}}  {a:>{widths[1]}} -> {b:<{widths[2]}}  {owner}" for n, a, b, owner in rows]


def tool_versions():
    """Return ['conda 26.3.2', ...]: what made the locks."""
    shown = [
        subprocess.run([tool, "--version"], capture_output=True, text=True).stdout
        for tool in (CONDA, CONDA_LOCK, POETRY)
    ]
    numbers = [re.search(r"\d+(\.\d+)+", text).group() for text in shown]
    return [
        f"{name} {number}" for name, number in zip(("conda", "conda-lock", "Poetry"), numbers, strict=True)
    ]


def input_changed(project, platforms, previous):
    """Return whether environment.yml, or the list of platforms, is not what the old conda lock was made of."""
    if set(previous) != set(platforms):
        return True
    stamp = subprocess.run(
        ["sh", STATE, "stamp", project], capture_output=True, text=True
    ).stdout.splitlines()
    line = next((line for line in stamp if " environment.yml " in line), None)
    lock = project / f"conda-{platforms[0]}.lock"
    return not lock.is_file() or line not in lock.read_text().splitlines()


def check_inputs(project, update, previous):
    """Refuse what no solver should be asked: files that are no YAML or TOML, names that nothing holds."""
    try:
        YAML(typ="safe").load((project / "environment.yml").read_text())
    except Exception as error:
        raise BuildError(f"environment.yml is no YAML: {error}") from None
    try:
        parse((project / "pyproject.toml").read_text())
    except Exception as error:
        raise BuildError(f"pyproject.toml is no TOML: {error}") from None
    known = {name for _, name in versions(project)}
    unknown = sorted(update - known)
    if unknown:
        raise BuildError(
            f"PKG: the locks hold no {', '.join(unknown)}. Add it to environment.yml or pyproject.toml, then run `make env-update`."
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--platforms", nargs="+", required=True, choices=sorted(MARKERS))
    parser.add_argument("--update", default="", help="names of packages that may move, conda's or Poetry's")
    parser.add_argument("--all", default="", help="not empty: everything may move")
    options = parser.parse_args()
    project, platforms = options.project, sorted(options.platforms)
    update = {normalise(name) for name in options.update.replace(",", " ").split()}

    previous = read_conda_lock(project / "conda-lock.yml")
    before = versions(project)
    check_inputs(project, update, previous)
    mapping = channel_map([CONDA])

    conda_names = {name for entries in previous.values() for name in entries}
    if options.all or update & conda_names or input_changed(project, platforms, previous):
        texts = lock_conda(project, platforms, previous, update, options.all)
        (project / "conda-lock.yml").write_text(merge(texts, mapping))
    else:
        say("conda: environment.yml is as it was locked")
    locked = read_conda_lock(project / "conda-lock.yml")

    distributions = provided(locked, mapping)
    old_pins = set(
        parse((project / "pyproject.toml").read_text()).get("dependency-groups", {}).get("conda", [])
    )
    owners = {name: next(iter(where.values()))[1] for name, where in distributions.items()}
    write_pins(
        project / "pyproject.toml", leave_out_unpublished(pins(distributions, platforms), old_pins, owners)
    )
    here = SUBDIRS[machine.machine()]
    if here not in locked:
        raise BuildError(
            f"platforms: this machine is {here}, which the answers do not lock for. Add it, or lock on another machine."
        )
    make_interpreter(locked[here], mapping)
    lock_poetry(project, update, options.all, distributions)

    tools = tool_versions()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in ("pyproject.toml", "conda-lock.yml", "poetry.lock"):
        shutil.copy(project / name, options.out / name)
    stamp = subprocess.run(["sh", STATE, "stamp", project], check=True, capture_output=True, text=True).stdout
    for platform in platforms:
        body = explicit(locked[platform], platform, tools)
        own = f"# stamp this-file {hashlib.sha256(body.encode()).hexdigest()}\n"
        (options.out / f"conda-{platform}.lock").write_text(stamp + own + body)

    say("")
    for line in (
        table_of_changes(before, versions(project))
        if before
        else [f"{len(versions(project))} packages locked"]
    ):
        say(line)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    run(main)
