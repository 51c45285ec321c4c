"""Which tables have rows that are told apart: where a write of one row changes that row alone.

And which other columns of them lead to one row at most.
"""

from __future__ import annotations

from typing import NamedTuple

from django.db import connection
from django.db.models import F

from cachalot.core.rows import Key
from cachalot.core.schema import catalogue
from tests.library.models import Tag
from tests.support import CacheTestCase, count_queries

ALL = ("sqlite", "postgresql", "mysql")
POSTGRESQL = ("postgresql",)
ID = Key("id", "integer")


class Table(NamedTuple):
    """A table "strange", or what else has this name, what tells its rows apart, what is unique."""

    name: str
    vendors: tuple[str, ...]
    made_by: tuple[str, ...]
    key: Key | None
    dropped_by: tuple[str, ...] = ("DROP TABLE strange",)
    unique: frozenset[Key] = frozenset()


CHILD_DROPPED = ("DROP TABLE strange_child", "DROP TABLE strange")
PLAIN = "CREATE TABLE strange (id integer PRIMARY KEY, other integer)"
FUNCTION = (
    "CREATE FUNCTION strange_fired() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN RETURN NEW; END $$"
)
TRIGGERS = {
    "sqlite": "CREATE TRIGGER strange_fires AFTER UPDATE ON strange BEGIN SELECT 1; END",
    "mysql": "CREATE TRIGGER strange_fires AFTER UPDATE ON strange FOR EACH ROW SET @a = 1",
}
SELF = (
    "CREATE TABLE strange (id integer PRIMARY KEY, other integer,"
    " FOREIGN KEY (other) REFERENCES strange (id) ON DELETE {})"
)


def with_column(
    name: str, vendors: tuple[str, ...], column: str, kind: str = "", *more: str
) -> Table:
    """Return a table with a second column; a ``kind`` if it leads to one row at most."""
    made_by = f"CREATE TABLE strange (id integer NOT NULL PRIMARY KEY, {column})"
    unique = frozenset({Key("other", kind)} if kind else ())
    return Table(name, vendors, (made_by, *more), ID, unique=unique)


