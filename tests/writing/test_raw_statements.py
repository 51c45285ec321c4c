"""Raw statements, run for real: what each changes is read anew, all else stays cached."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import StringIO
from typing import Any
from unittest import mock

import pytest
from django.db import connection, models, transaction
from django.test import override_settings

from cachalot.api import cachalot_disabled
from tests.library.models import Author, OddlyNamed, Publisher, Shelf, Tag
from tests.support import CacheTestCase, count_queries, in_thread

Model = type[models.Model]

MODELS: tuple[Model, ...] = (Author, Tag, Publisher, OddlyNamed, Shelf)
ATOMIC = "in a transaction"
AUTOCOMMIT = "in autocommit"


@dataclass(frozen=True)
class Row:
    """A statement, the models whose rows it changes, and what else may be read anew after it.

    ``run`` is the statement for ``execute()``, or is called with a cursor. ``before`` prepares it
    and ``after`` cleans up. Where ``keeps_session`` is false the connection that has run it shares
    no result with others any more, since nobody knows what it has set.
    """

    run: Any
    changes: Sequence[Model] = ()
    params: Any = None
    also_misses: Sequence[Model] = ()
    before: Sequence[str] = ()
    after: Sequence[str] = ()
    modes: Sequence[str] = (ATOMIC, AUTOCOMMIT)
    keeps_session: bool = True
    name: str = ""
    debug: bool = False
    dependents: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name or (
            self.run.__name__.strip("_") if callable(self.run) else str(self.run)[:80]
        )

    def execute(self) -> None:
        with connection.cursor() as cursor:
            if callable(self.run):
                self.run(cursor)
            elif self.params is None:
                cursor.execute(self.run)
            else:
                cursor.execute(self.run, self.params)


def execute(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def rows_of(model: Model) -> list[Any]:
    field = "label" if model is Shelf else "name"
    return list(model._default_manager.order_by("id").values_list("id", field))


def all_rows() -> dict[Model, list[Any]]:
    with cachalot_disabled():
        return {model: rows_of(model) for model in MODELS}


def queried() -> dict[Model, int]:
    """Return how many queries reading each model's rows takes."""
    return {model: count_queries(lambda model=model: rows_of(model))[1] for model in MODELS}


@transaction.atomic
def fill() -> None:
    for model in MODELS:
        field = "label" if model is Shelf else "name"
        model._default_manager.all().delete()
        model._default_manager.bulk_create(
            # Far from what the database's own counters give.
            [model(**{"id": 1001, field: "old"}), model(**{"id": 1002, field: "older"})]
        )


HITS = dict.fromkeys(MODELS, 0)


class StatementTestCase(CacheTestCase):
    """Proves what the rows of a table claim."""

    def prove(self, rows: Sequence[Row]) -> None:
        for row in rows:
            for mode in row.modes:
                with self.subTest(str(row), mode=mode):
                    with prepared(row):
                        if mode == ATOMIC:
                            self.prove_in_transaction(row)
                        else:
                            self.prove_in_autocommit(row)

    def prove_in_autocommit(self, row: Row) -> None:
        before = all_rows()
        row.execute()
        self.assertShown(row, before)

    def prove_in_transaction(self, row: Row) -> None:
        before = all_rows()
        with transaction.atomic():
            row.execute()
            self.assertChanged(row, before)
            # It sees its own changes; nobody else does, or has anything to read anew.
            self.assertRight(row)
            self.assertEqual(in_thread(queried), HITS)
            transaction.set_rollback(True)
        self.assertEqual(all_rows(), before)
        self.assertEqual(read_all(), before)
        in_thread(read_all)
        with transaction.atomic():
            row.execute()
        self.assertShown(row, before)

    def assertShown(self, row: Row, before: dict[Model, list[Any]]) -> None:
        """What the statement has changed is seen by others and here."""
        self.assertChanged(row, before)
        misses = {*row.changes, *row.also_misses}
        queries, read, queries_again = in_thread(lambda: (queried(), read_all(), queried()))
        self.assertEqual(queries, {model: int(model in misses) for model in MODELS})
        self.assertEqual(read, all_rows())
        self.assertEqual(queries_again, HITS)
        self.assertRight(row)

    def assertChanged(self, row: Row, before: dict[Model, list[Any]]) -> None:
        """The row is not vacuous: it changes what it claims to, and nothing else."""
        after = all_rows()
        changed = {model for model in MODELS if after[model] != before[model]}
        self.assertEqual(changed, set(row.changes))

    def assertRight(self, row: Row) -> None:
        misses = {*row.changes, *row.also_misses}
        for model in MODELS:
            read, queries = count_queries(lambda model=model: rows_of(model))
            self.assertFresh(lambda model=model: rows_of(model), read)
            if row.keeps_session and model not in misses:
                self.assertEqual(queries, 0, f"{model.__name__} is read anew")


