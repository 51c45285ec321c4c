"""How a change invalidates: before it shows and after, whatever comes of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core import catalogue
from cachalot.core.connection import State, is_tracked, state_of
from cachalot.core.keys import version_keys
from cachalot.core.reads import open_store, publish
from cachalot.core.session import session_of
from cachalot.core.sql import Kind, Statement, classify
from cachalot.core.tables import (
    aliases_of_database,
    changed_with,
    display_name,
    known_tables,
    known_tables_in,
)
from cachalot.settings import cachalot_settings
from cachalot.signals import post_invalidation

logger = logging.getLogger("cachalot")

T = TypeVar("T")


def announce(db_alias: str, tables: Iterable[str]) -> None:
    """Send ``post_invalidation`` for each table and each alias of its database."""
    for alias in aliases_of_database(db_alias):
        for table in sorted(tables):
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
def invalidating(db_alias: str, tables: frozenset[str]) -> Iterator[None]:
    """Keep ``tables`` pending while the body makes a change visible; then renew their versions."""
    opened = open_store(cachalot_settings.CACHALOT_CACHE)
    if opened is None or not tables:
        yield
        return
    store, guard = opened
    keys = version_keys(db_alias, tables)
    try:
        if guard.is_usable(store):
            store.mark_pending(keys)
    except Exception as error:
        guard.failed(error)
        if cachalot_settings.CACHALOT_CACHE_ERRORS == "raise":
            # Some of the keys may be pending by now.
            guard.renew(store, keys)
            # A database error, so that Django rolls back what it was about to commit.
            raise OperationalError(
                f"Nothing was written, because the cache {guard.cache_alias!r} failed ({error!r}) "
                "and CACHALOT_CACHE_ERRORS is 'raise'."
            ) from error
    try:
        yield
    finally:
        guard.renew(store, keys)


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
    changed = changed_with(frozenset(tables), deletes)
    connection.ensure_connection()
    if not state.is_in_transaction() and not state.is_lost:
        with _writing_at_once(connection, state, changed):
            yield
        if not changed <= state.pending:
            announce(connection.alias, changed - state.pending)
        return
    at_once = commits or state.is_lost
    try:
        with invalidating(
            connection.alias, changed if at_once else _untransactional(connection, changed)
        ):
            yield
    finally:
        state.changes += 1
        state.transaction().touch(changed)


@contextmanager
def _writing_at_once(
    connection: BaseDatabaseWrapper, state: State, tables: frozenset[str]
) -> Iterator[None]:
    """Invalidate around a statement that commits by itself."""
    outer = state.pending
    state.pending = outer | tables
    try:
        with invalidating(connection.alias, tables - outer):
            yield
    finally:
        state.pending = outer
        state.changes += 1


def _untransactional(connection: BaseDatabaseWrapper, tables: frozenset[str]) -> frozenset[str]:
    """Return those of ``tables`` whose changes show before the COMMIT, and survive a rollback."""
    if not connection.features.supports_transactions:
        return tables
    if connection.vendor != "mysql":
        return frozenset()
    return tables & catalogue.catalogue_of(connection).untransactional


def execute(connection: BaseDatabaseWrapper, sql: object, params: Any, run: Callable[[], T]) -> T:
    """Run a raw statement, given with its parameters, and account for what it may change."""
    state = state_of(connection)
    if state.is_covered or not is_tracked(connection):
        # What the statement itself triggers, by an execute wrapper for instance, is not covered.
        covered, state.is_covered = state.is_covered, False
        try:
            return run()
        finally:
            state.is_covered = covered
    text = _text_of(sql, connection)
    statement = classify(text, connection.vendor)
    if statement.commits_implicitly and state.overlay is not None:
        # Signals wait for the end of what Django takes for the transaction.
        with invalidating(connection.alias, state.overlay.dirty):
            result = _run_by_kind(connection, state, statement, text, run)
    else:
        result = _run_by_kind(connection, state, statement, text, run)
    if statement.kind is Kind.SESSION or statement.sets_config:
        _set_session(connection, state, statement, text, params)
    return result


def _run_by_kind(
    connection: BaseDatabaseWrapper,
    state: State,
    statement: Statement,
    text: str,
    run: Callable[[], T],
) -> T:
    if statement.kind is Kind.READ:
        return run()
    if statement.kind is Kind.TRANSACTION:
        return _control_transaction(connection, state, statement, run)
    if statement.kind is Kind.SESSION:
        return _change_session(connection, state, text, run)
    if statement.kind is Kind.SCHEMA:
        return _change_schema(connection, state, statement, run)
    if statement.hides_transaction:
        state.is_lost = True
    return _write_raw(connection, statement, run)


def call_procedure(connection: BaseDatabaseWrapper, run: Callable[[], T]) -> T:
    """Run a stored procedure, which may write anything."""
    if not is_tracked(connection) or not cachalot_settings.CACHALOT_INVALIDATE_RAW:
        return run()
    with writing(connection, all_tables(connection)):
        # psycopg's callproc() is a SELECT of its own, on the driver's cursor.
        return run()


def _text_of(sql: object, connection: BaseDatabaseWrapper) -> str:
    if isinstance(sql, str):
        return sql
    if isinstance(sql, (bytes, bytearray)):
        return bytes(sql).decode("utf-8", "replace")
    as_string = getattr(sql, "as_string", None)
    if as_string is not None:
        # psycopg.sql.Composable and psycopg2.sql.Composable
        connection.ensure_connection()
        text: str = as_string(connection.connection)
        return text
    return str(sql)


def _write_raw(connection: BaseDatabaseWrapper, statement: Statement, run: Callable[[], T]) -> T:
    if not cachalot_settings.CACHALOT_INVALIDATE_RAW:
        return run()
    with writing(
        connection,
        _tables_written(connection, statement),
        deletes=statement.deletes,
        commits=statement.commits_implicitly,
    ):
        return run()


def _change_schema(
    connection: BaseDatabaseWrapper, state: State, statement: Statement, run: Callable[[], T]
) -> T:
    leading = statement.parts[0].upper().split(maxsplit=5)[:5]
    if leading[0] == "CREATE" and not {"TEMP", "TEMPORARY"}.isdisjoint(leading):
        # A temporary table hides another one of its name, in this session alone.
        session_of(connection).make_unique()
    try:
        return _write_raw(connection, statement, run)
    finally:
        state.changed_schema = state.is_in_transaction()
        forget_schema(connection)


def forget_schema(connection: BaseDatabaseWrapper) -> None:
    """Read the catalogue of the connection's database again when it is next needed."""
    for alias in aliases_of_database(connection.alias):
        catalogue.forget(alias)