EXACT = ("sqlite", "postgresql")
UNIQUE = (
    with_column("another integer", ALL, "other integer NOT NULL UNIQUE", "integer"),
    with_column("another text", ALL, "other varchar(9) NOT NULL UNIQUE", "text"),
    with_column("another UUID", POSTGRESQL, "other uuid NOT NULL UNIQUE", "uuid"),
    with_column("a column that may be empty", ALL, "other integer UNIQUE"),
    with_column("a column that is not unique", ALL, "other integer NOT NULL"),
    with_column("a number that is unique", ALL, "other decimal(9, 2) NOT NULL UNIQUE"),
    with_column(
        "two columns that are unique together",
        ALL,
        "other integer NOT NULL, more integer NOT NULL, UNIQUE (other, more)",
    ),
    with_column(
        "an index that is unique",
        ALL,
        "other integer NOT NULL",
        "integer",
        "CREATE UNIQUE INDEX strange_other ON strange (other)",
    ),
    with_column(
        "an index beside the constraint",
        ALL,
        "other integer NOT NULL UNIQUE",
        "integer",
        "CREATE UNIQUE INDEX strange_other ON strange (other)",
    ),
    with_column(
        "an index that is called as nothing else",
        EXACT,
        "other integer NOT NULL",
        "integer",
        'CREATE UNIQUE INDEX "pk" ON strange (other)',
    ),
    with_column(
        "an index that is not unique",
        ALL,
        "other integer NOT NULL",
        "",
        "CREATE INDEX strange_other ON strange (other)",
    ),
    with_column(
        "an index of some rows",
        EXACT,
        "other integer NOT NULL",
        "",
        "CREATE UNIQUE INDEX strange_other ON strange (other) WHERE other > 3",
    ),
    with_column(
        "an index of an expression",
        EXACT,
        "other varchar(9) NOT NULL",
        "",
        "CREATE UNIQUE INDEX strange_other ON strange (lower(other))",
    ),
    with_column(
        "an index with another column in it",
        POSTGRESQL,
        "other integer NOT NULL",
        "integer",
        "CREATE UNIQUE INDEX strange_other ON strange (other) INCLUDE (id)",
    ),
    with_column(
        "a constraint that is checked later", POSTGRESQL, "other integer NOT NULL UNIQUE DEFERRABLE"
    ),
    with_column(
        "an index that counts blanks at the end", POSTGRESQL, "other char(9) NOT NULL UNIQUE"
    ),
    with_column(
        "a text that is unique without case",
        ("sqlite",),
        "other varchar(9) COLLATE NOCASE NOT NULL UNIQUE",
    ),
    with_column(
        "an index that tells apart what is equal",
        ("sqlite",),
        "other varchar(9) COLLATE NOCASE NOT NULL",
        "",
        "CREATE UNIQUE INDEX strange_other ON strange (other COLLATE BINARY)",
    ),
    with_column(
        "a text of fewer characters than there are",
        ("mysql",),
        "other varchar(9) CHARACTER SET latin1 NOT NULL UNIQUE",
    ),
    Table(
        "a key that tells apart what is equal",
        ("sqlite",),
        ("CREATE TABLE strange (id text COLLATE NOCASE, PRIMARY KEY (id COLLATE BINARY))",),
        None,
    ),
    Table(
        "two tables of the name, one without the constraint",
        POSTGRESQL,
        (
            "CREATE TABLE strange (id integer PRIMARY KEY, other integer NOT NULL UNIQUE)",
            "CREATE SCHEMA strange_schema",
            "CREATE TABLE strange_schema.strange (id integer PRIMARY KEY, other integer)",
        ),
        ID,
        ("DROP TABLE strange", "DROP SCHEMA strange_schema CASCADE"),
    ),
)
TABLES = (
    *UNIQUE,
    Table("an integer", ALL, (PLAIN,), ID),
    Table("a large integer", ALL, ("CREATE TABLE strange (id bigint PRIMARY KEY)",), ID),
    Table("a reference to itself", ALL, (SELF.format("NO ACTION"),), ID),
    Table("a reference to itself that cascades", ALL, (SELF.format("CASCADE"),), None),
    Table("a reference to itself that is emptied", ALL, (SELF.format("SET NULL"),), None),
    Table("no key", ALL, ("CREATE TABLE strange (id integer)",), None),
    Table(
        "a unique column that is no key", ALL, ("CREATE TABLE strange (id integer UNIQUE)",), None
    ),
    Table(
        "two columns",
        ALL,
        ("CREATE TABLE strange (other integer, id integer, PRIMARY KEY (other, id))",),
        Key(("id", "other"), ("integer", "integer")),
    ),
    Table(
        "two columns, one of which is a number",
        ALL,
        ("CREATE TABLE strange (id integer, other decimal(9, 2), PRIMARY KEY (id, other))",),
        None,
    ),
    Table(
        "two columns of two types",
        EXACT,
        ("CREATE TABLE strange (id integer, other varchar(9), PRIMARY KEY (id, other))",),
        Key(("id", "other"), ("integer", "text")),
    ),
    Table(
        "an index that has more columns than the key",
        POSTGRESQL,
        ("CREATE TABLE strange (id integer, other integer, PRIMARY KEY (id) INCLUDE (other))",),
        ID,
    ),
    Table("a number", ALL, ("CREATE TABLE strange (id decimal(9, 2) PRIMARY KEY)",), None),
    Table("a date", ("postgresql", "mysql"), ("CREATE TABLE strange (id date PRIMARY KEY)",), None),
    Table(
        "a text",
        ("sqlite", "postgresql"),
        ("CREATE TABLE strange (id varchar(9) PRIMARY KEY)",),
        Key("id", "text"),
    ),
    Table(
        "a text of MySQL", ("mysql",), ("CREATE TABLE strange (id varchar(9) PRIMARY KEY)",), None
    ),
    Table("a padded text", POSTGRESQL, ("CREATE TABLE strange (id char(9) PRIMARY KEY)",), None),
    Table(
        "a text without case",
        ("sqlite",),
        ("CREATE TABLE strange (id varchar(9) COLLATE NOCASE PRIMARY KEY)",),
        None,
    ),
    Table(
        "texts that differ and are equal",
        POSTGRESQL,
        (
            "CREATE COLLATION strange_case (provider = icu, locale = 'und-u-ks-level2',"
            " deterministic = false)",
            "CREATE TABLE strange (id text COLLATE strange_case PRIMARY KEY)",
        ),
        None,
        ("DROP TABLE strange", "DROP COLLATION strange_case"),
    ),
    Table("a UUID", POSTGRESQL, ("CREATE TABLE strange (id uuid PRIMARY KEY)",), Key("id", "uuid")),
    Table(
        "a key that is checked later",
        POSTGRESQL,
        ("CREATE TABLE strange (id integer PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)",),
        None,
    ),
    Table(
        "rows that replace others",
        ("sqlite",),
        (
            "CREATE TABLE strange (id integer PRIMARY KEY, other integer"
            " UNIQUE ON CONFLICT REPLACE)",
        ),
        None,
    ),
    *(Table(f"a trigger on {v}", (v,), (PLAIN, text), None) for v, text in TRIGGERS.items()),
    Table(
        "a trigger on postgresql",
        POSTGRESQL,
        (
            PLAIN,
            FUNCTION,
            "CREATE TRIGGER strange_fires BEFORE UPDATE ON strange FOR EACH ROW"
            " EXECUTE FUNCTION strange_fired()",
        ),
        None,
        ("DROP TABLE strange", "DROP FUNCTION strange_fired"),
    ),
    Table(
        "a rule",
        POSTGRESQL,
        (PLAIN, "CREATE RULE strange_also AS ON UPDATE TO strange DO ALSO NOTIFY strange"),
        None,
    ),
    Table("a policy", POSTGRESQL, (PLAIN, "ALTER TABLE strange ENABLE ROW LEVEL SECURITY"), None),
    Table(
        "a parent",
        POSTGRESQL,
        (PLAIN, "CREATE TABLE strange_child () INHERITS (strange)"),
        None,
        CHILD_DROPPED,
    ),
    Table(
        "a child",
        POSTGRESQL,
        (
            "CREATE TABLE strange_parent (other integer)",
            "CREATE TABLE strange (id integer PRIMARY KEY) INHERITS (strange_parent)",
        ),
        None,
        ("DROP TABLE strange", "DROP TABLE strange_parent"),
    ),
    Table(
        "partitions",
        POSTGRESQL,
        ("CREATE TABLE strange (id integer PRIMARY KEY) PARTITION BY RANGE (id)",),
        None,
    ),
    Table(
        "a partition",
        POSTGRESQL,
        (
            "CREATE TABLE strange_parent (id integer PRIMARY KEY) PARTITION BY RANGE (id)",
            "CREATE TABLE strange PARTITION OF strange_parent DEFAULT",
        ),
        None,
        ("DROP TABLE strange_parent",),
    ),
    Table("a view", ALL, ("CREATE VIEW strange AS SELECT 1 AS id",), None, ("DROP VIEW strange",)),
    Table(
        "two tables of the name, one without a key",
        POSTGRESQL,
        (PLAIN, "CREATE SCHEMA strange_schema", "CREATE TABLE strange_schema.strange (id integer)"),
        None,
        ("DROP TABLE strange", "DROP SCHEMA strange_schema CASCADE"),
    ),
    Table(
        "two tables of the name with the same key",
        POSTGRESQL,
        (
            PLAIN,
            "CREATE SCHEMA strange_schema",
            "CREATE TABLE strange_schema.strange (id integer PRIMARY KEY)",
        ),
        ID,
        ("DROP TABLE strange", "DROP SCHEMA strange_schema CASCADE"),
    ),
    Table(
        "a table that hides another one",
        ("sqlite",),
        (PLAIN, "CREATE TEMP TABLE strange (id integer)"),
        None,
        ("DROP TABLE temp.strange", "DROP TABLE strange"),
    ),
)


