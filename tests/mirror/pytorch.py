"""A stand-in for conda-forge's pytorch, which has a CPU and a CUDA build of each version: what decides between the two.

The real one is more than a gigabyte with the libraries that it needs, and not on PyPI in this form. Here are its names, versions,
build strings, build numbers and what is for the solver in its dependencies and constraints; of the module `torch` only what says
which build it is. It computes nothing.
"""

from __future__ import annotations

from pathlib import Path

from .package import Package

VERSION = "2.10.0"
"""A version that PyPI has as well: Poetry is held to it."""

CUDA = "12.9"
CUDA_PLATFORMS = ("linux-64", "linux-aarch64")

NEEDS = [
    "filelock",
    "fsspec",
    "jinja2",
    "networkx",
    "numpy >=1.23,<3",
    "setuptools",
    "sympy >=1.13.3",
    "typing_extensions >=4.10.0",
]

METADATA = f"""Metadata-Version: 2.1
Name: torch
Version: {VERSION}
Summary: a stand-in for PyTorch, made by couplet's test mirror; it computes nothing
Requires-Python: >=3.10
Requires-Dist: filelock
Requires-Dist: typing-extensions>=4.10.0
Requires-Dist: setuptools; python_version >= "3.12"
Requires-Dist: sympy>=1.13.3
Requires-Dist: networkx>=2.5.1
Requires-Dist: jinja2
Requires-Dist: fsspec>=0.8.5
"""
"""As conda-forge's build says, which does not name PyPI's packages of CUDA libraries."""

INIT = """from . import cuda, version
from .version import __version__


class Tensor:
    \"\"\"Nothing is one: scipy asks of each array, once torch is imported.\"\"\"

    def __init__(self):
        raise RuntimeError("this torch is a stand-in: see tests/mirror/README.md")
"""

CUDA_MODULE = """import ctypes

from .version import cuda as _built_for


def is_available():
    \"\"\"Whether this is a CUDA build and the machine has NVIDIA's driver.\"\"\"
    try:
        return _built_for is not None and bool(ctypes.CDLL("libcuda.so.1"))
    except OSError:
        return False
"""


def packages(pythons: dict[str, list[str]]) -> list[Package]:
    """The builds for each platform and its Pythons: a CPU one, a CUDA one where there is CUDA, and `cuda-version`."""
    major = int(CUDA.partition(".")[0])
    found = [
        Package(
            "cuda-version",
            CUDA,
            "{hash}_4",
            [],
            noarch="generic",
            build_number=4,
            constrains=[f"cudatoolkit {CUDA}|{CUDA}.*", f"__cuda >={major}"],
            summary="pins the release of CUDA",
        )
    ]
    for platform, minors in pythons.items():
        for minor in minors:
            first, _, number = minor.partition(".")
            build = f"generic_py{first}{number}_{{hash}}"
            needs = [*NEEDS, f"python >={minor},<{first}.{int(number) + 1}.0a0"]
            gone = [f"pytorch-cpu {VERSION}", "pytorch-gpu <0.0a0"]
            found.append(_torch(f"cpu_{build}_0", needs, platform, 0, gone))
            if platform in CUDA_PLATFORMS:
                needs = ["__cuda", f"cuda-version >={CUDA},<{major + 1}", *needs]
                gone = ["pytorch-cpu <0.0a0", f"pytorch-gpu {VERSION}"]
                found.append(_torch(f"cuda{CUDA.replace('.', '')}_{build}_200", needs, platform, 200, gone))
    return found


def _torch(build: str, depends: list[str], platform: str, number: int, constrains: list[str]) -> Package:
    summary = METADATA.splitlines()[3].removeprefix("Summary: ")
    return Package(
        "pytorch", VERSION, build, depends, subdir=platform, build_number=number, constrains=constrains, summary=summary
    )


def stage(package: Package, folder: Path) -> None:
    """Lay out one of `packages`."""
    if package.name == "cuda-version":
        (folder / "share/cuda-version").mkdir(parents=True)
        (folder / "share/cuda-version/README").write_text(f"CUDA {package.version}\n")
        return
    python = next(need for need in package.depends if need.startswith("python ")).split(">=")[1].split(",")[0]
    site = folder / f"lib/python{python}/site-packages"
    files = {
        "torch/__init__.py": INIT,
        "torch/version.py": f"__version__ = {VERSION!r}\ncuda = {CUDA if 'cuda' in package.build else None!r}\n",
        "torch/cuda.py": CUDA_MODULE,
        f"torch-{VERSION}.dist-info/METADATA": METADATA,
        f"torch-{VERSION}.dist-info/INSTALLER": "conda\n",
        f"torch-{VERSION}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: couplet\nRoot-Is-Purelib: false\nTag: py3-none-any\n",
        f"torch-{VERSION}.dist-info/direct_url.json": '{"dir_info": {}, "url": "file:///home/conda/feedstock_root/build_artifacts/pytorch/work"}',
    }
    record = f"torch-{VERSION}.dist-info/RECORD"
    files[record] = "".join(f"{name},,\n" for name in [*files, record])
    for name, text in files.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
