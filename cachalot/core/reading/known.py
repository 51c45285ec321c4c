"""Queries that were compiled before, and are not compiled again.

A query is known by its fingerprint. In the *closed* form its values count as well: the same query
again. In the *open* form they are the parameters: that is safe only where no value can change the
text, and where each parameter was the very value when the query was compiled.
"""

from __future__ import annotations

import re
import uuid
from typing import Any, NamedTuple

from django.db.models import Value, lookups
from django.db.models.fields import related_lookups
from django.db.models.sql.where import WhereNode

from cachalot.core.reading.originals import is_djangos
from cachalot.core.reading.pinned import Pinned
from cachalot.core.reading.shapes import fingerprint, known_by_address
from cachalot.core.schema import catalogue
from cachalot.settings import forget_on_change

#: Whether known queries are used at all; a switch for whoever looks for a fault.
is_on = True
#: Whether a query that is known is compiled all the same and must come out alike; for tests.
compares = False
#: How many were compared so.
compared = 0

_MAX_KNOWN = 4096

# What a compiler has of its query once it is compiled, for whoever reads the rows.
_ATTRIBUTES = ("select", "klass_info", "annotation_col_map", "col_count", "has_extra_select")


class Known(NamedTuple):
    """A query that was compiled: all that its compiler, and what was made of its text, came to.

    In the open form there are bounds for each value, None for one of a kind without, and ``params``
    are only those that come before the values; ``kinds`` are what the engine makes of the values to
    tell the driver their type, None for those that stay as they are. ``kept`` are the objects that
    the fingerprint knows by their address. ``pinned`` are the rows that it asked for.
    """

    sql: str
    params: tuple[Any, ...]
    plan: Any
    attributes: dict[str, Any]
    bounds: tuple[tuple[int, int] | None, ...] | None
    kinds: tuple[type | None, ...]
    kept: tuple[object, ...]
    pinned: Pinned | None


#: Where a query is known: by session, class of the compiler, ``elide_empty`` and shape.
Place = tuple[bytes, type, bool, tuple[Any, ...]]


class Recalled(NamedTuple):
    """What is known of a query by its fingerprint, if it has one."""

    place: Place | None
    values: tuple[Any, ...]
    known: Known | None


NOTHING = Recalled(None, (), None)
_known: dict[tuple[object, ...], Known] = {}


def recall(compiler: Any, origin: bytes) -> Recalled:
    """Return what is known of the query of ``compiler``, in the session that ``origin`` names."""
    recalled: Recalled | None = compiler.__dict__.get("cachalot_recalled")
    if recalled is None:
        printed = fingerprint(compiler.query)
        if printed is None:
            return NOTHING
        recalled = find(compiler, origin, printed.shape, printed.values)
    elif recalled.place is not None and recalled.place[0] != origin:
        # Whoever has found it has taken another session for the one in force.
        recalled = find(compiler, origin, recalled.place[-1], recalled.values)
    if compares and recalled.known is not None:
        _compare(compiler, recalled)
    return recalled


def find(compiler: Any, origin: bytes, shape: tuple[Any, ...], values: tuple[Any, ...]) -> Recalled:
    """Return what is known of a query with this fingerprint, and give it to its compiler."""
    if not is_on or not is_djangos(type(compiler), type(compiler.connection.ops)):
        return NOTHING
    place = origin, type(compiler), compiler.elide_empty, shape
    known = _known.get(place)
    if known is not None and known.bounds is None:
        known = _known.get((*place, values))
    elif known is not None and not _are_within(values, known.bounds):
        known = None
    if known is None or known.plan.epoch != catalogue.epoch:
        return Recalled(place, values, None)
    compiler.__dict__.update(known.attributes)
    return Recalled(place, values, known)


def remember(
    compiler: Any, recalled: Recalled, sql: str, params: Any, plan: Any, pinned: Pinned | None
) -> None:
    """Know the query next time, which ``compiler`` has just compiled."""
    if recalled.place is None or plan.bypass is not None:
        return
    if len(_known) >= _MAX_KNOWN:
        _known.clear()
    attributes, kept = _shared(compiler, recalled.place)
    params = tuple(params)
    kinds = _kinds_of(compiler.query, recalled.values, params)
    bounds = None if kinds is None else _bounds_of(compiler, recalled.values)
    if bounds is not None:
        params = params[: len(params) - len(bounds)]
        if pinned is not None and pinned.in_place(recalled.values) != pinned:
            pinned = None
    known = Known(sql, params, plan, attributes, bounds, kinds or (), kept, pinned)
    _known[recalled.place] = known
    if bounds is None:
        _known[(*recalled.place, recalled.values)] = known


def _shared(compiler: Any, place: Place) -> tuple[dict[str, Any], tuple[object, ...]]:
    """Return what all queries of a shape have in common: attributes, and what is kept of one."""
    alike = _known.get(place)
    if alike is not None and alike.plan.epoch == catalogue.epoch:
        return alike.attributes, alike.kept
    made, query = vars(compiler), compiler.query
    attributes = {name: made[name] for name in _ATTRIBUTES if name in made}
    # A clone: the query itself may be changed.
    return attributes, (query.clone(), *known_by_address(query))


