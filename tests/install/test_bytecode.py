"""Compiled files and the cache of them, with this Python."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from couplet.install import bytecode
from tests.install.prefix import python, run


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setattr(bytecode, "CACHE", folder)
    return folder


def environment(prefix: Path, text: str = "x = 1\n") -> str:
    """Make an environment with one module; return its path inside."""
    module = python(prefix) / "module.py"
    module.write_text(text)
    os.utime(module, (1_700_000_000, 1_700_000_000))
    return str(module.relative_to(prefix))


def test_what_was_compiled_once_is_the_same_in_the_next_environment(tmp_path, cache):
    one, two = tmp_path / "one", tmp_path / "two"
    source = environment(one)
    compiled = bytecode.compile_files(one, [source])
    assert environment(two) == source and len([*cache.rglob("*")]) == 2
    kept = next(file for file in cache.rglob("*") if file.is_file())
    content = kept.read_bytes()
    assert bytecode.compile_files(two, [source]) == compiled
    assert (two / compiled[source]).read_bytes() == (one / compiled[source]).read_bytes() == content[32:]
    code = "import module, sys; print(module.__cached__, module.__file__)"
    assert run(two / "bin/python", "-c", code).split() == [f"{two}/{compiled[source]}", f"{two}/{source}"]


def test_a_source_that_differs_is_compiled_anew(tmp_path, cache):
    for number, text in enumerate(("x = 1\n", "x = 2\n", "x = 1\n")):
        prefix = tmp_path / str(number)
        source = environment(prefix, text)
        bytecode.compile_files(prefix, [source])
        assert run(prefix / "bin/python", "-c", "import module; print(module.x)") == text[4]
    assert len([file for file in cache.rglob("*") if file.is_file()]) == 2


def test_half_a_file_in_the_cache_is_none(tmp_path, cache):
    source = environment(tmp_path / "one")
    compiled = bytecode.compile_files(tmp_path / "one", [source])[source]
    kept = next(file for file in cache.rglob("*") if file.is_file())
    kept.write_bytes(kept.read_bytes()[:-5])
    environment(tmp_path / "two")
    bytecode.compile_files(tmp_path / "two", [source])
    assert (tmp_path / "two" / compiled).read_bytes() == (tmp_path / "one" / compiled).read_bytes()


def test_what_is_kept_is_taken_with_the_sources_mode(tmp_path, cache):
    source = environment(tmp_path / "one")
    compiled = bytecode.compile_files(tmp_path / "one", [source])[source]
    kept = next(file for file in cache.rglob("*") if file.is_file())
    planted = kept.read_bytes()[32:] + b"planted"
    kept.write_bytes(hashlib.sha256(planted).digest() + planted)
    environment(tmp_path / "two")
    bytecode.compile_files(tmp_path / "two", [source])
    one, two = tmp_path / "one" / compiled, tmp_path / "two" / compiled
    assert two.read_bytes() == planted and two.stat().st_mode == one.stat().st_mode


def test_what_many_builds_keep_at_once_is_whole(cache):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: bytecode.write_whole(cache / "sa/same", b"content"), range(2000)))
    assert [file.read_bytes() for file in cache.glob("sa/*")] == [b"content"]


def test_what_does_not_compile_is_left_out_and_remembered(tmp_path, cache):
    source = environment(tmp_path / "one", "x = = 1\n")
    assert bytecode.compile_files(tmp_path / "one", [source]) == {}
    assert [file.stat().st_size for file in cache.rglob("*") if file.is_file()] == [32]


def test_a_compiled_file_of_a_layer_below_is_not_written_again(tmp_path, cache):
    source = environment(tmp_path / "one")
    place = tmp_path / "one" / bytecode.compile_files(tmp_path / "one", [source])[source]
    before = place.stat().st_ino
    bytecode.compile_files(tmp_path / "one", [source])
    assert place.stat().st_ino == before
    os.utime(tmp_path / "one" / source, (1_700_000_001, 1_700_000_001))
    bytecode.compile_files(tmp_path / "one", [source])
    assert place.stat().st_ino != before or bytecode.fresh(f"{tmp_path}/one/{source}", str(place), place.read_bytes()[:4])


def test_what_is_written_takes_the_place_of_the_old_at_once(tmp_path):
    """Whoever has the old file open has all of it, and a failure leaves it, and nothing beside it."""
    path, old = tmp_path / "file", tmp_path / "old"
    path.write_bytes(b"old")
    os.link(path, old)
    bytecode.write_whole(path, b"new")
    assert (path.read_bytes(), old.read_bytes()) == (b"new", b"old")
    with pytest.raises(TypeError):
        bytecode.write_whole(path, 1)  # type: ignore[arg-type]
    assert path.read_bytes() == b"new" and sorted(tmp_path.iterdir()) == [path, old]
