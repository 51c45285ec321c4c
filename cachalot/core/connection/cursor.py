"""A cursor of the driver, for what cachalot itself asks the database, and when it may ask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper


def is_idle(connection: BaseDatabaseWrapper) -> bool:
    """Whether a question to the database would be part of nobody's transaction.

    The connection must be open. The driver knows of a transaction whoever has begun it, and
    whether it has really begun: psycopg sends BEGIN along with the first statement.
    """
    driver_connection: Any = connection.connection
    if connection.vendor == "postgresql":
        # Both psycopgs: TransactionStatus.IDLE and TRANSACTION_STATUS_IDLE are 0.
        pipeline = getattr(getattr(driver_connection, "pgconn", None), "pipeline_status", 0)
        return driver_connection.info.transaction_status == 0 and not pipeline
    if connection.vendor == "sqlite":
        return not driver_connection.in_transaction
    return not connection.in_atomic_block


@contextmanager
def driver_cursor(connection: BaseDatabaseWrapper) -> Iterator[Any]:
    """Yield a cursor below Django's wrappers: neither logged nor counted as a query."""
    connection.ensure_connection()
    with connection.wrap_database_errors:
        cursor = connection.create_cursor()
        try:
            yield cursor
        finally:
            cursor.close()
