"""The pinned tools: hashes of the wheels that the images can install, and of no others."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.tags import parse_tag

from tests.harness import hub, pins

TAGS = {
    "py3-none-any": pins.MACHINES,
    "py2.py3-none-any": pins.MACHINES,
    "py2-none-any": (),
    "py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64": ("x86_64",),
    "cp313-cp313-manylinux_2_28_aarch64": ("aarch64",),
    "cp313-cp313-linux_x86_64": ("x86_64",),
    "cp37-abi3-manylinux2014_x86_64": ("x86_64",),
    "cp314-abi3-manylinux2014_x86_64": (),
    "cp312-cp312-manylinux_2_28_x86_64": (),
    "cp313-cp313t-manylinux_2_28_x86_64": (),
    "cp313-cp313-musllinux_1_2_x86_64": (),
    "cp313-cp313-macosx_11_0_arm64": (),
    "cp313-cp313-win_amd64": (),
    "cp313-cp313-manylinux_2_28_i686": (),
    "cp313-none-manylinux_2_28_s390x": (),
    "pp311-pypy311_pp73-manylinux_2_28_x86_64": (),
}


@pytest.mark.parametrize("tag", TAGS)
def test_a_wheel_serves_the_machines_that_can_install_it(tag):
    found = [machine for machine in pins.MACHINES if any(pins.serves(each, "3.13", machine) for each in parse_tag(tag))]
    assert found == list(TAGS[tag])


def package(*tags: str, **more: object) -> dict:
    """Return a package of a pylock.toml with a wheel for each tag; the hash is the tag's number."""
    wheels = [
        {"url": f"https://i.invalid/floe-1.0-{tag}.whl", "hashes": {"sha256": str(number)}} for number, tag in enumerate(tags)
    ]
    return {"name": "floe", "version": "1.0", "wheels": wheels, "sdist": {"hashes": {"sha256": "s"}}, **more}


def test_only_what_the_images_can_install_is_pinned():
    assert pins.pin(package("cp313-cp313-win_amd64", "py3-none-any")) == (["floe==1.0", "--hash=sha256:1"], [])


def test_the_source_is_pinned_where_there_is_no_wheel_at_all_and_that_is_said():
    words, said = pins.pin(package("cp313-cp313-win_amd64"))
    assert words == ["floe==1.0", "--hash=sha256:s"] and "no wheel at all" in said[0]


def test_a_python_without_a_wheel_is_said():
    words, said = pins.pin(package(*(f"cp3{n}-cp3{n}-manylinux_2_28_{m}" for n in (11, 12, 13) for m in pins.MACHINES)))
    assert len(words) == 7 and said == [f"floe 1.0: no wheel for CPython 3.14 on {machine}" for machine in pins.MACHINES]


def test_who_can_build_gets_the_source_where_there_is_no_wheel_and_a_macs_wheels():
    linux = [f"cp3{n}-cp3{n}-manylinux_2_28_{machine}" for n in range(11, 15) for machine in pins.MACHINES]
    words, said = pins.pin(package(*linux), pins.DEVELOPERS)
    assert words[-1] == "--hash=sha256:s" and len(words) == 10 and "from the source" in said[0]
    everywhere = package("cp311-abi3-macosx_11_0_arm64", "py3-none-manylinux2014_x86_64.manylinux2014_aarch64")
    assert pins.pin(everywhere, pins.DEVELOPERS) == (["floe==1.0", "--hash=sha256:0", "--hash=sha256:1"], [])
    on_a_mac = package("py3-none-any", marker="sys_platform == 'darwin'")
    assert pins.pin(on_a_mac) == ([], []) and pins.pin(on_a_mac, pins.DEVELOPERS)[0]


def test_what_only_other_systems_want_is_left_out_and_a_marker_that_says_something_stays():
    assert pins.pin(package("py3-none-any", marker="sys_platform == 'win32'")) == ([], [])
    assert pins.pin(package("py3-none-any", marker="sys_platform == 'linux'"))[0][0] == "floe==1.0"
    old = "python_full_version < '3.12'"
    assert pins.pin(package("py3-none-any", marker=old))[0][0] == f"floe==1.0 ; {old}"


def test_the_committed_pins_are_those_of_tools_toml_and_all_by_hash():
    tools = tomllib.loads((pins.REPOSITORY / "tools.toml").read_text())
    files = {file.stem: file.read_text() for file in (pins.REPOSITORY / pins.PINS).glob("*.txt")}
    assert files.keys() == tools.keys()
    for name, text in files.items():
        entries = re.sub(r" \\\n", "", text).splitlines()
        found = {}
        for entry in entries:
            requirement, *hashes = entry.split("    --hash=")
            assert hashes and all(re.fullmatch("sha256:[0-9a-f]{64}", digest) for digest in hashes), entry
            parsed = Requirement(requirement)
            found[parsed.name] = str(parsed.specifier).removeprefix("==")
            places = pins.IMAGES.places()
            assert parsed.marker is None or any(Marker(str(parsed.marker)).evaluate(pins.environment(*place)) for place in places)
        assert {key.replace(".", "-"): value for key, value in tools[name].items()}.items() <= found.items()


ENTRY = re.compile(r"-r \w+\.txt\n|[\w.-]+==[\w.]+( ; [^\\\n]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+\n")


@pytest.mark.parametrize("group", pins.GROUPS)
def test_what_nox_installs_is_what_pyproject_toml_asks_for_and_all_by_hash(group):
    file = pins.REPOSITORY / pins.REQUIREMENTS / f"{group}.txt"
    assert not pins.stale(group, file), "nox -s pin-tools"
    assert ENTRY.sub("", file.read_text()) == "", "hashes and nothing else: no index's address, no comment"


def test_a_file_of_hashes_that_is_behind_is_seen(tmp_path):
    """The negative control: another version, a package that is gone, and one whose hashes are."""
    for file in (pins.REPOSITORY / pins.REQUIREMENTS).glob("*.txt"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    mirror = tmp_path / "mirror.txt"
    [asked] = [requirement for requirement in pins.direct("mirror") if requirement.startswith("zstandard==")]
    text = mirror.read_text()
    assert asked in text
    mirror.write_text(text.replace(asked, "zstandard==0.1"))
    # tests names mirror's file and does not say it again
    assert pins.stale("mirror", mirror) == [asked] and pins.stale("tests", tmp_path / "tests.txt") == [asked]
    mirror.write_text(text.replace(asked, f"{asked}\nfloe==1.0"))
    assert ENTRY.sub("", text) == "" != ENTRY.sub("", mirror.read_text())


def test_nox_installs_those_files():
    installed = re.findall(r'install\(session, "(\w+)"\)', (pins.REPOSITORY / "noxfile.py").read_text())
    assert (
        {*installed, hub.REQUIREMENTS.stem}
        == set(pins.GROUPS)
        == {file.stem for file in (pins.REPOSITORY / pins.REQUIREMENTS).iterdir()}
    )
