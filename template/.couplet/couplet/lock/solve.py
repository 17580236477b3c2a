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
from importlib import metadata
from io import StringIO
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from ruamel.yaml import YAML
from tomlkit import array, dumps, parse, table

import poetry_lock
import references
from changes import stayed, table_of_changes
from conda_packages import SUBDIRS, unlocked
from distributions import normalise
from errors import BuildError, run
from index import has_version

CONDA = "/opt/conda/bin/conda"
CONDA_LOCK = "/opt/conda-lock/bin/conda-lock"
POETRY = "/opt/poetry/bin/poetry"
TOOLS = "/opt/tools"
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


def entries_of(text):
    """Return {platform: {package name: entry}} of the text of a conda-lock.yml."""
    document = YAML(typ="safe").load(text)
    locked = {platform: {} for platform in document["metadata"]["platforms"]}
    for entry in document["package"]:
        locked[entry["platform"]][entry["name"]] = entry
    return locked


def read_conda_lock(path):
    """Return {platform: {package name: entry}} of a conda-lock.yml, {} where there is none or it is damaged."""
    if not path.is_file():
        return {}
    try:
        return entries_of(path.read_text())
    except Exception as error:  # whatever the parser finds: a damaged lock is no lock
        say(f"conda-lock.yml is damaged ({str(error).splitlines()[0]}): solving from nothing")
        return {}


def solve_conda(project, platform, pins):
    """Solve environment.yml for one platform with conda-lock, and return the text of its lock.

    `pins` are conda's pinned packages, which hold a version without asking for the package. Raises
    BuildError where conda finds no solution.
    """
    target = Path("/tmp", f"conda-lock-{platform}.yml")
    target.unlink(missing_ok=True)
    # conda-lock carries a conda of its own, whose idea of the root prefix would reach the real one
    # and hide the settings in its root, a company's base image's for example.
    clean = Path("/tmp/conda-as-it-is")
    clean.write_text(f'#!/bin/sh\nunset CONDA_ROOT\nexec {CONDA} "$@"\n')
    clean.chmod(0o755)
    # By itself, conda moves certifi, ca-certificates and openssl even where a pin holds them.
    hold = {"CONDA_PINNED_PACKAGES": "&".join(pins), "CONDA_AGGRESSIVE_UPDATE_PACKAGES": ""} if pins else {}
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
        env={**os.environ, **hold},
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


def file_name(entry):
    """Return (version, build) of a locked package, from the name of its archive."""
    stem = re.sub(r"(\.conda|\.tar\.bz2)$", "", entry["url"].rsplit("/", 1)[-1])
    return tuple(stem.rsplit("-", 2)[1:])


def pin(name, entry, build=True):
    """Return conda's spec for exactly this version, and with `build` for exactly this archive."""
    version, string = file_name(entry)
    return f"{name}={version}={string}" if build else f"{name}=={version}"


def excluded(project, entries):
    """Return the names in `entries` that environment.yml asks for in another version, as conda compares them."""
    document = YAML(typ="safe").load((project / "environment.yml").read_text()) or {}
    specs = [spec for spec in document.get("dependencies") or () if isinstance(spec, str)]
    code = (
        "import json, sys\n"
        "from conda.models.match_spec import MatchSpec\n"
        "specs, locked = json.load(sys.stdin)\n"
        "asked = [MatchSpec(spec.split(' #')[0]) for spec in specs]\n"
        "held = {n: {'name': n, 'version': v, 'build': b, 'build_number': 0} for n, (v, b) in locked.items()}\n"
        "plain = [MatchSpec(name=a.name, **{k: a.get(k) for k in ('version', 'build') if a.get(k)}) for a in asked]\n"
        "print(json.dumps([a.name for a in plain if a.name in held and not a.match(held[a.name])]))\n"
    )
    locked = {name: file_name(entry) for name, entry in entries.items()}
    done = subprocess.run(
        ["/opt/conda/bin/python", "-c", code],
        input=json.dumps([specs, locked]),
        capture_output=True,
        text=True,
    )
    # What conda cannot read it reports itself, in its own words, when it solves.
    return set(json.loads(done.stdout)) if done.returncode == 0 else set()


def neighbours(names, *graphs):
    """Return what `names` depend on, and what depends on them, directly, in any of the {name: entry}."""
    return {
        other
        for entries in graphs
        for name, entry in entries.items()
        for dependency in entry["dependencies"]
        for mine, other in ((name, dependency), (dependency, name))
        if mine in names
    }


