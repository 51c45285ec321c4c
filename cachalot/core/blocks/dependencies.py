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
from cachalot.core.schema.version_keys import version_keys
from cachalot.settings import cachalot_settings, has_own_query_keys

_OWN_CHANGES = "its own transaction has written what it reads"
_UNPINNED = "it runs in a snapshot of which the versions are not known"
_OWN_KEYS = "CACHALOT_QUERY_KEYGEN is the project's own, and has no keys for blocks"


class Dependencies(NamedTuple):
    """What a block has read: canonical tables by alias, and versions that belong to no table.

    Those are of the block itself and of the blocks in it. All is sorted.
    """

    tables: tuple[tuple[str, tuple[str, ...]], ...]
    own: tuple[str, ...]

    def version_keys(self) -> tuple[str, ...]:
        """Return the keys of all versions, sorted."""
        keys = set(self.own)
        for alias, tables in self.tables:
            keys.update(version_keys(alias, frozenset(tables)))
        return tuple(sorted(keys))

    def are_known(self) -> bool:
        """Whether this process has all of the databases."""
        return all(alias in connections.settings for alias, _ in self.tables)


def dependencies_of(collector: Collector) -> Dependencies:
    """Return what was read in a collector's block."""
    tables = {alias: frozenset(tables) for alias, tables in collector.tables.items()}
    of_tables = {key for alias in tables for key in version_keys(alias, tables[alias])}
    return Dependencies(
        tuple((alias, tuple(sorted(tables[alias]))) for alias in sorted(tables)),
        tuple(sorted(collector.versions.keys() - of_tables)),
    )


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
