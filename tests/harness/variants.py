"""The table of variants (tests/variants.toml) as plain data."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE = Path(__file__).resolve().parents[1] / "variants.toml"


@dataclass(frozen=True)
class Variant:
    """One row: its name, what it stands for, its answers, whether it is built, and which tests look into its images."""

    name: str
    summary: str
    answers: dict[str, Any]
    build: bool
    suite: str = "whole"

    @property
    def conda(self) -> bool:
        """Whether conda has a part in its environment."""
        return self.answers.get("environment", "conda-poetry") == "conda-poetry"

    def __str__(self) -> str:
        return self.name


def variants(*, built: bool = False) -> list[Variant]:
    """Return the rows of the table, or with `built` those whose images are made."""
    return [row for row in _rows() if row.build or not built]


@functools.cache
def _rows() -> tuple[Variant, ...]:
    return tuple(Variant(name, **row) for name, row in tomllib.loads(TABLE.read_text()).items())
