"""Write template/.couplet/MANIFEST.jinja: the SHA-256 of each file that a project's .couplet/ has, for `couplet doctor`.

Files that Copier copies have their hash here; those that it renders (*.jinja) are rendered once more, and hashed by Jinja. Which
answers leave a file out is taken from `_exclude` in copier.yml.

    python -m tests.harness.manifest            write it
    python -m tests.harness.manifest --check    end with 1 where it is not what it would be written as
"""

from __future__ import annotations

import fnmatch
import hashlib
import itertools
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.harness.generated import REPOSITORY, write

FOLDER = "template/.couplet"
MANIFEST = f"{FOLDER}/MANIFEST.jinja"


class Loader(yaml.SafeLoader):
    """YAML as Copier reads it, without what `!include` includes."""


Loader.add_constructor("!include", lambda loader, node: {})


def excluded(settings: str) -> list[tuple[str, str]]:
    """Return [(condition, pattern)] of `_exclude` in the text of a copier.yml; 'true' for what no project has."""
    documents: list[dict[str, Any]] = [document or {} for document in yaml.load_all(settings, Loader)]
    patterns = [str(pattern) for document in documents for pattern in document.get("_exclude", ())]
    found = []
    for pattern in patterns:
        match = re.fullmatch(r"{%-? *if (.+?) *-?%}([^{}]+){%-? *endif *-?%}", pattern)
        if match is None and "{" in pattern:
            raise SystemExit(f"copier.yml, _exclude: {pattern!r} is none of '{{% if CONDITION %}}PATTERN{{% endif %}}'")
        found.append((match[1], match[2]) if match else ("true", pattern))
    return found


def matches(pattern: str, path: str) -> bool:
    """Return whether a pattern of `_exclude` is about a path of a project: its own, or that of a folder around it.

    As in a .gitignore, a pattern without a slash is about a name wherever it is.
    """
    parts = path.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    if "/" not in pattern.strip("/"):
        above = parts
    return any(fnmatch.fnmatchcase(each, pattern.strip("/")) for each in above)


def files(repository: Path) -> list[str]:
    """Return the paths below template/.couplet that git has or would take, sorted, without the MANIFEST's own."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", FOLDER]
    listed = subprocess.run(command, cwd=repository, check=True, capture_output=True, text=True).stdout.split("\0")
    found = {path.removeprefix(f"{FOLDER}/") for path in listed if path and path != MANIFEST and (repository / path).is_file()}
    return sorted(found, key=lambda path: path.removesuffix(".jinja"))


def manifest(repository: Path) -> str:
    """Return the text of MANIFEST.jinja for a working tree of this repository."""
    rules = excluded((repository / "copier.yml").read_text())
    entries = []
    for path in files(repository):
        name = path.removesuffix(".jinja")
        conditions = [condition for condition, pattern in rules if matches(pattern, f".couplet/{name}")]
        if name == path:
            digest = hashlib.sha256((repository / FOLDER / path).read_bytes()).hexdigest()
        else:
            digest = f"{{% set text %}}{{% include '{FOLDER}/{path}' %}}{{% endset %}}{{{{ text | hash('sha256') }}}}"
        entries.append((" and ".join(f"not ({condition})" for condition in conditions), f"{digest}  {name}\n"))
    text = ""
    for condition, group in itertools.groupby(entries, key=lambda entry: entry[0]):
        lines = "".join(line for _, line in group)
        text += f"{{% if {condition} %}}{lines}{{% endif %}}" if condition else lines
    return text


if __name__ == "__main__":
    raise SystemExit(write("tests.harness.manifest", __doc__ or "", MANIFEST, manifest(REPOSITORY)))
