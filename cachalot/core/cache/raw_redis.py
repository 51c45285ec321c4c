"""The raw side of Django's Redis backend: one packet on a connection of its own pool."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import unwrap
from typing import Any

import redis
from django.core.cache.backends.redis import RedisCache, RedisCacheClient, RedisSerializer
from redis.exceptions import ConnectionError as ConnectionCut
from redis.exceptions import ResponseError

from cachalot.core.cache.raw import Backend, Nonces, has_originals, is_original
from cachalot.core.cache.versions import Version

_POOLS = {redis.ConnectionPool, redis.BlockingConnectionPool}
_CONNECTIONS = {redis.Connection, redis.SSLConnection, redis.UnixDomainSocketConnection}
_nonces = Nonces(RedisSerializer().loads)


class Redis(Backend):
    """What Django's backend and django-redis share.

    They run each command by ``redis.Redis``, which repeats it where a connection was cut, if its
    ``retry`` allows. Here only reads are repeated, once: a version must not be set a second time
    after another writer has come in between.
    """

    is_kept = True

    def __init__(
        self, cache: Any, dumps: Callable[[Any], Any], loads: Callable[[Any], Any], nonces: Nonces
    ) -> None:
        super().__init__(cache)
        self._dumps, self.loads = dumps, loads
        self.nonce_of = nonces.__getitem__

    def _pool(self, writes: bool) -> Any:
        """Return the connections of a server that may be written, or only read."""
        raise NotImplementedError

    def _lifetime(self, timeout: float) -> tuple[bytes, int]:
        """Return the option of SET for this many seconds and its value, at most 0 for no time."""
        raise NotImplementedError

    def _names(self, keys: Sequence[str]) -> list[bytes]:
        return [name.encode() for name in super()._names(keys)]

    def _raw(self, value: Any, pool: Any) -> bytes:
        raw = self._dumps(value)
        # Serialisers may make texts.
        return raw if type(raw) is bytes else pool.get_encoder().encode(raw)

    def get(self, version_keys: Sequence[str], entry_keys: Sequence[str] = ()) -> list[Any]:
        names = self._names((*version_keys, *entry_keys))
        if not names:
            return []
        command = _packed(b"MGET", *names)
        (raws,) = _ask(self._pool(False), command, 1, may_repeat=True)
        return raws  # type: ignore[no-any-return]

    def add_versions(self, versions: Mapping[str, Version]) -> dict[str, bytes]:
        pool = self._pool(True)
        raws = {key: self._raw(version, pool) for key, version in versions.items()}
        names = self._names(list(raws))
        commands = [
            _packed(b"SET", name, raw, b"NX")
            for name, raw in zip(names, raws.values(), strict=True)
        ]
        replies = _ask(pool, b"".join(commands), len(commands))
        return {
            key: raw
            for (key, raw), reply in zip(raws.items(), replies, strict=True)
            if reply is not None
        }

    def set_versions(
        self, versions: Mapping[str, tuple[Version, float | None]], other_key: str | None = None
    ) -> bytes | None:
        pool = self._pool(True)
        commands = [
            self._set(key, self._raw(version, pool), timeout)
            for key, (version, timeout) in versions.items()
        ]
        if other_key is None:
            _ask(pool, b"".join(commands), len(commands))
            return None
        commands.append(_packed(b"MGET", *self._names((other_key,))))
        (other,) = _ask(pool, b"".join(commands), len(commands))[-1]
        return other  # type: ignore[no-any-return]

    def set_entries(self, entries: dict[str, Any], timeout: float | None) -> None:
        pool = self._pool(True)
        commands = [
            self._set(key, self._raw(entry, pool), timeout) for key, entry in entries.items()
        ]
        _ask(pool, b"".join(commands), len(commands))

    def _set(self, key: str, raw: bytes, timeout: float | None) -> bytes:
        (name,) = self._names((key,))
        if timeout is None:
            return _packed(b"SET", name, raw)
        option, lifetime = self._lifetime(timeout)
        if lifetime <= 0:
            return _packed(b"DEL", name)
        return _packed(b"SET", name, raw, option, b"%d" % lifetime)


class DjangoRedis(Redis):
    """Django's own (django/core/cache/backends/redis.py, 4.2 to 6.1)."""

    def __init__(self, cache: Any) -> None:
        self._client = cache._cache
        serializer = self._client._serializer
        is_known = type(serializer) is RedisSerializer
        nonces = _nonces if is_known else Nonces(serializer.loads)
        super().__init__(cache, serializer.dumps, serializer.loads, nonces)

    def _pool(self, writes: bool) -> Any:
        return self._client._get_connection_pool(writes)

    def _lifetime(self, timeout: float) -> tuple[bytes, int]:
        return b"EX", self.cache.get_backend_timeout(timeout)


def side_of(cache: Any) -> Backend | None:
    """Return the raw side of Django's Redis backend; None where not all of it is as known here."""
    if (
        is_original(cache, RedisCache, "get_many", "set_many", "get_backend_timeout")
        and is_original(
            cache._cache, RedisCacheClient, "get", "set", "add", "get_many", "set_many",
            "get_client", "_get_connection_pool", "_get_connection_pool_index",
        )
        and unwrap(cache._cache._client) is redis.Redis
        and are_known(cache._cache._get_connection_pool(writes) for writes in (True, False))
    ):  # fmt: skip
        return DjangoRedis(cache)
    return None


def are_known(pools: Any) -> bool:
    """Whether redis-py is as known here, and these pools are its own."""
    return (
        # Since then pools need not be told the command.
        redis.VERSION[:2] >= (5, 3)
        and has_originals(redis.Redis, "execute_command", "get", "mget", "pipeline")
        and has_originals(redis.client.Pipeline, "execute")
        and all(
            type(pool) in _POOLS
            and pool.connection_class in _CONNECTIONS
            # Of the client itself, in this process.
            and getattr(pool, "cache", None) is None
            and pool.connection_kwargs.get("encoding", "utf-8") == "utf-8"
            for pool in pools
        )
    )


def _packed(*words: bytes) -> bytes:
    """Return a command as it is sent."""
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


def _ask(pool: Any, commands: bytes, number: int, may_repeat: bool = False) -> list[Any]:
    """Send commands at once and return their replies. Raise the first that is an error.

    Whatever interrupts it, the next to have the connection finds no reply of another's on it.
    """
    if not number:
        return []
    connection = pool.get_connection()
    is_clean = False
    try:
        try:
            replies, error = _exchange(connection, commands, number)
        except ConnectionCut:
            if not (may_repeat and connection.retry._retries):
                raise
            connection.disconnect()
            replies, error = _exchange(connection, commands, number)
        is_clean = True
    finally:
        if not is_clean:
            connection.disconnect()
        # Not reached if that is interrupted: better one connection less than one out of step.
        pool.release(connection)
    if error is not None:
        raise error
    return replies


def _exchange(
    connection: Any, commands: bytes, number: int
) -> tuple[list[Any], ResponseError | None]:
    connection.send_packed_command([commands])
    replies, first = [], None
    for _ in range(number):
        try:
            replies.append(connection.read_response(disable_decoding=True))
        except ResponseError as error:
            # The others have to be read as well.
            first = first or error
    return replies, first
