"""What a write of some tables changes, remembered as long as schema and settings are the same."""

from __future__ import annotations

from typing import NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core.connection.databases import Databases, alias_reached_by, databases_now
from cachalot.core.schema import catalogue
from cachalot.core.schema.introspection import Catalogue
from cachalot.core.schema.tables import changed_with
from cachalot.core.schema.version_keys import keys_to_renew
from cachalot.settings import forget_on_change


class WritePlan(NamedTuple):
    """The tables that a write changes, and the version keys of these.

    ``alias`` is the one in DATABASES that the connection reaches; ``keys`` are as
    ``keys_to_renew()`` gives them. ``schema_key`` is that of the schema's version.
    """

    alias: str
    changed: frozenset[str]
    keys: dict[str, int | None]
    schema_key: str


class _Made(NamedTuple):
    """A plan, and what it was made of, which may be another by now."""

    plan: WritePlan
    schema: Catalogue
    databases: Databases
    lookalikes: tuple[str, ...]


_made: dict[tuple[str, frozenset[str], bool], _Made] = {}
_MAX_MADE = 4096


def plan_of(connection: BaseDatabaseWrapper, tables: frozenset[str], deletes: bool) -> WritePlan:
    """Return what a write of canonical ``tables`` changes; ``deletes`` if it may remove rows."""
    alias, there_are = connection.alias, databases_now()
    lookalikes = there_are.lookalikes_of(alias)
    made = _made.get((alias, tables, deletes))
    if (
        made is not None
        and made.databases is there_are
        and made.lookalikes == lookalikes
        and made.schema is catalogue.settled(connection)
    ):
        return made.plan
    reached = alias_reached_by(connection)
    changed = _changed_by(connection, tables, deletes)
    plan = WritePlan(
        reached,
        changed,
        keys_to_renew(reached, changed),
        catalogue.schema_key_of(connection),
    )
    schema = catalogue.settled(connection)
    if schema is not None and alias in there_are.places:
        if len(_made) >= _MAX_MADE:
            _made.clear()
        _made[alias, tables, deletes] = _Made(plan, schema, there_are, lookalikes)
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


forget_on_change(_made.clear)
