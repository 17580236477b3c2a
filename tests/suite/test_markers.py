"""Which tests need an engine: those whose fixtures have one, and no others find any."""

from __future__ import annotations

import os
import subprocess

import pytest


def engine() -> subprocess.CompletedProcess:
    """Ask the engine that docker would use for its version, as a shell does: there may be no docker either."""
    return subprocess.run(["sh", "-c", "docker version"], capture_output=True)


def test_a_test_that_asks_for_no_engine_finds_none(request: pytest.FixtureRequest):
    """Nor where none runs: what docker would ask is nowhere."""
    assert request.node.get_closest_marker("engine") is None
    assert os.environ["DOCKER_HOST"] == "unix:///dev/null" and engine().returncode != 0


def test_a_test_whose_fixtures_have_an_engine_is_marked_and_finds_it(request: pytest.FixtureRequest, package_sources: str):
    """The negative control."""
    assert request.node.get_closest_marker("engine") and engine().returncode == 0
