"""Invalidate by hand, ask for the last invalidation; what else a project calls is named here."""

from __future__ import annotations

from django.apps import AppConfig
from django.conf import settings
from django.core.cache import InvalidCacheBackendError
from django.db import connections, models

from cachalot.blocks import cached
from cachalot.checks.messages import suggestion
from cachalot.core import collecting
from cachalot.core.cache.door import cache_in_use, guard_of
from cachalot.core.cache.versions import clock
from cachalot.core.connection.databases import aliases_of_database
from cachalot.core.connection.state import is_tracked, state_of
from cachalot.core.outcomes import CacheUnavailable
from cachalot.core.reading.reports import report_versions
from cachalot.core.schema import catalogue
from cachalot.core.schema.introspection import SCHEMA
from cachalot.core.schema.version_keys import version_keys
from cachalot.core.sql.names import canonical
from cachalot.core.statistics import get_stats
from cachalot.core.writing import invalidation, writes
from cachalot.explanation import Explanation, explain
from cachalot.fresh import fresh
from cachalot.names import databases_meant, require_database, tables_called
from cachalot.recording import recorded
from cachalot.settings import cachalot_settings
from cachalot.switches import cachalot_disabled, cachalot_enabled
from cachalot.views import cached_view

__all__ = [
    "Explanation",
    "cachalot_disabled",
    "cachalot_enabled",
    "cached",
    "cached_view",
    "explain",
    "fresh",
    "get_last_invalidation",
    "get_stats",
    "invalidate",
    "recorded",
]


def invalidate(
    *tables_or_models: str | type[models.Model],
    cache_alias: str | None = None,
    db_alias: str | None = None,
) -> None:
    """Clear what was cached from some tables.

    Each argument is a model, a lookup (``"app.Model"``), the name of a table, with its schema or
    without, or the label of an application, which means the tables of all its models. Without
    arguments, every table found in the databases is meant, those outside Django included.
    ``cache_alias`` and ``db_alias`` limit this to one cache and one database; by default every
    cache and every database is meant.

    Inside a transaction the shared cache is invalidated at once and, as other connections may
    store the old rows again, once more by the COMMIT, which also sends ``post_invalidation``.
    Outside, the signal is sent at once.

    Raise ``LookupError`` for what is none of these, ``ConnectionDoesNotExist`` and
    ``InvalidCacheBackendError`` for unknown aliases; then nothing has been invalidated. Tables of
    no model are known by the databases; what cannot be looked up there is taken for a table, and
    the log says so.
    """
    cache_aliases = _cache_aliases(cache_alias)
    if db_alias is not None:
        require_database(db_alias)
    tables = _resolve(tables_or_models, db_alias)
    collecting.spoil("it invalidates what is cached")
    uses_shared = cachalot_settings.CACHALOT_CACHE in cache_aliases
    for alias, named in _tables_by_database(tables, db_alias).items():
        # What the database changes along with them, as far as this process knows.
        known = catalogue.remembered_catalogue_of(connections[alias])
        concerned = known.changed_by(named, deletes=True)
        invalidation.invalidate_shared(alias, concerned, cache_aliases)
        waits = False
        for sibling in aliases_of_database(alias) if uses_shared else ():
            state = state_of(connections[sibling])
            if state.is_in_transaction():
                state.changes += 1
                state.overlay().touch(concerned)
                waits = True
        if not waits:
            invalidation.announce(alias, concerned)


def get_last_invalidation(
    *tables_or_models: str | type[models.Model],
    cache_alias: str | None = None,
    db_alias: str | None = None,
) -> float:
    """Return when one of some tables was last invalidated, in seconds since the epoch.

    The arguments mean what they mean to ``invalidate()``, and the same errors are raised. 0.0 is
    returned if there is no table at all. Use the number as a part of a cache key: two calls give
    the same only if nothing was invalidated in between. A table that the cache knows nothing of
    (never cached, or evicted) counts as invalidated now; so does everything while
    ``CACHALOT_CACHE`` does not answer.
    """
    cache_aliases = _cache_aliases(cache_alias)
    if db_alias is not None:
        require_database(db_alias)
    tables = _resolve(tables_or_models, db_alias)
    last = 0.0
    for alias, concerned in _tables_by_database(tables, db_alias).items():
        if collecting.current() is not None:
            report_versions(connections[alias], concerned)
        for name in cache_aliases:
            last = max(last, _last_invalidation_in(name, alias, concerned))
        for sibling in aliases_of_database(alias):
            overlay = state_of(connections[sibling]).transaction.overlay
            if overlay is not None:
                times = overlay.touched_at
                last = max([last, *(times[table] for table in concerned & times.keys())])
    return last


def _last_invalidation_in(cache_alias: str, db_alias: str, tables: frozenset[str]) -> float:
    if not tables or guard_of(cache_alias).store() is None:
        return 0.0
    keys = version_keys(db_alias, tables)
    try:
        with cache_in_use(keys, cache_alias) as store:
            return max(store.timestamps(keys).values())
    except CacheUnavailable:
        pass
    # What is built now must not be found again later, when more may have been invalidated. The
    # other caches hold nothing that is invalidated by itself.
    return clock() if cache_alias == cachalot_settings.CACHALOT_CACHE else 0.0


def _resolve(names: tuple[object, ...], db_alias: str | None) -> frozenset[str] | None:
    """Return canonical names; None, where nothing is named, means all tables."""
    if not names:
        return None
    return frozenset().union(*(tables_called(name, db_alias) for name in names))


def _cache_aliases(cache_alias: str | None) -> tuple[str, ...]:
    if cache_alias is None:
        return tuple(settings.CACHES)
    if not isinstance(cache_alias, str) or cache_alias not in settings.CACHES:
        raise InvalidCacheBackendError(
            f"The cache {cache_alias!r} does not exist; CACHES has {', '.join(settings.CACHES)}. "
            f"{suggestion(cache_alias, settings.CACHES)}".rstrip()
        )
    return (cache_alias,)


def _tables_by_database(
    tables: frozenset[str] | None, db_alias: str | None
) -> dict[str, frozenset[str]]:
    """Map one alias of each database concerned to the tables concerned in it."""
    return {
        alias: writes.all_tables(connections[alias]) | {SCHEMA} if tables is None else tables
        for alias in databases_meant(db_alias)
    }


def invalidate_migrated(sender: AppConfig, using: str, **kwargs: object) -> None:
    """Receive ``post_migrate``: whatever the migrations and flushes of an app did, forget it.

    Its automatic many-to-many tables are included.
    """
    connection = connections[using]
    tables = frozenset(
        canonical(model._meta.db_table) for model in sender.get_models(include_auto_created=True)
    )
    if "plan" in kwargs:  # a flush has none
        catalogue.note_change(connection, None)
        tables |= {SCHEMA}
    if tables and is_tracked(connection):
        with writes.writing(connection, tables):
            pass
