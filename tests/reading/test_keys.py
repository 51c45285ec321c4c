"""A query's key tells whose rows it asks for, a table's key which table of which database."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

from django.core.cache import caches
from django.core.cache.backends.base import memcache_key_warnings
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections
from django.test import SimpleTestCase, override_settings
from django.utils.connection import ConnectionDoesNotExist

from cachalot.core.connection import origin
from cachalot.core.connection.state import state_of
from cachalot.core.schema.introspection import SCHEMA
from cachalot.core.schema.version_keys import version_keys
from cachalot.utils import get_query_cache_key, get_table_cache_key
from tests import keygens
from tests.library.models import Author, Book, OddlyNamed, Tag
from tests.settings import CACHE
from tests.support import CacheTestCase, in_process, versions_in_cache


def key_of(queryset: Any, using: str = "default") -> str:
    return get_query_cache_key(queryset.query.get_compiler(using))


@contextlib.contextmanager
def changed(**attributes: Any) -> Iterator[None]:
    """Change attributes of the connection, as tenant middlewares do."""
    with contextlib.ExitStack() as stack:
        for name, value in attributes.items():
            patch = mock.patch.object(connections["default"], name, value, create=True)
            stack.enter_context(patch)
        yield


@contextlib.contextmanager
def pointed_at(**settings: Any) -> Iterator[None]:
    """Change the connection's own settings, as test runners and middlewares do."""
    with mock.patch.dict(connection.settings_dict, settings):
        yield


class QueryKeyTests(CacheTestCase):
    databases = {"default", "mirror", "other"}

    def setUp(self) -> None:
        connection.ensure_connection()
        self.queryset = Book.objects.filter(pages=1)
        self.key = key_of(self.queryset)

    def test_equal_queries_have_one_key(self) -> None:
        self.assertEqual(key_of(Book.objects.filter(pages=1)), self.key)
        self.assertEqual(key_of(Book.objects.filter(pages="1")), self.key)

    def test_sql_and_parameters_tell_keys_apart(self) -> None:
        querysets = [
            self.queryset,
            Book.objects.filter(pages=2),
            Book.objects.filter(pages__gt=1),
            Book.objects.filter(pages=1).order_by("pk"),
            Book.objects.filter(pages=1)[:1],
            Book.objects.filter(title="1"),
            Book.objects.extra(where=["pages = %s"], params=[1]),
            Book.objects.extra(where=["pages = %s"], params=["1"]),
            Book.objects.extra(where=["pages = %s"], params=[True]),
            Book.objects.extra(where=["pages = 1"]),
            Book.objects.filter(details={"a": "x" * 100}),
            Book.objects.filter(details={"a": "x" * 101}),
            Book.objects.filter(cover=b"x" * 100),
            Book.objects.filter(cover=b"x" * 101),
            Author.objects.filter(pk=1),
            Tag.objects.filter(pk=1),
        ]
        self.assertEqual(len({key_of(queryset) for queryset in querysets}), len(querysets))

    def test_whose_rows_they_are_tells_keys_apart(self) -> None:
        keys = [self.key]

        def note() -> None:
            keys.append(key_of(self.queryset))

        name = str(connection.settings_dict["NAME"])
        for settings in (
            {"NAME": f"{name}_1"},
            {"HOST": "replica.example.com"},
            {"PORT": "6543"},
            {"USER": "bob"},
            {"OPTIONS": {"options": "-c search_path=a"}},
            {"OPTIONS": {"options": "-c search_path=b"}},
            {"OPTIONS": {"init_command": "SET sql_mode = 'ANSI'"}},
            {"OPTIONS": {"assume_role": "bob"}},
        ):
            with pointed_at(**settings):
                note()
        for attributes in (
            {"schema_name": "tenant_1"},
            {"schema_name": "tenant_2"},
            {"schema_name": "tenant_1", "include_public_schema": False},
            {"alias": "another"},
            {"timezone_name": "Europe/Paris"},
        ):
            with changed(**attributes):
                note()
        with override_settings(USE_TZ=False):
            note()
        state_of(connection).session.make_unique()
        note()
        state_of(connection).session.clear()
        self.assertEqual(len(set(keys)), len(keys))
        # All of it was put back.
        self.assertEqual(key_of(self.queryset), self.key)

    def test_aliases_of_one_database_have_their_own(self) -> None:
        keys = {alias: key_of(self.queryset, alias) for alias in ("default", "mirror", "other")}
        self.assertEqual(len(set(keys.values())), 3)

    def test_keys_are_fit_for_every_cache(self) -> None:
        keys = [self.key, *version_keys("default", frozenset({"library_book", "odd name", "x\n"}))]
        for key in keys:
            self.assertTrue(key.startswith("cachalot:"), key)
            self.assertEqual(list(memcache_key_warnings(f":1:{key}:1")), [])
            self.assertLess(len(key), 100)

    def test_tenants_do_not_see_each_others_rows(self) -> None:
        Book.objects.create(title="Typee", pages=1)

        def read() -> list[str]:
            return [book.title for book in self.queryset.all()]

        with changed(schema_name="one"):
            self.assertCached(read)
        with changed(schema_name="two"):
            self.assertCached(read)
            Book.objects.update(title="Omoo")
        # Too much is invalidated, never too little.
        with changed(schema_name="one"):
            self.assertMisses(read)


