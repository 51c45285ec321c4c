"""The panel shows when tables were last invalidated, without touching anything."""

from __future__ import annotations

import html
import json
import re
import time
from types import ModuleType
from typing import Any
from unittest import mock

from django.conf import settings
from django.core.cache.backends.locmem import LocMemCache
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import modify_settings, override_settings
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from cachalot.api import invalidate
from tests.library.models import Author, Book, OddlyNamed, Tag
from tests.support import CacheTestCase, count_queries


class BrokenCache(LocMemCache):
    def get_many(self, *args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("no <route> to host")


@modify_settings(INSTALLED_APPS={"append": ["django.contrib.staticfiles", "debug_toolbar"]})
@override_settings(
    # New cache objects before and after: the toolbar's own panel wraps their methods for good.
    CACHES={**settings.CACHES},
    DEBUG=True,
    # Panels are opened later, as the history opens them.
    DEBUG_TOOLBAR_CONFIG={"RENDER_PANELS": False},
    DEBUG_TOOLBAR_PANELS=[
        "debug_toolbar.panels.history.HistoryPanel",
        "debug_toolbar.panels.cache.CachePanel",
        "cachalot.panels.CachalotPanel",
    ],
    INTERNAL_IPS=["127.0.0.1"],
    MIDDLEWARE=["debug_toolbar.middleware.DebugToolbarMiddleware"],
    ROOT_URLCONF="tests.panel_urls",
    STATIC_URL="static/",
)
class ToolbarTestCase(CacheTestCase):
    databases = {"default", "other"}

    def panels(self) -> ModuleType:
        # debug_toolbar can only be imported while it is installed.
        from cachalot import panels

        return panels

    def rows(self) -> list[tuple[str, str, str]]:
        return [
            (row["databases"], row["model"], row["table"])
            for row in self.panels().last_invalidations()
        ]


class PageTests(ToolbarTestCase):
    def look(self, path: str) -> tuple[str, str]:
        """Return the text of the toolbar on a page and that of the panel, opened later."""
        return self.look_at(self.client.get(path))

    def look_at(self, response: HttpResponse) -> tuple[str, str]:
        self.assertEqual(response.status_code, 200)
        toolbar = response.content.decode()
        # "store" in the toolbar's versions before 6.
        found = re.search(r'data-(request|store)-id="(\w+)"', toolbar)
        assert found is not None, toolbar
        panel = self.client.get(
            "/__debug__/render_panel/",
            {f"{found[1]}_id": found[2], "panel_id": "CachalotPanel"},
        )
        return text_of(toolbar), text_of(panel.json()["content"])

    def test_nothing_is_known_at_first(self) -> None:
        toolbar, panel = self.look("/empty/")
        self.assertIn("Cachalot 0 tables invalidated", toolbar)
        self.assertEqual(panel, "The cache default knows of no table yet.")

    def test_looking_adds_nothing(self) -> None:
        for _ in range(2):
            _, panel = self.look("/empty/")
            self.assertEqual(panel, "The cache default knows of no table yet.")

    def test_a_write_shows(self) -> None:
        Book.objects.create(title="Moby Dick")
        toolbar, panel = self.look("/empty/")
        self.assertIn("Cachalot 1 table invalidated", toolbar)
        self.assertRegex(panel, r"\d\.\d s ago default, mirror library.Book library_book$")

    def test_a_table_counts_from_its_first_read(self) -> None:
        _, panel = self.look("/books/")
        self.assertIn("library.Book library_book", panel)

    def test_the_page_keeps_its_hits(self) -> None:
        Book.objects.create(title="Moby Dick")
        self.look("/books/")
        (toolbar, _), queries = count_queries(lambda: self.look("/books/"))
        self.assertEqual(queries, 0)
        self.assertIn("['Moby Dick']", toolbar)

    def test_the_panel_shows_the_time_of_its_page(self) -> None:
        Book.objects.create(title="Moby Dick")
        response = self.client.get("/empty/")
        invalidate(Author)
        _, panel = self.look_at(response)
        self.assertIn("library_book", panel)
        self.assertNotIn("library_author", panel)

    def test_a_cache_that_does_not_answer_leaves_the_page_alone(self) -> None:
        broken = {"BACKEND": "tests.test_panel.BrokenCache", "LOCATION": "broken"}
        with override_settings(CACHES={**settings.CACHES, "broken": broken}):
            with override_settings(CACHALOT_CACHE="broken"):
                toolbar, panel = self.look("/empty/")
        self.assertIn("Cachalot 0 tables invalidated", toolbar)
        self.assertEqual(
            panel, "The cache broken does not answer: ConnectionError: no <route> to host"
        )

    def test_another_cache_in_use_is_shown(self) -> None:
        invalidate(Book, cache_alias="default")
        with override_settings(CACHALOT_CACHE="second"):
            _, panel = self.look("/empty/")
        self.assertEqual(panel, "The cache second knows of no table yet.")

    async def test_it_works_under_asgi(self) -> None:
        invalidate(Book, db_alias="default")
        response = await self.async_client.get("/empty/")
        self.assertIn("Cachalot 1 table invalidated", text_of(response.content.decode()))


class InvalidationTests(ToolbarTestCase):
    def test_the_latest_comes_first(self) -> None:
        invalidate(Book, db_alias="default")
        invalidate(Tag, db_alias="other")
        invalidate(OddlyNamed, db_alias="default")
        rows = [
            ("default, mirror", "library.OddlyNamed", "Library_Odd-Name"),
            ("other", "library.Tag", "library_tag"),
            ("default, mirror", "library.Book", "library_book"),
        ]
        self.assertEqual(self.rows(), rows)
        invalidate(Book, db_alias="mirror")
        self.assertEqual(self.rows(), [rows[2], rows[0], rows[1]])

    def test_tables_of_one_transaction_are_in_order(self) -> None:
        with transaction.atomic():
            book = Book.objects.create(title="Moby Dick")
            book.tags.add(Tag.objects.create(name="whales"))
            self.assertEqual(self.rows()[-1:], [])
        self.assertEqual(
            [table for _, _, table in self.rows()],
            ["library_book", "library_book_tags", "library_tag"],
        )
        self.assertEqual(
            [model for _, model, _ in self.rows()],
            ["library.Book", "library.Book_tags", "library.Tag"],
        )

    @override_settings(CACHALOT_ADDITIONAL_TABLES=["legacy_orders"])
    def test_a_table_outside_django_has_no_model(self) -> None:
        invalidate("legacy_orders", db_alias="default")
        self.assertEqual(self.rows(), [("default, mirror", "", "legacy_orders")])

    def test_a_table_being_written_is_marked(self) -> None:
        seen = []

        def look(execute: Any, *args: Any) -> Any:
            seen.extend(self.panels().last_invalidations())
            return execute(*args)

        with connection.execute_wrapper(look):
            Book.objects.update(pages=1)
        self.assertEqual(
            [(row["table"], row["is_pending"]) for row in seen], [("library_book", True)]
        )
        (row,) = self.panels().last_invalidations()
        self.assertIs(row["is_pending"], False)

    def test_ages_are_readable(self) -> None:
        invalidate(Book, db_alias="default")
        (row,) = self.panels().last_invalidations()
        for seconds, age in (
            (-5, "0.0 s ago"),
            (0.04, "0.0 s ago"),
            (59.9, "59.9 s ago"),
            (61, "1\xa0minute ago"),
            (7300, "2\xa0hours, 1\xa0minute ago"),
        ):
            with mock.patch("time.time", return_value=row["timestamp"] + seconds):
                (aged,) = self.panels().last_invalidations()
            self.assertEqual(aged["age"], age)

    def test_the_moment_is_exact_and_in_the_current_time_zone(self) -> None:
        before = time.time()
        invalidate(Book, db_alias="default")
        with timezone.override("Asia/Tokyo"):
            (row,) = self.panels().last_invalidations()
        self.assertTrue(row["moment"].endswith("+09:00"))
        moment = parse_datetime(row["moment"])
        assert moment is not None
        self.assertAlmostEqual(moment.timestamp(), row["timestamp"], places=5)
        self.assertTrue(before <= row["timestamp"] <= time.time() + 1)

    def test_what_is_recorded_is_json(self) -> None:
        invalidate(Book)
        rows = self.panels().last_invalidations()
        self.assertEqual(json.loads(json.dumps(rows)), rows)


def text_of(markup: str) -> str:
    """Return what a reader sees."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", markup)).split())
