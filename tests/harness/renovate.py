"""`nox -s renovate`: Renovate itself on a rendered project, offline: what would it look up, and what leave alone?

Renovate comes from npm, 300 MB of it, so this is no part of the tests.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.harness import template, update

VERSION = "39.99.0"
"""The newest that runs on node 20."""
FOLDER = template.REPOSITORY / ".cache/renovate"
USERS = {
    "compose.yaml": "\n  db:\n    image: postgres:16.1\n",
    ".github/workflows/mine.yml": "on: push\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    steps:\n      - uses: actions/setup-go@v4\n",
}
"""What a user may have added."""
PINNED = f"# a comment\nRUNTIME_BASE=debian:bookworm-slim@sha256:{'0' * 64}\n"
"""What `make pin-images` writes."""
ADDRESS = "https://github.com/example/couplet.git"
"""Where the project says that its template is: a folder of this machine would be no address for Renovate."""


def program() -> Path:
    """Install Renovate, once. Returns the folder of its programs. Raises SystemExit where there is no npm."""
    if not shutil.which("npm"):
        raise SystemExit("There is no npm here: install Node.js 20 or newer, then try again.")
    if not (FOLDER / "node_modules/.bin/renovate").exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        words = ["npm", "install", "--ignore-scripts", "--no-save", "--prefix", str(FOLDER), f"renovate@{VERSION}"]
        subprocess.run(words, check=True)
    return FOLDER / "node_modules/.bin"


def moved(project: Path, programs: Path) -> set[str]:
    """Return the names of what Renovate finds in a project and does not leave alone: what it may ever move."""
    found = [line["packageFiles"] for line in log(project, programs, "extract") if "packageFiles" in line]
    files = [file for manager in found[-1].values() for file in manager]
    names = {
        dep["depName"]
        for file in files
        for dep in file["deps"]
        if "depName" in dep and dep.get("skipReason") in (None, "github-token-required")
    }
    # it says so as it begins to look things up; that what it then asks may be out of reach is no matter
    said = " ".join(line["msg"] for line in log(project, programs, "lookup"))
    return names - set(re.findall(r"Dependency: ([^,]+), is disabled", said))


def held(project: Path, programs: Path) -> list[tuple[str, str, str]]:
    """Return (image, tag, digest) of what Renovate reads in base-images.lock."""
    found = [line["packageFiles"] for line in log(project, programs, "extract") if "packageFiles" in line]
    files = [file for manager in found[-1].values() for file in manager if file["packageFile"] == "base-images.lock"]
    return [(dep["depName"], dep["currentValue"], dep["currentDigest"]) for file in files for dep in file["deps"]]


def log(project: Path, programs: Path, mode: str) -> list[dict]:
    """Return the log of a dry run, extract or lookup."""
    # without a token Renovate passes over actions, and never says whether it would have moved them
    environment = {**os.environ, "LOG_LEVEL": "debug", "LOG_FORMAT": "json", "GITHUB_COM_TOKEN": "none"}
    done = subprocess.run(
        [str(programs / "renovate"), "--platform=local", f"--dry-run={mode}"],
        cwd=project, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if not any("Dependency extraction complete" in line["msg"] for line in lines):
        raise AssertionError(done.stdout[-3000:] + done.stderr[-3000:])
    return lines


def main() -> None:
    """Show what Renovate would move, with the shipped configuration and without it. Raises AssertionError."""
    os.environ.update(template.isolated())
    programs = program()
    with tempfile.TemporaryDirectory() as scratch:
        source = template.snapshot(Path(scratch) / "couplet")
        project = update.project(source, Path(scratch) / "project", {"project_name": "Sea Ice"})
        for name, text in USERS.items():
            with (project / name).open("a") as file:
                file.write(text)
        answers = (project / update.ANSWERS).read_text()
        (project / update.ANSWERS).write_text(re.sub("(?m)^_src_path: .*", f"_src_path: {ADDRESS}", answers))
        (project / "base-images.lock").write_text(PINNED)
        update.commit(project)
        words = [str(programs / "renovate-config-validator"), "--strict", "renovate.json"]
        subprocess.run(words, cwd=project, check=True)
        ours, digests = moved(project, programs), held(project, programs)
        (project / "renovate.json").write_text("{}\n")
        update.commit(project)
        bare = moved(project, programs)
    print("Renovate would move:", *sorted(ours), sep="\n  ")
    print("left alone, since the template or make env-update moves it:", *sorted(bare - ours), sep="\n  ")
    assert {"postgres", "actions/setup-go", ADDRESS} <= ours, "what users add, and the template"
    assert digests == [("debian", "bookworm-slim", f"sha256:{'0' * 64}")], f"base-images.lock: {digests}"
    assert not ours & {"pandas", "pytest", "actions/checkout"}, "what it must leave alone"
    assert {"pandas", "pytest", "actions/checkout"} <= bare, "the negative control: without the configuration it would move these"


if __name__ == "__main__":
    sys.exit(main())
