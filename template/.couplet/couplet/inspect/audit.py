"""Look up known vulnerabilities of what the locks hold: conda's Python distributions and Poetry's packages.

pip-audit asks an OSV service about names and versions; nothing is installed and no image is needed. Every locked
platform and the dev group are looked up too. Writes audit.txt, audit.json and audit.exit, the exit code for
scripts/audit.sh: 0 nothing known, 1 something found, 64 the table in pyproject.toml is wrong, 69 no answer.
"""

import argparse
import datetime
import fnmatch
import json
import os
import platform
import re
import subprocess
import tempfile
import time
import tomllib
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from packaging.markers import default_environment
from packaging.version import InvalidVersion, Version

import poetry_lock
from distributions import normalise
from errors import BuildError, run, without_password

SERVICE = "https://api.osv.dev/v1/query"
PIP_AUDIT = "/opt/audit/bin/pip-audit"
CONDAS_PYTHON = "/opt/conda/bin/python"
TABLE = "tool.couplet.audit"
TRIES = 3
PLATFORMS = {
    "linux-64": ("linux", "Linux", "x86_64"),
    "linux-aarch64": ("linux", "Linux", "aarch64"),
    "osx-arm64": ("darwin", "Darwin", "arm64"),
}
NOTHING, FOUND, USAGE, UNAVAILABLE = 0, 1, 64, 69


class Usage(BuildError):
    """The table in pyproject.toml is not what it has to be."""


class Item(NamedTuple):
    """What is asked about: a Python distribution in a version, whose it is, and the name by which it moves."""

    name: str
    version: str
    owner: str
    package: str


class Ignored(NamedTuple):
    """An entry of the ignore list: a vulnerability, by any of its names, in one package."""

    id: str
    package: str
    reason: str
    until: datetime.date


# --- what the locks hold ---------------------------------------------------------------------------


def conda_entries(path):
    """Return {platform: [entry]} of conda-lock.yml, {} where conda has no part."""
    if not path.is_file():
        return {}
    from ruamel.yaml import YAML

    found = {}
    for entry in YAML(typ="safe").load(path.read_text())["package"]:
        found.setdefault(entry["platform"], []).append(entry)
    return found


def held(entries):
    """Return {archive: {distribution: version}}: what conda's packages really hold, read from the packages."""
    lines = ["@EXPLICIT"]
    for entry in entries:
        lines.append(f"# sha256 {entry['hash']['sha256']} {entry['url'].rsplit('/', 1)[-1]}")
        lines.append(f"{entry['url']}#{entry['hash']['md5']}")
    with tempfile.NamedTemporaryFile("w", suffix=".lock") as lock:
        lock.write("\n".join(lines) + "\n")
        lock.flush()
        command = [CONDAS_PYTHON, "-B", Path(__file__).with_name("conda_packages.py"), "distributions"]
        done = subprocess.run([*command, lock.name], capture_output=True, text=True)
    if done.returncode:
        raise BuildError(done.stderr.strip().removeprefix("ERROR: "))
    return json.loads(done.stdout)


def of_conda(locked):
    """Return ({platform: [Item]}, names of packages that hold no distribution) of conda's lock.

    Only what depends on Python can hold one, and the same release holds the same on every platform.
    """
    known, items, without = {}, {platform: [] for platform in locked}, set()
    for where, entries in sorted(locked.items()):
        python = [e for e in entries if any(d.startswith(("python", "_python")) for d in e["dependencies"])]
        without |= {e["name"] for e in entries} - {e["name"] for e in python}
        new = [e for e in python if (e["name"], e["version"]) not in known]
        contents = held(new) if new else {}
        for entry in new:
            known[entry["name"], entry["version"]] = contents[entry["url"].rsplit("/", 1)[-1]]
        for entry in python:
            distributions = known[entry["name"], entry["version"]]
            items[where] += [Item(n, v, "conda", entry["name"]) for n, v in distributions.items()]
            if not distributions:
                without.add(entry["name"])
    return items, sorted(without)


