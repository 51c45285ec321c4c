"""The cache under keys that do not depend on who asks.

``KEY_FUNCTION`` may put the current tenant into each key of a cache, as django-tenants has it. Of a
table that tenants share each would then have a version of its own, and nobody would hear of the
others' writes. So what cachalot stores lies under Django's default keys, and what the function
makes of a key belongs to the query alone.
"""

from __future__ import annotations

import logging
from functools import lru_cache, partial
from typing import Any

from django.core.cache import CacheHandler, InvalidCacheBackendError, caches
from django.core.cache.backends.base import BaseCache, default_key_func

from cachalot.core.cache.backends import keep_servers
from cachalot.core.cache.versions import new_nonce
from cachalot.core.interruptions import is_interruption
from cachalot.settings import forget_on_change

_LIKE_DJANGO = "django_redis.", "django_valkey."

logger = logging.getLogger("cachalot")


def cache_of(cache_alias: str) -> BaseCache:
    """Return the cache of an alias, which makes keys of alias, ``KEY_PREFIX`` and ``VERSION`` only.

    It is Django's own object unless the project has it make keys otherwise. Raise what
    ``caches[cache_alias]`` raises.
    """
    cache: Any = caches[cache_alias]
    if not _has_own_keys(cache_alias):
        return cache  # type: ignore[no-any-return]
    ours: BaseCache | None = getattr(cache, "_cachalot_cache", None)
    if ours is None:
        ours = cache._cachalot_cache = new_cache(cache_alias)
    return ours


def new_cache(cache_alias: str) -> BaseCache:
    """Return a cache that nobody else has, under the same keys.

    Raise ``InvalidCacheBackendError`` for one that ``CACHES`` does not have.
    """
    if cache_alias not in caches.settings:
        raise InvalidCacheBackendError(f"{cache_alias!r} is not in CACHES.")
    parameters = {**caches.settings[cache_alias], "KEY_FUNCTION": None}
    cache: Any = CacheHandler({cache_alias: parameters}).create_connection(cache_alias)
    if _overrides_make_key(type(cache)):
        cache.make_key = partial(BaseCache.make_key, cache)
    keep_servers(cache)
    return cache  # type: ignore[no-any-return]


def has_namespace(cache_alias: str) -> bool:
    """Whether the project has the cache make keys otherwise."""
    try:
        return _has_own_keys(cache_alias)
    except Exception as error:
        if is_interruption(error):
            raise
        # Whoever opens the cache says so.
        logger.debug("The cache %r cannot be opened: %r", cache_alias, error)
        return False


def namespace_of(cache_alias: str) -> str:
    """Return what the project's own function makes of an empty key just now; empty without one.

    Where the function fails, it is what no other query has.
    """
    if not has_namespace(cache_alias):
        return ""
    try:
        cache = caches[cache_alias]
        # django-valkey makes nothing of an empty key (django_valkey/util.py, 0.4).
        return cache.make_key("") or cache.make_key("_")
    except Exception as error:
        if is_interruption(error):
            raise
        logger.debug("The keys of the cache %r cannot be made: %r", cache_alias, error)
        return new_nonce()


@lru_cache(maxsize=16)
def _has_own_keys(cache_alias: str) -> bool:
    cache = caches[cache_alias]
    return getattr(
        cache, "key_func", default_key_func
    ) is not default_key_func or _overrides_make_key(type(cache))


def _overrides_make_key(backend: type) -> bool:
    # Those of django-redis and django-valkey call KEY_FUNCTION like Django's.
    method: Any = getattr(backend, "make_key", BaseCache.make_key)
    return method is not BaseCache.make_key and not method.__module__.startswith(_LIKE_DJANGO)


forget_on_change(_has_own_keys.cache_clear)
