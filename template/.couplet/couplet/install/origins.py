"""Where distributions came from, as conda's packages say it: nothing that the next reader should believe."""

from __future__ import annotations

import json
from pathlib import Path


def forget_sources(prefix: Path) -> None:
    """Delete the direct_url.json files that conda's packages carry.

    They say `installed from a folder on the build machine`, and it is for them that Poetry installs its own copy over
    conda's at the very same version (python-poetry/poetry#6408).
    """
    for file in prefix.glob("lib/python3.*/site-packages/*.dist-info/direct_url.json"):
        if json.loads(file.read_text()).get("url", "").startswith("file:"):
            file.unlink()