class ProcessTests(CacheTestCase):
    def test_keys_are_the_same_in_another_process(self) -> None:
        expected = keys_of_a_process()
        for seed in ("1", "2"):
            keys = in_process(
                "result = keys_of_a_process()", "tests.reading.test_keys", PYTHONHASHSEED=seed
            )
            self.assertEqual(keys, expected)

    def test_another_process_hits(self) -> None:
        if CACHE == "locmem":
            self.skipTest("LocMemCache is one process's own")
        Book.objects.create(title="Moby Dick", details={"seas": [1]})
        list(Book.objects.filter(details={"seas": [1]}, title="Moby Dick"))
        queries = in_process(
            "from tests.support import count_queries\n"
            "books = Book.objects.filter(details={'seas': [1]}, title='Moby Dick')\n"
            "rows, result = count_queries(lambda: list(books))\n"
            "assert [book.title for book in rows] == ['Moby Dick']"
        )
        self.assertEqual(queries, 0)


def keys_of_a_process() -> list[str]:
    connection.ensure_connection()
    return [
        key_of(Book.objects.filter(details={"b": 1, "a": 2}, title="x", cover=b"y")),
        key_of(Author.objects.filter(pk__in=[3, 1, 2])),
        *version_keys("default", frozenset({"library_book", "library_author"})),
    ]


