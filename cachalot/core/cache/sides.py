"""Which raw side a cache has: that of its client if all of it is as its authors wrote it."""

from __future__ import annotations

from django.core.cache.backends.base import BaseCache, default_key_func
from django.utils.module_loading import import_string

from cachalot.core.cache.backends import keeps_all_in_process, paths_of
from cachalot.core.cache.board import Board
from cachalot.core.cache.boards import board_in_use
from cachalot.core.cache.raw import Backend, is_original
from cachalot.core.cache.raw_board import OnBoard
from cachalot.core.cache.raw_following import Following

# By path, since a client need not be installed. Each returns None for what it does not know.
_CORE, _RAW = "django.core.cache.backends", "cachalot.core.cache"
_SIDES = {
    f"{_CORE}.locmem.LocMemCache": f"{_RAW}.raw_locmem.side_of",
    f"{_CORE}.memcached.PyLibMCCache": f"{_RAW}.raw_memcached.side_of",
    f"{_CORE}.memcached.PyMemcacheCache": f"{_RAW}.raw_memcached.side_of",
    f"{_CORE}.redis.RedisCache": f"{_RAW}.raw_redis.side_of",
    "django_redis.cache.RedisCache": f"{_RAW}.raw_django_redis.side_of",
}

# Others than those known may lie on the same server.
_CLUSTER = "cachalot.contrib.redis_cluster.RedisClusterCache"
_WITH_REIGNS = {
    f"{_CORE}.redis.RedisCache",
    "django_redis.cache.RedisCache",
    "django_valkey.cache.ValkeyCache",
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
    if has_cluster_client(cache):
        # By Django's API, versions would have other names.
        return import_string(f"{_RAW}.raw_redis_cluster.side_of")(cache)  # type: ignore[no-any-return]
    path = _SIDES.get(f"{class_.__module__}.{class_.__qualname__}")
    if (
        path is None
        or cache.key_func is not default_key_func
        or not is_original(cache, class_, "make_key", "validate_key", "get", "add", "set")
    ):
        return side_by_api(cache)
    return import_string(path)(cache) or side_by_api(cache)


def has_cluster_client(cache: BaseCache) -> bool:
    """Whether a cache is meant for Redis Cluster."""
    return _CLUSTER in paths_of(type(cache))


def side_by_api(cache: BaseCache) -> Backend:
    """Return a side of a cache that asks it by Django's API alone."""
    is_redis = not _WITH_REIGNS.isdisjoint(paths_of(type(cache)))
    return Following(cache) if is_redis else Backend(cache)
