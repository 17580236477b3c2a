"""Calls of docker and of the clock, for the benchmark."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

BASES = ("condaforge/miniforge3:26.3.2-3", "debian:bookworm-slim", "python:3.13-slim-bookworm")


def run(*words: str, **options) -> str:
    """Run a command and return what it prints. Raises RuntimeError, with the end of its output, when it fails."""
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)[:200]} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return done.stdout


def docker(*words: str, **options) -> str:
    """Run docker and return what it prints."""
    return run("docker", *words, **options)


def timed(*words: str, **options) -> float:
    """Run a command and return the seconds that it took."""
    began = time.perf_counter()
    run(*words, **options)
    return time.perf_counter() - began


def secrets() -> list[str]:
    """Return the options that give a build this machine's index and certificates."""
    given = {"pip_conf": os.environ.get("PIP_CONFIG_FILE"), "ca": os.environ.get("SSL_CERT_FILE")}
    words = [word for name, file in given.items() if file for word in ("--secret", f"id={name},src={file}")]
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"):
        if os.environ.get(name):
            words += ["--build-arg", name]
    return words


def salted(name: str) -> str:
    """Make base images that no build has seen, one small layer more each: a build on them finds no cache.

    Returns the prefix for the build argument REGISTRY.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "salt").write_text(name)
        for base in BASES:
            Path(folder, "Dockerfile").write_text(f"FROM {base}\nCOPY salt /etc/salt\n")
            docker("buildx", "build", "--quiet", "--tag", f"couplet-{name}/{base}", folder)
    return f"couplet-{name}/"


def image_bytes(image: str) -> int:
    """Return the size of an image, all layers."""
    return int(docker("image", "inspect", "--format", "{{.Size}}", image))


def cache_records() -> set[str]:
    """Return the ids of the engine's build cache."""
    shown = docker("buildx", "du", "--verbose")
    return {line.split()[1] for line in shown.splitlines() if line.startswith("ID:")}


def unnamed() -> set[str]:
    """Return the ids of images whose name a later build took."""
    return set(docker("image", "ls", "--quiet", "--no-trunc", "--filter", "dangling=true").split())


def held() -> set[str]:
    """Return the ids of what an engine holds that has no name: the build cache, and images that lost theirs."""
    return cache_records() | unnamed()


def forget(images: list[str], before: set[str]) -> None:
    """Delete images, and of what has no name all that was not `held` before."""
    subprocess.run(["docker", "image", "rm", "--force", *images, *(unnamed() - before)], capture_output=True)
    for _ in range(4):  # a record goes when nothing hangs on it any more
        new = cache_records() - before
        for record in new:
            subprocess.run(["docker", "builder", "prune", "--force", "--all", "--filter", f"id={record}"], capture_output=True)
        if not new:
            break


def engine() -> dict[str, str]:
    """Return the versions of engine and builder."""
    versions = json.loads(docker("version", "--format", "{{json .}}"))
    return {
        "engine": versions["Server"]["Version"],
        "client": versions["Client"]["Version"],
        "buildx": docker("buildx", "version").split()[1],
    }
