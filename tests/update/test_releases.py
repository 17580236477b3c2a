"""Update: from every release to the working tree, nothing of the user's is lost, and nothing needs trust.

Until there is a release, and beside them for ever, the gate runs on a made-up history: an older template is the
working tree with some changes undone (`update.older`), and each mutant is the working tree with one mistake made.
"""

from __future__ import annotations

import functools
import importlib.metadata
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import copier
import copier.errors
import jinja2
import pytest
import yaml
from packaging.version import Version

from couplet.update import ANSWERS, BACK, OF_0, report
from tests.harness import template, update
from tests.harness.soak import some
from tests.harness.update import Edit
from tests.harness.variants import variants

MADE_UP = "v0.0.1"
RELEASES = [*template.releases(), MADE_UP]
DROPPED: dict[str, str] = {"advanced": "profile says it: `choose` for yes, `standard` for no"}
"""Questions of releases that went for good, and why no other question carries their answer."""
LOCKS = {
    "conda-lock.yml": "version: 1\n# moved by the user\n",
    "conda-linux-64.lock": "# stamp environment.yml 0\n@EXPLICIT\n",
    "poetry.lock": "# moved by the user\n[[package]]\n",
}
PINS = ["numpy==2.4.6", "python-dateutil==2.9.0.post0", "scipy==1.17.0"]


@pytest.fixture(scope="session")
def history(tmp_path_factory) -> Path:
    """The releases, one made up before them, and the working tree as the latest."""
    repository = template.snapshot(tmp_path_factory.mktemp("history") / "couplet")
    update.release(repository, MADE_UP, update.older)
    return repository


@pytest.fixture
def mutant(tmp_path):
    """A function that makes a history of two releases: the working tree, and after it the tree with a mistake made."""

    def make(mistake) -> Path:
        repository = template.snapshot(tmp_path / "mutant")
        update.release(repository, "v9999.0.1", mistake)
        return repository

    return make


def rows(version: str, history: Path | None = None):
    """Return {variant: answers} of a release; of the made-up one, what it can answer of today's."""
    if version != MADE_UP:
        return {row.name: row.answers for row in update.variants_of(template.REPOSITORY, template.releases()[version])}
    known = template.questions(history, version) if history else template.questions()
    return {row.name: {name: value for name, value in row.answers.items() if name in known} for row in variants()}


NEWEST = list(template.releases())[-1]
CASES = [(version, name) for version in RELEASES for name in rows(version)]


