"""The panel shows what became of queries and when tables were last invalidated."""

from __future__ import annotations

import html
import json
import re
import time
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.cache.backends.locmem import LocMemCache
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.http import HttpRequest, HttpResponse
from django.test import Client, modify_settings, override_settings
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from cachalot.api import cachalot_disabled, cached, invalidate
from cachalot.core import events
from cachalot.core.events import Invalidation, Read
from cachalot.core.outcomes import Outcome
from cachalot.invalidations import last_invalidations
from cachalot.recording import Recording, place_of, rows_in_words
from tests.library.models import Author, Book, OddlyNamed, Paperback, Tag
from tests.support import CacheTestCase, count_queries, in_thread, versions_in_cache

PAGES = Path(__file__).with_name("panel_urls.py")

pytestmark = pytest.mark.usefixtures("local_tier_by_default")


class BrokenCache(LocMemCache):
    def get_many(self, *args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("no <route> to host")


class PlainCache(LocMemCache):
    """One that is asked by Django's API: a subclass might do anything."""


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
    # The apps of the settings differ from those of the suite.
    available_apps = None

    def panels(self) -> ModuleType:
        # debug_toolbar can only be imported while it is installed.
        from cachalot import panels

        return panels

    def rows(self) -> list[tuple[str, str, str]]:
        return [(row["databases"], row["model"], row["table"]) for row in last_invalidations()]


class LookTestCase(ToolbarTestCase):
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


class PageTests(LookTestCase):
    def test_nothing_is_known_at_first(self) -> None:
        toolbar, panel = self.look("/empty/")
        self.assertIn("Cachalot no reads", toolbar)
        self.assertEqual(panel, "The cache default knows of no table yet.")

    def test_looking_adds_nothing(self) -> None:
        for _ in range(2):
            _, panel = self.look("/empty/")
            self.assertEqual(panel, "The cache default knows of no table yet.")

    def test_a_write_shows(self) -> None:
        Book.objects.create(title="Moby Dick")
        toolbar, panel = self.look("/empty/")
        self.assertIn("Cachalot no reads", toolbar)
        self.assertRegex(panel, r"\d\.\d s ago default, mirror library.Book library_book$")

    @versions_in_cache
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
        self.assertIn("Cachalot no reads", toolbar)
        self.assertEqual(
            panel, "The cache broken does not answer: ConnectionError: no <route> to host"
        )

    def test_another_cache_in_use_is_shown(self) -> None:
        invalidate(Book, cache_alias="default")
        with override_settings(CACHALOT_CACHE="second"):
            _, panel = self.look("/empty/")
        self.assertEqual(panel, "The cache second knows of no table yet.")

    async def test_it_works_under_asgi(self) -> None:
        response = await self.async_client.get("/empty/")
        self.assertIn("Cachalot no reads", text_of(response.content.decode()))


class RequestTests(LookTestCase):
    """What the panel tells of one request."""

    def test_figures_by_database(self) -> None:
        toolbar, panel = self.look("/busy/")
        self.assertIn("Cachalot 2 hits · 2 misses · 1 not cached ", toolbar)
        figures = r"(\d+) (\d+) (\d+) ([\d.]+) ms ([\d.]+) ms"
        found = re.search(rf"Queries took default {figures} other {figures} For a hit", panel)
        assert found is not None, panel
        self.assertEqual(found.group(1, 2, 3), ("2", "1", "1"))
        self.assertEqual(found.group(6, 7, 8), ("0", "1", "0"))
        self.assertGreater(float(found[4]), 0)
        self.assertIn(" Statements 2 hits 2 misses 1 not cached ", panel)

    def test_times_are_those_of_the_reads(self) -> None:
        recording = Recording()
        read = Read("default", Outcome.HIT, None, "SELECT", (), ("a",), 0.001, 0.011, 10, 1.0)
        recording.events += [(read, {}), (read._replace(outcome=Outcome.MISS, seconds=0.02), {})]
        (figures,) = recording.as_dict()["databases"]
        self.assertAlmostEqual(figures["ms"], 21)
        self.assertAlmostEqual(figures["query_ms"], 22)

    def test_each_query_is_shown_once_with_all_its_reads(self) -> None:
        _, panel = self.look("/busy/")
        found = re.search(
            r"FROM library_book WHERE .*? '<Moby>' default library_book "
            r"miss, hit, local hit [\d.]+ ms [\d.]+ ms Parameters: '<Moby>' (.*?) - ",
            panel.replace('"', "").replace("`", "") + " - ",
        )
        assert found is not None, panel
        took = r": took [\d.]+ ms, query took [\d.]+ ms, \d+ bytes"
        self.assertRegex(
            found[1],
            rf"^Miss {took} .*Hit {took}, stored [\d.]+ s before .*"
            rf"Local hit {took}, stored [\d.]+ s before ",
        )

    def test_what_differs_by_its_parameters_is_one_statement(self) -> None:
        recording = Recording()
        with recording:
            for title in ("a", "b", "a"):
                list(Book.objects.filter(title=title))
        (statement,) = recording.as_dict()["statements"]
        self.assertEqual([call["params"] for call in statement["calls"]], ["'a'", "'b'"])
        self.assertEqual([len(call["reads"]) for call in statement["calls"]], [2, 1])
        self.assertEqual((statement["hits"], statement["misses"]), (1, 2))
        self.assertEqual(statement["kinds"], ["hit", "miss"])

    def test_rows_are_named(self) -> None:
        keys = [Tag.objects.create(name=name).pk for name in "abcdefg"]
        recording = Recording()
        with recording:
            for key in (*keys[:2], keys[0]):
                Tag.objects.get(pk=key)
        (statement,) = recording.as_dict()["statements"]
        self.assertEqual(statement["rows"], f"Tag {keys[0]}, {keys[1]}")
        reads = [read["rows"] for call in statement["calls"] for read in call["reads"]]
        self.assertEqual(reads, [f"Tag {keys[0]}", f"Tag {keys[0]}", f"Tag {keys[1]}"])
        rows = [("library_tag", key) for key in keys]
        named = ", ".join(map(str, keys[:5]))
        self.assertEqual(rows_in_words(rows), f"Tag {named} and 2 more")
        self.assertEqual(rows_in_words([("no_model", "x")]), "no_model x")

    def test_a_row_is_not_named_after_a_proxy(self) -> None:
        # As of an app that is installed before that of the model.
        with mock.patch("cachalot.recording.apps.get_models", return_value=[Paperback, Book]):
            self.assertEqual(rows_in_words([("library_book", 17)]), "Book 17")

    def test_the_page_names_rows(self) -> None:
        key = Tag.objects.create(name="a").pk
        _, panel = self.look(f"/tag/{key}/")
        self.assertIn(f" library_tag Tag {key} miss ", panel)
        self.assertIn(f"Miss , by Tag {key} alone: took", panel)

    def test_what_is_meant_not_to_be_cached(self) -> None:
        def intended(**settings: Any) -> tuple[int, int]:
            recording = Recording()
            with recording, override_settings(**settings):
                list(Book.objects.order_by("pk").iterator())
            (statement,) = recording.as_dict()["statements"]
            return statement["not_cached"], statement["intended"]

        for settings_off in (
            {"CACHALOT_ENABLED": False},
            {"CACHALOT_CACHE_ITERATORS": False},
            {"CACHALOT_DATABASES": ["other"]},
            {"CACHALOT_UNCACHABLE_TABLES": ["library_book"]},
            {"CACHALOT_ONLY_CACHABLE_TABLES": ["library_tag"]},
        ):
            with self.subTest(settings_off):
                self.assertEqual(intended(**settings_off), (1, 1))
        with cachalot_disabled():
            self.assertEqual(intended(), (1, 1))
        recording = Recording()
        with recording:
            list(Book.objects.order_by("?"))
        (statement,) = recording.as_dict()["statements"]
        self.assertEqual((statement["not_cached"], statement["intended"]), (1, 0))

    def test_why_not_in_plain_words(self) -> None:
        _, panel = self.look("/busy/")
        reason = "Not cached , because the query uses chance, and CACHALOT_CACHE_RANDOM is off: "
        self.assertIn(reason, panel)

    def test_the_line_of_code(self) -> None:
        _, panel = self.look("/busy/")
        for code in (
            'list(Book.objects.filter(title="<Moby>")) # three times',
            'list(Author.objects.order_by("?"))',
            "with transaction.atomic():",
        ):
            lines = PAGES.read_text().splitlines()
            (number,) = (
                number for number, line in enumerate(lines, 1) if " ".join(line.split()) == code
            )
            self.assertIn(f"{PAGES} in busy ( {number} ) {code}", panel)

    def test_the_line_of_the_template(self) -> None:
        _, panel = self.look("/templated/")
        self.assertIn(f"{PAGES} in templated (", panel)
        self.assertIn("template shelf.html:2 ", panel)

    def test_what_the_request_invalidated(self) -> None:
        _, panel = self.look("/busy/")
        self.assertIn(
            "Invalidations by this request Database Tables Code default library_author, "
            "library_book ",
            panel,
        )
        _, panel = self.look("/books/")
        self.assertNotIn("Invalidations by this request", panel)

    def test_blocks(self) -> None:
        @cached
        def shelf() -> list[str]:
            return [book.title for book in Book.objects.all()]

        recording = Recording()
        with recording:
            shelf(), shelf(), cached(lambda: 1)()
        panel = self.panels().CachalotPanel(mock.Mock(stats={}), lambda request: None)
        panel.toolbar.stats["CachalotPanel"] = json.loads(json.dumps(recording.as_dict()))
        content = text_of(panel.content)
        self.assertIn("Cached functions, views and fragments", content)
        self.assertRegex(content, r"<locals>\.shelf library_book Miss, \d+.bytes ")
        self.assertRegex(
            content, r"<locals>\.shelf library_book Hit, \d+.bytes, stored 0\.0 s before"
        )
        self.assertIn("Not stored, because it reads no table", content)

    def test_markup_in_sql_is_escaped(self) -> None:
        recording = Recording()
        sql = "SELECT '<script>' FROM a"
        read = Read("default", Outcome.MISS, None, sql, ("<b>",), ("<i>",), 0.001, 0.001)
        recording.events.append((read, place_of(None)))
        panel = self.panels().CachalotPanel(mock.Mock(stats={}), lambda request: None)
        panel.toolbar.stats["CachalotPanel"] = recording.as_dict()
        for tag in ("<script>", "<b>", "<i>"):
            self.assertNotIn(tag, panel.content)
        self.assertIn("&lt;b&gt;", panel.content)

    def test_what_is_recorded_is_json(self) -> None:
        recording = Recording()
        # It includes the URLs of debug_toolbar, as panels() does.
        from tests import panel_urls

        with recording:
            panel_urls.busy(HttpRequest())
        recorded = recording.as_dict()
        self.assertEqual(len(recorded["statements"]), 3)
        self.assertEqual(json.loads(json.dumps(recorded)), recorded)

    def test_other_threads_are_not_this_request(self) -> None:
        recording = Recording()
        with recording:
            in_thread(lambda: list(Book.objects.all()))
            list(Author.objects.all())
        list(Author.objects.all())
        (statement,) = recording.as_dict()["statements"]
        self.assertEqual(statement["tables"], ["library_author"])
        self.assertEqual(events.listeners, ())

    def test_nobody_listens_after_a_request_that_failed(self) -> None:
        with mock.patch.object(Book.objects, "all", side_effect=ZeroDivisionError):
            with self.assertRaises(ZeroDivisionError):
                self.client.get("/books/")
        self.assertEqual(events.listeners, ())

    async def test_an_async_request(self) -> None:
        await sync_to_async(Book.objects.create)(title="Moby Dick")
        for result in ("0 hits · 1 miss", "1 hit · 0 misses"):
            response = await self.async_client.get("/async/")
            self.assertIn(f"Cachalot {result} ", text_of(response.content.decode()))
        self.assertEqual(events.listeners, ())


class Clock:
    """Stands still, but for what it is told of."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def take(self, seconds: float, value: Any = None) -> Any:
        self.now += seconds
        return value


@override_settings(
    DEBUG_TOOLBAR_PANELS=[
        "debug_toolbar.panels.sql.SQLPanel",
        "debug_toolbar.panels.cache.CachePanel",
        "cachalot.panels.CachalotPanel",
    ]
)
class OwnWorkTests(LookTestCase):
    """What the toolbar itself does belongs to no read."""

    def read(self, path: str) -> tuple[Read, float]:
        """Return the one read of a page whose every stack trace takes 1000 s, and every query 10.

        The seconds of all of it are returned as well.
        """
        clock, told = Clock(), []
        execute = CursorWrapper._execute

        def note(event: Read | Invalidation) -> None:
            if isinstance(event, Read):
                told.append(event)

        def slow(*args: Any) -> Any:
            return clock.take(10, execute(*args))

        events.listen(note)
        self.addCleanup(events.stop_listening, note)
        modules = "debug_toolbar.panels.cache", "debug_toolbar.panels.sql.tracking"
        with ExitStack() as stack:
            for module in modules:
                trace = f"{module}.get_stack_trace"
                traces = stack.enter_context(mock.patch(trace))
                traces.side_effect = lambda **kwargs: clock.take(1000, [])
            for module in ("cachalot.core.reading.reads", "cachalot.toolbar"):
                stack.enter_context(mock.patch(f"{module}.perf_counter", clock))
            stack.enter_context(mock.patch.object(CursorWrapper, "_execute", slow))
            self.client.get(path)
        (read,) = told
        return read, clock.now

    def test_a_miss_takes_what_its_query_takes(self) -> None:
        Book.objects.create(title="Moby Dick")
        read, all_of_it = self.read("/books/")
        self.assertIs(read.outcome, Outcome.MISS)
        self.assertAlmostEqual(read.seconds, 10)
        self.assertAlmostEqual(read.query_seconds or 0, 10)
        self.assertGreaterEqual(all_of_it, 1010)
        # What is told of it later is no more.
        read, _ = self.read("/books/")
        self.assertIs(read.outcome.is_hit, True)
        self.assertAlmostEqual(read.seconds, 0)
        self.assertAlmostEqual(read.query_seconds or 0, 10)

    def test_a_hit_takes_no_stack_trace(self) -> None:
        plain = {"BACKEND": "tests.test_panel.PlainCache", "LOCATION": "plain"}
        with override_settings(CACHES={**settings.CACHES, "default": plain}):
            Book.objects.create(title="Moby Dick")
            self.client.get("/books/")
            read, all_of_it = self.read("/books/")
        self.assertIs(read.outcome, Outcome.HIT)
        self.assertAlmostEqual(read.seconds, 0)
        self.assertGreaterEqual(all_of_it, 1000)

    def test_it_is_wrapped_once(self) -> None:
        from debug_toolbar.panels.cache import CachePanel

        before = CachePanel._record_call
        self.panels().CachalotPanel.ready()
        self.assertIs(CachePanel._record_call, before)
        self.assertTrue(hasattr(before, "_cachalot_original"))

    def test_a_panel_without_its_app(self) -> None:
        with (
            self.assertRaisesMessage(
                ImproperlyConfigured, "INSTALLED_APPS lacks 'cachalot', which has its templates."
            ),
            # The toolbar gets its panels ready.
            modify_settings(INSTALLED_APPS={"remove": "cachalot"}),
        ):
            pass

    def test_what_the_toolbar_reads_is_not_the_request(self) -> None:
        self.panels()
        from debug_toolbar.panels.sql import tracking

        from cachalot import toolbar

        recording = Recording(toolbar.is_asking)
        with recording:
            token = tracking.allow_sql.set(False)
            list(Author.objects.all())
            tracking.allow_sql.reset(token)
            list(Book.objects.all())
        (statement,) = recording.as_dict()["statements"]
        self.assertEqual(statement["tables"], ["library_book"])


class CheckboxTests(LookTestCase):
    """Unticking the panel switches caching off in this browser alone."""

    def setUp(self) -> None:
        Book.objects.create(title="Moby Dick")
        self.client.get("/books/")

    def queries(self, client: Client) -> int:
        response, queries = count_queries(lambda: client.get("/books/"))
        self.assertIn("['Moby Dick']", text_of(response.content.decode()))
        return queries

    def browser(self, value: str) -> Client:
        client = Client()
        client.cookies["djdtCachalotPanel"] = value
        return client

    def test_only_this_browser(self) -> None:
        unticked = self.browser("off")
        self.assertEqual([self.queries(unticked), self.queries(unticked)], [1, 1])
        self.assertEqual(self.queries(self.client), 0)
        self.assertEqual(self.queries(self.browser("on")), 0)
        self.assertEqual(self.queries(unticked), 1)

    def test_it_is_shown_as_unticked(self) -> None:
        page = self.browser("off").get("/books/").content.decode()
        (box,) = re.findall(r"<input[^>]*djdtCachalotPanel[^>]*>", page)
        self.assertNotIn("checked", box)
        self.assertNotIn("tables known", text_of(page))
        page = self.client.get("/books/").content.decode()
        (box,) = re.findall(r"<input[^>]*djdtCachalotPanel[^>]*>", page)
        self.assertIn("checked", box)

    def test_writes_still_invalidate(self) -> None:
        client = self.browser("off")
        client.get("/busy/")
        self.assertEqual(self.queries(self.client), 1)

    def test_visitors_without_the_toolbar_cannot(self) -> None:
        with override_settings(INTERNAL_IPS=[]):
            self.assertEqual(self.queries(self.browser("off")), 0)

    def test_a_panel_that_the_settings_hide_leaves_caching_on(self) -> None:
        config = {"RENDER_PANELS": False, "DISABLE_PANELS": {"cachalot.panels.CachalotPanel"}}
        with override_settings(DEBUG_TOOLBAR_CONFIG=config):
            self.assertEqual(self.queries(self.client), 0)
            self.assertEqual(self.queries(self.browser("off")), 1)

    async def test_an_async_request(self) -> None:
        self.async_client.cookies["djdtCachalotPanel"] = "off"
        told: list[Any] = []
        events.listen(told.append)
        try:
            await self.async_client.get("/async/")
            del self.async_client.cookies["djdtCachalotPanel"]
            await self.async_client.get("/async/")
        finally:
            events.stop_listening(told.append)
        self.assertEqual([read.outcome for read in told], [Outcome.BYPASSED, Outcome.HIT])
        self.assertEqual(told[0].reason, "caching is switched off by cachalot_disabled()")


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
            seen.extend(last_invalidations())
            return execute(*args)

        with connection.execute_wrapper(look):
            Book.objects.update(pages=1)
        self.assertEqual(
            [(row["table"], row["is_pending"]) for row in seen], [("library_book", True)]
        )
        (row,) = last_invalidations()
        self.assertIs(row["is_pending"], False)

    def test_ages_are_readable(self) -> None:
        invalidate(Book, db_alias="default")
        (row,) = last_invalidations()
        for seconds, age in (
            (-5, "0.0 s ago"),
            (0.04, "0.0 s ago"),
            (59.9, "59.9 s ago"),
            (61, "1\xa0minute ago"),
            (7300, "2\xa0hours, 1\xa0minute ago"),
        ):
            with mock.patch("time.time", return_value=row["timestamp"] + seconds):
                (aged,) = last_invalidations()
            self.assertEqual(aged["age"], age)

    def test_the_moment_is_exact_and_in_the_current_time_zone(self) -> None:
        before = time.time()
        invalidate(Book, db_alias="default")
        with timezone.override("Asia/Tokyo"):
            (row,) = last_invalidations()
        self.assertTrue(row["moment"].endswith("+09:00"))
        moment = parse_datetime(row["moment"])
        assert moment is not None
        self.assertAlmostEqual(moment.timestamp(), row["timestamp"], places=5)
        self.assertTrue(before <= row["timestamp"] <= time.time() + 1)

    def test_what_is_recorded_is_json(self) -> None:
        invalidate(Book)
        rows = last_invalidations()
        self.assertEqual(json.loads(json.dumps(rows)), rows)


def text_of(markup: str) -> str:
    """Return what a reader sees."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", markup)).split())
