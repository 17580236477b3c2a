"""What a command that fails leaves on the screen: last of all our own message, whole, with what to type; Docker's log is in a file.

Docker's part is a program that says what an engine said in such a build, where no engine is needed to tell; the last tests have a real one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import SMALL
from tests.harness.locks import edit
from tests.harness.programs import in_front
from tests.harness.project import Project
from tests.harness.terminal import Session

FAILED = """\
#1 [internal] load build definition from tasks.Dockerfile
#1 DONE 0.0s

#9 [solve 3/4] RUN --mount=type=bind,source=.couplet,target=/project/.couplet .couplet/couplet.sh lock --project /project
#9 0.412 ERROR: an earlier one, which was mended
#8 [tools 2/2] RUN --mount=type=cache,target=/root/.cache/pip /couplet/couplet.sh tools
#9 1.349 conda: solving for linux-64
#8 1.350 ERROR: of another step, which does not fail
#9 1.350
#9 1.351 ERROR: numpy 1 and numpy 2 cannot both be had:
#8 1.352 and its second line
#9 1.353   environment.yml asks for numpy 1
#9 1.353
#9 1.354 Change one of the two, then run `make env-update`.
#9 1.354
#9 ERROR: process "/bin/sh -c .couplet/couplet.sh lock" did not complete successfully: exit code: 1
#8 CANCELED
------
 > [solve 3/4] RUN --mount=type=bind .couplet/couplet.sh lock --project /project:
1.353   environment.yml asks for numpy 1
------
ERROR: failed to build: failed to solve: process "/bin/sh -c .couplet/couplet.sh lock" did not complete successfully: exit code: 1
"""
MESSAGE = """
ERROR: numpy 1 and numpy 2 cannot both be had:
  environment.yml asks for numpy 1

Change one of the two, then run `make env-update`.
"""
THEN = "The locks could not be made; no file was replaced.\n"
MORE = "The template's docs/guide.md#conda-or-poetry says more.\n"
NAMED = re.compile(r"^Docker's log: (\S+) \(VERBOSE=1 shows it\)$", re.M)


def engine(folder: Path, log: str, code: int = 1) -> str:
    """Put a docker that says `log` in a build, draws on a terminal, and ends with `code` into a folder; return the PATH.

    It notes what it is asked for in `asked`, and refuses what buildx refuses and docker-build.sh must not ask for.
    """
    (folder / "log").parent.mkdir(parents=True, exist_ok=True)
    (folder / "log").write_text(log)
    says = f"""case "$1 $2" in
    "version "*) echo 28.5.2 ;;
    "info "*) ;;
    "buildx version") ;;
    "buildx "*)
        echo "$*" >> "{folder}/asked"
        case "$*" in *--iidfile*type=local,*) echo "ERROR: local exporters are incompatible with image ID file" >&2; exit 1 ;; esac
        if [ -t 2 ]; then echo drawn by Docker >&2; else cat "{folder}/log" >&2; fi; exit {code} ;;
    *) exec "{shutil.which("docker")}" "$@" ;;
