"""What a raw statement can do is told from its text: a table too many, never one too few."""

from __future__ import annotations

import pytest

from cachalot.core.sql.kinds import Kind
from cachalot.core.sql.names import canonical
from cachalot.core.sql.settings import savepoint_in
from cachalot.core.sql.statements import classify
from cachalot.core.sql.text import names_after_keywords, without_comments

ALL = ("sqlite", "postgresql", "mysql")
SQLITE, POSTGRESQL, MYSQL = ("sqlite",), ("postgresql",), ("mysql",)
STANDARD = ("sqlite", "postgresql")
SERVERS = ("postgresql", "mysql")


def for_each_vendor(*rows: tuple) -> list:
    return [
        pytest.param(vendor, *rest, id=f"{vendor}: {rest[0][:60]!r}")
        for vendors, *rest in rows
        for vendor in vendors
    ]


# (vendors, SQL, tables that must be among those found)
WRITES = for_each_vendor(
    (ALL, "INSERT INTO book (title) VALUES ('x')", "book"),
    (ALL, "insert into book values (1)", "book"),
    (ALL, "InSeRt\n\tInTo\n  BOOK\nVALUES (1)", "book"),
    (ALL, "  ;INSERT INTO book VALUES (1);", "book"),
    (ALL, "INSERT INTO book(title) SELECT name FROM author", "book"),
    (ALL, 'INSERT INTO "Book" VALUES (1)', "book"),
    (ALL, 'INSERT INTO"Book"VALUES (1)', "book"),
    (ALL, 'INSERT INTO public."Book" VALUES (1)', "book"),
    (ALL, 'INSERT INTO "public" . "Book" VALUES (1)', "book"),
    (ALL, 'INSERT INTO db.public."Book" VALUES (1)', "book"),
    (ALL, 'INSERT INTO "Odd-Name" VALUES (1)', "odd-name"),
    (ALL, 'INSERT INTO "two words" VALUES (1)', "two words"),
    (ALL, "INSERT INTO किताब VALUES (1)", "किताब"),
    (ALL, "INSERT INTO größe VALUES (1)", "größe"),
    (ALL, "INSERT INTO legacy$2 VALUES (1)", "legacy$2"),
    (ALL, "INSERT INTO 2fa VALUES (1)", "2fa"),
    (ALL, "INSERT INTO book VALUES (%s, '%s')", "book"),
    (ALL, "/* why */ INSERT /* not */ INTO /* here */ book VALUES (1)", "book"),
    (ALL, "-- SELECT\nINSERT INTO book VALUES (1)", "book"),
    (ALL, "/* SELECT */ -- SELECT\n /**/ DELETE FROM book", "book"),
    (ALL, "/* it's */ DELETE FROM book -- it's", "book"),
    (ALL, "INSERT INTO book DEFAULT VALUES", "book"),
    (SQLITE, "INSERT OR REPLACE INTO book VALUES (1)", "book"),
    (SQLITE, "INSERT OR IGNORE INTO [book] VALUES (1)", "book"),
    (SQLITE, "UPDATE OR FAIL book SET x = 1", "book"),
    (SQLITE, "UPDATE[Odd-Name]SET x = 1", "odd-name"),
    (("sqlite", "mysql"), "REPLACE INTO `book` VALUES (1)", "book"),
    (MYSQL, "REPLACE book SET x = 1", "book"),
    (MYSQL, "REPLACE LOW_PRIORITY INTO book VALUES (1)", "book"),
    (MYSQL, "INSERT book SET x = 1", "book"),
    (MYSQL, "INSERT HIGH_PRIORITY IGNORE INTO book VALUES (1)", "book"),
    (MYSQL, "INSERT INTO book VALUES (1) ON DUPLICATE KEY UPDATE x = 1", "book"),
    (STANDARD, "INSERT INTO book VALUES (1) ON CONFLICT DO UPDATE SET x = 1", "book"),
    (ALL, "UPDATE book SET title = 'x' WHERE id IN (SELECT id FROM author)", "book"),
    (ALL, 'UPDATE"book"SET x=1', "book"),
    (POSTGRESQL, "UPDATE ONLY book SET x = 1", "book"),
    (POSTGRESQL, 'UPDATE ONLY ("book") SET x = 1', "book"),
    (POSTGRESQL, "UPDATE book* b SET x = 1 FROM author", "book"),
    (MYSQL, "UPDATE LOW_PRIORITY IGNORE book SET x = 1", "book"),
    (MYSQL, "UPDATE book b, author AS a, `odd-name` SET b.x = a.y", "book author odd-name"),
    (MYSQL, "UPDATE book b JOIN author a ON a.id = b.id SET a.x = 1", "book author"),
    (MYSQL, "UPDATE (book JOIN author USING (id)) SET x = 1", "book author"),
    (ALL, "DELETE FROM book WHERE id = 1", "book"),
    (POSTGRESQL, "DELETE FROM ONLY book", "book"),
    (POSTGRESQL, "DELETE FROM book b USING author a WHERE a.id = b.id", "book"),
    (POSTGRESQL, "DELETE FROM book WHERE CURRENT OF c", "book"),
    (MYSQL, "DELETE QUICK FROM book", "book"),
    (MYSQL, "DELETE a.*, b FROM book a JOIN author b", "book author"),
    (MYSQL, "DELETE a, b FROM book AS a, author AS b", "book author"),
    (MYSQL, "DELETE FROM book, author USING book INNER JOIN author", "book author"),
    (POSTGRESQL, "MERGE INTO book USING author ON true WHEN MATCHED THEN DELETE", "book"),
    (POSTGRESQL, "MERGE INTO ONLY book b USING author ON true WHEN MATCHED THEN DELETE", "book"),
    (SERVERS, "TRUNCATE book", "book"),
    (SERVERS, "TRUNCATE TABLE book", "book"),
    (
        POSTGRESQL,
        'TRUNCATE TABLE ONLY "book", author *, ONLY tag RESTART IDENTITY',
        "book author tag",
    ),
    (POSTGRESQL, "COPY book FROM STDIN", "book"),
    (POSTGRESQL, "copy public.book (a, b) from stdin with (format csv)", "book"),
    (MYSQL, "LOAD DATA LOCAL INFILE 'f' REPLACE INTO TABLE book FIELDS TERMINATED BY ','", "book"),
    (MYSQL, "LOAD XML INFILE 'f' INTO TABLE book", "book"),
    (MYSQL, "REPAIR TABLE book", "book"),
    # CTEs
    (ALL, "WITH x AS (SELECT 1) DELETE FROM book WHERE id IN (SELECT * FROM x)", "book"),
    (ALL, "WITH x AS (SELECT 1) UPDATE book SET x = 1", "book"),
    (ALL, "WITH x AS (SELECT 1) INSERT INTO book SELECT * FROM x", "book"),
    (SQLITE, "WITH x AS (SELECT 1) REPLACE INTO book SELECT * FROM x", "book"),
    (POSTGRESQL, "WITH x AS (DELETE FROM book RETURNING *) SELECT * FROM x", "book"),
    (
        POSTGRESQL,
        "WITH d AS (DELETE FROM book RETURNING *), i AS (INSERT INTO old SELECT * FROM d) "
        "SELECT count(*) FROM d",
        "book old",
    ),
    (
        POSTGRESQL,
        "WITH x AS (SELECT 1 FROM tag FOR UPDATE), y AS (UPDATE book SET x = 1) SELECT 1",
        "book",
    ),
    (
        POSTGRESQL,
        "WITH x AS (SELECT 1) MERGE INTO book USING x ON true WHEN MATCHED THEN DELETE",
        "book",
    ),
    # Carried
    (POSTGRESQL, "EXPLAIN ANALYZE DELETE FROM book", "book"),
    (POSTGRESQL, "EXPLAIN (ANALYZE, COSTS off) UPDATE book SET x = 1", "book"),
    (MYSQL, "ANALYZE UPDATE book SET x = 1", "book"),
    (POSTGRESQL, "PREPARE p (int) AS DELETE FROM book WHERE id = $1", "book"),
    # Several
    (ALL, "SELECT 1; DELETE FROM book", "book"),
    (ALL, "SELECT ';'; DELETE FROM book", "book"),
    (ALL, "DELETE FROM book; DELETE FROM author", "book author"),
    (ALL, 'SELECT "a--b"; DELETE FROM book', "book"),
    (ALL, "SELECT \"it's\"; DELETE FROM book WHERE x = 'y'", "book"),
    (ALL, 'SELECT "/*"; DELETE FROM book; SELECT "*/"', "book"),
    (ALL, "SELECT 'a''b'; DELETE FROM book WHERE x = 'y'", "book"),
    (ALL, "SET a = 1; DELETE FROM book", "book"),
    (("sqlite", "mysql"), "SELECT `it's`; DELETE FROM book WHERE x = 'y'", "book"),
    (SQLITE, "SELECT [it's]; DELETE FROM book WHERE x = 'y'", "book"),
    (POSTGRESQL, "SELECT a[1], '[' ; DELETE FROM book WHERE x[1] = ']'", "book"),
    # Quotes and escapes: what is code depends on the server's settings
    (STANDARD, r"SELECT '\'; DELETE FROM book WHERE x = '\'", "book"),
    (POSTGRESQL, r"SELECT E'\''; DELETE FROM book WHERE x = E'\''", "book"),
    (POSTGRESQL, r"SELECT type'\'; DELETE FROM book WHERE x = '\'", "book"),
    (POSTGRESQL, "SELECT $$'$$; DELETE FROM book WHERE x = ''", "book"),
    (POSTGRESQL, "SELECT $a$ $$ ' $a$; DELETE FROM book WHERE x = ''", "book"),
    (POSTGRESQL, "SELECT a$1, b$1; DELETE FROM book", "book"),
    (POSTGRESQL, "SELECT 1 -- it's\rDELETE;\nDELETE FROM book", "book"),
    (POSTGRESQL, "-- here\rDELETE FROM book", "book"),
    (POSTGRESQL, "/* a /* b */ SELECT */ DELETE FROM book", "book"),
    (POSTGRESQL, "SELECT /* /* ' */ ' */ 1; DELETE FROM book", "book"),
    (MYSQL, r"SELECT '\''; DELETE FROM book WHERE x = '\''", "book"),
    (MYSQL, r"SELECT '\'; DELETE FROM book WHERE x = '\'", "book"),
    (MYSQL, r'SELECT "\"\'"; DELETE FROM book', "book"),
    (MYSQL, "SELECT 5--1; DELETE FROM book", "book"),
    (MYSQL, "# SELECT\nDELETE FROM book", "book"),
    (MYSQL, "SELECT 1 # it's\n; DELETE FROM book WHERE x = ''", "book"),
    (MYSQL, "/*!50000 DELETE */ /*! FROM book */", "book"),
    (MYSQL, "/*M!100100 DELETE FROM book */", "book"),
    (MYSQL, "/*!99999 SELECT */ DELETE FROM book", "book"),
    (MYSQL, "DELETE /*!99999 ' */ FROM book WHERE x = 'y'", "book"),
)


