"""Users and mounts: safe to run as anyone, anywhere, with anything mounted."""

from __future__ import annotations

import hashlib
import json
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import checks, container
from tests.harness.container import derived, docker, running

WHO = """
import getpass, os
home = os.path.expanduser('~')
open(os.path.join(home, 'proof'), 'w').close()
print(getpass.getuser(), home, os.getuid(), os.getgid())
"""
LOCKED_DOWN = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")


@pytest.mark.parametrize("kind", ["runtime", "dev"])
@pytest.mark.parametrize("user", ["12345:0", "12345:6789"])
def test_an_unknown_user_has_a_home_and_a_name(built, kind, user):
    wanted = ["user12345", "/tmp/home-12345", *user.split(":")]
    image = getattr(built, kind)
    assert container.run(image, "python", "-c", WHO, options=("--user", user)).split() == wanted
    with running(image) as host:  # by docker exec alone: the entry point ran as another user
        assert docker("exec", "--user", user, host.backend.name, "python", "-c", WHO).stdout.split() == wanted
        shell = ("exec", "--user", user, host.backend.name, "bash", "-c", "echo $USER $HOME")
        assert docker(*shell).stdout.split() == wanted[:2]


def test_known_users_keep_their_own(built):
    assert container.run(built.runtime, "python", "-c", WHO).split() == ["app", "/home/app", "1000", "1000"]
    assert container.run(built.runtime, "python", "-c", WHO, options=("--user", "0")).split() == ["root", "/root", "0", "0"]
    options = ("--env", "HOME=/work", "--env", "USER=me")
    assert container.run(built.runtime, "python", "-c", WHO, options=options).split()[:2] == ["me", "/work"]


def test_an_unknown_user_without_the_help_is_seen_to_have_none(built):
    """The twin: the same question, past the doors."""
    past = ("--user", "12345:6789", "--entrypoint", f"{built.prefix}/bin/python")
    assert docker("run", "--rm", *past, built.runtime, "-c", WHO, check=False).code


def test_a_home_of_someone_elses_in_tmp_is_not_taken(built):
    """/tmp is everyone's: the folder could have been put there by another user, and be no home."""
    with running(built.runtime) as host:
        docker("exec", host.backend.name, "mkdir", "-m", "700", "/tmp/home-12345")
        done = docker("exec", "--user", "12345:6789", host.backend.name, "python", "-c", "print(1)")
        assert "No HOME for user 12345" in done.output


@pytest.mark.parametrize("user", ["1000:1000", "12345:0", "12345:6789"])
def test_a_locked_down_container_runs_the_project_and_the_kernel(built, user):
    options = (*LOCKED_DOWN, "--user", user)
    assert f"computed in {built.prefix}" in container.run(built.runtime, options=options)
    assert container.run(built.runtime, "python", "-c", WHO, options=options).split()[1].startswith("/tmp/home-")
    if built.kernel:
        assert checks.kernel(built.runtime, built, *options) == []


def test_a_locked_down_container_without_a_tmpfs_says_what_it_lacks(built):
    """The twin, and what it looks like."""
    options = [word for word in LOCKED_DOWN if word not in ("--tmpfs", "/tmp")]
    done = docker("run", "--rm", *options, built.runtime, "python", "-c", WHO, check=False)
    assert done.code == 1 and "docker run --tmpfs /tmp" in done.output


# --- who may write ---------------------------------------------------------------------------------


def writable_by_all(image: str) -> list[str]:
    """Everything in an image that anyone may write, but sticky folders and links."""
    find = ("find", "/", "-xdev", "-perm", "-0002", "!", "-type", "l", "!", "(", "-type", "d", "-perm", "-1000", ")")
    skip = {"/dev/null", "/dev/full", "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero", "/dev/ptmx"}
    found = container.run(image, *find, options=("--user", "0")).splitlines()
    return [path for path in found if path not in skip]