def of_poetry(packages, conda, pythons):
    """Return ([Item], {name: why it is not asked about}) of poetry.lock, without what conda holds, for all platforms.

    `conda` is {platform: names that conda holds}, `pythons` {platform: version of Python}.
    """
    items, left_out = {}, {}
    for where, (system, name, machine) in PLATFORMS.items():
        if where not in pythons:
            continue
        environment = {
            **default_environment(),
            "sys_platform": system,
            "platform_system": name,
            "platform_machine": machine,
            "python_version": ".".join(pythons[where].split(".")[:2]),
            "python_full_version": pythons[where],
            "extra": "",
        }
        # the dev group first: what main wants too is main's
        for groups, owner in ((["main", "dev"], "Poetry, dev"), (["main"], "Poetry")):
            for package in poetry_lock.wanted(packages, groups, environment):
                if package.name in conda.get(where, ()):
                    continue
                if package.source.get("type", "legacy") != "legacy":
                    left_out[package.name] = f"comes from {package.source['type']}, which is no release"
                else:
                    key = (package.name, package.version)
                    items[key] = Item(package.name, package.version, owner, package.name)
    return list(items.values()), left_out


def locked_items(project):
    """Return ([Item], {name: why it is not asked about}, conda's packages that are no distribution) of a project."""
    locked = conda_entries(project / "conda-lock.yml")
    conda, without = of_conda(locked)
    pythons = {
        where: next((e["version"] for e in entries if e["name"] == "python"), platform.python_version())
        for where, entries in locked.items()
    } or dict.fromkeys(["linux-64", "linux-aarch64"], platform.python_version())
    names = {where: {item.name for item in items} for where, items in conda.items()}
    poetry, left_out = of_poetry(poetry_lock.read(project / "poetry.lock"), names, pythons)
    items = {item[:2]: item for item in [*poetry, *(item for found in conda.values() for item in found)]}
    return [items[key] for key in sorted(items)], left_out, without


# --- the table in pyproject.toml -------------------------------------------------------------------


def settings(project):
    """Return ([Ignored], patterns of private names) of [tool.couplet.audit]. Raises Usage, naming the key."""
    document = tomllib.loads((project / "pyproject.toml").read_text())
    table = document.get("tool", {}).get("couplet", {}).get("audit", {})
    if unknown := sorted(table.keys() - {"ignore", "private"}):
        raise Usage(f"pyproject.toml, [{TABLE}]: there is no {unknown[0]}, only ignore and private.")
    private = table.get("private", [])
    if not isinstance(private, list) or not all(isinstance(name, str) for name in private):
        raise Usage(f'pyproject.toml, [{TABLE}]: private is a list of names, such as ["corp-*"].')
    ignored = []
    for number, entry in enumerate(table.get("ignore", []), 1):
        place = f"pyproject.toml, [[{TABLE}.ignore]] number {number}"
        for key in ("id", "package", "reason", "until"):
            if not entry.get(key):
                raise Usage(
                    f"{place} has no {key}. It needs id, package, reason and until, such as until = 2030-01-31."
                )
        if unknown := sorted(entry.keys() - set(Ignored._fields)):
            raise Usage(f"{place}: there is no {unknown[0]}, only {', '.join(Ignored._fields)}.")
        if type(entry["until"]) is not datetime.date:
            raise Usage(f"{place}: until is a date without quotes, such as until = 2030-01-31.")
        ignored.append(Ignored(**{**entry, "package": normalise(entry["package"])}))
    return ignored, [normalise(name) for name in private]


def split_off(items, private):
    """Return (items to ask about, {name: why not}): no private name leaves this machine, no odd version is asked."""
    asked, left_out = [], {}
    for item in items:
        if any(fnmatch.fnmatchcase(item.name, pattern) for pattern in private):
            left_out[item.name] = f"is private, says [{TABLE}]"
            continue
        try:
            Version(item.version)
        except InvalidVersion:
            left_out[item.name] = f"has a version that is none of Python's: {item.version}"
            continue
        asked.append(item)
    return asked, left_out


# --- the service -----------------------------------------------------------------------------------


def service():
    """Return the address that is asked: one's own, by pip-audit's own variable, or OSV's."""
    own = Path("/run/secrets/osv_url")
    return (own.read_text().strip() if own.is_file() else "") or SERVICE


def public(item):
    """Return the version that is asked about: 2.5.1 for 2.5.1+cu121, since a local build has its release's faults."""
    return Version(item.version).public


def rounds(items):
    """Return lists of items that hold each name once: pip-audit takes one version of a package at a time."""
    lists = []
    for item in items:
        free = next((found for found in lists if item.name not in found), None)
        if free is None:
            lists.append(free := {})
        free[item.name] = item
    return [list(found.values()) for found in lists]


