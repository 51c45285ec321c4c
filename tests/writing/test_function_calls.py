"""A SELECT that calls a function which writes is a write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import StringIO
from typing import Any
from unittest import mock

import pytest
from django.db import connection, models, transaction
from django.db.models import Func, Value
from django.db.models.expressions import RawSQL

from cachalot.core.cache.store import Store
from cachalot.core.schema import asking, catalogue
from tests.library.models import Author, BookSummary, OddlyNamed, Publisher, Shelf, Tag
from tests.support import count_queries, in_process, in_thread
from tests.writing.test_raw_statements import (
    ATOMIC,
    EVERYTHING,
    HITS,
    IS_MYSQL,
    IS_POSTGRESQL,
    ODD,
    Row,
    StatementTestCase,
    execute,
    fill,
    queried,
    rows_of,
)

pytestmark = pytest.mark.skipif(
    "connection.vendor == 'sqlite'", reason="SQLite's functions are Python's"
)

if IS_POSTGRESQL:
    CHANGE = (
        "CREATE FUNCTION change_authors(new text) RETURNS integer LANGUAGE sql AS"
        " $$ UPDATE library_author SET name = new; SELECT 1 $$"
    )
else:
    CHANGE = (
        "CREATE FUNCTION change_authors(new varchar(50)) RETURNS integer"
        " BEGIN UPDATE library_author SET name = new; RETURN 1; END"
    )
FUNCTION = {"before": [CHANGE], "after": ["DROP FUNCTION change_authors"]}
NEW = Func(Value("new"), function="change_authors", output_field=models.IntegerField())


def orm(name: str, use: Callable[[], object], changes: Any = (Author,), **kwargs: Any) -> Row:
    return Row(lambda cursor: use(), changes, name=f"ORM: {name}", **(FUNCTION | kwargs))


# By way of calling it

CALLS = [
    Row("SELECT change_authors('new')", [Author], keeps_session=False, **FUNCTION),
    Row("SELECT change_authors('new') FROM library_shelf", [Author], **FUNCTION),
    Row("select CHANGE_AUTHORS /* twice */ (%s) from library_shelf", [Author], ["new"],
        **FUNCTION),
    Row(b"SELECT change_authors('new') FROM library_shelf", [Author], **FUNCTION),
    Row("SELECT 1 FROM library_shelf WHERE change_authors('new') = 1", [Author], **FUNCTION),
    Row("WITH x AS (SELECT change_authors('new') AS n FROM library_shelf)"
        " SELECT SUM(n) FROM x", [Author], **FUNCTION),
    Row("INSERT INTO library_publisher (name) VALUES (change_authors('new'))",
        [Author, Publisher], **FUNCTION),
    Row("UPDATE library_publisher SET name = concat(name, change_authors('new'))",
        [Author, Publisher], **FUNCTION),
    Row("DELETE FROM library_tag WHERE change_authors('new') = 1", [Author, Tag], **FUNCTION),
    Row("SELECT * FROM changing", [Author], name="a view",
        before=[CHANGE, "CREATE VIEW changing AS SELECT id, change_authors('new') FROM"
                " library_shelf"],
        after=["DROP VIEW changing", "DROP FUNCTION change_authors"]),
    Row("SELECT * FROM outer_one", [Author], name="a view of a view",
        before=[CHANGE, "CREATE VIEW changing AS SELECT id, change_authors('new') AS x FROM"
                " library_shelf", "CREATE VIEW outer_one AS SELECT x FROM changing"],
        after=["DROP VIEW outer_one", "DROP VIEW changing", "DROP FUNCTION change_authors"]),
    orm("annotation", lambda: list(Shelf.objects.annotate(x=NEW))),
    orm("filter", lambda: list(Shelf.objects.annotate(x=NEW).filter(x=1).values_list("id"))),
    orm("ordering", lambda: list(Shelf.objects.order_by(NEW))),
    orm("exists()", lambda: Shelf.objects.alias(x=NEW).filter(x=1).exists()),
    orm("aggregate()", lambda: Shelf.objects.aggregate(x=models.Sum(NEW))),
    orm("RawSQL", lambda: list(Shelf.objects.annotate(x=RawSQL("change_authors('new')", [])))),
    orm("raw()", lambda: list(Shelf.objects.raw(
        "SELECT *, change_authors('new') AS x FROM library_shelf"))),
    orm("update()", lambda: Publisher.objects.filter(name="old").update(
        name=models.functions.Cast(NEW, models.CharField())), [Author, Publisher]),
    orm("create()", lambda: Publisher.objects.create(
        name=models.functions.Cast(NEW, models.CharField())), [Author, Publisher]),
    orm("delete()", lambda: Tag.objects.alias(x=NEW).filter(x=1).delete(), [Author, Tag]),
    orm("a model on a view", lambda: list(BookSummary.objects.all()),
        before=[CHANGE, "CREATE VIEW library_summary AS SELECT id, label AS title,"
                " change_authors('new') AS author_name FROM library_shelf"],
        after=["DROP VIEW library_summary", "DROP FUNCTION change_authors"]),
]  # fmt: skip
if IS_MYSQL:
    CALLS += [
        Row("SET @x = change_authors('new')", [Author], keeps_session=False, **FUNCTION),
        Row("SET @x = (SELECT change_authors('new'))", [Author], keeps_session=False, **FUNCTION),
    ]


def fetch(cursor: Any) -> None:
    cursor.execute("DECLARE c CURSOR FOR SELECT change_authors('new') FROM library_shelf")
    rows_of(Author)  # nothing is called yet
    cursor.execute("/* now */ FETCH ALL FROM c")


def stream(cursor: Any) -> None:  # psycopg
    assert list(cursor.stream("SELECT change_authors('new') FROM library_shelf"))


def copy_expert(cursor: Any) -> None:  # psycopg2
    cursor.copy_expert("COPY (SELECT change_authors('new')) TO STDOUT", StringIO())


# By kind of function


def function(
    definition: str, changes: Sequence[type[models.Model]] = (), *more: str, **kwargs: Any
) -> Row:
    """Return the row of a SELECT that calls f()."""
    return Row(
        "SELECT f() FROM library_shelf",
        changes,
        name=definition,
        before=[*more, definition],
        after=["DROP FUNCTION f", *kwargs.pop("after", ())],
        **kwargs,
    )


def plpgsql(body: str, changes: Sequence[type[models.Model]] = (), *more: str, **kw: Any) -> Row:
    volatility = kw.pop("volatility", "VOLATILE")
    return function(
        f"CREATE FUNCTION f() RETURNS integer LANGUAGE plpgsql {volatility} AS"
        f" $f$ DECLARE n integer; BEGIN {body}; RETURN 1; END $f$",
        changes,
        *more,
        **kw,
    )


def mysql(body: str, changes: Sequence[type[models.Model]] = (), *more: str, **kw: Any) -> Row:
    traits = kw.pop("traits", "")
    return function(
        f"CREATE FUNCTION f() RETURNS integer {traits} BEGIN {body}; RETURN 1; END",
        changes,
        *more,
        **kw,
    )


CHANGED = {"after": ["DROP FUNCTION change_authors"]}
POSTGRESQL = [
    Row(fetch, [Author], modes=[ATOMIC], **FUNCTION),
    Row("EXPLAIN ANALYZE SELECT change_authors('new') FROM library_shelf", [Author], **FUNCTION),
    Row('SELECT public."change_authors"(\'new\') FROM library_shelf', [Author], **FUNCTION),
    Row("SELECT * FROM change_authors('new')", [Author], keeps_session=False, **FUNCTION),
    plpgsql("DELETE FROM library_tag; UPDATE library_author SET name = 'x'", [Author, Tag]),
    plpgsql('INSERT INTO public."Library_Odd-Name" (name) VALUES (\'x\')', [OddlyNamed]),
    plpgsql("UPDATE library_author SET name = t.name FROM library_tag t WHERE t.id = 1001",
            [Author], also_misses=[Tag]),
    plpgsql(f"TRUNCATE {ODD}", [OddlyNamed]),
    plpgsql("INSERT INTO library_author (id, name) VALUES (1001, 'x') ON CONFLICT (id)"
            " DO UPDATE SET name = 'new'", [Author]),
    plpgsql("PERFORM change_authors('new')", [Author], CHANGE, **CHANGED),
    plpgsql("PERFORM change_authors('new')", [Author], CHANGE, volatility="STABLE", **CHANGED),
    plpgsql("CALL change()", [Author],
            "CREATE PROCEDURE change() LANGUAGE sql AS $$ UPDATE library_author SET name = 'x' $$",
            after=["DROP PROCEDURE change"]),
    plpgsql("EXECUTE 'UPDATE library_' || 'author SET name = 1'", [Author],
            also_misses=EVERYTHING),
    plpgsql("CREATE TABLE made AS SELECT 1 AS one; DROP TABLE made; DELETE FROM library_tag",
            [Tag], also_misses=EVERYTHING),
    function("CREATE FUNCTION f() RETURNS integer BEGIN ATOMIC UPDATE library_author"
             " SET name = 'x'; SELECT 1; END", [Author]),
    function("CREATE FUNCTION f(x integer DEFAULT 1) RETURNS SETOF bigint LANGUAGE sql AS"
             " $$ DELETE FROM library_tag RETURNING id $$", [Tag]),
    # These write nothing.
    plpgsql("SELECT COUNT(*) INTO n FROM library_author WHERE name = 'insert into library_tag'"),
    plpgsql("PERFORM 1 FROM library_author FOR UPDATE"),
    plpgsql("PERFORM 1 /* UPDATE library_author */", volatility="IMMUTABLE"),
    plpgsql("EXECUTE 'SELECT 1' INTO n", volatility="STABLE"),
    function("CREATE FUNCTION f() RETURNS bigint LANGUAGE sql AS"
             " $$ SELECT COUNT(*) AS updated FROM library_author $$"),
]  # fmt: skip
PSYCOPG = [Row(stream, [Author], **FUNCTION)]
PSYCOPG2 = [Row(copy_expert, [Author], also_misses=EVERYTHING, **FUNCTION)]
MYSQL = [
    mysql("DELETE FROM library_tag; UPDATE library_author SET name = 'x'", [Author, Tag]),
    mysql(f"REPLACE {ODD} (id, name) VALUES (1001, 'x')", [OddlyNamed]),
    mysql("INSERT INTO library_author SET name = 'x'", [Author], traits="NO SQL"),
    mysql("DELETE FROM library_tag", [Tag], traits="DETERMINISTIC MODIFIES SQL DATA"),
    mysql("UPDATE library_author SET name = (SELECT name FROM library_tag LIMIT 1)", [Author],
          "UPDATE library_tag SET name = concat('x', id)", also_misses=[Tag]),
    mysql("SET @x = 0; WHILE @x < 1 DO SET @x = @x + change_authors('x'); END WHILE", [Author],
          CHANGE, **CHANGED),
    mysql("CALL change_all()", [Author],
          "CREATE PROCEDURE change_all() UPDATE library_author SET name = 'x'",
          after=["DROP PROCEDURE change_all"]),
    # These write nothing.
    mysql("DECLARE n bigint; SELECT COUNT(*) INTO n FROM library_author WHERE name = 'delete'",
          traits="READS SQL DATA"),
    mysql("DECLARE n bigint; SELECT MAX(id) INTO n FROM library_author FOR UPDATE"),
    mysql("DO REPLACE('UPDATE', 'library_author', INSERT('x', 1, 1, 'y')) -- DELETE\n",
          traits="DETERMINISTIC"),
]  # fmt: skip


class CallTests(StatementTestCase):
    def test_ways_to_call_one(self) -> None:
        self.prove(CALLS)

    @pytest.mark.skipif(not IS_POSTGRESQL, reason="PostgreSQL's")
    def test_on_postgresql(self) -> None:
        self.prove(POSTGRESQL)

    @pytest.mark.skipif(not IS_POSTGRESQL, reason="PostgreSQL's")
    def test_methods_of_the_driver(self) -> None:
        from django.db.backends.postgresql.psycopg_any import is_psycopg3

        self.prove(PSYCOPG if is_psycopg3 else PSYCOPG2)

    @pytest.mark.skipif(not IS_MYSQL, reason="MySQL's")
    def test_on_mysql(self) -> None:
        self.prove(MYSQL)


class FunctionTests(StatementTestCase):
    def setUp(self) -> None:
        fill()
        self.addCleanup(execute, "DROP FUNCTION IF EXISTS change_authors")

    def make(self) -> None:
        in_thread(lambda: execute(CHANGE))

    def call(self) -> None:
        execute("SELECT change_authors('new') FROM library_shelf")

    def test_a_call_is_never_answered_from_the_cache(self) -> None:
        self.make()
        shelves = Shelf.objects.annotate(x=NEW).values_list("x", flat=True)
        for _ in range(2):
            Author.objects.update(name="old")
            self.assertEqual(count_queries(lambda: list(shelves.all())), ([1, 1], 1))
            self.assertEqual(rows_of(Author), [(1001, "new"), (1002, "new")])

    def test_nobody_caches_what_is_about_to_change(self) -> None:
        self.make()
        seen = []

        def look(run: Callable[..., Any], *args: Any) -> Any:
            seen.append(in_thread(lambda: (queried(), queried())[1]))
            return run(*args)

        for call in (self.call, lambda: list(Shelf.objects.annotate(x=NEW))):
            in_thread(queried)
            with connection.execute_wrapper(look):
                call()
            self.assertEqual(seen.pop(), {**HITS, Author: 1})
            self.assertEqual(in_thread(lambda: (queried(), queried())[1]), HITS)

    def test_its_commit_is_what_invalidates(self) -> None:
        self.make()
        in_thread(queried)
        with transaction.atomic():
            self.call()
            self.assertEqual(in_thread(queried), HITS)
        self.assertEqual(in_thread(queried), {**HITS, Author: 1})

    def test_a_failing_call_is_the_callers(self) -> None:
        with self.assertRaisesMessage(Exception, "change_authors"):
            self.call()
        self.make()
        in_thread(queried)
        self.call()
        self.assertEqual(in_thread(queried), {**HITS, Author: 1})

    def test_functions_of_the_server_are_looked_up_once(self) -> None:
        def ask() -> None:
            execute("SELECT COUNT(*), MAX(lower(label)) FROM library_shelf WHERE id IN (1, 2)")
            list(Shelf.objects.order_by(models.functions.Upper("label"))[:1])

        ask()
        with (
            mock.patch.object(Store, "read", side_effect=Store.read, autospec=True) as read,
            mock.patch.object(asking, "ask", side_effect=AssertionError("is read again")),
        ):
            ask()
        # The queryset's own.
        self.assertEqual(read.call_count, 1)

    def test_a_function_made_anew(self) -> None:
        self.make()
        self.call()
        in_thread(queried)
        in_thread(lambda: execute("DROP FUNCTION change_authors"))
        in_thread(lambda: execute(CHANGE.replace("library_author", "library_publisher")
                                  .replace("name = new", "name = concat(new, id)")))  # fmt: skip
        in_thread(queried)
        self.call()
        self.assertEqual(in_thread(queried), {**HITS, Publisher: 1})

    def test_another_process_makes_it(self) -> None:
        if self.is_alone():
            self.skipTest("LocMemCache is one process's own")
        for call in (self.call, lambda: list(Shelf.objects.annotate(x=NEW))):
            for change in (CHANGE, CHANGE.replace("library_author", "library_tag")
                           .replace("name = new", "name = concat(new, id)")):  # fmt: skip
                fill()
                queried()
                in_process(
                    "with connection.cursor() as cursor:\n"
                    "    cursor.execute('DROP FUNCTION IF EXISTS change_authors')\n"
                    f"    cursor.execute({change!r})"
                )
                # The first read notices the change of the schema, and is not stored for it.
                in_thread(lambda: (queried(), queried()))
                call()
                changed = Tag if "library_tag" in change else Author
                self.assertEqual(in_thread(queried), {**HITS, changed: 1})

    def test_a_view_is_known_to_who_has_read_nothing_yet(self) -> None:
        self.addCleanup(execute, "DROP VIEW changing")
        self.make()
        execute("CREATE VIEW changing AS SELECT change_authors('new') FROM library_shelf")
        in_thread(queried)
        execute("SELECT label FROM library_shelf")
        catalogue.forget()
        execute("SELECT * FROM changing")
        self.assertEqual(in_thread(queried), {**HITS, Author: 1})

    def test_a_transaction_that_makes_it_and_is_rolled_back(self) -> None:
        if not connection.features.can_rollback_ddl:
            self.skipTest("DDL cannot be rolled back")
        in_thread(queried)
        with transaction.atomic():
            execute(CHANGE)
            self.call()
            self.assertEqual(rows_of(Author), [(1001, "new"), (1002, "new")])
            transaction.set_rollback(True)
        self.assertEqual(rows_of(Author), [(1001, "old"), (1002, "older")])
