"""Rendered repository: every linter and schema that its files have, over a cover of all pairs of choices.

Each linter sees each different file once, and each has its negative control: a fault planted in the same file is found.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import editorconfig
import pytest
import yaml

from tests.harness import pins, summary, template

Linter = Callable[[Path, list[str]], str]
"""From a project and some of its files to what is wrong with them: nothing is good."""


def command(*words: str) -> Linter:
    """A linter that is a program; its faults are what it prints where it ends with an error."""

    def run(project: Path, files: list[str]) -> str:
        done = subprocess.run(
            [*words, *files], cwd=project, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return f"{' '.join(words[:2])} ended with {done.returncode}:\n{done.stdout[-3000:]}" if done.returncode else ""

    return run


def schema(name: str, *options: str) -> Linter:
    """A linter that compares with a schema which check-jsonschema brings along: nothing is fetched."""
    return command("check-jsonschema", "--builtin-schema", f"vendor.{name}", *options)


def editorconfig_style(project: Path, files: list[str]) -> str:
    """Are the files as the project's own .editorconfig has it?"""
    problems = []
    for name in files:
        rules, text = editorconfig.get_properties(str(project / name)), (project / name).read_bytes().decode()
        if rules["insert_final_newline"] == "true" and not text.endswith("\n"):
            problems.append(f"{name}: no newline at the end")
        if rules["end_of_line"] == "lf" and "\r" in text:
            problems.append(f"{name}: a carriage return")
        if rules["trim_trailing_whitespace"] == "true" and re.search(r"[ \t]$", text, re.M):
            problems.append(f"{name}: blanks at the end of a line")
        indents = {line[0] for line in text.splitlines() if line[:1].isspace()} - {"\n"}
        if name.endswith("Makefile") != (rules["indent_style"] == "tab") or (
            rules["indent_style"] == "space" and "\t" in indents
        ):
            problems.append(f"{name}: indented with tabs")
    return "\n".join(problems)


def pipeline_scripts(project: Path, files: list[str]) -> str:
    """The shell of a pipeline's steps, through shellcheck, as the shell that will run it."""
    problems = ""
    for name in files:
        for number, (shell, script) in enumerate(steps(yaml.safe_load((project / name).read_text()))):
            done = subprocess.run(["shellcheck", f"--shell={shell}", "-"], input=script, capture_output=True, text=True)
            problems += f"{name}, script {number}:\n{done.stdout}" if done.returncode else ""
    return problems


def steps(pipeline: dict) -> list[tuple[str, str]]:
    """(shell, script) of a GitHub workflow's or a GitLab pipeline's steps."""
    if "jobs" in pipeline:
        run = [step["run"] for job in pipeline["jobs"].values() for step in job["steps"] if "run" in step]
        return [("bash", re.sub(r"\$\{\{.*?\}\}", "expression", script)) for script in run]
    jobs = [pipeline.get("default", {}), *(job for job in pipeline.values() if isinstance(job, dict) and "script" in job)]
    return [("sh", "\n".join(job[key])) for job in jobs for key in ("before_script", "script") if key in job]


def targets(project: Path, files: list[str]) -> str:
    """`make -n` of each target: no error, and not a word on standard error."""
    problems = []
    defined = re.findall(r"^([a-z-]+):(?! PORT)", (project / "Makefile").read_text(), re.M)
    assert len(defined) > 10
    for name in defined:
        done = subprocess.run(["make", "-n", "--warn-undefined-variables", name], cwd=project, capture_output=True, text=True)
        noise = [line for line in done.stderr.splitlines() if "undefined variable" not in line or not any(
            f"'{free}'" in line for free in ("CMD", "ARGS", "PKG", "ALL", "TO", "TAGS", "TARGETS", "MAKECMDGOALS"))]  # fmt: skip
        if done.returncode or noise:
            problems.append(f"make -n {name} ended with {done.returncode}: {' '.join(noise)}")
    return "\n".join(problems)


