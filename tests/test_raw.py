"""Raw SQL that writes is seen; raw SQL that reads changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import Any
from unittest import mock

import pytest
from django.db import DatabaseError, connection, transaction
from django.test import override_settings

from cachalot.core import catalogue
from tests.library.models import Author, Book, OddlyNamed, Tag
from tests.support import CacheTestCase, in_thread


def names() -> list[str]:
    return sorted(Author.objects.values_list("name", flat=True))


def run(sql: str | bytes, params: Any = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


class RawWriteTests(CacheTestCase):
    def setUp(self) -> None:
        Author.objects.create(name="A")

    def assertSeen(self, write: Callable[[], object]) -> None:
        """The next read is right, in autocommit and in a transaction, here and elsewhere."""
        names()
        self.assertHits(names)
        with transaction.atomic():
            write()
            self.assertFresh(names, names())
            transaction.set_rollback(True)
        names()
        self.assertHits(names)
        write()
        self.assertMisses(names)
        self.assertFresh(names, in_thread(names))

    def test_statements(self) -> None:
        quoted = connection.ops.quote_name("library_author")
        for sql, params in (
            ("UPDATE library_author SET name = 'B'", None),
            ("UPDATE library_author SET name = %s", ["C"]),
            (f"update {quoted} set name = %s", ("D",)),
            ("-- a comment\nUPDATE library_author SET name = 'E'", None),
            ("/* a comment */ INSERT INTO library_author (name) VALUES ('F')", None),
            ("\n  INSERT INTO library_author (name) SELECT name FROM library_author", None),
            ("DELETE FROM library_author WHERE name = %s", ["F"]),
        ):
            with self.subTest(sql):
                self.assertSeen(lambda sql=sql, params=params: run(sql, params))

    def test_executemany(self) -> None:
        def write() -> None:
            with connection.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO library_author (name) VALUES (%s)", [("B",), ("C",)]
                )

        self.assertSeen(write)

    def test_keyword_arguments(self) -> None:
        def write() -> None:
            with connection.cursor() as cursor:
                cursor.execute(sql="UPDATE library_author SET name = %s", params=["B"])

        self.assertSeen(write)

    def test_an_odd_name(self) -> None:
        def read() -> list[Any]:
            return list(OddlyNamed.objects.values_list("name"))

        self.assertCached(read)
        table = connection.ops.quote_name("Library_Odd-Name")
        run(f"INSERT INTO {table} (name) VALUES ('x')")
        self.assertMisses(read)

    def test_statements_that_write_nothing(self) -> None:
        names()
        statements = [
            "SELECT 'please delete from library_author'",
            "SELECT name AS updated FROM library_author -- UPDATE library_author",
            "SELECT COUNT(*) FROM library_author",
            "EXPLAIN SELECT * FROM library_author",
            "WITH a AS (SELECT * FROM library_author) SELECT * FROM a",
            "INSERT INTO library_tag (name) VALUES ('library')",
            "UPDATE library_book SET title = 'author'",
        ]
        if connection.vendor != "sqlite":
            statements.append("SELECT * FROM library_author FOR UPDATE")
        for sql in statements:
            with self.subTest(sql):
                run(sql)
                self.assertHits(names)

    def test_errors_are_not_masked(self) -> None:
        names()
        with self.assertRaisesMessage(Exception, "no_such_table"):
            run("UPDATE no_such_table SET x = 1")
        with self.assertRaises(TypeError):
            connection.cursor().execute()
        self.assertHits(names)

    def test_a_catalogue_that_cannot_be_read_masks_no_error(self) -> None:
        """As in an aborted transaction: the statement's own error is the caller's."""
        catalogue.forget()
        self.addCleanup(catalogue.forget)
        with (
            mock.patch.object(catalogue, "_read", side_effect=DatabaseError("no catalogue")),
            self.assertRaisesMessage(DatabaseError, "FROBNICATE"),
        ):
            run("FROBNICATE")

    @override_settings(CACHALOT_INVALIDATE_RAW=False)
    def test_raw_invalidation_switched_off(self) -> None:
        names()
        run("UPDATE library_author SET name = 'B'")
        from tests.support import count_queries

        self.assertEqual(count_queries(names), (["A"], 0))
        Author.objects.create(name="C")
        self.assertEqual(names(), ["B", "C"])

    def test_unknown_tables_are_tables_like_any_other(self) -> None:
        run("CREATE TABLE legacy (id integer)")
        try:

            def read() -> list[Any]:
                return list(Tag.objects.extra(where=["1 IN (SELECT id FROM legacy)"]))

            Tag.objects.create(name="t")
            self.assertEqual(self.assertCached(read), [])
            run("INSERT INTO legacy VALUES (1)")
            self.assertEqual(len(self.assertMisses(read)), 1)
        finally:
            run("DROP TABLE legacy")

    def test_schema_editor(self) -> None:
        def read() -> list[Any]:
            return list(Tag.objects.values_list("name"))

        Tag.objects.create(name="t")
        self.assertCached(read)
        old = Tag._meta.get_field("name")
        new = old.clone()
        new.max_length = 60
        new.set_attributes_from_name("name")
        new.model = Tag
        with connection.schema_editor() as editor:
            editor.alter_field(Tag, old, new)
        self.assertMisses(read)
        with connection.schema_editor() as editor:
            editor.alter_field(Tag, new, old)

    def test_a_session_setting_keeps_results_apart(self) -> None:
        if connection.vendor != "postgresql":
            self.skipTest("PostgreSQL's search_path")
        run("CREATE SCHEMA tenant")
        run("CREATE TABLE tenant.library_author (LIKE public.library_author INCLUDING ALL)")
        run("INSERT INTO tenant.library_author (id, name) VALUES (1, 'of the tenant')")
        try:
            self.assertEqual(self.assertCached(names), ["A"])
            run("SET search_path TO tenant, public")
            self.assertEqual(self.assertCached(names), ["of the tenant"])
            self.assertEqual(in_thread(names), ["A"])
            run("RESET search_path")
            self.assertEqual(self.assertHits(names), ["A"])
            with transaction.atomic():
                run("SELECT set_config('search_path', %s, true)", ["tenant"])
                self.assertEqual(names(), ["of the tenant"])
            self.assertEqual(self.assertHits(names), ["A"])
            with self.assertRaises(ZeroDivisionError), transaction.atomic():
                run("SET search_path TO tenant")
                self.assertEqual(names(), ["of the tenant"])
                raise ZeroDivisionError
            self.assertEqual(self.assertHits(names), ["A"])
            # Written here, read there: a version is of the table, not of the tenant.
            run("SET search_path TO tenant, public")
            self.assertEqual(names(), ["of the tenant"])
            in_thread(lambda: run("UPDATE tenant.library_author SET name = 'changed'"))
            self.assertEqual(names(), ["changed"])
        finally:
            connection.close()
            run("DROP SCHEMA tenant CASCADE")


@pytest.mark.skipif("connection.vendor != 'sqlite'")
class SQLiteRawTests(CacheTestCase):
    setUp = RawWriteTests.setUp

    def test_executescript(self) -> None:
        names()
        with connection.cursor() as cursor:
            cursor.executescript("UPDATE library_author SET name = 'B'; SELECT 1;")
        self.assertEqual(self.assertMisses(names), ["B"])

    def test_executescript_commits_the_transaction(self) -> None:
        in_thread(names)
        with transaction.atomic():
            Author.objects.create(name="B")
            with connection.cursor() as cursor:
                cursor.executescript("INSERT INTO library_tag (name) VALUES ('t')")
            self.assertEqual(in_thread(names), ["A", "B"])
            Author.objects.create(name="C")
            self.assertEqual(in_thread(names), ["A", "B", "C"])
        self.assertEqual(names(), ["A", "B", "C"])


@pytest.mark.skipif("connection.vendor != 'postgresql'")
class PostgreSQLRawTests(CacheTestCase):
    setUp = RawWriteTests.setUp
    assertSeen = RawWriteTests.assertSeen

    def test_statements(self) -> None:
        for sql in (
            "WITH gone AS (DELETE FROM library_author RETURNING *) SELECT * FROM gone",
            "INSERT INTO public.library_author (name) VALUES ('B') ON CONFLICT DO NOTHING",
            "UPDATE ONLY library_author SET name = 'C'",
            "UPDATE library_author SET name = 'X'; SELECT 1",
            "DO $$ BEGIN UPDATE library_author SET name = 'D'; END $$",
            "EXPLAIN ANALYZE UPDATE library_author SET name = 'E'",
            "TRUNCATE library_tag, library_author CASCADE",
        ):
            with self.subTest(sql):
                self.assertSeen(lambda sql=sql: run(sql))

    def test_composed_and_bytes(self) -> None:
        from django.db.backends.postgresql.psycopg_any import sql

        composed = sql.SQL("UPDATE {} SET name = {}").format(
            sql.Identifier("library_author"), sql.Literal("B")
        )
        self.assertSeen(lambda: run(composed))
        self.assertSeen(lambda: run(b"UPDATE library_author SET name = 'C'"))
        # And what is in them is read: the text of another object says nothing.
        names()
        table = sql.Identifier("library_tag")
        for statement in (
            sql.SQL("SELECT * FROM {}").format(sql.Identifier("library_author")),
            sql.SQL("SELECT 1"),
            sql.SQL("DELETE FROM {}").format(table),
            b"SELECT * FROM library_author",
            b"DELETE FROM library_tag",
        ):
            with self.subTest(statement):
                run(statement)
                self.assertHits(names)

    def test_copy(self) -> None:
        for debugs in (False, True):
            connection.force_debug_cursor = debugs
            try:
                with connection.cursor() as cursor:
                    if hasattr(cursor.cursor, "copy"):  # psycopg

                        def copy() -> None:
                            with connection.cursor() as cursor:
                                with cursor.copy("COPY library_author (name) FROM STDIN") as lines:
                                    lines.write("copied\n")

                        def stream() -> None:
                            with connection.cursor() as cursor:
                                statement = "UPDATE library_author SET name = 'x' RETURNING id"
                                self.assertTrue(list(cursor.stream(statement)))

                        self.assertSeen(copy)
                        self.assertSeen(stream)
                        continue

                    def copy_expert() -> None:
                        with connection.cursor() as cursor:
                            file = StringIO("copied\n")
                            cursor.copy_expert("COPY library_author (name) FROM STDIN", file)

                    def copy_from() -> None:
                        with connection.cursor() as cursor:
                            cursor.copy_from(
                                StringIO("copied\n"), "library_author", columns=["name"]
                            )

                    self.assertSeen(copy_expert)
                    self.assertSeen(copy_from)
            finally:
                connection.force_debug_cursor = False

    def test_procedures(self) -> None:
        run(
            "CREATE FUNCTION rename_authors() RETURNS integer LANGUAGE sql AS"
            " $$ UPDATE library_author SET name = 'renamed'; SELECT 1 $$"
        )
        run(
            "CREATE PROCEDURE rename_all() LANGUAGE sql AS"
            " $$ UPDATE library_author SET name = 'all' $$"
        )
        try:
            self.assertSeen(lambda: run("CALL rename_all()"))

            def call() -> None:
                with connection.cursor() as cursor:
                    cursor.callproc("rename_authors")

            self.assertSeen(call)
        finally:
            run("DROP FUNCTION rename_authors()")
            run("DROP PROCEDURE rename_all()")

    def test_materialised_views_change_by_refresh(self) -> None:
        run(
            "CREATE MATERIALIZED VIEW library_summary AS SELECT 1 AS id, name AS title,"
            " name AS author_name FROM library_author"
        )
        try:
            from tests.library.models import BookSummary

            def read() -> list[Any]:
                return list(BookSummary.objects.values_list("title", flat=True))

            self.assertEqual(self.assertCached(read), ["A"])
            Author.objects.update(name="B")
            self.assertEqual(self.assertHits(read), ["A"])
            run("REFRESH MATERIALIZED VIEW library_summary")
            self.assertEqual(self.assertMisses(read), ["B"])
        finally:
            run("DROP MATERIALIZED VIEW library_summary")

    def test_partitions(self) -> None:
        run("CREATE TABLE library_part (id integer, k integer) PARTITION BY LIST (k)")
        run("CREATE TABLE library_part_1 PARTITION OF library_part FOR VALUES IN (1)")
        try:

            def count(table: str) -> int:
                return Tag.objects.extra(select={"n": f"SELECT COUNT(*) FROM {table}"}).values_list(
                    "n", flat=True
                )[0]

            Tag.objects.create(name="t")
            self.assertEqual(count("library_part"), 0)
            self.assertEqual(count("library_part_1"), 0)
            run("INSERT INTO library_part VALUES (1, 1)")
            self.assertEqual(count("library_part_1"), 1)
            self.assertEqual(count("library_part"), 1)
            run("INSERT INTO library_part_1 VALUES (2, 1)")
            self.assertEqual(count("library_part"), 2)
        finally:
            run("DROP TABLE library_part")


@pytest.mark.skipif("connection.vendor != 'mysql'")
class MySQLRawTests(CacheTestCase):
    setUp = RawWriteTests.setUp
    assertSeen = RawWriteTests.assertSeen

    def test_statements(self) -> None:
        Tag.objects.create(name="t")
        for sql in (
            "INSERT library_author (name) VALUES ('B')",
            "REPLACE library_author (id, name) VALUES (1, 'C')",
            "UPDATE library_tag, library_author SET library_author.name = 'D'",
            "DELETE library_author FROM library_author JOIN library_tag",
            "# a comment\nINSERT INTO `library_author` (name) VALUES ('it\\'s; SELECT')",
        ):
            with self.subTest(sql):
                self.assertSeen(lambda sql=sql: run(sql))

    def test_truncate_commits(self) -> None:
        Book.objects.all().delete()
        self.assertEqual(in_thread(lambda: OddlyNamed.objects.count()), 0)
        OddlyNamed.objects.create(name="x")
        self.assertEqual(in_thread(lambda: OddlyNamed.objects.count()), 1)
        with transaction.atomic():
            Author.objects.create(name="B")
            run("TRUNCATE `Library_Odd-Name`")
            self.assertEqual(in_thread(lambda: OddlyNamed.objects.count()), 0)
            self.assertEqual(in_thread(names), ["A", "B"])
            transaction.set_rollback(True)
        self.assertEqual(names(), ["A", "B"])

    def test_procedures(self) -> None:
        run("CREATE PROCEDURE rename_all() UPDATE library_author SET name = 'all'")
        try:
            self.assertSeen(lambda: run("CALL rename_all()"))
        finally:
            run("DROP PROCEDURE rename_all")
