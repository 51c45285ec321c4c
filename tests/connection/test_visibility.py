"""What the isolation of a transaction lets it read from the cache and put there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from django.db import DatabaseError, connection, connections, transaction
from django.db.models import CharField, Func, Value
from django.test import TransactionTestCase
from django.utils.module_loading import import_string

from cachalot.api import cachalot_disabled, invalidate
from cachalot.core.cache.versions import new_nonce
from cachalot.core.connection.state import state_of
from cachalot.core.connection.visibility import Visibility
from cachalot.signals import post_invalidation
from tests.library.models import Author, OddlyNamed, Tag
from tests.support import CacheTestCase, in_thread


def names() -> list[str]:
    return sorted(Author.objects.values_list("name", flat=True))


def tags() -> list[str]:
    return sorted(Tag.objects.values_list("name", flat=True))


def visibility() -> Visibility:
    return state_of(connection).visibility()


class IsolationTests(CacheTestCase):
    def setUp(self) -> None:
        Author.objects.create(name="A")
        # Each test begins with a session of its own.
        connection.close()

    def tearDown(self) -> None:
        connection.close()

    def test_autocommit_and_plain_transactions_share(self) -> None:
        self.assertIs(visibility(), Visibility.NEWEST)
        self.assertCached(names)
        with transaction.atomic():
            self.assertIs(visibility(), Visibility.NEWEST)
            self.assertHits(names)

    def test_a_transaction_sees_what_others_commit_meanwhile(self) -> None:
        if connection.vendor == "sqlite":
            self.skipTest("SQLite's transactions are serialised")
        with transaction.atomic():
            self.assertEqual(names(), ["A"])
            in_thread(lambda: Author.objects.create(name="B"))
            self.assertEqual(self.assertMisses(names), ["A", "B"])
            # Even a table that the transaction itself has written.
            Author.objects.create(name="C")
            self.assertEqual(names(), ["A", "B", "C"])
            in_thread(lambda: Author.objects.create(name="D"))
            self.assertEqual(self.assertMisses(names), ["A", "B", "C", "D"])


@pytest.mark.skipif("connection.vendor != 'postgresql'")
class PostgreSQLIsolationTests(CacheTestCase):
    setUp = IsolationTests.setUp
    tearDown = IsolationTests.tearDown

    def test_a_serialisable_transaction_neither_reads_nor_feeds_the_shared_cache(self) -> None:
        """PostgreSQL must know what it has read to detect conflicts."""
        self.assertCached(names)
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            self.assertIs(visibility(), Visibility.OWN_READS_ONLY)
            self.assertMisses(names)
            self.assertHits(names)  # from the overlay
            in_thread(lambda: Author.objects.create(name="B"))
            self.assertEqual(in_thread(names), ["A", "B"])
            self.assertEqual(self.assertHits(names), ["A"])
            self.assertEqual(list(Tag.objects.all()), [])
            in_thread(lambda: Tag.objects.create(name="t"))
        self.assertEqual(self.assertHits(names), ["A", "B"])
        self.assertEqual(len(list(Tag.objects.all())), 1)

    def test_levels_set_in_every_way(self) -> None:
        for statement, expected in (
            ("SET TRANSACTION ISOLATION LEVEL READ COMMITTED", Visibility.NEWEST),
            ("SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED", Visibility.NEWEST),
            ("set local transaction_isolation = 'repeatable read'", Visibility.SNAPSHOT),
        ):
            with self.subTest(statement), transaction.atomic():
                with connection.cursor() as cursor:
                    cursor.execute(statement)
                self.assertIs(visibility(), expected)
            with transaction.atomic():
                self.assertIs(visibility(), Visibility.NEWEST)

    def test_a_level_set_for_the_session(self) -> None:
        for statement in (
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "SET default_transaction_isolation = 'serializable'",
        ):
            with self.subTest(statement):
                with connection.cursor() as cursor:
                    cursor.execute(statement)
                # Each statement is its own transaction.
                self.assertIs(visibility(), Visibility.NEWEST)
                with transaction.atomic():
                    self.assertIs(visibility(), Visibility.OWN_READS_ONLY)
                connection.close()
                with transaction.atomic():
                    self.assertIs(visibility(), Visibility.NEWEST)

    def test_a_level_set_outside_a_transaction_is_none(self) -> None:
        for statement in (
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "SET transaction_isolation = 'serializable'",
            "SET LOCAL default_transaction_isolation = 'serializable'",
        ):
            with self.subTest(statement), connection.cursor() as cursor:
                cursor.execute(statement)
                with transaction.atomic():
                    self.assertIs(visibility(), Visibility.NEWEST)

    def test_a_level_of_one_transaction_is_over_with_it(self) -> None:
        for statement in (
            "SET transaction_isolation = 'serializable'",
            "SET SESSION transaction_isolation = 'serializable'",
        ):
            with self.subTest(statement), connection.cursor() as cursor:
                with transaction.atomic():
                    cursor.execute(statement)
                    self.assertIs(visibility(), Visibility.OWN_READS_ONLY)
                with transaction.atomic():
                    self.assertIs(visibility(), Visibility.NEWEST)

    def test_a_level_that_is_taken_back(self) -> None:
        for statement in ("RESET ALL", "DISCARD ALL", "RESET default_transaction_isolation"):
            with self.subTest(statement), connection.cursor() as cursor:
                cursor.execute("SET default_transaction_isolation = 'serializable'")
                with transaction.atomic():
                    self.assertIs(visibility(), Visibility.OWN_READS_ONLY)
                cursor.execute(statement)
                with transaction.atomic():
                    self.assertIs(visibility(), Visibility.NEWEST)

    def test_a_level_that_the_server_sets(self) -> None:
        name = connection.settings_dict["NAME"]
        with connection.cursor() as cursor:
            cursor.execute(
                f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'"
            )
        connection.close()
        try:
            with transaction.atomic():
                self.assertIs(visibility(), Visibility.SNAPSHOT)
        finally:
            with connection.cursor() as cursor:
                cursor.execute(f"ALTER DATABASE {name} RESET default_transaction_isolation")

    def test_a_level_that_the_driver_sets(self) -> None:
        with connection.cursor():
            level = import_string("django.db.backends.postgresql.psycopg_any.IsolationLevel")
            connection.connection.isolation_level = level.SERIALIZABLE
        with transaction.atomic():
            self.assertIs(visibility(), Visibility.OWN_READS_ONLY)

    def test_an_aborted_transaction_answers_as_the_database_does(self) -> None:
        names()
        with self.assertRaises(DatabaseError), transaction.atomic():
            self.abort()
            self.assertIs(visibility(), Visibility.UNKNOWN)
            names()

    def test_a_commit_that_postgresql_turns_into_a_rollback(self) -> None:
        """What was SET is taken back with it, and must not name the rows that follow."""
        self.assertCached(names)
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET search_path TO pg_temp")
            Author.objects.none()
            self.abort()
        self.assertHits(names)

    def abort(self) -> None:
        """Leave the transaction aborted, which Django does not notice."""
        with self.assertRaises(DatabaseError), connection.cursor() as cursor:
            cursor.execute("SELECT 1 / 0")

    def test_set_config_in_an_orm_query(self) -> None:
        Tag.objects.create(name="t")
        set_path = Func(
            Value("search_path"),
            Value("pg_catalog"),
            Value(False),
            function="set_config",
            output_field=CharField(),
        )
        self.assertCached(names)
        list(Tag.objects.annotate(path=set_path).values_list("path"))
        with self.assertRaises(DatabaseError):
            names()  # the table is not to be found on that path, in the cache neither

    def test_a_raw_begin_with_a_level(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
            self.assertIs(visibility(), Visibility.OWN_READS_ONLY)
            cursor.execute("COMMIT")
        self.assertIs(visibility(), Visibility.NEWEST)


@pytest.mark.skipif("connection.vendor != 'mysql'")
class MySQLIsolationTests(CacheTestCase):
    setUp = IsolationTests.setUp
    tearDown = IsolationTests.tearDown

    def set_level(self, level: str, session: str = "SESSION ") -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET {session}TRANSACTION ISOLATION LEVEL {level}")

    def test_a_serialisable_transaction_neither_reads_nor_feeds_the_shared_cache(self) -> None:
        """MySQL locks what it reads."""
        self.set_level("SERIALIZABLE")
        invalidate(Tag)
        with transaction.atomic():
            self.assertIs(visibility(), Visibility.OWN_READS_ONLY)
            self.assertCached(tags)
        self.assertMisses(tags)

    def test_a_level_set_during_a_transaction_is_for_the_next(self) -> None:
        self.set_level("REPEATABLE READ")
        with transaction.atomic():
            self.assertEqual(names(), ["A"])
            self.set_level("READ COMMITTED")
            in_thread(lambda: Author.objects.create(name="B"))
            self.assertEqual(in_thread(names), ["A", "B"])
            self.assertEqual(names(), ["A"])
        with transaction.atomic():
            self.assertIs(visibility(), Visibility.NEWEST)

    def test_dirty_reads_are_never_cached(self) -> None:
        self.set_level("READ UNCOMMITTED")
        self.assertNeverCached(names)
        with transaction.atomic():
            self.assertNeverCached(names)

    def test_a_level_for_the_next_transaction_only(self) -> None:
        self.set_level("READ UNCOMMITTED", session="")
        self.assertIs(visibility(), Visibility.UNKNOWN)
        with transaction.atomic():
            self.assertIs(visibility(), Visibility.UNKNOWN)
        self.assertIs(visibility(), Visibility.NEWEST)

    def test_the_servers_own_level(self) -> None:
        connection.close()
        connection.settings_dict["OPTIONS"]["isolation_level"] = None
        try:
            with transaction.atomic():
                # REPEATABLE READ, unless the server is configured otherwise.
                self.assertIs(visibility(), Visibility.SNAPSHOT)
        finally:
            del connection.settings_dict["OPTIONS"]["isolation_level"]

    def test_the_overlay_of_a_snapshot_ends_with_it(self) -> None:
        self.set_level("REPEATABLE READ")
        with transaction.atomic():
            self.assertEqual(names(), ["A"])
            in_thread(lambda: Author.objects.create(name="B"))
            self.assertEqual(names(), ["A"])
            with connection.cursor() as cursor:
                cursor.execute("CREATE TABLE library_made (id integer)")
            self.assertEqual(names(), ["A", "B"])
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE library_made")

    def test_autocommit_off_by_hand(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET autocommit = 0")
            self.assertIs(visibility(), Visibility.UNKNOWN)
            Author.objects.create(name="B")
            in_thread(names)
            cursor.execute("COMMIT")
        self.assertEqual(in_thread(names), ["A", "B"])

    def test_a_table_that_cannot_roll_back(self) -> None:
        def count() -> int:
            return OddlyNamed.objects.count()

        def set_engine(engine: str) -> None:
            with connection.cursor() as cursor:
                cursor.execute(f"ALTER TABLE `Library_Odd-Name` ENGINE = {engine}")

        set_engine("MyISAM")
        try:
            self.assertEqual(in_thread(count), 0)
            sent: list[str] = []

            def receive(sender: str, db_alias: str, **kwargs: object) -> None:
                if db_alias == "default":
                    sent.append(sender)

            post_invalidation.connect(receive)
            self.addCleanup(post_invalidation.disconnect, receive)
            with transaction.atomic():
                Author.objects.create(name="undone")
                OddlyNamed.objects.create(name="shown at once")
                self.assertEqual(in_thread(count), 1)
                with self.assertRaises(ZeroDivisionError), transaction.atomic():
                    OddlyNamed.objects.create(name="not undone")
                    self.assertEqual(count(), 2)
                    raise ZeroDivisionError
                self.assertEqual(count(), 2)
                transaction.set_rollback(True)
            self.assertEqual(count(), 2)
            self.assertEqual(in_thread(count), 2)
            self.assertEqual(sent, ["Library_Odd-Name"])
        finally:
            OddlyNamed.objects.all().delete()
            set_engine("InnoDB")

    def test_ddl_commits_what_the_transaction_has_written(self) -> None:
        self.assertEqual(in_thread(names), ["A"])
        with transaction.atomic():
            Author.objects.create(name="B")
            with connection.cursor() as cursor:
                cursor.execute("CREATE TABLE library_made (id integer)")
            self.assertEqual(in_thread(names), ["A", "B"])
            transaction.set_rollback(True)
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE library_made")
        self.assertEqual(names(), ["A", "B"])
        self.assertEqual(in_thread(names), ["A", "B"])


@pytest.mark.skipif("connection.vendor != 'sqlite'")
class SQLiteIsolationTests(TransactionTestCase):
    count_queries = CacheTestCase.count_queries
    assertCached = CacheTestCase.assertCached
    assertHits = CacheTestCase.assertHits
    assertMisses = CacheTestCase.assertMisses
    assertFresh = CacheTestCase.assertFresh

    def setUp(self) -> None:
        Author.objects.create(name="A")

    def tearDown(self) -> None:
        self.set_journal("DELETE")

    def set_journal(self, mode: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA journal_mode = {mode}")
            self.assertEqual(cursor.fetchone()[0], mode.lower())

    def test_an_unfinished_query_holds_its_snapshot(self) -> None:
        """In autocommit, too: what other queries see meanwhile is not what is newest."""
        Author.objects.bulk_create(Author(name=f"author {n}") for n in range(300))
        for journal in ("WAL", "DELETE"):
            self.set_journal(journal)
            for stream in (
                lambda: iter(Author.objects.iterator(chunk_size=2)),
                self.raw_rows,
            ):
                with self.subTest(journal=journal, stream=stream):
                    invalidate()
                    rows = stream()
                    next(rows)
                    if journal == "WAL":
                        in_thread(lambda: Tag.objects.create(name=new_nonce()))
                        list(Tag.objects.all())
                        for _ in rows:
                            pass
                        self.assertEqual(list(Tag.objects.all()), in_thread(self.tag_rows))
                    else:
                        # Nobody can commit meanwhile, so the cache may be used.
                        self.assertCached(lambda: list(Tag.objects.all()))
                        invalidate(Tag)
                        for _ in rows:
                            pass
                    self.assertFreshTags()

    def tag_rows(self) -> list[Tag]:
        with cachalot_disabled():
            return list(Tag.objects.all())

    def assertFreshTags(self) -> None:
        self.assertEqual(list(Tag.objects.all()), self.tag_rows())

    def raw_rows(self) -> Iterator[Any]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM library_author")
            while row := cursor.fetchone():
                yield row

    def test_the_outermost_savepoint_is_the_transaction(self) -> None:
        """SQLite commits by its release where nobody has sent BEGIN."""
        with connection.cursor() as cursor:
            names()
            cursor.execute("SAVEPOINT outer_one")
            Author.objects.create(name="B")
            cursor.execute("SAVEPOINT inner_one")
            Author.objects.create(name="C")
            cursor.execute("RELEASE inner_one")
            self.assertEqual(in_thread(names), ["A"])
            cursor.execute("RELEASE outer_one")
        self.assertEqual(in_thread(names), ["A", "B", "C"])
        self.assertEqual(names(), ["A", "B", "C"])
        transaction.set_autocommit(False)
        try:
            with transaction.atomic():
                Author.objects.create(name="D")
            self.assertEqual(in_thread(names), ["A", "B", "C", "D"])
            self.assertEqual(names(), ["A", "B", "C", "D"])
        finally:
            transaction.set_autocommit(True)

    def test_a_savepoint_takes_a_snapshot(self) -> None:
        self.set_journal("WAL")
        transaction.set_autocommit(False)
        try:
            self.assertIs(visibility(), Visibility.NEWEST)
            with transaction.atomic():
                self.assertIs(visibility(), Visibility.SNAPSHOT)
        finally:
            transaction.set_autocommit(True)

    def test_a_transaction_that_keeps_writers_out_shares(self) -> None:
        self.set_journal("WAL")
        with connection.cursor() as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            self.assertIs(visibility(), Visibility.NEWEST)
            cursor.execute("ROLLBACK")
        self.assertIs(visibility(), Visibility.NEWEST)

    def test_a_rollback_journal_keeps_writers_out_from_the_first_hit_on(self) -> None:
        """What a transaction has read, from the cache or not, does not change until its end."""
        self.assertCached(names)
        self.assertCached(lambda: list(Tag.objects.all()))

        def write_now() -> None:
            # The options are those of all threads.
            options = connections["default"].settings_dict["OPTIONS"]
            with mock.patch.dict(options, timeout=0), connections["default"].cursor() as cursor:
                cursor.execute("PRAGMA busy_timeout = 0")
                Author.objects.create(name="B")

        with transaction.atomic():
            self.assertHits(names)
            with self.assertRaisesMessage(Exception, "database is locked"):
                in_thread(write_now)
            self.assertHits(lambda: list(Tag.objects.all()))
            self.assertEqual(names(), ["A"])
        in_thread(lambda: Author.objects.create(name="B"))
        self.assertEqual(names(), ["A", "B"])
