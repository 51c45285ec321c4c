"""Where the result of a query may be found, and where it may be stored."""

from __future__ import annotations

import logging
from time import time as wall_time
from typing import Any, NamedTuple

from cachalot.core.cache.door import cache_in_use
from cachalot.core.cache.entries import Stored, unpack
from cachalot.core.cache.local import Result, local_tier
from cachalot.core.cache.recent import recent_versions
from cachalot.core.cache.store import Store
from cachalot.core.connection.overlay import Level
from cachalot.core.connection.state import State
from cachalot.core.connection.visibility import Scope
from cachalot.core.outcomes import Bypass, CacheUnavailable, Outcome
from cachalot.core.reading.compiled import Plan
from cachalot.core.reading.snapshots import pinned_nonces
from cachalot.core.schema.catalogue import SCHEMA, catalogue_of, follow
from cachalot.core.schema.version_keys import version_keys
from cachalot.settings import cachalot_settings

logger = logging.getLogger("cachalot")

_OF_BEGINNING = frozenset({Scope.SNAPSHOT, Scope.OVERLAY})

_NO_SNAPSHOT = "reads a table without transactions, in a transaction with a snapshot"
_UNKNOWN_VIEW = "runs in a transaction or on a connection of which not enough is known"
_PENDING = "reads a table that is being written"
_NEW_SCHEMA = "reads a schema that another process has just changed"


class Target(NamedTuple):
    """Where the result of a query may be stored, and under which versions.

    Everything in it was read before the query ran.
    """

    key: str
    tables: tuple[str, ...]
    nonces: tuple[str, ...] | None
    private: tuple[str | None, ...]
    level: Level | None
    changes: int


class Hit(NamedTuple):
    """A result that was found; nobody else has these rows."""

    rows: Any
    outcome: Outcome
    stored: Stored
    size: int


def look_up(
    state: State, connection: Any, key: str, plan: Plan
) -> tuple[Target | None, Hit | None]:
    """Return the result of a query if it is there, and otherwise where to store it.

    Raise ``Bypass`` if the database must be asked and nothing be stored, and what
    the cache raises under ``CACHALOT_CACHE_ERRORS = "raise"``.
    """
    tables = plan.tables
    scope = state.scope()
    if scope is Scope.NONE:
        raise Bypass(_UNKNOWN_VIEW)
    if scope in _OF_BEGINNING and not catalogue_of(connection).untransactional.isdisjoint(tables):
        raise Bypass(_NO_SNAPSHOT)
    if not state.of_thread.pending.isdisjoint(tables):
        raise Bypass(_PENDING)
    if not state.is_in_transaction():
        # Outside a transaction the scope is the shared one.
        nonces, hit = _read_shared(connection, key, plan)
        if hit is not None:
            return None, hit
        return Target(key, (), nonces, (), None, state.changes), None
    names = tuple(sorted(tables))
    overlay = state.transaction()
    private = overlay.versions(names)
    # The shared cache has no result of what the transaction itself has written.
    has_written = any(private)
    own_nonces: tuple[str, ...] | None = None
    hit = None
    if scope is Scope.SHARED:
        own_nonces, hit = _read_shared(connection, key, plan)
        if has_written:
            hit = None
    elif scope is Scope.SNAPSHOT and SCHEMA not in tables:
        own_nonces = pinned_nonces(state, connection, tables)
    if hit is None and (stored := overlay.get(key, own_nonces, private)) is not None:
        hit = Hit(unpack(stored.payload), Outcome.TRANSACTION_HIT, stored, len(stored.payload))
    if hit is None and scope is Scope.SNAPSHOT and own_nonces is not None and not has_written:
        hit = _find_pinned(own_nonces, key, plan)
    if hit is not None:
        return None, hit
    return Target(key, names, own_nonces, private, overlay.levels[-1], state.changes), None


def _read_shared(connection: Any, key: str, plan: Plan) -> tuple[tuple[str, ...], Hit | None]:
    """Return the versions in force and the result stored under them."""
    keys = plan.version_keys
    with cache_in_use((*keys, key)) as store:
        nonces, hit = _find(store, key, plan)
    if nonces is None:
        raise Bypass(_PENDING)
    if SCHEMA in plan.tables:
        (schema_key,) = version_keys(connection.alias, frozenset({SCHEMA}))
        if not follow(connection, nonces[keys.index(schema_key)]):
            raise Bypass(_NEW_SCHEMA)
    return nonces, hit


def _find(store: Store, key: str, plan: Plan) -> tuple[tuple[str, ...] | None, Hit | None]:
    """Return the versions in force, and the result from this process or from the shared cache."""
    keys = plan.version_keys
    max_staleness = cachalot_settings.CACHALOT_MAX_STALENESS
    local = _local(key, plan.timeout)
    if local is not None:
        if max_staleness and recent_versions.confirm(keys, local.nonces, max_staleness):
            return local.nonces, Hit(local.copy(), Outcome.LOCAL_HIT, local.stored, local.size)
        if not recent_versions.confirm(keys, local.nonces):
            # Asking for the versions alone first would cost a second round trip.
            local_tier.discard(key)
            local = None
    generation = recent_versions.generation
    if local is None:
        nonces, stored = store.read(keys, key)
    else:
        nonces, stored = store.current(keys), None
        if nonces is not None and nonces != local.nonces:
            local_tier.discard(key)
            stored = store.entry(key, nonces)
            local = None
    if nonces is None:
        return None, None
    if local is None or max_staleness:
        recent_versions.note(keys, nonces, generation)
    if local is not None:
        return nonces, Hit(local.copy(), Outcome.LOCAL_HIT, local.stored, local.size)
    return nonces, None if stored is None else _unpacked(key, nonces, stored)


def _unpacked(key: str, nonces: tuple[str, ...], stored: Stored) -> Hit | None:
    try:
        rows = unpack(stored.payload)
    except Exception as error:
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


def _find_pinned(pins: tuple[str, ...], key: str, plan: Plan) -> Hit | None:
    """Return the result stored under the versions of the transaction's snapshot.

    They must be in force still when the result is at hand: what a slow reader stores under them
    later may be newer than they are.
    """
    local = _local(key, plan.timeout)
    if local is not None and local.nonces != pins:
        local = None
    stored = None
    try:
        with cache_in_use() as store:
            if local is None:
                stored = store.entry(key, pins)
            if local is None and stored is None:
                return None
            if not store.are_in_force(plan.version_keys, pins):
                return None
    except CacheUnavailable:
        return None
    if local is not None:
        return Hit(local.copy(), Outcome.LOCAL_HIT, local.stored, local.size)
    assert stored is not None
    return _unpacked(key, pins, stored)
