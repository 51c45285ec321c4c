"""What is special about one cache backend or its client besides its raw side.

Whatever is not named here is treated by Django's own API alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache as keep_results
from math import inf
from typing import Any

from django.conf import settings
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.db import DatabaseCache
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.memcached import BaseMemcachedCache
from django.core.cache.backends.redis import RedisCache
from django.utils.module_loading import import_string

from cachalot.core.interruptions import is_interruption

_REDIS = "django.core.cache.backends.redis.RedisCache"
_DJANGO_REDIS = "django_redis.cache.RedisCache"
_DJANGO_VALKEY = "django_valkey.cache.ValkeyCache"
_PYMEMCACHE = "django.core.cache.backends.memcached.PyMemcacheCache"
_HASH_CLIENT = "pymemcache.client.hash.HashClient"
_LIBMEMCACHED = "pylibmc.client.Client"


def lies_in_database(cache: BaseCache) -> bool:
    """Whether the cache cannot be used at all: it lives on the connections that are cached."""
    return isinstance(cache, DatabaseCache)


def lies_in_process(cache: BaseCache) -> bool:
    """Whether each process has a cache of its own."""
    return isinstance(cache, LocMemCache)


def keeps_all_in_process(cache: BaseCache) -> bool:
    """Whether the cache is Django's local memory in all that it keeps.

    A subclass that reads or writes otherwise may share with other machines what it does.
    """
    methods = "get", "get_many", "set", "set_many", "add", "delete"
    return isinstance(cache, LocMemCache) and all(
        getattr(type(cache), name) is getattr(LocMemCache, name) for name in methods
    )


def needs_own_client(cache: BaseCache) -> bool:
    """Whether threads must not share the cache: memcached's clients mix up their answers."""
    return isinstance(cache, BaseMemcachedCache)


def keep_servers(cache: Any) -> None:
    """Have memcached's clients never look on another server for the keys of one that fails.

    The other one would have nothing of what was written to the first, and the first would come back
    with versions that were replaced on the other. For a cache that nobody has used yet.
    """
    if not isinstance(cache, BaseMemcachedCache) or len(cache._servers) < 2:  # type: ignore[attr-defined]
        return
    options: dict[str, Any] = cache._options  # type: ignore[attr-defined]
    if _class_of_client(cache) == _HASH_CLIENT:
        # It gives up a server after so many attempts (pymemcache/client/hash.py, 4.0).
        options = {**options, "retry_attempts": inf}
    elif _class_of_client(cache) == _LIBMEMCACHED:
        # By default it never removes a server, and it does not take 0 for a number of failures.
        behaviors = dict(options.get("behaviors") or {})
        for name in ("remove_failed", "auto_eject"):
            behaviors.pop(name, None)
        options = {**options, "behaviors": behaviors}
    cache._options = options  # type: ignore[attr-defined]


def client_that_may_reroute(cache: BaseCache) -> str | None:
    """Return the class of a memcached client that may move keys from one server to another.

    None for one that does not, or that ``keep_servers()`` keeps from it.
    """
    if not isinstance(cache, BaseMemcachedCache) or len(cache._servers) < 2:  # type: ignore[attr-defined]
        return None
    client = _class_of_client(cache)
    return None if client in {_HASH_CLIENT, _LIBMEMCACHED} else client


def _class_of_client(cache: Any) -> str:
    return f"{cache._class.__module__}.{cache._class.__qualname__}"


def keeps_nothing(cache: BaseCache) -> bool:
    """Whether the cache forgets at once, as it is meant to."""
    return isinstance(cache, DummyCache)


def keep_clients(cache: BaseCache) -> None:
    """Have Django's Redis backend keep one client for each connection pool.

    ``RedisCacheClient.get_client()`` (django/core/cache/backends/redis.py, 4.2 to 6.1) calls
    ``_client``, the class ``redis.Redis``, each time. With redis-py 8 that takes as long as asking
    Redis itself. A client holds nothing but its pool, and threads may share it.
    """
    if isinstance(cache, RedisCache):
        client: Any = cache._cache
        if isinstance(getattr(client, "_client", None), type):
            client._client = keep_results(client._client)


