"""A real browser without a screen: Chromium, driven by Selenium (decision 0045)."""

from __future__ import annotations

import base64
import contextlib
import functools
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from tests.harness import alone, template
from tests.mirror import cache, debian

PACKAGES = ["chromium", "chromium-driver"]
"""Debian's names of the browser and its driver, of one version."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--window-size=1200,960",
    # it talks to the page under test and to nobody else
    "--no-first-run", "--no-proxy-server", "--disable-quic", "--disable-sync", "--disable-background-networking",
    "--disable-component-update",
)  # fmt: skip


def programs() -> tuple[str, str] | None:
    """Return the paths of a browser and of its driver, or None where one is missing."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


def ensure() -> tuple[str, str]:
    """Return `programs()`; on Debian, as root, they are installed first where they are missing.

    Raises RuntimeError, which says what to install, where they cannot be had.
    """
    advice = (
        "The browser tests need Chromium (or Chrome) and chromedriver on PATH, of one version. On Debian: apt-get install "
        + (" ".join(PACKAGES))
    )
    if not programs() and debian.os_release().get("ID") == "debian" and os.geteuid() == 0:
        with cache.lock("apt"):
            try:
                debian.install(PACKAGES, print)
            except debian.AptError as error:
                raise RuntimeError(f"{advice}\napt could not: {error}") from error
    found = programs()
    if not found:
        raise RuntimeError(advice)
    return found


@functools.cache
def own_network() -> tuple[str, ...] | None:
    """Return the words before a command that give it a network of its own, or None where this user may not."""
    for words in (("unshare", "--net"), ("unshare", "--net", "--map-root-user")):
        code = "from tests.harness import alone; alone.raise_loopback()"
        with contextlib.suppress(FileNotFoundError):
            if subprocess.run([*words, sys.executable, "-c", code], cwd=template.REPOSITORY, capture_output=True).returncode == 0:
                return words
    return None


@contextmanager
def apart(browser: str, folder: Path, address: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """A browser's program and flags with which it is in a network where no container comes or goes, but for the address' port.

    Where this user may not make one, the browser as it is: then tests need `undisturbed`.
    """
    if not own_network():
        yield browser, ()
        return
    words = [*own_network(), sys.executable, alone.__file__, str(folder / "port"), str(urlsplit(address).port), browser]
    program = folder / "browser"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    program.chmod(0o755)
    with alone.served(folder / "port", urlsplit(address).port):
        # the driver, which is in this machine's network, reaches the browser by its open files and not by a port
        yield str(program), ("--remote-debugging-pipe",)


@contextmanager
def opened(address: str) -> Iterator[Chrome]:
    """A browser of its own, without a past, that has opened a page; closed at the end. It reaches the page's port alone."""
    browser, driver = ensure()
    with tempfile.TemporaryDirectory() as folder, apart(browser, Path(folder), address) as (program, more):
        options = ChromeOptions()
        options.binary_location = program
        for flag in (*FLAGS, *more, f"--user-data-dir={folder}/profile"):
            options.add_argument(flag)
        chrome = Chrome(options, Service(driver))
        try:
            chrome.get(address)
            yield chrome
        except Disturbed:
            raise
        except Exception as error:
            disturbed(chrome, error)
            # What a person would have seen, beside the report of the failed test.
            picture(chrome, Path("screenshots/failed.png"))
            print(f"screenshots/failed.png shows {chrome.current_url}")
            raise
        finally:
            chrome.quit()


class Disturbed(Exception):
    """The machine's network changed under the browser, which then drops every connection that it has."""


def disturbed(chrome: Chrome, error: Exception | None = None) -> None:
    """Raise Disturbed where the browser says that the network changed: any container that starts or ends does that."""
    if any("ERR_NETWORK_CHANGED" in entry["message"] for entry in chrome.get_log("browser")):
        raise Disturbed from error


def undisturbed(test: Callable[..., None]) -> Callable[..., None]:
    """Let a test begin anew, five times at most, when the machine's network changed while it looked."""

    @functools.wraps(test)
    def again(*words, **options) -> None:
        for _ in range(5):
            with contextlib.suppress(Disturbed):
                return test(*words, **options)
        return test(*words, **options)

    return again


def until(chrome: Chrome, condition: Callable[[], object], what: str, seconds: float = 180) -> object:
    """Wait until a condition on the page holds, and return it; a page that changes meanwhile is looked at again.

    Raises AssertionError, which says what never came.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(WebDriverException):
            if found := condition():
                return found
        disturbed(chrome)
        time.sleep(0.2)
    raise AssertionError(f"never came: {what}")


def picture(chrome: Chrome, file: Path) -> None:
    """Write what the browser shows, in the format that the file's name says: png or webp."""
    file.parent.mkdir(parents=True, exist_ok=True)
    form = {"format": "webp", "quality": 80} if file.suffix == ".webp" else {"format": "png"}
    shown = chrome.execute_cdp_cmd("Page.captureScreenshot", form)
    file.write_bytes(base64.b64decode(shown["data"]))
