"""A machine of a cluster: Charliecloud and runc, no Docker, and a user whom no image knows (decision 104)."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.harness import scratch
from tests.harness.project import Done, Project
from tests.mirror import cache, debian

PACKAGES = {"ch-run": "charliecloud-runtime", "unsquashfs": "squashfs-tools", "runc": "runc"}
"""Program -> Debian's package."""
USER = 4242
BECOME = f"""
mount -t tmpfs tmpfs /mnt && mknod -m 666 /mnt/fuse c 10 229 && mount --bind /mnt/fuse /dev/fuse && umount -l /mnt
exec setpriv --reuid={USER} --regid={USER} --clear-groups "$@"
"""
"""How root becomes a user who may open /dev/fuse, as users may on a cluster: this shell has a mount namespace of its own."""
PATH = "/usr/local/bin:/usr/bin:/bin"


def ensure() -> None:
    """Have the programs; on Debian, as root, those that are missing are installed. Raises RuntimeError, which says which."""
    missing = [package for program, package in PACKAGES.items() if not shutil.which(program)]
    if missing and debian.is_debian_like() and os.geteuid() == 0:
        with cache.lock("apt"):
            debian.install(missing, print)
    elif missing:
        raise RuntimeError(f"The tests of `make hpc` need {' '.join(missing)} (Debian's names) on this machine.")


@dataclass(frozen=True)
class Node:
    """A flat image on that machine, and a home and a folder to work in."""

    project: Project
    place: Path

    @property
    def file(self) -> Path:
        """The image."""
        return self.place / "image.sqfs"

    @property
    def home(self) -> Path:
        """The user's home."""
        return self.place / "home"

    @property
    def work(self) -> Path:
        """The folder to work in."""
        return self.place / "work"

    @cached_property
    def folder(self) -> Path:
        """The image, unpacked."""
        folder = self.work / "bundle/rootfs"
        script = 'mkdir "$0" && unsquashfs -quiet -no-progress -dest "$0/rootfs" "$1"'
        done = self.run("sh", "-c", script, str(folder.parent), str(self.file))
        assert done.code == 0, done.output
        return folder

    def command(self, *words: str, variables: dict[str, str] | None = None) -> dict:
        """Return how subprocess runs a command of that user's."""
        become = ["unshare", "--mount", "sh", "-euc", BECOME, "become"] if os.geteuid() == 0 else []
        known = {"PATH": PATH, "HOME": str(self.home), "USER": "somebody", **(variables or {})}
        return {"args": [*become, *words], "env": known, "cwd": self.work, "stdin": subprocess.DEVNULL, "text": True}

    def run(self, *words: str, variables: dict[str, str] | None = None) -> Done:
        """Run a command as that user."""
        done = subprocess.run(**self.command(*words, variables=variables), capture_output=True, timeout=300)
        return Done(done.returncode, done.stdout + done.stderr, done.stdout)

    def line(self, runtime: str) -> list[str]:
        """Return the words of the line in build/hpc/README.md that runs the image by a program, without the image's command."""
        text = (self.project.path / "build/hpc/README.md").read_text()
        line = next(line for line in text.splitlines() if line.startswith(f"    {runtime} "))
        words = shlex.split(line.replace("$PWD", str(self.work)))
        file = next(number for number, word in enumerate(words) if word.endswith(".sqfs"))
        return [*words[:file], str(self.file), *(["--"] if words[file + 1] == "--" else [])]


@contextmanager
def node(project: Project) -> Iterator[Node]:
    """The machine, for a project whose `make hpc` has run."""
    ensure()
    with scratch.on_disk() as place:
        place.chmod(0o755)
        made = Node(project, place)
        shutil.copyfile(next((project.path / "build/hpc").glob("*.sqfs")), made.file)
        for folder in (made.home, made.work):
            folder.mkdir()
            if os.geteuid() == 0:
                os.chown(folder, USER, USER)
        yield made
