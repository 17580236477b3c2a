"""What an update leaves to be seen to, with real Copier and git and a template of a few lines."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import copier
import pytest

from couplet.errors import UserError
from couplet.update import gathered, left_behind, main, pending, report, successor, template_folder

QUESTIONS = """\
_templates_suffix: .jinja
_exclude: [copier.yml, .git, "{% if app == 'none' %}web.py{% endif %}"]
package: {type: str, default: ice}
app: {type: str, default: web}
"""
FIRST = {
    "copier.yml": QUESTIONS,
    "src/{{ package }}/code.py": "code = 1\n",
    "docker/lock.py": "lock = 1\n",
    "docker/user.sh": "user\n",
    "web.py": "web = 1\n",
    "{{ _copier_conf.answers_file }}.jinja": "{{ _copier_answers | to_nice_yaml -}}\n",
}
SECOND = {".couplet/lock.py": "lock = 2\n", "notes.txt": "notes\n"}


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def commit(folder: Path, files: dict[str, str], tag: str = "") -> Path:
    """Write files and commit everything; make a repository of the folder where it is none."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "x")
    if tag:
        git(folder, "tag", tag)
    return folder


@pytest.fixture(autouse=True)
def isolated(monkeypatch, tmp_path):
    """Nobody's own settings of git."""
    for name, value in {"CONFIG_GLOBAL": os.devnull, "CONFIG_SYSTEM": os.devnull}.items():
        monkeypatch.setenv(f"GIT_{name}", value)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "couplet tests")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "tests@couplet.invalid")


@pytest.fixture
def template(tmp_path) -> Path:
    """A template of two releases: the second has no docker/, and two new files."""
    folder = commit(tmp_path / "template", FIRST, "v1.0.0")
    git(folder, "rm", "--quiet", "-r", "docker")
    return commit(folder, SECOND, "v2.0.0")


@pytest.fixture
def project(template, tmp_path) -> Path:
    """A committed project of the first release."""
    copier.run_copy(str(template), tmp_path / "project", vcs_ref="v1.0.0", defaults=True, quiet=True)
    return commit(tmp_path / "project", {})


def updated(project: Path, files: dict[str, str] | None = None, **answers: str) -> Path:
    """Commit edits, and update as Copier does."""
    commit(project, files or {})
    copier.run_update(project, data=answers, defaults=True, overwrite=True, quiet=True)
    return project


def test_a_deleted_file_with_edits_is_named_with_what_takes_its_place(project):
    found = report(updated(project, {"docker/lock.py": "lock = 1\nmine = 2\n"}))
    assert found.deleted == {"docker/lock.py": ".couplet/lock.py"} and not found.clean
    assert not (project / "docker").exists()


def test_deleted_files_without_edits_are_no_news(project):
    found = report(updated(project))
    assert found.deleted == {} and found.clean and " D docker/lock.py" in found.changed


def test_a_file_that_the_user_deleted_before_is_no_news(project):
    git(project, "rm", "--quiet", "docker/lock.py")
    assert report(updated(project)).deleted == {}


def test_what_another_answer_deletes_is_named(project):
    found = report(updated(project, {"web.py": "web = 'mine'\n"}, app="none"))
    assert found.deleted == {"web.py": ""}


def test_a_file_with_a_strange_name_is_compared_too(template, tmp_path):
    commit(template, {'docs/é "1".md': "one\n"}, "v3.0.0")
    git(template, "rm", "--quiet", "-r", "docs")
    commit(template, {}, "v4.0.0")
    copier.run_copy(str(template), tmp_path / "project", vcs_ref="v3.0.0", defaults=True, quiet=True)
    project = commit(tmp_path / "project", {})
    assert report(updated(project)).deleted == {}
    git(project, "reset", "--quiet", "--hard")
    git(project, "clean", "--quiet", "--force", "-d")
    assert report(updated(project, {'docs/é "1".md': "two\n"})).deleted == {'docs/é "1".md': ""}


def test_a_project_that_is_a_part_of_a_repository_is_compared_by_its_own_paths(template, tmp_path):
    top = commit(tmp_path / "top", {"docker/lock.py": "another's\n"})
    copier.run_copy(str(template), top / "part", vcs_ref="v1.0.0", defaults=True, quiet=True)
    commit(top, {"part/docker/user.sh": "mine\n"})
    found = report(updated(top / "part"))
    assert list(found.deleted) == ["docker/user.sh"]
    assert git(top / "part", "show", "HEAD:./docker/user.sh") == "mine\n", "as the message has it"


def test_conflicts_are_named(template, project):
    commit(template, {"web.py": "web = 2\n"}, "v3.0.0")
    found = report(updated(project, {"web.py": "web = 'mine'\n"}))
    assert found.conflicts == ["web.py"] and found.deleted == {} and not found.clean


def test_a_file_that_gitignore_keeps_out_is_named_until_it_is_in_git(project):
    assert report(updated(project, {".gitignore": "*.txt\n"})).ignored == ["notes.txt"]
    git(project, "add", "--force", "notes.txt")
    assert report(project).ignored == []


