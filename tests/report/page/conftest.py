"""A browser for the tests of the page, and its script without one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import quickjs

from rexdet.report.page.document import page
from rexdet.report.records.reading import Reading
from rexdet.report.tables.summary import summarise_runs
from rexdet.report.tables.table import Table

SCRIPT = Path(__file__).parents[3] / "rexdet" / "report" / "page" / "page.js"


@pytest.fixture(scope="session")
def script() -> Callable[[str], Any]:
    """What the page's script answers, without a page: script(expression)."""
    context = quickjs.Context()
    context.eval(SCRIPT.read_text(encoding="utf-8"))
    return lambda expression: json.loads(context.eval(f"JSON.stringify({expression})"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium; tests that need one skip without it."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((found for name in names if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no chromium with chromedriver on this machine (Debian: apt install chromium chromium-driver)")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options, Service(driver))
    yield started
    started.quit()


@pytest.fixture
def opened(browser, tmp_path) -> Iterator[Callable[..., Any]]:
    """Opens a page of some tables, or a page's text, so wide: opened(table, ..., width=400) is the browser."""

    def load(*tables: Table | str, width: int = 1280) -> Any:
        text = next((one for one in tables if isinstance(one, str)), None)
        text = text or page(
            summarise_runs(Reading(()), with_costs=False), [one for one in tables if isinstance(one, Table)]
        )
        (tmp_path / "index.html").write_text(text, encoding="utf-8")
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get((tmp_path / "index.html").as_uri())
        return browser

    yield load
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