def by_day(cases: list[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return every variant of the newest release, and the default of each of the others."""
    return {case for case in cases if case[0] == NEWEST or case[1] == "default"}


every_release_and_variant = pytest.mark.parametrize(
    ("version", "name"),
    some(CASES, *by_day(CASES)),
    ids=lambda value: value,
)


@pytest.fixture(scope="session")
def first_day(history, tmp_path_factory):
    """A function that renders a variant of a release into a committed project, once: several tests begin with it."""

    @functools.cache
    def make(version: str, name: str) -> Path:
        folder = tmp_path_factory.mktemp(f"{version}-{name}") / "project"
        return update.project(history, folder, rows(version, history)[name], version)

    return make


@pytest.fixture
def begun(first_day, tmp_path):
    """A function that copies such a project, for a test to go on with."""

    def make(version: str, name: str) -> Path:
        return shutil.copytree(first_day(version, name), tmp_path / "project", symlinks=True)

    return make


@pytest.fixture(scope="session")
def fresh(history, tmp_path_factory):
    """A function that renders the latest with some answers, once. What it returns is only to be looked at."""

    @functools.cache
    def make(answers: str) -> Path:
        return template.render(history, tmp_path_factory.mktemp("fresh") / "project", json.loads(answers))

    return lambda answers: make(json.dumps(answers, sort_keys=True))


# --- the table of releases -------------------------------------------------------------------------


def test_each_release_has_landed_and_they_are_in_order():
    for commit in template.releases().values():
        assert re.fullmatch("[0-9a-f]{40}", commit)
        template.git(template.REPOSITORY, "merge-base", "--is-ancestor", commit, "HEAD")
    versions = [Version(tag) for tag in template.releases()]
    assert versions == sorted(versions) and all(version < Version(template.TAG) for version in versions)


def test_a_commit_that_has_not_landed_is_seen(history):
    """The negative control: the made-up release is no ancestor."""
    with pytest.raises(subprocess.CalledProcessError):
        template.git(history, "merge-base", "--is-ancestor", MADE_UP, template.TAG)


# --- the gate --------------------------------------------------------------------------------------


def edits(project: Path) -> list[Edit]:
    """Return what a user may have done to a project after some months."""
    package = next(path.name for path in (project / "src").iterdir())
    conda = [
        Edit("environment.yml", "  - gdal>=3.9\n", after="  - numpy\n"),
        Edit("pyproject.toml", "".join(f'\n    "{pin}",' for pin in PINS) + "\n", after="conda = ["),
    ]
    return [
        *(conda if (project / "environment.yml").exists() else []),
        Edit("pyproject.toml", '    "tqdm>=4.66",\n', after='    "pandas>=2.2",\n'),
        Edit("Makefile", "\nfigures: build ## draw the figures\n\t@echo figures\n"),
        Edit("Dockerfile", "RUN apt-get update && apt-get install --yes libgl1\n", after="FROM env AS runtime\n"),
        Edit("README.md", "\n## Data\n\nAsk the institute.\n"),
        Edit("src/" + package + "/ice.py", "THICKNESS = 1.5\n"),
        Edit(".editorconfig", "[*.R]\nindent_size = 7\n"),
        Edit("tests/test_analysis.py", deleted=True),
        *(Edit(lock, text) for lock, text in locks(project).items()),
    ]


def locks(project: Path) -> dict[str, str]:
    """Return the lock files that a project has, as its user left them."""
    return {name: text for name, text in LOCKS.items() if name == "poetry.lock" or (project / "environment.yml").exists()}


@every_release_and_variant
def test_an_update_keeps_every_edit_and_gives_what_a_fresh_render_gives(history, begun, fresh, version, name):
    """An edit survives or is in a visible conflict; without the edits the project is a fresh one."""
    project = begun(version, name)
    before, paths = update.answers_of(project), set(update.files(project))
    made = edits(project)
    if version == MADE_UP:
        # on the line that the template rewords since
        made.append(Edit("README.md", " Look at `figures` first.", after="`make` lists everything."))
    for edit in made:
        edit.apply(project)
    update.commit(project)
    update.update(project, history)
    after = update.answers_of(project)
    wanted = fresh(after)
    assert update.lost_answers(before, after, template.questions(), DROPPED) == []
    assert update.vanished(history, version, template.TAG, paths, set(update.files(wanted))) == []
    assert update.lost(project, made) == []
    conflicts = update.conflicts(project)
    assert conflicts <= {edit.path for edit in made} - {*LOCKS, "pyproject.toml", "environment.yml"}
    assert report(project).clean == (not conflicts)
    if version == MADE_UP:
        assert conflicts == {"README.md", ".editorconfig"}
    for lock, text in locks(project).items():
        assert (project / lock).read_text() == text
    groups = tomllib.loads((project / "pyproject.toml").read_text())["dependency-groups"]
    assert groups.get("conda") == (PINS if (project / "environment.yml").exists() else None)
    for edit in made:
        edit.undo(project, wanted)
    assert {problem.split()[0] for problem in update.differences(project, wanted)} == conflicts


OLD = [version for version in RELEASES if Version(version) < Version("1.0.0") and version != MADE_UP]
SERVED = {"src/sea_ice/serve.py", "tests/test_app.py"}
LAB = SERVED | {
    "src/sea_ice/jupyter/jupyter_config.py",
    "src/sea_ice/jupyter/labconfig/default_setting_overrides.json",
}
FLASK = SERVED | {"src/sea_ice/web.py", "src/sea_ice/templates/index.html"}
ON_GITHUB = {".github/workflows/audit.yml", ".github/workflows/ci.yml", "renovate.json"}
NOTEBOOK = {"notebooks/example.ipynb"}
STANDARD = ON_GITHUB | NOTEBOOK
FLIPS = {
    "environment": {"conda-poetry": {"environment.yml"}, "poetry": set()},
    "kernel": {True: NOTEBOOK, False: set()},
    "ci": {
        "github": ON_GITHUB,
        "gitlab": {".gitlab-ci.yml", "renovate.json"},
        "none": set(),
    },
    "fresh_locks": {"none": set(), "weekly": {".github/workflows/locks.yml"}},
    "python_version": {"3.11": set(), "3.12": set(), "3.13": set(), "3.14": set()},
    "platforms": {("linux-64",): set(), ("linux-64", "linux-aarch64", "osx-arm64"): set()},
    "accelerator": {"cpu": set(), "cuda": {"compose.gpu.yaml", "src/sea_ice/device.py"}},
    "license": {"MIT": set(), "BSD-3-Clause": set(), "Apache-2.0": set(), "Proprietary": set()},
    "devcontainer": {True: {".devcontainer/devcontainer.json"}, False: set()},
    "profile": {
        "standard": STANDARD,
        "minimal": set(),
        "service": ON_GITHUB | FLASK,
        "notebooks": STANDARD | LAB,
        "cluster": STANDARD | {"src/sea_ice/cluster.py"},
        # the last one: it records every answer, and those go before a profile
        "choose": STANDARD,
    },
    "app": {
        "none": set(),
        "script": {"tests/test_app.py"},
        "flask": FLASK,
        "streamlit": SERVED | {"src/sea_ice/dashboard.py"},
        "jupyterlab": LAB,
    },
    "hosting": {"docker": set(), "saturn": {"postBuild", "Dockerfile.saturn"}, "hpc": set()},
    "cluster": {"none": set(), "dask": {"src/sea_ice/cluster.py"}},
    "deploy": {"none": set(), "kubernetes": {"deploy/job/job.yaml", "deploy/job/kustomization.yaml"}},
}
"""Question -> answer -> the files that exist for that answer alone, but for those in .couplet, which are nobody's to edit."""


def test_every_choice_has_a_row_in_the_table_of_flips():
    """A new question with choices says here which files come and go with it; a choice without a row is an error."""
    asked = {name: question for name, question in template.questions().items() if question.get("when") is not False}
    assert FLIPS.keys() == {name for name, q in asked.items() if q["type"] == "bool" or "choices" in q}
    for name, answers in FLIPS.items():
        listed = {choice for answer in answers for choice in (answer if isinstance(answer, tuple) else [answer])}
        choices = asked[name].get("choices", [True, False])
        assert listed == set(choices.values() if isinstance(choices, dict) else choices), name


CHAINS = ("environment", "profile", "app")
"""The questions that most files hang on: the others' chains are long work for the night."""


@pytest.mark.parametrize("question", some(FLIPS, *CHAINS))
def test_an_answer_can_be_changed_to_every_other_and_back(history, begun, fresh, question):
    """From the made-up release, and then at the same version; each moves exactly its files."""
    answers = rows(MADE_UP, history)["default"]
    project = begun(MADE_UP, "default")
    unflipped = outside(fresh(answers))
    default = next(choice for choice in FLIPS[question] if plain(choice) == current(history, question))
    for answer in [*(choice for choice in FLIPS[question] if choice != default), default]:
        update.update(project, history, {question: plain(answer)})
        update.commit(project)
        recorded = update.answers_of(project)
        assert recorded.items() >= {**answers, question: plain(answer)}.items()
        assert update.differences(project, fresh(recorded)) == []
        come, gone = FLIPS[question][answer], FLIPS[question][default]
        assert outside(project) == (unflipped - gone) | come


@pytest.mark.parametrize("advanced", [True, False])
@pytest.mark.parametrize("version", OLD)
def test_a_project_that_answered_advanced_has_the_profile_of_it(history, tmp_path, version, advanced):
    """A profile is one of the answers since 1.0.0; every other answer stays, and nothing else is recorded."""
    project = update.project(
        history, tmp_path / "project", {"project_name": "Sea Ice", "advanced": advanced, "kernel": False}, version
    )
    before = update.answers_of(project)
    assert before.pop("advanced") is advanced and (len(before) > 8) == advanced
    update.update(project, history)
    after = update.answers_of(project)
    assert after.pop("profile") == ("choose" if advanced else "standard")
    assert "advanced" not in after and before.items() <= after.items()
    assert advanced or before == after
    assert not (project / "notebooks").exists(), "answered before there were profiles"


def test_a_profile_and_the_answers_that_go_before_it_stay(history, tmp_path):
    """The profile alone is recorded, and what was given beside it."""
    given = {"project_name": "Sea Ice", "profile": "service", "app": "streamlit"}
    project = update.project(history, tmp_path / "project", given, MADE_UP)
    update.update(project, history)
    assert update.answers_of(project).items() >= given.items() and "kernel" not in update.answers_of(project)
    assert (project / "src/sea_ice/dashboard.py").exists()
    assert not (project / "src/sea_ice/web.py").exists() and not (project / "notebooks").exists()


def outside(project: Path) -> set[str]:
    """Return the paths of a project that are not in .couplet."""
    return {path for path in update.files(project) if not path.startswith(".couplet/")}


def plain(answer):
    """Return an answer of the table as Copier takes it."""
    return list(answer) if isinstance(answer, tuple) else answer


def current(history, question: str):
    """Return the default of a question."""
    default = template.questions(history, template.TAG)[question]["default"]
    if isinstance(default, str) and "{{" in default:
        default = yaml.safe_load(jinja2.Template(default).render(_copier_conf={"os": "linux"}, profile_answers={}))
    return default


# --- nothing is deleted, left out or left behind unsaid --------------------------------------------

MINE = "\n# mine\n"


def edit_every(project: Path, count: int = 1) -> set[str]:
    """Write a line into every file of a project, or into every second or third one, and commit. Returns their paths."""
    edited = sorted(update.files(project).keys() - {ANSWERS})[::count]
    for path in edited:
        Edit(path, MINE).apply(project)
    update.commit(project)
    return set(edited)


def unsaid(project: Path, edited: set[str]) -> set[str]:
    """Return which of the edits are neither there, be it in a conflict, nor named by what `make update` ends with."""
    there = {path for path in edited if (project / path).exists() and MINE.strip() in (project / path).read_text()}
    return edited - there - report(project).deleted.keys()


def asked(version: str) -> dict[str, dict]:
    """Return the questions of a release: of the made-up one, today's that the tables know of."""
    return template.questions(template.REPOSITORY, template.releases().get(version))


def flipped() -> Iterator[tuple[str, str, int]]:
    """Each answer of each question once, and each release in turn: (release, question, which of the other answers)."""
    turn = itertools.cycle(reversed(RELEASES))
    for question in [*FLIPS, "package_name"]:
        known = [version for version in RELEASES if question in asked(version)]
        for number in range(len(FLIPS.get(question, "ab")) - 1):
            yield next(version for version in turn if version in known), question, number


EVERY_FLIP = [
    (version, question, number)
    for version in RELEASES
    for question in [*FLIPS, "package_name"]
    if question in asked(version)
    for number in range(len(FLIPS.get(question, "ab")) - 1)
]
BY_DAY = set(flipped())


def test_by_day_every_answer_is_flipped_and_every_release_and_question_has_its_turn():
    """What is left to the night are the other pairs of a release and an answer."""
    assert {(question, number) for _, question, number in BY_DAY} == {(question, number) for _, question, number in EVERY_FLIP}
    assert {version for version, _, _ in BY_DAY} == set(RELEASES)
    day = by_day(CASES)
    assert day <= set(CASES) and {version for version, _ in day} == set(RELEASES)
    assert {name for version, name in day if version == NEWEST} == set(rows(NEWEST))


@pytest.mark.parametrize(
    ("version", "question", "number"),
    some(EVERY_FLIP, *BY_DAY),
)
def test_a_flipped_answer_moves_exactly_its_files_and_deletes_no_edit_unsaid(history, begun, fresh, version, question, number):
    """With another answer at the update; every second file is edited, so that what is named without an edit is seen too."""
    answers = rows(version, history)["default"]
    default = None if question == "package_name" else current(history, question)
    others = ["polar_ice"] if question == "package_name" else [plain(answer) for answer in FLIPS[question]]
    project = begun(version, "default")
    if question == "app" and version != "v0.1.0":
        # from an app to none: more goes than comes
        others, default = ["none", *others], "flask"
        update.update(project, history, {"app": "flask"}, version)
        update.commit(project)
    before = update.answers_of(project)
    edited = edit_every(project, 2)
    answer = list({str(other): other for other in others if other != default}.values())[number]
    update.update(project, history, {question: answer})
    assert unsaid(project, edited) == set()
    assert report(project).deleted.keys() == {path for path in edited if not (project / path).exists()}
    recorded = update.answers_of(project)
    assert recorded.items() >= {**answers, question: answer}.items()
    wrong = {problem.split()[0] for problem in update.differences(project, fresh(recorded))}
    assert wrong <= edited, "what was not edited is as a fresh render has it"
    if question != "package_name":
        come, gone = (next(paths for key, paths in FLIPS[question].items() if plain(key) == one) for one in (answer, default))
        kept = {name: value for name, value in before.items() if name not in DROPPED}
        assert outside(project) == (outside(fresh(kept)) - gone) | come


def old_make_update(project: Path) -> subprocess.CompletedProcess:
    """Run what `make update` of 0.x runs in its container: the project's own docker/update.sh."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "docker/update.sh", "update"], cwd=project, env={**os.environ, "PATH": path}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def make_update(project: Path, *words: str) -> subprocess.CompletedProcess:
    """Run what `make update` runs in its container, or another task of it."""
    package = template.REPOSITORY / "template/.couplet"
    return subprocess.run(
        [sys.executable, "-m", "couplet", "update", *(words or ["update"])], cwd=project,
        env={**os.environ, "PYTHONPATH": str(package)}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


CROSSINGS = [*((version, "default") for version in OLD), (OLD[-1], "staged"), (OLD[-1], "flask")]


@pytest.mark.parametrize(
    ("version", "name"),
    some(CROSSINGS, CROSSINGS[0], *CROSSINGS[-2:]),
)
def test_the_crossing_from_0_x_is_one_command_and_names_every_edit_in_what_was_the_templates(begun, version, name):
    """`make update` with the scripts of 0.x; then what the first build runs, or `make update` once more."""
    project = begun(version, name)
    machinery = {path for path in update.files(project) if path.startswith(OF_0)}
    edited = set(sorted(machinery)[::2])
    for path in edited:
        Edit(path, MINE).apply(project)
    Edit("scripts/own.sh", "echo mine\n").apply(project)
    update.commit(project)
    done = old_make_update(project)
    assert done.returncode == 0, done.stdout
    assert "make update" in done.stdout, "the closing words say what names the edits"
    assert machinery <= {line.removeprefix(" D ") for line in done.stdout.splitlines() if line.startswith(" D ")}
    found = report(project)
    assert found.deleted.keys() == edited and all(place.startswith(".couplet/") for place in found.deleted.values())
    assert found.left == ["scripts/own.sh"] and (project / "scripts/own.sh").exists()
    assert template.git(project, "ls-files", "--deleted", "--", "scripts/update.sh"), "the first build looks for this"
    told = make_update(project, "report")
    assert told.returncode == 1 and all(f"git show HEAD:./{path}   (.couplet/" in told.stdout for path in edited)
    again = make_update(project)
    names = told.stdout.partition("\nThis message stays")[0]  # which the build prints last
    assert again.returncode == 1 and names in again.stdout and "not committed yet" in again.stdout


@pytest.mark.parametrize("version", some([OLD[0], OLD[-1]], OLD[-1]))
def test_the_crossing_says_nothing_where_nothing_was_edited(begun, version):
    """The negative control, and the end of the questions: once the deletions are in git's index the build does not look."""
    project = begun(version, "default")
    assert old_make_update(project).returncode == 0
    told = make_update(project, "report")
    assert (told.returncode, told.stdout) == (0, "")
    update.commit(project)
    assert not template.git(project, "ls-files", "--deleted", "--", "scripts/update.sh")
    assert "Nothing has changed" in make_update(project).stdout


def test_make_update_names_what_it_deletes_with_edits(history, tmp_path):
    """The user's own web page goes with the answer; git has it."""
    project = update.project(history, tmp_path / "project", {"project_name": "Sea Ice", "app": "flask"}, template.TAG)
    Edit("src/sea_ice/web.py", MINE).apply(project)
    update.commit(project)
    done = make_update(project, "update", "--vcs-ref=:current:", "--data", "app=none")
    assert done.returncode == 1 and "Deleted, with your edits:\n  git show HEAD:./src/sea_ice/web.py\n" in done.stdout
    assert "serve.py\n  " not in done.stdout and "git show HEAD:./src/sea_ice/serve.py" not in done.stdout
    assert MINE in template.git(project, "show", "HEAD:./src/sea_ice/web.py")
    assert "docker/" not in done.stdout, "what is said of 0.x is said of 0.x alone"


def test_a_new_package_name_names_the_edited_file_its_heir_and_what_stays_behind(history, tmp_path):
    project = update.project(history, tmp_path / "project", {"project_name": "Sea Ice"}, template.TAG)
    Edit("src/sea_ice/analysis.py", MINE).apply(project)
    Edit("src/sea_ice/ice.py", "THICKNESS = 1.5\n").apply(project)
    update.commit(project)
    done = make_update(project, "update", "--vcs-ref=:current:", "--data", "package_name=polar_ice")
    assert done.returncode == 1
    assert "git show HEAD:./src/sea_ice/analysis.py   (src/polar_ice/analysis.py has taken its place)" in done.stdout
    assert "that the template no longer uses:\n  src/sea_ice/ice.py\n" in done.stdout
    assert (project / "src/sea_ice/ice.py").exists()


def test_a_file_of_the_users_own_is_not_taken_over(history, tmp_path):
    """Where another answer brings a file of the same name, both are in a conflict."""
    project = update.project(history, tmp_path / "project", {"project_name": "Sea Ice"}, template.TAG)
    own = Edit("src/sea_ice/web.py", "PAGE = 'mine'\n")
    own.apply(project)
    update.commit(project)
    done = make_update(project, "update", "--vcs-ref=:current:", "--data", "app=flask")
    assert done.returncode == 1 and "same lines:\n  src/sea_ice/web.py\n" in done.stdout
    assert update.lost(project, [own]) == []


IGNORING = {
    "a folder": (".*\n!.gitignore\n", ".couplet"),
    "a file": ("AGENTS.md\n", "AGENTS.md"),
}


@pytest.mark.parametrize("case", IGNORING)
def test_a_file_that_gitignore_keeps_out_of_git_is_named(begun, tmp_path, case):
    """Also in a clone that was made without it, where it is put back."""
    patterns, named = IGNORING[case]
    project = begun("v0.4.0", "default")
    Edit(".gitignore", patterns).apply(project)
    update.commit(project)
    assert old_make_update(project).returncode == 0
    told = make_update(project, "report")
    assert told.returncode == 1 and f"git add --force {named}\n" in told.stdout
    update.commit(project)
    clone = tmp_path / "clone"
    template.git(tmp_path, "clone", "--quiet", str(project), str(clone))
    assert not (clone / named).exists()
    done = make_update(clone)
    assert done.returncode == 1 and f"git add --force {named}\n" in done.stdout
    template.git(clone, "add", "--force", named)
    update.commit(clone)
    done = make_update(clone)
    assert done.returncode == 0 and "Nothing has changed" in done.stdout, done.stdout


def test_a_pattern_for_text_files_does_not_keep_the_pins_out_of_git(begun):
    """.couplet/.gitignore takes all of its folder in; one of the repositories that were adopted ignores *.txt."""
    project = begun("v0.4.0", "default")
    Edit(".gitignore", "*.txt\n").apply(project)
    for path in (project / "docker").glob("*.txt"):
        template.git(project, "add", "--force", str(path.relative_to(project)))
    update.commit(project)
    assert old_make_update(project).returncode == 0
    assert report(project).ignored == []
    update.commit(project)
    assert ".couplet/pins/tools.txt" in template.git(project, "ls-files")


def test_a_file_that_somebody_deleted_and_ignores_is_not_put_back(history, tmp_path):
    project = update.project(history, tmp_path / "project", {"project_name": "Sea Ice"}, template.TAG)
    Edit(".editorconfig", deleted=True).apply(project)
    Edit(".gitignore", ".editorconfig\n").apply(project)
    update.commit(project)
    done = make_update(project)
    assert done.returncode == 0 and not (project / ".editorconfig").exists()


# --- what turns the gate red -----------------------------------------------------------------------


def rename(old: str, new: str):
    """Return a mistake: a file of the template renamed, or removed where `new` is empty."""

    def change(repository: Path) -> None:
        folder = repository / "template"
        (folder / old).rename(folder / new) if new else (folder / old).unlink()

    return change


ENVIRONMENT = "environment.yml.jinja"
MOVED = {"renamed": (ENVIRONMENT, "env.yml.jinja"), "removed": (ENVIRONMENT, "")}


@pytest.mark.parametrize("case", MOVED)
def test_an_edit_in_a_file_that_the_template_moves_is_seen_as_lost(mutant, tmp_path, case):
    repository = mutant(rename(*MOVED[case]))
    project = update.project(repository, tmp_path / "project", {"project_name": "Sea Ice"}, template.TAG)
    before = set(update.files(project))
    edit = Edit("environment.yml", "  - gdal>=3.9\n", after="  - numpy\n")
    edit.apply(project)
    update.commit(project)
    update.update(project, repository)
    assert not update.conflicts(project), "Copier says nothing: this is why the gate is needed"
    assert update.lost(project, [edit]) == ["environment.yml is gone, with the user's '- gdal>=3.9'"]
    gone = update.vanished(repository, template.TAG, "v9999.0.1", before, set(update.files(project)))
    assert gone == [f"environment.yml of {template.TAG} is gone, and no migration moves it"]


MIGRATION = """
_migrations:
  - version: v9999.0.1
    when: "{{ _stage == 'before' }}"
    command: if [ -e environment.yml ]; then git mv environment.yml env.yml; fi
---
"""


def test_a_versioned_migration_carries_an_edit_over_a_rename(mutant, tmp_path):
    """The way of hooks/README.md: with trust the edit arrives, twice is once, and without trust nothing happens."""

    def change(repository: Path) -> None:
        rename(ENVIRONMENT, "env.yml.jinja")(repository)
        file = repository / "copier.yml"
        file.write_text(file.read_text().replace("\n---\n", MIGRATION, 1))

    repository = mutant(change)
    project = update.project(repository, tmp_path / "project", {"project_name": "Sea Ice"}, template.TAG)
    before = set(update.files(project))
    Edit("environment.yml", "  - gdal>=3.9\n", after="  - numpy\n").apply(project)
    update.commit(project)
    with pytest.raises(copier.errors.UnsafeTemplateError):
        update.update(project, repository)
    assert template.git(project, "status", "--porcelain") == ""
    copier.run_update(project, defaults=True, overwrite=True, unsafe=True, quiet=True)
    assert update.lost(project, [Edit("env.yml", "  - gdal>=3.9\n")]) == []
    assert update.conflicts(project) == {"env.yml"}, "as visible as any conflict"
    text = (project / "env.yml").read_text()
    (project / "env.yml").write_text(re.sub(r"<<<<.*\n((?:.*\n)*?)====.*\n(?:.*\n)*?>>>>.*\n", r"\1", text))
    update.commit(project)
    copier.run_update(project, defaults=True, overwrite=True, unsafe=True, quiet=True)
    assert template.git(project, "status", "--porcelain") == ""
    assert not (project / "environment.yml").exists()
    assert update.vanished(repository, template.TAG, "v9999.0.1", before, set(update.files(project))) == []
    update.update(project, repository)


TAXES = {
    "a task": "_tasks: ['true']\n",
    "a Jinja extension": "_jinja_extensions: [jinja2.ext.do]\n",
    "a migration without a version": "_migrations: ['true']\n",
}


@pytest.mark.parametrize("case", TAXES)
def test_what_would_need_trust_is_refused(mutant, tmp_path, case):
    def change(repository: Path) -> None:
        update.replace(repository, "copier.yml", "_subdirectory: template\n", "_subdirectory: template\n" + TAXES[case])

    repository = mutant(change)
    project = update.project(repository, tmp_path / "project", {"project_name": "Sea Ice"}, template.TAG)
    with pytest.raises(copier.errors.UnsafeTemplateError):
        update.update(project, repository)


LICENSE = re.compile(r"^license:\n.*\Z", re.M | re.S)
CARRIED = """licence:
  type: str
  choices: [MIT, BSD-3-Clause, Apache-2.0, Proprietary]
  default: "{{ license | default('Proprietary') }}"
"""


@pytest.mark.parametrize("carried", [True, False])
def test_a_renamed_question_keeps_its_value_and_a_removed_one_is_seen(mutant, tmp_path, carried):
    """The pattern of hooks/README.md, and its negative control without the default that names the old question."""

    def change(repository: Path) -> None:
        file = repository / "questions/10_project.yml"
        asked = CARRIED if carried else CARRIED.replace("{{ license | default('Proprietary') }}", "Proprietary")
        text, count = LICENSE.subn(asked, file.read_text())
        assert count == 1
        file.write_text(text)
        for path in (repository / "template").rglob("*.jinja"):
            path.write_text(path.read_text().replace("if license ", "if licence ").replace("{{ license ", "{{ licence "))

    repository = mutant(change)
    project = update.project(repository, tmp_path / "project", {"project_name": "Sea Ice", "license": "MIT"}, template.TAG)
    before = update.answers_of(project)
    update.update(project, repository)
    after, questions = update.answers_of(project), template.questions(repository, "v9999.0.1")
    problems = update.lost_answers(before, after, questions)
    assert "license" not in after
    if carried:
        assert after["licence"] == "MIT" and problems == []
        assert 'license = "MIT"' in (project / "pyproject.toml").read_text()
    else:
        assert problems == ["the question license is gone, and no other carries its answer 'MIT'"]


def test_a_template_that_changes_the_line_above_the_pins_is_seen(mutant, tmp_path):
    """The negative control of locks that never conflict: the comment above `conda = []` has to stay as it is."""
    project = "template/pyproject.toml.jinja"
    comment = re.search(r"^.*\n(?=conda = \[\])", (template.REPOSITORY / project).read_text(), re.M).group()
    repository = mutant(lambda folder: update.replace(folder, project, comment, "# Another comment.\n"))
    folder = update.project(repository, tmp_path / "project", {"project_name": "Sea Ice"}, template.TAG)
    Edit("pyproject.toml", "".join(f'\n    "{pin}",' for pin in PINS) + "\n", after="conda = [").apply(folder)
    update.commit(folder)
    update.update(folder, repository)
    assert update.conflicts(folder) == {"pyproject.toml"}


def test_a_file_that_is_not_updated_is_seen(history, tmp_path):
    """The negative control of the comparison with a fresh render: the old project is not the new one."""
    old = template.render(history, tmp_path / "old", {"project_name": "Sea Ice"}, MADE_UP)
    new = template.render(history, tmp_path / "new", {"project_name": "Sea Ice"})
    problems = update.differences(old, new)
    assert ".editorconfig is missing" in problems and ".couplet/pins/poetry.txt differs" in problems
    (new / "entrypoint.sh").chmod(0o644)
    assert "entrypoint.sh differs" in update.differences(old, new)


# --- without trust ---------------------------------------------------------------------------------


@pytest.mark.parametrize("version", RELEASES)
def test_copy_and_recopy_need_no_trust(begun, fresh, version):
    """Update without trust is every test above."""
    project = begun(version, "default")
    copier.run_recopy(project, defaults=True, overwrite=True, unsafe=False, quiet=True, vcs_ref=template.TAG)
    assert update.files(fresh(update.answers_of(project))).items() <= update.files(project).items()


def command(*words: str, cwd: Path) -> subprocess.CompletedProcess:
    """Run Copier's program with neither trust nor a terminal."""
    copier_itself = [sys.executable, "-m", "copier", *words]
    return subprocess.run(copier_itself, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def test_the_program_needs_neither_trust_nor_a_terminal(history, tmp_path):
    project = tmp_path / "project"
    options = ("--defaults", "--data", "project_name=Sea Ice")
    done = command("copy", f"--vcs-ref={MADE_UP}", *options, str(history), str(project), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    update.commit(project)
    done = command("update", "--defaults", cwd=project)
    assert done.returncode == 0, done.stderr
    update.commit(project)
    done = command("recopy", "--defaults", "--overwrite", cwd=project)
    assert done.returncode == 0, done.stderr
    assert update.differences(project, template.render(history, tmp_path / "fresh", {"project_name": "Sea Ice"})) == []


# --- what Copier says afterwards -------------------------------------------------------------------


def test_the_messages_say_the_next_commands_and_nothing_else(history, tmp_path):
    """Each indented line is a command that the project has; around them stand a heading and one hint at most."""
    project = tmp_path / "project"
    copied = command(
        "copy", f"--vcs-ref={MADE_UP}", "--defaults", "--data", "project_name=Sea Ice", str(history), str(project), cwd=tmp_path
    )
    update.commit(project)
    updated = command("update", "--defaults", cwd=project)
    for shown, heading in ((copied.stderr, "Sea Ice is ready"), (updated.stderr, "Updated")):
        message = shown[shown.index(heading) :].strip().splitlines()
        commands = [line.split("   ")[0].strip() for line in message if line.startswith("  ")]
        assert len(commands) >= 2 and len([line for line in message if line and not line.startswith("  ")]) <= 2, message
        for words in commands:
            if words.startswith("make "):
                subprocess.run(["make", "--dry-run", *words.split()[1:]], cwd=project, check=True, capture_output=True)
            else:
                assert words.startswith("git "), words


# --- conflicts -------------------------------------------------------------------------------------


@pytest.fixture
def conflicted(history, tmp_path) -> Path:
    """A project with a conflict after its update."""
    project = update.project(history, tmp_path / "project", {"project_name": "Sea Ice"}, MADE_UP)
    Edit("README.md", " Look at `figures` first.", after="`make` lists everything.").apply(project)
    update.commit(project)
    update.update(project, history)
    assert update.conflicts(project) == {"README.md"}
    return project


def test_pre_commit_rejects_a_conflict_that_git_would_commit(conflicted):
    template.git(conflicted, "add", "--all")
    config = yaml.safe_load((conflicted / ".pre-commit-config.yaml").read_text())
    hooks = {hook["id"]: hook for repo in config["repos"] for hook in repo["hooks"]}
    revisions = {repo["repo"]: repo.get("rev") for repo in config["repos"]}
    tested = "v" + importlib.metadata.version("pre-commit-hooks")
    assert revisions["https://github.com/pre-commit/pre-commit-hooks"] == tested
    hook = Path(sys.executable).with_name("check-merge-conflict")
    words = [str(hook), *hooks["check-merge-conflict"]["args"], "README.md"]
    done = subprocess.run(words, cwd=conflicted, capture_output=True, text=True)
    assert done.returncode == 1 and "README.md" in done.stdout
    # the negative control: without the argument the hook sees no merge and lets it pass
    assert subprocess.run([words[0], words[-1]], cwd=conflicted, capture_output=True).returncode == 0


def test_an_unreported_conflict_is_seen(conflicted):
    """The negative control of `unseen_markers`: once added, git reports the conflict no more."""
    assert update.unseen_markers(conflicted) == []
    template.git(conflicted, "add", "--all")
    assert update.conflicts(conflicted) == set()
    assert update.unseen_markers(conflicted) == ["README.md has a conflict that git does not report"]


def test_the_pages_way_back_undoes_an_update(conflicted):
    """What docs/upgrading.md says, word by word; `make update` says the same."""
    page = (template.REPOSITORY / "docs/upgrading.md").read_text()
    recipe = re.search(r"## Back out.*?```sh\n(.*?)\n```", page, re.S).group(1)
    assert recipe == BACK
    assert subprocess.run(["git", "diff", "--check"], cwd=conflicted, capture_output=True).returncode, "markers are named"
    assert (conflicted / ".editorconfig").exists()
    subprocess.run(["sh", "-c", recipe], cwd=conflicted, check=True, capture_output=True)
    assert template.git(conflicted, "status", "--porcelain") == "" and not update.conflicts(conflicted)
    assert not (conflicted / ".editorconfig").exists() and "Look at" in (conflicted / "README.md").read_text()