def test_locks_that_gitignore_keeps_out_are_named(project):
    """A clone would make other ones. The negative control: those of other programs are nobody's business here."""
    for name in ("poetry.lock", "conda-linux-64.lock", "uv.lock"):
        (project / name).touch()
    assert report(updated(project, {".gitignore": "*.lock\n"})).ignored == ["conda-linux-64.lock", "poetry.lock"]
    git(project, "add", "--force", "conda-linux-64.lock", "poetry.lock")
    assert report(project).ignored == []


def test_a_file_that_never_reached_git_is_put_back_and_one_that_was_deleted_is_not(project):
    commit(updated(project, {".gitignore": "*.txt\n"}), {})
    (project / "notes.txt").unlink()
    assert report(project).ignored == ["notes.txt"] and (project / "notes.txt").read_text() == "notes\n"
    git(project, "add", "--force", "notes.txt")
    commit(project, {})
    git(project, "rm", "--quiet", "notes.txt")
    commit(project, {})
    assert report(project).ignored == [] and not (project / "notes.txt").exists()


def test_own_files_in_a_folder_that_the_template_left_are_named(project):
    found = report(updated(project, {"src/ice/own.py": "own\n", "own.py": "own\n"}, package="snow"))
    assert found.left == ["src/ice/own.py"] and found.clean


