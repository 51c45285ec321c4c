"""Versions and entries in one Django cache.

The store knows version keys and entries, not what a version key stands for. It raises whatever
the cache raises; the failure policy is elsewhere.
"""

from __future__ import annotations

import logging
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from operator import methodcaller
from typing import Any, NamedTuple
from zlib import crc32

from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.filebased import FileBasedCache
from django.core.files import locks

from cachalot.core.recent import recent_versions

logger = logging.getLogger("cachalot")

#: Seconds after which a writer that was killed no longer keeps its tables from being cached.
PENDING_TIMEOUT = 300

#: Version keys of databases that lag behind another one, and the seconds by which they may. Where
#: others get a new version, these stay pending that long: nobody knows when they show the change.
lagging: dict[str, int] = {}

# Part of every entry's checksum: an entry of another format is a miss.
_FORMAT = b"3 "


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


# Never written: asking for it tells whether the cache answers.
PROBE_KEY = "cachalot:probe"


class Stored(NamedTuple):
    """A result as it is kept: its pickled rows, when that was, and how long its query took.

    ``stored_at`` is in seconds since the epoch, ``seconds`` the time of the query.
    """

    payload: bytes
    stored_at: float
    seconds: float


class MissingVersions(Exception):
    """The cache loses what is written to it, so nothing can be cached."""


class Store:
    """Versions and entries in ``cache``."""

    def __init__(self, cache: BaseCache) -> None:
        self.cache = cache

    def read(
        self, version_keys: Sequence[str], entry_key: str
    ) -> tuple[tuple[str, ...] | None, Stored | None]:
        """Return the nonces now valid and the result stored under them.

        The nonces stand in the order of ``version_keys``; they are None while a writer is at work
        on one of them: then nothing may be served or stored. The result is None if there is no
        entry of exactly these versions. A missing version is added, which makes any entry that
        may exist for it invalid.
        """
        found = self.cache.get_many([*version_keys, entry_key])
        entry = found.pop(entry_key, None)
        nonces = self._nonces(version_keys, found)
        if nonces is None or entry is None:
            return nonces, None
        return nonces, _stored_in(entry_key, entry, nonces)

    def current(self, version_keys: Sequence[str]) -> tuple[str, ...] | None:
        """Return the nonces now valid, None while a writer is at work on one of them."""
        if len(version_keys) != 1:
            return self._nonces(version_keys, self.cache.get_many(version_keys))
        # Half the time of get_many() with one key, where that is a loop over get().
        (key,) = version_keys
        version = self.cache.get(key)
        if _is_version(version):
            return None if version[1] is None else (version[1],)
        return self._nonces(version_keys, {} if version is None else {key: version})

    def _nonces(self, version_keys: Sequence[str], found: dict[str, Any]) -> tuple[str, ...] | None:
        if len(found) < len(version_keys):
            found = self._completed(version_keys, found)
        nonces = []
        for key in version_keys:
            version = found[key]
            # What is no version of ours keeps the table from being cached until its next write.
            if not _is_version(version) or version[1] is None:
                return None
            nonces.append(version[1])
        return tuple(nonces)

    def _completed(self, version_keys: Sequence[str], found: dict[str, Any]) -> dict[str, Any]:
        """Return what is in force under each key, where ``found`` lacks some."""
        if isinstance(self.cache, DummyCache):
            raise MissingVersions("the cache keeps nothing")
        self._add_missing(version_keys, found)
        # What could be added was in force just now: it needs no second look.
        return found if len(found) == len(version_keys) else self._all(version_keys)

    def _add_missing(self, version_keys: Sequence[str], found: dict[str, Any]) -> None:
        """Add a version where none was found, and put it into ``found``.

        Adding, not setting: a writer may have marked the key pending a moment ago. Then it is not
        found still.
        """
        with self._exclusively():
            for key in version_keys:
                if key not in found:
                    version = clock(), new_nonce()
                    if self.cache.add(key, version, timeout=None):
                        found[key] = version

    def _all(self, version_keys: Sequence[str]) -> dict[str, Any]:
        found = self.cache.get_many(version_keys)
        if len(found) < len(version_keys):
            raise MissingVersions("the cache does not keep what is added to it")
        return found

    def nonces(self, version_keys: Sequence[str]) -> dict[str, str]:
        """Return the nonce of each version that is not pending. A missing one is added."""
        found = self.cache.get_many(version_keys)
        if len(found) < len(version_keys):
            found = self._completed(version_keys, found)
        return {
            key: version[1]
            for key, version in found.items()
            if _is_version(version) and version[1] is not None
        }

    def are_in_force(self, version_keys: Sequence[str], nonces: tuple[str, ...]) -> bool:
        """Whether these are the versions now."""
        found = self.cache.get_many(version_keys)
        return all(
            _is_version(found.get(key)) and found[key][1] == nonce
            for key, nonce in zip(version_keys, nonces, strict=True)
        )

    def entry(self, key: str, nonces: tuple[str, ...]) -> Stored | None:
        """Return the result stored under exactly these versions, in force or not."""
        return _stored_in(key, self.cache.get(key), nonces)

    def timestamps(self, version_keys: Sequence[str]) -> dict[str, float]:
        """Return the timestamp of each version; a missing one is added and counts from now.

        Evicted does not mean never invalidated: an old answer would bring back what was cached
        under it.
        """
        found = self.cache.get_many(version_keys)
        if len(found) < len(version_keys):
            self._add_missing(version_keys, found)
            # A small cache may have let go of the first while the last were added.
            found = self._all(version_keys)
        return {
            key: version[0] if _is_version(version) else clock() for key, version in found.items()
        }

    def drop_undecodable(self, keys: Iterable[str]) -> None:
        """Delete what makes the cache raise: nothing else would ever replace it.

        Call it while the cache answers. A version deleted is a version evicted.
        """
        keys = list(keys)
        try:
            self.cache.get_many(keys)
            return
        except Exception as error:
            logger.debug("One of %d keys cannot be read: %r", len(keys), error)
        for key in keys:
            try:
                self.cache.get(key)
            except Exception:
                # If it does not answer any more, this raises, and nothing is known of the key.
                self.cache.get(PROBE_KEY)
                self.cache.delete(key)

    def mark_pending(self, version_keys: Iterable[str]) -> None:
        """Keep every reader from serving and storing results of these keys."""
        now = clock()
        self._set_versions(dict.fromkeys(version_keys, (now, None)), PENDING_TIMEOUT)

    def renew(self, version_keys: Iterable[str]) -> None:
        """Give these keys new versions: whatever was stored under the old ones is invalid."""
        now = clock()
        versions: dict[int | None, dict[str, tuple[float, str | None]]] = {}
        for key in version_keys:
            lag = lagging.get(key)
            version = (now, new_nonce() if lag is None else None)
            versions.setdefault(lag, {})[key] = version
        for lag, group in versions.items():
            self._set_versions(group, lag)

    def _set_versions(
        self, versions: dict[str, tuple[float, str | None]], timeout: float | None
    ) -> None:
        try:
            with self._exclusively():
                if len(versions) == 1 and _set_raises(type(self.cache).set):
                    # On Redis a set_many() is a transaction of several commands.
                    ((key, version),) = versions.items()
                    self.cache.set(key, version, timeout)
                    failed = None
                else:
                    failed = self.cache.set_many(versions, timeout)
        finally:
            recent_versions.forget(versions)
        if failed:
            raise OSError(f"the cache refused {len(failed)} of {len(versions)} versions")
        if _drops_calls(self.cache):
            raise OSError("the cache's client drops what it is given while its server fails")

    def put(
        self, entries: dict[str, tuple[tuple[str, ...], Stored]], timeout: float | None
    ) -> None:
        """Store results under the nonces that were valid before their queries ran.

        ``timeout`` is in seconds, None never expires. An entry that the cache refuses is lost.
        """
        values = {
            key: (_checksum(key, stored.payload), nonces, *stored)
            for key, (nonces, stored) in entries.items()
        }
        if len(values) == 1:
            # Redis has one command for it, and a transaction of several for set_many().
            ((key, value),) = values.items()
            self.cache.set(key, value, timeout)
        else:
            self.cache.set_many(values, timeout)

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