def _tables_written(connection: BaseDatabaseWrapper, statement: Statement) -> frozenset[str]:
    """Return what a raw statement may write: every table it names, or all there are."""
    if statement.kind is not Kind.ANYTHING and not statement.cascades:
        tables = statement.tables | known_tables_in(statement.words, statement.text)
        if tables:
            return frozenset(tables)
    return all_tables(connection)


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


def commit(connection: BaseDatabaseWrapper, run: Callable[[], T]) -> T:
    """Run a COMMIT: nothing written before it is shared, everything after it is invalidated."""
    state = state_of(connection)
    overlay = state.overlay
    if overlay is None or not is_tracked(connection):
        result = run()
        state.end_transaction(is_rollback=False)
        return result
    dirty = overlay.dirty
    # If run() raises, nobody knows whether the data was committed: the versions are renewed, and
    # what the transaction has written stays dirty until it is known to be over.
    with invalidating(connection.alias, dirty):
        result = run()
    if state.changed_schema:
        forget_schema(connection)
    entries = {
        key: (entry.shared, entry.payload)
        for key, entry in overlay.publishable()
        if entry.shared is not None
    }
    state.end_transaction(is_rollback=False)
    publish(entries)
    if state.is_managed:
        # Until autocommit is on again, a query of a receiver would open another transaction.
        state.unannounced |= dirty
    else:
        announce(connection.alias, dirty)
    return result


def set_autocommit(
    connection: BaseDatabaseWrapper, run: Callable[[], T], autocommit: bool, *, by_atomic: bool
) -> T:
    """Turn autocommit on or off. On SQLite and MySQL, turning it on commits what is open."""
    state = state_of(connection)
    if not autocommit:
        result = run()
        state.is_managed = by_atomic
        return result
    try:
        return commit(connection, run) if state.overlay is not None else run()
    finally:
        unannounced, state.unannounced = state.unannounced, frozenset()
        state.is_managed = False
        announce(connection.alias, unannounced)


