"""Why there is no lock, for a person: which line asks for what, what there is, and what to type."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rattler import Subdir

from couplet.errors import UserError, without_password
from couplet.formats.names import normalise

if TYPE_CHECKING:
    from rattler import RepoDataRecord

    from couplet.lock.channels import Channel
    from couplet.lock.environment import Spec
    from couplet.lock.solve import Solver

AGAIN = "Then run `make env-update`."

# --- conda's side ----------------------------------------------------------------------------------


async def no_solution_error(solver: Solver, subdir: str, said: str) -> UserError:
    """Return the error for an environment.yml that has no solution on a platform; `said` is rattler's message."""
    specs = solver.environment.on(subdir)
    tree = said.partition("because of:")[2].strip() or said
    needed = set(re.findall(r"([\w.-]+) [^\n]*, for which no candidates", tree))
    records: dict[str, list[RepoDataRecord]] = {}
    for record in await solver.known(subdir, needed | {spec.name for spec in specs}):
        records.setdefault(record.name.normalized, []).append(record)
    lines = []
    for spec in specs:
        there = sorted(records.get(spec.name, ()), reverse=True)
        if not there and not spec.name.startswith("__"):
            lines.append(f"  {spec}: {await _unknown(solver, subdir, spec)}")
        elif there and not any(map(solver.match(spec.text).matches, there)):
            newest = ", ".join(list(dict.fromkeys(str(record.version) for record in there))[:6])
            lines.append(f"  {spec}: there is no such version or build for {subdir}. The newest there are: {newest}.")
    if lines:
        lines.append("Correct what is named.")
    else:
        lines = [f"  {spec}" for spec in specs if re.search(rf"(?<![\w.-]){re.escape(spec.name)}(?![\w.-])", tree)]
        absent = sorted(name for name in needed - records.keys() if not name.startswith("__"))
        shown = dict.fromkeys(f"  {line.replace(' * ', ' ')}".rstrip() for line in tree.splitlines())
        lines += ["", *shown, *(f"  {name}: no channel has it for {subdir}" for name in absent), ""]
        virtual = sorted(set(re.findall(r"(__\w+) (\S+?)(?=, for which no candidates|\.?$)", tree, re.M)))
        lines += [solver.missing_virtual(name, wanted.removeprefix("*"), subdir) for name, wanted in virtual]
        young = solver.cooldown.explain(tree)
        lines += young
        if not virtual and not young:
            lines.append("Change or take out one of these lines, so that the rest has a solution.")
    return UserError("\n".join([f"environment.yml has no solution for {subdir}.", *lines, AGAIN]))


async def _unknown(solver: Solver, subdir: str, spec: Spec) -> str:
    """Return what to say of a package that no channel has for a platform."""
    where = ", ".join(channel.name for channel in solver.channels)
    selectors = {"linux-64": "linux64", "linux-aarch64": "aarch64", "osx-arm64": "osx"}
    elsewhere = [other for other in selectors if await solver.known(other, [spec.name])]
    if elsewhere:
        line = f"- {spec.text}  # [{selectors[elsewhere[0]]}]"
        return f"{where} has it for {' and '.join(elsewhere)} alone. For one platform: `{line}`"
    names = {name.normalized for name in await solver.gateway.names(solver.sources, [Subdir(subdir), Subdir("noarch")])}
    close = " or ".join(difflib.get_close_matches(spec.name, sorted(names), 3))
    guess = f"Is it {close}?" if close else "Is it on PyPI? Then it goes into `dependencies` in pyproject.toml."
    return f"{where} has no package of this name. {guess}"


