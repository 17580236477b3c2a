"""Put the mistakes of tests/mutants.toml into the template, one at a time: does the test that should see each of them fail?

A mistake that no test sees survives: the promise is kept by luck. Each entry has

    kind      what the mistake is about
    file      a path of this repository
    old, new  the text that is replaced, which occurs `count` times (1 by default), and what comes in its place
    promise   what is broken by it
    test      the test that has to fail: a pytest node id, or a file
    engine    true where that test needs a Docker engine: --engine runs these, and only these

A new promise is entered here, with a mistake that breaks it. Copies of this repository are changed, never the working tree:

    python -m tests.harness.mutants --part 2/4 -n 2
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.harness import manifest, parts, scratch, template

TABLE = template.REPOSITORY / "tests/mutants.toml"
KEYS = {"kind", "file", "old", "new", "promise", "test"}
MINUTES = 20
"""How long one test may take. A mistake may well make it wait for ever."""


class Mutant(NamedTuple):
    """One entry of the table: see the module."""

    kind: str
    file: str
    old: str
    new: str
    promise: str
    test: str
    count: int = 1
    engine: bool = False


class Verdict(NamedTuple):
    """What a test said of a mutant: '' for a failure, as it should be, and its last line."""

    mutant: Mutant
    problem: str
    said: str


def read(table: Path = TABLE) -> list[Mutant]:
    """Return the entries of the table. Raises ValueError, with the entry's number, for one that is none."""
    found = []
    for number, entry in enumerate(tomllib.loads(table.read_text())["mutant"], 1):
        wrong = [key for key in sorted(KEYS - {"new"}) if not str(entry.get(key, "")).strip()]
        wrong += sorted({"new"} - entry.keys()) + sorted(entry.keys() - set(Mutant._fields))
        if wrong:
            raise ValueError(f"{table.name}, entry {number}: {', '.join(wrong)}")
        found.append(Mutant(**entry))
    return found


# --- does the table still fit? ---------------------------------------------------------------------


def misfits(mutants: Iterable[Mutant], repository: Path = template.REPOSITORY) -> list[str]:
    """Return a line for each entry whose file, text or test is not there any more."""
    found = []
    for number, mutant in enumerate(mutants, 1):
        where = f"entry {number}, {mutant.file}"
        file = repository / mutant.file
        times = file.read_text().count(mutant.old) if file.is_file() else -1
        if times < 0:
            found.append(f"{where}: there is no such file")
        elif times != mutant.count:
            found.append(f"{where}: its text is there {times} times and not {mutant.count}: {mutant.old!r}")
        elif mutant.old == mutant.new:
            found.append(f"{where}: it changes nothing")
        if not exists(mutant.test, repository):
            found.append(f"{where}: there is no test {mutant.test}")
    return found


def exists(test: str, repository: Path) -> bool:
    """Return whether a test's file has a function of its name; parameters are looked at when it runs."""
    path, _, name = test.partition("::")
    file = repository / path
    if not fnmatch(file.name, "test_*.py") or not file.is_file():
        return False
    functions = {node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)}
    return not name or (name.startswith("test_") and name.partition("[")[0] in functions)


# --- one at a time ---------------------------------------------------------------------------------


def pytest(repository: Path, *words: str) -> tuple[int, str]:
    """Run tests of a copy; return the exit code (-1: it took too long) and the output."""
    command = [sys.executable, "-B", "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider", *words]
    # nothing compiled: two versions of a file may have the same size and time; and room for the reason behind a test's name
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "300"}
    try:
        done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, timeout=60 * MINUTES)
    except subprocess.TimeoutExpired:
        return -1, f"it did not end within {MINUTES} minutes"
    return done.returncode, done.stdout + done.stderr


@contextmanager
def planted(mutant: Mutant, repository: Path) -> Iterator[None]:
    """A copy with a mistake in it, and a MANIFEST that knows of it: else it is that one's test that fails."""
    file, listed = repository / mutant.file, repository / manifest.MANIFEST
    before = file.read_bytes(), listed.read_bytes()
    try:
        file.write_text(file.read_text().replace(mutant.old, mutant.new))
        if file != listed:
            listed.write_text(manifest.manifest(repository))
        yield
    finally:
        listed.write_bytes(before[1])
        file.write_bytes(before[0])