def rollback(connection: BaseDatabaseWrapper, run: Callable[[], T]) -> T:
    """Run a ROLLBACK, or whatever else ends the transaction without committing it."""
    state = state_of(connection)
    overlay = state.overlay
    try:
        result = run()
    except BaseException:
        # The transaction may be open still, so it stays known; its tables are renewed in case
        # the connection, and with it the outcome, is lost.
        if overlay is not None:
            invalidate_shared(connection.alias, overlay.dirty)
        raise
    if overlay is not None:
        if state.changed_schema:
            forget_schema(connection)
        # MySQL cannot undo everything: MyISAM tables, and what DDL has committed on its way.
        if connection.vendor == "mysql" or not connection.features.supports_transactions:
            invalidate_shared(connection.alias, overlay.dirty)
    state.end_transaction(is_rollback=True)
    return result


def invalidate_shared(
    db_alias: str, tables: frozenset[str], cache_aliases: Iterable[str] | None = None
) -> None:
    """Renew the versions of ``tables`` in the given caches, by default the one in use."""
    if not tables:
        return
    for cache_alias in cache_aliases or (cachalot_settings.CACHALOT_CACHE,):
        opened = open_store(cache_alias)
        if opened is not None:
            store, guard = opened
            guard.renew(store, version_keys(db_alias, tables))


def _control_transaction(
    connection: BaseDatabaseWrapper, state: State, statement: Statement, run: Callable[[], T]
) -> T:
    words = statement.parts[0].replace('"', "").replace("`", "").split()
    leading, rest = words[0].upper(), [word.upper() for word in words[1:]]
    savepoint = words[-1].lower()
    if leading in {"ROLLBACK", "ABORT"} and "TO" not in rest:
        result = rollback(connection, run)
    elif leading in {"COMMIT", "END"}:
        result = commit(connection, run)
    else:
        result = run()
    if leading in {"BEGIN", "START"}:
        state.has_raw_transaction = not state.is_in_transaction()
        if "ISOLATION" in rest:
            state.set_isolation(statement.parts[0])
    elif leading == "SAVEPOINT":
        if state.is_in_transaction():
            state.transaction().savepoint(savepoint)
    elif leading == "RELEASE":
        if state.overlay is not None:
            state.overlay.release(savepoint)
    elif "TO" in rest:
        _roll_back_to(connection, state, savepoint)
    elif "CHAIN" in rest and "NO" not in rest:
        state.has_raw_transaction = not state.is_in_transaction()
    return result


def _roll_back_to(connection: BaseDatabaseWrapper, state: State, savepoint: str) -> None:
    state.changes += 1
    if state.overlay is None:
        return
    undone = state.overlay.rollback_to(savepoint)
    if connection.vendor == "mysql":
        # What was written to a MyISAM table is still there.
        state.overlay.touch(undone)


def _change_session(
    connection: BaseDatabaseWrapper, state: State, text: str, run: Callable[[], T]
) -> T:
    if connection.vendor != "mysql" or "autocommit" not in text.lower():
        return run()
    # Turning it on commits; turning it off opens transactions that Django knows nothing of.
    dirty = state.overlay.dirty if state.overlay is not None else frozenset()
    with invalidating(connection.alias, dirty):
        result = run()
    state.is_lost = True
    return result


def _set_session(
    connection: BaseDatabaseWrapper, state: State, statement: Statement, text: str, params: Any
) -> None:
    is_in_transaction = state.is_in_transaction()
    if is_in_transaction:
        state.transaction()  # remembers what a rollback brings back
    session = session_of(connection)
    if "isolation" in text.lower():
        state.set_isolation(text)
    if statement.kind is not Kind.SESSION:
        session.apply_functions(text, params, is_transaction=is_in_transaction)
    elif len(statement.parts) == 1:
        session.apply(text, params, connection.vendor, is_transaction=is_in_transaction)
    elif not params:
        for part in text.split(";"):
            session.apply(part, None, connection.vendor, is_transaction=is_in_transaction)
    else:
        session.make_unique()
