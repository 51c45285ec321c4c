"""What cachalot knows of one Django connection: its session, its transaction, what it runs."""

from __future__ import annotations

import weakref
from typing import Any, Protocol

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core.cache.versions import new_nonce
from cachalot.core.connection import driver, sqlite, visibility
from cachalot.core.connection.databases import alias_reached_by
from cachalot.core.connection.isolation import Isolation
from cachalot.core.connection.overlay import Overlay
from cachalot.core.connection.running import Running
from cachalot.core.connection.session import Session
from cachalot.core.connection.transaction import Transaction
from cachalot.core.connection.visibility import DIRTY_LEVELS, Visibility
from cachalot.settings import is_cached_database, is_supported_engine


class Unfinished(Protocol):
    """A change whose effect is not final, though the call that made it has returned."""

    def finish(self) -> None:
        """Account for the effect: it is final."""

    def abandon(self) -> None:
        """Account for an effect of which nothing will be heard any more."""


class State:
    """Kept on the Django connection object, so it follows Django's own rules of sharing."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        #: Grows with whatever may change what this connection sees.
        self.changes = 0
        #: What opening it has taken so far, and what tools have added to its queries.
        self.connecting_seconds = 0.0
        self.running = Running()
        self.session = Session()
        #: What ``ready_of()`` made last.
        self.ready: Any = None
        #: What ``origin_of()`` made last, and of what.
        self.origin: tuple[object, bytes] | None = None
        #: SQLite's cursors that may have rows left to fetch.
        self.open_cursors: weakref.WeakSet[Any] = weakref.WeakSet()
        #: Changes that were sent and are not final yet: what is to be done once they are.
        self.unfinished: list[Unfinished] = []
        self.reset()

    def reset(self) -> None:
        """Start anew: the physical connection is new."""
        #: Told from every other physical connection by this.
        self.identity = new_nonce()
        self.transaction = Transaction()
        #: What ``ALTER DATABASE`` and ``ALTER ROLE`` had the session begin with.
        self.settings: object = ()
        #: Tables that were committed and whose signal waits for ``Atomic`` to turn autocommit on;
        #: None where a signal need not wait.
        self.unannounced: frozenset[str] | None = None
        #: Whether nobody can tell if a transaction is open.
        self.is_lost = False
        # The server may be at work on them still, for a connection that was lost.
        for change in self.unfinished:
            change.abandon()
        self.unfinished = []
        self._isolation = Isolation(self._connection)
        self.session.clear()
        self.changes += 1

    def leave_session(self) -> None:
        """Note what was set on a connection that goes back to a pool, where nothing resets it."""
        driver_connection: Any = self._connection.connection
        is_pooled = bool(self._connection.settings_dict.get("OPTIONS", {}).get("pool"))
        if is_pooled and driver_connection is not None and self.session.values:
            driver_connection._cachalot_was_set = True

    def take_over_session(self) -> None:
        """Take into account what others have set on a connection that comes from a pool."""
        if getattr(self._connection.connection, "_cachalot_was_set", False):
            self.session.make_unique()

    def is_in_transaction(self) -> bool:
        """Whether what this connection writes is invisible to others until a COMMIT."""
        connection = self._connection
        driver_connection: Any = connection.connection
        if driver_connection is not None and connection.vendor == "sqlite":
            # Unless it is in autocommit mode, sqlite3 begins one before the first write.
            in_transaction: bool = driver_connection.in_transaction
            return in_transaction or driver_connection.isolation_level is not None
        if connection.in_atomic_block or self.transaction.is_raw:
            return True
        if driver_connection is None:
            return not connection.settings_dict["AUTOCOMMIT"]
        return not connection.autocommit

    def overlay(self) -> Overlay:
        """Return the overlay of the open transaction, made on first use."""
        transaction = self.transaction
        if transaction.overlay is None:
            transaction.overlay = Overlay()
            transaction.session_before = self.session.snapshot(), self._isolation.session_level
        return transaction.overlay

    def end_transaction(self, *, is_rollback: bool | None) -> None:
        """Forget the transaction: it is over. ``is_rollback`` is None where nobody knows how."""
        before = self.transaction.session_before
        if is_rollback is None and before is not None and self.session.values != before[0]:
            self.session.make_unique()
        elif is_rollback and before is not None and self._connection.vendor != "mysql":
            values, self._isolation.session_level = before
            self.session.restore(values)
        self.session.end_transaction()
        self.transaction = Transaction()
        self.changes += 1

    def note_statement(self) -> None:
        """Note that a statement is about to run that may take the transaction's snapshot."""
        if self.is_in_transaction():
            self.transaction.has_snapshot = True

    def is_at_work(self) -> bool:
        """Whether the last statement has an effect to come: rows or results left to fetch."""
        if self._connection.vendor == "sqlite":
            return self._has_open_statement()
        return driver.is_at_work(self._connection)

    def has_snapshot(self) -> bool:
        """Whether the open transaction may have its snapshot already."""
        # SQLite's transaction has that of an unfinished statement.
        return self.transaction.has_snapshot or (
            self._connection.vendor == "sqlite" and self._has_open_statement()
        )

    def set_isolation(self, statement: str) -> None:
        """Take in a raw statement that names an isolation level."""
        seen = None
        if self._connection.vendor == "mysql" and self.is_in_transaction() and self.has_snapshot():
            # The statement counts for the next transaction.
            seen = self.visibility()
        self._isolation.set(statement, self.transaction, is_transaction=self.is_in_transaction())
        self.transaction.visibility = seen

    def visibility(self) -> Visibility:
        """Return what the reads of the open transaction, or of autocommit, see."""
        if self.is_lost:
            return Visibility.UNKNOWN
        if self._connection.vendor == "sqlite":
            return self._visibility_on_sqlite()
        transaction = self.transaction
        if transaction.visibility is None:
            vendor = self._connection.vendor
            if self.is_in_transaction():
                level = self._isolation.level(transaction)
                transaction.visibility = visibility.in_transaction(vendor, level)
            elif vendor == "mysql" and self._isolation.level(transaction) in DIRTY_LEVELS:
                transaction.visibility = Visibility.UNKNOWN
            else:
                # Each statement is a transaction of its own and sees what is newest.
                return Visibility.NEWEST
        return Visibility.UNKNOWN if self.is_aborted() else transaction.visibility

    def is_aborted(self) -> bool:
        """Whether PostgreSQL will refuse every statement but ROLLBACK, and turn COMMIT into it."""
        if self._connection.vendor != "postgresql" or self._connection.connection is None:
            return False
        # Both psycopgs; TransactionStatus.INERROR and TRANSACTION_STATUS_INERROR are 3.
        info = getattr(self._connection.connection, "info", None)
        return getattr(info, "transaction_status", None) == 3

    def _visibility_on_sqlite(self) -> Visibility:
        connection: Any = self._connection
        if connection.connection is None or not connection.connection.in_transaction:
            if not self._has_open_statement():
                return Visibility.NEWEST
            return visibility.beside_open_statement(sqlite.journal_of(connection))
        transaction = self.transaction
        if transaction.visibility is None:
            seen = visibility.in_sqlite_transaction(
                keeps_writers_out=transaction.keeps_writers_out,
                journal=sqlite.journal_of(connection),
            )
            if seen is Visibility.NEWEST:
                # A hit takes no lock, so without it another connection could commit between a hit
                # and the first query of a transaction that SQLite serialises.
                sqlite.take_read_lock(connection)
            transaction.visibility = seen
        return transaction.visibility

    def _has_open_statement(self) -> bool:
        if not self.open_cursors:
            return False
        if sqlite.has_open_statement(self._connection):
            return True
        self.open_cursors.clear()
        return False


