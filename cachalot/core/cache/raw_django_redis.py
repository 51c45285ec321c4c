"""The raw side of django-redis with its default client, also with that for Sentinel."""

from __future__ import annotations

from typing import Any

import redis
from django_redis.cache import RedisCache
from django_redis.client import DefaultClient
from django_redis.client.sentinel import SentinelClient
from django_redis.compressors.identity import IdentityCompressor
from django_redis.pool import ConnectionFactory, SentinelConnectionFactory
from django_redis.serializers.pickle import PickleSerializer

from cachalot.core.cache.raw import Backend, Nonces, is_original
from cachalot.core.cache.raw_redis import Redis, is_known, nonces_by

# Of the default serialiser, which decodes the same everywhere.
_nonces: Nonces | None = None


class DjangoRedisPackage(Redis):
    """django-redis (django_redis/client/default.py, 5.4 to 7.0)."""

    def __init__(self, cache: Any) -> None:
        self._client = client = cache.client
        # A service of Sentinel's has a name that others may have as well.
        servers = repr((client._server, client._options.get("SENTINELS")))
        super().__init__(cache, servers, client.encode, client.decode, _nonces_of(client))

    def _pool(self) -> Any:
        return self._client.get_client(write=True).connection_pool

    def _lifetime(self, timeout: float) -> tuple[bytes, int]:
        return b"PX", int(timeout * 1000)


def _nonces_of(client: Any) -> Nonces:
    global _nonces
    is_default = (
        type(client._serializer) is PickleSerializer
        and type(client._compressor) is IdentityCompressor
    )
    if not is_default:
        return nonces_by(client.decode)
    if _nonces is None:
        _nonces = nonces_by(client.decode)
    return _nonces


def side_of(cache: Any) -> Backend | None:
    """Return the raw side of django-redis; None where not all of it is as known here."""
    # What it ignores it would hide; and if replicas take writes, any server may be written.
    if not is_original(cache, RedisCache, "get_many", "set_many") or cache._ignore_exceptions:
        return None
    client = cache.client
    if (
        type(client) in (DefaultClient, SentinelClient)
        and is_original(
            client, type(client), "get", "set", "add", "get_many", "set_many", "encode",
            "decode", "make_key", "get_client", "get_next_client_index", "connect",
        )
        and getattr(client, "_replica_read_only", False)
        and type(client.connection_factory) in (ConnectionFactory, SentinelConnectionFactory)
    ):  # fmt: skip
        primary = client.get_client(write=True)
        if type(primary) is redis.Redis and is_known(primary.connection_pool):
            return DjangoRedisPackage(cache)
    return None