@pytest.mark.parametrize(("vendor", "sql", "tables"), WRITES)
def test_a_write_is_seen_with_its_tables(vendor: str, sql: str, tables: str) -> None:
    statement = classify(sql, vendor)
    assert statement.kind in {Kind.WRITE, Kind.SCHEMA, Kind.ANYTHING}
    expected = {tables} if tables in sql else set(tables.split())
    assert expected <= statement.tables


@pytest.mark.parametrize(
    ("vendor", "sql", "tables"),
    for_each_vendor(
        (ALL, "CREATE TABLE book (id int)", "book"),
        (ALL, "CREATE TABLE IF NOT EXISTS book AS SELECT * FROM author", "book"),
        (ALL, "create view book as select 1", "book"),
        (ALL, "CREATE INDEX i ON book (x)", ""),
        (ALL, "DROP TABLE IF EXISTS book", "book"),
        (ALL, "DROP TABLE book, author", "book author"),
        (ALL, "DROP VIEW IF EXISTS book", "book"),
        (ALL, "ALTER TABLE book ADD COLUMN x int", "book"),
        (ALL, "ALTER TABLE book RENAME TO author", "book author"),
        (POSTGRESQL, 'ALTER TABLE IF EXISTS ONLY "book" ADD x int', "book"),
        (POSTGRESQL, "REFRESH MATERIALIZED VIEW book", "book"),
        (POSTGRESQL, "REFRESH MATERIALIZED VIEW CONCURRENTLY public.book", "book"),
        (POSTGRESQL, "SELECT * INTO book FROM author", "book"),
        (POSTGRESQL, "SELECT 1 INTO TEMP TABLE book", ""),
        (POSTGRESQL, "WITH x AS (SELECT 1) SELECT * INTO book FROM x", "book"),
        (POSTGRESQL, "WITH x AS (INSERT INTO old VALUES (1)) SELECT 1 INTO book", "book old"),
        (POSTGRESQL, "EXPLAIN ANALYZE CREATE TABLE book AS SELECT 1", "book"),
        (MYSQL, "RENAME TABLE a TO b, c TO d", "a b c d"),
        (MYSQL, "RENAME TABLE `db`.`a` TO `b`", "a b"),
        (MYSQL, "ALTER TABLE a EXCHANGE PARTITION p WITH TABLE b", "a b"),
        (
            SQLITE,
            "CREATE TRIGGER t AFTER INSERT ON book BEGIN DELETE FROM author; END",
            "author",
        ),
        (MYSQL, "CREATE PROCEDURE p() BEGIN START TRANSACTION; DELETE FROM a; COMMIT; END", "a"),
    ),
)
def test_a_change_of_the_schema_is_seen_with_its_tables(vendor: str, sql: str, tables: str) -> None:
    statement = classify(sql, vendor)
    assert statement.kind is Kind.SCHEMA
    assert set(tables.split()) <= statement.tables


