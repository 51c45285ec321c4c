"""Where the result of a query may be found, and where it may be stored."""

from __future__ import annotations

from time import time as wall_time
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core import collecting
from cachalot.core.cache.door import cache_in_use
from cachalot.core.cache.entries import Hit, unpack
from cachalot.core.connection.origin import origin_of
from cachalot.core.connection.overlay import Level
from cachalot.core.connection.state import State, state_of
from cachalot.core.connection.visibility import Visibility
from cachalot.core.outcomes import Bypass, CacheUnavailable, Outcome, Unstorable
from cachalot.core.reading.by_rows import Asked, ByValue, RowsAsked
from cachalot.core.reading.compiled import Plan
from cachalot.core.reading.finding import (
    InForce,
    find,
    find_by_rows,
    find_by_value,
    find_of_snapshot,
    nonce_of_row,
)
from cachalot.core.reading.snapshots import versions_of_snapshot
from cachalot.core.schema import catalogue
from cachalot.core.schema.version_keys import version_keys

_NO_SNAPSHOT = "reads a table without transactions, in a transaction with a snapshot"
_UNKNOWN_VIEW = "runs in a transaction or on a connection of which not enough is known"
PENDING = "reads a table that is being written"
_NEW_SCHEMA = "reads a schema that another process has just changed"
_OWN_CHANGES = "a query reads what its own transaction has written"
_UNPINNED = "a query reads in a snapshot of which the versions are not known"


class Target(NamedTuple):
    """Where the result of a query may be stored, and under which versions.

    ``shared_versions`` are the nonces in the shared cache, ``own_versions`` those of the
    transaction, both in the order of ``tables``. ``row_versions`` are the nonces by which the
    result is judged instead if it has all the ``rows``. Everything in it was read before the query
    ran, but for the ``found_versions``, under which others may find what its transaction finds
    under the shared ones: among them is that of a row which only the result names. If that is the
    ``guessed_row``, the last of the ``row_versions`` is its nonce from before the query.
    """

    key: str
    version_keys: tuple[str, ...]
    tables: tuple[str, ...]
    shared_versions: tuple[str, ...] | None
    own_versions: tuple[str | None, ...]
    level: Level | None
    changes: int
    rows: Asked | None = None
    row_versions: tuple[str, ...] | None = None
    found_versions: tuple[str, ...] | None = None
    guessed_row: RowsAsked | None = None

    def judging(self, result: list[Any]) -> Target:
        """Return the target with the versions that this result depends on.

        Raise ``Unstorable`` if one of them was pending when the query began, or the cache fails.
        """
        if self.rows is None:
            return self
        if isinstance(self.rows, ByValue):
            return self._judging_found(self.rows, result)
        versions = self.row_versions if self.rows.are_found(result) else self.shared_versions
        if versions is None:
            raise Unstorable(PENDING)
        return self._replace(shared_versions=versions)

    def _judging_found(self, value: ByValue, result: list[Any]) -> Target:
        row, versions = value.found_in(result), self.row_versions
        is_guessed = row is not None and row == self.guessed_row
        if self.shared_versions is None and not (is_guessed and self.level is None):
            raise Unstorable(PENDING)
        if row is None or versions is None:
            return self
        if not is_guessed:
            assert self.shared_versions is not None
            try:
                nonce = nonce_of_row(row, self.version_keys, self.shared_versions)
            except CacheUnavailable as error:
                raise Unstorable(error.reason) from error
            if nonce is None:
                return self
            versions = (*versions[: len(value.version_keys)], nonce)
        if self.level is None:
            return self._replace(shared_versions=versions)
        return self._replace(found_versions=versions)