def test_folders_stand_for_their_files_only_where_all_of_them_are_meant(tmp_path):
    for name in ("a/b/1", "a/2", "c/3", "c/secret"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert gathered(tmp_path, ["a/2", "a/b/1", "c/3"]) == ["a", "c/3"]


def test_what_takes_the_place_of_a_file():
    new = {"src/snow/code.py", ".couplet/couplet/kernel.py", ".couplet/couplet/lock/solve.py"}
    assert successor("src/ice/code.py", new) == "src/snow/code.py"
    assert successor("docker/kernel.json", new) == ".couplet/couplet/kernel.py"
    assert successor("docker/lock.py", new) == ".couplet/couplet/lock/solve.py"
    assert successor("docker/virtual-packages.yml", new) == ".couplet/"
    assert successor("notebooks/example.ipynb", new) == ""


def test_a_folder_that_the_template_still_has_a_file_in_is_not_left():
    assert left_behind(["a/own", "b/own", "c/own"], {"a/1", "b/1"}, {"a/2"}) == ["b/own"]


def test_an_update_is_pending_until_it_is_committed(project):
    assert not pending(project)
    updated(project)
    assert pending(project)
    commit(project, {})
    assert not pending(project)


def test_a_project_without_a_commit_has_no_update_pending(template, tmp_path):
    copier.run_copy(str(template), tmp_path / "project", defaults=True, quiet=True)
    git(tmp_path / "project", "init", "--quiet")
    assert not pending(tmp_path / "project")


def test_another_address_of_the_template_is_no_update(project):
    text = (project / ".copier-answers.yml").read_text()
    (project / ".copier-answers.yml").write_text(text.replace("_src_path: ", "_src_path: /elsewhere"))
    assert not pending(project)


ADDRESSES = {
    "/srv/the templates/couplet": "/srv/the templates/couplet",
    "'/srv/it''s: couplet'": "/srv/it's: couplet",
    "/srv/a path of many words that is longer than a line of YAML\n  may be, so that it goes on": (
        "/srv/a path of many words that is longer than a line of YAML may be, so that it goes on"
    ),
    "../couplet": "{parent}/couplet",
    "gh:someone/couplet": "",
    "https://example.com/couplet.git": "",
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_the_templates_folder_is_read_as_yaml_has_it(tmp_path, address):
    (tmp_path / ".copier-answers.yml").write_text(f"_commit: v1.0.0\n_src_path: {address}\n")
    assert template_folder(tmp_path) == ADDRESSES[address].format(parent=tmp_path.parent)


def test_an_address_that_the_container_cannot_use_is_refused_by_name(tmp_path):
    for text, message in (
        ("_src_path: git@example.com:me/couplet.git\n", "no ssh"),
        ("_commit: v1.0.0\n", "has no _src_path"),
        ("", "has no _src_path"),
    ):
        (tmp_path / ".copier-answers.yml").write_text(text)
        with pytest.raises(UserError, match=message):
            template_folder(tmp_path)
    (tmp_path / ".copier-answers.yml").unlink()
    with pytest.raises(UserError, match="git checkout HEAD"):
        template_folder(tmp_path)


def run(project: Path, monkeypatch, *words: str) -> int | None:
    """Call the verb in a project, with no terminal."""
    monkeypatch.chdir(project)
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        return main(list(words))


def test_the_exit_code_is_1_where_somebody_has_to_see_to_something(project, monkeypatch, capfd):
    commit(project, {"docker/lock.py": "mine\n"})
    assert run(project, monkeypatch, "update") == 1
    shown = capfd.readouterr()
    assert "git show HEAD:./docker/lock.py   (.couplet/lock.py has taken its place)" in shown.err
    assert "git reset --hard" in shown.err and " D docker/user.sh" in shown.out
    assert run(project, monkeypatch, "report") == 1
    with pytest.raises(UserError, match="not committed yet"):
        run(project, monkeypatch, "update")
    commit(project, {})
    capfd.readouterr()
    assert run(project, monkeypatch, "update") == 0 and "Nothing has changed" in capfd.readouterr().out
    assert run(project, monkeypatch, "report") == 0 and capfd.readouterr() == ("", "")


def test_the_exit_code_is_0_where_there_is_nothing(project, monkeypatch, capfd):
    assert run(project, monkeypatch, "update") == 0
    shown = capfd.readouterr()
    assert " D docker/user.sh" in shown.out and "make env-update build test" in shown.out and "Deleted" not in shown.err


def test_an_update_that_copier_refuses_is_an_error(project, monkeypatch):
    (project / "web.py").write_text("not committed\n")
    with pytest.raises(UserError, match="The update failed"):
        run(project, monkeypatch, "update")


def test_check_says_whether_there_is_a_newer_template(project, monkeypatch, capfd):
    assert run(project, monkeypatch, "check") == 0 and "New template version available" in capfd.readouterr().out
    commit(updated(project), {})
    assert run(project, monkeypatch, "check") == 0 and "up-to-date" in capfd.readouterr().out


def test_folder_prints_where_the_template_is(project, template, monkeypatch, capsys):
    assert run(project, monkeypatch, "folder") == 0
    assert capsys.readouterr().out == f"{template}\n"


IGNORED = {
    "where the new template brings a file": ("notes.txt", ()),
    "where another answer brings one": ("web.py", ("--data", "app=web")),
    "where the new template has a file no more": ("docker/lock.py", ()),
}


@pytest.mark.parametrize("case", IGNORED)
def test_a_file_that_git_ignores_is_not_written_over_or_deleted(template, tmp_path, monkeypatch, capfd, case):
    """git has no copy of it. Once it is moved away, or in git, the update comes in, and the file is there."""
    path, options = IGNORED[case]
    answers = {"app": "none"} if options else {}
    copier.run_copy(str(template), tmp_path / "project", data=answers, vcs_ref="v1.0.0", defaults=True, quiet=True)
    project = tmp_path / "project"
    (project / path).unlink(missing_ok=True)
    commit(project, {".gitignore": path})
    (project / path).write_text("mine\n")
    with pytest.raises(UserError, match=f"(?s)update was refused.*  mv {path} {path}.mine\n.*git add --force FILE"):
        run(project, monkeypatch, "update", *options)
    assert (project / path).read_text() == "mine\n" and not pending(project)
    # the negative control: Copier alone says nothing
    shutil.copytree(project, tmp_path / "alone")
    copier.run_update(tmp_path / "alone", data={"app": "web"}, defaults=True, overwrite=True, quiet=True)
    assert not (tmp_path / "alone" / path).exists() or (tmp_path / "alone" / path).read_text() != "mine\n"
    # and both ways out
    shutil.copytree(project, tmp_path / "taken")
    git(tmp_path / "taken", "add", "--force", path)
    commit(tmp_path / "taken", {})
    run(tmp_path / "taken", monkeypatch, "update", *options)
    assert "mine" in git(tmp_path / "taken", "show", f"HEAD:{path}")
    (project / path).rename(project / f"{path}.mine")
    commit(project, {})
    run(project, monkeypatch, "update", *options)
    assert pending(project) and (project / f"{path}.mine").read_text() == "mine\n"


def test_a_file_that_git_ignores_and_that_is_as_the_template_made_it_is_brought_up_to_date(template, project, monkeypatch):
    commit(template, {"web.py": "web = 3\n"}, "v3.0.0")
    git(project, "rm", "--quiet", "--cached", "web.py")
    (project / ".gitignore").write_text("web.py\n.venv\n")
    git(project, "add", ".gitignore")
    git(project, "commit", "--quiet", "--message", "x")
    (project / ".venv").mkdir()
    (project / ".venv/web.py").touch()
    run(project, monkeypatch, "update", "--vcs-ref", "v3.0.0")
    assert pending(project)


def test_an_update_that_would_need_trust_is_refused(template, project, monkeypatch, tmp_path):
    """The template's command has not run, in the update or in the report on it. The negative control: with trust it does."""
    ran = tmp_path / "ran"
    commit(template, {"copier.yml": f"_tasks: ['touch {ran}']\n{QUESTIONS}"}, "v3.0.0")
    with pytest.raises(UserError, match="The update failed"):
        run(project, monkeypatch, "update")
    assert not ran.exists() and not pending(project)
    copier.run_update(project, defaults=True, overwrite=True, quiet=True, unsafe=True)
    assert ran.exists()
    commit(project, {})
    extended = f"_jinja_extensions: [jinja2.ext.do]\n{QUESTIONS}"
    commit(template, {"copier.yml": extended, "copier.yml.jinja": ""}, "v4.0.0")
    copier.run_update(project, defaults=True, overwrite=True, quiet=True, unsafe=True)
    ran.unlink()
    with pytest.raises(copier.errors.UnsafeTemplateError):
        report(project)
    assert not ran.exists()
