"""Linking: real packages, made by rattler-build and linked by rattler, and what conda's own tools read afterwards."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from couplet.errors import UserError
from couplet.formats import conda_lock
from couplet.formats.conda_lock import Package
from couplet.install import conda, conda_root, fetch
from tests.install.prefix import CHANNEL, HERE, conda_package, put_into_cache, python

RECORD = '{"url": "file:///home/conda/feedstock_root/work"}'


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    """The builder's cache is a folder of this test; conda itself is not here, so packages lie there already."""
    monkeypatch.setattr(conda_root, "CACHE", tmp_path / "cache")


def odd_package(folder: Path, name: str, files: dict[str, str], dot: str = "", lists: bool = True):
    """Make a .tar.bz2 package by hand, as old and foreign tools do."""
    index = {"name": name, "version": "1.0", "build": "0", "build_number": 0, "depends": [], "subdir": HERE}
    paths = [{"_path": path, "path_type": "hardlink"} for path in files]
    info = {"index.json": json.dumps(index), "paths.json": json.dumps({"paths_version": 1, "paths": paths})}
    info |= {"files": "".join(f"{path}\n" for path in files)} if lists else {}
    archive = folder / f"{name}-1.0-0.tar.bz2"
    with tarfile.open(archive, "w:bz2") as tar:
        for path, text in {**files, **{f"info/{key}": value for key, value in info.items()}}.items():
            member = tarfile.TarInfo(dot + path)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return put_into_cache(archive, HERE)


def test_a_package_is_linked_and_recorded_as_conda_does(tmp_path):
    prefix = tmp_path / "env"
    package = conda_package(tmp_path, "alpha", {"share/alpha.txt": "1"})
    assert conda.link([package], prefix) == []
    conda.finish_records([package], prefix, [])
    conda.write_history(prefix, [package])
    assert (prefix / "share/alpha.txt").read_text() == "1"
    file = prefix / "conda-meta/alpha-1.0-0.json"
    record = json.loads(file.read_text())
    assert (record["url"], record["channel"]) == (package.url, f"{CHANNEL}/{HERE}")
    assert record["link"]["source"] == record["extracted_package_dir"] and record["sha256"] == package.sha256
    assert file.stat().st_mode & 0o044, "rattler's own file is for its owner alone"
    assert '# update specs: ["alpha==1.0=0"]' in (prefix / "conda-meta/history").read_text()


def test_packages_are_added_to_an_environment_and_what_was_there_stays(tmp_path):
    """As dev gets its own packages."""
    prefix = tmp_path / "env"
    alpha, beta = (conda_package(tmp_path, name, {f"share/{name}.txt": name}) for name in ("alpha", "beta"))
    conda.link([alpha], prefix)
    conda.finish_records([alpha], prefix, [])
    record = prefix / "conda-meta/alpha-1.0-0.json"
    before, inode = record.read_bytes(), (prefix / "share/alpha.txt").stat().st_ino
    conda.link([beta], prefix)
    conda.finish_records([beta], prefix, [])
    assert record.read_bytes() == before and (prefix / "share/alpha.txt").stat().st_ino == inode
    assert json.loads((prefix / "conda-meta/beta-1.0-0.json").read_text())["url"] == beta.url


def test_noarch_packages_are_compiled_and_their_compiled_files_recorded(tmp_path, monkeypatch):
    prefix = tmp_path / "env"
    site = python(prefix).relative_to(prefix)
    package = conda_package(tmp_path, "alpha", {"share/a": ""})
    conda.link([package], prefix)
    (prefix / site / "pure.py").write_text("x = 1\n")
    file = prefix / "conda-meta/alpha-1.0-0.json"
    record = json.loads(file.read_text())
    for noarch, compiled in (("generic", False), ("python", True)):
        file.write_text(json.dumps({**record, "noarch": noarch, "files": [f"{site}/pure.py"]}))
        conda.finish_records([package], prefix, [])
        recorded = json.loads(file.read_text())
        assert any(path.endswith(".pyc") for path in recorded["files"]) == compiled
        assert any(entry["path_type"] == "pyc_file" for entry in recorded["paths_data"]["paths"]) == compiled


@pytest.mark.parametrize(("code", "fails"), [(0, False), (3, True)])
def test_a_post_link_script_that_fails_fails_the_installation(tmp_path, code, fails):
    script = f'echo "$PKG_NAME" > "$PREFIX/ran"\nexit {code}\n'
    package = odd_package(tmp_path, "alpha", {"bin/.alpha-post-link.sh": script})
    if fails:
        with pytest.raises(UserError, match="post-link script of alpha failed"):
            conda.link([package], tmp_path / "env")
    else:
        assert conda.link([package], tmp_path / "env") == ["alpha"]
    assert (tmp_path / "env/ran").read_text() == "alpha\n"