def read_all() -> dict[Model, list[Any]]:
    return {model: rows_of(model) for model in MODELS}


@contextmanager
def prepared(row: Row) -> Iterator[None]:
    """Run ``row.before``, let every read be cached, and undo what the row leaves behind."""
    with ExitStack() as stack:
        if row.dependents:
            table, *dependents = row.dependents
            setting = {"CACHALOT_DEPENDENT_TABLES": {table: dependents}}
            stack.enter_context(override_settings(**setting))
        fill()
        stack.callback(connection.close)
        for sql in reversed(row.after):
            stack.callback(execute, sql)
        for sql in row.before:
            execute(sql)
        # What was set on the way here concerns the connection that did it.
        connection.close()
        if row.debug:
            stack.enter_context(mock.patch.object(connection, "force_debug_cursor", True))
        assert in_thread(lambda: (queried(), queried())[1]) == HITS
        yield


# Ways to run a statement


def executemany(cursor: Any) -> None:
    cursor.executemany("INSERT INTO library_author (name) VALUES (%s)", [("B",), ("C",)])


def keyword_arguments(cursor: Any) -> None:
    cursor.execute(sql="UPDATE library_author SET name = %s", params=["new"])


def raw_queryset(cursor: Any) -> None:
    list(Author.objects.raw("UPDATE library_author SET name = 'new' RETURNING *"))


def executescript(cursor: Any) -> None:
    cursor.executescript(
        "-- both\nUPDATE library_author SET name = ';'; DELETE FROM library_tag WHERE id = 1001;"
    )


def executescript_swapping_tables(cursor: Any) -> None:
    cursor.executescript(
        'CREATE TABLE spare AS SELECT id, upper(name) AS name FROM "Library_Odd-Name";'
        'DELETE FROM "Library_Odd-Name"; INSERT INTO "Library_Odd-Name" SELECT * FROM spare;'
        "DROP TABLE spare"
    )


def callproc(cursor: Any) -> None:
    cursor.callproc("change_authors")


def composed(cursor: Any) -> None:
    from django.db.backends.postgresql.psycopg_any import sql

    statement = sql.SQL("UPDATE {} SET name = {}")
    cursor.execute(statement.format(sql.Identifier("library_author"), sql.Literal("new")))


def composed_with_parameters(cursor: Any) -> None:
    from django.db.backends.postgresql.psycopg_any import sql

    parts = [sql.SQL("DELETE FROM "), sql.Identifier("public", "Library_Odd-Name")]
    cursor.execute(sql.Composed([*parts, sql.SQL(" WHERE id = %s")]), [1001])


def composed_executemany(cursor: Any) -> None:
    from django.db.backends.postgresql.psycopg_any import sql

    cursor.executemany(sql.SQL("UPDATE library_tag SET name = name || %s"), [["x"], ["y"]])


def composed_reads(cursor: Any) -> None:
    from django.db.backends.postgresql.psycopg_any import sql

    table = sql.Identifier("library_author")
    cursor.execute(sql.SQL("SELECT {} FROM {}").format(sql.Literal("delete from x"), table))
    cursor.execute(sql.SQL("SELECT 1"))
    cursor.execute(b"SELECT * FROM library_author")


def copy(cursor: Any) -> None:  # psycopg
    with cursor.copy("COPY library_author (name) FROM STDIN") as lines:
        lines.write("copied\n")


def copy_of_a_delete(cursor: Any) -> None:  # psycopg
    with cursor.copy("COPY (DELETE FROM library_tag RETURNING name) TO STDOUT") as lines:
        assert len(list(lines)) == 2


def stream(cursor: Any) -> None:  # psycopg
    assert list(cursor.stream("UPDATE library_author SET name = 'new' RETURNING id"))


