"""No tenant sees another's rows, however the database tells its tenants apart."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any
from unittest import mock

import pytest
from django.db import connection, connections, transaction
from django.db.backends.signals import connection_created

from cachalot.core.connection.state import state_of
from tests.library.models import Author, Book, BookSummary, Publisher, Shelf
from tests.support import CacheTestCase, in_thread

TENANTS = ("north", "south")


def run(sql: str, params: Any = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


def names() -> list[str]:
    return sorted(Author.objects.values_list("name", flat=True))


def publishers() -> list[str]:
    return sorted(Publisher.objects.values_list("name", flat=True))


def summaries() -> list[str]:
    return list(BookSummary.objects.values_list("title", flat=True))


class TenantCase(CacheTestCase):
    """Two tenants have an author each; publishers are shared."""

    def enter(self, tenant: str) -> None:
        raise NotImplementedError

    def leave(self) -> None:
        raise NotImplementedError

    def within(self, tenant: str, function: Callable[[], Any]) -> Any:
        self.enter(tenant)
        try:
            return function()
        finally:
            self.leave()

    def within_elsewhere(self, tenant: str, function: Callable[[], Any]) -> Any:
        """On another connection."""
        return in_thread(lambda: self.within(tenant, function))

    def assertNeverShared(self, read: Callable[[], Any], **expected: Any) -> None:
        """Each tenant gets its rows, whoever has read before; the second time they are cached."""
        for order in (list(expected), list(reversed(expected))):
            for tenant in order:
                self.assertEqual(self.within(tenant, read), expected[tenant], tenant)
            for tenant in order:
                result = self.within(tenant, lambda: self.assertHits(read))
                self.assertEqual(result, expected[tenant], tenant)
        for tenant in expected:
            self.assertEqual(self.within_elsewhere(tenant, read), expected[tenant], tenant)


class Tenancy:
    """What holds for every kind of tenant."""

    def test_reads(self) -> None:
        self.assertNeverShared(names, north=["of north"], south=["of south"])
        self.assertNeverShared(
            Author.objects.filter(name="of south").exists, north=False, south=True
        )
        self.assertNeverShared(
            lambda: Author.objects.get(name__startswith="of").name,
            south="of south",
            north="of north",
        )

    def test_a_write_of_one_tenant(self) -> None:
        self.assertNeverShared(names, north=["of north"], south=["of south"])
        self.within("north", lambda: Author.objects.update(name="new"))
        self.assertNeverShared(names, south=["of south"], north=["new"])
        self.within_elsewhere("south", lambda: Author.objects.update(name="new of south"))
        self.assertNeverShared(names, north=["new"], south=["new of south"])

    def test_a_raw_write_of_one_tenant(self) -> None:
        self.assertNeverShared(names, north=["of north"], south=["of south"])
        self.within("south", lambda: run("UPDATE library_author SET name = 'new'"))
        self.assertNeverShared(names, north=["of north"], south=["new"])

    def test_a_write_to_a_shared_table(self) -> None:
        self.assertNeverShared(publishers, north=[], south=[])
        self.within("north", lambda: Publisher.objects.create(name="by north"))
        for tenant in TENANTS:
            read = self.within(tenant, lambda: self.assertMisses(publishers))
            self.assertEqual(read, ["by north"])
        self.within_elsewhere("south", lambda: Publisher.objects.create(name="by south"))
        self.assertNeverShared(
            publishers, north=["by north", "by south"], south=["by north", "by south"]
        )

    def test_tenants_of_one_transaction(self) -> None:
        with transaction.atomic():
            for tenant in TENANTS:
                self.assertEqual(self.within(tenant, names), [f"of {tenant}"])
            self.within("north", lambda: Author.objects.update(name="new"))
            for tenant, expected in (("south", "of south"), ("north", "new")):
                for _ in range(2):
                    self.assertEqual(self.within(tenant, names), [expected])
        self.assertNeverShared(names, north=["new"], south=["of south"])

    def test_a_transaction_that_is_rolled_back(self) -> None:
        self.assertNeverShared(names, north=["of north"], south=["of south"])
        with transaction.atomic():
            self.enter("south")
            with transaction.atomic():
                self.enter("north")
                Author.objects.update(name="lost")
                self.assertEqual(names(), ["lost"])
                transaction.set_rollback(True)
            self.assertEqual(self.within("south", names), ["of south"])
            transaction.set_rollback(True)
        self.leave()
        self.assertNeverShared(names, north=["of north"], south=["of south"])

    def test_a_new_connection_has_no_tenant(self) -> None:
        self.enter("north")
        self.assertEqual(names(), ["of north"])
        connection.close()
        self.assertEqual(names(), self.of_nobody)
        self.assertEqual(self.within("south", names), ["of south"])


@pytest.mark.skipif("connection.vendor != 'postgresql'")
class SearchPathTests(Tenancy, TenantCase):
    """Schemas, chosen by a statement of the project's own."""

    of_nobody = ["of nobody"]

    def setUp(self) -> None:
        Author.objects.create(name="of nobody")
        for tenant in TENANTS:
            run(f"CREATE SCHEMA {tenant}")
            run(f"CREATE TABLE {tenant}.library_author (LIKE library_author INCLUDING ALL)")
            run(f"INSERT INTO {tenant}.library_author (id, name) VALUES (1, 'of {tenant}')")

    def tearDown(self) -> None:
        connection.close()
        run("DROP SCHEMA north, south CASCADE")

    def enter(self, tenant: str) -> None:
        run(f"SET search_path TO {tenant}, public")

    def leave(self) -> None:
        run("RESET search_path")

    def test_other_ways_to_set_the_path(self) -> None:
        for before, after in (
            ("SELECT set_config('search_path', '{}, public', false)", "RESET search_path"),
            ("SET SCHEMA '{}'", "SET search_path TO DEFAULT"),
            (
                "set session Search_Path = '{}', public;",
                "SELECT set_config('search_path', '', false)",
            ),
            ("SET search_path TO {}, public; SELECT 1", "RESET ALL"),
            ("BEGIN; SET search_path TO {}; COMMIT", "RESET search_path"),
            ("DO $$ BEGIN SET search_path TO {}; END $$", "DISCARD ALL"),
        ):
            with self.subTest(before):
                for tenant in (*TENANTS, *TENANTS):
                    run(before.format(tenant))
                    self.assertEqual(names(), [f"of {tenant}"])
                    self.assertEqual(names(), [f"of {tenant}"])
                    run(after)
                connection.close()
        self.assertEqual(names(), ["of nobody"])

    def test_a_local_path(self) -> None:
        self.assertCached(names)
        for tenant in (*TENANTS, *TENANTS):
            with transaction.atomic():
                run(f"SET LOCAL search_path TO {tenant}")
                self.assertEqual(names(), [f"of {tenant}"])
                self.assertEqual(self.assertHits(names), [f"of {tenant}"])
            self.assertEqual(self.assertHits(names), ["of nobody"])

    def test_a_path_that_is_rolled_back(self) -> None:
        """The one of before is back, at each level."""
        self.assertNeverShared(names, north=["of north"], south=["of south"])
        self.assertCached(names)
        with transaction.atomic():
            self.enter("north")
            with transaction.atomic():
                self.enter("south")
                self.assertEqual(self.assertHits(names), ["of south"])
                transaction.set_rollback(True)
            self.assertEqual(self.assertHits(names), ["of north"])
            transaction.set_rollback(True)
        self.assertEqual(self.assertHits(names), ["of nobody"])

    def test_a_write_that_names_another_schema(self) -> None:
        self.assertNeverShared(names, north=["of north"], south=["of south"])
        self.within("north", lambda: run("UPDATE south.library_author SET name = 'new'"))
        self.assertNeverShared(names, north=["of north"], south=["new"])
        self.within("north", lambda: run('TRUNCATE "south"."library_author"'))
        self.assertNeverShared(names, north=["of north"], south=[])

    def test_a_table_that_appears_in_a_schema(self) -> None:
        """A read in its name found the shared table before."""

        def shelves() -> list[str]:
            return list(Shelf.objects.values_list("label", flat=True))

        Shelf.objects.create(label="shared")
        self.assertNeverShared(shelves, north=["shared"], south=["shared"])
        run("CREATE TABLE north.library_shelf (LIKE library_shelf INCLUDING ALL)")
        self.assertNeverShared(shelves, north=[], south=["shared"])
        run("DROP TABLE north.library_shelf")
        self.assertNeverShared(shelves, north=["shared"], south=["shared"])

    def test_views_of_the_same_name(self) -> None:
        def labels() -> list[str]:
            return list(Shelf.objects.values_list("label", flat=True))

        for tenant in TENANTS:
            run(
                f"CREATE VIEW {tenant}.library_shelf AS"
                f" SELECT id, name AS label FROM {tenant}.library_author"
            )
        self.assertNeverShared(labels, north=["of north"], south=["of south"])
        self.within("south", lambda: Author.objects.update(name="new"))
        self.assertNeverShared(labels, north=["of north"], south=["new"])


