"""The raw side of a cache: what lies under its keys, to be compared before it is decoded.

Here it is any cache by Django's API, and what is called raw is what Django has decoded.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache as keep_results
from time import monotonic
from types import FunctionType
from typing import Any

from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.filebased import FileBasedCache
from django.core.files import locks

from cachalot.core.cache.versions import (
    PENDING_TIMEOUT,
    Mark,
    Version,
    clock,
    is_version,
    new_nonce,
    nonce_in,
)
from cachalot.core.interruptions import is_interruption

logger = logging.getLogger("cachalot")

#: Seconds after which a failure was slow. One that costs next to nothing (a connection that was
#: cut or refused) makes no write pass by a cache that other processes may reach.
SLOW_SECONDS = 0.1

#: How many versions of one kind of cache are known by what lies in it.
MAX_NONCES = 4096

# What set() raises for. memcached's does not tell a failure, and its set_many() does; with several
# servers, that of django-redis may go on to another one.
_RAISING = {
    "django.core.cache.backends.filebased.FileBasedCache.set",
    "django.core.cache.backends.locmem.LocMemCache.set",
    "django.core.cache.backends.redis.RedisCache.set",
}

#: What a cache is asked to give where there is nothing: it may be None that is stored.
MISSING = object()
# Stands for a None that somebody has stored: None itself is what is missing.
_FOREIGN = object()


def told(value: Any) -> Any:
    """Return a value of a cache as it is told: None where it is ``MISSING``."""
    return None if value is MISSING else _FOREIGN if value is None else value


class Nonces(dict[Any, "str | None"]):
    """Nonces by raw version, None for one that is pending or is no version.

    ``loads`` makes a version of what lies in the cache, always the same one.
    """

    def __init__(self, loads: Callable[[Any], Any]) -> None:
        self._loads = loads

    def __missing__(self, raw: Any) -> str | None:
        nonce = nonce_in(self._loads(raw))
        if len(self) >= MAX_NONCES:
            self.clear()
        self[raw] = nonce
        return nonce


def _decoded(raw: Any) -> Any:
    return raw


class Backend:
    """Any cache, by Django's API.

    A raw value is None where nothing is found; equal ones are equal when they are decoded. Versions
    and entries are asked for apart, so that they need not lie in one place. Every method raises
    what the cache raises.
    """

    #: Returns the nonce of a raw version, None for one that is pending or is no version.
    nonce_of: Callable[[Any], str | None] = staticmethod(nonce_in)
    #: The board that the versions lie on, if they do.
    board: Any = None
    #: Whether a thread may go on with it for as long as ``CACHES`` are the same.
    is_kept = False
    #: Returns what was stored. Raises what the serialiser raises for what it cannot decode.
    loads: Callable[[Any], Any] = staticmethod(_decoded)

    def __init__(self, cache: BaseCache) -> None:
        self.cache: Any = cache

    def _names(self, keys: Sequence[str]) -> list[Any]:
        """Return what ``default_key_func()`` makes of keys, for who goes around Django's API."""
        prefix = "%s:%s:" % (self.cache.key_prefix, self.cache.version)  # noqa: UP031
        return [prefix + key for key in keys]

    def get(self, version_keys: Sequence[str], entry_keys: Sequence[str] = ()) -> list[Any]:
        """Return the raw versions and then the raw entries under these keys, by one question."""
        keys = [*version_keys, *entry_keys]
        if len(keys) == 1:
            # Half the time of get_many() with one key, where that is a loop over get().
            return [told(self.cache.get(keys[0], MISSING))]
        found = self.cache.get_many(keys)
        return [told(found.get(key, MISSING)) for key in keys]

    def add_versions(self, versions: Mapping[str, Version]) -> dict[str, Any]:
        """Store versions that never expire where there are none; return those taken, raw."""
        with exclusively(self.cache):
            return {
                key: version
                for key, version in versions.items()
                if self.cache.add(key, version, timeout=None)
            }

    def mark(
        self, version_keys: Iterable[str], mark: Mark | None, other_key: str | None = None
    ) -> Any:
        """Make versions pending; return what ``set_versions()`` does.

        Most caches cannot tell whose ``mark`` it is.
        """
        pending = (clock(), None), PENDING_TIMEOUT
        return self.set_versions(dict.fromkeys(version_keys, pending), other_key)

    def renew(
        self,
        version_keys: Mapping[str, int | None],
        mark: Mark | None,
        other_key: str | None = None,
    ) -> Any:
        """Store new versions; return what ``set_versions()`` does.

        Each comes with the seconds for which it stays pending instead, None for not at all.
        """
        now, began = clock(), monotonic()
        try:
            return self.set_versions(
                {
                    key: ((now, None if seconds else new_nonce()), seconds or None)
                    for key, seconds in version_keys.items()
                },
                other_key,
            )
        except Exception as error:
            if not is_interruption(error) and monotonic() - began < SLOW_SECONDS:
                self._delete(version_keys)
            raise

    def _delete(self, version_keys: Iterable[str]) -> None:
        """Delete what was refused, as a full cache allows. It stays owed all the same.

        A version left in force has older results served, for ever if this process dies.
        """
        try:
            self._delete_versions(list(version_keys))
        except Exception as error:
            if is_interruption(error):
                raise
            logger.debug("What could not be renewed could not be deleted either: %r", error)

    def _delete_versions(self, version_keys: Sequence[str]) -> None:
        self.cache.delete_many(version_keys)

    def timestamps(self, version_keys: Sequence[str], raws: Sequence[Any]) -> list[float]:
        """Return when each version was made that was found, in seconds since the epoch."""
        versions = map(self.loads, raws)
        return [version[0] if is_version(version) else clock() for version in versions]

    def invalidated(self, version_keys: Sequence[str]) -> list[tuple[float, bool] | None]:
        """Return when each version was made, and whether it is pending; None where there is none.

        Nothing is added.
        """
        raws = self.get(version_keys)
        values: list[Any] = [None if raw is None else self.loads(raw) for raw in raws]
        return [(value[0], value[1] is None) if is_version(value) else None for value in values]

    def drop_undecodable_versions(self, keys: Sequence[str]) -> None:
        """Replace what raises when it is decoded, where Django's API does not find the versions."""

    def set_versions(
        self, versions: Mapping[str, tuple[Version, float | None]], other_key: str | None = None
    ) -> Any:
        """Store versions, each for a number of seconds, None for ever. Raise if one is not taken.

        Return the raw version under another key, as it is then, where that is told along with the
        rest; None otherwise, as here.
        """
        groups: dict[float | None, dict[str, Version]] = {}
        for key, (version, timeout) in versions.items():
            groups.setdefault(timeout, {})[key] = version
        for timeout, group in groups.items():
            with exclusively(self.cache):
                failed = self._set_group(group, timeout)
            if failed:
                raise OSError(f"the cache refused {len(failed)} of {len(group)} versions")
            if drops_calls(self.cache):
                raise OSError("the cache's client drops what it is given while its server fails")
        return None

    def _set_group(self, versions: Mapping[str, Version], timeout: float | None) -> Sequence[str]:
        """Store versions; return what the cache tells it has not taken."""
        if len(versions) == 1 and set_raises(type(self.cache).set):
            ((key, version),) = versions.items()
            self.cache.set(key, version, timeout)
            return []
        return self.cache.set_many(versions, timeout)  # type: ignore[no-any-return]

    def set_entries(self, entries: dict[str, Any], timeout: float | None) -> None:
        """Store entries for a number of seconds, None for ever. What is not taken is lost."""
        if len(entries) == 1:
            # Redis has one command for it, and a transaction of several for set_many().
            ((key, entry),) = entries.items()
            self.cache.set(key, entry, timeout)
        else:
            self.cache.set_many(entries, timeout)


