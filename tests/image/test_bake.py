"""A fleet of builders: bake gives what make gives, and an empty builder takes the layers of another from a registry."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess

import pytest

from tests.harness import builder, registry, scratch
from tests.harness.container import docker
from tests.harness.project import Project

pytestmark = pytest.mark.one_variant
BASES = ("condaforge/miniforge3:26.3.2-3", "debian:bookworm-slim")
WRITTEN = "mode=max,compression=zstd,force-compression=true,ignore-error=true"
INSTALLS = ("install-conda", "install-pypi", "verify")
"""The steps that take the time."""


def bake(project: Project, *words: str, **variables: str) -> subprocess.CompletedProcess:
    """Run .couplet/host/docker-build.sh bake, as the Makefile does."""
    return subprocess.run(
        [".couplet/host/docker-build.sh", "bake", *words], cwd=project.path, env={**os.environ, "IMAGE": project.images, **variables},
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip


def said(project: Project, *words: str, **variables: str) -> dict[str, dict]:
    """What bake would do, target by target."""
    done = bake(project, "--print", *words, **variables)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["target"]


def id_of(image: str) -> str:
    return docker("image", "inspect", "--format", "{{.Id}}", image).stdout.strip()


def entries(target: dict, key: str) -> list[dict[str, str]]:
    """What a target has of secrets, caches or outputs: lines of CSV in an older buildx, objects in a newer one."""
    rows = target.get(key, [])
    return [dict(word.split("=", 1) for word in next(csv.reader([row]))) if isinstance(row, str) else row for row in rows]


def entry(line: str) -> dict[str, str]:
    """The one entry of a line."""
    return entries({"line": [line]}, "line")[0]


def test_bake_describes_what_make_builds(built):
    """Stages and tags; labels, secrets and proxies as .couplet/host/docker-build.sh passes them for a plain build."""
    targets = said(built)
    assert {name: (one["target"], one["tags"]) for name, one in targets.items()} == {
        "runtime": ("runtime", [built.runtime]), "dev": ("dev", [built.dev])
    }  # fmt: skip
    labels = json.loads(docker("image", "inspect", "--format", "{{json .Config.Labels}}", built.runtime).stdout)
    script = (built.path / ".couplet/host/settings.sh").read_text()
    files = {"pip_conf": "PIP_CONFIG_FILE", "condarc": "CONDARC", "ca": "SSL_CERT_FILE"}
    for target in targets.values():
        given = target["labels"]
        for name in ("org.opencontainers.image.version", "org.couplet.poetry-lock.sha256", "org.couplet.conda-lock.sha256"):
            assert given[name] == labels[name]
        arguments = target.get("args", {})
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
            assert arguments.get(name) == (os.environ.get(name) or None)
        secrets = {secret["id"]: secret["src"] for secret in entries(target, "secret")}
        for secret, variable in files.items():
            assert f"first {secret} " in script, "the negative control: a secret of this name is looked for"
            if os.environ.get(variable):
                assert secrets[secret] == os.environ[variable]
        assert not {"cache-from", "cache-to"} & target.keys()


def test_a_secret_a_mirror_and_a_cache_reach_every_target(built, tmp_path):
    strange = tmp_path / 'a, "b"'
    strange.mkdir()
    (strange / "netrc").write_text("machine example.com login a password b\n")
    targets = said(
        built, "runtime", "dev", "platforms",
        NETRC=str(strange / "netrc"), REGISTRY="mirror.example.com", CACHE="Example.com/Group/ice:cache", CACHE_WRITE="yes",
    )  # fmt: skip
    for name, target in targets.items():
        assert str(strange / "netrc") in [secret["src"] for secret in entries(target, "secret") if secret["id"] == "netrc"]
        assert target["args"]["REGISTRY"] == "mirror.example.com/"
        ref = "type=registry,ref=example.com/group/ice:cache" + ("-dev" if name == "dev" else "")
        # one alone: see docs/decisions/0080
        assert entries(target, "cache-from") == [entry(ref)]
        assert entries(target, "cache-to") == [entry(f"{ref},{WRITTEN}")]
    assert targets["platforms"]["platforms"] == ["linux/amd64"]
    assert entries(targets["platforms"], "output") == [{"type": "registry"}]
    # the negative control: without writing nothing is written
    assert "cache-to" not in said(built, CACHE="example.com/ice:cache")["dev"]


def test_an_answer_gives_the_platforms(render):
    folder = render(platforms=["linux-64", "linux-aarch64", "osx-arm64"]).path
    words = ["docker", "buildx", "bake", "--file", ".couplet/bake.hcl", "--print", "platforms"]
    shown = subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True).stdout
    assert json.loads(shown)["target"]["platforms"]["platforms"] == ["linux/amd64", "linux/arm64"]


def test_bake_builds_the_images_that_make_builds(built, copy_of):
    project = copy_of(built)
    before = {}
    for target, image in (("build", project.runtime), ("build-dev", project.dev)):
        project.make(target)
        before[image] = id_of(image)
    docker("image", "rm", "--force", *before)
    project.make("bake")
    assert {image: id_of(image) for image in before} == before
    # the negative control: another label, another image
    (project.path / ".couplet/bake.hcl").write_text(
        (project.path / ".couplet/bake.hcl")
        .read_text()
        .replace('["type=docker"]', '["type=docker"]\n    labels = { other = "x" }', 1)
    )
    project.make("bake", "TARGETS=runtime")
    assert id_of(project.runtime) != before[project.runtime]


def asked(output: str) -> list[set[str]]:
    """The references that each build looked for layers in."""
    return [set(re.findall(r"^#\d+ (?:\[\w+\] )?importing cache manifest from (\S+)$", build, re.M)) for build in builds(output)]


def test_each_image_looks_for_layers_in_its_own_reference_and_one_after_the_other(built, copy_of):
    """See docs/decisions/0080. Nothing listens there: the builder says so, and builds without."""
    project, cache = copy_of(built), "127.0.0.1:1/ice:cache"
    both = [{cache}, {f"{cache}-dev"}]
    for target, expected in {"build": both[:1], "build-dev": both[1:], "bake": both}.items():
        output = project.make(target, CACHE=cache).output
        assert asked(output) == expected, output
    # the negative control: an option goes to one build of both
    done = bake(project, "--progress=plain", "runtime", "dev", CACHE=cache)
    assert asked(done.stdout + done.stderr) == [set.union(*both)]


# --- two builders ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def second(sources):
    """An empty builder, a registry's address, and what names both to make; on the closed network the base images are there too."""
    with (
        scratch.on_disk() as folder,
        registry.running(folder, sources == "public") as address,
        builder.running(folder / "builder") as engine,
    ):
        there = dict(engine.environment)
        if sources == "mirror":
            there["REGISTRY"] = address
            registry.hold(address, *BASES)
        yield engine, address, there


