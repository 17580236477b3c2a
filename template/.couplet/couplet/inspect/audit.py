"""Known vulnerabilities of what the locks hold, conda's Python distributions and Poetry's packages; and licences that are denied.

An OSV service is asked about names and versions (osv.py); nothing is installed and no image is needed. Every locked
platform and the dev group are looked up too. Writes audit.txt, audit.json and audit.exit, the exit code for
host/audit.sh: 0 nothing known, 1 something found, 64 the table in pyproject.toml is wrong, 69 no answer.
"""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from packaging.version import InvalidVersion, Version

from couplet import network, settings
from couplet.errors import UserError, without_password
from couplet.formats import conda_lock, platforms, poetry_lock
from couplet.formats.names import normalise
from couplet.inspect import licences, locked, osv
from couplet.inspect.words import columns, plural

TABLE = "tool.couplet.audit"
NOTHING, FOUND, USAGE, UNAVAILABLE = 0, 1, 64, 69
Finding = dict[str, Any]
"""One vulnerability of one package, as audit.json has it."""


class Usage(UserError):
    """The table in pyproject.toml is not what it has to be."""


class Item(NamedTuple):
    """What is asked about: a Python distribution in a version, whose it is, and the name that changes its version."""

    name: str
    version: str
    owner: str
    package: str

    @property
    def public(self) -> str:
        """The version that is asked about: 2.5.1 for 2.5.1+cu121, since a local build has its release's faults."""
        return Version(self.version).public


class Ignored(NamedTuple):
    """An entry of the ignore list: a vulnerability, by any of its names, or a licence, by its entry of `deny`, in one package."""

    id: str
    package: str
    reason: str
    until: datetime.date


Names = dict[str, str]
"""Package -> why it is not asked about."""
Locked = Mapping[str, Mapping[str, conda_lock.Record]]
"""Platform -> conda's name -> package."""

# --- what the locks hold ---------------------------------------------------------------------------


def distributions(records: Iterable[conda_lock.Record]) -> dict[str, dict[str, str]]:
    """Return {archive: {distribution: version}}: what conda's packages really hold, read from the packages."""
    packages = list(records)
    found: dict[str, dict[str, str]] = json.loads(locked.ask_conda("distributions", packages)) if packages else {}
    return found


def of_conda(of_platform: Locked) -> tuple[dict[str, list[Item]], list[str]]:
    """Return ({platform: its items}, names of packages that hold no distribution) of conda's lock.

    Only what depends on Python can hold one, and the same release holds the same on every platform.
    """
    python = {}
    # this machine's last, so that its packages are read: they are the ones that it has already
    for where in sorted(of_platform, key=lambda where: where == platforms.this_machine()):
        for record in of_platform[where].values():
            if any(name.startswith(("python", "_python")) for name in record.depends):
                python[record.name, record.version] = record
    contents = distributions(python.values())
    known = {key: contents[record.package.file_name] for key, record in python.items()}
    items: dict[str, list[Item]] = {}
    without = set()
    for where, records in of_platform.items():
        items[where] = []
        for record in records.values():
            found = known.get((record.name, record.version), {})
            items[where] += [Item(name, version, "conda", record.name) for name, version in found.items()]
            if not found:
                without.add(record.name)
    return items, sorted(without)


def of_poetry(
    packages: Sequence[poetry_lock.Locked], conda: Mapping[str, Iterable[str]], pythons: Mapping[str, str]
) -> tuple[list[Item], Names]:
    """Return (items, what is not asked about) of poetry.lock, without what conda installs, for all platforms.

    `conda` is {platform: names that conda installs}, `pythons` {platform: version of Python}.
    """
    items, left_out = {}, {}
    for where, python in pythons.items():
        environment = platforms.environment(where, python)
        # the dev group first: what main wants too is main's
        for groups, owner in ((["main", "dev"], "Poetry, dev"), (["main"], "Poetry")):
            for package in poetry_lock.wanted(packages, groups, environment):
                if package.name in conda.get(where, ()):
                    continue
                if (kind := package.source.get("type", "legacy")) != "legacy":
                    left_out[package.name] = f"comes from {kind}, which is not a release"
                else:
                    item = Item(package.name, package.version, owner, package.name)
                    items[item[:2]] = item
    return list(items.values()), left_out


