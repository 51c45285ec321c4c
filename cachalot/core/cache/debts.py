"""Versions that could not be renewed, and must be before this process reads the cache again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from cachalot.core.cache.versions import Mark
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
        #: By version key: the number of the debt, the seconds for which the key stays pending, and
        #: the marks to lift.
        self.owed: dict[str, tuple[int, int | None, tuple[Mark, ...]]] = {}
        self._number = 0

    def add(self, version_keys: Mapping[str, int | None], mark: Mark | None = None) -> None:
        """Owe these keys, and that ``mark`` be lifted, if it has been set."""
        new_marks = (mark,) if mark is not None and mark.may_stand() else ()
        with self._lock:
            self._number += 1
            for key, seconds in version_keys.items():
                marks = self.owed[key][2] if key in self.owed else ()
                self.owed[key] = self._number, seconds, (*marks, *new_marks)

    def settle(self, renew: Callable[..., Any]) -> int:
        """Renew what is owed by ``Store.renew()``, if anything is. Return the number of keys."""
        with self._lock:
            owed = dict(self.owed)
        by_mark: dict[Mark | None, dict[str, int | None]] = {}
        for key, (_, seconds, marks) in owed.items():
            for mark in marks or (None,):
                by_mark.setdefault(mark, {})[key] = seconds
        for mark, version_keys in by_mark.items():
            renew(version_keys, mark=mark)
        with self._lock:
            for key, debt in owed.items():
                if self.owed.get(key) == debt:
                    del self.owed[key]
        return len(owed)
