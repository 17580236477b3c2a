"""environment.dev.yml: conda packages for the dev image alone, solved together with environment.yml."""

from __future__ import annotations

import json
import tomllib

import pytest

from couplet import settings
from couplet.errors import UserError
from couplet.formats import conda_lock, poetry_lock
from couplet.lock import command, environment, pyproject, solve, stamp

from .folders import channel, project

__all__ = ["channel", "project"]
BOTH = ("linux-64", "linux-aarch64")


def ask_dev(project, *specs: str, channels: tuple[str, ...] = ()) -> None:
    """Write environment.dev.yml; without specs it is deleted."""
    path = project.path / "environment.dev.yml"
    path.unlink(missing_ok=True)
    if specs:
        head = ["channels:", *(f"  - {channel}" for channel in channels)] if channels else []
        path.write_text("\n".join([*head, "dependencies:", *(f"  - {spec}" for spec in specs)]) + "\n")


def locked(project, dev: bool = False) -> dict[str, str]:
    """Return {name: version} of what conda.lock has for one image, the same on all platforms here."""
    found = conda_lock.records(project.path / "conda.lock", dev)
    versions = [{name: r.version for name, r in held.items()} for held in found.values()]
    assert all(one == versions[0] for one in versions)
    return versions[0]


def test_runtime_has_what_environment_yml_needs_and_dev_has_both(project):
    project = project(*BOTH)
    project.ask("python=3.11", "idna")
    ask_dev(project, "requests")
    project.lock()
    assert locked(project).keys() & {"requests", "idna"} == {"idna"}
    assert locked(project, dev=True).keys() - locked(project).keys() == {"requests"}
    # the negative control: without the file nothing is dev's alone
    ask_dev(project)
    project.lock()
    assert locked(project) == locked(project, dev=True) and "requests" not in locked(project)
    assert (
        '"dev"' not in (project.path / "conda.lock").read_text() and "\n  dev:" not in (project.path / "conda.lock").read_text()
    )


def test_what_both_have_is_the_same_though_dev_alone_asks_for_it(project):
    project = project()
    project.ask("python=3.11", "idna")
    ask_dev(project, "strict")  # it wants idna <3
    project.lock()
    assert locked(project)["idna"] == locked(project, dev=True)["idna"] == "2.7"
    ask_dev(project)
    project.lock(everything=True)
    assert locked(project)["idna"] == "3.20", "the negative control"


def test_a_package_for_dev_moves_nothing_that_is_locked(project):
    project = project()
    project.ask("python=3.11", "idna<3.20")
    project.lock()
    before = locked(project)
    project.ask("python=3.11", "idna")
    ask_dev(project, "requests=1")
    project.lock()
    assert locked(project) == before


def test_what_has_no_solution_names_the_file_and_the_line(project):
    project = project()
    project.ask("python=3.11", "idna=3.20")
    ask_dev(project, "python", "strict")
    with pytest.raises(UserError) as error:
        project.lock()
    assert "environment.dev.yml, line 3: strict" in str(error.value) and "  line 5: idna=3.20" in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dependencies: [", "environment.dev.yml, line 1: this is not valid YAML"),
        ("dependencies:\n", "environment.dev.yml: `dependencies` lists nothing. Take environment.dev.yml out."),
        ("- gdb\n", "environment.dev.yml has no keys"),
        ("dependencies:\n  - pip:\n    - click\n", "environment.dev.yml, line 2: pip: asks for click"),
        ("dependencies:\n  - click>>8\n", "environment.dev.yml, line 2: `click>>8` is not a spec"),
        (
            "variables:\n  A: b\n",
            "environment.dev.yml, line 1: `variables` would do nothing here. Both images set the same ones",
        ),
        (
            "channels: [mine]\ndependencies: [gdb]\n",
            "environment.dev.yml, line 1: the channels of environment.yml are used for both.",
        ),
    ],
)
def test_what_is_not_understood_names_the_file(project, text, words):
    project = project()
    project.ask("python=3.11")
    (project.path / "environment.dev.yml").write_text(text)
    with pytest.raises(UserError) as error:
        environment.read(project.path)
    assert str(error.value).startswith(words)


