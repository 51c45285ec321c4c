"""One run of a block: from its key to a hit, or to its result and a new entry.

An entry is judged by all versions that its reads depend on, and is stored only if these are all of
one moment (``moments``).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from time import perf_counter, time
from typing import Any

from cachalot.core import collecting, events
from cachalot.core.blocks import entries
from cachalot.core.blocks.dependencies import (
    Dependencies,
    known_dependencies,
    namespace_for_blocks,
    origin_for_blocks,
    remember,
    versions_to_be_seen,
)
from cachalot.core.blocks.entries import Found
from cachalot.core.blocks.keys import digest_of, entry_key_of, etag_of, own_key
from cachalot.core.blocks.moments import confirmed_dependencies_of, shows
from cachalot.core.cache.entries import Stored, unpack
from cachalot.core.cache.local import IMMUTABLE
from cachalot.core.collecting import PENDING, TWO_VERSIONS, Collector
from cachalot.core.outcomes import Bypass, Outcome, Refused, Unstorable
from cachalot.core.reading.results import packed, put
from cachalot.core.schema.tables import display_name
from cachalot.core.schema.timeouts import timeout_of
from cachalot.core.switch import is_enabled, what_switched_off
from cachalot.settings import cachalot_settings

logger = logging.getLogger("cachalot")

NOTHING_READ = "it reads no table, so that no write would ever make it invalid"
_OTHER_ORIGIN = "it reads as another tenant, or in another state of the session, than it began in"


class Block(Collector):
    """A run of what is called ``name`` and found under ``key``.

    First ``find()``. If that returns None, run the body and ``pack()`` in the block of it as a
    context manager, and then ``keep()`` what was packed. Nothing of this raises for the cache's
    sake, but under ``CACHALOT_CACHE_ERRORS = "raise"``.

    ``timeout`` is in seconds, None is until something is written. The entry lies in
    ``cache_alias``, None is where the versions are. With ``is_own`` it has a version of its own,
    which ``own_key()`` names. ``key`` is None where only the result tells it: then ``place()`` must
    be called before ``keep()``, and nothing is found.
    """

    def __init__(
        self,
        name: str,
        key: bytes | None,
        *,
        timeout: float | None = None,
        cache_alias: str | None = None,
        is_own: bool = False,
    ) -> None:
        super().__init__()
        self.name = name
        self._timeout = timeout
        self._cache_alias = None if cache_alias == cachalot_settings.CACHALOT_CACHE else cache_alias
        self._key: str | None = None
        self._own = (own_key(key),) if is_own and key is not None else ()
        if key is not None:
            self.place(key)
        #: What tells a result from one of other versions; None where nothing was found or stored.
        self.etag: str | None = None
        self._seconds: float | None = None
        self._began = perf_counter()

    def __enter__(self) -> Any:
        super().__enter__()
        # Blocks around it depend on its own version as well.
        self.depend(self.versions, own=self.versions)
        if self._own and not self.versions and self._outer is not None:
            self._outer.spoil(f"in it {self.name} could not be looked for, because {self.reason}")
        if self._timeout is not None and self._outer is not None:
            self._outer.depend({}, time() + self._timeout)
        self._began = perf_counter()
        return self

    def __exit__(self, *exc_info: object) -> None:
        super().__exit__(*exc_info)
        self._seconds = perf_counter() - self._began

    def place(self, key: bytes) -> None:
        """Tell under which key its result is found."""
        self._key = digest_of(b"block", key, namespace_for_blocks(self._cache_alias).encode())

    def find(self) -> tuple[Any, ...] | None:
        """Return what ``pack()`` was given, if it is stored and in force."""
        try:
            if not is_enabled():
                raise Bypass(what_switched_off())
            found = None if self._key is None else self._find(self._key)
        except Refused as error:
            self.reason = error.reason
            return None
        if found is None:
            return None
        if events.is_heard():
            age = max(0.0, time() - found.stored.stored_at)
            self._tell(found.outcome, None, found.stored.seconds, found.size, age)
        return found.rows[1:]

    def pack(self, result: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Have whatever is lazy in a result read, and return it to be kept, packed."""
        if self.reason is not None:
            return None
        if IMMUTABLE.issuperset(map(type, result)):
            return result
        try:
            # Once more below, with the end of its time: what was lazy no longer is then.
            packed(result)
        except Unstorable as error:
            self.reason = self.reason or error.sentence()
            return None
        return result

    def keep(
        self, result: tuple[Any, ...] | None, beside: dict[str, tuple[Any, ...]] | None = None
    ) -> None:
        """Store a result of ``pack()``, if the block depends on what is still in force alone.

        Then ``beside`` is stored as well, values without versions by their keys.
        """
        size: int | None = None
        outcome, reason = Outcome.NOT_STORED, self.reason
        if reason is None:
            try:
                assert result is not None
                assert self._key is not None
                size = self._store(self._key, result, beside or {})
                outcome = Outcome.MISS
            except Refused as error:
                reason = error.reason if isinstance(error, Bypass) else error.sentence()
        if reason is not None:
            logger.debug("The block %s is not stored, because %s.", self.name, reason)
        if events.is_heard():
            self._tell(outcome, reason, self._seconds, size)

    # Finding

    def _find(self, key: str) -> Found | None:
        place = self._cache_alias, key
        known = known_dependencies.get(place)
        if known is not None and (found := self._find_under(key, known)) is not None:
            return found
        described = self._described(key)
        if described is None or described == known:
            return None
        remember(place, described)
        return self._find_under(key, described)

    def _described(self, key: str) -> Dependencies | None:
        """Return what the block has read where it was last stored, whoever did that."""
        nonces, stored = entries.read(self._own, key, self._cache_alias)
        if nonces is None:
            raise Bypass(PENDING)
        self._take_in(self._own, nonces)
        if not isinstance(stored, Stored):
            return None
        return Dependencies(*unpack(stored.payload))

    def _find_under(self, key: str, dependencies: Dependencies) -> Found | None:
        if not dependencies.are_known():
            return None
        origins = {alias: origin_for_blocks(alias) for alias, _ in dependencies.tables}
        seen: dict[str, str] = {}
        for alias, tables in dependencies.tables:
            seen.update(versions_to_be_seen(alias, tables))
        keys = dependencies.version_keys()
        entry_key = entry_key_of(key, dependencies, origins)
        nonces, found = entries.find(keys, entry_key, self._cache_alias)
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

    # Keeping

    def _store(self, key: str, result: tuple[Any, ...], beside: dict[str, tuple[Any, ...]]) -> int:
        """Store a result; return its bytes. Raise ``Refused`` if that cannot be."""
        if not any(self.tables.values()):
            raise Bypass(NOTHING_READ)
        dependencies = confirmed_dependencies_of(self)
        keys = dependencies.version_keys()
        origins = {alias: origin_for_blocks(alias) for alias in self.tables}
        if origins != self.origins:
            raise Bypass(_OTHER_ORIGIN)
        now = time()
        timeout = self._remaining(now)
        stored = Stored(
            packed((None if timeout is None else now + timeout, *result)), now, self._seconds or 0.0
        )
        nonces = tuple(map(self.versions.__getitem__, keys))
        own = tuple(map(self.versions.__getitem__, self._own))
        entry_key = entry_key_of(key, dependencies, origins)
        put(
            {
                timeout: {
                    key: (own, Stored(packed(tuple(dependencies)), now, 0.0)),
                    entry_key: (nonces, stored),
                    **{
                        name: ((), Stored(packed(value), now, 0.0))
                        for name, value in beside.items()
                    },
                }
            },
            self._cache_alias,
        )
        remember((self._cache_alias, key), dependencies)
        self.etag = etag_of(entry_key, nonces)
        return len(stored.payload)

    def _remaining(self, now: float) -> float | None:
        """Return the seconds for which the result may be kept; None is for ever."""
        timeouts = [self._timeout, *map(timeout_of, self.tables.values())]
        if self.expires_at is not None:
            timeouts.append(self.expires_at - now)
        return min((timeout for timeout in timeouts if timeout is not None), default=None)

    def _tell(
        self,
        outcome: Outcome,
        reason: str | None,
        block_seconds: float | None,
        size: int | None,
        age: float | None = None,
    ) -> None:
        events.tell(
            events.Block(
                self.name,
                outcome,
                reason,
                tuple(
                    (alias, display_name(table))
                    for alias in sorted(self.tables)
                    for table in sorted(self.tables[alias])
                ),
                perf_counter() - self._began,
                block_seconds,
                size,
                age,
            )
        )
