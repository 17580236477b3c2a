"""min-release-age: what was published a moment ago waits, on conda's side and on Poetry's."""

from __future__ import annotations

import time

import pytest

from couplet.errors import UserError
from couplet.lock import cooldown

from .folders import channel, package, project, write_channel

__all__ = ["channel", "project"]

NOW, DAY = int(time.time() * 1000), 86_400_000
YESTERDAY, LONG_AGO = NOW - DAY, NOW - 100 * DAY


def python(minor: int, **more: int) -> dict:
    return package("python", f"3.{minor}.0", subdir="linux-64", timestamp=LONG_AGO, **more)


def built(version: str, minor: int, timestamp: int) -> dict:
    needs = f"python >=3.{minor},<3.{minor + 1}.0a0"
    return package("lib", version, needs, build=f"py3{minor}_0", subdir="linux-64", timestamp=timestamp)


PACKAGES = [
    python(13),
    python(14),
    built("1.0", 13, LONG_AGO),
    *(built("2.0", minor, YESTERDAY) for minor in (13, 14)),
    {key: value for key, value in package("timeless", "1.0").items() if key != "timestamp"},
    package("other", "1.0", timestamp=LONG_AGO),
    package("late", "1.0", timestamp=LONG_AGO, indexed_timestamp=YESTERDAY),
    package("young", "1.0", timestamp=YESTERDAY),
]


@pytest.fixture
def folder(project, tmp_path):
    """A project whose channel has old and new packages, and one without a time."""
    made = project()
    made.channel = write_channel(tmp_path / "times", PACKAGES)
    return made


def wait(folder, *lines: str) -> None:
    """Write [tool.couplet] of pyproject.toml."""
    text = (folder.path / "pyproject.toml").read_text().partition("[tool.couplet]")[0]
    (folder.path / "pyproject.toml").write_text(f"{text}[tool.couplet]\n" + "".join(f"{line}\n" for line in lines))


def test_what_was_published_yesterday_comes_in_without_it_and_waits_with_it(folder):
    folder.ask("lib")
    wait(folder, 'min-release-age = "7d"')
    assert folder.versions() == {"lib": "1.0", "python": "3.13.0"}
    wait(folder)
    assert folder.versions(everything=True) == {"lib": "2.0", "python": "3.14.0"}, "the negative control"


@pytest.mark.parametrize(("age", "version"), [("2d", "1.0"), ("1w", "1.0"), ("0d", "2.0"), ("1d", "2.0")])
def test_a_day_is_a_day_and_nothing_is_none(folder, age, version):
    folder.ask("lib")
    wait(folder, f'min-release-age = "{age}"')
    assert folder.versions()["lib"] == version


def test_what_is_locked_stays_with_its_times(folder):
    folder.ask("lib", "timeless", "late")
    before = folder.lock()
    written = (folder.path / "conda.lock").read_bytes()
    assert before["linux-64"]["lib"][0] == "2.0"
    wait(folder, 'min-release-age = "7d"')
    assert folder.lock() == before and (folder.path / "conda.lock").read_bytes() == written
    folder.ask("lib", "timeless", "late", "other")
    assert folder.versions() == {"lib": "2.0", "late": "1.0", "other": "1.0", "python": "3.14.0", "timeless": "1.0"}


def test_what_is_let_go_comes_back_in_a_version_that_is_old_enough(folder):
    folder.ask("lib")
    folder.lock()
    wait(folder, 'min-release-age = "7d"')
    assert folder.versions("lib")["lib"] == "1.0"


def test_a_package_is_exempt_by_its_name_and_no_other(folder):
    """And its newest build for the newest Python, as without a cooldown."""
    folder.ask("LIB")
    wait(folder, 'min-release-age = "7d"', 'min-release-age-exclude = ["Lib"]')
    assert folder.lock()["linux-64"]["lib"] == ("2.0", "py314_0")
    assert str(YESTERDAY) in (folder.path / "conda.lock").read_text(), "with the time that it has"
    wait(folder, 'min-release-age = "7d"', 'min-release-age-exclude = ["other"]')
    assert folder.versions(everything=True)["lib"] == "1.0"


