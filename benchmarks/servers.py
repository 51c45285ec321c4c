"""The memcached that the command starts for itself."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

_SECONDS_TO_START = 10


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@contextmanager
def own_memcached() -> Iterator[str]:
    """Start a memcached on a free port, yield its address, and stop it.

    Raise ``RuntimeError`` if there is none to start.
    """
    if shutil.which("memcached") is None:
        raise RuntimeError("There is no memcached to start; name one with --memcached.")
    port = _free_port()
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    process = subprocess.Popen(
        ["memcached", "-l", "127.0.0.1", "-p", str(port), "-m", "1024", *user],
        stdin=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + _SECONDS_TO_START
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("memcached does not start.") from None
                time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
