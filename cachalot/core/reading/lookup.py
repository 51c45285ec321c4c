"""Where the result of a query may be found, and where it may be stored."""

from __future__ import annotations

from collections.abc import Callable

from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core import collecting
from cachalot.core.cache.door import cache_in_use
from cachalot.core.cache.entries import Hit, unpack
from cachalot.core.cache.leases import Lease, Turn, is_dear
from cachalot.core.connection.state import State
from cachalot.core.connection.visibility import Visibility
from cachalot.core.outcomes import Bypass, Outcome
from cachalot.core.reading.by_rows import Asked, ByValue, RowsAsked
from cachalot.core.reading.compiled import Plan
from cachalot.core.reading.finding import (
    Found,
    InForce,
    find,
    find_by_rows,
    find_by_value,
    find_of_snapshot,
)
from cachalot.core.reading.reports import report, report_either
from cachalot.core.reading.snapshots import versions_of_snapshot
from cachalot.core.reading.targets import PENDING, Target
from cachalot.core.schema import catalogue

_NO_SNAPSHOT = "reads a table without transactions, in a transaction with a snapshot"
_UNKNOWN_VIEW = "runs in a transaction or on a connection of which not enough is known"
_NEW_SCHEMA = "reads a schema that another process has just changed"


def look_up(
    state: State,
    connection: BaseDatabaseWrapper,
    key: str,
    plan: Plan,
    rows: Asked | None = None,
    *,
    may_wait: bool = False,
) -> tuple[Target | None, Hit | None]:
    """Return the result of a query if it is there, and otherwise where to store it.

    ``rows`` are those that it asks for, None where its tables count whole. With ``may_wait`` it may
    be waited for while somebody else computes it.

    Raise ``Bypass`` if the database must be asked and nothing be stored, and what the cache raises
    under ``CACHALOT_CACHE_ERRORS = "raise"``.
    """
    if plan.bypass is not None:
        raise Bypass(plan.bypass)
    plan.worth.require()
    seen = visibility_of(state, plan.tables)
    if state.is_in_transaction():
        return _look_up_in_transaction(state, connection, key, plan, rows, seen)
    # Outside a transaction each statement sees what is newest.
    versions, hit, schema, seconds = found = _read_shared(connection, key, plan, rows)
    lease = None
    if hit is None and may_wait and is_dear(seconds):
        found, lease = _wait_for_turn(key, found, lambda: _read_shared(connection, key, plan, rows))
        versions, hit, schema, _ = found
    if hit is None:
        _require_versions(versions)
    doubt = None
    if collecting.current() is not None:
        doubt = report_either(connection, plan, rows, versions, hit)
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
        doubt,
        lease,
        guessed_row=versions.row,
    )
    return target, None


def _wait_for_turn(key: str, found: Found, look: Callable[[], Found]) -> tuple[Found, Lease | None]:
    """Return what is found once the result is there, or is this reader's to compute."""
    versions, hit, _, seconds = found
    with Turn(key) as turn:
        while hit is None and is_dear(seconds):
            if not turn.comes_later(versions.of_rows or versions.of_tables, seconds):
                break
            turn.wait()
            versions, hit, _, seconds = found = look()
        if hit is not None:
            turn.give_back()
    return found, turn.lease


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
        versions, hit, schema, _ = _read_shared(connection, key, plan, rows)
        if hit is not None and not has_written:
            report_either(connection, plan, rows, versions, hit)
            return None, hit
        _require_versions(versions)
        hit = None
        shared_versions, row_versions, guessed_row = versions
    elif seen is Visibility.SNAPSHOT:
        shared_versions = snapshot = versions_of_snapshot(state, connection, plan.tables)
    tables = tuple(sorted(plan.tables))
    own_versions = overlay.versions(tables)
    stored = None
    if rows is None or shared_versions is not None:
        stored = overlay.get(key, shared_versions, own_versions)
    judging = InForce(shared_versions, row_versions if stored is None else None)
    if stored is None and row_versions is not None and not isinstance(rows, ByValue):
        stored = overlay.get(key, row_versions, own_versions)
    if stored is not None:
        hit = Hit(unpack(stored.payload), Outcome.TRANSACTION_HIT, stored, len(stored.payload))
    elif snapshot is not None and not has_written:
        hit = find_of_snapshot(snapshot, key, plan)
    doubt = None
    if has_written:
        report(connection, plan, None, has_written=True)
    elif collecting.current() is not None:
        doubt = report_either(connection, plan, rows, judging, hit)
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
        doubt,
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
) -> Found:
    """Return what is found in this process and in the cache."""
    keys = plan.version_keys if rows is None else (*plan.version_keys, *rows.version_keys)
    with cache_in_use((*keys, key)) as store:
        if rows is None:
            found = find(store, key, plan, connection)
        elif isinstance(rows, ByValue):
            found = find_by_value(store, key, plan, rows, connection)
        else:
            found = find_by_rows(store, key, plan, rows, connection)
    versions, hit, _, _ = found
    # New versions of other rows are no sign that this one is written.
    noted = versions.of_tables if versions.of_rows is None else ()
    plan.worth.note(noted, is_hit=hit is not None)
    return found


def _require_versions(versions: InForce) -> None:
    """Raise ``Bypass`` if what is read is being written."""
    if versions.of_tables is None and versions.of_rows is None:
        raise Bypass(PENDING)
