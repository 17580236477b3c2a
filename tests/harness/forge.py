"""A forge on this machine: a real bare git repository, and a stand-in for what GitHub and GitLab make of requests.

GitHub's is an HTTP server with the three calls of its REST API that are needed: list, open and edit pull requests
(https://docs.github.com/rest/pulls/pulls). GitLab's is a hook of the repository, which reads git's push options
(https://docs.gitlab.com/topics/git/commit/#push-options). Both refuse what the real ones refuse: a second open request of one
branch, a token that is not theirs.

And `Pipeline` runs the steps of a pipeline's jobs: each job in a fresh clone, its lines in the shell of the host.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.harness import template

TOKEN = "the-token-of-this-run"
NAME = "group/ice"
HOOK = """#!{python}
import json, os, sys
pushed = [line.split()[2] for line in sys.stdin]
options = [os.environ[f"GIT_PUSH_OPTION_{{n}}"] for n in range(int(os.environ.get("GIT_PUSH_OPTION_COUNT", 0)))]
given = dict(o.removeprefix("merge_request.").partition("=")[::2] for o in options if o.startswith("merge_request."))
file = {file!r}
requests = json.load(open(file))
for ref in pushed:
    head = ref.removeprefix("refs/heads/")
    there = [r for r in requests if r["state"] == "open" and r["head"] == head]
    if given and not there and "create" in given:
        requests.append(there := {{"number": len(requests) + 1, "state": "open", "head": head, "base": given["target"]}})
        there = [there]
    for request in there:
        request.update({{key: given[word] for key, word in (("title", "title"), ("body", "description")) if word in given}})
json.dump(requests, open(file, "w"))
"""


class Forge:
    """A host with one repository: `requests` are its pull or merge requests, oldest first."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind = folder, kind
        self.repository = folder / f"{NAME}.git"
        self.file = folder / "requests.json"
        self.file.parent.mkdir(parents=True)
        self.file.write_text("[]")
        self.refuses = False
        template.git(folder, "init", "--quiet", "--bare", "--initial-branch", "main", str(self.repository))
        template.git(self.repository, "config", "receive.advertisePushOptions", "true")
        if kind == "gitlab":
            hook = self.repository / "hooks/post-receive"
            hook.write_text(HOOK.format(python=sys.executable, file=str(self.file)))
            hook.chmod(0o755)
        self.api = ""

    @property
    def requests(self) -> list[dict[str, Any]]:
        """All requests that there ever were."""
        found: list[dict[str, Any]] = json.loads(self.file.read_text())
        return found

    def change(self, number: int, **content: str) -> dict[str, Any]:
        """Change a request, and return it."""
        requests = self.requests
        requests[number - 1].update(content)
        self.file.write_text(json.dumps(requests))
        return requests[number - 1]

    def branches(self) -> dict[str, str]:
        """Return {branch: commit}."""
        lines = template.git(self.repository, "for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/heads").split(
            "\n"
        )
        return dict(line.split() for line in lines if line)

    def show(self, branch: str, path: str) -> str:
        """Return the text of a file in a branch."""
        return template.git(self.repository, "show", f"{branch}:{path}")

    def push(self, project: Path, branch: str = "main", message: str = "Work") -> str:
        """Commit all of a project's folder and push it, as its user; return the commit."""
        if not (project / ".git").exists():
            template.git(project, "init", "--quiet", "--initial-branch", "main")
        template.git(project, "add", "--all")
        template.git(project, "commit", "--quiet", "--allow-empty", "--message", message)
        template.git(project, "push", "--quiet", "--force", str(self.repository), f"HEAD:refs/heads/{branch}")
        return template.git(project, "rev-parse", "HEAD").strip()

    def variables(self, branch: str = "main") -> dict[str, str]:
        """Return the variables that the host gives each job."""
        server = self.folder.as_uri()
        if self.kind == "gitlab":
            return {"CI_SERVER_URL": server, "CI_PROJECT_PATH": NAME, "CI_COMMIT_BRANCH": branch}
        return {
            "GITHUB_SERVER_URL": server,
            "GITHUB_REPOSITORY": NAME,
            "GITHUB_REF_NAME": branch,
            "GITHUB_API_URL": self.api,
        }


