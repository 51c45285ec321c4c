"""The raw side of memcached: the client's own calls, without Django's walk through each key."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from django.core.cache.backends.base import MEMCACHE_MAX_KEY_LENGTH
from django.core.cache.backends.memcached import BaseMemcachedCache, PyLibMCCache, PyMemcacheCache

from cachalot.core.cache.owned_values import LAG, Named, marked, renewed
from cachalot.core.cache.raw import MISSING, Backend, drops_calls, has_originals, told
from cachalot.core.cache.versions import PENDING_TIMEOUT, Mark, Version, clock, new_nonce

# What memcache_key_warnings() (django/core/cache/backends/base.py) looks for.
_is_wrong = re.compile(r"[\x00-\x20\x7f]").search


#: How often a version is looked at again because another writer has changed it meanwhile.
_MOST_ATTEMPTS = 100

#: Seconds for which marks share an end. They stand for that much less than ``PENDING_TIMEOUT``.
_SHARING_SECONDS = PENDING_TIMEOUT // 10

# What a mark's end is known by: it is over when the server has let it expire.
_END_KEY = "cachalot:end:"


class Memcached(Backend):
    """pymemcache and pylibmc, called as Django calls them. What they give is decoded already.

    Versions are changed by compare-and-set: one more question than to set them, and one more for
    each key but the first. Servers do not tell their time. So the end of a mark is a key that
    expires, which a process sets now and then; whether it is there is asked where others' marks
    are found.
    """

    is_kept = True

    def __init__(self, cache: Any) -> None:
        super().__init__(cache)
        if isinstance(cache, PyLibMCCache):
            # gets() needs it, of a client that is made later as well. Other questions take as long.
            options: dict[str, Any] = cache._options  # type: ignore[attr-defined]
            behaviors = {**(options.get("behaviors") or {}), "cas": True}
            cache._options = {**options, "behaviors": behaviors}  # type: ignore[attr-defined]
            cache._cache.behaviors["cas"] = True  # type: ignore[attr-defined]
        self._end, self._end_is_shared_until = "", 0.0

    def mark(
        self, version_keys: Iterable[str], mark: Mark | None, other_key: str | None = None
    ) -> None:
        names, owner = self._names(list(version_keys)), (mark or Mark()).owner()
        found = self._gets([*names, *self._names([_END_KEY + self._end])])
        if len(found) == sum(name in found for name in names) or (
            time.monotonic() >= self._end_is_shared_until
        ):
            # It is old, or the server has lost it.
            self._end_is_shared_until = time.monotonic() + _SHARING_SECONDS
            self._end = self._new_end(PENDING_TIMEOUT)
        new, now = Named(owner, self._end), clock()

        def change(value: object, at: int) -> tuple[tuple[Any, ...], float]:
            return marked(value, new, now, self._standing), PENDING_TIMEOUT

        self._change(names, found, change)

    def renew(
        self,
        version_keys: Mapping[str, int | None],
        mark: Mark | None,
        other_key: str | None = None,
    ) -> None:
        owner = "" if mark is None else mark.known_owner()
        seconds = list(version_keys.values())
        ends = {each: self._new_end(each) for each in set(seconds) if each}
        now = clock()

        def change(value: object, at: int) -> tuple[tuple[Any, ...], float | None] | None:
            lags = seconds[at]
            lag = Named(LAG, ends[lags]) if lags else None
            new = renewed(value, owner, (now, new_nonce()), lag, self._standing)
            if new is None or new[1] is not None:
                return new and (new, None)
            is_alone = lag is not None and len(new[2]) == 1
            return new, lags if is_alone else max(PENDING_TIMEOUT, lags or 0)

        names = self._names(list(version_keys))
        self._change(names, self._gets(names), change)

    def _change(
        self,
        names: list[str],
        found: dict[str, tuple[Any, Any]],
        change: Callable[[object, int], tuple[tuple[Any, ...], float | None] | None],
    ) -> None:
        """Change what was found under names, one after the other. Raise at the first that fails.

        ``change`` is given a value, None where there is none, and its place.
        """
        for at, name in enumerate(names):
            for _ in range(_MOST_ATTEMPTS):
                value, token = found.get(name, (None, None))
                changed = change(value, at)
                if changed is None or self._compare_and_set(name, token, *changed):
                    break
                found = self._gets([name])
            else:
                raise OSError("the cache's version is another one each time it is looked at")
        if drops_calls(self.cache):
            raise OSError("the cache's client drops what it is given while its server fails")

    def _gets(self, names: list[str]) -> dict[str, tuple[Any, Any]]:
        """Return what lies under names, each with what tells whether it has changed since."""
        client = self.cache._cache
        if len(names) != 1 and hasattr(client, "gets_many"):
            return client.gets_many(names) if names else {}
        found = {name: client.gets(name) for name in names}
        return {name: pair for name, pair in found.items() if pair[1] is not None}

    def _compare_and_set(
        self, name: str, token: Any, value: tuple[Any, ...], timeout: float | None
    ) -> bool:
        seconds = self.cache.get_backend_timeout(timeout)
        if token is None:
            return bool(self.cache._cache.add(name, value, seconds))
        try:
            return bool(self.cache._cache.cas(name, value, token, seconds))
        except Exception as error:
            # pylibmc's, where the key has gone. It need not be installed.
            if type(error).__name__ != "NotFound":
                raise
            return False

    def _new_end(self, seconds: int) -> str:
        end = new_nonce()
        (name,) = self._names([_END_KEY + end])
        if not self.cache._cache.set(name, 1, self.cache.get_backend_timeout(seconds)):
            raise OSError("the cache refused the end of a mark")
        return end

    def _standing(self, marks: list[Named]) -> list[Named]:
        if not marks:
            return []
        names = self._names([_END_KEY + mark.end for mark in marks])
        there = self.cache._cache.get_multi(names)
        return [mark for name, mark in zip(names, marks, strict=True) if name in there]

    def _names(self, keys: Sequence[str]) -> list[str]:
        names = super()._names(keys)
        for name in names:
            if len(name) > MEMCACHE_MAX_KEY_LENGTH or _is_wrong(name):
                self.cache.validate_key(name)  # raises
        return names

    def get(self, version_keys: Sequence[str], entry_keys: Sequence[str] = ()) -> list[Any]:
        names = self._names((*version_keys, *entry_keys))
        if len(names) == 1:
            return [told(self.cache._cache.get(names[0], MISSING))]
        found = self.cache._cache.get_multi(names) if names else {}
        return [told(found.get(name, MISSING)) for name in names]

    def add_versions(self, versions: Mapping[str, Version]) -> dict[str, Any]:
        names = self._names(list(versions))
        return {
            key: version
            for name, (key, version) in zip(names, versions.items(), strict=True)
            if self.cache._cache.add(name, version, self.cache.get_backend_timeout(None))
        }

    def _set_group(self, versions: Mapping[str, Any], timeout: float | None) -> Sequence[str]:
        return self._set(versions, timeout)

    def set_entries(self, entries: dict[str, Any], timeout: float | None) -> None:
        if failed := self._set(entries, timeout):
            # What was there before is older than what could not be stored.
            self.cache._cache.delete_multi(failed)

    def _set(self, values: Mapping[str, Any], timeout: float | None) -> Sequence[str]:
        """Set values; return the names of those that were not taken, as far as the client tells."""
        named = dict(zip(self._names(list(values)), values.values(), strict=True))
        seconds = self.cache.get_backend_timeout(timeout)
        if len(named) == 1:
            ((name, value),) = named.items()
            return [] if self.cache._cache.set(name, value, seconds) else [name]
        return list(self.cache._cache.set_multi(named, seconds)) if named else []


def side_of(cache: Any) -> Backend | None:
    """Return the raw side of a memcached; None where not all of it is as known here."""
    methods = "get_many", "set_many", "get_backend_timeout", "delete"
    if type(cache) in (PyLibMCCache, PyMemcacheCache) and has_originals(
        BaseMemcachedCache, *methods
    ):
        return Memcached(cache)
    return None
