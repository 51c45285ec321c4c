"""What happens when the cache does not answer: the site does.

Each cache has one ``Guard`` a process. After a failure the cache is left alone for a while.
Versions that could not be renewed are owed: they are renewed before this process reads it again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from django.core.cache import caches
from django.core.cache.backends.base import BaseCache

from cachalot.core.cache.backends import keep_clients, lies_in_database
from cachalot.core.cache.store import PROBE_KEY, Store
from cachalot.settings import cachalot_settings

logger = logging.getLogger("cachalot")

#: Seconds for which a cache that failed is not asked again.
REST_SECONDS = 5.0

#: Seconds after which a failure was slow. One that costs next to nothing (a connection that was
#: cut or refused) makes no write pass by a cache that other processes may reach.
SLOW_SECONDS = 0.1

#: Seconds to the first attempt at settling what is owed; each later one takes twice as long.
FIRST_RETRY_SECONDS = 0.1


def start_daemon_timer(seconds: float, function: Callable[[], None]) -> None:
    """Call ``function`` in another thread after ``seconds``, unless the process ends before."""
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    timer.start()


class Guard:
    """Stands between this process and one cache that may fail.

    After a failure, reads leave the cache alone for a while. Writes try all the same, because
    other processes may reach it, unless a write was what failed.
    """

    def __init__(
        self,
        cache_alias: str,
        time_function: Callable[[], float] = time.monotonic,
        start_timer: Callable[[float, Callable[[], None]], None] | None = None,
    ) -> None:
        self.cache_alias = cache_alias
        self._time = time_function
        self._start_timer = start_timer or start_daemon_timer
        self._has_timer = False
        self._retry_seconds = FIRST_RETRY_SECONDS
        self._lock = threading.Lock()
        # Version key to the number of the debt: a key may be owed anew while it is being renewed.
        self._owed: dict[str, int] = {}
        self._debts = 0
        # Keys asked for in vain: one of them may hold what the cache itself cannot decode.
        self._suspects: set[str] = set()
        self._rests_until: float | None = None
        self._writes_rest_until: float | None = None

    def is_usable(self, store: Store) -> bool:
        """Whether the cache may be read now. Settles what is owed to it first.

        Raise what the cache raises under ``CACHALOT_CACHE_ERRORS = "raise"``, which never rests.
        """
        if self._rests_until is None and not self._owed:
            return True
        if _raises():
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

    def mark_pending(self, store: Store, version_keys: Iterable[str]) -> None:
        """Mark the keys pending, if the cache can be reached.

        Raise what the cache raises under ``CACHALOT_CACHE_ERRORS = "raise"``.
        """
        if not self._may_write():
            return
        began = self._time()
        try:
            if _raises() and self._owed:
                self._settle(store)
            try:
                store.mark_pending(version_keys)
            except Exception:
                # A connection that was cut is made anew by the next call.
                if self._time() - began > SLOW_SECONDS:
                    raise
                store.mark_pending(version_keys)
        except Exception as error:
            self._write_failed(error, began)
            if _raises():
                raise

    def mark_pending_again(self, store: Store, version_keys: Iterable[str]) -> None:
        """Keep the keys pending until the mark expires. Never raise."""
        keys = frozenset(version_keys)
        began = self._time()
        try:
            store.mark_pending(keys)
        except Exception as error:
            self._write_failed(error, began)
            self.owe(keys)

    def renew(self, store: Store, version_keys: Iterable[str]) -> None:
        """Renew versions, now or as soon as the cache answers. Never raise."""
        keys = frozenset(version_keys)
        if self._may_write():
            began = self._time()
            try:
                store.renew(keys)
                return
            except Exception as error:
                self._write_failed(error, began)
        self.owe(keys)

    def owe(self, version_keys: Iterable[str]) -> None:
        """Remember versions that must be renewed before the cache is used again."""
        with self._lock:
            self._debts += 1
            self._owed.update(dict.fromkeys(version_keys, self._debts))
            has_timer, self._has_timer = self._has_timer, True
        # Other processes go on reading, whether this one does or not.
        if not has_timer:
            self._retry_seconds = FIRST_RETRY_SECONDS
            self._start_timer(self._retry_seconds, self._settle_later)

    def failed(self, error: BaseException, keys: Iterable[str] = ()) -> None:
        """Leave the cache alone for a while; say so once. ``keys`` are those that were read."""
        with self._lock:
            self._suspects.update(keys)
            is_first = self._rests_until is None
            self._rests_until = self._time() + REST_SECONDS
        if is_first:
            logger.warning(
                "The cache %r failed (%s: %s); queries go to the database until it answers.",
                self.cache_alias,
                type(error).__name__,
                error,
            )

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

    def _may_write(self) -> bool:
        rests_until = self._writes_rest_until
        return rests_until is None or self._time() >= rests_until or _raises()

    def _write_failed(self, error: BaseException, began: float) -> None:
        self.failed(error)
        now = self._time()
        self._writes_rest_until = now + REST_SECONDS if now - began > SLOW_SECONDS else None

    def _settle(self, store: Store) -> None:
        with self._lock:
            owed = dict(self._owed)
        if owed:
            store.renew(owed)
        else:
            store.cache.get(PROBE_KEY)
        suspects, self._suspects = self._suspects, set()
        if suspects:
            store.drop_undecodable(suspects)
        with self._lock:
            for key, debt in owed.items():
                if self._owed.get(key) == debt:
                    del self._owed[key]
            has_rested, self._rests_until = self._rests_until is not None, None
            self._writes_rest_until = None
        if has_rested:
            logger.warning(
                "The cache %r answers again; %d table versions were renewed.",
                self.cache_alias,
                len(owed),
            )

    def _settle_later(self) -> None:
        """Settle in a thread of the timer, again and again until it succeeds."""
        began = self._time()
        try:
            if self._owed:
                cache = caches[self.cache_alias]
                try:
                    self._settle(Store(cache))
                finally:
                    cache.close()
        except Exception as error:
            self._write_failed(error, began)
        with self._lock:
            self._has_timer = bool(self._owed)
        if self._has_timer:
            self._retry_seconds = min(2 * self._retry_seconds, REST_SECONDS)
            self._start_timer(self._retry_seconds, self._settle_later)


def _raises() -> bool:
    return bool(cachalot_settings.CACHALOT_CACHE_ERRORS == "raise")


_guards: dict[str, Guard] = {}


def guard_of(cache_alias: str) -> Guard:
    """Return the process's guard of a cache."""
    try:
        return _guards[cache_alias]
    except KeyError:
        return _guards.setdefault(cache_alias, Guard(cache_alias))


def open_store(cache_alias: str) -> tuple[Store, Guard] | None:
    """Return the store in a cache and its guard; None for a cache that cannot be used at all.

    ``DatabaseCache`` cannot: it lives in the database, on the connections that are cached.
    """
    guard = guard_of(cache_alias)
    try:
        cache: BaseCache = caches[cache_alias]
        keep_clients(cache)
    except Exception as error:
        guard.failed(error)
        return None
    if lies_in_database(cache):
        return None
    return Store(cache), guard


def settle_before_exit() -> None:
    """Try once more to renew what is owed: no other process knows of it."""
    for guard in list(_guards.values()):
        guard.settle_before_exit()
