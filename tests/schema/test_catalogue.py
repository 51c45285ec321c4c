"""What cachalot asks a database about itself is not felt: no locks, no timeouts, no waiting."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from unittest import mock

import pytest
from django.apps.registry import Apps
from django.db import DatabaseError, OperationalError, connection, models, transaction
from django.test import SimpleTestCase

from cachalot.core.connection.cursor import driver_cursor
from cachalot.core.schema import asking, catalogue, mysql
from cachalot.core.schema.postgresql_query import statements
from cachalot.core.sql.names import canonical
from tests.library.models import Author, BookSummary, Shelf
from tests.support import CacheTestCase, in_process, in_thread

READ = "result = list(Author.objects.values_list('name', flat=True))"


def names() -> list[str]:
    return list(Author.objects.values_list("name", flat=True))


def run(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


class Relay:
    """Stands between a process and PostgreSQL, and keeps the statements that pass."""

    def __init__(self, host: str, port: int) -> None:
        self.statements: list[str] = []
        self._server = (host, port)
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            self._ends += client, server
            for pump in (self._to_server, self._to_client):
                threading.Thread(target=pump, args=(client, server), daemon=True).start()

    def _to_client(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while received := server.recv(65536):
                client.sendall(received)

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        # The first message has no type, every other one has (PostgreSQL: "Message Formats").
        kind = b""
        with suppress(OSError), client.makefile("rb") as stream:
            while head := stream.read(4):
                (length,) = struct.unpack("!I", head)
                body = stream.read(length - 4)
                if kind in {b"Q", b"P"}:
                    self.statements.append(body.decode("utf-8", "replace").strip("\0"))
                server.sendall(kind + head + body)
                kind = stream.read(1)


@contextmanager
def relay() -> Iterator[Relay]:
    settings = connection.settings_dict
    relay = Relay(settings["HOST"], int(settings["PORT"] or 5432))
    try:
        yield relay
    finally:
        relay.close()


def statements_of(code: str) -> tuple[Any, list[str]]:
    """Return what ``code`` leaves as its result in a new process, and what the server is sent."""
    with relay() as passing:
        result = in_process(
            code, PGPORT=str(passing.port), PGSSLMODE="disable", PGGSSENCMODE="disable"
        )
    return result, passing.statements


def is_of_catalogue(statement: str) -> bool:
    return "pg_rewrite" in statement


@pytest.mark.skipif("connection.vendor != 'postgresql'")
class PostgreSQLTests(CacheTestCase):
    def setUp(self) -> None:
        Author.objects.create(name="a")
        run(
            "CREATE VIEW library_summary AS"
            " SELECT id, label AS title, label AS author_name FROM library_shelf"
        )
        self.addCleanup(run, "DROP VIEW library_summary")

    @contextmanager
    def locked(self, table: str) -> Iterator[None]:
        """Another connection has the table for itself."""
        other = connection.copy()
        try:
            with other.cursor() as cursor:
                cursor.execute("BEGIN")
                cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
                yield
                cursor.execute("ROLLBACK")
        finally:
            other.close()

    def test_a_new_process_asks_once(self) -> None:
        for code in (
            READ,
            f"with transaction.atomic():\n    {READ}",
            f"{READ}\nAuthor.objects.update(name='a')\n{READ}",
            f"with transaction.atomic():\n    Author.objects.update(name='a')\n{READ}",
            f"list(BookSummary.objects.all())\n{READ}",
        ):
            with self.subTest(code):
                result, sent = statements_of(code)
                self.assertEqual(result, ["a"])
                self.assertEqual(len(list(filter(is_of_catalogue, sent))), 1)
                # It is the first of all, and no part of a transaction.
                position = next(n for n, text in enumerate(sent) if is_of_catalogue(text))
                self.assertNotIn("BEGIN", sent[:position])

    def test_a_lock_on_a_table_of_a_view_keeps_nobody_waiting(self) -> None:
        with self.locked("library_shelf"):
            for code in (
                READ,
                f"with transaction.atomic():\n    {READ}",
                f"Author.objects.update(name='a')\n{READ}",
                "with connection.cursor() as c: c.execute(\"SET lock_timeout = '1ms'\")\n" + READ,
            ):
                with self.subTest(code):
                    self.assertEqual(in_process(code), ["a"])

    def test_no_transaction_keeps_a_lock_of_it(self) -> None:
        code = (
            "with transaction.atomic():\n"
            "    list(Author.objects.all())\n"
            "    with connection.cursor() as cursor:\n"
            "        cursor.execute('SELECT relation::regclass::text FROM pg_locks WHERE relation"
            " IS NOT NULL AND pid = pg_backend_pid()')\n"
            "        result = sorted(name for (name,) in cursor.fetchall())"
        )
        foreign = [name for name in in_process(code) if not name.startswith("library_author")]
        self.assertEqual(foreign, ["pg_locks"])

    def test_timeouts_of_the_session_are_not_meant_for_it(self) -> None:
        views = [f"v{number}" for number in range(300)]
        run(*(f"CREATE VIEW {view} AS SELECT * FROM library_author" for view in views))
        self.addCleanup(run, f"DROP VIEW {', '.join(views)}")
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = '1ms'")
            try:
                catalogue.forget()
                known = catalogue.catalogue_of(connection)
                cursor.execute("SHOW statement_timeout")
                self.assertEqual(cursor.fetchone(), ("1ms",))
            finally:
                cursor.execute("RESET statement_timeout")
        assert known is not None
        self.assertLessEqual(set(views), known.tables)

    def test_a_question_that_fails_breaks_nothing(self) -> None:
        catalogue.forget()
        with mock.patch(
            "cachalot.core.schema.postgresql.statements",
            return_value="SET LOCAL a.b = 1; SELECT 1/0",
        ):
            with self.assertLogs("cachalot", "WARNING"):
                self.assertEqual(names(), ["a"])
            with transaction.atomic():
                self.assertEqual(names(), ["a"])
                Author.objects.create(name="b")
        catalogue.forget()
        self.assertEqual(names(), ["a", "b"])

    def test_the_snapshot_of_a_transaction_is_not_taken(self) -> None:
        """``LOCK TABLE`` first: what was committed before it is had shows afterwards."""
        catalogue.forget()
        connection.close()
        with transaction.atomic():
            run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            in_thread(lambda: Author.objects.create(name="b"))
            run("LOCK TABLE library_author")
            self.assertEqual(names(), ["a", "b"])

    def test_more_views_than_are_looked_into(self) -> None:
        few = statements(False).replace("<= 1000", "<= 0")
        with mock.patch(
            "cachalot.core.schema.postgresql.statements",
            lambda is_thorough: statements(True) if is_thorough else few,
        ):
            catalogue.forget()
            self.addCleanup(catalogue._thorough.clear)
            with transaction.atomic():
                run("SELECT 1")  # has the transaction really begin
                self.assertNeverCached(lambda: list(BookSummary.objects.all()))
            self.assertCached(lambda: list(BookSummary.objects.all()))

    def test_views_that_come_and_go_meanwhile(self) -> None:
        stop = threading.Event()

        def churn() -> int:
            other = connection.copy()
            rounds = 0
            try:
                with other.cursor() as cursor:
                    while not stop.is_set():
                        driver_cursor: Any = cursor.cursor
                        driver_cursor.execute("CREATE VIEW gone AS SELECT * FROM library_shelf")
                        driver_cursor.execute("DROP VIEW gone")
                        rounds += 1
            finally:
                other.close()
            return rounds

        outcome: list[int] = []
        thread = threading.Thread(target=lambda: outcome.append(churn()))
        thread.start()
        try:
            for _ in range(30):
                catalogue.forget()
                self.assertIsNotNone(catalogue.catalogue_of(connection))
        finally:
            stop.set()
            thread.join()
        self.assertGreater(outcome[0], 0)


def questions() -> int:
    """Return how many statements the server of MySQL has had of a new connection."""
    connection.close()
    connection.ensure_connection()
    with driver_cursor(connection) as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE 'Questions'")
        return int(cursor.fetchone()[1])


@pytest.mark.skipif("connection.vendor != 'mysql'")
class MySQLTests(CacheTestCase):
    def test_a_new_process_asks_once(self) -> None:
        known = questions()
        catalogue.forget()
        self.assertEqual(questions() - known, 1)
        self.assertEqual(questions(), known)

    def test_a_user_without_privileges_knows_of_cascades_as_well(self) -> None:
        run(
            "CREATE TABLE `odd-ü.name` (id int PRIMARY KEY)",
            "CREATE TABLE library_line (id int PRIMARY KEY, odd int, shelf_id bigint,"
            " FOREIGN KEY (odd) REFERENCES `odd-ü.name` (id) ON UPDATE CASCADE,"
            " FOREIGN KEY (shelf_id) REFERENCES library_shelf (id) ON DELETE SET NULL)",
        )
        self.addCleanup(run, "DROP TABLE library_line", "DROP TABLE `odd-ü.name`")
        database = connection.ops.quote_name(connection.settings_dict["NAME"])
        run(
            "CREATE USER 'cachalot_plain'@'%' IDENTIFIED BY 'plain'",
            f"GRANT SELECT, DELETE ON {database}.* TO 'cachalot_plain'@'%'",
        )
        self.addCleanup(run, "DROP USER 'cachalot_plain'@'%'")
        plain = connection.copy()
        plain.settings_dict = {
            **connection.settings_dict,
            **{"USER": "cachalot_plain", "PASSWORD": "plain"},
        }
        self.addCleanup(plain.close)
        found = []
        for each in (connection, plain):
            with driver_cursor(each) as cursor:
                found.append(mysql.read(cursor, False))
        for cascades in found:
            self.assertIn(
                "library_line", cascades.changed_by(frozenset({canonical("odd-ü.name")}), False)
            )
            shelves = frozenset({"library_shelf"})
            self.assertIn("library_line", cascades.changed_by(shelves, True))
            self.assertNotIn("library_line", cascades.changed_by(shelves, False))


@pytest.mark.skipif("connection.vendor != 'sqlite'")
class SQLiteTests(CacheTestCase):
    def test_the_first_write_waits_for_another(self) -> None:
        """No read comes before it in its transaction, so SQLite lets it wait."""
        catalogue.forget()
        locked, may_end = threading.Event(), threading.Event()

        def hold() -> None:
            with transaction.atomic():
                Author.objects.create(name="first")
                locked.set()
                assert may_end.wait(30)

        def write() -> None:
            connection.ensure_connection()
            driver_connection: Any = connection.connection
            # Called while SQLite waits for the lock.
            driver_connection.execute("PRAGMA busy_timeout = 20000")
            with transaction.atomic():
                may_end.set()
                Author.objects.create(name="second")

        holder = threading.Thread(target=lambda: in_thread(hold))
        holder.start()
        assert locked.wait(30)
        try:
            in_thread(write)
        finally:
            may_end.set()
            holder.join()
        self.assertEqual(sorted(names()), ["first", "second"])


class UnknownTests(CacheTestCase):
    """Where the catalogue is not known in a transaction."""

    def setUp(self) -> None:
        Author.objects.create(name="a")
        self.addCleanup(catalogue.forget)

    def test_reads_are_not_cached_and_writes_touch_all(self) -> None:
        self.assertCached(names)
        with mock.patch.object(asking, "ask", side_effect=DatabaseError("locked")):
            catalogue.forget()
            with self.assertLogs("cachalot", "WARNING"), transaction.atomic():
                self.assertNeverCached(names)
                Shelf.objects.create(label="x")
        catalogue.forget()
        # Whatever a trigger may have done.
        self.assertCached(names)

    def test_the_next_write_after_a_change_reads_no_catalogue(self) -> None:
        self.assertCached(names)
        run("CREATE TABLE fresh (id integer, label varchar(9))")
        self.addCleanup(run, "DROP TABLE fresh")
        with mock.patch.object(asking, "ask", side_effect=AssertionError("is read")):
            Shelf.objects.create(label="x")
            run("ALTER TABLE fresh ADD COLUMN n integer", "INSERT INTO fresh (id) VALUES (1)")
        self.assertHits(names)

    def test_tables_of_one_change_belong_together(self) -> None:
        """As far as is known before the catalogue is read again."""
        serial = {"mysql": "bigint AUTO_INCREMENT", "postgresql": "bigserial"}
        run(
            f"CREATE TABLE shelf_lines (id {serial.get(connection.vendor, 'integer')} PRIMARY KEY,"
            " shelf_id bigint, CONSTRAINT lines_of FOREIGN KEY (shelf_id)"
            " REFERENCES library_shelf (id) ON DELETE CASCADE)"
        )
        self.addCleanup(run, "DROP TABLE shelf_lines")

        class Line(models.Model):
            shelf_id = models.BigIntegerField()

            class Meta:
                app_label = "library"
                db_table = "shelf_lines"
                apps = Apps()

        shelf = Shelf.objects.create(label="x")
        Line.objects.create(shelf_id=shelf.pk)
        self.assertCached(Line.objects.count)
        run("CREATE INDEX of_shelf ON shelf_lines (shelf_id)")
        with mock.patch.object(asking, "ask", side_effect=AssertionError("is read")):
            Shelf.objects.filter(pk=shelf.pk)._raw_delete("default")
        self.assertEqual(Line.objects.count(), 0)

    def test_a_commit_after_another_process_has_changed_the_schema(self) -> None:
        if self.is_alone():
            self.skipTest("another process has a cache of its own")
        shelves = lambda: list(Shelf.objects.values_list("label", flat=True))  # noqa: E731
        self.assertCached(shelves)
        with transaction.atomic():
            Author.objects.update(name="b")
            if connection.vendor != "sqlite":  # which lets nobody write meanwhile
                in_process(
                    "with connection.cursor() as c:\n"
                    "    c.execute('CREATE TABLE elsewhere (id integer)')\n"
                    "    c.execute('DROP TABLE elsewhere')"
                )
        if connection.vendor != "sqlite":
            self.assertMisses(shelves)
        self.assertCached(names)


class EmptyTests(SimpleTestCase):
    """What has no rows whatever the tables hold asks no database, nor connects to one."""

    databases: set[str] = set()

    def test_nothing_connects(self) -> None:
        empty = Author.objects.none(), Author.objects.filter(pk__in=[])
        uses: list[Callable[[Any], Any]] = [
            lambda authors: list(authors.all()),
            lambda authors: list(authors.iterator()),
            lambda authors: list(authors.values_list("name")),
            lambda authors: authors.exists(),
            lambda authors: authors.count(),
            lambda authors: authors.first(),
            lambda authors: authors.aggregate(models.Max("name"), models.Count("pk")),
            lambda authors: authors.update(name="x"),
            lambda authors: list(authors.union(authors.all())),
            lambda authors: list(authors.filter(books__title="x")),
            lambda authors: authors._raw_delete("default"),
        ]
        fake = connection.copy()
        refuse = mock.Mock(side_effect=OperationalError("nobody connects"))
        with (
            mock.patch.object(connection, "connection", None),
            mock.patch.object(type(fake), "get_new_connection", refuse),
        ):
            for authors in empty:
                for use in uses:
                    use(authors)
        refuse.assert_not_called()
