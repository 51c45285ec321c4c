"""The raw side of Django's local memory: its dictionaries, under its lock."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping, Sequence
from time import time
from typing import Any

from django.core.cache.backends.locmem import LocMemCache

from cachalot.core.cache.owned_values import LAG, Named, marked, marks_in, renewed
from cachalot.core.cache.raw import Backend, Nonces, is_original
from cachalot.core.cache.versions import PENDING_TIMEOUT, Mark, Version, clock, new_nonce
from cachalot.core.interruptions import is_interruption

_nonces = Nonces(pickle.loads)

# Stands for what cannot be decoded: it is no version, and has no marks.
_UNREADABLE = object()


def _standing(marks: list[Named]) -> list[Named]:
    now = time()
    return [mark for mark in marks if mark.end > now]


class LocalMemory(Backend):
    """A ``LocMemCache`` (django/core/cache/backends/locmem.py, 4.2 to 6.1), without key checks."""

    is_kept = True
    nonce_of = _nonces.__getitem__
    loads = staticmethod(pickle.loads)

    def __init__(self, cache: Any) -> None:
        super().__init__(cache)
        # All caches of one name share these, and clear() empties them in place.
        self._values, self._ends, self._lock = cache._cache, cache._expire_info, cache._lock

    def get(self, version_keys: Sequence[str], entry_keys: Sequence[str] = ()) -> list[Any]:
        values, end_of = self._values, self._ends.get
        names = self._names((*version_keys, *entry_keys))
        raws = []
        with self._lock:
            now = time()
            for name in names:
                end = end_of(name, -1)
                if end is None or end > now:
                    raws.append(values[name])
                    values.move_to_end(name, last=False)
                else:
                    self.cache._delete(name)
                    raws.append(None)
        return raws

    def add_versions(self, versions: Mapping[str, Version]) -> dict[str, bytes]:
        added = {}
        for key, version in versions.items():
            name, raw = self._name_and_raw(key, version)
            with self._lock:
                if self.cache._has_expired(name):
                    self.cache._set(name, raw, None)
                    added[key] = raw
        return added

    def mark(
        self, version_keys: Iterable[str], mark: Mark | None, other_key: str | None = None
    ) -> bytes | None:
        names, owner = self._names(list(version_keys)), (mark or Mark()).owner()
        with self._lock:
            now, told = time(), clock()
            for name in names:
                new = Named(owner, now + PENDING_TIMEOUT)
                self._put(name, marked(self._value(name), new, told, _standing), now)
        return self._told(other_key)

    def renew(
        self,
        version_keys: Mapping[str, int | None],
        mark: Mark | None,
        other_key: str | None = None,
    ) -> bytes | None:
        names, owner = self._names(list(version_keys)), "" if mark is None else mark.known_owner()
        with self._lock:
            now, told = time(), clock()
            for name, seconds in zip(names, version_keys.values(), strict=True):
                version = told, new_nonce()
                lag = Named(LAG, now + seconds) if seconds else None
                value = renewed(self._value(name), owner, version, lag, _standing)
                if value is not None:
                    self._put(name, value, now)
        return self._told(other_key)

    def _value(self, name: str) -> Any:
        """Return what lies under a name, None where there is nothing. The lock is held."""
        if self.cache._has_expired(name):
            return None
        try:
            return pickle.loads(self._values[name])
        except Exception as error:
            if is_interruption(error):
                raise
            return _UNREADABLE

    def _put(self, name: str, value: tuple[Any, ...], now: float) -> None:
        ends = [mark.end for mark in marks_in(value)]
        raw = pickle.dumps(value, self.cache.pickle_protocol)
        self.cache._set(name, raw, max(ends) - now if ends else None)

    def _told(self, other_key: str | None) -> bytes | None:
        return None if other_key is None else self.get((other_key,))[0]

    def set_versions(
        self, versions: Mapping[str, tuple[Version, float | None]], other_key: str | None = None
    ) -> bytes | None:
        for key, (version, timeout) in versions.items():
            self._set(key, version, timeout)
        return self._told(other_key)

    def set_entries(self, entries: dict[str, Any], timeout: float | None) -> None:
        for key, entry in entries.items():
            self._set(key, entry, timeout)

    def _name_and_raw(self, key: str, value: Any) -> tuple[str, bytes]:
        (name,) = self._names((key,))
        return name, pickle.dumps(value, self.cache.pickle_protocol)

    def _set(self, key: str, value: Any, timeout: float | None) -> None:
        name, raw = self._name_and_raw(key, value)
        with self._lock:
            self.cache._set(name, raw, timeout)


def side_of(cache: Any) -> Backend | None:
    """Return the raw side of a ``LocMemCache``; None where not all of it is as known here."""
    methods = "get_many", "set_many", "_set", "_has_expired", "_delete", "_cull"
    if is_original(cache, LocMemCache, "get_backend_timeout", *methods):
        return LocalMemory(cache)
    return None