@pytest.mark.skipif("connection.vendor != 'postgresql'")
class RowSecurityTests(Tenancy, TenantCase):
    """One table, whose rows a policy tells apart by a setting of the project's own."""

    of_nobody = ["of north", "of south"]
    policy = "name LIKE '%' || current_setting('app.tenant', true)"

    def setUp(self) -> None:
        for tenant in TENANTS:
            Author.objects.create(name=f"of {tenant}")
        run("CREATE ROLE cachalot_tenant")
        run(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO cachalot_tenant"
        )
        run("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO cachalot_tenant")
        run("ALTER TABLE library_author ENABLE ROW LEVEL SECURITY")
        run(f"CREATE POLICY own ON library_author USING ({self.policy}) WITH CHECK (true)")

    def tearDown(self) -> None:
        connection.close()
        run("DROP POLICY own ON library_author")
        run("ALTER TABLE library_author DISABLE ROW LEVEL SECURITY")
        run("DROP OWNED BY cachalot_tenant")
        run("DROP ROLE cachalot_tenant")

    def enter(self, tenant: str) -> None:
        run("SET ROLE cachalot_tenant")
        run("SELECT set_config('app.tenant', %s, false)", [tenant])

    def leave(self) -> None:
        run("SELECT set_config('app.tenant', '', false)")
        run("RESET ROLE")

    # A policy tells rows apart by their names here, so what a tenant writes must keep its own.

    def test_a_write_of_one_tenant(self) -> None:
        self.assertNeverShared(names, north=["of north"], south=["of south"])
        self.within("north", lambda: Author.objects.update(name="new of north"))
        self.assertNeverShared(names, south=["of south"], north=["new of north"])
        self.within_elsewhere("south", lambda: Author.objects.create(name="too, of south"))
        self.assertNeverShared(names, north=["new of north"], south=["of south", "too, of south"])

    def test_a_raw_write_of_one_tenant(self) -> None:
        self.assertNeverShared(names, north=["of north"], south=["of south"])
        self.within("south", lambda: run("UPDATE library_author SET name = 'new of south'"))
        self.assertNeverShared(names, north=["of north"], south=["new of south"])

    def test_tenants_of_one_transaction(self) -> None:
        with transaction.atomic():
            for tenant in (*TENANTS, *TENANTS):
                self.assertEqual(self.within(tenant, names), [f"of {tenant}"])
            self.within("north", lambda: Author.objects.update(name="new of north"))
            for tenant, expected in (("south", "of south"), ("north", "new of north")):
                self.assertEqual(self.within(tenant, names), [expected])
                self.assertEqual(self.within(tenant, names), [expected])
        self.assertNeverShared(names, north=["new of north"], south=["of south"])

    def test_a_transaction_that_is_rolled_back(self) -> None:
        self.enter("south")
        self.assertEqual(names(), ["of south"])
        with self.assertRaises(ZeroDivisionError), transaction.atomic():
            run("SET LOCAL app.tenant = 'north'")
            self.assertEqual(names(), ["of north"])
            with transaction.atomic():
                run("SELECT set_config('app.tenant', %s, true)", ["south"])
                self.assertEqual(names(), ["of south"])
                transaction.set_rollback(True)
            self.assertEqual(names(), ["of north"])
            raise ZeroDivisionError
        self.assertEqual(self.assertHits(names), ["of south"])
        self.leave()
        self.assertNeverShared(names, north=["of north"], south=["of south"])

    def test_a_setting_of_the_transaction(self) -> None:
        run("SET ROLE cachalot_tenant")
        for tenant in (*TENANTS, *TENANTS):
            with transaction.atomic():
                run("SELECT set_config('app.tenant', %s, true)", [tenant])
                self.assertEqual(names(), [f"of {tenant}"])
                self.assertEqual(self.assertHits(names), [f"of {tenant}"])
            run("SELECT set_config('app.tenant', 'nobody', false)")
            self.assertEqual(names(), [])

    def test_the_role(self) -> None:
        """The owner of a table is above its policies."""
        run("SET app.tenant = 'north'")
        self.assertEqual(self.assertCached(names), ["of north", "of south"])
        run("SET ROLE cachalot_tenant")
        self.assertEqual(self.assertCached(names), ["of north"])
        for sql in ("RESET ROLE", "SET ROLE NONE", "SET SESSION AUTHORIZATION DEFAULT"):
            run(sql)
            self.assertEqual(names(), ["of north", "of south"])
            run("SET ROLE cachalot_tenant")
            self.assertEqual(names(), ["of north"])
        with transaction.atomic():
            run("SET LOCAL ROLE NONE")
            self.assertEqual(names(), ["of north", "of south"])
        self.assertEqual(names(), ["of north"])

    def test_a_policy_by_role(self) -> None:
        run("DROP POLICY own ON library_author")
        run("CREATE POLICY own ON library_author USING (name LIKE '%%' || current_user)")
        run("CREATE ROLE cachalot_other IN ROLE cachalot_tenant")
        try:
            Author.objects.create(name="of cachalot_other")
            Author.objects.create(name="of cachalot_tenant")
            for role in ("cachalot_other", "cachalot_tenant") * 2:
                run(f"SET ROLE {role}")
                self.assertEqual(names(), [f"of {role}"])
                self.assertEqual(self.assertHits(names), [f"of {role}"])
        finally:
            run("RESET ROLE")
            run("DROP ROLE cachalot_other")

    def test_a_policy_that_changes(self) -> None:
        self.assertNeverShared(names, north=["of north"], south=["of south"])
        run("ALTER POLICY own ON library_author USING (name LIKE 'of%')")
        both = ["of north", "of south"]
        self.assertNeverShared(names, north=both, south=both)
        run("DROP POLICY own ON library_author")
        self.assertNeverShared(names, north=[], south=[])
        run(f"CREATE POLICY own ON library_author USING ({self.policy})")
        self.assertNeverShared(names, north=["of north"], south=["of south"])
        run("ALTER TABLE library_author DISABLE ROW LEVEL SECURITY")
        self.assertNeverShared(names, north=both, south=both)


