"""kustomize's image, of Debian's package, whose version is the real image's."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from . import cache, debian, images
from .cache import Progress
from .engine import Engine


def image(on: Engine, debian_key: str, progress: Progress) -> None:
    """Make the image; a note where the distribution has no kustomize."""

    def fill(context: Path) -> None:
        package = "kustomize"
        if debian.os_release().get("ID") == "debian" and debian.codename() != debian.NEWER:
            debian.add_newer(progress)
            package = f"kustomize/{debian.NEWER}"
        cache.run(["apt-get", "download", "-qq", package], cwd=context, error=debian.AptError)
        [archive] = context.glob("kustomize_*.deb")
        cache.run(["dpkg", "-x", str(archive), str(context / "package")])
        shutil.copy(context / "package/usr/bin/kustomize", context)

    try:
        with tempfile.TemporaryDirectory(dir=cache.root()) as scratch:
            images.build(on, images.KUSTOMIZE, "kustomize.Dockerfile", Path(scratch), [debian_key], progress, fill)
    except debian.AptError as error:
        progress(f"apt has no kustomize here: `make deploy-render` needs the real image ({error})")
