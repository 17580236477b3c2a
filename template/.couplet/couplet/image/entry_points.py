"""Make every way into an image activate the environment: the last step as root, for each image that is run.

Needs the standard library alone, so that the environment's own Python can run it: runtime has no other.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pwd
import shutil
import subprocess
from pathlib import Path

import couplet
from couplet import settings
from couplet.errors import UserError
from couplet.image import guards
from couplet.image.activation import MARK, Activation, record_to, write

HERE = Path(__file__).parent
ACTIVATION = Path("opt/activation")
"""Where everything about activating lies, below /."""
LOGIN = """\
# Login shells lose ENV: /etc/profile sets PATH anew.
PATH=/{shims}:$PATH
unset ACTIVATED_PREFIX
. /opt/activation/activate.sh
"""
CONDA_SHELL = """
# conda as a function, where there is a conda
. /opt/conda/etc/profile.d/conda.sh
"""
INTERACTIVE = """
. /opt/activation/activate.sh
{conda}# The prompt says where one is.
case "$PS1" in
    "${prompt}"*) ;;
    *) PS1="${{{prompt}-}}$PS1" ;;
esac
# \\u is a name of /etc/passwd's, which not every user here has
PS1=${{PS1//'\\u'/'$USER'}}
"""


def shims(root: Path, prefix: Path, folder: Path) -> None:
    """Put a link to the shim under each program's name into `folder`, unless there is something of that name.

    The programs are the environment's, the shells, and in dev poetry, conda and mamba.
    """
    text = (HERE / "shim.sh").read_text().replace("@ENV_PREFIX@", str(prefix))
    shim = root / ACTIVATION / "shim.sh"
    shim.write_text(text)
    shim.chmod(0o755)
    others = ("bin/sh", "bin/bash", "bin/dash", "opt/poetry/bin/poetry", "opt/conda/bin/conda", "opt/conda/bin/mamba")
    programs = [*(root / prefix.relative_to("/") / "bin").iterdir(), *(root / other for other in others)]
    for program in programs:
        link = root / folder / program.name
        if program.is_file() and os.access(program, os.X_OK) and not os.path.lexists(link):
            link.symlink_to(f"/{ACTIVATION / 'shim.sh'}")


def shells(root: Path, prefix: Path, folder: Path, conda: bool) -> None:
    """Write what the shells of an image read: the activation, a login shell's and an interactive one's."""
    place = root / ACTIVATION
    activate = (HERE / "activate.sh").read_text()
    (place / "activate.sh").write_text(f"ENV_PREFIX={prefix}; export ENV_PREFIX\n{activate}")
    shutil.copyfile(HERE / "user.sh", place / "user.sh")
    (root / "etc/profile.d/activate.sh").write_text(LOGIN.format(shims=folder))
    # A virtual environment's prompt is a variable without the parentheses.
    prompt = "CONDA_PROMPT_MODIFIER" if conda else "_prompt"
    before = CONDA_SHELL if conda else '_prompt=${VIRTUAL_ENV_PROMPT:+"($VIRTUAL_ENV_PROMPT) "}\n'
    with (root / "etc/bash.bashrc").open("a") as file:
        file.write(INTERACTIVE.format(conda=before, prompt=prompt))
    # Those of conda's base image activate its base environment; a user that a derived image adds gets a copy.
    for file_name in ("root/.bashrc", "etc/skel/.bashrc"):
        if (root / file_name).is_file():
            (root / file_name).write_text("")


def one_user() -> None:
    """Make the user app, 1000, in images that may have had another of that number, with a home for any uid of group 0."""
    with contextlib.suppress(KeyError):
        subprocess.run(["userdel", "--remove", pwd.getpwuid(1000).pw_name], stderr=subprocess.DEVNULL)
    if subprocess.run(["getent", "group", "1000"], stdout=subprocess.DEVNULL).returncode:
        subprocess.run(["groupadd", "--gid", "1000", "app"], check=True)
    options = ["--uid", "1000", "--gid", "1000", "--no-create-home", "--home-dir", "/home/app", "--shell", "/bin/bash"]
    subprocess.run(["useradd", *options, "app"], check=True)
    for folder, mode in (("/home/app", 0o2770), ("/work", 0o2775)):
        Path(folder).mkdir(exist_ok=True)
        os.chown(folder, 1000, 0)
        os.chmod(folder, mode)


def kernel(project: Path, prefix: Path) -> None:
    """Register the kernel, with the environment's Python."""
    command = ["sh", str(Path(couplet.__file__).parents[1] / "couplet.sh"), "kernel", "--project", str(project)]
    command += ["--variables", f"/{ACTIVATION}/variables.json", "--environment", str(prefix)]
    if subprocess.run(command, env={**os.environ, "PYTHON": f"{prefix}/bin/python"}).returncode:
        raise UserError("the kernel could not be registered (see above).")


def finish(kind: str, project: Path, root: Path = Path("/")) -> None:
    """Do all of it, for an image of a kind: runtime or dev."""
    about = settings.project(project)
    conda, prefix, name = about.conda, Path(about.prefix), about.package
    # Poetry alone: /usr/local/bin holds the programs of the Python that the environment is made of, and comes after
    # /usr/local/sbin in the PATH that an empty environment gets.
    folder = Path("usr/local/bin" if conda else "usr/local/sbin")
    if not conda:
        fixed = {"VIRTUAL_ENV": str(prefix), "VIRTUAL_ENV_PROMPT": name}
        write(Activation(fixed, {}, {"PATH": f"/{folder}:{prefix}/bin:{MARK}"}), name, root / ACTIVATION)
    if conda and kind == "dev" and (root / "opt/locks/dev").is_dir():
        # packages of dev's own: compilers, for one, bring scripts for the activation
        record_to(root / ACTIVATION, prefix, name)
    shims(root, prefix, folder)
    shells(root, prefix, folder, conda)
    if conda and kind == "runtime":
        place = root / "opt/conda/etc/profile.d/conda.sh"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(HERE / "conda.sh", place)
    one_user()
    # With conda, runtime's was started where the activation was recorded.
    if about.kernel and (kind == "dev" or not conda):
        kernel(project, prefix)
    if kind == "dev" and conda:
        guards.refuse_pip(prefix, guards.CONDAS)
        guards.guard_poetry(root / "opt/poetry")
        guards.guard_conda(root / "opt/conda")
    elif kind == "dev":
        # pip belongs to the base's Python, whose packages the environment does not see.
        guards.refuse_pip(root / "usr/local", guards.POETRYS)
    # From here on the recording is fresh.
    (root / ACTIVATION / "stamp").touch()


def main(arguments: list[str]) -> None:
    """The verb `entry-points`."""
    parser = argparse.ArgumentParser(prog="couplet entry-points", description=__doc__)
    parser.add_argument("kind", choices=("runtime", "dev"))
    parser.add_argument("--project", type=Path, required=True, help="folder of .couplet")
    options = parser.parse_args(arguments)

    os.umask(0o002)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    finish(options.kind, options.project)
