"""The store of a cache, for the thread that asks."""

from __future__ import annotations

import os
import threading

from django.core.cache import caches

from cachalot.core.cache.backends import keep_clients, lies_in_database, needs_own_client
from cachalot.core.cache.keyspace import cache_of, new_cache
from cachalot.core.cache.sides import board_of
from cachalot.core.cache.store import Store
from cachalot.settings import forget_on_change


class _OwnStore:
    """A store whose client one thread has alone, and the settings that it was made of."""

    def __init__(self, cache_alias: str) -> None:
        self.settings = caches.settings
        self.store = Store(new_cache(cache_alias))

    def __del__(self) -> None:
        # Django closes what it has for a thread when a request ends; this one ends with its thread.
        if hasattr(self, "store"):
            self.store.cache.close()


class _Stores(threading.local):
    def __init__(self) -> None:
        self.by_alias: dict[str, _OwnStore] = {}


class _Known(threading.local):
    """What ``caches[alias]`` takes time to find, and what it was found for.

    Settings that change replace Django's connections to caches (django/test/signals.py).
    """

    def __init__(self) -> None:
        self.by_alias: dict[str, tuple[object, Store]] = {}


_of_thread = _Stores()
_known = _Known()
_of_parents: list[_Stores] = []


def store_of(cache_alias: str) -> Store | None:
    """Return what is in a cache, for this thread; None for one that can never be used.

    Raise ``InvalidCacheBackendError`` for one that ``CACHES`` does not have.
    """
    connections = caches._connections  # type: ignore[attr-defined]
    known = _known.by_alias.get(cache_alias)
    if known is not None and known[0] is connections:
        return known[1]
    store = _find_store(cache_alias)
    if store is not None and store.backend.is_kept:
        _known.by_alias[cache_alias] = connections, store
    return store


def _find_store(cache_alias: str) -> Store | None:
    cache = cache_of(cache_alias)
    store: Store | None = getattr(cache, "_cachalot_store", None)
    # A copy of a cache, or a wrapper around one, may show the store of the original.
    if store is None or store.cache is not cache or store.backend.board is not board_of(cache):
        if lies_in_database(cache):
            return None
        if needs_own_client(cache):
            return _store_of_thread(cache_alias)
        keep_clients(cache)
        store = cache._cachalot_store = Store(cache)  # type: ignore[attr-defined]
    return store


def _store_of_thread(cache_alias: str) -> Store:
    """Return a store whose client no other thread uses.

    ``caches`` follows asgiref's context, which threads that run at once may share.
    """
    own = _of_thread.by_alias.get(cache_alias)
    if own is None or own.settings is not caches.settings:
        own = _of_thread.by_alias[cache_alias] = _OwnStore(cache_alias)
    return own.store


def close_own_stores(**kwargs: object) -> None:
    """Close what this thread has alone, as Django closes caches at the end of a request."""
    for own in _of_thread.by_alias.values():
        own.store.cache.close()


def _begin_in_child() -> None:
    """Have clients of one's own in a forked process: the sockets of those it was given are shared.

    Those are kept, since some clients would say goodbye on the socket if they were freed.
    """
    global _of_thread, _known
    _of_parents.append(_of_thread)
    _of_thread, _known = _Stores(), _Known()


def _forget() -> None:
    global _known
    _known = _Known()


forget_on_change(_forget)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)
