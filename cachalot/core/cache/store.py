"""Versions and entries in one Django cache.

The store knows version keys and entries, not what a version key stands for. It raises whatever
the cache raises; the failure policy is elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any

from django.core.cache.backends.base import BaseCache

from cachalot.core.cache.backends import keeps_nothing, what_serializer_spoils
from cachalot.core.cache.entries import Outdated, Stored, checksum_of, nonces_after, stored_in
from cachalot.core.cache.recent import recent_versions
from cachalot.core.cache.sides import backend_of
from cachalot.core.cache.versions import Mark, clock, is_version, new_nonce
from cachalot.core.interruptions import is_interruption
from cachalot.core.outcomes import MissingVersions

logger = logging.getLogger("cachalot")

#: Reasons why a cache that answers keeps nothing.
SPOILS = "meets a cache whose serializer spoils what it is given"
REFUSES = "meets a cache that refuses every result"

# Never written: asking for it tells whether the cache answers.
PROBE_KEY = "cachalot:probe"


class Store:
    """Versions and entries in ``cache``.

    What lies under the key of a version is told as it lies there: compare it, it means nothing
    else.
    """

    def __init__(self, cache: BaseCache) -> None:
        self.cache = cache
        self.backend = backend_of(cache)

    def read(
        self, version_keys: Sequence[str], entry_key: str, other_key: str
    ) -> tuple[tuple[str, ...] | None, Stored | Outdated | None, Any]:
        """Return the nonces now valid, the result stored under them, another key's raw version.

        The nonces stand in the order of ``version_keys``; they are None while a writer is at work
        on one of them: then nothing may be served or stored. The result is ``Outdated`` if the
        entry is not of exactly these versions. A missing version is added, which makes any entry
        that may exist for it invalid.
        """
        raws = self.backend.get((*version_keys, other_key), (entry_key,))
        entry, other = raws.pop(), raws.pop()
        nonces = self._nonces(version_keys, raws)
        if entry is None:
            return nonces, None, other
        return nonces, self._stored_in(entry_key, entry, nonces), other

    def read_either(
        self,
        sets: tuple[Sequence[str], Sequence[str]],
        entry_key: str,
        other_key: str,
        *,
        is_one_unknown: bool = False,
    ) -> tuple[list[tuple[str, ...] | None], tuple[str, ...], Stored | Outdated | None, Any]:
        """Do what ``read()`` does for an entry that may be of either set of versions.

        The nonces of each set are told, None while a writer is at work on a key of it; and those
        that the result is stored under. Where the last key of the second set ``is_one_unknown``,
        only the entry has its nonce, which is for the caller to judge.
        """
        keys = tuple(dict.fromkeys((*sets[0], *sets[1])))
        raws = self.backend.get((*keys, other_key), (entry_key,))
        entry, other = raws.pop(), raws.pop()
        if None in raws:
            raws = self._completed(keys, raws)
        known = dict(zip(keys, map(self.backend.nonce_of, raws), strict=True))
        found = [tuple([known[key] for key in version_keys]) for version_keys in sets]
        nonces: Any = [None if None in each else each for each in found]
        if None in nonces:
            self._require_versions(raws)
        value = None if entry is None else self.backend.loads(entry)
        stored = None
        if value is not None:
            under = list(nonces)
            if is_one_unknown and under[1] is not None:
                # Nonces of different keys may be the same.
                under[1] = nonces_after(value, under[1])
            for each in under:
                stored = stored_in(entry_key, value, each)
                if isinstance(stored, Stored):
                    return nonces, each, stored, other
        return nonces, (), stored, other

    def current(self, version_keys: Sequence[str]) -> tuple[str, ...] | None:
        """Return the nonces now valid, None while a writer is at work on one of them."""
        return self._nonces(version_keys, self.backend.get(version_keys))

    def version(self, key: str) -> tuple[Any, bool]:
        """Return the raw version under a key, pending or not, and whether it was missing.

        A missing one is added; None is returned if the cache does not keep it.
        """
        (raw,) = self.backend.get((key,))
        if raw is not None:
            return raw, False
        self._add_missing((key,), [None])
        return self.backend.get((key,))[0], True

    def _nonces(self, version_keys: Sequence[str], raws: list[Any]) -> tuple[str, ...] | None:
        if None in raws:
            raws = self._completed(version_keys, raws)
        nonces = tuple(map(self.backend.nonce_of, raws))
        if None not in nonces:
            return nonces  # type: ignore[return-value]
        self._require_versions(raws)
        return None

    def _require_versions(self, raws: Sequence[Any]) -> None:
        """Raise ``MissingVersions`` if some are none because the serializer spoils them.

        Beside it a foreign value under the key of a version counts as pending until the next write
        replaces it.
        """
        if what_serializer_spoils(self.cache) is not None and any(
            self.backend.nonce_of(raw) is None and not is_version(self.backend.loads(raw))
            for raw in raws
        ):
            raise MissingVersions(SPOILS)

    def _completed(self, version_keys: Sequence[str], raws: list[Any]) -> list[Any]:
        """Return the raw version in force under each key, where ``raws`` lacks some."""
        if keeps_nothing(self.cache):
            raise MissingVersions("meets a cache that keeps nothing")
        raws = self._add_missing(version_keys, raws)
        # What could be added was in force just now: it needs no second look.
        return self._all(version_keys) if None in raws else raws

    def _add_missing(self, version_keys: Sequence[str], raws: list[Any]) -> list[Any]:
        """Add a version where none was found; return them, None where another one came before.

        Adding, not setting: a writer may have marked the key pending a moment ago.
        """
        found = list(zip(version_keys, raws, strict=True))
        added = self.backend.add_versions(
            {key: (clock(), new_nonce()) for key, raw in found if raw is None}
        )
        return [added.get(key) if raw is None else raw for key, raw in found]

    def _all(self, version_keys: Sequence[str]) -> list[Any]:
        raws = self.backend.get(version_keys)
        if None in raws:
            raise MissingVersions("meets a cache that does not keep what is added to it")
        return raws

    def nonces(self, version_keys: Sequence[str]) -> dict[str, str]:
        """Return the nonce of each version that is not pending. A missing one is added."""
        raws = self.backend.get(version_keys)
        if None in raws:
            raws = self._completed(version_keys, raws)
        nonces = zip(version_keys, map(self.backend.nonce_of, raws), strict=True)
        return {key: nonce for key, nonce in nonces if nonce is not None}

    def are_in_force(self, version_keys: Sequence[str], nonces: tuple[str, ...]) -> bool:
        """Whether these are the versions now."""
        raws = self.backend.get(version_keys)
        return None not in raws and tuple(map(self.backend.nonce_of, raws)) == nonces

    def nonce_there(self, key: str) -> str | None:
        """Return the nonce under a key; None where there is none, or a writer is at work."""
        (raw,) = self.backend.get((key,))
        return None if raw is None else self.backend.nonce_of(raw)

    def nonce_learnt(
        self, learnt_key: str, version_keys: Sequence[str], nonces: tuple[str, ...]
    ) -> str | None:
        """Return the nonce of a key learnt from a result, where these nonces from before hold.

        A missing one is added. The order decides: a writer renews ``version_keys`` first. None is
        returned if they hold no more, and while a writer is at work on the learnt key.
        """
        raws = self.backend.get((learnt_key,))
        if None in raws:
            raws = self._add_missing((learnt_key,), raws)
        nonce = None if None in raws else self.backend.nonce_of(raws[0])
        return nonce if nonce is not None and self.are_in_force(version_keys, nonces) else None

    def entry(self, key: str, nonces: tuple[str, ...] | None) -> Stored | Outdated | None:
        """Return the result stored under these versions, in force or not."""
        (entry,) = self.backend.get((), (key,))
        return None if entry is None else self._stored_in(key, entry, nonces)

    def entry_and(
        self, key: str, nonces: tuple[str, ...], other_key: str
    ) -> tuple[Stored | Outdated | None, Any]:
        """Return what ``read()`` does beside the nonces, and another key's raw version."""
        other, entry = self.backend.get((other_key,), (key,))
        return None if entry is None else self._stored_in(key, entry, nonces), other

    def _stored_in(
        self, key: str, raw: Any, nonces: tuple[str, ...] | None
    ) -> Stored | Outdated | None:
        return stored_in(key, self.backend.loads(raw), nonces)

    def timestamps(self, version_keys: Sequence[str]) -> dict[str, float]:
        """Return the timestamp of each version; a missing one is added and counts from now.

        Evicted does not mean never invalidated: an old answer would bring back what was cached
        under it.
        """
        raws = self.backend.get(version_keys)
        if None in raws:
            self._add_missing(version_keys, raws)
            # A small cache may have let go of the first while the last were added.
            raws = self._all(version_keys)
        return dict(zip(version_keys, self.backend.timestamps(version_keys, raws), strict=True))

    def invalidated(self, version_keys: Sequence[str]) -> dict[str, tuple[float, bool]]:
        """Return when each version was made that there is, and whether it is pending."""
        found = zip(version_keys, self.backend.invalidated(version_keys), strict=True)
        return {key: version for key, version in found if version is not None}

    def drop_undecodable(self, keys: Iterable[str]) -> None:
        """Delete what makes the cache raise: nothing else would ever replace it.

        Call it while the cache answers. A version deleted is a version evicted.
        """
        keys = list(keys)
        self.backend.drop_undecodable_versions(keys)
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

    def mark_pending(
        self,
        version_keys: Iterable[str],
        other_key: str | None = None,
        mark: Mark | None = None,
    ) -> Any:
        """Keep every reader from serving and storing results of these keys.

        What is given the same ``mark`` lifts it; nobody does without one. Return the raw version
        under another key, as it is once this is done.
        """
        try:
            return self.backend.mark(version_keys, mark, other_key)
        finally:
            recent_versions.forget(version_keys)

    def renew(
        self,
        version_keys: Mapping[str, int | None],
        other_key: str | None = None,
        mark: Mark | None = None,
    ) -> Any:
        """Give these keys new versions: whatever was stored under the old ones is invalid.

        A key that comes with a number of seconds stays pending that long instead: it is of a
        database that lags behind, and may show the change at any moment until then. Return the raw
        version under another key, as it is once this is done.
        """
        try:
            return self.backend.renew(version_keys, mark, other_key)
        finally:
            recent_versions.forget(version_keys)

    def begin_lease(self, name: str, seconds: float) -> bool:
        """Take a lease for at least so many seconds, unless somebody has it."""
        # In whole ones, which is what every cache can count.
        return self.cache.add(name, 1, ceil(seconds))

    def has_lease(self, name: str) -> bool:
        """Whether somebody has a lease."""
        return self.cache.get(name) is not None

    def end_lease(self, name: str) -> None:
        """End a lease, whoever has it."""
        self.cache.delete(name)

    def put(
        self, entries: dict[str, tuple[tuple[str, ...], Stored]], timeout: float | None
    ) -> None:
        """Store results under the nonces that were valid before their queries ran.

        ``timeout`` is in seconds, None never expires. An entry that the cache refuses is lost.
        """
        self.backend.set_entries(
            {
                key: (checksum_of(key, stored.payload), nonces, *stored)
                for key, (nonces, stored) in entries.items()
            },
            timeout,
        )
