"""Queries whose parameters differ in type or value never share a key; equal ones always do."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import EmptyResultSet
from django.db import NotSupportedError, connection
from django.db.models import Case, CharField, F, QuerySet, TextField, Value, When
from django.db.models.functions import Cast, Concat
from django.utils.functional import lazystr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cachalot.core.outcomes import UncachableQuery
from cachalot.utils import get_query_cache_key
from tests.shapes.columns import MOMENTS, columns, values_of
from tests.shapes.models import MODELS, Mood, Person, Rank
from tests.shapes.queries import REFUSALS, Generator
from tests.support import CacheTestCase, in_process


def key_of(queryset: QuerySet[Any]) -> str:
    return get_query_cache_key(queryset.query.get_compiler("default"))


def text_of(value: Any) -> str:
    """Return the type and value of a parameter, unabridged."""
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}({', '.join(map(text_of, value))})"
    # What psycopg's adapters wrap, whose repr() is cut.
    for attribute in ("obj", "adapted"):
        if hasattr(value, attribute):
            return f"{type(value).__qualname__}({text_of(getattr(value, attribute))})"
    if isinstance(value, memoryview):
        return f"memoryview({bytes(value)!r})"
    return f"{type(value).__qualname__}({value!r})"


def filters() -> Iterator[tuple[str, QuerySet[Any]]]:
    """Compare each column of each model with each value that it may have."""
    for model in MODELS:
        for path, kind in columns(model, 0):
            field = model._meta.get_field(path)
            for value in values_of(field):
                name = f"{model.__name__} {path} {text_of(value)}"
                yield name, model._base_manager.filter(**{path: value})
                yield f"in {name}", model._base_manager.filter(**{f"{path}__in": [value]})
                assert kind is not None


#: Of each row, no two are the same query.
EXPRESSIONS: list[list[Any]] = [
    [Value(value) for value in (1, "1", True, 1.0, Decimal(1), Decimal("1.0"), b"1")],
    [Value(value) for value in (0, "0", False, 0.0, Decimal(0), "", b"")],
    [
        Value(value)
        for value in ("x" * 99 + "a", "x" * 99 + "b", b"x" * 99 + b"a", b"x" * 99 + b"b")
    ],
    [Value(value) for value in (Mood.CALM, Mood.GLAD, Rank.LOW, Rank.HIGH, "A", 0)],
    [Value(lazystr(text), output_field=CharField()) for text in "ab"],
    [Value(moment) for moment in (MOMENTS[0], MOMENTS[2], MOMENTS[2].date())],
    [Value(moment.astimezone(datetime.timezone.utc).time()) for moment in (MOMENTS[0], MOMENTS[2])],
    [Cast(Value(value), TextField()) for value in (1, "1", 2)],
    [Concat(Value("a"), Value("bc")), Concat(Value("ab"), Value("c"))],
    [
        Case(When(name=one, then=Value(other)), default=F("name"), output_field=CharField())
        for one, other in (("a", "b"), ("b", "a"), ("a", "a"))
    ],
]


class KeyTests(CacheTestCase):
    def setUp(self) -> None:
        connection.ensure_connection()

    def test_values_of_columns(self) -> None:
        keys: dict[str, str] = {}
        for (name, queryset), (_, same) in zip(filters(), filters(), strict=True):
            # Drivers get the same moment of two zones, where they get all in UTC.
            key = key_of(queryset)
            self.assertEqual(key, key_of(same), name)
            if "astimezone" not in name and "Europe/Paris" not in name:
                self.assertNotIn(key, keys, f"{name} and {keys.get(key)}")
                keys[key] = name
        self.assertGreater(len(keys), 100)

    def test_values_in_expressions(self) -> None:
        for expressions in EXPRESSIONS:
            keys = [key_of(Person.objects.annotate(x=expression)) for expression in expressions]
            self.assertEqual(len(set(keys)), len(keys), expressions)

    def test_generated_pairs(self) -> None:
        pairs = {True: 0, False: 0}

        @settings(
            max_examples=150,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.composite(twins)())
        def compare(queries: tuple[QuerySet[Any], QuerySet[Any]]) -> None:
            try:
                texts = [
                    text_of(queryset.query.get_compiler("default").as_sql()) for queryset in queries
                ]
                keys = [key_of(queryset) for queryset in queries]
            except (*REFUSALS, EmptyResultSet, NotSupportedError, UncachableQuery):
                return
            pairs[texts[0] == texts[1]] += 1
            self.assertEqual(keys[0] == keys[1], texts[0] == texts[1], texts)

        compare()
        self.assertGreater(min(pairs.values()), 20, pairs)

    def test_in_another_process(self) -> None:
        expected = texts_and_keys()
        for seed in ("1", "2"):
            found = in_process(
                "result = texts_and_keys()", "tests.reading.test_query_keys", PYTHONHASHSEED=seed
            )
            texts = 0
            for mine, others in zip(expected, found, strict=True):
                # SQLite's DatabaseOperations.jsonfield_datatype_values is a set, and its order
                # stands in the SQL of Django 6.1.
                self.assertEqual(mine[0] == others[0], mine[1] == others[1], mine[0])
                texts += mine[0] == others[0]
            self.assertGreater(texts, 0.9 * len(expected))


def texts_and_keys() -> list[list[str]]:
    connection.ensure_connection()
    return [
        [text_of(queryset.query.get_compiler("default").as_sql()), key_of(queryset)]
        for _, queryset in filters()
    ]


def twins(draw: st.DrawFn) -> tuple[QuerySet[Any], QuerySet[Any]]:
    """The same query twice, most often with other parameters."""
    generator = Generator(draw)
    one = generator.read()
    return one.queryset, Generator(draw, generator.choices).read().queryset


def test_geometries() -> None:
    try:
        from django.contrib.gis.db.backends.base.adapter import WKTAdapter
        from django.contrib.gis.db.backends.postgis.adapter import PostGISAdapter
        from django.contrib.gis.geos import Point
    except Exception as error:
        pytest.skip(f"GeoDjango needs the GEOS library: {error}")
    from cachalot.core.sql.parameters import encode

    def adapters() -> list[Any]:
        points = [Point(1, 2), Point(1, 3), Point(1, 2, srid=4326), Point(1, 2, 3)]
        return [
            *(PostGISAdapter(point) for point in points),
            PostGISAdapter(points[2], geography=True),
            *(WKTAdapter(point) for point in points),
        ]

    encoded = [encode([adapter]) for adapter in adapters()]
    assert len(set(encoded)) == len(encoded)
    assert encoded == [encode([adapter]) for adapter in adapters()]
