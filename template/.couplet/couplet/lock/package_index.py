"""Which versions the Python index has: the user's own index where pip.conf names one."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor

import requests
from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from couplet.errors import UserError
from couplet.formats.names import normalise
from couplet.formats.versions import same_version
from couplet.network import default_index


def file_versions(page: str) -> set[str]:
    """Return the versions of the files that an index's page of one project (HTML or JSON, PEP 503/691) names."""
    found = set()
    for name in set(re.findall(r"[\w.+!-]+\.(?:whl|tar\.gz|zip)\b", page)):
        try:
            found.add(str(parse_wheel_filename(name)[1] if name.endswith(".whl") else parse_sdist_filename(name)[1]))
        except (InvalidWheelFilename, InvalidSdistFilename, ValueError):
            continue
    return found


def has_versions(wanted: list[tuple[str, str]]) -> list[bool]:
    """Return, for each (name, version), whether the index has that release.

    Raises UserError when the index cannot be reached: a lock made without knowing would be wrong.
    """
    session = requests.Session()
    # A dozen questions at once, over any network: one that gets lost is asked again.
    patient = HTTPAdapter(max_retries=Retry(total=4, backoff_factor=0.5, status_forcelist=(429, 502, 503, 504)))
    session.mount("https://", patient)
    session.mount("http://", patient)
    base = (os.environ.get("POETRY_PYPI_MIRROR_URL") or default_index()).rstrip("/")

    def ask(item: tuple[str, str]) -> bool:
        name, version = item
        answer = session.get(f"{base}/{normalise(name)}/", timeout=60)
        if answer.status_code == 404:
            return False
        answer.raise_for_status()
        return any(same_version(version, found) for found in file_versions(answer.text))

    try:
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(ask, wanted))
    except requests.HTTPError as error:
        code = error.response.status_code if error.response is not None else 0
        way = " (a user name and password go into pip.conf or .netrc)" if code in (401, 403) else ""
        raise UserError(f"the Python index {base} answers HTTP {code}{way}.") from None
    except requests.RequestException as error:
        why = re.search(r"certificate verify failed: [^(]*", str(error))
        raise UserError(
            f"the Python index {base} does not answer: {why[0].strip() if why else type(error).__name__}.\n"
            "Is this machine on the network? An index of your own goes into pip.conf "
            "(index-url), its certificate into SSL_CERT_FILE."
        ) from None
