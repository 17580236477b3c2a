"""How the benchmark reads the steps of a build: what ran and when, by the builder's clock, and not what came from the cache."""

from __future__ import annotations

import json

from bench.steps import Step, label, steps

RUN = (
    "[conda-env 2/2] RUN --mount=type=bind,from=couplet,target=/couplet     --mount=type=cache,id=conda-packages,target=/var/cache/conda"
    '     /couplet/couplet.sh install-conda --locks /opt/locks --prefix "$ENV_PREFIX"'
)


def line(**vertex) -> str:
    return json.dumps({"vertexes": [{"digest": vertex["name"], **vertex}]})


def test_a_step_is_read_from_the_end_of_its_output() -> None:
    lines = [
        "what a script said",
        line(name=RUN, started="2026-01-01T00:00:02.5Z"),
        line(name="[env 1/2] COPY a b", started="2026-01-01T00:00:01.000000001Z", completed="2026-01-01T00:00:01.25Z"),
        line(
            name="[internal] load build definition",
            started="2026-01-01T00:00:01Z",
            completed="2026-01-01T00:00:01.1Z",
            cached=True,
        ),
        line(name="[runtime 9/9] RUN never", inputs=[]),
        line(name=RUN, started="2026-01-01T00:00:02.5Z", completed="2026-01-01T00:00:10.123456789Z"),
        json.dumps({"statuses": [{"id": "exporting layers"}]}),
    ]
    assert steps(lines) == [Step("env: COPY a b", 0.0, 0.25), Step("conda-env: install-conda", 1.5, 9.123456)]


def test_a_step_is_called_by_its_stage_and_its_verb() -> None:
    assert label(RUN) == "conda-env: install-conda"
    assert label("[poetry-packages 1/3] COPY --link --chmod=644 pyproject.toml /x/") == "poetry-packages: COPY pyproject.toml /x/"
    kernel = (
        "[activation 1/1] RUN --mount=type=tmpfs,target=/tmp couplet=/project/.couplet/couplet.sh;"
        '     $couplet activation --out /activation;     PYTHON="$ENV_PREFIX/bin/python" $couplet kernel --out /activation'
    )
    assert label(kernel) == "activation: activation, kernel"
    assert (
        label("[tools 1/1] RUN --mount=type=cache,target=/root     /usr/bin/env pip --version") == "tools: RUN env pip --version"
    )
    assert label("[internal] load .dockerignore") == "internal: load .dockerignore"
    assert label("exporting to image") == "exporting to image"
