"""Which raw side a cache has: that of its client if all of it is as its authors wrote it."""

from __future__ import annotations

from django.core.cache.backends.base import BaseCache, default_key_func
from django.utils.module_loading import import_string

from cachalot.core.cache.backends import keeps_all_in_process
from cachalot.core.cache.board import Board
from cachalot.core.cache.boards import board_in_use
from cachalot.core.cache.raw import Backend, is_original
from cachalot.core.cache.raw_board import OnBoard

# By path, since a client need not be installed. Each returns None for what it does not know.
_CORE, _RAW = "django.core.cache.backends", "cachalot.core.cache"
_SIDES = {
    f"{_CORE}.locmem.LocMemCache": f"{_RAW}.raw_locmem.side_of",
    f"{_CORE}.memcached.PyLibMCCache": f"{_RAW}.raw_memcached.side_of",
    f"{_CORE}.memcached.PyMemcacheCache": f"{_RAW}.raw_memcached.side_of",
    f"{_CORE}.redis.RedisCache": f"{_RAW}.raw_redis.side_of",
    "django_redis.cache.RedisCache": f"{_RAW}.raw_django_redis.side_of",
}


def backend_of(cache: BaseCache) -> Backend:
    """Return the raw side of a cache. That of local memory keeps its versions on a board."""
    side = _side_of(cache)
    board = board_of(cache)
    return side if board is None else OnBoard(side, board)


def board_of(cache: BaseCache) -> Board | None:
    """Return the board that a cache keeps its versions on, None if it keeps them itself."""
    return board_in_use() if keeps_all_in_process(cache) else None


def _side_of(cache: BaseCache) -> Backend:
    """Return the raw side of a cache. A subclass, or one that is patched, has Django's API."""
    class_ = type(cache)
    path = _SIDES.get(f"{class_.__module__}.{class_.__qualname__}")
    if (
        path is None
        or cache.key_func is not default_key_func
        or not is_original(cache, class_, "make_key", "validate_key", "get", "add", "set")
    ):
        return Backend(cache)
    return import_string(path)(cache) or Backend(cache)
