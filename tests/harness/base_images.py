"""`nox -s pin-base-images`: what the registries have of the template's base images today: digests, and newer tags of the same form.

`-- --write` puts newer tags into questions/90_derived.yml. A registry that cannot be asked is said to be so, and is an
error in the end: its images were not checked then.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode, urljoin

from tests.harness import template

HUB = "registry-1.docker.io"
FILE = "questions/90_derived.yml"
KINDS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


class Image(NamedTuple):
    """An image of the template: its question, its name and tag, and whether an answer decides the tag."""

    question: str
    name: str
    tag: str
    asked: bool


class Unreachable(Exception):
    """A registry that does not answer, or does not know the image; the message says which and why."""


def images(folder: Path = template.REPOSITORY) -> list[Image]:
    """Return the template's images, one a Python where the tag names Python."""
    questions = template.questions(folder)
    found = []
    for question, about in questions.items():
        if question.endswith("_image"):
            name, _, tag = about["default"].rpartition(":")
            if "{{" in tag:
                pythons = questions["python_version"]["choices"]
                found += [Image(question, name, re.sub(r"\{\{.*?\}\}", python, tag), True) for python in pythons]
            else:
                found.append(Image(question, name, tag, False))
    return found


def newest(tag: str, tags: list[str]) -> str:
    """Return the highest of the tags that have the form of `tag` (26.3.2-3: numbers at the same places), or `tag` itself."""
    if not re.search(r"\d", tag):
        return tag
    form = re.compile("".join(r"(\d+)" if part.isdigit() else re.escape(part) for part in re.split(r"(\d+)", tag)))
    alike = [match for match in map(form.fullmatch, {*tags, tag}) if match]
    return max(alike, key=lambda match: tuple(map(int, match.groups())))[0]


class Registry:
    """A registry's API (the OCI distribution specification), with the anonymous token that public ones ask for."""

    def __init__(self, prefix: str = "") -> None:
        """`prefix` stands in front of every image's name, as REGISTRY does in a generated repository."""
        self.prefix = prefix.strip("/")
        self.tokens: dict[str, str] = {}

    def place(self, name: str) -> tuple[str, str]:
        """Return (address of the registry, name in it) of an image."""
        host, _, rest = f"{self.prefix}/{name}".strip("/").partition("/")
        if not rest or not re.search(r"[.:]|^localhost$", host):
            host, rest = HUB, name if "/" in name else f"library/{name}"
        scheme = "http" if re.match(r"(127\.|localhost\b)", host) else "https"
        return f"{scheme}://{host}", rest

    def digest(self, image: Image) -> str:
        """Return the digest of an image's tag, of the index where it is one. Raises Unreachable."""
        address, name = self.place(image.name)
        headers, _ = self._ask(f"{address}/v2/{name}/manifests/{image.tag}", method="HEAD")
        return headers["Docker-Content-Digest"]

    def tags(self, image: Image) -> list[str]:
        """Return all tags of an image. Raises Unreachable."""
        address, name = self.place(image.name)
        url, found = f"{address}/v2/{name}/tags/list?n=1000", []
        while url:
            headers, body = self._ask(url)
            found += json.loads(body)["tags"] or []
            following = re.match(r'<([^>]*)>; *rel="?next', headers.get("Link", ""))
            url = urljoin(url, following[1]) if following else ""
        return found

    def _ask(self, url: str, method: str = "GET") -> tuple[dict, bytes]:
        for attempt in itertools.count():
            headers = {
                "Accept": ", ".join(KINDS),
                **({"Authorization": f"Bearer {self.tokens[url]}"} if url in self.tokens else {}),
            }
            try:
                with urllib.request.urlopen(urllib.request.Request(url, headers=headers, method=method), timeout=30) as answer:
                    return answer.headers, answer.read()
            except urllib.error.HTTPError as error:
                wanted = error.headers.get("WWW-Authenticate", "")
                if error.code == 401 and wanted.startswith("Bearer ") and not attempt:
                    self.tokens[url] = self._token(dict(re.findall(r'(\w+)="([^"]*)"', wanted)))
                    continue
                raise Unreachable(f"{url.split('/v2/')[0]} answers HTTP {error.code}") from None
            except OSError as error:
                raise Unreachable(f"{url.split('/v2/')[0]} does not answer: {getattr(error, 'reason', error)}") from None

    def _token(self, challenge: dict[str, str]) -> str:
        asked = {key: challenge[key] for key in ("service", "scope") if key in challenge}
        try:
            with urllib.request.urlopen(f"{challenge['realm']}?{urlencode(asked)}", timeout=30) as answer:
                found = json.load(answer)
        except (OSError, KeyError, ValueError) as error:
            raise Unreachable(f"there is no token from {challenge.get('realm', 'anywhere')}: {error}") from None
        return found.get("token") or found["access_token"]


def write(folder: Path, old: str, new: str) -> list[str]:
    """Put a newer image into the template's questions; return the other files that name the old one."""
    file = folder / FILE
    text = file.read_text()
    if f"default: {old}\n" not in text:
        raise SystemExit(f"{FILE} has no line `default: {old}`")
    file.write_text(text.replace(f"default: {old}\n", f"default: {new}\n"))
    named = [
        path for path in folder.rglob("*") if path.suffix in (".py", ".md", ".yml", ".toml", ".Dockerfile") and path.is_file()
    ]
    return sorted(
        str(p.relative_to(folder)) for p in named if not re.match(r"\.", str(p.relative_to(folder))) and old in p.read_text()
    )


def main() -> int:
    """Show what the registries have; return 1 where one could not be asked."""
    parser = argparse.ArgumentParser(prog="nox -s pin-base-images --", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put newer tags into the template")
    parser.add_argument("--registry", default="", help="a prefix for all of them, such as registry.example.com/")
    parser.add_argument("--folder", type=Path, default=template.REPOSITORY, help="the template")
    options = parser.parse_args()
    registry, missing = Registry(options.registry), []
    for image in images(options.folder):
        old = f"{image.name}:{image.tag}"
        try:
            digest = registry.digest(image)
            best = image.tag if image.asked else newest(image.tag, registry.tags(image))
        except Unreachable as error:
            print(f"{old}\n    cannot be asked: {error}")
            missing.append(old)
            continue
        print(f"{old}\n    {digest}")
        if best != image.tag:
            print(f"    newer: {image.name}:{best}")
            if options.write:
                others = write(options.folder, old, f"{image.name}:{best}")
                print(f"    written into {FILE}; the old one is named in {', '.join(others) or 'nothing else'}")
    if missing:
        print(f"\nNothing is known of {len(missing)} of them: their registries could not be asked.", file=sys.stderr)
    return int(bool(missing))


if __name__ == "__main__":
    raise SystemExit(main())
