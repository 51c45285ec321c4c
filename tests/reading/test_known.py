"""Queries that were compiled before: not compiled again, and never taken for others."""

from __future__ import annotations

import uuid
from typing import Any
from unittest import mock

from django.db import DataError, connection, transaction
from django.db.models import Count, Sum, Value
from django.db.models.lookups import Exact
from django.db.models.sql.compiler import SQLCompiler
from django.test import override_settings

from cachalot.api import cachalot_disabled
from cachalot.core.connection.ready import ready_of
from cachalot.core.connection.state import state_of
from cachalot.core.reading import known
from cachalot.settings import cachalot_settings
from tests.library.models import Author, Book
from tests.support import CacheTestCase


def compiles(read: Any) -> int:
    """Return how many times ``read()`` compiles a query."""
    with mock.patch.object(
        SQLCompiler, "as_sql", autospec=True, side_effect=SQLCompiler.as_sql
    ) as (as_sql):
        # A method in another's place ends all recalling.
        with mock.patch.object(known, "is_djangos", return_value=True):
            read()
    return as_sql.call_count


@mock.patch.object(known, "compares", False)
class KnownTests(CacheTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.author = Author.objects.create(name="A")
        self.book = Book.objects.create(title="T", pages=5, author=self.author)

    def test_the_same_query_is_compiled_once(self) -> None:
        for read in (
            lambda: list(Book.objects.filter(title__contains="T")),
            lambda: list(Book.objects.select_related("author")),
            lambda: list(Author.objects.annotate(n=Count("books")).order_by("-n")),
            lambda: Book.objects.filter(pages__gt=1).exists(),
            lambda: Book.objects.count(),
            lambda: list(Author.objects.prefetch_related("books")),
        ):
            read()
            self.assertEqual(compiles(read), 0, read)

    def test_another_value_of_an_open_query_is_not_compiled(self) -> None:
        for read in (
            lambda value: Book.objects.filter(pages=value).first(),
            lambda value: Book.objects.filter(author=value).exists(),
            lambda value: list(Book.objects.filter(pk__in=[value, value + 1])),
            lambda value: list(Book.objects.filter(title=f"T{value}", pages=value)),
            lambda value: list(Book.objects.annotate(x=Value(7)).filter(pages=value)),
            lambda value: list(Book.objects.values_list("title").filter(pages=value)),
        ):
            read(1)
            self.assertEqual(compiles(lambda read=read: read(2)), 0)

    def test_another_value_of_a_closed_one_is(self) -> None:
        for read in (
            lambda value: list(Book.objects.filter(title__contains=value)),
            lambda value: list(Book.objects.filter(pages__gt=int(value))),
            lambda value: list(Book.objects.filter(price=int(value))),
        ):
            read("1")
            self.assertEqual(compiles(lambda read=read: read("2")), 1)

    def test_rows_are_those_of_the_value(self) -> None:
        others = [Book.objects.create(title=str(pages), pages=pages) for pages in range(10)]
        for _ in range(2):
            for book in others:
                found = Book.objects.filter(pages=book.pages, title=book.title).get()
                self.assertEqual(found, book)
                self.assertEqual(
                    list(Book.objects.filter(pk__in=[book.pk, self.book.pk]).order_by("pk")),
                    sorted([book, self.book], key=lambda each: each.pk),
                )

    def test_equal_values_in_a_list_are_written_once(self) -> None:
        other = Book.objects.create(title="U")
        pks = [self.book.pk, other.pk]
        for keys, count in ((pks, 2), (pks[:1] * 2, 1), (pks[::-1], 2), ([*pks, None], 2)):
            for _ in range(2):
                self.assertEqual(len(Book.objects.filter(pk__in=keys)), count)

    def test_a_constant_is_not_taken_for_a_value(self) -> None:
        """A list with equal values has fewer parameters, and a constant may make up for it."""
        for pages in (1, 2, 3):
            Book.objects.update(pages=pages)
            books = Book.objects.filter(pages__in=[pages, pages])
            self.assertEqual(books.aggregate(n=Sum(Value(1))), {"n": 1})
            self.assertEqual([book.n for book in books.annotate(n=Sum(Value(1)))], [1])

    def test_a_value_out_of_its_column_s_range_has_no_rows(self) -> None:
        self.assertEqual(list(Book.objects.filter(pages=5)), [self.book])
        for value in (2**70, -(2**70)):
            for _ in range(2):
                try:
                    found = list(Book.objects.filter(pages=value))
                except (OverflowError, DataError):  # Django 4.2 asks, and drivers refuse
                    continue
                self.assertEqual(found, [])
        self.assertEqual(list(Book.objects.filter(pages=5)), [self.book])

    def test_true_is_not_one(self) -> None:
        for _ in range(2):
            self.assertEqual(len(Book.objects.annotate(x=Value(1)).filter(pages=5)), 1)
            rows = Book.objects.annotate(x=Value(True)).filter(pages=5).values_list("x")
            self.assertIs(type(rows[0][0]), bool)

    def test_uuids(self) -> None:
        for _ in range(2):
            self.assertEqual(Book.objects.filter(code=self.book.code).get(), self.book)
            self.assertFalse(Book.objects.filter(code=uuid.uuid4()).exists())

    def test_an_empty_query_asks_nobody(self) -> None:
        for _ in range(2):
            with self.assertNumQueries(0):
                self.assertEqual(list(Book.objects.filter(pk__in=[])), [])

    def test_what_is_written_in_a_transaction_is_read_in_it(self) -> None:
        self.assertEqual(Book.objects.filter(pages=5).count(), 1)
        with transaction.atomic():
            self.assertEqual(Book.objects.filter(pages=5).count(), 1)
            Book.objects.create(title="U", pages=5)
            self.assertEqual(Book.objects.filter(pages=5).count(), 2)
        self.assertEqual(Book.objects.filter(pages=5).count(), 2)

    def test_settings_end_what_is_known(self) -> None:
        list(Book.objects.filter(pages=5))
        with override_settings(CACHALOT_UNCACHABLE_TABLES=["library_book"]):
            for _ in range(2):
                with self.assertNumQueries(1):
                    list(Book.objects.filter(pages=5))

    def test_a_method_in_django_s_place_ends_it(self) -> None:
        def as_sql(self: Any, compiler: Any, connection: Any) -> Any:
            sql, params = original(self, compiler, connection)
            return f"{sql} AND 1 = 0", params

        list(Book.objects.filter(pages=5))
        original = Exact.as_sql
        with mock.patch.object(Exact, "as_sql", as_sql):
            cachalot_settings.reload()
            for _ in range(2):
                self.assertEqual(list(Book.objects.filter(pages=5)), [])
        cachalot_settings.reload()
        self.assertEqual(list(Book.objects.filter(pages=5)), [self.book])

    def test_the_switch(self) -> None:
        list(Book.objects.filter(pages=5))
        with mock.patch.object(known, "is_on", False):
            self.assertEqual(compiles(lambda: list(Book.objects.filter(pages=5))), 1)

    def test_the_cache_off_compiles_as_ever(self) -> None:
        list(Book.objects.filter(pages=5))
        with cachalot_disabled():
            self.assertEqual(len(Book.objects.filter(pages=5)), 1)
            self.assertEqual(len(Book.objects.filter(pages=6)), 0)

    def test_not_more_are_kept_than_may_be(self) -> None:
        with mock.patch.object(known, "_MAX_KNOWN", 10):
            for number in range(50):
                list(Book.objects.filter(title__contains=str(number)))
                self.assertLessEqual(len(known._known), 11)


class ComparingTests(CacheTestCase):
    def test_a_difference_is_found(self) -> None:
        with mock.patch.object(known, "compares", True):
            list(Book.objects.filter(pages=5))
            place, one = next(
                (place, one) for place, one in known._known.items() if "pages" in one.sql
            )
            list(Book.objects.filter(pages=5))
            known._known[place] = one._replace(sql=one.sql + " ")
            with self.assertRaises(AssertionError):
                list(Book.objects.filter(pages=5))


class ReadyTests(CacheTestCase):
    def test_what_is_not_common_takes_the_long_way(self) -> None:
        list(Book.objects.all())
        self.assertIsNotNone(ready_of(connection, state_of(connection)))
        with cachalot_disabled():
            self.assertIsNone(ready_of(connection, state_of(connection)))
        with connection.execute_wrapper(lambda execute, *args: execute(*args)):
            self.assertIsNone(ready_of(connection, state_of(connection)))
        with override_settings(CACHALOT_DATABASES=[]):
            self.assertIsNone(ready_of(connection, state_of(connection)))
        self.assertIsNotNone(ready_of(connection, state_of(connection)))
