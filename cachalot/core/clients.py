"""Keeps Django's Redis backend from making a client for each call."""

from __future__ import annotations

from functools import cache as keep_results
from typing import Any

from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.redis import RedisCache


def keep_clients(cache: BaseCache) -> None:
    """Have the backend keep one client for each connection pool.

    ``RedisCacheClient.get_client()`` (django/core/cache/backends/redis.py, 4.2 to 6.1) calls
    ``_client``, the class ``redis.Redis``, each time. With redis-py 8 that takes as long as asking
    Redis itself. A client holds nothing but its pool, and threads may share it.
    """
    if isinstance(cache, RedisCache):
        client: Any = cache._cache
        if isinstance(getattr(client, "_client", None), type):
            client._client = keep_results(client._client)