@pytest.mark.skipif("connection.vendor != 'mysql'")
class UseTests(Tenancy, TenantCase):
    """Databases of one server; the project's own has what they share, by views."""

    of_nobody = ["of nobody"]

    def setUp(self) -> None:
        self.home = str(connection.settings_dict["NAME"])
        Author.objects.create(name="of nobody")
        for tenant in TENANTS:
            run(f"CREATE DATABASE {self.home}_{tenant}")
            run(f"CREATE TABLE {self.home}_{tenant}.library_author LIKE library_author")
            run(
                f"CREATE VIEW {self.home}_{tenant}.library_publisher AS"
                f" SELECT * FROM {self.home}.library_publisher"
            )
            run(f"INSERT INTO {self.home}_{tenant}.library_author (name) VALUES ('of {tenant}')")

    def tearDown(self) -> None:
        connection.close()
        for tenant in TENANTS:
            run(f"DROP DATABASE {self.home}_{tenant}")

    def enter(self, tenant: str) -> None:
        run(f"USE {self.home}_{tenant}")

    def leave(self) -> None:
        run(f"USE {self.home}")

    def test_a_write_that_names_another_database(self) -> None:
        self.assertNeverShared(names, north=["of north"], south=["of south"])
        run(f"UPDATE {self.home}_south.library_author SET name = 'new'")
        self.assertNeverShared(names, north=["of north"], south=["new"])
        self.within(
            "north", lambda: run(f"UPDATE `{self.home}_south`.`library_author` SET name = 'newer'")
        )
        self.assertNeverShared(names, north=["of north"], south=["newer"])

    def test_a_rollback_does_not_take_it_back(self) -> None:
        with transaction.atomic():
            self.enter("north")
            self.assertEqual(names(), ["of north"])
            transaction.set_rollback(True)
        self.assertEqual(names(), ["of north"])
        self.enter("south")
        self.assertEqual(names(), ["of south"])