def ask(items, address):
    """Return {(name, version): [pip-audit's finding]} of all items. Raises BuildError where there is no whole answer."""
    found = {}
    for part in rounds(items):
        for attempt in range(TRIES):
            time.sleep(attempt**2)
            answer, said = one_call(part, address)
            if answer is not None or refused(said):
                break
        if answer is None:
            raise BuildError(explained(said, address, len(items)))
        # of these pip-audit says on the side that it leaves them out
        if unread := re.search(r"Unsupported OSV schema.*|OSV vuln entry .* is missing .*", said):
            raise BuildError(
                f"There is no audit: {address} answers in a form that pip-audit does not read ({unread[0].strip()})."
            )
        by_name = {normalise(entry["name"]): entry for entry in answer["dependencies"]}
        for item in part:
            entry = by_name.get(item.name, {})
            if "vulns" not in entry:
                raise BuildError(
                    f"pip-audit says nothing of {item.name} {item.version}: {entry.get('skip_reason', 'it is missing')}."
                )
            found[item.name, item.version] = entry["vulns"]
    return found


def one_call(items, address):
    """Run pip-audit once; return (its answer or None, what it said)."""
    with tempfile.TemporaryDirectory() as scratch:
        wanted, out = Path(scratch, "requirements.txt"), Path(scratch, "answer.json")
        wanted.write_text("".join(f"{item.name}=={public(item)}\n" for item in items))
        # The versions are the locks': no environment is made, and no index is asked.
        words = ["--requirement", wanted, "--no-deps", "--disable-pip", "--progress-spinner", "off"]
        words += ["--vulnerability-service", "osv", "--osv-url", address, "--timeout", "30"]
        words += ["--format", "json", "--aliases", "on", "--desc", "on", "--output", out]
        done = subprocess.run(
            [PIP_AUDIT, *words], env={**os.environ, "HOME": scratch}, capture_output=True, text=True
        )
        # It ends with 1 where it finds something and where it breaks: only a whole answer is one.
        try:
            return json.loads(out.read_text()), done.stderr
        except (FileNotFoundError, json.JSONDecodeError):
            return None, done.stderr


def status(said):
    """Return the HTTP status of an error that pip-audit reported, or None."""
    match = re.search(r"HTTPError: (\d{3})\b", said)
    return int(match[1]) if match else None


def refused(said):
    """Return whether the service said no, so that asking again is of no use."""
    return (status(said) or 0) in range(400, 429)


def explained(said, address, count):
    """Return the message for a service that gave no whole answer: what was asked, what happened, what to do."""
    host = urlsplit(address).hostname or address
    # of a traceback, what was raised
    said = "\n".join(line for line in said.splitlines() if re.match(r"[\w.]+(:|$)", line))
    certificate = re.search(r"certificate verify failed: ([^(]*)", said)
    if status(said) in (401, 403, 407):
        why = f"it answers HTTP {status(said)}. User name and password go into .netrc: machine {host} login … password …"
    elif status(said) == 404:
        why = "it answers HTTP 404. Is the address whole? One of OSV ends in /v1/query"
    elif status(said):
        why = f"it answers HTTP {status(said)}"
    elif certificate:
        why = f"its certificate is not known here ({certificate[1].strip()}). Your own CA: SSL_CERT_FILE=/path/to/ca.pem"
    elif re.search(r"IncompleteRead|JSONDecodeError|KeyError|TypeError|ChunkedEncodingError", said):
        why = "its answer was cut short, or is none of OSV's"
    elif "ProxyError" in said:
        why = "the proxy does not let it through"
    elif re.search(r"NameResolutionError|Failed to resolve", said):
        why = f"no name server knows {host}"
    elif re.search(r"Connection refused", said):
        why = "nobody listens there (connection refused)"
    elif re.search(r"Connection aborted|RemoteDisconnected|Connection reset", said):
        why = "it ended the connection without an answer"
    elif re.search(r"Timeout|timed out|Could not connect to OSV", said):
        why = "no answer within 30 seconds"
    else:
        why = (said.strip().splitlines() or ["pip-audit said nothing"])[-1]
    return (
        f"There is no audit: of {count} packages nothing is known.\n"
        f"Asked was {address}\n"
        f"  {why}\n"
        "It has to be in reach of this machine, through the proxy (HTTPS_PROXY) and with the certificates (SSL_CERT_FILE) of "
        "your builds.\n"
        "Another address, a company's own OSV for example: PIP_AUDIT_OSV_URL=https://osv.example.com/v1/query make audit"
    )


# --- the report ------------------------------------------------------------------------------------


