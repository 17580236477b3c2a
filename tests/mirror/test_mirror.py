"""The stand-ins behave like what they stand for.  On the public network there are none, and nothing to test."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import tarfile
import urllib.request
import zipfile
from pathlib import Path

import pytest
import zstandard

from tests.mirror import cache, debian, engine, images, network, package, settings, store, web
from tests.mirror.engine import Engine

CREATE = """
set -e
export CONDARC=/run/condarc CONDA_PKGS_DIRS=/tmp/pkgs
conda create --quiet --yes --name source python=3.13 numpy jupyter_core udunits2 > /tmp/log 2>&1 || {{ cat /tmp/log; exit 1; }}
conda list --name source --explicit --md5 > /tmp/explicit.lock
conda create --quiet --yes --name copy --file /tmp/explicit.lock > /tmp/log 2>&1 || {{ cat /tmp/log; exit 1; }}
. /opt/conda/etc/profile.d/conda.sh
conda activate copy
{commands}
"""


@pytest.mark.parametrize(
    ("subdir", "platform", "arch"),
    [
        ("linux-64", "linux", "x86_64"),
        ("linux-aarch64", "linux", "aarch64"),
        ("osx-arm64", "osx", "arm64"),
        ("noarch", None, None),
    ],
)
def test_a_package_says_which_machine_it_is_for(tmp_path: Path, subdir: str, platform: str | None, arch: str | None) -> None:
    (tmp_path / "stage").mkdir()
    described = package.Package("thing", "1.0", "0", [], subdir=subdir)
    archive = zipfile.ZipFile(package.write(described, tmp_path / "stage", tmp_path))
    inside = zstandard.ZstdDecompressor().stream_reader(archive.open("info-thing-1.0-0.tar.zst"))
    with tarfile.open(fileobj=inside, mode="r|") as info:
        index = next(json.load(info.extractfile(member)) for member in info if member.name == "info/index.json")
    assert (index["platform"], index["arch"], index["subdir"]) == (platform, arch, subdir)


@pytest.fixture(scope="module")
def on(package_sources: str) -> Engine:
    """The engine that has the stand-ins."""
    if package_sources == network.PUBLIC:
        pytest.skip("the public network is in use: there are no stand-ins to test")
    found = engine.find()
    assert found, "no engine runs: python -m tests.mirror up"
    return found


def in_miniforge(on: Engine, commands: str) -> str:
    """The output of commands in an activated environment made from an explicit lock."""
    condarc = settings.read()["CONDARC"]
    script = CREATE.format(commands=commands)
    return engine.docker(on, "run", "--rm", f"--volume={condarc}:/run/condarc:ro", images.MINIFORGE, "bash", "-c", script).strip()


def test_environment_from_an_explicit_lock_is_whole(on: Engine) -> None:
    """Linked programs run, files that conda rewrites name the new prefix, and the metadata are conda-forge's."""
    output = in_miniforge(
        on,
        """
        python - <<'END'
import ctypes, json, pathlib, sqlite3, ssl, sys, sysconfig
import numpy
info = next(pathlib.Path(sysconfig.get_path("purelib")).glob("numpy-*.dist-info"))
print(json.dumps({
    "authorities": len(ssl.create_default_context().get_ca_certs()) > 50,
    "installer": (info / "INSTALLER").read_text().strip(),
    "origin": json.loads((info / "direct_url.json").read_text())["url"],
    "compiled": sysconfig.get_config_var("prefix"),
    "shebang": pathlib.Path(sys.prefix, "bin/f2py").read_text().splitlines()[0],
    "noarch": pathlib.Path(sys.prefix, "bin/jupyter").read_text().splitlines()[0],
}))
END
        """,
    )
    found = json.loads(output)
    prefix = "/opt/conda/envs/copy"
    assert found["authorities"]
    assert found["installer"] == "conda"
    assert found["origin"].startswith("file:///home/conda/feedstock_root/build_artifacts/numpy")
    assert found["compiled"] == prefix
    assert found["shebang"] == f"#!{prefix}/bin/python"
    assert found["noarch"].startswith(f"#!{prefix}/bin/python")


