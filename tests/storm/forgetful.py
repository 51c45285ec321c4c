"""Caches that come back with what they had some time ago."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cluster.servers import Cluster
from tests.storm.caches import FileCache, RedisServer


class RedisOfDumps(RedisServer):
    """A Redis that starts from its last dump."""

    backend = "redis"

    def damages(self) -> dict[str, tuple[Callable[[], object], float]]:
        # Nothing that would make it forget what it has saved.
        return {"dumps": (self.client.save, 1), "restarts": (self.restart, 0.3)}


class RedisCluster(FileCache):
    """A Redis Cluster whose shards fail over, now and then without their last writes."""

    backend = "redis"

    def __init__(self, directory: str, chance: random.Random) -> None:
        super().__init__(directory, chance)
        self._cluster = Cluster(Path(directory))

    def start(self) -> None:
        self._cluster.start()

    def stop(self) -> None:
        self._cluster.kill()

    def settings(self) -> dict[str, Any]:
        return {
            "BACKEND": "cachalot.contrib.redis_cluster.RedisClusterCache",
            "LOCATION": self._cluster.locations,
            "OPTIONS": {"socket_timeout": 1.0, "socket_connect_timeout": 1.0},
        }

    def damages(self) -> dict[str, tuple[Callable[[], object], float]]:
        return {"failovers": (self.fail_over, 0.1)}

    def fail_over(self) -> None:
        slot = self.chance.randrange(16384)
        self._cluster.fail_over(slot, lags=self.chance.random() < 0.5, comes_back=True)


CACHES = {"redis_of_dumps": RedisOfDumps, "redis_cluster": RedisCluster}
