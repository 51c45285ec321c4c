"""The isolation level of a connection's transactions, whoever has set it."""

from __future__ import annotations

import re
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core.connection.cursor import driver_cursor
from cachalot.core.connection.transaction import Transaction

_LEVEL = re.compile(r"READ\s+UNCOMMITTED|READ\s+COMMITTED|REPEATABLE\s+READ|SERIALIZABLE", re.I)
_SESSION_LEVEL = re.compile(
    r"\bSESSION\b|SET\s+\w+_isolation|default_transaction_isolation", re.IGNORECASE
)
# On PostgreSQL these alone outlive the transaction: SET transaction_isolation does not.
_POSTGRESQL_DEFAULT = re.compile(r"\bCHARACTERISTICS\b|\bdefault_transaction_isolation\b", re.I)
_LOCAL = re.compile(r"\s*SET\s+LOCAL\b", re.IGNORECASE)
_TAKES_BACK = re.compile(r"\s*(?:RESET|DISCARD)\b", re.IGNORECASE)
_UNKNOWN = "unknown"
_PSYCOPG2_LEVELS = {
    1: "read committed",
    2: "repeatable read",
    3: "serializable",
    4: "read uncommitted",
}


class Isolation:
    """Knows the level in lower case, such as ``"repeatable read"``; ``"unknown"`` if it cannot."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        #: What raw SQL has set for the session, None if it has set nothing.
        self.session_level: str | None = None
        self._default_level: str | None = None

    def set(self, statement: str, transaction: Transaction, *, is_transaction: bool) -> None:
        """Take in a raw statement that names an isolation level, or takes one back.

        ``is_transaction`` tells whether ``transaction`` is open.
        """
        match = _LEVEL.search(statement)
        level = " ".join(match[0].lower().split()) if match else _UNKNOWN
        if self._connection.vendor == "postgresql":
            self._set_on_postgresql(statement, level, transaction if is_transaction else None)
        elif _SESSION_LEVEL.search(statement):
            self.session_level = level
        elif self._connection.vendor == "mysql":
            # It counts for the next transaction, which may be a single statement by then.
            transaction.level = _UNKNOWN
        else:
            transaction.level = level

    def _set_on_postgresql(
        self, statement: str, level: str, transaction: Transaction | None
    ) -> None:
        if _TAKES_BACK.match(statement):
            # What the server has as its default now is asked for when it matters.
            self.session_level = self._default_level = None
        elif _POSTGRESQL_DEFAULT.search(statement):
            # Of the next transaction: a local one is over by then.
            if not _LOCAL.match(statement):
                self.session_level = level
        elif transaction is not None:
            transaction.level = level
        # Outside a transaction the server warns, and does nothing.

    def level(self, transaction: Transaction) -> str:
        """Return the level of a transaction that is open or about to be."""
        level = transaction.level or self._driver_level() or self.session_level
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
