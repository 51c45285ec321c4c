"""A transaction that sees the data of its beginning uses the cache as far as it is of that time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from unittest import mock

from django.core.cache import caches
from django.db import connection, transaction

from cachalot.api import invalidate
from cachalot.core.cache.store import Store
from cachalot.core.connection.state import state_of
from cachalot.core.connection.visibility import Visibility
from cachalot.core.reading import snapshots
from cachalot.utils import get_table_cache_key
from tests.library.models import Author, Tag
from tests.support import CacheTestCase, count_queries, in_thread, versions_in_cache


def names() -> list[str]:
    return sorted(Author.objects.values_list("name", flat=True))


def tags() -> list[str]:
    return sorted(Tag.objects.values_list("name", flat=True))


def add_author(name: str) -> None:
    in_thread(lambda: Author.objects.create(name=name))


def add_tag(name: str) -> None:
    in_thread(lambda: Tag.objects.create(name=name))


class SnapshotTestCase(CacheTestCase):
    def setUp(self) -> None:
        connection.close()
        snapshots._in_use.clear()
        Author.objects.create(name="A")
        Tag.objects.create(name="t")
        if connection.vendor == "sqlite":
            self.execute("PRAGMA journal_mode = WAL")
        # Both tables are in use from now on, and read once by each of the others.
        with self.snapshot():
            names(), tags()
        invalidate(Author, Tag)

    def tearDown(self) -> None:
        if connection.vendor == "sqlite":
            self.execute("PRAGMA journal_mode = DELETE")
        connection.close()

    def execute(self, statement: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            if cursor.description:
                cursor.fetchall()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        if connection.vendor == "mysql":
            self.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        with transaction.atomic():
            if connection.vendor == "postgresql":
                self.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            self.assertIs(state_of(connection).visibility(), Visibility.SNAPSHOT)
            yield


class SnapshotTests(SnapshotTestCase):
    def assertNoQuery(self, read: Callable[[], Any]) -> Any:
        """``read`` is a hit; what it should give depends on the snapshot."""
        result, ran = count_queries(read)
        self.assertEqual(ran, 0)
        return result

    def assertQuery(self, read: Callable[[], Any]) -> Any:
        result, ran = count_queries(read)
        self.assertEqual(ran, 1)
        return result

    def test_what_is_of_its_time_is_a_hit(self) -> None:
        names(), tags()
        with self.snapshot():
            self.assertEqual(self.assertHits(names), ["A"])
            self.assertEqual(self.assertHits(tags), ["t"])

    def test_what_others_commit_meanwhile_is_not_seen(self) -> None:
        names(), tags()
        with self.snapshot():
            self.assertEqual(self.assertNoQuery(names), ["A"])
            add_author("B")
            add_tag("u")
            # What now lies in the cache is newer than the snapshot.
            self.assertEqual(in_thread(names), ["A", "B"])
            self.assertEqual(self.assertQuery(names), ["A"])
            # Nobody has replaced this one, but it could be what a slow reader has stored.
            self.assertEqual(self.assertQuery(tags), ["t"])
        self.assertEqual(names(), ["A", "B"])
        self.assertEqual(self.assertMisses(tags), ["t", "u"])

    def test_what_a_slow_reader_stores_is_newer_than_its_versions(self) -> None:
        """It got its versions before a change, and its rows after it."""

        def change_first(execute: Any, sql: str, *args: Any) -> Any:
            if "library_author" in sql:
                add_author("B")
            return execute(sql, *args)

        def read_slowly() -> list[str]:
            with connection.execute_wrapper(change_first):
                return names()

        with self.snapshot():
            tags()
            self.assertEqual(in_thread(read_slowly), ["A", "B"])
            self.assertEqual(self.assertQuery(names), ["A"])

    def test_what_it_reads_is_there_for_others_after_the_commit(self) -> None:
        with self.snapshot():
            self.assertQuery(names)
            self.assertEqual(in_thread(lambda: count_queries(tags)[1]), 1)
            self.assertNoQuery(names)
        self.assertHits(names)

    def test_what_it_reads_of_the_past_is_there_for_nobody(self) -> None:
        with self.snapshot():
            tags()
            add_author("B")
            self.assertEqual(self.assertQuery(names), ["A"])
        self.assertEqual(self.assertMisses(names), ["A", "B"])

    def test_what_it_writes(self) -> None:
        names(), tags()
        with self.snapshot():
            self.assertEqual(self.assertNoQuery(names), ["A"])
            Author.objects.create(name="own")
            self.assertEqual(self.assertQuery(names), ["A", "own"])
            self.assertEqual(self.assertNoQuery(names), ["A", "own"])
            self.assertEqual(self.assertNoQuery(tags), ["t"])
            self.assertEqual(in_thread(names), ["A"])
        self.assertEqual(names(), ["A", "own"])

    def test_a_savepoint_rolled_back(self) -> None:
        names()
        with self.snapshot():
            names()
            with suppress(ZeroDivisionError), transaction.atomic():
                Author.objects.create(name="own")
                self.assertEqual(names(), ["A", "own"])
                raise ZeroDivisionError
            self.assertEqual(names(), ["A"])
            self.assertEqual(self.assertNoQuery(names), ["A"])
        self.assertEqual(names(), ["A"])

    def test_a_snapshot_taken_before_pins_nothing(self) -> None:
        names(), tags()
        with self.snapshot():
            self.execute("SELECT COUNT(*) FROM library_author")
            add_author("B")
            self.assertEqual(in_thread(names), ["A", "B"])
            self.assertEqual(self.assertQuery(names), ["A"])
            self.assertQuery(tags)
            self.assertNoQuery(tags)

    def test_a_write_comes_first(self) -> None:
        tags()
        with self.snapshot():
            Author.objects.create(name="own")
            add_tag_after = connection.vendor != "sqlite"  # where one writer waits for another
            if add_tag_after:
                add_tag("u")
                self.assertEqual(in_thread(tags), ["t", "u"])
            expected = self.assertQuery(tags)
            self.assertEqual(self.assertNoQuery(tags), expected)

    def at_pinning(self, change: Callable[[], Any], *, before: bool) -> Any:
        """Run ``change`` behind the reading of the versions, before or after the snapshot."""
        cursor_of = snapshots.driver_cursor

        @contextmanager
        def cursor(connection: Any) -> Iterator[Any]:
            if before:
                change()
            with cursor_of(connection) as taking:
                yield taking
            if not before:
                change()

        return mock.patch.object(snapshots, "driver_cursor", cursor)

    def test_a_commit_just_before_the_snapshot_is_in_it(self) -> None:
        names(), tags()
        with self.at_pinning(lambda: (add_author("B"), in_thread(names)), before=True):
            with self.snapshot():
                self.assertEqual(self.assertQuery(names), ["A", "B"])
                self.assertNoQuery(tags)
        self.assertEqual(names(), ["A", "B"])

    def test_a_commit_just_after_the_snapshot_is_not_in_it(self) -> None:
        names(), tags()
        with self.at_pinning(lambda: (add_author("B"), in_thread(names)), before=False):
            with self.snapshot():
                self.assertEqual(self.assertQuery(names), ["A"])
                self.assertNoQuery(tags)
        self.assertEqual(names(), ["A", "B"])

    def test_a_pending_table_is_not_pinned(self) -> None:
        names(), tags()
        store, key = Store(caches["default"]), get_table_cache_key("default", "library_author")
        with self.at_pinning(lambda: store.mark_pending([key]), before=False):
            with self.snapshot():
                self.assertQuery(names)
                self.assertNoQuery(tags)
        self.assertQuery(names)
        self.assertQuery(names)

    @versions_in_cache
    def test_an_evicted_version_is_not_pinned(self) -> None:
        names(), tags()
        key = get_table_cache_key("default", "library_author")
        with self.at_pinning(lambda: caches["default"].delete(key), before=True):
            with self.snapshot():
                self.assertQuery(names)
                self.assertNoQuery(tags)

    def test_each_transaction_pins_anew(self) -> None:
        names()
        with self.snapshot():
            self.assertEqual(names(), ["A"])
        add_author("B")
        in_thread(names)
        with self.snapshot():
            self.assertEqual(self.assertNoQuery(names), ["A", "B"])
            transaction.set_rollback(True)
        add_author("C")
        in_thread(names)
        with self.snapshot():
            self.assertEqual(self.assertNoQuery(names), ["A", "B", "C"])

    def test_a_change_of_the_schema_ends_it_on_mysql(self) -> None:
        if connection.vendor != "mysql":
            self.skipTest("MySQL commits before it")
        tags()
        with self.snapshot():
            self.assertEqual(tags(), ["t"])
            add_tag("u")
            self.execute("CREATE TABLE library_made (id integer)")
            self.assertEqual(tags(), ["t", "u"])
        self.execute("DROP TABLE library_made")

    def test_it_pins_no_more_tables_than_are_in_use(self) -> None:
        with mock.patch.object(snapshots, "MAX_TABLES", 1):
            tags()
            with self.snapshot():
                names()
            names()
            with self.snapshot():
                self.assertNoQuery(names)
                self.assertQuery(tags)


class OlderSnapshotTests(CacheTestCase):
    """What makes a transaction see the data of another's beginning."""

    def test_an_imported_snapshot(self) -> None:
        if connection.vendor != "postgresql":
            self.skipTest("PostgreSQL's")
        Author.objects.create(name="A")
        level = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"

        def snapshot_of_thread() -> list[str]:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(level)
                cursor.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
                return names()

        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(level)
            cursor.execute("SELECT pg_export_snapshot()")
            (snapshot,) = cursor.fetchone()
            add_author("B")
            self.assertEqual(in_thread(names), ["A", "B"])
            self.assertEqual(in_thread(snapshot_of_thread), ["A"])
        self.assertEqual(names(), ["A", "B"])

    def test_an_unfinished_query(self) -> None:
        if connection.vendor != "sqlite":
            self.skipTest("SQLite's")
        Author.objects.bulk_create(Author(name=f"author {n}") for n in range(300))
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode = WAL")
        try:
            rows = iter(Author.objects.iterator(chunk_size=2))
            next(rows)
            add_tag("u")
            self.assertEqual(in_thread(tags), ["u"])
            with transaction.atomic():
                self.assertEqual(tags(), [])
            for _ in rows:
                pass
            self.assertEqual(tags(), ["u"])
        finally:
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA journal_mode = DELETE")
