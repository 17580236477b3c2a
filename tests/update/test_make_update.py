"""`make update` and `make update-check`: Copier in a container, with Docker and make alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import IMAGES
from tests.harness import adopting, template, update
from tests.harness.container import docker
from tests.harness.project import Project
from tests.harness.soak import some
from tests.harness.update import Edit

MADE_UP = "v0.0.1"
*_, NEWEST = template.releases()


@pytest.fixture(scope="module")
def history(tmp_path_factory) -> Path:
    """An older release, made up, and the working tree."""
    repository = template.snapshot(tmp_path_factory.mktemp("history") / "couplet")
    update.release(repository, MADE_UP, update.older)
    return repository


@pytest.fixture
def old(history, tmp_path, sources):
    """A committed project of the older release."""
    path = update.project(history, tmp_path / "my project", {"project_name": "Sea Ice"}, MADE_UP)
    return Project(path, f"{IMAGES}-update")


@pytest.fixture(scope="module", autouse=True)
def no_image_left():
    """Remove what the tests of this file make and tag."""
    yield
    docker("image", "rm", "--force", *(f"{IMAGES}-update:{tag}" for tag in ("latest", "dev")), check=False)


def test_make_update_brings_in_the_newest_template(history, old, tmp_path):
    assert "New template version available" in old.make("update-check").output
    edit = Edit("Makefile", "\nfigures: build ## draw the figures\n\t@echo figures\n")
    edit.apply(old.path)
    update.commit(old.path)
    shown = old.make("update").output
    assert "A  .editorconfig" in shown or "?? .editorconfig" in shown, shown
    assert "Conflicts" not in shown and update.lost(old.path, [edit]) == []
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in old.path.rglob("*")}
    assert owners == {(os.getuid(), os.getgid())}
    update.commit(old.path)
    assert "up-to-date" in old.make("update-check").output
    assert "Nothing has changed" in old.make("update").output
    (old.path / "Makefile").write_bytes((old.path / "Makefile").read_bytes().replace(edit.text.encode(), b""))
    fresh = template.render(history, tmp_path / "fresh", {"project_name": "Sea Ice"})
    assert update.differences(old.path, fresh) == []


def test_make_update_changes_answers_and_fails_on_an_edited_file_that_it_deletes(old):
    Edit("notebooks/example.ipynb", "\n").apply(old.path)
    update.commit(old.path)
    shown = old.make("update", 'ARGS=--data kernel=false --data "project_description=Two words"', fails=True).output
    assert "Deleted, with your edits:\n  git show HEAD:./notebooks/example.ipynb" in shown
    assert "git show HEAD:./notebooks/example.ipynb" in old.make("update", fails=True).output, "once more says it again"
    assert not (old.path / "notebooks").exists()
    assert update.answers_of(old.path)["project_description"] == "Two words"


def test_make_update_fails_on_a_conflict_and_names_it(old):
    Edit("README.md", " Look at `figures` first.", after="`make` lists everything.").apply(old.path)
    update.commit(old.path)
    shown = old.make("update", fails=True).output
    assert "Conflicts" in shown and "\n  README.md\n" in shown and "git reset --hard" in shown
    assert update.conflicts(old.path) == {"README.md"}


@pytest.mark.soak
def test_what_a_machine_of_another_platform_is_told_works(history, tmp_path, sources):
    """The command of the message, as printed: another answer, and the same template."""
    path = update.project(history, tmp_path / "arm", {"project_name": "Sea Ice", "platforms": ["linux-aarch64"]})
    project, before = Project(path, f"{IMAGES}-update"), update.answers_of(path)
    shown = project.make("build", fails=True).output
    assert "this machine is linux-64, and the project is locked for linux-aarch64 alone" in shown
    arguments = re.search(r'make update ARGS="(.+)" && make env-update', shown)[1]
    project.make("update", f"ARGS={arguments}")
    assert update.answers_of(path) == {**before, "platforms": ["linux-64", "linux-aarch64"]}
    assert json.loads((path / ".couplet/project.json").read_text())["platforms"] == ["linux-64", "linux-aarch64"]


@pytest.mark.soak
def test_make_update_works_in_a_worktree_of_git(old, tmp_path):
    template.git(old.path, "worktree", "add", "--quiet", str(tmp_path / "tree"), "-b", "update")
    Project(tmp_path / "tree", old.images).make("update")
    assert (tmp_path / "tree/.editorconfig").exists() and not (old.path / ".editorconfig").exists()


@pytest.mark.soak
def test_make_update_works_for_a_user_without_a_name(history, old, tmp_path):
    """The caller's uid is not in the image: as anyone's but root's is not."""
    owned = ["--user", "12345:6789", "--volume", f"{history}:{history}:ro", "--volume", f"{old.path}:{old.path}"]
    old.make("update-check")
    for path in [old.path, *old.path.rglob("*")]:
        os.chown(path, 12345, 6789)
    words = [".couplet/host/docker-build.sh", "--quiet", "--file", ".couplet/tasks.Dockerfile", "--target", "copier"]
    image = subprocess.run(words, cwd=old.path, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    docker("run", "--rm", *owned, "--workdir", str(old.path), image, "update")
    assert (old.path / ".editorconfig").stat().st_uid == 12345


@pytest.mark.parametrize("stage", ["copier", "python"])
def test_an_image_without_a_name_is_one_that_docker_prune_deletes(history, tmp_path, sources, stage):
    """The words of its own command, without deleting anything."""
    folder = template.render(history, tmp_path / "project", {"project_name": f"Pruned {IMAGES}"})
    words = [".couplet/host/docker-build.sh", "--quiet", "--file", ".couplet/tasks.Dockerfile", "--target", stage]
    image = subprocess.run(words, cwd=folder, env={**os.environ, "FACTS": "no"}, check=True, capture_output=True, text=True)
    said = subprocess.run(["make", "--dry-run", "docker-prune"], cwd=folder, check=True, capture_output=True, text=True)
    label = re.search(r'docker image prune --force --filter "(.+)"', said.stdout)[1]

    def found(label: str) -> set[str]:
        filters = ("--filter", "dangling=true", "--filter", label)
        return set(docker("image", "ls", "--no-trunc", "--quiet", *filters).stdout.split())

    try:
        assert found(label) == {image.stdout.strip()}
        assert not found(f"{label}-of-another"), "the negative control"
    finally:
        docker("image", "rm", "--force", image.stdout.strip(), check=False)


BROKEN = {
    "a file that git ignores and the update would write over": (
        lambda path: hidden(path, ".editorconfig"),
        "mv .editorconfig .editorconfig.mine",
    ),
    "uncommitted changes": (lambda path: (path / "README.md").write_text("mine"), "dirty"),
    "no answers file": (lambda path: (path / ".copier-answers.yml").unlink(), "git checkout HEAD -- .copier-answers.yml"),
    "no git": (lambda path: (path / ".git").rename(path.parent / "elsewhere"), "git init"),
    "a template that moved": (lambda path: source(path, "/nowhere"), "there is no such folder"),
    "a template behind ssh": (lambda path: source(path, "git@example.com:me/couplet.git"), "pipx run copier update"),
}


def hidden(path: Path, name: str) -> None:
    """Write a file that git does not know and .gitignore matches."""
    Edit(".gitignore", f"{name}\n").apply(path)
    update.commit(path)
    (path / name).write_text("mine")


def source(path: Path, address: str) -> None:
    """Write another address of the template, and commit it."""
    answers = yaml.safe_load((path / update.ANSWERS).read_text()) | {"_src_path": address}
    (path / update.ANSWERS).write_text(yaml.safe_dump(answers))
    update.commit(path)


@pytest.mark.parametrize("case", BROKEN)
def test_what_stands_in_the_way_is_named(old, case):
    change, message = BROKEN[case]
    change(old.path)
    shown = old.make("update", fails=True).output
    assert message in shown and "Traceback" not in shown
    assert not (path := old.path / ".editorconfig").exists() or path.read_text() == "mine"
    if (old.path / ".git").exists():
        left = subprocess.run(["git", "diff", "--stat", "HEAD"], cwd=old.path, capture_output=True, text=True).stdout
        assert ".editorconfig" not in left


# --- and then it builds ----------------------------------------------------------------------------


@pytest.mark.parametrize("version", some(template.releases(), NEWEST))
def test_make_update_of_0_x_is_the_crossing_and_the_first_build_names_the_edits(history, tmp_path, sources, version):
    """The project's own make, scripts and Copier; then the new ones, until the deletions are in git's index.

    What the files of an updated project are: tests/update/test_releases.py, for every release and variant.
    """
    path = update.project(history, tmp_path / "project", {"project_name": "Sea Ice"}, version)
    Edit("docker/finish.sh", "# mine\n").apply(path)
    update.commit(path)
    project = Project(path, f"{IMAGES}-update")
    assert " D docker/finish.sh" in project.make("update").output
    project.make("env-update")
    shown = project.make("build", fails=True).output
    assert "git show HEAD:./docker/finish.sh   (.couplet/" in shown and shown.count("git show") == 1
    template.git(path, "add", "--all")
    project.make("build", "test")


SAID = {"tides": "", "mooring": "currents", "locks": "open", "salt": "", "swell": "waves", "drift": "drift"}
"""Repository -> what its own program prints."""


@pytest.mark.parametrize("name", some(SAID, "tides"))
def test_an_adopted_repository_locks_builds_and_passes_its_tests(history, tmp_path, sources, name):
    """Its own tests, of its own package, with the dependencies that it brought, and its own program in the image: nothing was settled by hand."""
    path = adopting.begin(tmp_path / name, name)
    done = adopting.adopt(path, history)
    assert done.returncode == 3, done.stdout + done.stderr
    project = Project(path, f"{IMAGES}-update")
    shown = project.make("env-update", "build", "test").output
    assert "1 passed" in shown
    assert SAID[name] in project.make("run").output
    assert "tabulate" in (path / "poetry.lock").read_text()


@pytest.mark.soak
def test_what_an_adoption_says_is_refused_is_refused_and_then_it_locks_builds_and_passes_its_tests(history, tmp_path, sources):
    """The first of its lines are `make env-update`'s own; with all of them settled, it has no other."""
    path = adopting.begin(tmp_path / "port", "port")
    told = [line.replace(adopting.REFUSES, "") for line in adopting.refusals(adopting.adopt(path, history).stdout)]
    project = Project(path, f"{IMAGES}-update")
    shown = " ".join(project.make("env-update", fails=True).output.split())
    assert [line for line in told if line in shown], shown
    for file, changes in adopting.SETTLED["port"].items():
        for change in changes.items():
            update.replace(path, file, *change)
    assert "1 passed" in project.make("env-update", "build", "test").output
