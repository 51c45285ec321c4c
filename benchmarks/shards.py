"""One Redis of the load test, or the shards of a cluster."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
SLOTS = 16384


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


class Server:
    """A Redis that keeps nothing, or a node of a cluster."""

    def __init__(self, directory: Path, *, in_cluster: bool) -> None:
        import redis

        self.port = free_port()
        self.bus = free_port()
        place = directory / str(self.port)
        place.mkdir()
        options = ["--cluster-enabled", "yes", "--cluster-port", str(self.bus)]
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", HOST, "--save", "", "--dir",
             str(place), *(options if in_cluster else ())],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        self.location = f"redis://{HOST}:{self.port}/0"
        self.client = redis.Redis(HOST, self.port)
        wait_for(self._answers)

    def _answers(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex((HOST, self.port)) == 0

    def stop(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait()

    def processor_seconds(self) -> float:
        told: Any = self.client.info("cpu")
        return float(told["used_cpu_user"] + told["used_cpu_sys"])


def wait_for(is_so: Callable[[], bool], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until:
            raise TimeoutError("the servers did not come up")
        time.sleep(0.01)


@contextmanager
def servers(shards: int) -> Iterator[list[Server]]:
    """Run one Redis (0 shards), or a cluster of so many primaries without replicas."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running = []
        for _ in range(shards or 1):
            running.append(Server(directory, in_cluster=shards > 0))
            stack.callback(running[-1].stop)
        for number, server in enumerate(running if shards else ()):
            command = server.client.execute_command
            begin, end = SLOTS * number // shards, SLOTS * (number + 1) // shards
            command("CLUSTER ADDSLOTSRANGE", begin, end - 1)
            running[0].client.execute_command("CLUSTER MEET", HOST, server.port, server.bus)
        if shards:
            wait_for(lambda: all(is_ready(server, shards) for server in running))
        yield running


def is_ready(server: Server, shards: int) -> bool:
    told: Any = server.client.execute_command("CLUSTER INFO")
    return told["cluster_state"] == "ok" and int(told["cluster_known_nodes"]) == shards