def is_original(thing: Any, class_: type, *methods: str) -> bool:
    """Whether ``thing`` is of exactly this class, and nobody has put other methods in place.

    Tracers and debugging tools do, on the object or on the class, to see every call.
    """
    return (
        type(thing) is class_
        and vars(thing).keys().isdisjoint(methods)
        and has_originals(class_, *methods)
    )


def has_originals(class_: type, *methods: str) -> bool:
    """Whether these methods of a class are those it was defined with."""
    return all(_is_original(class_, name) for name in methods)


def _is_original(class_: type, name: str) -> bool:
    owner = next(parent for parent in class_.__mro__ if name in vars(parent))
    method = vars(owner)[name]
    # functools.wraps() copies a function's names, but not this.
    return type(method) is FunctionType and method.__globals__.get("__name__") == owner.__module__


@keep_results
def set_raises(method: Callable[..., object]) -> bool:
    """Whether this ``set()`` is known to raise where it fails. A subclass's own may do anything."""
    return f"{method.__module__}.{method.__qualname__}" in _RAISING


def drops_calls(cache: BaseCache) -> bool:
    """Whether a client may have dropped a call and not said so.

    pymemcache's ``HashClient`` does for ``retry_timeout`` seconds after each failure of a server
    (pymemcache/client/hash.py, ``_safely_run_set_many()``).
    """
    client = getattr(cache, "_cache", None)
    return bool(getattr(client, "_failed_clients", None) or getattr(client, "_dead_clients", None))


@contextmanager
def exclusively(cache: BaseCache) -> Iterator[None]:
    """Make ``add()`` atomic against the writing of versions.

    Every supported cache does so itself but FileBasedCache, whose ``add()`` first looks and then
    writes: it could overwrite a pending mark set in between.
    """
    if not isinstance(cache, FileBasedCache):
        yield
        return
    directory = cache._dir  # type: ignore[attr-defined]
    os.makedirs(directory, mode=0o700, exist_ok=True)
    with open(os.path.join(directory, "cachalot.lock"), "wb") as lock_file:
        locks.lock(lock_file, locks.LOCK_EX)
        try:
            yield
        finally:
            locks.unlock(lock_file)
