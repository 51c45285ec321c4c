"""Two sessions share a fingerprint only if they see the same rows."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from django.db import connection, transaction

from cachalot.core.connection.session import Session
from cachalot.core.connection.state import state_of
from cachalot.core.sql.kinds import Kind
from cachalot.core.sql.settings import settings_in
from cachalot.core.sql.statements import classify
from tests.library.models import Book
from tests.support import CacheTestCase


def run(session: Session, statement: object, vendor: str, *, in_transaction: bool = False) -> None:
    """Take in a statement, or one with its parameters, as a cursor does."""
    sql, params = statement if isinstance(statement, tuple) else (statement, None)
    if classify(sql, vendor).kind is Kind.SESSION:
        session.apply(sql, params, vendor, is_transaction=in_transaction)
    elif classify(sql, vendor).changes_session or classify(sql, vendor).possible_setters:
        session.apply_other(sql, params, vendor, is_transaction=in_transaction)


def after(*statements: object, vendor: str = "postgresql", in_transaction: bool = False) -> bytes:
    session = Session()
    for statement in statements:
        run(session, statement, vendor, in_transaction=in_transaction)
    return session.fingerprint()


def assert_all_differ(states: Iterable[tuple], vendor: str) -> None:
    fingerprints = {}
    for statements in states:
        fingerprint = after(*statements, vendor=vendor, in_transaction=True)
        assert fingerprint not in fingerprints, (statements, fingerprints[fingerprint])
        fingerprints[fingerprint] = statements


def test_nothing_set_is_no_fingerprint() -> None:
    assert Session().fingerprint() == b""
    for vendor in ("sqlite", "postgresql", "mysql"):
        assert after("SELECT 1", "SELECT * FROM t", "DELETE FROM t", vendor=vendor) == b""


def test_tables_that_are_discarded_were_the_sessions_own() -> None:
    session = Session()
    session.apply("DISCARD ALL", None, "postgresql", is_transaction=False)
    shared = session.fingerprint()
    assert shared == after("DISCARD ALL")
    session.make_unique()
    before = session.fingerprint()
    for statement in ("DISCARD TEMP", "DISCARD ALL"):
        session.apply(statement, None, "postgresql", is_transaction=False)
        assert session.fingerprint() not in {before, shared}
        before = session.fingerprint()


# Each line is a state of its own.
POSTGRESQL = [
    (),
    ("SET app.user_id = 1",),
    ("SET app.user_id = 2",),
    ("SET app.user_id = '1 2'",),
    ("SET app.user_id = '1  2'",),
    ("SET app.user_id = 'a'",),
    ("SET app.user_id = 'A'",),
    ("SET app.user = 1",),
    ("SET app.user_id = 1", "SET app.tenant = 2"),
    ("SET app.user_id = 2", "SET app.tenant = 1"),
    (("SET app.user_id = %s", [3]),),
    (("SET app.user_id = %s", [4]),),
    (("SET app.user_id = %s", ["x"]),),
    (("SET app.user_id = %(id)s", {"id": 3}),),
    (("SET app.user_id = %(id)s", {"id": 4}),),
    ("SET search_path TO a, b",),
    ("SET search_path TO b, a",),
    ("SET search_path TO 'a, b'",),
    ('SET search_path = "a"',),
    ('SET search_path = "A"',),
    ("SET SCHEMA 'c'",),
    ("SET ROLE bob",),
    ("SET ROLE NONE",),
    ("SET ROLE bob", "SET SESSION AUTHORIZATION ann"),
    ("SET SESSION AUTHORIZATION ann", "SET ROLE bob"),
    # It ends the role as well.
    ("SET ROLE bob", "RESET SESSION AUTHORIZATION"),
    ("SET TIME ZONE 'Europe/Paris'",),
    ("SET TIME ZONE -7",),
    ("SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE",),
    # Django has set another one than that the server begins with.
    ("RESET TIME ZONE",),
    ("SET DateStyle TO ISO, MDY",),
    ("SET DateStyle TO ISO, DMY",),
    ("SET NAMES 'latin1'",),
    ("SET row_security = off",),
    ("SET LOCAL app.user_id = 1",),
    # Once set, it is empty and no longer NULL.
    ("SET app.user_id = 1", "RESET app.user_id"),
    ("SET app.tenant = 1", "RESET app.tenant"),
    ("SET app.user_id = 1", "SET LOCAL app.user_id = 2"),
    ("SELECT set_config('app.user_id', '7', false)",),
    ("SELECT set_config('app.user_id', '8', false)",),
    ("SELECT set_config('app.tenant', '7', false)",),
    ("SELECT set_config('app.user_id', '9', true)",),
    (("SELECT set_config('app.user_id', %s, false)", ["O'Hara"]),),
    (("SELECT set_config('app.a', %s, false), set_config('app.b', %s, false)", ["1", "2"]),),
    (("SELECT set_config('app.a', %s, false), set_config('app.b', %s, false)", ["2", "1"]),),
]
MYSQL = [
    (),
    ("SET time_zone = '+01:00'",),
    ("SET time_zone = '+02:00'",),
    ("SET time_zone = SYSTEM",),
    ("SET time_zone = DEFAULT",),
    ("SET sql_mode = 'ANSI'",),
    ("SET sql_mode = 'A,B'",),
    ("SET sql_mode = 'A', time_zone = 'B'",),
    ("SET sql_mode = 'B', time_zone = 'A'",),
    ("SET NAMES latin1",),
    ("SET NAMES latin1 COLLATE latin1_bin",),
    ("SET NAMES latin1", "SET character_set_results = utf8mb4"),
    ("SET character_set_results = utf8mb4", "SET NAMES latin1"),
    ("SET CHARACTER SET latin1",),
    ("SET sql_select_limit = 5",),
    ("USE other",),
    ("USE `other`",),
    ("USE `another`",),
    ("SET ROLE bob",),
    # A function called in a view may read it.
    ("SET @tenant = 1",),
    ("SET @tenant = 2",),
    ("SET @tenant = '1'",),
    ("SET @user = 1",),
    ("SET @tenant := NULL",),
    ("SET @tenant = 1, time_zone = '+01:00'",),
    (("SET @a = %s, @b = %s", [1, 2]),),
    (("SET @b = %s, @a = %s", [1, 2]), ("SET @a = %s", [5])),
    (("SET @a = %s, @b = %s", [1, 2]), ("SET @a = %s", [5])),
]
SQLITE = [
    (),
    ("PRAGMA case_sensitive_like = ON",),
    ("PRAGMA case_sensitive_like = OFF",),
    ("PRAGMA reverse_unordered_selects = ON",),
    ("PRAGMA main.read_uncommitted(1)",),
]
STATES = [("postgresql", POSTGRESQL), ("mysql", MYSQL), ("sqlite", SQLITE)]


@pytest.mark.parametrize(("vendor", "states"), STATES)
def test_different_states_never_share(vendor: str, states: list[tuple]) -> None:
    assert_all_differ(states, vendor)


@pytest.mark.parametrize(("vendor", "states"), STATES)
def test_equal_states_are_found_again(vendor: str, states: list[tuple]) -> None:
    """None of them is too odd to be read: another connection that did the same shares it."""
    for statements in states:
        first = after(*statements, vendor=vendor, in_transaction=True)
        assert first == after(*statements, vendor=vendor, in_transaction=True), statements


@pytest.mark.parametrize(
    ("vendor", "one", "other"),
    [
        ("postgresql", "SET app.user_id = 1", "  set SESSION  App.User_ID TO 1 ;"),
        ("postgresql", "SET app.user_id = 1", "/* request 5 */ SET app.user_id = 1 -- x"),
        ("postgresql", "SET TIME ZONE 'UTC'", "SET timezone = 'UTC'"),
        ("postgresql", "SET ROLE bob", "SET role TO bob"),
        ("postgresql", "SET SCHEMA 'a'", "SET search_path TO 'a'"),
        ("postgresql", "SET ROLE DEFAULT", "RESET ROLE"),
        ("postgresql", "SET app.a TO DEFAULT", "RESET app.a"),
        (
            "postgresql",
            ("SELECT set_config('app.user_id', %s, false)", ["5"]),
            "select pg_catalog.set_config('App.user_id', '5', FALSE) AS x;",
        ),
        (
            "postgresql",
            ("SELECT set_config('app.user_id', %s, %s)", [5, False]),
            ("SELECT set_config(%s, %s::text, false)", ["app.user_id", "5"]),
        ),
        ("mysql", "SET time_zone = '+01:00'", "SET SESSION time_zone='+01:00'"),
        ("mysql", "SET time_zone = '+01:00'", "SET @@session.time_zone := '+01:00'"),
        ("mysql", "SET time_zone = '+01:00'", "SET LOCAL time_zone = '+01:00'"),
        ("mysql", "SET NAMES utf8", "/*!40101 SET NAMES utf8 */"),
    ],
)
def test_the_same_in_other_words(vendor: str, one: object, other: object) -> None:
    assert after(one, vendor=vendor) == after(other, vendor=vendor) != b""


# What cannot be read with certainty is shared with nobody, not even with who did the same.
UNREADABLE = [
    ("postgresql", "SET app.user_id = E'a\\'b'"),
    ("postgresql", "SET XML OPTION DOCUMENT"),
    ("postgresql", ("SET app.user_id = %s", [object()])),
    ("postgresql", "SELECT set_config('app.user_id', name, false) FROM users WHERE id = 5"),
    ("postgresql", "SELECT set_config('app.user_id', '5', false) WHERE false"),
    ("postgresql", "SELECT set_config('app.user_id', 'a' || 'b', false)"),
    ("postgresql", "SELECT set_config('app.user_id', current_user, false)"),
    ("postgresql", "SELECT set_config('app.user_id', '5', (SELECT true))"),
    ("postgresql", "SELECT set_config(name, '5', false)"),
    ("postgresql", ("SELECT set_config('app.user_id', %s, false)", [None])),
    ("postgresql", ("SELECT set_config('app.user_id', %s, false)", [5.0])),
    ("postgresql", ("SELECT set_config('app.user_id', %(id)s, false)", {"id": "5"})),
    ("postgresql", ("SELECT set_config('app.user_id', '%%s', false), %s", ["x"])),
    ("postgresql", "INSERT INTO t SELECT set_config('app.user_id', '5', false)"),
    ("postgresql", "DO $$ BEGIN PERFORM set_config('app.user_id', '5', false); END $$"),
    ("postgresql", "SET app.user_id = 5; DELETE FROM t"),
    ("postgresql", "CALL set_user(5)"),
    ("postgresql", "EXECUTE set_user(5)"),
    ("postgresql", "SELECT set_user(5)"),
    ("postgresql", "SELECT 1 FROM set_user(5)"),
    ("postgresql", "SELECT to_tenant(5)"),
    ("postgresql", "SELECT store_tenant(pg_backend_pid())"),
    ("mysql", "SET sql_mode = CONCAT(@@sql_mode, ',ANSI')"),
    ("mysql", "SET sql_mode = @mode"),
    ("mysql", "SET time_zone = (SELECT zone FROM t)"),
    ("mysql", "SET @tenant = @tenant + 1"),
    ("mysql", "SET @tenant = CURRENT_TIMESTAMP"),
    ("mysql", "SET @tenant = (SELECT 5)"),
    ("mysql", "SET time_zone = 'a\\'b'"),
    ("mysql", "SET GLOBAL time_zone = '+01:00', sql_mode = 'ANSI'"),
    ("mysql", "SET PERSIST time_zone = '+01:00'"),
    ("mysql", "SELECT id INTO @tenant FROM tenant"),
    ("mysql", "SELECT @tenant := 5"),
    ("mysql", "CALL set_tenant(5)"),
    ("sqlite", "ATTACH 'f' AS other"),
    ("sqlite", "DETACH other"),
    ("sqlite", "PRAGMA 'case_sensitive_like' = 1"),
]


@pytest.mark.parametrize(("vendor", "statement"), UNREADABLE)
def test_what_cannot_be_read_is_shared_with_nobody(vendor: str, statement: object) -> None:
    assert len({after(vendor=vendor), *(after(statement, vendor=vendor) for _ in range(3))}) == 4


@pytest.mark.parametrize(
    ("vendor", "sql"),
    [
        ("postgresql", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
        ("postgresql", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"),
        ("postgresql", "SET CONSTRAINTS ALL DEFERRED"),
        ("postgresql", "SET statement_timeout = '5s'"),
        ("postgresql", "SET LOCAL lock_timeout TO 100"),
        ("postgresql", "RESET statement_timeout"),
        ("postgresql", "SET application_name = 'request 5'"),
        ("postgresql", "SELECT set_config('statement_timeout', '5', false)"),
        ("postgresql", "DISCARD PLANS"),
        ("postgresql", "SELECT pg_advisory_lock(5)"),
        ("mysql", "SET foreign_key_checks = 0"),
        ("mysql", "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"),
        ("mysql", "SET autocommit = 0, unique_checks = 0;"),
        ("sqlite", "PRAGMA foreign_keys = ON"),
        ("sqlite", "PRAGMA table_info(book)"),
        ("sqlite", "PRAGMA case_sensitive_like"),
        ("sqlite", ""),
    ],
)
def test_what_changes_no_rows_splits_nothing(vendor: str, sql: str) -> None:
    assert after(sql, vendor=vendor) == b""


def test_requests_on_one_connection_converge() -> None:
    session = Session()
    seen: dict[tuple[int, str], set[bytes]] = {}
    for _ in range(3):
        for user in (1, 2, 3):
            run(session, ("SET app.user_id = %s", [user]), "postgresql")
            run(session, ("SELECT set_config('app.lang', %s, false)", ["en"]), "postgresql")
            seen.setdefault((user, "en"), set()).add(session.fingerprint())
    assert {len(fingerprints) for fingerprints in seen.values()} == {1}
    assert len(set.union(*seen.values())) == 3


def test_transactions_on_one_connection_converge() -> None:
    session = Session()
    seen = set()
    for _ in range(3):
        run(session, ("SET LOCAL app.user_id = %s", [5]), "postgresql", in_transaction=True)
        seen.add(session.fingerprint())
        session.end_transaction()
    assert len(seen) == 1


def test_what_is_local_ends_with_the_transaction() -> None:
    session = Session()
    run(session, "SET search_path TO a", "postgresql")
    before = session.fingerprint()
    run(session, "SET LOCAL search_path TO b", "postgresql", in_transaction=True)
    assert session.fingerprint() != before
    session.end_transaction()
    assert session.fingerprint() == before


def test_what_is_local_and_custom_leaves_it_empty() -> None:
    """PostgreSQL's current_setting(…, true) is NULL before, and '' ever after."""
    for statement in ("SET LOCAL app.a = 1", "SELECT set_config('app.a', '1', true)"):
        session = Session()
        run(session, statement, "postgresql", in_transaction=True)
        session.end_transaction()
        assert session.fingerprint() == after("RESET app.a") != b""
        # Without a transaction it ends at once, with the same effect.
        assert after(statement) == after("RESET app.a")


