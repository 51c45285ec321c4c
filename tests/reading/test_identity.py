"""Two databases never share an entry, even where their names are the same."""

from __future__ import annotations

import os
from typing import Any
from unittest import mock

import pytest
from django import VERSION
from django.db import connections
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.test import SimpleTestCase

from cachalot.core.connection.state import state_of
from cachalot.core.schema.tables import _database_identity, aliases_of_database
from cachalot.settings import cachalot_settings
from cachalot.utils import get_query_cache_key
from tests.library.models import Author
from tests.support import CacheTestCase


def key_on(connection: Any) -> str:
    return get_query_cache_key(Author.objects.all().query.get_compiler(connection=connection))


def memory(name: str) -> DatabaseWrapper:
    settings = {**connections["other"].settings_dict, "NAME": name}
    return DatabaseWrapper(settings, "default")


class MemoryTests(SimpleTestCase):
    def test_each_connection_to_a_database_in_memory_is_a_database(self) -> None:
        one, other = memory(":memory:"), memory(":memory:")
        self.assertNotEqual(key_on(one), key_on(other))
        self.assertEqual(key_on(one), key_on(one))
        before = key_on(one)
        state_of(one).reset()  # as a new physical connection does
        self.assertNotEqual(key_on(one), before)

    def test_a_shared_one_is_the_processs_own(self) -> None:
        name = "file:memorydb_default?mode=memory&cache=shared"
        one, other = memory(name), memory(name)
        self.assertEqual(key_on(one), key_on(other))
        here = key_on(one)
        with mock.patch.object(os, "getpid", return_value=-1):
            self.assertNotEqual(key_on(one), here)

    def test_files_are_shared_by_all_processes(self) -> None:
        one = memory("library.sqlite3")
        here = key_on(one)
        with mock.patch.object(os, "getpid", return_value=-1):
            self.assertEqual(key_on(one), here)


class AliasTests(SimpleTestCase):
    databases = {"default"}

    def group(self, **databases: dict[str, Any]) -> dict[str, tuple[str, ...]]:
        settings = {
            alias: {"NAME": "", "HOST": "", "PORT": "", "TEST": {}, **database}
            for alias, database in databases.items()
        }

        class Handler(dict):
            settings: dict[str, Any] = {}

        handler = Handler()
        handler.settings = settings
        for alias, database in settings.items():
            handler[alias] = mock.Mock(vendor=database.pop("vendor", "postgresql"))
        cachalot_settings.forget()
        self.addCleanup(cachalot_settings.forget)
        with mock.patch("cachalot.core.schema.tables.connections", handler):
            return {alias: aliases_of_database(alias) for alias in settings}

    def test_equal_databases_are_one(self) -> None:
        for first, second in (
            ({"NAME": "a"}, {"NAME": "a"}),
            ({"NAME": "a", "HOST": "localhost"}, {"NAME": "a", "HOST": "127.0.0.1"}),
            ({"NAME": "a", "HOST": "/run/postgresql"}, {"NAME": "a"}),
            ({"NAME": "a", "HOST": "db", "PORT": "5432"}, {"NAME": "a", "HOST": "DB"}),
            ({"NAME": "a", "USER": "x"}, {"NAME": "a", "USER": "y"}),
            ({"NAME": "a"}, {"NAME": "b", "TEST": {"MIRROR": "default"}}),
            ({"vendor": "sqlite", "NAME": "./a.db"}, {"vendor": "sqlite", "NAME": "a.db"}),
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
        ):
            with self.subTest(first=first, second=second):
                self.assertEqual(self.group(default=first, another=second)["another"], ("another",))

    def test_an_alias_without_its_driver_harms_nobody(self) -> None:
        class Handler(dict):
            settings = {
                "default": {"NAME": "a"},
                "broken": {"NAME": "a"},
            }

            def __getitem__(self, alias: str) -> Any:
                if alias == "broken":
                    raise ModuleNotFoundError("No module named 'oracledb'")
                return mock.Mock(vendor="postgresql")

        cachalot_settings.forget()
        self.addCleanup(cachalot_settings.forget)
        with mock.patch("cachalot.core.schema.tables.connections", Handler()):
            self.assertEqual(aliases_of_database("default"), ("default",))
            self.assertEqual(_database_identity("broken"), "broken")

    def test_the_order_of_settings_does_not_matter(self) -> None:
        groups = self.group(zebra={"NAME": "a"}, default={"NAME": "a"}, ape={"NAME": "a"})
        self.assertEqual(groups["zebra"], ("default", "ape", "zebra"))


@pytest.mark.skipif("connections['default'].vendor != 'postgresql'")
class PoolTests(CacheTestCase):
    def test_what_was_set_on_a_pooled_connection_is_not_forgotten(self) -> None:
        """A pool hands a connection on as it was left."""
        pytest.importorskip("psycopg_pool")
        if VERSION < (5, 1):
            self.skipTest("new in Django 5.1")
        options = {"pool": {"min_size": 1, "max_size": 1}}
        settings = {**connections["default"].settings_dict, "OPTIONS": options}
        pooled = type(connections["default"])(settings, "default")
        try:
            with pooled.cursor():
                clean = key_on(pooled)
            pooled.close()
            with pooled.cursor() as cursor:
                self.assertEqual(key_on(pooled), clean)
                cursor.execute("SET search_path TO pg_catalog")
            pooled.close()
            with pooled.cursor() as cursor:
                self.assertNotEqual(key_on(pooled), clean)
                cursor.execute("SHOW search_path")
                self.assertEqual(cursor.fetchone(), ("pg_catalog",))
        finally:
            pooled.close()
            pooled.close_pool()
