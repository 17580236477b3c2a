"""What every image and every stage has to have, read from the rendered files, and seen to go red for each mistake."""

from __future__ import annotations

import re

import pytest
import yaml

CACHES = {
    "install-pypi": "/root/.cache/uv",
    "install-conda": "/var/cache/conda",
    "tools --venv": "/root/.cache/uv",
    "tools --target": "/root/.cache/pip",
}
"""Verb -> the folder that its programs keep downloads in, which has to be a cache of the builder: else it is in a layer."""


def stages(dockerfile: str) -> dict[str, list[str]]:
    """Return {stage: its instructions, each in one line}."""
    text = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", dockerfile, flags=re.M))
    found: dict[str, list[str]] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        if name := re.match(r"FROM \S+ AS (\S+)", line):
            found[name[1]] = []
        if found:
            list(found.values())[-1].append(line)
    return found


def dockerfile(text: str) -> list[str]:
    """Return what is wrong with a project's Dockerfile."""
    found = []
    of = stages(text)
    for name, lines in of.items():
        for line in lines:
            for verb, cache in CACHES.items():
                if f"couplet.sh {verb}" in line.replace(
                    "$couplet", "couplet.sh"
                ) and f"type=cache,target={cache}" not in line.replace("id=conda-packages,", ""):
                    found.append(f"{name}: {verb} leaves its downloads in a layer")
            if "install-" in line and "--prefix" in line and "project" not in line and "target=/tmp" not in line:
                found.append(f"{name}: what is written into /tmp is in a layer")
    for image, before in (("runtime", "env"), ("dev", "dev")):
        if not any(
            re.search(rf"couplet(\.sh)? verify .*--groups main{' dev' * (image == 'dev')}\b", line) for line in of[before]
        ):
            found.append(f"{image} is not verified")
    if not re.match(r"FROM env AS ", of["runtime"][0]):
        found.append("runtime is not what was verified")
    if not any(re.search(r"couplet\.sh check --project \S+ --out /locks$", line) for line in of["locks"]):
        found.append("stale locks are not refused")
    started = [name for name, lines in of.items() if any(line.startswith("ENTRYPOINT") for line in lines)]
    for image in started:
        if not any("importable" in line for line in of[image]):
            found.append(f"{image}: nobody looks for the project")
        entry = [line for line in of[image] if line.startswith("ENTRYPOINT")]
        first = '"tini", "-g", "--"' if "conda-base" in of else '"dumb-init", "--"'
        if entry != [f'ENTRYPOINT [{first}, "/usr/local/bin/entrypoint.sh"]']:
            found.append(f"{image}: signals do not reach all that a shell started")
        if [line for line in of[image] if line.startswith("USER")][-1:] != ["USER 1000:1000"]:
            found.append(f"{image} runs as root")
        if not any(re.search(r"^RUN .*couplet\.sh entry-points (runtime|dev) ", line) for line in of[image]):
            found.append(f"{image}: the ways in do not activate")
        code = next((number for number, line in enumerate(of[image]) if line.startswith("COPY src/")), len(of[image]))
        if [line.split()[0] for line in of[image][code + 1 :] if line.startswith(("COPY", "RUN"))] != ["RUN"] and image != "dev":
            found.append(f"{image}: an edit of the code makes more than its own layer")
    if not {"runtime", "dev"} <= set(started):
        found.append("runtime or dev cannot be started")
    return found