def verdict(mutant: Mutant, repository: Path) -> Verdict:
    """Plant a mutant in a copy, run its test, and take it out again. Only a failure of a test sees it, no other error."""
    with planted(mutant, repository):
        code, output = pytest(repository, "-x", mutant.test)
    # names may have blanks; the reason stands in the last one, of the summary
    failures = re.findall(r"^FAILED (.*)$", output, re.M)
    if code == 1 and failures:
        return Verdict(mutant, "", failures[-1].partition(" - ")[2])
    last = next(reversed(output.strip().splitlines()), "")
    return Verdict(mutant, "survives" if code == 0 else f"is no failure of the test (exit code {code})", last)


def unchanged(mutants: Iterable[Mutant], repository: Path) -> str:
    """Return what the tests say of a copy without a mistake, '' where each of them passes."""
    code, output = pytest(repository, *sorted({mutant.test for mutant in mutants}))
    return "" if code == 0 and not re.search(r"^SKIPPED ", output, re.M) else output[-3000:]


def run(mutants: Sequence[Mutant], processes: int) -> list[Verdict]:
    """Return the verdicts, and print each as it comes. Each process has a copy of its own."""
    with TemporaryDirectory(prefix="couplet-mutants-") as folder, ThreadPoolExecutor(processes) as pool:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(processes):
            copies.put(template.snapshot(Path(folder, str(number), "couplet")))
        copy = copies.get()
        if said := unchanged(mutants, copy):
            raise SystemExit(f"Without a mistake the tests do not pass:\n{said}")
        copies.put(copy)

        def one(mutant: Mutant) -> Verdict:
            copy = copies.get()
            try:
                found = verdict(mutant, copy)
            finally:
                copies.put(copy)
            print(row(found), flush=True)
            return found

        return list(pool.map(one, mutants))


def row(found: Verdict) -> str:
    """Return a line of the table that is printed."""
    return f"{found.problem or 'seen':9} {found.mutant.kind:24.24} {found.mutant.file:44.44} {found.said:.90}"


def chosen(mutants: Sequence[Mutant], options: argparse.Namespace) -> list[Mutant]:
    """Return the mutants that the options name, in the order of the table; those of one test stay together."""
    number, count = options.part
    wanted = [m for m in mutants if m.engine == options.engine and options.only in f"{m.kind} {m.file} {m.test}"]
    return [mutant for place, mutant in enumerate(sorted(wanted, key=lambda m: m.test)) if place % count == number - 1]


def main() -> int:
    """Run a part of the table. Ends with 1 where a mistake survives, or an entry does not fit the repository any more."""
    parser = argparse.ArgumentParser(prog="nox -s mutants --", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--part", type=parts.part_of, default=(1, 1), metavar="K/N", help="the K-th of N parts")
    parser.add_argument("--only", default="", metavar="WORD", help="those with this in their kind, file or test")
    parser.add_argument("--engine", action="store_true", help="those whose test needs Docker, instead of the others")
    parser.add_argument("-n", type=int, choices=(1, 2), default=min(2, os.cpu_count() or 1), help="how many at a time")
    options = parser.parse_args()

    os.environ.update(template.isolated())
    scratch.use()
    mutants = read()
    if wrong := misfits(mutants):
        print("tests/mutants.toml does not fit the repository any more:", *wrong, sep="\n  ", file=sys.stderr)
        return 1
    if not (wanted := chosen(mutants, options)):
        print(
            f"tests/mutants.toml has no entry with {options.only!r} in this part (--engine: those with Docker)",
            file=sys.stderr,
        )
        return 1
    verdicts = run(wanted, options.n)
    survivors = [found for found in verdicts if found.problem]
    print(f"\n{len(verdicts)} mistakes, {len(verdicts) - len(survivors)} of them seen")
    for found in survivors:
        print(
            f"\n{found.mutant.file}: {found.mutant.promise}\n  {found.mutant.test} {found.problem}: {found.said}", file=sys.stderr
        )
    return int(bool(survivors))


if __name__ == "__main__":
    raise SystemExit(main())
