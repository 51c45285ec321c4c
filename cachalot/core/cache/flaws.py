"""Why a cache keeps nothing though it answers, said once."""

from __future__ import annotations

import logging

from django.core.cache.backends.base import BaseCache

from cachalot.core.cache.backends import what_serializer_spoils
from cachalot.core.cache.store import REFUSES, SPOILS

logger = logging.getLogger("cachalot")

#: Results refused in a row after which no other is thought to be taken.
MANY_REFUSALS = 10

#: What a query meets while ``CACHES`` does not have the cache, as it may at any time again.
MISSING = "meets a cache that is not in CACHES"


class Flaws:
    """What this process has found of one cache."""

    def __init__(self, cache_alias: str) -> None:
        self._cache_alias = cache_alias
        self._told: set[str] = set()
        #: Why no version was to be had, as the last query found; None if it found them.
        self.latest: str | None = None
        #: How many results the cache has refused since it took one.
        self.refusals = 0

    def tell(self, flaw: str) -> None:
        """Log a flaw, once a process."""
        if flaw not in self._told:
            self._told.add(flaw)
            logger.warning(
                "Nothing is cached in %r: a query %s, and goes to the database.",
                self._cache_alias,
                flaw,
            )

    def note_refusal(self, cache: BaseCache | None) -> None:
        """Note that the cache has not taken a result: too large a one, or every one."""
        self.refusals += 1
        if cache is not None and what_serializer_spoils(cache) is not None:
            self.tell(SPOILS)
        elif self.refusals >= MANY_REFUSALS:
            self.tell(REFUSES)

    def why_nothing_is_kept(self) -> str | None:
        """Return the flaw that the last queries have met, or None."""
        if self.latest is None and self.refusals >= MANY_REFUSALS:
            return REFUSES
        return self.latest
