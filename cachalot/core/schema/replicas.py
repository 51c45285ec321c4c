"""Databases that lag behind another one: ``CACHALOT_REPLICAS``.

What is written on the primary shows on a replica later, nobody knows when. So its tables stay
pending there for as long as the replica may lag, by the mark's own expiry.
"""

from __future__ import annotations

import math

from cachalot.core.connection.databases import aliases_changing_with, aliases_of_database
from cachalot.settings import cachalot_settings


def replicas_of(db_alias: str) -> tuple[str, ...]:
    """Return the aliases of the replicas of the database that ``db_alias`` points to."""
    if not cachalot_settings.CACHALOT_REPLICAS:
        return ()
    siblings = aliases_changing_with(db_alias)
    return tuple(
        alias
        for alias, replica in cachalot_settings.CACHALOT_REPLICAS.items()
        # A test database that is its primary's mirror shares its versions, and never lags.
        if replica["primary"] in siblings and alias not in siblings
    )


def lag_of(db_alias: str) -> int | None:
    """Return the seconds that ``db_alias`` may lag behind its primary, None for no replica."""
    if not cachalot_settings.CACHALOT_REPLICAS:
        return None
    siblings = aliases_of_database(db_alias)
    lags = [
        replica["max_lag"]
        for alias, replica in cachalot_settings.CACHALOT_REPLICAS.items()
        if alias in siblings and replica["primary"] not in siblings
    ]
    # Memcached takes whole seconds, and counts them in ticks of its own: the first may be over at
    # once.
    return math.ceil(max(lags)) + 1 if lags else None
