"""Versions that could not be renewed, and must be before this process reads the cache again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from cachalot.core.locks import fork_safe_lock


def start_daemon_timer(seconds: float, function: Callable[[], None]) -> None:
    """Call ``function`` in another thread after ``seconds``, unless the process ends before.

    Raise ``RuntimeError`` where no thread can be started: at a limit, or as the process ends.
    """
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    timer.start()


class Debts:
    """Version keys that are owed, with the seconds for which each stays pending (None: not at all).

    A key may be owed anew while it is being renewed: so each debt has a number.
    """

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        #: By version key: the number of the debt, and the seconds for which the key stays pending.
        self.owed: dict[str, tuple[int, int | None]] = {}
        self._number = 0

    def add(self, version_keys: Mapping[str, int | None]) -> None:
        """Owe these keys."""
        with self._lock:
            self._number += 1
            for key, seconds in version_keys.items():
                self.owed[key] = self._number, seconds

    def settle(self, renew: Callable[[Mapping[str, int | None]], None]) -> int:
        """Renew what is owed by ``renew``, if anything is. Return the number of keys."""
        with self._lock:
            owed = dict(self.owed)
        if owed:
            renew({key: seconds for key, (_, seconds) in owed.items()})
        with self._lock:
            for key, debt in owed.items():
                if self.owed.get(key) == debt:
                    del self.owed[key]
        return len(owed)
