"""Locks of what a process remembers."""

from __future__ import annotations

import os
import threading
import weakref


class ForkSafeLock:
    """A lock that is free in a forked process, whoever held it: no thread there would release it.

    Use it as a context manager. What it protects must be right between any two steps of its
    holder, since a fork may come between them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self._lock.release()


_locks: weakref.WeakSet[ForkSafeLock] = weakref.WeakSet()


def _renew_all() -> None:
    for lock in _locks:
        lock._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