@contextmanager
def running(folder: Path, kind: str) -> Iterator[Forge]:
    """A forge of a kind, `github` or `gitlab`, in a folder."""
    forge = Forge(folder, kind)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def answer(self, code: int, content: object) -> None:
            body = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def handle_one(self) -> None:
            address = urlsplit(self.path)
            given = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
            wanted = {key: values[0] for key, values in parse_qs(address.query).items()}
            path = re.fullmatch(rf"/repos/{NAME}/pulls(?:/(\d+))?", address.path)
            there = [r for r in forge.requests if r["state"] == "open"]
            match self.command, path and (path[1] or "all"):
                case _ if self.headers["Authorization"] != f"Bearer {TOKEN}":
                    self.answer(401, {"message": "Bad credentials"})
                case _ if forge.refuses and self.command != "GET":
                    self.answer(403, {"message": "GitHub Actions is not permitted to create or approve pull requests."})
                case "GET", "all":
                    head = wanted["head"].removeprefix(NAME.partition("/")[0] + ":")
                    self.answer(200, [r for r in there if (r["head"], r["base"]) == (head, wanted["base"])])
                case "POST", "all" if any((r["head"], r["base"]) == (given["head"], given["base"]) for r in there):
                    self.answer(422, {"message": "A pull request already exists"})
                case "POST", "all":
                    made = {"number": len(forge.requests) + 1, "state": "open", **given}
                    forge.file.write_text(json.dumps([*forge.requests, made]))
                    self.answer(201, made)
                case "PATCH", number:
                    self.answer(200, forge.change(int(number), **given))
                case _:
                    self.answer(404, {"message": "Not Found"})

        do_GET = do_POST = do_PATCH = handle_one

    if kind == "gitlab":
        yield forge
        return
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    forge.api = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield forge
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


FILES = {"github": ".github/workflows/locks.yml", "gitlab": ".gitlab-ci.yml"}
JOBS = ("locks", "request")


class Pipeline:
    """The jobs of fresh locks, run one after the other; `called` is filled by whatever `make` writes into it."""

    def __init__(self, forge: Forge, folder: Path) -> None:
        self.forge, self.folder, self.number = forge, folder, 0

    def run(self, branch: str = "main", **variables: str) -> subprocess.CompletedProcess[str]:
        """Run both jobs, the second one only after the first; return the last job's result, with the output of all."""
        self.number += 1
        said, kept = "", self.folder / f"kept-{self.number}"
        for job in JOBS:
            clone = self.folder / f"{job}-{self.number}"
            template.git(self.folder, "clone", "--quiet", "--branch", branch, str(self.forge.repository), str(clone))
            document = yaml.safe_load((clone / FILES[self.forge.kind]).read_text())
            steps = getattr(self, self.forge.kind)(document, job, clone, kept)
            body = document.get("jobs", document)[job]
            own = {name: value for name, value in (body.get("env") or body.get("variables") or {}).items() if "$" not in value}
            token = {"LOCKS_TOKEN": TOKEN} if job == "request" else {}
            env = {**os.environ, **self.forge.variables(branch), **own, **token, **variables}
            code = 0
            for shell, step in steps:
                if callable(step):
                    step()
                    continue
                done = subprocess.run(
                    [*shell, step], cwd=clone, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
                )
                said, code = said + done.stdout, done.returncode
                if code:
                    break
            if code:
                break
        return subprocess.CompletedProcess(job, code, said)

    @staticmethod
    def github(document: Mapping[str, Any], job: str, clone: Path, kept: Path) -> Iterator[tuple[list[str], Any]]:
        """Yield (shell, lines) of each step, or (…, what an action does)."""
        body = document["jobs"][job]
        assert body.get("needs") == {"locks": None, "request": "locks"}[job]
        for step in body["steps"]:
            action = step.get("uses", "").partition("@")[0]
            if action == "actions/upload-artifact":
                yield [], lambda step=step: keep(clone, step["with"]["path"].split(), kept)
            elif action == "actions/download-artifact":
                yield [], lambda step=step: shutil.copytree(kept, clone / step["with"]["path"], dirs_exist_ok=True)
            else:
                assert action in ("", "actions/checkout"), action
                if "run" in step:
                    assert "${{" not in step["run"]
                    yield ["bash", "-e", "-o", "pipefail", "-c"], step["run"]

    @staticmethod
    def gitlab(document: Mapping[str, Any], job: str, clone: Path, kept: Path) -> Iterator[tuple[list[str], Any]]:
        """Yield (shell, lines) of a job, and what GitLab does with its artifacts. What the image lacks is there already."""
        body = document[job]
        assert body["needs"] == {"locks": [], "request": ["locks"]}[job]
        if job == "request":
            yield [], lambda: shutil.copytree(kept, clone, dirs_exist_ok=True)
        yield ["sh", "-ec"], "\n".join(body["script"])
        if "artifacts" in body:
            yield [], lambda: keep(clone, body["artifacts"]["paths"], kept)


def keep(clone: Path, patterns: list[str], kept: Path) -> None:
    """Copy what patterns name, each at its path, as both hosts keep artifacts."""
    for file in (file for pattern in patterns for file in clone.glob(pattern)):
        (kept / file.relative_to(clone)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, kept / file.relative_to(clone))
