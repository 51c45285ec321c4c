"""Which shared versions a transaction's snapshot shows.

A transaction under snapshot isolation goes on seeing what was true when it began, so the versions
now in force say nothing about what it sees. A version read before the snapshot is taken is
*pinned*. What is stored under pinned versions is what the transaction's own query would return as
long as they are in force, and they must be found so *behind* the entry: then no change has become
visible since before the snapshot, and nothing in the entry is newer. Once they are no more in
force, it may be: a slow reader stores under them what it has read after the next change.
"""

from __future__ import annotations

from collections import OrderedDict

from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core.cache.door import cache_in_use
from cachalot.core.connection.cursor import driver_cursor
from cachalot.core.connection.state import State
from cachalot.core.locks import fork_safe_lock
from cachalot.core.outcomes import CacheUnavailable
from cachalot.core.schema.tables import display_name, managed_tables
from cachalot.core.schema.version_keys import version_keys

#: How many tables of a database a transaction pins: those that such transactions read last.
MAX_TABLES = 100

# By alias, the latest last.
_in_use: dict[str, OrderedDict[str, None]] = {}
_lock = fork_safe_lock()


def versions_of_snapshot(
    state: State, connection: BaseDatabaseWrapper, tables: frozenset[str]
) -> tuple[str, ...] | None:
    """Return the pinned versions of ``tables``, None if one of them is not pinned.

    The first call in a transaction takes the snapshot, unless something has taken it before. Raise
    what the database raises, and the cache under ``CACHALOT_CACHE_ERRORS = "raise"``.
    """
    in_use = _tables_in_use(connection.alias, tables)
    if state.transaction.snapshot_versions is None:
        # If the cache fails, nothing is pinned.
        state.transaction.snapshot_versions = {}
        statement = None if state.has_snapshot() else _statement_taking_one(connection, tables)
        if statement is not None:
            keys = version_keys(connection.alias, in_use)
            try:
                with cache_in_use(keys) as store:
                    before = store.nonces(keys)
            except CacheUnavailable:
                return None
            with driver_cursor(connection) as cursor:
                cursor.execute(statement)
                cursor.fetchall()
            state.transaction.snapshot_versions = before
    keys, pins = version_keys(connection.alias, tables), state.transaction.snapshot_versions
    return tuple(pins[key] for key in keys) if pins.keys() >= set(keys) else None


def _tables_in_use(db_alias: str, tables: frozenset[str]) -> frozenset[str]:
    """Return the tables that transactions with a snapshot have read last, ``tables`` included."""
    with _lock:
        in_use = _in_use.setdefault(db_alias, OrderedDict())
        for table in tables:
            in_use[table] = None
            in_use.move_to_end(table)
        while len(in_use) > MAX_TABLES:
            in_use.popitem(last=False)
        return frozenset(in_use)


def _statement_taking_one(connection: BaseDatabaseWrapper, tables: frozenset[str]) -> str | None:
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
