"""What this process has counted of its reads and invalidations, if it is to count."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from django.apps import apps

from cachalot.core import events
from cachalot.core.cache.door import guard_of, path_of_board
from cachalot.core.cache.local import local_tier
from cachalot.core.events import Block, Event, Invalidation, Read
from cachalot.core.interruptions import is_interruption
from cachalot.core.locks import fork_safe_lock
from cachalot.core.outcomes import Outcome
from cachalot.settings import cachalot_settings, follow

logger = logging.getLogger("cachalot")

#: Seconds between two publications of one process.
PUBLISH_SECONDS = 5.0

#: Seconds for which the numbers of a process that has fallen silent are shown.
PUBLISHED_TIMEOUT = 3600

#: A cache cannot list its keys: here are the processes whose numbers it has. Two that publish at
#: the same moment may lose one of them, which comes back with its next publication.
PROCESSES_KEY = "cachalot:stats"

#: The app whose page shows what all processes have counted.
PAGE_APP = "cachalot.contrib.admin"

#: Minutes in which something happened whose numbers are kept apart, the latest ones.
MAX_MINUTES = 60

#: Reasons counted apart for one table. Some name a value, so there is no end to them.
MAX_REASONS = 30

#: The reason of all that come after those.
OTHER_REASONS = "of other reasons"


class Counts:
    """Numbers of one table, or of all."""

    __slots__ = ("hits", "invalidations", "local_hits", "misses", "refusals", "row_hits")

    def __init__(self) -> None:
        self.hits = self.local_hits = self.row_hits = self.misses = self.invalidations = 0
        self.refusals: dict[str, int] = {}

    def add(self, read: Read | Block, *, is_by_rows: bool = False) -> None:
        """Count one read, or one use of a block."""
        if read.outcome.is_hit:
            self.hits += 1
            self.row_hits += is_by_rows
            self.local_hits += read.outcome is Outcome.LOCAL_HIT
        elif read.outcome is Outcome.MISS:
            self.misses += 1
        else:
            reason = read.reason or read.outcome.value
            if reason not in self.refusals and len(self.refusals) >= MAX_REASONS:
                reason = OTHER_REASONS
            self.refusals[reason] = self.refusals.get(reason, 0) + 1

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers as plain values."""
        reads = self.hits + self.misses
        return {
            "hits": self.hits,
            "local_hits": self.local_hits,
            "row_hits": self.row_hits,
            "misses": self.misses,
            "refusals": dict(self.refusals),
            "invalidations": self.invalidations,
            "hit_rate": self.hits / reads if reads else None,
        }


