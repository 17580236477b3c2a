"""Open or renew the one pull or merge request that brings new locks, from the branch couplet/locks.

For a pipeline of GitHub's or GitLab's, with git and the standard library alone. The new locks are read as data: only the lock
files and pyproject.toml are taken from their folder, whatever else lies there. No other branch is pushed to.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

from couplet.errors import UserError
from couplet.formats import conda_lock, poetry_lock
from couplet.lock.changes import Versions, changes

BRANCH = "couplet/locks"
FILES = ("pyproject.toml", "poetry.lock", "conda*.lock")
MOST = 60_000
"""Characters of the text: GitHub takes 65,536, and git as many bytes in a push option."""
VARIABLES = {
    "GITHUB_REPOSITORY": ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_REF_NAME", "LOCKS_TOKEN", "GITHUB_API_URL"),
    "CI_PROJECT_PATH": ("CI_SERVER_URL", "CI_PROJECT_PATH", "CI_COMMIT_BRANCH", "LOCKS_TOKEN"),
}
GITHUB = "Settings > Actions > General has to allow GitHub Actions to create pull requests."
GITLAB = "LOCKS_TOKEN has to be a project access token of the role Developer with the scope write_repository."


class Forge(NamedTuple):
    """Where the request goes. `branch` is the one that this run is of; `api` is GitHub's, '' on GitLab."""

    server: str
    repository: str
    branch: str
    token: str
    api: str = ""

    def git(self, folder: Path, *words: str | Path) -> str:
        """Run git in a folder with the token; return what it prints. Raises UserError with what it says."""
        secret = base64.b64encode(f"x-access-token:{self.token}".encode()).decode()
        # not as an option, which every user of the machine can see
        header = {"COUNT": "1", "KEY_0": "http.extraHeader", "VALUE_0": f"Authorization: Basic {secret}"}
        variables = {"GIT_TERMINAL_PROMPT": "0"} | {f"GIT_CONFIG_{name}": value for name, value in header.items()}
        for role in ("GIT_AUTHOR", "GIT_COMMITTER"):
            email = f"noreply@{urlsplit(self.server).hostname or 'localhost'}"
            variables |= {f"{role}_NAME": "couplet", f"{role}_EMAIL": email}
        done = subprocess.run(["git", *words], cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"git {words[0]} failed:\n{done.stderr.strip()}" + ("" if self.api else f"\n{GITLAB}"))
        return done.stdout

    def call(self, method: str, path: str, content: Mapping[str, str] | None = None) -> Any:
        """Return what GitHub's API answers of this repository. Raises UserError with what it says."""
        data = None if content is None else json.dumps(content).encode()
        request = Request(f"{self.api}/repos/{self.repository}/{path}", data, method=method)
        # not for whom it redirects to
        request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        try:
            with urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except (OSError, ValueError) as error:
            said = error.read().decode(errors="replace") if isinstance(error, HTTPError) else ""
            raise UserError(f"{BRANCH} is pushed, and there is no request: {self.api}: {error} {said}\n{GITHUB}") from None


def forge(variables: Mapping[str, str]) -> Forge:
    """Return where the request goes, by a job's variables. Raises UserError for one that is missing."""
    names = next((names for one, names in VARIABLES.items() if variables.get(one)), VARIABLES["CI_PROJECT_PATH"])
    if missing := [name for name in names if not variables.get(name)]:
        raise UserError(f"{', '.join(missing)}: not set. This is for a job of GitHub's or GitLab's. {GITLAB}")
    return Forge(*(variables[name] for name in names))


def versions(folder: Path) -> Versions:
    """Return {(owner, name): version} of a folder's locks, as `make env-update` compares them."""
    found = poetry_lock.versions(folder / "poetry.lock")
    for file in sorted(folder.glob("conda-*.lock")):
        owner = f"conda {file.stem.removeprefix('conda-').removeprefix('dev-')}"
        found |= {(owner, name): version for name, version, _ in (package.identity for package in conda_lock.read(file))}
    return found


def known(audit: Path) -> set[tuple[str, str]]:
    """Return (package, advisory) of what an audit.json has found. Raises UserError where it has no answer."""
    try:
        found = json.loads(audit.read_text())
        packages = {(item["name"], item["version"]): item["package"] for item in found["asked"]}
        return {(packages[entry["package"], entry["version"]], entry["id"]) for entry in found["found"]}
    except (OSError, ValueError, KeyError):
        raise UserError(f"{audit.name} has no answer") from None


