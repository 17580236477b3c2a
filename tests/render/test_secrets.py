"""What a user's folder may have, and neither git nor a build takes."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import PurePosixPath

import pytest

from tests.harness.programs import in_front

SECRETS = (
    ".env", ".env.local", "id.pem", "server.key", ".git/config", ".netrc", "report/docker.log", "tests/.env", "tests/a/.env.ci",
    "src/sea_ice/.env", "src/sea_ice/tls.pem", "src/sea_ice/.git/HEAD", "notebooks/deep/host.key", ".couplet/.env",
)  # fmt: skip
NEEDED = (
    "pyproject.toml",
    "environment.yml",
    "conda-linux-64.lock",
    "entrypoint.sh",
    "src/sea_ice/__init__.py",
    ".couplet/couplet.sh",
)
PARTS = {"**/": "(.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def taken(dockerignore: str, name: str) -> bool:
    """Return whether a build takes a file, as Docker reads .dockerignore: the last pattern that is about it decides.

    A pattern is about a path, and about all that is below it; ** is any number of folders.
    """
    inside = True
    for line in filter(None, (line.strip() for line in dockerignore.splitlines() if not line.startswith("#"))):
        pattern = re.sub(r"\*\*/|\*\*|\*|\?|[^*?]+", lambda m: PARTS.get(m[0]) or re.escape(m[0]), line.lstrip("!"))
        if any(re.fullmatch(pattern, str(path)) for path in (PurePosixPath(name), *PurePosixPath(name).parents[:-1])):
            inside = line.startswith("!")
    return inside


@pytest.mark.parametrize("environment", ["conda-poetry", "poetry"])
def test_no_secret_comes_into_the_build_context(render, environment):
    """The negative controls: a later line lets them in again, and without the first line everything is in."""
    text = (render(environment=environment).path / ".dockerignore").read_text()
    assert [name for name in SECRETS if taken(text, name)] == []
    needed = [name for name in NEEDED if environment == "conda-poetry" or not name.startswith(("environment", "conda"))]
    assert [name for name in needed if not taken(text, name)] == []
    assert {name for name in SECRETS if taken(f"{text}!**/.env\n", name)} == {name for name in SECRETS if name.endswith(".env")}
    assert taken(text.replace("\n*\n", "\n"), ".netrc") and taken(text.replace("**/*.pem\n", ""), "src/sea_ice/tls.pem")


@pytest.mark.parametrize("name", [".env", ".env.local", "src/sea_ice/.env", "report/docker.log", ".couplet/.new-locks-1/a"])
def test_git_leaves_out_what_is_nobody_elses(render, name):
    """The negative control: the same without .gitignore."""
    project = render(project_name="Sea Ice").path
    subprocess.run(["git", "init", "--quiet", "."], cwd=project, check=True)
    ask = ["git", "check-ignore", "--quiet", name]
    assert subprocess.run(ask, cwd=project).returncode == 0
    for file in project.rglob(".gitignore"):
        file.unlink()
    assert subprocess.run(ask, cwd=project).returncode == 1


DOCKER = """case "$1 $2" in
    "version "*) echo 28.5.2 ;;
    "buildx version") ;;
    "buildx "*) printf '%s\\n' "$@" >> "$ASKED"; printf '%s\\n' "in: $PROXIES" >> "$ASKED" ;;
esac"""
"""Notes what a build is asked for, and the variable that its secret is taken from."""


def test_a_proxys_password_is_a_secret_of_the_build_and_no_argument(render, tmp_path):
    """A build's arguments stand in the image's record. The negative control: an address without a password is one of them."""
    project = render().path
    path, asked = in_front(tmp_path / "bin", docker=DOCKER), tmp_path / "asked"
    variables = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    variables |= {"PATH": path, "ASKED": str(asked), "FACTS": "no", "HTTP_PROXY": "http://plain.example.com:1"}
    secret = "http://ada:canary@proxy.example.com:3128"
    for words in (["--tag", "x"], ["bake", "runtime"]):
        asked.unlink(missing_ok=True)
        command = [".couplet/host/docker-build.sh", *words]
        subprocess.run(command, cwd=project, env={**variables, "HTTPS_PROXY": secret}, check=True, capture_output=True)
        arguments, _, given = asked.read_text().partition("in: ")
        assert "canary" not in arguments and "HTTP_PROXY=http://plain.example.com:1" in arguments
        assert given.startswith(f"HTTPS_PROXY={secret}\n") and "id=proxies,env=PROXIES" in arguments
