"""What the calls to the cache take that an operation cannot do without."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.cache import cache
from django.db.models.sql.compiler import SQLCompiler

#: Of the shape of a table's version.
_VERSION = (1_700_000_000.123456, "0123456789abcdef0123456789abcdef")

#: Tables and bytes of one query's result.
Shape = tuple[int, int]


@contextmanager
def _recorded() -> Iterator[list[Shape]]:
    shapes: list[Shape] = []
    execute_sql = SQLCompiler.execute_sql

    def recording(self: SQLCompiler, *args: Any, **kwargs: Any) -> Any:
        result = execute_sql(self, *args, **kwargs)
        # The references that compiling has counted are no longer counted.
        tables = {source.table_name for source in self.query.alias_map.values()}
        shapes.append((len(tables), len(pickle.dumps(result, pickle.HIGHEST_PROTOCOL))))
        return result

    SQLCompiler.execute_sql = recording
    try:
        yield shapes
    finally:
        SQLCompiler.execute_sql = execute_sql


def _keys(tables: int) -> list[str]:
    return [f"reference:{number}" for number in range(tables)]


def shapes_of(read: Callable[[], object]) -> list[Shape]:
    """Return the shape of each query that a read runs."""
    with _recorded() as shapes:
        read()
    return shapes


def references_of(shapes: list[Shape]) -> dict[str, Callable[[], object]]:
    """Return what a read of these queries asks of the cache, by name.

    "hit" is, for each query, one ``get_many()`` of the versions of its tables; "miss" is that and
    one ``set()`` that stores the result.
    """
    keys = [_keys(tables) for tables, _ in shapes]
    payloads = [b"x" * size for _, size in shapes]

    def hit() -> None:
        for tables in keys:
            cache.get_many(tables)

    def miss() -> None:
        for tables, payload in zip(keys, payloads, strict=True):
            cache.get_many(tables)
            cache.set("reference:result", payload)

    return {"hit": hit, "miss": miss}


def store_versions(tables: int) -> None:
    """Have the cache hold the versions that are asked for: others clear it."""
    cache.set_many(dict.fromkeys(_keys(tables), _VERSION))


def write_reference() -> None:
    """Do what a write of one table asks of the cache: two calls, each with one version."""
    store_versions(1)
    store_versions(1)
