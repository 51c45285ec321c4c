"""The result of a block, by the versions of what it read when it was last run."""

from __future__ import annotations

from collections.abc import Sequence
from time import time
from typing import NamedTuple

from cachalot.core import collecting
from cachalot.core.blocks import entries
from cachalot.core.blocks.dependencies import (
    Dependencies,
    known_dependencies,
    origin_for_blocks,
    remember,
    versions_to_be_seen,
)
from cachalot.core.blocks.entries import Found
from cachalot.core.blocks.keys import entry_key_of, etag_of
from cachalot.core.blocks.moments import shows
from cachalot.core.cache.entries import Stored, unpack
from cachalot.core.collecting import PENDING, TWO_VERSIONS
from cachalot.core.outcomes import Bypass


class Outdated(NamedTuple):
    """A result of other versions than those in force, which are None while one is pending.

    ``seconds`` is how long the block took, 0 where that is not known.
    """

    entry_key: str
    versions: tuple[str, ...] | None
    seconds: float


class Search:
    """One look for what lies under the ``key`` of a block in a cache.

    ``own`` are the keys of versions that the block has of its own.
    """

    def __init__(self, key: str, own: tuple[str, ...], cache_alias: str | None) -> None:
        self._key = key
        self._own = own
        self._cache_alias = cache_alias
        #: The nonces of the block's own versions.
        self.versions: dict[str, str] = {}
        #: What may be waited for if nothing is found.
        self.outdated: Outdated | None = None
        # Of what was found.
        self.tables: dict[str, frozenset[str]] = {}
        self.etag: str | None = None

    def look(self) -> Found | None:
        """Return what is stored and in force. Raise ``Refused`` where nothing may be served."""
        place = self._cache_alias, self._key
        known = known_dependencies.get(place)
        if known is not None and (found := self._find_under(known)) is not None:
            return found
        described = self._described()
        if described is None or described == known:
            return None
        remember(place, described)
        return self._find_under(described)

    def _described(self) -> Dependencies | None:
        """Return what the block has read where it was last stored, whoever did that."""
        nonces, stored = entries.read(self._own, self._key, self._cache_alias)
        if nonces is None:
            raise Bypass(PENDING)
        self._take_in(self._own, nonces)
        if not isinstance(stored, Stored):
            return None
        return Dependencies(*unpack(stored.payload))

    def _find_under(self, dependencies: Dependencies) -> Found | None:
        if not dependencies.are_known():
            return None
        origins = {alias: origin_for_blocks(alias) for alias, _ in dependencies.tables}
        seen: dict[str, str] = {}
        for alias, tables in dependencies.tables:
            seen.update(versions_to_be_seen(alias, tables))
        keys = dependencies.version_keys()
        entry_key = entry_key_of(self._key, dependencies, origins)
        nonces, found, seconds = entries.find(keys, entry_key, self._cache_alias)
        if found is None and not dependencies.are_in_transaction():
            self.outdated = Outdated(entry_key, nonces, seconds)
        if nonces is None:
            raise Bypass(PENDING)
        versions = dict(zip(keys, nonces, strict=True))
        self._take_in(self._own, tuple(map(versions.__getitem__, self._own)))
        if found is None or not shows(versions, seen):
            return None
        expires_at = found.rows[0]
        if expires_at is not None and expires_at <= time():
            return None
        if (outer := collecting.current()) is not None:
            for alias, tables in dependencies.tables:
                outer.read(alias, frozenset(tables), origins[alias])
            rows = {(alias, table): rows for alias, table, rows in dependencies.rows}
            outer.depend(versions, expires_at, rows, dependencies.own)
        self.tables = {alias: frozenset(tables) for alias, tables in dependencies.tables}
        self.etag = etag_of(entry_key, nonces)
        return found

    def _take_in(self, keys: Sequence[str], nonces: Sequence[str]) -> None:
        for key, nonce in zip(keys, nonces, strict=True):
            if self.versions.setdefault(key, nonce) != nonce:
                raise Bypass(TWO_VERSIONS)
