"""The panel, as Chromium shows it on pages of the example site."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import pytest
from debug_toolbar import VERSION
from django.test import override_settings
from library.models import Borrowing
from selenium.webdriver.remote.webelement import WebElement

from cachalot.api import invalidate
from tests.browser.settings import EXAMPLE_DIR
from tests.browser.support import BrowserTestCase, start_browser

BOOK = "/books/16/"
AUTHOR = "/authors/3/"


def line_of(file: Path, code: str) -> int:
    """Return the number of the only line that is ``code``."""
    lines = file.read_text().splitlines()
    (number,) = (number for number, line in enumerate(lines, 1) if line.strip() == code)
    return number


class PanelTestCase(BrowserTestCase):
    def open_panel(self, panel_id: str = "CachalotPanel") -> WebElement:
        panel = super().open_panel(panel_id)
        if panel_id == "CachalotPanel":
            self.wait(lambda: self.has_style(panel))
        return panel

    def has_style(self, panel: WebElement) -> bool:
        """Tell whether the panel's own style sheet has come."""
        return bool(
            self.browser.execute_script(
                "return getComputedStyle(arguments[0]).getPropertyValue('--cachalot-hit')", panel
            )
        )

    def queries(self, panel: WebElement) -> list[WebElement]:
        """Return the row of each query."""
        return self.find_all("tr[id^=cachalotMain_]", panel)

    def count_calls(self, panel: WebElement) -> int:
        """Count the queries that differ in statement or parameters."""
        texts = map(self.text, self.queries(panel))
        alike = (re.search(r"(\d+) alike, with other parameters", text) for text in texts)
        return sum(int(found[1]) if found else 1 for found in alike)

    def expand(self, panel: WebElement, text: str) -> str:
        """Open the first query whose row holds ``text``, and return the text of its details."""
        row = next(row for row in self.queries(panel) if text in self.text(row))
        self.find(".djToggleSwitch", row).click()
        number = row.get_attribute("id").rpartition("_")[2]
        details = self.find(f"#cachalotDetails_{number}", panel)
        self.wait(details.is_displayed)
        return self.text(details)

    def queries_of_database(self) -> int:
        """Return how many queries the toolbar's own panel has seen."""
        (number,) = re.findall(r"(\d+) quer", self.subtitle("SQLPanel"))
        return int(number)


class FigureTests(PanelTestCase):
    def test_reads_are_counted_as_they_are(self) -> None:
        for path, has_duplicates in (("/books/", False), ("/search/?q=the", False), (BOOK, True)):
            with self.subTest(path=path):
                expected = self.queries_without_cache(path)
                different = len(set(expected))
                self.assertIs(len(expected) > different, has_duplicates)
                invalidate()
                for hits, misses in (
                    (len(expected) - different, different),
                    (len(expected), 0),
                ):
                    self.visit(path)
                    self.assertEqual(self.figures(), {"hit": hits, "miss": misses, "not cached": 0})
                    self.assertEqual(self.queries_of_database(), misses)
                    panel = self.open_panel()
                    (row,) = self.rows(panel, "Reads of this request")
                    self.assertEqual(row["Database"], "default")
                    self.assertEqual(row["Hits"], str(hits))
                    self.assertEqual(row["Misses"], str(misses))
                    self.assertEqual(row["Not cached"], "0")
                    self.assertEqual(self.count_calls(panel), different)

    def test_an_asynchronous_view(self) -> None:
        for figures in (
            {"hit": 0, "miss": 1, "not cached": 0},
            {"hit": 1, "miss": 0, "not cached": 0},
        ):
            self.visit("/async/")
            self.assertEqual(self.figures(), figures)

    def test_a_page_that_fails(self) -> None:
        for result in ("miss", "hit"):
            self.visit("/failing/")
            self.assertIn("RuntimeError", self.browser.title)
            (row,) = self.rows(self.open_panel(), "Statements")
            self.assertEqual(row["Tables"], "library_author")
            self.assertEqual(row["Result"], result)
            messages = self.console()
            self.assertTrue(any("500" in message for message in messages), messages)

    def test_many_queries(self) -> None:
        self.visit("/many/")
        self.assertEqual(self.figures(), {"hit": 200, "miss": 100, "not cached": 0})
        panel = self.open_panel()
        (row,) = self.rows(panel, "Statements")
        self.assertEqual(row["Result"], "100 × miss, 100 × hit, 100 × local hit")
        self.assertTrue(row["Statement"].endswith("100 alike, with other parameters."), row)
        details = self.expand(panel, "alike")
        self.assertEqual(details.count("Parameters: "), 100)