class TimeZoneTests(CacheTestCase):
    """A session's time zone decides what the database makes of a moment."""

    def setUp(self) -> None:
        moment = datetime(2024, 5, 6, 23, 30, tzinfo=timezone.utc)
        Book.objects.create(title="Moby Dick", published=moment)
        self.addCleanup(connection.close)

    def test_the_sessions_time_zone(self) -> None:
        if connection.vendor == "sqlite":
            self.skipTest("SQLite has no time zone.")
        if connection.vendor == "postgresql":
            sql = "to_char(published, 'DD HH24')"
            # A POSIX zone: without a minus it is west of Greenwich.
            zones = {"SET TIME ZONE '+02:00'": "06 21", "SET TIME ZONE '-05:00'": "07 04"}
        else:
            # The same moment; what Django stores in MySQL has no zone.
            sql = "DATE_FORMAT(FROM_UNIXTIME(1715038200 + 0 * id), '%%d %%H')"
            zones = {"SET time_zone = '+02:00'": "07 01", "SET time_zone = '-05:00'": "06 18"}

        def read() -> str:
            return Book.objects.extra(select={"day_and_hour": sql}).get().day_and_hour

        def read_in(statement: str) -> str:
            run(statement)
            return read()

        for _ in range(2):
            for statement, expected in zones.items():
                self.assertEqual(read_in(statement), expected)
                self.assertEqual(self.assertHits(read), expected)
                elsewhere = in_thread(lambda statement=statement: read_in(statement))
                self.assertEqual(elsewhere, expected)

    def test_the_connections_time_zone(self) -> None:
        def read() -> datetime:
            return Book.objects.get().published

        def hours() -> float:
            return read().utcoffset().total_seconds() / 3600

        self.assertEqual(self.assertCached(hours), 0)
        with zone_of_connection("Europe/Paris"):
            self.assertEqual(self.assertCached(hours), 2)
        self.assertEqual(self.assertHits(hours), 0)


