"""MANIFEST.jinja is generated: it is current, and a render of it is what the project really has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from couplet import doctor
from couplet.errors import UserError
from tests.harness import generated, manifest

SETTINGS = """
_exclude:
  - "*.bak"
  - "{% if environment == 'poetry' %}.couplet/couplet/solve.py{% endif %}"
  - "{% if not app_port %}.couplet/saturn{% endif %}"
  - "{% if not kernel %}notebooks{% endif %}"
---
!include questions.yml
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A small template, with a file that git ignores."""
    for name, text in {
        "copier.yml": SETTINGS,
        ".gitignore": "*.pyc\n",
        "template/.couplet/couplet.sh": "a",
        "template/.couplet/couplet/solve.py": "b",
        "template/.couplet/couplet/solve.pyc": "b",
        "template/.couplet/saturn/pack.py": "c",
        "template/.couplet/old.bak": "d",
        "template/.couplet/project.json.jinja": "{{ environment }}",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    return tmp_path


def rendered(repository: Path, **answers: object) -> dict[str, str]:
    """Return {path: what stands for its hash} of the MANIFEST, as Jinja renders it with these answers."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(repository), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["hash"] = lambda text, kind: f"{kind} of {text}"
    text = environment.from_string(manifest.manifest(repository)).render(answers)
    return {name: digest for digest, name in (line.split("  ") for line in text.splitlines())}


def test_each_file_is_there_when_its_answers_are(repository):
    all_of_it = rendered(repository, environment="conda-poetry", app_port=80, kernel=True)
    assert list(all_of_it) == ["couplet.sh", "couplet/solve.py", "project.json", "saturn/pack.py"]
    assert all_of_it["project.json"] == "sha256 of conda-poetry", "what Copier renders is hashed as rendered"
    assert all_of_it["couplet.sh"] == "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    less = rendered(repository, environment="poetry", app_port=0, kernel=False)
    assert list(less) == ["couplet.sh", "project.json"] and less["project.json"] == "sha256 of poetry"


def test_a_condition_in_another_form_is_an_error():
    with pytest.raises(SystemExit, match="is none of"):
        manifest.excluded("_exclude:\n  - \"{{ 'notebooks' if kernel else '' }}\"\n")


def test_the_manifest_of_this_repository_is_current():
    command = [sys.executable, "-m", "tests.harness.manifest", "--check"]
    done = subprocess.run(command, cwd=generated.REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_manifest_that_is_out_of_date_is_seen_and_written_anew(repository, monkeypatch, capsys):
    monkeypatch.setattr(generated, "REPOSITORY", repository)

    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["manifest", *words])
        return generated.write("tests.harness.manifest", "", manifest.MANIFEST, manifest.manifest(repository))

    assert run("--check") == 1, "there is none"
    assert run() == run("--check") == 0
    (repository / "template/.couplet/couplet.sh").write_text("edited")
    assert run("--check") == 1 and "python -m tests.harness.manifest" in capsys.readouterr().err
    assert run() == run("--check") == 0


@pytest.mark.parametrize("environment", ["conda-poetry", "poetry"])
def test_a_rendered_project_passes_the_doctor_and_an_edited_one_does_not(render, environment):
    project = render(environment=environment).path
    doctor.doctor(project)
    with (project / ".couplet/project.json").open("a") as file:
        file.write("\n")
    with pytest.raises(UserError, match=r"differs +\.couplet/project\.json"):
        doctor.doctor(project)


def test_make_doctor_ends_with_an_error_where_a_file_differs(render):
    project = render()
    assert ".couplet/ is as the template" in project.make("doctor").output
    with (project.path / ".couplet/couplet.sh").open("a") as file:
        file.write("\n")
    assert ".couplet/couplet.sh" in project.make("doctor", fails=True).output