def paths_of(class_: type) -> set[str]:
    """Return the dotted paths of a class and of all that it inherits from."""
    return {f"{parent.__module__}.{parent.__qualname__}" for parent in class_.__mro__}


def option_that_hides_failures(
    backends: set[str], options: Mapping[str, Any]
) -> tuple[str, object]:
    """Return the name that decides whether failures are hidden, and its value.

    ``backends`` are the paths of the backend and of what it inherits from, ``options`` its
    ``OPTIONS``.
    """
    if _PYMEMCACHE in backends:
        return "its option 'ignore_exc'", options.get("ignore_exc")
    if _DJANGO_REDIS in backends:
        setting = "DJANGO_REDIS_IGNORE_EXCEPTIONS"
    elif _DJANGO_VALKEY in backends:
        setting = "DJANGO_VALKEY_IGNORE_EXCEPTIONS"
    else:
        return "", None
    # django_redis/cache.py and django_valkey/base.py: the option has more weight than the setting.
    if "IGNORE_EXCEPTIONS" in options:
        return "its option 'IGNORE_EXCEPTIONS'", options["IGNORE_EXCEPTIONS"]
    return setting, getattr(settings, setting, False)


def reads_from_replicas(backends: set[str], location: Any, options: Mapping[str, Any]) -> bool:
    """Whether a backend given by its paths, ``LOCATION`` and ``OPTIONS`` spreads its reads."""
    packages = {_DJANGO_REDIS, _DJANGO_VALKEY}
    if backends.isdisjoint({_REDIS, *packages}):
        return False
    # Django (django/core/cache/backends/redis.py) and these packages write to the first server and
    # read from the others.
    servers = re.split("[;,]", location) if isinstance(location, str) else location or ()
    if packages.isdisjoint(backends) or "CLIENT_CLASS" not in options:
        return len(servers) > 1
    clients = {path.partition(".")[2] for path in paths_of(import_string(options["CLIENT_CLASS"]))}
    if "client.sentinel.SentinelClient" in clients:
        return True
    return len(servers) > 1 and "client.sharded.ShardClient" not in clients


def memory_of_redis(cache: BaseCache) -> Mapping[str, Any] | None:
    """Return what Redis says of its memory; None for another backend. Raise what the client raises.

    INFO is allowed where a provider forbids CONFIG.
    """
    client = client_of_redis(cache)
    if client is None:
        return None
    memory: Mapping[str, Any] = client.info("memory")
    return memory


def client_of_redis(cache: BaseCache) -> Any:
    """Return the client of the server that takes the writes; None for another backend."""
    # Of Django (django/core/cache/backends/redis.py) and of django-redis.
    clients: Any = getattr(cache, "_cache", None) or getattr(cache, "client", None)
    return clients.get_client(write=True) if hasattr(clients, "get_client") else None


# One of each kind of value that is kept: a version, a pending mark, an entry.
_SAMPLES: tuple[Any, ...] = ((1.5, "nonce"), (1.5, None), (b"checksum", ("nonce",), b"rows"))


def what_serializer_spoils(cache: BaseCache) -> str | None:
    """Return what is wrong with the cache's serialiser; None if nothing is, or if it has none."""
    options: Any = getattr(cache, "_options", None)
    serde: Any = options.get("serde") if isinstance(options, dict) else None  # pymemcache's
    try:
        # Of Django (django/core/cache/backends/redis.py) and of django-redis.
        client: Any = getattr(cache, "_cache" if isinstance(cache, RedisCache) else "client", None)
    except ImportError:
        return None  # the client is not installed, as whoever uses the cache is told
    serializer: Any = getattr(client, "_serializer", None)
    if serde is None and serializer is None:
        return None
    for sample in _SAMPLES:
        try:
            if serde is not None:
                back = serde.deserialize("key", *serde.serialize("key", sample))
            else:
                back = serializer.loads(serializer.dumps(sample))
        except Exception as error:
            if is_interruption(error):
                raise
            return f"{type(error).__name__}: {error}"
        if _without_lists(back) != sample:
            return f"{sample!r} comes back as {back!r}"
    return None


def _without_lists(value: Any) -> Any:
    """Return lists as tuples: what is kept is understood either way."""
    return tuple(map(_without_lists, value)) if isinstance(value, (list, tuple)) else value