def test_local_outside_a_transaction_sets_nothing() -> None:
    assert after("SET LOCAL search_path TO a") == b""
    # MySQL's LOCAL is its SESSION.
    assert after("SET LOCAL time_zone = '+01:00'", vendor="mysql") != b""


def test_a_plain_set_ends_a_local_one() -> None:
    session = Session()
    for sql in ("SET LOCAL search_path TO a", "SET search_path TO b"):
        run(session, sql, "postgresql", in_transaction=True)
    assert session.fingerprint() == after("SET search_path TO b")
    session.end_transaction()
    assert session.fingerprint() == after("SET search_path TO b")


def test_a_rollback_takes_back_what_was_set() -> None:
    session = Session()
    run(session, "SET search_path TO a", "postgresql")
    before = session.snapshot()
    for sql in ("SET search_path TO b", "SET LOCAL row_security TO off", "RESET search_path"):
        run(session, sql, "postgresql", in_transaction=True)
    session.restore(before)
    session.end_transaction()
    assert session.fingerprint() == after("SET search_path TO a")


def test_a_rollback_leaves_a_custom_setting_empty() -> None:
    session = Session()
    before = session.snapshot()
    run(session, "SET app.a = 1", "postgresql", in_transaction=True)
    session.restore(before)
    assert session.fingerprint() == after("RESET app.a")


