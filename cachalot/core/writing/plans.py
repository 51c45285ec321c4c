"""What a write of some tables changes, remembered as long as schema and settings are the same."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core.connection.databases import alias_reached_by, databases_now
from cachalot.core.reading.pinned import NEW_ROWS, Pinned
from cachalot.core.rows import ANY_ROW, NO_ROWS, Key, Rows, are_told_apart, row_keys
from cachalot.core.schema import catalogue
from cachalot.core.schema.tables import changed_with
from cachalot.core.schema.version_keys import keys_to_renew
from cachalot.settings import forget_on_change


class Renewal(NamedTuple):
    """What gives tables new versions.

    ``alias`` is the one in DATABASES that the connection reaches; ``keys`` are as
    ``keys_to_renew()`` gives them. ``schema_key`` is that of the schema's version.
    """

    alias: str
    keys: dict[str, int | None]
    schema_key: str


class WritePlan(NamedTuple):
    """The tables that a write changes, and what gives them new versions.

    ``key`` tells their rows apart, if a write of one row changes nothing but that row.
    """

    changed: frozenset[str]
    renewal: Renewal
    key: Key | None

    def rows_of(self, pinned: Pinned | None) -> Rows:
        """Return the rows that the write changes if its condition pins them."""
        if self.key is None or pinned is None or pinned.column not in (self.key.column, NEW_ROWS):
            return ANY_ROW
        rows = row_keys(self.key, pinned.values)
        return ANY_ROW if rows is None else dict.fromkeys(self.changed, rows)


# What a renewal or a plan was made of, which may be another by now: the databases there are, which
# others may be the one at hand, and for plans the catalogue.
_Basis = tuple[object, ...]

_renewals: dict[tuple[str, frozenset[str], frozenset[str]], tuple[_Basis, Renewal]] = {}
_plans: dict[tuple[str, frozenset[str], bool], tuple[_Basis, WritePlan]] = {}
_MAX_MADE = 4096


def renewal_of(
    connection: BaseDatabaseWrapper, tables: frozenset[str], rows: Rows = ANY_ROW
) -> Renewal:
    """Return what gives canonical ``tables`` new versions, of which some ``rows`` alone change."""
    basis, place = _basis_of(connection), (connection.alias, tables, frozenset(rows))
    made = _renewals.get(place)
    if made is not None and made[0] == basis:
        renewal = made[1]
    else:
        reached, no_rows = alias_reached_by(connection), dict.fromkeys(rows, NO_ROWS)
        keys, schema_key = (
            keys_to_renew(reached, tables, no_rows),
            catalogue.schema_key_of(connection),
        )
        renewal = Renewal(reached, keys, schema_key)
        _keep(_renewals, place, basis, renewal)
    if any(rows.values()):
        keys = renewal.keys | keys_to_renew(renewal.alias, tables.intersection(rows), rows)
        renewal = renewal._replace(keys=keys)
    return renewal


def plan_of(connection: BaseDatabaseWrapper, tables: frozenset[str], deletes: bool) -> WritePlan:
    """Return what a write of canonical ``tables`` changes; ``deletes`` if it may remove rows."""
    basis, place = _basis_of(connection), (connection.alias, tables, deletes)
    made = _plans.get(place)
    if made is not None and made[0] == (*basis, catalogue.settled(connection)):
        return made[1]
    changed = _changed_by(connection, tables, deletes)
    schema, key = catalogue.settled(connection), None
    if schema is not None and len(changed) == 1 and are_told_apart():
        key = schema.keys.get(min(changed))
    plan = WritePlan(changed, renewal_of(connection, changed), key)
    if schema is not None:
        _keep(_plans, place, (*basis, schema), plan)
    return plan


def _basis_of(connection: BaseDatabaseWrapper) -> _Basis:
    there_are = databases_now()
    return there_are, there_are.lookalikes_of(connection.alias)


def _keep(memo: dict[Any, Any], place: tuple[Any, ...], basis: _Basis, made: object) -> None:
    # Connections of an alias that is in no settings may lead to as many databases.
    if place[0] in connections.settings:
        if len(memo) >= _MAX_MADE:
            memo.clear()
        memo[place] = basis, made


def _changed_by(
    connection: BaseDatabaseWrapper, tables: frozenset[str], deletes: bool
) -> frozenset[str]:
    """Return ``tables`` and all that changes with them, by the settings and by the database."""
    changed = tables
    while tables:
        reached = catalogue.changed_by(connection, changed_with(tables, deletes), deletes)
        # Nobody knows what is done to the others.
        tables, deletes = reached - changed, True
        changed |= tables
    return changed


def _forget() -> None:
    _renewals.clear()
    _plans.clear()


forget_on_change(_forget)

if hasattr(os, "register_at_fork"):
    # Databases in memory are of one process, and the keys of their tables tell of which.
    os.register_at_fork(after_in_child=_forget)
