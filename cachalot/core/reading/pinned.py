"""Which rows a query names by a key, so that it concerns no others of their table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from django.db.models import lookups
from django.db.models.expressions import Col
from django.db.models.fields import related_lookups
from django.db.models.sql.constants import INNER
from django.db.models.sql.datastructures import Join
from django.db.models.sql.query import Query
from django.db.models.sql.subqueries import DeleteQuery, InsertQuery, UpdateQuery
from django.db.models.sql.where import AND, WhereNode

from cachalot.core.reading.model_facts import is_plain
from cachalot.core.reading.originals import is_djangos
from cachalot.core.rows import Column

try:  # Django 5.2, where keys may have several columns, and foreign keys prefetch by tuples of one
    from django.db.models.expressions import ColPairs
    from django.db.models.fields.tuple_lookups import TupleExact, TupleIn
except ImportError:
    ColPairs = TupleExact = TupleIn = None  # type: ignore[assignment,misc]

#: In the place of a column: the statement adds rows, and changes none that is there.
NEW_ROWS = ""

_EXACT = frozenset(
    {
        *(lookups.Exact, getattr(lookups, "IntegerFieldExact", lookups.Exact)),
        related_lookups.RelatedExact,
    }
)
_IN = frozenset({lookups.In, related_lookups.RelatedIn})


class Pinned(NamedTuple):
    """The condition that a column of the first table has one of these values.

    Several columns, which Django compares as tuples, come in the order of their names. ``at`` is
    the position of the first value among all of the WHERE clause, as a fingerprint has them.
    """

    table: str
    column: Column
    values: tuple[Any, ...]
    at: int = 0

    def values_among(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return what the same condition pins with these values of the WHERE clause."""
        return values[self.at : self.at + len(self.values)]


def pinned_by_write(compiler: Any) -> Pinned | None:
    """Return the rows of its table that a write compiler's statement changes, if it says so."""
    query = compiler.query
    if not is_djangos(type(compiler), type(compiler.connection.ops)):
        return None
    kind, table = type(query), query.get_meta().db_table
    if kind is InsertQuery:
        is_plain_insert = query.on_conflict is None
        return Pinned(table, NEW_ROWS, ()) if is_plain_insert else None
    if kind is not UpdateQuery and kind is not DeleteQuery:
        return None
    columns = key_columns_of(query)
    column = columns[0] if len(columns) == 1 else tuple(sorted(columns))
    pinned = next((each for each in _pinned_in(query) if each.column == column), None)
    if pinned is None or pinned.table != table:
        return None
    if kind is UpdateQuery and any(field.column in columns for field, *_ in query.values):
        return None
    return pinned


def key_columns_of(query: Any) -> tuple[str, ...]:
    """Return the columns of the primary key of a query's model, as the model has them."""
    key = query.get_meta().pk
    # Of several columns the field itself has none.
    columns: tuple[str, ...] = getattr(key, "columns", (key.column,))
    return columns


def pinned_by_read(compiler: Any) -> list[Pinned]:
    """Return each condition on a column of its first table without which a SELECT has no rows."""
    query = compiler.query
    if (
        type(query) is not Query
        or query.combinator
        or query.group_by is not None
        or any(
            each.contains_aggregate or each.contains_over_clause
            for each in query.annotations.values()
        )
        or not is_djangos(type(compiler), type(compiler.connection.ops))
    ):
        return []
    return list(_pinned_in(query))


def joined_on(compiler: Any, column: str, aliases: list[str]) -> dict[str, str]:
    """Return the tables of which a SELECT joins the row whose column equals one of its first table.

    By table, the column. A row of the first table is found with theirs or not at all. ``aliases``
    are those of the FROM clause.
    """
    joins = compiler.query.alias_map
    joined, equal = {}, {next(iter(joins)): column}
    for alias in aliases:
        join = joins[alias]
        if type(join) is Join and join.join_type == INNER and len(join.join_cols) == 1:
            ((left, right),) = join.join_cols
            if equal.get(join.parent_alias) == left:
                joined[join.table_name] = equal[alias] = right
    return joined


def selected_by(compiler: Any) -> list[Column | None]:
    """Return what a compiled SELECT selects: columns of its first table, None for others."""
    alias = next(iter(compiler.query.alias_map))
    selected = [each for each, *_ in compiler.select or ()]
    if any(type(each) is not Col and hasattr(each, "targets") for each in selected):
        return []  # several columns of the result
    return [_column_of(each, alias) for each in selected]


def _pinned_in(query: Any) -> Iterator[Pinned]:
    """Yield the conditions of a WHERE clause that must hold and name such a column."""
    alias = next(iter(query.alias_map), None)
    if alias is None or query.where.negated or query.where.connector != AND:
        return
    table = query.alias_map[alias].table_name
    at = 0
    for lookup in query.where.children:
        column = _column_of(getattr(lookup, "lhs", None), alias)
        if column is not None and (values := _values_of(lookup)) is not None:
            if type(column) is tuple:
                order = sorted(range(len(column)), key=column.__getitem__)
                column = tuple([column[i] for i in order])
                values = tuple([tuple([value[i] for i in order]) for value in values])
            yield Pinned(table, column, values, at)
        at += _values_in(lookup)


def _column_of(expression: Any, alias: str) -> Column | None:
    """Return the column of a table that an expression is, if Django's own field makes its SQL.

    Several come as the expression has them.
    """
    if type(expression) is Col:
        targets: Any = (expression.target,)
    elif ColPairs is not None and type(expression) is ColPairs:
        targets = expression.targets
    else:
        return None
    if expression.alias != alias or not all(map(is_plain, (*targets, expression.output_field))):
        return None
    columns = tuple([target.column for target in targets])
    return columns[0] if len(columns) == 1 else columns


def _values_of(lookup: Any) -> tuple[Any, ...] | None:
    """Return the values of which a lookup allows one, None if that cannot be told.

    Those of several columns are tuples.
    """
    kind, rhs = type(lookup), lookup.rhs
    if lookup.bilateral_transforms:
        return None
    if kind is TupleExact:
        return _values_of_tuples([rhs])
    is_some = type(rhs) is list or type(rhs) is tuple
    if kind is TupleIn:
        return _values_of_tuples(rhs) if is_some else None
    if type(lookup.lhs) is not Col and len(lookup.lhs.targets) > 1:
        return None  # a relation of several columns, which may be given instances
    if kind in _EXACT:
        return (rhs,)
    return tuple(rhs) if kind in _IN and is_some else None


def _values_of_tuples(tuples: Iterable[Any]) -> tuple[Any, ...] | None:
    if not all(type(each) is tuple or type(each) is list for each in tuples):
        return None
    return tuple([each[0] if len(each) == 1 else tuple(each) for each in tuples])


def _values_in(node: Any) -> int:
    """Return how many values of a condition a fingerprint has."""
    if type(node) is WhereNode:
        return sum(map(_values_in, node.children))
    rhs = getattr(node, "rhs", None)
    values = rhs if type(rhs) is list or type(rhs) is tuple else (rhs,)
    return sum(value is not None and type(value) is not bool for value in values)
