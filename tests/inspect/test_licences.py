"""Licences: what SPDX writes, what a policy denies, what a wheel's metadata names, and how `make audit` ends."""

from __future__ import annotations

import datetime
import json

import pytest

from couplet.formats import records
from couplet.formats.platforms import this_machine
from couplet.inspect import audit, licences, report
from couplet.inspect.audit import FOUND, NOTHING, USAGE
from tests.inspect import projects
from tests.inspect.test_report import SITE, prefix  # noqa: F401
from tests.mirror import osv

TODAY = datetime.date(2026, 6, 1)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("MIT", "MIT"),
        ("mit or apache-2.0", "MIT OR Apache-2.0"),
        ("GPL-3.0", "GPL-3.0-only"),
        ("(LGPL-2.1+ OR AGPL-3.0) AND MIT", "(LGPL-2.1-or-later OR AGPL-3.0-only) AND MIT"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "GPL-2.0-only WITH Classpath-exception-2.0"),
        ("LicenseRef-Proprietary", "LicenseRef-Proprietary"),
        ("BSD", ""),
        ("as it pleases the author", ""),
        ("", ""),
    ],
)
def test_a_licence_is_written_as_spdx_writes_it_today(text, written):
    assert licences.spdx(text) == written


@pytest.mark.parametrize(
    ("licence", "deny", "rule"),
    [
        ("GPL-3.0-only", ["GPL-3.0-only"], "GPL-3.0-only"),
        ("GPL-3.0", ["GPL-3.0-only"], "GPL-3.0-only"),
        ("GPL-3.0-or-later", ["GPL-3.0-only"], ""),
        ("LGPL-3.0-only", ["GPL-3.0-only"], ""),
        ("MIT OR GPL-3.0-only", ["GPL-3.0-only"], ""),
        ("MIT OR GPL-3.0-only", ["GPL-3.0-only", "MIT"], "MIT"),
        ("MIT AND GPL-3.0-only", ["GPL-3.0-only"], "GPL-3.0-only"),
        ("Zlib AND (MIT OR GPL-3.0-only)", ["GPL-3.0-only"], ""),
        ("Zlib AND (MIT OR GPL-3.0-only)", ["GPL-3.0-only", "Zlib"], "Zlib"),
        ("MIT OR Zlib AND GPL-3.0-only", ["GPL-3.0-only"], ""),
        ("GPL-3.0-only WITH GCC-exception-3.1", ["GPL-3.0-only"], ""),
        ("GPL-3.0-only WITH GCC-exception-3.1", ["GPL-3.0-only WITH GCC-exception-3.1"], "GPL-3.0-only WITH GCC-exception-3.1"),
        ("AGPL-3.0-or-later", ["AGPL-*"], "AGPL-*"),
        ("Commercial (see the contract)", ["*commercial*"], "*commercial*"),
        ("Commercial (see the contract)", ["MIT"], ""),
        ("", ["*commercial*"], ""),
        ("MIT", [], ""),
    ],
)
def test_a_policy_understands_or_and_with(licence, deny, rule):
    assert licences.denied(licence, deny) == rule


@pytest.mark.parametrize(
    ("headers", "licence"),
    [
        (
            "License-Expression: MIT OR Apache-2.0\nLicense: no\nClassifier: License :: OSI Approved :: MIT License",
            "MIT OR Apache-2.0",
        ),
        ("License: MPL-2.0", "MPL-2.0"),
        ("License: Apache 2.0\nClassifier: License :: OSI Approved :: Apache Software License", "Apache-2.0"),
        ("Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)", "GPL-3.0-only"),
        ("Classifier: License :: OSI Approved :: GNU Lesser General Public License v2 or later (LGPLv2+)", "LGPL-2.0-or-later"),
        ("Classifier: License :: OSI Approved :: GNU Affero General Public License v3", "GNU Affero General Public License v3"),
        (
            "License: Dual License\nClassifier: License :: OSI Approved :: MIT License\nClassifier: License :: Public Domain",
            "Dual License",
        ),
        ("License: BSD 3-Clause License\n        \n        Copyright (c) of all", "BSD 3-Clause License"),
        ("License: UNKNOWN\nClassifier: License :: Other/Proprietary License", "Other/Proprietary License"),
        ("Classifier: Programming Language :: Python", ""),
    ],
)
def test_the_licence_of_a_wheel_is_what_its_metadata_names(headers, licence):
    assert records.licence(f"Metadata-Version: 2.4\nName: a\nVersion: 1\n{headers}\n") == licence


# --- make audit ------------------------------------------------------------------------------------

CONDA = [
    ("python", "3.13.2", (), "Python-2.0"),
    ("readline", "8.3", (), "GPL-3.0-only"),
    ("libgcc", "15", (), "GPL-3.0-only WITH GCC-exception-3.1"),
    ("odd", "1", (), "as it pleases the author"),
]