LINTERS: dict[str, tuple[list[str], Linter]] = {
    "hadolint": (["Dockerfile", "Dockerfile.saturn", ".couplet/tasks.Dockerfile"], command("hadolint", "--no-color")),
    "shellcheck": (
        ["entrypoint.sh", "postBuild", ".couplet/**/*.sh"],
        command("shellcheck", "-x", "--exclude=SC1090,SC1091"),
    ),
    "ruff check": (["[!.]*/**/*.py", "**/*.ipynb"], command("ruff", "check", "--no-cache")),
    "ruff format": (["[!.]*/**/*.py", "**/*.ipynb"], command("ruff", "format", "--no-cache", "--check")),
    "workflow schema": ([".github/workflows/*.yml"], schema("github-workflows")),
    "zizmor": ([".github/workflows/*.yml"], command("zizmor", "--offline", "--pedantic", "--quiet")),
    "GitLab schema": ([".gitlab-ci.yml"], schema("gitlab-ci", "--force-filetype=yaml", "--data-transform=gitlab-ci")),
    "pipeline scripts": ([".github/workflows/*.yml", ".gitlab-ci.yml"], pipeline_scripts),
    "Renovate schema": (["renovate.json"], schema("renovate")),
    "compose schema": (["compose.yaml"], schema("compose-spec")),
    "pre-commit": ([".pre-commit-config.yaml"], command("pre-commit", "validate-config")),
    "editorconfig": (["*", ".couplet/**/*", "src/**/*", "tests/*", "notebooks/*"], editorconfig_style),
    "make": (["Makefile"], targets),
}
"""Name -> the files that it looks at, and the linter."""
AT_ONCE = ("workflow schema", "GitLab schema", "Renovate schema", "compose schema", "pre-commit")
"""Those that take longer to start than to look, and read no settings of the project: one call for all projects."""


def different(projects: list[Path], patterns: list[str]) -> list[tuple[Path, list[str]]]:
    """(project, files) so that each different file of all projects is there once."""
    seen: set[tuple[str, bytes]] = set()
    found = []
    for project in projects:
        names = sorted({str(p.relative_to(project)) for pattern in patterns for p in project.glob(pattern) if p.is_file()})
        fresh = [name for name in names if (name, (project / name).read_bytes()) not in seen]
        seen |= {(name, (project / name).read_bytes()) for name in fresh}
        if fresh:
            found.append((project, fresh))
    return found


@pytest.mark.parametrize("name", LINTERS)
def test_a_linter_passes_every_pair_of_choices(covered, name):
    patterns, linter = LINTERS[name]
    batches = different([path for _, path in covered], patterns)
    assert batches, f"no project has any of {patterns}"
    answers = {path: given for given, path in covered}
    count = sum(len(files) for _, files in batches), len(batches)
    if name in AT_ONCE:
        batches = [(batches[0][0], [str(project / file) for project, files in batches for file in files])]
    problems = [f"{answers[project]}\n{found}" for project, files in batches if (found := linter(project, files))]
    assert not problems, "\n".join(problems[:5])
    summary.note("{}: {} different files of {} projects".format(name, *count))


FAULTS = {
    "hadolint": ("Dockerfile", "WORKDIR /work", "WORKDIR work"),
    "shellcheck": (".couplet/host/report.sh", "set -eu\n", "set -eu\nrm $1/*\n"),
    "ruff check": ("tests/test_analysis.py", '"""\n', '"""\nimport os\n'),
    "ruff format": ("tests/test_analysis.py", '"""\n', '"""\nx = [1,2]\n'),
    "workflow schema": (".github/workflows/ci.yml", "runs-on:", "run-on:"),
    "zizmor": (".github/workflows/ci.yml", "@08c6903cd8c0fde910a37f88322edcfb5dd907a8 #", "@v5 #"),
    "GitLab schema": (".gitlab-ci.yml", "  stage: test", "  stages: test"),
    "pipeline scripts": (".gitlab-ci.yml", "- make env-check", "- cd $MISSING && make env-check"),
    "Renovate schema": ("renovate.json", '"enabled": false', '"enabled": "no"'),
    "compose schema": ("compose.yaml", "    image:", "    images:"),
    "pre-commit": (".pre-commit-config.yaml", "    rev: v6.0.0\n", ""),
    "editorconfig": (".couplet/host/report.sh", "set -eu\n", "set -eu\nif true; then\n\ttrue\nfi\n"),
    "make": ("Makefile", "build-dev: locks ##", "build-dev: locks nowhere ##"),
}


@pytest.mark.parametrize("name", LINTERS)
def test_a_linter_sees_a_planted_fault(covered, tmp_path, name):
    file, old, new = FAULTS[name]
    _, source = next((given, path) for given, path in covered if (path / file).exists())
    project = Path(shutil.copytree(source, tmp_path / "project"))
    _, linter = LINTERS[name]
    assert not linter(project, [file])
    text = (project / file).read_text()
    assert old in text
    (project / file).write_text(text.replace(old, new))
    assert linter(project, [file])


def test_renovate_is_told_in_todays_words_which_files_are_its():
    """The schema lets any key through, and fileMatch was Renovate's word for it until version 39."""
    managers = json.loads((template.REPOSITORY / "template/renovate.json").read_text())["customManagers"]
    assert [manager["managerFilePatterns"] for manager in managers] == [["/^base-images\\.lock$/"]]


MORE = {
    "permissions for all": ("permissions: {}\n", "permissions: write-all\n"),
    "a credential that stays": ("        with:\n          persist-credentials: false\n", ""),
    "an answer in a script": ("run: make smoke", 'run: make smoke IMAGE="${{ github.event.pull_request.title }}"'),
}


