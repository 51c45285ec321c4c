"""When tables were last invalidated, as the cache in use knows it."""

from __future__ import annotations

import datetime
import time
from typing import Any

from django.apps import apps
from django.db import connections
from django.utils.timesince import timesince
from django.utils.timezone import localtime

from cachalot.core.cache.door import guard_of
from cachalot.core.connection.databases import aliases_of_database
from cachalot.core.schema.tables import known_tables
from cachalot.core.schema.version_keys import version_keys
from cachalot.core.sql.names import canonical

_UTC = datetime.timezone.utc


def last_invalidations() -> list[dict[str, Any]]:
    """Return what is known of each table's last invalidation, the latest first.

    Tables that the cache in use has no version of are left out. Nothing is written. Raise what
    the cache raises.
    """
    labels = model_labels()
    places: dict[str, list[tuple[str, str]]] = {}
    for aliases in dict.fromkeys(map(aliases_of_database, connections)):
        for table in known_tables():
            (key,) = version_keys(aliases[0], frozenset([table]))
            places.setdefault(key, []).append((", ".join(aliases), table))
    versions = guard_of().readable_store().invalidated(list(places))
    now = time.time()
    found = []
    for key, (timestamp, is_pending) in versions.items():
        moment = localtime(datetime.datetime.fromtimestamp(timestamp, _UTC))
        for databases, table in places[key]:
            found.append(
                {
                    "databases": databases,
                    "model": labels.get(table, ""),
                    "table": known_tables()[table],
                    "timestamp": timestamp,
                    "moment": moment.isoformat(),
                    "age": _age(timestamp, now),
                    "is_pending": is_pending,
                }
            )
    return sorted(found, key=lambda row: (-row["timestamp"], row["databases"], row["table"]))


def model_labels() -> dict[str, str]:
    """Map each table to the models that live in it."""
    labels: dict[str, list[str]] = {}
    for model in apps.get_models(include_auto_created=True, include_swapped=True):
        if not model._meta.proxy:
            labels.setdefault(canonical(model._meta.db_table), []).append(model._meta.label)
    return {table: ", ".join(names) for table, names in labels.items()}


def _age(timestamp: float, now: float) -> str:
    # Another server's clock may be ahead.
    seconds = max(now - timestamp, 0.0)
    if seconds < 60:
        return f"{seconds:.1f} s ago"
    earlier, later = (datetime.datetime.fromtimestamp(at, _UTC) for at in (timestamp, now))
    return f"{timesince(earlier, later)} ago"
