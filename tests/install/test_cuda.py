"""A lock for CUDA holds CUDA builds, as environment.yml asks for them."""

from __future__ import annotations

import re

import pytest

from couplet.formats.conda_lock import Package
from couplet.install import cuda


def lock(*names: str) -> list[Package]:
    return [Package(f"https://h/c/linux-64/{name}.conda", "0" * 32, "1" * 64) for name in names]


CUDA, CPU, VERSION = "pytorch-2.10.0-cuda129_py313_1", "pytorch-2.10.0-cpu_generic_py313_0", "cuda-version-12.9-0"
CASES = [
    (["pytorch=*=cuda*"], [CUDA, VERSION], ""),
    (["conda-forge::pytorch >=2", "numpy"], [CUDA, VERSION], ""),
    (["pytorch=*=cuda*"], [CPU, VERSION], "locked in the build cpu_generic_py313_0; environment.yml: pytorch="),
    (["pytorch"], [CPU, VERSION], "names no build: write pytorch=\\*=cuda\\*"),
    (["pytorch=*=cpu*"], [CPU, VERSION], ""),
    (["pytorch=*=cpu*"], [CPU], "no package uses CUDA"),
]


@pytest.mark.parametrize(("specs", "names", "message"), CASES)
def test_builds_are_what_environment_yml_asks_for(specs, names, message):
    wrong, right = cuda.problems(specs, lock(*names))
    assert bool(wrong) == bool(message) and re.search(message, "\n".join(wrong))
    assert right == (["pytorch 2.10.0 cuda129_py313_1"] if specs == ["pytorch=*=cuda*"] and not message else [])