# memcached's set() does not tell a failure, and its set_many() does; with several servers, that of
# django-redis may go on to another one.
_RAISING = {
    "django.core.cache.backends.filebased.FileBasedCache.set",
    "django.core.cache.backends.locmem.LocMemCache.set",
    "django.core.cache.backends.redis.RedisCache.set",
}


@cache
def _set_raises(method: Callable[..., object]) -> bool:
    """Whether this ``set()`` is known to raise where it fails. A subclass's own may do anything."""
    return f"{method.__module__}.{method.__qualname__}" in _RAISING


def _drops_calls(cache: BaseCache) -> bool:
    """Whether a client may have dropped a call and not said so.

    pymemcache's ``HashClient`` does for ``retry_timeout`` seconds after each failure of a server
    (pymemcache/client/hash.py, ``_safely_run_set_many()``).
    """
    client = getattr(cache, "_cache", None)
    return bool(getattr(client, "_failed_clients", None) or getattr(client, "_dead_clients", None))


def _is_version(value: Any) -> bool:
    # Serializers other than pickle may know no tuples.
    return (
        (type(value) is tuple or type(value) is list)
        and len(value) == 2
        and type(value[0]) is float
        and (type(value[1]) is str or value[1] is None)
    )


def _stored_in(key: str, entry: object, nonces: tuple[str, ...]) -> Stored | None:
    if not isinstance(entry, (tuple, list)) or len(entry) != 5:
        return None
    checksum, entry_nonces, payload, stored_at, seconds = entry
    # Serializers other than pickle may know no tuples.
    if not isinstance(entry_nonces, (tuple, list)) or tuple(entry_nonces) != nonces:
        return None
    if not isinstance(payload, bytes):
        return None
    if not isinstance(stored_at, float) or not isinstance(seconds, float):
        return None
    return Stored(payload, stored_at, seconds) if checksum == _checksum(key, payload) else None


def _checksum(key: str, payload: bytes) -> int:
    # A pickle with a bit flipped may well be loaded, as other rows. And a client that lost count
    # of its answers, after a timeout for instance, gives the answer to another question.
    return crc32(payload, crc32(_FORMAT + key.encode("utf-8", "surrogatepass")))


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
