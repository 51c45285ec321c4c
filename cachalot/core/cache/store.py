"""Versions and entries in one Django cache.

The store knows version keys and entries, not what a version key stands for. It raises whatever
the cache raises; the failure policy is elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.core.cache.backends.base import BaseCache

from cachalot.core.cache.backends import (
    drops_calls,
    exclusively,
    keeps_nothing,
    set_raises,
    what_serializer_spoils,
)
from cachalot.core.cache.entries import Stored, checksum_of, stored_in
from cachalot.core.cache.recent import recent_versions
from cachalot.core.cache.versions import clock, is_version, new_nonce
from cachalot.core.interruptions import is_interruption
from cachalot.core.outcomes import MissingVersions

logger = logging.getLogger("cachalot")

#: Seconds after which a writer that was killed no longer keeps its tables from being cached.
PENDING_TIMEOUT = 300

#: Reasons why a cache that answers keeps nothing.
SPOILS = "meets a cache whose serializer spoils what it is given"
REFUSES = "meets a cache that refuses every result"

# Never written: asking for it tells whether the cache answers.
PROBE_KEY = "cachalot:probe"


class Store:
    """Versions and entries in ``cache``."""

    def __init__(self, cache: BaseCache) -> None:
        self.cache = cache

    def read(
        self, version_keys: Sequence[str], entry_key: str, other_key: str
    ) -> tuple[tuple[str, ...] | None, Stored | None, Any]:
        """Return the nonces now valid, the result stored under them, what lies under another key.

        The nonces stand in the order of ``version_keys``; they are None while a writer is at work
        on one of them: then nothing may be served or stored. The result is None if there is no
        entry of exactly these versions. A missing version is added, which makes any entry that
        may exist for it invalid.
        """
        found = self.cache.get_many([*version_keys, entry_key, other_key])
        entry, other = found.pop(entry_key, None), found.get(other_key)
        if other_key not in version_keys:
            found.pop(other_key, None)
        nonces = self._nonces(version_keys, found)
        if nonces is None or entry is None:
            return nonces, None, other
        return nonces, stored_in(entry_key, entry, nonces), other

    def current(self, version_keys: Sequence[str]) -> tuple[str, ...] | None:
        """Return the nonces now valid, None while a writer is at work on one of them."""
        if len(version_keys) != 1:
            return self._nonces(version_keys, self.cache.get_many(version_keys))
        # Half the time of get_many() with one key, where that is a loop over get().
        (key,) = version_keys
        version = self.cache.get(key)
        if is_version(version):
            return None if version[1] is None else (version[1],)
        return self._nonces(version_keys, {} if version is None else {key: version})

    def version(self, key: str) -> tuple[Any, bool]:
        """Return what lies under a version's key, pending or not, and whether it was missing.

        A missing one is added; None is returned if the cache does not keep it.
        """
        version = self.cache.get(key)
        if version is not None:
            return version, False
        self._add_missing([key], {})
        return self.cache.get(key), True

    def _nonces(self, version_keys: Sequence[str], found: dict[str, Any]) -> tuple[str, ...] | None:
        if len(found) < len(version_keys):
            found = self._completed(version_keys, found)
        nonces = []
        for key in version_keys:
            version = found[key]
            if not is_version(version):
                if what_serializer_spoils(self.cache) is not None:
                    raise MissingVersions(SPOILS)
                # A foreign value under a version key: the table counts as pending until its next
                # write replaces it.
                return None
            if version[1] is None:
                return None
            nonces.append(version[1])
        return tuple(nonces)

    def _completed(self, version_keys: Sequence[str], found: dict[str, Any]) -> dict[str, Any]:
        """Return what is in force under each key, where ``found`` lacks some."""
        if keeps_nothing(self.cache):
            raise MissingVersions("meets a cache that keeps nothing")
        self._add_missing(version_keys, found)
        # What could be added was in force just now: it needs no second look.
        return found if len(found) == len(version_keys) else self._all(version_keys)

    def _add_missing(self, version_keys: Sequence[str], found: dict[str, Any]) -> None:
        """Add a version where none was found, and put it into ``found``.

        Adding, not setting: a writer may have marked the key pending a moment ago. Then it is not
        found still.
        """
        with exclusively(self.cache):
            for key in version_keys:
                if key not in found:
                    version = clock(), new_nonce()
                    if self.cache.add(key, version, timeout=None):
                        found[key] = version

    def _all(self, version_keys: Sequence[str]) -> dict[str, Any]:
        found = self.cache.get_many(version_keys)
        if len(found) < len(version_keys):
            raise MissingVersions("meets a cache that does not keep what is added to it")
        return found

    def nonces(self, version_keys: Sequence[str]) -> dict[str, str]:
        """Return the nonce of each version that is not pending. A missing one is added."""
        found = self.cache.get_many(version_keys)
        if len(found) < len(version_keys):
            found = self._completed(version_keys, found)
        return {
            key: version[1]
            for key, version in found.items()
            if is_version(version) and version[1] is not None
        }

    def are_in_force(self, version_keys: Sequence[str], nonces: tuple[str, ...]) -> bool:
        """Whether these are the versions now."""
        found = self.cache.get_many(version_keys)
        return all(
            is_version(found.get(key)) and found[key][1] == nonce
            for key, nonce in zip(version_keys, nonces, strict=True)
        )

    def entry(self, key: str, nonces: tuple[str, ...]) -> Stored | None:
        """Return the result stored under exactly these versions, in force or not."""
        return stored_in(key, self.cache.get(key), nonces)

    def entry_and(
        self, key: str, nonces: tuple[str, ...], other_key: str
    ) -> tuple[Stored | None, Any]:
        """Return what ``entry()`` does, and what lies under another key."""
        found = self.cache.get_many([key, other_key])
        return stored_in(key, found.get(key), nonces), found.get(other_key)

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
            key: version[0] if is_version(version) else clock() for key, version in found.items()
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
            if is_interruption(error):
                raise
            logger.debug("One of %d keys cannot be read: %r", len(keys), error)
        for key in keys:
            try:
                self.cache.get(key)
            except Exception as error:
                if is_interruption(error):
                    raise
                # If it does not answer any more, this raises, and nothing is known of the key.
                self.cache.get(PROBE_KEY)
                self.cache.delete(key)

    def mark_pending(self, version_keys: Iterable[str]) -> None:
        """Keep every reader from serving and storing results of these keys."""
        now = clock()
        self._set_versions(dict.fromkeys(version_keys, (now, None)), PENDING_TIMEOUT)

    def renew(self, version_keys: Mapping[str, int | None]) -> None:
        """Give these keys new versions: whatever was stored under the old ones is invalid.

        A key that comes with a number of seconds stays pending that long instead: it is of a
        database that lags behind, and may show the change at any moment until then.
        """
        now = clock()
        versions: dict[int | None, dict[str, tuple[float, str | None]]] = {}
        for key, seconds in version_keys.items():
            version = (now, new_nonce() if seconds is None else None)
            versions.setdefault(seconds, {})[key] = version
        for seconds, group in versions.items():
            self._set_versions(group, seconds)

    def _set_versions(
        self, versions: dict[str, tuple[float, str | None]], timeout: float | None
    ) -> None:
        try:
            with exclusively(self.cache):
                if len(versions) == 1 and set_raises(type(self.cache).set):
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
        if drops_calls(self.cache):
            raise OSError("the cache's client drops what it is given while its server fails")

    def put(
        self, entries: dict[str, tuple[tuple[str, ...], Stored]], timeout: float | None
    ) -> None:
        """Store results under the nonces that were valid before their queries ran.

        ``timeout`` is in seconds, None never expires. An entry that the cache refuses is lost.
        """
        values = {
            key: (checksum_of(key, stored.payload), nonces, *stored)
            for key, (nonces, stored) in entries.items()
        }
        if len(values) == 1:
            # Redis has one command for it, and a transaction of several for set_many().
            ((key, value),) = values.items()
            self.cache.set(key, value, timeout)
        else:
            self.cache.set_many(values, timeout)
