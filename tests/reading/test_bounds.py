"""Large work needs no more memory and no more round trips than is promised."""

from __future__ import annotations

import tracemalloc
from contextlib import ExitStack
from unittest import mock

import pytest
from django.conf import settings
from django.core.cache import caches
from django.db import connection, transaction
from django.test import override_settings

from cachalot.api import cachalot_disabled, get_last_invalidation, invalidate
from cachalot.core.cache.door import guard_of
from cachalot.core.cache.recent import recent_versions
from cachalot.core.cache.store import Store
from cachalot.core.connection.overlay import _size
from cachalot.core.connection.state import state_of
from cachalot.core.schema.version_keys import keys_to_renew
from tests.library.models import Author, Tag
from tests.settings import CACHE
from tests.support import CacheTestCase, count_queries, counted_calls, versions_in_cache


def fill(rows: int) -> None:
    """Give the table of authors ``rows`` rows, a power of two."""
    Author.objects.create(name="A" * 60)
    with connection.cursor() as cursor:
        for _ in range(rows.bit_length() - 1):
            cursor.execute("INSERT INTO library_author (name) SELECT name FROM library_author")


def peak_of_iterator() -> int:
    """Return the bytes that going through the authors takes at most."""
    tracemalloc.start()
    try:
        for _ in Author.objects.iterator(chunk_size=500):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def asked_apart() -> dict[str, int]:
    """Return what a write asks the cache beside the versions that it gives."""
    tells_along = Store(caches["default"]).renew({"one": None}, "one") is not None
    return {} if tells_along else {"get": 1}


