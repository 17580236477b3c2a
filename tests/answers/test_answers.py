"""Answers: what Copier asks, what it refuses, what it records."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import tomllib

import copier.errors
import pytest
import yaml

from tests.harness import template, terminal, update
from tests.harness.variants import variants


def test_every_question_file_is_included():
    included = {str(name) for name in template.questions()}
    files = [*(template.REPOSITORY / "questions").glob("*.yml")]
    assert len(files) > 4
    for file in files:
        assert yaml.safe_load(file.read_text()).keys() <= included, f"{file.name} is not included in copier.yml"


def test_the_table_answers_only_questions_that_exist():
    for variant in variants():
        assert variant.answers.keys() <= template.questions().keys(), variant.name


def test_an_answer_to_no_question_is_refused_by_the_harness(render):
    with pytest.raises(AssertionError, match=r"no such question.*licence"):
        render(licence="MIT")


def test_a_name_is_enough(render):
    project = render(project_name="Sea Ice")
    metadata = tomllib.loads((project.path / "pyproject.toml").read_text())
    assert metadata["project"]["name"] == "sea-ice"
    assert project.package == "sea_ice"


REFUSED = [
    ({"project_name": ""}, "needs a name"),
    ({"kernel_prefix": "opt/saturncloud"}, "absolute path"),
    ({"project_name": " Sea Ice"}, "spaces"),
    ({"project_name": "Sea\nIce"}, "one line"),
    ({"package_name": "numpy"}, "choose another package_name"),
    ({"package_name": "Sea-Ice"}, "letters, digits and underscores"),
    ({"package_name": "sea__ice"}, "two in a row"),
    ({"project_description": "two\nlines"}, "one line"),
    ({"author_email": "nobody"}, "not an e-mail address"),
    ({"author_name": "A <b>"}, "without < and >"),
    ({"kernel_name": "Sea Ice"}, "letters a to z"),
    ({"kernel_display_name": " "}, "one line"),
    ({"platforms": ["osx-arm64"]}, "needs a Linux platform"),
    ({"accelerator": "cuda", "platforms": ["linux-64", "osx-arm64"]}, "no CUDA for osx-arm64"),
    ({"environment": "poetry", "hosting": "saturn"}, "images need conda"),
    ({"environment": "poetry", "accelerator": "cuda"}, "CUDA builds come from conda"),
    ({"app": "jupyterlab", "kernel": False}, "answer kernel=true"),
    ({"app": "django"}, "app"),
    ({"python_version": "2.7"}, "python_version"),
]


@pytest.mark.parametrize(("answers", "message"), REFUSED, ids=lambda value: "-".join(value) if isinstance(value, dict) else None)
def test_a_bad_answer_is_refused_with_a_reason(render, tmp_path, answers, message):
    with pytest.raises((ValueError, copier.errors.CopierError), match=message):
        render(**answers)
    assert not (tmp_path / "project").exists(), "something was left behind"


def free_text(questions: dict) -> set[str]:
    """Return the questions that a person answers in words of their own."""
    return {
        name
        for name, asked in questions.items()
        if asked.get("type", "str") in ("str", "path", "json", "yaml")
        and "choices" not in asked
        and asked.get("when") is not False
    }


def test_every_free_text_question_refuses_something_with_a_reason():
    questions = template.questions()
    assert free_text(questions) == {name for name in free_text(questions) if questions[name].get("validator")}
    assert free_text(questions) <= {name for answers, _ in REFUSED for name in answers}, "add a refused answer above"
    assert "remark" in free_text(questions | {"remark": {"type": "str"}}), "the negative control: a new question would be seen"


def test_a_name_that_starts_with_a_digit_makes_a_package(render):
    assert render(project_name="3D Ice").package == "project_3d_ice"


NAMES = {"NumPy": "numpy_project", "Test": "test_project", "海氷": "project_ff256b", "Sea Ice": "sea_ice"}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_makes_no_package_gets_one_that_does(render, name):
    project = render(project_name=name)
    assert project.package == NAMES[name]
    assert ("package_name" in update.answers_of(project.path)) == (name != "Sea Ice"), "recorded, since it was asked for"


@pytest.mark.parametrize("name", ["Test", "海氷"])
def test_somebody_at_a_terminal_is_asked_for_the_package_then(template_repository, tmp_path, name):
    """Copier takes the default while it draws the question: one that it refuses would end it."""
    command = ["copier", "copy", "--vcs-ref", "HEAD", str(template_repository), str(tmp_path / "project")]
    with terminal.Session(command) as somebody:
        for question, answer in {
            "project.s name": name,
            "Which profile": "",
            "Name of the Python package": "",
            "Python version": "",
        }.items():
            somebody.until(question)
            time.sleep(0.5)  # until it is drawn, and takes keys
            somebody.send(f"{answer}\r")
        assert somebody.ended() == 0, somebody.screen
    assert update.answers_of(tmp_path / "project")["package_name"] == NAMES[name]


def test_a_hidden_answer_given_on_the_command_line_is_recorded(render):
    """`--data license=MIT` must still hold at the next update, though the question is not asked."""
    recorded = yaml.safe_load((render(license="MIT").path / ".copier-answers.yml").read_text())
    assert recorded["license"] == "MIT"
    assert "author_name" not in recorded


PROFILES = {
    "standard": {},
    "choose": {},
    "minimal": {"kernel": False, "ci": "none"},
    "service": {"kernel": False, "app": "flask"},
    "notebooks": {"app": "jupyterlab"},
    "cluster": {"cluster": "dask"},
}
"""What each profile answers. A meaning never changes: projects record the profile, and an update goes by it."""


def test_every_profile_is_known_by_what_it_answers():
    profile = template.questions()["profile"]["choices"]
    assert set(profile.values()) == PROFILES.keys()
    assert all(label.partition(":")[0][0].isupper() for label in profile)
    assert PROFILES.items() >= template.questions()["profiles"]["default"].items()


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_is_the_same_answers_given_one_by_one(template_repository, tmp_path, profile):
    def rendered(name: str, **answers: object) -> dict[str, tuple]:
        made = template.render(template_repository, tmp_path / name, {"project_name": "Sea Ice", **answers})
        assert update.answers_of(made).get("profile") == answers.get("profile", "standard")
        return {path: file for path, file in update.files(made).items() if path != ".copier-answers.yml"}

    by_profile = rendered("profile", profile=profile)
    assert by_profile == rendered("one-by-one", **PROFILES[profile])
    # the negative control: it makes a difference, where it answers something
    assert (by_profile != rendered("defaults")) == bool(PROFILES[profile])


def test_an_answer_that_is_given_goes_before_the_profile(render):
    project = render(profile="service", app="streamlit", ci="gitlab")
    assert (project.path / "src/sea_ice/dashboard.py").exists() and not (project.path / "src/sea_ice/web.py").exists()
    assert (project.path / ".gitlab-ci.yml").exists() and not (project.path / "notebooks").exists()
    recorded = update.answers_of(project.path)
    assert recorded.items() >= {"profile": "service", "app": "streamlit", "ci": "gitlab"}.items() and "kernel" not in recorded


def test_a_profile_leaves_two_questions_and_choose_asks_all(render):
    """What is asked is what is recorded."""
    asked = {name for name, question in template.questions().items() if question.get("when") is not False}
    for profile in PROFILES:
        recorded = update.answers_of(render(profile, profile=profile).path).keys()
        assert recorded == (asked if profile == "choose" else {"project_name", "profile", "python_version"})


ON_A_MAC = """
import platform, sys
platform.system = lambda: "Darwin"  # what Copier asks, once, when it is imported
from copier import run_copy
run_copy(sys.argv[1], sys.argv[2], data={"project_name": "Sea Ice"}, defaults=True, vcs_ref="HEAD", quiet=True)
"""


def test_a_mac_locks_for_its_dockers_machine_too(template_repository, render, tmp_path):
    """By a Copier that takes this machine for a Mac. The answer is recorded, so that it stays on every other machine."""
    command = [sys.executable, "-c", ON_A_MAC, str(template_repository), str(tmp_path / "mac")]
    subprocess.run(command, check=True, capture_output=True)
    both = ["linux-64", "linux-aarch64"]
    assert update.answers_of(tmp_path / "mac")["platforms"] == both
    assert json.loads((tmp_path / "mac/.couplet/project.json").read_text())["platforms"] == both
    # the negative control: this machine's project is for linux-64, and that is no answer
    here = render(project_name="Sea Ice")
    assert "platforms" not in update.answers_of(here.path)
    assert json.loads((here.path / ".couplet/project.json").read_text())["platforms"] == ["linux-64"]


def test_nothing_in_copier_yml_needs_trust(render, template_repository, tmp_path):
    """The negative control of every render above: one task, and Copier refuses without --trust."""
    copy = template.snapshot(tmp_path / "with-a-task")
    (copy / "copier.yml").write_text(
        (copy / "copier.yml").read_text().replace("_subdirectory", "_tasks: ['true']\n_subdirectory", 1)
    )
    template.git(copy, "commit", "--quiet", "--all", "--message", "A task")
    template.git(copy, "tag", "v9999.0.1")
    with pytest.raises(copier.errors.UnsafeTemplateError):
        template.render(copy, tmp_path / "refused", {"project_name": "Sea Ice"}, version="v9999.0.1")
