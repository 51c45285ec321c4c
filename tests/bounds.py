"""Print what large work costs in time and memory: ``python -m tests.bounds``.

The environment chooses database and cache, as for the suite. Each figure is of a process of its
own; the database is made for it and dropped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import django
from django.core.cache import caches
from django.db import connection, transaction

READS, ROWS, TABLES = 100_000, 1_000_000, 10_000


def many_reads(size: int) -> dict[str, Any]:
    """Read ``size`` distinct results in one transaction."""
    from cachalot.core.connection.state import state_of
    from tests.library.models import Author

    with transaction.atomic():
        for number in range(size):
            list(Author.objects.filter(pk=number))
        overlay = state_of(connection).transaction.overlay
        levels = overlay.levels if overlay is not None else []
        kept = [entry for level in levels for entry in level.entries.values()]
        megabytes = peak_megabytes()
        commit_from = time.perf_counter()
    return {
        "MB in all before the COMMIT": round(megabytes, 1),
        "entries kept": len(kept),
        "their payload in KB": sum(len(entry.payload) for entry in kept) // 1024,
        "seconds of the COMMIT": round(time.perf_counter() - commit_from, 2),
    }


def many_rows(size: int) -> dict[str, Any]:
    """Pass through the rows of one query."""
    from tests.library.models import Author

    return {"rows": sum(1 for _ in Author.objects.iterator())}


def many_tables(size: int) -> dict[str, Any]:
    """Ask for the last invalidation of many tables, unknown to the cache and known to it."""
    from cachalot.api import get_last_invalidation

    tables = [f"table_{number}" for number in range(size)]
    cold_from = time.perf_counter()
    get_last_invalidation(*tables, cache_alias="default", db_alias="default")
    warm_from = time.perf_counter()
    get_last_invalidation(*tables, cache_alias="default", db_alias="default")
    return {
        "seconds cold": round(warm_from - cold_from, 3),
        "seconds warm": round(time.perf_counter() - warm_from, 3),
    }


PARTS: dict[str, tuple[Callable[[int], dict[str, Any]], int]] = {
    "reads": (many_reads, READS),
    "rows": (many_rows, ROWS),
    "tables": (many_tables, TABLES),
}


def fill(rows: int) -> None:
    """Give the table of authors ``rows`` rows."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO library_author (name) VALUES ('a name of some length')")
        present = 1
        while present < rows:
            cursor.execute(
                "INSERT INTO library_author (name) "
                f"SELECT name FROM library_author LIMIT {min(present, rows - present)}"
            )
            present += min(present, rows - present)


def peak_megabytes() -> float:
    """Return the most memory that this process has had (Linux; getrusage() counts its parent's)."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line) / 1024


def measure(part: str, size: int, is_cached: bool) -> dict[str, Any]:
    from cachalot.api import cachalot_disabled

    caches["default"].clear()
    function, _ = PARTS[part]
    connection.ensure_connection()
    before, began = peak_megabytes(), time.perf_counter()
    with nullcontext() if is_cached else cachalot_disabled():
        figures = function(size)
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "MB above the start": round(peak_megabytes() - before, 1),
        **figures,
    }


def measure_elsewhere(part: str, size: int, is_cached: bool) -> dict[str, Any]:
    arguments = [part, "--here", "--size", str(size)]
    finished = subprocess.run(
        [sys.executable, "-m", "tests.bounds", *arguments, *([] if is_cached else ["--uncached"])],
        env={**os.environ, "CACHALOT_TEST_NAME": str(connection.settings_dict["NAME"])},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    figures: dict[str, Any] = json.loads(finished.stdout)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="by default all")
    parser.add_argument("--size", type=int, help="reads, rows or tables")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--uncached", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    if options.here:
        (part,) = options.parts
        print(json.dumps(measure(part, options.size, not options.uncached)))
        return
    parts = options.parts or list(PARTS)
    name = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        if "rows" in parts:
            fill(options.size or ROWS)
        connection.close()
        for part in parts:
            for is_cached in (True, False):
                figures = measure_elsewhere(part, options.size or PARTS[part][1], is_cached)
                print(part, "with cachalot" if is_cached else "without", figures, flush=True)
    finally:
        connection.creation.destroy_test_db(name, verbosity=0)


if __name__ == "__main__":
    main()
