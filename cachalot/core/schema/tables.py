"""The tables that Django knows, and which aliases and tables change together."""

from __future__ import annotations

from collections.abc import Iterable

from django.apps import apps
from django.db import models

from cachalot.core.sql.names import canonical
from cachalot.core.sql.text import WORD
from cachalot.settings import cachalot_settings, memo

# Django 6.1 has actions that the database itself takes on delete.
_DatabaseOnDelete: type | tuple[()] = getattr(models.deletion, "DatabaseOnDelete", ())


def _models(app_label: str | None = None) -> list[type[models.Model]]:
    """Return the models of an app or of all, automatic and swapped ones included.

    Those imported so far, while Django still imports them: ``apps.get_models()`` would raise.
    """
    labels = list(apps.all_models) if app_label is None else [app_label]
    return [model for label in labels for model in list(apps.all_models[label].values())]


def table_named(name: str) -> str:
    """Return the canonical table of a model label (``"app.Model"``) or of a table's name."""
    app_label, dot, model_name = name.rpartition(".")
    if dot and app_label in apps.app_configs:
        try:
            return canonical(apps.get_registered_model(app_label, model_name)._meta.db_table)
        except LookupError:
            pass  # a table of a schema that has the name of an app
    return canonical(name)


@memo(maxsize=1)
def known_tables() -> dict[str, str]:
    """Map the canonical name of every installed model's table to its ``db_table``.

    Tables of many-to-many relations and of ``CACHALOT_ADDITIONAL_TABLES`` are included.
    """
    tables = {table_named(name): name for name in cachalot_settings.CACHALOT_ADDITIONAL_TABLES}
    for model in _models():
        table = model._meta.db_table
        tables[canonical(table)] = table
    return tables


@memo(maxsize=1)
def managed_tables() -> frozenset[str]:
    """Return the canonical names of the tables that Django creates, which are no views."""
    return frozenset(canonical(model._meta.db_table) for model in _models() if model._meta.managed)


@memo(maxsize=1)
def _odd_names() -> tuple[str, ...]:
    """Known names that are no single word, so no scan for words finds them."""
    return tuple(table for table in known_tables() if not WORD.fullmatch(table))


def known_tables_in(words: frozenset[str], text: str) -> set[str]:
    """Return the known tables among ``words``, or spelt out in ``text`` (lower case)."""
    tables = set(known_tables().keys() & words)
    tables.update(table for table in _odd_names() if table in text)
    return tables


def display_name(table: str) -> str:
    """Return the ``db_table`` of a canonical name, or the name itself for an unknown table."""
    return known_tables().get(table, table)


def tables_of_apps(app_labels: Iterable[str]) -> frozenset[str]:
    """Return the canonical names of all tables of these apps; unknown labels have none."""
    return frozenset(
        canonical(model._meta.db_table)
        for app_label in app_labels
        if app_label in apps.app_configs
        for model in _models(app_label)
    )


@memo(maxsize=1)
def _uncachable_tables() -> frozenset[str]:
    tables = map(table_named, cachalot_settings.CACHALOT_UNCACHABLE_TABLES)
    return frozenset(tables) | tables_of_apps(cachalot_settings.CACHALOT_UNCACHABLE_APPS)


@memo(maxsize=1)
def _only_cachable_tables() -> frozenset[str]:
    tables = map(table_named, cachalot_settings.CACHALOT_ONLY_CACHABLE_TABLES)
    return frozenset(tables) | tables_of_apps(cachalot_settings.CACHALOT_ONLY_CACHABLE_APPS)


@memo(maxsize=4096)
def why_uncachable(tables: frozenset[str], named: frozenset[str]) -> str | None:
    """Return why the settings exclude a query on ``tables``, None if they do not.

    Those that it has ``named`` must be listed; what a view shows is listed along with it.
    """
    if excluded := tables & _uncachable_tables():
        names = ", ".join(sorted(map(display_name, excluded)))
        return f"uses {names}, which CACHALOT_UNCACHABLE_TABLES or _APPS excludes"
    if (only := _only_cachable_tables()) and (excluded := named - only):
        names = ", ".join(sorted(map(display_name, excluded)))
        return f"uses {names}, which CACHALOT_ONLY_CACHABLE_TABLES or _APPS does not list"
    return None


@memo(maxsize=1)
def _dependent_tables() -> dict[str, frozenset[str]]:
    return {
        table_named(name): frozenset(map(table_named, dependents))
        for name, dependents in cachalot_settings.CACHALOT_DEPENDENT_TABLES.items()
    }


@memo(maxsize=1)
def _cascades() -> dict[str, frozenset[str]]:
    """Map each table to those the database changes when rows of it are deleted (Django 6.1)."""
    cascades: dict[str, set[str]] = {}
    if not _DatabaseOnDelete:
        return {}
    for model in _models():
        for field in model._meta.local_fields:
            remote = field.remote_field
            if remote is not None and isinstance(
                getattr(remote, "on_delete", None), _DatabaseOnDelete
            ):
                parent = canonical(remote.model._meta.db_table)
                cascades.setdefault(parent, set()).add(canonical(model._meta.db_table))
    return {table: frozenset(changed) for table, changed in cascades.items()}


@memo(maxsize=4096)
def changed_with(tables: frozenset[str], is_delete: bool) -> frozenset[str]:
    """Return ``tables`` and every table that changes when they are written.

    Followed are ``CACHALOT_DEPENDENT_TABLES`` and, for a delete, what the database cascades to.
    """
    changed = set(tables)
    unseen = list(tables)
    while unseen:
        table = unseen.pop()
        followers = _dependent_tables().get(table, frozenset())
        if is_delete:
            followers |= _cascades().get(table, frozenset())
        unseen.extend(followers - changed)
        changed |= followers
    return frozenset(changed)
