"""What OSV's API knows of Python packages: all are asked about in one request (querybatch), then each vulnerability is read once.

https://google.github.io/osv.dev/api
"""

from __future__ import annotations

import base64
import json
import netrc
import os
import re
import socket
import ssl
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from time import sleep
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import Request, urlopen

from packaging.version import InvalidVersion, Version

from couplet.errors import UserError
from couplet.formats.names import normalise

SERVICE = "https://api.osv.dev"
MOST = 1000
"""Packages in one request: OSV's own limit."""
TRIES, PATIENCE = 3, 30
"""How often a request is made that gets no answer, and the seconds that each is waited for."""
Package = tuple[str, str]
"""Name and version, which is no local one."""
UNREAD = "its answer was cut short, or is not in OSV's format"


class NoAnswer(UserError):
    """There is no whole answer; the message says why."""


class Vulnerability(NamedTuple):
    """One of a package: its names, the best known first, and the later versions that do not have it."""

    names: list[str]
    description: str
    fixed_in: list[str]


def address(text: str) -> str:
    """Return where a service is, without the end that pip-audit wants. Raises NoAnswer for what is no address."""
    if not re.match(r"https?://[^/]", text):
        raise NoAnswer("that is not an address. Example: https://osv.example.com")
    return re.sub(r"(/v1(/query)?)?/*\Z", "", text)


def credentials(service: str) -> str:
    """Return user:password of an address, or of the .netrc that NETRC names; '' for none."""
    parts, file = urlsplit(service), os.environ.get("NETRC")
    if parts.username:
        return f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    try:
        found = netrc.netrc(file).authenticators(parts.hostname or "") if file else None
    except (OSError, netrc.NetrcParseError) as error:
        raise NoAnswer(f".netrc cannot be read: {error}") from None
    return f"{found[0]}:{found[2]}" if found else ""


def call(service: str, path: str, question: object = None) -> Any:
    """Return the JSON at a path; a question is posted. Raises NoAnswer."""
    parts = urlsplit(service)
    url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() + path
    data = None if question is None else json.dumps(question).encode()
    request = Request(url, data, {"Content-Type": "application/json", "User-Agent": "couplet"})
    if who := credentials(service):
        # not for whom it redirects to
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(who.encode()).decode()}")
    context = ssl.create_default_context()
    # as pip has it: many a company's CA is not that strict
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    why = ""
    for attempt in range(TRIES):
        sleep(attempt**2)
        try:
            with urlopen(request, timeout=PATIENCE, context=context) as answer:
                return json.load(answer)
        except (OSError, HTTPException, ValueError) as error:
            why = reason(error, parts.hostname or "")
            # who is refused asks once; 429 is "too many requests"
            if isinstance(error, HTTPError) and 400 <= error.code < 500 and error.code != 429:
                break
    raise NoAnswer(why)


def reason(error: Exception, host: str) -> str:
    """Return what an error of a request means, in plain words."""
    cause = error.reason if isinstance(error, URLError) and not isinstance(error, HTTPError) else error
    match cause:
        case HTTPError(code=401 | 403 | 407):
            return f"it answers HTTP {cause.code}. User name and password go into .netrc: machine {host} login … password …"
        case HTTPError(code=404):
            return "it answers HTTP 404. Is the address right? /v1/querybatch is added to it"
        case HTTPError():
            return f"it answers HTTP {cause.code}"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not known here ({cause.verify_message}). Your own CA: SSL_CERT_FILE=/path/to/ca.pem"
        case socket.gaierror():
            return f"no name server knows {host}"
        case ConnectionRefusedError():
            return "nobody listens there (connection refused)"
        case TimeoutError():
            return f"no answer within {PATIENCE} seconds"
        case ConnectionError():
            return "it ended the connection without an answer"
        case OSError() if "Tunnel connection failed" in str(cause):
            return f"the proxy does not let it through ({cause})"
        case OSError():
            return f"{type(cause).__name__}: {cause}"
    return UNREAD


def named(service: str, packages: Iterable[Package]) -> dict[Package, set[str]]:
    """Return the ids of what is known of each package."""
    found: dict[Package, set[str]] = {package: set() for package in packages}
    waiting = [(package, "") for package in found]
    while waiting:
        asked, waiting = waiting[:MOST], waiting[MOST:]
        queries = [
            {"package": {"ecosystem": "PyPI", "name": name}, "version": version} | ({"page_token": page} if page else {})
            for (name, version), page in asked
        ]
        results = call(service, "/v1/querybatch", {"queries": queries})["results"]
        for (package, _), result in zip(asked, results, strict=True):
            found[package].update(known["id"] for known in result.get("vulns", ()))
            if page := result.get("next_page_token"):
                waiting.append((package, page))
    return found


def advisory(service: str, id: str) -> dict[str, Any]:
    """Return a vulnerability in OSV's schema. Raises NoAnswer for a schema that is not known here."""
    found: dict[str, Any] = call(service, f"/v1/vulns/{quote(id, safe='')}")
    if (schema := str(found.get("schema_version", "1"))).partition(".")[0] != "1":
        raise NoAnswer(f"it answers in a form that is not known here ({id} in schema {schema})")
    return found


def rank(name: str) -> tuple[int, str]:
    """Return the order of a vulnerability's names."""
    return next((n for n, kind in enumerate(("PYSEC-", "CVE-")) if name.startswith(kind)), 2), name


def fixes(known: Mapping[str, Any], package: Package) -> set[Version]:
    """Return the versions after the package's that do not have a vulnerability, by its advisory."""
    found = set()
    for part in known.get("affected", ()):
        of = part.get("package", {})
        if of.get("ecosystem") != "PyPI" or normalise(of.get("name", "")) != package[0]:
            continue
        for event in (event for span in part.get("ranges", ()) if span["type"] == "ECOSYSTEM" for event in span["events"]):
            try:
                found.add(Version(event["fixed"]))
            except (KeyError, InvalidVersion):
                continue
    return {version for version in found if version > Version(package[1])}


def merged(advisories: Iterable[Mapping[str, Any]], package: Package) -> list[Vulnerability]:
    """Return what is known of a package, in order: advisories that share a name are one, those that were withdrawn none."""
    groups: list[tuple[set[str], list[Mapping[str, Any]]]] = []
    for known in advisories:
        if known.get("withdrawn"):
            continue
        names, all_known = {known["id"], *known.get("aliases", ())}, [known]
        for group in [group for group in groups if group[0] & names]:
            groups.remove(group)
            names, all_known = names | group[0], group[1] + all_known
        groups.append((names, all_known))
    found = []
    for names, all_known in groups:
        texts = [known.get("summary") or known.get("details") or "" for known in all_known]
        fixed = sorted(set().union(*(fixes(known, package) for known in all_known)))
        text = " ".join(next(filter(None, texts), "").split())
        found.append(Vulnerability(sorted(names, key=rank), text, [str(version) for version in fixed]))
    return sorted(found, key=lambda each: rank(each.names[0]))


def ask(service: str, packages: Iterable[Package]) -> dict[Package, list[Vulnerability]]:
    """Return what is known of each package. Raises NoAnswer unless all of it was told."""
    service = address(service)
    try:
        ids = named(service, packages)
        every = sorted(set().union(*ids.values()))
        with ThreadPoolExecutor(8) as pool:
            known = dict(zip(every, pool.map(lambda id: advisory(service, id), every), strict=True))
        return {package: merged([known[id] for id in sorted(found)], package) for package, found in ids.items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise NoAnswer(UNREAD) from None
