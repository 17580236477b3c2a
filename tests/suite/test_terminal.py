"""The terminal that tests type into."""

from __future__ import annotations

import subprocess

import pytest

from tests.harness.terminal import Session


def test_the_end_of_a_program_is_waited_for_with_a_bound():
    """What it printed last is on the screen; one that goes on is an error, and not a test that never ends."""
    with Session(["sh", "-c", "seq 5000; exit 7"]) as session:
        assert session.ended() == 7 and session.screen.rstrip().endswith("5000")
    with Session(["sleep", "60"]) as session, pytest.raises(subprocess.TimeoutExpired):
        session.ended(0.5)
