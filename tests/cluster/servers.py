"""Redis servers on ports of their own, and an address that can be moved from one to another."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.storm.caches import HOST, free_port, wait_for


class Redis:
    """A process of ``redis-server`` that keeps what it saves in a directory."""

    def __init__(self, directory: Path, *options: str, port: int | None = None) -> None:
        self.port = free_port() if port is None else port
        self.directory = directory / f"redis-{self.port}"
        self.directory.mkdir()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def location(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def start(self) -> Redis:
        words = [
            "redis-server", "--port", str(self.port), "--bind", HOST,
            "--dir", str(self.directory), "--save", "", *self._options,
        ]  # fmt: skip
        with open(self.directory / "log", "ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log)
        wait_for(self.answers)
        return self

    def answers(self) -> bool:
        from redis.exceptions import RedisError

        with suppress(RedisError):
            return bool(self.ask("PING"))
        return False

    def ask(self, *words: str) -> Any:
        """Run one command on a connection of its own."""
        from redis import Redis as Client

        with Client(HOST, self.port, socket_timeout=5) as client:
            return client.execute_command(*words)

    def kill(self) -> None:
        """End it as a crash does: nothing more is saved."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def follow(self, primary: Redis) -> None:
        """Become a replica, and return once it has all that the primary has."""
        self.ask("REPLICAOF", HOST, str(primary.port))
        wait_for(lambda: self.ask("INFO", "replication")["master_link_status"] == "up")

    def lose_link(self) -> None:
        """Cut a replica off from its primary for good."""
        self.ask("CONFIG", "SET", "masterauth", "wrong")
        self.ask("CLIENT", "KILL", "TYPE", "master")

    def promote(self) -> None:
        self.ask("REPLICAOF", "NO", "ONE")


class Address:
    """A port that leads to one server or another, as a service's address does."""

    def __init__(self, server: Redis) -> None:
        self.server = server
        self._listener = socket.create_server((HOST, 0))
        self.location = f"redis://{HOST}:{self._listener.getsockname()[1]}/0"
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection((HOST, self.server.port))
                except OSError:
                    client.close()
                    continue
                self._sockets += client, server
                self._start(_pass_on, client, server)
                self._start(_pass_on, server, client)

    def lead_to(self, server: Redis) -> None:
        """Lead new connections there. Those that were made go on."""
        self.server = server

    def cut(self) -> None:
        """Cut all connections that were made."""
        for side in self._sockets:
            _shut(side)

    def close(self) -> None:
        # Wakes accept(), which close() does not.
        _shut(self._listener)
        self._listener.close()
        self._threads[0].join(10)
        self.cut()
        for thread in self._threads:
            thread.join(10)
        for side in self._sockets:
            side.close()


def _shut(side: socket.socket) -> None:
    with suppress(OSError):
        side.shutdown(socket.SHUT_RDWR)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    _shut(source)
    _shut(target)
