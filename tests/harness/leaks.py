"""Where could a secret be? Every layer of an image, its history, labels and environment; files; what the builder keeps."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.harness.container import docker

BLOCK = 1 << 22


@dataclass
class Search:
    """What was looked through, and what was found: a line each, without the secret itself."""

    layers: int = 0
    files: int = 0
    found: list[str] = field(default_factory=list)


def named(data: bytes, secrets: dict[str, str]) -> list[str]:
    """Return which of {what it is: secret} are in the data."""
    return [name for name, secret in secrets.items() if secret.encode() in data]


def in_files(paths: Iterable[Path], secrets: dict[str, str], search: Search | None = None) -> Search:
    """Look into files, whole."""
    search = search or Search()
    longest = max(len(secret) for secret in secrets.values())
    for path in paths:
        if not path.is_file() or path.is_symlink():
            continue
        search.files += 1
        with path.open("rb") as file:
            end = b""
            while block := file.read(BLOCK):
                search.found += [f"{path.name}: {name}" for name in named(end + block, secrets)]
                end = block[-longest:]
    return search


def in_image(image: str, secrets: dict[str, str]) -> Search:
    """Look into every layer of an image, also at what a later layer deletes, and into its configuration and history."""
    search = Search()
    with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saved:
        with tarfile.open(fileobj=saved.stdout, mode="r|") as archive:
            for member in archive:
                if member.isfile():
                    data = archive.extractfile(member).read()
                    if data[:2] == b"\x1f\x8b":  # another image store packs its layers
                        data = gzip.decompress(data)
                    _look(member.name, data, secrets, search)
        # to the end, or docker would find its pipe broken
        while saved.stdout.read(BLOCK):
            pass
    assert saved.returncode == 0 and search.layers, f"docker save {image} gave no layers"
    return search


def _look(name: str, data: bytes, secrets: dict[str, str], search: Search) -> None:
    layer = data[257:262] == b"ustar"
    search.layers += layer
    search.files += not layer
    hits = named(data, secrets)
    if hits and layer:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            where = [m.name for m in tar if m.isfile() and named(tar.extractfile(m).read(), secrets)]
        search.found.append(f"layer {name}: {', '.join(hits)} in {', '.join(where)}")
    elif hits:
        search.found.append(f"{name}: {', '.join(hits)}")


def in_builder(secrets: dict[str, str]) -> Search:
    """Look into what BuildKit keeps of builds: records with logs and provenance. Nothing where its folder is out of reach."""
    folder = Path(docker("info", "--format", "{{.DockerRootDir}}").stdout.strip(), "buildkit")
    try:
        paths = [folder / "history.db", *(folder / "content").rglob("*")]
        return in_files(paths, secrets)
    except PermissionError:
        return Search()
