"""The documents run, where they need images: each command from its page, on the default variant."""

from __future__ import annotations

import re

import pytest

from tests.harness.terminal import PROMPT, Session
from tests.render.test_documents import PAGES, of, walk

pytestmark = pytest.mark.one_variant


def form(line: str) -> str:
    """Return a line without its figures, and with one blank for several."""
    return " ".join(re.sub(r"\d+(?:\.\d+)*|\.\.\.", "N", line).split())


def not_shown(page: str, output: str) -> list[str]:
    """Return the lines that README shows and an output does not have, in form; the results of the example in full."""
    log, result = re.search(r"What you then see.*?```\n(.*?)\n\n(.*?)\n```", page, re.DOTALL).groups()
    # what a step of a build says has the step's number and seconds in front
    lines = [re.sub(r"^#\d+ [\d.]+ ", "", line).rstrip() for line in output.splitlines()]
    printed = {form(line) for line in lines}
    return [line for line in log.splitlines() if form(line) not in printed] + [result] * (result not in "\n".join(lines))


def test_readme_shows_what_its_commands_print(with_kernel, render, tmp_path):
    """From a fresh project: locked, built and run. What is built is in the cache, so conda's step is asked for once more."""
    render("sea-ice")
    anew = f".couplet/host/docker-build.sh --no-cache-filter conda-env --target runtime --tag {with_kernel.images}:look"
    done = walk([*of("README.md", "image"), anew], tmp_path, IMAGE=with_kernel.images)
    output = "\n".join(shown for _, shown in done)
    assert [code for code, _ in done] == [0, 0, 0], output[-3000:]
    assert not_shown(PAGES["README.md"], output) == []
    # the negative control: a line that nothing prints, another result
    page = (
        PAGES["README.md"]
        .replace("conda: fetching", "conda: getting")
        .replace("0.82              1.55", "0.82              1.56")
    )
    assert len(not_shown(page, output)) == 2


def test_the_guides_shell_has_its_settings_and_a_stage_can_be_looked_into(with_kernel, copy_of, tmp_path, monkeypatch):
    project, data = copy_of(with_kernel), tmp_path / "data"
    data.mkdir()
    (data / "levels.csv").write_text("1\n")
    (project.path / ".env").write_text("GREETING=moin\n")
    monkeypatch.setenv("IMAGE", with_kernel.images)
    shell, look = of("docs/guide.md", "image")
    with Session(["sh", "-c", shell.replace("/data:/data", f"{data}:/data")], cwd=project.path) as session:
        session.until(PROMPT, 300)
        assert "moin" in session.type("echo $GREETING") and "levels.csv" in session.type("ls /data")
        assert "Read-only" in session.type("touch /data/new") and "2.0G" in session.type("df -h /dev/shm")
        session.send("exit\n")
        assert session.ended() == 0
    with Session(["sh", "-c", re.sub(r"\blook\b", f"{with_kernel.images}:look", look)], cwd=project.path) as session:
        session.until(PROMPT, 300)
        assert with_kernel.package in session.type("ls /opt/conda/envs")
        session.send("exit\n")
        assert session.ended() == 0


def test_an_update_is_locked_built_and_tested_by_the_pages_command(with_kernel, copy_of):
    [(code, output)] = walk(of("docs/upgrading.md", "image"), copy_of(with_kernel).path, IMAGE=with_kernel.images)
    assert code == 0 and "The locks are up to date." in output and re.search(r"\d+ passed", output), output[-3000:]