def no_answer_error(channels: Iterable[Channel], said: str) -> UserError:
    """Return the error for a channel that does not give what it should; `said` is rattler's message."""
    lines = [line.removeprefix("Caused by: ") for line in without_password(said).splitlines()]
    host = next(iter(re.findall(r"https?://(?:\*\*\*@)?([^/\s)]+)", " ".join(lines))), "")
    asked = [channel for channel in channels if host and host in channel.address] or list(channels)
    named = ", ".join(without_password(f"{channel.name} ({channel.address})") for channel in asked)
    if code := re.search(r"\((40[13]|407)[ )]", said):
        why = f"answers {code[1]} ({'Unauthorized' if code[1] == '401' else 'not allowed'})"
        way = "A password or token is missing or wrong: it goes into .condarc (in the address) or into .netrc."
    elif "certificate" in said:
        why = f"has a certificate that is not known here ({lines[-1]})"
        way = "Name your company's certificates in SSL_CERT_FILE."
    elif "404" in said or "could not find subdir" in said:
        why = "is not a channel: it has no repodata.json (404)"
        way = "Is its name right in environment.yml, and its address in .condarc?"
    else:
        why = f"does not answer: {lines[-1].partition(': https://docs.')[0]}"
        way = "Is this machine on the network? A mirror goes into .condarc (channel_alias), a proxy into HTTPS_PROXY."
    return UserError(f"environment.yml, channels: {named} {why}.\n{way} {AGAIN}")


# --- Poetry's side ---------------------------------------------------------------------------------

WANTS = re.compile(
    r"(?P<who>[\w.-]+)(?:\[[^\]]*\])?(?: \((?P<version>[^)]*)\))? (?:which )?depends on "
    r"(?=(?:both )?(?P<name>[\w.-]+)(?:\[[^\]]*\])? \((?P<range>[^)]*)\)"
    r"(?: and (?P<name2>[\w.-]+)(?:\[[^\]]*\])? \((?P<range2>[^)]*)\))?)"
)
DIRECT = re.compile(r"^(?P<name>[\w.-]+)(?:\[[^\]]*\])? \((?P<range>[^)]*)\)", re.M)


def demands(output: str) -> list[tuple[str, str, str, str]]:
    """Return [(who, its version, name, range)] of the dependencies that Poetry's message speaks of."""
    head, _, direct = output.partition("Incompatible constraints in requirements of ")
    who = direct.split(" ", 1)[0] if direct else ""
    found = [(who, "", m["name"], m["range"]) for m in DIRECT.finditer(direct.partition("\n")[2])]
    for match in WANTS.finditer(" ".join(head.split())):
        found.append((match["who"], match["version"] or "", match["name"], match["range"]))
        if match["name2"]:
            found.append((match["who"], match["version"] or "", match["name2"], match["range2"]))
    return [(who, version, normalise(name), wanted) for who, version, name, wanted in found]


def excludes(wanted: str, version: str) -> bool:
    """Return whether a range, as Poetry writes it, excludes a version."""
    from poetry.core.constraints.version import Version, parse_constraint

    return not parse_constraint(wanted).allows(Version.parse(version))


def against_conda(output: str, project: str, distributions: dict[str, dict[str, tuple[str, str]]]) -> str:
    """Return who asks for what that conda's lock has in another version, '' where it is not that.

    `output` is Poetry's message, `project` the distribution's name, `distributions` is pins.provided().
    """
    lines = []
    for who, asked_by, name, wanted in demands(output):
        for version, owner in sorted(set(distributions.get(name, {}).values())):
            if excludes(wanted, version):
                asker = "pyproject.toml" if normalise(who) == normalise(project) else f"{who} {asked_by}".strip()
                lines.append(f"  {asker} asks for {name} ({wanted}); conda's package {owner} has {name} {version}")
    if not lines:
        return ""
    return (
        "conda's packages take precedence, and these requirements of Poetry's do not fit them:\n"
        + "\n".join(dict.fromkeys(lines))
        + "\nTwo ways out:\n"
        "  - pyproject.toml: loosen, raise or drop the requirement that asks for it, or\n"
        "  - environment.yml: ask for a version that fits (or take the package out, so that Poetry installs it).\n" + AGAIN
    )