def locked_items(folder: Path) -> tuple[list[Item], Names, list[str]]:
    """Return (items, what is not asked about, conda's packages that hold no distribution) of a project's locks."""
    # without conda the image is made for every platform that Docker has
    of_platform: Locked = locked.conda(folder, dev=True) or {p.subdir: {} for p in platforms.PLATFORMS.values() if p.docker}
    pythons = {where: locked.python(records) for where, records in of_platform.items()}
    conda, without = of_conda(of_platform)
    names = {where: {item.name for item in items} for where, items in conda.items()}
    poetry, left_out = of_poetry(poetry_lock.read(folder / "poetry.lock"), names, pythons)
    items = {item[:2]: item for item in [*poetry, *(item for found in conda.values() for item in found)]}
    return [items[key] for key in sorted(items)], left_out, without


# --- the table in pyproject.toml -------------------------------------------------------------------


def table(folder: Path) -> tuple[list[Ignored], list[str], list[str]]:
    """Return (ignore list, patterns of private names, denied licences) of [tool.couplet.audit]. Raises Usage, naming the key."""
    found = settings.table(settings.pyproject(folder)).get("audit", {})
    place = f"pyproject.toml, [{TABLE}]"
    if unknown := sorted(found.keys() - {"ignore", "private", "deny"}):
        raise Usage(f"{place}: {unknown[0]} is not known. Known are ignore, private and deny.")
    private = found.get("private", [])
    if not isinstance(private, list) or not all(isinstance(name, str) for name in private):
        raise Usage(f'{place}: private is a list of names, such as ["corp-*"].')
    deny = found.get("deny", [])
    if not isinstance(deny, list) or not all(isinstance(rule, str) for rule in deny):
        raise Usage(f'{place}: deny is a list of licences, such as ["GPL-3.0-only"].')
    for rule in (rule for rule in deny if "*" not in rule):
        if (known := licences.spdx(rule)) != rule or re.search(" (AND|OR) ", rule):
            way = (
                f"SPDX writes {known}" if known else "it is not an SPDX licence (spdx.org/licenses), and no pattern such as GPL-*"
            )
            way = way if known != rule else "name each licence by itself"
            raise Usage(f"{place}: deny has {rule!r}: {way}.")
    ignored = []
    for number, entry in enumerate(found.get("ignore", []), 1):
        place = f"pyproject.toml, [[{TABLE}.ignore]] number {number}"
        if missing := [key for key in Ignored._fields if not entry.get(key)]:
            needed = "It needs id, package, reason and until, such as until = 2030-01-31."
            raise Usage(f"{place} has no {missing[0]}. {needed}")
        if unknown := sorted(entry.keys() - set(Ignored._fields)):
            raise Usage(f"{place}: {unknown[0]} is not known. Known are {', '.join(Ignored._fields)}.")
        if type(entry["until"]) is not datetime.date:
            raise Usage(f"{place}: until is a date without quotes, such as until = 2030-01-31.")
        ignored.append(Ignored(**{**entry, "package": normalise(entry["package"])}))
    return ignored, [normalise(name) for name in private], deny


def split_off(items: Iterable[Item], private: Iterable[str]) -> tuple[list[Item], Names]:
    """Return (items to ask about, what is not): no private name leaves this machine, no odd version is asked about."""
    asked, left_out = [], {}
    for item in items:
        try:
            Version(item.version)
        except InvalidVersion:
            left_out[item.name] = f"has a version that is not valid in Python: {item.version}"
            continue
        if any(fnmatch.fnmatchcase(item.name, pattern) for pattern in private):
            left_out[item.name] = f"is private, says [{TABLE}]"
        else:
            asked.append(item)
    return asked, left_out


# --- licences --------------------------------------------------------------------------------------


