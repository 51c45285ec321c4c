"""The page in the admin, as Chromium shows it on the example site."""

from __future__ import annotations

import os
import time
from pathlib import Path
from unittest import mock

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from library.models import Borrowing, Tag
from selenium.webdriver.remote.webelement import WebElement

from cachalot.api import invalidate
from cachalot.core.statistics import statistics
from tests.browser.support import BrowserTestCase, contrast

BOOK = "/books/16/"
PAGE = "/admin/cachalot_admin/cache/"

# The width, the height and the colour of each part of a plot, as they are drawn.
_PARTS = """
    return [...arguments[0].querySelectorAll("rect:not(.cachalot-blank)")].map((part) => {
        const box = part.getBoundingClientRect();
        return [box.width, box.height, getComputedStyle(part).fill];
    });
"""


class AdminTestCase(BrowserTestCase):
    def setUp(self) -> None:
        super().setUp()
        create_permissions(apps.get_app_config("cachalot_admin"), verbosity=0)
        user = User.objects.create_user("boss", is_staff=True)
        user.user_permissions.set(
            Permission.objects.filter(content_type__app_label="cachalot_admin")
        )
        client = Client()
        client.force_login(user)
        name = settings.SESSION_COOKIE_NAME
        self.browser.add_cookie({"name": name, "value": client.cookies[name].value})
        statistics.reset()
        self.addCleanup(statistics.reset)
        for path in ("/tags/", "/tags/", "/surprise/"):
            self.visit(path)
        # Not the toolbar, which lies over part of the page.
        self.browser.execute_script("localStorage.setItem('djdt.show', 'false')")

    def content(self) -> WebElement:
        return self.browser.find_element("id", "content")

    def messages(self, level: str) -> str:
        """Return what the page says of what was done, once it does."""
        css = f".messagelist .{level}"
        (message,) = self.wait(lambda: self.browser.find_elements("css selector", css))
        return self.text(message)

    def row(self, name: str) -> dict[str, WebElement]:
        """Return the cells of a table's row by the heads of their columns."""
        (row,) = (
            row
            for row in self.find_all("tbody tr", self.content())
            if self.text(row).startswith(f"{name} ")
        )
        table = row.find_element("xpath", "ancestor::table")
        heads = [self.text(head) for head in self.find_all("thead th", table)]
        return dict(zip(heads, self.find_all("th, td", row), strict=True))


class PageTests(AdminTestCase):
    def test_the_index_leads_there(self) -> None:
        self.visit("/admin/")
        self.find("a[href$='/cachalot_admin/cache/']", self.content()).click()
        self.assertEqual(self.browser.current_url, self.live_server_url + PAGE)
        self.assertIn("Not cached, because", self.text(self.content()))

    def test_bars_are_as_long_as_the_numbers_are_great(self) -> None:
        self.visit(PAGE)
        row = self.row("library_tag")
        hits, misses = (int(self.text(row[head])) for head in ("Hits", "Misses"))
        self.assertGreater(hits, 0)
        self.assertGreater(misses, 0)
        bar = self.browser.execute_script(_PARTS, row["Reads"])
        self.assertEqual(len(bar), 2)
        self.assertAlmostEqual(bar[0][0] / bar[1][0], hits / misses, delta=0.1 * hits / misses)
        hour = self.browser.execute_script(_PARTS, self.find(".cachalot-hour", self.content()))
        self.assertGreater(len(hour), 1)
        self.assertTrue(all(width > 1 and height > 0.5 for width, height, _ in hour))

    def test_one_table_is_invalidated_by_its_button(self) -> None:
        list(Tag.objects.all())
        self.visit(PAGE)
        self.find("button", self.row("library_tag")[""]).click()
        self.assertEqual(self.messages("success"), "Invalidated library_tag.")
        with CaptureQueriesContext(connection) as queries:
            list(Tag.objects.all())
        self.assertEqual(len(queries), 1)

    def test_a_name_is_typed(self) -> None:
        self.visit(PAGE)
        field = self.find("#id_names", self.content())
        field.send_keys("library.Tagg")
        field.submit()
        self.assertIn("its models are: Author, Book,", self.messages("error"))
        field = self.find("#id_names", self.content())
        field.send_keys("library.Tag\n")
        self.assertEqual(self.messages("success"), "Invalidated library_tag.")


class AppearanceTests(AdminTestCase):
    def assertLegible(self, *, is_light: bool) -> None:
        self.assertTextsLegible(self.content(), is_light=is_light)
        for part in self.browser.execute_script(_PARTS, self.content()):
            # What WCAG 2.1 asks for of graphics.
            background = "rgb(255, 255, 255)" if is_light else "rgb(33, 33, 33)"
            self.assertGreater(contrast(part[2], background), 3, part)

    def test_the_themes_of_the_browser(self) -> None:
        for theme in ("light", "dark"):
            with self.subTest(theme):
                self.select_theme(theme)
                self.visit(PAGE)
                self.assertLegible(is_light=theme == "light")

    def test_the_themes_of_the_admin(self) -> None:
        """Whose button chooses another one than the browser prefers."""
        for preferred, chosen in (("light", "dark"), ("dark", "light")):
            with self.subTest(chosen):
                self.select_theme(preferred)
                self.visit(PAGE)
                self.browser.execute_script(f"localStorage.setItem('theme', '{chosen}')")
                self.visit(PAGE)
                self.assertLegible(is_light=chosen == "light")
                self.browser.execute_script("localStorage.removeItem('theme')")

    def test_a_small_window(self) -> None:
        self.browser.set_window_size(600, 800)
        self.visit(PAGE)
        self.assertFits()

    @pytest.mark.skipif(
        "CACHALOT_SCREENSHOTS" not in os.environ, reason="CACHALOT_SCREENSHOTS names no directory."
    )
    def test_screenshots(self) -> None:
        directory = Path(os.environ["CACHALOT_SCREENSHOTS"])
        directory.mkdir(parents=True, exist_ok=True)
        pages = ("/books/", "/authors/", "/statistics/", "/desk/", BOOK, "/tags/")
        invalidate()
        for minute in range(60):
            then = time.time() - 60 * (59 - minute)
            with mock.patch.object(statistics, "_time", return_value=then):
                if not minute:
                    statistics.reset()
                for number in range(1 + minute * 7 % 5):
                    self.visit(pages[(minute + number) % len(pages)])
                if minute % 13 == 7:
                    Borrowing.objects.update(returned_on=None)
        for theme in ("light", "dark"):
            self.select_theme(theme)
            self.browser.set_window_size(1300, 1250)
            self.visit(PAGE)
            self.browser.execute_script("document.getElementById('djDebugRoot')?.remove()")
            self.assertTrue(self.browser.save_screenshot(str(directory / f"admin-{theme}.png")))
