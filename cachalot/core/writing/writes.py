"""How a change invalidates: before it shows and after, whatever comes of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from django.db import InterfaceError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core import events
from cachalot.core.cache.door import guard_of
from cachalot.core.connection.databases import alias_reached_by, aliases_changing_with
from cachalot.core.connection.state import State, is_tracked, state_of
from cachalot.core.schema import catalogue
from cachalot.core.schema.tables import changed_with, display_name, known_tables
from cachalot.core.schema.version_keys import keys_to_renew
from cachalot.settings import cachalot_settings
from cachalot.signals import post_invalidation

logger = logging.getLogger("cachalot")


def announce(db_alias: str, tables: Iterable[str]) -> None:
    """Send ``post_invalidation`` for each table and each alias through which it may show."""
    if events.listeners and (announced := frozenset(tables) - {catalogue.SCHEMA}):
        names = tuple(sorted(map(display_name, announced)))
        events.tell(events.Invalidation(db_alias, names))
    for alias in aliases_changing_with(db_alias):
        for table in sorted(frozenset(tables) - {catalogue.SCHEMA}):
            results = post_invalidation.send_robust(display_name(table), db_alias=alias)
            for receiver, result in results:
                if isinstance(result, Exception):
                    logger.error(
                        "The receiver %r of post_invalidation failed for %r.",
                        receiver,
                        table,
                        exc_info=result,
                    )


@contextmanager
def invalidating(connection: BaseDatabaseWrapper, tables: frozenset[str]) -> Iterator[None]:
    """Keep ``tables`` pending while the body makes a change visible; then renew their versions."""
    if not tables:
        yield
        return
    guard, keys = guard_of(), keys_to_renew(alias_reached_by(connection), tables)
    try:
        guard.mark_pending(keys)
    except Exception as error:
        # Some of the keys may be pending by now.
        guard.renew(keys)
        # A database error, so that Django rolls back what it was about to commit.
        raise OperationalError(
            f"Nothing was written, because the cache {guard.cache_alias!r} failed ({error!r}) "
            "and CACHALOT_CACHE_ERRORS is 'raise'."
        ) from error
    try:
        yield
    except (InterfaceError, OperationalError):
        if _is_lost(connection):
            # The server may be at work still, and commit later: the pending mark's own end is
            # the first moment at which nothing older can be seen.
            guard.mark_pending_again(keys)
        else:
            guard.renew(keys)
        raise
    except BaseException:
        guard.renew(keys)
        raise
    guard.renew(keys)


def _is_lost(connection: BaseDatabaseWrapper) -> bool:
    """Whether the connection broke, so that nobody knows what became of its last statement."""
    if connection.connection is None:
        return True
    try:
        return not connection.is_usable()
    except Exception:
        return True


@contextmanager
def writing(
    connection: BaseDatabaseWrapper,
    tables: Iterable[str],
    *,
    deletes: bool = False,
    commits: bool = False,
) -> Iterator[None]:
    """Account for a statement, run in the body, that writes ``tables`` (canonical names).

    ``deletes`` tells that it may remove rows, ``commits`` that it commits even in a transaction.
    """
    if not is_tracked(connection):
        yield
        return
    state = state_of(connection)
    connection.ensure_connection()
    changed = changed_with(_with_sources(connection, frozenset(tables)), deletes)
    if not state.is_in_transaction() and not state.is_lost:
        with _writing_at_once(connection, state, changed):
            yield
        if not changed <= state.running.pending:
            announce(alias_reached_by(connection), changed - state.running.pending)
        return
    at_once = commits or state.is_lost
    try:
        with invalidating(
            connection, changed if at_once else _untransactional(connection, changed)
        ):
            yield
    finally:
        state.changes += 1
        state.overlay().touch(changed)


def _with_sources(connection: BaseDatabaseWrapper, tables: frozenset[str]) -> frozenset[str]:
    """Add what a write to a view, or to an inheriting or partitioned table, changes beneath it."""
    try:
        return catalogue.catalogue_of(connection).with_sources(tables)
    except Exception as error:
        logger.debug("The catalogue of %r could not be read: %r", connection.alias, error)
        return tables


@contextmanager
def _writing_at_once(
    connection: BaseDatabaseWrapper, state: State, tables: frozenset[str]
) -> Iterator[None]:
    """Invalidate around a statement that commits by itself."""
    outer = state.running.pending
    state.running.pending = outer | tables
    try:
        with invalidating(connection, tables - outer):
            yield
    finally:
        state.running.pending = outer
        state.changes += 1


def _untransactional(connection: BaseDatabaseWrapper, tables: frozenset[str]) -> frozenset[str]:
    """Return those of ``tables`` whose changes show before the COMMIT, and survive a rollback."""
    if not connection.features.supports_transactions:
        return tables
    if connection.vendor != "mysql":
        return frozenset()
    return tables & catalogue.catalogue_of(connection).untransactional


def forget_schema(connection: BaseDatabaseWrapper) -> None:
    """Read the catalogue of the connection's database again when it is next needed."""
    for alias in {connection.alias, *aliases_changing_with(alias_reached_by(connection))}:
        catalogue.forget(alias)


def all_tables(connection: BaseDatabaseWrapper) -> frozenset[str]:
    """Return every table of the database, those outside Django included."""
    tables = frozenset(known_tables())
    try:
        return tables | catalogue.catalogue_of(connection).tables
    except Exception as error:
        # An aborted transaction, a database that is down, a test that forbids this alias: not
        # what the caller asked for. The statement to come will say so itself.
        logger.debug("The catalogue of %r could not be read: %r", connection.alias, error)
        return tables


def invalidate_shared(
    db_alias: str, tables: frozenset[str], cache_aliases: Iterable[str] | None = None
) -> None:
    """Renew the versions of ``tables`` in the given caches, by default the one in use."""
    if not tables:
        return
    for cache_alias in cache_aliases or (cachalot_settings.CACHALOT_CACHE,):
        guard_of(cache_alias).renew(keys_to_renew(db_alias, tables))
