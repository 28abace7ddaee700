"""A real browser for tests: `from browser import chrome`, then take `chrome` as a fixture.

One headless Chromium for each test process, started at the first test that wants it. Tests are
skipped where selenium, the browser or its driver is not installed.
"""

import atexit
import functools
import json
import shutil

import pytest


@pytest.fixture(scope="session")
def chrome():
    """The driver; every test opens its own page."""
    return started()


@functools.cache  # several files import the fixture, and all share one browser
def started():
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    names = ("chromium", "chromium-browser", "google-chrome")
    binary = next(filter(None, map(shutil.which, names)), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("Chromium or chromedriver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for word in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(executable_path=driver))
    atexit.register(chrome.quit)
    return chrome


def show(chrome, html, folder):
    """Open a page as a file; what the browser logged before is forgotten. Returns its address."""
    target = folder / "page.html"
    target.write_text(html, encoding="utf-8", newline="\n")
    chrome.get("about:blank")
    for log in ("browser", "performance"):
        chrome.get_log(log)
    chrome.get(target.as_uri())
    return target.as_uri()


def errors(chrome):
    """What the console said: errors and warnings."""
    lines = chrome.get_log("browser")
    return [line["message"] for line in lines if line["level"] in ("SEVERE", "WARNING")]


def requests(chrome):
    """The addresses that were asked for since the page was opened."""
    messages = [json.loads(line["message"])["message"] for line in chrome.get_log("performance")]
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [params["request"]["url"] for params in sent]
