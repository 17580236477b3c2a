"""`couplet doctor`: whatever is not as the template has it is named, and so is what git would not hand on."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import pytest

from couplet import doctor
from couplet.errors import UserError

FILES = {"couplet.sh": "#!/bin/sh\n", "couplet/errors.py": "A = 1\n", "pins/tools.txt": "uv==1\n"}


def git(folder: Path, *words: str) -> None:
    """Run git, with an author of its own."""
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose .couplet/ is as its MANIFEST says; no repository yet."""
    project = tmp_path / "project"
    for name, text in FILES.items():
        file = project / ".couplet" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    lines = [f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n" for name, text in FILES.items()]
    (project / ".couplet/MANIFEST").write_text("".join(lines))
    (project / ".copier-answers.yml").write_text("# comment\n_commit: v1.0.0\n_src_path: x\n")
    return project


@pytest.fixture
def repository(project: Path) -> Path:
    """The same, with all of it committed."""
    git(project, "init", "--quiet")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "all")
    return project


def said(project: Path) -> str:
    """Return the message of a project that is not as it should be."""
    with pytest.raises(UserError) as caught:
        doctor.main(["--project", str(project)])
    assert caught.value.code == 1
    return str(caught.value)


def test_a_folder_as_the_template_has_it_is_one_line(repository, capsys):
    compiled = repository / ".couplet/couplet/__pycache__/errors.cpython-313.pyc"
    compiled.parent.mkdir()
    compiled.write_bytes(b"")
    doctor.main(["--project", str(repository)])
    assert capsys.readouterr().out == ".couplet/ is as the template v1.0.0 has it: 3 files\n"
    (repository / ".copier-answers.yml").unlink()
    doctor.main(["--project", str(repository)])
    assert "as the template has it" in capsys.readouterr().out


def test_line_ends_of_windows_are_no_difference(repository):
    file = repository / ".couplet/couplet/errors.py"
    file.write_bytes(b"A = 1\r\n")
    doctor.main(["--project", str(repository)])
    file.write_bytes(b"A = 1\r\n\r\n")
    assert "differs" in said(repository)


WRONG = {
    "an edited file": (lambda folder: (folder / "couplet.sh").write_text("#!/bin/sh\nset -x\n"), "differs", "couplet.sh"),
    "a missing file": (lambda folder: (folder / "pins/tools.txt").unlink(), "missing", "pins/tools.txt"),
    "a file of one's own": (lambda folder: (folder / "couplet/mine.py").write_text(""), "unknown", "couplet/mine.py"),
}


@pytest.mark.parametrize("what", WRONG)
def test_each_file_that_is_not_the_templates_is_named_with_what_to_type(repository, what):
    change, kind, name = WRONG[what]
    change(repository / ".couplet")
    message = said(repository)
    assert re.findall(r"^  (\S.*?)  +(\S+)$", message, re.M) == [(kind, f".couplet/{name}")]
    if kind != "unknown":
        assert f"git checkout HEAD -- .couplet/{name}\n" in message and "make update" in message
        git(repository, "checkout", "HEAD", "--", f".couplet/{name}")
    else:
        (repository / ".couplet" / name).unlink()
    doctor.main(["--project", str(repository)])


def test_without_a_repository_the_files_are_compared_all_the_same(project):
    doctor.main(["--project", str(project)])
    WRONG["an edited file"][0](project / ".couplet")
    assert "differs" in said(project)


@pytest.mark.parametrize("when", ["before the first commit", "after it"])
def test_what_git_ignores_is_named_with_what_to_type(project, when):
    """A company's or a user's own ignore list has `pins/` or `*.txt` in it, and a clone would lack the file."""
    git(project, "init", "--quiet")
    (project / ".git/info/exclude").write_text("*.txt\n")
    if when == "after it":
        git(project, "add", "--all")
        git(project, "commit", "--quiet", "--message", "all")
    message = said(project)
    assert re.findall(r"^  not in git  (\S+)$", message, re.M) == [".couplet/pins/tools.txt"]
    assert message.endswith("git add --force .couplet/pins/tools.txt")
    git(project, "add", "--force", ".couplet/pins/tools.txt")
    git(project, "add", "--all")
    doctor.main(["--project", str(project)])


def test_what_was_never_added_is_named(repository):
    git(repository, "rm", "--cached", "--quiet", ".couplet/MANIFEST")
    assert "not in git  .couplet/MANIFEST" in said(repository)


def test_a_manifest_that_is_not_there_or_damaged_is_an_error(repository):
    (repository / ".couplet/MANIFEST").write_text("<<<<<<< before\n")
    assert "git checkout HEAD -- .couplet/MANIFEST" in said(repository)
    (repository / ".couplet/MANIFEST").unlink()
    assert "MANIFEST is missing or damaged" in said(repository)
