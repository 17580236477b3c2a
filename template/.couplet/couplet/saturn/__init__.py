"""The environment inside of a base image of Saturn Cloud: conda's root is ROOT, the environment to fill is PREFIX."""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/opt/saturncloud")
NAME = "saturn"
PREFIX = ROOT / "envs" / NAME
POETRY = Path("/opt/poetry")
APP = Path("/opt/app")