class QueryTests(PanelTestCase):
    def test_what_is_told_of_one(self) -> None:
        models = EXAMPLE_DIR / "library" / "models.py"
        line = line_of(models, 'return self.reviews.aggregate(average=Avg("rating"))["average"]')
        template = EXAMPLE_DIR / "library" / "templates" / "library" / "book_detail.html"
        template_line = line_of(
            template, '<h2>Reviews: {{ book.average_rating|floatformat:1|default:"none" }}</h2>'
        )
        for result in ("Miss", "Hit"):
            self.visit(BOOK)
            details = self.expand(self.open_panel(), "AVG(")
            found = re.fullmatch(
                rf"Parameters: 16 {result}: took [\d.]+ ms, query took [\d.]+ ms, \d+ bytes"
                r"(, stored [\d.]+ s before)? (.*)",
                details,
            )
            assert found is not None, details
            self.assertIs(found[1] is None, result == "Miss")
            self.assertEqual(
                found[2],
                f"{models} in average_rating({line}), template library/book_detail.html:"
                f'{template_line} return self.reviews.aggregate(average=Avg("rating"))["average"]',
            )

    def test_tables(self) -> None:
        self.visit("/tags/")
        tables = {row["Tables"] for row in self.rows(self.open_panel(), "Statements")}
        self.assertIn(
            "library_book, library_book_tags, library_borrowing, library_review, library_tag",
            tables,
        )

    def test_long_sql_is_folded_and_columns_stay(self) -> None:
        # Nothing is found, so these are all queries.
        self.visit("/search/?q=zzz")
        panel = self.open_panel()
        row = next(row for row in self.queries(panel) if "•••" in self.text(row))
        sql = self.find(".djDebugSql", row)
        cells = self.find_all("td", row)
        places = [(cell.rect["x"], cell.rect["width"]) for cell in cells]
        self.assertIn("•••", sql.text)
        self.assertNotIn("summary", sql.text)
        folded = sql.rect["height"]
        self.assertLess(folded, 100)
        for text in ("COUNT(*)", "•••"):
            self.expand(panel, text)
        self.assertIn("summary", sql.text)
        self.assertGreater(sql.rect["height"], 2 * folded)
        self.assertEqual([(cell.rect["x"], cell.rect["width"]) for cell in cells], places)

    def test_why_not(self) -> None:
        for _ in range(2):
            self.visit("/desk/")
            self.assertEqual(self.figures(), {"hit": 0, "miss": 0, "not cached": 2})
            for row in self.rows(self.open_panel(), "Statements"):
                self.assertEqual(row["Result"], "not cached")
                reason = " Because caching is switched off by cachalot_disabled()."
                self.assertTrue(row["Statement"].endswith(reason), row)
            # It is meant to be so, and no alarm.
            self.assertEqual(self.find_all(".cachalot-refused"), [])

    @pytest.mark.filterwarnings("ignore:The RedirectsPanel is deprecated")
    def test_a_redirect_that_is_shown(self) -> None:
        self.visit("/search/")
        self.find("#djdt-RedirectsPanel input[type=checkbox]").click()
        self.visit("/surprise/")
        self.assertIn("302 Found", self.browser.page_source)
        self.assertEqual(self.figures(), {"hit": 0, "miss": 0, "not cached": 1})
        (row,) = self.rows(self.open_panel(), "Statements")
        self.assertEqual(row["Result"], "not cached")
        self.assertTrue(
            row["Statement"].endswith(
                " Because the query uses chance, and CACHALOT_CACHE_RANDOM is off."
            ),
            row,
        )

    def test_markup_is_shown_as_text(self) -> None:
        attack = "\"'></code><script>attacked = 1</script><img src=x onerror='attacked = 1'>"
        self.visit(f"/search/?q={quote(attack)}")
        panel = self.open_panel()
        details = self.expand(panel, "COUNT(*)")
        self.assertIn("<script>attacked = 1</script><img src=x onerror=", details)
        self.assertEqual(self.find_all("img, script", panel), [])
        self.assertEqual(self.browser.execute_script("return typeof attacked"), "undefined")


