"""The door to the cache: whoever reads it comes in by ``cache_in_use``, writers by their guard."""

from __future__ import annotations

import os
from collections.abc import Iterable

from cachalot.core.cache.guard import Guard, raises_failures
from cachalot.core.cache.store import Store
from cachalot.core.interruptions import is_interruption
from cachalot.core.outcomes import CacheUnavailable, MissingVersions
from cachalot.settings import cachalot_settings

_guards: dict[str, Guard] = {}


def guard_of(cache_alias: str | None = None) -> Guard:
    """Return the process's guard of a cache, by default of the one in use."""
    alias = cachalot_settings.CACHALOT_CACHE if cache_alias is None else cache_alias
    try:
        return _guards[alias]
    except KeyError:
        return _guards.setdefault(alias, Guard(alias))


def path_of_board() -> str | None:
    """Return where the processes of this machine share the versions of the cache in use.

    That is None for a cache that keeps its versions itself, and for one that cannot be used.
    """
    store = guard_of().store()
    board = None if store is None else store.backend.board
    return None if board is None else str(board.file.path)


class cache_in_use:
    """Give what is in the cache to a body that asks it for ``keys`` and does nothing else.

    Raise ``CacheUnavailable`` where the cache cannot be used, and where it fails, which is noted.
    Under ``CACHALOT_CACHE_ERRORS = "raise"`` what the cache raises passes.
    """

    __slots__ = ("_guard", "_keys")

    def __init__(self, keys: Iterable[str] = (), cache_alias: str | None = None) -> None:
        self._guard = guard_of(cache_alias)
        self._keys = keys

    def __enter__(self) -> Store:
        return self._guard.readable_store()

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, MissingVersions):
            self._guard.flaws.latest = error.reason
            self._guard.flaws.tell(error.reason)
        elif error is None:
            self._guard.flaws.latest = None
        elif not isinstance(error, CacheUnavailable) and not is_interruption(error):
            self._guard.failed(error, self._keys)
            if not raises_failures():
                raise CacheUnavailable from error


def settle_before_exit() -> None:
    """Try once more to renew what is owed: no other process knows of it."""
    for guard in list(_guards.values()):
        guard.settle_before_exit()


def _begin_in_child() -> None:
    for guard in _guards.values():
        guard.begin_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)
