"""The raw side of django-redis with its default client."""

from __future__ import annotations

from typing import Any

import redis
from django_redis.cache import RedisCache
from django_redis.client import DefaultClient
from django_redis.compressors.identity import IdentityCompressor
from django_redis.pool import ConnectionFactory
from django_redis.serializers.pickle import PickleSerializer

from cachalot.core.cache.raw import Backend, Nonces, is_original
from cachalot.core.cache.raw_redis import Redis, are_known

# Of the default serialiser, which decodes the same everywhere.
_nonces: Nonces | None = None


class DjangoRedisPackage(Redis):
    """django-redis (django_redis/client/default.py, 5.4 to 7.0)."""

    def __init__(self, cache: Any) -> None:
        self._client = cache.client
        super().__init__(cache, self._client.encode, self._client.decode, _nonces_of(self._client))

    def _pool(self, writes: bool) -> Any:
        return self._client.get_client(writes).connection_pool

    def _lifetime(self, timeout: float) -> tuple[bytes, int]:
        return b"PX", int(timeout * 1000)


def _nonces_of(client: Any) -> Nonces:
    global _nonces
    is_default = (
        type(client._serializer) is PickleSerializer
        and type(client._compressor) is IdentityCompressor
    )
    if not is_default:
        return Nonces(client.decode)
    if _nonces is None:
        _nonces = Nonces(client.decode)
    return _nonces


def side_of(cache: Any) -> Backend | None:
    """Return the raw side of django-redis; None where not all of it is as known here."""
    # What it ignores it would hide; and if replicas take writes, any server may be written.
    if (
        is_original(cache, RedisCache, "get_many", "set_many")
        and not cache._ignore_exceptions
        and is_original(
            cache.client, DefaultClient, "get", "set", "add", "get_many", "set_many", "encode",
            "decode", "make_key", "get_client", "get_next_client_index", "connect",
        )
        and getattr(cache.client, "_replica_read_only", False)
        and type(cache.client.connection_factory) is ConnectionFactory
    ):  # fmt: skip
        clients = [cache.client.get_client(writes) for writes in (True, False)]
        if all(type(client) is redis.Redis for client in clients) and are_known(
            client.connection_pool for client in clients
        ):
            return DjangoRedisPackage(cache)
    return None