class TableKeyTests(SimpleTestCase):
    databases = {"default", "mirror", "other"}

    def test_all_spellings_share_a_key(self) -> None:
        spellings = [
            "app_book",
            "App_Book",
            '"App_Book"',
            "`app_book`",
            "public.app_book",
            '"public"."App_Book"',
            "[dbo].[app_book]",
        ]
        self.assertEqual(len({get_table_cache_key("default", name) for name in spellings}), 1)

    def test_tables_and_databases_are_told_apart(self) -> None:
        keys = [
            get_table_cache_key(alias, table)
            for alias in ("default", "other")
            for table in ("app_book", "app_books", "app_boo", "k", OddlyNamed._meta.db_table)
        ]
        self.assertEqual(len(set(keys)), len(keys))

    def test_aliases_of_one_database_share_them(self) -> None:
        tables = frozenset({"a", "b"})
        self.assertEqual(version_keys("default", tables), version_keys("mirror", tables))
        self.assertTrue(
            set(version_keys("default", tables)).isdisjoint(version_keys("other", tables))
        )
        self.assertEqual(get_table_cache_key("mirror", "a"), get_table_cache_key("default", "a"))

    @override_settings(CACHALOT_TABLE_KEYGEN=lambda db_alias, table: f"{db_alias}.{table}")
    def test_aliases_of_one_database_share_them_whatever_the_generator(self) -> None:
        tables = frozenset({"a", "b"})
        self.assertEqual(version_keys("mirror", tables), ("default.a", "default.b"))
        self.assertEqual(version_keys("other", tables), ("other.a", "other.b"))

    def test_tenants_share_them(self) -> None:
        key = get_table_cache_key("default", "app_book")
        with changed(schema_name="tenant"):
            self.assertEqual(get_table_cache_key("default", "app_book"), key)

    def test_clones_of_a_test_run_do_not(self) -> None:
        keys = []
        for name in ("shop", "test_shop", "test_shop_1", "test_shop_2", "test_shop_gw0"):
            for path in (name, f"/tmp/{name}.sqlite3"):
                with pointed_at(NAME=path):
                    keys.append(version_keys("default", frozenset({"app_book"})))
                    self.assertEqual(keys[-1], version_keys("mirror", frozenset({"app_book"})))
        # How a database that is no test's is called does not count: a pooler may rename it.
        self.assertEqual(keys.pop(0), keys.pop(0))
        self.assertEqual(len(set(keys)), len(keys))

    def test_databases_in_memory_do_not(self) -> None:
        with pointed_at(NAME="file:memorydb_default?mode=memory&cache=shared"):
            here = get_table_cache_key("default", "app_book")
            with mock.patch.object(origin, "process", "another"):
                self.assertNotEqual(get_table_cache_key("default", "app_book"), here)

    def test_the_schema_is_no_table(self) -> None:
        tables = frozenset({"schema", SCHEMA})
        self.assertEqual(len(version_keys("default", tables)), 2)
        keygens.calls.clear()
        with override_settings(CACHALOT_TABLE_KEYGEN=keygens.prefixed_table_key):
            self.assertEqual(len(version_keys("default", tables)), 2)
        self.assertEqual({table for _, table in keygens.calls}, {"schema"})

    @override_settings(CACHALOT_TABLE_KEYGEN="tests.keygens.table_key_of_a_tenant")
    def test_a_generator_does_not_know_who_asks(self) -> None:
        tables = frozenset({"a", "b"})
        expected = [f"public-{get_table_cache_key('default', table)}" for table in tables]
        with changed(schema_name="north"), self.assertLogs("cachalot", "WARNING") as logged:
            self.assertEqual(set(version_keys("default", tables)), set(expected))
        self.assertIn("CACHALOT_QUERY_KEYGEN", logged.output[0])
        self.assertIn("a, b", logged.output[0])

    def test_what_has_no_key(self) -> None:
        for arguments, error, message in (
            ((Author.objects.all(),), TypeError, "A QuerySet is no SQLCompiler; of a queryset, "),
            (("x",), TypeError, "A str is no SQLCompiler; of a queryset, pass queryset.query"),
            (("default", Author), TypeError, "of a model, pass Model._meta.db_table."),
            (("defualt", "a"), ConnectionDoesNotExist, "Did you mean 'default'?"),
            ((None, "a"), ConnectionDoesNotExist, "The database None does not exist; DATABASES"),
        ):
            function: Any = get_query_cache_key if len(arguments) == 1 else get_table_cache_key
            with self.subTest(message), self.assertRaisesMessage(error, message):
                function(*arguments)

    @override_settings(CACHALOT_QUERY_KEYGEN=lambda compiler: 42)
    def test_a_generator_that_gives_no_text(self) -> None:
        with self.assertRaisesMessage(ImproperlyConfigured, "which has returned 42. Have it"):
            Author.objects.exists()

    @override_settings(CACHALOT_TABLE_KEYGEN=lambda db_alias, table: 1 / 0)
    def test_what_a_generator_raises_is_raised(self) -> None:
        with self.assertRaises(ZeroDivisionError):
            version_keys("default", frozenset({"a"}))

    @override_settings(CACHALOT_TABLE_KEYGEN=lambda db_alias, table: f"key-of-{table}")
    def test_a_generator_is_asked_where_no_thread_can_be_started(self) -> None:
        with mock.patch("threading.Thread.start", side_effect=RuntimeError("no more threads")):
            self.assertEqual(version_keys("default", frozenset({"a"})), ("key-of-a",))