esac"""
    return in_front(folder, docker=says)


@pytest.fixture
def project(render, tmp_path, monkeypatch) -> Project:
    """A project without locks, whose docker fails to make them."""
    monkeypatch.setenv("PATH", engine(tmp_path / "bin", FAILED))
    return render(**SMALL)


def on_terminal(project: Project, *words: str) -> tuple[int, str]:
    """Run make on a terminal; return its exit code, and what stands on the screen at the end."""
    return screen_of(project, "make", "--no-print-directory", f"IMAGE={project.images}", *words)


def screen_of(project: Project, *command: str) -> tuple[int, str]:
    """Run a command on a terminal; return its exit code, and what stands on the screen at the end."""
    with Session(list(command), cwd=project.path) as session:
        code = session.ended(300)
    # of a line that was written over, what was written last
    return code, "\n".join(line.rpartition("\r")[2] for line in session.screen.split("\r\n"))


def test_on_a_terminal_the_message_stands_last_and_dockers_log_is_in_the_file_that_is_named(project):
    code, screen = on_terminal(project, "env-update")
    found = NAMED.search(screen)
    # nothing but this
    assert screen[found.end() :].startswith(f"\n{MESSAGE}{THEN}make: *** ") and screen.count("\n") == MESSAGE.count("\n") + 3
    assert code == 2 and screen.rstrip().endswith("env-update] Error 1")
    assert (project.path / found[1]).read_text() == FAILED
    subprocess.run(["git", "init", "--quiet", "."], cwd=project.path, check=True)
    subprocess.run(["git", "check-ignore", found[1]], cwd=project.path, check=True)
    # and nothing of it reaches a build: .dockerignore takes in what it names alone
    assert not re.search(rf"^!(\.|\*|{found[1].partition('/')[0]})(/|$)", (project.path / ".dockerignore").read_text(), re.M)
    # a container of another user reads the project
    umask = os.umask(0)
    os.umask(umask)
    assert (project.path / found[1]).stat().st_mode & 0o777 == 0o666 & ~umask & ~0o022
    assert [path.name for path in (project.path / found[1]).parent.iterdir()] == [Path(found[1]).name], "something was left"


def test_without_our_part_nobody_says_it(project):
    """The negative control."""
    edit(project, ".couplet/host/docker-build.sh", '    [ "$show" = docker ] || message >&2\n', "")
    assert "cannot both be had" not in on_terminal(project, "env-update")[1]


def test_what_is_exported_as_files_is_asked_for_no_id(render, tmp_path, monkeypatch):
    """As `make sbom` does; the negative control: an image is asked for its own."""
    monkeypatch.setenv("PATH", engine(tmp_path / "bin", "", 0))
    for words in (["--output", "type=local,dest=report"], ["--tag", "x"]):
        command = [".couplet/host/docker-build.sh", "--quiet", "--target", "sbom", *words]
        subprocess.run(command, cwd=render(**SMALL).path, env={**os.environ, "FACTS": "no"}, check=True)
    assert ["--iidfile" in line for line in (tmp_path / "bin/asked").read_text().splitlines()] == [False, True]


def test_bake_is_told_of_its_own_targets_alone(render, tmp_path, monkeypatch):
    """Dockerfile.saturn is built without bake, which refuses the name of a target that it does not have."""
    monkeypatch.setenv("PATH", engine(tmp_path / "bin", "", 0))
    project = render(**SMALL, hosting="saturn")
    subprocess.run([".couplet/host/docker-build.sh", "bake", "runtime"], cwd=project.path, check=True)
    asked = (tmp_path / "bin/asked").read_text()
    named = set(re.findall(r"--set ([a-z]+)\.", asked))
    assert named and named <= set(re.findall(r'^target "([a-z]+)"', (project.path / ".couplet/bake.hcl").read_text(), re.M)), (
        asked
    )


@pytest.mark.parametrize("word", ["VERBOSE=1", "BUILDKIT_PROGRESS=plain"])
def test_who_asks_for_dockers_own_words_gets_them(project, word):
    code, screen = on_terminal(project, "env-update", word)
    assert code == 2 and screen.startswith(f"drawn by Docker\n{THEN}make: ***")


def test_in_ci_the_log_is_shown_in_full_and_the_message_is_last(project):
    shown = project.make("env-update", fails=True).output
    assert f"{FAILED}{MESSAGE}{THEN}make: *** " in shown and not NAMED.search(shown)


@pytest.mark.parametrize(("target", "code"), [("build", 1), ("audit", 69), ("sbom", 1), ("update-check", 1)])
def test_every_target_ends_so_with_its_own_exit_code(project, target, code):
    if target != "build":
        (project.path / "poetry.lock").touch()
        edit(project, ".couplet/host/python.sh", "set -eu\n", 'set -eu\n[ "$1" != check ] || exit 0\n')
        subprocess.run(["git", "init", "--quiet", "."], cwd=project.path, check=True)
    shown, screen = project.make(target, fails=True).output, on_terminal(project, target)[1]
    for text in (shown, screen):
        assert MESSAGE in text and re.search(rf"\] Error {code}\n", text), text
        # after the message nothing but words of ours and make's own lines
        after = text.partition(MESSAGE)[2]
        assert after.count("\n") <= 3 and "failed to solve" not in after, after
    assert FAILED in shown


MANY = "".join(f"#9 1.2 line {number}\n" for number in range(100))
END = '#9 ERROR: process "x" did not\nERROR: failed\n'
OTHERS = {
    "a step without an ERROR of ours": (f"{MANY}{END}", "\n\nline 80\nline 81\n"),
    "a message that is longer than the screen": (f"#9 1.1 ERROR: long\n{MANY}{END}", "\n\nERROR: long\nline 0\nline 1\n"),
    "no step at all": ("#1 DONE\nERROR: failed to solve: debian:none: not found\n", "\nERROR: failed to solve: debian:none: not found\n"),
    "nothing": ("", "could not be written into"),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS)
def test_what_is_not_ours_is_shown_too(project, tmp_path, monkeypatch, case):
    log, message = OTHERS[case]
    monkeypatch.setenv("PATH", engine(tmp_path / "other", log))
    code, screen = on_terminal(project, "env-update")
    assert code == 2 and message in screen and "Error 1" in screen


def test_where_no_file_can_be_written_beside_the_project_the_log_is_elsewhere_or_shown(project, tmp_path):
    (project.path / "report").write_text("a file where the folder would be")
    (tmp_path / "tmp").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path / "tmp"))
        screen = on_terminal(project, "env-update")[1]
        assert MESSAGE in screen and Path(NAMED.search(screen)[1]).read_text() == FAILED
        patch.setenv("TMPDIR", str(tmp_path / "none"))
        code, screen = on_terminal(project, "env-update")
        assert code == 2 and screen.startswith(f"drawn by Docker\n{THEN}make: ***")
        assert f"{FAILED}{THEN}" in project.make("env-update", fails=True).output


def test_a_build_that_succeeds_leaves_one_line_free_and_prints_an_image_alone(project, tmp_path, monkeypatch):
    """The negative control: no message, no log; what a script asks for is the number and nothing else."""
    fine = "#1 [a 1/1] RUN x\n#1 0.1 ERROR: that was mended\n#1 DONE 0.1s\n"
    folder = tmp_path / "fine"
    path = engine(folder, fine, 0)
    program = folder / "docker"
    program.write_text(
        program.read_text().replace("exit 0 ;;", 'case "$*" in *--iidfile*) printf sha256:1 > "$5" ;; esac; exit 0 ;;')
    )
    monkeypatch.setenv("PATH", path)
    words = [".couplet/host/docker-build.sh", "--quiet", "--target", "x"]
    done = subprocess.run(words, cwd=project.path, env=os.environ | {"FACTS": "no"}, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "sha256:1", "")
    with Session([words[0], "--target", "x"], cwd=project.path) as session:
        assert session.ended() == 0
    assert session.screen.endswith("\r") and "\n" not in session.screen and "ERROR: that was mended" in session.screen


# --- with an engine ----------------------------------------------------------------------------------


def test_a_stale_lock_in_a_build_is_the_last_thing_on_the_screen(small, copy_of):
    """As of a build by the script itself: make asks before it."""
    project = copy_of(small)
    edit(project, "environment.yml", "  - idna\n", "  - idna\n  - six\n")
    code, screen = screen_of(project, ".couplet/host/docker-build.sh", "--target", "runtime")
    found = NAMED.search(screen)
    advice = "environment.yml has changed since conda-linux-64.lock was made. Run `make env-update`, and commit what it writes."
    assert (code, screen[found.end() :]) == (1, f"\n\n{advice}\n")
    assert "did not complete successfully" in (project.path / found[1]).read_text()


def test_a_lock_that_cannot_be_made_says_why_on_the_screen_and_one_that_can_says_what_changed(small, copy_of):
    project = copy_of(small)
    edit(project, "pyproject.toml", '"tabulate",', '"tabulate",\n    "no-such-distribution-anywhere",')
    code, screen = on_terminal(project, "env-update")
    message = screen[NAMED.search(screen).end() :]
    assert code == 2 and message.startswith("\n\nERROR: Poetry could not lock pyproject.toml"), screen
    assert "no-such-distribution-anywhere" in message and f"then run `make env-update`.\n\n{MORE}{THEN}make: ***" in message, (
        message
    )
    assert "did not complete" not in screen and "--mount" not in screen
    # the negative control
    edit(project, "pyproject.toml", '"no-such-distribution-anywhere"', '"six"')
    code, screen = on_terminal(project, "env-update")
    assert code == 0 and "ERROR" not in screen
    assert re.search(r"^six +- -> \S+ +Poetry\nLocked\. Commit pyproject\.toml and the lock files\.$", screen, re.M), screen


def test_an_environment_yaml_is_to_be_renamed_and_docker_finds_nothing_missing(small, copy_of):
    """Also by a plain build. The negative control: renamed, the locks fit."""
    project = copy_of(small)
    path = project.path / "environment.yml"
    path.rename(path.with_suffix(".yaml"))
    advice = "environment.yml is missing. Rename yours: git mv environment.yaml environment.yml"
    code, screen = on_terminal(project, "env-update")
    assert code == 2 and advice in screen[NAMED.search(screen).end() :] and "failed to calculate checksum" not in screen, screen
    code, screen = screen_of(project, ".couplet/host/docker-build.sh", "--target", "locks")
    assert code == 1 and advice in screen and "failed to calculate checksum" not in screen, screen
    path.with_suffix(".yaml").rename(path)
    assert "up to date" in project.make("env-check").output
