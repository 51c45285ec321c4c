"""Generated queries and writes: a cached read always gives what the database gives.

``CACHALOT_TEST_EXAMPLES`` sets how many examples a run tries; more than the default are random.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.db import connection, transaction
from django.db.models import (
    Case,
    CharField,
    Count,
    Exists,
    F,
    FilteredRelation,
    IntegerField,
    Max,
    OuterRef,
    Q,
    Subquery,
    Sum,
    Value,
    When,
    Window,
)
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce, Concat, RowNumber, Upper
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cachalot.api import cachalot_disabled
from tests.library.models import Author, Book, Novel, Publisher, Review, Tag
from tests.support import CacheTestCase, in_thread

DEFAULT_EXAMPLES = 50
EXAMPLES = int(os.environ.get("CACHALOT_TEST_EXAMPLES", DEFAULT_EXAMPLES))

Query = Callable[[], Any]
small = st.integers(0, 4)
names = st.sampled_from(["a", "b", "c"])


def reviews_of_book(**conditions: Any) -> Any:
    return Review.objects.filter(book=OuterRef("pk"), **conditions)


def conditions() -> st.SearchStrategy[Q]:
    """Conditions on books, over every kind of relation and with sub-queries in them."""
    leaves = st.one_of(
        st.builds(lambda n: Q(pages__gte=n), small),
        st.builds(lambda n: Q(pages=n), small),
        st.builds(lambda name: Q(title=name), names),
        st.builds(lambda name: Q(author__name=name), names),
        st.builds(lambda name: Q(author__mentor__name=name), names),
        st.builds(lambda name: Q(tags__name=name), names),
        st.builds(lambda name: Q(publisher__name__in=[name]), names),
        st.builds(lambda n: Q(reviews__stars__lt=n), small),
        st.builds(lambda n: Q(Exists(reviews_of_book(stars=n))), small),
        st.builds(lambda n: ~Q(Exists(reviews_of_book(stars__gt=n))), small),
        st.builds(lambda name: Q(author__in=Author.objects.filter(name=name)), names),
        st.builds(
            lambda n: Q(pk__in=Review.objects.filter(stars=n).values("book")),
            small,
        ),
        st.builds(
            lambda n: Q(pk__in=RawSQL("SELECT book_id FROM library_review WHERE stars = %s", [n])),
            small,
        ),
        st.just(Q(novel__isnull=False)),
        st.just(Q(pages=F("author__pk"))),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(lambda a, b: a & b, inner, inner),
            st.builds(lambda a, b: a | b, inner, inner),
            st.builds(lambda a: ~a, inner),
        ),
        max_leaves=3,
    )


ANNOTATIONS: list[Callable[[], Any]] = [
    lambda: Count("reviews", distinct=True),
    lambda: Count("pk", filter=Q(author__name="a")),
    lambda: Coalesce(Sum("reviews__stars"), 0),
    lambda: Coalesce(Subquery(reviews_of_book().order_by("-stars").values("stars")[:1]), -1),
    lambda: Subquery(
        reviews_of_book().values("book").annotate(n=Count("pk")).values("n"),
        output_field=IntegerField(),
    ),
    lambda: Case(
        When(Exists(reviews_of_book(stars=1)), then=Value("low")),
        When(author__name="b", then=F("publisher__name")),
        default=Value("none"),
        output_field=CharField(),
    ),
    lambda: Concat(Upper("title"), Value("/"), F("author__name")),
    lambda: Max("tags__name"),
    lambda: RawSQL("(SELECT COUNT(*) FROM library_tag)", []),
]


@st.composite
def queries(draw: st.DrawFn) -> Query:
    """Reads of books and what is around them, each to be run as often as one likes."""
    chosen = draw(st.lists(conditions(), max_size=2))
    excluded = draw(st.lists(conditions(), max_size=1))
    annotation = draw(st.sampled_from([None, *ANNOTATIONS]))
    is_window = draw(st.booleans()) and annotation is None
    is_filtered_relation = draw(st.booleans()) and annotation is None
    order = draw(st.sampled_from(["pk", "author__name", "title", "-pages"]))
    limit = draw(st.sampled_from([None, 1, 3]))
    end = draw(
        st.sampled_from(
            ["rows", "objects", "count", "exists", "first", "max", "distinct", "union", "stream"]
        )
    )

    def books() -> Any:
        queryset = Book.objects.all()
        for condition in chosen:
            queryset = queryset.filter(condition)
        for condition in excluded:
            queryset = queryset.exclude(condition)
        if annotation is not None:
            queryset = queryset.annotate(extra_value=annotation())
        elif is_window:
            queryset = queryset.annotate(extra_value=Window(RowNumber(), order_by="pk"))
        elif is_filtered_relation:
            queryset = queryset.annotate(
                good=FilteredRelation("reviews", condition=Q(reviews__stars__gte=2))
            ).annotate(extra_value=F("good__stars"))
        return queryset

    def run() -> Any:
        queryset = books()
        if end == "count":
            return queryset.count()
        if end == "exists":
            return queryset.exists()
        if end == "max":
            return queryset.aggregate(Max("pages"), Count("pk"))
        if end == "union":
            titles = queryset.order_by().values_list("title")
            return sorted(titles.union(Author.objects.values_list("name"), all=True))
        fields = ["pk", "title", "pages"] + ["extra_value"] * (
            "extra_value" in queryset.query.annotations
        )
        ordered = queryset.order_by(order, *fields)
        if end == "first":
            return ordered.values_list(*fields).first()
        if end == "distinct":
            return list(queryset.order_by("title").values_list("title").distinct())
        if limit is not None:
            ordered = ordered[:limit]
        if end == "objects":
            related = ordered.select_related("author").prefetch_related("tags")
            return [
                (
                    book.pk,
                    book.title,
                    book.author and book.author.name,
                    sorted(tag.name for tag in book.tags.all()),
                )
                for book in related
            ]
        rows = ordered.values_list(*fields)
        return list(rows.iterator(chunk_size=2) if end == "stream" else rows)

    return run


def raw(sql: str) -> Callable[[], None]:
    def run() -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql)

    return run


WRITES: list[Callable[[], Any]] = [
    lambda: Book.objects.create(title="c", pages=2, author=Author.objects.first()),
    lambda: Novel.objects.create(title="a", pages=3, genre="sea"),
    lambda: Book.objects.filter(pages__gt=1).update(pages=F("pages") - 1),
    lambda: Book.objects.filter(author__name="a").update(title="b"),
    lambda: Book.objects.order_by("pk").first().delete(),
    lambda: Review.objects.filter(book__title="a").delete(),
    lambda: Review.objects.create(book=Book.objects.order_by("pk").last(), stars=1),
    lambda: Review.objects.update(stars=F("stars") + 1),
    lambda: Author.objects.filter(name="a").update(name="b"),
    lambda: Author.objects.filter(name="b").delete(),
    lambda: Book.objects.order_by("pk").last().tags.set(Tag.objects.filter(name="b")),
    lambda: Tag.objects.filter(name="c").delete(),
    lambda: Publisher.objects.all().delete(),
    raw("UPDATE library_book SET pages = 1"),
    raw("DELETE FROM library_review WHERE stars > 1"),
    raw("INSERT INTO library_review (book_id, stars) SELECT id, 4 FROM library_book"),
    raw("UPDATE library_author SET name = 'c' WHERE name <> 'c'"),
]


Step = tuple[Callable[[], Any], str]


def writes() -> st.SearchStrategy[Step]:
    """A write, and in what kind of transaction or on which connection it runs."""
    ways = ["at once", "committed", "rolled back", "savepoint", "elsewhere"]
    return st.tuples(st.sampled_from(WRITES), st.sampled_from(ways))


class Undone(Exception):
    """Raised to roll back."""


class DifferentialTests(CacheTestCase):
    def fill(self) -> None:
        """Make the same few rows for every example."""
        for model in (Review, Novel, Book, Author, Tag, Publisher):
            model.objects.all().delete()
        publisher = Publisher.objects.create(name="a")
        tags = [Tag.objects.create(name=name) for name in "abc"]
        mentor = None
        for number, name in enumerate("abc"):
            mentor = Author.objects.create(name=name, mentor=mentor)
            book = Book.objects.create(
                title=name, pages=number, author=mentor, publisher=publisher if number else None
            )
            book.tags.set(tags[: number + 1])
            Review.objects.create(book=book, stars=number)

    def compare(self, reads: list[Query]) -> None:
        for read in reads:
            with cachalot_disabled():
                expected = read()
            for _ in range(2):
                self.assertEqual(read(), expected)

    def test_cached_reads_give_what_the_database_gives(self) -> None:
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=EXAMPLES <= DEFAULT_EXAMPLES,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(
            st.lists(queries(), min_size=2, max_size=3),
            st.lists(writes(), min_size=2, max_size=3),
        )
        def compare_one_example(reads: list[Query], steps: list[Step]) -> None:
            self.fill()
            self.compare(reads)
            for write, how in steps:
                with suppress(AttributeError):  # of a write that found no row to begin with
                    self.write(write, how, reads)
                self.compare(reads)

        compare_one_example()

    def write(self, write: Callable[[], Any], how: str, reads: list[Query]) -> None:
        if how == "at once":
            write()
        elif how == "elsewhere":
            in_thread(write)
        elif how == "committed":
            with transaction.atomic():
                self.compare(reads)
                write()
                self.compare(reads)
        elif how == "rolled back":
            with suppress(Undone), transaction.atomic():
                write()
                self.compare(reads)
                raise Undone
        else:
            with transaction.atomic():
                self.compare(reads)
                with suppress(Undone), transaction.atomic():
                    write()
                    self.compare(reads)
                    raise Undone
                self.compare(reads)