def test_what_a_post_link_script_makes_of_its_own_package_is_recorded(tmp_path):
    prefix = tmp_path / "env"
    files = {"share/a": "before", "bin/.alpha-post-link.sh": 'echo after > "$PREFIX/share/a"\n'}
    package = odd_package(tmp_path, "alpha", files)
    scripted = conda.link([package], prefix)
    record = prefix / "conda-meta/alpha-1.0-0.json"
    before = record.read_text()
    for names, recorded in (([], False), (scripted, True)):
        record.write_text(before)
        conda.finish_records([package], prefix, names)
        entries = {entry["_path"]: entry for entry in json.loads(record.read_text())["paths_data"]["paths"]}
        assert (entries["share/a"].get("sha256_in_prefix") == fetch.hashes_of(prefix / "share/a")[1]) == recorded


@pytest.mark.parametrize("dot", ["", "./"])
@pytest.mark.parametrize("lists", [True, False])
def test_link_scripts_run_or_are_refused_by_name(tmp_path, dot, lists):
    """The negative control: the same packages where the names may run, and where nothing is said."""
    script = {"bin/.alpha-post-link.sh": 'echo ran > "$PREFIX/ran"\n'}
    packages = [odd_package(tmp_path, "alpha", script, dot, lists), odd_package(tmp_path, "beta", {"bin/.alpha": ""}, dot, lists)]
    with pytest.raises(UserError, match=r"^alpha: a post-link script would run .*\n.*Name it there, and run `make env-update`"):
        conda.link(packages, tmp_path / "refused", ["gamma"])
    assert not (tmp_path / "refused").exists(), "before anything is installed"
    for number, allowed in enumerate((["alpha"], None)):
        assert conda.link(packages, tmp_path / f"env-{number}", allowed) == ["alpha"]
        assert (tmp_path / f"env-{number}/ran").exists()
    assert conda.link(packages[1:], tmp_path / "none", []) == []


def test_the_lock_says_whose_link_scripts_may_run(tmp_path, monkeypatch):
    """The whole verb; the negative control is a lock that says nothing."""
    package = odd_package(tmp_path, "alpha", {"bin/.alpha-post-link.sh": "exit 0\n"})
    monkeypatch.setattr(conda_root, "call", lambda verb, lock: None)
    python(tmp_path / "env")
    lock = tmp_path / conda_lock.file_name(HERE)
    lock.write_text(conda_lock.explicit([package], HERE, [], scripts=[]))
    with pytest.raises(UserError, match=r"^alpha: a post-link script would run"):
        conda.install(tmp_path, tmp_path / "env")
    lock.write_text(conda_lock.explicit([package], HERE, []))
    conda.install(tmp_path, tmp_path / "env")


def test_a_file_where_another_package_has_a_folder_is_refused_by_name(tmp_path):
    packages = [odd_package(tmp_path, "alpha", {"share/x": "1"}), odd_package(tmp_path, "beta", {"share/x/y/z": "2"})]
    with pytest.raises(
        UserError, match=r"do not go together: share/x is a file of alpha and a folder of beta\.\nAsk for another"
    ):
        conda.link(packages, tmp_path / "env")
    assert not (tmp_path / "env").exists()
    more = odd_package(tmp_path, "gamma", {"share/x": "1"})
    conda.link(packages[1:], tmp_path / "more")
    with pytest.raises(UserError, match=r"share/x is a file of gamma and a folder of beta"):
        conda.link([more], tmp_path / "more")
    assert (tmp_path / "more/share/x/y/z").read_text() == "2"


def test_modules_are_compared_where_a_noarch_package_puts_them():
    brought = {"noarch": ["site-packages/x.py"], "other": ["lib/python3.11/site-packages/x.py/y", "lib/x.py/y"]}
    assert conda.files_for_folders(brought) == ["site-packages/x.py is a file of noarch and a folder of other"]
    assert conda.files_for_folders({"one": ["a/b", "a/b.c"], "two": ["a/b", "a/bc/d"]}) == []


def test_a_link_to_a_folder_is_no_file():
    entries = [{"_path": "lib64", "path_type": "softlink"}, {"_path": "lib", "path_type": "directory"}, {"_path": "lib/x"}]
    assert conda.real_files(entries) == ["lib/x"]


