"""What only SQLite itself can tell of a connection."""

from __future__ import annotations

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core.connection.cursor import driver_cursor


def journal_of(connection: BaseDatabaseWrapper) -> str:
    """Return the mode of the journal in lower case, such as ``"wal"``."""
    with driver_cursor(connection) as cursor:
        cursor.execute("PRAGMA journal_mode")
        (journal,) = cursor.fetchone()
    return str(journal).lower()


def take_read_lock(connection: BaseDatabaseWrapper) -> None:
    """Have an open transaction hold the lock, or the snapshot, that its first query would take."""
    with driver_cursor(connection) as cursor:
        cursor.execute("SELECT 1 FROM sqlite_master LIMIT 1")
        cursor.fetchall()


def has_open_statement(connection: BaseDatabaseWrapper) -> bool:
    """Whether a statement has rows left to fetch."""
    wrapper: Any = connection
    # Not wrapped: Django's wrapper makes a cycle of the error and the frames that it came through,
    # which would keep the program's own cursor from being freed, and its statement open.
    try:
        # sqlite3 has no question for it, but a collation cannot be replaced meanwhile
        # (sqlite3_create_collation: SQLITE_BUSY).
        wrapper.connection.create_collation("cachalot_probe", _compare)
        wrapper.connection.create_collation("cachalot_probe", None)
    except wrapper.Database.OperationalError:
        return True
    return False


def _compare(one: str, other: str) -> int:
    return (one > other) - (one < other)
