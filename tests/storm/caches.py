"""Caches, each with the ways in which it can be broken."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def wait_for(is_so: Callable[[], bool], seconds: float = 20) -> None:
    """Return once something is so; raise ``TimeoutError`` if it takes too long."""
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until:
            raise TimeoutError("the storm waited in vain")
        time.sleep(0.005)


class FileCache:
    def __init__(self, directory: str, chance: random.Random) -> None:
        self.chance = chance
        self.location = os.path.join(directory, "cache")

    def start(self) -> None:
        """Begin with an empty cache."""

    def stop(self) -> None:
        """End it."""

    def settings(self) -> dict[str, Any]:
        """Return what Django is told of it besides the backend."""
        return {"LOCATION": self.location}

    def damages(self) -> dict[str, tuple[Callable[[], object], float]]:
        """Return what can be done to the cache, and how often a second."""
        return {"deletions": (self.delete, 20), "flushes": (self.flush, 1)}

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def delete(self) -> None:
        paths = list(Path(self.location).glob("*.djcache"))
        if paths:
            self._remove(self.chance.choice(paths))

    def flush(self) -> None:
        for path in Path(self.location).glob("*.djcache"):
            self._remove(path)


class LocalMemory(FileCache):
    """Each process has results of its own, and the versions lie on a board."""

    def __init__(self, directory: str, chance: random.Random) -> None:
        super().__init__(directory, chance)
        self.board = Path(directory) / "board"

    def settings(self) -> dict[str, Any]:
        return {}

    def damages(self) -> dict[str, tuple[Callable[[], object], float]]:
        return {"losses": (self.lose, 1), "flushes": (self.flush, 1)}

    def lose(self) -> None:
        self.board.unlink(missing_ok=True)

    def flush(self) -> None:
        from django.core.cache import caches

        caches["default"].clear()


class Server(FileCache):
    """A server of its own, on a port of its own, that keeps nothing when it is killed."""

    def __init__(self, directory: str, chance: random.Random) -> None:
        super().__init__(directory, chance)
        self.directory = directory
        self.port = free_port()
        self.location = f"{HOST}:{self.port}"

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(self.answers)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        self.stop()
        time.sleep(self.chance.random() / 4)
        self.start()

    def answers(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex((HOST, self.port)) == 0


class RedisServer(Server):
    def __init__(self, directory: str, chance: random.Random) -> None:
        from redis import Redis

        super().__init__(directory, chance)
        self.location = f"redis://{HOST}:{self.port}/0"
        self.client = Redis(HOST, self.port)

    def settings(self) -> dict[str, Any]:
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        # By default redis-py tries again, after seconds: here every cut is to be seen.
        retry = Retry(NoBackoff(), 0)
        return {"LOCATION": self.location, "OPTIONS": self.options(retry)}

    def options(self, retry: Any) -> dict[str, Any]:
        return {"retry": retry}

    def command(self) -> list[str]:
        return [
            "redis-server", "--port", str(self.port), "--bind", HOST,
            "--save", "", "--appendonly", "no", "--dir", self.directory,
        ]  # fmt: skip

    def damages(self) -> dict[str, tuple[Callable[[], object], float]]:
        return {
            "deletions": (self.delete, 20),
            "flushes": (self.client.flushdb, 1),
            "cuts": (self.cut, 2),
            "restarts": (self.restart, 0.1),
        }

    def delete(self) -> None:
        key = self.client.randomkey()
        if key is not None:
            self.client.delete(key)

    def cut(self) -> None:
        """Cut a connection, in the middle of a command perhaps."""
        mine = self.client.client_id()
        others = [client["id"] for client in self.client.client_list() if int(client["id"]) != mine]
        if others:
            self.client.client_kill_filter(_id=self.chance.choice(others))


class DjangoRedisServer(RedisServer):
    def options(self, retry: Any) -> dict[str, Any]:
        return {"CONNECTION_POOL_KWARGS": {"retry": retry}}


class MemcachedServer(Server):
    def command(self) -> list[str]:
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        # One thread, so that what came first is done first.
        return ["memcached", "-l", HOST, "-p", str(self.port), "-U", "0", "-t", "1", *user]

    def damages(self) -> dict[str, tuple[Callable[[], object], float]]:
        return {"flushes": (self.flush, 1), "restarts": (self.restart, 0.1)}

    def flush(self) -> None:
        self.ask(b"flush_all\r\n")

    def ask(self, command: bytes) -> None:
        """Send a command on a connection of its own and wait for the answer."""
        with socket.create_connection((HOST, self.port), 5) as client:
            client.sendall(command)
            client.recv(64)


CACHES = {
    "redis": RedisServer,
    "django_redis": DjangoRedisServer,
    "pymemcache": MemcachedServer,
    "file": FileCache,
    "locmem": LocalMemory,
}
