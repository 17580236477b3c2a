"""The pages are true: links, commands, figures and what README shows are there in the repository and in a rendered project."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.harness import prose, template
from tests.render.test_words import VARIANTS

README = (template.REPOSITORY / "README.md").read_text()
DECISIONS = sorted((template.REPOSITORY / "docs/decisions").glob("[0-9]*.md"))


@pytest.fixture(scope="module")
def projects(template_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A rendered project for each of VARIANTS."""
    folder = tmp_path_factory.mktemp("projects")
    return {
        name: template.render(template_repository, folder / str(number), {"project_name": "Sea Ice", **answers})
        for number, (name, answers) in enumerate(VARIANTS.items())
    }


# --- links -----------------------------------------------------------------------------------------


def test_every_relative_link_resolves(projects):
    pages = prose.pages()
    assert sum(len(prose.LINK.findall(text)) for text in pages.values()) > 150
    found = [line for name, text in pages.items() for line in prose.broken_links(name, text, template.REPOSITORY)]
    for project in projects.values():
        for file in project.rglob("*.md"):
            found += prose.broken_links(str(file.relative_to(project)), file.read_text(), project)
    assert found == []


def test_a_broken_link_is_found():
    text = README.replace("(docs/guide.md#gpus)", "(docs/guide.md#gpu)").replace("(docs/scale.md)", "(docs/scales.md)")
    assert prose.broken_links("README.md", text, template.REPOSITORY) == [
        "README.md: docs/guide.md#gpu: no such heading", "README.md: docs/scales.md: no such file",
    ]  # fmt: skip
    assert prose.broken_links("README.md", "[here](#nowhere) `[x](y)` [out](https://example.com)", template.REPOSITORY) == [
        "README.md: #nowhere: no such heading"
    ]


def test_anchors_are_as_the_hosts_make_them():
    page = "# A `b`: c, and d\n\n## Twice\n\n## Twice\n\n## [A link](x.md)'s\n\n```\n# no heading\n```\n"
    assert prose.anchors(page) == {"a-b-c-and-d", "twice", "twice-1", "a-links"}


# --- commands --------------------------------------------------------------------------------------


def targets(project: Path) -> set[str]:
    """Return the targets of a project's Makefile."""
    return set(re.findall(r"^([a-z][a-z-]*):", (project / "Makefile").read_text(), re.MULTILINE))


def of_users(name: str) -> bool:
    """Say whether a page is about what is there today: not a decision, not the notes of old releases."""
    return (name.startswith("docs/") and not name.startswith("docs/decisions/")) or name in ("README.md", "CONTRIBUTING.md")


def test_every_target_of_make_exists(projects):
    known = set().union(*map(targets, projects.values())) | {"figures"}
    for project in projects.values():
        for file in project.glob("*.md"):
            assert prose.unknown(file.name, prose.make_targets(file.read_text()), targets(project), "target") == []
    said = {name: prose.make_targets(text) for name, text in prose.pages().items() if of_users(name)}
    assert {"build", "env-update", "shell"} <= said["README.md"] and {"saturn-image", "cluster-stop"} <= said["docs/guide.md"]
    assert [line for name, words in said.items() for line in prose.unknown(name, words, known, "target")] == []
    # the negative control
    words = prose.make_targets('`make biuld`, then\n```sh\ncd x && A=1 make env-update PKG="a b" tset   # make it so\n```\n')
    assert prose.unknown("a page", words, known, "target") == ["a page: biuld: no such target", "a page: tset: no such target"]


def helped(project: Path) -> list[str]:
    """Return what `make help` prints, line by line."""
    command = ["make", "--no-print-directory", "help"]
    return subprocess.run(command, cwd=project, check=True, capture_output=True, text=True).stdout.splitlines()


def test_make_help_lists_every_target_and_shows_no_variable(projects, tmp_path):
    for project in projects.values():
        shown = helped(project)
        assert {line.split()[0] for line in shown} == targets(project) - {"locks"}
        assert [line for line in shown if "$" in line or len(line.split()) < 3] == []
    # the negative control
    (tmp_path / "Makefile").write_text((projects["defaults"] / "Makefile").read_text() + "more: ## make more of $(IMAGE)\n")
    assert [line for line in helped(tmp_path) if "$(IMAGE)" in line]


def test_every_target_is_in_the_guide(projects):
    guide = prose.make_targets((template.REPOSITORY / "docs/guide.md").read_text())
    for project in projects.values():
        made = targets(project) - {"help", "locks", "serve"}
        assert made - guide == set()
    assert targets(projects["defaults"]) - prose.make_targets(README) != set()


def test_every_session_of_nox_exists():
    module = ast.parse((template.REPOSITORY / "noxfile.py").read_text())
    known = {node.name.replace("_", "-") for node in module.body if isinstance(node, ast.FunctionDef) and node.decorator_list}
    said = {name: prose.sessions(text) for name, text in prose.pages().items()}
    assert {"demo", "tests"} <= said["README.md"]
    assert [line for name, words in said.items() for line in prose.unknown(name, words, known, "session")] == []
    # the negative control
    words = prose.sessions("`nox -s lint test -- -k x`")
    assert prose.unknown("a page", words, known, "session") == ["a page: test: no such session"]


NOT_HERE = {
    "tests/soak.json": "`nox -s soak` writes it",
    "tests/test_import.py": "adopting writes it",
    "scripts/update.sh": "of 0.x, which the crossing looks for",
}


