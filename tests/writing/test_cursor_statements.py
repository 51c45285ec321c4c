"""Raw SQL beyond single statements: errors, settings, schema, sessions, implicit commits."""

from __future__ import annotations

from io import StringIO
from typing import Any
from unittest import mock

import pytest
from django.db import DatabaseError, connection, transaction
from django.test import override_settings

from cachalot.core.schema import asking, catalogue
from tests.library.models import Author, Book, BookSummary, OddlyNamed, Tag
from tests.support import CacheTestCase, count_queries, in_thread


def names() -> list[str]:
    return sorted(Author.objects.values_list("name", flat=True))


def run(sql: str | bytes, params: Any = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


class RawWriteTests(CacheTestCase):
    def setUp(self) -> None:
        Author.objects.create(name="A")

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
            mock.patch.object(asking, "ask", side_effect=DatabaseError("no catalogue")),
            self.assertRaisesMessage(DatabaseError, "FROBNICATE"),
        ):
            run("FROBNICATE")

    @override_settings(CACHALOT_INVALIDATE_RAW=False)
    def test_raw_invalidation_switched_off(self) -> None:
        names()
        run("UPDATE library_author SET name = 'B'")
        self.assertEqual(count_queries(names), (["A"], 0))
        Author.objects.create(name="C")
        self.assertEqual(names(), ["B", "C"])

    @override_settings(CACHALOT_INVALIDATE_RAW=False)
    def test_bulk_methods_of_drivers_with_raw_invalidation_switched_off(self) -> None:
        names()
        with connection.cursor() as cursor:
            if hasattr(cursor, "copy_from"):  # psycopg2
                cursor.copy_from(StringIO("B\n"), "library_author", columns=["name"])
            elif hasattr(cursor, "copy"):  # psycopg
                with cursor.copy("COPY library_author (name) FROM STDIN") as copy:
                    copy.write_row(["B"])
            elif hasattr(cursor, "executescript"):
                cursor.executescript("INSERT INTO library_author (name) VALUES ('B')")
            else:
                self.skipTest("mysqlclient has none")
        self.assertEqual(count_queries(names), (["A"], 0))

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

    def test_materialised_views_change_by_refresh(self) -> None:
        run(
            "CREATE MATERIALIZED VIEW library_summary AS SELECT 1 AS id, name AS title,"
            " name AS author_name FROM library_author"
        )
        try:

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