def test_activation_runs_the_scripts_of_packages_and_deactivation_undoes_them(on: Engine) -> None:
    """udunits2's variable comes and goes, and its program runs from the prefix alone."""
    output = in_miniforge(
        on,
        'echo "$UDUNITS2_XML_PATH"; udunits2 -H km -W m | grep -c "1 km = 1000 m"; conda deactivate; echo "${UDUNITS2_XML_PATH-gone}"',
    )
    assert output.splitlines() == ["/opt/conda/envs/copy/share/udunits/udunits2.xml", "1", "gone"]


def test_without_the_settings_the_channel_is_unknown(on: Engine) -> None:
    """No address is baked into the image: it comes from outside, as in a company."""
    script = "conda create --dry-run --name x python=3.13"
    with pytest.raises(engine.EngineError, match=r"conda\.anaconda\.org"):
        engine.docker(on, "run", "--rm", "--network=none", images.MINIFORGE, "bash", "-c", script)


def test_saturn_clouds_root_is_as_old_as_the_real_one(on: Engine) -> None:
    """What only runs on a newer Python, conda or pip must fail here as it does there; the environment is empty."""
    root = "/opt/saturncloud/bin"
    script = f"{root}/python --version; {root}/conda --version; {root}/pip --version; ls {root}/../envs/saturn/conda-meta"
    python, conda, pip, records = engine.docker(on, "run", "--rm", images.SATURN, "bash", "-c", script).splitlines()
    assert python.startswith("Python 3.9.") and conda == "conda 22.9.0" and pip.startswith("pip 22.")
    assert records == "history"


def test_debian_has_no_trust_of_this_machine(on: Engine) -> None:
    """The slim image has no CA bundle at all, like the real one, so a build must bring it."""
    shown = engine.docker(on, "run", "--rm", images.DEBIAN, "bash", "-c", "ls /etc/ssl/certs/ca-certificates.crt 2>&1 || true")
    assert "No such file" in shown


def test_a_release_that_cannot_be_had_leaves_apts_sources_as_they_were() -> None:
    """Or no later `apt-get update` of this machine's would end well."""
    # apt is the machine's own: only root may give it a source, and only Debian's archive has Debian's releases
    if os.geteuid() != 0 or debian.os_release().get("ID") != "debian":
        pytest.skip("needs root on Debian")
    folders = [Path("/etc/apt/sources.list.d"), Path("/etc/apt/preferences.d")]
    before = {path: path.read_bytes() for folder in folders for path in folder.iterdir()}
    with pytest.raises(debian.AptError, match="nosuch"):
        debian.add_newer(print, "nosuch")
    assert {path: path.read_bytes() for folder in folders for path in folder.iterdir()} == before


@pytest.mark.parametrize("kind", ["an engine's", "the negative control: without an address of its own"])
def test_a_bridge_keeps_its_address_when_a_container_ends(on: Engine, kind: str) -> None:
    """Or the other containers' connections time out, now and then, as long as they remember the old one."""
    # making a bridge needs root, which only who has made a private engine is known to be; and an engine of the user's own is on none of ours
    if not on.private:
        pytest.skip("an engine of the user's own has a bridge that is not ours")
    name, port = (f"{word}{os.getpid()}" for word in ("cpltb", "cpltv"))
    ip = functools.partial(cache.run, error=RuntimeError)
    network = engine.free_network(["10.213.79.0/24", "172.29.249.0/24", *engine.NETWORKS])
    address = Path("/sys/class/net", name, "address")
    try:
        if kind == "an engine's":
            engine.add_bridge(name, network)
        else:
            ip(["ip", "link", "add", name, "type", "bridge"])
        before = address.read_text()
        ip(["ip", "link", "add", port, "address", "02:00:00:00:00:01", "type", "veth", "peer", "name", f"{port}x"])
        ip(["ip", "link", "set", port, "master", name])
        during = address.read_text()
        ip(["ip", "link", "delete", port])
        assert (before == during) == (kind == "an engine's")
    finally:
        subprocess.run(["ip", "link", "delete", port], capture_output=True, check=False)
        subprocess.run(["ip", "link", "delete", name], capture_output=True, check=False)


def test_the_private_engines_cache_has_its_bound(on: Engine) -> None:
    """As its builder says itself: without one it would keep what each run leaves (decision 0077)."""
    # the bound is in the daemon.json of the engine that this suite starts; another engine has its user's
    if not on.private:
        pytest.skip("an engine of the user's own keeps what its user says")
    shown = engine.docker(on, "buildx", "inspect", "default")
    # the last rule is the one for all that is left; older clients have another word, and reckon in powers of ten
    kept = re.findall(r"(?:Reserved Space|Keep Bytes): +(\S+)", shown)
    assert kept and kept[-1] in {"30GiB", "30GB", "27.94GiB"}, shown


