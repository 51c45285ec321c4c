"""What the processes of a storm agree on, and what they tell each other."""

from __future__ import annotations

import json
import mmap
import os
import time
from typing import Any, NamedTuple

from django.db import models

#: Rows of each writer.
ROWS = 3
#: Added to what is always rolled back: nobody else may see so high a number.
UNCOMMITTED = 10**12


def counter_table(number: int) -> Any:
    """Return a new model with a table of its own. Django must be set up."""

    class Meta:
        app_label = "library"

    attributes = {
        # MySQL has no row 0 where it numbers the rows itself.
        "id": models.IntegerField(primary_key=True),
        "n": models.BigIntegerField(),
        # At first that of the row itself. Rows of one writer exchange theirs.
        "code": models.IntegerField(unique=True),
        "Meta": Meta,
        "__module__": __name__,
    }
    return type(f"Counter{number}", (models.Model,), attributes)


class Plan(NamedTuple):
    """What all processes of one storm agree on."""

    tables: tuple[Any, ...]
    writers: int
    readers: int
    seed: int
    pause: float

    def table_of_writer(self, writer: int) -> int:
        return writer * len(self.tables) // self.writers

    def rows_of_writer(self, writer: int) -> range:
        return range(writer * ROWS, (writer + 1) * ROWS)

    def rows_of_table(self, table: int) -> list[int]:
        return [row for row in range(self.writers * ROWS) if self.table_of_row(row) == table]

    def table_of_row(self, row: int) -> int:
        return self.table_of_writer(row // ROWS)


class Board:
    """Numbers shared by the processes without the database and the cache, and a common log.

    ``attempted`` is set before a write, ``returned`` after it, and ``released`` after it if its
    new versions are in the cache: a read that begins later must not see less. ``survived`` is
    what the successor of a killed writer found in the database.
    """

    def __init__(self, plan: Plan, log_path: str) -> None:
        rows = plan.writers * ROWS
        sizes = {
            "attempted": rows,
            "returned": rows,
            "released": rows,
            "survived": rows,
            "is_writing": plan.writers,
            "is_owing": plan.writers,
            "writes": plan.writers,
            "refused": plan.writers + plan.readers,
            "reads": plan.readers,
            "hits": plan.readers,
            "is_over": 1,
        }
        # An aligned number of 8 bytes is written and read as a whole.
        self._numbers = memoryview(mmap.mmap(-1, 8 * sum(sizes.values()))).cast("q")
        start = 0
        for name, size in sizes.items():
            setattr(self, name, self._numbers[start : start + size])
            start += size
        self._log = os.open(log_path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        self._owner = os.getpid()

    attempted: memoryview
    returned: memoryview
    released: memoryview
    survived: memoryview
    is_writing: memoryview
    is_owing: memoryview
    writes: memoryview
    refused: memoryview
    reads: memoryview
    hits: memoryview
    is_over: memoryview

    def goes_on(self) -> bool:
        return not self.is_over[0] and os.getppid() == self._owner

    def log(self, what: str, **facts: Any) -> None:
        """Append a line at once: the process may be killed at any moment."""
        line = json.dumps({"what": what, "at": time.monotonic(), **facts})
        os.write(self._log, line.encode() + b"\n")
