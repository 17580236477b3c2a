"""Make the project's environment inside of a base image of Saturn Cloud's: what postBuild runs there.

The platform's image builder starts from an image in which the user jovyan may use sudo, conda's root is
/opt/saturncloud and an environment `saturn` waits to be filled; it runs one script, and cannot set ENV. The
work is done by the helpers of the Dockerfile, so the promises are the same ones: conda has the last word,
everything comes by hash from the two locks, and docker/verify.py has to agree at the end.

Run a second time it finds the environment as it should be and changes nothing there.
This file runs with the Python of conda's root, which may be as old as 3.9.
"""

import argparse
import ast
import getpass
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import guard
from conda_packages import SUBDIRS, channel_map, hashes_of, mapped_url, read_lock
from errors import BuildError, run
from install_conda import forget_sources

HERE = Path(__file__).resolve().parent
ROOT = "/opt/saturncloud"
NAME = "saturn"
PREFIX = f"{ROOT}/envs/{NAME}"
POETRY_HOME = "/opt/poetry"
APP = "/opt/app"
START = f"{POETRY_HOME}/start.sh"


def call(*command, **more):
    """Run a helper; where it fails it has said why, and this ends too."""
    done = subprocess.run([str(word) for word in command], **more)
    if done.returncode:
        raise BuildError(f"{Path(str(command[1])).name} failed (exit code {done.returncode}; see above).")
    return done


def check_platform():
    """Raise BuildError where this is no image of the platform's, or not one that can be filled."""
    if not Path(ROOT, "bin/python").exists():
        raise BuildError(
            f"there is no conda in {ROOT}: this is no base image of Saturn Cloud's, and postBuild is for its image builder.\n"
            "On your own machine: make saturn-image"
        )
    if not Path(PREFIX, "conda-meta").is_dir():
        raise BuildError(
            f"there is no conda environment `{NAME}` in {ROOT}/envs. Choose a base image that has one (saturnbase-python),\n"
            f"or put before postBuild: conda create --yes --name {NAME}"
        )
    for folder in (PREFIX, str(Path(PREFIX).parent)):
        if not os.access(folder, os.W_OK):
            raise BuildError(
                f"{getpass.getuser()} may not write in {folder}. Put before postBuild: "
                f"sudo chown -R {getpass.getuser()} {ROOT}/envs"
            )


