"""Invalidate from the command line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.db import DatabaseCache
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

from cachalot.api import invalidate
from cachalot.checks.messages import suggestion
from cachalot.core.schema.introspection import NONE
from cachalot.core.schema.tables import display_name
from cachalot.names import databases_meant, tables_with_relations_called


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
            metavar="app | app.Model | table",
            help="Application, model (with its many-to-many tables) or table to invalidate. "
            "Without any, every table is, those outside Django included.",
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
        concerned: frozenset[str] = NONE.union(*(_tables_named(name, db_alias) for name in names))
        cache_aliases = list(settings.CACHES) if cache_alias is None else [cache_alias]
        _require_answers(cache_aliases)
        # No model at all would mean every table.
        if concerned or not names:
            invalidate(*concerned, cache_alias=cache_alias, db_alias=db_alias)
        if verbosity < 1:
            return
        tables = "all tables" if not names else _plural(len(concerned), "table")
        labels = {name.partition(".")[0] for name in names} & apps.app_configs.keys()
        if labels:
            tables += f" of {_plural(len(labels), 'application')}"
        if names and verbosity > 1:
            tables += f" ({', '.join(sorted(map(display_name, concerned)))})"
        databases = len(databases_meant(db_alias))
        self.stdout.write(
            self.style.SUCCESS(
                f"Invalidated {tables} in {_plural(databases, 'database')} and "
                f"{_plural(len(cache_aliases), 'cache')}."
            )
        )


def _require_alias(alias: str | None, known: Iterable[str], noun: str) -> None:
    if alias is not None and alias not in known:
        raise CommandError(
            f"The {noun} {alias!r} does not exist; configured are {', '.join(sorted(known))}. "
            f"{suggestion(alias, known)}".rstrip()
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


def _tables_named(name: str, db_alias: str | None) -> frozenset[str]:
    """Return the tables that ``name`` means, those of a model's relations included."""
    try:
        return tables_with_relations_called(name, db_alias)
    except LookupError as error:
        raise CommandError(str(error)) from None


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
