"""Rendered repository: every file of every variant, read by its own parser."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib

import pytest
import yaml

from tests.harness import parsers, template
from tests.harness.project import Project
from tests.harness.variants import Variant

TARGETS = [
    "help",
    "build",
    "build-dev",
    "bake",
    "shell",
    "run",
    "env-update",
    "env-bootstrap",
    "env-check",
    "test",
    "lint",
    "report",
    "sbom",
    "audit",
    "scan",
    "pin-images",
    "smoke",
    "publish",
    "verify-image",
    "update",
    "update-check",
    "doctor",
    "docker-prune",
]


@pytest.fixture(scope="session")
def rendered(template_repository, tmp_path_factory):
    """A function that renders a variant once."""
    done = {}

    def make(variant: Variant) -> Project:
        if variant.name not in done:
            path = template.render(template_repository, tmp_path_factory.mktemp(variant.name) / "project", variant.answers)
            done[variant.name] = Project(path, "not-built")
        return done[variant.name]

    return make


def test_every_file_parses(rendered, variant):
    project = rendered(variant)
    for file in filter(lambda path: path.is_file(), project.path.rglob("*")):
        text = file.read_text()
        if file.suffix in (".yml", ".yaml"):
            yaml.safe_load(text)
        elif file.suffix == ".toml":
            tomllib.loads(text)
        elif file.suffix in (".json", ".ipynb"):
            json.loads(text)
        elif file.suffix == ".py":
            compile(text, file.name, "exec")


def test_no_template_syntax_is_left(rendered, variant):
    project = rendered(variant)
    for file in filter(lambda path: path.is_file(), project.path.rglob("*")):
        if file.match("src/*/templates/*"):
            continue  # Flask's own
        assert not re.search(r"[{]%|%[}]", str(file) + file.read_text()), file
        assert "{{" not in re.sub(parsers.FORMATS, "", file.read_text()), file


def test_hostile_answers_arrive_as_they_were_given(rendered, variant):
    project = rendered(variant)
    metadata = tomllib.loads((project.path / "pyproject.toml").read_text())["project"]
    for key, value in (("description", "project_description"),):
        if value in variant.answers:
            assert metadata[key] == variant.answers[value]
    if "author_name" in variant.answers:
        assert metadata["authors"][0]["name"] == variant.answers["author_name"]
    if "kernel_display_name" in variant.answers:
        assert project.kernel["display_name"] == variant.answers["kernel_display_name"]
        notebook = json.loads((project.path / "notebooks/example.ipynb").read_text())
        assert notebook["metadata"]["kernelspec"]["display_name"] == variant.answers["kernel_display_name"]
    assert yaml.safe_load((project.path / ".copier-answers.yml").read_text())["project_name"] == variant.answers["project_name"]


def test_there_are_no_locks_to_collide_with_at_an_update(rendered, variant):
    assert not [name for name in rendered(variant).locks() if name != "pyproject.toml"]


def test_every_target_is_there(rendered, variant):
    project = rendered(variant)
    targets = TARGETS + (["lab"] if project.kernel else [])
    targets += ["serve"] if variant.answers.get("app") in ("flask", "streamlit") else []
    targets += ["saturn", "saturn-image"] if variant.answers.get("hosting") == "saturn" else []
    targets += ["hpc"] if variant.answers.get("hosting") == "hpc" else []
    targets += ["cluster", "cluster-stop"] if variant.answers.get("cluster") == "dask" else []
    targets += ["deploy-render"] if variant.answers.get("deploy") == "kubernetes" else []
    shown = subprocess.run(["make"], cwd=project.path, capture_output=True, text=True, check=True).stdout
    for target in targets:
        assert re.search(rf"^  {target} ", shown, re.M), f"`make` does not list {target}"
        subprocess.run(["make", "-n", target], cwd=project.path, capture_output=True, check=True)
    assert ("lab" in shown) == bool(project.kernel)
    assert "$(" not in shown, "a variable of make's, which nobody can type"


def test_the_first_build_of_anything_makes_the_locks(rendered, variant):
    """Whoever types one of these first. The negative control: what needs no lock makes none."""
    path = rendered(variant).path
    for target in (
        "build",
        "build-dev",
        "bake",
        "shell",
        "run",
        "test",
        "lint",
        "report",
        "sbom",
        "scan",
        "audit",
        "smoke",
        "publish",
    ):
        shown = subprocess.run(["make", "-n", target], cwd=path, capture_output=True, text=True, check=True).stdout
        assert ".couplet/host/env-update.sh" in shown, target
    shown = subprocess.run(["make", "-n", "doctor"], cwd=path, capture_output=True, text=True, check=True).stdout
    assert "env-update.sh" not in shown


def test_the_kernel_comes_and_goes_with_its_answer(rendered, variant):
    project = rendered(variant)
    asked = (project.path / ("environment.yml" if project.conda else "pyproject.toml")).read_text()
    for there in (
        (project.path / "notebooks").exists(),
        "ipykernel" in asked,
        "jupyterlab" in (project.path / "pyproject.toml").read_text(),
    ):
        assert there == bool(project.kernel)


def test_scripts_can_be_run(rendered, variant):
    scripts = [*(rendered(variant).path / ".couplet/host").glob("*.sh")]
    assert len(scripts) > 10
    for file in [rendered(variant).path / "entrypoint.sh", *scripts]:
        assert file.stat().st_mode & 0o111, f"{file.name} has no run bit"


def test_no_secret_or_history_can_enter_the_build(rendered, variant):
    """.dockerignore lets in what it names and nothing else: the first pattern excludes everything."""
    patterns = [
        line for line in (rendered(variant).path / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert patterns[0] == "*"
    assert {"**/.env", "**/.git", "**/*.pem", "**/*.key"} <= set(patterns)


def stages(dockerfile: str) -> dict[str, str]:
    """Return {stage: its instructions} of a Dockerfile, without comments."""
    text = re.sub(r"^#.*\n", "", dockerfile, flags=re.M)
    return {found[1]: found[2].strip() for found in re.finditer(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", text, re.M | re.S)}


def test_the_tools_stages_hold_nothing_of_a_project(template_repository, tmp_path):
    """So all projects of a machine share their layers."""
    projects = [
        template.render(template_repository, tmp_path / name, {"project_name": name}) for name in ("Sea Ice", "Snow Depth")
    ]
    ours, other = (stages((project / "Dockerfile").read_text()) for project in projects)
    tasks, others = (
        # a label makes no layer: by it `make docker-prune` finds a project's own images
        stages(re.sub(r"^LABEL .*\n", "", (project / ".couplet/tasks.Dockerfile").read_text(), flags=re.M))
        for project in projects
    )
    for stage in ("conda-base", "couplet", "tools", "poetry"):
        assert ours[stage] == other[stage], stage
    assert ours["conda-env"] != other["conda-env"], "the negative control: a stage that holds the project's name"
    assert tasks == others
    for stage in ("couplet", "tools", "poetry"):
        assert tasks[stage] == ours[stage], f"{stage}: made twice, once for the image and once for its locks"


SECRETS = {"pip_conf", "poetry_auth", "ca", "netrc", "proxies"}
INSTALLS = re.compile(r"(couplet(\.sh)? install-pypi|couplet\.saturn\.root|couplet\.sh saturn) ")


def without_secrets(dockerfile: str) -> list[tuple[str, list[str]]]:
    """Return (the step, the secrets that it lacks) for all steps that install what poetry.lock holds."""
    text = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", dockerfile, flags=re.M))
    steps = [line for line in re.findall(r"^RUN .*", text, re.M) if INSTALLS.search(line)]
    assert steps, "nothing installs here"
    lacking = [(step, sorted(SECRETS - set(re.findall(r"--mount=type=secret,id=(\w+)", step)))) for step in steps]
    return [(step, names) for step, names in lacking if names]


def test_every_step_that_installs_has_the_same_secrets(rendered, variant):
    """A source of Poetry's behind a password builds in one image and not in another, else."""
    for file in rendered(variant).path.glob("Dockerfile*"):
        assert without_secrets(file.read_text()) == [], file.name
        for name in SECRETS:
            # the negative control: without one of them, in each step
            text = re.sub(rf" *--mount=type=secret,id={name}\b(,uid=1000)?", "", file.read_text())
            assert [names for _, names in without_secrets(text)] == [[name]] * len(without_secrets(text)) != [], file.name