def run(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


class KeyTests(CacheTestCase):
    def test_what_tells_rows_apart(self) -> None:
        for table in TABLES:
            if connection.vendor not in table.vendors:
                continue
            with self.subTest(table.name):
                try:
                    run(*table.made_by)
                    known = catalogue.catalogue_of(connection)
                    assert known is not None
                    self.assertEqual(known.keys.get("strange"), table.key)
                    self.assertEqual(known.unique.get("strange", frozenset()), table.unique)
                finally:
                    run(*table.dropped_by)

    def test_a_trigger_that_writes_other_rows_of_its_table(self) -> None:
        one, two = (Tag.objects.create(name=name) for name in "ab")

        def read() -> str:
            return Tag.objects.get(pk=one.pk).name

        read()
        body = "UPDATE library_tag SET name = concat(name, 'x') WHERE id <> NEW.id"
        made_by, dropped_by = {
            "sqlite": (
                [
                    "CREATE TRIGGER fires AFTER UPDATE ON library_tag BEGIN"
                    f" {body.replace('concat(name, ', '(name || ')}; END"
                ],
                ["DROP TRIGGER fires"],
            ),
            "postgresql": (
                [
                    "CREATE FUNCTION fired() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                    f" IF pg_trigger_depth() < 2 THEN {body}; END IF; RETURN NEW; END $$",
                    "CREATE TRIGGER fires AFTER UPDATE ON library_tag FOR EACH ROW"
                    " EXECUTE FUNCTION fired()",
                ],
                ["DROP FUNCTION fired CASCADE"],
            ),
            # A table that a statement writes its triggers may not.
            "mysql": ([], []),
        }[connection.vendor]
        run(*made_by)
        self.addCleanup(run, *dropped_by)
        for _ in range(2):
            read()
            Tag.objects.filter(pk=two.pk).update(name=F("name"))
            result, queries = count_queries(read)
            self.assertFresh(read, result)
            self.assertEqual(queries, int(bool(made_by)))
