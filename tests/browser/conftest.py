"""A headless Chromium for the report's pages, axe-core, and a site to look at."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from runner.places import cache_dir

AXE = "4.14.1"
WIDE, PHONE = (1280, 900), (360, 740)


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the browser puts what it saves."""
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="session")
def browser(downloads: Path) -> Iterator[webdriver.Chrome]:
    """Debian's Chromium, without a network."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("no chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    options = Options()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    started = webdriver.Chrome(options=options, service=Service(driver))
    started.set_page_load_timeout(60)
    yield started
    started.quit()


@pytest.fixture(scope="session")
def axe() -> str:
    """axe-core's script, from the cache or npm."""
    folder = cache_dir() / "axe"
    archive = folder / f"axe-core-{AXE}.tgz"
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("no npm to fetch axe-core with (Debian: apt-get install npm)")
        line = [npm, "pack", "--silent", f"axe-core@{AXE}"]
        done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=120)
        if done.returncode or not archive.exists():
            pytest.skip(f"axe-core can't be had: {done.stderr.strip()[-200:]}")
    with tarfile.open(archive) as content:
        member = content.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Where pictures of the pages are kept."""
    folder = Path(os.environ.get("RUNNER_SCREENSHOTS", "build/screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Page:
    """A page in the browser."""

    def __init__(self, browser: webdriver.Chrome, site: Path) -> None:
        self.browser = browser
        self.site = site

    def open(self, name: str, size: tuple[int, int] = WIDE, scheme: str = "light") -> None:
        """Load a page of the site, afresh, at a width and in a colour scheme."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        self.browser.get("about:blank")
        self.browser.get_log("browser")
        self.browser.get(f"{self.site.as_uri()}/{name}")

    def run(self, script: str, *arguments: object) -> object:
        """The value of a script."""
        return self.browser.execute_script(script, *arguments)

    def picture(self, file: Path, whole: bool = True) -> None:
        """Keep a screenshot."""
        import base64

        taken = self.browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": whole})
        file.write_bytes(base64.b64decode(taken["data"]))


def digest(text: str) -> str:
    """Of a text, short."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]
