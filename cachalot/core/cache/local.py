"""The local tier: decoded results in this process.

It decides nothing about freshness. What is in it is used only if the versions of its tables, as
just read from the shared cache, are exactly the ones it was stored under.
"""

from __future__ import annotations

import datetime
import decimal
import sys
import uuid
from collections import OrderedDict
from typing import Any, NamedTuple

from cachalot.core.cache.entries import Hit, Stored, unpack
from cachalot.core.locks import fork_safe_lock
from cachalot.core.outcomes import Outcome
from cachalot.settings import cachalot_settings, forget_on_change

#: Cells that nobody can change in place; subclasses may have attributes.
IMMUTABLE = frozenset(
    {
        *(type(None), bool, int, float, str, bytes, decimal.Decimal, uuid.UUID),
        *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta),
    }
)


class Result(NamedTuple):
    """A result and the versions it was stored under.

    Where a cell could be changed in place, ``stored`` has the payload and each use unpacks its own.
    """

    nonces: tuple[str, ...]
    stored: Stored
    rows: Any
    size: int

    def as_hit(self, *, is_by_rows: bool = False) -> Hit:
        """Return the rows, sharing no more than cells and rows that cannot be changed."""
        if self.stored.payload:
            rows = unpack(self.stored.payload)
        else:
            rows = list(self.rows) if type(self.rows) is list else self.rows
        return Hit(rows, Outcome.LOCAL_HIT, self.stored, self.size, is_by_rows)


class LocalTier:
    """Results by key, bounded in bytes; the least recently used go first."""

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        self._results: OrderedDict[str, Result] = OrderedDict()
        self.size = 0

    def __len__(self) -> int:
        return len(self._results)

    def get(self, key: str) -> Result | None:
        """Return what is kept under ``key``, whatever its versions."""
        with self._lock:
            result = self._results.get(key)
            if result is not None:
                self._results.move_to_end(key)
            return result

    def put(self, key: str, nonces: tuple[str, ...], stored: Stored, rows: Any) -> None:
        """Keep ``rows``, just unpacked from ``stored``, if ``CACHALOT_LOCAL_SIZE`` allows."""
        limit = cachalot_settings.CACHALOT_LOCAL_SIZE
        size = _size_of(rows)
        result = (
            Result(nonces, stored, None, len(stored.payload))
            if size is None
            else Result(nonces, stored._replace(payload=b""), rows, size)
        )
        with self._lock:
            self._drop(key)
            if result.size > limit:
                return
            self._results[key] = result
            self.size += result.size
            while self.size > limit:
                self._drop(next(iter(self._results)))

    def discard(self, key: str) -> None:
        """Forget what is kept under ``key``."""
        with self._lock:
            self._drop(key)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._results.clear()
            self.size = 0

    def _drop(self, key: str) -> None:
        result = self._results.pop(key, None)
        if result is not None:
            self.size -= result.size


def _size_of(rows: Any) -> int | None:
    """Return the bytes that ``rows`` take in memory, None if a cell can be changed in place."""
    size = sys.getsizeof(rows)
    for row in rows if type(rows) is list else [rows] if rows is not None else []:
        if type(row) is not tuple or not IMMUTABLE.issuperset(map(type, row)):
            return None
        size += sys.getsizeof(row) + sum(map(sys.getsizeof, row))
    return size


local_tier = LocalTier()
forget_on_change(local_tier.clear)