class BoundTests(CacheTestCase):
    def test_results_kept_in_one_transaction(self) -> None:
        """The oldest go, what was read last is kept, and nothing is wrong."""
        Tag.objects.create(name="before")
        largest = 0
        with (
            mock.patch("cachalot.core.connection.overlay.OVERLAY_BYTES", 20_000),
            transaction.atomic(),
        ):
            for number in range(2000):
                if number % 500 == 499:
                    Tag.objects.create(name=str(number))
                tags = Tag.objects.filter(pk__lt=number + 10**6)
                self.assertEqual(len(tags), (number + 1) // 500 + 1)
                overlay = state_of(connection).transaction.overlay
                assert overlay is not None
                kept = [entry for level in overlay.levels for entry in level.entries.values()]
                largest = max(largest, sum(map(_size, kept)))
            self.assertEqual(count_queries(lambda: len(tags.all())), (5, 0))
        self.assertLessEqual(largest, 20_000)
        self.assertGreater(largest, 19_000)

    def test_results_rolled_back_take_no_place(self) -> None:
        with transaction.atomic():
            for number in range(300):
                savepoint = connection.savepoint()
                len(Tag.objects.filter(pk__lt=number))
                end = connection.savepoint_rollback if number % 2 else connection.savepoint_commit
                end(savepoint)
            overlay = state_of(connection).transaction.overlay
            assert overlay is not None
            kept = [entry for level in overlay.levels for entry in level.entries.values()]
            self.assertEqual(len(kept), 150)
            room = sum(map(_size, kept))
            with mock.patch("cachalot.core.connection.overlay.OVERLAY_BYTES", room):
                # One more has room when the oldest goes, and all the others stay.
                len(Tag.objects.filter(pk__gt=0))
            entries = [entry for level in overlay.levels for entry in level.entries]
            self.assertEqual(len(entries), 150)

    @versions_in_cache
    def test_a_commit_publishes_at_once_whatever_the_number_of_results(self) -> None:
        for size in (1, 1000):
            Tag.objects.count()
            with ExitStack() as commit:
                with transaction.atomic():
                    Author.objects.create(name="A")
                    for number in range(size):
                        len(Tag.objects.filter(pk__lt=number))
                    calls = commit.enter_context(counted_calls())
                # Pending, the new version, and the entries.
                expected = {"mark": 1, "renew": 1, "set_entries": 1, **asked_apart()}
                self.assertEqual(calls, expected)
            self.assertEqual(count_queries(lambda: len(Tag.objects.filter(pk__lt=0))), (0, 0))

    @pytest.mark.usefixtures("local_tier_by_default")
    @versions_in_cache
    def test_a_read_asks_the_cache_no_more_than_it_must(self) -> None:
        author = Author.objects.create(name="A")

        def read() -> list[str]:
            return list(Author.objects.values_list("name", flat=True))

        def write_elsewhere() -> None:
            # As another process does, of which this one has no news.
            store = Store(caches["default"])
            keys = keys_to_renew("default", frozenset({"library_author"}))
            with mock.patch.object(recent_versions, "forget"):
                store.renew(keys)

        caches["default"].clear()
        for name, before, expected in (
            # The schema's version is missing as well, so the catalogue is read again.
            ("cold", lambda: None, {"get": 4, "add_versions": 2, "set_entries": 1}),
            ("kept in the cache", lambda: None, {"get": 1}),
            ("kept in this process", lambda: None, {"get": 1}),
            ("written here", author.save, {"get": 1, "set_entries": 1}),
            ("kept in the cache again", lambda: None, {"get": 1}),
            # The result's version is asked for, is another one, and so the entry is.
            ("written elsewhere", write_elsewhere, {"get": 2, "set_entries": 1}),
        ):
            before()
            with self.subTest(name), counted_calls() as calls:
                self.assertEqual(read(), ["A"])
                self.assertEqual(calls, expected)

    @pytest.mark.usefixtures("local_tier_by_default")
    @versions_in_cache
    def test_one_query_learns_for_the_others_what_was_written_elsewhere(self) -> None:
        reads = [lambda n=n: len(Author.objects.filter(pk__gt=n)) for n in range(3)]
        for read in reads * 2:
            read()
        with mock.patch.object(recent_versions, "forget"):
            Store(caches["default"]).renew(keys_to_renew("default", frozenset({"library_author"})))
        for number, read in enumerate(reads):
            with counted_calls() as calls:
                read()
            self.assertEqual(
                calls,
                {"get": 2, "set_entries": 1} if number == 0 else {"get": 1, "set_entries": 1},
            )

    @versions_in_cache
    def test_a_write_asks_the_cache_twice(self) -> None:
        author = Author.objects.create(name="A")
        with counted_calls() as calls:
            author.save()
        # Pending and the new version, and with them the schema's unless that is another question.
        self.assertEqual(calls, {"mark": 1, "renew": 1, **asked_apart()})

    def test_an_iterator_keeps_no_more_than_may_be_stored(self) -> None:
        """Whatever the number of rows; some drivers fetch them all, but that is theirs."""
        for rows in (4096, 16_384):
            with self.subTest(rows=rows):
                Author.objects.all().delete()
                fill(rows)
                # Else what delete() has read would be fetched, though outdated.
                caches["default"].clear()
                with mock.patch("cachalot.core.reading.results.MAX_ENTRY_BYTES", 100_000):
                    # What is remembered for good is so once.
                    peak = min(peak_of_iterator() for _ in range(3))
                with cachalot_disabled():
                    self.assertLess(peak, peak_of_iterator() + 200_000)

    @override_settings(CACHALOT_ADDITIONAL_TABLES=[f"table_{number}" for number in range(3000)])
    @versions_in_cache
    def test_the_last_invalidation_of_many_tables_is_one_question(self) -> None:
        tables = [f"table_{number}" for number in range(3000)]
        # The first time, what the cache knows nothing of is added.
        with counted_calls() as calls:
            first = get_last_invalidation(*tables, db_alias="default")
        self.assertEqual(calls, {"get": 2, "add_versions": 1})
        with counted_calls() as calls:
            self.assertEqual(get_last_invalidation(*tables, db_alias="default"), first)
        self.assertEqual(calls, {"get": 1})
        with counted_calls() as calls:
            invalidate(*tables, db_alias="default")
        self.assertEqual(calls, {"renew": 1})
        with counted_calls() as calls:
            self.assertGreater(get_last_invalidation(*tables, db_alias="default"), first)
        self.assertEqual(calls, {"get": 1})


@pytest.mark.skipif(CACHE != "redis", reason="of Django's Redis backend")
class ClientTests(CacheTestCase):
    def test_a_client_is_made_once(self) -> None:
        import redis

        Author.objects.count()
        with mock.patch.object(redis.Redis, "__init__", side_effect=AssertionError("another")):
            Author.objects.create(name="A")
            self.assertEqual(self.assertCached(Author.objects.count), 1)

    def test_one_for_each_server(self) -> None:
        servers = "redis://127.0.0.1:6379/1;redis://127.0.0.1:6379/2"
        with override_settings(
            CACHES={"default": {**settings.CACHES["default"], "LOCATION": servers}}
        ):
            guard_of("default").readable_store()
            get_client = caches["default"]._cache.get_client
            for options, database in (({"write": True}, 1), ({"write": False}, 2)):
                client = get_client(**options)
                self.assertIs(get_client(**options), client)
                self.assertEqual(client.connection_pool.connection_kwargs["db"], database)
