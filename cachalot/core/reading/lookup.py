"""Where the result of a query may be found, and where it may be stored."""

from __future__ import annotations

import logging
from time import time as wall_time
from typing import NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core import collecting
from cachalot.core.cache.door import cache_in_use
from cachalot.core.cache.entries import Hit, Stored, unpack
from cachalot.core.cache.local import Result, local_tier
from cachalot.core.cache.recent import recent_versions
from cachalot.core.cache.store import Store
from cachalot.core.connection.origin import origin_of
from cachalot.core.connection.overlay import Level
from cachalot.core.connection.state import State, state_of
from cachalot.core.connection.visibility import Visibility
from cachalot.core.interruptions import is_interruption
from cachalot.core.outcomes import Bypass, CacheUnavailable, Outcome
from cachalot.core.reading.compiled import Plan
from cachalot.core.reading.snapshots import versions_of_snapshot
from cachalot.core.schema import catalogue
from cachalot.core.schema.version_keys import version_keys
from cachalot.settings import cachalot_settings

logger = logging.getLogger("cachalot")

_NO_SNAPSHOT = "reads a table without transactions, in a transaction with a snapshot"
_UNKNOWN_VIEW = "runs in a transaction or on a connection of which not enough is known"
PENDING = "reads a table that is being written"
_NEW_SCHEMA = "reads a schema that another process has just changed"
_OWN_CHANGES = "a query reads what its own transaction has written"
_UNPINNED = "a query reads in a snapshot of which the versions are not known"


class Target(NamedTuple):
    """Where the result of a query may be stored, and under which versions.

    ``shared_versions`` are the nonces in the shared cache, ``own_versions`` those of the
    transaction, both in the order of ``tables``. Everything in it was read before the query ran.
    """

    key: str
    tables: tuple[str, ...]
    shared_versions: tuple[str, ...] | None
    own_versions: tuple[str | None, ...]
    level: Level | None
    changes: int


def look_up(
    state: State, connection: BaseDatabaseWrapper, key: str, plan: Plan
) -> tuple[Target | None, Hit | None]:
    """Return the result of a query if it is there, and otherwise where to store it.

    Raise ``Bypass`` if the database must be asked and nothing be stored, and what the cache raises
    under ``CACHALOT_CACHE_ERRORS = "raise"``.
    """
    if plan.bypass is not None:
        raise Bypass(plan.bypass)
    plan.worth.require()
    seen = visibility_of(state, plan.tables)
    if state.is_in_transaction():
        return _look_up_in_transaction(state, connection, key, plan, seen)
    # Outside a transaction each statement sees what is newest.
    versions, hit, schema = _read_shared(connection, key, plan)
    if collecting.current() is not None:
        report(connection, plan, versions, hit)
    if hit is not None:
        return None, hit
    check_schema(connection, plan, schema)
    return Target(key, (), versions, (), None, state.changes), None


def visibility_of(state: State, tables: frozenset[str]) -> Visibility:
    """Return what reads of ``tables`` see. Raise ``Bypass`` if that is no version at all."""
    seen = state.visibility()
    if seen is Visibility.UNKNOWN:
        raise Bypass(_UNKNOWN_VIEW)
    if state.unfinished:
        raise Bypass(PENDING)
    if state.running.marks and not state.running.pending().isdisjoint(tables):
        raise Bypass(PENDING)
    return seen


def report(
    connection: BaseDatabaseWrapper,
    plan: Plan,
    versions: tuple[str, ...] | None,
    hit: Hit | None = None,
    *,
    has_written: bool = False,
) -> None:
    """Tell the collector which versions a read depends on, or why that cannot be told.

    What is not found is queried only afterwards.
    """
    collector = collecting.current()
    if collector is None:
        return
    if has_written or versions is None:
        collector.spoil(_OWN_CHANGES if has_written else _UNPINNED)
        return
    expires_at = None
    if plan.timeout is not None:
        expires_at = plan.timeout + (wall_time() if hit is None else hit.stored.stored_at)
    collector.read(connection.alias, plan.tables, origin_of(connection))
    collector.depend(collecting.nonces_by_key(plan.version_keys, versions), expires_at)


def report_versions(connection: BaseDatabaseWrapper, tables: frozenset[str]) -> None:
    """Tell the collector that something depends on the versions of ``tables`` themselves.

    It is no read: a transaction's snapshot does not show versions. Call it before they are asked
    for.
    """
    collector = collecting.current()
    if collector is None:
        return
    state, keys = state_of(connection), version_keys(connection.alias, tables)
    try:
        if state.is_in_transaction() and not tables.isdisjoint(state.overlay().dirty):
            raise Bypass(_OWN_CHANGES)
        with cache_in_use(keys) as store:
            nonces = store.current(keys) if keys else ()
        if nonces is None:
            raise Bypass(PENDING)
    except Bypass as error:
        collector.spoil(error.sentence())
        return
    collector.read(connection.alias, tables, origin_of(connection))
    collector.depend(collecting.nonces_by_key(keys, nonces))


def require_transactional(
    connection: BaseDatabaseWrapper, tables: frozenset[str], seen: Visibility
) -> None:
    """Raise ``Bypass`` if a transaction that sees what is not newest reads what has no snapshot."""
    if seen is not Visibility.NEWEST:
        known = catalogue.remembered_catalogue_of(connection)
        if tables & known.untransactional:
            raise Bypass(_NO_SNAPSHOT)