@pytest.mark.parametrize(
    ("vendor", "sql"),
    for_each_vendor(
        (ALL, "CALL p(1)"),
        (ALL, "call p"),
        (ALL, "EXECUTE p (1)"),
        (ALL, "/* x */ EXECUTE IMMEDIATE 'DELETE FROM t'"),
        (ALL, "FROBNICATE book"),
        (ALL, "SELECT 1; CALL p()"),
        (POSTGRESQL, "DO $$ BEGIN DELETE FROM t; END $$"),
        (POSTGRESQL, "EXPLAIN ANALYZE EXECUTE p"),
        (POSTGRESQL, "PREPARE TRANSACTION 'x'"),
        (POSTGRESQL, "COMMIT PREPARED 'x'"),
        (POSTGRESQL, "ROLLBACK PREPARED 'x'"),
        (POSTGRESQL, "GRANT editors TO bob"),
        (POSTGRESQL, "REVOKE editors FROM bob"),
        (POSTGRESQL, r'DELETE FROM U&"b\006Fok"'),
        (MYSQL, "SET STATEMENT max_statement_time=1 FOR UPDATE book SET x = 1"),
        (MYSQL, "SET STATEMENT max_statement_time=1 FOR DELETE FROM book"),
        (MYSQL, "START REPLICA"),
        (MYSQL, "BEGIN NOT ATOMIC DELETE FROM book; END"),
        (ALL, "BEGIN; DELETE FROM book; COMMIT"),
    ),
)
def test_what_may_write_anything(vendor: str, sql: str) -> None:
    assert classify(sql, vendor).kind is Kind.ANYTHING


