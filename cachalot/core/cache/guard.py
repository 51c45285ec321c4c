"""What happens when the cache fails; long, because every way to it meets the same rest and debts.

The site answers all the same. After a failure the cache is left alone for a while. Versions that
could not be renewed are owed: they are renewed before this process reads the cache again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.core.cache import InvalidCacheBackendError, caches

from cachalot.core.cache.debts import Debts, start_daemon_timer
from cachalot.core.cache.flaws import MISSING, Flaws
from cachalot.core.cache.keyspace import new_cache
from cachalot.core.cache.raw import SLOW_SECONDS
from cachalot.core.cache.store import PROBE_KEY, Store
from cachalot.core.cache.stores import store_of
from cachalot.core.cache.versions import Mark
from cachalot.core.interruptions import is_interruption
from cachalot.core.locks import fork_safe_lock
from cachalot.core.outcomes import CacheUnavailable
from cachalot.settings import cachalot_settings

logger = logging.getLogger("cachalot")

#: Seconds for which a cache that failed is not asked again.
REST_SECONDS = 5.0

#: Seconds to the first attempt at settling what is owed; each later one takes twice as long.
FIRST_RETRY_SECONDS = 0.1


class Guard:
    """Stands between this process and one cache that may fail.

    After a failure, reads leave the cache alone for a while. Writes try all the same, because
    other processes may reach it, unless a write was what failed. Keys to renew are given with the
    seconds for which each stays pending, as ``Store.renew()`` takes them.
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
        self._lock = fork_safe_lock()
        self.debts = Debts()
        self.flaws = Flaws(cache_alias)
        # Keys asked for in vain: one of them may hold what the cache itself cannot decode.
        self._suspects: set[str] = set()
        self._rests_until: float | None = None
        self._writes_rest_until: float | None = None
        # Django's settings of caches that the cache failed under.
        self._failed_settings: object = None

    def begin_in_child(self) -> None:
        """Begin anew in a forked process, which has the parent's debts but none of its threads."""
        self._has_timer = False

    def store(self) -> Store | None:
        """Return what is in the cache, for this thread; None for one that cannot be used at all."""
        try:
            return store_of(self.cache_alias)
        except InvalidCacheBackendError:
            self.flaws.tell(MISSING)
            return None

    def readable_store(self) -> Store:
        """Return what is in the cache, to be read now. Settles what is owed to it first.

        Raise ``CacheUnavailable`` if the cache rests or cannot be used at all, and what the cache
        raises under ``CACHALOT_CACHE_ERRORS = "raise"``, which never rests.
        """
        is_quiet = self._rests_until is None and not self.debts.owed
        if not is_quiet and not raises_failures() and self._is_resting():
            raise CacheUnavailable
        try:
            store = store_of(self.cache_alias)
            if store is not None and not is_quiet:
                self._settle(store)
        except InvalidCacheBackendError as error:
            self.flaws.tell(MISSING)
            raise CacheUnavailable(MISSING) from error
        except Exception as error:
            if is_interruption(error):
                raise
            self.failed(error)
            if raises_failures():
                raise
            raise CacheUnavailable from error
        if store is None:
            raise CacheUnavailable(f"meets {self.cache_alias!r}, a cache that cannot be used")
        return store

    def _is_resting(self) -> bool:
        return (
            self._rests_until is not None
            and self._time() < self._rests_until
            and self._failed_settings is caches.settings
        )

    def mark_pending(
        self,
        version_keys: Iterable[str],
        other_key: str | None = None,
        mark: Mark | None = None,
    ) -> Any:
        """Mark the keys pending, if the cache can be reached.

        Return the raw version under another key, None where the cache was not asked or failed.
        Raise what the cache raises under ``CACHALOT_CACHE_ERRORS = "raise"``, and what the program
        throws into it.
        """
        if self._writes_rest_until is not None and not self._may_write():
            return None
        began = self._time()
        try:
            store = store_of(self.cache_alias)
            if store is None:
                return None
            if self.debts.owed and raises_failures():
                self._settle(store)
            try:
                return store.mark_pending(version_keys, other_key, mark)
            except Exception as error:
                # A connection that was cut is made anew by the next call.
                if self._time() - began > SLOW_SECONDS or is_interruption(error):
                    raise
                return store.mark_pending(version_keys, other_key, mark)
        except InvalidCacheBackendError:
            self.flaws.tell(MISSING)
        except Exception as error:
            if is_interruption(error):
                raise
            self._write_failed(error, began)
            if raises_failures():
                raise
        return None

    def mark_pending_again(self, version_keys: Mapping[str, int | None], mark: Mark) -> None:
        """Keep the keys pending until the mark expires. Raise what the program throws into it."""
        self._write(Store.mark_pending, version_keys, None, mark)

    def renew(
        self,
        version_keys: Mapping[str, int | None],
        other_key: str | None = None,
        mark: Mark | None = None,
    ) -> Any:
        """Renew versions, now or as soon as the cache answers.

        Return the raw version under another key, None where the cache was not asked or failed.
        Raise what the program throws into it: then it is done later.
        """
        if self._writes_rest_until is None or self._may_write():
            return self._write(Store.renew, version_keys, other_key, mark)
        self.owe(version_keys, mark)
        return None

    def _write(
        self,
        write: Callable[[Store, Any, str | None, Mark | None], Any],
        version_keys: Mapping[str, int | None],
        other_key: str | None = None,
        mark: Mark | None = None,
    ) -> Any:
        began = self._time()
        try:
            store = store_of(self.cache_alias)
            return None if store is None else write(store, version_keys, other_key, mark)
        except InvalidCacheBackendError:
            self.flaws.tell(MISSING)
            self.debts.add(version_keys, mark)
        except BaseException as error:
            self.owe(version_keys, mark)
            if is_interruption(error):
                raise
            self._write_failed(error, began)
        return None

    def owe(self, version_keys: Mapping[str, int | None], mark: Mark | None = None) -> None:
        """Remember versions that must be renewed before the cache is used again."""
        self.debts.add(version_keys, mark)
        # Other processes go on reading, whether this one does or not.
        if not self._has_timer:
            self._retry_seconds = FIRST_RETRY_SECONDS
            self._retry_later()

    def _retry_later(self) -> None:
        self._has_timer = True
        try:
            self._start_timer(self._retry_seconds, self._settle_later)
        except RuntimeError as error:
            # The next read settles, the next debt tries again, and the end of the process settles.
            self._has_timer = False
            logger.debug("No thread to settle what is owed to %r: %s", self.cache_alias, error)

    def failed(self, error: BaseException, keys: Iterable[str] = ()) -> None:
        """Leave the cache alone for a while; say so once. ``keys`` are those that were read."""
        with self._lock:
            self._suspects.update(keys)
            is_first = self._rests_until is None
            self._rests_until = self._time() + REST_SECONDS
            self._failed_settings = caches.settings
        if is_first:
            logger.warning(
                "The cache %r failed (%s: %s); queries go to the database until it answers.",
                self.cache_alias,
                type(error).__name__,
                error,
            )

    def settle_before_exit(self) -> None:
        """Renew what is owed, or say how to repair it."""
        if not self.debts.owed or self.cache_alias not in caches.settings:
            return
        try:
            self._settle(Store(new_cache(self.cache_alias)))
        except Exception as error:
            logger.error(
                "%d table versions in the cache %r could not be renewed (%s: %s); run "
                "manage.py invalidate_cachalot.",
                len(self.debts.owed),
                self.cache_alias,
                type(error).__name__,
                error,
            )

    def _may_write(self) -> bool:
        rests_until = self._writes_rest_until
        return (
            rests_until is None
            or self._time() >= rests_until
            or self._failed_settings is not caches.settings
            or raises_failures()
        )

    def _write_failed(self, error: BaseException, began: float) -> None:
        self.failed(error)
        now = self._time()
        self._writes_rest_until = now + REST_SECONDS if now - began > SLOW_SECONDS else None

    def _settle(self, store: Store) -> None:
        renewed = self.debts.settle(store.renew)
        if not renewed:
            store.cache.get(PROBE_KEY)
        suspects, self._suspects = self._suspects, set()
        if suspects:
            store.drop_undecodable(suspects)
        with self._lock:
            has_rested, self._rests_until = self._rests_until is not None, None
            self._writes_rest_until = None
        if has_rested:
            logger.warning(
                "The cache %r answers again; %d table versions were renewed.",
                self.cache_alias,
                renewed,
            )

    def _settle_later(self) -> None:
        """Settle in a thread of the timer, again and again until it succeeds."""
        began = self._time()
        try:
            if self.debts.owed:
                cache = new_cache(self.cache_alias)
                try:
                    self._settle(Store(cache))
                finally:
                    cache.close()
        except InvalidCacheBackendError:
            # Whoever configures it again settles before the first read.
            self.flaws.tell(MISSING)
            self._has_timer = False
            return
        except Exception as error:
            self._write_failed(error, began)
        self._has_timer = False
        if self.debts.owed:
            self._retry_seconds = min(2 * self._retry_seconds, REST_SECONDS)
            self._retry_later()


def raises_failures() -> bool:
    """Whether what the cache raises reaches the project, by ``CACHALOT_CACHE_ERRORS``."""
    return bool(cachalot_settings.CACHALOT_CACHE_ERRORS == "raise")