MISTAKES = [
    (r" --mount=type=cache,target=/root/\.cache/uv,?", " ", "leaves its downloads in a layer"),
    (r"--mount=type=cache,target=/root/\.cache/pip ", "", "leaves its downloads in a layer"),
    (r"(AS dev[\s\S]*?)--mount=type=cache,target=/root/\.cache/uv", r"\1", "dev: install-pypi leaves"),
    (r"(AS dev[\s\S]*?)--mount=type=tmpfs,target=/tmp", r"\1", "dev: what is written into /tmp"),
    (r"(AS dev[\s\S]*?)couplet(\.sh)? verify --locks \S+ --groups main dev", r"\1couplet\2 true", "dev is not verified"),
    (r"verify --locks \S+ --groups main --prefix", "true --prefix", "runtime is not verified"),
    (r"FROM env AS runtime", "FROM poetry-packages AS runtime", "runtime is not what was verified"),
    (r"couplet\.sh check --project \S+", "couplet.sh copy", "stale locks are not refused"),
    (r'"tini", "-g", |"dumb-init", ', "", "signals do not reach"),
    (r"(AS runtime[\s\S]*?)USER 1000:1000\n", r"\1", "runtime runs as root"),
    (r"(AS dev[\s\S]*?)USER 1000:1000\n", r"\1", "dev runs as root"),
    (r"(AS dev[\s\S]*?)entry-points dev", r"\1true", "dev: the ways in do not activate"),
    (r"importable --project", "true --project", "nobody looks for the project"),
    (r"(COPY src/ .*\n)", r"\1COPY README.md /opt/app/\n", "an edit of the code makes more"),
]  # fmt: skip
"""(what is replaced, by what, what has to be said)."""


@pytest.mark.parametrize("environment", ["conda-poetry", "poetry"])
def test_each_stage_has_its_part(render, environment):
    """With conda and without it: a check that only one of the two had is how caches once came into a layer."""
    text = (render(environment=environment).path / "Dockerfile").read_text()
    assert dockerfile(text) == []
    survived = []
    for old, new, words in MISTAKES:
        changed = re.sub(old, new, text, count=1)
        assert changed != text, old
        if not any(words in problem for problem in dockerfile(changed)):
            survived.append((old, dockerfile(changed)))
    assert survived == []


def one_image(compose: str) -> bool:
    """Return whether the scheduler of a compose file and its workers are the image that runs the project."""
    services = yaml.safe_load(compose)["services"]
    return len({services[name]["image"] for name in ("app", "scheduler", "worker")}) == 1


def test_a_cluster_is_one_image(render):
    text = (render(cluster="dask").path / "compose.yaml").read_text()
    assert one_image(text)
    for service in ("scheduler", "worker"):
        assert not one_image(re.sub(rf"(  {service}:\n(?:.*\n)*?    image: .*):latest", r"\1:dev", text, count=1))


def app(of: dict[str, list[str]], port: int) -> list[str]:
    """Return what the runtime image lacks of an app that listens on a port."""
    lines = of["runtime"]
    checks = [line for line in lines if re.search(rf'^HEALTHCHECK .* CMD \["health", "{port}", "/\S+"\]$', line)]
    found = [] if checks else ["nobody asks for its health"]
    if not any(re.match(r"COPY --chmod=755 \S+/health\.py /usr/local/bin/health$", line) for line in lines):
        found.append("it lacks the program that asks")
    return found if f"EXPOSE {port}" in lines else [*found, "it exposes no port"]


@pytest.mark.parametrize("environment", ["conda-poetry", "poetry"])
@pytest.mark.parametrize(("name", "port"), [("flask", 8000), ("streamlit", 8501), ("jupyterlab", 8888)])
def test_an_app_listens_and_is_asked_for_its_health(render, environment, name, port):
    """The negative control: what listens nowhere has none of it."""
    assert app(stages((render(environment=environment, app=name).path / "Dockerfile").read_text()), port) == []
    assert len(app(stages((render("script", environment=environment, app="script").path / "Dockerfile").read_text()), port)) == 3


def test_the_kernel_is_started_in_the_build_where_there_is_one(render):
    """With conda, where the activation is recorded; dev and what has no conda do it in `entry-points`."""
    for kernel in (True, False):
        of = stages((render(str(kernel), kernel=kernel).path / "Dockerfile").read_text())
        assert any(re.search(r"couplet\.sh kernel --project .* --out /activation$", line) for line in of["activation"]) == kernel
        assert "COPY --from=activation /activation/ /" in of["runtime"]
