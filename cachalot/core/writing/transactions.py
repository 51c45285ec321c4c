"""What COMMIT, ROLLBACK and savepoints do to what a transaction has written and read.

The connection is followed, not ``Atomic``: blocks that fail to open, manual transactions, explicit
savepoints and lost connections need no rules of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core.connection import driver
from cachalot.core.connection.databases import alias_reached_by
from cachalot.core.connection.overlay import Overlay
from cachalot.core.connection.state import State, is_tracked, state_of
from cachalot.core.outcomes import Unstorable
from cachalot.core.reading.results import publish
from cachalot.core.schema import catalogue
from cachalot.core.schema.introspection import SCHEMA
from cachalot.core.sql.settings import savepoint_in
from cachalot.core.sql.statements import Statement
from cachalot.core.writing.invalidation import (
    Invalidation,
    announce,
    invalidate_shared,
    look_again,
)
from cachalot.core.writing.writes import all_tables

logger = logging.getLogger("cachalot")

T = TypeVar("T")


def commit(connection: BaseDatabaseWrapper, run: Callable[[], T]) -> T:
    """Run a COMMIT: nothing written before it is shared, everything after it is invalidated."""
    state = state_of(connection)
    if state.is_aborted():
        return rollback(connection, run)
    overlay = state.transaction.overlay
    if overlay is None or not is_tracked(connection):
        result = run()
        state.end_transaction(is_rollback=False)
        return result
    # If run() raises, nobody knows whether the data was committed. What the transaction has
    # written stays dirty until it is known to be over.
    state.transaction.has_failed_commit = True
    try:
        dirty = overlay.dirty
        result = _run_commit(connection, overlay, dirty, run) if dirty else run()
    except BaseException:
        if driver.is_transaction_open(connection) is False:
            # All it has written has new versions already.
            state.end_transaction(is_rollback=None)
        raise
    if state.transaction.changed_schema:
        catalogue.own_change(connection)
        catalogue.end_change(connection)
    entries = {
        key: (entry.published, frozenset(entry.tables), entry.stored)
        for key, entry in overlay.publishable()
        if entry.published is not None
    }
    dirty = overlay.dirty
    state.end_transaction(is_rollback=False)
    if entries:
        try:
            publish(entries)
        except Unstorable as error:
            logger.debug("Not stored after the COMMIT, because %s.", error.sentence())
    _announce_when_possible(connection, state, dirty)
    return result


def _run_commit(
    connection: BaseDatabaseWrapper, overlay: Overlay, dirty: frozenset[str], run: Callable[[], T]
) -> T:
    # Of a schema that this transaction has changed the version is about to be its own.
    is_own = SCHEMA in dirty
    if is_own and not catalogue.is_of(connection, overlay.schema):
        dirty |= all_tables(connection)
        overlay.touch(dirty)
    invalidation = Invalidation(connection, dirty, rows=overlay.rows(), follows=not is_own)

    def check_and_run() -> T:
        if not (is_own or catalogue.is_of(connection, overlay.schema, invalidation.schema)):
            # Another process has changed the schema: what was written may have changed anything.
            overlay.touch(all_tables(connection))
            invalidation.add(overlay.dirty)
        return run()

    return invalidation.around(check_and_run)


def _announce_when_possible(
    connection: BaseDatabaseWrapper, state: State, tables: frozenset[str]
) -> None:
    if state.unannounced is None:
        announce(alias_reached_by(connection), tables)
    else:
        # Until autocommit is on again, a query of a receiver would open another transaction.
        state.unannounced |= tables


def set_autocommit(
    connection: BaseDatabaseWrapper, run: Callable[[], T], autocommit: bool, *, by_atomic: bool
) -> T:
    """Turn autocommit on or off. On SQLite and MySQL, turning it on commits what is open."""
    state = state_of(connection)
    if not autocommit:
        if is_tracked(connection):
            catalogue.prepare(connection)
        result = run()
        state.unannounced = frozenset() if by_atomic else None
        return result
    try:
        return commit(connection, run) if state.transaction.overlay is not None else run()
    finally:
        unannounced, state.unannounced = state.unannounced, None
        announce(alias_reached_by(connection), unannounced or ())


def rollback(connection: BaseDatabaseWrapper, run: Callable[[], T]) -> T:
    """Run a ROLLBACK, or whatever else ends the transaction without committing it."""
    state = state_of(connection)
    overlay = state.transaction.overlay
    result = run()  # if it raises, the transaction may be open still, and stays known
    shown: frozenset[str] = frozenset()
    if overlay is not None:
        look_again(connection, overlay.dirty)
        if state.transaction.changed_schema:
            catalogue.end_change(connection)
        # MySQL cannot undo everything: MyISAM tables, and what DDL has committed on its way.
        can_undo = connection.vendor != "mysql" and connection.features.supports_transactions
        if not can_undo and not state.transaction.has_failed_commit:
            invalidate_shared(alias_reached_by(connection), overlay.dirty)
            shown = overlay.dirty & catalogue.remembered_catalogue_of(connection).untransactional
    state.end_transaction(is_rollback=True)
    _announce_when_possible(connection, state, shown)
    return result


def close(connection: BaseDatabaseWrapper, run: Callable[[], T]) -> T:
    """Close the connection: the database rolls back what is open, but not what it is at work on."""
    state = state_of(connection)
    unfinished, state.unfinished = state.unfinished, []
    # SQLite goes on as long as somebody has the cursor.
    is_at_work = bool(unfinished) and state.is_at_work()
    try:
        return rollback(connection, run)
    finally:
        for change in unfinished:
            if is_at_work:
                change.abandon()
            else:
                change.finish()


def follow_driver(connection: BaseDatabaseWrapper) -> None:
    """Believe the driver if it has another opinion of whether a transaction is open.

    Call it after what may have begun or ended one without saying so. MySQL is asked.
    """
    state = state_of(connection)
    state.is_lost = driver.is_autocommit_off(connection)
    if state.is_lost:
        # Transactions open by themselves that Django knows nothing of.
        return
    is_open = driver.is_transaction_open(connection)
    if is_open is None:
        # Not before the server has done its work. Other engines cannot tell at all.
        state.is_lost = driver.is_at_work(connection)
    elif is_open:
        state.transaction.is_raw |= not state.is_in_transaction()
    elif state.transaction.overlay is not None or state.transaction.is_raw:
        end_by_database(connection)


def follow_error(connection: BaseDatabaseWrapper, error: Error) -> None:
    """Account for what the database may have done to the transaction beside raising ``error``."""
    if driver.has_rolled_back(connection, error):
        state_of(connection).end_transaction(is_rollback=True)
    elif connection.vendor != "mysql" or state_of(connection).transaction.is_raw:
        follow_driver(connection)


def end_by_database(connection: BaseDatabaseWrapper) -> None:
    """Account for a transaction that the database has ended, nobody knows how."""
    state = state_of(connection)
    dirty = state.transaction.dirty
    if state.transaction.changed_schema:
        catalogue.end_change(connection)
    invalidate_shared(alias_reached_by(connection), dirty)
    state.end_transaction(is_rollback=None)
    _announce_when_possible(connection, state, dirty)


def control(
    connection: BaseDatabaseWrapper, state: State, statement: Statement, run: Callable[[], T]
) -> T:
    """Run a statement that begins or ends a transaction, or concerns a savepoint."""
    words = statement.parts[0].split()
    leading, rest = words[0].upper(), [word.upper() for word in words[1:]]
    if leading in {"BEGIN", "START"}:
        catalogue.prepare(connection)
        result = run()
        state.transaction.is_raw |= not state.is_in_transaction()
        state.transaction.keeps_writers_out = not {"IMMEDIATE", "EXCLUSIVE"}.isdisjoint(rest)
        if "ISOLATION" in rest:
            state.set_isolation(statement.parts[0])
        return result
    if (savepoint := savepoint_in(statement.parts[0], connection.vendor)) is not None:
        return _control_savepoint(connection, state, *savepoint, run)
    ends = rollback if leading in {"ROLLBACK", "ABORT"} else commit
    result = ends(connection, run)
    if "CHAIN" in rest and "NO" not in rest:
        state.transaction.is_raw = not state.is_in_transaction()
    return result


def _control_savepoint(
    connection: BaseDatabaseWrapper, state: State, verb: str, name: str, run: Callable[[], T]
) -> T:
    if verb == "SAVEPOINT":
        return _set_savepoint(connection, state, name, run)
    if verb == "RELEASE" and name == state.transaction.outermost_savepoint:
        return commit(connection, run)
    result = run()
    if verb == "ROLLBACK":
        _roll_back_to(connection, state, name)
    elif state.transaction.overlay is not None:
        state.transaction.overlay.release(name)
    return result


def _set_savepoint(
    connection: BaseDatabaseWrapper, state: State, name: str, run: Callable[[], T]
) -> T:
    driver_connection: Any = connection.connection
    was_open = connection.vendor != "sqlite" or driver_connection.in_transaction
    result = run()
    if not was_open:
        # On SQLite the first savepoint outside BEGIN is the transaction.
        state.transaction.is_raw = not state.is_in_transaction()
        state.transaction.outermost_savepoint = name
    # A savepoint may have taken a snapshot.
    state.transaction.visibility = None
    if state.is_in_transaction():
        state.overlay().savepoint(name)
    return result


def _roll_back_to(connection: BaseDatabaseWrapper, state: State, savepoint: str) -> None:
    state.changes += 1
    if state.transaction.overlay is None:
        return
    undone = state.transaction.overlay.rollback_to(savepoint)
    look_again(connection, undone)
    if connection.vendor == "mysql":
        # What was written to a MyISAM table is still there.
        state.transaction.overlay.touch(undone)