@pytest.mark.parametrize(
    ("vendor", "sql"),
    for_each_vendor(
        (ALL, ""),
        (ALL, " ; ; "),
        (ALL, "SELECT 1"),
        (ALL, "(SELECT 1) UNION (SELECT 2);"),
        (ALL, "SELECT 'please delete'"),
        (ALL, "SELECT 'INSERT INTO book VALUES (1)' AS x"),
        (ALL, "SELECT '; DELETE FROM book; '"),
        (ALL, "SELECT 'it''s; DELETE FROM book'"),
        (ALL, "SELECT * FROM book -- DELETE FROM book"),
        (ALL, "/* DELETE FROM book; */ SELECT 1 /* UPDATE */"),
        (ALL, "SELECT * FROM book FOR UPDATE"),
        (ALL, "SELECT * FROM book FOR UPDATE OF book SKIP LOCKED"),
        (ALL, 'SELECT "update", "delete", "into" FROM "insert"'),
        (ALL, 'SELECT "a;DELETE FROM b" FROM c'),
        (ALL, "SELECT updated, deleted_at, inserted, into_x FROM book"),
        (ALL, "SELECT replace(title, 'a', 'b') FROM book"),
        (ALL, "SELECT prepared FROM book"),
        (ALL, "SELECT CASE WHEN x THEN 1 ELSE 2 END FROM book"),
        (ALL, "WITH x AS (SELECT 1) SELECT * FROM x"),
        (ALL, "WITH x AS (SELECT CASE WHEN y THEN 1 END FROM z) SELECT * FROM x"),
        (ALL, 'WITH "update" AS (SELECT "delete" FROM "into") SELECT * FROM "update"'),
        (ALL, "WITH x AS (SELECT replace(a, 'b', 'c') FROM d) SELECT * FROM x"),
        (ALL, "WITH x AS (SELECT do, call, execute FROM d) SELECT * FROM x"),
        (
            ALL,
            "WITH RECURSIVE x AS (SELECT 1 UNION ALL SELECT n FROM x) SELECT * FROM x FOR UPDATE",
        ),
        (ALL, "VALUES (1), (2)"),
        (ALL, "EXPLAIN SELECT * FROM book"),
        (SQLITE, "EXPLAIN QUERY PLAN SELECT * FROM book"),
        (SQLITE, "SELECT [update; delete] FROM book"),
        (SQLITE, "VACUUM"),
        (POSTGRESQL, "TABLE book"),
        (POSTGRESQL, "SELECT $$ ; DELETE FROM book; $$"),
        (POSTGRESQL, "SELECT $x$ ; DELETE $$ FROM book; $x$"),
        (POSTGRESQL, r"SELECT E'it\'s'"),
        (POSTGRESQL, "SELECT * FROM book FOR NO KEY UPDATE"),
        (POSTGRESQL, "/* a /* DELETE FROM b; */ c */ SELECT 1"),
        (POSTGRESQL, "DECLARE c CURSOR FOR SELECT * FROM book"),
        (POSTGRESQL, "FETCH 10 FROM c"),
        (POSTGRESQL, "SHOW transaction_isolation"),
        (POSTGRESQL, "PREPARE p AS SELECT * FROM book"),
        (POSTGRESQL, "LOCK TABLE book IN EXCLUSIVE MODE"),
        (MYSQL, r"SELECT 'it\'s; '"),
        (MYSQL, "SELECT 1 # ; DELETE FROM book"),
        (MYSQL, "SELECT `update; delete` FROM book"),
        (MYSQL, "SELECT INSERT(a, 1, 2, b), TRUNCATE(c, 2) FROM book"),
        (MYSQL, "DESCRIBE book"),
        (MYSQL, "SHOW CREATE TABLE book"),
        (MYSQL, "LOCK TABLES book WRITE"),
    ),
)
def test_a_read_invalidates_nothing(vendor: str, sql: str) -> None:
    statement = classify(sql, vendor)
    assert statement.kind is Kind.READ
    assert statement.tables == frozenset()
    assert statement.words == frozenset()
    assert not statement.hides_transaction


