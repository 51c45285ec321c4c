"""What a routine writes is told from its text: a table too many, never one too few."""

from __future__ import annotations

import pytest

from cachalot.core.sql.routines import Routine, writers_among

TABLES = frozenset({"book", "author", "odd-name", "tag"})
ALL = " ".join(sorted(TABLES))
POSTGRESQL, MYSQL = ("postgresql",), ("mysql",)
BOTH = POSTGRESQL + MYSQL


def written(body: str | None, vendor: str, language: str, is_read_only: bool) -> frozenset[str]:
    routine = Routine("f", language, body, is_read_only)
    writers = writers_among([routine], {}, TABLES, vendor)
    return writers.functions.get("f", frozenset())


# (vendors, body, tables)
BODIES = [
    (BOTH, "UPDATE book SET x = 1", "book"),
    (BOTH, "BEGIN delete from BOOK; INSERT INTO author VALUES (1); END", "book author"),
    (BOTH, "INSERT INTO book SELECT * FROM tag", "book tag"),
    (BOTH, "BEGIN IF x THEN UPDATE book SET x = 1; END IF; END", "book"),
    (BOTH, "-- UPDATE\nSELECT 1; /* x */ DELETE /* y */ FROM book", "book"),
    (POSTGRESQL, 'UPDATE public."Odd-Name" SET x = 1', "odd-name"),
    (MYSQL, "REPLACE `Odd-Name` (x) VALUES (1)", "odd-name"),
    (MYSQL, "INSERT INTO db.`book` (x) VALUES (1)", "book"),
    (POSTGRESQL, "WITH x AS (DELETE FROM book RETURNING id) SELECT * FROM x", "book"),
    (POSTGRESQL, "MERGE INTO book USING tag ON true WHEN MATCHED THEN DELETE", "book tag"),
    (POSTGRESQL, "REFRESH MATERIALIZED VIEW book", "book"),
    (BOTH, "UPDATE elsewhere SET x = 1", ALL),
    (POSTGRESQL, "TRUNCATE book", "book"),
    (POSTGRESQL, "TRUNCATE book CASCADE", ALL),
    (POSTGRESQL, 'UPDATE U&"b\\006Fok" SET x = 1', ALL),
    (POSTGRESQL, "BEGIN EXECUTE 'UPDATE ' || 'book'; END", ALL),
    (POSTGRESQL, "BEGIN RETURN QUERY EXECUTE format('SELECT %s', x); END", ALL),
    (POSTGRESQL, "BEGIN DO 'BEGIN DELETE FROM book; END'; END", ALL),
    (BOTH, "BEGIN CREATE TABLE book_2 AS SELECT 1; END", ALL),
    (MYSQL, "BEGIN PREPARE p FROM @x; EXECUTE p; END", ALL),
    # Nothing
    (BOTH, "SELECT COUNT(*) FROM book", ""),
    (BOTH, "SELECT 'UPDATE book' /* DELETE FROM book */ -- INSERT INTO book", ""),
    (BOTH, "SELECT * FROM book FOR UPDATE", ""),
    (BOTH, "SELECT replace(updated, 'a', 'b'), is_update FROM book", ""),
    (MYSQL, "WHILE x DO SET x = insert('a', 1, 1, 'b'); END WHILE", ""),
    (MYSQL, 'SELECT `update` FROM book WHERE x = "DELETE"', ""),
    (POSTGRESQL, 'SELECT "update" FROM book', ""),
]


@pytest.mark.parametrize(
    ("vendor", "body", "tables"),
    [(vendor, body, tables) for vendors, body, tables in BODIES for vendor in vendors],
)
def test_a_body(vendor: str, body: str, tables: str) -> None:
    assert written(body, vendor, "sql", False) == frozenset(tables.split())


@pytest.mark.parametrize(
    ("language", "body", "tables"),
    [
        ("plpython3u", "plpy.execute('UPDATE book SET x = 1')", ALL),
        ("plpython3u", "plpy.execute(x)", ALL),
        ("plperl", "spi_exec_query($_[0]);", ALL),
        ("plv8", "plv8.prepare(x)", ALL),
        ("plpython3u", "return x + 1", ""),
    ],
)
def test_another_language(language: str, body: str, tables: str) -> None:
    assert written(body, "postgresql", language, False) == frozenset(tables.split())


@pytest.mark.parametrize("vendor", BOTH)
def test_a_body_that_may_not_be_read(vendor: str) -> None:
    assert written(None, vendor, "sql", False) == TABLES
    assert written(None, vendor, "sql", True) == frozenset()


@pytest.mark.parametrize("vendor", BOTH)
def test_what_is_called_is_followed(vendor: str) -> None:
    bodies = {
        "writer": "UPDATE book SET x = 1",
        "caller": "SELECT Writer /* x */ (1) FROM tag",
        "outermost": 'SELECT viewed, "caller"(1)'.replace('"', "`" if vendor == "mysql" else '"'),
        "one": "DELETE FROM author WHERE x = other(1)",
        "other": "SELECT one(1)",
        "reading": "SELECT 'writer(1)', writer FROM tag",
        "through_a_view": "SELECT * FROM calling",
    }
    routines = [Routine(name, "sql", body, "SELECT" in body) for name, body in bodies.items()]
    views = {
        "calling": "SELECT writer(1) FROM tag",
        "above": "SELECT * FROM calling",
        "odd view": "SELECT one(1)",
        "above an odd one": 'SELECT * FROM "Odd View"',
        "reading": "SELECT * FROM book",
    }
    writers = writers_among(routines, views, TABLES, vendor)
    book, author = frozenset({"book"}), frozenset({"author"})
    assert writers.functions == {
        "writer": book,
        "caller": book,
        "outermost": book,
        "one": author,
        "other": author,
        "through_a_view": book,
    }
    assert writers.views == {
        "calling": book,
        "above": book,
        "odd view": author,
        "above an odd one": author,
    }


def test_functions_of_one_name_are_taken_together() -> None:
    routines = [
        Routine("f", "sql", "UPDATE book SET x = 1", False),
        Routine("f", "sql", "SELECT 1", False),
        Routine("f", "sql", "DELETE FROM tag", False),
    ]
    writers = writers_among(routines, {}, TABLES, "postgresql")
    assert writers.functions == {"f": frozenset({"book", "tag"})}
