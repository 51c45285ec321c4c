"""What can be reached from a model, and values that are there to be found."""

from __future__ import annotations

import datetime
import functools
import uuid
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connection, models

Model = type[models.Model]
Field = type[models.Field]

PARIS = ZoneInfo("Europe/Paris")
#: The first two are the same moment.
MOMENTS = [
    datetime.datetime(2020, 1, 1, 0, 30, tzinfo=datetime.timezone.utc),
    datetime.datetime(2020, 1, 1, 1, 30, tzinfo=PARIS),
    datetime.datetime(2021, 6, 15, 12, tzinfo=PARIS),
]
VALUES: dict[Field, list[Any]] = {
    models.CharField: ["a", "b", "c"],
    models.IntegerField: [0, 1, 2, 3],
    models.BooleanField: [True, False],
    models.DateTimeField: MOMENTS,
    models.DateField: [datetime.date(2020, 1, 1), datetime.date(2021, 6, 15)],
    models.DurationField: [datetime.timedelta(hours=hours) for hours in (1, 2)],
    models.DecimalField: [Decimal("0.5"), Decimal("1"), Decimal("2.25")],
    models.FloatField: [0.5, 1.0, 2.25],
    models.UUIDField: [uuid.UUID(int=number) for number in (1, 2)],
    # psycopg shortens what it shows of the last two to the same text, and of the last JSON too.
    models.BinaryField: [b"a", b"\x00" * 40 + b"a", b"\x00" * 40 + b"b"],
    models.JSONField: [
        {"k": 1},
        {"k": "1"},
        {"k": [1, {"x": None}]},
        {"pad": "x" * 50, "k": 1},
        {"pad": "x" * 50, "k": 2},
    ],
}
LOOKUPS: dict[Field, list[str]] = {
    models.CharField: ["exact", "in", "gt", "startswith", "icontains", "isnull"],
    models.IntegerField: ["exact", "in", "gt", "lte", "range", "isnull"],
    models.BooleanField: ["exact"],
    models.DateTimeField: ["exact", "lt", "gte", "isnull"],
    models.DateField: ["exact", "gt", "isnull"],
    models.DurationField: ["exact", "gt"],
    models.DecimalField: ["exact", "lt", "in"],
    models.FloatField: ["exact", "gt"],
    models.UUIDField: ["exact", "in", "isnull"],
    models.BinaryField: ["exact"],
    models.JSONField: ["exact", "k", "contains", "isnull"],
}
if connection.vendor == "postgresql":
    from django.contrib.postgres import fields
    from django.db.backends.postgresql.psycopg_any import DateTimeTZRange, NumericRange

    VALUES |= {
        fields.ArrayField: [[], [1], [1, 2], [2, 1]],
        fields.HStoreField: [{}, {"k": "1"}, {"k": None}, {"k": "1", "x": "a"}],
        fields.IntegerRangeField: [
            NumericRange(0, 2),
            NumericRange(1, 3),
            NumericRange(1, 3, "[]"),
        ],
        fields.DateTimeRangeField: [
            DateTimeTZRange(MOMENTS[0], MOMENTS[2]),
            DateTimeTZRange(MOMENTS[1], None),
        ],
    }
    LOOKUPS |= {
        fields.ArrayField: ["exact", "contains", "overlap"],
        fields.HStoreField: ["exact", "contains"],
        fields.IntegerRangeField: ["exact", "contains", "overlap", "isnull"],
        fields.DateTimeRangeField: ["exact", "overlap"],
    }
# SQLite has no such lookup.
if connection.vendor == "sqlite":
    LOOKUPS[models.JSONField].remove("contains")


def kind_of(field: Any) -> Field | None:
    """Return the field class that tells a column's values, or None if it has none of interest."""
    if field.primary_key or field.is_relation:
        return None
    if hasattr(field, "output_field"):  # of a GeneratedField
        field = field.output_field
    return next((kind for kind in type(field).__mro__ if kind in VALUES), None)


def values_of(field: Any) -> list[Any]:
    """Return values that a column may have."""
    kind = kind_of(field)
    assert kind is not None
    if getattr(field, "base_field", None) is not None and kind_of(field.base_field) is kind:
        # An array of arrays: these have all the same length.
        return [[], [[1]], [[1], [2]], [[1, 2], [2, 1]]]
    return VALUES[kind]


@functools.cache
def columns(model: Model, depth: int = 2) -> list[tuple[str, Field]]:
    """Return the lookup path of each column in reach over ``depth`` relations, with its kind."""
    found = []
    for field in model._meta.get_fields():
        if field.is_relation:
            if depth and field.related_model is not None:
                found += [
                    (f"{field.name}__{path}", kind)
                    for path, kind in columns(field.related_model, depth - 1)
                ]
        elif kind := kind_of(field):
            found.append((field.name, kind))
    return found


def columns_of(model: Model, *kinds: Field, depth: int = 2) -> list[str]:
    """Return the paths of the columns of these kinds."""
    return [path for path, kind in columns(model, depth) if kind in kinds]


@functools.cache
def links(model: Model) -> list[tuple[Model, str, str]]:
    """Return the models next to one: each model, its column and this model's, which are equal."""
    found: list[tuple[Model, str, str]] = []
    for field in model._meta.get_fields():
        if not field.is_relation or field.many_to_many or field.related_model is None:
            continue
        if field.concrete:
            found.append((field.related_model, "pk", field.attname))
        elif field.auto_created and field.field.concrete:
            found.append((field.related_model, field.field.attname, "pk"))
    return found


@functools.cache
def tail(model: Model) -> tuple[str, ...]:
    """Return what orders the rows of a model wholly."""
    names = tuple(field.name for field in getattr(model._meta, "pk_fields", []))
    return names if len(names) > 1 else ("pk",)
