"""Versions of Python distributions, as PEP 440 compares them."""

from __future__ import annotations

from packaging.version import InvalidVersion, Version


def same_version(one: str, other: str) -> bool:
    """Return whether two version strings mean the same (1.0 and 1.0.0 do). What is no version is compared as text."""
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other