def refused(folder: Path, deny: Sequence[str]) -> tuple[list[Finding], list[str]]:
    """Return (an entry for each package whose licence is denied, those whose licence is not known). Nothing is asked without a policy.

    conda's packages are those of all platforms, Poetry's those of this machine's.
    """
    if not deny:
        return [], []
    here, of_platform = platforms.this_machine(), locked.conda(folder, dev=True)
    python, groups = locked.python(of_platform.get(here, {})), settings.groups(settings.pyproject(folder))
    packages = locked.poetry(folder, here, python, [name for names in groups.values() for name in names])
    named = licences.of_poetry(packages, python)
    held = {(r.name, r.version, "conda"): r.license for records in of_platform.values() for r in records.values()}
    held |= {(package.name, package.version, "Poetry"): named[package.name] for package in packages}
    found = [
        {"package": name, "version": version, "owner": owner, "id": rule, "aliases": [], "licence": licence}
        for (name, version, owner), licence in sorted(held.items())
        if (rule := licences.denied(licence, deny))
    ]
    return found, sorted(
        name for (name, *_), licence in held.items() if not licences.spdx(licence) and not licences.denied(licence, deny)
    )


# --- the service -----------------------------------------------------------------------------------


def service() -> str:
    """Return the address that is asked: one's own, or OSV's."""
    own = Path("/run/secrets/osv_url")
    return (own.read_text().strip() if own.is_file() else "") or osv.SERVICE


def ask(items: Sequence[Item], address: str) -> list[Finding]:
    """Return what is known of the items, one entry for each vulnerability of each. Raises UserError for no whole answer."""
    try:
        answers = osv.ask(address, sorted({(item.name, item.public) for item in items}))
    except osv.NoAnswer as error:
        raise UserError(
            f"The audit failed: {plural(len(items), 'package')} could not be checked.\nRequest to {address}:\n  {error}\n"
            "It has to be reachable from this machine, through the proxy (HTTPS_PROXY) and with the certificates "
            "(SSL_CERT_FILE) of your builds.\n"
            "Another address, a company's own OSV for example: OSV_URL=https://osv.example.com make audit"
        ) from None
    return [
        {
            "package": item.name,
            "version": item.version,
            "owner": item.owner,
            "id": known.names[0],
            "aliases": known.names[1:],
            "description": known.description,
            "fixed_in": known.fixed_in,
            "to_move_it": f"make env-update PKG={item.package}",
        }
        for item in items
        for known in answers[item.name, item.public]
    ]


# --- the report ------------------------------------------------------------------------------------


def sort_out(
    found: Iterable[Finding], ignored: Sequence[Ignored], today: datetime.date
) -> tuple[list[Finding], list[Finding], list[str]]:
    """Return (what counts, what is ignored, notes on the ignore list): an entry whose date is over ignores nothing."""
    counts, quiet, notes, used = [], [], [], set()
    for entry in found:
        names = {entry["id"], *entry["aliases"]}
        rules = [rule for rule in ignored if rule.id in names and rule.package == entry["package"]]
        used |= set(rules)
        if valid := [rule for rule in rules if rule.until >= today]:
            quiet.append({**entry, "reason": valid[0].reason, "until": valid[0].until.isoformat()})
        else:
            counts.append(entry)
            over = "{0.id} of {0.package} was ignored until {0.until}, which is past ({0.reason})"
            notes += [over.format(rule) for rule in rules]
    unused = (rule for rule in ignored if rule not in used)
    notes += [f"{r.id} of {r.package} is ignored and not found: take it out of [{TABLE}]" for r in unused]
    return counts, quiet, notes


