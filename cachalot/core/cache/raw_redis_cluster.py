"""The raw side of a Redis Cluster: the versions on one shard, the entries on all."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from redis.exceptions import (
    ClusterDownError,
    MovedError,
    RedisClusterException,
    RedisError,
)
from redis.exceptions import ConnectionError as ConnectionCut
from redis.exceptions import TimeoutError as NoAnswer

from cachalot.core.cache.raw_redis import Redis, nonces_by, told_in
from cachalot.core.cache.redis_packets import Answer, packed, send
from cachalot.core.cache.reigns import NotPrimary
from cachalot.core.interruptions import is_interruption

logger = logging.getLogger("cachalot")

#: Seconds for which a shard that failed is not asked for entries.
SHARD_REST_SECONDS = 5.0

#: How often a question is asked of another server, as the cluster tells.
_MOST_MOVES = 3


class RedisCluster(Redis):
    """``cachalot.contrib.redis_cluster`` (redis-py 5.3 and later).

    The names of versions, and that of the line of the reign, begin with one hash tag. So they lie
    in one slot, where they are told at one moment; the reign is that of its shard. A shard that
    fails costs the entries that lie there, and the caching as a whole if it has the versions.
    """

    def __init__(self, cache: Any) -> None:
        self._client = cache._cache
        serializer = self._client._serializer
        # A shard that is not asked now, and until when.
        self._resting: dict[str, float] = {}
        servers = ("cluster", *self._client._servers)
        super().__init__(
            cache, servers, serializer.dumps, serializer.loads, nonces_by(serializer.loads)
        )

    def _version_names(self, keys: Sequence[str]) -> list[bytes]:
        tag = f"{{{self.cache.key_prefix}:{self.cache.version}}}:"
        return [(tag + key).encode() for key in keys]

    def _node(self, name: bytes) -> Any:
        cluster = self._client.get_client(write=True)
        node = cluster.nodes_manager.get_node_from_slot(cluster.keyslot(name))
        if node.redis_connection is None:
            cluster.get_redis_connection(node)
        return node

    def _pool(self) -> Any:
        return self._node(self._line_name).redis_connection.connection_pool

    def _find_nodes(self) -> None:
        """Ask the cluster where its slots are now."""
        self._client.get_client(write=True).nodes_manager.initialize()

    def _lifetime(self, timeout: float) -> tuple[bytes, int]:
        return b"EX", self.cache.get_backend_timeout(timeout)

    def _ask(self, commands: list[bytes], names: Sequence[bytes], **how: bool) -> Answer:
        for move in range(_MOST_MOVES):
            is_last = move == _MOST_MOVES - 1
            try:
                return super()._ask(commands, names, **how)
            except (MovedError, NotPrimary, ClusterDownError):
                # None of the commands was run.
                if is_last:
                    raise
                self._find_nodes()
            except (ConnectionCut, NoAnswer):
                # Perhaps another node has taken over. Whether commands were run, nobody knows.
                self._find_nodes()
                if commands or is_last:
                    raise
        raise AssertionError("not reached")

    def get(self, version_keys: Sequence[str], entry_keys: Sequence[str] = ()) -> list[Any]:
        # Entries first: a hit then is what the versions tell at one moment after it.
        entries = [self._entry(name) for name in self._names(entry_keys)]
        if not version_keys:
            return entries
        _, word, values = self._ask([], self._version_names(version_keys))
        return [*told_in(word, values, len(version_keys)), *entries]

    def drop_undecodable_versions(self, keys: Sequence[str]) -> None:
        _, _, (_, *values) = self._ask([], self._version_names(keys))
        found = zip(keys, values, strict=True)
        if wrong := [key for key, raw in found if raw is not None and not self._decodes(raw)]:
            # Not deleted: it may hold somebody's mark.
            self.renew(dict.fromkeys(wrong), None)

    def _decodes(self, raw: bytes) -> bool:
        try:
            self._loads(raw)
        except Exception as error:
            if is_interruption(error):
                raise
            return False
        return True

    def _entry(self, name: bytes) -> bytes | None:
        replies = self._send_to_shard(name, [packed(b"GET", name)])
        return replies[0] if replies else None

    def set_entries(self, entries: dict[str, Any], timeout: float | None) -> None:
        raws = [self._raw(entry) for entry in entries.values()]
        for name, raw in zip(self._names(list(entries)), raws, strict=True):
            self._send_to_shard(name, [self._set(name, raw, timeout)])

    def _send_to_shard(self, name: bytes, commands: list[bytes]) -> list[Any]:
        """Send commands to where an entry belongs; return no replies if that fails."""
        node = None
        try:
            node = self._node(name)
            if self._resting.get(node.name, 0.0) > time.monotonic():
                return []
            try:
                return send(node.redis_connection.connection_pool, commands)
            except MovedError:
                self._find_nodes()
                node = self._node(name)
                return send(node.redis_connection.connection_pool, commands)
        except (RedisError, RedisClusterException) as error:
            logger.debug("A shard of the cache failed: %r", error)
            if node is not None and isinstance(error, (ConnectionCut, NoAnswer)):
                self._resting[node.name] = time.monotonic() + SHARD_REST_SECONDS
                self._find_nodes()
            return []


def side_of(cache: Any) -> RedisCluster:
    """Return the raw side of a cluster, of a subclass as well."""
    return RedisCluster(cache)