@pytest.mark.parametrize("case", MORE)
def test_a_workflow_that_could_be_misused_is_seen(covered, tmp_path, case):
    """What the pipelines promise: pinned actions, least permissions, nothing of a stranger's in a shell."""
    source = next(path for given, path in covered if given["ci"] == "github")
    file = Path(shutil.copytree(source, tmp_path / "project"), ".github/workflows/ci.yml")
    old, new = MORE[case]
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    assert LINTERS["zizmor"][1](tmp_path / "project", [".github/workflows/ci.yml"])


def test_both_pipelines_do_the_same(covered):
    """What they run of make, in order, with which variables; and what they keep from pull requests."""
    made = {}
    for host, pattern in {"github": ".github/workflows/*.yml", "gitlab": ".gitlab-ci.yml"}.items():
        project = next(path for given, path in covered if given["ci"] == host and given["fresh_locks"] == "weekly")
        pipelines = [yaml.safe_load(file.read_text()) for file in sorted(project.glob(pattern))]
        # on GitHub, what begins at other times is a workflow of its own
        pipeline = (
            {"jobs": {job: body for one in pipelines for job, body in one["jobs"].items()}} if host == "github" else pipelines[0]
        )
        jobs = pipeline.get("jobs") or {job: pipeline[job] for job in pipeline["stages"]}
        scripts = {job: "\n".join(script for _, script in steps({"jobs": {job: body}} if "jobs" in pipeline else {job: body}))
                   for job, body in jobs.items()}  # fmt: skip
        made[host] = {job: re.findall(r"^make (\S+)", script, re.M) for job, script in scripts.items()}
    assert made["github"].pop("sign") == [], "GitLab has no identity of its own for images"
    assert made["github"] == made["gitlab"]
    published = ["bake", "smoke", "publish", "verify-image"]
    jobs = {"test": ["env-check", "bake", "lint", "test", "smoke"], "publish": published, "audit": ["audit"]}
    jobs |= {"locks": ["audit", "env-update", "build", "test", "audit"], "request": []}
    assert made["github"] == jobs


def test_a_new_advisory_stops_no_change_that_moves_no_lock(covered):
    """It is asked for on a schedule, and in requests that move a lock; nothing waits for it."""
    github = next(path for given, path in covered if given["ci"] == "github") / ".github/workflows"
    begins = yaml.safe_load((github / "audit.yml").read_text())[True]  # YAML 1.1 reads `on`
    assert begins.keys() == {"schedule", "workflow_dispatch", "pull_request"}
    assert {"poetry.lock", "conda.lock"} <= set(begins["pull_request"]["paths"])
    assert "audit" not in (github / "ci.yml").read_text()

    gitlab = next(path for given, path in covered if given["ci"] == "gitlab")
    pipeline = yaml.safe_load((gitlab / ".gitlab-ci.yml").read_text())
    job = pipeline["audit"]
    assert job["needs"] == [] and pipeline["stages"][-1] == job["stage"], "waits for nothing, and nothing for it"
    schedule, request = job["rules"]
    assert "schedule" in schedule["if"] and "allow_failure" not in schedule and len(schedule) == 1
    assert "merge_request" in request["if"] and request["allow_failure"]
    assert {"poetry.lock", "conda.lock"} <= set(request["changes"])
    for other in ("test", "publish"):
        first = pipeline[other]["rules"][0]
        assert "schedule" in first["if"] and first["when"] == "never", f"the night's pipeline would {other}, too"


OUR_WORKFLOWS = sorted(str(file.relative_to(template.REPOSITORY)) for file in template.REPOSITORY.glob(".github/workflows/*.yml"))
FORMS = sorted(str(file.relative_to(template.REPOSITORY)) for file in template.REPOSITORY.glob(".github/ISSUE_TEMPLATE/*.yml"))


def test_our_own_workflows_are_sound():
    """This repository's CI by the same rules as the one that it renders."""
    assert len(OUR_WORKFLOWS) == 2
    for name in ("workflow schema", "zizmor", "pipeline scripts"):
        assert not LINTERS[name][1](template.REPOSITORY, OUR_WORKFLOWS)


SILENCE = re.compile(r"2> ?/dev/null|&> ?/dev/null|\|\| (?:true|:)(?=\s|$)|continue-on-error|set \+e")
WATCHED = (*OUR_WORKFLOWS, ".ci/run", "noxfile.py", "tests/mirror/build-cpython.sh", "tests/mirror/stage-udunits2.sh")


def test_our_own_pipeline_discards_no_error():
    """A line that does has to say why, in a comment on the line above it."""

    def discarded(text: str) -> list[str]:
        lines = ["", *text.splitlines()]
        pairs = itertools.pairwise(lines)
        return [line for above, line in pairs if SILENCE.search(line) and not above.lstrip().startswith("#")]

    assert not [line for file in WATCHED for line in discarded((template.REPOSITORY / file).read_text())]
    # the negative control
    assert len(discarded("set -eu\nrm a 2> /dev/null\nrm b || true\nrm c || :\n# it may be gone\nrm d || true")) == 3
    assert not discarded("rm a || exit 1\nrm b || truth")


