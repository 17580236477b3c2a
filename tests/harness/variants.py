"""The table of variants (tests/variants.toml) as plain data."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE = Path(__file__).resolve().parents[1] / "variants.toml"


@dataclass(frozen=True)
class Variant:
    """One row: its name, what it stands for, its answers, and whether it is built."""

    name: str
    summary: str
    answers: dict[str, Any]
    build: bool

    def __str__(self) -> str:
        return self.name


def variants(*, built: bool = False) -> list[Variant]:
    """Return the rows of the table, or with `built` those whose images are made."""
    rows = [Variant(name, **row) for name, row in tomllib.loads(TABLE.read_text()).items()]
    return [row for row in rows if row.build or not built]
