"""Every ORM read is served from the cache until one of its tables changes."""

from __future__ import annotations

import asyncio
import datetime
from contextlib import nullcontext
from decimal import Decimal
from unittest import mock

from asgiref.sync import sync_to_async
from django.db import connection, transaction
from django.db.models import Avg, Count, Exists, F, OuterRef, Prefetch, Q, Subquery, Window
from django.db.models.functions import RowNumber, Upper
from django.db.models.sql import compiler as sql_compiler

from cachalot.api import invalidate
from cachalot.core.cache.entries import pack
from tests.library.models import Author, Book, Novel, OddlyNamed, Paperback, Review, Tag
from tests.support import CacheTestCase, close_connections, count_queries


class ReadTests(CacheTestCase):
    def setUp(self) -> None:
        self.author = Author.objects.create(name="Melville")
        self.book = Book.objects.create(title="Moby Dick", author=self.author, pages=635)
        self.tag = Tag.objects.create(name="whales")
        self.book.tags.add(self.tag)
        Review.objects.create(book=self.book, stars=5)

    def test_columns_selected_for_the_order_are_not_stored(self) -> None:
        """Django cuts them off, so that one text has rows of different widths."""
        for name in ("b", "a"):
            OddlyNamed.objects.create(name=name)
        numbers = [pk for pk, _ in OddlyNamed.objects.order_by("name").values_list("pk", "name")]

        def wide() -> list[tuple[int, str]]:
            return [(odd.pk, odd.name) for odd in OddlyNamed.objects.distinct().order_by("name")]

        def narrow() -> list[int]:
            deferred = OddlyNamed.objects.defer("name").distinct().order_by("name")
            return [odd.pk for odd in deferred]

        def tuples(*fields: str) -> list[tuple[object, ...]]:
            return list(OddlyNamed.objects.values_list(*fields).distinct().order_by("name"))

        for _ in range(2):
            self.assertEqual(narrow(), numbers)
            self.assertEqual(wide(), list(zip(numbers, "ab", strict=True)))
            self.assertEqual(tuples("pk"), [(number,) for number in numbers])
            self.assertEqual(tuples("pk", "name"), list(zip(numbers, "ab", strict=True)))
        for read in (narrow, wide, lambda: tuples("pk"), lambda: tuples("pk", "name")):
            self.assertHits(read)

    def test_a_second_read_runs_no_query(self) -> None:
        reads = {
            "all": lambda: list(Book.objects.all()),
            "get": lambda: Book.objects.get(pk=self.book.pk),
            "count": Book.objects.count,
            "exists": Book.objects.exists,
            "no rows exist": Book.objects.filter(title="-").exists,
            "first": Book.objects.first,
            "last": Book.objects.last,
            "latest": lambda: Book.objects.latest("pages"),
            "earliest": lambda: Book.objects.earliest("pages"),
            "in_bulk": lambda: Book.objects.in_bulk([self.book.pk]),
            "values": lambda: list(Book.objects.values("title")),
            "values_list": lambda: list(Book.objects.values_list("title", flat=True)),
            "named values": lambda: list(Book.objects.values_list("title", named=True)),
            "dates": lambda: list(Book.objects.dates("published", "year")),
            "datetimes": lambda: list(Book.objects.datetimes("published", "day")),
            "aggregate": lambda: Book.objects.aggregate(Avg("pages")),
            "aggregate of annotation": lambda: Book.objects.annotate(n=Count("reviews")).aggregate(
                Avg("n")
            ),
            "annotate": lambda: list(Book.objects.annotate(n=Count("reviews")).values("n")),
            "union": lambda: list(
                Author.objects.values_list("name").union(Tag.objects.values_list("name"))
            ),
            "distinct": lambda: list(Book.objects.values("title").distinct()),
            "slice": lambda: list(Book.objects.order_by("pk")[:5]),
            "select_related": lambda: [
                b.author.name for b in Book.objects.select_related("author")
            ],
            "sub-query": lambda: list(
                Author.objects.annotate(
                    best=Subquery(Book.objects.filter(author=OuterRef("pk")).values("title")[:1])
                ).values_list("best")
            ),
            "exists in filter": lambda: list(
                Author.objects.filter(Exists(Book.objects.filter(author=OuterRef("pk"))))
            ),
            "window": lambda: list(
                Book.objects.annotate(n=Window(RowNumber(), order_by="pk")).values_list("n")
            ),
            "inheritance": lambda: list(Novel.objects.all()),
            "proxy": lambda: list(Paperback.objects.filter(pages=635)),
            "related manager": lambda: list(self.author.books.all()),
            "many-to-many": lambda: list(self.book.tags.all()),
            "iterator": lambda: list(Book.objects.iterator()),
            "iterator in chunks": lambda: list(Book.objects.iterator(chunk_size=1)),
            "extra": lambda: list(Book.objects.extra(select={"two": "1 + 1"}).values("two")),
            "contains": lambda: Book.objects.contains(self.book),
        }
        for name, read in reads.items():
            with self.subTest(name):
                invalidate()  # some of them have their SQL, and so their entry, in common
                self.assertCached(read)

    def test_prefetch_related_is_cached(self) -> None:
        def read() -> list[tuple[str, list[str]]]:
            books = Book.objects.prefetch_related(
                Prefetch("tags", Tag.objects.order_by("name")), "reviews"
            )
            return [(book.title, [tag.name for tag in book.tags.all()]) for book in books]

        self.assertMisses(read, queries=3)
        self.assertHits(read)

    def test_rows_keep_their_types(self) -> None:
        when = datetime.datetime(2020, 2, 29, 12, 30, 15, 123456, tzinfo=datetime.timezone.utc)
        book = Book.objects.create(
            title="Typee",
            published=when,
            price=Decimal("12.50"),
            details={"seas": ["Pacific"]},
            cover=b"\x00\xff",
        )
        fields = ["published", "price", "details", "cover", "code", "author"]
        stored = Book.objects.filter(pk=book.pk).values_list(*fields)
        (missed,) = list(stored.all())
        (hit,) = list(stored.all())
        for first, second in zip(missed, hit, strict=True):
            self.assertIs(type(first), type(second))
            self.assertEqual(first, second)
        self.assertEqual(hit[:3], (when, Decimal("12.50"), {"seas": ["Pacific"]}))
        self.assertEqual(bytes(hit[3]), b"\x00\xff")

    def test_a_result_is_never_shared(self) -> None:
        Book.objects.update(details={"seas": []})
        for _ in range(3):
            book = Book.objects.get(pk=self.book.pk)
            self.assertEqual(book.details, {"seas": []})
            book.details["seas"].append("changed in place")

    def test_an_empty_result_is_cached(self) -> None:
        self.assertEqual(self.assertCached(lambda: list(Book.objects.filter(pages=1))), [])
        self.assertIs(self.assertCached(Book.objects.filter(pages=1).first), None)

    def test_a_query_that_cannot_have_rows_asks_nobody(self) -> None:
        for read in (
            lambda: list(Book.objects.none()),
            lambda: list(Book.objects.filter(pk__in=[])),
            Book.objects.filter(pk__in=[]).count,
            Book.objects.filter(pk__in=[]).first,
            lambda: list(Book.objects.filter(pk__in=[]).iterator()),
        ):
            _, queries = count_queries(read)
            self.assertEqual(queries, 0)

    def test_a_query_without_tables_is_a_read_like_others(self) -> None:
        """As ``full_clean()`` runs for a ``CheckConstraint``."""
        for _ in range(4):
            self.assertIs(Q(pages__gte=0).check({"pages": 5}), True)
            self.assertIs(Q(pages__gte=0).check({"pages": -5}), False)
        self.assertHits(lambda: Q(pages__gte=0).check({"pages": 5}))
        self.assertCached(lambda: list(Book.objects.values_list("title", flat=True)))

    def test_an_iterator_is_lazy(self) -> None:
        Book.objects.bulk_create(Book(title=f"Volume {n}") for n in range(50))
        iterator = iter(Book.objects.order_by("pk").iterator(chunk_size=10))
        next(iterator)
        iterator.close()
        # It was not read to its end, so nothing was stored.
        self.assertCached(lambda: list(Book.objects.order_by("pk").iterator(chunk_size=10)))

    def test_rows_are_streamed_in_the_chunks_asked_for(self) -> None:
        Tag.objects.bulk_create(Tag(name=str(n)) for n in range(9))
        compiler = Tag.objects.order_by("pk").values_list("name").query.get_compiler("default")
        asked = []
        original = connection.chunked_cursor

        def note() -> object:
            asked.append(True)
            return original()

        with mock.patch.object(connection, "chunked_cursor", note):
            chunks = compiler.execute_sql(chunked_fetch=True, chunk_size=4)
            self.assertEqual([len(chunk) for chunk in chunks], [4, 4, 2])
        self.assertEqual(asked, [True])

    def test_a_row_is_passed_on_before_the_next_chunk_is_fetched(self) -> None:
        Tag.objects.bulk_create(Tag(name=str(n)) for n in range(9))
        fetched = []

        def counting(original):
            def cursor_iter(*args):
                for chunk in original(*args):
                    fetched.append(len(chunk))
                    yield chunk

            return cursor_iter

        with mock.patch.object(sql_compiler, "cursor_iter", counting(sql_compiler.cursor_iter)):
            tags = iter(Tag.objects.iterator(chunk_size=2))
            next(tags)
            self.assertEqual(fetched, [2])
            list(tags)
            self.assertEqual(sum(fetched), 10)

    def test_a_long_iterator_is_not_kept(self) -> None:
        Tag.objects.bulk_create(Tag(name=str(n)) for n in range(9))
        with mock.patch("cachalot.core.reading.results.MAX_ENTRY_BYTES", 80):
            self.assertNeverCached(lambda: list(Tag.objects.iterator(chunk_size=3)))
            with mock.patch("cachalot.core.reading.results.pack", wraps=pack) as packed:
                self.assertEqual(len(list(Tag.objects.iterator(chunk_size=1))), 10)
            # Nothing more is kept aside once it is too much.
            self.assertLess(packed.call_count, 8)
        self.assertCached(lambda: list(Tag.objects.iterator(chunk_size=3)))

    def test_a_cell_that_can_be_changed_in_place_is_never_shared(self) -> None:
        """As a driver's lists are, which no converter copies."""

        def listing(original):
            def cursor_iter(*args):
                for chunk in original(*args):
                    yield [(["whales"], *row[1:]) for row in chunk]

            return cursor_iter

        def read() -> None:
            for (cell,) in rows():
                self.assertEqual(cell, ["whales"])
                cell.append("changed in place")

        queryset = Tag.objects.values_list("name")
        for rows in (
            lambda: list(queryset.all()),
            lambda: [queryset.get()],
            lambda: queryset.iterator(),
        ):
            invalidate()
            for is_atomic in (False, True):
                with (
                    self.subTest(rows, is_atomic=is_atomic),
                    mock.patch.object(
                        sql_compiler, "cursor_iter", listing(sql_compiler.cursor_iter)
                    ),
                    transaction.atomic() if is_atomic else nullcontext(),
                ):
                    if is_atomic:
                        Tag.objects.update(name="whales")
                    for _ in range(3):
                        read()
                    _, queries = count_queries(read)
                    self.assertEqual(queries, 0)

    def test_an_iterator_and_a_list_share_their_entry(self) -> None:
        self.assertMisses(lambda: list(Book.objects.order_by("pk")))
        self.assertHits(lambda: list(Book.objects.order_by("pk").iterator()))

    def test_a_query_is_compiled_once(self) -> None:
        compiled = []

        class Counted(Upper):
            def as_sql(self, compiler, connection, **context):
                compiled.append(self)
                return super().as_sql(compiler, connection, **context)

        queryset = Book.objects.annotate(loud=Counted("title"))
        for read in ("a miss", "a hit"):
            compiled.clear()
            list(queryset.all())
            self.assertEqual(len(compiled), 1, read)

    def test_async_reads_are_cached(self) -> None:
        async def read() -> list[str]:
            return [book.title async for book in Book.objects.all()]

        async def twice() -> tuple[list[str], list[str]]:
            try:
                return await read(), await read()
            finally:
                await sync_to_async(close_connections)()

        first, second = asyncio.run(twice())
        self.assertEqual(first, second)
        # The ORM ran in another thread, on a connection of its own: the entry is shared.
        self.assertHits(lambda: [book.title for book in Book.objects.all()])

    def test_conditions_are_told_apart(self) -> None:
        self.assertMisses(lambda: list(Book.objects.filter(Q(pages=1) | Q(title="x"))))
        self.assertMisses(lambda: list(Book.objects.filter(Q(pages=1) & Q(title="x"))))
        self.assertMisses(lambda: list(Book.objects.filter(pages=F("author_id"))))

    def test_raw_queries_are_not_cached(self) -> None:
        self.assertNeverCached(lambda: list(Book.objects.raw("SELECT * FROM library_book")))

    def test_an_error_of_the_database_is_the_callers(self) -> None:
        with self.assertRaisesMessage(Book.DoesNotExist, "Book matching query does not exist."):
            Book.objects.get(pk=0)
        Book.objects.create(title="Moby Dick")
        with self.assertRaises(Book.MultipleObjectsReturned):
            Book.objects.get(title="Moby Dick")

    def test_a_closed_connection_still_reads(self) -> None:
        list(Book.objects.all())
        connection.close()
        self.assertHits(lambda: list(Book.objects.all()))