HOOK_FAULTS = {
    "ruff-check": ("noxfile.py", "import json\n", "import json\nimport os\n"),
    "ruff-format": ("template/.couplet/couplet/errors.py", '"""\n', '"""\nx = [1,2]\n'),
    "shellcheck": ("template/.couplet/host/report.sh", "set -eu\n", "set -eu\nrm $1/*\n"),
    "codespell": ("CONTRIBUTING.md", "# Contributing\n", "# Contributing\n\nA mistake that occures.\n"),  # codespell:ignore
}


@pytest.fixture(scope="module")
def with_hooks(tmp_path_factory):
    """A copy of this repository as it is, and how to run one of its hooks on all of its files."""
    copy = template.snapshot(tmp_path_factory.mktemp("hooks") / "copy")
    environment = {**os.environ, "PRE_COMMIT_HOME": str(tmp_path_factory.mktemp("pre-commit"))}

    def run(hook: str) -> subprocess.CompletedProcess[str]:
        command = ["pre-commit", "run", "--all-files", hook]
        return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)

    return copy, run


@pytest.mark.parametrize("hook", HOOK_FAULTS)
def test_a_hook_of_our_own_passes_and_sees_a_planted_fault(with_hooks, hook):
    """What `nox -s lint` calls. mypy's hook takes the session lint, which the tests do not have."""
    copy, run = with_hooks
    done = run(hook)
    assert done.returncode == 0, done.stdout + done.stderr
    file, old, new = HOOK_FAULTS[hook]
    text = (copy / file).read_text()
    assert old in text
    (copy / file).write_text(text.replace(old, new, 1))
    try:
        done = run(hook)
    finally:
        (copy / file).write_text(text)
    assert done.returncode == 1 and "not found" not in done.stdout, done.stdout
    assert Path(file).name in done.stdout


def test_lint_runs_every_hook_and_fetches_none():
    """All are programs of the session lint: nothing is cloned, and no version stands twice."""
    settings = yaml.safe_load((template.REPOSITORY / ".pre-commit-config.yaml").read_text())
    assert [repository["repo"] for repository in settings["repos"]] == ["local"]
    hooks = {hook["id"]: hook for hook in settings["repos"][0]["hooks"]}
    assert {hook["language"] for hook in hooks.values()} == {"system"}
    assert hooks.keys() == {*HOOK_FAULTS, "mypy"}
    provided = {requirement.partition("==")[0].removesuffix("-py") for requirement in pins.direct("lint")}
    assert {hook["entry"].split()[0] for hook in hooks.values()} <= provided
    assert "pre-commit" in provided and '"pre-commit", "run", "--all-files"' in (template.REPOSITORY / "noxfile.py").read_text()


ISSUE_FORM = schema("github-issue-forms")


def test_an_issue_form_is_one():
    """By GitHub's schema, which check-jsonschema brings along."""
    assert [Path(file).stem for file in FORMS] == ["bug", "idea"]
    assert not ISSUE_FORM(template.REPOSITORY, FORMS)


def test_an_issue_form_with_a_fault_is_seen(tmp_path):
    text = (template.REPOSITORY / FORMS[0]).read_text()
    assert "  - type: textarea\n" in text
    (tmp_path / "bug.yml").write_text(text.replace("  - type: textarea\n", "  - type: textbox\n", 1))
    assert ISSUE_FORM(tmp_path, ["bug.yml"])


def test_our_own_runs_share_layers():
    """What main's run leaves in the registry is what every part takes, and no pull request writes there."""
    jobs = yaml.safe_load((template.REPOSITORY / ".github/workflows/ci.yml").read_text())["jobs"]
    bake = next(step for step in jobs["layers"]["steps"] if step.get("run", "").endswith(" bake"))
    assert bake["env"] == {"CACHE": "${{ env.LAYERS }}", "CACHE_WRITE": "yes"}
    assert jobs["layers"]["if"] == "github.event_name == 'push'" and jobs["layers"]["permissions"]["packages"] == "write"
    assert any('--layers="$LAYERS"' in step.get("run", "") for step in jobs["tests"]["steps"])
    assert not [name for name, job in jobs.items() if name != "layers" and "write" in job.get("permissions", {}).values()]


def test_every_linter_is_there():
    """None of them may be missing without a word: a test that skips is no test."""
    programs = {"hadolint", "shellcheck", "ruff", "zizmor", "check-jsonschema", "codespell", "pre-commit", "make"}
    assert {name for name in programs if not shutil.which(name, path=os.environ["PATH"])} == set()
