"""Make the project's environment inside of a base image of Saturn Cloud's: what postBuild starts there.

The platform's image builder starts from an image in which the user jovyan may use sudo, conda's root is /opt/saturncloud
and an environment `saturn` waits to be filled; it runs one script. Conda's packages come by hash from conda's lock, the
rest is done by build.py, with the Python that they bring. Run a second time this finds the environment as the locks say
and changes nothing there.

Runs with the Python of conda's root, which may be as old as 3.9 and its conda as old as 4.13: the standard library only,
and what needs conda is couplet.install.fetch.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import couplet
from couplet import network
from couplet.errors import UserError, run
from couplet.formats import conda_lock, platforms
from couplet.install.origins import write_history, write_variables
from couplet.saturn import APP, NAME, POETRY, PREFIX, ROOT

PACKAGE = Path(couplet.__file__).parents[1]
PYTHON = ROOT / "bin/python"


def check_base() -> None:
    """Raise UserError where this is no image of the platform's, or not one that can be filled."""
    if not PYTHON.exists():
        raise UserError(
            f"there is no conda in {ROOT}: this is not a base image of Saturn Cloud's, and postBuild is for its image "
            "builder.\nOn your own machine: make saturn-image"
        )
    if not (PREFIX / "conda-meta").is_dir():
        raise UserError(
            f"there is no conda environment `{NAME}` in {ROOT}/envs. Choose a base image that has one (saturnbase-python),\n"
            f"or put before postBuild: conda create --yes --name {NAME}"
        )
    for folder in (PREFIX, PREFIX.parent):
        if not os.access(folder, os.W_OK):
            raise UserError(
                f"{getpass.getuser()} may not write in {folder}. Put before postBuild: "
                f"sudo chown -R {getpass.getuser()} {ROOT}/envs"
            )