@pytest.mark.parametrize(
    ("vendor", "sql", "kind"),
    for_each_vendor(
        (ALL, "BEGIN", Kind.TRANSACTION),
        (ALL, "BEGIN IMMEDIATE", Kind.TRANSACTION),
        (ALL, "START TRANSACTION READ ONLY", Kind.TRANSACTION),
        (ALL, "/* x */ commit;", Kind.TRANSACTION),
        (ALL, "END", Kind.TRANSACTION),
        (ALL, "ROLLBACK TO SAVEPOINT s", Kind.TRANSACTION),
        (ALL, 'RELEASE SAVEPOINT "s;1"', Kind.TRANSACTION),
        (ALL, "SET a = 1", Kind.SESSION),
        (ALL, "SELECT 1; SET a = 1", Kind.SESSION),
        (POSTGRESQL, "RESET ALL", Kind.SESSION),
        (POSTGRESQL, "DISCARD ALL", Kind.SESSION),
        (MYSQL, "USE other", Kind.SESSION),
        (MYSQL, "/*!40101 SET NAMES utf8 */", Kind.SESSION),
        (SQLITE, "PRAGMA foreign_keys = ON", Kind.SESSION),
        (SQLITE, "ATTACH 'f' AS other", Kind.SESSION),
    ),
)
def test_what_controls_the_connection(vendor: str, sql: str, kind: Kind) -> None:
    assert classify(sql, vendor).kind is kind


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("TRUNCATE book CASCADE", True),
        ("DROP TABLE book CASCADE", True),
        ("TRUNCATE book", False),
        ("ALTER TABLE book ADD x int REFERENCES y ON DELETE CASCADE", False),
        # They change what tables of any name stand for, or what their policies let through.
        ("ALTER SCHEMA live RENAME TO old", True),
        ("ALTER ROLE bob SET search_path TO other", True),
        ("CREATE OR REPLACE FUNCTION tenant() RETURNS int AS 'x' LANGUAGE sql", True),
        ("DROP OWNED BY bob", True),
        ("ALTER DATABASE d SET row_security TO off", True),
        ("ALTER TABLE book OWNER TO bob", False),
        ("CREATE UNIQUE INDEX i ON book (x)", False),
        ("CREATE TABLE function_call (x int)", False),
    ],
)
def test_what_reaches_tables_that_it_does_not_name(sql: str, expected: bool) -> None:
    assert classify(sql, "postgresql").cascades is expected


