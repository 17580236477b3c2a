"""`nox -s tests` leaves out what is marked soak, `nox -s soak` runs nothing else, and the record is of a whole run on a clean tree."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tests.harness import soak, template


@pytest.mark.parametrize(("options", "file"), [((), "tests/suite/test_parts.py"), (("--soak",), "tests/container/test_load.py")])
def test_one_kind_is_collected_and_not_the_other(options, file):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", *options]
    files = ["tests/suite/test_parts.py", "tests/container/test_load.py"]
    done = subprocess.run([*command, *files], cwd=template.REPOSITORY, capture_output=True, text=True)
    assert set(re.findall(r"^(tests/\S+?)::", done.stdout, re.M)) == {file}, done.stdout + done.stderr


def test_a_record_is_of_a_commit_and_of_no_other_tree(tmp_path):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "--message", "one"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    commit = soak.state(tmp_path)
    assert re.fullmatch("[0-9a-f]{40}", commit)
    (tmp_path / "new").touch()
    assert soak.state(tmp_path) == ""
    record = tmp_path / "soak.json"
    assert soak.told(record).endswith("not recorded yet")
    record.write_text(json.dumps({"commit": commit, "date": "2026-11-27", "tests": 24}))
    assert soak.told(record) == f"soak (nox -s soak): 24 tests last passed on 2026-11-27 at {commit[:12]}"