def audited(folder, monkeypatch, pyproject: str, named: dict[str, str] | None = None):
    """Audit a project with conda's packages and tabulate of Poetry's, whose wheel names a licence; nothing has a vulnerability."""
    folder = projects.project(folder, conda=True, pyproject=pyproject)
    projects.conda_lock(folder, {this_machine(): CONDA})
    projects.poetry_lock(folder, {"tabulate": {}})
    monkeypatch.setattr(audit, "distributions", lambda records: {})
    asked = []

    def of_poetry(packages, python):
        # what uv unpacks is tested where there is an index: tests/inspect/test_make_sbom.py
        asked.append([package.name for package in packages])
        return {package.name: "" for package in packages} | (named or {})

    monkeypatch.setattr(licences, "of_poetry", of_poetry)
    with osv.running("127.0.0.1") as service:
        code, text, data = audit.audit(folder, service.address, TODAY)
    return code, text, data, asked


POLICY = '[tool.couplet.audit]\ndeny = ["GPL-3.0-only"]\n'
IGNORE = '[[tool.couplet.audit.ignore]]\nid = "GPL-3.0-only"\npackage = "readline"\nreason = "never linked"\nuntil = 2030-01-31\n'


def test_a_denied_licence_fails_the_audit_with_package_licence_policy_and_what_to_do(tmp_path, monkeypatch):
    code, text, data, _ = audited(tmp_path / "p", monkeypatch, POLICY, {"tabulate": "GPL-3.0-only AND MIT"})
    assert code == FOUND and "No known vulnerabilities." in text
    lines = text.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("package"))
    assert [line.split("  ")[0] for line in lines[at + 1 : at + 3]] == ["readline", "tabulate"]
    assert lines[at + 1].split() == [
        "readline",
        "8.3",
        "conda",
        "GPL-3.0-only",
        "[tool.couplet.audit],",
        "deny:",
        '"GPL-3.0-only"',
    ]
    assert "GPL-3.0-only AND MIT" in lines[at + 2] and "Denied licences: 2 packages." in text
    assert "Replace the package, or allow it: [[tool.couplet.audit.ignore]]" in text
    assert "the licence of odd, tabulate is no SPDX" not in text and "the licence of odd is not an SPDX expression" in text
    assert [entry["package"] for entry in data["denied"]] == ["readline", "tabulate"] and data["found"] == []


def test_without_a_policy_no_licence_is_asked_for(tmp_path, monkeypatch):
    code, text, data, asked = audited(tmp_path / "p", monkeypatch, "", {"tabulate": "GPL-3.0-only"})
    assert code == NOTHING and asked == [] and data["denied"] == [] and "licence" not in text


def test_a_licence_is_allowed_for_one_package_until_a_day(tmp_path, monkeypatch):
    code, text, *_ = audited(tmp_path / "p", monkeypatch, POLICY + IGNORE, {"tabulate": "MIT"})
    assert code == NOTHING and "Ignored until 2030-01-31: GPL-3.0-only of readline 8.3 (never linked)" in text
    # the negative controls: another package's is not, nor after the day
    assert audited(tmp_path / "q", monkeypatch, POLICY + IGNORE, {"tabulate": "GPL-3.0-only"})[0] == FOUND
    code, text, *_ = audited(tmp_path / "r", monkeypatch, POLICY + IGNORE.replace("2030", "2020"))
    assert code == FOUND and "which is past (never linked)" in text


@pytest.mark.parametrize(
    ("deny", "message"),
    [
        ('"GPL-3.0-only"', "deny is a list of licences"),
        ("[3]", "deny is a list of licences"),
        ('["GPL-3.0"]', "deny has 'GPL-3.0': SPDX writes GPL-3.0-only."),
        ('["GPL3"]', "deny has 'GPL3': it is not an SPDX licence"),
        ('["MIT OR ISC"]', "deny has 'MIT OR ISC': name each licence by itself."),
    ],
)
def test_a_wrong_policy_is_refused_with_file_key_and_value(tmp_path, monkeypatch, deny, message):
    code, text, _, asked = audited(tmp_path / "p", monkeypatch, f"[tool.couplet.audit]\ndeny = {deny}\n")
    assert code == USAGE and text.startswith(f"ERROR: pyproject.toml, [tool.couplet.audit]: {message}") and asked == []


# --- make report -----------------------------------------------------------------------------------


def test_the_report_has_a_table_of_licences(prefix):  # noqa: F811
    file = prefix / "conda-meta/scipy-1.16-0.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "license": "BSD-3-Clause"}))
    with (prefix / SITE / "floe-1.0.dist-info/METADATA").open("a") as metadata:
        metadata.write("License-Expression: MIT\n")
    found = report.licences(prefix)
    assert found == {"": ["ice"], "BSD-3-Clause": ["scipy"], "MIT": ["floe"]}
    image = report.Image("ice:latest", 10, {}, report.packages(prefix, "ice", str(prefix)), [], found)
    assert "     1  BSD-3-Clause: scipy" in report.summary(image) and "     1  not known: ice" in report.summary(image)
    page = report.html(image)
    assert '<td>BSD-3-Clause</td><td class="number">1</td><td>scipy</td>' in page
    # the negative control: a distribution that conda installed is named once, by conda's record
    record = json.loads(file.read_text())
    record["files"] += [f"{SITE}/floe-1.0.dist-info/METADATA"]
    file.write_text(json.dumps(record))
    assert "MIT" not in report.licences(prefix)