def relaxations(old, free, moving):
    """Yield lists of pins, from the tightest to the loosest: what may move while `moving` does.

    `old` is what was locked and `free` the solution without any pin, both {name: entry}. The last list
    lets go of all that differs between the two: `free` itself fits it.
    """
    goal = [pin(name, free[name]) for name in sorted(moving & free.keys())]

    def rest(released, build):
        return goal + [pin(name, e, build) for name, e in sorted(old.items()) if name not in released]

    yield rest(moving, build=True)
    yield rest(moving, build=False)
    differing = {name for name in old if name not in free or file_name(old[name]) != file_name(free[name])}
    released = set(moving)
    for _ in range(2):
        more = neighbours(released, old, free) & differing
        if more <= released:
            break
        released |= more
        yield rest(released, build=False)
    yield rest(moving | differing, build=True)


def lock_conda(project, platform, old, update, everything):
    """Return the text of a conda-lock.yml for one platform: `old` ({name: entry}), where nothing has to move.

    Those of `update` go as far as they would alone, whatever else has to move for it.
    """
    if everything or not old:
        say(f"conda: solving for {platform}")
        return solve_conda(project, platform, [])
    moving = {name for name in old if normalise(name) in update}
    forced = excluded(project, old)
    if not moving:
        kept = [pin(name, entry) for name, entry in sorted(old.items()) if name not in forced]
        say(f"conda: solving for {platform}, {len(kept)} packages held")
        try:
            return solve_conda(project, platform, kept)
        except BuildError:
            say("conda: no solution with those held; looking for what has to move")
    else:
        say(f"conda: solving for {platform}: how far {', '.join(sorted(moving))} can go")
    text = solve_conda(project, platform, [])
    free = entries_of(text)[platform]
    moving |= forced
    for pins in relaxations(old, free, moving):
        say(f"conda: solving for {platform}, {len(pins) - len(moving & free.keys())} packages held")
        try:
            return solve_conda(project, platform, pins)
        except BuildError:
            continue
    say("conda: no solution with any of them held")
    return text


def without_credentials(text):
    """Return the text with its addresses' user names, passwords and tokens (/t/…) left out."""
    text = re.sub(r"(https?://)[^/@\s]*@", r"\1", text)
    return re.sub(r"(https?://[^/\s]+(?:/[^/\s]+)*?)/t/[^/\s]+", r"\1", text)


def public_addresses(text, mapping):
    """Return the text with the public channels' addresses for a mirror's ({public: mirror's}), and no credentials.

    conda writes a token right behind the host, or where it stood, and perhaps not at all.
    """
    text = without_credentials(text)
    places = {without_credentials(address): public for public, address in mapping.items()}
    for found in sorted(places, key=len, reverse=True):
        text = text.replace(found + "/", places[found] + "/")
    return text


def merge(texts, mapping):
    """Return one conda-lock.yml from one a platform, with the public channel's addresses."""
    yaml = YAML(typ="safe")
    yaml.default_flow_style, yaml.width = False, 4096
    merged = None
    for platform, text in sorted(texts.items()):
        document = yaml.load(public_addresses(text, mapping))
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