def state_of(connection: BaseDatabaseWrapper) -> State:
    """Return the state of a Django connection, made on first use."""
    try:
        state: State = connection._cachalot_state  # type: ignore[attr-defined]
    except AttributeError:
        state = connection._cachalot_state = State(connection)  # type: ignore[attr-defined]
    return state


def why_not_used(connection: BaseDatabaseWrapper) -> str | None:
    """Return why the settings keep reads of this connection from being cached, or None."""
    if connection.alias not in connections.settings:
        return f"the database {connection.alias!r} is not in DATABASES"
    engine = connection.settings_dict["ENGINE"]
    if is_cached_database(connection.alias, engine, connection.vendor):
        return None
    return f"CACHALOT_DATABASES leaves out {connection.alias!r} ({engine})"


def is_tracked(connection: BaseDatabaseWrapper) -> bool:
    """Whether writes of this connection invalidate.

    They do even where ``CACHALOT_DATABASES`` leaves the alias out: another alias, or the next
    value of the setting, may cache the same tables. So do those of a copy under another alias.
    """
    alias, there_are = connection.alias, connections.settings
    if alias not in there_are:
        alias = alias_reached_by(connection)
        if alias not in there_are:
            return False
    engine, vendor = connection.settings_dict["ENGINE"], connection.vendor
    return is_supported_engine(engine, vendor) or is_cached_database(alias, engine, vendor)
