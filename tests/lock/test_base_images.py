"""Base images by digest: pinned from a real registry, built from what was pinned, and refused where it is gone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
import uuid
from pathlib import Path

import pytest

from tests.conftest import SMALL
from tests.harness import base_check, container, registry, template
from tests.harness.locks import restamp
from tests.harness.project import Done, Project
from tests.mirror import images

LOCK = "base-images.lock"
DIGEST = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def address(sources, tmp_path_factory):
    """The address of a registry, which any test may push to, each under a prefix of its own."""
    with registry.running(tmp_path_factory.mktemp("registry"), sources == "public") as running:
        yield running


@pytest.fixture
def prefix(address) -> str:
    """What REGISTRY is for one test."""
    return f"{address}/{uuid.uuid4().hex[:8]}"


def push(prefix: str, image: str, label: str = "") -> str:
    """Push a base image under its name behind the prefix, with a label of its own; return its digest there."""
    target = f"{prefix}/{image}"
    container.docker("buildx", "build", "--tag", target, "-", stdin=f'FROM {image}\nLABEL org.example.base="{label}"\n')
    container.docker("push", "--quiet", target)
    container.docker("image", "rm", target)
    return digest(target)


def digest(target: str) -> str:
    """What a registry says that a tag is, asked without Docker."""
    host, _, rest = target.partition("/")
    name, _, tag = rest.rpartition(":")
    kinds = ("docker.distribution.manifest.v2", "oci.image.manifest.v1", "docker.distribution.manifest.list.v2")
    accept = ", ".join(f"application/vnd.{kind}+json" for kind in (*kinds, "oci.image.index.v1"))
    request = urllib.request.Request(f"http://{host}/v2/{name}/manifests/{tag}", headers={"Accept": accept}, method="HEAD")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.headers["Docker-Content-Digest"]


def build(project: Project, **variables: str) -> Done:
    """Build the stage that is the base image and little else, as make would."""
    words = [".couplet/host/docker-build.sh", "--progress=plain", "--target", "poetry-packages", "--tag", project.runtime]
    environment = {**os.environ, **variables}
    done = subprocess.run(words, cwd=project.path, env=environment, capture_output=True, text=True, timeout=600)
    return Done(done.returncode, done.stdout + done.stderr)


def base(project: Project) -> str:
    """The label of the base image that the last build took."""
    found = container.docker("image", "inspect", "--format", '{{index .Config.Labels "org.example.base"}}', project.runtime)
    return found.stdout.strip()


@pytest.fixture
def poetry(render) -> Project:
    """A project with one base image, and a lock with nothing in it: what is built is the base and an empty environment."""
    project = render(**SMALL, environment="poetry")
    (project.path / "poetry.lock").write_text('[metadata]\nlock-version = "2.1"\npython-versions = "*"\ncontent-hash = ""\n')
    restamp(project)
    return project


def test_a_moved_tag_changes_nothing_until_it_is_pinned_again(poetry, prefix):
    """And without the file, builds follow the tag."""
    image = images.python_image(poetry.minor)
    variables = {"REGISTRY": prefix}
    first = push(prefix, image, "one")
    shown = poetry.make("pin-images", **variables).output
    lock = (poetry.path / LOCK).read_text()
    assert f"PYTHON_BASE={image}@{first}\n" in lock and prefix not in lock and f"{image}@{first}" in shown
    assert build(poetry, **variables).code == 0 and base(poetry) == "one"

    second = push(prefix, image, "two")
    assert second != first
    done = build(poetry, **variables)
    assert done.code == 0 and base(poetry) == "one" and f"{image}@{first}" in done.output
    poetry.make("pin-images", **variables)
    assert f"@{second}\n" in (poetry.path / LOCK).read_text()
    assert build(poetry, **variables).code == 0 and base(poetry) == "two"

    third = push(prefix, image, "three")
    (poetry.path / LOCK).unlink()
    done = build(poetry, **variables)
    assert done.code == 0 and base(poetry) == "three" and third not in done.output.replace(f"@{third}", "")
    # what you name yourself counts
    (poetry.path / LOCK).write_text(lock)
    words = [".couplet/host/docker-build.sh", "--target", "poetry-packages", "--tag", poetry.runtime]
    words += ["--build-arg", f"PYTHON_BASE={prefix}/{image}"]
    subprocess.run(words, cwd=poetry.path, env={**os.environ, **variables}, check=True, capture_output=True)
    assert base(poetry) == "three"


def test_of_many_platforms_it_is_the_digest_of_them_all(poetry, prefix):
    image = images.python_image(poetry.minor)
    single = push(prefix, image)
    source = f"{prefix}/{image.split(':')[0]}@{single}"
    # a single image becomes an index with one platform
    container.docker("buildx", "imagetools", "create", "--tag", f"{prefix}/{image}", source)
    whole = digest(f"{prefix}/{image}")
    assert whole != single, "the negative control: the registry has an index now"
    poetry.make("pin-images", REGISTRY=prefix)
    assert f"@{whole}\n" in (poetry.path / LOCK).read_text()
    assert build(poetry, REGISTRY=prefix).code == 0


def test_build_and_bake_take_both_and_the_label_names_it(small, copy_of, prefix):
    project = copy_of(small)
    file = (project.path / "Dockerfile").read_text()
    pushed = {name: (image, push(prefix, image)) for name, image in re.findall(r"^ARG (\w+)=\$\{REGISTRY\}(\S+)$", file, re.M)}
    assert pushed.keys() == {"CONDA_BASE", "RUNTIME_BASE"}
    project.make("pin-images", REGISTRY=prefix)
    lines = [line for line in (project.path / LOCK).read_text().splitlines() if not line.startswith("#")]
    assert lines == [f"{name}={image}@{found}" for name, (image, found) in sorted(pushed.items())]

    environment = {**os.environ, "REGISTRY": prefix, "IMAGE": project.images}
    words = [".couplet/host/docker-build.sh", "bake", "--print"]
    shown = subprocess.run(words, cwd=project.path, env=environment, check=True, capture_output=True, text=True)
    for target in json.loads(shown.stdout)["target"].values():
        for name, (image, found) in pushed.items():
            assert target["args"][name] == f"{prefix}/{image}@{found}"

    project.make("build", REGISTRY=prefix)
    shown = container.docker("image", "inspect", "--format", "{{json .Config.Labels}}", project.runtime).stdout
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in json.loads(shown).items()}
    assert (labels["base.name"], labels["base.digest"]) == pushed["RUNTIME_BASE"]
    assert prefix not in shown


def test_the_sbom_names_the_digest(small, copy_of, prefix):
    project = copy_of(small)
    found = {}
    for number in (1, 2):
        lines = re.findall(r"^ARG (\w+)=\$\{REGISTRY\}(\S+)$", (project.path / "Dockerfile").read_text(), re.M)
        if number == 2:
            (project.path / LOCK).write_text("".join(f"{name}={image}@{DIGEST}\n" for name, image in lines))
        # the stage is built on the tag: what the file says is what is asked for here
        words = [".couplet/host/docker-build.sh", "--quiet", "--file", ".couplet/tasks.Dockerfile", "--target", "sbom"]
        words += ["--output", "type=local,dest=report"]
        environment = {**os.environ, "FACTS": "no"}
        done = subprocess.run(words, cwd=project.path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        bill = json.loads((project.path / "report/sbom.cdx.json").read_text())
        [found[number]] = [c for c in bill["components"] if c["type"] == "container"]
    assert "hashes" not in found[1] and found[2]["hashes"] == [{"alg": "SHA-256", "content": "0" * 64}]
    assert found[2]["purl"] == f"pkg:docker/debian@sha256%3A{'0' * 64}?tag=bookworm-slim"


def test_a_digest_that_is_gone_ends_the_build(poetry, prefix):
    image = images.python_image(poetry.minor)
    push(prefix, image)
    poetry.make("pin-images", REGISTRY=prefix)
    lock = (poetry.path / LOCK).read_text()
    (poetry.path / LOCK).write_text(lock.replace(lock.split("@")[1].strip(), DIGEST))
    done = build(poetry, REGISTRY=prefix)
    assert done.code and f"{prefix}/{image}@{DIGEST}: not found" in done.output, done.output[-3000:]
    assert f"{LOCK} pins the base images by digest. If the registry no longer has one of them" in done.output
    # a project without the file hears nothing of it
    (poetry.path / LOCK).unlink()
    done = build(poetry, REGISTRY="127.0.0.1:1/nowhere")
    assert done.code and LOCK not in done.output


def test_a_registry_that_does_not_know_all_of_them_leaves_nothing_half_written(render, prefix):
    project = render(**SMALL)
    push(prefix, images.MINIFORGE)
    done = project.make("pin-images", fails=True, REGISTRY=prefix)
    assert f"The registry gave no digest for {prefix}/debian:bookworm-slim:\n" in done.output
    assert "not found" in done.output and "Nothing was written." in done.output and "Error 69" in done.output
    assert not list(project.path.glob("base-images*"))
    # offline, with a file from before
    (project.path / LOCK).write_text("as it was\n")
    done = project.make("pin-images", fails=True, REGISTRY="127.0.0.1:1")
    assert "connection refused" in done.output and "REGISTRY=registry.example.com/ make pin-images" in done.output
    assert [path.name for path in project.path.glob("base-images*")] == [LOCK]
    assert (project.path / LOCK).read_text() == "as it was\n"


# --- the template's own ----------------------------------------------------------------------------


def refresh(*words: str) -> Done:
    """Run what `nox -s pin-base-images` runs."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.harness.base_images", *words], cwd=template.REPOSITORY, capture_output=True, text=True
    )
    return Done(done.returncode, done.stdout + done.stderr)