def findings(items, answers):
    """Return a dictionary for each vulnerability of each item."""
    return [
        {
            "package": item.name,
            "version": item.version,
            "owner": item.owner,
            "id": vulnerability["id"],
            "aliases": sorted(vulnerability.get("aliases", ())),
            "description": vulnerability.get("description", ""),
            "fixed_in": [
                version
                for version in vulnerability["fix_versions"]
                if Version(version) > Version(public(item))
            ],
            "to_move_it": f"make env-update PKG={item.package}",
        }
        for item in items
        for vulnerability in answers[item.name, item.version]
    ]


def sort_out(found, ignored, today):
    """Return (what counts, what is ignored, notes on the ignore list): a passed date ignores nothing."""
    counts, quiet, notes, used = [], [], [], set()
    for entry in found:
        names = {entry["id"], *entry["aliases"]}
        rules = [r for r in ignored if r.id in names and r.package == entry["package"]]
        used |= set(rules)
        valid = [rule for rule in rules if rule.until >= today]
        if valid:
            quiet.append({**entry, "reason": valid[0].reason, "until": valid[0].until.isoformat()})
        else:
            counts.append(entry)
            notes += [
                f"{r.id} of {r.package} was ignored until {r.until}, which is over ({r.reason})"
                for r in rules
            ]
    notes += [
        f"{r.id} of {r.package} is ignored and not found: take it out of [{TABLE}]"
        for r in ignored
        if r not in used
    ]
    return counts, quiet, notes


def columns(rows):
    """Return the rows as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def plural(count, noun):
    """Return `1 package`, `2 packages`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def text(address, items, counts, quiet, notes, left_out, without):
    """Return the report for a person."""
    conda = sum(item.owner == "conda" for item in items)
    whose = f"{conda} of conda's, {len(items) - conda} of Poetry's" if conda or without else "of Poetry's"
    lines = [f"Asked {address} about {plural(len(items), 'Python package')}: {whose}.", ""]
    if counts:
        rows = [("package", "version", "owner", "known as", "fixed in", "to move it")]
        for entry in counts:
            rows.append(
                (
                    entry["package"],
                    entry["version"],
                    entry["owner"],
                    " ".join([entry["id"], *entry["aliases"]][:3]),
                    ", ".join(entry["fixed_in"]) or "none yet",
                    entry["to_move_it"],
                )
            )
        lines += columns(rows)
        lines += [
            "",
            f"Known vulnerabilities: {len(counts)}, in {len({e['package'] for e in counts})} packages.",
        ]
        lines += [
            f"Nothing to move to, or it does not concern you? [[{TABLE}.ignore]] in pyproject.toml, with a reason and a date."
        ]
    else:
        lines.append("No known vulnerabilities.")
    lines += [
        f"Ignored until {e['until']}: {e['id']} of {e['package']} {e['version']} ({e['reason']})"
        for e in quiet
    ]
    lines += [f"Note: {note}." for note in notes]
    lines += [f"Not covered: {name} {why}." for name, why in sorted(left_out.items())]
    if without:
        shown = ", ".join(without[:6]) + (", …" if len(without) > 6 else "")
        lines.append(
            f"Not covered: {plural(len(without), 'package')} of conda's that hold no Python distribution ({shown})."
        )
    return "\n".join(lines) + "\n"


def audit(project, today):
    """Return (exit code, report, all of it as plain data) of the project in a folder."""
    address = without_password(service())
    try:
        ignored, private = settings(project)
        items, left_out, without = locked_items(project)
        items, more = split_off(items, private)
        left_out |= more
        answers = ask(items, service())
    except BuildError as error:
        code = USAGE if isinstance(error, Usage) else UNAVAILABLE
        message = without_password(str(error))
        return code, f"ERROR: {message}\n", {"service": address, "error": message}
    counts, quiet, notes = sort_out(findings(items, answers), ignored, today)
    data = {
        "service": address,
        "asked": [item._asdict() for item in items],
        "found": counts,
        "ignored": quiet,
        "notes": notes,
        "not_covered": {**left_out, **dict.fromkeys(without, "is conda's and holds no Python distribution")},
    }
    report = text(address, items, counts, quiet, notes, left_out, without)
    return FOUND if counts else NOTHING, report, data


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    code, report, data = audit(options.project, datetime.datetime.now(datetime.UTC).date())
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "audit.txt").write_text(report)
    (options.out / "audit.json").write_text(json.dumps(data, indent=2) + "\n")
    (options.out / "audit.exit").write_text(f"{code}\n")


if __name__ == "__main__":
    run(main)
