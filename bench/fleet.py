"""A fleet of builders: what a second, empty builder takes with the first one's layers in a registry, and what travels.

    nox -s bench -- fleet [--rounds 3]     writes bench/results/fleet.json; needs root and package sources as the tests do

Two machines of one fleet are one second engine (tests/harness/builder.py), emptied in between. The registry is on this machine, so
that nothing travels far: on a network the builder that takes layers from it waits for them, and so does the one that takes packages.
Base images come from the registry too, and their way is part of a cold build, as on a new machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import urllib.request
from functools import partial
from pathlib import Path

from tests.harness import builder, network, registry, template
from tests.harness.project import Project
from tests.mirror import web

from .docker import docker, timed
from .measure import Taken

RESULTS = Path(__file__).parent / "results/fleet.json"
BASES = ("condaforge/miniforge3:26.3.2-3", "debian:bookworm-slim")
SYSTEM = "couplet"
MANIFESTS = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, " \
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json"  # fmt: skip


def measure(folder: Path, rounds: int, public: bool, say) -> Taken:
    """Measure a fleet of two builders on the default project, `rounds` times from nothing."""
    taken = Taken()
    project = Project(
        template.render(template.snapshot(folder / "template"), folder / "project", {"project_name": "Fleet"}), "fleet"
    )
    project.make("env-update")
    source = project.path / "src/fleet/analysis.py"
    (folder / "registry").mkdir()
    with registry.running(folder / "registry", public) as address, builder.running(folder / "builder") as engine:
        variables = {**os.environ, **engine.environment}
        if not public:
            variables["REGISTRY"] = address
            for base in BASES:
                docker("tag", base, f"{address}/{base}")
                docker("push", "--quiet", f"{address}/{base}")
                docker("image", "rm", f"{address}/{base}")

        def build(target: str, **more: str) -> float:
            return timed("make", target, "IMAGE=fleet", cwd=project.path, env={**variables, **more})

        for number in range(rounds):
            cache = f"{address}/cache:round{number}"
            engine.empty()
            taken.add("fleet_cold", SYSTEM, build("build"))
            taken.add("fleet_cold_both", SYSTEM, build("bake"))
            taken.add("fleet_write", SYSTEM, build("bake", CACHE=cache, CACHE_WRITE="yes"))
            _edit(source, 2 * number)
            taken.add("fleet_edit_first", SYSTEM, build("build"))
            _edit(source, 2 * number + 1)
            taken.add("fleet_edit_first", SYSTEM, build("build", CACHE=cache))
            engine.empty()
            taken.add("fleet_from_cache", SYSTEM, build("build", CACHE=cache))
            _edit(source, 2 * number + 2)
            taken.add("fleet_edit_second", SYSTEM, build("build", CACHE=cache))
            say(f"round {number + 1} of {rounds}")
        publish = {**variables, "TO": f"{address}/image", "TAGS": "1"}
        timed("make", "publish", "IMAGE=fleet", cwd=project.path, env=publish)
        for _ in range(rounds):
            # the lower bound of taking layers: the same image, ready-made, by an engine as empty
            engine.empty()
            taken.add("fleet_pull", SYSTEM, timed("docker", "pull", "--quiet", f"{address}/image:1", env=variables))
        layers = list(blobs(address, "image", "1").values())
        # the slim base is one layer, the real one and the stand-in
        taken.add("pull_base_bytes", SYSTEM, layers[0], "bytes")
        taken.add("pull_image_bytes", SYSTEM, sum(layers), "bytes")
        taken.add("pull_code_bytes", SYSTEM, layers[-1], "bytes")
        # what both caches hold is kept once
        last = f"round{rounds - 1}"
        both = blobs(address, "cache", last) | blobs(address, "cache", f"{last}-dev")
        taken.add("cache_bytes", SYSTEM, sum(both.values()), "bytes")
    return taken


def _edit(module: Path, number: int) -> None:
    """Edit one line of a module, as a person does between two builds."""
    text = module.read_text().partition("\nEDIT = ")[0].rstrip("\n")
    module.write_text(f"{text}\n\nEDIT = {number}\n")


def blobs(address: str, name: str, tag: str) -> dict[str, int]:
    """Digest -> compressed bytes of what a reference in a registry names, in order: an image's layers, or those of a layer cache."""
    request = urllib.request.Request(f"http://{address}/v2/{name}/manifests/{tag}", headers={"Accept": MANIFESTS})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        manifest = json.load(answer)
    if "layers" in manifest:
        return {layer["digest"]: layer["size"] for layer in manifest["layers"]}
    parts = manifest["manifests"]
    images = [part for part in parts if part.get("platform", {}).get("os") not in (None, "unknown")]
    # an index is either of images, one for each platform, or the list of a layer cache
    return blobs(address, name, images[0]["digest"]) if images else {part["digest"]: part["size"] for part in parts}


def main() -> int:
    """Measure and write."""
    from .__main__ import machine

    parser = argparse.ArgumentParser(
        prog="bench.fleet", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    network.add_option(parser)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    say = partial(print, flush=True)
    os.environ.update(template.isolated())
    with network.ready(options.network, say) as sources:
        if sources == "mirror":
            from tests.mirror import engine

            os.environ.update(web.environment(engine.find()))
        with tempfile.TemporaryDirectory() as folder:
            taken = measure(Path(folder), options.rounds, sources == "public", say)
        RESULTS.write_text(json.dumps({"machine": machine(), "workload": "default", "rows": taken.rows()}, indent=1) + "\n")
    for row in taken.rows():
        say(f"{row['measure']:<20} {row['median']:>14} {row['unit']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