@pytest.mark.parametrize("kind", ["with", "the negative control: without"])
def test_what_a_dead_engine_left_mounted_is_unmounted(on: Engine, tmp_path: Path, kind: str) -> None:
    """A deletion would go through it; tests/install/test_engine_faults.py has the real thing, in a namespace of its own."""
    # mounting needs root, which only who has made a private engine is known to be; and no other engine's data is ours to unmount
    if not on.private:
        pytest.skip("an engine of the user's own is started by its user")
    (tmp_path / "layer").mkdir()
    (tmp_path / "layer/file").touch()
    data = tmp_path / "a data\\folder"
    (data / "tmp/mount").mkdir(parents=True)
    cache.run(["mount", "--bind", tmp_path / "layer", data / "tmp/mount"])
    try:
        said: list[str] = []
        if kind == "with":
            store.settle(data, said.append)
        shutil.rmtree(data, ignore_errors=True)
        assert (tmp_path / "layer/file").exists() == (kind == "with") and said == []
    finally:
        store.let_go(data.parent)


def test_a_start_begins_with_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first thing of all: the bridge, which comes next and is another engine's here, is not made any more."""
    monkeypatch.setenv("COUPLET_CACHE", str(tmp_path))
    monkeypatch.delattr(engine, "_bridge")
    said: list[str] = []
    links = engine.folder() / "data/overlay2/l"
    links.mkdir(parents=True)
    (links / "SHORT").symlink_to("../gone/diff")
    with pytest.raises(NameError, match="_bridge"):
        engine._start(said.append)
    assert list((engine.folder() / "data").iterdir()) == [] and "layer gone has no folder" in said[0]


def test_the_web_server_answers_for_a_part_of_a_file(on: Engine) -> None:
    """Clients fetch parts of packages; a server without ranges would send the whole."""
    request = urllib.request.Request(f"{web.alias(on)}/conda-forge/noarch/repodata.json", headers={"Range": "bytes=0-9"})
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=10) as answer:
        assert answer.status == 206
        assert len(answer.read()) == 10


def test_settings_name_files_that_exist(on: Engine) -> None:
    """What a shell sources points at real files, and no registry is named but pip's own."""
    values = settings.read()
    assert all(Path(values[name]).is_file() for name in ("CONDARC", "PIP_CONFIG_FILE"))
    assert settings.package_index() in Path(values["PIP_CONFIG_FILE"]).read_text()


def repodata(subdir: str) -> dict[str, list[dict]]:
    """The packages for a platform, by name, in this checkout's version of the channel."""
    alias = Path(settings.read()["CONDARC"]).read_text().split("channel_alias: ")[1].split()[0]
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"{alias}/conda-forge/{subdir}/repodata.json", timeout=10) as answer:
        found: dict[str, list[dict]] = {}
        for record in json.load(answer)["packages.conda"].values():
            found.setdefault(record["name"], []).append(record)
        return found


@pytest.mark.parametrize("subdir", ["linux-aarch64", "osx-arm64"])
def test_a_platform_that_can_only_be_locked_asks_for_what_the_real_one_does(on: Engine, subdir: str) -> None:
    """Real wheels and a Python without content, with linux-64's versions and dependencies, but for scipy on osx-arm64."""
    here, there = repodata("linux-64"), repodata(subdir)
    for name, records in there.items():
        if name in ("scipy", "pytorch"):
            continue
        versions = {record["version"]: record["depends"] for record in here[name]}
        for record in records:
            assert record["subdir"] == subdir and record["version"] in versions, record
        if name in ("python", "udunits2"):
            assert record["size"] < 2000 and record["depends"] in [entry["depends"] for entry in here[name]]
    assert there["numpy"][0]["size"] > 2_000_000, "the real numpy"
    assert {record["version"] for record in there["scipy"]} == ({"1.16.3"} if subdir == "osx-arm64" else {"1.17.1"})
    cuda = {record["version"] for record in there["pytorch"] if "__cuda" in record["depends"]}
    assert bool(cuda) == (subdir != "osx-arm64")
