"""The builder's record of a build, as docs/supply-chain.md says that it is made and looked at."""

from __future__ import annotations

import json
import os
import re
import subprocess
from secrets import token_hex

import pytest

from tests.harness import builder, registry, template
from tests.inspect.test_make_audit import locked_by_poetry_alone  # noqa: F401
from tests.mirror import images


@pytest.fixture(scope="module")
def second(sources, tmp_path_factory):
    """A builder that pushes by itself, and the address of a registry."""
    folder = tmp_path_factory.mktemp("provenance")
    with registry.running(folder, sources == "public") as address, builder.running(folder / "builder") as running:
        yield running, address


def documented() -> list[list[str]]:
    """The commands that the page gives, as words."""
    page = (template.REPOSITORY / "docs/supply-chain.md").read_text().partition("## What is published")[2]
    block = re.search(r"```sh\n(.*?)```", page, re.S)[1]
    return [line.split() for line in block.splitlines()]


def test_the_record_names_bases_arguments_and_steps_and_no_secret(locked_by_poetry_alone, copy_of, second, tmp_path):  # noqa: F811
    """By the page's own commands, pushed by a real builder into a real registry."""
    running, address = second
    project, password = copy_of(locked_by_poetry_alone), f"pw{token_hex(8)}"
    base = images.python_image(project.minor)
    registry.hold(address, base)
    (tmp_path / "netrc").write_text(f"machine nobody.example.com login ada password {password}\n")
    environment = {**os.environ, **running.environment, "REGISTRY": address, "NETRC": str(tmp_path / "netrc")}
    project.make("pin-images", REGISTRY=address)
    digest = (project.path / "base-images.lock").read_text().partition("sha256:")[2].strip()

    def run(words: list[str], **more: str) -> str:
        words = [word.replace("registry.example.com/group/name", f"{address}/ice") for word in words]
        # the page has quotes, for the shell; an argument of one's own that holds a password, for the negative control
        command = " ".join(words)
        done = subprocess.run(
            ["sh", "-euc", command], cwd=project.path, env={**environment, **more}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    publish, inspect, listing = documented()
    run([*publish, f"IMAGE={project.images}"])
    text = run(inspect)
    assert json.loads(run(listing))["SPDX"]["packages"]
    record = json.loads(text)["SLSA"]
    materials = [(one["uri"], one["digest"]) for one in record["materials"]]
    assert any("python" in uri and found == {"sha256": digest} for uri, found in materials), materials
    arguments = record["invocation"]["parameters"]["args"]
    assert arguments["label:org.opencontainers.image.version"] == "0.1.0"
    assert arguments["build-arg:PYTHON_BASE"] == f"{address}/{base}@sha256:{digest}"
    steps = json.dumps(record["buildConfig"])
    assert "couplet.sh install-pypi" in steps and "couplet.sh verify" in steps
    assert {secret["id"] for secret in record["invocation"]["parameters"].get("secrets", [])} >= {"netrc"}
    assert password not in text

    # the negative controls: an argument is recorded with its value, and without mode=max there are no arguments and steps
    build = [".couplet/host/docker-build.sh", "--target", "runtime", "--tag", f"{address}/ice:1.2", "--push"]
    run([*build, "--provenance=mode=max", "--build-arg", f"TOKEN={password}"])
    assert password in run(inspect)
    run(build)
    short = json.loads(run(inspect))["SLSA"]
    assert short["materials"] and "couplet.sh install-pypi" not in json.dumps(short)
