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
_MIGRATIONS = "django_migrations"
# Further away, a name is rather that of a table outside Django than a misspelt one.
_NEARNESS = 0.85


def check_tables(**kwargs: object) -> list[checks.CheckMessage]:
    """Check that what is named as a table does not look like a mistake. No database is asked."""
    messages = [mistake for _, mistake in _mistakes()]
    uncachable = right_value("CACHALOT_UNCACHABLE_TABLES")
    if uncachable is not None and _MIGRATIONS not in map(table_named, uncachable):
        messages.append(message("cachalot.W017", tables=tuple(uncachable), left_out=_MIGRATIONS))
    return messages


def check_tables_of_databases(
    *, databases: Sequence[str] | None = None, **kwargs: object
) -> list[checks.CheckMessage]:
    """Check that what is named as a table is one in ``databases``, or a model.

    Django runs it where a database may be asked: in ``migrate`` and ``check --database``.
    """
    if not databases:
        return []
    mistaken = {name for name, _ in _mistakes()}
    models = apps.get_models(include_auto_created=True, include_swapped=True)
    tables = {canonical(model._meta.db_table) for model in models} | {_MIGRATIONS}
    for db_alias in databases:
        introspection = connections[db_alias].introspection
        tables.update(map(canonical, introspection.table_names(include_views=True)))
    return [
        message("cachalot.W012", name=setting, table=name, suggestion=suggestion(name, tables))
        for setting in _SETTINGS
        for name in _names_in(setting)
        if name not in mistaken and table_named(name) not in tables
    ]


def _mistakes() -> Iterator[tuple[str, checks.CheckMessage]]:
    """Yield each name that looks like a mistake, and its message."""
    models = apps.get_models(include_auto_created=True, include_swapped=True)
    tables = {canonical(model._meta.db_table) for model in models} | {_MIGRATIONS}
    labels = {model._meta.label for model in models}
    class_names = {model.__name__ for model in models}
    outside = set(map(canonical, right_value("CACHALOT_ADDITIONAL_TABLES") or ()))
    for setting in _SETTINGS:
        is_declared = setting == "CACHALOT_ADDITIONAL_TABLES"
        for name in _names_in(setting):
            table = table_named(name)
            if table in tables or (table in outside and not is_declared):
                continue
            near = suggestion(name, tables | outside | labels, _NEARNESS)
            app_label, _, model_name = name.rpartition(".")
            if app_label in apps.app_configs or (
                not is_declared and (near or model_name in class_names)
            ):
                near = near or suggestion(name, labels | tables)
                yield name, message("cachalot.W012", name=setting, table=name, suggestion=near)


def _names_in(setting: str) -> Iterator[str]:
    value = right_value(setting) or ()
    yield from value
    if setting == "CACHALOT_DEPENDENT_TABLES" and value:
        for names in value.values():
            yield from names
