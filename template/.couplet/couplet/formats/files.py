"""Files that are whole or not there."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that its name never stands for half of it, whoever else is writing the same one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # two builds have the same process numbers
    half = path.with_name(f"{path.name}.{os.urandom(4).hex()}.half")
    try:
        half.write_bytes(content)
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


def sha256(path: str) -> str:
    """Return the SHA-256 of a file, in hexadecimal. `path` is a string: some callers have tens of thousands."""
    with open(path, "rb", buffering=0) as file:
        return hashlib.sha256(file.read()).hexdigest()
