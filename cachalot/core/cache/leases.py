"""Leases: of those who miss the same result at one time, one computes it and the others wait.

A lease decides nothing about freshness: who has waited looks again, like any other reader. It ends
when its holder gives it back, and by itself when that may be dead; nobody waits for longer.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Sequence
from hashlib import blake2b
from weakref import WeakValueDictionary

from asgiref.sync import sync_to_async

from cachalot.core.cache.door import cache_in_use
from cachalot.core.locks import fork_safe_lock
from cachalot.core.outcomes import CacheUnavailable
from cachalot.settings import cachalot_settings

# Times as long as the result took before: one that takes a little longer than then is not computed
# by all.
_PATIENCE = 2
# The share of that time for which a write is waited for: it ends soon, or one cannot tell when.
_PATIENCE_WITH_WRITERS = 0.25
# Seconds between two looks at whether another process is done.
_PAUSE = 0.01

_lock = fork_safe_lock()
# Of this process, by name. What a holder has lost, by an exception between two steps, ends.
_leases: WeakValueDictionary[str, Lease] = WeakValueDictionary()


class Lease:
    """The right to compute a result under certain versions, for some seconds.

    ``thread`` computes it, None for a task.
    """

    def __init__(self, name: str, seconds: float, thread: int | None) -> None:
        self.name = name
        self.thread = thread
        self.until = time.monotonic() + seconds
        self.has_ended = threading.Event()

    def give_back(self) -> None:
        """End the lease, so that whoever waits looks again."""
        with _lock:
            if _leases.get(self.name) is self:
                del _leases[self.name]
        self.has_ended.set()
        try:
            with cache_in_use((self.name,)) as store:
                store.end_lease(self.name)
        except CacheUnavailable:
            pass  # it ends by itself


def take(name: str, seconds: float, thread: int | None) -> Lease | None:
    """Return a lease, None if somebody has it. Raise what the cache raises if that may pass."""
    lease = Lease(name, seconds, thread)
    with _lock:
        held = _leases.get(name)
        if held is not None and time.monotonic() < held.until:
            return None
        _leases[name] = lease
    try:
        with cache_in_use((name,)) as store:
            is_taken = store.begin_lease(name, seconds)
    except CacheUnavailable:
        return lease  # within this process
    return lease if is_taken else None


def is_dear(seconds: float) -> bool:
    """Whether a result that took so long is waited for."""
    threshold = cachalot_settings.CACHALOT_WAIT_ABOVE
    return threshold is not None and seconds > threshold


class Turn:
    """Whose turn it is to compute the result under ``key``, as one reader knows it.

    With ``is_suspended`` it is a task, which waits and computes without a thread of its own. As a
    context manager it gives back its lease if the body raises.
    """

    def __init__(self, key: str, *, is_suspended: bool = False) -> None:
        self.lease: Lease | None = None
        self._key = key
        self._thread = None if is_suspended else threading.get_ident()
        # The lease that it has or waits for; empty while it waits for a writer.
        self._name = ""
        # When the present wait ends on the monotonic clock, and those for leases and for writers.
        self._until = self._until_computed = self._until_written = 0.0

    def __enter__(self) -> Turn:
        return self

    def __exit__(self, kind: object, *exc_info: object) -> None:
        if kind is not None:
            self.give_back()

    def comes_later(self, versions: Sequence[str] | None, seconds: float) -> bool:
        """Whether to ``wait()`` and look again for a result that was not found.

        ``versions`` are those in force when it was looked for, None while a write is under way;
        ``seconds`` is how long it took to compute when it was last stored.
        """
        name = "" if versions is None else _name_of(self._key, versions)
        if name and name == self._name:
            # Its own turn has come, or what it has waited for was not stored.
            return False
        self.give_back()
        self._name = name
        now = time.monotonic()
        if name:
            self._until_computed = self._until_computed or now + _PATIENCE * seconds
            self._until = self._until_computed
        else:
            self._until_written = self._until_written or now + _PATIENCE_WITH_WRITERS * seconds
            self._until = self._until_written
        if now >= self._until:
            return False
        if name:
            # Whoever had the lease may have ended since: with it, one looks again as well.
            self.lease = take(name, _PATIENCE * seconds, self._thread)
        return True

    def wait(self) -> None:
        """Wait for a writer for a moment, or until nobody else has the lease or time is over."""
        if not self._name:
            time.sleep(self._pause())
        while self._is_waiting():
            held = _leases.get(self._name)
            if held is None:
                time.sleep(self._pause())
            else:
                held.has_ended.wait(self._pause())

    async def wait_suspended(self) -> None:
        """Do what ``wait()`` does, and let other tasks go on."""
        if not self._name:
            await asyncio.sleep(self._pause())
        while await sync_to_async(self._is_waiting)():
            await asyncio.sleep(self._pause())

    def _pause(self) -> float:
        return max(0.0, min(_PAUSE, self._until - time.monotonic()))

    def _is_waiting(self) -> bool:
        """Whether somebody else has the lease, and there is time left."""
        if not self._name or self.lease is not None or time.monotonic() >= self._until:
            return False
        held = _leases.get(self._name)
        if held is not None:
            # A task may need this very thread to go on.
            is_in_the_way = self._thread is not None and held.thread in (self._thread, None)
            return not is_in_the_way and time.monotonic() < held.until
        try:
            with cache_in_use((self._name,)) as store:
                return store.has_lease(self._name)
        except CacheUnavailable:
            return False

    def give_back(self) -> None:
        """End the reader's own lease, if it has one."""
        lease, self.lease = self.lease, None
        if lease is not None:
            lease.give_back()


def _name_of(key: str, versions: Sequence[str]) -> str:
    content = "\0".join((key, *versions)).encode("utf-8", "surrogatepass")
    return "cachalot:lease:" + blake2b(content, digest_size=16).hexdigest()


if hasattr(os, "register_at_fork"):
    # No thread of a child has any.
    os.register_at_fork(after_in_child=_leases.clear)