def look_up(
    state: State,
    connection: BaseDatabaseWrapper,
    key: str,
    plan: Plan,
    rows: Asked | None = None,
) -> tuple[Target | None, Hit | None]:
    """Return the result of a query if it is there, and otherwise where to store it.

    ``rows`` are those that it asks for, None where its tables count whole.

    Raise ``Bypass`` if the database must be asked and nothing be stored, and what the cache raises
    under ``CACHALOT_CACHE_ERRORS = "raise"``.
    """
    if plan.bypass is not None:
        raise Bypass(plan.bypass)
    plan.worth.require()
    seen = visibility_of(state, plan.tables)
    if rows is not None and collecting.asks_for_versions():
        # Blocks know no rows.
        rows = None
    if state.is_in_transaction():
        return _look_up_in_transaction(state, connection, key, plan, rows, seen)
    # Outside a transaction each statement sees what is newest.
    versions, hit, schema = _read_shared(connection, key, plan, rows)
    if collecting.current() is not None:
        report(connection, plan, versions.of_tables, hit)
    if hit is not None:
        return None, hit
    check_schema(connection, plan, schema)
    target = Target(
        key,
        plan.version_keys,
        (),
        versions.of_tables,
        (),
        None,
        state.changes,
        rows,
        versions.of_rows,
        guessed_row=versions.row,
    )
    return target, None


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
    if collector is None or not collecting.asks_for_versions():
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
    state: State,
    connection: BaseDatabaseWrapper,
    key: str,
    plan: Plan,
    rows: Asked | None,
    seen: Visibility,
) -> tuple[Target | None, Hit | None]:
    require_transactional(connection, plan.tables, seen)
    overlay = state.overlay()
    # The shared cache has no result of what the transaction itself has written.
    has_written = not plan.tables.isdisjoint(overlay.dirty)
    if has_written or seen is not Visibility.NEWEST:
        # What it has inserted nobody else sees, and of a snapshot the tables' versions are known.
        rows = None
    shared_versions: tuple[str, ...] | None = None
    row_versions: tuple[str, ...] | None = None
    snapshot: tuple[str, ...] | None = None
    guessed_row: RowsAsked | None = None
    hit = schema = None
    if seen is Visibility.NEWEST:
        in_force, hit, schema = _read_shared(connection, key, plan, rows)
        shared_versions, row_versions, guessed_row = in_force
        if hit is not None and not has_written:
            report(connection, plan, shared_versions, hit)
            return None, hit
        hit = None
    elif seen is Visibility.SNAPSHOT:
        shared_versions = snapshot = versions_of_snapshot(state, connection, plan.tables)
    tables = tuple(sorted(plan.tables))
    own_versions = overlay.versions(tables)
    stored = None
    if rows is None or shared_versions is not None:
        stored = overlay.get(key, shared_versions, own_versions)
    if stored is None and row_versions is not None and not isinstance(rows, ByValue):
        stored = overlay.get(key, row_versions, own_versions)
    if stored is not None:
        hit = Hit(unpack(stored.payload), Outcome.TRANSACTION_HIT, stored, len(stored.payload))
    elif snapshot is not None and not has_written:
        hit = find_of_snapshot(snapshot, key, plan)
    report(connection, plan, shared_versions, hit, has_written=has_written)
    if hit is not None:
        return None, hit
    check_schema(connection, plan, schema)
    level, changes = overlay.levels[-1], state.changes
    target = Target(
        key,
        plan.version_keys,
        tables,
        shared_versions,
        own_versions,
        level,
        changes,
        rows,
        row_versions,
        guessed_row=guessed_row,
    )
    return target, None


def check_schema(connection: BaseDatabaseWrapper, plan: Plan, version: object) -> None:
    """Raise ``Bypass`` if the schema is no more the one that the query was compiled with.

    ``version`` is the schema's as just read, None if it has not been. A hit needs no such question:
    what changes the schema of a table touches the table as well.
    """
    if not catalogue.follow(connection, version) or plan.epoch != catalogue.epoch:
        raise Bypass(_NEW_SCHEMA)


def _read_shared(
    connection: BaseDatabaseWrapper, key: str, plan: Plan, rows: Asked | None
) -> tuple[InForce, Hit | None, object]:
    """Return the versions in force, the result stored under them and the schema's version."""
    keys = plan.version_keys if rows is None else (*plan.version_keys, *rows.version_keys)
    with cache_in_use((*keys, key)) as store:
        if rows is None:
            versions, hit, schema = find(store, key, plan, connection)
        elif isinstance(rows, ByValue):
            versions, hit, schema = find_by_value(store, key, plan, rows, connection)
        else:
            versions, hit, schema = find_by_rows(store, key, plan, rows, connection)
    # New versions of other rows are no sign that this one is written.
    noted = versions.of_tables if versions.of_rows is None else ()
    plan.worth.note(noted, is_hit=hit is not None)
    if versions.of_tables is None and versions.of_rows is None:
        raise Bypass(PENDING)
    return versions, hit, schema