@contextmanager
def zone_of_connection(name: str) -> Iterator[None]:
    """Let the default connection of this thread have another TIME_ZONE in DATABASES."""
    settings = connection.settings_dict
    before = settings["TIME_ZONE"]

    def put(value: str | None) -> None:
        connection.close()
        settings["TIME_ZONE"] = value
        for attribute in ("timezone", "timezone_name"):
            vars(connections["default"]).pop(attribute, None)

    put(name)
    try:
        yield
    finally:
        put(before)


@contextmanager
def pointed_at(name: str) -> Iterator[None]:
    """Let the default connection of this thread be one to another database of its server."""
    before = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = name
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = before


class CloneTests(TenantCase):
    """Test databases of parallel runs, whose names differ alone, share a cache."""

    def setUp(self) -> None:
        self.home = str(connection.settings_dict["NAME"])
        creation = connection.creation
        self.clones = {}
        for suffix, tenant in enumerate(TENANTS, start=1):
            connection.close()
            creation.clone_test_db(str(suffix), verbosity=0, autoclobber=True)
            settings = creation.get_test_db_clone_settings(str(suffix))
            self.clones[tenant] = str(settings["NAME"])
        for tenant in TENANTS:
            self.within(tenant, lambda tenant=tenant: Author.objects.create(name=f"of {tenant}"))
        Author.objects.create(name="of nobody")

    def tearDown(self) -> None:
        connection.close()
        for suffix, _ in enumerate(TENANTS, start=1):
            connection.creation.destroy_test_db(suffix=str(suffix), verbosity=0)

    def within(self, tenant: str, function: Callable[[], Any]) -> Any:
        if connection.settings_dict["NAME"] == self.clones[tenant]:
            return function()
        with pointed_at(self.clones[tenant]):
            return function()

    def test_reads(self) -> None:
        self.assertEqual(len({self.home, *self.clones.values()}), 3)
        self.assertNeverShared(names, north=["of north"], south=["of south"])
        self.assertEqual(self.assertCached(names), ["of nobody"])

    def test_a_write_in_one(self) -> None:
        self.assertNeverShared(names, north=["of north"], south=["of south"])
        self.within("north", lambda: Author.objects.update(name="new"))
        self.assertNeverShared(names, south=["of south"], north=["new"])
        self.within_elsewhere("south", Author.objects.all().delete)
        self.assertNeverShared(names, south=[], north=["new"])
        self.assertEqual(names(), ["of nobody"])

    def test_a_read_and_a_write_of_two_at_a_time(self) -> None:
        """A write in one between another's query and its storing."""
        write = mock.Mock(
            side_effect=lambda: self.within_elsewhere(
                "south", lambda: Author.objects.update(name="new")
            )
        )

        def interrupted(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            result = execute(sql, params, many, context)
            if not write.called:
                write()
            return result

        def read() -> list[str]:
            with connection.execute_wrapper(interrupted):
                return names()

        self.assertEqual(self.within("north", read), ["of north"])
        write.assert_called_once_with()
        self.assertNeverShared(names, north=["of north"], south=["new"])

    def test_transactions(self) -> None:
        def write() -> None:
            with transaction.atomic():
                Author.objects.update(name="lost")
                self.assertEqual(names(), ["lost"])
                self.assertEqual(self.within_elsewhere("south", names), ["of south"])
                transaction.set_rollback(True)

        self.within("north", write)
        self.assertNeverShared(names, north=["of north"], south=["of south"])


@pytest.mark.skipif("connection.vendor != 'sqlite'")
class AttachTests(CacheTestCase):
    """SQLite looks for a table in the main database first, then in those attached, in order."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.addCleanup(connection.close)
        self.files = {name: os.path.join(directory.name, name) for name in TENANTS}
        for name, path in self.files.items():
            with sqlite3.connect(path) as database:
                database.execute("CREATE TABLE library_summary (id, title, author_name)")
                database.execute("INSERT INTO library_summary VALUES (1, ?, '')", [f"of {name}"])
            database.close()

    def read(self) -> list[str]:
        return list(BookSummary.objects.values_list("title", flat=True))

    def attach(self, name: str) -> None:
        run("ATTACH %s AS tenant", [self.files[name]])

    def test_a_file_for_each_tenant(self) -> None:
        for name in (*TENANTS, *TENANTS):
            self.attach(name)
            self.assertEqual(self.assertCached(self.read), [f"of {name}"])
            run("DETACH tenant")

    def test_connections_with_other_files(self) -> None:
        def read_south() -> list[str]:
            self.attach("south")
            return self.read()

        self.attach("north")
        self.assertEqual(self.assertCached(self.read), ["of north"])
        self.assertEqual(in_thread(read_south), ["of south"])
        self.assertEqual(self.assertHits(self.read), ["of north"])
        run("UPDATE tenant.library_summary SET title = 'new'")
        self.assertEqual(self.assertCached(self.read), ["new"])

    def test_a_new_connection_has_nothing_attached(self) -> None:
        self.attach("north")
        self.assertEqual(self.read(), ["of north"])
        connection.close()
        self.attach("south")
        self.assertEqual(self.read(), ["of south"])


@pytest.mark.skipif("connection.vendor != 'postgresql'")
class LazyPathTests(CacheTestCase):
    """What sets the path as a query runs has not set it when the key is made."""

    def setUp(self) -> None:
        for tenant in TENANTS:
            run(f"CREATE SCHEMA {tenant}")
            run(f"CREATE TABLE {tenant}.library_author (LIKE library_author INCLUDING ALL)")
            run(f"INSERT INTO {tenant}.library_author (id, name) VALUES (1, 'of {tenant}')")

    def tearDown(self) -> None:
        connection.close()
        # The other tests use this connection as well.
        state_of(connection).session.is_set_by_queries = False
        run("DROP SCHEMA north, south CASCADE")

    def assertNeverShared(self) -> None:
        for tenant in (*TENANTS, *TENANTS):
            self.tenant = tenant
            self.assertEqual([names(), names()], [[f"of {tenant}"]] * 2)

    def test_an_execute_wrapper(self) -> None:
        def entering(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            if not sql.startswith("SET"):
                run(f"SET search_path TO {self.tenant}, public")
            return execute(sql, params, many, context)

        with connection.execute_wrapper(entering):
            self.assertNeverShared()

    def test_an_engine(self) -> None:
        """As that of django-pgschemas does; django-tenants names the tenant in schema_name."""
        engine = type(connections["default"])
        give_cursor = engine._cursor

        def _cursor(self_: Any, name: str | None = None) -> Any:
            cursor = give_cursor(self_, name)
            cursor.execute(f"SET search_path TO {self.tenant}, public")
            return cursor

        with mock.patch.object(engine, "_cursor", _cursor):
            self.assertNeverShared()


@pytest.mark.skipif("connection.vendor != 'mysql'")
class UsedCatalogueTests(CacheTestCase):
    """USE makes another database's catalogue the one that counts."""

    def setUp(self) -> None:
        self.home = str(connection.settings_dict["NAME"])
        self.north = f"{self.home}_north"
        run(f"CREATE DATABASE {self.north}")
        for table in ("library_author", "library_shelf"):
            run(f"CREATE TABLE {self.north}.{table} LIKE {table}")

    def tearDown(self) -> None:
        connection.close()
        run(f"DROP DATABASE {self.north}")

    def test_a_view(self) -> None:
        columns = "AS title, '' AS author_name FROM"
        run(f"INSERT INTO {self.north}.library_author (name) VALUES ('A')")
        run(
            f"CREATE VIEW {self.north}.library_summary AS"
            f" SELECT id, name {columns} {self.north}.library_author"
        )
        run(f"CREATE VIEW library_summary AS SELECT id, title {columns} library_book")
        self.addCleanup(run, f"DROP VIEW {self.home}.library_summary")
        self.assertEqual(summaries(), [])
        run(f"USE {self.north}")
        self.assertEqual(self.assertCached(summaries), ["A"])
        Author.objects.update(name="B")
        self.assertEqual(summaries(), ["B"])

    def test_a_table_without_transactions(self) -> None:
        def labels() -> list[str]:
            run(f"USE {self.north}")
            return list(Shelf.objects.values_list("label", flat=True))

        list(Shelf.objects.all())
        run(f"ALTER TABLE {self.north}.library_shelf ENGINE=MyISAM")
        run(f"USE {self.north}")
        with transaction.atomic():
            for label, expected in (("a", ["a"]), ("b", ["a", "b"])):
                Shelf.objects.create(label=label)
                self.assertEqual(in_thread(labels), expected)


@pytest.mark.skipif("connection.vendor != 'sqlite'")
class AttachedCatalogueTests(CacheTestCase):
    """Views that this session alone sees."""

    columns = "AS title, '' AS author_name FROM"

    def setUp(self) -> None:
        Author.objects.create(name="A")
        self.addCleanup(connection.close)

    def test_a_temporary_view(self) -> None:
        run(f"CREATE TEMP VIEW library_summary AS SELECT id, name {self.columns} library_author")
        self.assertEqual(self.assertCached(summaries), ["A"])
        Author.objects.update(name="B")
        self.assertEqual(summaries(), ["B"])

    def test_a_view_of_an_attached_file(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        run("ATTACH %s AS tenant", [os.path.join(directory.name, "tenant")])
        run("CREATE TABLE tenant.source (id, name)")
        run(f"CREATE VIEW tenant.library_summary AS SELECT id, name {self.columns} source")
        run("INSERT INTO tenant.source VALUES (1, 'A')")
        self.assertEqual(self.assertCached(summaries), ["A"])
        run("UPDATE tenant.source SET name = 'B'")
        self.assertEqual(summaries(), ["B"])


@pytest.mark.skipif("connection.vendor != 'postgresql'")
class ReconnectedTests(CacheTestCase):
    def test_a_session_that_is_set_anew_within_a_read(self) -> None:
        """``CONN_HEALTH_CHECKS`` connects anew when a query begins, and receivers set the path."""

        def set_path(connection: Any, **kwargs: Any) -> None:
            with connection.cursor() as cursor:
                cursor.execute("SET search_path TO public")

        connection_created.connect(set_path)
        self.addCleanup(connection_created.disconnect, set_path)
        self.addCleanup(connection.close)
        connection.close()
        self.assertCached(names)
        with mock.patch.object(connections["default"], "health_check_enabled", True):
            connections["default"].health_check_done = False
            with mock.patch.object(connections["default"], "is_usable", return_value=False):
                list(Author.objects.filter(name="asked"))
        self.assertHits(names)
        self.assertCached(lambda: list(Author.objects.filter(name="asked again")))