def test_the_templates_own_images_are_asked_for_and_moved(prefix, tmp_path):
    """A newer tag of the same form is shown, and written on request; who cannot be asked is said, and is an error."""
    folder = tmp_path / "template"
    shutil.copytree(template.REPOSITORY / "questions", folder / "questions")
    shutil.copy(template.REPOSITORY / "copier.yml", folder)
    (folder / "notes.md").write_text(f"built on {images.MINIFORGE}\n")
    known = push(prefix, images.MINIFORGE)
    name, _, tag = images.MINIFORGE.rpartition(":")
    for other in (f"{tag[:-1]}9", f"{tag[:-1]}10", f"{tag[:-1]}11-rc", "latest", "4.9"):
        container.docker("buildx", "imagetools", "create", "--tag", f"{prefix}/{name}:{other}", f"{prefix}/{name}:{tag}")

    words = ("--registry", prefix, "--folder", str(folder))
    before = (folder / "questions/90_derived.yml").read_text()
    done = refresh(*words)
    assert f"{images.MINIFORGE}\n    {known}\n    newer: {name}:{tag[:-1]}10\n" in done.output, done.output
    assert (folder / "questions/90_derived.yml").read_text() == before
    assert re.search(r"debian:bookworm-slim\n    cannot be asked: http://\S+ answers HTTP 404", done.output)
    pythons = re.findall(r"^python:(\S+)-slim-bookworm$", done.output, re.M)
    assert done.code == 1 and len(pythons) > 2 and "Nothing is known of" in done.output

    done = refresh(*words, "--write")
    assert (folder / "questions/90_derived.yml").read_text() == before.replace(images.MINIFORGE, f"{name}:{tag[:-1]}10")
    assert "the old one is named in notes.md" in done.output
    for image in (images.DEBIAN, images.SATURN, images.KUSTOMIZE, *map(images.python_image, pythons)):
        container.docker("buildx", "imagetools", "create", "--tag", f"{prefix}/{image}", f"{prefix}/{images.MINIFORGE}")
    done = refresh(*words)
    assert done.code == 0 and "cannot be asked" not in done.output and "newer" not in done.output, done.output

    done = refresh("--registry", "127.0.0.1:1", "--folder", str(folder))
    assert done.code == 1 and "cannot be asked: http://127.0.0.1:1 does not answer: [Errno 111]" in done.output