def with_condas_python(script, *arguments):
    """Run one of the scripts beside this one with conda's own Python, and return what it prints."""
    command = ["/opt/conda/bin/python", Path(__file__).with_name(script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(done.stderr.strip().removeprefix("ERROR: "))
    return done.stdout


def make_interpreter(entries, platform):
    """Make an environment of the locked Python alone: Poetry locks for the Python that it finds active."""
    needed, waiting = {}, ["python"]
    while waiting:
        name = waiting.pop()
        if name in entries and name not in needed:
            needed[name] = entries[name]
            waiting += entries[name]["dependencies"]
    folder = Path("/tmp/interpreter-lock")
    folder.mkdir(exist_ok=True)
    (folder / f"conda-{platform}.lock").write_text(explicit(needed, platform, []))
    with_condas_python("install_conda.py", "--locks", folder, "--prefix", INTERPRETER, "--tools", TOOLS)


def provided(locked):
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
            lock = Path("/tmp/python-packages.lock")
            lock.write_text(explicit({entry["name"]: entry for entry in new}, platform, []))
            held = json.loads(with_condas_python("conda_packages.py", "distributions", lock))
            for entry in new:
                known[entry["name"], entry["version"]] = held[entry["url"].rsplit("/", 1)[-1]]
        for name, entry in entries.items():
            for distribution, version in known[name, entry["version"]].items():
                result.setdefault(distribution, {})[platform] = (version, name)
    return result


def conda_packages(update, previous, project):
    """Return conda's names for those of `update` that conda holds under another one (PyPI's msgpack is msgpack-python)."""
    names = {name for entries in previous.values() for name in entries}
    pinned = {re.split("==| ", line)[0] for line in current_pins(project)}
    if not (update & pinned) - names:
        return set()
    held = provided(previous)
    return {normalise(owner) for name in update & held.keys() - names for _, owner in held[name].values()}


def current_pins(project):
    """Return the list in pyproject.toml that the last lock wrote."""
    document = parse((project / "pyproject.toml").read_text())
    return list(document.get("dependency-groups", {}).get("conda", []))


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
    lock = project / "poetry.lock"
    try:
        if lock.exists():
            poetry_lock.read(lock)
    except BuildError:
        say("poetry.lock is damaged: solving from nothing")
        lock.unlink()
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
            if "All attempts to connect" in output:
                has_version([("pip", "0")])  # says why, which Poetry does not
            raise BuildError(explain(output, project, distributions))


WANTS = re.compile(
    r"(?P<who>[\w.-]+)(?:\[[^\]]*\])?(?: \((?P<version>[^)]*)\))? (?:which )?depends on "
    r"(?=(?:both )?(?P<name>[\w.-]+)(?:\[[^\]]*\])? \((?P<range>[^)]*)\)"
    r"(?: and (?P<name2>[\w.-]+)(?:\[[^\]]*\])? \((?P<range2>[^)]*)\))?)"
)
DIRECT = re.compile(r"^(?P<name>[\w.-]+)(?:\[[^\]]*\])? \((?P<range>[^)]*)\)", re.M)


def demands(output):
    """Return [(who, its version, name, range)] of the dependencies that Poetry's message speaks of."""
    head, _, direct = output.partition("Incompatible constraints in requirements of ")
    who = direct.split(" ", 1)[0] if direct else ""
    found = [(who, "", m["name"], m["range"]) for m in DIRECT.finditer(direct.partition("\n")[2])]
    for match in WANTS.finditer(" ".join(head.split())):
        found.append((match["who"], match["version"] or "", match["name"], match["range"]))
        if match["name2"]:
            found.append((match["who"], match["version"] or "", match["name2"], match["range2"]))
    return [(who, version, normalise(name), wanted) for who, version, name, wanted in found]


def excludes(wanted, version):
    """Return whether a range, as Poetry writes it, excludes a version; one that cannot be read does."""
    try:
        return not any(
            SpecifierSet(part if re.match(r"\s*[<>=!~]", part) else f"=={part.strip()}").contains(
                version, prereleases=True
            )
            for part in wanted.replace("*", "").split("||")
            if part.strip()
        )
    except InvalidSpecifier:
        return True


def explain(output, project, distributions):
    """Return the message for a lock that Poetry could not make: who asked for what, and what conda holds."""
    own = normalise(parse((project / "pyproject.toml").read_text()).get("project", {}).get("name", ""))
    lines = []
    for who, asked_by, name, wanted in demands(output):
        for version, owner in sorted(set(distributions.get(name, {}).values())):
            if excludes(wanted, version):
                asker = "pyproject.toml" if normalise(who) == own else f"{who} {asked_by}".strip()
                lines.append(
                    f"  {asker} asks for {name} ({wanted}); conda's package {owner} holds {name} {version}"
                )
    text = f"Poetry could not lock pyproject.toml:\n\n{output.strip()}\n"
    if lines:
        text += (
            "\nconda has the last word, and here is what does not go with it:\n"
            + "\n".join(dict.fromkeys(lines))
            + "\nTwo ways out:\n"
            "  - pyproject.toml: widen, move or drop the dependency that asks for it, or\n"
            "  - environment.yml: ask for a version that fits (or take the package out of it, so that Poetry installs it).\n"
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
        poetry = {}
        for package in packages:
            if set(package.markers) != {"conda"}:
                poetry.setdefault(package.name, set()).add(package.version)
        # Platforms that differ in conda's version differ in Poetry's.
        found |= {("Poetry", name): "/".join(sorted(numbers)) for name, numbers in poetry.items()}
    return found


def tool_versions():
    """Return ['conda 26.3.2', ...]: what made the locks, by what is installed. To ask each would take two seconds."""
    records = [
        json.loads(path.read_text()) for path in Path("/opt/conda/conda-meta").glob("conda-[0-9]*.json")
    ]
    found = [("conda", next(record["version"] for record in records if record["name"] == "conda"))]
    for name, program in (("conda-lock", CONDA_LOCK), ("Poetry", POETRY)):
        site = next(Path(program).parents[1].glob("lib/python3.*/site-packages"))
        [distribution] = metadata.distributions(name=name.lower(), path=[str(site)])
        found.append((name, distribution.version))
    return [f"{name} {version}" for name, version in found]


def input_changed(project, platforms, previous):
    """Return whether environment.yml, the list of platforms or conda-lock.yml is not as the last lock left it."""
    if set(previous) != set(platforms):
        return True
    stamp = subprocess.run(
        ["sh", STATE, "stamp", project], capture_output=True, text=True
    ).stdout.splitlines()
    now = {line for line in stamp if " environment.yml " in line or " conda-lock.yml " in line}
    lock = project / f"conda-{platforms[0]}.lock"
    return not (lock.is_file() and now and now <= set(lock.read_text().splitlines()))


def check_inputs(project, update, previous):
    """Refuse what no solver should be asked: files that are no YAML or TOML, names that nothing holds."""
    try:
        environment = YAML(typ="safe").load((project / "environment.yml").read_text())
    except Exception as error:
        raise BuildError(f"environment.yml is no YAML: {error}") from None
    dependencies = environment.get("dependencies") if isinstance(environment, dict) else None
    for section in dependencies if isinstance(dependencies, list) else ():
        if isinstance(section, dict) and "pip" in section:
            raise BuildError(
                f"environment.yml: pip: asks for {', '.join(map(str, section['pip'] or ['nothing']))}. What comes from PyPI is Poetry's:\n"
                "write it into `dependencies` in pyproject.toml, take the section out here, then run `make env-update`."
            )
    try:
        parse((project / "pyproject.toml").read_text())
    except Exception as error:
        raise BuildError(f"pyproject.toml is no TOML: {error}") from None
    references.check(project / "pyproject.toml")
    known = {normalise(name) for _, name in versions(project)}
    known |= {re.split("==| ", line)[0] for line in current_pins(project)}
    unknown = sorted(update - known)
    if unknown:
        raise BuildError(
            f"PKG: the locks hold no {', '.join(unknown)}. Add it to environment.yml or pyproject.toml, then run `make env-update`."
        )


def check_python(project, locked):
    """Refuse a pyproject.toml that does not allow the Python that conda's lock holds."""
    wanted = parse((project / "pyproject.toml").read_text()).get("project", {}).get("requires-python")
    for platform, entries in locked.items():
        version = entries["python"]["version"] if "python" in entries else None
        try:
            allowed = not (wanted and version) or SpecifierSet(wanted).contains(version, prereleases=True)
        except InvalidSpecifier:
            raise BuildError(
                f"pyproject.toml: requires-python is {wanted}, which is no range of versions (>=3.12,<3.13 is one)."
            ) from None
        if not allowed:
            raise BuildError(
                f"environment.yml gives Python {version} ({platform}), and pyproject.toml has requires-python = {wanted}.\n"
                "Change one of the two, then run `make env-update`."
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
    here = SUBDIRS[machine.machine()]
    if here not in platforms:  # Poetry's metadata comes from an interpreter of this machine's lock
        raise unlocked(here, platforms)

    previous = read_conda_lock(project / "conda-lock.yml")
    before = versions(project)
    check_inputs(project, update, previous)
    mapping = json.loads(with_condas_python("conda_packages.py", "channels"))
    update |= conda_packages(update, previous, project)

    conda_names = {normalise(name) for entries in previous.values() for name in entries}
    if options.all or update & conda_names or input_changed(project, platforms, previous):
        texts = {
            platform: lock_conda(project, platform, previous.get(platform, {}), update, options.all)
            for platform in platforms
        }
        (project / "conda-lock.yml").write_text(merge(texts, mapping))
    else:
        say("conda: environment.yml is as it was locked")
    locked = read_conda_lock(project / "conda-lock.yml")
    check_python(project, locked)

    distributions = provided(locked)
    old_pins = set(current_pins(project))
    owners = {name: next(iter(where.values()))[1] for name, where in distributions.items()}
    write_pins(
        project / "pyproject.toml", leave_out_unpublished(pins(distributions, platforms), old_pins, owners)
    )
    make_interpreter(locked[here], here)
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

    after = versions(project)
    say("")
    for line in table_of_changes(before, after) if before else [f"{len(after)} packages locked"]:
        say(line)
    for name in stayed(update, before, after):
        say(f"{name} stays: nothing newer fits environment.yml, pyproject.toml and the other packages")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    run(main)