def text(data: Mapping[str, Any], without: Sequence[str]) -> str:
    """Return the report for a person. `data` is audit.json's, `without` conda's packages that hold no distribution."""
    asked, counts = data["asked"], data["found"]
    conda = sum(item["owner"] == "conda" for item in asked)
    whose = f"{conda} of conda's, {len(asked) - conda} of Poetry's" if conda or without else "of Poetry's"
    lines = [f"Asked {data['service']} about {plural(len(asked), 'Python package')}: {whose}.", ""]
    if counts:
        rows = [("package", "version", "owner", "known as", "fixed in", "to update it")]
        for entry in counts:
            names, fixed = [entry["id"], *entry["aliases"]][:3], ", ".join(entry["fixed_in"]) or "none yet"
            about = (entry["package"], entry["version"], entry["owner"])
            rows.append((*about, " ".join(names), fixed, entry["to_move_it"]))
        lines += [
            *columns(rows),
            "",
            f"Known vulnerabilities: {len(counts)}, in {plural(len({e['package'] for e in counts}), 'package')}.",
            f"No fixed version, or it does not concern you? [[{TABLE}.ignore]] in pyproject.toml, with a reason and a date.",
        ]
    else:
        lines.append("No known vulnerabilities.")
    if data["denied"]:
        heads = ("package", "version", "owner", "licence", "denied by")
        denied = [(e["package"], e["version"], e["owner"], e["licence"], f'[{TABLE}], deny: "{e["id"]}"') for e in data["denied"]]
        lines += ["", *columns([heads, *denied]), "", f"Denied licences: {plural(len(data['denied']), 'package')}."]
        lines.append(f"Replace the package, or allow it: [[{TABLE}.ignore]] in pyproject.toml with the entry of deny as its id.")
    ignored = "Ignored until {until}: {id} of {package} {version} ({reason})"
    lines += [ignored.format(**entry) for entry in data["ignored"]]
    lines += [f"Note: {note}." for note in data["notes"]]
    lines += [f"Not covered: {name} {why}." for name, why in data["not_covered"].items() if name not in without]
    if data["no_licence"]:
        lines.append(f"Not covered: the licence of {', '.join(data['no_licence'])} is not an SPDX expression.")
    if without:
        shown = ", ".join(without[:6]) + (", …" if len(without) > 6 else "")
        of_conda = f"{plural(len(without), 'package')} of conda's without a Python distribution"
        lines.append(f"Not covered: {of_conda} ({shown}).")
    return "\n".join(lines) + "\n"


def audit(folder: Path, address: str, today: datetime.date) -> tuple[int, str, dict[str, Any]]:
    """Return (exit code, the report for a person, the same as plain data) of the project in a folder."""
    shown = without_password(address)
    try:
        ignored, private, deny = table(folder)
        items, left_out, without = locked_items(folder)
        items, more = split_off(items, private)
        denied, no_licence = refused(folder, deny)
        counts, quiet, notes = sort_out([*ask(items, address), *denied], ignored, today)
    except UserError as error:
        code = USAGE if isinstance(error, Usage) else UNAVAILABLE
        message = without_password(str(error))
        return code, f"ERROR: {message}\n", {"service": shown, "error": message}
    nothing = dict.fromkeys(without, "is conda's and holds no Python distribution")
    data = {
        "service": shown,
        "asked": [item._asdict() for item in items],
        "found": [entry for entry in counts if "licence" not in entry],
        "denied": [entry for entry in counts if "licence" in entry],
        "no_licence": no_licence,
        "ignored": quiet,
        "notes": notes,
        "not_covered": dict(sorted((left_out | more).items())) | nothing,
    }
    return FOUND if counts else NOTHING, text(data, without), data


def main(arguments: list[str]) -> None:
    """Write the audit of a project's locks, whatever its exit code: a build keeps no files of a step that fails."""
    parser = argparse.ArgumentParser(prog="couplet audit", description=__doc__)
    parser.add_argument("--project", type=Path, required=True, help="folder of the project")
    parser.add_argument("--out", type=Path, required=True, help="folder for audit.txt, audit.json and audit.exit")
    options = parser.parse_args(arguments)
    network.apply()
    code, report, data = audit(options.project, service(), datetime.datetime.now(datetime.UTC).date())
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "audit.txt").write_text(report)
    (options.out / "audit.json").write_text(json.dumps(data, indent=2) + "\n")
    (options.out / "audit.exit").write_text(f"{code}\n")
