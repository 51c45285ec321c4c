"""A version is renewed when the effect of a statement is final, whoever ends it and when."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
from django.db import Error, connection, connections, transaction

from cachalot.core.connection import driver
from cachalot.signals import post_invalidation
from tests.library.models import Author, Tag
from tests.support import CacheTestCase, close_connections, in_thread


def names() -> list[str]:
    return sorted(Author.objects.values_list("name", flat=True))


def run(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


class EffectTestCase(CacheTestCase):
    def setUp(self) -> None:
        self.addCleanup(connection.close)
        Author.objects.create(name="A")
        self.assertCached(names)

    def others(self) -> list[str]:
        """Read on another connection."""
        return in_thread(names)

    def assertSeen(self, *expected: str) -> None:
        """Everybody sees what the database has, and finds it again."""
        self.assertEqual(self.others(), list(expected))
        self.assertEqual(names(), list(expected))
        self.assertHits(names)

    @contextmanager
    def announced_once(self) -> Iterator[None]:
        tables: list[str] = []

        def note(sender: str, **kwargs: Any) -> None:
            if sender == "library_author" and kwargs["db_alias"] == connection.alias:
                tables.append(sender)

        post_invalidation.connect(note)
        try:
            yield
        finally:
            post_invalidation.disconnect(note)
        self.assertEqual(tables, ["library_author"])


@pytest.mark.skipif("connection.vendor != 'sqlite'")
class SQLiteTests(EffectTestCase):
    RETURNING = "UPDATE library_author SET name = 'B' RETURNING id"

    def setUp(self) -> None:
        super().setUp()
        if connection.Database.sqlite_version_info < (3, 35):
            self.skipTest("SQLite 3.35 knows RETURNING.")
        Author.objects.create(name="A")

    def test_rows_of_a_write_that_are_left_to_fetch(self) -> None:
        """It commits with the last row."""
        ends: dict[str, Callable[[Any], object]] = {
            "fetchall": lambda cursor: cursor.fetchall(),
            "fetchmany": lambda cursor: cursor.fetchmany(10),
            "iteration": list,
            "close": lambda cursor: cursor.close(),
            "another statement": lambda cursor: cursor.execute("DELETE FROM library_tag WHERE 0"),
        }
        for name, end in ends.items():
            with self.subTest(name):
                Author.objects.update(name="A")
                names()
                with self.announced_once():
                    cursor = connection.cursor()
                    cursor.execute(self.RETURNING)
                    names()  # on this connection, which sees what is not committed
                    self.others()
                    end(cursor)
                self.assertSeen("B", "B")
                cursor.close()

    def test_rows_that_nobody_fetches(self) -> None:
        cursor = connection.cursor()
        cursor.execute(self.RETURNING)
        self.others()
        del cursor
        names()
        self.assertSeen("B", "B")

    def test_a_connection_that_is_closed_before_the_last_row(self) -> None:
        cursor = connection.cursor()
        cursor.execute(self.RETURNING)
        self.others()
        connection.close()
        self.others()
        del cursor
        self.assertEqual(self.others(), ["B", "B"])
        self.assertEqual(names(), ["B", "B"])

    def test_a_block_that_the_database_rolls_back(self) -> None:
        """What follows in it is in autocommit mode."""
        names()
        with self.assertRaises(Error), transaction.atomic():
            Author.objects.update(name="B")
            self.assertEqual(names(), ["B", "B"])
            with self.assertRaises(Error):
                run(
                    "INSERT OR ROLLBACK INTO library_author (id, name) "
                    "SELECT id, name FROM library_author"
                )
            self.assertEqual(names(), ["A", "A"])
            Author.objects.update(name="C")
            self.assertEqual(self.others(), ["C", "C"])
            run("ROLLBACK")
        self.assertEqual(names(), ["C", "C"])

    def test_raise_rollback(self) -> None:
        run(
            "CREATE TRIGGER forbid BEFORE DELETE ON library_author BEGIN "
            "SELECT RAISE(ROLLBACK, 'never'); END"
        )
        self.addCleanup(run, "DROP TRIGGER forbid")
        run("BEGIN")
        Author.objects.update(name="B")
        with self.assertRaises(Error):
            run("DELETE FROM library_author")
        Author.objects.update(name="C")
        self.assertSeen("C", "C")

    def test_a_script(self) -> None:
        connection.cursor().executescript("BEGIN; UPDATE library_author SET name = 'B';")
        self.assertEqual(names(), ["B", "B"])
        Author.objects.create(name="D")
        self.assertEqual(names(), ["B", "B", "D"])
        run("ROLLBACK")
        self.assertSeen("A", "A")
        with connection.cursor() as cursor:
            cursor.executescript("BEGIN; UPDATE library_author SET name = 'B'; COMMIT;")
        self.assertSeen("B", "B")


@pytest.mark.skipif("connection.vendor != 'postgresql'")
class PostgreSQLTests(EffectTestCase):
    def test_a_raw_commit_that_fails(self) -> None:
        run(
            "CREATE TABLE effect_owner (id integer PRIMARY KEY)",
            "CREATE TABLE effect_owned (id integer REFERENCES effect_owner "
            "DEFERRABLE INITIALLY DEFERRED)",
        )
        self.addCleanup(run, "DROP TABLE effect_owned, effect_owner")
        run("BEGIN", "INSERT INTO effect_owned VALUES (1)")
        Author.objects.update(name="lost")
        with self.assertRaises(Error):
            run("COMMIT")
        self.assertEqual(names(), ["A"])
        Author.objects.update(name="B")
        self.assertSeen("B")

    def test_a_hidden_begin_and_a_hidden_commit(self) -> None:
        run("BEGIN; UPDATE library_author SET name = 'B'")
        self.assertEqual(names(), ["B"])
        self.assertEqual(self.others(), ["A"])
        run("UPDATE library_author SET name = 'C'; COMMIT")
        self.assertSeen("C")
        Author.objects.update(name="D")
        self.assertSeen("D")

    def test_a_prepared_transaction(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SHOW max_prepared_transactions")
            if cursor.fetchone()[0] == "0":
                self.skipTest("The server prepares no transactions.")
        run("BEGIN")
        Author.objects.update(name="B")
        run("PREPARE TRANSACTION 'effect'")
        self.assertEqual(self.others(), ["A"])
        run("COMMIT PREPARED 'effect'")
        self.assertSeen("B")

    @pytest.mark.skipif("connection.Database.__name__ != 'psycopg'")
    def test_a_pipeline(self) -> None:
        """What is queued commits when the pipeline is synchronised."""
        with self.announced_once():
            with connections["default"].connection.pipeline():
                Author.objects.update(name="B")
                self.others()
            self.assertEqual(self.others(), ["B"])
            names()
        self.assertSeen("B")

    def hold_the_row(self, held: threading.Event, done: threading.Event) -> None:
        with transaction.atomic():
            Author.objects.select_for_update().get()
            held.set()
            done.wait(30)

    @pytest.mark.skipif("connection.Database.__name__ != 'psycopg'")
    def test_an_exception_of_the_program_in_a_statement_that_waits(self) -> None:
        """The driver does not cancel it, and the server commits it later."""

        class TimeIsUp(Exception):
            pass

        held, done = threading.Event(), threading.Event()
        holder = threading.Thread(
            target=lambda: (self.hold_the_row(held, done), close_connections())
        )
        holder.start()
        self.assertIs(held.wait(30), True)
        with mock.patch("psycopg.connection.waiting.wait", side_effect=TimeIsUp):
            with self.assertRaises(TimeIsUp):
                # A simple statement is sent before anybody waits for it.
                self.send()
        self.assertIs(driver.is_at_work(connection), True)
        self.others()  # stores what is true still
        done.set()
        holder.join()
        waiting = connections["default"].connection.pgconn
        while (result := waiting.get_result()) is not None:
            result.clear()
        self.assertEqual(self.others(), ["B"])
        names()
        self.assertSeen("B")

    def send(self) -> None:
        """Send an UPDATE as psycopg does, and be interrupted while it waits for the answer."""

        def send_only(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            driver_connection = context["connection"].connection
            driver_connection.pgconn.send_query(b"UPDATE library_author SET name = 'B'")
            driver_connection.wait(iter(()))

        with connection.execute_wrapper(send_only):
            Author.objects.update(name="B")


@pytest.mark.skipif("connection.vendor != 'mysql'")
class MySQLTests(EffectTestCase):
    def setUp(self) -> None:
        super().setUp()
        run("DROP PROCEDURE IF EXISTS effect")

    def define(self, body: str) -> None:
        run(f"CREATE PROCEDURE effect() BEGIN {body}; END")
        self.addCleanup(run, "DROP PROCEDURE effect")

    def test_results_still_to_come(self) -> None:
        update = "UPDATE library_author SET name = CONCAT(name, 'x')"
        lock = "DO GET_LOCK('effect', 30)"
        self.define(f"SELECT 1; {lock}; {update}; DO RELEASE_LOCK('effect')")
        expected = "A"
        for call in ("CALL effect()", f"SELECT 1; {lock}; {update}; DO RELEASE_LOCK('effect')", ""):
            with self.subTest(call):
                locked, done = threading.Event(), threading.Event()

                def hold(locked: threading.Event = locked, done: threading.Event = done) -> None:
                    run("DO GET_LOCK('effect', 30)")
                    locked.set()
                    done.wait(30)
                    close_connections()

                holder = threading.Thread(target=hold)
                holder.start()
                locked.wait(30)
                with connection.cursor() as cursor:
                    cursor.execute(call) if call else cursor.callproc("effect")
                    self.assertEqual(self.others(), [expected])
                    done.set()
                    while cursor.nextset():
                        pass
                holder.join()
                expected += "x"
                self.assertSeen(expected)

    def test_a_procedure_that_commits_in_a_block(self) -> None:
        self.define("UPDATE library_author SET name = 'B'; COMMIT")
        for call in (lambda: run("CALL effect()"), self.call):
            with self.subTest(call):
                Author.objects.update(name="A")
                names()
                with transaction.atomic():
                    list(Tag.objects.all())
                    call()
                    self.assertEqual(self.others(), ["B"])
                    self.assertEqual(names(), ["B"])
                self.assertSeen("B")

    def call(self) -> None:
        with connection.cursor() as cursor:
            cursor.callproc("effect")

    def test_a_procedure_that_begins_a_transaction(self) -> None:
        self.define("START TRANSACTION; UPDATE library_author SET name = 'B'")
        run("CALL effect()")
        self.assertEqual(names(), ["B"])
        self.assertEqual(self.others(), ["A"])
        run("ROLLBACK")
        self.assertSeen("A")

    def test_statements_that_end_a_raw_transaction(self) -> None:
        self.addCleanup(run, "DROP TABLE IF EXISTS effect_table")
        for statement, after in (
            ("CREATE TABLE effect_table (a integer)", None),
            ("LOCK TABLES library_author WRITE", "UNLOCK TABLES"),
            ("ANALYZE TABLE library_tag", None),
        ):
            with self.subTest(statement):
                Author.objects.update(name="A")
                run("START TRANSACTION")
                Author.objects.update(name="B")
                run(statement)
                if after is not None:
                    run(after)
                self.assertEqual(self.others(), ["B"])
                Author.objects.update(name="C")
                self.assertSeen("C")

    def test_a_temporary_table_ends_nothing(self) -> None:
        run("START TRANSACTION")
        Author.objects.update(name="B")
        run("CREATE TEMPORARY TABLE effect_temporary (a integer)")
        self.assertEqual(self.others(), ["A"])
        self.assertEqual(names(), ["B"])
        run("ROLLBACK")
        self.assertEqual(names(), ["A"])

    def test_a_deadlock(self) -> None:
        """It rolls the whole transaction back."""
        Tag.objects.create(name="t")
        for begin in ("START TRANSACTION", None):
            with self.subTest(begin):
                Author.objects.update(name="A")
                names()
                try:
                    if begin is None:
                        transaction.set_autocommit(False)
                    else:
                        run(begin)
                    self.be_deadlocked()
                    self.assertEqual(names(), ["A"])
                    Author.objects.update(name="C")
                    if begin is None:
                        transaction.commit()
                finally:
                    if begin is None:
                        transaction.set_autocommit(True)
                self.assertSeen("C")

    def be_deadlocked(self) -> None:
        """Two transactions wait for each other; the smaller one, this, is the victim."""
        locked, waits = threading.Event(), threading.Event()

        def other() -> None:
            try:
                with transaction.atomic():
                    Tag.objects.bulk_create([Tag(name=f"weight {n}") for n in range(500)])
                    Tag.objects.filter(name="t").update(name="u")
                    locked.set()
                    waits.wait(30)
                    list(Author.objects.select_for_update())
                    transaction.set_rollback(True)
            finally:
                close_connections()

        thread = threading.Thread(target=other)
        thread.start()
        Author.objects.update(name="B")
        self.assertEqual(names(), ["B"])
        locked.wait(30)
        waits.set()
        with self.assertRaises(Error):
            Tag.objects.filter(name="t").update(name="v")
        thread.join()

    def test_two_phases(self) -> None:
        run("XA START 'effect'")
        Author.objects.update(name="B")
        self.assertEqual(names(), ["B"])
        self.assertEqual(self.others(), ["A"])
        run("XA END 'effect'", "XA COMMIT 'effect' ONE PHASE")
        self.assertSeen("B")
        Author.objects.update(name="C")
        self.assertSeen("C")

    def test_autocommit_turned_off_and_on_by_raw_sql(self) -> None:
        run("SET autocommit = 0")
        Author.objects.update(name="B")
        self.assertEqual(self.others(), ["A"])
        run("COMMIT")
        self.assertEqual(self.others(), ["B"])
        Author.objects.update(name="C")
        run("SET autocommit = 1")
        self.assertSeen("C")
