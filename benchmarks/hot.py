"""Reads of a table that is written all the time, with cachalot and without, on this machine.

    python -m benchmarks.hot
    python -m benchmarks.hot --readers 4 --writes 10 --seconds 5
    python -m benchmarks.hot --postgresql postgresql://postgres@127.0.0.1:5432/hot

Each reader is a process that reads one thing again and again: a row of ``--rows`` by its key or by
its unique name, a list of twenty rows, a list that the database takes long for, or rows by their
names, of which it updates one in ten, as logins do. Beside them one process updates a row by its
key ``--writes`` times a second. Database and cache are SQLite and local memory, or Redis and an
empty database of PostgreSQL. The hits are counted in a run of their own.

On Redis it then counts how often a query of some tenths of a second runs after each write of its
table, once a second: by whoever computes it while the others wait, and where nobody waits.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

from benchmarks.load import in_process, result_of
from benchmarks.shards import servers


def configure(
    database: dict[str, Any],
    location: str | None,
    *,
    is_on: bool,
    counts: bool = False,
    wait_above: float | None = 0.05,
) -> None:
    """Set up Django, once a process."""
    import django
    from django.conf import settings

    backend = "redis.RedisCache" if location else "locmem.LocMemCache"
    cache = {"BACKEND": f"django.core.cache.backends.{backend}", "LOCATION": location or "hot"}
    settings.configure(
        CACHES={"default": cache | ({} if location else {"OPTIONS": {"MAX_ENTRIES": 100_000}})},
        DATABASES={"default": database},
        INSTALLED_APPS=["cachalot", "django.contrib.contenttypes", "django.contrib.auth"],
        CACHALOT_ENABLED=is_on,
        CACHALOT_STATS=counts,
        CACHALOT_WAIT_ABOVE=wait_above,
    )
    django.setup()


def fill(rows: int) -> None:
    from django.contrib.auth.models import User
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    User.objects.all().delete()
    User.objects.bulk_create(
        [User(pk=number, username=f"user{number}") for number in range(1, rows + 1)]
    )


def update(number: int) -> None:
    from django.contrib.auth.models import User

    User.objects.filter(pk=number).update(first_name=str(time.monotonic()))


def row(number: int) -> None:
    from django.contrib.auth.models import User

    if User.objects.get(pk=number).username != f"user{number}":
        raise AssertionError(f"user {number} was read wrongly")


def row_by_name(number: int) -> None:
    from django.contrib.auth.models import User

    if User.objects.get(username=f"user{number}").pk != number:
        raise AssertionError(f"user {number} was read wrongly")


def row_or_login(number: int) -> None:
    row_by_name(number)
    if random.random() < 0.1:
        update(number)


def rows_of_list(number: int) -> None:
    from django.contrib.auth.models import User

    list(User.objects.order_by("pk").filter(is_active=True)[:20])


def dear_list(number: int) -> None:
    from django.contrib.auth.models import User

    list(User.objects.filter(first_name__contains="no").exclude(last_name__contains="x")[:20])


def slow_list() -> None:
    """Have the database compare each row with each."""
    from django.contrib.auth.models import User
    from django.db.models import Exists, OuterRef

    list(User.objects.filter(Exists(User.objects.filter(last_name__gt=OuterRef("username")))))


READS: dict[str, Callable[[int], None]] = {
    "a row by its key": row,
    "a row by its name": row_by_name,
    "a list": rows_of_list,
    "a dear list": dear_list,
    "a row; a login in ten": row_or_login,
}


def read(how: Callable[[int], None], rows: int, seconds: float) -> str:
    """Read for a time. Return the number of reads, and of hits if they are counted."""
    from cachalot.api import get_stats

    chance = random.Random(os.getpid())
    if how is not rows_of_list and how is not dear_list:
        for number in range(1, rows + 1):
            row(number) if how is row else row_by_name(number)
    before = get_stats()
    until, reads = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        how(chance.randint(1, rows))
        reads += 1
    after = get_stats()
    return f"{reads} {after['hits'] - before['hits']}"


def read_slowly(seconds: float) -> str:
    """Read what takes long for a time. Return how often it was queried."""
    from django.db import connection

    ran = 0

    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal ran
        ran += "EXISTS" in sql
        return execute(sql, params, many, context)

    slow_list()
    until = time.monotonic() + seconds
    with connection.execute_wrapper(count):
        while time.monotonic() < until:
            slow_list()
    return str(ran)


def write(writes: float, rows: int, seconds: float) -> str:
    """Update one row after the other, so often a second."""
    chance, began, number = random.Random(0), time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        if number > passed * writes:
            time.sleep(1 / writes)
        else:
            update(chance.randint(1, rows))
            number += 1
    return ""


def started(setting: Callable[[], None], act: Callable[[], str]) -> tuple[int, Any]:
    """Begin to do something in a process of its own, once it is set up."""

    def run() -> str:
        setting()
        return act()

    return in_process(run)


def throughput(options: argparse.Namespace, how: str, setting: Callable[[], None]) -> list[float]:
    """Return reads a second, and the share of them that were hits."""

    # Until the readers have begun.
    writer = started(setting, lambda: write(options.writes, options.rows, options.seconds + 5))
    readers = [
        started(setting, lambda: read(READS[how], options.rows, options.seconds))
        for _ in range(options.readers)
    ]
    results = [result_of(reader).split() for reader in readers]
    result_of(writer)
    reads, hits = (sum(int(line[at]) for line in results) for at in (0, 1))
    return [reads / options.seconds, hits / reads]


def lines(options: argparse.Namespace) -> Iterator[str]:
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        database: dict[str, Any] = {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.path.join(directory, "hot.sqlite3"),
            "OPTIONS": {"timeout": 30},
        }
        location = None
        if options.postgresql:
            url = urlsplit(options.postgresql)
            database = {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": url.path.lstrip("/"),
                "USER": url.username,
                "PASSWORD": url.password,
                "HOST": url.hostname,
                "PORT": url.port,
            }
            location = stack.enter_context(servers(0))[0].location

        def set_up(**settings: Any) -> Callable[[], None]:
            return lambda: configure(database, location, **settings)

        def fill_it() -> str:
            set_up(is_on=False)()
            fill(options.rows)
            return ""

        def repeats(wait_above: float | None) -> float:
            """Return how often the slow query runs after a write."""

            setting, seconds = set_up(is_on=True, wait_above=wait_above), 4 * options.seconds
            readers = [
                started(setting, lambda: read_slowly(seconds)) for _ in range(options.readers)
            ]
            writer = started(setting, lambda: write(1, options.rows, seconds))
            result_of(writer)
            return sum(int(result_of(reader)) for reader in readers) / seconds

        result_of(in_process(fill_it))
        for how in READS:
            plain, _ = throughput(options, how, set_up(is_on=False))
            cached, _ = throughput(options, how, set_up(is_on=True))
            _, hits = throughput(options, how, set_up(is_on=True, counts=True))
            yield f"{how:24} {plain:10.0f} {cached:9.0f} {cached / plain:6.2f} {hits:7.1%}"
        if location is not None:
            yield f"a slow list runs {repeats(None):.1f} times after a write if nobody waits"
            yield f"a slow list runs {repeats(0.05):.1f} times after a write"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.hot",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--readers", type=int, default=8)
    parser.add_argument("--writes", type=float, default=50, help="a second")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--postgresql", help="an empty database, as a URL")
    options = parser.parse_args(arguments)
    print(f"{options.readers} readers, {options.writes:.0f} writes a second")
    print(f"{'reads/s of':24} {'no cache':>10} {'cachalot':>9} {'ratio':>6} {'hits':>7}")
    for line in lines(options):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
