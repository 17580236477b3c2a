"""What verify.py proves with and without conda: that poetry.lock is what is installed, and every dependency met."""

import subprocess
from pathlib import Path

import poetry_lock
from distributions import conda_records, installed_distributions, same_version
from errors import BuildError


def poetry_differences(prefix, locks, groups, besides=()):
    """Return which distributions are installed otherwise than poetry.lock says, or stand in no lock, a line each.

    `besides` are names that may be there without a lock: the project itself, where it is installed already.
    """
    installed = installed_distributions(prefix)
    no_lock = "neither lock" if conda_records(prefix) else "no lock"
    packages = poetry_lock.read(Path(locks, "poetry.lock"))
    locked = {p.name: p for p in poetry_lock.wanted(packages, groups, poetry_lock.environment_of(prefix))}
    found = [
        f"{name}: poetry.lock says {locked[name].version}, nothing is installed"
        for name in locked.keys() - installed.keys()
    ]
    for name, distribution in installed.items():
        if name in locked and not same_version(locked[name].version, distribution.version):
            found.append(
                f"{name}: poetry.lock says {locked[name].version}, installed is {distribution.version}"
            )
        elif name not in locked and distribution.owner is None and name not in besides:
            found.append(f"{name}: {distribution.version} is installed and stands in {no_lock}")
    return sorted(found)


def unmet_dependencies(prefix, uv):
    """Return the dependency problems over all distributions, conda's and Poetry's, as uv reports them."""
    command = [uv, "pip", "check", "--no-cache", "--quiet", "--python", f"{prefix}/bin/python"]
    done = subprocess.run(command, capture_output=True, text=True)
    # uv's lock on the environment, which it leaves behind, and which anyone may write
    Path(prefix, ".lock").unlink(missing_ok=True)
    if done.returncode == 0:
        return []
    loud = subprocess.run([part for part in command if part != "--quiet"], capture_output=True, text=True)
    return [line for line in loud.stderr.splitlines() if line.startswith("The package")] or [
        loud.stderr.strip()
    ]


def first(lines, most=40):
    """Return the first lines, indented, and how many more there are: a list of ten thousand helps nobody."""
    more = [f"  and {len(lines) - most} more"] if len(lines) > most else []
    return "\n".join([*(f"  {line}" for line in lines[:most]), *more])


def fail(problems):
    """Raise BuildError with the offenders, where {title: lines} has any."""
    if any(problems.values()):
        shown = "\n".join(f"{title}:\n{first(lines)}" for title, lines in problems.items() if lines)
        raise BuildError(
            f"the environment is not what the locks say.\n{shown}\nRun `make env-update`, then build again."
        )
