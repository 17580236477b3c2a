"""What was published a moment ago waits: `min-release-age` under [tool.couplet], for conda's packages and Poetry's.

It decides what a new lock may take, not whether the old one fits: what is locked stays, and no lock gets stale by it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from couplet import settings
from couplet.errors import UserError
from couplet.formats.names import normalise

WHERE = "pyproject.toml, [tool.couplet]"
EXAMPLES = {
    "min-release-age": '"7d"',
    "min-release-age-exclude": '["numpy"]',
    "min-release-age-ignore-missing-time": "true",
}
STRICT = """
import sys
from poetry.console.application import main
from poetry.repositories.http_repository import HTTPRepository as Index
decides, named = Index._is_version_too_recent, set()
def too_recent(self, links):
    links = list(links)
    if not self._min_release_age_cutoff or all(link.upload_time for link in links):
        return decides(self, links)
    if self.name not in named:
        print("\\nno upload times:", self.name, flush=True)
    named.add(self.name)
    return True
Index._is_version_too_recent = too_recent
sys.exit(main())
"""
"""Poetry, for which a file without a time is old enough, made to leave out the release of such a file."""


class Cooldown(NamedTuple):
    """How long a release has to have been out (None: no time), and the names, normalised, that this is not about."""

    age: timedelta | None = None
    exclude: frozenset[str] = frozenset()
    ignore_missing_time: bool = False

    @property
    def strict(self) -> bool:
        """Whether what has no time counts as too new."""
        return self.age is not None and not self.ignore_missing_time

    def poetry(self, project: Path, held: Iterable[str]) -> dict[str, str]:
        """Return the variables that tell Poetry of it. The age of what conda has on all platforms is conda's affair.

        A variable hides the same setting in poetry.toml, so that what stands there is added here.
        """
        path = project / "poetry.toml"
        try:
            own = tomllib.loads(path.read_text())["solver"] if path.is_file() else {}
            names, days = own.get("min-release-age-exclude", ()), int(own.get("min-release-age", 0))
        except KeyError:
            names, days = (), 0
        except (ValueError, TypeError) as error:
            raise UserError(f"poetry.toml cannot be read: {error}") from None
        exclude = ",".join(sorted({*self.exclude, *held, *names}))
        found = {"POETRY_SOLVER_MIN_RELEASE_AGE_EXCLUDE": exclude} if exclude else {}
        if self.age:
            found["POETRY_SOLVER_MIN_RELEASE_AGE"] = str(max(self.age.days, days))
        return found

    def explain(self, said: str) -> list[str]:
        """Return what to do where rattler's or Poetry's message tells of releases that were left out for their age."""
        lines, days = [], self.age.days if self.age else 0
        if re.search(r"uploaded after the cutoff|due to solver\.min-release-age", said):
            lines.append(
                f"{WHERE}: min-release-age leaves out what was published in the last {days} days.\n"
                'Wait, ask for an older version, or exempt a package by its name: min-release-age-exclude = ["name"].'
            )
        if index := re.search(r"has no timestamp|no upload times: (.*)", said):
            who = f"The index {index[1]}" if index[1] else "The channel"
            lines.append(
                f"{who} gives no upload times, and min-release-age leaves out what has none. To let all of that in,\n"
                f"write in {WHERE}: min-release-age-ignore-missing-time = true."
            )
        return lines


def read(document: dict[str, Any]) -> Cooldown:
    """Return what a pyproject.toml says. Raises UserError for a wrong value."""
    found = settings.table(document)
    age, exclude, ignore = (found.get(key) for key in EXAMPLES)
    length = re.fullmatch(r"(\d{1,4})([dw])", age) if isinstance(age, str) else None
    names = [] if exclude is None else exclude
    right = (
        age is None or length,
        isinstance(names, list) and all(isinstance(name, str) and re.fullmatch(r"[\w.-]+", name) for name in names),
        ignore is None or isinstance(ignore, bool),
    )
    for (key, example), fine in zip(EXAMPLES.items(), right, strict=True):
        if not fine:
            raise UserError(f"{WHERE}: {key} is {found[key]!r}. Example: {key} = {example}")
    days = timedelta(int(length[1]) * (7 if length[2] == "w" else 1)) if length else timedelta()
    return Cooldown(days or None, frozenset(map(normalise, names)), bool(ignore))