class FilterTests(PanelTestCase):
    """Of a page with a miss, hits, and one that is not cached."""

    def open(self) -> WebElement:
        with override_settings(CACHALOT_UNCACHABLE_TABLES=["library_review"]):
            self.visit(BOOK)
            invalidate("library.Borrowing")
            self.visit(BOOK)
        return self.open_panel()

    def results(self, panel: WebElement) -> set[str]:
        texts = " ".join(row["Result"] for row in self.rows(panel, "Statements"))
        return set(re.findall(r"not cached|hit|miss", texts))

    def test_chips_show_what_is_pressed(self) -> None:
        panel = self.open()
        number = len(self.rows(panel, "Statements"))
        self.assertEqual(self.results(panel), {"hit", "miss", "not cached"})
        miss = self.find(".cachalot-chip[data-kind=miss]", panel)
        miss.click()
        self.assertEqual(self.results(panel), {"miss"})
        self.assertLess(len(self.rows(panel, "Statements")), number)
        refused = self.find(".cachalot-chip[data-kind='not cached']", panel)
        refused.click()
        self.assertEqual(self.results(panel), {"miss", "not cached"})
        for chip in (miss, refused):
            chip.click()
        self.assertEqual(len(self.rows(panel, "Statements")), number)

    def test_statements_are_sorted_with_their_details(self) -> None:
        panel = self.open()
        button = next(
            button
            for button in self.find_all(".cachalot-queries .cachalot-sort", panel)
            if self.text(button) == "Took"
        )
        for sign in (-1, 1):
            button.click()
            took = [float(row["Took"].split()[0]) for row in self.rows(panel, "Statements")]
            self.assertEqual(took, sorted(took, key=lambda number: sign * number))
        self.assertIn("Parameters: ", self.expand(panel, "COUNT("))

    def test_the_bar_has_the_parts_of_the_figures(self) -> None:
        panel = self.open()
        figures = self.figures()
        widths = [float(part.get_attribute("width")) for part in self.find_all("rect", panel)]
        number = sum(figures.values())
        for width, kind in zip(widths, ("hit", "miss", "not cached"), strict=True):
            self.assertAlmostEqual(width, 100 * figures[kind] / number, places=2)


class InvalidationTests(PanelTestCase):
    def invalidations(self, panel: WebElement, column: str = "Model") -> list[str]:
        return [row[column] for row in self.rows(panel, "Last invalidations")]

    def test_a_write(self) -> None:
        """Of a request that redirects: the history has it."""
        self.visit("/desk/")
        borrowing = Borrowing.objects.filter(returned_on=None).first()
        assert borrowing is not None
        form = self.browser.find_element("css selector", f"form[action='/desk/{borrowing.pk}/']")
        # The toolbar covers the button.
        self.browser.execute_script("arguments[0].querySelector('button').click()", form)
        self.wait(lambda: f"/desk/{borrowing.pk}/" not in self.browser.page_source)
        self.assertIsNotNone(Borrowing.objects.get(pk=borrowing.pk).returned_on)

        self.switch_to(f"POST /desk/{borrowing.pk}/", "0 hits · 0 misses · 1 not cached")
        panel = self.open_panel()
        (row,) = self.rows(panel, "Invalidations by this request")
        self.assertEqual((row["Database"], row["Tables"]), ("default", "library_borrowing"))
        code = 'borrowing.save(update_fields=["returned_on"])'
        views = EXAMPLE_DIR / "library" / "views.py"
        self.assertEqual(row["Code"], f"{views} in take_back({line_of(views, code)}) {code}")
        self.assertEqual(self.invalidations(panel, "Table")[0], "library_borrowing")

    def switch_to(self, request: str, subtitle: str) -> None:
        """Have the toolbar show another request of its history."""
        history = self.open_panel("HistoryPanel")

        def is_switched() -> bool:
            if subtitle in self.subtitle():
                return True
            for row in self.find_all("#djdtHistoryRequests > tr", history):
                if f" {request} " in f" {self.text(row)} ":
                    self.find(".switchHistory", row).click()
            return False

        self.wait(is_switched)

    def test_an_earlier_request(self) -> None:
        different = len(set(self.queries_without_cache("/tags/")))
        invalidate()
        self.visit("/tags/")
        self.visit("/many/")
        self.switch_to("GET /tags/", f"0 hits · {different} misses")
        self.assertEqual(self.count_calls(self.open_panel()), different)

    def test_the_latest_comes_first_and_columns_sort(self) -> None:
        self.check_order()

    @override_settings(DEBUG_TOOLBAR_CONFIG={"RENDER_PANELS": True})
    def test_they_do_so_in_panels_that_come_with_the_page(self) -> None:
        self.check_order()

    def check_order(self) -> None:
        order = ["library.Review", "library.Author", "library.Tag", "library.Book"]
        for label in order:
            invalidate(label)
        self.visit("/tags/")
        panel = self.open_panel()
        latest_first = self.invalidations(panel)
        self.assertEqual(latest_first[:4], order[::-1])
        self.assertGreater(len(latest_first), 10)

        heads = {self.text(head): head for head in self.find_all(".cachalot-sort", panel)}
        by_name = sorted(latest_first, key=str.lower)
        heads["Last invalidation"].click()
        # The others were invalidated together.
        self.assertEqual(self.invalidations(panel)[-4:], order)
        heads["Model"].click()
        self.assertEqual(self.invalidations(panel), by_name)
        heads["Model"].click()
        self.assertEqual(self.invalidations(panel), by_name[::-1])
        heads["Last invalidation"].click()
        self.assertEqual(self.invalidations(panel)[:4], order[::-1])
        heads["Table"].click()
        tables = self.invalidations(panel, "Table")
        self.assertEqual(tables, sorted(tables))


