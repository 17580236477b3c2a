"""The pipelines of the generated repository, run: their own lines, on a real engine, with a real registry."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

from tests.harness import container, forge, registry, scratch, template
from tests.harness.programs import in_front
from tests.harness.project import Project
from tests.harness.soak import some
from tests.mirror import engine, osv
from tests.render.test_linters import steps

pytestmark = pytest.mark.one_variant
HOSTS = {"github": ".github/workflows/ci.yml", "gitlab": ".gitlab-ci.yml"}


@pytest.fixture(scope="module")
def pushed_to(sources):
    """The address of a registry."""
    with scratch.on_disk() as folder, registry.running(folder, sources == "public") as address:
        yield address


def lines(folder: Path, job: str) -> tuple[list[str], dict[str, str]]:
    """The lines of a job that call make, and its own variables that are no expressions, from whichever pipeline there is."""
    name = next(name for name in HOSTS.values() if (folder / name).exists())
    pipeline = yaml.safe_load((folder / name).read_text())
    body = pipeline.get("jobs", pipeline)[job]
    scripts = steps({"jobs": {job: body}} if "jobs" in pipeline else {job: body})
    variables = body.get("env") or body.get("variables") or {}
    called = [line for _, script in scripts for line in script.splitlines() if line.startswith("make ")]
    return called, {name: value for name, value in variables.items() if "$" not in value}


def run(project: Project, job: str, **variables: str) -> subprocess.CompletedProcess:
    """Run what a job runs of make, in a shell that stops at the first error, as both hosts have it."""
    called, own = lines(project.path, job)
    assert called
    return subprocess.run(
        ["sh", "-euc", "\n".join(called)], cwd=project.path, env={**os.environ, **own, "IMAGE": project.images, **variables},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.fixture(params=some(HOSTS, "github"))
def ours(request, built, copy_of, template_repository, tmp_path) -> Project:
    """A built project with the pipeline of each host, in a folder that the containers cannot see into.

    Both call the same targets of make (tests/render/test_pipelines.py): GitHub's by day, GitLab's at night.
    """
    project = copy_of(built)
    answers = {"project_name": "Sea Ice", "ci": request.param}
    fresh = template.render(template_repository, tmp_path / "fresh", answers)
    for name in HOSTS.values():
        (project.path / name).unlink(missing_ok=True)
    file = project.path / HOSTS[request.param]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text((fresh / HOSTS[request.param]).read_text())
    return project


def test_the_test_job_passes_and_fails_with_the_code(ours):
    done = run(ours, "test")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "The locks are up to date." in done.stdout and "3 passed" in done.stdout
    # the negative controls: code that is wrong, and a lock that does not fit
    test = ours.path / "tests/test_analysis.py"
    test.write_text(test.read_text().replace("0.816", "0.916"))
    done = run(ours, "test")
    assert done.returncode and "1 failed" in done.stdout
    with (ours.path / "environment.yml").open("a") as file:
        file.write("  - xz\n")
    done = run(ours, "test")
    assert done.returncode and "make env-update" in done.stdout and "passed" not in done.stdout


def test_what_the_image_holds_is_tested_and_not_the_folder(built, copy_of):
    """A runner's engine may see another file system than the job: with MOUNT=no nothing of the folder is needed."""
    project = copy_of(built)
    project.make("build-dev")
    (project.path / "tests/test_analysis.py").write_text("def test_it():\n    raise SystemError\n")
    script = project.path / ".couplet/host/docker-run.sh"
    words = [str(script), project.dev, "pytest", "-q"]
    inside = subprocess.run(words, cwd=project.path, env={**os.environ, "MOUNT": "no"}, capture_output=True, text=True)
    assert inside.returncode == 0 and "3 passed" in inside.stdout, inside.stdout + inside.stderr
    outside = subprocess.run(words, cwd=project.path, capture_output=True, text=True)
    assert outside.returncode and "SystemError" in outside.stdout


