"""What a project may call tables by: models, ``"app.Model"``, tables and applications."""

from __future__ import annotations

import logging
from difflib import get_close_matches
from typing import Any

from django.apps import AppConfig, apps
from django.db import Error, connections, models
from django.db.models.manager import BaseManager
from django.utils.connection import ConnectionDoesNotExist

from cachalot.checks.messages import suggestion
from cachalot.core.connection.databases import aliases_of_database
from cachalot.core.connection.state import is_tracked
from cachalot.core.schema import catalogue
from cachalot.core.schema.tables import known_tables
from cachalot.core.sql.names import canonical

logger = logging.getLogger("cachalot")


def tables_called(name: object, db_alias: str | None = None) -> frozenset[str]:
    """Return the canonical tables that ``name`` means, in one database or in any.

    Raise ``LookupError`` if it means nothing.
    """
    if isinstance(name, type) and issubclass(name, models.Model):
        if name._meta.abstract:
            raise LookupError(
                f"{name.__name__} is abstract and has no table; name a concrete model."
            )
        return frozenset({canonical(name._meta.db_table)})
    if not isinstance(name, str) or not name:
        raise LookupError(_what_is_wrong_with_value(name))
    model = _model_called(name)
    if model is not None:
        return frozenset({canonical(model._meta.db_table)})
    table = canonical(name)
    if table in known_tables():
        return frozenset({table})
    if name in apps.app_configs:
        return frozenset(canonical(each._meta.db_table) for each in models_of(name))
    if _is_in_a_database(table, name, db_alias):
        return frozenset({table})
    raise LookupError(_what_is_wrong_with(name))


def tables_with_relations_called(name: object, db_alias: str | None = None) -> frozenset[str]:
    """Return what ``tables_called()`` does and, of a model, its many-to-many tables as well."""
    tables = tables_called(name, db_alias)
    model = _model_called(name) if isinstance(name, str) else None
    if model is None:
        return tables
    owner: Any = model._meta.concrete_model
    through = [
        each for each in models_of(model._meta.app_label) if each._meta.auto_created is owner
    ]
    return tables.union(canonical(each._meta.db_table) for each in through)


def require_database(db_alias: object) -> None:
    """Raise ``ConnectionDoesNotExist`` if ``DATABASES`` has no such alias."""
    aliases = connections.settings
    if not isinstance(db_alias, str) or db_alias not in aliases:
        raise ConnectionDoesNotExist(
            f"The database {db_alias!r} does not exist; DATABASES has {', '.join(aliases)}. "
            f"{suggestion(db_alias, aliases)}".rstrip()
        )


def databases_meant(db_alias: str | None = None) -> list[str]:
    """Return the one alias given; else one of each database that is followed."""
    if db_alias is not None:
        return [db_alias]
    tracked = [alias for alias in connections.settings if is_tracked(connections[alias])]
    return list(dict.fromkeys(aliases_of_database(alias)[0] for alias in tracked))


def models_of(app_label: str) -> list[type[models.Model]]:
    """Return the models of an installed application, automatic ones included."""
    return list(apps.get_app_config(app_label).get_models(include_auto_created=True))


def _model_called(name: str) -> type[models.Model] | None:
    app_label, dot, model_name = name.rpartition(".")
    if not dot or app_label not in apps.app_configs:
        return None
    try:
        return apps.get_model(app_label, model_name)
    except LookupError:
        return None  # it may be a table of a schema that has the name of an application


def _is_in_a_database(table: str, name: str, db_alias: str | None) -> bool:
    """Whether a database has this table; a warning says where that cannot be told."""
    unknown = []
    for alias in databases_meant(db_alias):
        connection = connections[alias]
        try:
            connection.ensure_connection()
            schema = catalogue.catalogue_of(connection)
        except Error as error:
            logger.debug("The database %r cannot be asked: %r", alias, error)
            schema = None
        if schema is None:
            unknown.append(alias)
        elif table in schema.tables:
            return True
    if unknown:
        logger.warning(
            "Whether there is a table %r cannot be told now; it counts as one. Databases that "
            "could not be asked: %s.",
            name,
            ", ".join(unknown),
        )
    return bool(unknown)


def _what_is_wrong_with(name: str) -> str:
    app_label, dot, model_name = name.rpartition(".")
    if dot and app_label in apps.app_configs:
        there_are = _model_names(apps.get_app_config(app_label))
        return (
            f"The app {app_label!r} has no model {model_name!r}; its models are: "
            f"{', '.join(there_are) or 'none'}."
        )
    likely = _likely(name)
    hint = f" Did you mean {' or '.join(map(repr, likely))}?" if likely else ""
    return (
        f"{name!r} is neither a model ('app.Model'), nor a table, nor an application.{hint} A "
        "table that is about to be made can be named in CACHALOT_ADDITIONAL_TABLES."
    )


def _likely(name: str) -> list[str]:
    """Return what ``name`` may have been meant to be; nothing if that cannot be told."""
    meant: dict[str, list[str]] = {}
    for config in apps.get_app_configs():
        for model in _model_names(config):
            label = f"{config.label}.{model}"
            meant.setdefault(label.lower(), []).append(label)
            meant.setdefault(model.lower(), []).append(label)
        for spelling in {config.label.lower(), config.name.lower()}:
            meant.setdefault(spelling, []).append(config.label)
    for table in known_tables().values():
        meant.setdefault(table.lower(), []).append(table)
    nearest = get_close_matches(name.lower(), meant, n=1)
    return meant[nearest[0]] if nearest else []


def _what_is_wrong_with_value(value: object) -> str:
    """Return what to say of what is no text, or an empty one. Nothing is read for it."""
    if isinstance(value, models.Model):
        return (
            f"An instance of {type(value).__name__} is no table; name its model: "
            f"{value._meta.label!r}."
        )
    if isinstance(value, (models.QuerySet, BaseManager)):
        return f"A {type(value).__name__} is no table; name its model: {value.model._meta.label!r}."
    if isinstance(value, (list, tuple, set, frozenset)):
        return f"{value!r} holds names; pass them one by one, such as invalidate(*names)."
    hint = " In a template, a name stands in quotes." if value in ("", None) else ""
    return (
        f"{value!r} is no name; name a model (the class, or 'app.Model'), a table or an "
        f"application.{hint}"
    )


def _model_names(config: AppConfig) -> list[str]:
    return sorted(model.__name__ for model in config.get_models())