def builds(output: str) -> list[str]:
    """What each build said, where several did: each numbers its steps anew. A step's own line comes again where another's came between."""
    return re.split(r"^#0 building with ", output, flags=re.M)[1:]


def ran(output: str) -> set[str]:
    """The verbs that the steps of one build or several ran, less those of steps that were taken from a cache."""
    found = set()
    for build in builds(output):
        steps = dict(re.findall(r"^#(\d+) \[[^\]]+\] RUN (.*)$", build, re.M))
        cached = set(re.findall(r"^#(\d+) CACHED$", build, re.M))
        new = [text for number, text in steps.items() if number not in cached]
        found |= {name for text in new for name in re.findall(r"(?:couplet\.sh|\$couplet) ([\w-]+)", text)}
    return found


@pytest.mark.soak
def test_an_empty_builder_takes_the_layers_of_another(small, copy_of, second):
    """The layers of the default project are some ten times as large; `nox -s bench -- fleet` has those."""
    project, (engine, address, there) = copy_of(small), second
    cache = f"{address}/group/{project.images}:cache"

    # the first builder has nothing, and the cache is empty: it installs, which is the negative control, and leaves its layers there
    engine.empty()
    shown = project.make("bake", **there, CACHE=cache, CACHE_WRITE="yes").output
    assert ran(shown) >= set(INSTALLS)

    # a second one, empty, runs no helper at all; its image works
    engine.empty()
    assert not engine.holds
    shown = project.make("bake", **there, CACHE=cache).output
    assert "importing cache manifest" in shown
    assert not ran(shown), ran(shown)

    # and an edit of the code is one layer there too, and the look for it
    [source] = (project.path / "src").glob("*/__main__.py")
    source.write_text('print("edited on the second builder")\n')
    shown = project.make("build", **there, CACHE=cache).output
    assert ran(shown) == {"importable"}, ran(shown)
    words = ["docker", "run", "--rm", "--network", "none", project.runtime]
    done = subprocess.run(words, env={**os.environ, **there}, capture_output=True, text=True)
    assert done.stdout == "edited on the second builder\n", done.stderr


def test_what_a_step_says_is_read_as_it_is_meant():
    """The negative control of the reading above: a step that ran, one that was cached, one of a helper that nobody asked for; a second build."""
    output = (
        '#0 building with "default" instance using docker driver\n\n'
        "#1 [internal] load build definition\n#1 ...\n\n#2 [internal] load .dockerignore\n#2 DONE 0.0s\n\n"
        "#1 [internal] load build definition\n#1 DONE 0.0s\n#3 importing cache manifest from x/ice:cache\n"
        "#7 [conda-env 3/3] RUN --mount=x /couplet/couplet.sh install-conda --locks\n#7 CACHED\n"
        "#9 [env 1/1] RUN /couplet/couplet.sh verify\n#9 DONE 0.4s\n#9 [x] COPY a b\n"
    )
    assert ran(output) == {"verify"}
    assert ran(output + output.replace("#9 DONE 0.4s", "#9 CACHED")) == {"verify"}
    assert ran(output + output.replace("#7 CACHED\n", "")) == {"verify", "install-conda"}
    assert asked(output) == [{"x/ice:cache"}]