@pytest.mark.parametrize(
    ("vendor", "sql", "expected"),
    for_each_vendor(
        (MYSQL, "ALTER TABLE book ADD x int", True),
        (MYSQL, "SELECT 1; CREATE TABLE x (y int)", True),
        (MYSQL, "LOCK TABLES book READ", True),
        (MYSQL, "CALL p()", True),
        (MYSQL, "INSERT INTO book VALUES (1)", False),
        (MYSQL, "SELECT 'ALTER'", False),
        (STANDARD, "ALTER TABLE book ADD x int", False),
    ),
)
def test_implicit_commits(vendor: str, sql: str, expected: bool) -> None:
    assert classify(sql, vendor).commits_implicitly is expected


@pytest.mark.parametrize("vendor", ALL)
def test_a_transaction_between_other_statements_is_told(vendor: str) -> None:
    assert classify("DELETE FROM a; COMMIT", vendor).hides_transaction
    assert classify("CREATE TABLE event (x int); COMMIT", vendor).hides_transaction
    assert not classify("COMMIT", vendor).hides_transaction
    assert not classify("DELETE FROM a; DELETE FROM b", vendor).hides_transaction


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("DELETE FROM book", True),
        ("REPLACE INTO book VALUES (1)", True),
        ("TRUNCATE book", True),
        ("MERGE INTO book USING x ON true WHEN MATCHED THEN DELETE", True),
        ("WITH x AS (SELECT 1) DELETE FROM book", True),
        ("INSERT INTO book VALUES ('DELETE')", False),
        ("UPDATE book SET x = replace(x, 'a', 'b')", False),
    ],
)
def test_what_may_remove_rows(sql: str, expected: bool) -> None:
    assert classify(sql, "sqlite").deletes is expected


@pytest.mark.parametrize(
    ("vendor", "sql", "expected"),
    for_each_vendor(
        (ALL, "CREATE TEMPORARY TABLE book (x int)", True),
        (ALL, "CREATE TEMP VIEW book AS SELECT 1", True),
        (SQLITE, "CREATE TABLE IF NOT EXISTS temp.book (x int)", True),
        (POSTGRESQL, "CREATE LOCAL TEMP TABLE book (x int)", True),
        (POSTGRESQL, "CREATE TABLE pg_temp.book (x int)", True),
        (POSTGRESQL, "SELECT * INTO TEMP book FROM author", True),
        (POSTGRESQL, "SELECT 1; CREATE TEMP TABLE book (x int)", True),
        (ALL, "CREATE TABLE book (x int)", False),
        (POSTGRESQL, "SELECT * INTO book FROM author", False),
    ),
)
def test_temporary_tables_are_told(vendor: str, sql: str, expected: bool) -> None:
    assert classify(sql, vendor).makes_temporary is expected