def copy_expert(cursor: Any) -> None:  # psycopg2
    cursor.copy_expert("COPY library_author (name) FROM STDIN", StringIO("copied\n"))


def copy_from(cursor: Any) -> None:  # psycopg2
    cursor.copy_from(StringIO("copied\n"), "library_author", columns=["name"])


def execute_values(cursor: Any) -> None:  # psycopg2
    from psycopg2.extras import execute_values

    execute_values(cursor, "INSERT INTO library_author (name) VALUES %s", [("B",), ("C",)])


def execute_batch(cursor: Any) -> None:  # psycopg2
    from psycopg2.extras import execute_batch

    execute_batch(cursor, "UPDATE library_author SET name = %s", [("B",), ("C",)])


def copy_to(cursor: Any) -> None:  # psycopg2
    cursor.copy_to(StringIO(), "library_author")


def cursor_of_the_server(cursor: Any) -> None:
    cursor.execute("DECLARE authors CURSOR FOR SELECT 'insert' FROM library_author FOR UPDATE")
    cursor.execute("FETCH ALL FROM authors")
    cursor.execute("CLOSE authors")


def prepared_statement(cursor: Any) -> None:
    if connection.vendor == "postgresql":
        cursor.execute("PREPARE change AS UPDATE library_author SET name = 'new'")
        cursor.execute("EXECUTE change")
        cursor.execute("DEALLOCATE change")
    else:
        cursor.execute("PREPARE changing FROM 'UPDATE library_author SET name = ''new'''")
        cursor.execute("EXECUTE changing")
        cursor.execute("DEALLOCATE PREPARE changing")


# The table

EVERYTHING = MODELS
IS_POSTGRESQL = connection.vendor == "postgresql"
IS_MYSQL = connection.vendor == "mysql"
IS_SQLITE = connection.vendor == "sqlite"
quote = connection.ops.quote_name
ODD = quote("Library_Odd-Name")

COMMON = [
    Row("UPDATE library_author SET name = 'new'", [Author]),
    Row("uPdAtE LIBRARY_AUTHOR\n\tsEt name = 'new'" if not IS_MYSQL else
        "uPdAtE library_author\n\tsEt name = 'new'", [Author]),
    Row("UPDATE library_author SET name = %s WHERE id = %s", [Author], ["new", 1001]),
    Row("UPDATE library_author SET name = %(name)s", [Author], {"name": "new"}),
    Row("UPDATE library_author SET name = %s", [Author], ("delete from library_tag",),
        name="a parameter that looks like a statement"),
    Row(f"UPDATE {quote('library_author')} SET name = 'new'", [Author]),
    Row(f"UPDATE{quote('library_author')}SET name = 'new'", [Author]),
    Row(f"INSERT INTO {ODD} (name) VALUES ('new')", [OddlyNamed]),
    Row(f"delete from{ODD}where id = 1001", [OddlyNamed]),
    Row("INSERT INTO library_author (name) VALUES ('new')", [Author]),
    Row("INSERT INTO library_author (name) SELECT name FROM library_tag", [Author],
        also_misses=[Tag]),
    Row("DELETE FROM library_author WHERE id = %s", [Author], [1001]),
    Row("DELETE FROM library_tag WHERE id IN (SELECT id FROM library_shelf)", [Tag],
        also_misses=[Shelf]),
    Row("-- a comment\nUPDATE library_author SET name = 'new'", [Author]),
    Row("/* SELECT */ -- SELECT\n /**/ UPDATE /**/ library_author SET name = 'new'", [Author]),
    Row("\n ;UPDATE library_author SET name = 'new' ; " if IS_POSTGRESQL else
        "\n UPDATE library_author SET name = 'new' ; ", [Author]),
    Row("UPDATE library_author SET name = 'it''s; SELECT'", [Author]),
    Row(executemany, [Author]),
    Row(executemany, [Author], debug=True, name="executemany, with queries logged"),
    Row(keyword_arguments, [Author]),
]  # fmt: skip

