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

from cachalot.core.connection import origin
from cachalot.core.connection.state import state_of
from cachalot.utils import get_query_cache_key
from tests.library.models import Author
from tests.support import CacheTestCase, in_process

WRITTEN_IN_A_FORK = """
import os
with connection.schema_editor() as editor:
    editor.create_model(Tag)
Tag.objects.create(name="a")
read = lambda: sorted(Tag.objects.values_list("name", flat=True))
result = [read()]
reading, writing = os.pipe()
child = os.fork()
if not child:
    read()
    Tag.objects.create(name="b")
    os.write(writing, json.dumps(read()).encode())
    os._exit(0)
os.waitpid(child, 0)
os.close(writing)
result.append(json.loads(os.read(reading, 1000)))
"""


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

    def test_processes_of_one_number_are_told_apart(self) -> None:
        """As those of two containers are, or one that is forked when another has ended."""
        for name in (":memory:", "file:memorydb_default?mode=memory&cache=shared"):
            one = memory(name)
            here = key_on(one)
            with mock.patch.object(origin, "process", "another"):
                self.assertNotEqual(key_on(one), here)
            self.assertEqual(key_on(one), here)

    @pytest.mark.skipif("not hasattr(os, 'fork')")
    def test_a_forked_process_is_another_one(self) -> None:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.write(writing, origin.process.encode())
            os._exit(0)
        os.waitpid(child, 0)
        os.close(writing)
        with os.fdopen(reading) as answer:
            self.assertNotEqual(answer.read(), origin.process)

    @pytest.mark.skipif("not hasattr(os, 'fork')")
    def test_a_forked_process_reads_what_it_writes(self) -> None:
        """What its parent has written says nothing of the keys of its own database."""
        for name in (":memory:", "file:memorydb_default?mode=memory&cache=shared"):
            titles = in_process(
                WRITTEN_IN_A_FORK,
                CACHALOT_TEST_DB="sqlite",
                CACHALOT_TEST_CACHE="locmem",
                CACHALOT_TEST_NAME=name,
            )
            self.assertEqual(titles, [["a"], ["a", "b"]], name)

    def test_files_are_shared_by_all_processes(self) -> None:
        one = memory("library.sqlite3")
        here = key_on(one)
        with mock.patch.object(os, "getpid", return_value=-1):
            self.assertEqual(key_on(one), here)


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