def check_locks(project):
    """Raise BuildError where the locks do not fit environment.yml and pyproject.toml."""
    done = subprocess.run(
        ["sh", str(HERE.parent / "scripts/lock-state.sh"), "check", str(project)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise BuildError(
            f"{done.stderr.strip()}\nThat needs Docker: do it on your machine, and commit the lock files."
        )


def own_folder(path):
    """Make a folder that belongs to this user, with sudo where it takes that."""
    if os.access(path, os.W_OK):
        return
    if not Path(path).exists() and os.access(Path(path).parent, os.W_OK):
        Path(path).mkdir(mode=0o755)
        return
    owner = ["-o", str(os.getuid()), "-g", str(os.getgid())]
    try:
        done = subprocess.run(
            ["sudo", "-n", "install", "-d", "-m", "755", *owner, path], capture_output=True, text=True
        )
        reason = done.stderr.strip() if done.returncode else ""
    except FileNotFoundError:
        reason = "there is no sudo"
    if reason:
        raise BuildError(
            f"{path} cannot be made: {reason}.\nOn the platform {getpass.getuser()} may use sudo without a password; "
            f"an image of your own needs that, or {path} made beforehand: install -d -o {getpass.getuser()} {path}"
        )


def pip_settings():
    """Return {key: value} of what pip's files in this image say under [global], the machine's, the user's and the environment's."""
    # `pip config get` reads the user's alone; of a key in two files the list has two lines, the one that counts last
    command = [f"{ROOT}/bin/python", "-m", "pip", "config", "list"]
    shown = subprocess.run(command, capture_output=True, text=True).stdout
    found = re.findall(r"^global\.([\w-]+)=(['\"].*)$", shown, re.M)
    return {key: ast.literal_eval(value).strip() for key, value in found}


def default_index():
    """Return the address of the index that pip asks where it is told of none, '' where it does not say."""
    code = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
    return subprocess.run([f"{ROOT}/bin/python", "-IBc", code], capture_output=True, text=True).stdout.strip()


def network():
    """Return the variables that tell uv, Poetry and conda what pip's and conda's settings in this image say."""
    pip = pip_settings()
    # pip waits 15 seconds for a word, uv 30; a mirror that fetches what it is asked for may need more
    wait = os.environ.get("PIP_DEFAULT_TIMEOUT") or pip.get("timeout") or "120"
    wait = wait.partition(".")[0]
    found = dict.fromkeys(("PIP_DEFAULT_TIMEOUT", "UV_HTTP_TIMEOUT", "POETRY_REQUESTS_TIMEOUT"), wait)
    index, extra = os.environ.get("PIP_INDEX_URL") or pip.get("index-url"), pip.get("extra-index-url")
    if index:
        found |= {"UV_DEFAULT_INDEX": index, "POETRY_PYPI_MIRROR_URL": index}
    if extra:
        # the main one first, as docker/network.sh has it, and says why
        found["UV_INDEX"] = " ".join([index or default_index(), *extra.split()]).strip()
        found["UV_INDEX_STRATEGY"] = "unsafe-first-match"
    ca = next(
        filter(None, map(os.environ.get, ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT"))),
        pip.get("cert"),
    )
    if ca:
        keys = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "CONDA_SSL_VERIFY")
        found |= dict.fromkeys(keys, ca)
    # The helpers get a home of their own: the platform mounts a disk over this one.
    for key, name in (("CONDARC", ".condarc"), ("NETRC", ".netrc")):
        if key not in os.environ and Path.home().joinpath(name).is_file():
            found[key] = str(Path.home() / name)
    return found


def install_tools(tools):
    """Fetch uv and poetry-core by hash, for this build alone."""
    command = [f"{ROOT}/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, "--require-hashes", "--no-deps", "--no-cache-dir", f"--target={tools}", "-r", str(HERE / "tools.txt")]
    )  # fmt: skip
    if done.returncode:
        raise BuildError(
            "uv could not be fetched (docker/tools.txt; see above): is the Python index, or your mirror in pip.conf, in reach?"
        )


def verified(project, tools, distribution, *, quiet):
    """Return whether the environment is what the locks say; needs the Python of Poetry's environment."""
    python = Path(POETRY_HOME, "venv/bin/python")
    if not python.exists():
        return False
    command = [python, HERE / "verify.py", "--locks", project, "--groups", "main", "--prefix", PREFIX,
               "--uv", f"{tools}/bin/uv", "--besides", distribution]  # fmt: skip
    return subprocess.run([str(word) for word in command], capture_output=quiet).returncode == 0


def install_conda_packages(project, scratch):
    """Fill the environment from conda's lock. What it held before goes, and is named."""
    before = sorted(file.stem for file in Path(PREFIX, "conda-meta").glob("*.json"))
    if before:
        print(
            f"conda: {NAME} is made anew from the lock; it held {len(before)} packages: {', '.join(before)}",
            flush=True,
        )
    packages = read_lock(project / f"conda-{SUBDIRS[platform.machine()]}.lock")
    mapping, cache, explicit = channel_map(), scratch / "pkgs", scratch / "explicit.txt"
    lines = [f"{mapped_url(package.url, mapping)}#{package.md5}\n" for package in packages]
    explicit.write_text("@EXPLICIT\n" + "".join(lines))
    # The platform's own conda, however old: what links packages in the image (rattler) wants a newer Python.
    settings = {"CONDA_PKGS_DIRS": str(cache), "CONDA_ALWAYS_COPY": "true", "CONDA_REGISTER_ENVS": "false"}
    call(f"{ROOT}/bin/conda", "create", "--yes", "--quiet", "--prefix", PREFIX, "--file", explicit, env={**os.environ, **settings})  # fmt: skip
    for package in packages:
        if hashes_of(cache / package.file_name) != (package.md5, package.sha256):
            raise BuildError(
                f"{package.file_name} has other hashes than conda's lock says: the download or the lock was tampered with."
            )
    forget_sources(PREFIX)


def install_poetry(tools):
    """Put Poetry, by hash, into POETRY_HOME, with bin/poetry alone for PATH: a python in there would hide the environment's."""
    version = next(Path(PREFIX, "conda-meta").glob("python-3*.json")).stem
    stamp = hashlib.sha256((HERE / "poetry.txt").read_bytes() + version.encode()).hexdigest()
    made_of = Path(POETRY_HOME, "made-of")
    if made_of.exists() and made_of.read_text() == stamp:
        return
    venv = Path(POETRY_HOME, "venv")
    shutil.rmtree(venv, ignore_errors=True)
    print("Poetry: into " + POETRY_HOME, flush=True)
    call(f"{tools}/bin/uv", "venv", "--quiet", "--no-cache", "--python", f"{PREFIX}/bin/python", venv)
    call(f"{tools}/bin/uv", "pip", "install", "--quiet", "--no-cache", "--require-hashes", "--compile-bytecode",
         "--python", venv, "-r", HERE / "poetry.txt")  # fmt: skip
    guard.guard_poetry(venv)
    program = Path(POETRY_HOME, "bin/poetry")
    program.parent.mkdir(exist_ok=True)
    program.unlink(missing_ok=True)
    program.symlink_to("../venv/bin/poetry")
    Path(POETRY_HOME, "cache").mkdir(exist_ok=True)
    made_of.write_text(stamp)


def install_project(project, tools, package):
    """Install the project itself, its code in APP."""
    if project != Path(APP):
        locks = [path.name for path in project.glob("conda-linux-*.lock")]
        for name in ("pyproject.toml", "README.md", "poetry.lock", *locks):
            shutil.copyfile(project / name, Path(APP, name))
        shutil.rmtree(Path(APP, "src"), ignore_errors=True)
        shutil.copytree(project / "src", Path(APP, "src"), ignore=shutil.ignore_patterns("__pycache__"))
    call(f"{POETRY_HOME}/venv/bin/python", HERE / "install_project.py", "--project", APP, "--package", package,
         "--prefix", PREFIX, "--tools", tools, "--out", "")  # fmt: skip


def write_start_lines(activation):
    """Write what a resource has to source, since the builder keeps no ENV: the activation, and where Poetry is."""
    lines = [
        f"export POETRY_HOME={POETRY_HOME}",
        f'export PATH={POETRY_HOME}/bin:"$PATH"',
        f"export POETRY_CACHE_DIR={POETRY_HOME}/cache",
        "export POETRY_VIRTUALENVS_CREATE=false",
    ]
    Path(START).write_text((activation / "static.sh").read_text() + "\n".join(lines) + "\n")
    # What Poetry makes of it: the environment, or one of its own?
    command = f". {shlex.quote(START)} && cd {shlex.quote(APP)} && poetry env info --path"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    if done.stdout.strip() != PREFIX:
        raise BuildError(
            f"{START}: Poetry takes {done.stdout.strip() or 'no environment'} for the project's, not {PREFIX}.\n{done.stderr}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--project", type=Path, default=HERE.parent, help="folder of pyproject.toml and locks"
    )
    parser.add_argument("--package", required=True)
    parser.add_argument("--packed", action="store_true", help="the locks were checked when `make saturn` ran")
    options = parser.parse_args()
    project = options.project.resolve()

    check_platform()
    if not options.packed:
        check_locks(project)
    name = re.search(r'^name *= *"([^"]+)"', (project / "pyproject.toml").read_text(), re.M)
    if not name:
        raise BuildError("pyproject.toml: [project] has no name.")
    own_folder(POETRY_HOME)
    own_folder(APP)
    os.environ.update(network())
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        os.environ.update(
            HOME=folder, TMPDIR=folder, PYTHONDONTWRITEBYTECODE="1", UV_LINK_MODE="copy", UV_PYTHON_DOWNLOADS="never"
        )  # fmt: skip
        for leaked in ("CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
            os.environ.pop(leaked, None)
        tools = scratch / "tools"
        install_tools(tools)
        if verified(project, tools, name.group(1), quiet=True):
            print(f"{PREFIX} is what the locks say already", flush=True)
            install_poetry(tools)
        else:
            install_conda_packages(project, scratch)
            install_poetry(tools)
            call(f"{POETRY_HOME}/venv/bin/python", HERE / "install_poetry.py", "--lock", project / "poetry.lock",
                 "--groups", "main", "--prefix", PREFIX, "--uv", tools / "bin/uv")  # fmt: skip
            if not verified(project, tools, name.group(1), quiet=False):
                raise BuildError(f"{PREFIX} is not what the locks say: see above.")
        call(f"{ROOT}/bin/python", HERE / "record_activation.py", "--prefix", PREFIX, "--name", NAME,
             "--conda", ROOT, "--out", scratch)  # fmt: skip
        install_project(project, tools, options.package)
        activation = scratch / "opt/activation"
        if (HERE / "kernel.json").exists():
            call(f"{PREFIX}/bin/python", HERE / "register_kernel.py", "--kernel", HERE / "kernel.json",
                 "--variables", activation / "variables.json", "--environment", PREFIX)  # fmt: skip
        write_start_lines(activation)
    print(
        f"\nDone. The image builder keeps no variables: put this line into the start script of each resource\n\n    . {START}\n\n"
        f"which does:\n\n{Path(START).read_text()}\n"
        f"A checkout of the repository in a resource comes before the code in {APP} with: export PYTHONPATH=CHECKOUT/src",
        flush=True,
    )


if __name__ == "__main__":
    run(main)
