"""What of conditions and expressions decides their SQL.

Whatever is not exactly of a class listed here raises ``Strange``.
"""

from __future__ import annotations

import datetime
import decimal
import uuid
from typing import Any

from django.db.models import Aggregate, Avg, Count, Max, Min, Sum, lookups
from django.db.models.expressions import Col, Star, Value
from django.db.models.fields import related_lookups
from django.db.models.sql.where import WhereNode

from cachalot.core.reading.model_facts import Strange, is_plain

_LOOKUPS = frozenset(
    getattr(module, name)
    for module, names in {
        lookups: """
            Exact IExact GreaterThan GreaterThanOrEqual LessThan LessThanOrEqual In Contains
            IContains StartsWith IStartsWith EndsWith IEndsWith Range IsNull IntegerFieldExact
            IntegerGreaterThan IntegerGreaterThanOrEqual IntegerLessThan IntegerLessThanOrEqual
        """,
        related_lookups: """
            RelatedExact RelatedIn RelatedIsNull RelatedLessThan RelatedLessThanOrEqual
            RelatedGreaterThan RelatedGreaterThanOrEqual
        """,
    }.items()
    for name in names.split()
    if hasattr(module, name)  # Django 4.2 has fewer
)
_AGGREGATES = frozenset({Count, Sum, Min, Max, Avg})
#: Every class whose methods make the SQL of what is listed here.
CLASSES = frozenset({WhereNode, Col, Star, Value, *_LOOKUPS, *_AGGREGATES})

_CONSTANTS = frozenset({int, str, bool, type(None)})
# Of these, equal ones are written alike.
_EXACT = frozenset({int, str, bytes, uuid.UUID, datetime.timedelta})
# Of these, equal ones need not be: their text tells them apart. Aware ones have no fingerprint.
_BY_TEXT = frozenset({float, decimal.Decimal, datetime.date, datetime.datetime, datetime.time})
_SCALARS = _CONSTANTS | _EXACT | _BY_TEXT


def condition(node: Any, values: list[Any]) -> tuple[Any, ...]:
    """Return the shape of a WHERE clause, and put its values to ``values``."""
    parts: list[Any] = [node.connector, node.negated]
    for child in node.children:
        if type(child) is WhereNode:
            parts.append(condition(child, values))
            continue
        kind = type(child)
        if kind not in _LOOKUPS or child.bilateral_transforms:
            raise Strange
        parts.append((kind, _column(child.lhs), _operand(child.rhs, values)))
    return tuple(parts)


def _operand(value: Any, values: list[Any]) -> Any:
    """Return what of an operand belongs to the shape, and put the rest to ``values``."""
    kind = type(value)
    if kind in _EXACT:
        values.append(value)
        return kind
    if value is None or kind is bool:
        return kind, value
    if kind in _BY_TEXT:
        if getattr(value, "tzinfo", None) is not None:
            raise Strange
        values.append((repr(value), getattr(value, "fold", 0)))
        return kind
    if kind is list or kind is tuple:
        if not _SCALARS.issuperset(map(type, value)):
            raise Strange
        parts = tuple([_operand(each, values) for each in value])
        return kind, len(set(value)) == len(value), parts  # IN writes equal ones once
    return _column(value)


def _column(expression: Any) -> tuple[Any, ...]:
    if type(expression) is not Col:
        raise Strange
    target, output = expression.target, expression.output_field
    if not is_plain(target) or not is_plain(output):
        raise Strange
    return expression.alias, id(target), id(output)


def expressions(all_of_them: Any) -> tuple[Any, ...]:
    """Return the shapes of columns, constants and aggregates."""
    return tuple(map(expression, all_of_them))


def expression(made: Any) -> Any:
    """Return the shape of a column, a constant or an aggregate."""
    kind = type(made)
    if kind is Col:
        return _column(made)
    if kind is Star:
        return Star
    if kind is Value:
        return _value(made)
    if kind not in _AGGREGATES:
        raise Strange
    return _aggregate(kind, made)


def _value(expression: Any) -> tuple[Any, ...]:
    value = expression.value
    if (
        type(value) not in _CONSTANTS
        or expression.for_save
        or not _VALUE_ATTRIBUTES.issuperset(expression.__dict__)
    ):
        raise Strange
    return Value, type(value), value


# Whatever else an expression has been given is in its dictionary.
_EXPRESSION_ATTRIBUTES = frozenset(
    """
    _constructor_args _output_field_or_none _output_field_resolved_to_none contains_aggregate
    contains_column_references contains_over_clause convert_value identity is_summary
    """.split()
)
_VALUE_ATTRIBUTES = _EXPRESSION_ATTRIBUTES | {"for_save", "value"}
_AGGREGATE_ATTRIBUTES = _EXPRESSION_ATTRIBUTES | frozenset(
    "default distinct empty_result_set_value extra filter order_by source_expressions".split()
)


def _aggregate(kind: type[Aggregate], expression: Any) -> tuple[Any, ...]:
    if (
        not _AGGREGATE_ATTRIBUTES.issuperset(expression.__dict__)
        or expression.extra
        or expression.filter is not None
        or expression.default is not None
        or getattr(expression, "order_by", None) is not None
    ):
        raise Strange
    sources = [each for each in expression.source_expressions if each is not None]
    return kind, expression.distinct, expression.is_summary, *expressions(sources)