def params_of(known: Known, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the parameters of a known query that has these values."""
    if known.bounds is None:
        return known.params
    if any(known.kinds):
        values = tuple(
            [
                value if kind is None else kind(value)
                for value, kind in zip(values, known.kinds, strict=True)
            ]
        )
    return known.params + values


def pinned_by(known: Known, values: tuple[Any, ...]) -> Pinned | None:
    """Return the rows that a known query asks for that has these values."""
    pinned = known.pinned
    return pinned if pinned is None or known.bounds is None else pinned.in_place(values)


def _are_within(values: tuple[Any, ...], bounds: Any) -> bool:
    for value, bound in zip(values, bounds, strict=True):
        if bound is not None and not bound[0] <= value <= bound[1]:
            return False
    return True


# Lookups that write one parameter for each value, whatever it is, as long as it is in the range of
# its column (IntegerFieldOverflow in django/db/models/lookups.py).
_OPEN = frozenset(
    {
        *(lookups.Exact, getattr(lookups, "IntegerFieldExact", lookups.Exact), lookups.In),
        *(related_lookups.RelatedExact, related_lookups.RelatedIn),
    }
)
INTEGERS = frozenset(
    f"{size}{kind}Field"
    for size in ("", "Big", "Small", "Positive", "PositiveBig", "PositiveSmall")
    for kind in ("Integer", "Auto")
)
TEXTS = frozenset({"CharField", "TextField", "SlugField"})
_WIDEST = -(2**63), 2**63 - 1


def _kinds_of(
    query: Any, values: tuple[Any, ...], params: tuple[Any, ...]
) -> tuple[type | None, ...] | None:
    """Return what was made of each value, None if the parameters are something else than that."""
    # Those of the SELECT list come first.
    constants = sum(type(each) is Value for each in query.annotation_select.values())
    if len(params) != constants + len(values) or (constants and query.group_by is not None):
        return None
    kinds: list[type | None] = []
    for value, param in zip(values, params[constants:], strict=True):
        kind = type(param)
        if value is param:
            kinds.append(None)
        elif type(value) is int and issubclass(kind, int) and kind.__module__ == _PSYCOPG:
            kinds.append(kind)
        else:
            return None
    return tuple(kinds)


# Its Int4 and the like: django/db/backends/postgresql/operations.py, adapt_integerfield_value().
_PSYCOPG = "psycopg.types.numeric"


def _bounds_of(compiler: Any, values: tuple[Any, ...]) -> tuple[tuple[int, int] | None, ...] | None:
    """Return the range of each value within which the text stays as it is, None if it may not."""
    bounds: list[tuple[int, int] | None] = []
    is_open = _add_bounds(compiler.query.where, compiler.connection.ops, bounds)
    return tuple(bounds) if is_open and len(bounds) == len(values) else None


def _add_bounds(node: Any, ops: Any, bounds: list[Any]) -> bool:
    for child in node.children:
        if type(child) is WhereNode:
            if not _add_bounds(child, ops, bounds):
                return False
        elif not _add_bounds_of_lookup(child, ops, bounds):
            return False
    return True


def _add_bounds_of_lookup(lookup: Any, ops: Any, bounds: list[Any]) -> bool:
    rhs = lookup.rhs
    if rhs is None or type(rhs) is bool:
        return True  # part of the shape
    if type(lookup) not in _OPEN:
        return False
    values = rhs if type(rhs) in (list, tuple) else [rhs]
    if len(set(values)) != len(values):
        return False  # fewer parameters than values, among which others may pass for them
    field = lookup.lhs.output_field
    while (target := getattr(field, "target_field", field)) is not field:
        field = target
    kind, types = field.get_internal_type(), set(map(type, values))
    if kind in INTEGERS and types == {int}:
        low, high = ops.integer_field_range(kind)
        bounds += [
            (_WIDEST[0] if low is None else low, _WIDEST[1] if high is None else high)
        ] * len(values)
        return True
    bounds += [None] * len(values)
    return (kind in TEXTS and types == {str}) or (kind == "UUIDField" and types == {uuid.UUID})


def _compare(compiler: Any, recalled: Recalled) -> None:
    global compared
    known = recalled.known
    assert known is not None
    sql, params = compiler.as_sql()
    expected = params_of(known, recalled.values)
    assert (sql, _typed(params)) == (known.sql, _typed(expected)), (
        sql,
        known.sql,
        params,
        expected,
    )
    made = vars(compiler)
    for name in _ATTRIBUTES:
        ours, theirs = known.attributes.get(name), made.get(name)
        assert _text(ours) == _text(theirs), (sql, name, ours, theirs)
    compared += 1


def _typed(params: Any) -> list[tuple[type, object]]:
    return [(type(param), param) for param in params]


def _text(value: object) -> str:
    return re.sub("0x[0-9a-f]+", "", repr(value))


forget_on_change(_known.clear)
