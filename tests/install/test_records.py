"""What is installed, read from conda's records and Python's metadata."""

from __future__ import annotations

import pytest

from couplet.errors import UserError
from couplet.formats import conda_lock, records
from tests.install.prefix import HERE, conda_record, distribution, poetry_lock, python, site_packages
from tests.install.prefix import conda_lock as write_lock


def test_a_distribution_is_condas_where_a_package_carries_its_metadata_whatever_its_name(tmp_path):
    folder = site_packages(tmp_path)
    metadata = (distribution(folder, "Torch", "2.0") / "METADATA").relative_to(tmp_path)
    distribution(folder, "alone", "1.0")
    conda_record(tmp_path, "pytorch", "2.0", [str(metadata)])
    assert records.conda_distributions(tmp_path) == {"torch": records.Distribution("torch", "2.0", "pytorch")}
    assert records.installed_distributions(tmp_path)["alone"].owner is None


def test_metadata_inside_of_another_package_is_not_a_distribution():
    assert records.metadata_file("lib/python3.13/site-packages/a-1.dist-info/METADATA")
    assert records.metadata_file("site-packages/a.egg-info/PKG-INFO")
    assert not records.metadata_file("lib/python3.13/site-packages/setuptools/_vendor/a-1.dist-info/METADATA")
    assert not records.metadata_file("lib/python3.13/site-packages/a-1.dist-info/RECORD")


def test_two_versions_of_one_distribution_are_both_reported(tmp_path):
    folder = site_packages(tmp_path)
    distribution(folder, "a", "1.0")
    assert set(records.installed_distributions(tmp_path)) == {"a"}
    distribution(folder, "a", "2.0")
    assert set(records.installed_distributions(tmp_path)) == {"a", "a (2)"}


def test_the_version_of_python_is_condas_or_the_virtual_environments(tmp_path):
    with pytest.raises(UserError, match="has no Python"):
        records.python_version(tmp_path)
    python(tmp_path)
    assert records.python_version(tmp_path).startswith("3.")
    conda_record(tmp_path, "python", "3.99.1", [])
    assert records.python_version(tmp_path) == "3.99.1"


def test_an_explicit_lock_is_read_back_as_it_was_written(tmp_path):
    lock = write_lock(tmp_path, ("zlib", "1.3"), ("a-b-c", "2.0"))
    packages = conda_lock.read(lock)
    assert [package.identity for package in packages] == [("a-b-c", "2.0", "0"), ("zlib", "1.3", "0")]
    assert (packages[0].subdir, packages[0].file_name) == (HERE, "a-b-c-2.0-0.conda")
    assert (packages[0].md5, packages[0].sha256) == ("0" * 32, "1" * 64)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace("# sha256", "# sha255"), "no MD5 and SHA-256 for"),
        (lambda text: text.replace("#" + "0" * 32, ""), "no MD5 and SHA-256 for"),
        (lambda text: "\n".join(line for line in text.splitlines() if "://" not in line), "names no package"),
    ],
)
def test_a_damaged_explicit_lock_is_refused(tmp_path, damage, message):
    lock = write_lock(tmp_path, ("zlib", "1.3"))
    lock.write_text(damage(lock.read_text()))
    with pytest.raises(UserError, match=message) as caught:
        conda_lock.read(lock)
    assert "make env-update" in str(caught.value)


def test_a_lock_of_another_platform_alone_says_how_to_add_this_one(tmp_path):
    with pytest.raises(UserError, match="is missing"):
        conda_lock.read(tmp_path / "conda-linux-64.lock")
    (tmp_path / "conda-osx-arm64.lock").touch()
    with pytest.raises(UserError, match=r"platforms=\[linux-64, osx-arm64\]"):
        conda_lock.read(tmp_path / "conda-linux-64.lock")
    assert poetry_lock(tmp_path).exists()
