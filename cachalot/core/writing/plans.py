"""What a write of some tables changes, remembered as long as schema and settings are the same."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core.connection.databases import Databases, alias_reached_by, databases_now
from cachalot.core.schema import catalogue
from cachalot.core.schema.introspection import Catalogue
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
    """The tables that a write changes, and what gives them new versions."""

    changed: frozenset[str]
    renewal: Renewal


class _Made(NamedTuple):
    """Something that was made, and what of, which may be another by now."""

    thing: Any
    databases: Databases
    lookalikes: tuple[str, ...]
    schema: Catalogue | None = None


_renewals: dict[tuple[str, frozenset[str]], _Made] = {}
_plans: dict[tuple[str, frozenset[str], bool], _Made] = {}
_MAX_MADE = 4096


def renewal_of(connection: BaseDatabaseWrapper, tables: frozenset[str]) -> Renewal:
    """Return what gives canonical ``tables`` new versions."""
    alias, there_are = connection.alias, databases_now()
    lookalikes = there_are.lookalikes_of(alias)
    made = _renewals.get((alias, tables))
    if made is not None and made.databases is there_are and made.lookalikes == lookalikes:
        renewal: Renewal = made.thing
        return renewal
    reached = alias_reached_by(connection)
    renewal = Renewal(reached, keys_to_renew(reached, tables), catalogue.schema_key_of(connection))
    if alias in there_are.places:
        if len(_renewals) >= _MAX_MADE:
            _renewals.clear()
        _renewals[alias, tables] = _Made(renewal, there_are, lookalikes)
    return renewal


def plan_of(connection: BaseDatabaseWrapper, tables: frozenset[str], deletes: bool) -> WritePlan:
    """Return what a write of canonical ``tables`` changes; ``deletes`` if it may remove rows."""
    alias, there_are = connection.alias, databases_now()
    lookalikes = there_are.lookalikes_of(alias)
    made = _plans.get((alias, tables, deletes))
    if (
        made is not None
        and made.databases is there_are
        and made.lookalikes == lookalikes
        and made.schema is catalogue.settled(connection)
    ):
        plan: WritePlan = made.thing
        return plan
    changed = _changed_by(connection, tables, deletes)
    plan = WritePlan(changed, renewal_of(connection, changed))
    schema = catalogue.settled(connection)
    if schema is not None and alias in there_are.places:
        if len(_plans) >= _MAX_MADE:
            _plans.clear()
        _plans[alias, tables, deletes] = _Made(plan, there_are, lookalikes, schema)
    return plan


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


forget_on_change(_renewals.clear)
forget_on_change(_plans.clear)

if hasattr(os, "register_at_fork"):
    # Databases in memory are of one process, and the keys of their tables tell of which.
    os.register_at_fork(after_in_child=_renewals.clear)
    os.register_at_fork(after_in_child=_plans.clear)
