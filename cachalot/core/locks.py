"""Locks of what a process remembers."""

from __future__ import annotations

import os
import threading
import weakref

_locks: weakref.WeakSet[threading.Lock] = weakref.WeakSet()


def fork_safe_lock() -> threading.Lock:
    """Return a lock that is free in a forked process, whoever held it: no thread there would.

    What it protects must be right between any two steps of its holder, since a fork may come
    between them.
    """
    lock = threading.Lock()
    _locks.add(lock)
    return lock


def _free_all() -> None:
    for lock in _locks:
        # As the standard library does with its own (logging, concurrent.futures).
        lock._at_fork_reinit()  # type: ignore[attr-defined]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_all)