def test_channels_may_be_repeated(project):
    project = project()
    project.ask("python=3.11")
    ask_dev(project, "idna", channels=(project.channel, "nodefaults"))
    found = environment.read(project.path)
    assert [str(spec) for spec in found.specs] == ["line 4: python=3.11", "environment.dev.yml, line 5: idna"]
    assert found.runtime("linux-64") == ["python"] and found.channels == [project.channel]


def write_locks(project) -> None:
    """Write the files that a lock consists of, as lock_with_conda does."""
    project.lock()
    (project.path / "poetry.lock").write_text('[metadata]\nlock-version = "2.1"\n')
    now = stamp.current(project.path, conda=True)
    for dev in (False, True):
        for subdir, records in conda_lock.records(project.path / "conda.lock", dev).items():
            body = conda_lock.explicit([record.package for record in records.values()], subdir, [], dev)
            if not dev or (project.path / stamp.DEV).is_file():
                (project.path / conda_lock.file_name(subdir, dev)).write_text(stamp.stamped(body, now))


def test_the_file_counts_when_it_comes_changes_and_goes(project):
    project = project(*BOTH)
    project.ask("python=3.11", "idna")
    write_locks(project)

    def fits() -> bool:
        document = settings.pyproject(project.path)
        return command.fits(project.path, list(BOTH), solve.previous(project.path), document)

    assert stamp.check(project.path) == (0, []) and fits()
    ask_dev(project, "requests")
    code, lines = stamp.check(project.path)
    assert (code, lines) == (2, ["There is no conda-dev-linux-64.lock conda-dev-linux-aarch64.lock: run `make env-update`."])
    assert not fits()
    write_locks(project)
    assert stamp.check(project.path) == (0, []) and fits()
    ask_dev(project, "requests", "idna")
    code, lines = stamp.check(project.path)
    assert (
        code == 1 and len(lines) == 4 and all(line.startswith("environment.dev.yml has changed since conda-") for line in lines)
    )
    assert not fits()
    ask_dev(project)
    code, lines = stamp.check(project.path)
    assert code == 1 and lines[0].startswith("conda-dev-linux-64.lock is not needed: there is no environment.dev.yml.")
    assert not fits()
    assert command.to_delete(project.path, [conda_lock.file_name(subdir) for subdir in BOTH]) == [
        "conda-dev-linux-64.lock",
        "conda-dev-linux-aarch64.lock",
    ]


def test_the_build_gets_devs_lock_in_a_folder_of_its_own(project, tmp_path, monkeypatch):
    project = project(*BOTH)
    project.ask("python=3.11", "idna")
    ask_dev(project, "requests")
    write_locks(project)
    monkeypatch.setattr(stamp, "this_machine", lambda: "linux-64")
    stamp.write_plain(project.path, tmp_path / "locks")
    names = {str(path.relative_to(tmp_path / "locks")) for path in (tmp_path / "locks").rglob("*.lock")}
    assert names == {f"{folder}{conda_lock.file_name(subdir)}" for folder in ("", "dev/") for subdir in BOTH} | {"poetry.lock"}
    held = [
        {package.identity[0] for package in conda_lock.read(path)}
        for path in sorted(tmp_path.glob("locks/**/conda-linux-64.lock"))
    ]
    assert held[1] - held[0] == {"requests"} or held[0] - held[1] == {"requests"}


