"""The raw side of Django's Redis backend: one packet on a connection of its own pool."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import unwrap
from typing import Any

import redis
from django.core.cache.backends.redis import RedisCache, RedisCacheClient, RedisSerializer
from redis.exceptions import NoScriptError, ResponseError
from redis.sentinel import (
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from cachalot.core.cache.raw import Backend, Nonces, has_originals, is_original
from cachalot.core.cache.redis_marks import (
    MARK,
    NOTHING,
    RENEW,
    Script,
    commands_of,
    is_forbidden,
    mark_words,
    renew_words,
)
from cachalot.core.cache.redis_packets import Answer, Primary, packed, send
from cachalot.core.cache.reigns import LINE_KEY, reigns_of
from cachalot.core.cache.versions import Mark, Version, clock, new_nonce, nonce_in

_POOLS = {redis.ConnectionPool, redis.BlockingConnectionPool}
_CONNECTIONS = {
    *(redis.Connection, redis.SSLConnection, redis.UnixDomainSocketConnection),
    *(SentinelManagedConnection, SentinelManagedSSLConnection),
}


def nonces_by(loads: Callable[[Any], Any]) -> Nonces:
    """Return nonces by the word of a reign and a raw version. Each begins with the word."""

    def version_in(pair: tuple[str, bytes]) -> Any:
        word, raw = pair
        version = loads(raw)
        nonce = nonce_in(version)
        return None if nonce is None else (version[0], word + nonce)

    return Nonces(version_in)


_nonces = nonces_by(RedisSerializer().loads)


def told_in(word: str, values: list[Any], number: int) -> list[Any]:
    """Return what lay behind the line of a reign, with its word at so many versions."""
    del values[0]
    for i in range(number):
        if values[i] is not None:
            values[i] = word, values[i]
    return values


class Redis(Backend):
    """What Django's backend and django-redis share.

    Everything is asked of the primary, whatever other servers the client may read from. They run
    each command by ``redis.Redis``, which repeats it where a connection was cut, if its ``retry``
    allows. Here only reads are repeated, once: a version must not be set a second time after
    another writer has come in between.

    A raw version is the word of the reign and what lies under the key.
    """

    is_kept = True
    # Until the server says otherwise.
    _runs_scripts = True

    def __init__(
        self,
        cache: Any,
        servers: object,
        dumps: Callable[[Any], Any],
        loads: Callable[[Any], Any],
        nonces: Nonces,
    ) -> None:
        super().__init__(cache)
        self._dumps, self._loads = dumps, loads
        self.nonce_of = nonces.__getitem__
        (self._line_name,) = self._version_names((LINE_KEY,))
        reigns = reigns_of((servers, self._line_name))
        self._primary = Primary(reigns, self._line_name, self._raw, loads)

    def loads(self, raw: Any) -> Any:
        return self._loads(raw[1] if type(raw) is tuple else raw)

    def _pool(self) -> Any:
        """Return the connections of the primary."""
        raise NotImplementedError

    def _lifetime(self, timeout: float) -> tuple[bytes, int]:
        """Return the option of SET for this many seconds and its value, at most 0 for no time."""
        raise NotImplementedError

    def _names(self, keys: Sequence[str]) -> list[bytes]:
        return [name.encode() for name in super()._names(keys)]

    def _version_names(self, keys: Sequence[str]) -> list[bytes]:
        return self._names(keys)

    def _ask(self, commands: list[bytes], names: Sequence[bytes], **how: bool) -> Answer:
        return self._primary.ask(self._pool(), commands, names, **how)

    def _raw(self, value: Any) -> bytes:
        raw = self._dumps(value)
        # Serialisers may make texts.
        return raw if type(raw) is bytes else self._pool().get_encoder().encode(raw)

    def get(self, version_keys: Sequence[str], entry_keys: Sequence[str] = ()) -> list[Any]:
        names = self._names((*version_keys, *entry_keys))
        if not names:
            return []
        _, word, values = self._primary.ask(self._pool(), [], names)
        return told_in(word, values, len(version_keys))

    def add_versions(self, versions: Mapping[str, Version]) -> dict[str, tuple[str, bytes]]:
        raws = {key: self._raw(version) for key, version in versions.items()}
        names = self._version_names(list(raws))
        commands = [
            packed(b"SET", name, raw, b"NX") for name, raw in zip(names, raws.values(), strict=True)
        ]
        if not commands:
            return {}
        replies, word, _ = self._ask(commands, ())
        return {
            key: (word, raw)
            for (key, raw), reply in zip(raws.items(), replies, strict=True)
            if reply is not None
        }

    def mark(
        self, version_keys: Iterable[str], mark: Mark | None, other_key: str | None = None
    ) -> Any:
        version_keys = list(version_keys)
        owner = (mark or Mark()).owner().encode()
        words = mark_words(self._version_names(version_keys), owner, self._raw((clock(), None)))
        return self._run(
            MARK,
            list(words),
            other_key,
            lambda: super(Redis, self).mark(version_keys, mark, other_key),
        )

    def renew(
        self,
        version_keys: Mapping[str, int | None],
        mark: Mark | None,
        other_key: str | None = None,
    ) -> Any:
        owner = b"" if mark is None else mark.known_owner().encode()
        now = clock()
        versions = [(self._raw((now, new_nonce())), each or 0) for each in version_keys.values()]
        names = self._version_names(list(version_keys))
        words = renew_words(names, owner, self._raw((now, None)), versions)
        return self._run(
            RENEW,
            list(words),
            other_key,
            lambda: super(Redis, self).renew(version_keys, mark, other_key),
        )

    def runs_scripts(self) -> bool:
        """Ask the server whether this user may run scripts, without which marks have no owners."""
        self._run(MARK, [NOTHING], None, lambda: None)
        return self._runs_scripts

    def _run(
        self,
        script: Script,
        words: list[tuple[bytes, ...]],
        other_key: str | None,
        without_scripts: Callable[[], Any],
    ) -> Any:
        """Run a script as often as there are words for it; return what ``set_versions()`` does."""
        others = [] if other_key is None else self._version_names((other_key,))
        if not self._runs_scripts or not (words or others):
            return without_scripts()
        how = {"needs_word": bool(others), "writes": True}
        try:
            try:
                _, word, values = self._ask(commands_of(script, words), others, **how)
            except NoScriptError:
                # Redis was started since it was run last.
                commands = commands_of(script, words, in_full=True)
                _, word, values = self._ask(commands, others, **how)
        except ResponseError as error:
            if not is_forbidden(error):
                raise
            self._runs_scripts = False
            return without_scripts()
        other = values[1] if others else None
        return None if other is None else (word, other)

    def _delete_versions(self, version_keys: Sequence[str]) -> None:
        commands = [packed(b"DEL", *self._version_names(version_keys))]
        self._ask(commands, (), needs_word=False, writes=True)

    def set_versions(
        self, versions: Mapping[str, tuple[Version, float | None]], other_key: str | None = None
    ) -> tuple[str, bytes] | None:
        names = self._version_names(list(versions))
        commands = [
            self._set(name, self._raw(version), timeout)
            for name, (version, timeout) in zip(names, versions.values(), strict=True)
        ]
        others = [] if other_key is None else self._version_names((other_key,))
        if not commands and not others:
            return None
        _, word, values = self._ask(commands, others, needs_word=bool(others), writes=True)
        other = values[1] if others else None
        return None if other is None else (word, other)

    def set_entries(self, entries: dict[str, Any], timeout: float | None) -> None:
        names = self._names(list(entries))
        commands = [
            self._set(name, self._raw(entry), timeout)
            for name, entry in zip(names, entries.values(), strict=True)
        ]
        if commands:
            # Each tells its reign: it does not matter which server it is given to.
            send(self._pool(), commands)

    def _set(self, name: bytes, raw: bytes, timeout: float | None) -> bytes:
        if timeout is None:
            return packed(b"SET", name, raw)
        option, lifetime = self._lifetime(timeout)
        if lifetime <= 0:
            return packed(b"DEL", name)
        return packed(b"SET", name, raw, option, b"%d" % lifetime)


class DjangoRedis(Redis):
    """Django's own (django/core/cache/backends/redis.py, 4.2 to 6.1)."""

    def __init__(self, cache: Any) -> None:
        self._client = cache._cache
        serializer = self._client._serializer
        is_known = type(serializer) is RedisSerializer
        nonces = _nonces if is_known else nonces_by(serializer.loads)
        servers = tuple(self._client._servers)
        super().__init__(cache, servers, serializer.dumps, serializer.loads, nonces)

    def _pool(self) -> Any:
        return self._client._get_connection_pool(write=True)

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
        and is_known(cache._cache._get_connection_pool(write=True))
    ):  # fmt: skip
        return DjangoRedis(cache)
    return None


def is_known(pool: Any) -> bool:
    """Whether redis-py is as known here, and this pool is its own, of primaries."""
    return (
        # Since then pools need not be told the command.
        redis.VERSION[:2] >= (5, 3)
        and has_originals(redis.Redis, "execute_command", "get", "mget", "pipeline")
        and has_originals(redis.client.Pipeline, "execute")
        and (type(pool) in _POOLS or (type(pool) is SentinelConnectionPool and pool.is_master))
        and pool.connection_class in _CONNECTIONS
        # Of the client itself, in this process.
        and getattr(pool, "cache", None) is None
        and pool.connection_kwargs.get("encoding", "utf-8") == "utf-8"
    )
