"""Locks that stay fresh: the lines of both pipelines, against a real repository and a stand-in for the forge (harness/forge.py).

Here `make` is a stand-in too, which takes new locks and audits from a folder: what make does is tested where Docker is.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from couplet.errors import UserError
from couplet.formats import conda_lock
from couplet.lock import propose
from tests.harness import forge, template
from tests.harness.programs import in_front
from tests.inspect import projects

MAKE = """
echo "$@" >> "$WORLD/called"
[ "$MOUNT" = no ] || exit 65 # the new packages' tests would run in this folder
case "$*" in
    audit)
        mkdir -p report
        audit=before
        [ ! -e report/audit.before.json ] || audit=after
        cp "$WORLD/$audit.json" report/audit.json
        exit 2 ;;
    "env-update ALL=1") rm -f conda*.lock && cp "$WORLD"/new/* . ;;
    build | test) [ ! -e "$WORLD/fails-$1" ] ;;
    *) exit 64 ;;
esac
"""
CALLED = ["audit", "env-update ALL=1", "build", "test", "audit"]
PLATFORMS = ("linux-64", "osx-arm64")


def write_locks(folder: Path, conda: dict[str, str], poetry: dict[str, str]) -> None:
    """Write the locks of a project, by {name: version}."""
    folder.mkdir(exist_ok=True)
    for platform in PLATFORMS:
        packages = [
            conda_lock.Package(f"https://conda.invalid/c/{platform}/{name}-{version}-0.conda", "0" * 32, "0" * 64)
            for name, version in conda.items()
        ]
        (folder / conda_lock.file_name(platform)).write_text(conda_lock.explicit(packages, platform, []))
    projects.poetry_lock(folder, {name: {"version": version} for name, version in poetry.items()})


def audit(path: Path, packages: dict[str, tuple[str, str]], found: dict[str, list[str]]) -> None:
    """Write an audit.json: {distribution: (version, the package's name)}, {distribution: advisories}."""
    asked = [{"name": name, "version": v, "owner": "conda", "package": package} for name, (v, package) in packages.items()]
    entries = [{"package": name, "version": packages[name][0], "id": id} for name, ids in found.items() for id in ids]
    path.write_text(json.dumps({"asked": asked, "found": entries}))


class World:
    """A project at a forge, with new locks that the next run finds."""

    def __init__(self, folder: Path, project: Path, forge_: forge.Forge) -> None:
        self.folder, self.project, self.forge = folder, project, forge_
        self.next = folder / "new"
        write_locks(project, {"numpy": "2.3", "pytorch": "2.7", "xz": "5.8"}, {"idna": "3.10", "gone": "1"})
        self.begun = forge_.push(project)
        write_locks(self.next, {"numpy": "2.4", "pytorch": "2.9", "xz": "5.8"}, {"idna": "3.11", "more": "2"})
        audit(
            folder / "before.json",
            {"torch": ("2.7", "pytorch"), "idna": ("3.10", "idna")},
            {"torch": ["CVE-1", "CVE-2"], "idna": ["CVE-3"]},
        )
        audit(folder / "after.json", {"torch": ("2.9", "pytorch"), "idna": ("3.11", "idna")}, {"torch": ["CVE-2"]})
        self.pipeline = forge.Pipeline(forge_, folder)

    def run(self, branch: str = "main"):
        path = in_front(self.folder / "programs", make=MAKE)
        (self.folder / "called").unlink(missing_ok=True)
        return self.pipeline.run(branch, PATH=path, WORLD=str(self.folder))

    @property
    def called(self) -> list[str]:
        return (self.folder / "called").read_text().splitlines()


@pytest.fixture(params=["github", "gitlab"])
def world(request, render, tmp_path) -> Iterator[World]:
    project = render(ci=request.param, fresh_locks="weekly").path
    with forge.running(tmp_path / "forge", request.param) as running:
        yield World(tmp_path, project, running)


def cells(body: str) -> list[list[str]]:
    """The rows of the table in a request's text."""
    return [re.findall("<td>(.*?)</td>", row) for row in re.findall("<tr>(.*?)</tr>", body)]


def test_one_request_has_the_new_locks_and_the_table_of_changes(world):
    done = world.run()
    assert done.returncode == 0, done.stdout
    assert world.called == CALLED
    [request] = world.forge.requests
    assert (request["head"], request["base"], request["state"]) == ("couplet/locks", "main", "open")
    assert request["title"] == "Locks: 5 packages changed version"
    both = "conda linux-64, conda osx-arm64"
    assert cells(request["body"]) == [
        ["package", "old", "new", "owner", "closes"],
        ["gone", "1", "-", "Poetry", ""],
        ["idna", "3.10", "3.11", "Poetry", "CVE-3"],
        ["more", "-", "2", "Poetry", ""],
        ["numpy", "2.3", "2.4", both, ""],
        ["pytorch", "2.7", "2.9", both, "CVE-1"],
    ]
    assert "\n" not in request["body"], "git takes no such push option"
    # the branch is one commit on the default branch, with the locks and nothing else; the default branch stays
    branches = world.forge.branches()
    assert branches.keys() == {"main", "couplet/locks"} and branches["main"] == world.begun
    changed = template.git(world.forge.repository, "diff", "--name-only", "main", "couplet/locks").split()
    assert changed == ["conda-linux-64.lock", "conda-osx-arm64.lock", "poetry.lock"]
    assert world.forge.show("couplet/locks", "poetry.lock") == (world.next / "poetry.lock").read_text()
    assert template.git(world.forge.repository, "rev-parse", "couplet/locks^").strip() == world.begun
    assert forge.TOKEN not in done.stdout


def test_the_next_run_renews_the_same_request(world):
    world.run()
    write_locks(world.next, {"numpy": "2.5", "pytorch": "2.7", "xz": "5.8"}, {"idna": "3.10", "gone": "1"})
    begun = world.forge.push(world.project, message="More work")
    assert world.run().returncode == 0
    [request] = world.forge.requests
    assert request["title"] == "Locks: 1 package changed version" and "2.5" in request["body"] and "2.9" not in request["body"]
    assert template.git(world.forge.repository, "rev-parse", "couplet/locks^").strip() == begun
    # the negative control: a request that is merged or closed is not renewed, and another one is opened
    world.forge.change(1, state="closed")
    write_locks(world.next, {"numpy": "2.6", "pytorch": "2.7", "xz": "5.8"}, {"idna": "3.10", "gone": "1"})
    assert world.run().returncode == 0
    assert [one["state"] for one in world.forge.requests] == ["closed", "open"]


def test_nothing_new_is_no_request(world):
    for file in world.next.iterdir():
        file.write_bytes((world.project / file.name).read_bytes())
    done = world.run()
    assert done.returncode == 0 and "there is nothing to propose" in done.stdout
    assert world.called == CALLED and world.forge.requests == [] and world.forge.branches() == {"main": world.begun}


@pytest.mark.parametrize("step", ["build", "test"])
def test_a_step_that_fails_is_no_request(world, step):
    (world.folder / f"fails-{step}").touch()
    done = world.run()
    assert done.returncode and done.args == "locks" and world.called[-1] == step
    assert world.forge.requests == [] and world.forge.branches() == {"main": world.begun}


def test_an_audit_without_an_answer_stops_nothing_and_is_named(world):
    (world.folder / "after.json").write_text('{"service": "https://osv.invalid", "error": "no answer"}')
    assert world.run().returncode == 0
    [request] = world.forge.requests
    assert "audit.json has no answer" in request["body"] and "CVE" not in request["body"]
    # the negative control: no audit at all, as where Docker failed, is an error
    (world.folder / "before.json").unlink()
    assert world.run().returncode and world.called == ["audit"]


def test_a_commit_of_somebody_elses_is_not_overwritten(world):
    world.run()
    theirs = world.forge.push(world.project, "couplet/locks", "A fix for the new versions")
    done = world.run()
    assert done.returncode and "has a commit of tests@couplet.invalid, which stays" in done.stdout
    assert world.forge.branches()["couplet/locks"] == theirs


@pytest.mark.parametrize("branch", ["feature", "couplet/locks"])
def test_no_default_branch_is_pushed_to(world, branch):
    """In a run of another branch, and where the default branch has the name that is pushed to."""
    world.forge.push(world.project, branch)
    if branch == "couplet/locks":
        template.git(world.forge.repository, "symbolic-ref", "HEAD", f"refs/heads/{branch}")
    before = world.forge.branches()
    done = world.run(branch)
    assert done.returncode and done.args == "request" and "the default branch is" in done.stdout
    assert world.forge.branches() == before and world.forge.requests == []


def test_only_locks_are_taken_from_the_first_job(world):
    """It ran the new packages' code, and chose what the second one gets: no program of its, and no link to another file."""
    for name in ("Makefile", "evil.py"):
        (world.next / name).write_text("evil:\n")
    (world.next / "conda-linux-aarch64.lock").symlink_to("/etc/passwd")
    where = propose.forge(world.forge.variables() | {"LOCKS_TOKEN": forge.TOKEN})
    assert propose.propose(where, world.project, world.next) == "couplet/locks -> main: Locks: 5 packages changed version"
    changed = template.git(world.forge.repository, "diff", "--name-only", "main", "couplet/locks").split()
    assert changed == ["conda-linux-64.lock", "conda-osx-arm64.lock", "poetry.lock"]
    assert template.git(world.project, "status", "--short") == "", "nor is the project's own folder touched"


def test_locks_that_did_not_arrive_are_an_error(world):
    (world.next / "poetry.lock").unlink()
    where = propose.forge(world.forge.variables() | {"LOCKS_TOKEN": forge.TOKEN})
    with pytest.raises(UserError, match=r"poetry.lock is missing"):
        propose.propose(where, world.project, world.next)
    assert world.forge.branches() == {"main": world.begun}


def test_what_the_forge_refuses_is_said_with_the_setting_that_allows_it(render, tmp_path):
    project = render(ci="github", fresh_locks="weekly").path
    with forge.running(tmp_path / "forge", "github") as running:
        world = World(tmp_path, project, running)
        running.refuses = True
        done = world.run()
        assert done.returncode and "not permitted" in done.stdout and "Settings > Actions > General" in done.stdout
        # the branch is there, and the next run makes the request
        running.refuses = False
        assert world.run().returncode == 0 and len(running.requests) == 1
        # a token that is not valid is no reason to show it
        with pytest.raises(UserError, match="HTTP Error 401") as error:
            propose.Forge("", forge.NAME, "main", "another", running.api).call("GET", "pulls")
        assert "another" not in str(error.value)


def test_without_a_token_the_variable_is_named():
    given = {"CI_SERVER_URL": "https://gitlab.invalid", "CI_PROJECT_PATH": "a/b", "CI_COMMIT_BRANCH": "main"}
    with pytest.raises(UserError, match=r"LOCKS_TOKEN: not set.*write_repository"):
        propose.forge(given)
    assert propose.forge(given | {"LOCKS_TOKEN": "t"}).api == ""
    with pytest.raises(UserError, match="CI_SERVER_URL, CI_PROJECT_PATH"):
        propose.forge({})


def test_the_token_is_in_no_argument_of_git(tmp_path):
    """Every user of a machine can read those; the negative control is the header, which git does get."""
    path = in_front(tmp_path / "programs", git=f'echo "$@" >> {tmp_path}/words; env > {tmp_path}/env')
    where = propose.Forge("https://gitlab.invalid", "a/b", "main", "secret")
    before = os.environ["PATH"]
    os.environ["PATH"] = path
    try:
        where.git(tmp_path, "push")
    finally:
        os.environ["PATH"] = before
    assert (tmp_path / "words").read_text() == "push\n"
    assert "GIT_CONFIG_VALUE_0=Authorization: Basic eC1hY2Nlc3MtdG9rZW46c2VjcmV0" in (tmp_path / "env").read_text()


def test_a_long_table_is_cut_where_the_forge_would_refuse_it():
    many = [(f"package-{number}", "1", "2", "Poetry") for number in range(5000)]
    title, body = propose.text(many, set(), "")
    assert title == "Locks: 5000 packages changed version" and propose.MOST - 1000 < len(body) < 65_000
    assert f"{5000 - len(cells(body)) + 1} more packages are in the files" in body
    assert "more packages" not in propose.text(many[:10], set(), "")[1]
    # names come from channels: they are text, and no HTML
    assert "&lt;b&gt;" in propose.text([("<b>", "1", "2", "Poetry")], set(), "")[1]


def test_other_builds_of_the_same_versions_are_proposed_too():
    assert propose.text([], set(), "")[0] == "Locks: other builds"


def problems(github: str, gitlab: str) -> list[str]:
    """What is wrong with the rights of both pipelines."""
    workflow, pipeline = yaml.safe_load(github), yaml.safe_load(gitlab)
    jobs, found = workflow["jobs"], []
    if workflow["permissions"] or jobs["locks"]["permissions"] != {"contents": "read"}:
        found.append("the job that runs new packages may write")
    if jobs["request"]["permissions"] != {"contents": "write", "pull-requests": "write"}:
        found.append("the job that opens the request has other rights")
    if jobs.keys() != {"locks", "request"} or workflow[True].keys() != {"schedule", "workflow_dispatch"}:
        found.append("there is another job, or it runs at other times")
    secrets = {name: re.findall(r"secrets\.\w+", json.dumps(job)) for name, job in jobs.items()}
    if secrets != {"locks": [], "request": ["secrets.GITHUB_TOKEN"]}:
        found.append("another secret, or in another job")
    if any("persist-credentials: false" not in step for step in github.split("actions/checkout@")[1:]):
        found.append("the token is on the disk")
    run = [step["run"] for step in jobs["request"]["steps"] if "run" in step], pipeline["request"]["script"]
    program = ".couplet/host/python.sh propose"
    if run != ([f"{program} --new report/locks"], [program]):
        found.append("the job that may write does something else")
    if any((name == "request") != ("environment" in job) for name, job in pipeline.items() if isinstance(job, dict)):
        found.append("another job has the token")
    if any(
        pipeline[job]["rules"] != [{"if": '$CI_PIPELINE_SOURCE == "schedule" && $FRESH_LOCKS == "yes"'}] for job in forge.JOBS
    ):
        found.append("GitLab runs it at other times")
    return found


MISTAKES = [
    ("      contents: read\n", "      contents: write\n"),
    ("permissions: {}\n", "permissions: write-all\n"),
    ("      pull-requests: write", "      packages: write"),
    ("secrets.GITHUB_TOKEN", "secrets.OWN_TOKEN"),
    ("          persist-credentials: false\n", "          persist-credentials: true\n"),
    ("propose --new report/locks", "propose --new report/locks && make test"),
    ("  workflow_dispatch:\n", "  workflow_dispatch:\n  push:\n"),
]


def test_only_the_job_that_opens_the_request_may_write(render):
    github = (render("a", ci="github", fresh_locks="weekly").path / forge.FILES["github"]).read_text()
    gitlab = (render("b", ci="gitlab", fresh_locks="weekly").path / forge.FILES["gitlab"]).read_text()
    assert problems(github, gitlab) == []
    for old, new in MISTAKES:
        assert old in github and problems(github.replace(old, new, 1), gitlab), old
    for old, new in [("    name: locks\n    action: access\n", ""), (' && $FRESH_LOCKS == "yes"', "")]:
        assert problems(github, re.sub(r"  environment:\n(?!    name)", "", gitlab.replace(old, new, 1))), old


@pytest.mark.parametrize("host", ["github", "gitlab"])
def test_who_does_not_ask_for_it_has_none_of_it(render, host):
    """And the negative control: with the answer, GitLab's file differs by those lines alone."""
    without, with_it = render("without", ci=host).path, render("with", ci=host, fresh_locks="weekly").path
    for path in (".github/workflows/locks.yml", ".couplet/couplet/lock/propose.py"):
        assert not (without / path).exists()
    if host == "gitlab":
        old, new = ((folder / ".gitlab-ci.yml").read_text() for folder in (without, with_it))
        assert "FRESH_LOCKS" not in old and "LOCKS_TOKEN" not in old
        assert new.replace("locks, request, ", "").startswith(old.rstrip("\n"))