SQLITE = [
    Row("UPDATE main.library_author SET name = 'new'", [Author]),
    Row("UPDATE [library_author] SET name = 'new'", [Author]),
    Row("UPDATE `library_author` SET name = 'new'", [Author]),
    Row("UPDATE OR IGNORE library_author SET name = 'new'", [Author]),
    Row("REPLACE INTO library_author (id, name) VALUES (1001, 'new')", [Author]),
    Row("INSERT OR REPLACE INTO library_author (id, name) VALUES (1001, 'new')", [Author]),
    Row("INSERT INTO library_author (id, name) VALUES (1001, 'x')"
        " ON CONFLICT (id) DO UPDATE SET name = 'new'", [Author]),
    Row("WITH x AS (SELECT 1001 AS id) UPDATE library_author SET name = 'new'"
        " WHERE id IN (SELECT id FROM x)", [Author]),
    Row("WITH x AS (SELECT 1001 AS id) DELETE FROM library_tag WHERE id IN (SELECT id FROM x)",
        [Tag]),
    Row("WITH RECURSIVE x(n) AS (SELECT 1) INSERT INTO library_author (name) SELECT n FROM x",
        [Author]),
    Row("UPDATE library_author SET name = 'new' RETURNING id", [Author]),
    Row(raw_queryset, [Author]),
    Row(executescript, [Author, Tag], modes=[AUTOCOMMIT]),
    Row(executescript_swapping_tables, [OddlyNamed], modes=[AUTOCOMMIT]),
    Row("UPDATE library_author SET name = 'new'", [Author, Tag], name="a trigger",
        dependents=("library_author", "library_tag"),
        before=["CREATE TRIGGER changing AFTER UPDATE ON library_author BEGIN"
                " DELETE FROM library_tag; END"],
        after=["DROP TRIGGER changing"]),
    Row("UPDATE titles SET name = 'new'", [Author], name="a view with a trigger",
        before=["CREATE VIEW titles AS SELECT * FROM library_author",
                "CREATE TRIGGER changing INSTEAD OF UPDATE ON titles BEGIN"
                " UPDATE library_author SET name = NEW.name WHERE id = NEW.id; END"],
        after=["DROP VIEW titles"]),
]  # fmt: skip