def test_a_rollback_does_not_take_back_pragmas_nor_what_is_unknown() -> None:
    for sql in ("PRAGMA case_sensitive_like = ON", "ATTACH 'f' AS other"):
        session = Session()
        before = session.snapshot()
        run(session, sql, "sqlite", in_transaction=True)
        changed = session.fingerprint()
        session.restore(before)
        session.end_transaction()
        assert session.fingerprint() == changed != b""


@pytest.mark.parametrize(
    ("steps", "path"),
    [
        (("SAVEPOINT s", "SET search_path TO b", "ROLLBACK TO s"), "a"),
        (("SAVEPOINT s", "SET search_path TO b", "ROLLBACK TO SAVEPOINT S;"), "a"),
        (("SAVEPOINT s", "SET search_path TO b", "RELEASE s"), "b"),
        (
            (
                "SAVEPOINT s",
                "SET search_path TO b",
                "SAVEPOINT s",
                "SET search_path TO c",
                "ROLLBACK TO s",
            ),
            "b",
        ),
        (
            (
                "SAVEPOINT s",
                "SET search_path TO b",
                "ROLLBACK TO s",
                "SET search_path TO c",
                "rollback work to /* x */ s",
            ),
            "a",
        ),
        (
            (
                'SAVEPOINT "S"',
                "SET search_path TO b",
                "SAVEPOINT s",
                "SET search_path TO c",
                'ROLLBACK TO "S"',
            ),
            "a",
        ),
        (
            (
                "SAVEPOINT s",
                "SET search_path TO b",
                "SAVEPOINT t",
                "RELEASE SAVEPOINT t",
                "ROLLBACK TO s",
            ),
            "a",
        ),
    ],
)
def test_a_savepoint_is_rolled_back_to(steps: tuple[str, ...], path: str) -> None:
    session = Session()
    for sql in ("SET search_path TO a", *steps):
        run(session, sql, "postgresql", in_transaction=True)
    assert session.fingerprint() == after(f"SET search_path TO {path}")


