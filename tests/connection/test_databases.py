"""Aliases of one database are recognised by what they lead to, not by how they are spelt."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
from django.db import DatabaseError, connection, connections
from django.test import SimpleTestCase, override_settings

from cachalot.api import invalidate
from cachalot.core.connection import databases
from cachalot.core.connection.databases import (
    aliases_changing_with,
    aliases_of_database,
    lookalikes_of,
)
from cachalot.core.schema.version_keys import keys_to_renew, rest_key, version_keys
from cachalot.signals import post_invalidation
from tests.library.models import Book
from tests.support import CacheTestCase, count_queries, in_process

ENGINES = {vendor: f"django.db.backends.{vendor}" for vendor in ("postgresql", "mysql")}
ENGINES["sqlite"] = "django.db.backends.sqlite3"
VENDORS = {engine: vendor for vendor, engine in ENGINES.items()}

of_sqlite = pytest.mark.skipif(connection.vendor != "sqlite", reason="about files of SQLite")
of_postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="asks PostgreSQL")


@contextmanager
def configured(**aliases: dict[str, Any]) -> Iterator[None]:
    """Have these databases alone, from the start of the process."""
    settings = {
        alias: {
            "ENGINE": ENGINES[database.pop("vendor", "postgresql")],
            **{"NAME": "", "HOST": "", "PORT": "", "TEST": {}},
            **database,
        }
        for alias, database in copy.deepcopy(aliases).items()
    }
    with (
        mock.patch.dict(connections.settings, settings, clear=True),
        # Whether or not their drivers are installed.
        mock.patch.object(databases, "_vendor_of", VENDORS.get),
        mock.patch.object(databases, "_configured", frozenset(aliases)),
        mock.patch.object(databases, "_asked", {}),
    ):
        yield


@contextmanager
def added(**aliases: dict[str, Any]) -> Iterator[None]:
    """Add aliases while the process runs; they are what the default one is but for these values."""
    connections.settings.update(
        {
            alias: {**copy.deepcopy(connections.settings["default"]), **values}
            for alias, values in aliases.items()
        }
    )
    try:
        yield
    finally:
        for alias in aliases:
            if hasattr(connections._connections, alias):
                connections[alias].close()
                del connections[alias]
            del connections.settings[alias]


class CertainTests(SimpleTestCase):
    def group(self, **aliases: dict[str, Any]) -> dict[str, tuple[str, ...]]:
        with configured(**aliases):
            return {alias: aliases_of_database(alias) for alias in aliases}

    def test_equal_databases_are_one(self) -> None:
        for first, second in (
            ({"NAME": "a"}, {"NAME": "a"}),
            ({"NAME": "a", "HOST": "localhost"}, {"NAME": "a", "HOST": "127.0.0.1"}),
            ({"NAME": "a", "HOST": "/run/postgresql"}, {"NAME": "a"}),
            ({"NAME": "a", "HOST": "db", "PORT": "5432"}, {"NAME": "a", "HOST": "DB"}),
            ({"NAME": "a", "USER": "x"}, {"NAME": "a", "USER": "y"}),
            ({"NAME": "a"}, {"NAME": "b", "TEST": {"MIRROR": "default"}}),
            ({"vendor": "sqlite", "NAME": "./a.db"}, {"vendor": "sqlite", "NAME": "a.db"}),
            (
                {"vendor": "sqlite", "NAME": "/srv/a b.db"},
                {"vendor": "sqlite", "NAME": "file:/srv/a%20b.db?mode=ro"},
            ),
            (
                {"vendor": "sqlite", "NAME": "/srv/a.db"},
                {"vendor": "sqlite", "NAME": "file://localhost/srv/a.db?immutable=0#x"},
            ),
            (
                {"vendor": "sqlite", "NAME": "file:a?mode=memory&cache=shared"},
                {"vendor": "sqlite", "NAME": "file:a?mode=memory&cache=shared"},
            ),
        ):
            with self.subTest(first=first, second=second):
                groups = self.group(default=first, another=second)
                self.assertEqual(groups["another"], ("default", "another"))
                self.assertEqual(groups["default"], ("default", "another"))

    def test_unequal_databases_are_not(self) -> None:
        for first, second in (
            ({"NAME": "a"}, {"NAME": "b"}),
            ({"NAME": "a", "HOST": "one"}, {"NAME": "a", "HOST": "two"}),
            ({"NAME": "a", "PORT": "5432"}, {"NAME": "a", "PORT": "5433"}),
            ({"NAME": "a"}, {"NAME": "a", "vendor": "mysql"}),
            ({"NAME": "a", "PORT": "1"}, {"NAME": "a", "PORT": "1", "vendor": "mysql"}),
            ({"NAME": ""}, {"NAME": ""}),
            ({"vendor": "sqlite", "NAME": ":memory:"}, {"vendor": "sqlite", "NAME": ":memory:"}),
            (
                {"vendor": "sqlite", "NAME": "file:a?mode=memory"},
                {"vendor": "sqlite", "NAME": "file:a?mode=memory"},
            ),
        ):
            with self.subTest(first=first, second=second):
                self.assertEqual(self.group(default=first, another=second)["another"], ("another",))

    def test_an_alias_without_its_driver_harms_nobody(self) -> None:
        broken = {"NAME": "a", "ENGINE": "no_such.engine"}
        groups = self.group(default={"NAME": "a"}, broken=broken)
        self.assertEqual(groups, {"default": ("default",), "broken": ("broken",)})

    def test_the_order_of_settings_does_not_matter(self) -> None:
        groups = self.group(zebra={"NAME": "a"}, default={"NAME": "a"}, ape={"NAME": "a"})
        self.assertEqual(groups["zebra"], ("default", "ape", "zebra"))

    def test_the_setting_says_which_are_one(self) -> None:
        aliases = {"default": {"NAME": "a"}, "direct": {"NAME": "b", "HOST": "db"}}
        with override_settings(CACHALOT_ALIASES={"direct": "default"}):
            self.assertEqual(self.group(**aliases)["direct"], ("default", "direct"))
        with override_settings(CACHALOT_ALIASES={"direct": "default", "default": "direct"}):
            self.assertEqual(self.group(**aliases)["direct"], ("default", "direct"))
        self.assertEqual(self.group(**aliases)["direct"], ("direct",))

    def test_the_setting_says_which_is_its_own(self) -> None:
        aliases = {"default": {"NAME": "a"}, "shard": {"NAME": "a"}}
        with override_settings(CACHALOT_ALIASES={"shard": "shard"}), configured(**aliases):
            self.assertEqual(aliases_of_database("shard"), ("shard",))
            self.assertEqual(lookalikes_of("shard"), ())
            self.assertEqual(lookalikes_of("default"), ())

    def test_a_replica_is_no_mirror_outside_tests(self) -> None:
        mirror = {"NAME": "a", "HOST": "replica", "TEST": {"MIRROR": "default"}}
        replicas = {"replica": {"primary": "default", "max_lag": 3}}
        with override_settings(CACHALOT_REPLICAS=replicas):
            with configured(default={"NAME": "a"}, replica=mirror):
                self.assertEqual(aliases_of_database("replica"), ("replica",))
                keys = keys_to_renew("default", frozenset({"t"}))
                (own,) = version_keys("default", frozenset({"t"}))
                (of_replica,) = version_keys("replica", frozenset({"t"}))
                rest, rest_of_replica = rest_key("default", "t"), rest_key("replica", "t")
        self.assertEqual(keys, {own: None, of_replica: 4, rest: None, rest_of_replica: 4})


class LookalikeTests(SimpleTestCase):
    def test_databases_of_one_name_may_be_one(self) -> None:
        for one, other, alike in (
            ({"NAME": "a"}, {"NAME": "a", "PORT": "6432"}, True),
            ({"NAME": "a"}, {"NAME": "a", "HOST": "db.example.org"}, True),
            ({"NAME": "a"}, {"NAME": ""}, True),
            ({"NAME": "a"}, {"NAME": "b", "PORT": "6432"}, False),
            ({"NAME": "a"}, {"NAME": "a", "PORT": "6432", "vendor": "mysql"}, False),
            ({"NAME": "a", "vendor": "sqlite"}, {"NAME": "b", "vendor": "sqlite"}, False),
        ):
            with self.subTest(one=one, other=other), configured(default=one, another=other):
                self.assertEqual(lookalikes_of("default"), ("another",) if alike else ())
                self.assertEqual(lookalikes_of("another"), ("default",) if alike else ())

    def test_a_write_renews_the_versions_of_both(self) -> None:
        with configured(default={"NAME": "a"}, direct={"NAME": "a", "PORT": "1"}):
            tables = frozenset({"t"})
            keys = {*version_keys("default", tables), *version_keys("direct", tables)}
            keys |= {rest_key(alias, "t") for alias in ("default", "direct")}
            self.assertEqual(len(keys), 4)
            for alias in ("default", "direct"):
                self.assertEqual(keys_to_renew(alias, tables), dict.fromkeys(keys))
                self.assertCountEqual(aliases_changing_with(alias), ["default", "direct"])

    def test_servers_that_have_said_who_they_are_are_told_apart(self) -> None:
        for said, alike in (
            ({"default": ("1", "a"), "direct": ("1", "a")}, True),
            ({"default": ("1", "a"), "direct": ("2", "a")}, False),
            ({"default": ("1", "a")}, True),
        ):
            aliases = {"default": {"NAME": "a"}, "direct": {"NAME": "a", "PORT": "1"}}
            with self.subTest(said=said), configured(**aliases):
                for alias, answer in said.items():
                    databases._asked[databases._place_of(alias)] = answer
                self.assertEqual(lookalikes_of("default"), ("direct",) if alike else ())

    def test_a_server_may_know_a_database_by_two_names(self) -> None:
        with configured(default={"NAME": "a"}, pooled={"NAME": "a_pool", "PORT": "1"}):
            for alias in ("default", "pooled"):
                databases._asked[databases._place_of(alias)] = ("1", "a")
            self.assertEqual(lookalikes_of("default"), ("pooled",))

    def test_replicas_are_known_to_be_others(self) -> None:
        replicas = {"replica": {"primary": "default", "max_lag": 3}}
        with override_settings(CACHALOT_REPLICAS=replicas):
            with configured(default={"NAME": "a"}, replica={"NAME": "a", "HOST": "replica"}):
                self.assertEqual(lookalikes_of("default"), ())

    def test_one_file_under_two_paths(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            one, other = os.path.join(folder, "one"), os.path.join(folder, "other")
            open(one, "w").close()
            with configured(
                default={"NAME": one, "vendor": "sqlite"}, hard={"NAME": other, "vendor": "sqlite"}
            ):
                self.assertEqual(lookalikes_of("default"), ())
                os.link(one, other)
                self.assertEqual(lookalikes_of("default"), ("hard",))
                self.assertEqual(lookalikes_of("hard"), ("default",))


class AskingTests(SimpleTestCase):
    """What a server is asked, without one."""

    def connect(self, alias: str, **attributes: Any) -> list[str]:
        """Return the statements that are run on a new connection."""
        ran: list[str] = []
        cursor = mock.Mock(fetchone=lambda: ("1", "a"))
        cursor.execute.side_effect = ran.append
        made = mock.MagicMock(
            **{"vendor": "mysql", "autocommit": True, "mysql_is_mariadb": False, **attributes},
            alias=alias,
            settings_dict=connections.settings.get(alias, {}),
        )
        made.create_cursor.return_value = cursor
        databases.ask_server(made)
        return ran

    def test_it_is_asked_where_there_is_another_of_its_kind(self) -> None:
        mysql = {"vendor": "mysql", "NAME": "a"}
        with configured(default=mysql, direct={**mysql, "PORT": "1"}):
            self.assertEqual(self.connect("default"), ["SELECT @@server_uuid, DATABASE()"])
            self.assertEqual(databases._asked, {databases._place_of("default"): ("1", "a")})
            self.assertEqual(self.connect("default", mysql_is_mariadb=True), [])
            # A query would begin a transaction.
            self.assertEqual(self.connect("default", autocommit=False), [])

    def test_it_is_not_asked_where_there_is_nothing_to_tell_apart(self) -> None:
        mysql = {"vendor": "mysql", "NAME": "a"}
        with configured(default=mysql, same=mysql, other={"vendor": "sqlite", "NAME": "a"}):
            self.assertEqual(self.connect("default"), [])
        with configured(default=mysql):
            self.assertEqual(self.connect("default"), [])

    def test_one_that_does_not_say_is_not_known(self) -> None:
        mysql = {"vendor": "mysql", "NAME": "a"}
        with configured(default=mysql, direct={**mysql, "PORT": "1"}):
            self.connect("default")
            with mock.patch.object(databases, "driver_cursor", side_effect=DatabaseError("no")):
                with self.assertLogs("cachalot", "DEBUG"):
                    self.connect("default")
            self.assertEqual(databases._asked, {})


class AliasTests(CacheTestCase):
    """A write through one alias, and what another one reads."""

    def setUp(self) -> None:
        self.book = Book.objects.create(title="Moby Dick")

    @contextmanager
    def added(self, **aliases: dict[str, Any]) -> Iterator[None]:
        # Django's test cases allow those that there were when they began.
        allowed = {*self.databases, *aliases}
        with added(**aliases), mock.patch.object(type(self), "databases", allowed):
            yield

    def titles(self, alias: str = "default") -> list[str]:
        return list(Book.objects.using(alias).values_list("title", flat=True))

    def assertFollows(self, reader: str, writer: str) -> None:
        """What was written through one alias is read through the other, then cached."""
        self.titles(reader)
        _, queries = count_queries(lambda: self.titles(reader), using=reader)
        self.assertEqual(queries, 0)
        title = f"{reader} after {writer}"
        Book.objects.using(writer).update(title=title)
        self.assertEqual(self.titles(reader), [title])

    def test_an_alias_that_is_added_later(self) -> None:
        with self.added(late={}, a_later={}):
            for reader in ("default", "late", "a_later"):
                for writer in ("default", "late", "a_later"):
                    self.assertFollows(reader, writer)

    def test_a_copy_of_the_connection(self) -> None:
        self.titles()
        duplicate = connection.copy(alias="background")
        # django.contrib.postgres looks for it here.
        connections["background"] = duplicate
        try:
            with duplicate.cursor() as cursor:
                cursor.execute("UPDATE library_book SET title = 'Typee'")
            self.assertEqual(self.titles(), ["Typee"])
            duplicate.set_autocommit(False)
            with duplicate.cursor() as cursor:
                cursor.execute("UPDATE library_book SET title = 'Omoo'")
            duplicate.commit()
            self.assertEqual(self.titles(), ["Omoo"])
        finally:
            duplicate.close()
            del connections["background"]

    def test_a_database_whose_aliases_all_come_later(self) -> None:
        place = {"NAME": "elsewhere", "HOST": "localhost"}
        with self.added(late=place):
            (key,) = version_keys("late", frozenset({"t"}))
            with self.added(a_later=place):
                self.assertEqual(version_keys("late", frozenset({"t"})), (key,))
                self.assertEqual(version_keys("a_later", frozenset({"t"})), (key,))

    @of_sqlite
    def test_a_uri_of_the_file(self) -> None:
        uri = f"file:{connection.settings_dict['NAME']}?mode=ro"
        with self.added(readonly={"NAME": uri}):
            self.assertFollows("readonly", "default")

    @of_sqlite
    def test_a_second_path_of_the_file(self) -> None:
        path = f"{connection.settings_dict['NAME']}.link"
        os.link(connection.settings_dict["NAME"], path)
        try:
            with self.added(hard={"NAME": path}):
                self.assertFollows("hard", "default")
                self.assertFollows("default", "hard")
        finally:
            os.unlink(path)

    @of_postgresql
    def test_another_spelling_of_the_host(self) -> None:
        with self.added(direct={"HOST": "127.0.0.01"}):
            self.assertFollows("direct", "default")
            self.assertFollows("default", "direct")
            # By now both servers have said who they are.
            self.assertEqual(len(databases._asked), 2)
            self.assertFollows("direct", "default")
            with self.added(elsewhere={"HOST": "127.0.0.001", "NAME": "postgres"}):
                connections["elsewhere"].ensure_connection()
                self.assertEqual(lookalikes_of("elsewhere"), ())
        databases._asked.clear()

    @of_postgresql
    def test_another_process_need_not_know_the_alias(self) -> None:
        if self.is_alone():
            self.skipTest("another process has a cache of its own")
        with self.added(direct={"HOST": "127.0.0.01"}):
            self.titles("direct")
            invalidate("library_book", db_alias="default")  # both are known to be one now or not
            self.titles("direct")
            code = (
                "from django.db import connections\n"
                "import copy\n"
                "connections.settings['direct'] = copy.deepcopy(connections.settings['default'])\n"
                "connections.settings['direct']['HOST'] = '127.0.0.01'\n"
                "Book.objects.update(title='Typee')"
            )
            in_process(code)
            self.assertEqual(self.titles("direct"), ["Typee"])

    def test_the_signal_is_sent_for_all(self) -> None:
        sent: list[str] = []

        def receive(db_alias: str, **kwargs: Any) -> None:
            sent.append(db_alias)

        post_invalidation.connect(receive)
        self.addCleanup(post_invalidation.disconnect, receive)
        with self.added(late={}):
            Book.objects.using("late").update(title="Typee")
        self.assertEqual(sent, ["default", "mirror", "late"])
