"""``recorded()`` gives the reads of a block, and ``fresh()`` a queryset that is never cached."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, models, transaction
from django.db.models import Count, Prefetch

from cachalot.api import cachalot_disabled, fresh, recorded
from cachalot.core import events
from tests.library.models import Author, Book, Paperback, Tag
from tests.support import CacheTestCase, in_thread

pytestmark = pytest.mark.usefixtures("local_tier_by_default")


class RecordedTests(CacheTestCase):
    def setUp(self) -> None:
        Book.objects.create(title="Typee")

    def test_each_read_with_what_became_of_it(self) -> None:
        with recorded() as reads:
            for _ in range(3):
                list(Book.objects.filter(title="Typee"))
        self.assertEqual([read.outcome.value for read in reads], ["miss", "hit", "local hit"])
        for read in reads:
            self.assertEqual(read.tables, ("library_book",))
            self.assertIn("SELECT", read.sql)
            self.assertEqual(tuple(read.params), ("Typee",))
            self.assertEqual(read.db_alias, "default")
            self.assertIsNone(read.reason)
            self.assertGreater(read.seconds, 0)
        self.assertEqual(reads.queries, reads[:1])
        self.assertIs(reads[1].is_hit, True)

    def test_rows_where_a_read_depends_on_them(self) -> None:
        one, two = (Tag.objects.create(name=name).pk for name in "ab")
        by_key = (("library_tag", one),)
        both = (*by_key, ("library_tag", two))
        for read, expected in (
            (lambda: Tag.objects.get(pk=one), by_key),
            (lambda: list(Tag.objects.filter(pk__in=[one, two])), both),
            # Not all of them are there.
            (lambda: list(Tag.objects.filter(pk__in=[one, two, two + 1])), ()),
            (lambda: Tag.objects.filter(pk=two + 1).first(), ()),
            (lambda: list(Tag.objects.filter(name="a")), by_key),
            (lambda: list(Tag.objects.order_by("name")), ()),
        ):
            with self.subTest(expected), recorded() as reads:
                for _ in range(3):
                    read()
            self.assertEqual([read.outcome.value for read in reads], ["miss", "hit", "local hit"])
            self.assertEqual({read.rows for read in reads}, {expected})

    def test_what_its_transaction_has_written_is_read_by_tables(self) -> None:
        tag = Tag.objects.create(name="a")
        with transaction.atomic(), recorded() as reads:
            tag.save()
            Tag.objects.get(pk=tag.pk)
        self.assertEqual([read.rows for read in reads], [()])

    def test_a_warm_block_runs_no_query(self) -> None:
        Book.objects.count()
        with recorded() as reads:
            Book.objects.count()
        self.assertEqual(len(reads), 1)
        self.assertEqual(reads.queries, [])

    def test_what_is_not_cached_comes_with_its_reason(self) -> None:
        with cachalot_disabled(), recorded() as reads:
            Book.objects.count()
        (read,) = reads
        self.assertEqual(read.outcome.value, "bypassed")
        self.assertIn("cachalot_disabled()", str(read.reason))
        self.assertEqual(reads.queries, [read])

    def test_selects_by_cursor(self) -> None:
        with recorded() as reads, connection.cursor() as cursor:
            cursor.execute("SELECT title FROM library_book WHERE title = %s", ["Typee"])
            self.assertEqual(list(cursor.fetchall()), [("Typee",)])
        (read,) = reads.queries
        self.assertEqual(read.tables, ("library_book",))
        self.assertEqual(read.params, ["Typee"])
        self.assertIn("raw SQL", str(read.reason))

    def test_blocks_are_nested(self) -> None:
        with recorded() as outer:
            Book.objects.count()
            with recorded() as inner:
                Book.objects.exists()
            Author.objects.count()
        self.assertEqual(len(inner), 1)
        self.assertEqual(len(outer), 3)
        self.assertEqual(outer[1], inner[0])

    def test_it_hears_of_its_own_thread_alone(self) -> None:
        with recorded() as reads:
            in_thread(Book.objects.count)
        self.assertEqual(reads, [])

    def test_it_hears_of_what_it_awaits(self) -> None:
        async def read() -> Any:
            with recorded() as reads:
                await Book.objects.acount()
                await asyncio.gather(Author.objects.acount(), Tag.objects.acount())
            await Book.objects.acount()
            return reads

        reads = async_to_sync(read)()
        self.assertEqual(
            {read.tables for read in reads},
            {("library_book",), ("library_author",), ("library_tag",)},
        )
        self.assertEqual(len(reads), 3)

    def test_nobody_is_told_afterwards(self) -> None:
        with recorded():
            pass
        self.assertIs(events.is_heard(), False)

    def test_an_exception_passes_and_what_was_read_stays(self) -> None:
        with self.assertRaises(ZeroDivisionError), recorded() as reads:
            Book.objects.count()
            raise ZeroDivisionError
        self.assertEqual(len(reads), 1)


class FreshTests(CacheTestCase):
    def setUp(self) -> None:
        author = Author.objects.create(name="Melville")
        Book.objects.create(title="Typee", author=author).tags.add(Tag.objects.create(name="sea"))

    def test_it_asks_each_time_whatever_is_made_of_it(self) -> None:
        marked = fresh(Book.objects.all())
        uses: dict[str, Callable[[], object]] = {
            "list": lambda: list(marked.all()),
            "filter": lambda: list(marked.filter(title="Typee").order_by("pk")),
            "values": lambda: list(marked.values("title")),
            "values_list": lambda: list(marked.values_list("title", flat=True)),
            "get": lambda: marked.get(title="Typee"),
            "get by key": lambda: marked.get(pk=Book.objects.get().pk),
            "first": marked.first,
            "count": marked.count,
            "exists": marked.exists,
            "aggregate": lambda: marked.aggregate(Count("pk")),
            "aggregate of a sub-query": lambda: marked.distinct().aggregate(Count("pk")),
            "in_bulk": lambda: marked.in_bulk(),
            "iterator": lambda: list(marked.iterator()),
            "annotate": lambda: list(marked.annotate(n=Count("tags"))),
            "union": lambda: list(marked.union(Book.objects.filter(pages=7))),
            "second of a union": lambda: list(Book.objects.filter(pages=7).union(marked)),
            "sub-query": lambda: list(Author.objects.filter(books__in=marked)),
            "or": lambda: list(marked | Book.objects.filter(pages=7)),
            "pickled": lambda: list(self.with_query(pickle.loads(pickle.dumps(marked.query)))),
            "dates": lambda: list(marked.datetimes("published", "year")),
            "slice": lambda: list(marked[:1]),
        }
        for name, use in uses.items():
            with self.subTest(name):
                use()
                with recorded() as reads:
                    use()
                asked = [read for read in reads if "fresh()" in str(read.reason)]
                self.assertEqual(len(asked), 1, reads)
                self.assertIs(asked[0].is_hit, False)

    def with_query(self, query: Any) -> models.QuerySet[Book]:
        books = Book.objects.all()
        books.query = query
        return books

    def test_what_it_prefetches(self) -> None:
        uses: dict[str, Callable[[], object]] = {
            "list": lambda: list(fresh(Book.objects.prefetch_related("tags"))),
            "afterwards": lambda: list(fresh(Book).prefetch_related("tags")),
            "iterator": lambda: list(fresh(Book).prefetch_related("tags").iterator(10)),
            "Prefetch": lambda: list(
                fresh(Book).prefetch_related(Prefetch("tags", Tag.objects.all()))
            ),
            "nested": lambda: list(fresh(Author).prefetch_related("books__tags")),
        }
        for name, use in uses.items():
            with self.subTest(name):
                use()
                with recorded() as reads:
                    use()
                self.assertEqual(reads.queries, reads)
                self.assertEqual(len(reads), 3 if name == "nested" else 2)

    def test_async(self) -> None:
        async def use() -> list[str]:
            rows = [book.title async for book in fresh(Book).prefetch_related("tags")]
            return rows + [book.title async for book in fresh(Book).aiterator()]

        self.assertEqual(async_to_sync(use)(), ["Typee", "Typee"])
        with recorded() as reads:
            async_to_sync(use)()
        self.assertEqual(reads.queries, reads)

    def test_what_is_done_with_a_row_is_cached(self) -> None:
        for _ in range(2):
            with recorded() as reads:
                for _ in fresh(Book).prefetch_related("tags").iterator(10):
                    Tag.objects.count()
        self.assertIs(reads[-1].is_hit, True)

    def test_the_queryset_itself_stays_as_it_is(self) -> None:
        books = Book.objects.all()
        list(fresh(books))
        self.assertCached(lambda: list(books.all()))

    def test_rows_kept_are_not_taken_over(self) -> None:
        books = Book.objects.all()
        list(books)
        with recorded() as reads:
            list(fresh(books))
        self.assertEqual(len(reads.queries), 1)

    def test_it_is_read_anew_after_a_change_unknown_to_the_cache(self) -> None:
        marked = fresh(Book)
        self.assertEqual(marked.count(), 1)
        with connection.cursor() as cursor, self.settings(CACHALOT_INVALIDATE_RAW=False):
            cursor.execute("DELETE FROM library_book_tags")
            cursor.execute("DELETE FROM library_book")
        self.assertEqual(marked.count(), 0)

    def test_models_and_managers(self) -> None:
        for source in (Book, Book.objects, Paperback):
            self.assertEqual(fresh(source).get().title, "Typee")

    def test_anything_else(self) -> None:
        for wrong in (Book.objects.raw("SELECT * FROM library_book"), [1], "library.Book", Book()):
            with self.assertRaises(TypeError):
                fresh(wrong)