def test_an_unknown_savepoint_makes_the_session_unknown() -> None:
    assert after("ROLLBACK TO s") != after("ROLLBACK TO s")


def test_reset_all_and_discard_all() -> None:
    for sql in ("RESET ALL", "DISCARD ALL"):
        assert after("SET search_path TO a", sql) == after(sql)
        assert after("SET app.a = 1", sql) != after(sql)
        # Django's own time zone is gone as well.
        assert after(sql) != b""
    assert after("SET ROLE bob", "RESET ALL") != after("RESET ALL")
    assert after("SET ROLE bob", "DISCARD ALL") == after("DISCARD ALL")


def test_a_new_connection_knows_nothing() -> None:
    session = Session()
    for sql in ("SET app.a = 1", "SAVEPOINT s", "CALL p()"):
        run(session, sql, "postgresql", in_transaction=True)
    session.clear()
    assert session.fingerprint() == b""
    assert session.values == {}


def test_names_and_values_are_not_confused() -> None:
    assert after("SET a.b = 'c'") != after("SET a.bc = ''")
    assert after("SET \"a.ö\" = 'x'") != after("SET \"a.o\" = 'x'")
    assert settings_in("SET a.b = 1; SET c.d = 2", None, "postgresql") is None


class ConnectTests(CacheTestCase):
    def test_connecting_leaves_a_session_that_others_share(self) -> None:
        fingerprints = set()
        for _ in range(2):
            connection.close()
            connection.ensure_connection()
            fingerprints.add(state_of(connection).session.fingerprint())
        self.assertEqual(len(fingerprints), 1)


