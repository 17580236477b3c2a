"""`make scan`: which scanner gets the SBOM, and in which words. The scanners here write down how they were called."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.harness import template

SCRIPT = template.REPOSITORY / "template/.couplet/host/scan.sh"
CALLS = {
    "grype": "grype --add-cpes-if-none sbom:report/sbom.cdx.json\n",
    "trivy": "trivy sbom report/sbom.cdx.json\n",
    "osv-scanner": "osv-scanner --sbom=report/sbom.cdx.json\n",
}


def scan(folder: Path, *there: str, **variables: str) -> subprocess.CompletedProcess:
    """Run the script where these scanners alone are on PATH; each finds something."""
    folder.mkdir()
    for name in there:
        (folder / name).write_text('#!/bin/sh\necho "${0##*/} $*"\nexit 3\n')
        (folder / name).chmod(0o755)
    return subprocess.run([SCRIPT], cwd=folder, env={"PATH": str(folder), **variables}, capture_output=True, text=True)


@pytest.mark.parametrize("name", CALLS)
def test_the_scanner_on_path_gets_the_sbom_and_its_exit_code_counts(tmp_path, name):
    done = scan(tmp_path / "bin", name)
    assert (done.returncode, done.stdout, done.stderr) == (3, CALLS[name], "")


def test_of_several_the_first_that_may_know_c_libraries_or_the_one_that_is_named(tmp_path):
    assert scan(tmp_path / "all", *CALLS).stdout == CALLS["grype"]
    assert scan(tmp_path / "named", *CALLS, SCANNER="trivy").stdout == CALLS["trivy"]


@pytest.mark.parametrize("variables", [{}, {"SCANNER": "grype"}, {"SCANNER": "trivy osv"}])
def test_without_one_the_message_names_them(tmp_path, variables):
    done = scan(tmp_path / "none", **variables)
    assert done.returncode == 69 and "grype, trivy and osv-scanner" in done.stderr
