"""Versions and entries in one Django cache.

The store knows version keys and entries, not what a version key stands for. It raises whatever
the cache raises; the failure policy is elsewhere.
"""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from operator import methodcaller
from typing import Any, NamedTuple

from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.filebased import FileBasedCache
from django.core.files import locks

#: Seconds after which a writer that was killed no longer keeps its tables from being cached.
PENDING_TIMEOUT = 300

# Part of every entry; an entry of another number is a miss.
_FORMAT = 1


class Version(NamedTuple):
    """A version of a table as it lies in the cache; ``nonce`` is None while a writer is at work.

    ``timestamp`` is in seconds since the epoch and decides nothing: it is what
    ``get_last_invalidation()`` returns.
    """

    timestamp: float
    nonce: str | None


class Clock:
    """Wall-clock time that never gives the same value twice in one process.

    A clock that stands still or steps back would make two invalidations look like one to whoever
    builds cache keys from ``get_last_invalidation()``.
    """

    def __init__(self, time_function: Callable[[], float] = time.time) -> None:
        self._time = time_function
        self._last = 0.0
        self._lock = threading.Lock()

    def __call__(self) -> float:
        with self._lock:
            # A float of today's time resolves about 0.2 µs.
            self._last = max(self._time(), self._last + 1e-6)
            return self._last


clock = Clock()


def new_nonce() -> str:
    """Return a value that has never been used before."""
    return os.urandom(16).hex()


class MissingVersions(Exception):
    """The cache loses what is written to it, so nothing can be cached."""


class Store:
    """Versions and entries in ``cache``."""

    def __init__(self, cache: BaseCache) -> None:
        self.cache = cache

    def read(
        self, version_keys: Sequence[str], entry_key: str
    ) -> tuple[tuple[str, ...] | None, bytes | None]:
        """Return the nonces now valid and the payload stored under them.

        The nonces stand in the order of ``version_keys``; they are None while a writer is at work
        on one of them: then nothing may be served or stored. The payload is None if there is no
        entry of exactly these versions. A missing version is added, which makes any entry that
        may exist for it invalid.
        """
        found = self.cache.get_many([*version_keys, entry_key])
        entry = found.pop(entry_key, None)
        nonces = self._nonces(version_keys, found)
        if nonces is None or entry is None:
            return nonces, None
        return nonces, _payload_of(entry, nonces)

    def _nonces(self, version_keys: Sequence[str], found: dict[str, Any]) -> tuple[str, ...] | None:
        if len(found) < len(version_keys):
            found = self._add_missing(version_keys, found)
        nonces = []
        for key in version_keys:
            version = found[key]
            # What is no version of ours keeps the table from being cached until its next write.
            if not _is_version(version) or version[1] is None:
                return None
            nonces.append(version[1])
        return tuple(nonces)

    def _add_missing(self, version_keys: Sequence[str], found: dict[str, Any]) -> dict[str, Any]:
        # Adding, not setting: a writer may have marked the key pending a moment ago.
        with self._exclusively():
            for key in version_keys:
                if key not in found:
                    self.cache.add(key, (clock(), new_nonce()), timeout=None)
        found = self.cache.get_many(version_keys)
        if len(found) < len(version_keys):
            raise MissingVersions("the cache does not keep what is added to it")
        return found

    def timestamps(self, version_keys: Sequence[str]) -> dict[str, float]:
        """Return the timestamp of each version; a missing one is added and counts from now.

        Evicted does not mean never invalidated: an old answer would bring back what was cached
        under it.
        """
        found = self.cache.get_many(version_keys)
        if len(found) < len(version_keys):
            found = self._add_missing(version_keys, found)
        return {key: version[0] for key, version in found.items() if _is_version(version)}

    def mark_pending(self, version_keys: Iterable[str]) -> None:
        """Keep every reader from serving and storing results of these keys."""
        now = clock()
        self._set_versions(dict.fromkeys(version_keys, (now, None)), PENDING_TIMEOUT)

    def renew(self, version_keys: Iterable[str]) -> None:
        """Give these keys new versions: whatever was stored under the old ones is invalid."""
        now = clock()
        self._set_versions({key: (now, new_nonce()) for key in version_keys}, None)

    def _set_versions(
        self, versions: dict[str, tuple[float, str | None]], timeout: int | None
    ) -> None:
        with self._exclusively():
            failed = self.cache.set_many(versions, timeout)
        if failed:
            raise OSError(f"the cache refused {len(failed)} of {len(versions)} versions")

    def put(self, entries: dict[str, tuple[tuple[str, ...], bytes]], timeout: float | None) -> None:
        """Store payloads under the nonces that were valid before their queries ran.

        ``timeout`` is in seconds, None never expires. An entry that the cache refuses is lost.
        """
        self.cache.set_many(
            {key: (_FORMAT, nonces, payload) for key, (nonces, payload) in entries.items()},
            timeout,
        )

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Make ``add()`` atomic against the writing of versions.

        Every supported cache does so itself but FileBasedCache, whose ``add()`` first looks and
        then writes: it could overwrite a pending mark set in between.
        """
        if not isinstance(self.cache, FileBasedCache):
            yield
            return
        directory = self.cache._dir  # type: ignore[attr-defined]
        os.makedirs(directory, mode=0o700, exist_ok=True)
        with open(os.path.join(directory, "cachalot.lock"), "wb") as lock_file:
            locks.lock(lock_file, locks.LOCK_EX)
            try:
                yield
            finally:
                locks.unlock(lock_file)


def _is_version(value: object) -> bool:
    return (
        isinstance(value, (tuple, list))
        and len(value) == 2
        and isinstance(value[0], float)
        and (value[1] is None or isinstance(value[1], str))
    )


def _payload_of(entry: object, nonces: tuple[str, ...]) -> bytes | None:
    if not isinstance(entry, (tuple, list)) or len(entry) != 3:
        return None
    entry_format, entry_nonces, payload = entry
    if entry_format != _FORMAT or not isinstance(payload, bytes):
        return None
    return payload if entry_nonces == nonces else None


class _Pickler(pickle.Pickler):
    # psycopg2 and sqlite3 give memoryview for binary columns, which pickle alone refuses.
    def reducer_override(self, obj: object) -> Any:
        if not isinstance(obj, memoryview):
            return NotImplemented
        if obj.format == "B":
            return memoryview, (obj.tobytes(),)
        # psycopg2's is of "c", and views of unlike formats are never equal.
        return methodcaller("cast", obj.format), (memoryview(obj.tobytes()),)


def pack(rows: object) -> bytes:
    """Return ``rows`` as bytes. Raise what pickle raises for a value it cannot take."""
    try:
        return pickle.dumps(rows, pickle.HIGHEST_PROTOCOL)
    except TypeError:
        buffer = BytesIO()
        _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(rows)
        return buffer.getvalue()


def unpack(payload: bytes) -> Any:
    """Return new rows, shared with nobody. Raise whatever a damaged pickle raises."""
    return pickle.loads(payload)