POSTGRESQL = [
    Row("UPDATE public.library_author SET name = 'new'", [Author]),
    Row('UPDATE "public" . "library_author" SET name = \'new\'', [Author]),
    Row("UPDATE ONLY library_author SET name = 'new'", [Author]),
    Row("UPDATE library_author a SET name = t.name FROM library_tag t WHERE t.id = 2003 - a.id",
        [Author], also_misses=[Tag]),
    Row("DELETE FROM library_tag USING library_shelf WHERE library_tag.id = library_shelf.id",
        [Tag], also_misses=[Shelf]),
    Row(r"UPDATE library_author SET name = E'\'; SELECT'", [Author]),
    Row("UPDATE library_author SET name = $a$'; SELECT $$ $a$", [Author]),
    Row("/* a /* nested */ comment */ UPDATE library_author SET name = 'new'", [Author]),
    Row("INSERT INTO library_author (id, name) VALUES (1001, 'x')"
        " ON CONFLICT (id) DO UPDATE SET name = 'new'", [Author]),
    Row("MERGE INTO library_author a USING library_tag t ON a.id = t.id"
        " WHEN MATCHED THEN UPDATE SET name = 'new'", [Author], also_misses=[Tag]),
    Row("WITH gone AS (DELETE FROM library_author RETURNING *) SELECT * FROM gone", [Author]),
    Row("WITH gone AS (DELETE FROM library_tag RETURNING *)"
        " INSERT INTO library_author (name) SELECT name FROM gone", [Author, Tag]),
    Row("UPDATE library_author SET name = 'new' RETURNING id", [Author]),
    Row("SELECT 1; UPDATE library_author SET name = 'new'; SELECT 2", [Author]),
    Row("DELETE FROM library_tag; DELETE FROM library_author WHERE id = 1001", [Author, Tag]),
    Row("EXPLAIN ANALYZE UPDATE library_author SET name = 'new'", [Author]),
    Row("explain (costs off, analyze) delete from library_tag", [Tag]),
    Row(f"TRUNCATE {ODD}", [OddlyNamed]),
    Row(f"TRUNCATE TABLE ONLY {ODD} RESTART IDENTITY", [OddlyNamed]),
    Row("TRUNCATE library_author CASCADE", [Author], also_misses=EVERYTHING),
    Row(f"ALTER TABLE {ODD} ALTER name TYPE varchar(50) USING upper(name)", [OddlyNamed]),
    Row(f"ALTER TABLE {ODD} RENAME TO odd; ALTER TABLE spare RENAME TO {ODD}", [OddlyNamed],
        before=[f"CREATE TABLE spare (LIKE {ODD} INCLUDING ALL)"], after=["DROP TABLE odd"]),
    Row("DO $$ BEGIN UPDATE library_author SET name = 'new'; END $$", [Author],
        also_misses=EVERYTHING, keeps_session=False),
    Row("CALL change_all()", [Author], also_misses=EVERYTHING, keeps_session=False,
        before=["CREATE PROCEDURE change_all() LANGUAGE sql AS"
                " $$ UPDATE library_author SET name = 'new' $$"],
        after=["DROP PROCEDURE change_all()"]),
    Row(callproc, [Author], also_misses=EVERYTHING, keeps_session=False,
        before=["CREATE FUNCTION change_authors() RETURNS integer LANGUAGE sql AS"
                " $$ UPDATE library_author SET name = 'new'; SELECT 1 $$"],
        after=["DROP FUNCTION change_authors()"]),
    Row(prepared_statement, [Author], also_misses=EVERYTHING, keeps_session=False),
    Row("UPDATE library_author SET name = 'new'", [Author, Tag], name="a trigger",
        dependents=("library_author", "library_tag"),
        before=["CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN DELETE FROM library_tag; RETURN NULL; END $$",
                "CREATE TRIGGER changing AFTER UPDATE ON library_author"
                " FOR EACH STATEMENT EXECUTE FUNCTION change()"],
        after=["DROP FUNCTION change() CASCADE"]),
    Row("UPDATE titles SET name = 'new'", [Author], name="a view",
        before=["CREATE VIEW titles AS SELECT * FROM library_author"],
        after=["DROP VIEW titles"]),
    Row(b"UPDATE library_author SET name = 'new'", [Author]),
    Row(b"DELETE FROM library_tag WHERE id = %s", [Tag], [1001]),
    Row(composed, [Author]),
    Row(composed_with_parameters, [OddlyNamed]),
    Row(composed_executemany, [Tag]),
    Row(raw_queryset, [Author]),
]  # fmt: skip

PSYCOPG = [
    Row(copy, [Author]),
    Row(copy, [Author], debug=True, name="copy, with queries logged"),
    Row(copy_of_a_delete, [Tag]),
    Row(stream, [Author]),
]

PSYCOPG2 = [
    Row(copy_expert, [Author]),
    Row(copy_expert, [Author], debug=True, name="copy_expert, with queries logged"),
    Row(copy_from, [Author]),
    Row(copy_from, [Author], debug=True, name="copy_from, with queries logged"),
    Row(execute_values, [Author]),
    Row(execute_batch, [Author]),
]