def own_folder(path: Path) -> None:
    """Make a folder that belongs to this user, with sudo where it takes that. Raises UserError where it cannot be made."""
    if os.access(path, os.W_OK):
        return
    if not path.exists() and os.access(path.parent, os.W_OK):
        path.mkdir(mode=0o755)
        return
    owner = ["-o", str(os.getuid()), "-g", str(os.getgid())]
    command = ["sudo", "-n", "install", "-d", "-m", "755", *owner, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
        reason = done.stderr.strip() if done.returncode else ""
    except FileNotFoundError:
        reason = "there is no sudo"
    if reason:
        raise UserError(
            f"{path} cannot be made: {reason}.\nOn the platform {getpass.getuser()} may use sudo without a password; an image "
            f"of your own needs that, or {path} made beforehand: install -d -o {getpass.getuser()} {path}"
        )


def pip_settings() -> dict[str, str]:
    """Return {key: value} of pip's files in this image: of a key in two of them the one that takes precedence."""
    # pip lists settings by the files' names, or the user's alone: so it is asked for the files
    shown = subprocess.run([str(PYTHON), "-m", "pip", "config", "list", "-v"], capture_output=True, text=True).stdout
    found: dict[str, str] = {}
    for kind in ("global", "user", "site", "env"):
        for name in re.findall(rf"^For variant '{kind}', will try loading '(.+)'$", shown, re.M):
            found.update(network.pip_settings(Path(name)) if os.path.isfile(name) else {})
    return found


def settings() -> dict[str, str]:
    """Return the variables that tell uv, Poetry and conda what pip's and conda's settings in this image say."""
    pip = pip_settings()
    for key, variable in (("index-url", "PIP_INDEX_URL"), ("timeout", "PIP_DEFAULT_TIMEOUT")):
        if variable in os.environ:
            pip[key] = os.environ[variable]
    found = network.index_variables(pip)
    named = filter(None, map(os.environ.get, ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT")))
    if ca := next(named, pip.get("cert")):
        found.update(dict.fromkeys(network.CERTIFICATES, ca))
    # What is started here gets a home of its own: the platform mounts a disk over this one.
    for variable, name in (("CONDARC", ".condarc"), ("NETRC", ".netrc")):
        if variable not in os.environ and Path.home().joinpath(name).is_file():
            found[variable] = str(Path.home() / name)
    return found


def pin(name: str, pins: Path) -> str:
    """Return the lines of one project from a file of pins: its version and its hashes."""
    found = re.search(rf"^{re.escape(name)}==(?:.*\\\n)*.*", pins.read_text(), re.M)
    if not found:
        raise UserError(f"{pins.name} has no {name}. Take it from git again: git checkout HEAD -- .couplet")
    return found[0] + "\n"


def install_uv(folder: Path) -> Path:
    """Fetch uv by hash, with the root's pip, which may be old and knows nothing else of ours; return the program."""
    pins = folder / "uv.txt"
    pins.write_text(pin("uv", PACKAGE / "pins/tools.txt"))
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    command += ["--require-hashes", "--no-deps", "--only-binary=:all:", f"--target={folder / 'uv'}", "-r", str(pins)]
    if subprocess.run(command).returncode:
        raise UserError(
            "uv could not be fetched (tools.txt; see above): is the Python index, or your mirror in pip.conf, reachable?"
        )
    return folder / "uv/bin/uv"


def install_tools(uv: Path, folder: Path) -> None:
    """Fetch what build.py imports, by hash, for the environment's Python."""
    command = [str(uv), "pip", "install", "--quiet", "--no-cache", "--require-hashes", "--no-deps"]
    command += ["--python", f"{PREFIX}/bin/python", "--target", str(folder), "-r", str(PACKAGE / "pins/tools.txt")]
    if subprocess.run(command).returncode:
        raise UserError("the tools in tools.txt could not be fetched (see above): is the Python index reachable?")


def environment_python(tools: Path, *words: str, quiet: bool = False) -> int:
    """Run a verb of the package with the environment's Python, which sees the tools and none of its own packages."""
    command = [f"{PREFIX}/bin/python", "-B", "-S", "-s", "-m", "couplet", *words]
    variables = {**os.environ, "PYTHONPATH": f"{PACKAGE}:{tools}"}
    return subprocess.run(command, env=variables, capture_output=quiet).returncode


def recorded() -> list[str]:
    """Return which packages conda has recorded in the environment, as name-version-build."""
    return sorted(file.stem for file in (PREFIX / "conda-meta").glob("*.json"))


def fetch(lock: Path, folder: Path) -> None:
    """Fetch the packages of a lock into a folder and check their hashes. Raises UserError."""
    command = [str(PYTHON), "-B", "-m", "couplet.install.fetch", "fetch", str(lock)]
    variables = {**os.environ, "PYTHONPATH": str(PACKAGE), "COUPLET_CONDA_CACHE": str(folder)}
    done = subprocess.run(command, env=variables, stderr=subprocess.PIPE, text=True)
    said, _, error = done.stderr.partition("\nERROR: ")
    if done.returncode:
        raise UserError(error.strip() or f"conda's packages could not be fetched (exit code {done.returncode}):\n{said}")
    print(said, end="", file=sys.stderr, flush=True)


def create(lock: Path, packages: list[conda_lock.Package], folder: Path) -> None:
    """Make the environment from conda's lock. What it held before goes, and is named."""
    if before := recorded():
        print(f"conda: {NAME} is made anew from the lock; it held {len(before)} packages: {', '.join(before)}", flush=True)
    fetch(lock, folder / "fetched")
    # Offline, and from these files: what conda links is what was fetched and checked. By conda itself, however old: what
    # links packages in the image (rattler) wants a newer Python.
    explicit = folder / "explicit.txt"
    lines = [f"{next((folder / 'fetched').rglob(p.file_name)).as_uri()}#{p.md5}" for p in packages]
    explicit.write_text("\n".join(["@EXPLICIT", *lines, ""]))
    options = {"CONDA_PKGS_DIRS": str(folder / "pkgs"), "CONDA_OFFLINE": "true", "CONDA_ALWAYS_COPY": "true"}
    variables = {**os.environ, **options, "CONDA_REGISTER_ENVS": "false"}
    command = [str(ROOT / "bin/conda"), "create", "--yes", "--quiet", "--prefix", str(PREFIX), "--file", str(explicit)]
    code = subprocess.run(command, env=variables).returncode
    if code:
        raise UserError(f"conda could not make {PREFIX} from {lock.name} (exit code {code}; see above).")
    name_sources(packages)


def name_sources(packages: list[conda_lock.Package]) -> None:
    """Write the public addresses of the packages into conda's records, which name the files that they were linked from."""
    public = {package.file_name: package for package in packages}
    for path in (PREFIX / "conda-meta").glob("*.json"):
        record = json.loads(path.read_text())
        package = public[record["fn"]]
        record["url"], record["channel"] = package.url, package.channel
        path.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
    write_history(PREFIX, packages)


def main() -> int:
    """Fill the environment, or find that it is filled."""
    parser = argparse.ArgumentParser(prog="couplet.saturn.root", description=__doc__)
    parser.add_argument("--project", type=Path, required=True, help="folder of pyproject.toml and locks")
    parser.add_argument("--packed", action="store_true", help="the locks were checked when `make saturn` ran")
    options = parser.parse_args()
    project = options.project.resolve()

    check_base()
    lock = project / conda_lock.file_name(platforms.this_machine())
    packages = conda_lock.read(lock)
    for path in (POETRY, APP):
        own_folder(path)
    image = settings()
    network.apply()
    os.environ.update(image)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ.update(HOME=name, TMPDIR=name, PYTHONDONTWRITEBYTECODE="1")
        os.environ.update(UV_LINK_MODE="copy", UV_PYTHON_DOWNLOADS="never")
        for leaked in ("CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
            os.environ.pop(leaked, None)
        uv, tools = install_uv(folder), folder / "tools"
        words = ["saturn", "--project", str(project), "--uv", str(uv), *(["--packed"] if options.packed else [])]
        if recorded() == sorted("-".join(package.identity) for package in packages):
            install_tools(uv, tools)
            write_variables(PREFIX, conda_lock.variables(lock))
            if environment_python(tools, *words, "--only-verify", quiet=True) == 0:
                print(f"{PREFIX} is what the locks say already", flush=True)
                return environment_python(tools, *words, "--verified")
        create(lock, packages, folder)
        write_variables(PREFIX, conda_lock.variables(lock))
        install_tools(uv, tools)
        return environment_python(tools, *words)


if __name__ == "__main__":
    run(main)
