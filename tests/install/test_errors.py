"""The page that an error of the package, or of a script on the host, ends with."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from couplet import errors
from tests.harness import messages, prose, template

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
    assert not [page for page in errors.PAGES.values() if not is_there(page)]
    assert "no-such-part" not in prose.anchors((docs / "guide.md").read_text()), "the negative control"


THE_SCRIPTS_ALONE = {
    "audit.sh": "The audit failed: the reason is above.",  # which names its page
    "cluster.sh": "usage: ",  # make calls it so
    "docker-check.sh": "",  # what to install and to start is all there is to say
    "env-update.sh": "The locks could not be made",  # the reason above it names its page
}
"""Messages of scripts on the host without a page, by their beginnings."""
PAGE = r"the template's docs/([\w.#-]+\w)"


def without_page(name: str, text: str) -> list[str]:
    """Return the errors of a script on the host that name no page of docs/, or none that is there."""
    found = [message.text for message in messages.of_shell(text) if message.kind == "error"]
    # of env-update.sh, what its function is given
    complete = [text for text in found if "{1}" not in text and not text.startswith(THE_SCRIPTS_ALONE.get(name, "\0"))]
    return [text for text in complete if not (page := re.search(PAGE, text, re.I)) or not is_there(page[1])]


def is_there(page: str) -> bool:
    """Return whether docs/ has a page, with that heading where one is named."""
    name, _, anchor = page.partition("#")
    file = template.REPOSITORY / "docs" / name
    return file.exists() and (not anchor or anchor in prose.anchors(file.read_text()))


def test_an_error_of_a_script_names_the_page_that_explains_it():
    scripts = {file.name: file.read_text() for file in (PACKAGE.parent / "host").glob("*.sh")}
    assert {name: found for name, text in scripts.items() if (found := without_page(name, text))} == {}
    assert sum("the template's docs/" in text for text in scripts.values()) > 8
    # the negative controls
    assert without_page("x.sh", 'echo "The disk is full: make room." >&2\n') == ["The disk is full: make room."]
    assert without_page("x.sh", 'echo "The disk is full (the template\'s docs/nowhere.md)." >&2\n')


def test_every_part_with_errors_of_its_own_has_a_page_of_its_own():
    """Of formats/, settings and facts, which every part reads, the caller decides."""
    files = [file for file in PACKAGE.rglob("*.py") if "raise UserError" in file.read_text()]
    names = [f"couplet.{'.'.join(file.relative_to(PACKAGE).with_suffix('').parts)}" for file in files]
    own = [name for name in names if not re.match(r"couplet\.(formats|settings|facts)", name)]
    assert len(own) > 20
    assert not [name for name in own if next(part for part in errors.PAGES if name.startswith(part)) == "couplet"]
