"""What a read tells the collectors around it, as of code that is cached as a whole."""

from __future__ import annotations

from time import time as wall_time

from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core import collecting
from cachalot.core.cache.door import cache_in_use
from cachalot.core.cache.entries import Hit
from cachalot.core.collecting import PENDING, Doubt
from cachalot.core.connection.origin import origin_of
from cachalot.core.connection.state import state_of
from cachalot.core.outcomes import Bypass
from cachalot.core.reading.by_rows import Asked, ByValue
from cachalot.core.reading.compiled import Plan
from cachalot.core.reading.finding import InForce
from cachalot.core.schema.version_keys import version_keys

_OWN_CHANGES = "a query reads what its own transaction has written"
_UNPINNED = "a query reads in a snapshot of which the versions are not known"


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
    if collector is None or not collecting.asks_for_versions():
        return
    if has_written or versions is None:
        collector.spoil(_OWN_CHANGES if has_written else _UNPINNED)
        return
    collector.read(connection.alias, plan.tables, origin_of(connection))
    nonces = collecting.nonces_by_key(plan.version_keys, versions)
    collector.depend(nonces, _expiry(plan, hit))


def report_either(
    connection: BaseDatabaseWrapper,
    plan: Plan,
    rows: Asked | None,
    versions: InForce,
    hit: Hit | None,
) -> Doubt | None:
    """Do what ``report()`` does, where a read may depend on rows.

    A hit has the versions that judge it, of tables or of rows. Of a miss it is not known before
    the result which of them count: the doubt is returned.
    """
    of_tables, of_rows, found_row = versions
    if of_rows is None or rows is None:
        report(connection, plan, of_tables, hit)
        return None
    collector = collecting.current()
    if collector is None or not collecting.asks_for_versions():
        return None
    collector.read(connection.alias, plan.tables, origin_of(connection))
    if hit is not None:
        asked = found_row if isinstance(rows, ByValue) else rows
        assert asked is not None
        nonces, found = asked.told(of_rows)
        collector.depend(nonces, _expiry(plan, hit), found)
        return None
    collector.depend({}, _expiry(plan, None))
    return collector.doubt(
        None if of_tables is None else collecting.nonces_by_key(plan.version_keys, of_tables)
    )


def _expiry(plan: Plan, hit: Hit | None) -> float | None:
    """Return when a read's result expires, in seconds since the epoch; None for never."""
    if plan.timeout is None:
        return None
    return plan.timeout + (wall_time() if hit is None else hit.stored.stored_at)


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
    except Bypass as error:
        collector.spoil(error.sentence())
        return
    if nonces is None:
        collector.spoil(PENDING)
        return
    collector.read(connection.alias, tables, origin_of(connection))
    collector.depend(collecting.nonces_by_key(keys, nonces))
