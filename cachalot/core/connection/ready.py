"""What holds for all reads of a connection as long as nothing about it has changed."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.db import connections

from cachalot.core import switch
from cachalot.core.cache.keyspace import has_namespace
from cachalot.core.connection import origin
from cachalot.core.connection.state import State, why_not_used
from cachalot.settings import SUPPORTED_DATABASE_ENGINES, cachalot_settings, has_own_query_keys


class Ready(NamedTuple):
    """What was found out, and the ``facts`` that it was made of: while they are equal, it holds."""

    facts: tuple[object, ...]
    origin: bytes


def ready_of(connection: Any, state: State) -> Ready | None:
    """Return what holds for a read in the common case; None sends it the long way.

    All that is not common stands here and in ``_prepare()``.
    """
    ready: Ready | None = state.ready
    if ready is None or ready.facts != _facts_of(connection, state):
        ready = state.ready = _prepare(connection, state)
    if (
        ready is None
        or connection.needs_rollback
        or connection.execute_wrappers
        or not switch.is_enabled()
    ):
        return None
    return ready


def _facts_of(connection: Any, state: State) -> tuple[object, ...]:
    session = state.session
    return (
        connection.connection,
        connection.alias in connections.settings,
        cachalot_settings.epoch,
        state.identity,
        state.settings,
        session.fingerprint(),
        session.is_set_by_queries,
        *origin.schema_and_zone_of(connection),
        origin.process,
        # Projects change it in place.
        tuple(SUPPORTED_DATABASE_ENGINES),
    )


def _prepare(connection: Any, state: State) -> Ready | None:
    if (
        connection.connection is None
        or why_not_used(connection) is not None
        or has_own_query_keys()
        or has_namespace(cachalot_settings.CACHALOT_CACHE)
        or state.session.is_set_by_queries
    ):
        return None
    return Ready(_facts_of(connection, state), origin.origin_of(connection))