@pytest.mark.parametrize(
    ("content", "said"), [("1", ""), ("2", "different files at the same path; overwritten: share/x of beta\n")]
)
def test_one_file_of_two_packages_is_told_where_they_differ(tmp_path, capsys, content, said):
    packages = [odd_package(tmp_path, name, {"share/x": text}) for name, text in (("alpha", "1"), ("beta", content))]
    conda.link(packages, tmp_path / "env")
    shown = capsys.readouterr().out
    assert shown.endswith(said) if said else shown == ""
    assert (tmp_path / "env/share/x").read_text() == "1"


@pytest.mark.parametrize(("dot", "lists"), [("", True), ("./", True), ("", False)])
def test_odd_packages_are_linked(tmp_path, dot, lists):
    """Archives with members ./info/…, and packages without info/files."""
    conda.link([odd_package(tmp_path, "odd", {"share/odd": "1"}, dot, lists)], tmp_path / "env")
    assert (tmp_path / "env/share/odd").read_text() == "1"


def test_what_is_no_package_is_refused_with_a_message(tmp_path):
    (tmp_path / "no-1.0-0.conda").write_bytes(b"no zip")
    package = put_into_cache(tmp_path / "no-1.0-0.conda", HERE)
    with pytest.raises(UserError, match="cannot be linked"):
        conda.link([package], tmp_path / "env")


def test_an_unpacked_package_that_is_damaged_is_unpacked_again(tmp_path, monkeypatch):
    package = conda_package(tmp_path, "alpha", {"share/a": "1"})

    def damaged(name: str) -> str:
        conda.link([package], tmp_path / f"{name}-1")
        unpacked = next(conda_root.CACHE.glob("unpacked/alpha*/share/a"))
        unpacked.unlink()
        unpacked.write_text("2")
        conda.link([package], tmp_path / f"{name}-2")
        return (tmp_path / f"{name}-2/share/a").read_text()

    assert damaged("compared") == "1"
    skip = conda.rattler.PackageCache.new_layered(
        [str(conda_root.CACHE / "unpacked")], validation_mode=conda.rattler.ValidationMode.skip()
    )
    monkeypatch.setattr(conda, "unpacked_packages", lambda: skip)
    assert damaged("taken") == "2", "without the comparison it is taken as it is"


def test_notes_of_the_build_machine_are_forgotten_and_others_are_not(tmp_path):
    folder = python(tmp_path)
    for name, text in {"a": RECORD, "b": '{"url": "https://host/b.whl"}'}.items():
        (folder / f"{name}-1.dist-info").mkdir()
        (folder / f"{name}-1.dist-info/direct_url.json").write_text(text)
    conda.forget_sources(tmp_path)
    assert [file.parent.name for file in folder.glob("*/direct_url.json")] == ["b-1.dist-info"]


def test_the_longest_public_address_decides_where_a_package_comes_from():
    mapping = {"https://conda.anaconda.org": "https://mirror", "https://conda.anaconda.org/bio": "file:///bio"}
    assert fetch.mapped_url("https://conda.anaconda.org/forge/x/a.conda", mapping) == "https://mirror/forge/x/a.conda"
    assert fetch.mapped_url("https://conda.anaconda.org/bio/x/a.conda", mapping) == "file:///bio/x/a.conda"
    assert fetch.mapped_url("https://conda.anaconda.org/biology/a.conda", mapping) == "https://mirror/biology/a.conda"
    assert fetch.mapped_url("https://elsewhere/a.conda", mapping) == "https://elsewhere/a.conda"


@pytest.mark.parametrize(("program", "message"), [
    ("echo '\nERROR: no room\n' >&2; exit 1", "^no room$"),
    ("echo noise >&2; exit 7", "conda's Python failed .exit code 7.:\nnoise"),
])  # fmt: skip
def test_what_condas_python_says_is_the_message(tmp_path, program, message):
    (tmp_path / "bin").mkdir()
    before = os.environ.get("PYTHONPATH")
    python_file = tmp_path / "bin/python"
    python_file.write_text(f"#!/bin/sh\n{program}\n")
    python_file.chmod(0o755)
    with pytest.raises(UserError, match=message):
        conda_root.call("channels", root=tmp_path)
    python_file.write_text("#!/bin/sh\necho $PYTHONPATH\n")
    assert Path(conda_root.call("channels", root=tmp_path).strip(), "couplet/__main__.py").is_file()
    assert os.environ.get("PYTHONPATH") == before, "of that process alone"