MYSQL = [
    Row("UPDATE `library_author` SET name = 'it\\'s; SELECT'", [Author]),
    Row("# SELECT\nUPDATE library_author SET name = \"new\"", [Author]),
    Row("UPDATE LOW_PRIORITY IGNORE library_author SET name = 'new'", [Author]),
    Row("UPDATE library_tag, library_author SET library_author.name = 'new'", [Author],
        also_misses=[Tag]),
    Row("UPDATE library_tag t JOIN library_author a ON a.id = t.id"
        " SET a.name = 'new', t.name = a.id", [Author, Tag]),
    Row("DELETE a.* FROM library_author a JOIN library_tag t ON a.id = t.id", [Author],
        also_misses=[Tag]),
    Row("DELETE FROM library_author, library_tag USING library_author"
        " JOIN library_tag ON library_author.id = library_tag.id", [Author, Tag]),
    Row("INSERT library_author SET name = 'new'", [Author]),
    Row("INSERT INTO library_author (id, name) VALUES (1001, 'x')"
        " ON DUPLICATE KEY UPDATE name = 'new'", [Author]),
    Row("INSERT INTO library_author (name) WITH x AS (SELECT 'new' AS n) SELECT n FROM x",
        [Author]),
    Row("REPLACE library_author (id, name) VALUES (1001, 'new')", [Author]),
    Row("REPLACE LOW_PRIORITY INTO library_author SET id = 1001, name = 'new'", [Author]),
    # An older server would not read it as an UPDATE.
    Row("/*! UPDATE */ library_author SET name = 'new'", [Author], also_misses=EVERYTHING,
        keeps_session=False),
    Row("/*M!100100 UPDATE library_author SET name = 'new' */", [Author]),
    Row("SELECT 1; UPDATE library_author SET name = 'new'", [Author]),
    Row("DELETE FROM library_tag; DELETE FROM library_author", [Author, Tag]),
    Row("ANALYZE UPDATE library_author SET name = 'new'", [Author], modes=[AUTOCOMMIT]),
    Row("SET STATEMENT max_statement_time = 10 FOR UPDATE library_author SET name = 'new'",
        [Author], also_misses=EVERYTHING, keeps_session=False),
    Row("EXECUTE IMMEDIATE 'UPDATE library_author SET name = ''new'''", [Author],
        also_misses=EVERYTHING, keeps_session=False, modes=[AUTOCOMMIT]),
    Row("BEGIN NOT ATOMIC UPDATE library_author SET name = 'new'; END", [Author],
        also_misses=EVERYTHING, keeps_session=False, modes=[AUTOCOMMIT]),
    Row(f"TRUNCATE {ODD}", [OddlyNamed], modes=[AUTOCOMMIT]),
    Row(f"RENAME TABLE {ODD} TO old, spare TO {ODD}", [OddlyNamed], modes=[AUTOCOMMIT],
        before=[f"CREATE TABLE spare LIKE {ODD}"], after=["DROP TABLE old"]),
    Row(f"ALTER TABLE {ODD} ADD extra integer DEFAULT 1, MODIFY id bigint AFTER extra,"
        " DROP name, ADD name varchar(50) DEFAULT 'new'", [OddlyNamed], modes=[AUTOCOMMIT],
        before=[f"CREATE TABLE spare LIKE {ODD}"],
        after=[f"RENAME TABLE {ODD} TO old, spare TO {ODD}", "DROP TABLE old"]),
    Row("CALL change_all()", [Author], also_misses=EVERYTHING, keeps_session=False,
        before=["CREATE PROCEDURE change_all() UPDATE library_author SET name = 'new'"],
        after=["DROP PROCEDURE change_all"], modes=[AUTOCOMMIT]),
    Row(callproc, [Author], also_misses=EVERYTHING, keeps_session=False,
        before=["CREATE PROCEDURE change_authors() UPDATE library_author SET name = 'new'"],
        after=["DROP PROCEDURE change_authors"], modes=[AUTOCOMMIT]),
    Row(prepared_statement, [Author], also_misses=EVERYTHING, keeps_session=False,
        modes=[AUTOCOMMIT]),
    Row("UPDATE library_author SET name = 'new'", [Author, Tag], name="a trigger",
        dependents=("library_author", "library_tag"),
        before=["CREATE TRIGGER changing AFTER UPDATE ON library_author FOR EACH ROW"
                " DELETE FROM library_tag"],
        after=["DROP TRIGGER changing"]),
    Row("UPDATE titles SET name = 'new'", [Author], name="a view",
        before=["CREATE VIEW titles AS SELECT * FROM library_author"],
        after=["DROP VIEW titles"]),
    Row(b"UPDATE library_author SET name = 'new'", [Author]),
]  # fmt: skip

# These change nothing, and nothing is read anew.

READS = [
    Row("SELECT 'please delete from library_author'"),
    Row("SELECT name AS updated FROM library_author -- UPDATE library_author"),
    Row("/* UPDATE library_author SET name = 'x'; */ SELECT COUNT(*) FROM library_author"),
    Row(f"SELECT 1 AS {quote('update library_author')}"),
    Row("SELECT * FROM library_author WHERE name = %s", params=["'; DELETE FROM library_author"]),
    Row("SELECT replace(name, 'o', 'insert into') FROM library_author"),
    Row("SELECT (SELECT MAX(name) FROM library_tag), a.* FROM library_author a"),
    Row("WITH updated AS (SELECT * FROM library_author) SELECT * FROM updated"),
    Row("EXPLAIN SELECT * FROM library_author"),
    Row("UPDATE library_book SET title = 'author'"),
    Row("INSERT INTO library_publishers_author (id) VALUES (1)",
        before=["CREATE TABLE library_publishers_author (id integer)"],
        after=["DROP TABLE library_publishers_author"], name="names inside other names"),
    Row("CREATE TABLE library_author_2 (library_tags integer)", modes=[AUTOCOMMIT],
        after=["DROP TABLE library_author_2"]),
]  # fmt: skip
if IS_SQLITE:
    READS += [
        Row("VALUES ('delete', 'update')"),
        Row("PRAGMA table_info(library_author)"),
        Row("EXPLAIN QUERY PLAN SELECT * FROM library_author"),
        Row("SAVEPOINT library_author", modes=[ATOMIC]),
        Row("ANALYZE library_author", modes=[AUTOCOMMIT]),
        Row("VACUUM", modes=[AUTOCOMMIT]),
    ]
