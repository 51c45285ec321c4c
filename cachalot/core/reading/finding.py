"""Results in this process and in the shared cache, and the versions that judge them."""

from __future__ import annotations

import logging
from time import time as wall_time
from typing import NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core.cache.door import cache_in_use
from cachalot.core.cache.entries import Hit, Outdated, Stored, unpack
from cachalot.core.cache.local import Result, local_tier
from cachalot.core.cache.recent import recent_versions
from cachalot.core.cache.store import Store
from cachalot.core.interruptions import is_interruption
from cachalot.core.outcomes import CacheUnavailable, Outcome
from cachalot.core.reading.by_rows import ByValue, RowsAsked
from cachalot.core.reading.compiled import Plan
from cachalot.core.schema import catalogue
from cachalot.settings import cachalot_settings

logger = logging.getLogger("cachalot")


class InForce(NamedTuple):
    """The nonces of a query's tables, and of the rows that it asks for.

    Each is None while one of them is pending, and where nobody asked for them. ``row`` is one that
    the query has found before, if its nonce is the last of those of rows.
    """

    of_tables: tuple[str, ...] | None
    of_rows: tuple[str, ...] | None
    row: RowsAsked | None = None


_PENDING = InForce(None, None)

#: What was found: versions, result, the schema's version, and how many seconds the query took whose
#: result is not of these versions, 0 without one.
Found = tuple[InForce, Hit | None, object, float]


def find(store: Store, key: str, plan: Plan, connection: BaseDatabaseWrapper) -> Found:
    """Return the versions in force, the result from this process or the cache, and the schema's.

    The schema's version is None where nothing was asked for beside those of the tables.
    """
    schema: object = None
    keys = plan.version_keys
    max_staleness = cachalot_settings.CACHALOT_MAX_STALENESS
    local = _local(key, plan.timeout)
    if local is not None and len(local.nonces) != len(keys):
        local = None  # it depends on rows
    if local is not None:
        if max_staleness and recent_versions.confirm(keys, local.nonces, max_staleness):
            return InForce(local.nonces, None), local.as_hit(), None, 0.0
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
        return _PENDING, None, None, _seconds_of(stored if local is None else local.stored)
    if local is None or max_staleness:
        recent_versions.note(keys, nonces, generation)
    if local is not None:
        return InForce(nonces, None), local.as_hit(), None, 0.0
    if not isinstance(stored, Stored):
        return InForce(nonces, None), None, schema, _seconds_of(stored)
    return InForce(nonces, None), _unpacked(key, nonces, stored), schema, 0.0


def find_by_rows(
    store: Store, key: str, plan: Plan, rows: RowsAsked, connection: BaseDatabaseWrapper
) -> Found:
    """Do what ``find()`` does for a query that may depend on rows in place of their table."""
    sets = plan.version_keys, rows.version_keys
    local = _local(key, plan.timeout)
    if local is not None:
        # Rows are more than their table.
        is_of_rows = len(local.nonces) == len(rows.version_keys)
        found = InForce(None, local.nonces) if is_of_rows else InForce(local.nonces, None)
        if _is_in_force(store, sets[is_of_rows], local.nonces):
            return found, local.as_hit(is_by_rows=is_of_rows), None, 0.0
        local_tier.discard(key)
    fetched, of_stored = _fetch_either(store, key, sets, connection)
    in_force, hit, schema, _ = fetched
    if hit is None:
        return fetched
    # Those that judged it alone: the others may be of after a change that it lacks.
    of_tables, of_rows = (each if each is of_stored else None for each in in_force[:2])
    hit = hit._replace(is_by_rows=of_rows is not None)
    return InForce(of_tables, of_rows), hit, schema, 0.0


