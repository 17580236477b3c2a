"""Names of Python distributions, as PEP 503 compares them."""

from __future__ import annotations

import re


def normalise(name: str) -> str:
    """Return the name in lower case, with one dash for each run of `-`, `_` and `.` (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
