"""Whether what settings name as tables are tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from django.apps import apps
from django.core import checks
from django.db import connections

from cachalot.checks.messages import message, suggestion
from cachalot.checks.values import right_value
from cachalot.core.schema.tables import table_named
from cachalot.core.sql.names import canonical

_SETTINGS = (
    "CACHALOT_ONLY_CACHABLE_TABLES",
    "CACHALOT_UNCACHABLE_TABLES",
    "CACHALOT_ADDITIONAL_TABLES",
    "CACHALOT_DEPENDENT_TABLES",
    "CACHALOT_TIMEOUTS",
)
# Further away, a name is rather that of a table outside Django than a misspelt one.
_NEARNESS = 0.85


def check_tables(
    *, databases: Sequence[str] | None = None, **kwargs: object
) -> list[checks.CheckMessage]:
    """Check that what is named as a table is one, or a model.

    A database is asked for its tables only where ``databases`` names it, as ``migrate`` and
    ``check --database`` do. Otherwise a name may be that of a table outside Django unless it looks
    like a mistake.
    """
    models = apps.get_models(include_auto_created=True, include_swapped=True)
    tables = {canonical(model._meta.db_table) for model in models} | {"django_migrations"}
    labels = {model._meta.label for model in models}
    class_names = {model.__name__ for model in models}
    outside = set(map(canonical, right_value("CACHALOT_ADDITIONAL_TABLES") or ()))
    real = _tables_in(databases) if databases else None
    messages = []
    for setting in _SETTINGS:
        is_declared = setting == "CACHALOT_ADDITIONAL_TABLES"
        for name in _names_in(setting):
            table = table_named(name)
            if table in tables or (table in outside and not is_declared):
                continue
            near = suggestion(name, tables | outside | labels, _NEARNESS)
            app_label, _, model_name = name.rpartition(".")
            is_wrong = app_label in apps.app_configs or (
                not is_declared and bool(near or model_name in class_names)
            )
            if real is not None:
                is_wrong = table not in real
            if is_wrong:
                near = near or suggestion(name, labels | tables)
                messages.append(message("cachalot.W012", name=setting, table=name, suggestion=near))
    return messages


def _names_in(setting: str) -> Iterator[str]:
    value = right_value(setting) or ()
    yield from value
    if setting == "CACHALOT_DEPENDENT_TABLES" and value:
        for names in value.values():
            yield from names


def _tables_in(databases: Sequence[str]) -> set[str]:
    """Return the tables that these databases have, views included. Raise what they raise."""
    return {
        canonical(table)
        for db_alias in databases
        for table in connections[db_alias].introspection.table_names(include_views=True)
    }