class Statistics:
    """Counts what one process does, and publishes it in the cache from time to time."""

    def __init__(
        self,
        time_function: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._time = time_function
        self._monotonic = monotonic
        self._lock = fork_safe_lock()
        self.reset()

    def reset(self) -> None:
        """Start from nothing, as another process: a fork must not count what its parent did."""
        self._since = self._time()
        self._published_at: float | None = None
        self._totals = Counts()
        self._tables: dict[str, dict[str, Counts]] = {}
        self._minutes: deque[dict[str, int]] = deque(maxlen=MAX_MINUTES)
        self._blocks: dict[str, Counts] = {}
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        # A number of a process may be given again.
        self._key = f"{PROCESSES_KEY}:{self.name}:{secrets.token_hex(4)}"

    def note(self, event: Event) -> None:
        """Count an event; a query of several tables counts for each, and once in the totals."""
        with self._lock:
            if isinstance(event, Block):
                self._blocks.setdefault(event.name, Counts()).add(event)
            else:
                self._add(event)
            now = self._monotonic()
            if self._published_at is not None and now - self._published_at < PUBLISH_SECONDS:
                return
            self._published_at = now
        self.publish()

    def _minute(self) -> dict[str, int]:
        """Return the numbers of this minute."""
        at = int(self._time()) // 60 * 60
        if not self._minutes or self._minutes[-1]["at"] != at:
            self._minutes.append(
                {"at": at, "hits": 0, "misses": 0, "refusals": 0, "invalidations": 0}
            )
        return self._minutes[-1]

    def _add(self, event: Read | Invalidation) -> None:
        tables = self._tables.setdefault(event.db_alias, {})
        counts = [tables.setdefault(table, Counts()) for table in event.tables]
        minute = self._minute()
        if isinstance(event, Invalidation):
            minute["invalidations"] += len(counts)
            self._totals.invalidations += len(counts)
            for count in counts:
                count.invalidations += 1
        else:
            minute[_kind(event.outcome)] += 1
            self._totals.add(event, is_by_rows=bool(event.rows))
            of_rows = {table for table, _ in event.rows}
            for table, count in zip(event.tables, counts, strict=True):
                count.add(event, is_by_rows=table in of_rows)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        board = path_of_board()
        with self._lock:
            return {
                "is_on": is_counting(),
                "process": self.name,
                "since": self._since,
                "at": self._time(),
                **self._totals.as_dict(),
                "local_tier": {"bytes": local_tier.size, "results": len(local_tier)},
                "board": board,
                "tables": {
                    db_alias: {table: counts.as_dict() for table, counts in sorted(tables.items())}
                    for db_alias, tables in self._tables.items()
                },
                "minutes": [dict(minute) for minute in self._minutes],
                "blocks": {
                    name: {
                        name_of_number: number
                        for name_of_number, number in counts.as_dict().items()
                        if name_of_number not in {"invalidations", "row_hits"}
                    }
                    for name, counts in sorted(self._blocks.items())
                },
            }

    def publish(self) -> None:
        """Put the numbers where other processes find them. Raise nothing of the cache's."""
        try:
            cache = guard_of().readable_store().cache
            cache.set(self._key, self.as_dict(), PUBLISHED_TIMEOUT)
            keys = cache.get(PROCESSES_KEY) or ()
            if self._key not in keys:
                # Without those whose numbers have expired.
                known = cache.get_many(keys)
                cache.set(PROCESSES_KEY, sorted({*known, self._key}), None)
        except Exception as error:
            if is_interruption(error):
                raise
            # Queries will meet the same failure, and say so.
            logger.debug("The statistics could not be published: %r", error)


def _kind(outcome: Outcome) -> str:
    if outcome.is_hit:
        return "hits"
    return "misses" if outcome is Outcome.MISS else "refusals"


def is_counting() -> bool:
    """Whether this process counts: ``CACHALOT_STATS`` is on, or there is the page in the admin."""
    # Settings may be read before the apps are there; the page's app asks again then.
    return bool(cachalot_settings.CACHALOT_STATS) or (
        apps.apps_ready and apps.is_installed(PAGE_APP)
    )


statistics = Statistics()


def get_stats() -> dict[str, Any]:
    """Return what this process has counted since it began to.

    It counts if ``CACHALOT_STATS`` is on, or ``cachalot.contrib.admin`` is installed.

    ``is_on`` tells whether it counts now, ``process`` names it, ``since`` and ``at`` are seconds
    since the epoch. ``hits`` (``local_hits`` of them without unpacking, ``row_hits`` of them by
    rows in place of their table), ``misses``, ``refusals`` (a number by reason: not cached, not
    stored, not here and now), ``invalidations`` and ``hit_rate`` (hits among hits and misses; None
    without any) are of all tables together; ``tables`` has the same by database alias and table. A
    query of several tables counts for each of them. ``blocks`` has the uses of cached functions,
    views and fragments by their names; their reads count above. ``local_tier`` has the ``bytes``
    and the number of ``results`` kept in the process, ``board`` the file in which local memory
    shares its versions, None for another cache. ``minutes`` has the numbers of the last 60 minutes
    in which there were any, ``at`` the beginning of each; ``refusals`` is one number there.
    """
    return statistics.as_dict()


def follow_settings() -> None:
    """Count if this process is to, and only then."""
    if is_counting():
        events.listen(statistics.note)
    else:
        events.stop_listening(statistics.note)


follow(follow_settings)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=statistics.reset)
