"""A collector knows the versions that whatever runs in its block depends on, or why it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from unittest import mock

from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test import override_settings

from cachalot.api import cachalot_disabled, fresh, get_last_invalidation, invalidate
from cachalot.core import collecting
from cachalot.core.cache.door import guard_of
from cachalot.core.collecting import Collector
from cachalot.core.reading.by_key import get as get_by_key
from cachalot.core.reading.reads import _Reading
from cachalot.core.schema.catalogue import remembered_catalogue_of
from cachalot.core.schema.version_keys import rest_key, row_keys_of, version_keys
from cachalot.core.writing import writes
from tests.library.models import Author, Book, Tag
from tests.support import CacheTestCase, in_thread


def collected(read: Callable[[], object]) -> Collector:
    with Collector() as collector:
        read()
    return collector


def titles() -> list[str]:
    return sorted(Book.objects.values_list("title", flat=True))


def names() -> list[str]:
    return sorted(Author.objects.values_list("name", flat=True))


def select(sql: str, params: object = None) -> Callable[[], object]:
    def run() -> object:
        with connection.cursor() as cursor:
            cursor.execute(sql, params)
            return cursor.fetchall()

    return run


class CollectorTestCase(CacheTestCase):
    def setUp(self) -> None:
        self.book = Book.objects.create(title="Typee")
        self.author = Author.objects.create(name="Melville")

    def assertDepends(self, read: Callable[[], object], *tables: str) -> None:
        """What ``read`` reads depends on what is in force of these tables, and on nothing else."""
        self.assertDependsOn(version_keys("default", frozenset(tables)), read, *tables)

    def assertDependsOnRow(self, read: Callable[[], object], table: str, key: int) -> None:
        """Or on a row and the rest of its table, where the database tells rows apart."""
        catalogue = remembered_catalogue_of(connection)
        keys = rest_key("default", table), row_keys_of("default", table)(key)
        if table in catalogue.keys:
            self.assertDependsOn(keys, read, table)
        else:
            self.assertDepends(read, table)

    def assertDependsOn(
        self, keys: tuple[str, ...], read: Callable[[], object], *tables: str
    ) -> None:
        collector = collected(read)
        self.assertIsNone(collector.reason)
        self.assertEqual(collector.tables.get("default", frozenset()), {*tables})
        self.assertEqual(set(collector.versions), {*keys})
        store = guard_of().readable_store()
        self.assertEqual(tuple(collector.versions[key] for key in keys), store.current(keys))

    def assertSpoilt(self, read: Callable[[], object], reason: str) -> None:
        found = collected(read).reason
        self.assertIsNotNone(found)
        self.assertIn(reason, str(found))


class DependencyTests(CollectorTestCase):
    def test_misses_and_hits(self) -> None:
        for _ in range(3):
            self.assertDepends(titles, "library_book")

    def test_several_reads(self) -> None:
        self.assertDepends(lambda: (titles(), names(), titles()), "library_book", "library_author")

    def test_joins(self) -> None:
        self.assertDepends(
            lambda: list(Book.objects.filter(author__name="Melville")),
            "library_book",
            "library_author",
        )

    def test_get_by_key(self) -> None:
        for _ in range(3):
            self.assertDependsOnRow(
                lambda: Book.objects.get(pk=self.book.pk), "library_book", self.book.pk
            )
        queryset = Book.objects.all()
        self.assertDependsOnRow(
            lambda: self.assertIsNotNone(get_by_key(queryset, (), {"pk": self.book.pk})),
            "library_book",
            self.book.pk,
        )

    def test_iterators_before_they_are_consumed(self) -> None:
        for _ in range(2):
            self.assertDepends(lambda: next(Book.objects.iterator()), "library_book")

    def test_what_has_no_rows_whatever_the_tables_hold(self) -> None:
        self.assertDepends(lambda: list(Book.objects.none()))

    def test_in_transactions(self) -> None:
        for _ in range(2):
            with transaction.atomic():
                collector = collected(titles)
            if collector.reason is not None:
                self.assertIn("snapshot", collector.reason)
                self.assertEqual(connection.vendor, "mysql")

    def test_hits_of_a_transaction(self) -> None:
        with transaction.atomic():
            first = collected(titles)
            second = collected(titles)
        self.assertEqual(first.versions, second.versions)
        self.assertEqual(first.reason, second.reason)

    def test_the_versions_are_those_before_the_query(self) -> None:
        (key,) = version_keys("default", frozenset({"library_book"}))
        store = guard_of().readable_store()
        (before,) = store.current((key,)) or ()
        run = _Reading._run

        def write_first(reading: _Reading) -> object:
            in_thread(lambda: Book.objects.create(title="Omoo"))
            return run(reading)

        with mock.patch.object(_Reading, "_run", write_first):
            collector = collected(titles)
        self.assertEqual(collector.versions, {key: before})
        self.assertNotEqual(store.current((key,)), (before,))


class LastInvalidationTests(CollectorTestCase):
    """What a fragment is kept under by hand, a block around it depends on."""

    def test_tables_that_are_named(self) -> None:
        self.assertDepends(
            lambda: get_last_invalidation(Book, Author, db_alias="default"),
            "library_book",
            "library_author",
        )

    def test_written_in_its_transaction(self) -> None:
        with transaction.atomic():
            Book.objects.create(title="Omoo")
            self.assertSpoilt(
                lambda: get_last_invalidation(Book, db_alias="default"), "has written"
            )

    def test_pending(self) -> None:
        guard_of().mark_pending(version_keys("default", frozenset({"library_book"})))
        self.assertSpoilt(lambda: get_last_invalidation(Book, db_alias="default"), "being written")


class NestingTests(CollectorTestCase):
    def test_the_outer_one_is_told_of_all(self) -> None:
        with Collector() as outer:
            names()
            with Collector() as inner:
                titles()
        self.assertEqual(inner.tables["default"], {"library_book"})
        self.assertEqual(outer.tables["default"], {"library_book", "library_author"})
        self.assertLess(set(inner.versions), set(outer.versions))

    def test_what_spoils_the_inner_one_spoils_the_outer_one_and_not_the_other_way_round(
        self,
    ) -> None:
        with Collector() as outer:
            with Collector() as inner:
                titles()
            list(Book.objects.annotate(now=Now()))
        self.assertIsNone(inner.reason)
        self.assertIsNotNone(outer.reason)

    def test_two_versions_of_one_table(self) -> None:
        def read_twice() -> None:
            titles()
            in_thread(lambda: Book.objects.create(title="Omoo"))
            titles()

        self.assertSpoilt(read_twice, "was written while it ran")

    def test_other_threads_are_not_heard(self) -> None:
        self.assertDepends(lambda: (titles(), in_thread(names)), "library_book")

    def test_tasks_are_heard_apart(self) -> None:
        async def collect(read: Callable[[], object]) -> Collector:
            with Collector() as collector:
                await sync_to_async(read)()
            return collector

        async def both() -> list[Collector]:
            return await asyncio.gather(collect(titles), collect(names))

        books, authors = async_to_sync(both)()
        self.assertEqual(books.tables["default"], {"library_book"})
        self.assertEqual(authors.tables["default"], {"library_author"})

    def test_nothing_is_heard_once_the_block_is_left(self) -> None:
        with Collector() as collector:
            rows = Book.objects.iterator()
            kept = collecting.current()
        next(rows)
        assert kept is not None
        kept.spoil("too late")
        self.assertIsNone(collector.reason)
        self.assertEqual(collector.versions, {})


class SpoilingTests(CollectorTestCase):
    def test_refused(self) -> None:
        self.assertSpoilt(lambda: list(Book.objects.annotate(now=Now())), "the query ")

    def test_switched_off(self) -> None:
        with cachalot_disabled():
            self.assertSpoilt(titles, "cachalot_disabled()")
        with override_settings(CACHALOT_CACHE_ITERATORS=False):
            self.assertSpoilt(lambda: list(Book.objects.iterator()), "CACHALOT_CACHE_ITERATORS")

    def test_fresh(self) -> None:
        self.assertSpoilt(lambda: list(fresh(Book)), "fresh()")

    def test_pending(self) -> None:
        def read() -> None:
            with writes.writing(connection, ("library_tag",)):
                self.assertSpoilt(lambda: list(Tag.objects.all()), "being written")

        in_thread(read)
        guard_of().mark_pending(version_keys("default", frozenset({"library_book"})))
        self.assertSpoilt(titles, "being written")

    def test_writes(self) -> None:
        writes_of = {
            "create": lambda: Book.objects.create(title="Omoo"),
            "update": lambda: Book.objects.update(pages=1),
            "delete": lambda: Book.objects.filter(title="Omoo").delete(),
            "raw": lambda: self.execute("UPDATE library_book SET pages = 2"),
            "invalidate": lambda: invalidate(Book),
        }
        for name, write in writes_of.items():
            with self.subTest(name):
                self.assertIsNotNone(collected(write).reason)
        with override_settings(CACHALOT_INVALIDATE_RAW=False):
            self.assertSpoilt(writes_of["raw"], "writes")

    def execute(self, sql: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql)

    def test_own_changes_that_nobody_else_sees(self) -> None:
        with transaction.atomic():
            Book.objects.create(title="Omoo")
            self.assertSpoilt(titles, "has written")
            self.assertSpoilt(select("SELECT title FROM library_book"), "has written")

    def test_rows_by_a_cursor(self) -> None:
        def read() -> None:
            compiler = Book.objects.all().query.get_compiler("default")
            compiler.execute_sql("cursor").close()

        self.assertSpoilt(read, "cursor")

    def test_session(self) -> None:
        statement = {
            "sqlite": "PRAGMA cache_size = 2000",
            "postgresql": "SET lock_timeout = 0",
            "mysql": "SET SESSION lock_wait_timeout = 50",
        }[connection.vendor]
        self.assertSpoilt(lambda: self.execute(statement), "session")


class SelectTests(CollectorTestCase):
    def test_tables_are_found_by_the_text(self) -> None:
        for sql in (
            "SELECT title FROM library_book",
            "SELECT title FROM library_book WHERE pages = %s",
            "WITH b AS (SELECT * FROM library_book) SELECT title FROM b",
        ):
            with self.subTest(sql):
                params = [1] if "%s" in sql else None
                collector = collected(select(sql, params))
                self.assertIsNone(collector.reason)
                self.assertIn("library_book", collector.tables["default"])
                (key,) = version_keys("default", frozenset({"library_book"}))
                self.assertIn(key, collector.versions)

    def test_raw_querysets(self) -> None:
        self.assertDepends(
            lambda: list(Book.objects.raw("SELECT * FROM library_book")), "library_book"
        )

    def test_joins_and_subqueries(self) -> None:
        sql = (
            "SELECT title FROM library_book b JOIN library_author a ON a.id = b.author_id "
            "WHERE b.id IN (SELECT book_id FROM library_review)"
        )
        self.assertDepends(select(sql), "library_book", "library_author", "library_review")

    def test_volatile(self) -> None:
        self.assertSpoilt(select("SELECT title, CURRENT_TIMESTAMP FROM library_book"), "volatile")
        chance = "rand()" if connection.vendor == "mysql" else "random()"
        self.assertSpoilt(select(f"SELECT {chance} FROM library_book"), "chance")

    def test_what_tells_of_the_server(self) -> None:
        sql = {
            "sqlite": "SELECT name FROM sqlite_master",
            "postgresql": "SELECT relname FROM pg_class",
            "mysql": "SELECT table_name FROM information_schema.tables",
        }[connection.vendor]
        self.assertSpoilt(select(sql), "server's state")
        self.assertSpoilt(select("EXPLAIN SELECT title FROM library_book"), "no SELECT")

    def test_switched_off(self) -> None:
        with cachalot_disabled():
            self.assertSpoilt(select("SELECT title FROM library_book"), "cachalot_disabled()")

    def test_connecting_is_no_doing_of_the_block(self) -> None:
        connection.close()
        self.assertDepends(titles, "library_book")
