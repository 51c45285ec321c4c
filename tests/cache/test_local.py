"""The local tier: faster hits, and never another result than without it."""

from __future__ import annotations

import datetime
import decimal
import os
import uuid
from typing import Any
from unittest import mock

import pytest
from django.core.cache import caches
from django.db import IntegrityError, connection, transaction
from django.test import override_settings

from cachalot.api import invalidate
from cachalot.core.cache.entries import Stored, pack
from cachalot.core.cache.local import LocalTier, local_tier
from cachalot.core.cache.store import Store
from tests.library.models import Author, Book
from tests.support import CacheTestCase, in_thread, versions_in_cache

pytestmark = pytest.mark.usefixtures("local_tier_by_default")


def names() -> list[str]:
    return sorted(Author.objects.values_list("name", flat=True))


def put(tier: LocalTier, key: str, rows: Any, nonces: tuple[str, ...] = ("n",)) -> None:
    tier.put(key, nonces, Stored(pack(rows), 0.0, 0.0), rows)


ROW = (
    *(None, True, 1, 1.5, "text", b"bytes", decimal.Decimal(1), uuid.UUID(int=1)),
    *(datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1), datetime.time(1)),
    datetime.timedelta(1),
)


def test_rows_that_nobody_can_change_are_kept_as_they_are() -> None:
    tier = LocalTier()
    put(tier, "k", [ROW])
    result = tier.get("k")
    assert result is not None
    first, second = result.as_hit().rows, result.as_hit().rows
    assert first == second == [ROW]
    # The list is each caller's own.
    first.clear()
    assert result.as_hit().rows == [ROW]
    assert second[0] is ROW


@pytest.mark.parametrize("cell", [[1], {"k": 1}, bytearray(b"1"), memoryview(b"1"), (1, [2]), {1}])
def test_a_cell_that_can_be_changed_is_never_shared(cell: Any) -> None:
    tier = LocalTier()
    put(tier, "k", [(1, cell)])
    result = tier.get("k")
    assert result is not None
    first, second = result.as_hit().rows, result.as_hit().rows
    assert first == second == [(1, cell)]
    assert first[0] is not second[0]
    assert first[0][1] is not second[0][1]


@pytest.mark.parametrize("rows", [None, (), ROW, []])
def test_single_rows_and_none(rows: Any) -> None:
    tier = LocalTier()
    put(tier, "k", rows)
    result = tier.get("k")
    assert result is not None
    assert result.as_hit().rows == rows


def test_the_least_recently_used_go_first() -> None:
    tier = LocalTier()
    put(tier, "a", [("x" * 100,)])
    size = tier.size
    with override_settings(CACHALOT_LOCAL_SIZE=3 * size):
        put(tier, "b", [("x" * 100,)])
        put(tier, "c", [("x" * 100,)])
        tier.get("a")
        put(tier, "d", [("x" * 100,)])
        assert [key for key in "abcd" if tier.get(key)] == ["a", "c", "d"]
        assert tier.size == 3 * size
        put(tier, "large", [("x" * 1000,)])
        assert tier.get("large") is None
        assert len(tier) == 3
        put(tier, "a", [("x" * 50,)])
        assert tier.size < 3 * size
    tier.clear()
    assert (len(tier), tier.size) == (0, 0)