# --- without Docker --------------------------------------------------------------------------------


def check(folder: Path) -> Done:
    """Run the part of `make env-check` that looks at the file."""
    done = subprocess.run([".couplet/host/python.sh", "facts", "check"], cwd=folder, capture_output=True, text=True)
    return Done(done.returncode, done.stdout + done.stderr)


def fitting(folder: Path) -> str:
    """Return the text of a base-images.lock for all base images of a project, as its Dockerfiles have them."""
    found = {
        name: image
        for file in folder.glob("Dockerfile*")
        for name, image in re.findall(r"^ARG (\w+)=\$\{REGISTRY\}(\S+)$", file.read_text(), re.M)
    }
    starts = "".join(file.read_text() for file in folder.glob("Dockerfile*"))
    assert set(re.findall(r"^FROM \$\{(\w+)\}", starts, re.M)) == found.keys(), "a stage begins with something else"
    return "# a comment\n" + "".join(f"{name}={image}@{DIGEST}\n" for name, image in found.items())


@pytest.mark.parametrize("answers", [{}, {"environment": "poetry"}, {"hosting": "saturn"}], ids=["conda", "poetry", "saturn"])
def test_the_file_fits_the_dockerfile_or_is_refused(render, package_sources, answers):
    """A newer template has another tag; a build from the old one's digest would go unnoticed."""
    folder = render(**{**SMALL, **answers}).path
    assert check(folder) == Done(0, "", ""), "there is no file"
    text = fitting(folder)
    for good in (text, text.replace("\n", "\r\n")):
        (folder / LOCK).write_bytes(good.encode())
        assert check(folder).code == 0, check(folder).output
    line = text.splitlines()[1]
    name, image = line.split("@")[0].split("=")
    for bad, message in (
        (
            text.replace(line, line.replace(image, "other/image:1")),
            f"asks for {image} ({name}), and {LOCK} has other/image:1 for it",
        ),
        (text.replace(line + "\n", ""), f"asks for {image} ({name}), and {LOCK} has nothing for it"),
        (text + f"MY_BASE=mine:1@{DIGEST}\n", f"{LOCK} has mine:1 as MY_BASE, which is not in the Dockerfile"),
        (text.replace(DIGEST, "sha256:cut"), f"{LOCK} is damaged: "),
        ("<<<<<<< ours\n" + text, f"{LOCK} is damaged: <<<<<<< ours"),
    ):
        (folder / LOCK).write_text(bad)
        done = check(folder)
        assert done.code == 1 and message in done.output, done.output
        assert f"Run `make pin-images`, or delete {LOCK} to build from the tags." in done.output
    # and no build begins
    words = [".couplet/host/docker-build.sh", "--target", "none"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 1 and "is damaged" in done.stderr


@pytest.mark.parametrize("answers", [{}, {"environment": "poetry"}, {"hosting": "saturn"}], ids=["conda", "poetry", "saturn"])
def test_every_images_label_is_that_of_its_own_base(render, answers):
    """Each image with the label of a digest begins, whatever lies between, with the base whose digest it is."""
    folder = render(**{**SMALL, **answers}).path
    (folder / LOCK).write_text(
        re.sub(r"(?m)^(\w+)=(.*@)\S+$", lambda m: f"{m[1]}={m[2]}sha256:{m[1].encode().hex():0<64.64}", fitting(folder))
    )
    shown = subprocess.run([".couplet/host/python.sh", "facts"], cwd=folder, check=True, capture_output=True, text=True).stdout
    labelled = dict(re.findall(r"^label (\S+) org\.opencontainers\.image\.base\.digest=sha256:(\w+)$", shown, re.M))
    begins = {"saturn": "${SATURN_BASE}"} if "hosting" in answers else {}
    for start, name in re.findall(r"(?m)^FROM (\S+) AS (\S+)$", (folder / "Dockerfile").read_text()):
        begins[name] = begins.get(start, start)
    for image in {"runtime", "dev", *begins} & {"runtime", "dev", "main", "saturn"}:
        base = begins[image].strip("${}")
        assert labelled.get(image, labelled.get("*")) == f"{base.encode().hex():0<64.64}", image


def test_env_check_looks_at_it_too(render):
    project = render(**SMALL)
    (project.path / LOCK).write_text("nonsense\n")
    assert "base-images.lock is damaged: nonsense" in project.make("env-check", fails=True).output


# --- what the template needs of them ---------------------------------------------------------------

BASES = {"conda": images.MINIFORGE, "runtime": images.DEBIAN, "python": "python:3.13-slim-bookworm"}
BROKEN = {
    "conda": ("RUN rm /usr/bin/tini-static /usr/bin/git", ["/usr/bin/tini-static", "git"]),
    "runtime": ("RUN rm /bin/bash && mkdir /project", ["bash", "/project, /work not in use"]),
    "python": ("RUN rm -r /usr/local/lib/python3.13/venv", ["venv"]),
}


@pytest.mark.parametrize("kind", BASES)
def test_a_base_has_what_the_template_needs_of_it(sources, capsys, kind):
    """The negative control: the same image without some of it, each of which is named."""
    assert base_check.main([BASES[kind]]) == 0, capsys.readouterr().out
    assert f"as a base of the kind {kind}: " in capsys.readouterr().out
    instructions, names = BROKEN[kind]
    with container.derived(BASES[kind], f"USER root\n{instructions}") as image:
        assert [need.what for need in base_check.missing(image, kind)] == names
        assert base_check.main([image]) == 1
        assert f"  it lacks {names[0]} (" in capsys.readouterr().out
