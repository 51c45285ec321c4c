"""What cachalot knows of one Django connection: its transaction, its isolation, its writes."""

from __future__ import annotations

import threading
import weakref
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core.cache.versions import new_nonce
from cachalot.core.connection.cursor import driver_cursor
from cachalot.core.connection.overlay import Overlay
from cachalot.core.connection.session import session_of
from cachalot.core.connection.visibility import DIRTY_LEVELS, Isolation, Scope
from cachalot.settings import is_cached_database, is_supported_engine


class _OfThread(threading.local):
    """What concerns a statement under way. Threads may share a connection, but no statement."""

    #: Tables that an enclosing write outside a transaction has already marked pending.
    pending: frozenset[str] = frozenset()
    #: Whether the statement about to run is the compiler's own, already accounted for.
    is_covered = False
    #: Whether a read is under way whose key has been made.
    is_reading = False


class State:
    """Kept on the Django connection object, so it follows Django's own rules of sharing."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        #: Grows with whatever may change what this connection sees.
        self.changes = 0
        self.of_thread = _OfThread()
        #: SQLite's cursors that may have rows left to fetch.
        self.open_cursors: weakref.WeakSet[Any] = weakref.WeakSet()
        self.reset()

    def reset(self) -> None:
        """Start anew: the physical connection is new."""
        #: Told from every other physical connection by this.
        self.identity = new_nonce()
        #: Whether a COMMIT of the open transaction has failed, and nobody knows its outcome.
        self.has_failed_commit = False
        self.overlay: Overlay | None = None
        #: Whether a raw BEGIN has opened a transaction that Django knows nothing of.
        self.has_raw_transaction = False
        #: Whether ``Atomic`` has opened the transaction, and will turn autocommit on after it.
        self.is_managed = False
        #: Tables that were committed and whose signal waits for autocommit.
        self.unannounced: frozenset[str] = frozenset()
        #: Whether SQLite's transaction was begun as the only one that may write.
        self.keeps_writers_out = False
        #: SQLite's savepoint that began the transaction, whose release is its COMMIT.
        self.outermost_savepoint: str | None = None
        #: Whether nobody can tell if a transaction is open.
        self.is_lost = False
        #: Whether the open transaction has changed the catalogue.
        self.changed_schema = False
        #: The shared versions that the transaction's snapshot shows, by key; None until asked for.
        self.pins: dict[str, str] | None = None
        self._connection._cachalot_has_snapshot = False  # type: ignore[attr-defined]
        self._isolation = Isolation(self._connection)
        self._scope: Scope | None = None
        self._session_values: dict[tuple[str, bool], bytes] | None = None
        session = session_of(self._connection)
        if session.values:
            session.clear()
            self.changes += 1

    def leave_session(self) -> None:
        """Note what was set on a connection that goes back to a pool, where nothing resets it."""
        driver_connection: Any = self._connection.connection
        is_pooled = bool(self._connection.settings_dict.get("OPTIONS", {}).get("pool"))
        if is_pooled and driver_connection is not None and session_of(self._connection).values:
            driver_connection._cachalot_was_set = True

    def take_over_session(self) -> None:
        """Take into account what others have set on a connection that comes from a pool."""
        if getattr(self._connection.connection, "_cachalot_was_set", False):
            session_of(self._connection).make_unique()

    def is_in_transaction(self) -> bool:
        """Whether what this connection writes is invisible to others until a COMMIT."""
        connection = self._connection
        if connection.in_atomic_block or self.has_raw_transaction:
            return True
        if connection.connection is None:
            return not connection.settings_dict["AUTOCOMMIT"]
        return not connection.autocommit

    def transaction(self) -> Overlay:
        """Return the overlay of the open transaction."""
        if self.overlay is None:
            self.overlay = Overlay()
            self._session_values = session_of(self._connection).snapshot()
            self._isolation.begin()
        return self.overlay

    @property
    def dirty(self) -> frozenset[str]:
        """The tables that the open transaction has written; empty outside one."""
        return frozenset() if self.overlay is None else self.overlay.dirty

    def end_transaction(self, *, is_rollback: bool) -> None:
        """Forget the transaction: it is over."""
        session = session_of(self._connection)
        takes_back = is_rollback and self._connection.vendor != "mysql"
        if takes_back and self._session_values is not None:
            session.restore(self._session_values)
        session.end_transaction()
        self._isolation.end(takes_back=takes_back and self._session_values is not None)
        self.overlay = None
        self.changes += 1
        self.has_failed_commit = False
        self.has_raw_transaction = False
        self.changed_schema = False
        self.keeps_writers_out = False
        self.outermost_savepoint = None
        self._scope = None
        self._session_values = None
        self.pins = None
        self._connection._cachalot_has_snapshot = False  # type: ignore[attr-defined]

    def note_statement(self) -> None:
        """Note that a statement is about to run that may take the transaction's snapshot."""
        if self.is_in_transaction():
            self._connection._cachalot_has_snapshot = True  # type: ignore[attr-defined]

    def has_snapshot(self) -> bool:
        """Whether the open transaction may have its snapshot already."""
        if self._connection.vendor == "sqlite" and self._has_open_statement():
            return True  # that of the statement
        return bool(getattr(self._connection, "_cachalot_has_snapshot", False))

    def set_isolation(self, statement: str) -> None:
        """Take in a raw statement that names an isolation level."""
        scope = None
        if self._connection.vendor == "mysql" and self.is_in_transaction() and self.has_snapshot():
            scope = self.scope()  # it counts for the next transaction
        self._isolation.set(statement)
        self._scope = scope

    def forget_scope(self) -> None:
        """Ask again what reads may use: a savepoint may have taken a snapshot."""
        self._scope = None

    def scope(self) -> Scope:
        """Return which cache the reads of the open transaction, or of autocommit, may use."""
        if self.is_lost:
            return Scope.NONE
        if self._connection.vendor == "sqlite":
            return self._sqlite_scope()
        if self._scope is None:
            if self.is_in_transaction():
                self._scope = self._transaction_scope()
            elif self._connection.vendor == "mysql" and self._isolation.level() in DIRTY_LEVELS:
                self._scope = Scope.NONE
            else:
                # Each statement is a transaction of its own and sees what is newest.
                return Scope.SHARED
        if self.is_aborted():
            return Scope.NONE
        return self._scope

    def is_aborted(self) -> bool:
        """Whether PostgreSQL will refuse every statement but ROLLBACK, and turn COMMIT into it."""
        if self._connection.vendor != "postgresql" or self._connection.connection is None:
            return False
        # Both psycopgs; TransactionStatus.INERROR and TRANSACTION_STATUS_INERROR are 3.
        info = getattr(self._connection.connection, "info", None)
        return getattr(info, "transaction_status", None) == 3

    def _transaction_scope(self) -> Scope:
        vendor = self._connection.vendor
        level = self._isolation.level()
        # PostgreSQL treats READ UNCOMMITTED as READ COMMITTED.
        if level == "read committed" or (vendor == "postgresql" and level == "read uncommitted"):
            return Scope.SHARED
        if level in DIRTY_LEVELS:
            return Scope.NONE
        # Both databases lock what a serialisable transaction reads, or note it to detect conflicts.
        return Scope.OVERLAY if level == "serializable" else Scope.SNAPSHOT

    def _sqlite_scope(self) -> Scope:
        """Return SQLite's scope, which depends on the journal and on what the connection holds."""
        connection: Any = self._connection
        if connection.connection is None or not connection.connection.in_transaction:
            # Each statement sees what is newest, unless an older one is unfinished: they share
            # its snapshot, which only a write-ahead log lets others leave behind.
            if self._has_open_statement() and self._journal() == "wal":
                return Scope.NONE
            return Scope.SHARED
        if self._scope is None:
            if not self.keeps_writers_out and self._journal() == "wal":
                self._scope = Scope.SNAPSHOT
                return self._scope
            # A hit takes no lock, so without this statement another connection could commit
            # between a hit and the first query of a transaction that SQLite serialises.
            with driver_cursor(connection) as cursor:
                cursor.execute("SELECT 1 FROM sqlite_master LIMIT 1")
                cursor.fetchall()
            # Nobody can commit meanwhile: what is newest is what the transaction sees.
            self._scope = Scope.SHARED
        return self._scope

    def _journal(self) -> str:
        with driver_cursor(self._connection) as cursor:
            cursor.execute("PRAGMA journal_mode")
            (journal,) = cursor.fetchone()
        return str(journal).lower()

    def _has_open_statement(self) -> bool:
        if not self.open_cursors:
            return False
        connection: Any = self._connection
        try:
            # sqlite3 has no question for it, but a collation cannot be replaced meanwhile
            # (sqlite3_create_collation: SQLITE_BUSY).
            connection.connection.create_collation("cachalot_probe", _compare)
            connection.connection.create_collation("cachalot_probe", None)
        except connection.Database.OperationalError:
            return True
        self.open_cursors.clear()
        return False


def _compare(one: str, other: str) -> int:
    return (one > other) - (one < other)


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
    value of the setting, may cache the same tables.
    """
    return connection.alias in connections.settings and (
        is_supported_engine(connection.settings_dict["ENGINE"], connection.vendor)
        or is_cached_database(
            connection.alias, connection.settings_dict["ENGINE"], connection.vendor
        )
    )
