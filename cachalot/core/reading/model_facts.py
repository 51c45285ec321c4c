"""What is compiled of a model by its name alone, read from the model each time."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.core.exceptions import FieldDoesNotExist
from django.db.models.fields.related import ForeignObject

from cachalot.settings import memo


class Strange(Exception):
    """Something in a query is not listed: it has no fingerprint."""


class Facts(NamedTuple):
    """The model and its parents, whose tables are read, and its ``columns`` of its own table."""

    models: tuple[Any, ...]
    columns: frozenset[str]


def facts_of(model: Any) -> Facts:
    """Return what is compiled of a model. Raise ``Strange`` if not Django alone does that."""
    facts = _plain_facts_of(model)
    if facts is None:
        raise Strange
    return facts


@memo(maxsize=4096)
def _plain_facts_of(model: Any) -> Facts | None:
    """Return None for a model with fields whose SQL others than Django make."""
    meta = model._meta
    if not all(map(is_plain, meta.get_fields())):
        return None
    parents = tuple(meta.get_parent_list())
    columns = {field.name for field in own_columns_of(model) if field.remote_field is None}
    if meta.pk is not None and meta.pk.name in columns:
        columns.add("pk")
    return Facts((model, *parents), frozenset(columns))


def own_columns_of(model: Any) -> Any:
    """Return the fields that lie in the model's own table, those of parents left out."""
    return model._meta.concrete_model._meta.local_concrete_fields


def is_plain_model(model: Any) -> bool:
    """Whether Django alone makes the SQL of the model's fields."""
    return _plain_facts_of(model) is not None


def is_plain(field: Any) -> bool:
    """Whether a field is one of Django's own, of those that every database has."""
    kind = field if isinstance(field, type) else type(field)
    return kind.__module__.startswith("django.db.models.fields")


@memo(maxsize=4096)
def joined_by(model: Any, name: str) -> tuple[Any, ...] | None:
    """Return the models on the way to a column of another model, None if it is not as simple.

    The name of a relation alone is not: its model's own ordering counts as well.
    """
    *relations, column = name.split("__")
    joined = []
    for relation in relations:
        model = target_of(model, relation)
        if model is None:
            return None
        joined.append(model)
    facts = _plain_facts_of(model) if joined else None
    return tuple(joined) if facts is not None and column in facts.columns else None


def tables_of(model: Any) -> tuple[str, ...]:
    """Return the tables of a model as they are called now: tests and projects do change them."""
    return tuple([each._meta.db_table for each in facts_of(model).models])


@memo(maxsize=4096)
def target_of(model: Any, name: str) -> Any:
    """Return the model that a forward relation leads to, None for any other name."""
    try:
        field = model._meta.get_field(name)
    except FieldDoesNotExist:
        return None
    return field.related_model if isinstance(field, ForeignObject) else None
