"""A link to a server that takes a while: ``python -m benchmarks.link HOST PORT MILLISECONDS``.

It passes on whatever comes, half of the milliseconds later in each direction, and prints the port
on which it listens.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def link_to(host: str, port: int, milliseconds: float) -> Iterator[int]:
    """Have a link to the server, and yield the port of its other end, on 127.0.0.1."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.link", host, str(port), str(milliseconds)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()


def _pass_on(source: socket.socket, target: socket.socket, seconds: float) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 20):
            time.sleep(seconds)
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _serve(host: str, port: int, milliseconds: float) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            near, _ = server.accept()
            far = socket.create_connection((host, port))
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for pair in ((near, far), (far, near)):
                threading.Thread(
                    target=_pass_on, args=(*pair, milliseconds / 2000), daemon=True
                ).start()


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