class LocalTierTests(CacheTestCase):
    def setUp(self) -> None:
        local_tier.clear()
        Author.objects.create(name="A")

    def make_local(self) -> None:
        """The second read finds the result in the shared cache and keeps it."""
        names()
        self.assertHits(names)
        self.assertEqual(len(local_tier), 1)

    def without_shared_entries(self) -> Any:
        return mock.patch("cachalot.core.reading.finding.Store.entry", side_effect=AssertionError)

    def test_a_local_hit_asks_for_versions_alone(self) -> None:
        self.make_local()
        with (
            self.without_shared_entries(),
            mock.patch("cachalot.core.reading.finding.Store.read", side_effect=AssertionError),
        ):
            self.assertEqual(self.assertHits(names), ["A"])

    def test_what_others_write_is_seen(self) -> None:
        self.make_local()
        in_thread(lambda: Author.objects.create(name="B"))
        self.assertEqual(self.assertMisses(names), ["A", "B"])
        invalidate(Author)
        self.assertMisses(names)

    def test_what_others_have_stored_meanwhile_is_found(self) -> None:
        self.make_local()
        Author.objects.create(name="B")
        local = local_tier.get(next(iter(local_tier._results)))
        self.assertIsNotNone(local)
        in_thread(names)
        # As in a process that has the old result still.
        self.assertEqual(self.assertHits(names), ["A", "B"])

    def test_a_cleared_cache(self) -> None:
        self.make_local()
        caches["default"].clear()
        self.assertMisses(names)

    def test_off(self) -> None:
        with override_settings(CACHALOT_LOCAL_SIZE=0):
            names()
            self.assertHits(names)
            self.assertEqual(len(local_tier), 0)

    def test_timeouts_count_from_the_storing(self) -> None:
        self.make_local()
        with override_settings(CACHALOT_TIMEOUT=60):
            self.make_local()
            with mock.patch("cachalot.core.reading.finding.wall_time") as wall_time:
                key, result = next(iter(local_tier._results.items()))
                for age, is_kept in ((59, True), (61, False)):
                    wall_time.return_value = result.stored.stored_at + age
                    caches["default"].delete(key)  # as its own timeout does
                    if is_kept:
                        self.assertHits(names)
                    else:
                        self.assertMisses(names)

    def test_what_a_caller_does_to_its_rows_is_its_own(self) -> None:
        Book.objects.create(title="x", details={"seas": [1]}, cover=b"1")
        for _ in range(3):
            (book,) = Book.objects.all()
            self.assertEqual((book.details, bytes(book.cover)), ({"seas": [1]}, b"1"))
            book.details["seas"].append(2)
        rows = Author.objects.values_list("name")
        for _ in range(3):
            listed = list(rows.all())
            self.assertEqual(len(listed), 1)
            listed.clear()

    def test_in_a_transaction(self) -> None:
        self.make_local()
        with transaction.atomic():
            self.assertHits(names)
            Author.objects.create(name="B")
            self.assertEqual(self.assertMisses(names), ["A", "B"])
            self.assertEqual(in_thread(names), ["A"])
            transaction.set_rollback(True)
        # MySQL invalidates what a rollback may not have undone.
        self.assertEqual(names(), ["A"])
        self.assertHits(names)

    @pytest.mark.skipif("not hasattr(os, 'fork')")
    def test_a_forked_process(self) -> None:
        self.make_local()
        result = local_tier.get(next(iter(local_tier._results)))
        with local_tier._lock:  # as held by another thread
            child = os.fork()
            if not child:
                # No clean end: that would run the end of the parent's tests.
                os._exit(0 if local_tier.get(next(iter(local_tier._results))) == result else 1)
        self.assertEqual(os.waitpid(child, 0)[1], 0)


class StalenessTests(CacheTestCase):
    """``CACHALOT_MAX_STALENESS``: others' writes may be seen later, one's own never."""

    def setUp(self) -> None:
        Author.objects.create(name="A")
        names(), names()

    def calls(self) -> Any:
        cache = caches["default"]
        return mock.patch.object(type(cache), "get", side_effect=AssertionError)

    def write_as_another_process(self) -> None:
        with mock.patch("cachalot.core.cache.store.recent_versions"):
            in_thread(lambda: Author.objects.create(name="B"))

    def test_a_hit_without_any_call(self) -> None:
        with override_settings(CACHALOT_MAX_STALENESS=60.0):
            names(), names()
            with self.calls():
                self.assertHits(names)

    def test_own_writes_are_always_seen(self) -> None:
        with override_settings(CACHALOT_MAX_STALENESS=60.0):
            names(), names()
            in_thread(lambda: Author.objects.create(name="B"))
            self.assertEqual(self.assertMisses(names), ["A", "B"])
            with transaction.atomic():
                Author.objects.create(name="C")
                self.assertEqual(names(), ["A", "B", "C"])
            self.assertEqual(names(), ["A", "B", "C"])

    def test_others_writes_are_seen_in_time(self) -> None:
        clock = mock.patch("cachalot.core.cache.recent.recent_versions._time")
        with override_settings(CACHALOT_MAX_STALENESS=2.0), clock as time:
            time.return_value = 100.0
            names(), names(), names()
            self.write_as_another_process()
            time.return_value = 101.9
            self.assertEqual(names(), ["A"])
            time.return_value = 102.1
            self.assertEqual(names(), ["A", "B"])

    def test_a_write_that_the_database_refuses_or_takes_back_looks_again(self) -> None:
        """``get_or_create()`` relies on seeing the row that it could not insert."""

        def refused() -> None:
            with self.assertRaises(IntegrityError):
                Author.objects.create(pk=Author.objects.get(name="B").pk, name="C")

        def refused_in_block() -> None:
            with self.assertRaises(IntegrityError), transaction.atomic():
                Author.objects.create(pk=Author.objects.get(name="B").pk, name="C")

        def undone() -> None:
            with transaction.atomic():
                Author.objects.create(name="C")
                transaction.set_rollback(True)

        def undone_in_block() -> None:
            with transaction.atomic():
                undone()
                self.assertEqual(names(), ["A", "B"])

        with override_settings(CACHALOT_MAX_STALENESS=60.0):
            for write in (refused, refused_in_block, undone, undone_in_block):
                with self.subTest(write.__name__):
                    Author.objects.filter(name="B").delete()
                    names(), names()
                    self.write_as_another_process()
                    if write is not undone_in_block:
                        self.assertEqual(names(), ["A"])
                    write()
                    self.assertEqual(names(), ["A", "B"])

    def test_by_default_they_are_seen_at_once(self) -> None:
        self.write_as_another_process()
        self.assertEqual(names(), ["A", "B"])

    def test_a_version_read_before_an_own_write_is_not_remembered(self) -> None:
        from cachalot.core.cache.recent import RecentVersions

        versions = RecentVersions(lambda: 1.0)
        generation = versions.generation
        versions.forget(["k"])
        versions.note(["k"], ("old",), generation)
        self.assertIs(versions.confirm(["k"], ("old",), 60), False)
        versions.note(["k"], ("new",), versions.generation)
        self.assertIs(versions.confirm(["k"], ("new",), 60), True)
        self.assertIs(versions.confirm(["k"], ("old",), 60), False)


