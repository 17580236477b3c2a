"""``python -m tests.mirror up|status|down``: the closed network, from the root of the repository."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from . import cache, channel, cpython, debian, engine, images, kustomize, settings, standins, web, wheels

Errors = (engine.EngineError, debian.AptError, web.WebError, wheels.WheelError, RuntimeError)


def main() -> int:
    """Do what the command line asks; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.mirror", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="make everything ready; what is there already is left alone")
    commands.add_parser("status", help="say what there is")
    down = commands.add_parser("down", help="stop the web server and the private engine")
    down.add_argument("--purge", action="store_true", help="also delete the cache: packages, builds, the engine's images")
    chosen = parser.parse_args()
    try:
        if chosen.command == "up":
            up(progress=partial(print, flush=True))
        elif chosen.command == "status":
            status()
        else:
            stop(purge=chosen.purge)
    except Errors as error:
        print(f"tests.mirror: {error}", file=sys.stderr)
        return 1
    return 0


def up(progress: cache.Progress = print, *, keep: bool = True, minors: Iterable[str] = cpython.SUITES) -> None:
    """Engine, images, channel, web server, settings: each only when it is missing or its recipe changed.

    `minors` are the Pythons that are wanted; with all of them built already, all are had. With less than all, there is only what a
    project with the default answers is built on: no Saturn Cloud, whose base image has an old Python of its own, no image of Python's,
    no kustomize. With `keep`, a private engine goes on running after this process; without, it lives as long as the caller's session.
    """
    began = time.monotonic()
    if all(cpython.folder(minor).exists() for minor in cpython.SUITES):
        minors = cpython.SUITES
    whole = set(minors) == set(cpython.SUITES)
    on = engine.ensure(progress)
    if on.private and keep:
        engine.keep()
    with cache.lock("mirror", progress=progress):
        debian_key = images.debian_slim(on, progress)
        recipes = cache.HERE / "images"
        images.build(on, images.BUILD, "build.Dockerfile", recipes, debian_key, progress)
        images.build(on, images.WEB, "web.Dockerfile", recipes, [debian_key, (recipes / "nginx.conf").read_text()], progress)
        with ThreadPoolExecutor(1) as pool:
            wheels_fetched = pool.submit(partial(channel.fetch, progress, minors, old=whole))
            built = cpython.ensure(on, progress, [*minors, *(cpython.OLD if whole else ())])
            wheels_fetched.result()
        pythons = {minor: built[minor] for minor in minors}
        folder, pip_wheel = channel.ensure(on, pythons, progress)
        standins.miniforge(on, folder, debian_key, progress)
        if whole:
            for minor, build in pythons.items():
                standins.python(on, minor, build, pip_wheel, debian_key, progress)
            old = {minor: built[minor] for minor in cpython.OLD}
            standins.saturn(on, channel.old_root(on, old, progress), debian_key, progress)
            kustomize.image(on, debian_key, progress)
        alias = web.start(on, progress)
    file = settings.write(on, alias)
    progress(f"ready in {time.monotonic() - began:.1f} s: channel at {alias}/{channel.NAME}; . {file} for a shell that uses it")


def status() -> None:
    """Print what runs and what is there."""
    on = engine.find()
    rows = [("engine", "none runs" if on is None else f"{on.version} ({'private' if on.private else 'found'})")]
    if on:
        data = engine.docker(on, "info", "--format", "{{.DockerRootDir}}").strip()
        rows += [("socket", on.host or "the client's default"), ("data folder", data)]
        names = [
            images.DEBIAN,
            images.MINIFORGE,
            images.SATURN,
            images.KUSTOMIZE,
            *map(images.python_image, cpython.SUITES),
            images.BUILD,
            images.WEB,
        ]
        rows += [(f"image {name}", images.describe(on, name)) for name in names]
        rows.append(("channel alias", web.alias(on)))
        rows.append(("web server", "answers" if web.answers(web.alias(on)) else "does not answer"))
    rows += [(f"packages in {subdir}", str(count)) for subdir, count in channel.counts().items()]
    rows.append(("cache", f"{cache.root()} ({_size()})"))
    rows.append(("settings", str(settings.FILE) if settings.FILE.exists() else "none: run python -m tests.mirror up"))
    width = max(len(name) for name, _ in rows)
    print("\n".join(f"{name:<{width}}  {value}" for name, value in rows))


def stop(*, purge: bool) -> None:
    """Stop what ``up`` started."""
    on = engine.find()
    if on and images.state(on, images.WEB) != "missing":
        web.stop(on)
    engine.stop()
    if purge:
        shutil.rmtree(cache.root())


def _size() -> str:
    shown = subprocess.run(["du", "-sxh", cache.root()], capture_output=True, text=True, check=False).stdout
    return shown.split("\t")[0]


if __name__ == "__main__":
    sys.exit(main())
