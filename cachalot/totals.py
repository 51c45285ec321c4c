"""What all processes have counted, as they have last published it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.cache.backends.dummy import DummyCache

from cachalot.core.cache.backends import lies_in_database, lies_in_process
from cachalot.core.cache.keyspace import cache_of
from cachalot.core.statistics import PROCESSES_KEY, Counts
from cachalot.settings import cachalot_settings


def published() -> list[dict[str, Any]] | None:
    """Return what ``get_stats()`` has returned in each process, by the name of the process.

    None stands for a cache in use that other processes cannot see, or that keeps nothing. Raise
    what the cache raises.
    """
    # The keys that are published under do not depend on who asks.
    cache = cache_of(cachalot_settings.CACHALOT_CACHE)
    if lies_in_process(cache) or lies_in_database(cache) or isinstance(cache, DummyCache):
        return None
    found = cache.get_many(cache.get(PROCESSES_KEY) or ())
    return sorted(found.values(), key=lambda stats: (stats["process"], stats["since"]))


def summed(counts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the sum of several counts, each as ``Counts.as_dict()`` gives it, as one of them."""
    total = Counts()
    for count in counts:
        total.hits += count["hits"]
        total.local_hits += count["local_hits"]
        total.row_hits += count["row_hits"]
        total.misses += count["misses"]
        total.invalidations += count["invalidations"]
        for reason, number in count["refusals"].items():
            total.refusals[reason] = total.refusals.get(reason, 0) + number
    return total.as_dict()


def by_table(processes: Iterable[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Map alias and table to the sum of what the processes have counted of it."""
    tables: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for stats in processes:
        for db_alias, of_database in stats["tables"].items():
            for table, counts in of_database.items():
                tables.setdefault((db_alias, table), []).append(counts)
    return {name: summed(counts) for name, counts in sorted(tables.items())}


def by_block(processes: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Map the name of each block to the sum of what the processes have counted of it."""
    blocks: dict[str, list[dict[str, Any]]] = {}
    for stats in processes:
        for name, counts in stats["blocks"].items():
            blocks.setdefault(name, []).append({**counts, "invalidations": 0, "row_hits": 0})
    return {name: summed(counts) for name, counts in sorted(blocks.items())}
