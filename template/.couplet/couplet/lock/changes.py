"""What a new lock changed: a table of old and new versions, and what stayed though it was asked to change."""

from __future__ import annotations

from couplet.formats.names import normalise

Versions = dict[tuple[str, str], str]
"""(owner, name) -> version. The owner is Poetry, or conda and a platform."""


def changes(old: Versions, new: Versions) -> list[tuple[str, str, str, str]]:
    """Return (name, old version, new version, owner) of each package that changed version; - stands for none."""
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    return [(name, old.get((owner, name), "-"), new.get((owner, name), "-"), owner) for owner, name in changed]


def table_of_changes(old: Versions, new: Versions) -> list[str]:
    """Return the lines of a table `old -> new` with the owner of each package that changed version."""
    rows = changes(old, new)
    if not rows:
        return ["no package changed version"]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [f"{n:<{widths[0]}}  {a:>{widths[1]}} -> {b:<{widths[2]}}  {owner}" for n, a, b, owner in rows]


def stayed(update: set[str], old: Versions, new: Versions) -> list[str]:
    """Return those of `update` (normalised names) that are locked in the versions that they had."""
    changed = {normalise(key[1]) for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    return sorted((update & {normalise(name) for _, name in old}) - changed)