def missing_files(name: str, page: str, projects: dict[str, Path]) -> list[str]:
    """Return a line for each file that a page names and neither this repository nor a project has. Upgrading names those of 0.x."""
    folders = [template.REPOSITORY, template.REPOSITORY / name / "..", *projects.values()]
    named = {word for word in prose.files(page) if name != "docs/upgrading.md" or not word.startswith(("docker/", "scripts/"))}
    there = {word for word in named if any((folder / word).exists() for folder in folders)}
    return prose.unknown(name, named, {*there, *NOT_HERE}, "file")


def test_every_file_exists(projects):
    pages = {name: text for name, text in prose.pages().items() if name != "CHANGELOG.md"}
    assert sum(len(prose.files(text)) for text in pages.values()) > 80
    assert [line for name, text in pages.items() for line in missing_files(name, text, projects)] == []
    # the negative control
    page = "`tests/files.toml`, `.couplet/host/smoke.sh`, `.couplet/smoke.sh` and `docker/a.py`"
    told = ["a page: .couplet/smoke.sh: no such file", "a page: docker/a.py: no such file"]
    assert missing_files("a page", page, projects) == told


# --- what README shows -----------------------------------------------------------------------------


def test_the_quick_start_stays():
    commands = list(prose.written_code(README))
    assert "python -m pip install nox && nox -s demo" in commands and "python -m pip install nox && nox -s tests" in commands


def tree(page: str) -> set[str]:
    """Return the names in README's tree of a repository."""
    return set(re.findall(r"^[├└]── (\S+?)/? ", page, re.MULTILINE))


def test_the_tree_is_that_of_a_project(projects):
    there = {path.name for path in projects["defaults"].iterdir()} - {".git"}
    assert tree(README) == there
    # the negative control
    assert tree(README.replace("├── tests/ ", "├── test/ ")) != there


SHOWN = {
    "conda: solving for linux-64": "conda: solving for {subdir}",
    "Poetry: lock": "Poetry: {' '.join(step)}",
    "Locked. Commit pyproject.toml and the lock files.": "Locked. Commit pyproject.toml and the lock files.",
    "conda: fetching 37 packages": "conda: fetching {len(packages)} packages",
    "verified: ... files as installed (1.10 s), both locks as installed, all dependencies met": (
        "verified: {count} files as installed ({seconds:.2f} s), {what} as installed, all dependencies met"
    ),
    "kernel: sea_ice (Python (Sea Ice)) starts in /opt/conda/envs/sea_ice": (
        "kernel: {kernel.name} ({kernel.display_name}) starts in {found}"
    ),
    "computed in /opt/conda/envs/sea_ice": "computed in {sys.prefix}",
}
"""A line of the output that README shows -> where a project's code prints it."""


def test_the_output_is_what_the_code_prints(projects):
    project = projects["defaults"]
    code = "\n".join(file.read_text() for pattern in ("*.py", "*.sh") for file in project.rglob(pattern))
    shown = re.search(r"What you then see.*?```\n(.*?)\n```", README, re.DOTALL)
    assert shown
    for line, printed in SHOWN.items():
        assert line in shown[1].split("\n") and printed in code, line
    assert "Locked. Commit them." not in code  # the negative control


def compared(rows: list[dict]) -> list[str]:
    """Return README's rows of the benchmark, from the medians of its results."""
    medians = {(row["measure"], row["system"]): row["median"] for row in rows}
    return [
        f"| {name} | {medians['cold_build', system]:.1f} s | {medians['rebuild_source_edit', system]:.1f} s "
        f"| {medians['image_bytes', system] / 1e6:.0f} MB |"
        for system, name in {
            "couplet": "couplet",
            "seed_conda_poetry_demo": "conda and Poetry in stages, copied into a slim image",
            "seed_entrypoint": "conda and Poetry in one stage",
            "seed_multistage_venv": "Poetry alone, a virtual environment copied into a slim image",
            "seed_staged_poetry": "Poetry alone, four stages",
        }.items()
    ]


def test_the_comparison_has_the_benchmarks_figures():
    rows = json.loads((template.REPOSITORY / "bench/results/latest.json").read_text())["rows"]
    assert set(compared(rows)) <= set(README.splitlines())
    # the negative control
    assert not set(compared([{**row, "median": 2 * row["median"]} for row in rows])) & set(README.splitlines())


# --- decisions -------------------------------------------------------------------------------------


def lacking(decision: str) -> list[str]:
    """Return what the head of a decision lacks: a number, a date, a status that says by what it is superseded."""
    head = decision.split("\n## ")[0]
    wanted = {
        "number": r"\A# \d+\. \S",
        "date": r"^(?:- )?Date: \d{4}-\d{2}-\d{2}$",
        "status": r"^(?:- )?Status: (?:accepted(?:;|$)|superseded by \[\d+\]\(\d{4}-[a-z0-9-]+\.md\))",
    }
    return [what for what, pattern in wanted.items() if not re.search(pattern, head, re.MULTILINE)]


def test_each_decision_has_a_date_and_a_status():
    assert len(DECISIONS) > 60
    assert {file.name: what for file in DECISIONS if (what := lacking(file.read_text()))} == {}
    for file in DECISIONS:
        assert re.match(r"# (\d+)\.", file.read_text())[1] == str(int(file.name[:4])), f"{file.name} has another number"
    # the negative controls
    good = "# 7. Seven\n\n- Date: 2026-11-27\n- Status: accepted\n"
    assert lacking(good) == [] and lacking(good.replace("accepted", "superseded by [8](0008-eight.md)")) == []
    assert lacking(good.replace("2026-11-27", "November")) == ["date"]
    assert lacking(good.replace("accepted", "superseded")) == ["status"] and lacking(good.replace("7. ", "")) == ["number"]
