"""What a block has read, by names that every process understands."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.db import connections

from cachalot.core.cache.keyspace import namespace_of
from cachalot.core.collecting import Collector
from cachalot.core.connection.guards import refuse_what_is_forbidden
from cachalot.core.connection.origin import origin_of
from cachalot.core.connection.ready import ready_of
from cachalot.core.connection.state import state_of, why_not_used
from cachalot.core.connection.visibility import Visibility
from cachalot.core.connection.wrappers import may_change_statements
from cachalot.core.outcomes import Bypass
from cachalot.core.reading.keys import SET_BY_QUERIES
from cachalot.core.reading.lookup import require_transactional, visibility_of
from cachalot.core.reading.snapshots import versions_of_snapshot
from cachalot.core.rows import RowKey, are_told_apart
from cachalot.core.schema.version_keys import keys_of_rows, rest_key, row_keys_of, version_keys
from cachalot.settings import cachalot_settings, forget_on_change, has_own_query_keys

_OWN_CHANGES = "its own transaction has written what it reads"
_OTHER_KEYS = "the keys of the tables that it reads have changed"
_UNPINNED = "it runs in a snapshot of which the versions are not known"
_OWN_KEYS = "CACHALOT_QUERY_KEYGEN is the project's own, and has no keys for blocks"


_MAX_KNOWN = 10_000


class Dependencies(NamedTuple):
    """What a block has read: canonical tables by alias, and versions that belong to no table.

    Those are of the block itself and of the blocks in it. Of some of the tables it has read these
    ``rows`` alone, given by alias and table. All is sorted.
    """

    tables: tuple[tuple[str, tuple[str, ...]], ...]
    own: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[RowKey, ...]], ...] = ()

    def version_keys(self) -> tuple[str, ...]:
        """Return the keys of all versions, sorted."""
        keys = set(self.own)
        by_rows = {(alias, table) for alias, table, _ in self.rows}
        for alias, tables in self.tables:
            whole = frozenset(table for table in tables if (alias, table) not in by_rows)
            keys.update(version_keys(alias, whole))
        for alias, table, rows in self.rows:
            keys.update(keys_of_rows(alias, table, rows))
        return tuple(sorted(keys))

    def are_known(self) -> bool:
        """Whether this process has all of the databases, and tells their rows apart."""
        return (not self.rows or are_told_apart()) and all(
            alias in connections.settings for alias, _ in self.tables
        )

    def are_in_transaction(self) -> bool:
        """Whether a transaction is open on one of the databases."""
        return any(state_of(connections[alias]).is_in_transaction() for alias, _ in self.tables)


def dependencies_of(collector: Collector) -> Dependencies:
    """Return what was read in a collector's block. Raise ``Bypass`` if its keys have changed since.

    Rows of a table that has a version are left out: those must be in force still after the table
    had it. Then each later write of them gives the table another one.
    """
    rows, left_out = [], set[str]()
    for (alias, table), keys in sorted(collector.rows.items()):
        if collector.versions.keys().isdisjoint(version_keys(alias, frozenset({table}))):
            rows.append((alias, table, tuple(sorted(keys, key=repr))))
        else:
            left_out.update(map(row_keys_of(alias, table), keys), (rest_key(alias, table),))
    dependencies = Dependencies(
        tuple((alias, tuple(sorted(tables))) for alias, tables in sorted(collector.tables.items())),
        tuple(sorted(collector.own)),
        tuple(rows),
    )
    if collector.versions.keys() - left_out != {*dependencies.version_keys()} - left_out:
        raise Bypass(_OTHER_KEYS)
    return dependencies


def versions_to_be_seen(alias: str, tables: tuple[str, ...]) -> dict[str, str]:
    """Return the versions that a hit must have because the transaction has a snapshot.

    It has none where each statement sees what is newest. Raise ``Bypass`` where no hit may be
    served.
    """
    connection = connections[alias]
    state, read = state_of(connection), frozenset(tables)
    seen = visibility_of(state, read)
    if not state.is_in_transaction():
        return {}
    require_transactional(connection, read, seen)
    if not read.isdisjoint(state.overlay().dirty):
        raise Bypass(_OWN_CHANGES)
    if seen is Visibility.NEWEST:
        return {}
    if seen is Visibility.SNAPSHOT:
        pinned = versions_of_snapshot(state, connection, read)
        if pinned is not None:
            return dict(zip(version_keys(alias, read), pinned, strict=True))
    raise Bypass(_UNPINNED)


def origin_for_blocks(alias: str) -> bytes:
    """Return what tells whose rows are read by an alias. Raise ``Bypass`` where nothing does."""
    connection: Any = connections[alias]
    refuse_what_is_forbidden(connection)
    if connection.connection is None:
        # Connecting sets what belongs to the key.
        connection.ensure_connection()
    state = state_of(connection)
    ready = ready_of(connection, state)
    if ready is not None:
        return ready.origin
    if connection.needs_rollback:
        raise Bypass("the transaction is broken and must be rolled back")
    if (reason := why_not_used(connection)) is not None:
        raise Bypass(reason)
    if has_own_query_keys():
        raise Bypass(_OWN_KEYS)
    if state.session.is_set_by_queries:
        raise Bypass(f"it {SET_BY_QUERIES}")
    if connection.execute_wrappers and may_change_statements(connection):
        raise Bypass("it runs behind an execute wrapper that may change its queries")
    return origin_of(connection)


def namespace_for_blocks(cache_alias: str | None) -> str:
    """Return what the project's own ``KEY_FUNCTION`` makes of a key just now; empty without one."""
    return namespace_of(cachalot_settings.CACHALOT_CACHE if cache_alias is None else cache_alias)


#: What blocks have read when they were last stored or found, by the entries' cache and their key.
known_dependencies: dict[tuple[str | None, str], Dependencies] = {}


def remember(place: tuple[str | None, str], dependencies: Dependencies) -> None:
    """Keep what a block has read, so that the cache need not be asked for it."""
    if len(known_dependencies) >= _MAX_KNOWN:
        known_dependencies.clear()
    known_dependencies[place] = dependencies


forget_on_change(known_dependencies.clear)