class SessionQueryTests(CacheTestCase):
    """The session of a real connection tells its entries apart."""

    def setUp(self) -> None:
        if connection.vendor == "sqlite":
            self.one, self.other = (
                f"PRAGMA case_sensitive_like = {state}" for state in ("ON", "OFF")
            )
        elif connection.vendor == "postgresql":
            self.one, self.other = (f"SET DateStyle TO ISO, {order}" for order in ("DMY", "MDY"))
        else:
            self.one, self.other = (f"SET sql_select_limit = {limit}" for limit in (500, 1000))
        Book.objects.create(title="Moby Dick")
        connection.close()

    def tearDown(self) -> None:
        connection.close()

    def set(self, sql: str, params: object = None) -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql, params)

    def read(self) -> list[str]:
        return [book.title for book in Book.objects.filter(title__contains="moby")]

    def test_each_state_has_its_entries(self) -> None:
        self.assertCached(self.read)
        self.set(self.one)
        self.assertCached(self.read)
        self.set(self.other)
        self.assertCached(self.read)
        self.set(self.one)
        self.assertHits(self.read)

    def test_a_new_connection_starts_anew(self) -> None:
        self.assertCached(self.read)
        self.set(self.one)
        connection.close()
        self.assertHits(self.read)

    def test_a_rollback_to_a_savepoint(self) -> None:
        self.set(self.one)
        self.assertCached(self.read)
        with transaction.atomic():
            with transaction.atomic():
                self.set(self.other)
                transaction.set_rollback(True)
            fingerprint = state_of(connection).session.fingerprint()
        if connection.vendor == "postgresql":
            self.assertEqual(fingerprint, after(self.one))
            self.assertHits(self.read)
        else:
            # They are not of the transaction.
            self.assertMisses(self.read)

    def test_a_rollback(self) -> None:
        self.set(self.one)
        self.assertCached(self.read)
        with transaction.atomic():
            self.set(self.other)
            transaction.set_rollback(True)
        if connection.vendor == "postgresql":
            self.assertHits(self.read)
        else:
            self.assertMisses(self.read)

    def test_row_level_security(self) -> None:
        if connection.vendor != "postgresql":
            self.skipTest("PostgreSQL alone has policies.")
        for sql in (
            "DROP ROLE IF EXISTS cachalot_reader",
            "CREATE ROLE cachalot_reader",
            "GRANT SELECT ON library_book TO cachalot_reader",
            "ALTER TABLE library_book ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY own ON library_book USING (title = current_setting('app.title', true))",
        ):
            self.set(sql)
        try:
            Book.objects.create(title="Typee")
            self.set("SET ROLE cachalot_reader")

            def titles() -> list[str]:
                return sorted(Book.objects.values_list("title", flat=True))

            self.assertEqual(self.assertCached(titles), [])
            for title in ("Typee", "Moby Dick"):
                self.set("SELECT set_config('app.title', %s, false)", [title])
                self.assertEqual(self.assertCached(titles), [title])
            self.set("SET app.title = 'Typee'")
            with transaction.atomic():
                self.set("SET LOCAL app.title = 'Moby Dick'")
                self.assertEqual(titles(), ["Moby Dick"])
            self.assertEqual(titles(), ["Typee"])
            self.set("RESET ROLE")
            self.assertEqual(titles(), ["Moby Dick", "Typee"])
        finally:
            self.set("RESET ROLE")
            self.set("DROP POLICY own ON library_book")
            self.set("ALTER TABLE library_book DISABLE ROW LEVEL SECURITY")
            self.set("DROP OWNED BY cachalot_reader")
            self.set("DROP ROLE cachalot_reader")
