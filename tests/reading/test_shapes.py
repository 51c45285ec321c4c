"""What decides the SQL of a query: nothing of it may be left out of its fingerprint."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from typing import Any
from unittest import mock

from django.db.models import Avg, Count, F, Model, Q, QuerySet, Sum, Value
from django.db.models.sql.query import Query
from django.test import SimpleTestCase

from cachalot.core.reading.shapes import COMPARED, EMPTY, WITHOUT_EFFECT, fingerprint
from tests.library.models import Author, Book

#: Attributes of a ``Query`` as an expression in another one, which has no fingerprint.
OF_EXPRESSIONS = frozenset(
    """
    alias_prefix allowed_default allows_composite_expressions compiler
    constraint_validation_compatible contains_aggregate contains_column_references
    contains_over_clause convert_value empty_result_set_value filterable output_field
    _output_field_or_none _output_field_resolved_to_none set_returning subq_aliases
    window_compatible
    """.split()
)


class AttributeTests(SimpleTestCase):
    def test_every_attribute_of_a_query_is_listed(self) -> None:
        there_are = set(vars(Query(Model)))
        for parent in Query.__mro__[:-1]:
            there_are.update(
                name
                for name, value in vars(parent).items()
                if not name.startswith("__")
                and not callable(value)
                and not isinstance(value, (property, classmethod, staticmethod))
            )
        listed = COMPARED | WITHOUT_EFFECT | {*EMPTY} | OF_EXPRESSIONS
        self.assertEqual(there_are - listed, set())

    def test_an_attribute_that_is_not_listed_ends_it(self) -> None:
        query = Book.objects.filter(pk=1).query
        query.hint = "from an extension"  # type: ignore[attr-defined]
        self.assertIsNone(fingerprint(query))


def books() -> QuerySet[Any]:
    return Book.objects.all()


#: Queries that are written in as many ways; each pair of them must be told apart.
DIFFERENT: list[Callable[[], QuerySet[Any]]] = [
    books,
    lambda: Author.objects.all(),
    lambda: books().order_by("title"),
    lambda: books().order_by("-title"),
    lambda: books().order_by("title", "pk"),
    lambda: books().order_by("author__name"),
    lambda: books()[:1],
    lambda: books()[1:2],
    lambda: books()[:2],
    lambda: books().distinct(),
    lambda: books().only("title"),
    lambda: books().defer("title"),
    lambda: books().values("title"),
    lambda: books().values("title", "pk"),
    lambda: books().values("author__name"),
    lambda: books().select_related("author"),
    lambda: books().filter(pk=1),
    lambda: books().filter(pk=2),
    lambda: books().filter(pk__in=[1]),
    lambda: books().filter(pk__in=[1, 2]),
    lambda: books().filter(pk__in=[2, 1]),
    lambda: books().filter(pk__gt=1),
    lambda: books().filter(pk__gte=1),
    lambda: books().filter(pk__lt=1),
    lambda: books().exclude(pk=1),
    lambda: books().filter(Q(pk=1) | Q(title="1")),
    lambda: books().filter(pk=1, title="1"),
    lambda: books().filter(title="1"),
    lambda: books().filter(title="a"),
    lambda: books().filter(title__contains="a"),
    lambda: books().filter(title__startswith="a"),
    lambda: books().filter(title=F("author__name")),
    lambda: books().filter(author=1),
    lambda: books().filter(author__name="a"),
    lambda: books().filter(author__isnull=True),
    lambda: books().filter(author__isnull=False),
    lambda: books().extra(select={"x": "1"}),
    lambda: books().extra(select={"x": "2"}),
    lambda: books().extra(select={"x": "1", "y": "1"}),
    lambda: books().annotate(x=Value(1)),
    lambda: books().annotate(x=Value(2)),
    lambda: books().annotate(x=Value("1")),
    lambda: books().annotate(x=Value(True)),
    lambda: books().annotate(y=Value(1)),
    lambda: Author.objects.annotate(x=Count("books")),
    lambda: Author.objects.annotate(x=Count("books", distinct=True)),
    lambda: Author.objects.annotate(x=Sum("books__pk")),
    lambda: Author.objects.annotate(x=Avg("books__pk")),
    lambda: Author.objects.values("name").annotate(x=Count("pk")),
]

#: Queries that may be written otherwise than their parts tell.
WITHOUT: list[Callable[[], QuerySet[Any]]] = [
    lambda: books().extra(where=["1=1"]),
    lambda: books().extra(select={"x": "%s"}, select_params=[1]),
    lambda: books().filter(pk__in=Author.objects.all()),
    lambda: books().union(books()),
    lambda: books().select_for_update(),
    lambda: books().none(),
    lambda: books().order_by("author"),
    lambda: books().order_by("?"),
    lambda: books().order_by(F("title").desc()),
    lambda: books().annotate(x=Count("tags", filter=Q(pk=1))),
    lambda: books().annotate(x=F("pk") + 1),
    lambda: books().filter(title__regex="a"),
]


class FingerprintTests(SimpleTestCase):
    def test_unlike_queries_are_told_apart(self) -> None:
        printed = [fingerprint(make().query) for make in DIFFERENT]
        self.assertNotIn(None, printed)
        self.assertEqual(len(set(printed)), len(DIFFERENT))

    def test_like_queries_are_not(self) -> None:
        for make in DIFFERENT:
            self.assertEqual(fingerprint(make().query), fingerprint(make().query))

    def test_what_is_not_listed_has_none(self) -> None:
        for number, make in enumerate(WITHOUT):
            with self.subTest(number=number):
                self.assertIsNone(fingerprint(make().query))

    def test_values_count_with_their_types(self) -> None:
        equal: list[tuple[Any, Any]] = [
            (1, True),
            (1, "1"),
            (decimal.Decimal("1"), decimal.Decimal("1.0")),
            (0.0, -0.0),
            (
                datetime.datetime(2026, 10, 25, 2, 30),
                datetime.datetime(2026, 10, 25, 2, 30, fold=1),
            ),
        ]
        for one, other in equal:
            with self.subTest(one=one, other=other):
                first, second = (self.printed_with(value) for value in (one, other))
                self.assertIsNotNone(first)
                self.assertNotEqual(first, second)

    def printed_with(self, value: object) -> Any:
        query = Book.objects.filter(title="a").query
        query.where.children[0].rhs = value  # type: ignore[union-attr]
        return fingerprint(query)

    def test_no_ordering_at_all(self) -> None:
        with mock.patch.object(Book._meta, "ordering", None):
            self.assertIsNotNone(fingerprint(Book.objects.all().query))

    def test_tables_are_read_each_time(self) -> None:
        before = fingerprint(Book.objects.order_by("author__name").query)
        table = Author._meta.db_table
        try:
            Author._meta.db_table = "other"
            self.assertNotEqual(fingerprint(Book.objects.order_by("author__name").query), before)
        finally:
            Author._meta.db_table = table
