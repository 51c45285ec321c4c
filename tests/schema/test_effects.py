"""What the database does by itself when a table is written, and what it shows without a write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
from django.db import connection, models, transaction
from django.db.models import F, Func
from django.db.models.expressions import RawSQL
from django.test import override_settings

from cachalot.api import explain
from tests.library.models import Author, BookSummary, Publisher, Shelf, Tag
from tests.support import CacheTestCase, counted_calls, in_process

VENDORS = ("sqlite", "postgresql", "mysql")


class Effect(NamedTuple):
    """A write that changes what is read of something that it does not name.

    ``write`` is one of the statements below, run by the ORM. What is read is ``shown``.
    """

    name: str
    vendors: Sequence[str]
    before: Sequence[str]
    after: Sequence[str] = ()
    shown: Callable[[], Any] = lambda: list(Author.objects.values_list("name", flat=True))
    write: str = "Shelf.objects.create(label='new')"


def function(body: str, returns: str = "trigger", result: str = "NULL") -> str:
    return (
        f"CREATE FUNCTION fired() RETURNS {returns} LANGUAGE plpgsql AS"
        f" $$ BEGIN {body}; RETURN {result}; END $$"
    )


WRITES_AUTHORS = "UPDATE library_author SET name = 'changed'"
FIRED = ["DROP FUNCTION fired CASCADE"]


def summary() -> list[Any]:
    return list(BookSummary.objects.values_list("title", flat=True))


def plain_names() -> list[Any]:
    return list(Author.objects.values_list("name", flat=True))


LINES = (
    "CREATE TABLE library_summary (id {serial}, title varchar(100), author_name varchar(100),"
    " shelf_id bigint, CONSTRAINT lines_of FOREIGN KEY (shelf_id) REFERENCES library_shelf (id)"
    " ON DELETE {action})"
)
DEFAULT_SHELF = ["INSERT INTO library_shelf (id, label) VALUES (9, 'default')"]
LINES_WITH_DEFAULT = LINES.replace("bigint, CONSTRAINT", "bigint DEFAULT 9, CONSTRAINT").replace(
    "{action}", "SET DEFAULT"
)
LINE = (
    "INSERT INTO library_summary (title, author_name, shelf_id)"
    " SELECT 'a', 'b', id FROM library_shelf"
)
DROP_LINES = ["DROP TABLE library_summary"]


def lines() -> list[Any]:
    return list(BookSummary.objects.annotate(s=RawSQL("shelf_id", [])).values_list("title", "s"))


EFFECTS = [
    Effect("a trigger", ["sqlite"], [
        f"CREATE TRIGGER fires AFTER INSERT ON library_shelf BEGIN {WRITES_AUTHORS}; END"],
        ["DROP TRIGGER fires"]),
    Effect("a trigger", ["mysql"], [
        f"CREATE TRIGGER fires AFTER INSERT ON library_shelf FOR EACH ROW {WRITES_AUTHORS}"],
        ["DROP TRIGGER fires"]),
    Effect("a trigger that calls a function", ["mysql"], [
        f"CREATE FUNCTION fired() RETURNS integer BEGIN {WRITES_AUTHORS}; RETURN 1; END",
        "CREATE TRIGGER fires AFTER INSERT ON library_shelf FOR EACH ROW SET @x = fired()"],
        ["DROP TRIGGER fires", "DROP FUNCTION fired"]),
    Effect("a trigger", ["postgresql"], [
        function(WRITES_AUTHORS),
        "CREATE TRIGGER fires AFTER INSERT ON library_shelf EXECUTE FUNCTION fired()"], FIRED),
    Effect("a trigger that runs what nobody can read", ["postgresql"], [
        function(f"EXECUTE {WRITES_AUTHORS!r}".replace("'changed'", "''changed''")
                 .replace('"', "'")),
        "CREATE TRIGGER fires AFTER INSERT ON library_shelf EXECUTE FUNCTION fired()"], FIRED),
    Effect("a trigger of a trigger", ["sqlite"], [
        "CREATE TRIGGER fires AFTER INSERT ON library_shelf"
        " BEGIN INSERT INTO library_publisher (name) VALUES (NEW.label); END",
        f"CREATE TRIGGER fires_too AFTER INSERT ON library_publisher BEGIN {WRITES_AUTHORS}; END"],
        ["DROP TRIGGER fires", "DROP TRIGGER fires_too"]),
    Effect("a trigger on a view", ["sqlite"], [
        "CREATE VIEW library_summary AS SELECT id, label AS title, label AS author_name"
        " FROM library_shelf",
        "CREATE TRIGGER fires INSTEAD OF INSERT ON library_summary"
        f" BEGIN {WRITES_AUTHORS}; END"],
        ["DROP VIEW library_summary"],
        write="BookSummary.objects.create(title='a', author_name='b')"),
    Effect("a rule", ["postgresql"], [
        f"CREATE RULE also AS ON INSERT TO library_shelf DO ALSO {WRITES_AUTHORS}"],
        ["DROP RULE also ON library_shelf"]),
    Effect("a default", ["postgresql"], [
        function(WRITES_AUTHORS, "text", "'x'").replace("fired()", "fired()"),
        "ALTER TABLE library_shelf ADD COLUMN extra text DEFAULT fired()"],
        ["ALTER TABLE library_shelf DROP COLUMN extra", *FIRED]),
    Effect("a check", ["postgresql"], [
        function(WRITES_AUTHORS, "boolean", "true"),
        "ALTER TABLE library_shelf ADD CONSTRAINT checked CHECK (fired())"],
        ["ALTER TABLE library_shelf DROP CONSTRAINT checked", *FIRED]),
    Effect("a cascade", ["postgresql"], [LINES.format(serial="bigserial", action="CASCADE"), LINE],
        DROP_LINES, lines, "Shelf.objects.all()._raw_delete('default')"),
    Effect("a cascade", ["mysql"], [
        LINES.format(serial="bigint AUTO_INCREMENT PRIMARY KEY", action="CASCADE"), LINE],
        DROP_LINES, lines, "Shelf.objects.all()._raw_delete('default')"),
    Effect("a cascade", ["sqlite"], [
        LINES.format(serial="integer PRIMARY KEY", action="CASCADE"), LINE],
        DROP_LINES, lines, "Shelf.objects.all()._raw_delete('default')"),
    Effect("a foreign key set to NULL", ["postgresql"], [
        LINES.format(serial="bigserial", action="SET NULL"), LINE],
        DROP_LINES, lines, "Shelf.objects.all().delete()"),
    Effect("a foreign key set to NULL", ["mysql"], [
        LINES.format(serial="bigint AUTO_INCREMENT PRIMARY KEY", action="SET NULL"), LINE],
        DROP_LINES, lines, "Shelf.objects.all().delete()"),
    Effect("a foreign key set to NULL", ["sqlite"], [
        LINES.format(serial="integer PRIMARY KEY", action="SET NULL"), LINE],
        DROP_LINES, lines, "Shelf.objects.all().delete()"),
    Effect("a foreign key set to its default", ["postgresql"], [
        *DEFAULT_SHELF, LINES_WITH_DEFAULT.format(serial="bigserial"), LINE],
        DROP_LINES, lines, "Shelf.objects.exclude(pk=9).delete()"),
    Effect("a foreign key set to its default", ["sqlite"], [
        *DEFAULT_SHELF, LINES_WITH_DEFAULT.format(serial="integer PRIMARY KEY"), LINE],
        DROP_LINES, lines, "Shelf.objects.exclude(pk=9).delete()"),
    Effect("a check of a domain", ["postgresql"], [
        function(WRITES_AUTHORS, "boolean", "true").replace("fired()", "fired(text)"),
        "CREATE DOMAIN checked AS text CHECK (fired(VALUE))",
        "ALTER TABLE library_shelf ADD COLUMN extra checked",
        "ALTER TABLE library_shelf ALTER COLUMN extra SET DEFAULT 'x'"],
        ["ALTER TABLE library_shelf DROP COLUMN extra", "DROP DOMAIN checked", *FIRED]),
    *(
        Effect(f"a check of a domain in {kind}", ["postgresql"], [
            function(WRITES_AUTHORS, "boolean", "true").replace("fired()", "fired(text)"),
            "CREATE DOMAIN checked AS text CHECK (fired(VALUE))",
            *made,
            f"ALTER TABLE library_shelf ADD COLUMN extra {column}",
            f"ALTER TABLE library_shelf ALTER COLUMN extra SET DEFAULT {value}"],
            ["ALTER TABLE library_shelf DROP COLUMN extra", *dropped, "DROP DOMAIN checked",
             *FIRED])
        for kind, made, column, value, dropped in (
            ("another", ["CREATE DOMAIN further AS checked"], "further", "'x'",
             ["DROP DOMAIN further"]),
            ("an array", [], "checked[]", "'{x}'", []),
            ("a composite type", ["CREATE TYPE pair AS (one checked, two int)"], "pair",
             "'(x,1)'", ["DROP TYPE pair"]),
        )
    ),
    Effect("an event trigger", ["postgresql"], [
        function(WRITES_AUTHORS, "event_trigger", "").replace("RETURN ;", "RETURN;"),
        "CREATE EVENT TRIGGER fires ON ddl_command_end EXECUTE FUNCTION fired()"],
        ["DROP EVENT TRIGGER fires", "DROP TABLE IF EXISTS library_part", *FIRED],
        write="execute('CREATE TABLE library_part (id int)')"),
    Effect("a function that SET calls", ["mysql"], [
        f"CREATE FUNCTION fired() RETURNS integer BEGIN {WRITES_AUTHORS}; RETURN 1; END"],
        ["DROP FUNCTION fired"], write="execute('SET @x = fired()')"),
    Effect("a key that is changed along", ["postgresql"], [
        LINES.format(serial="bigserial", action="NO ACTION ON UPDATE CASCADE"), LINE],
        DROP_LINES, lines, "Shelf.objects.update(id=models.F('id') + 1000)"),
    Effect("a key that is changed along", ["mysql"], [
        LINES.format(serial="bigint AUTO_INCREMENT PRIMARY KEY",
                     action="NO ACTION ON UPDATE CASCADE"), LINE],
        DROP_LINES, lines, "Shelf.objects.update(id=models.F('id') + 1000)"),
    Effect("a key that is changed along", ["sqlite"], [
        LINES.format(serial="integer PRIMARY KEY", action="NO ACTION ON UPDATE CASCADE"), LINE],
        DROP_LINES, lines, "Shelf.objects.update(id=models.F('id') + 1000)"),
    Effect("a partition", ["postgresql"], [
        "CREATE TABLE library_summary (id bigint, title text, author_name text)"
        " PARTITION BY LIST (id)",
        "CREATE TABLE library_part PARTITION OF library_summary DEFAULT",
        "CREATE RULE also AS ON INSERT TO library_shelf"
        " DO ALSO INSERT INTO library_part VALUES (1, 'a', 'b')"],
        ["DROP RULE also ON library_shelf", "DROP TABLE library_summary"], summary),
    Effect("an inheriting table", ["postgresql"], [
        "CREATE TABLE library_summary (id bigint, title text, author_name text)",
        "CREATE TABLE library_part () INHERITS (library_summary)",
        "CREATE RULE also AS ON INSERT TO library_shelf"
        " DO ALSO INSERT INTO library_part VALUES (1, 'a', 'b')"],
        ["DROP RULE also ON library_shelf", "DROP TABLE library_summary CASCADE"], summary),
    Effect("a full-text table", ["sqlite"], [
        "CREATE VIRTUAL TABLE library_summary USING fts5(name, content='library_author',"
        " content_rowid='id')"],
        ["DROP TABLE library_summary"],
        lambda: list(BookSummary.objects.annotate(n=RawSQL("name", [])).values_list("n")),
        "Author.objects.create(name='new')"),
]  # fmt: skip
EFFECTS = [effect for effect in EFFECTS if connection.vendor in effect.vendors]


def execute(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def write(effect: Effect) -> None:
    exec(
        effect.write,
        {
            **{"Author": Author, "Shelf": Shelf, "BookSummary": BookSummary, "models": models},
            "execute": execute,
        },
    )


@pytest.mark.parametrize("mode", ["autocommit", "committed", "inside", "elsewhere"])
@pytest.mark.parametrize("effect", EFFECTS, ids=[effect.name for effect in EFFECTS])
@pytest.mark.django_db(transaction=True)
def test_effect(effect: Effect, mode: str) -> None:
    Author.objects.create(name="old")
    Shelf.objects.create(label="old")
    case = CacheTestCase()
    if mode == "elsewhere" and case.is_alone():
        pytest.skip("another process has a cache of its own")
    try:
        execute(*effect.before)
        case.assertCached(effect.shown)
        if mode == "autocommit":
            write(effect)
        elif mode == "committed":
            with transaction.atomic():
                write(effect)
        elif mode == "inside":
            with transaction.atomic():
                effect.shown()
                write(effect)
                case.assertFresh(effect.shown, effect.shown())
        else:
            in_process(
                "from django.db import models\n"
                f"from tests.schema.test_effects import execute\n{effect.write}"
            )
        case.assertFresh(effect.shown, effect.shown())
    finally:
        execute(*effect.after)


@pytest.mark.skipif("CacheTestCase.is_alone()")
class OtherProcessTests(CacheTestCase):
    """What another process has changed of the schema a moment ago."""

    @pytest.mark.skipif("connection.vendor == 'sqlite'", reason="its views take no writes")
    def test_a_write_through_a_view_that_it_has_made(self) -> None:
        Author.objects.create(name="old")
        self.assertCached(plain_names)
        execute("UPDATE library_shelf SET label = 'x'")  # so much is known before
        in_process(
            "from tests.schema.test_effects import execute\n"
            "execute('CREATE VIEW library_summary AS SELECT id, name FROM library_author')"
        )
        self.addCleanup(execute, "DROP VIEW library_summary")
        execute("UPDATE library_summary SET name = 'new'")
        self.assertEqual(plain_names(), ["new"])

    @pytest.mark.skipif("connection.vendor == 'sqlite'", reason="the triggers are of the others")
    def test_a_write_that_fires_a_trigger_that_it_has_made(self) -> None:
        Author.objects.create(name="old")
        Shelf.objects.create(label="old")
        self.assertCached(plain_names)
        made = next(effect for effect in EFFECTS if effect.name == "a trigger")
        in_process(
            f"from tests.schema.test_effects import execute\nexecute(*{list(made.before)!r})"
        )
        self.addCleanup(execute, *made.after)
        Shelf.objects.create(label="new")
        self.assertEqual(plain_names(), ["changed"])


class VolatileTests(CacheTestCase):
    """What may change though no table is written."""

    def setUp(self) -> None:
        Author.objects.create(name="old")
        Shelf.objects.create(label="old")

    def run_statements(self, *statements: str, after: Sequence[str] = ()) -> None:
        execute(*statements)
        if after:
            self.addCleanup(execute, *after)

    def assertNotCached(self, read: models.QuerySet[Any], reason: str) -> None:
        self.assertNeverCached(lambda: list(read.all()))
        self.assertIn(reason, str(explain(read).reason))

    @pytest.mark.skipif("connection.vendor != 'postgresql'")
    def test_a_function_that_is_called_without_its_name(self) -> None:
        self.run_statements(
            "CREATE FUNCTION total(library_author) RETURNS bigint STABLE LANGUAGE sql"
            " AS 'SELECT count(*) FROM library_shelf'",
            "CREATE FUNCTION op(bigint, int) RETURNS bigint STABLE LANGUAGE sql"
            " AS 'SELECT count(*) FROM library_shelf'",
            "CREATE OPERATOR ### (FUNCTION = op, LEFTARG = bigint, RIGHTARG = int)",
            "CREATE AGGREGATE agg(int) (SFUNC = op, STYPE = bigint)",
            "CREATE TYPE boxed AS (v bigint)",
            "CREATE FUNCTION box(bigint) RETURNS boxed STABLE LANGUAGE sql"
            " AS 'SELECT ROW(count(*))::boxed FROM library_shelf'",
            "CREATE CAST (bigint AS boxed) WITH FUNCTION box(bigint)",
            after=[
                "DROP FUNCTION total",
                "DROP FUNCTION op CASCADE",
                "DROP TYPE boxed CASCADE",
            ],
        )
        for text in ("library_author.total", "id ### 1", "(SELECT agg(1))", "((id::boxed).v)"):
            with self.subTest(text):
                self.assertNotCached(
                    Author.objects.annotate(x=RawSQL(text, [])).values_list("x"), "calls "
                )
        self.assertCached(plain_names)

    @pytest.mark.skipif("connection.vendor != 'postgresql'")
    def test_a_domain_whose_check_reads_another_table(self) -> None:
        self.run_statements(
            "CREATE FUNCTION known(text) RETURNS boolean VOLATILE LANGUAGE sql"
            " AS 'SELECT count(*) > 0 FROM library_shelf'",
            "CREATE DOMAIN checked AS text CHECK (known(VALUE))",
            after=["DROP DOMAIN checked", "DROP FUNCTION known"],
        )
        execute("CREATE DOMAIN further AS checked")
        self.addCleanup(execute, "DROP DOMAIN further")
        for cast in ("name::checked", "name::further", "ARRAY[name]::checked[]"):
            with self.subTest(cast):
                self.assertNeverCached(
                    lambda cast=cast: list(Author.objects.annotate(n=RawSQL(cast, [])).values("n"))
                )

    @pytest.mark.skipif("connection.vendor != 'postgresql'")
    def test_a_tree_of_many_partitions_is_one_dependency(self) -> None:
        self.run_statements(
            "CREATE TABLE library_summary (id bigint, title text, author_name text)"
            " PARTITION BY LIST (id)",
            *(
                f"CREATE TABLE library_part{n} PARTITION OF library_summary FOR VALUES IN ({n})"
                for n in range(1000)
            ),
            after=["DROP TABLE library_summary"],
        )
        read = BookSummary.objects.filter(title="a")
        self.assertEqual(explain(read).tables, ("library_summary",))
        self.assertCached(lambda: list(read.all()))
        execute("INSERT INTO library_part7 VALUES (7, 'a', 'b')")
        self.assertEqual(len(read.all()), 1)
        BookSummary.objects.create(id=8, title="a", author_name="b")
        self.assertEqual(len(read.all()), 2)
        with counted_calls() as calls:
            self.assertEqual(len(read.all()), 2)
            self.assertEqual(len(read.all()), 2)
        self.assertLessEqual(calls["get"], 4)

    @pytest.mark.skipif("connection.vendor != 'postgresql'")
    def test_an_operator_that_writes(self) -> None:
        self.run_statements(
            "CREATE FUNCTION op(bigint, int) RETURNS bigint LANGUAGE sql"
            f" AS $${WRITES_AUTHORS}; SELECT 1::bigint$$",
            "CREATE OPERATOR ### (FUNCTION = op, LEFTARG = bigint, RIGHTARG = int)",
            after=["DROP FUNCTION op CASCADE"],
        )
        self.assertCached(plain_names)
        execute("SELECT id ### 1 FROM library_shelf")
        self.assertEqual(self.assertMisses(plain_names), ["changed"])

    @pytest.mark.skipif("connection.vendor != 'postgresql'")
    def test_policies(self) -> None:
        self.run_statements(
            "CREATE ROLE cachalot_reader",
            "GRANT ALL ON ALL TABLES IN SCHEMA public TO cachalot_reader",
            "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO cachalot_reader",
            "ALTER TABLE library_author ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY shown ON library_author USING (name IN (SELECT label FROM"
            " library_shelf WHERE current_user = 'cachalot_reader'))",
            "SET ROLE cachalot_reader",
            after=[
                "RESET ROLE",
                "DROP POLICY IF EXISTS shown ON library_author",
                "ALTER TABLE library_author DISABLE ROW LEVEL SECURITY",
                "DROP OWNED BY cachalot_reader",
                "DROP ROLE cachalot_reader",
            ],
        )
        self.assertEqual(self.assertCached(plain_names), ["old"])
        Shelf.objects.update(label="hidden")
        self.assertEqual(self.assertCached(plain_names), [])
        execute(
            "RESET ROLE",
            "DROP POLICY shown ON library_author",
            "CREATE POLICY shown ON library_author USING (clock_timestamp() > 'epoch')",
            "SET ROLE cachalot_reader",
        )
        self.assertNotCached(Author.objects.all(), "clock_timestamp()")

    @pytest.mark.skipif("connection.vendor != 'postgresql'")
    def test_views(self) -> None:
        for select, reason in (
            ("SELECT id, label AS title, now()::text AS author_name FROM library_shelf", "now()"),
            ("SELECT id, label AS title, random()::text AS author_name FROM library_shelf",
             "chance"),
            ("SELECT id, label AS title, current_timestamp::text AS author_name"
             " FROM library_shelf", "the clock"),
            ("SELECT id, label AS title, current_user::text AS author_name FROM library_shelf",
             "the session's user"),
            ("SELECT oid::bigint AS id, relname::text AS title, '' AS author_name FROM pg_class",
             "pg_class"),
            ("SELECT id, label AS title, '' AS author_name FROM library_shelf"
             " TABLESAMPLE bernoulli (50)", "a sample"),
            ("SELECT id, label AS title, (label::timestamptz)::text AS author_name"
             " FROM library_shelf WHERE id < 0", "the current time"),
        ):  # fmt: skip
            with self.subTest(select):
                execute(f"CREATE VIEW library_summary AS {select}")
                try:
                    self.assertNotCached(BookSummary.objects.all(), reason)
                finally:
                    execute("DROP VIEW library_summary")

    @pytest.mark.skipif("connection.vendor != 'postgresql'")
    def test_a_materialised_view(self) -> None:
        self.run_statements(
            "CREATE MATERIALIZED VIEW library_summary AS"
            " SELECT id, label AS title, label AS author_name FROM library_shelf",
            after=["DROP MATERIALIZED VIEW library_summary"],
        )
        self.assertEqual(self.assertCached(summary), ["old"])
        Shelf.objects.update(label="new")
        self.assertEqual(self.assertHits(summary), ["old"])
        execute("REFRESH MATERIALIZED VIEW library_summary")
        self.assertEqual(self.assertCached(summary), ["new"])

    @pytest.mark.skipif("connection.vendor == 'sqlite'")
    def test_a_sequence_that_is_read_as_a_table(self) -> None:
        if connection.vendor == "mysql" and not connection.mysql_is_mariadb:  # type: ignore[attr-defined]
            self.skipTest("MySQL has no sequences")
        self.run_statements("CREATE SEQUENCE numbers", after=["DROP SEQUENCE numbers"])
        self.assertNotCached(
            Author.objects.extra(tables=["numbers"]).values_list("name"), "is a sequence"
        )

    @pytest.mark.skipif("connection.vendor != 'mysql'")
    def test_a_virtual_column_of_the_clock(self) -> None:
        self.run_statements(
            "CREATE TABLE library_summary (id bigint, title varchar(9), author_name varchar(99)"
            " AS (cast(now(6) AS char(99))) VIRTUAL)",
            after=["DROP TABLE library_summary"],
        )
        self.assertNotCached(BookSummary.objects.all(), "a column of which")

    @pytest.mark.skipif("connection.vendor != 'mysql'")
    def test_a_merge_table(self) -> None:
        columns = "(id bigint, title varchar(9), author_name varchar(9), KEY (id))"
        self.run_statements(
            f"CREATE TABLE one {columns} ENGINE=MyISAM",
            f"CREATE TABLE library_summary {columns} ENGINE=MERGE UNION=(one) INSERT_METHOD=LAST",
            after=["DROP TABLE library_summary", "DROP TABLE one"],
        )
        self.assertNotCached(BookSummary.objects.all(), "a MERGE table")

    @pytest.mark.skipif("connection.vendor != 'sqlite'")
    def test_a_function_that_python_has_registered(self) -> None:
        connection.ensure_connection()
        driver_connection: Any = connection.connection
        driver_connection.create_function("rate", 0, lambda: 2)
        driver_connection.create_function("double", 1, lambda x: 2 * x, deterministic=True)
        for name, expressions, is_cached in (("rate", (), False), ("double", (F("id"),), True)):
            read = Author.objects.annotate(
                x=Func(*expressions, function=name, output_field=models.IntegerField())
            )
            if is_cached:
                self.assertCached(lambda read=read: list(read.all()))  # type: ignore[misc]
            else:
                self.assertNotCached(read, "Python has registered")
        # Django's own aggregates are none of them.
        self.assertCached(lambda: Author.objects.aggregate(x=models.StdDev("id")))

    @pytest.mark.skipif("connection.vendor != 'sqlite'")
    def test_a_virtual_table_of_another_module(self) -> None:
        try:
            self.run_statements(
                "CREATE VIRTUAL TABLE library_summary USING dbstat",
                after=["DROP TABLE library_summary"],
            )
        except Exception:
            self.skipTest("this SQLite has no such module")
        self.assertNotCached(BookSummary.objects.values_list(RawSQL("name", [])), "module dbstat")


class RawFragmentTests(CacheTestCase):
    """Tables of no model, where no keyword stands before them."""

    def setUp(self) -> None:
        Author.objects.create(name="a")
        Tag.objects.create(name="b")
        execute("CREATE TABLE stock (n integer)", "INSERT INTO stock VALUES (1)")
        self.addCleanup(execute, "DROP TABLE stock")

    def test_names(self) -> None:
        texts = ["(SELECT max(s.n) FROM (SELECT 1 AS one) x, stock s)"]
        if connection.vendor == "mysql":
            texts.append("(SELECT max(s.n) FROM library_tag STRAIGHT_JOIN stock s)")
        if connection.vendor == "sqlite":
            texts += ["(SELECT max(s.n) FROM 'stock' s)", "(2 IN stock)"]
        if connection.vendor == "postgresql":
            texts.append("(SELECT max(s.n) FROM generate_series(1, 1) x, stock s)")
        for text in texts:
            with self.subTest(text):
                execute("UPDATE stock SET n = 1")
                read = Author.objects.annotate(x=RawSQL(text, [])).values_list("x", flat=True)
                self.assertCached(lambda read=read: list(read.all()))  # type: ignore[misc]
                execute("UPDATE stock SET n = 2")
                self.assertMisses(lambda read=read: list(read.all()))  # type: ignore[misc]

    @pytest.mark.skipif("connection.vendor != 'postgresql'")
    def test_a_name_in_escapes(self) -> None:
        read = Author.objects.annotate(x=RawSQL('(SELECT max(n) FROM U&"st\\006Fck")', []))
        self.assertNeverCached(lambda: list(read.all()))
        self.assertEqual(str(explain(read).reason), "the query names something in escapes")

    @pytest.mark.skipif("connection.vendor != 'mysql'")
    def test_a_statement_that_writes_several_tables(self) -> None:
        read = Author.objects.annotate(x=RawSQL("(SELECT max(n) FROM stock)", []))
        self.assertCached(lambda: list(read.values_list("x")))
        execute("UPDATE (SELECT 1 AS one) x, stock SET stock.n = 5")
        self.assertMisses(lambda: list(read.values_list("x")))


class ListedTests(CacheTestCase):
    def setUp(self) -> None:
        execute(
            "CREATE VIEW library_summary AS SELECT id, label AS title, label AS author_name"
            " FROM library_shelf"
        )
        self.addCleanup(execute, "DROP VIEW library_summary")

    def test_a_view_is_listed_with_what_it_shows(self) -> None:
        with override_settings(CACHALOT_ONLY_CACHABLE_TABLES=["library_summary"]):
            self.assertCached(summary)
        with override_settings(CACHALOT_UNCACHABLE_TABLES=["library_shelf"]):
            self.assertNeverCached(summary)

    def test_explain_names_what_is_written_along(self) -> None:
        self.assertEqual(
            explain(BookSummary.objects.all()).tables, ("library_shelf", "library_summary")
        )


class SessionTests(CacheTestCase):
    @pytest.mark.skipif("connection.vendor == 'sqlite'")
    def test_a_harmless_function_leaves_the_session_alone(self) -> None:
        self.assertCached(plain_names)
        harmless = {
            "postgresql": [
                "SELECT initcap('x')",
                "SELECT pi()",
                "SELECT websearch_to_tsquery('a')",
            ],
            "mysql": ["SELECT INET_ATON('1.1.1.1')", "SELECT SOUNDEX('a')"],
        }
        for statement in harmless[connection.vendor]:
            with self.subTest(statement):
                execute(statement)
                self.assertHits(plain_names)

    @pytest.mark.skipif("connection.vendor != 'postgresql'")
    def test_temporary_tables_that_are_discarded(self) -> None:
        Publisher.objects.create(name="real")
        names = lambda: list(Publisher.objects.values_list("name", flat=True))  # noqa: E731
        for discard in ("DISCARD TEMP", "DISCARD ALL", "DISCARD TEMPORARY"):
            with self.subTest(discard):
                execute(
                    "CREATE TEMP TABLE library_publisher (id bigint, name text)",
                    "INSERT INTO library_publisher VALUES (1, 'temporary')",
                )
                self.assertEqual(self.assertCached(names), ["temporary"])
                execute(discard)
                self.assertEqual(names(), ["real"])

    @pytest.mark.skipif("connection.vendor != 'postgresql'")
    def test_settings_of_the_database(self) -> None:
        """They count for sessions that begin later."""
        execute(
            "CREATE SCHEMA north",
            "CREATE TABLE north.library_author AS"
            " SELECT 1::bigint AS id, 'north'::text AS name, NULL::bigint AS mentor_id",
        )
        self.addCleanup(execute, "DROP SCHEMA north CASCADE")
        Author.objects.create(name="public")
        database = connection.ops.quote_name(connection.settings_dict["NAME"])
        code = "result = list(Author.objects.values_list('name', flat=True))"
        role = connection.ops.quote_name(connection.settings_dict["USER"])
        for whose in (
            f"DATABASE {database}",
            f"ROLE {role} IN DATABASE {database}",
            f"ROLE {role}",
        ):
            with self.subTest(whose):
                execute(f"ALTER {whose} SET search_path TO north, public")
                self.addCleanup(execute, f"ALTER {whose} RESET search_path")
                self.assertEqual(self.assertCached(plain_names), ["public"])
                self.assertEqual(in_process(code), ["north"])
                connection.close()
                self.assertEqual(plain_names(), ["north"])
                execute(f"ALTER {whose} RESET search_path")
                connection.close()