def test_an_exempt_package_still_comes_from_the_first_channel_that_has_it(folder, tmp_path):
    second = write_channel(
        tmp_path / "second", [package("lib", "9.0", timestamp=LONG_AGO), package("young", "0.5", timestamp=LONG_AGO)]
    )
    folder.ask("lib", channels=[folder.channel, second])
    wait(folder, 'min-release-age = "7d"', 'min-release-age-exclude = ["lib"]')
    assert folder.versions()["lib"] == "2.0"
    folder.ask("young", channels=[folder.channel, second])
    with pytest.raises(UserError, match=r"young 1\.0"):
        folder.lock()
    folder.ask("young", channels=[second, folder.channel])
    assert folder.versions()["young"] == "0.5", "the negative control"


def test_when_a_package_was_indexed_counts_and_not_when_it_was_built(folder):
    folder.ask("late")
    wait(folder, 'min-release-age = "7d"')
    with pytest.raises(UserError, match=r"late 1\.0 is excluded because the package is uploaded after"):
        folder.lock()


def test_what_has_no_time_is_left_out_unless_the_switch_lets_it_in(folder):
    folder.ask("timeless")
    wait(folder, 'min-release-age = "7d"')
    with pytest.raises(UserError, match=r"timeless 1\.0 is excluded because the package has no timestamp") as error:
        folder.lock()
    assert "line 4: timeless" in str(error.value) and "min-release-age-ignore-missing-time = true" in str(error.value)
    wait(folder, 'min-release-age = "7d"', "min-release-age-ignore-missing-time = true")
    assert folder.versions() == {"timeless": "1.0"}
    folder.ask("timeless", "young")
    with pytest.raises(UserError, match=r"young 1\.0 is excluded because the package is uploaded after"):
        folder.lock()


def test_whoever_asks_for_what_waits_is_told_so(folder):
    folder.ask("lib=2.0")
    wait(folder, 'min-release-age = "7d"')
    with pytest.raises(UserError) as error:
        folder.lock()
    said = str(error.value)
    assert "line 4: lib=2.0" in said and "lib 2.0 is excluded because the package is uploaded after" in said
    assert "published in the last 7 days" in said and 'min-release-age-exclude = ["name"]' in said
    assert "so that the rest has a solution" not in said


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("min-release-age = 7", 'min-release-age is 7. Example: min-release-age = "7d"'),
        ('min-release-age = "7"', "min-release-age is '7'. Example"),
        ('min-release-age = "-7d"', "min-release-age is '-7d'. Example"),
        ('min-release-age = "36h"', "min-release-age is '36h'. Example"),
        ("min-release-age = true", "min-release-age is True. Example"),
        ('min-release-age-exclude = "numpy"', "min-release-age-exclude is 'numpy'. Example: min-release-age-exclude = [\"numpy\"]"),
        ('min-release-age-exclude = ["numpy=2"]', "min-release-age-exclude is ['numpy=2']"),
        ("min-release-age-exclude = false", "min-release-age-exclude is False"),
        ("min-release-age-ignore-missing-time = 1", "min-release-age-ignore-missing-time is 1"),
        ("min-release-age-exclude = [3]", "min-release-age-exclude is [3]"),
        ('min-release-age-ignore-missing-time = "yes"', "min-release-age-ignore-missing-time is 'yes'"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_with_key_value_and_example(folder, line, words):
    folder.ask("lib")
    wait(folder, line)
    with pytest.raises(UserError) as error:
        folder.lock()
    assert str(error.value).startswith("pyproject.toml, [tool.couplet]: ") and words in str(error.value)


def test_other_keys_of_the_table_are_left_alone():
    document = {"tool": {"couplet": {"audit": {}, "virtual-packages": {}, "min-release-age": "1w"}}}
    assert cooldown.read(document).age.days == 7