def _look_up_in_transaction(
    state: State, connection: BaseDatabaseWrapper, key: str, plan: Plan, seen: Visibility
) -> tuple[Target | None, Hit | None]:
    require_transactional(connection, plan.tables, seen)
    overlay = state.overlay()
    # The shared cache has no result of what the transaction itself has written.
    has_written = not plan.tables.isdisjoint(overlay.dirty)
    shared_versions: tuple[str, ...] | None = None
    snapshot: tuple[str, ...] | None = None
    hit = schema = None
    if seen is Visibility.NEWEST:
        shared_versions, hit, schema = _read_shared(connection, key, plan)
        if hit is not None and not has_written:
            report(connection, plan, shared_versions, hit)
            return None, hit
        hit = None
    elif seen is Visibility.SNAPSHOT:
        shared_versions = snapshot = versions_of_snapshot(state, connection, plan.tables)
    tables = tuple(sorted(plan.tables))
    own_versions = overlay.versions(tables)
    if (stored := overlay.get(key, shared_versions, own_versions)) is not None:
        hit = Hit(unpack(stored.payload), Outcome.TRANSACTION_HIT, stored, len(stored.payload))
    elif snapshot is not None and not has_written:
        hit = _find_of_snapshot(snapshot, key, plan)
    report(connection, plan, shared_versions, hit, has_written=has_written)
    if hit is not None:
        return None, hit
    check_schema(connection, plan, schema)
    level = overlay.levels[-1]
    return Target(key, tables, shared_versions, own_versions, level, state.changes), None


def check_schema(connection: BaseDatabaseWrapper, plan: Plan, version: object) -> None:
    """Raise ``Bypass`` if the schema is no more the one that the query was compiled with.

    ``version`` is the schema's as just read, None if it has not been. A hit needs no such question:
    what changes the schema of a table touches the table as well.
    """
    if not catalogue.follow(connection, version) or plan.epoch != catalogue.epoch:
        raise Bypass(_NEW_SCHEMA)


def _read_shared(
    connection: BaseDatabaseWrapper, key: str, plan: Plan
) -> tuple[tuple[str, ...], Hit | None, object]:
    """Return the versions in force, the result stored under them and the schema's version."""
    keys = plan.version_keys
    with cache_in_use((*keys, key)) as store:
        nonces, hit, schema = _find(store, key, plan, connection)
    plan.worth.note(nonces, is_hit=hit is not None)
    if nonces is None:
        raise Bypass(PENDING)
    return nonces, hit, schema


def _find(
    store: Store, key: str, plan: Plan, connection: BaseDatabaseWrapper
) -> tuple[tuple[str, ...] | None, Hit | None, object]:
    """Return the versions in force, the result from this process or the cache, and the schema's.

    The schema's version is None where nothing was asked for beside those of the tables.
    """
    schema: object = None
    keys = plan.version_keys
    max_staleness = cachalot_settings.CACHALOT_MAX_STALENESS
    local = _local(key, plan.timeout)
    if local is not None:
        if max_staleness and recent_versions.confirm(keys, local.nonces, max_staleness):
            return local.nonces, local.as_hit(), None
        if not recent_versions.confirm(keys, local.nonces):
            # Asking for the versions alone first would cost a second round trip.
            local_tier.discard(key)
            local = None
    generation = recent_versions.generation
    if local is None:
        nonces, stored, schema = store.read(keys, key, catalogue.schema_key_of(connection))
    else:
        nonces, stored = store.current(keys), None
        if nonces is not None and nonces != local.nonces:
            local_tier.discard(key)
            schema_key = catalogue.schema_key_of(connection)
            stored, schema = store.entry_and(key, nonces, schema_key)
            local = None
    if nonces is None:
        return None, None, None
    if local is None or max_staleness:
        recent_versions.note(keys, nonces, generation)
    if local is not None:
        return nonces, local.as_hit(), None
    return nonces, None if stored is None else _unpacked(key, nonces, stored), schema


def _unpacked(key: str, nonces: tuple[str, ...], stored: Stored) -> Hit | None:
    try:
        rows = unpack(stored.payload)
    except Exception as error:
        if is_interruption(error):
            raise
        logger.debug("An entry could not be unpickled (%r): %s", error, key)
        return None
    if cachalot_settings.CACHALOT_LOCAL_SIZE:
        local_tier.put(key, nonces, stored, rows)
        # The tier keeps the list.
        rows = list(rows) if type(rows) is list else rows
    return Hit(rows, Outcome.HIT, stored, len(stored.payload))


def _local(key: str, timeout: float | None) -> Result | None:
    """Return what this process keeps, unless its time is over."""
    local = local_tier.get(key) if cachalot_settings.CACHALOT_LOCAL_SIZE else None
    if local is None:
        return None
    if timeout is None or 0 <= wall_time() - local.stored.stored_at < timeout:
        return local
    local_tier.discard(key)
    return None


def _find_of_snapshot(versions: tuple[str, ...], key: str, plan: Plan) -> Hit | None:
    """Return the result stored under the versions of the transaction's snapshot.

    They must be in force still when the result is at hand: what a slow reader stores under them
    later may be newer than they are.
    """
    local = _local(key, plan.timeout)
    if local is not None and local.nonces != versions:
        local = None
    try:
        with cache_in_use() as store:
            stored = store.entry(key, versions) if local is None else local.stored
            if stored is None or not store.are_in_force(plan.version_keys, versions):
                return None
    except CacheUnavailable:
        return None
    return _unpacked(key, versions, stored) if local is None else local.as_hit()