def text(changed: Sequence[tuple[str, str, str, str]], closed: set[tuple[str, str]], note: str) -> tuple[str, str]:
    """Return the request's title and text: HTML in one line, which both forges show and a push option can hold."""
    owners: dict[tuple[str, ...], list[str]] = {}
    for *package, owner in changed:
        owners.setdefault(tuple(package), []).append(owner)
    rows = [("package", "old", "new", "owner", "closes")]
    for (name, old, new), whose in sorted(owners.items()):
        rows.append((name, old, new, ", ".join(whose), " ".join(sorted(id for package, id in closed if package == name))))
    lines = ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    while sum(map(len, lines)) > MOST:
        lines.pop()
    if left_out := len(rows) - len(lines):
        note = f"{left_out} more packages are in the files. {note}"
    count = len({name for name, *_ in owners})
    title = f"Locks: {count} package{'' if count == 1 else 's'} changed version" if count else "Locks: other builds"
    end = f"<p>By make env-update ALL=1. The image builds with these locks, and the tests pass. {escape(note)}</p>"
    return title, f"<table>{''.join(lines)}</table> {end}"


def commit(where: Forge, tree: Path, new: Path) -> tuple[Versions, Versions] | None:
    """Commit the new locks in a worktree without files; return the (old, new) versions, None where nothing changed."""
    poetry_lock.read(new / "poetry.lock")
    where.git(tree, "reset", "--quiet")
    where.git(tree, "checkout", "--", *where.git(tree, "ls-files", "-z", "--", *FILES).split("\0")[:-1])
    before = versions(tree)
    files = [file for pattern in FILES for file in new.glob(pattern) if not file.is_symlink()]
    for file in files:
        shutil.copyfile(file, tree / file.name)
    where.git(tree, "add", "--", *(file.name for file in files))
    if not where.git(tree, "diff", "--cached", "--name-only"):
        return None
    where.git(tree, "commit", "--quiet", "--message", "Locks: make env-update ALL=1")
    return before, versions(tree)


def propose(where: Forge, project: Path, new: Path) -> str:
    """Push new locks to their branch, and open its request or renew it. Returns what was done. Raises UserError."""
    url = f"{where.server}/{where.repository}.git"
    said = where.git(project, "ls-remote", "--symref", url, "HEAD", f"refs/heads/{BRANCH}")
    default = (re.findall(r"^ref: refs/heads/(\S+)\tHEAD$", said, re.M) or [""])[0]
    tip = (re.findall(rf"^(\w+)\trefs/heads/{BRANCH}$", said, re.M) or [""])[0]
    if where.branch != default or default == BRANCH:
        raise UserError(
            f"This run is of {where.branch}, and the default branch is {default}: locks are proposed to the default branch in a run "
            f"of it, and it must not be called {BRANCH}."
        )
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        where.git(project, "worktree", "add", "--quiet", "--no-checkout", "--detach", tree, "HEAD")
        if not (found := commit(where, tree, new)):
            return "No lock has changed: there is nothing to propose."
        if tip:
            where.git(tree, "fetch", "--quiet", "--depth=1", url, tip)
            mine, theirs = (where.git(tree, "log", "-1", "--format=%ce", one).strip() for one in ("HEAD", tip))
            if mine != theirs:
                raise UserError(
                    f"{BRANCH} has a commit of {theirs}, which stays. Merge or delete that branch: then it is made anew."
                )
        try:
            closed, note = known(new / "report/audit.before.json") - known(new / "report/audit.json"), ""
        except UserError as error:
            closed, note = set(), f"Which advisories it closes is not known: {error}."
        title, body = text(changes(*found), closed, note)
        options = ["create", f"target={default}", f"title={title}", f"description={body}"]
        push = [] if where.api else [f"--push-option=merge_request.{option}" for option in options]
        lease = f"--force-with-lease=refs/heads/{BRANCH}:{tip}"
        where.git(tree, "push", "--quiet", lease, *push, url, f"HEAD:refs/heads/{BRANCH}")
    if where.api:
        head = f"{where.repository.partition('/')[0]}:{BRANCH}"
        there = where.call("GET", f"pulls?{urlencode({'state': 'open', 'head': head, 'base': default})}")
        method, path = ("PATCH", f"pulls/{there[0]['number']}") if there else ("POST", "pulls")
        where.call(method, path, {"title": title, "body": body} | ({} if there else {"head": BRANCH, "base": default}))
    return f"{BRANCH} -> {default}: {title}"


def main(arguments: list[str]) -> None:
    """Propose the new locks of a project."""
    parser = argparse.ArgumentParser(prog="couplet propose", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--project", type=Path, default=Path(), help="folder of the project, with its repository")
    parser.add_argument("--new", type=Path, default=Path(), help="folder with the new locks, and the audits in report/")
    options = parser.parse_args(arguments)
    print(propose(forge(os.environ), options.project, options.new))