class GeneratorTests(CacheTestCase):
    def setUp(self) -> None:
        Book.objects.create(title="Moby Dick")
        keygens.calls.clear()
        self.cache = caches["default"]

    def read(self) -> list[str]:
        return [book.title for book in Book.objects.all()]

    @override_settings(
        CACHALOT_QUERY_KEYGEN="tests.keygens.prefixed_query_key", CACHALOT_LOCAL_SIZE=0
    )
    def test_an_entry_lies_under_the_generated_key(self) -> None:
        self.assertCached(self.read)
        ((compiler,), *_) = keygens.calls
        self.assertIs(compiler.query.model, Book)
        self.assertIs(compiler.connection, connections["default"])
        sql, params = compiler.as_sql()
        self.assertIn("library_book", sql)
        self.assertEqual(list(params), [])
        key = f"query-of-the-project:{key_of(Book.objects.all())}"
        self.assertIn(key, self.cache)
        self.assertNotIn(key_of(Book.objects.all()), self.cache)
        self.cache.delete(key)
        self.assertMisses(self.read)

    @override_settings(CACHALOT_QUERY_KEYGEN=keygens.prefixed_query_key)
    def test_a_function_will_do(self) -> None:
        self.assertCached(self.read)
        self.assertTrue(keygens.calls)

    @override_settings(CACHALOT_QUERY_KEYGEN="tests.keygens.fixed_query_key")
    def test_a_single_row_has_a_key_of_its_own(self) -> None:
        """Even a generator that tells no queries apart never mixes one row with many."""
        self.assertEqual(self.assertCached(self.read), ["Moby Dick"])
        self.assertEqual(self.assertCached(Book.objects.count), 1)
        self.assertHits(self.read)
        self.assertIn("fixed", self.cache)
        self.assertIn("fixed:1", self.cache)

    @override_settings(CACHALOT_QUERY_KEYGEN="tests.keygens.refusing_query_key")
    def test_a_generator_may_refuse(self) -> None:
        self.assertNeverCached(self.read)

    @override_settings(CACHALOT_TABLE_KEYGEN="tests.keygens.prefixed_table_key")
    @versions_in_cache
    def test_a_version_lies_under_the_generated_key(self) -> None:
        self.assertCached(self.read)
        self.assertIn(("default", "library_book"), keygens.calls)
        key = f"table-of-the-project:{get_table_cache_key('default', 'library_book')}"
        self.assertIn(key, self.cache)
        Book.objects.update(title="Omoo")
        self.assertCached(self.read)
        self.cache.delete(key)
        self.assertMisses(self.read)

    @override_settings(CACHALOT_TABLE_KEYGEN="tests.keygens.one_key_for_all_tables")
    def test_tables_may_share_a_key(self) -> None:
        self.assertCached(self.read)
        self.assertCached(lambda: list(Book.objects.values("author__name")))
        Tag.objects.create(name="whales")
        self.assertMisses(self.read)

    def test_another_generator_takes_effect_at_once(self) -> None:
        self.assertCached(self.read)
        with override_settings(CACHALOT_QUERY_KEYGEN="tests.keygens.prefixed_query_key"):
            self.assertCached(self.read)
        self.assertHits(self.read)
        with override_settings(CACHALOT_TABLE_KEYGEN="tests.keygens.prefixed_table_key"):
            self.assertCached(self.read)
        # The entry is the same, and has the versions of other keys by now.
        self.assertCached(self.read)
