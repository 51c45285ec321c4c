"""Which raw side a cache has: that of its client if all of it is as its authors wrote it."""

from __future__ import annotations

from django.core.cache.backends.base import BaseCache, default_key_func
from django.utils.module_loading import import_string

from cachalot.core.cache.raw import Backend, is_original

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
