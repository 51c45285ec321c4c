"""One run of a block: from its key to a hit, or to its result and a new entry.

An entry is judged by all versions that its reads depend on, and is stored only if these are all of
one moment (``moments``).
"""

from __future__ import annotations

import logging
from time import perf_counter, time
from typing import Any

from asgiref.sync import sync_to_async

from cachalot.core import events
from cachalot.core.blocks.dependencies import (
    namespace_for_blocks,
    origin_for_blocks,
    remember,
)
from cachalot.core.blocks.entries import Found
from cachalot.core.blocks.finding import Search
from cachalot.core.blocks.keys import digest_of, entry_key_of, etag_of, own_key
from cachalot.core.blocks.moments import confirmed_dependencies_of
from cachalot.core.cache.entries import Stored
from cachalot.core.cache.leases import Turn, is_dear
from cachalot.core.cache.local import IMMUTABLE
from cachalot.core.collecting import Collector
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
        self._turn: Turn | None = None
        self._search: Search | None = None

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
        if exc_info[0] is not None:
            self._give_back()

    def place(self, key: bytes) -> None:
        """Tell under which key its result is found."""
        self._key = digest_of(b"block", key, namespace_for_blocks(self._cache_alias).encode())

    def find(self, *, waits: bool = True) -> tuple[Any, ...] | None:
        """Return what ``pack()`` was given, if it is stored and in force.

        Where it took long and somebody else is running it, it is waited for. If it ``waits``, the
        block must be run when nothing is found.
        """
        found = self._look()
        while found is None and waits and self._comes_later(is_suspended=False):
            assert self._turn is not None
            self._turn.wait()
            found = self._look()
        return self._told(found)

    async def afind(self, *, waits: bool = True) -> tuple[Any, ...] | None:
        """Do what ``find()`` does, and let other tasks go on while it waits."""
        found = await sync_to_async(self._look)()
        while found is None and waits and await sync_to_async(self._comes_later)(is_suspended=True):
            assert self._turn is not None
            await self._turn.wait_suspended()
            found = await sync_to_async(self._look)()
        return await sync_to_async(self._told)(found)

    def _look(self) -> Found | None:
        self.reason = None
        try:
            if not is_enabled():
                raise Bypass(what_switched_off())
            if self._key is None:
                return None
            self._search = search = Search(self._key, self._own, self._cache_alias)
            # Its own, as they were before it is run.
            self.versions = search.versions
            return search.look()
        except Refused as error:
            self.reason = error.reason
            return None

    def _comes_later(self, *, is_suspended: bool) -> bool:
        """Whether to wait and look again."""
        outdated = None if self._search is None else self._search.outdated
        if outdated is None or not is_dear(outdated.seconds):
            return False
        if self._turn is None:
            self._turn = Turn(outdated.entry_key, is_suspended=is_suspended)
        return self._turn.comes_later(outdated.versions, outdated.seconds)

    def _told(self, found: Found | None) -> tuple[Any, ...] | None:
        """Return what was found, and tell who listens."""
        if found is None:
            return None
        assert self._search is not None
        self._give_back()
        self.tables, self.etag = self._search.tables, self._search.etag
        if events.is_heard():
            age = max(0.0, time() - found.stored.stored_at)
            self._tell(found.outcome, None, found.stored.seconds, found.size, age)
        return found.rows[1:]

    def _give_back(self) -> None:
        if self._turn is not None:
            self._turn.give_back()

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
        try:
            self._keep(result, beside or {})
        finally:
            self._give_back()

    def _keep(self, result: tuple[Any, ...] | None, beside: dict[str, tuple[Any, ...]]) -> None:
        size: int | None = None
        outcome, reason = Outcome.NOT_STORED, self.reason
        if reason is None:
            try:
                assert result is not None
                assert self._key is not None
                size = self._store(self._key, result, beside)
                outcome = Outcome.MISS
            except Refused as error:
                reason = error.reason if isinstance(error, Bypass) else error.sentence()
        if reason is not None:
            logger.debug("The block %s is not stored, because %s.", self.name, reason)
        if events.is_heard():
            self._tell(outcome, reason, self._seconds, size)

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