def find_by_value(
    store: Store, key: str, plan: Plan, value: ByValue, connection: BaseDatabaseWrapper
) -> Found:
    """Do what ``find()`` does for a query that may depend on a row that only its result names.

    Where nothing is found, the nonces of rows are those of the rest of their table.
    """
    sets = plan.version_keys, value.version_keys
    local = _local(key, plan.timeout)
    if local is not None:
        found = local.as_hit()
        row = value.found_in(found.rows) if len(local.nonces) > len(sets[0]) else None
        keys = sets[0] if row is None else row.version_keys
        if len(keys) == len(local.nonces) and _is_in_force(store, keys, local.nonces):
            if row is None:
                return InForce(local.nonces, None), found, None, 0.0
            of_row = InForce(None, local.nonces, row)
            return of_row, found._replace(is_by_rows=True), None, 0.0
        local_tier.discard(key)
    generation = recent_versions.generation
    fetched, of_stored = _fetch_either(store, key, sets, connection, is_one_unknown=True)
    in_force, hit, schema, _ = fetched
    if hit is None:
        return fetched
    if len(of_stored) == len(sets[0]):
        return InForce(of_stored, None), hit, schema, 0.0
    row = value.found_in(hit.rows)
    nonce = None if row is None else store.nonce_there(row.version_keys[-1])
    if row is None or nonce is None:
        return in_force, None, schema, hit.stored.seconds
    of_rows = *of_stored[:-1], nonce
    recent_versions.note(row.version_keys[-1:], of_rows[-1:], generation)
    if of_rows == of_stored:
        return InForce(None, of_rows, row), hit._replace(is_by_rows=True), schema, 0.0
    # It has been written since, and may be what the query finds all the same.
    return in_force._replace(of_rows=of_rows, row=row), None, schema, hit.stored.seconds


def _fetch_either(
    store: Store,
    key: str,
    sets: tuple[tuple[str, ...], tuple[str, ...]],
    connection: BaseDatabaseWrapper,
    *,
    is_one_unknown: bool = False,
) -> tuple[Found, tuple[str, ...]]:
    """Return what ``Store.read_either()`` finds, and the nonces that its result is stored under."""
    generation = recent_versions.generation
    schema_key = catalogue.schema_key_of(connection)
    nonces, of_stored, stored, schema = store.read_either(
        sets, key, schema_key, is_one_unknown=is_one_unknown
    )
    for keys, each in zip(sets, nonces, strict=True):
        if each is not None:
            recent_versions.note(keys, each, generation)
    in_force = InForce(nonces[0], nonces[1])
    if not isinstance(stored, Stored):
        return (in_force, None, schema, _seconds_of(stored)), of_stored
    return (in_force, _unpacked(key, of_stored, stored), schema, 0.0), of_stored


def _seconds_of(stored: Stored | Outdated | None) -> float:
    return 0.0 if stored is None else stored.seconds


def nonce_of_row(row: RowsAsked, plan_keys: tuple[str, ...], nonces: tuple[str, ...]) -> str | None:
    """Return the nonce of the row that a query has found, None where it must not count.

    ``nonces`` are those of the query's tables from before it ran. Raise ``CacheUnavailable``, and
    what the cache raises under ``CACHALOT_CACHE_ERRORS = "raise"``.
    """
    row_key = row.version_keys[-1]
    with cache_in_use((row_key, *plan_keys)) as store:
        return store.nonce_learnt(row_key, plan_keys, nonces)


def _is_in_force(store: Store, keys: tuple[str, ...], nonces: tuple[str, ...]) -> bool:
    """Whether versions that this process has met are in force, as far as it need ask."""
    max_staleness = cachalot_settings.CACHALOT_MAX_STALENESS
    if max_staleness and recent_versions.confirm(keys, nonces, max_staleness):
        return True
    if not recent_versions.confirm(keys, nonces):
        return False
    generation = recent_versions.generation
    if store.current(keys) != nonces:
        return False
    if max_staleness:
        recent_versions.note(keys, nonces, generation)
    return True


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


def find_of_snapshot(versions: tuple[str, ...], key: str, plan: Plan) -> Hit | None:
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
            if not isinstance(stored, Stored) or not store.are_in_force(
                plan.version_keys, versions
            ):
                return None
    except CacheUnavailable:
        return None
    return _unpacked(key, versions, stored) if local is None else local.as_hit()
