"""Put a link between the site, its database and its cache: each question waits."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from django.conf import settings
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.filebased import FileBasedCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.memcached import PyMemcacheCache
from django.core.cache.backends.redis import RedisCache
from django.db import connection
from django.test import override_settings

_seconds = 0.0


def _waiting(cls: type) -> type:
    """Have each call of a cache wait once, whichever other calls it is made of."""
    for name in ("add", "delete", "delete_many", "get", "get_many", "set", "set_many", "touch"):
        setattr(cls, name, _waiting_method(getattr(cls, name)))
    return cls


def _waiting_method(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def wait(self: BaseCache, *args: Any, **kwargs: Any) -> Any:
        if vars(self).get("_is_waiting"):
            return method(self, *args, **kwargs)
        self._is_waiting = True
        try:
            time.sleep(_seconds)
            return method(self, *args, **kwargs)
        finally:
            self._is_waiting = False

    return wait


@_waiting
class DistantLocMemCache(LocMemCache):
    """Local memory at the other end of a link."""


@_waiting
class DistantFileBasedCache(FileBasedCache):
    """Files at the other end of a link."""


@_waiting
class DistantRedisCache(RedisCache):
    """A Redis at the other end of a link."""


@_waiting
class DistantPyMemcacheCache(PyMemcacheCache):
    """A memcached at the other end of a link."""


def _wait(execute: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
    time.sleep(_seconds)
    return execute(sql, params, many, context)


@contextmanager
def link(milliseconds: float) -> Iterator[None]:
    """Have each query and each call of a cache take so much longer in the body."""
    global _seconds
    if not milliseconds:
        yield
        return
    _seconds = milliseconds / 1000
    distant = {
        alias: {
            **cache,
            "BACKEND": f"library.latency.Distant{cache['BACKEND'].rpartition('.')[2]}",
        }
        for alias, cache in settings.CACHES.items()
    }
    with override_settings(CACHES=distant), connection.execute_wrapper(_wait):
        yield
