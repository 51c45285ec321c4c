"""Arguments as bytes."""

from __future__ import annotations

import datetime
import decimal
import enum
import itertools
import uuid
from typing import Any

from django.db.models import Prefetch
from django.utils.functional import SimpleLazyObject
from django.utils.safestring import SafeString

from cachalot.core.blocks.values import encoded
from tests.library.models import Author, Book, Paperback, Tag
from tests.support import CacheTestCase


class Colour(enum.Enum):
    RED = 1


class ValueTests(CacheTestCase):
    def test_unlike_values_are_told_apart(self) -> None:
        values: list[Any] = [
            *(None, True, 1, 1.0, "1", b"1", "", decimal.Decimal(1), decimal.Decimal("1.0")),
            *((), [], {}, set(), frozenset(), (1,), [1], {1}, frozenset({1}), {1: 1}, {"1": 1}),
            *(("a", "b"), ("ab",), (("a",), "b"), ("a", ("b",)), [["a"], "b"], {"a": "b"}),
            *(datetime.date(2000, 1, 1), datetime.datetime(2000, 1, 1), datetime.timedelta(1)),
            *(uuid.UUID(int=1), Colour.RED, SafeString("1"), Book, Author, Paperback, int, "int"),
            *(
                Author(pk=1),
                Book(pk=1),
                Paperback(pk=1),
                Book(pk=2),
                Book(pk=1, title="a"),
                Tag(pk=1),
            ),
        ]
        for one, other in itertools.combinations(values, 2):
            self.assertNotEqual(encoded(one), encoded(other), (one, other))

    def test_like_values_are_not(self) -> None:
        for one, other in (
            ({1, 2, 3}, {3, 2, 1}),
            (
                Book(pk=1, title="a", code=uuid.UUID(int=1)),
                Book(title="a", pk=1, code=uuid.UUID(int=1)),
            ),
            (SimpleLazyObject(lambda: "a"), "a"),
            ([SimpleLazyObject(lambda: Tag(pk=1))], [Tag(pk=1)]),
        ):
            self.assertEqual(encoded(one), encoded(other))

    def test_instances_by_all_that_is_loaded(self) -> None:
        author = Author.objects.create(name="Melville")
        book = Book.objects.create(title="Typee", author=author, details={"a": [1]})
        book.tags.add(Tag.objects.create(name="sea"))

        def all_forms() -> list[bytes]:
            return [
                encoded(Book.objects.get()),
                encoded(Book.objects.defer("title").get()),
                encoded(Book.objects.select_related("author").get()),
                encoded(Book.objects.prefetch_related("tags").get()),
                encoded(Book.objects.prefetch_related(Prefetch("tags", to_attr="all_tags")).get()),
                encoded(Book.objects.extra(select={"more": "1"}).get()),
            ]

        before = all_forms()
        self.assertEqual(len(set(before)), len(before))
        self.assertEqual(all_forms(), before)
        Tag.objects.update(name="whale")
        after = all_forms()
        self.assertEqual(
            [one == other for one, other in zip(before, after, strict=True)][3:5], [False, False]
        )
        Author.objects.update(name="Herman")
        self.assertNotEqual(all_forms()[2], before[2])

    def test_instances_that_lead_to_each_other(self) -> None:
        one, other = Author(pk=1), Author(pk=2)
        one.mentor, other.mentor = other, one
        three = Author(pk=1)
        three.mentor = three
        self.assertNotEqual(encoded(one), encoded(three))

    def test_what_cannot_be_told_apart(self) -> None:
        wrong: list[Any] = [
            object(),
            Book.objects.all(),
            Book.objects,
            lambda: 1,
            [object()],
            {1: object()},
        ]
        book = Book(pk=1)
        book.thing = lambda: 1  # type: ignore[attr-defined]
        for value in [*wrong, book]:
            with self.assertRaises(TypeError):
                encoded(value)

    def test_instances_with_attributes_of_other_types(self) -> None:
        one, other = Book(pk=1), Book(pk=1)
        one.code = other.code = uuid.UUID(int=1)
        one.thing, other.thing = range(1), range(2)  # type: ignore[attr-defined]
        self.assertNotEqual(encoded(one), encoded(other))
        other.thing = range(1)  # type: ignore[attr-defined]
        self.assertEqual(encoded(one), encoded(other))
