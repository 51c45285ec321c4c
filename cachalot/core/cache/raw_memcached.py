"""The raw side of memcached: the client's own calls, without Django's walk through each key."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from django.core.cache.backends.base import MEMCACHE_MAX_KEY_LENGTH
from django.core.cache.backends.memcached import BaseMemcachedCache, PyLibMCCache, PyMemcacheCache

from cachalot.core.cache.raw import MISSING, Backend, has_originals, told
from cachalot.core.cache.versions import Version

# What memcache_key_warnings() (django/core/cache/backends/base.py) looks for.
_is_wrong = re.compile(r"[\x00-\x20\x7f]").search


class Memcached(Backend):
    """pymemcache and pylibmc, called as Django calls them. What they give is decoded already."""

    is_kept = True

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
