"""Redis servers on ports of their own, and an address that can be moved from one to another."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
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

    def command(self) -> list[str]:
        return [
            "redis-server", "--port", str(self.port), "--bind", HOST,
            "--dir", str(self.directory), "--save", "", *self._options,
        ]  # fmt: skip

    def start(self) -> Redis:
        with open(self.directory / "log", "ab") as log:
            self._process = subprocess.Popen(self.command(), stdout=log, stderr=log)
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

    def has_link(self) -> bool:
        return bool(self.ask("INFO", "replication").get("master_link_status") == "up")

    def fact(self, name: str) -> Any:
        """Return what a node of a cluster tells of it."""
        facts = self.ask("CLUSTER INFO")
        value = facts[f"cluster_{name}"]
        return int(value) if value.isdigit() else value

    def knows(self, node_id: str) -> bool:
        return any(node_id == node["node_id"] for node in self.ask("CLUSTER NODES").values())


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


class Cluster:
    """A Redis Cluster: so many primaries, and a replica of each."""

    def __init__(self, directory: Path, primaries: int = 3) -> None:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "500")
        self.nodes = [
            Redis(directory, *options, "--cluster-port", str(free_port()))
            for _ in range(2 * primaries)
        ]
        # The primary first, by shard.
        self._pairs = [[self.nodes[n], self.nodes[primaries + n]] for n in range(primaries)]

    @property
    def locations(self) -> list[str]:
        return [node.location for node in self.nodes]

    def start(self) -> Cluster:
        for node in self.nodes:
            node.start()
        first, *others = self.nodes
        for node in others:
            bus = node.ask("CONFIG GET", "cluster-port")["cluster-port"]
            first.ask("CLUSTER", "MEET", HOST, str(node.port), bus)
        ends = [16384 * n // len(self._pairs) for n in range(len(self._pairs) + 1)]
        for node, begin, end in zip(self.nodes, ends, ends[1:], strict=False):
            node.ask("CLUSTER", "ADDSLOTSRANGE", str(begin), str(end - 1))
        wait_for(lambda: all(node.fact("known_nodes") == len(self.nodes) for node in self.nodes))
        for primary, replica in self._pairs:
            wanted = primary.ask("CLUSTER MYID").decode()
            wait_for(lambda replica=replica, wanted=wanted: replica.knows(wanted))  # type: ignore[misc]
            replica.ask("CLUSTER", "REPLICATE", wanted)
        wait_for(lambda: all(node.fact("state") == "ok" for node in self.nodes))
        for _, replica in self._pairs:
            wait_for(replica.has_link)
        return self

    def fail_over(self, slot: int, *, lags: bool = False, comes_back: bool = False) -> None:
        """Kill the primary of a slot, and return once its replica has taken over.

        It ``lags`` if it has not received what was written in the last moments. The one that was
        killed ``comes_back`` as a replica of the other.
        """
        pair = self._pairs[len(self._pairs) * slot // 16384]
        primary, replica = pair
        if lags:
            replica.lose_link()
            time.sleep(0.1)
        primary.kill()
        wait_for(lambda: bool(replica.ask("ROLE")[0] == b"master"), 30)
        replica.ask("CONFIG SET", "masterauth", "")
        alive = [node for node in self.nodes if node is not primary]
        wait_for(lambda: all(node.fact("state") == "ok" for node in alive), 30)
        if comes_back:
            primary.start()
            wait_for(primary.has_link, 30)
            pair.reverse()

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()


class Sentinel(Redis):
    """Watches a primary that is called "site", and promotes its replica."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "--sentinel")
        self._file = self.directory / "sentinel.conf"
        self._file.write_text(f"port {self.port}\nbind {HOST}\ndir {self.directory}\n")

    def command(self) -> list[str]:
        return ["redis-server", str(self._file), "--sentinel"]

    def watch(self, primary: Redis) -> None:
        """Return once it knows the primary and a replica of it."""
        self.ask("SENTINEL", "MONITOR", "site", HOST, str(primary.port), "1")
        self.ask("SENTINEL", "SET", "site", "down-after-milliseconds", "500")
        self.ask("SENTINEL", "SET", "site", "failover-timeout", "3000")
        wait_for(lambda: len(self.ask("SENTINEL", "REPLICAS", "site")) == 1, 30)

    def port_of_primary(self) -> int:
        # What redis-py goes by; GET-MASTER-ADDR-BY-NAME tells the new one some moments before.
        return int(self.ask("SENTINEL MASTERS")["site"]["port"])