@pytest.mark.parametrize(
    ("vendor", "sql", "expected"),
    for_each_vendor(
        (POSTGRESQL, "SELECT set_config('a.b', 'c', false)", True),
        (POSTGRESQL, "SELECT pg_catalog.\"set_config\" ('a.b', 'c', false)", True),
        (POSTGRESQL, "SET a.b = 1; DELETE FROM book", True),
        (POSTGRESQL, "DO $$ BEGIN PERFORM set_config('a.b', 'c', false); END $$", True),
        (SERVERS, "CALL p()", True),
        (SERVERS, "EXECUTE p", True),
        (SERVERS, "SELECT set_tenant(5)", True),
        (SERVERS, "SELECT app.use_tenant(%s)", True),
        (POSTGRESQL, "SELECT * FROM set_tenant (5)", True),
        (POSTGRESQL, "SAVEPOINT s", True),
        (POSTGRESQL, "ROLLBACK TO s", True),
        (POSTGRESQL, "ROLLBACK", False),
        (MYSQL, "SELECT @tenant := 5", True),
        (MYSQL, "SELECT id INTO @tenant FROM tenant", True),
        (MYSQL, "SAVEPOINT s", False),
        (SERVERS, "SELECT version()", False),
        (POSTGRESQL, "SELECT pg_advisory_lock(1)", False),
        (POSTGRESQL, "SELECT setval(pg_get_serial_sequence('\"t\"', 'id'), 1)", False),
        (POSTGRESQL, "SELECT setval('s', coalesce(max(id), 1), max(id) IS NOT null) FROM t", False),
        (SERVERS, "SELECT my_function(title) FROM book", False),
        (ALL, "SELECT 'set_config()'", False),
        (ALL, "DELETE FROM book", False),
        (SERVERS, "GRANT a TO b", False),
        (SQLITE, "SELECT set_tenant(5)", False),
    ),
)
def test_what_may_change_the_session(vendor: str, sql: str, expected: bool) -> None:
    statement = classify(sql, vendor)
    # Of the possible setters, the catalogue knows which there are.
    assert (statement.changes_session or bool(statement.possible_setters)) is expected


def test_other_known_names_can_be_looked_for() -> None:
    statement = classify('UPDATE x SET y = (SELECT 1 FROM "Odd-Name" JOIN café)', "sqlite")
    assert {"update", "x", "café", "odd", "name"} <= statement.words
    assert "odd-name" in statement.text


def test_long_texts_are_classified_like_short_ones() -> None:
    rows = ", ".join(["('it''s; DELETE FROM author')"] * 1000)
    statement = classify(f"INSERT INTO book VALUES {rows}", "sqlite")
    assert statement.kind is Kind.WRITE
    assert "book" in statement.tables
    assert len(statement.parts) == 1


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ('SELECT (SELECT COUNT(*) FROM a) AS "n", "b"."c" FROM "b"', {"a", "b"}),
        ("SELECT * FROM a x, b AS y, (c)", {"a", "b", "c"}),
        ("SELECT * FROM a LEFT OUTER JOIN LATERAL b ON true", {"a", "b"}),
        ("SELECT * FROM/**/a JOIN -- x\n b", {"a", "b"}),
        ("SELECT * FROM(a JOIN b)", {"a", "b"}),
        ("TABLE a", {"a"}),
        ("SELECT 1 FROM a FOR UPDATE SKIP LOCKED", {"a"}),
        ("SELECT 1", set()),
    ],
)
def test_names_after_keywords(sql: str, names: set[str]) -> None:
    assert names_after_keywords(sql) == names


@pytest.mark.parametrize(
    "name",
    [
        "app_book",
        "App_Book",
        '"App_Book"',
        "`app_book`",
        "[app_book]",
        'public."App_Book"',
        '"a"."b"."App_Book"',
        ' "app_book" ',
    ],
)
def test_a_table_has_one_name(name: str) -> None:
    assert canonical(name) == "app_book"


@pytest.mark.parametrize(
    ("vendor", "one", "other", "are_one"),
    for_each_vendor(
        (ALL, "a", "A", True),
        (ALL, "a", '"a"', True),
        (POSTGRESQL, '"A"', "a", False),
        (POSTGRESQL, '"A"', "A", False),
        (POSTGRESQL, '"a b"', '"a"', False),
        (SQLITE, '"A"', "[a]", True),
        (SQLITE, "'A'", "a", True),
        (MYSQL, "`A`", "a", True),
    ),
)
def test_names_of_savepoints(vendor: str, one: str, other: str, are_one: bool) -> None:
    found = [savepoint_in(f"SAVEPOINT {one}", vendor), savepoint_in(f"savepoint {other};", vendor)]
    assert None not in found
    assert (found[0] == found[1]) is are_one


def test_only_comments_are_taken_out() -> None:
    sql = "/* a */ SET x = '--b', \"/*c*/\" -- d"
    for vendor in ALL:
        assert without_comments(sql, vendor).split() == ["SET", "x", "=", "'--b',", '"/*c*/"']
