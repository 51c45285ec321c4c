"""The isolation level of a connection's transactions, whoever has set it."""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core.connection.cursor import driver_cursor

_LEVEL = re.compile(r"READ\s+UNCOMMITTED|READ\s+COMMITTED|REPEATABLE\s+READ|SERIALIZABLE", re.I)
_SESSION_LEVEL = re.compile(
    r"\bSESSION\b|SET\s+\w+_isolation|default_transaction_isolation", re.IGNORECASE
)
_UNKNOWN = "unknown"
#: Levels under which a query may see what is not committed.
DIRTY_LEVELS = frozenset({"read uncommitted", _UNKNOWN})
_PSYCOPG2_LEVELS = {
    1: "read committed",
    2: "repeatable read",
    3: "serializable",
    4: "read uncommitted",
}


class Scope(Enum):
    """Which cache the reads of a connection may use."""

    SHARED = "shared"  # each statement sees the newest committed data
    SNAPSHOT = "snapshot"  # the transaction sees the data of its beginning: what it has pinned
    OVERLAY = "overlay"  # the database must know what the transaction reads: its overlay only
    NONE = "none"  # what is seen is not known


class Isolation:
    """Knows the level in lower case, such as ``"repeatable read"``; ``"unknown"`` if it cannot."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        # What raw SQL has set, for the session and for the transaction.
        self._session_level: str | None = None
        self._transaction_level: str | None = None
        self._level_before: str | None = None
        self._default_level: str | None = None

    def begin(self) -> None:
        """Remember what a rollback brings back."""
        self._level_before = self._session_level

    def end(self, *, takes_back: bool) -> None:
        """Forget what was set for the transaction, and for the session if it is taken back."""
        if takes_back:
            self._session_level = self._level_before
        self._transaction_level = None

    def set(self, statement: str) -> None:
        """Take in a raw statement that names an isolation level."""
        match = _LEVEL.search(statement)
        level = " ".join(match[0].lower().split()) if match else _UNKNOWN
        if _SESSION_LEVEL.search(statement):
            self._session_level = level
        elif self._connection.vendor == "mysql":
            # It counts for the next transaction, which may be a single statement by then.
            self._transaction_level = _UNKNOWN
        else:
            self._transaction_level = level

    def level(self) -> str:
        """Return the level of the open transaction, or of the next."""
        level = self._transaction_level or self._driver_level() or self._session_level
        if level is None:
            if self._default_level is None:
                self._default_level = self._read_default_level()
            level = self._default_level
        return level

    def _driver_level(self) -> str | None:
        """Return the level that psycopg names in each BEGIN, None if it names none."""
        if self._connection.vendor != "postgresql":
            # Django sends MySQL's level in a statement that set_isolation() has seen.
            return None
        self._connection.ensure_connection()
        configured: Any = getattr(self._connection.connection, "isolation_level", None)
        if configured is None:
            return None
        # psycopg has an enumeration, psycopg2 numbers (extensions.ISOLATION_LEVEL_*).
        name = getattr(configured, "name", None) or _PSYCOPG2_LEVELS.get(configured, _UNKNOWN)
        return name.lower().replace("_", " ")

    def _read_default_level(self) -> str:
        """Return the level that the server, the database or the role has as its default."""
        if self._connection.vendor == "postgresql":
            # SHOW takes no snapshot, so SET TRANSACTION stays legal after it.
            statement = "SHOW default_transaction_isolation"
        elif self._connection.vendor == "mysql":
            statement = (
                "SHOW VARIABLES WHERE Variable_name IN ('tx_isolation', 'transaction_isolation')"
            )
        else:
            return _UNKNOWN
        with driver_cursor(self._connection) as cursor:
            cursor.execute(statement)
            default: str = cursor.fetchone()[-1]
        return default.lower().replace("-", " ")
