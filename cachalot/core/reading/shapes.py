"""What of a ``Query`` decides its SQL, read without compiling it.

Two queries with equal fingerprints have the same SQL and the same parameters. So everything that
Django's compiler reads of a query is either part of the fingerprint, or the query has none: at the
first thing that is not exactly of a class listed here, it is compiled as ever. Classes and their
methods are those of Django 4.2 to 6.1; ``tests/reading/test_shapes.py`` fails where a version has
an attribute that is not listed.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, NamedTuple

from django.db.models.fields import Field
from django.db.models.fields.related import ForeignObject
from django.db.models.fields.reverse_related import ForeignObjectRel
from django.db.models.sql.datastructures import BaseTable, Join
from django.db.models.sql.query import Query

from cachalot.core.reading import operands
from cachalot.core.reading.model_facts import (
    Facts,
    Strange,
    facts_of,
    is_plain,
    joined_by,
    tables_of,
    target_of,
)
from cachalot.core.reading.operands import condition, expression, expressions

#: Attributes of ``Query`` that are part of the fingerprint.
COMPARED = frozenset(
    """
    alias_cols alias_map alias_refcount annotation_select_mask annotations deferred_loading
    default_cols default_ordering distinct extra extra_select_mask group_by
    has_select_fields high_mark low_mark max_depth model order_by select select_related selected
    standard_ordering table_map used_aliases values_select where
    """.split()
)
#: Attributes that have no value in a query with a fingerprint.
EMPTY = (
    "_filtered_relations",
    "combinator",
    "combined_queries",
    "distinct_fields",
    "explain_info",
    "external_aliases",
    "extra_order_by",
    "extra_tables",
    "is_summary",
    "select_for_update",
    "subquery",
)
#: Attributes that follow from others, or that nothing reads once a query has no ``EMPTY`` ones.
WITHOUT_EFFECT = frozenset(
    """
    _annotation_select_cache _extra_select_cache _lookup_joins base_table combinator_all
    contains_subquery filter_is_sticky select_for_no_key_update select_for_update_nowait
    select_for_update_of select_for_update_skip_locked
    """.split()
)
_KNOWN = COMPARED | WITHOUT_EFFECT | {*EMPTY}
_PLAIN = attrgetter(
    *("alias_cols", "default_cols", "default_ordering", "standard_ordering", "low_mark"),
    *("high_mark", "distinct", "max_depth", "values_select"),
)
_EMPTY = attrgetter(*EMPTY)

#: Every class whose methods make the SQL of a query with a fingerprint; its fields are of others.
CLASSES = frozenset({Query, BaseTable, Join, Field, ForeignObject, *operands.CLASSES})


class Fingerprint(NamedTuple):
    """What decides the text of a query, and the values that decide the rest of it."""

    shape: tuple[Any, ...]
    values: tuple[Any, ...]


def fingerprint(query: Any) -> Fingerprint | None:
    """Return what tells ``query`` from all others; None for one that is out of the ordinary."""
    if type(query) is not Query or not _KNOWN.issuperset(query.__dict__) or any(_EMPTY(query)):
        return None
    try:
        return _read(query)
    except (Strange, AttributeError, TypeError):
        # What others have put into a query may lack what Django's own has.
        return None


def known_by_address(query: Any) -> list[object]:
    """Return what a fingerprint has the address of, and the query does not hold."""
    models, related = [query.model], query.select_related
    pending = [(query.model, related)] if related else []
    while pending:
        model, names = pending.pop()
        for name, nested in names.items():
            models.append(target_of(model, name))
            pending.append((models[-1], nested))
    return [model._meta.concrete_fields for model in models]


def _read(query: Any) -> Fingerprint:
    model = query.model
    if model is None:
        raise Strange
    facts = facts_of(model)
    names, defers = query.deferred_loading
    related = query.select_related
    values: list[Any] = []
    shape = (
        model,
        _PLAIN(query),
        tables_of(model),
        id(model._meta.concrete_fields),
        frozenset(names),
        defers,
        _sources(query),
        condition(query.where, values),
        _ordering(query, facts),
        expressions(query.select) if query.select else None,
        _annotations(query) if query.annotations else None,
        _grouping(query.group_by),
        _related(model, related) if related else related,
        None if (selected := getattr(query, "selected", None)) is None else tuple(selected.items()),
        _extra(query) if query.extra else None,
        query.__dict__.get("has_select_fields"),
    )
    return Fingerprint(shape, tuple(values))


def _sources(query: Any) -> tuple[Any, ...]:
    used = query.alias_refcount
    sources: list[tuple[Any, ...]] = []
    for alias, source in query.alias_map.items():
        if type(source) is BaseTable:
            sources.append((alias, source.table_name, used[alias]))
        elif type(source) is Join and source.filtered_relation is None:
            field = source.join_field
            if not isinstance(field, (ForeignObject, ForeignObjectRel)) or not is_plain(field):
                raise Strange
            facts_of(field.model)
            facts_of(field.related_model)
            sources.append(
                (
                    *(alias, source.table_name, used[alias], source.parent_alias),
                    *(source.join_type, id(field), source.nullable),
                )
            )
        else:
            raise Strange
    # By these, what is joined while the query is compiled gets its name.
    named = tuple([(table, *aliases) for table, aliases in query.table_map.items()])
    return *sources, named, frozenset(query.used_aliases)


def _annotations(query: Any) -> tuple[Any, ...]:
    mask = query.annotation_select_mask
    return (
        None if mask is None else frozenset(mask),
        tuple([(name, expression(each)) for name, each in query.annotations.items()]),
    )


def _extra(query: Any) -> tuple[Any, ...]:
    """Return what ``extra(select=…)`` adds, as prefetching of many-to-many relations does."""
    if any(params for _, params in query.extra.values()):
        raise Strange
    mask = query.extra_select_mask
    texts = tuple([(name, text) for name, (text, _) in query.extra.items()])
    return None if mask is None else frozenset(mask), texts


def _grouping(group_by: Any) -> Any:
    return expressions(group_by) if isinstance(group_by, (tuple, list)) else group_by


def _ordering(query: Any, facts: Facts) -> Any:
    names = query.order_by
    if not names:
        names = (query.model._meta.ordering or ()) if query.default_ordering else ()
    parts: list[Any] = []
    for name in names:
        if type(name) is not str:
            raise Strange
        bare = name.lstrip("-")
        if bare in facts.columns or bare in query.annotations:
            parts.append(name)
            continue
        joined = joined_by(query.model, bare)
        if joined is None:
            raise Strange
        parts.append((name, *[tables_of(model) for model in joined]))
    return tuple(parts)


def _related(model: Any, related: Any) -> tuple[Any, ...]:
    """Return what ``select_related()`` names, with the tables that it reads."""
    if type(related) is not dict:
        raise Strange  # all that the models have
    parts = []
    for name, nested in related.items():
        target = target_of(model, name)
        if target is None:
            raise Strange
        fields = id(target._meta.concrete_fields)
        parts.append((name, target, tables_of(target), fields, _related(target, nested)))
    return tuple(parts)
