"""The figures of the page, and where its plots have their bars."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.utils.timezone import localtime

from cachalot.api import get_stats
from cachalot.core.connection.databases import aliases_of_database
from cachalot.core.interruptions import is_interruption
from cachalot.core.sql.names import canonical
from cachalot.core.statistics import statistics
from cachalot.invalidations import last_invalidations, model_labels
from cachalot.settings import cachalot_settings
from cachalot.totals import by_table, published, summed

logger = logging.getLogger("cachalot")

#: Minutes that the plot of the last hour shows, this one included.
MINUTES = 60

#: Width and height of the plot of the last hour, in units of its own.
_COLUMN_WIDTH, _HEIGHT = 10, 100

_KINDS = ("hits", "misses", "refusals")
_NAMES = {"hits": "hits", "misses": "misses", "refusals": "not cached"}


def figures() -> dict[str, Any]:
    """Return what the page shows: plain values, those of plots as texts."""
    of_all, problem = _published()
    processes = [get_stats()] if of_all is None else of_all
    total = summed(processes)
    reasons = sorted(total["refusals"].items(), key=lambda item: (-item[1], item[0]))
    return {
        "cache_alias": cachalot_settings.CACHALOT_CACHE,
        "problem": problem,
        "is_shared": of_all is not None,
        "since": min((_moment(stats["since"]) for stats in processes), default=None),
        "total": _row(total),
        "local_bytes": sum(stats["local_tier"]["bytes"] for stats in processes),
        "local_limit": cachalot_settings.CACHALOT_LOCAL_SIZE,
        "reasons": [{"reason": reason, "number": number} for reason, number in reasons],
        "tables": _tables(processes),
        "processes": [_process(stats) for stats in processes],
        "hour": _hour(processes),
        "names": _names(),
    }


def _published() -> tuple[list[dict[str, Any]] | None, str]:
    """Return what all processes have published, this one just now; or what the cache raises."""
    try:
        statistics.publish()
        return published(), ""
    except Exception as error:
        if is_interruption(error):
            raise
        return None, f"{type(error).__name__}: {error}"


def _row(counts: dict[str, Any]) -> dict[str, Any]:
    """Return numbers, the rate in percent, and the bar of all reads."""
    refused = sum(counts["refusals"].values())
    rate = counts["hit_rate"]
    return {
        "hits": counts["hits"],
        "local_hits": counts["local_hits"],
        "row_hits": counts["row_hits"],
        "misses": counts["misses"],
        "refusals": refused,
        "invalidations": counts["invalidations"],
        "reads": counts["hits"] + counts["misses"] + refused,
        "rate": None if rate is None else 100 * rate,
        "bar": _bar({"hits": counts["hits"], "misses": counts["misses"], "refusals": refused}),
    }


def _bar(numbers: dict[str, int]) -> list[dict[str, str]]:
    """Return the parts of a bar, in percent from the left."""
    whole = sum(numbers[kind] for kind in _KINDS)
    parts, start = [], 0.0
    for kind in _KINDS:
        if numbers[kind]:
            width = 100 * numbers[kind] / whole
            parts.append({"kind": kind, "x": f"{start:.3f}", "width": f"{width:.3f}"})
            start += width
    return parts


def _process(stats: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": stats["process"],
        "is_this": stats["process"] == statistics.name,
        "since": _moment(stats["since"]),
        "seen": _moment(stats["at"]),
        **_row(stats),
        "local_bytes": stats["local_tier"]["bytes"],
        "local_results": stats["local_tier"]["results"],
    }


def _tables(processes: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return counts and last invalidation of each table, what is read most first."""
    counts: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for (db_alias, table), of_table in by_table(processes).items():
        counts.setdefault((_databases(db_alias), table), []).append(of_table)
    try:
        last = {(row["databases"], row["table"]): row for row in last_invalidations()}
    except Exception as error:
        if is_interruption(error):
            raise
        logger.debug("The last invalidations are not known: %r", error)
        last = {}
    labels = model_labels()
    rows = [
        {
            "databases": databases,
            "table": table,
            "model": labels.get(canonical(table), ""),
            **_row(summed(counts.get((databases, table), ()))),
            "last": last.get((databases, table)),
        }
        for databases, table in counts.keys() | last.keys()
    ]
    return sorted(rows, key=lambda row: (-row["reads"], row["databases"], row["table"]))


def _databases(db_alias: str) -> str:
    return ", ".join(aliases_of_database(db_alias))


def _hour(processes: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the columns of the last hour, a minute each, drawn to the highest of them."""
    latest = int(time.time()) // 60 * 60
    minutes = [latest - 60 * ago for ago in reversed(range(MINUTES))]
    numbers = {at: dict.fromkeys(_KINDS, 0) for at in minutes}
    for stats in processes:
        for minute in stats["minutes"]:
            if minute["at"] in numbers:
                for kind in _KINDS:
                    numbers[minute["at"]][kind] += minute[kind]
    highest = max(sum(of_minute.values()) for of_minute in numbers.values())
    return {
        "columns": [
            {
                "x": str(_COLUMN_WIDTH * place),
                "title": _title(at, numbers[at]),
                "parts": _parts(numbers[at], highest),
            }
            for place, at in enumerate(minutes)
        ],
        "highest": highest,
        "width": str(_COLUMN_WIDTH * MINUTES),
        "height": str(_HEIGHT),
        "begin": _moment(minutes[0]),
        "end": _moment(latest),
    }


def _parts(numbers: dict[str, int], highest: int) -> list[dict[str, str]]:
    """Return the parts of a column, hits at the bottom."""
    parts, top = [], float(_HEIGHT)
    for kind in _KINDS:
        if numbers[kind]:
            height = _HEIGHT * numbers[kind] / highest
            top -= height
            parts.append({"kind": kind, "y": f"{top:.3f}", "height": f"{height:.3f}"})
    return parts


def _title(at: int, numbers: dict[str, int]) -> str:
    told = ", ".join(f"{numbers[kind]} {_NAMES[kind]}" for kind in _KINDS)
    return f"{_moment(at):%H:%M}: {told}"


def _names() -> list[str]:
    """Return what may be named, to be completed while it is typed."""
    labels = {
        model._meta.label
        for model in apps.get_models()
        if not model._meta.proxy and not model._meta.swapped
    }
    return sorted({*labels, *apps.app_configs})


def _moment(timestamp: float) -> datetime.datetime:
    return localtime(datetime.datetime.fromtimestamp(timestamp, datetime.timezone.utc))