def test_how_far_it_is_is_shown_at_once(tmp_path, monkeypatch):
    """The process goes on when its line was shown; the negative control is a line of another kind."""
    python_file, go = tmp_path / "bin/python", tmp_path / "go"
    python_file.parent.mkdir()
    monkeypatch.setattr(conda_root.sys, "stderr", Watched(go))
    for line, shown in ((f"{conda_root.FETCHING} 1 of 2 packages", True), ("conda: something else", False)):
        go.unlink(missing_ok=True)
        waits = f"for i in 1 2 3 4 5 6 7 8 9 10; do test -e {go} && exit 0; sleep 0.2; done; exit 3"
        python_file.write_text(f"#!/bin/sh\necho '{line}' >&2; echo done; {waits}\n")
        python_file.chmod(0o755)
        if shown:
            assert conda_root.call("fetch", root=tmp_path) == "done\n"
        else:
            with pytest.raises(UserError, match="exit code 3"):
                conda_root.call("fetch", root=tmp_path)


class Watched(io.StringIO):
    """A stream that makes a file when something is written into it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file

    def write(self, text: str) -> int:
        self.file.touch()
        return super().write(text)


@pytest.mark.parametrize(("every", "said"), [(0, ["1 of 2", "2 of 2"]), (60, [])])
def test_fetching_says_how_far_it_is(tmp_path, monkeypatch, capsys, every, said):
    packages = [conda_package(tmp_path, name, {f"share/{name}": "1"}) for name in ("alpha", "beta")]
    monkeypatch.setattr(fetch, "channel_map", dict)
    monkeypatch.setattr(fetch, "archive", conda_root.archive)
    monkeypatch.setattr(fetch, "EVERY", every)
    fetch.fetch(packages)
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "fetching" in line] == [f"conda: fetching {one} packages" for one in said]
    assert lines[-1] == "conda: 2 packages, 0 MB downloaded, hashes checked"


def test_a_download_is_compared_by_both_hashes_and_so_is_what_lies_there(tmp_path, monkeypatch):
    """conda itself would look at the MD5 alone."""
    content, sent = b"a package", [b"a package"]
    right = hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest()
    url, asked = f"{CHANNEL}/{HERE}/alpha-1.0-0.conda", []

    def download(url: str, target: Path) -> None:
        asked.append(url)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(sent[0])

    monkeypatch.setattr(fetch, "download", download)
    monkeypatch.setattr(fetch, "archive", conda_root.archive)
    monkeypatch.setattr(fetch.time, "sleep", lambda seconds: None)
    package = Package(url, *right)
    assert fetch.fetch_one(package, {}) == len(content) and fetch.fetch_one(package, {}) == 0 and len(asked) == 1
    conda_root.archive(package).write_bytes(b"spoiled")
    assert fetch.fetch_one(package, {}) == len(content) and len(asked) == 2, "what lies there is compared too"
    for wrong, name in ((Package(url, right[0], "1" * 64), "SHA-256"), (Package(url, "1" * 32, right[1]), "MD5")):
        with pytest.raises(UserError, match=f"{name} .*the lock says 1111"):
            fetch.fetch_one(wrong, {})
        assert not conda_root.archive(wrong).exists()


def test_an_environment_is_made_with_all_that_conda_and_its_readers_look_for(tmp_path, monkeypatch):
    """The whole verb but for the download: packages, history, variables, and no note of the build machine."""
    site = "lib/python3.13/site-packages"
    alpha = conda_package(tmp_path, "alpha", {f"{site}/alpha-1.dist-info/direct_url.json": RECORD, f"{site}/alpha.py": "x = 1\n"})
    beta = conda_package(tmp_path, "beta", {"share/beta.txt": "1"})
    asked: list[list[Package]] = []
    monkeypatch.setattr(conda_root, "call", lambda verb, lock: asked.append(conda_lock.read(Path(lock))))
    locks, prefix, home = tmp_path / "locks", tmp_path / "env", os.environ.get("HOME")
    locks.mkdir()
    for packages, variables in (([alpha], {"ICE": "a b"}), ([alpha, beta], {})):
        (locks / conda_lock.file_name(HERE)).write_text(conda_lock.explicit(packages, HERE, [], variables=variables))
        conda.install(locks, prefix)
        assert [path.name for path in prefix.glob(f"{site}/**/*") if path.suffix in (".json", ".py")] == ["alpha.py"]
        state = prefix / "conda-meta/state"
        assert (json.loads(state.read_text())["env_vars"] if state.exists() else {}) == variables
        assert (prefix / "conda-meta/history").read_text().count("==1.0=0") == len(packages)
    assert asked == [[alpha], [beta]], "what is there is not fetched again"
    assert (prefix / "share/beta.txt").exists() and os.environ.get("HOME") == home