def test_what_poetry_installs_in_runtime_is_no_package_for_dev_alone(project):
    """Two owners of the same files: Poetry's copy comes in first, conda's would come over it."""
    project = project()
    project.ask("python=3.11", "idna")
    ask_dev(project, "requests")
    project.lock()
    runtime = conda_lock.records(project.path / "conda.lock")
    distributions = {"requests": {"linux-64": ("2.0", "requests")}, "idna": {"linux-64": ("3.20", "idna")}}

    def poetry_lock(name: str, group: str, marker: str = "") -> None:
        (project.path / "poetry.lock").write_text(
            f'[[package]]\nname = "{name}"\nversion = "2.0"\ngroups = ["{group}"]\nmarkers = {json.dumps(marker)}\n'
            '[metadata]\nlock-version = "2.1"\n'
        )

    poetry_lock("requests", "main")
    with pytest.raises(
        UserError, match=r"^environment.dev.yml brings requests \(conda's package requests\) .*\nName requests in environment.yml"
    ):
        command.check_owners(project.path, runtime, distributions)
    for name, group, marker in (("requests", "dev", ""), ("idna", "main", ""), ("requests", "main", "sys_platform == 'win32'")):
        poetry_lock(name, group, marker)
        command.check_owners(project.path, runtime, distributions)


HEAD = '[dependency-groups]\nconda = []\n"My_Docs" = []\n[tool.poetry.group.viz.dependencies]\n[tool.couplet]\n'


def test_groups_come_into_an_image_by_name():
    document = tomllib.loads(f'{HEAD}runtime-groups = ["viz"]\ndev-groups = ["my-docs"]\n')
    assert settings.groups(document) == {"main": ["main", "viz"], "dev": ["dev", "my-docs"]}
    assert settings.groups({}) == {"main": ["main"], "dev": ["dev"]}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('dev-groups = ["doc"]', "dev-groups names doc, which is not a group here. There are: my-docs, viz."),
        ('runtime-groups = ["conda"]', "runtime-groups names conda, which is not a group here."),
        ('runtime-groups = "viz"', "runtime-groups is 'viz'. Example: runtime-groups = [\"docs\"]"),
        ("dev-groups = [1]", "dev-groups is [1]. Example"),
    ],
)
def test_a_group_that_is_none_is_refused(line, words):
    with pytest.raises(UserError) as error:
        settings.groups(tomllib.loads(HEAD + line))
    assert str(error.value).startswith("pyproject.toml, [tool.couplet]: ") and words in str(error.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('minimum-release-age = "7d"', "minimum-release-age is not known. Is it min-release-age?"),
        ('min-release-age-excluded = ["numpy"]', "min-release-age-excluded is not known. Is it min-release-age-exclude?"),
        ('runtime-group = ["viz"]', "runtime-group is not known. Is it runtime-groups?"),
        (
            "anything = 1",
            "anything is not known. Known are audit, virtual-packages, runtime-groups, dev-groups, link-scripts, min-release-age,",
        ),
    ],
)
def test_a_setting_that_is_not_known_is_refused(line, words):
    with pytest.raises(UserError) as error:
        pyproject.check(tomllib.loads(f"[tool.couplet]\n{line}\n"))
    assert words in str(error.value)


def test_the_build_is_told_of_groups_beside_the_lock(project, tmp_path, monkeypatch):
    project = project()
    project.ask("python=3.11")
    write_locks(project)
    monkeypatch.setattr(stamp, "this_machine", lambda: "linux-64")
    stamp.write_plain(project.path, tmp_path / "plain")
    lock = tmp_path / "plain/poetry.lock"
    assert poetry_lock.with_groups(lock, ["main", "dev"]) == ["main", "dev"] and not [*lock.parent.glob("groups*")]
    with (project.path / "pyproject.toml").open("a") as file:
        file.write(f'{HEAD}runtime-groups = ["viz"]\n')
    stamp.write_plain(project.path, tmp_path / "more")
    assert poetry_lock.with_groups(tmp_path / "more/poetry.lock", ["main", "dev"]) == ["main", "viz", "dev"]
    assert [path.name for path in tmp_path.glob("more/groups*")] == ["groups-main.txt"], "dev's list is no affair of runtime's"
