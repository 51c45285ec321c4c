"""Invalidate from the command line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.db import DatabaseCache
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections, models

from cachalot.api import invalidate
from cachalot.core.connection.databases import aliases_of_database
from cachalot.core.connection.state import is_tracked


class Command(BaseCommand):
    """Invalidate what was cached from all tables, or from those of some applications and models."""

    help = (
        "Invalidates what cachalot has cached. Run it after data was changed outside Django, by "
        "restoring a database for instance."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "names",
            nargs="*",
            metavar="app | app.Model",
            help="Application or model to invalidate, with its many-to-many tables. Without any, "
            "every table is, those outside Django included.",
        )
        parser.add_argument(
            "-c",
            "--cache",
            dest="cache_alias",
            metavar="ALIAS",
            help="Alias in CACHES of the only cache to invalidate. By default, every cache is.",
        )
        parser.add_argument(
            "-d",
            "-p",
            "--db",
            dest="db_alias",
            metavar="ALIAS",
            help="Alias in DATABASES of the only database to invalidate. By default, every "
            "database is.",
        )

    def handle(
        self,
        *,
        names: list[str],
        cache_alias: str | None,
        db_alias: str | None,
        verbosity: int,
        **options: Any,
    ) -> None:
        """Raise ``CommandError``, with nothing invalidated, if something does not exist."""
        _require_alias(cache_alias, settings.CACHES, "cache")
        _require_alias(db_alias, connections.settings, "database")
        concerned: dict[type[models.Model], None] = {}
        labels = set()
        for name in names:
            label, found = _models_named(name)
            labels.add(label)
            concerned.update(dict.fromkeys(found))
        cache_aliases = list(settings.CACHES) if cache_alias is None else [cache_alias]
        _require_answers(cache_aliases)
        # No model at all would mean every table.
        if concerned or not names:
            invalidate(*concerned, cache_alias=cache_alias, db_alias=db_alias)
        if verbosity < 1:
            return
        tables = "all tables"
        if names:
            count = len({model._meta.db_table for model in concerned})
            tables = f"{_plural(count, 'table')} of {_plural(len(labels), 'application')}"
        databases = 1 if db_alias is not None else _count_databases()
        self.stdout.write(
            self.style.SUCCESS(
                f"Invalidated {tables} in {_plural(databases, 'database')} and "
                f"{_plural(len(cache_aliases), 'cache')}."
            )
        )


def _require_alias(alias: str | None, known: Iterable[str], noun: str) -> None:
    if alias is not None and alias not in known:
        raise CommandError(
            f"The {noun} {alias!r} does not exist; configured are {', '.join(sorted(known))}."
        )


def _require_answers(cache_aliases: list[str]) -> None:
    """Ask each cache: invalidate() puts off what it cannot store now, and this process ends."""
    for alias in cache_aliases:
        try:
            cache = caches[alias]
            # Nothing of ours lies in the database, and the cache's table may not exist.
            if not isinstance(cache, DatabaseCache):
                cache.get("cachalot:probe")
        except Exception as error:
            others = " Name one that does with --cache." if len(cache_aliases) > 1 else ""
            raise CommandError(
                f"Nothing was invalidated, because the cache {alias!r} does not answer "
                f"({type(error).__name__}: {error}).{others}"
            ) from error


def _models_named(name: str) -> tuple[str, list[type[models.Model]]]:
    """Return the application's label and the models that ``name`` means."""
    label, _, model_name = name.partition(".")
    if label not in apps.app_configs:
        raise CommandError(
            f"The application {label!r} does not exist; installed are "
            f"{', '.join(sorted(apps.app_configs))}."
        )
    config = apps.get_app_config(label)
    if "." not in name:
        return label, list(config.get_models(include_auto_created=True))
    try:
        model = config.get_model(model_name)
    except LookupError:
        names = ", ".join(sorted(model.__name__ for model in config.get_models()))
        raise CommandError(
            f"The application {label!r} has no model {model_name!r}; its models are: "
            f"{names or 'none'}."
        ) from None
    owner: Any = model._meta.concrete_model
    everything = config.get_models(include_auto_created=True)
    return label, [
        model,
        *(through for through in everything if through._meta.auto_created is owner),
    ]


def _count_databases() -> int:
    """Count as invalidate() does: aliases of one database are one, unsupported ones none."""
    return len(
        {aliases_of_database(alias) for alias in connections if is_tracked(connections[alias])}
    )


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
