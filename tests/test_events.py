"""Listeners are told what became of each read and each write, and logs say why."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
from django.core.cache.backends.locmem import LocMemCache
from django.db import connection, transaction
from django.db.backends.signals import connection_created
from django.db.models.functions import Now
from django.test import override_settings

from cachalot.api import cachalot_disabled, invalidate
from cachalot.core import events
from cachalot.core.cache.local import local_tier
from cachalot.core.connection.state import State
from cachalot.core.connection.visibility import Visibility
from cachalot.core.events import Invalidation, Read
from cachalot.core.outcomes import Outcome
from cachalot.core.reading import results as storing
from cachalot.core.schema import catalogue as schema_catalogue
from cachalot.core.schema.introspection import Catalogue
from tests.library.models import Author, Book
from tests.support import CacheTestCase, count_queries

pytestmark = pytest.mark.usefixtures("local_tier_by_default")


class FailingCache(LocMemCache):
    def get_many(self, *args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("no route to host")


class FullCache(LocMemCache):
    """Takes versions and refuses entries."""

    def set(self, key: str, value: Any, *args: Any, **kwargs: Any) -> None:
        if len(value) > 2:
            raise ValueError("object too large for cache")
        super().set(key, value, *args, **kwargs)


def cache_of(name: str) -> dict[str, Any]:
    return {
        "default": {"BACKEND": f"tests.test_events.{name}", "LOCATION": name},
        "second": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    }


class Clock:
    """Stands still, but for what is added to it."""

    seconds = 1.0

    def __call__(self) -> float:
        return self.seconds


@contextmanager
def listening() -> Iterator[list[Any]]:
    """Give a list that grows by what listeners are told."""
    told: list[Any] = []
    events.listen(told.append)
    try:
        yield told
    finally:
        events.stop_listening(told.append)


def titles() -> list[str]:
    return [book.title for book in Book.objects.order_by("pk")]


class EventTestCase(CacheTestCase):
    def setUp(self) -> None:
        Book.objects.create(title="Moby Dick")

    def read(self, read: Any = titles) -> Read:
        """Return the one event that ``read`` causes."""
        with listening() as told:
            read()
        (event,) = told
        assert isinstance(event, Read)
        return event

    def assertTold(self, outcome: Outcome, reason: str | None, read: Any = titles) -> Read:
        event = self.read(read)
        self.assertEqual((event.outcome, event.reason), (outcome, reason))
        return event


class OutcomeTests(EventTestCase):
    def test_a_miss_then_hits(self) -> None:
        miss = self.assertTold(Outcome.MISS, None)
        self.assertEqual((miss.db_alias, miss.tables), ("default", ("library_book",)))
        self.assertIn("library_book", miss.sql)
        self.assertIs(miss.age, None)
        assert miss.query_seconds is not None
        assert miss.size is not None
        self.assertGreater(miss.size, 0)
        self.assertGreaterEqual(miss.seconds, miss.query_seconds)
        self.assertGreater(miss.query_seconds, 0)
        hit = self.assertTold(Outcome.HIT, None)
        self.assertEqual((hit.sql, hit.size), (miss.sql, miss.size))
        # What the query took when its result was computed.
        self.assertEqual(hit.query_seconds, miss.query_seconds)
        local = self.assertTold(Outcome.LOCAL_HIT, None)
        self.assertEqual(local.query_seconds, miss.query_seconds)
        self.assertEqual(
            [event.outcome.is_hit for event in (miss, hit, local)], [False, True, True]
        )

    @override_settings(CACHALOT_LOCAL_SIZE=0)
    def test_without_a_local_tier_every_hit_is_of_the_shared_cache(self) -> None:
        titles()
        self.assertTold(Outcome.HIT, None)
        self.assertTold(Outcome.HIT, None)

    def test_age_is_counted_from_storing(self) -> None:
        titles()
        with mock.patch("cachalot.core.reading.reads.time", return_value=time.time() + 3600):
            event = self.read()
        assert event.age is not None
        self.assertTrue(3600 <= event.age < 7200, event.age)

    def test_single_rows_and_iterators(self) -> None:
        self.assertTold(Outcome.MISS, None, lambda: Book.objects.filter(pages=0).count())
        self.assertTold(Outcome.HIT, None, lambda: Book.objects.filter(pages=0).count())
        self.assertTold(Outcome.MISS, None, lambda: list(Book.objects.iterator()))
        self.assertTold(Outcome.HIT, None, lambda: list(Book.objects.iterator()))

    def test_a_query_of_two_tables_names_both(self) -> None:
        event = self.read(lambda: list(Book.objects.select_related("author")))
        self.assertEqual(event.tables, ("library_author", "library_book"))

    def test_what_a_transaction_has_written_and_read(self) -> None:
        with transaction.atomic():
            Book.objects.create(title="Omoo")
            self.assertTold(Outcome.MISS, None)
            self.assertTold(Outcome.TRANSACTION_HIT, None)

    def test_a_query_without_rows_is_no_read(self) -> None:
        with listening() as told:
            list(Book.objects.none())
            list(Book.objects.filter(pk__in=[]))
        self.assertEqual(told, [])


class RefusalTests(EventTestCase):
    def test_the_query_forbids_it(self) -> None:
        volatile = Book.objects.annotate(at=Now())
        event = self.read(lambda: list(volatile))
        self.assertIs(event.outcome, Outcome.NOT_CACHED)
        self.assertTrue(str(event.reason).startswith("the query "), event.reason)
        random = Book.objects.order_by("?")
        self.assertTold(
            Outcome.NOT_CACHED,
            "the query uses chance, and CACHALOT_CACHE_RANDOM is off",
            lambda: list(random),
        )

    @override_settings(CACHALOT_UNCACHABLE_TABLES=["library_book"])
    def test_the_settings_forbid_it(self) -> None:
        reason = "the query uses library_book, which CACHALOT_UNCACHABLE_TABLES or _APPS excludes"
        self.assertTold(Outcome.NOT_CACHED, reason)

    def test_caching_is_switched_off(self) -> None:
        reason = "caching is switched off by "
        with cachalot_disabled():
            event = self.assertTold(Outcome.BYPASSED, f"{reason}cachalot_disabled()")
        self.assertEqual(event.tables, ("library_book",))
        with override_settings(CACHALOT_ENABLED=False):
            self.assertTold(Outcome.BYPASSED, f"{reason}CACHALOT_ENABLED")

    def test_opening_the_connection_is_no_part_of_the_query(self) -> None:
        connection.close()
        connects: list[float] = []

        def connect_slowly(sender: object, **kwargs: object) -> None:
            clock.seconds += 10
            connects.append(clock.seconds)

        clock = Clock()
        connection_created.connect(connect_slowly)
        try:
            with (
                mock.patch("cachalot.core.reading.reads.perf_counter", clock),
                mock.patch("cachalot.core.patches.perf_counter", clock),
            ):
                event = self.read()
        finally:
            connection_created.disconnect(connect_slowly)
        self.assertEqual(len(connects), 1)
        self.assertEqual((event.seconds, event.query_seconds), (0.0, 0.0))

    @override_settings(CACHALOT_DATABASES=["other"])
    def test_the_database_is_left_out(self) -> None:
        event = self.read()
        self.assertIs(event.outcome, Outcome.BYPASSED)
        self.assertTrue(str(event.reason).startswith("CACHALOT_DATABASES leaves out 'default' ("))

    @override_settings(CACHALOT_CACHE_ITERATORS=False)
    def test_iterators_are_left_out(self) -> None:
        reason = "an iterator, and CACHALOT_CACHE_ITERATORS is off"
        self.assertTold(Outcome.BYPASSED, reason, lambda: list(Book.objects.iterator()))

    def test_a_table_is_being_written(self) -> None:
        seen: list[Read] = []

        def look(execute: Any, sql: str, *args: Any) -> Any:
            if sql.startswith("UPDATE"):
                with listening() as told:
                    titles()
                seen.extend(told)
            return execute(sql, *args)

        with connection.execute_wrapper(look):
            Book.objects.update(pages=1)
        self.assertEqual(
            [(event.outcome, event.reason) for event in seen],
            [(Outcome.BYPASSED, "the query reads a table that is being written")],
        )

    def test_the_cache_does_not_answer(self) -> None:
        with override_settings(CACHES=cache_of("FailingCache")):
            with self.assertLogs("cachalot", "WARNING"):
                self.assertTold(Outcome.BYPASSED, "the query meets a cache that does not answer")

    def test_nobody_knows_what_a_transaction_sees(self) -> None:
        with mock.patch.object(State, "visibility", return_value=Visibility.UNKNOWN):
            self.assertTold(
                Outcome.BYPASSED,
                "the query runs in a transaction or on a connection of which not enough is known",
            )

    def test_a_table_without_transactions_under_a_snapshot(self) -> None:
        catalogue = Catalogue(untransactional=frozenset({"library_book"}))
        with (
            mock.patch.object(State, "visibility", return_value=Visibility.SNAPSHOT),
            mock.patch.object(schema_catalogue, "remembered_catalogue_of", return_value=catalogue),
            transaction.atomic(),
        ):
            self.assertTold(
                Outcome.BYPASSED,
                "the query reads a table without transactions, in a transaction with a snapshot",
            )

    def test_a_broken_transaction(self) -> None:
        with listening() as told, transaction.atomic():
            transaction.set_rollback(True)
            with self.assertRaises(transaction.TransactionManagementError):
                titles()
        # The query raised what it raises without cachalot: nothing was read.
        self.assertEqual(told, [])


class NotStoredTests(EventTestCase):
    def test_the_result_is_too_large(self) -> None:
        with mock.patch.object(storing, "MAX_ENTRY_BYTES", 10):
            event = self.read()
            streamed = self.read(lambda: list(Book.objects.iterator()))
        for seen in (event, streamed):
            self.assertIs(seen.outcome, Outcome.NOT_STORED)
            self.assertRegex(str(seen.reason), r"^the result takes [\d,]+ bytes$")
            self.assertIs(seen.size, None)

    def test_a_write_came_between(self) -> None:
        def write(execute: Any, sql: str, *args: Any) -> Any:
            result = execute(sql, *args)
            if sql.startswith("SELECT"):
                with connection.cursor() as cursor:
                    cursor.execute("UPDATE library_book SET pages = 7")
            return result

        with connection.execute_wrapper(write):
            with listening() as told:
                titles()
        self.assertEqual(
            [(event.outcome, event.reason) for event in told if isinstance(event, Read)],
            [
                (
                    Outcome.NOT_STORED,
                    "the result was overtaken by a write or the end of a transaction on its "
                    "connection",
                )
            ],
        )

    @override_settings(CACHALOT_TIMEOUT=0)
    def test_nothing_is_kept_for_no_time(self) -> None:
        self.assertTold(
            Outcome.NOT_STORED,
            "the result may be kept for no time, by CACHALOT_TIMEOUT or CACHALOT_TIMEOUTS",
        )

    def test_the_cache_refuses_it(self) -> None:
        with override_settings(CACHES=cache_of("FullCache")):
            event = self.read()
        self.assertIs(event.outcome, Outcome.NOT_STORED)
        self.assertIn("is refused by the cache: ValueError('object too large", str(event.reason))


class InvalidationTests(EventTestCase):
    def test_writes_tell_their_tables(self) -> None:
        with listening() as told:
            Book.objects.update(pages=2)
            invalidate(Author, db_alias="default")
        self.assertEqual(
            told,
            [
                Invalidation("default", ("library_book",)),
                Invalidation("default", ("library_author",)),
            ],
        )

    def test_a_transaction_tells_at_its_commit(self) -> None:
        with listening() as told:
            with transaction.atomic():
                Book.objects.update(pages=2)
                self.assertEqual(told, [])
            self.assertEqual(told, [Invalidation("default", ("library_book",))])
            with self.assertRaises(ZeroDivisionError), transaction.atomic():
                Book.objects.update(pages=3)
                raise ZeroDivisionError
        self.assertEqual(len(told), 1)


class ListenerTests(EventTestCase):
    def test_one_that_raises_breaks_nothing(self) -> None:
        def fail(event: object) -> None:
            raise ZeroDivisionError

        events.listen(fail)
        try:
            with listening() as told, self.assertLogs("cachalot", "ERROR") as logs:
                self.assertEqual(titles(), ["Moby Dick"])
                Book.objects.update(title="Omoo")
                self.assertEqual(titles(), ["Omoo"])
                _, queries = count_queries(titles)
        finally:
            events.stop_listening(fail)
        self.assertEqual(queries, 0)
        self.assertEqual(len(told), 4)
        self.assertEqual(len(logs.records), 4)
        self.assertIn("The listener <function", logs.output[0])
        self.assertIn("ZeroDivisionError", logs.output[0])

    def test_one_is_told_once_and_no_more_when_it_stops(self) -> None:
        with listening() as told:
            events.listen(told.append)
            titles()
        titles()
        self.assertEqual(len(told), 1)

    def test_without_any_nothing_is_put_together(self) -> None:
        self.assertEqual(events.listeners, ())
        with mock.patch.object(events, "tell") as tell:
            titles()
            titles()
            with cachalot_disabled():
                titles()
            Book.objects.update(pages=4)
        tell.assert_not_called()

    def test_results_are_the_same_with_one(self) -> None:
        with listening():
            local_tier.clear()
            self.assertCached(titles)
            self.assertCached(lambda: Book.objects.values_list("title").first())


class LogTests(EventTestCase):
    """Every decision against caching is on the logger ``cachalot``, at DEBUG."""

    def logged(self, read: Any) -> str:
        with self.assertLogs("cachalot", "DEBUG") as logs:
            read()
        (record,) = logs.records
        self.assertEqual(record.levelname, "DEBUG")
        return record.getMessage()

    def test_why_a_query_is_not_cached(self) -> None:
        message = self.logged(lambda: list(Book.objects.order_by("?")))
        self.assertTrue(
            message.startswith(
                "Not cached, because the query uses chance, and CACHALOT_CACHE_RANDOM is off: "
                "SELECT "
            ),
            message,
        )

    def test_why_a_result_is_not_stored(self) -> None:
        with mock.patch.object(storing, "MAX_ENTRY_BYTES", 10):
            message = self.logged(titles)
        self.assertRegex(message, r"^Not stored, because the result takes [\d,]+ bytes: SELECT ")

    def test_hits_and_misses_say_nothing(self) -> None:
        with self.assertNoLogs("cachalot", "DEBUG"):
            titles()
            titles()