if IS_POSTGRESQL:
    READS += [
        Row("VALUES ('delete', 'update')"),
        Row("TABLE library_author"),
        Row("SELECT * FROM library_author FOR UPDATE"),
        Row("SELECT * FROM library_author FOR NO KEY UPDATE SKIP LOCKED"),
        Row("SELECT * FROM library_author FOR SHARE OF library_author NOWAIT"),
        Row("SELECT $$DELETE FROM library_author$$, $x$; UPDATE library_tag SET name = 1$x$"),
        Row("SELECT 1; SELECT 2"),
        Row("SHOW server_version"),
        Row("LISTEN library_author"),
        Row("NOTIFY library_author, 'insert'"),
        Row("ANALYZE library_author"),
        Row("LOCK TABLE library_author IN SHARE MODE", modes=[ATOMIC]),
        Row("COMMENT ON TABLE library_author IS 'drop table'"),
        Row(cursor_of_the_server, modes=[ATOMIC]),
        Row(composed_reads),
        Row(b"SELECT * FROM library_author WHERE name = %s", params=["delete"]),
        Row("VACUUM library_author", modes=[AUTOCOMMIT]),
    ]
if IS_MYSQL:
    READS += [
        Row("SELECT * FROM library_author FOR UPDATE"),
        Row("SELECT * FROM library_author LOCK IN SHARE MODE"),
        Row("SELECT insert(name, 1, 1, 'x'), truncate(id, 1) FROM library_author"),
        Row("SELECT \"DELETE FROM library_author\", 'it''s; UPDATE library_tag'"),
        Row("SELECT 1; SELECT 2"),
        Row("SHOW CREATE TABLE library_author"),
        Row("DESCRIBE library_author"),
        Row("ANALYZE SELECT * FROM library_author"),
        Row(b"SELECT * FROM library_author WHERE name = %s", params=["delete"]),
        Row("CHECK TABLE library_author", modes=[AUTOCOMMIT]),
    ]


class StatementTests(StatementTestCase):
    def test_statements_that_write(self) -> None:
        self.prove(COMMON)

    def test_statements_that_write_nothing(self) -> None:
        self.prove(READS)


@pytest.mark.skipif(not IS_SQLITE, reason="SQLite's")
class SQLiteStatementTests(StatementTestCase):
    def test_statements_that_write(self) -> None:
        self.prove(SQLITE)


@pytest.mark.skipif(not IS_POSTGRESQL, reason="PostgreSQL's")
class PostgreSQLStatementTests(StatementTestCase):
    def test_statements_that_write(self) -> None:
        self.prove(POSTGRESQL)

    def test_methods_of_the_driver(self) -> None:
        from django.db.backends.postgresql.psycopg_any import is_psycopg3

        self.prove(PSYCOPG if is_psycopg3 else PSYCOPG2)


@pytest.mark.skipif(not IS_MYSQL, reason="MySQL's")
class MySQLStatementTests(StatementTestCase):
    def test_statements_that_write(self) -> None:
        self.prove(MYSQL)

    def test_load_data(self) -> None:
        options = {**connection.settings_dict["OPTIONS"], "local_infile": 1}
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "authors")
            with open(path, "w") as file:
                file.write("new\n")
            with mock.patch.dict(connection.settings_dict, OPTIONS=options):
                self.prove(
                    [
                        Row(
                            f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE library_author (name)",
                            [Author],
                        )
                    ]
                )
        connection.close()
