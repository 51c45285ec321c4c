"""What the tests in a browser share: Chromium, the example's rows, and the toolbar on a page."""

from __future__ import annotations

import re
import shutil
from typing import Any

import pytest
from django.contrib.staticfiles.testing import StaticLiveServerTestCase
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from library.dataset import MIN_ROWS, Dataset
from library.loading import load
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from cachalot.api import cachalot_disabled, invalidate

WIDTH, HEIGHT = 1400, 1000

# The toolbar lies in a shadow root since its version 8.
_TOOLBAR = """
    const host = document.getElementById("djDebugRoot");
    return ((host && host.shadowRoot) || document).querySelector("#djDebug");
"""
# The text of an element as a reader sees it, without what style sheets change.
_TEXT = "return arguments[0].textContent"
# The rows of the table that follows a heading, hidden rows left out.
_ROWS = """
    const [panel, title] = arguments;
    const heading = [...panel.querySelectorAll("h4")].find((h) => h.textContent.trim() === title);
    let table = heading && heading.nextElementSibling;
    while (table && table.tagName !== "TABLE") table = table.nextElementSibling;
    if (!table) return null;
    const texts = (row) => [...row.cells].flatMap((cell) => {
        const spanned = Array(cell.colSpan - 1).fill("");
        return [...spanned, cell.textContent];
    });
    const heads = texts(table.tHead.rows[0]);
    return [...table.tBodies].flatMap((body) => [...body.rows])
        .filter((row) => row.offsetParent !== null)
        .map((row) => [heads, texts(row)]);
"""

# Each text of an element in sight, with its colour, and the first background behind it.
_COLOURS = """
    const ends = [];
    const walker = document.createTreeWalker(arguments[0], NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const text = walker.currentNode.textContent.trim();
        let element = walker.currentNode.parentElement;
        // The button that opens a query has the toolbar's colours.
        if (!text || !element.checkVisibility() || element.matches(".djToggleSwitch")) continue;
        const colour = getComputedStyle(element).color;
        const isOpaque = (e) => !/rgba\\(.*, 0\\)/.test(getComputedStyle(e).backgroundColor);
        while (!isOpaque(element)) element = element.parentElement;
        ends.push([text, colour, getComputedStyle(element).backgroundColor]);
    }
    return ends;
"""


def luminance(colour: str) -> float:
    """Return the relative luminance of a CSS colour, as WCAG 2.1 defines it."""
    channels = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (
        channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4
        for channel in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def start_browser() -> Chrome:
    """Start a Chromium with a profile of its own. What is not installed is a failure."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.fail(f"chromium is at {browser!r} and chromedriver at {driver!r}: install both.")
    options = ChromeOptions()
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in (
        "headless=new",
        "no-sandbox",
        "disable-dev-shm-usage",
        "disable-background-networking",
        "hide-scrollbars",
        f"window-size={WIDTH},{HEIGHT}",
    ):
        options.add_argument(f"--{argument}")
    return Chrome(options, ChromeService(driver))


@override_settings(DEBUG=True)
class BrowserTestCase(StaticLiveServerTestCase):
    """Tests of pages of the example site, whose tables are filled anew and not in the cache."""

    browser: Chrome

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.browser = start_browser()
        cls.addClassCleanup(cls.browser.quit)

    def setUp(self) -> None:
        load(Dataset(MIN_ROWS, seed=1), "default", lambda number: None)
        invalidate()
        self.visit("/search/")
        self.browser.delete_all_cookies()
        self.browser.execute_script("localStorage.clear()")
        self.browser.set_window_size(WIDTH, HEIGHT)
        self.console()
        invalidate()

    def tearDown(self) -> None:
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        self.assertEqual(self.console(), [])

    def visit(self, path: str) -> None:
        self.browser.get(self.live_server_url + path)

    def select_theme(self, name: str) -> None:
        """Have the browser prefer light or dark pages."""
        feature = {"name": "prefers-color-scheme", "value": name}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def assertTextsLegible(self, element: WebElement, *, is_light: bool) -> None:
        texts = self.browser.execute_script(_COLOURS, element)
        self.assertGreater(len(texts), 50)
        # What WCAG 2.1 asks for at level AA.
        self.assertEqual([text for text in texts if contrast(*text[1:]) < 4.5], [])
        self.assertIs(luminance(texts[-1][2]) > 0.5, is_light)

    def assertFits(self) -> None:
        """Nothing makes the page wider than its window."""
        width, inner = self.browser.execute_script(
            "return [document.documentElement.scrollWidth, window.innerWidth]"
        )
        self.assertLessEqual(width, inner)

    def wait(self, condition: Any) -> Any:
        """Return what ``condition()`` returns once it is true.

        Elements that the toolbar replaces meanwhile are looked for again.
        """
        wait = WebDriverWait(self.browser, 20, 0.1, [StaleElementReferenceException])
        return wait.until(lambda browser: condition())

    def console(self) -> list[str]:
        """Return what the browser had to complain about since it was asked last."""
        entries = self.browser.get_log("browser")
        return [
            f"{entry['level']}: {entry['message']}"
            for entry in entries
            # Django's page of an error has no icon, so Chromium asks for this one.
            if "/favicon.ico " not in entry["message"]
        ]

    def toolbar(self) -> WebElement:
        return self.wait(lambda: self.browser.execute_script(_TOOLBAR))

    def find(self, css: str, within: WebElement | None = None) -> WebElement:
        return (within or self.toolbar()).find_element("css selector", css)

    def find_all(self, css: str, within: WebElement | None = None) -> list[WebElement]:
        return (within or self.toolbar()).find_elements("css selector", css)

    def text(self, element: WebElement) -> str:
        return " ".join(self.browser.execute_script(_TEXT, element).split())

    def subtitle(self, panel_id: str = "CachalotPanel") -> str:
        """Return the small print of a panel's button."""
        return self.text(self.find(f"#djdt-{panel_id} small"))

    def open_panel(self, panel_id: str = "CachalotPanel") -> WebElement:
        """Open a panel of the toolbar, and return its content."""
        self.wait(lambda: self.find(f"a.{panel_id}").is_displayed())
        self.find(f"a.{panel_id}").click()
        content = self.find(f"#{panel_id} .djdt-scroll")
        self.wait(lambda: self.find_all(":scope > *", content))
        return content

    def rows(self, panel: WebElement, heading: str) -> list[dict[str, str]]:
        """Return the visible rows of the table under a heading, by the texts of its header."""
        found = self.browser.execute_script(_ROWS, panel, heading)
        self.assertIsNotNone(found, f"no table under {heading!r}: {self.text(panel)}")
        return [
            {
                " ".join(head.split()): " ".join(text.split())
                for head, text in zip(heads, texts, strict=True)
            }
            for heads, texts in found
        ]

    def figures(self) -> dict[str, int]:
        """Return the numbers in the small print of the panel's button."""
        found = re.findall(r"(\d+) (hit|miss|not cached)", self.subtitle())
        # Where all were cached, that is not said.
        return {"not cached": 0, **{name: int(number) for number, name in found}}

    def queries_without_cache(self, path: str) -> list[str]:
        """Return the queries of a page as one without cachalot would run them."""
        # Whoever comes from elsewhere has no toolbar.
        client = Client(REMOTE_ADDR="192.0.2.1")
        with CaptureQueriesContext(connection) as queries, cachalot_disabled():
            self.assertEqual(client.get(path).status_code, 200)
        return [query["sql"] for query in queries]
