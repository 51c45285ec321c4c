"""Versions that this process has read lately.

Within ``CACHALOT_MAX_STALENESS`` seconds they count as in force. However old, they tell which
result of the local tier need not be tried.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence

from cachalot.core.locks import fork_safe_lock

_MAX_KEYS = 50_000


class RecentVersions:
    """Remembers versions and when they were read. What this process writes is forgotten at once."""

    def __init__(self, time_function: Callable[[], float] = time.monotonic) -> None:
        self._time = time_function
        self._lock = fork_safe_lock()
        self._read: dict[str, tuple[str, float]] = {}
        #: Grows with every write of this process.
        self.generation = 0

    def confirm(
        self, keys: Sequence[str], nonces: tuple[str, ...], max_age: float = math.inf
    ) -> bool:
        """Whether ``nonces`` are the last that were read of ``keys``, and not written over here.

        ``max_age`` is in seconds: what was read longer ago confirms nothing.
        """
        oldest = self._time() - max_age
        for key, nonce in zip(keys, nonces, strict=True):
            known = self._read.get(key)
            if known is None or known[0] != nonce or known[1] < oldest:
                return False
        return True

    def note(self, keys: Sequence[str], nonces: tuple[str, ...], generation: int) -> None:
        """Remember what was read, unless this process has written since ``generation``."""
        now = self._time()
        with self._lock:
            if generation != self.generation:
                return
            if len(self._read) > _MAX_KEYS:
                self._read.clear()
            for key, nonce in zip(keys, nonces, strict=True):
                self._read[key] = (nonce, now)

    def forget(self, keys: Iterable[str]) -> None:
        """Forget versions that this process is about to change, or has just changed."""
        with self._lock:
            self.generation += 1
            for key in keys:
                self._read.pop(key, None)


recent_versions = RecentVersions()
