"""Threads that share one connection, or what the process remembers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from unittest import mock

import pytest
from django.db import connection, connections, transaction
from django.test import override_settings

from cachalot.core.connection.state import state_of
from cachalot.core.reading import keys
from cachalot.core.schema import asking, catalogue
from tests.library.models import Author, Tag
from tests.support import CacheTestCase, close_caches, in_thread


def names() -> list[str]:
    return sorted(Author.objects.values_list("name", flat=True))


@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="its connections can be shared")
class SharedConnectionTests(CacheTestCase):
    """As ``LiveServerTestCase`` has them on SQLite in memory."""

    def setUp(self) -> None:
        Author.objects.create(name="A")
        connection.inc_thread_sharing()
        self.addCleanup(connection.dec_thread_sharing)

    def run_in_thread_sharing(self, function: Callable[[], object]) -> None:
        shared = connections["default"]
        errors: list[BaseException] = []

        def run() -> None:
            connections["default"] = shared
            try:
                function()
            except BaseException as error:
                errors.append(error)
            finally:
                del connections["default"]
                close_caches()

        thread = threading.Thread(target=run)
        thread.start()
        thread.join(20)
        self.assertEqual(errors, [])

    def test_a_raw_write_during_a_read_of_another_thread_is_seen(self) -> None:
        names()

        def write() -> None:
            with connections["default"].cursor() as cursor:
                cursor.execute("UPDATE library_author SET name = 'B'")

        def interrupt(execute, sql, params, many, context):
            if threading.current_thread() is main and sql.startswith("SELECT"):
                self.run_in_thread_sharing(write)
            return execute(sql, params, many, context)

        main = threading.current_thread()
        with connection.execute_wrapper(interrupt):
            list(Tag.objects.all())
        self.assertEqual(self.assertMisses(names), ["B"])

    def test_a_write_during_a_write_of_another_thread_is_seen(self) -> None:
        names()

        def interrupt(execute, sql, params, many, context):
            if threading.current_thread() is main and sql.startswith("INSERT"):
                self.run_in_thread_sharing(lambda: Author.objects.update(name="B"))
                names()
            return execute(sql, params, many, context)

        main = threading.current_thread()
        with connection.execute_wrapper(interrupt):
            Tag.objects.create(name="t")
            Author.objects.create(name="C")
        self.assertEqual(self.assertMisses(names), ["B", "C"])
        self.assertEqual(state_of(connection).running.pending(), frozenset())

    def test_a_raw_write_just_before_the_query_of_another_thread_is_seen(self) -> None:
        names()

        def write() -> None:
            with connections["default"].cursor() as cursor:
                cursor.execute("UPDATE library_author SET name = 'B'")

        def interrupt(cursor: object) -> object:
            if threading.current_thread() is main:
                self.run_in_thread_sharing(write)
            return make_cursor(cursor)

        main = threading.current_thread()
        make_cursor = connection.make_cursor
        with mock.patch.object(connections["default"], "make_cursor", interrupt):
            list(Tag.objects.all())
        self.assertEqual(self.assertMisses(names), ["B"])

    def test_a_transaction_is_of_the_connection(self) -> None:
        """Whichever of its threads reads or writes."""
        seen = []
        names()
        with transaction.atomic():
            Author.objects.create(name="B")
            self.run_in_thread_sharing(lambda: seen.append(names()))
            self.run_in_thread_sharing(lambda: Author.objects.create(name="C"))
            self.assertEqual(seen, [["A", "B"]])
            self.assertEqual(names(), ["A", "B", "C"])
        self.assertEqual(names(), ["A", "B", "C"])

    def test_reads_are_shared(self) -> None:
        names()
        self.run_in_thread_sharing(lambda: self.assertHits(names))


class ForgettingTests(CacheTestCase):
    """What one thread forgets, another one may just be deriving something from."""

    def setUp(self) -> None:
        Author.objects.create(name="A")
        self.addCleanup(catalogue.forget)

    def test_a_plan_that_was_being_made_when_a_setting_changed(self) -> None:
        def change_setting(*args: object) -> object:
            mock.patch.stopall()
            in_thread(self.exclude_authors)
            return keys.digest_before_params(*args)

        self.addCleanup(lambda: self.excluding.disable())
        # The last step of a plan: why it is refused has been decided.
        mock.patch("cachalot.core.reading.compiled.digest_before_params", change_setting).start()
        self.addCleanup(mock.patch.stopall)
        names()
        self.assertNeverCached(names)

    def exclude_authors(self) -> None:
        self.excluding = override_settings(CACHALOT_UNCACHABLE_TABLES=["library_author"])
        self.excluding.enable()

    def test_a_catalogue_that_was_being_read_when_the_schema_changed(self) -> None:
        catalogue.forget()
        read = asking.ask
        new = read(connection, False)
        old = replace(new, functions=frozenset({"gone"}))

        def change_schema(connection: object, is_thorough: bool) -> object:
            mock.patch.stopall()
            # As another thread does that learns of the change.
            catalogue.forget()
            catalogue.catalogue_of(connection)
            return old

        mock.patch.object(asking, "ask", change_schema).start()
        self.addCleanup(mock.patch.stopall)
        catalogue.catalogue_of(connection)
        self.assertEqual(catalogue.catalogue_of(connection), new)
