"""Which shared versions a transaction's snapshot shows.

A transaction under snapshot isolation goes on seeing what was true when it began, so the versions
now in force say nothing about what it sees. Read before the snapshot is taken and read again after
it, a version that is the same both times and not pending is the snapshot's: no change of the table
can have become visible in between. It is *pinned*: entries of pinned versions are what the
transaction's own queries would return.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from cachalot.core.catalogue import driver_cursor
from cachalot.core.connection import State
from cachalot.core.keys import version_keys
from cachalot.core.store import Store
from cachalot.core.tables import display_name, managed_tables

#: How many tables of a database a transaction pins: those that such transactions read last.
MAX_TABLES = 100

# By alias, the latest last.
_in_use: dict[str, OrderedDict[str, None]] = {}


def pinned_nonces(
    state: State, connection: Any, store: Store, tables: frozenset[str]
) -> tuple[str, ...] | None:
    """Return the pinned versions of ``tables``, None if one of them is not pinned.

    The first call in a transaction takes the snapshot, unless something has taken it before. Raise
    what the database and the cache raise.
    """
    in_use = _in_use.setdefault(connection.alias, OrderedDict())
    for table in tables:
        in_use[table] = None
        in_use.move_to_end(table)
    while len(in_use) > MAX_TABLES:
        in_use.popitem(last=False)
    if state.pins is None:
        # If the cache fails, nothing is pinned.
        state.pins = {}
        statement = None if state.has_snapshot() else _statement_taking_one(connection, tables)
        if statement is not None:
            keys = version_keys(connection.alias, frozenset(in_use))
            before = store.nonces(keys)
            with driver_cursor(connection) as cursor:
                cursor.execute(statement)
                cursor.fetchall()
            after = store.nonces(keys)
            state.pins = {key: nonce for key, nonce in before.items() if after.get(key) == nonce}
    pinned = map(state.pins.get, version_keys(connection.alias, tables))
    nonces = tuple(nonce for nonce in pinned if nonce is not None)
    return nonces if len(nonces) == len(version_keys(connection.alias, tables)) else None


def _statement_taking_one(connection: Any, tables: frozenset[str]) -> str | None:
    if connection.vendor == "postgresql":
        return "SELECT 1"
    if connection.vendor == "sqlite":
        return "SELECT 1 FROM sqlite_master LIMIT 1"
    # InnoDB takes its read view with the first row it reads.
    managed = tables & managed_tables()
    if not managed:
        return None
    table = connection.ops.quote_name(display_name(min(managed)))
    return f"SELECT 1 FROM {table} LIMIT 1"
