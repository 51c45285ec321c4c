"""When a database may be asked about itself, and the question."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core.connection.cursor import driver_cursor, is_idle
from cachalot.core.connection.state import state_of
from cachalot.core.interruptions import is_interruption
from cachalot.core.schema import mysql, postgresql, sqlite
from cachalot.core.schema.introspection import Catalogue
from cachalot.core.sql.names import canonical

logger = logging.getLogger("cachalot")

#: By vendor: return the catalogue that a driver's cursor reads, whether or not it is a thorough
#: reading, which leaves nothing unexamined.
READERS: dict[str, Callable[[Any, bool], Catalogue]] = {
    "sqlite": sqlite.read,
    "postgresql": postgresql.read,
    "mysql": mysql.read,
}


def may_be_asked(connection: BaseDatabaseWrapper) -> bool:
    """Whether a question would be part of nobody's transaction. Connect if need be."""
    try:
        connection.ensure_connection()
        state = state_of(connection)
        if connection.vendor == "mysql" and (state.is_in_transaction() or state.is_lost):
            return False  # the driver does not tell
        return is_idle(connection)
    except Exception as error:
        if is_interruption(error):
            raise
        logger.debug("The catalogue of %r cannot be asked for: %r", connection.alias, error)
        return False


def ask(connection: BaseDatabaseWrapper, is_thorough: bool) -> Catalogue:
    """Return the catalogue of a connection that may be asked; raise what the database raises."""
    if connection.vendor not in READERS:
        names = connection.introspection.table_names(include_views=True)
        return Catalogue(frozenset(map(canonical, names)))
    with driver_cursor(connection) as cursor:
        catalogue = READERS[connection.vendor](cursor, is_thorough)
    driver_connection: Any = connection.connection
    if not connection.get_autocommit() and connection.vendor != "sqlite":
        driver_connection.rollback()  # the transaction that the question has begun
    return catalogue
