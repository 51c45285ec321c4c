"""Throughput by number of worker processes and of cache servers, on this machine.

    python -m benchmarks.load
    python -m benchmarks.load --workers 1 4 --shards 0 3 --seconds 5

Each worker reads one row after the other by its key, out of ``--rows``, all of them cached, without
the local tier: each read asks the cache for its versions and its rows. ``--shards 0`` is one Redis,
1 to 3 are the primaries of a Redis Cluster. Processor time of workers, servers and the machine
(Linux) tells what limits the throughput. Then it prints what one read, one write, one entry and one
version cost, from which a larger site can be planned.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.shards import Server, servers

CLUSTER = "cachalot.contrib.redis_cluster.RedisClusterCache"
#: The share of its cores, or of one core for a server, above which a machine is taken for busy.
BUSY = 0.85


def configure(running: list[Server], is_cluster: bool, database: str) -> None:
    """Set up Django, once a process."""
    import django
    from django.conf import settings

    backend = CLUSTER if is_cluster else "django.core.cache.backends.redis.RedisCache"
    settings.configure(
        CACHES={
            "default": {"BACKEND": backend, "LOCATION": [server.location for server in running]}
        },
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database}},
        INSTALLED_APPS=["cachalot", "django.contrib.contenttypes", "django.contrib.auth"],
        CACHALOT_LOCAL_SIZE=0,
    )
    django.setup()


def read(number: int) -> None:
    from django.contrib.auth.models import Group

    if list(Group.objects.filter(pk=number).values_list("name")) != [(f"Group {number}",)]:
        raise AssertionError(f"group {number} was read wrongly")


def fill(rows: int) -> None:
    from django.contrib.auth.models import Group
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    Group.objects.bulk_create(
        [Group(pk=number, name=f"Group {number}") for number in range(1, rows + 1)]
    )
    for _ in range(2):
        for number in range(1, rows + 1):
            read(number)


def in_process(act: Callable[[], str]) -> tuple[int, Any]:
    """Fork; return the child, and where to read the line that it writes."""
    source, target = os.pipe()
    child = os.fork()
    if child:
        os.close(target)
        return child, os.fdopen(source)
    status = 1
    try:
        os.write(target, act().encode())
        status = 0
    finally:
        os._exit(status)


def result_of(started: tuple[int, Any]) -> str:
    child, source = started
    with source:
        line: str = source.read()
    if os.waitpid(child, 0)[1]:
        raise SystemExit("a process of the load test failed")
    return line


def work(seconds: float, rows: int) -> str:
    """Read for a time. Return the number of reads and the processor time of this process."""
    chance = random.Random(os.getpid())
    read(1)
    before = resource.getrusage(resource.RUSAGE_SELF)
    until, reads = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        read(chance.randint(1, rows))
        reads += 1
    after = resource.getrusage(resource.RUSAGE_SELF)
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"{reads} {took}"


def idle_seconds() -> float:
    """Return the processor time for which this machine has had nothing to do (Linux)."""
    words = Path("/proc/stat").read_text().split(maxsplit=5)
    return int(words[4]) / os.sysconf("SC_CLK_TCK")


def limit_of(used: float, busiest: float, idle: float, cores: int) -> str:
    """Say what limits the throughput. All are numbers of cores."""
    if busiest > BUSY:
        return "one thread of a server"
    if idle > (1 - BUSY) * cores:
        return "waiting for answers: more workers do more"
    return "the cores" if used > BUSY * cores else "the cores, which others use as well"


def measure(running: list[Server], workers: int, seconds: float, rows: int) -> str:
    before = [server.processor_seconds() for server in running]
    began, idle = time.monotonic(), idle_seconds()
    started = [in_process(lambda: work(seconds, rows)) for _ in range(workers)]
    results = [result_of(one).split() for one in started]
    passed = time.monotonic() - began
    idle = (idle_seconds() - idle) / passed
    spent = [
        (server.processor_seconds() - then) / passed
        for server, then in zip(running, before, strict=True)
    ]
    reads = sum(int(number) for number, _ in results) / seconds
    busy = sum(float(took) for _, took in results) / passed
    limit = limit_of(busy + sum(spent), max(spent), idle, os.cpu_count() or 1)
    return f"{workers:7} {reads:9.0f} {busy:13.2f} {sum(spent):13.2f} {max(spent):13.2f}   {limit}"


def figures(server: Server, rows: int) -> str:
    """Return what one read, write, entry and version cost, on one Redis."""
    from django.contrib.auth.models import Group
    from django.core.cache import caches

    def commands(act: Callable[[], object], times: int) -> float:
        def processed() -> int:
            told: Any = server.client.info("stats")
            return int(told["total_commands_processed"])

        before = processed()
        for _ in range(times):
            act()
        return (processed() - before - 1) / times

    def memory() -> int:
        told: Any = server.client.info("memory")
        return int(told["used_memory"])

    hit = commands(lambda: read(1), 500)
    write = commands(lambda: Group.objects.filter(pk=1).update(name="Group 1"), 100)
    caches["default"].clear()
    read(1)
    before = memory()
    for number in range(2, rows + 1):
        read(number)
    entry = (memory() - before) / (rows - 1)
    before = memory()
    for number in range(1000):
        caches["default"].set(f"version:{number}:" + "x" * 24, (1.5, "0" * 32), None)
    version = (memory() - before) / 1000
    return (
        f"a hit: {hit:.2f} commands; a write: {write:.2f} commands\n"
        f"an entry of one short row: {entry:.0f} bytes; a version: {version:.0f} bytes"
    )


def of_stack(shards: int, options: argparse.Namespace) -> Iterator[str]:
    with servers(shards) as running, tempfile.TemporaryDirectory() as directory:
        database = os.path.join(directory, "load.sqlite3")

        def prepared(act: Callable[[], str]) -> str:
            def run() -> str:
                configure(running, shards > 0, database)
                return act()

            return result_of(in_process(run))

        def fill_it() -> str:
            fill(options.rows)
            return ""

        prepared(fill_it)
        for workers in options.workers:
            yield prepared(lambda: measure(running, workers, options.seconds, options.rows))  # noqa: B023
        if not shards:
            yield prepared(lambda: figures(running[0], options.rows))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--shards", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rows", type=int, default=2000)
    options = parser.parse_args(arguments)
    for shards in options.shards:
        print(f"\n{f'Redis Cluster, {shards} shards' if shards else 'one Redis'}")
        print("workers   reads/s  worker cores  server cores  busiest server   limited by")
        for line in of_stack(shards, options):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
