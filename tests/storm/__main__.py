"""The program."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile

import django
from django.conf import settings
from django.core.cache import caches
from django.db import connection

import tests.storm
from cachalot.core.cache import board as versions_board
from cachalot.core.cache import guard, raw, versions
from tests.storm import caches as kinds
from tests.storm import forgetful
from tests.storm.board import ROWS, Board, Plan, counter_table
from tests.storm.caches import FileCache
from tests.storm.monkey import Storm
from tests.storm.report import report

CACHES: dict[str, type[FileCache]] = {**kinds.CACHES, **forgetful.CACHES}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=tests.storm.__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--readers", type=int, default=8)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--tables", type=int, help="by default one for each writer")
    parser.add_argument(
        "--database", default="postgresql", choices=("postgresql", "mysql", "sqlite")
    )
    parser.add_argument("--cache", default="redis", choices=list(CACHES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=float, default=2, help="of writers a second")
    parser.add_argument("--damage", type=float, default=1, help="to the cache: 0 is none")
    parser.add_argument("--pause", type=float, default=0.03, help="seconds between two writes")
    parser.add_argument(
        "--pending-seconds", type=int, default=3, help="after which a mark expires; else 300"
    )
    parser.add_argument(
        "--rest-seconds", type=float, default=0.5, help="after a failure of the cache; else 5"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    # Whatever ends the program, its server and its database go with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    name = f"cachalot_storm_{os.getpid()}"
    directory = tempfile.mkdtemp(prefix="cachalot-storm-")
    is_file = options.database == "sqlite"
    os.environ.update(
        CACHALOT_TEST_DB=options.database,
        CACHALOT_TEST_CACHE=getattr(CACHES[options.cache], "backend", options.cache),
        CACHALOT_TEST_WAIT_ABOVE="0",
        CACHALOT_TEST_BOARD=os.path.join(directory, "board"),
        CACHALOT_TEST_NAME=os.path.join(directory, "storm.sqlite3") if is_file else name,
        DJANGO_SETTINGS_MODULE="tests.settings",
    )
    cache = CACHES[options.cache](directory, random.Random(options.seed))
    try:
        cache.start()
        try:
            return in_database(options, None if is_file else name, directory, cache)
        finally:
            cache.stop()
    finally:
        shutil.rmtree(directory)


def in_database(
    options: argparse.Namespace, name: str | None, directory: str, cache: FileCache
) -> int:
    settings.CACHES["default"].update(cache.settings())
    django.setup()
    # So that a storm of a minute sees what otherwise takes five.
    raw.PENDING_TIMEOUT = versions.PENDING_TIMEOUT = options.pending_seconds
    # Raw sides have not been imported yet.
    assert not any(name.startswith("cachalot.core.cache.redis") for name in sys.modules)
    versions_board._WINDOW = options.pending_seconds * 10**9 // 3
    guard.REST_SECONDS = options.rest_seconds
    tables = tuple(map(counter_table, range(options.tables or options.writers)))
    plan = Plan(tables, options.writers, options.readers, options.seed, options.pause)
    log_path = os.path.join(directory, "log")
    board = Board(plan, log_path)
    if name is not None:
        with connection._nodb_cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
    try:
        with connection.schema_editor() as editor:
            for table in tables:
                editor.create_model(table)
        for row in range(plan.writers * ROWS):
            tables[plan.table_of_row(row)].objects.create(pk=row, n=0, code=row)
        # Nothing that is open may be inherited.
        connection.close()
        caches["default"].close()
        storm = Storm(options, plan, board, cache)
        storm.run()
        with open(log_path) as lines:
            log = [json.loads(line) for line in lines]
        return report(storm, log)
    finally:
        connection.close()
        if name is not None:
            force = " WITH (FORCE)" if connection.vendor == "postgresql" else ""
            with connection._nodb_cursor() as cursor:
                cursor.execute(f"DROP DATABASE {name}{force}")


if __name__ == "__main__":
    sys.exit(main())
