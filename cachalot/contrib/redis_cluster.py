"""A cache on Redis Cluster or Valkey Cluster, by redis-py's ``RedisCluster``::

    CACHES = {
        "default": {
            "BACKEND": "cachalot.contrib.redis_cluster.RedisClusterCache",
            "LOCATION": ["redis://10.0.0.5:6379", "redis://10.0.0.6:6379"],
            "OPTIONS": {"socket_timeout": 0.5, "socket_connect_timeout": 0.5},
        }
    }

``LOCATION`` names nodes from which the others are found; user, password and TLS are those of the
first. ``OPTIONS`` are those of ``RedisCluster``, and ``serializer``. What Django's own backend does
with several keys at once is done key by key here, wherever they lie.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.cache.backends.redis import RedisCache, RedisCacheClient

from cachalot.core.locks import fork_safe_lock

_lock = fork_safe_lock()
# By process: a child uses no connection of its parent.
_clusters: dict[tuple[int, tuple[str, ...], str], Any] = {}


class RedisClusterCacheClient(RedisCacheClient):
    """Django's client, with the nodes of a cluster in place of servers."""

    _servers: list[str]
    _pool_options: dict[str, Any]
    _serializer: Any
    # By process, as it was asked for last.
    _own: tuple[int, Any] | None = None

    def get_client(self, key: object = None, *, write: bool = False) -> Any:
        """Return the ``RedisCluster`` that all threads of this process share."""
        process = os.getpid()
        if self._own is None or self._own[0] != process:
            self._own = process, self._shared(process)
        return self._own[1]

    def _shared(self, process: int) -> Any:
        # Each connection of a cluster has the parser of its library.
        options = {
            name: value for name, value in self._pool_options.items() if name != "parser_class"
        }
        identity = process, tuple(self._servers), repr(sorted(options.items()))
        with _lock:
            cluster = _clusters.get(identity)
            if cluster is None:
                cluster = _clusters[identity] = self._connected(options)
        return cluster

    def _connected(self, options: dict[str, Any]) -> Any:
        from redis.cluster import ClusterNode, RedisCluster
        from redis.connection import parse_url

        first, *others = self._servers
        places = [parse_url(server) for server in others]
        nodes = [ClusterNode(place["host"], place.get("port", 6379)) for place in places]
        return RedisCluster.from_url(first, startup_nodes=nodes, **options)

    def get_many(self, keys: Iterable[Any]) -> dict[Any, Any]:
        keys = list(keys)
        values = self.get_client(None).mget_nonatomic(keys) if keys else []
        return {
            key: self._serializer.loads(value)
            for key, value in zip(keys, values, strict=True)
            if value is not None
        }

    def set_many(self, data: Mapping[Any, Any], timeout: Any) -> None:
        for key, value in data.items():
            self.set(key, value, timeout)

    def delete_many(self, keys: Iterable[Any]) -> None:
        for key in keys:
            self.delete(key)


class RedisClusterCache(RedisCache):
    """Django's backend for Redis, on a cluster."""

    def __init__(self, server: Any, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._class = RedisClusterCacheClient