@pytest.mark.soak
def test_fresh_locks_are_proposed_by_what_make_really_does(built, copy_of, template_repository, tmp_path):
    """GitHub's lines on this engine: an older tabulate that may be newer. What make does not decide: tests/lock/test_propose.py."""
    project = copy_of(built)
    fresh = template.render(template_repository, tmp_path / "fresh", {"project_name": "Sea Ice", "fresh_locks": "weekly"})
    for name in (forge.FILES["github"], ".couplet/couplet/lock/propose.py"):
        (project.path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(fresh / name, project.path / name)
    settings = project.path / "pyproject.toml"
    begun = settings.read_text()
    for wanted in ("tabulate==0.9.0", "tabulate>=0.9"):
        settings.write_text(begun.replace("\ndependencies = [\n", f'\ndependencies = [\n    "{wanted}",\n'))
        project.make("env-update")
    with osv.running(engine.gateway(engine.find())) as service, forge.running(tmp_path / "forge", "github") as host:
        service.know("tabulate", "PYSEC-0000-1", fixed="0.9.1")
        host.push(project.path)
        pipeline = forge.Pipeline(host, tmp_path)
        done = pipeline.run(IMAGE=project.images, OSV_URL=service.address)
        assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout[-3000:]
        [request] = host.requests
        row = re.search("<td>tabulate</td><td>0.9.0</td><td>([0-9.]+)</td><td>Poetry</td><td>PYSEC-0000-1</td>", request["body"])
        assert row and f'version = "{row[1]}"' in host.show("couplet/locks", "poetry.lock")
        # the negative control: a test that fails, and the request stays as it was
        (project.path / "tests/test_wrong.py").write_text("def test_it():\n    raise SystemError\n")
        host.push(project.path)
        before = host.branches()
        done = pipeline.run(IMAGE=project.images, OSV_URL=service.address)
        assert done.args == "locks" and done.returncode and "SystemError" in done.stdout
        assert host.branches() == before and host.requests == [request]


def tags(address: str, name: str) -> list[str]:
    with urllib.request.urlopen(f"http://{address}/v2/{name}/tags/list", timeout=10) as answer:
        return sorted(json.load(answer)["tags"])


def test_the_publish_job_pushes_what_was_built(ours, pushed_to, tmp_path):
    """Under the names that it was given, as far as a registry allows them: a capital, a branch with a slash."""
    name = f"group/{ours.images}"
    to = f"{pushed_to}/{name.title()}"
    # this engine's builder cannot write layers: the job's own setting is for a builder of its own
    done = run(ours, "publish", TO=to, TAGS="feature/Ice latest", CACHE_WRITE="", CACHE=f"{to}:cache")
    assert done.returncode == 0, done.stdout[-3000:]
    assert tags(pushed_to, name) == ["feature-Ice", "latest"]
    here = container.docker("image", "inspect", "--format", "{{.Id}}", ours.runtime).stdout
    container.docker("image", "rm", "--force", f"{pushed_to}/{name}:latest")
    container.docker("pull", "--quiet", f"{pushed_to}/{name}:latest")
    assert container.docker("image", "inspect", "--format", "{{.Id}}", f"{pushed_to}/{name}:latest").stdout == here
    container.docker("image", "rm", "--force", f"{pushed_to}/{name}:latest", f"{pushed_to}/{name}:feature-Ice")


def test_a_branchs_name_is_no_command(built, copy_of, pushed_to):
    """git allows backticks, $( and quotes in a name; anyone who may push a branch or tag chooses it."""
    project = copy_of(built)
    name = f"strange/{project.images}"
    tag = "v1`touch${IFS}canary`;touch${IFS}canary;$(touch${IFS}canary)'\"&$(shell${IFS}touch${IFS}canary)"
    variables = {"TO": f"{pushed_to}/{name}", "TAGS": tag}
    done = subprocess.run(
        ["make", "publish", f"IMAGE={project.images}"],
        cwd=project.path,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not list(project.path.rglob("canary"))
    [pushed] = tags(pushed_to, name)
    assert pushed.startswith("v1-touch--IFS-canary-")
    container.docker("image", "rm", "--force", f"{pushed_to}/{name}:{pushed}")


def test_publishing_to_nowhere_says_what_to_give(built, copy_of):
    done = copy_of(built).make("publish", fails=True)
    assert "make publish TO=" in done.output


def test_a_cache_that_is_not_there_yet_is_no_error(built, copy_of, pushed_to):
    """The first run of a pipeline."""
    done = copy_of(built).make("build", CACHE=f"{pushed_to}/Nothing/here:cache")
    assert "importing cache manifest" in done.output, "it was asked for"


def test_the_image_comes_out_of_whichever_builder_there_is(built, tmp_path):
    """Another builder than the engine's own keeps what it was not told to hand over, and ends with 0 all the same."""
    log = tmp_path / "log"
    records = f'echo "$*" >> "{log}"\nexec "{shutil.which("docker")}" "$@"'
    path = {**os.environ, "PATH": in_front(tmp_path / "bin", docker=records)}
    name = f"{built.images}-loaded:latest"

    def asked(*words: str) -> str:
        log.unlink(missing_ok=True)
        subprocess.run(
            [built.path / ".couplet/host/docker-build.sh", *words], cwd=built.path, env=path, check=True, capture_output=True
        )
        [line] = [line for line in log.read_text().splitlines() if line.startswith("buildx build ")]
        return line

    sbom = ("--file", ".couplet/tasks.Dockerfile", "--target", "sbom")
    try:
        assert " --load " in asked("--target", "runtime", "--tag", name)
        container.docker("image", "inspect", name)
    finally:
        container.docker("image", "rm", "--force", name, check=False)
    # the negative control: who says himself where it goes is not contradicted
    assert "--load" not in asked(*sbom, "--output", f"type=local,dest={tmp_path}/out")
    assert (tmp_path / "out").is_dir()


HEALTHY = 'HEALTHCHECK --interval=1s CMD python -c \'open("/tmp/up")\'\nCMD ["sh", "-c", "sleep 2; touch /tmp/up; sleep 60"]'
STARTS = {
    "one that ends": ("LABEL nothing=more", 0, "computed in"),
    "one that ends badly": ('CMD ["python", "-c", "raise SystemExit(3)"]', 3, ""),
    "one that serves": (HEALTHY, 0, "is healthy"),
    "one that is never healthy": (HEALTHY.replace("touch /tmp/up", "echo stuck"), 1, "did not become healthy"),
    "one that dies": (HEALTHY.replace("sleep 60", "exit 4").replace("sleep 2; touch /tmp/up", "echo oh dear"), 1, "oh dear"),
}


@pytest.mark.parametrize("case", STARTS)
def test_an_image_that_does_not_start_is_seen(built, case):
    instructions, code, said = STARTS[case]
    # a label of this clone's own: an engine takes the same image of another clone's tests for this one
    with container.derived(built.runtime, f"LABEL of={built.images}\n{instructions}") as image:
        done = subprocess.run(
            [str(built.path / ".couplet/host/smoke.sh"), image],
            # what is to start has plenty of time; what never does would take all of it
            env={**os.environ, "SECONDS_TO_START": "30" if code == 0 else "8"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == code and said in done.stdout + done.stderr, done.stdout + done.stderr
        assert container.docker("ps", "--all", "--quiet", "--filter", f"ancestor={image}").stdout == ""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_smoke_test_that_is_cancelled_leaves_nothing_running(built, name):
    with container.derived(built.runtime, f"LABEL of={built.images}\n{HEALTHY.replace('touch /tmp/up', 'echo stuck')}") as image:
        asked = ("ps", "--all", "--quiet", "--filter", f"ancestor={image}")
        smoke = subprocess.Popen(["sh", str(built.path / ".couplet/host/smoke.sh"), image], preexec_fn=heed)
        while not waits(smoke.pid):
            assert smoke.poll() is None, "it ended by itself"
            time.sleep(0.1)
        assert container.docker(*asked).stdout
        smoke.send_signal(getattr(signal, name))
        assert smoke.wait(timeout=60) == {"SIGINT": 130, "SIGTERM": 143}[name]
        assert container.docker(*asked).stdout == ""


def waits(shell: int) -> bool:
    """Whether a shell runs `sleep` at this moment."""
    children = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
    with contextlib.suppress(FileNotFoundError):
        return any(Path(f"/proc/{child}/comm").read_text() == "sleep\n" for child in children)
    return False


def heed() -> None:
    """What a shell started in the background inherits is to ignore SIGINT; a person's shell does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