class CheckboxTests(PanelTestCase):
    path = "/tags/"

    def elsewhere(self) -> int:
        """Return the number of queries that the page takes another visitor."""
        with urlopen(self.live_server_url + self.path) as response:
            page = response.read().decode()
        (number,) = re.findall(r"(\d+) quer\w+ in ", page)
        return int(number)

    def test_it_switches_caching_off_in_this_browser(self) -> None:
        everything = len(self.queries_without_cache(self.path))
        self.visit(self.path)
        self.assertEqual(self.elsewhere(), 0)
        self.find("#djdt-CachalotPanel input[type=checkbox]").click()
        for _ in range(2):
            self.visit(self.path)
            self.assertEqual(self.queries_of_database(), everything)
            self.assertEqual(self.elsewhere(), 0)
        other = start_browser()
        self.addCleanup(other.quit)
        this, self.browser = self.browser, other  # type: ignore[misc]
        try:
            self.visit(self.path)
            self.assertEqual(self.queries_of_database(), 0)
        finally:
            self.browser = this  # type: ignore[misc]
        self.find("#djdt-CachalotPanel input[type=checkbox]").click()
        self.visit(self.path)
        self.assertEqual(self.figures(), {"hit": everything, "miss": 0, "not cached": 0})


class AppearanceTests(PanelTestCase):
    def assertLegible(self, path: str, *, is_light: bool) -> None:
        self.visit(path)
        panel = self.open_panel()
        self.expand(panel, "SELECT")
        self.assertTextsLegible(panel, is_light=is_light)

    def test_every_text_is_legible_in_the_themes_of_the_browser(self) -> None:
        for theme in ("light", "dark"):
            self.select_theme(theme)
            for path in (BOOK, "/desk/"):
                with self.subTest(theme=theme, path=path):
                    self.assertLegible(path, is_light=theme == "light")

    @pytest.mark.skipif(
        VERSION.startswith("4."), reason="Tables stay white in the dark theme of the toolbar 4."
    )
    def test_every_text_is_legible_in_the_themes_of_the_toolbar(self) -> None:
        """Whose button chooses another one than the browser prefers."""
        for preferred, chosen in (("light", "dark"), ("dark", "light")):
            with self.subTest(chosen=chosen):
                self.select_theme(preferred)
                self.visit("/search/")
                button = self.find("#djToggleThemeButton")
                for _ in range(3):
                    if self.toolbar().get_attribute("data-theme") != chosen:
                        button.click()
                self.assertLegible("/desk/", is_light=chosen == "light")

    def test_a_small_window(self) -> None:
        self.browser.set_window_size(700, 600)
        self.visit(BOOK)
        panel = self.open_panel()
        self.expand(panel, "AVG(")
        self.assertFits()
        # What does not fit is scrolled to.
        self.browser.execute_script("arguments[0].scrollLeft = 10000", panel)
        (cell,) = self.find_all("td:last-child", self.queries(panel)[0])
        self.assertLessEqual(cell.rect["x"] + cell.rect["width"], panel.rect["width"] + 40)

    @pytest.mark.skipif(
        "CACHALOT_SCREENSHOTS" not in os.environ, reason="CACHALOT_SCREENSHOTS names no directory."
    )
    def test_screenshots(self) -> None:
        directory = Path(os.environ["CACHALOT_SCREENSHOTS"])
        directory.mkdir(parents=True, exist_ok=True)
        for theme in ("light", "dark"):
            self.select_theme(theme)
            self.browser.set_window_size(1300, 1050)
            with override_settings(CACHALOT_UNCACHABLE_TABLES=["library_review"]):
                # The first visit of all takes longer: connecting, loading templates.
                self.visit(AUTHOR)
                invalidate()
                self.visit(AUTHOR)
                invalidate("library.Borrowing")
                self.visit(AUTHOR)
            panel = self.open_panel()
            self.expand(panel, "AVG(")
            self.browser.execute_script("arguments[0].scrollTop = 0", panel)
            self.assertTrue(self.browser.save_screenshot(str(directory / f"panel-{theme}.png")))
