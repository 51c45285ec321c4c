"""What tells whose rows a query of one connection reads."""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings

from cachalot.core.cache.keyspace import namespace_of
from cachalot.core.cache.versions import new_nonce
from cachalot.core.connection.state import state_of
from cachalot.settings import cachalot_settings

# What in a database's settings decides which rows a session sees.
_PLACE = ("NAME", "HOST", "PORT", "USER")
_OPTIONS = ("options", "init_command", "assume_role", "service", "sql_mode", "detect_types")

# Tells this process from every other one; processes of two containers may have one number.
process = new_nonce()


def _become_another_process() -> None:
    """A forked process has databases in memory of its own."""
    global process
    process = new_nonce()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_become_another_process)


def place_in_memory(database_name: object) -> str:
    """Return what tells a database in this process's memory from all others; empty for others.

    It does not tell connections apart, each of which has one of its own unless they share them.
    """
    # As django.db.backends.sqlite3.creation has it.
    name = str(database_name)
    return process if name == ":memory:" or "mode=memory" in name else ""


def schema_and_zone_of(connection: Any) -> tuple[object, ...]:
    """Return what of an open connection decides its rows, and changes without a statement."""
    return (
        # django-tenants and django-tenant-schemas
        getattr(connection, "schema_name", ""),
        getattr(connection, "include_public_schema", ""),
        # Drivers give aware or naive datetimes, in this zone.
        settings.USE_TZ,
        connection.timezone_name,
    )


def origin_of(connection: Any) -> bytes:
    """Return what tells whose rows these are: alias, database, tenant and session."""
    state, database = state_of(connection), connection.settings_dict
    options = database.get("OPTIONS")
    parts = (
        connection.alias,
        state.session.fingerprint(),
        *map(database.get, _PLACE),
        [(name, options[name]) for name in _OPTIONS if name in options] if options else [],
        *schema_and_zone_of(connection),
        # A tenant who is nowhere but in the cache's KEY_FUNCTION.
        namespace_of(cachalot_settings.CACHALOT_CACHE),
        # What ALTER DATABASE and ALTER ROLE had the session begin with.
        state.settings,
        # What tells databases in memory apart.
        state.identity,
        os.getpid(),
        process,
    )
    # Hardly ever changes from one query to the next.
    if state.origin is not None and state.origin[0] == parts:
        return state.origin[1]
    origin = _encoded(connection.vendor, *map(str, parts[:-3]), *_memory_identity(connection))
    state.origin = parts, origin
    return origin


def _memory_identity(connection: Any) -> tuple[object, ...]:
    """Return what tells apart SQLite's databases in memory, which all have the same name.

    One with a shared cache is the process's, one without is the connection's own.
    """
    if connection.vendor != "sqlite" or not connection.is_in_memory_db():
        return ()
    if "mode=memory" in str(connection.settings_dict["NAME"]):
        return (os.getpid(), process)
    return (os.getpid(), process, state_of(connection).identity)


def _encoded(*origin: object) -> bytes:
    return repr(origin).encode("utf-8", "surrogatepass")
