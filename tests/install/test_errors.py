"""The page that an error of the package ends with."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from couplet import errors
from tests.harness import prose, template

PACKAGE = Path(errors.__file__).parent


@pytest.mark.parametrize(("verb", "page"), [
    ("check --project .", "guide.md#what-make-env-update-changes"),
    ("propose", "guide.md#locks-that-stay-fresh"),
    ("saturn-pack", "saturn.md"),
    ("doctor", "upgrading.md#conflicts"),
])  # fmt: skip
def test_an_error_ends_with_the_page_that_explains_it(tmp_path, verb, page):
    """A program of the package that reads another's error gets the error alone (test_network.py)."""
    environment = {"PYTHONPATH": str(PACKAGE.parent), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-B", "-m", "couplet", *verb.split()]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode and re.search(r"^ERROR: ", done.stderr, re.M), done.stderr
    assert done.stderr.endswith(f"\n\nThe template's docs/{page} says more.\n\n"), done.stderr


def test_every_page_of_an_error_is_there():
    docs = template.REPOSITORY / "docs"
    for page in errors.PAGES.values():
        name, _, anchor = page.partition("#")
        assert not anchor or anchor in prose.anchors((docs / name).read_text()), page
    assert "no-such-part" not in prose.anchors((docs / "guide.md").read_text()), "the negative control"


def test_every_part_with_errors_of_its_own_has_a_page_of_its_own():
    """Of formats/, settings and facts, which every part reads, the caller decides."""
    files = [file for file in PACKAGE.rglob("*.py") if "raise UserError" in file.read_text()]
    names = [f"couplet.{'.'.join(file.relative_to(PACKAGE).with_suffix('').parts)}" for file in files]
    own = [name for name in names if not re.match(r"couplet\.(formats|settings|facts)", name)]
    assert len(own) > 20
    assert not [name for name in own if next(part for part in errors.PAGES if name.startswith(part)) == "couplet"]
