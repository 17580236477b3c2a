"""Users and mounts: safe to run as anyone, anywhere, with anything mounted."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.harness import checks, container
from tests.harness.container import derived, docker, running
from tests.harness.soak import some
from tests.mirror import images

WHO = """
import getpass, os
home = os.path.expanduser('~')
open(os.path.join(home, 'written'), 'w').close()
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


OWN_USERS = "USER root\nRUN useradd --create-home newuser && usermod --login ice app\nUSER newuser"
INTERACTIVE = "echo $USER $HOME; python -c 'import sys; print(sys.prefix)'"


@pytest.mark.parametrize("kind", ["runtime", "dev"])
def test_a_derived_images_own_users_have_the_environment_and_their_names(built, kind):
    """A user that it adds, with the files of /etc/skel, and the image's user under another name."""
    with derived(getattr(built, kind), OWN_USERS) as image:
        for user, name, home in (("newuser", "newuser", "/home/newuser"), ("1000", "ice", "/home/app")):
            shown = container.run(image, "bash", "-ic", INTERACTIVE, options=("--user", user))
            assert shown.split() == [name, home, built.prefix]


@pytest.mark.one_variant
def test_a_skeleton_of_the_base_image_would_activate_base(built):
    """The negative control: what the base image of conda writes there, and what the template empties."""
    line = "RUN echo 'export USER=skel' > /etc/skel/.bashrc"
    with derived(built.dev, f"USER root\n{line}\n{OWN_USERS}") as image:
        assert container.run(image, "bash", "-ic", INTERACTIVE).split()[0] == "skel"


@pytest.mark.one_variant
def test_an_unknown_user_without_the_help_is_seen_to_have_none(built):
    """The negative control: the same question, without the entry points."""
    past = ("--user", "12345:6789", "--entrypoint", f"{built.prefix}/bin/python")
    assert docker("run", "--rm", *past, built.runtime, "-c", WHO, check=False).code


def test_a_home_of_someone_elses_in_tmp_is_not_taken(built):
    """/tmp is everyone's: the folder could have been put there by another user, and be no home."""
    with running(built.runtime) as host:
        docker("exec", host.backend.name, "mkdir", "-m", "700", "/tmp/home-12345")
        done = docker("exec", "--user", "12345:6789", host.backend.name, "python", "-c", "print(1)")
        assert "No HOME for user 12345" in done.output


def test_a_home_of_ones_own_in_tmp_is_taken_again_in_silence(built):
    with running(built.runtime) as host:
        for _ in range(2):
            done = docker("exec", "--user", "12345:6789", host.backend.name, "python", "-c", "print(1)")
            assert done.output == "1\n"


@pytest.mark.parametrize("user", some(["1000:1000", "12345:0", "12345:6789"], "1000:1000", "12345:6789"))
def test_a_locked_down_container_runs_the_project_and_the_kernel(built, user):
    options = (*LOCKED_DOWN, "--user", user)
    assert f"computed in {built.prefix}" in container.run(built.runtime, options=options)
    assert container.run(built.runtime, "python", "-c", WHO, options=options).split()[1].startswith("/tmp/home-")
    if built.kernel:
        assert checks.kernel(built.runtime, built, *options) == []


@pytest.mark.one_variant
def test_a_locked_down_container_without_a_tmpfs_says_what_it_lacks(built):
    """The negative control, and what it looks like."""
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


@pytest.mark.one_variant
def test_something_writable_by_everyone_is_seen(built):
    with derived(built.runtime, f"USER root\nRUN chmod o+w {built.prefix}/bin /opt/activation/activate.sh") as image:
        assert set(writable_by_all(image)) == {f"{built.prefix}/bin", "/opt/activation/activate.sh"}


def writable(image: str, project, *options: str) -> str:
    """What of the environment, the shims and the code the user of a container may write."""
    places = (project.prefix, "/opt/activation", "/opt/app", "/usr/local/bin", "/etc")
    # a folder of OpenSSL's that nobody but root may look into
    find = ("find", *places, "-path", "/etc/ssl/private", "-prune", "-o", "!", "-type", "l", "-writable", "-print")
    return container.run(image, *find, options=options).strip()


def test_the_default_user_cannot_change_the_environment_the_shims_or_the_code(built):
    assert writable(built.runtime, built) == ""
    assert writable(built.runtime, built, "--user", "12345:6789") == ""
    # the negative control: group 0 can, which is what lets dev install packages
    assert writable(built.runtime, built, "--user", "12345:0")


Layer = dict[str, tuple]
"""{path: (SHA-256 or None for a folder, (uid, gid, mode))}."""
read_layers: dict[str, Layer] = {}
"""Layers by their folder, or by their name in an archive of `docker save`, which is made of their content: images share most of theirs."""
layers_of_images: dict[str, list[str]] = {}
"""Names of an image's layers, the lowest first, by the image's ID."""


def layers(image: str, *company: str) -> list[Layer]:
    """Return the layers of an image, the lowest first; those of the images in its company are read along with them.

    Where the engine is on this machine, keeps each layer as a folder, and we may look into it, they are read in place.
    """
    if folders := layer_folders(image):
        for folder in folders:
            if str(folder) not in read_layers:
                read_layers[str(folder)] = layer_in(folder)
        return [read_layers[str(folder)] for folder in folders]
    return saved_layers(image, *company)


