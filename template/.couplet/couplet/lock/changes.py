"""What a new lock moved: a table of old and new versions, and what stayed though it was asked to move."""

from distributions import normalise


def table_of_changes(old, new):
    """Return the lines of a table `old -> new` with the owner of each package that moved."""
    moved = [
        (owner, name)
        for owner, name in sorted(old.keys() | new.keys())
        if old.get((owner, name)) != new.get((owner, name))
    ]
    rows = [(name, old.get((owner, name), "-"), new.get((owner, name), "-"), owner) for owner, name in moved]
    if not rows:
        return ["no package moved"]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [f"{n:<{widths[0]}}  {a:>{widths[1]}} -> {b:<{widths[2]}}  {owner}" for n, a, b, owner in rows]


def stayed(update, before, after):
    """Return the names of `update` that are locked in the versions that they had."""
    moved = {
        normalise(n)
        for owner, n in before.keys() | after.keys()
        if before.get((owner, n)) != after.get((owner, n))
    }
    there = {normalise(n) for _, n in before}
    return sorted((update & there) - moved)
