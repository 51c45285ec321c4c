"""What the driver says of a connection's transaction, and of the statement it has last run.

It knows what no statement's text tells: procedures commit, the database rolls back by itself, and
an exception of the program may leave a statement running on the server.
"""

from __future__ import annotations

from typing import Any

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core.connection.cursor import driver_cursor

# Both psycopgs and libpq (PGTransactionStatusType). While a pipeline waits to be sent it is active.
_IDLE, _ACTIVE, _, _, _UNKNOWN = range(5)

_NO_SUCH_SAVEPOINT = 1305  # ER_SP_DOES_NOT_EXIST

#: Errors by which MySQL and MariaDB say that they have rolled the transaction back:
#: ER_LOCK_DEADLOCK, ER_XA_RBROLLBACK, ER_XA_RBTIMEOUT, ER_XA_RBDEADLOCK.
_ROLLED_BACK = frozenset({1213, 1402, 1613, 1614})


def is_at_work(connection: BaseDatabaseWrapper) -> bool:
    """Whether the server may be at work still on what was sent, or has more results of it.

    What SQLite does is done when it returns, but for rows that are left to fetch.
    """
    driver_connection: Any = connection.connection
    if driver_connection is None:
        return False
    if connection.vendor == "postgresql":
        # UNKNOWN: the connection broke.
        return _status(driver_connection) in {_ACTIVE, _UNKNOWN}
    if connection.vendor == "mysql":
        try:
            return bool(driver_connection.more_results())
        except AttributeError:
            # PyMySQL: pymysql/connections.py, MySQLResult.has_next
            return bool(getattr(getattr(driver_connection, "_result", None), "has_next", False))
        except driver_connection.Error:  # closed
            return True
    return False


def is_transaction_open(connection: BaseDatabaseWrapper) -> bool | None:
    """Whether a transaction is open, None where nobody can tell now. MySQL itself is asked."""
    driver_connection: Any = connection.connection
    if driver_connection is None:
        return False
    if connection.vendor == "sqlite":
        return bool(driver_connection.in_transaction)
    if connection.vendor == "postgresql":
        status = _status(driver_connection)
        return None if status in {None, _ACTIVE, _UNKNOWN} else status != _IDLE
    if connection.vendor != "mysql" or is_at_work(connection):
        return None
    try:
        return _ask_mysql(connection)
    except Error:
        return None


def _status(driver_connection: Any) -> int | None:
    """Return what psycopg and psycopg2 say, None for another driver."""
    info = getattr(driver_connection, "info", None)
    status: int | None = getattr(info, "transaction_status", None)
    return status


def _ask_mysql(connection: Any) -> bool:
    with driver_cursor(connection) as cursor:
        if connection.mysql_is_mariadb:
            cursor.execute("SELECT @@in_transaction")
            return bool(cursor.fetchone()[0])
        # Outside a transaction a savepoint ends with its own statement.
        cursor.execute("SAVEPOINT cachalot_probe")
        try:
            cursor.execute("RELEASE SAVEPOINT cachalot_probe")
        except connection.Database.Error as error:
            if error.args[:1] == (_NO_SUCH_SAVEPOINT,):
                return False
            raise
    return True


def has_rolled_back(connection: BaseDatabaseWrapper, error: BaseException) -> bool:
    """Whether ``error`` says that the database has rolled the transaction back by itself."""
    return connection.vendor == "mysql" and not _ROLLED_BACK.isdisjoint(error.args[:1])


def is_autocommit_off(connection: BaseDatabaseWrapper) -> bool:
    """Whether raw SQL has turned off MySQL's autocommit, so far as the driver can tell."""
    get_autocommit = getattr(connection.connection, "get_autocommit", None)
    return bool(get_autocommit is not None and connection.autocommit and not get_autocommit())