def layer_folders(image: str) -> list[Path]:
    """Return the folders of an image's layers, the lowest first; none where they are not to be looked into."""
    driver = json.loads(docker("image", "inspect", "--format", "{{json .GraphDriver}}", image).stdout) or {}
    if driver.get("Name") != "overlay2":
        return []
    lower, upper = driver["Data"].get("LowerDir", ""), driver["Data"]["UpperDir"]
    folders = [Path(name) for name in [*reversed(lower.split(":")), upper] if name]
    return folders if all(os.access(folder, os.R_OK | os.X_OK) for folder in folders) else []


def layer_in(folder: Path) -> Layer:
    """Return what a folder holds."""
    found: Layer = {}
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(parent, name)
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
                content = None
                if stat.S_ISREG(status.st_mode):
                    with path.open("rb") as file:
                        content = hashlib.file_digest(file, "sha256").hexdigest()
                owner = status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)
                found[f"/{path.relative_to(folder)}"] = content, owner
    return found


def saved_layers(image: str, *company: str) -> list[Layer]:
    """Return the same from `docker save`, which any engine can."""

    def name_of(image: str) -> str:
        return docker("image", "inspect", "--format", "{{.Id}}", image).stdout.strip()

    if name_of(image) not in layers_of_images:
        images = dict.fromkeys([image, *company])
        with (
            subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as process,
            tarfile.open(fileobj=process.stdout, mode="r|", bufsize=1 << 20) as archive,
        ):
            for member in archive:
                if member.name == "manifest.json":
                    manifest = json.load(archive.extractfile(member))
                elif member.isfile() and member.name not in read_layers:
                    content = io.BufferedReader(archive.extractfile(member), 1 << 20)
                    if content.peek(1)[:1] not in (b"{", b"["):
                        read_layers[member.name] = layer(content)
            process.stdout.read()  # the end of the archive is not yet the end of what docker writes
        assert process.returncode == 0
        for saved in manifest:
            layers_of_images[name_of(saved["RepoTags"][0])] = saved["Layers"]
    return [read_layers[name] for name in layers_of_images[name_of(image)]]


def layer(stream: io.BufferedReader) -> Layer:
    """Return what an archive of files and folders holds."""
    found = {}
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            if member.isfile() or member.isdir():
                content = member.isfile() and hashlib.file_digest(archive.extractfile(member), "sha256").hexdigest()
                found["/" + member.name.strip("./")] = content or None, (member.uid, member.gid, stat.S_IMODE(member.mode))
    return found


def changed_again(image: str, *company: str) -> list[str]:
    """Paths that a layer repeats only to give them another owner or mode."""
    known, found = {}, []
    for layer in layers(image, *company):
        found += [path for path, (content, owner) in layer.items()
                  if path in known and known[path][0] == content and known[path][1] != owner]  # fmt: skip
        known |= layer
    return found


@pytest.mark.parametrize("kind", ["runtime", "dev"])
def test_no_layer_changes_only_owners_or_modes(built, kind):
    assert changed_again(getattr(built, kind), built.runtime, built.dev) == []


def held_twice(image: str, *company: str) -> list[str]:
    """Files that a layer repeats, with what they held and to whom they belonged before."""
    known, found = {}, []
    for layer in layers(image, *company):
        found += [path for path, what in layer.items() if what[0] and known.get(path) == what]
        known |= layer
    return found


@pytest.mark.parametrize("kind", ["runtime", "dev"])
def test_no_layer_holds_what_one_below_has(built, kind):
    """A touch is enough for that: the file system copies the file whole. What the base images do in /var is theirs."""
    assert [path for path in held_twice(getattr(built, kind), built.runtime, built.dev) if path.startswith("/opt/")] == []


def test_a_touch_in_a_later_layer_is_seen(sources):
    with derived(images.DEBIAN, "RUN touch /etc/passwd && echo a > /etc/motd") as image:
        assert held_twice(image) == ["/etc/passwd"]


def test_a_chown_in_a_later_layer_is_seen(sources):
    """In a small image. Both ways to read it see it, and see the same."""
    made = "RUN mkdir /opt/a && touch /opt/a/b /opt/c && chmod 4755 /opt/c && ln /opt/c /opt/d && ln -s c /opt/e && rm /etc/issue"
    with derived(images.DEBIAN, f"{made}\nRUN chown 1000 /opt/a/b && chmod 700 /opt/a") as image:
        assert set(changed_again(image)) == {"/opt/a/b", "/opt/a"}
        if layer_folders(image):
            for in_place, saved in zip(layers(image), saved_layers(image), strict=True):
                # an archive says with a file that another is gone, and has the content of two names of one file once
                held = {path: what for path, what in saved.items() if path != "/" and "/.wh." not in path}
                assert held and {path: in_place[path] for path in held} == held
                assert {in_place[path][0] for path in in_place.keys() - held.keys()} <= {content for content, _ in held.values()}


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


@pytest.mark.one_variant
def test_a_mount_over_the_environment_is_seen(built, tmp_path):
    """The negative control: had the environment been in the mounted folder, it would be gone."""
    assert checks.active(built.runtime, built, "--volume", f"{tmp_path}:{built.prefix}/bin")