@pytest.mark.parametrize("kind", ["runtime", "dev"])
def test_nothing_is_writable_by_everyone(built, kind):
    assert writable_by_all(getattr(built, kind)) == []


def test_something_writable_by_everyone_is_seen(built):
    with derived(built.runtime, f"USER root\nRUN chmod o+w {built.prefix}/bin /opt/activation/activate.sh") as image:
        assert set(writable_by_all(image)) == {f"{built.prefix}/bin", "/opt/activation/activate.sh"}


def writable(image: str, project, *options: str) -> str:
    """What of the environment, the doors and the code the user of a container may write."""
    places = (project.prefix, "/opt/activation", "/opt/app", "/usr/local/bin", "/etc")
    return container.run(image, "find", *places, "!", "-type", "l", "-writable", options=options).strip()


def test_the_default_user_cannot_change_the_environment_the_doors_or_the_code(built):
    assert writable(built.runtime, built) == ""
    assert writable(built.runtime, built, "--user", "12345:6789") == ""
    # the twin: group 0 can, which is what lets dev install packages
    assert writable(built.runtime, built, "--user", "12345:0")


def layers(image: str, folder: Path) -> Iterator[dict[str, tuple]]:
    """Yield for each layer of an image {path: (SHA-256 or None for a folder, (uid, gid, mode))}."""
    with (folder / "image.tar").open("wb"):
        docker("save", "--output", str(folder / "image.tar"), image)
    with tarfile.open(folder / "image.tar") as image_tar:
        for name in json.load(image_tar.extractfile("manifest.json"))[0]["Layers"]:
            found = {}
            with tarfile.open(fileobj=image_tar.extractfile(name)) as layer:
                for member in layer:
                    if member.isfile() or member.isdir():
                        content = member.isfile() and hashlib.sha256(layer.extractfile(member).read()).hexdigest()
                        found["/" + member.name.strip("./")] = content or None, (
                            member.uid, member.gid, stat.S_IMODE(member.mode),
                        )  # fmt: skip
            yield found
    (folder / "image.tar").unlink()


def changed_again(image: str, folder: Path) -> list[str]:
    """Paths that a layer repeats only to give them another owner or mode."""
    known, found = {}, []
    for layer in layers(image, folder):
        found += [path for path, (content, owner) in layer.items()
                  if path in known and known[path][0] == content and known[path][1] != owner]  # fmt: skip
        known |= layer
    return found


@pytest.mark.parametrize("kind", ["runtime", "dev"])
def test_no_layer_changes_only_owners_or_modes(built, kind, tmp_path):
    assert changed_again(getattr(built, kind), tmp_path) == []


def test_a_chown_in_a_later_layer_is_seen(built, tmp_path):
    with derived(built.runtime, f"USER root\nRUN chown 1000 {built.prefix}/bin/f2py && chmod 700 /opt/locks") as image:
        assert set(changed_again(image, tmp_path)) == {f"{built.prefix}/bin/f2py", "/opt/locks"}


# --- mounts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["runtime", "dev"])
def test_mounts_hide_neither_environment_nor_kernel(built, kind, tmp_path):
    image = getattr(built, kind)
    tmp_path.chmod(0o777)
    everywhere = ("--volume", "/work", "--volume", f"{tmp_path}:/home/app", "--tmpfs", "/tmp", "--tmpfs", "/root")
    assert checks.active(image, built, *everywhere) == []
    if built.kernel:
        # in dev the project's code lies in the mounted folder itself
        code = ("--volume", f"{built.path}:/work") if kind == "dev" else ("--volume", f"{tmp_path}:/work")
        assert checks.kernel(image, built, "--volume", f"{tmp_path}:/home/app", *code) == []


def test_a_mount_over_the_environment_is_seen(built, tmp_path):
    """The twin: had the environment been in the mounted folder, it would be gone."""
    assert checks.active(built.runtime, built, "--volume", f"{tmp_path}:{built.prefix}/bin")
