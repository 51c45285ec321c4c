"""What the database's own catalogue tells, kept until the schema changes."""

from __future__ import annotations

import logging

from django.db import NotSupportedError, ProgrammingError
from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core.connection.cursor import driver_cursor
from cachalot.core.connection.state import state_of
from cachalot.core.locks import fork_safe_lock
from cachalot.core.schema.introspection import READERS, Catalogue
from cachalot.core.sql.names import canonical

logger = logging.getLogger("cachalot")

#: Stands for the catalogue among the tables of a query: whatever changes the schema, in whichever
#: process, gives it a new version. No table has a name with a space at its end.
SCHEMA = "schema "


def _read(connection: BaseDatabaseWrapper) -> Catalogue:
    if connection.vendor not in READERS:
        names = connection.introspection.table_names(include_views=True)
        return Catalogue(frozenset(map(canonical, names)))
    with driver_cursor(connection) as cursor:
        # In a transaction this may be the statement that takes its snapshot.
        state_of(connection).transaction.has_snapshot = True
        return READERS[connection.vendor](cursor)


#: Alias and database: a connection may be pointed elsewhere, as test runners do; and USE, ATTACH
#: and temporary views give a session tables that others do not see.
Key = tuple[str, str, bytes]

_catalogues: dict[Key, Catalogue] = {}
_MAX_CATALOGUES = 100
#: Grows when something was forgotten: what was derived from it before is out of date.
epoch = 0
_lock = fork_safe_lock()
#: Stands for one that has not been read.
UNREAD = Catalogue()
# The version of ``SCHEMA`` that was in force before the catalogue was read.
_nonces: dict[Key, str] = {}


def key_of(connection: BaseDatabaseWrapper) -> Key:
    """Return what tells databases apart within a process."""
    database = state_of(connection).session.database(connection.vendor)
    return connection.alias, str(connection.settings_dict["NAME"]), database


def catalogue_of(connection: BaseDatabaseWrapper) -> Catalogue:
    """Return the catalogue of the connection's database, read once per process.

    Empty for a server whose catalogue is another one. Raise ``DatabaseError`` where none can be
    read now.
    """
    key = key_of(connection)
    catalogue = _catalogues.get(key)
    if catalogue is None:
        if len(_catalogues) >= _MAX_CATALOGUES:
            forget()
        began_in = epoch
        try:
            catalogue = _read(connection)
        except (NotSupportedError, ProgrammingError) as error:
            logger.warning("The views of %r are not known: %s", connection.alias, error)
            catalogue = Catalogue()
        with _lock:
            # What was forgotten meanwhile may be what was just read.
            if epoch == began_in:
                catalogue = _catalogues.setdefault(key, catalogue)
    return catalogue


def remembered_catalogue_of(connection: BaseDatabaseWrapper) -> Catalogue:
    """Return the catalogue if it has been read, and ``UNREAD`` otherwise: ask nobody."""
    return _catalogues.get(key_of(connection), UNREAD)


def follow(connection: BaseDatabaseWrapper, nonce: str) -> bool:
    """Read the catalogue again if another process has changed the schema since.

    ``nonce`` is the version of ``SCHEMA`` as just read. Return whether the catalogue that the
    query at hand was compiled with is right.
    """
    key = key_of(connection)
    if _nonces.get(key) == nonce:
        return True
    compiled_with = _catalogues.pop(key, None)
    outdate()
    is_right = catalogue_of(connection) == compiled_with
    _nonces[key] = nonce
    return is_right


def forget(db_alias: str | None = None) -> None:
    """Read the catalogue of ``db_alias`` (None: of every alias) again when it is next needed."""
    for key in list(_catalogues):
        if db_alias is None or key[0] == db_alias:
            _nonces.pop(key, None)
            _catalogues.pop(key, None)
    outdate()


def outdate() -> None:
    """Let nothing count any more that was derived so far from what has just been forgotten."""
    global epoch
    with _lock:
        epoch += 1