class TimeoutTests(CacheTestCase):
    """``CACHALOT_TIMEOUTS``: the smallest of a query's tables wins."""

    def timeouts(self, **tables: Any) -> Any:
        return override_settings(
            CACHALOT_TIMEOUTS={name.replace("__", "."): value for name, value in tables.items()}
        )

    def stored_for(self, read: Any) -> Any:
        invalidate()
        with mock.patch("cachalot.core.cache.store.Store.put", autospec=True) as put:
            read()
        return put.call_args.args[2]

    def test_the_smallest_wins(self) -> None:
        def books() -> Any:
            return list(Book.objects.select_related("author"))

        def authors() -> Any:
            return list(Author.objects.all())

        self.assertIsNone(self.stored_for(books))
        with self.timeouts(library__Book=60, library_author=30):
            self.assertEqual(self.stored_for(books), 30)
            self.assertEqual(self.stored_for(authors), 30)
            self.assertEqual(self.stored_for(lambda: Book.objects.count()), 60)
            with override_settings(CACHALOT_TIMEOUT=10):
                self.assertEqual(self.stored_for(books), 10)
        with self.timeouts(library__Book=None), override_settings(CACHALOT_TIMEOUT=10):
            self.assertEqual(self.stored_for(books), 10)

    def test_zero_stores_nothing(self) -> None:
        with self.timeouts(library__Author=0):
            self.assertNeverCached(names)
            self.assertCached(lambda: Book.objects.count())

    def test_zero_for_one_table_in_a_transaction(self) -> None:
        with self.timeouts(library__Author=0):
            with transaction.atomic():
                names()
                Book.objects.count()
            self.assertHits(Book.objects.count)
            self.assertNeverCached(names)

    def test_a_transaction_keeps_them_apart(self) -> None:
        with self.timeouts(library__Author=30):
            with mock.patch("cachalot.core.cache.store.Store.put", autospec=True) as put:
                with transaction.atomic():
                    names()
                    Book.objects.count()
        self.assertEqual({call.args[2] for call in put.call_args_list}, {None, 30})


class ReplicaTests(CacheTestCase):
    """``CACHALOT_REPLICAS``: what lags stays uncached for as long as it may lag."""

    databases = {"default", "other"}
    replicas = {"other": {"primary": "default", "max_lag": 1.5}}

    def read(self) -> Any:
        return sorted(Author.objects.using("other").values_list("name", flat=True))

    def assertAsked(self, times: int) -> None:
        from tests.support import count_queries

        self.assertEqual(sum(count_queries(self.read, "other")[1] for _ in range(2)), times)

    @versions_in_cache
    def test_a_write_on_the_primary_leaves_it_uncached_for_its_lag(self) -> None:
        from cachalot.core.schema.version_keys import version_keys

        with override_settings(CACHALOT_REPLICAS=self.replicas):
            self.read()
            self.assertAsked(0)
            in_use = type(Store(caches["default"]).backend)
            with mock.patch.object(
                in_use, "renew", autospec=True, side_effect=in_use.renew
            ) as renew:
                Author.objects.create(name="A")
            (key,) = version_keys("other", frozenset({"library_author"}))
            # 1.5 seconds, of which a memcached may count the first as over at once.
            self.assertEqual([call.args[1][key] for call in renew.call_args_list], [3])
            Author.objects.create(name="B")
            self.assertAsked(2)
            caches["default"].delete(key)  # as its expiry does
            self.assertAsked(1)

    def test_invalidating_by_hand_does_not_lift_it(self) -> None:
        with override_settings(CACHALOT_REPLICAS=self.replicas):
            self.read()
            invalidate(Author)
            self.assertAsked(2)

    def test_without_the_setting_it_is_a_database_of_its_own(self) -> None:
        self.read()
        Author.objects.create(name="A")
        self.assertAsked(0)

    def test_a_mirror_shares_the_versions_of_its_primary(self) -> None:
        mirror = {"mirror": {"primary": "default", "max_lag": 1.5}}
        with override_settings(CACHALOT_REPLICAS=mirror):
            Author.objects.create(name="A")
            self.assertCached(names)
            self.assertEqual(connection.alias, "default")
