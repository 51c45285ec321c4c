"""The entries of blocks, in the cache and in this process, and the versions that judge them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from cachalot.core.cache.door import cache_in_use
from cachalot.core.cache.entries import Outdated, Stored, unpack
from cachalot.core.cache.local import local_tier
from cachalot.core.cache.recent import recent_versions
from cachalot.core.cache.store import PROBE_KEY
from cachalot.core.interruptions import is_interruption
from cachalot.core.outcomes import Outcome
from cachalot.settings import cachalot_settings

logger = logging.getLogger("cachalot")


class Found(NamedTuple):
    """What was found; ``rows`` begin with the end of their time, in seconds since the epoch."""

    rows: tuple[Any, ...]
    stored: Stored
    size: int
    outcome: Outcome


def find(
    keys: Sequence[str], entry_key: str, cache_alias: str | None
) -> tuple[tuple[str, ...] | None, Found | None, float]:
    """Return the versions in force, None while one is pending, and what is stored under them.

    What is stored under others is told by the seconds that it took, 0 if there is none.
    """
    local = local_tier.get(entry_key) if cachalot_settings.CACHALOT_LOCAL_SIZE else None
    if local is not None and recent_versions.confirm(keys, local.nonces):
        nonces = current(keys)
        if nonces == local.nonces:
            hit = local.as_hit()
            return nonces, Found(hit.rows, hit.stored, hit.size, hit.outcome), 0.0
    if local is not None:
        local_tier.discard(entry_key)
    generation = recent_versions.generation
    nonces, stored = read(keys, entry_key, cache_alias)
    if nonces is None or not isinstance(stored, Stored):
        return nonces, None, 0.0 if stored is None else stored.seconds
    try:
        rows = unpack(stored.payload)
    except Exception as error:
        if is_interruption(error):
            raise
        logger.debug("The entry of a block could not be unpickled (%r): %s", error, entry_key)
        return nonces, None, 0.0
    if cachalot_settings.CACHALOT_LOCAL_SIZE:
        recent_versions.note(keys, nonces, generation)
        local_tier.put(entry_key, nonces, stored, rows)
    return nonces, Found(rows, stored, len(stored.payload), Outcome.HIT), 0.0


def current(keys: Sequence[str]) -> tuple[str, ...] | None:
    """Return the versions in force, None while one is pending."""
    with cache_in_use(keys) as store:
        return store.current(keys)


def read(
    keys: Sequence[str], entry_key: str, cache_alias: str | None
) -> tuple[tuple[str, ...] | None, Stored | Outdated | None]:
    """Return the versions in force, None while one is pending, and the entry, if it is of these.

    ``cache_alias`` has the entry, None where it lies with the versions: then it is one question.
    """
    if cache_alias is None:
        with cache_in_use((*keys, entry_key)) as store:
            nonces, stored, _ = store.read(keys, entry_key, PROBE_KEY)
            return nonces, stored
    nonces = current(keys) if keys else ()
    with cache_in_use((entry_key,), cache_alias) as store:
        return nonces, store.entry(entry_key, nonces)


def are_in_force(keys: Sequence[str], nonces: tuple[str, ...]) -> bool:
    """Whether these are the versions now."""
    with cache_in_use(keys) as store:
        return store.are_in_force(keys, nonces)
