"""What happens when the cache does not answer: the site does.

Each cache has one ``Guard`` a process. After a failure the cache is left alone for a while. Versions
that could not be renewed are owed: they are renewed before this process uses the cache again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from django.core.cache import caches

from cachalot.core.store import Store
from cachalot.settings import cachalot_settings

logger = logging.getLogger("cachalot")

#: Seconds for which a cache that failed is not asked again.
REST_SECONDS = 5.0

# Never written: asking for it tells whether the cache answers.
_PROBE_KEY = "cachalot:probe"


class Guard:
    """Stands between this process and one cache that may fail."""

    def __init__(
        self, cache_alias: str, time_function: Callable[[], float] = time.monotonic
    ) -> None:
        self.cache_alias = cache_alias
        self._time = time_function
        self._lock = threading.Lock()
        # Version key to the number of the debt: a key may be owed anew while it is being renewed.
        self._owed: dict[str, int] = {}
        self._debts = 0
        self._rests_until: float | None = None

    def is_usable(self, store: Store) -> bool:
        """Whether the cache may be asked now. Settles what is owed to it first.

        Raise what the cache raises under ``CACHALOT_CACHE_ERRORS = "raise"``, which never rests.
        """
        if self._rests_until is None and not self._owed:
            return True
        if cachalot_settings.CACHALOT_CACHE_ERRORS == "raise":
            self._settle(store)
            return True
        if self._rests_until is not None and self._time() < self._rests_until:
            return False
        try:
            self._settle(store)
        except Exception as error:
            self.failed(error)
            return False
        return True

    def _settle(self, store: Store) -> None:
        with self._lock:
            owed = dict(self._owed)
        if owed:
            store.renew(owed)
        else:
            store.cache.get(_PROBE_KEY)
        with self._lock:
            for key, debt in owed.items():
                if self._owed.get(key) == debt:
                    del self._owed[key]
            has_rested, self._rests_until = self._rests_until is not None, None
        if has_rested:
            logger.warning(
                "The cache %r answers again; %d table versions were renewed.",
                self.cache_alias,
                len(owed),
            )

    def failed(self, error: BaseException) -> None:
        """Leave the cache alone for a while; say so once."""
        with self._lock:
            is_first = self._rests_until is None
            self._rests_until = self._time() + REST_SECONDS
        if is_first:
            logger.warning(
                "The cache %r failed (%s: %s); queries go to the database until it answers.",
                self.cache_alias,
                type(error).__name__,
                error,
            )

    def owe(self, version_keys: Iterable[str]) -> None:
        """Remember versions that must be renewed before the cache is used again."""
        with self._lock:
            self._debts += 1
            self._owed.update(dict.fromkeys(version_keys, self._debts))

    def renew(self, store: Store, version_keys: Iterable[str]) -> bool:
        """Renew versions, now or as soon as the cache answers. Never raise."""
        keys = frozenset(version_keys)
        try:
            if self.is_usable(store):
                store.renew(keys)
                return True
        except Exception as error:
            self.failed(error)
        self.owe(keys)
        return False

    def settle_before_exit(self) -> None:
        """Renew what is owed, or say how to repair it."""
        if not self._owed:
            return
        try:
            self._settle(Store(caches[self.cache_alias]))
        except Exception as error:
            logger.error(
                "%d table versions in the cache %r could not be renewed (%s: %s); run "
                "manage.py invalidate_cachalot.",
                len(self._owed),
                self.cache_alias,
                type(error).__name__,
                error,
            )


_guards: dict[str, Guard] = {}


def guard_of(cache_alias: str) -> Guard:
    """Return the process's guard of a cache."""
    try:
        return _guards[cache_alias]
    except KeyError:
        return _guards.setdefault(cache_alias, Guard(cache_alias))


def settle_before_exit() -> None:
    """Try once more to renew what is owed: no other process knows of it."""
    for guard in list(_guards.values()):
        guard.settle_before_exit()
