"""Generated reads in blocks: what is found is always what running all of the block would give.

``CACHALOT_TEST_EXAMPLES`` is that of ``tests/test_differential.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from operator import is_not
from typing import Any

from django.db import connection
from hypothesis import strategies as st

from cachalot.api import cachalot_disabled, cached
from tests.shapes.columns import tail
from tests.shapes.models import MODELS
from tests.shapes.queries import Read, reads
from tests.shapes.writes import KEYS, writes
from tests.test_differential import WAYS, DifferentialTestCase, Example

#: Models whose primary key is one column.
OF_ONE_KEY = [model for model in MODELS if tail(model) == ("pk",)]
#: The parts of a block: reads, and blocks in it.
Parts = list[Any]


class RawRead:
    """A SELECT by cursor, which names its table in its text alone."""

    def __init__(self, table: str) -> None:
        self.sql = f"SELECT COUNT(*), MIN(id), MAX(id) FROM {connection.ops.quote_name(table)}"

    def __repr__(self) -> str:
        return self.sql

    def __call__(self) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(self.sql)
            return cursor.fetchone()


class KeyRead:
    """A read of rows by their keys, some of which may be missing."""

    def __init__(self, model: type[Any], keys: list[int]) -> None:
        self.model = model
        self.keys = keys

    def __repr__(self) -> str:
        return f"{self.model.__name__} {self.keys}"

    def __call__(self) -> Any:
        rows = self.model._default_manager.order_by("pk")
        if len(self.keys) > 1:
            return [*rows.filter(pk__in=self.keys).values_list()]
        return rows.filter(pk=self.keys[0]).values_list().first()


@st.composite
def grouped(draw: st.DrawFn) -> Example:
    """Several reads, some by cursor, and one or two writes."""
    queries: list[Any] = [read for _ in range(draw(st.integers(1, 3))) for read in draw(reads())]
    written = list(queries)
    for _ in range(draw(st.integers(0, 1))):
        queries.append(RawRead(draw(st.sampled_from(MODELS))._meta.db_table))
    for _ in range(draw(st.integers(0, 2))):
        keys = draw(st.lists(st.sampled_from([*KEYS, 1, 2]), min_size=1, max_size=3, unique=True))
        queries.append(KeyRead(draw(st.sampled_from(OF_ONE_KEY)), keys))
    step = st.tuples(writes(written), st.sampled_from(WAYS))
    return draw(st.permutations(queries)), [
        draw(step) for _ in range(draw(st.sampled_from([1, 1, 2])))
    ]


@cached(key=lambda number, parts: number)
def run_block(number: tuple[int, ...], parts: Parts) -> list[Any]:
    """Return the results of the parts, blocks in it flattened."""
    results: list[Any] = []
    for place, part in enumerate(parts):
        if isinstance(part, list):
            results += run_block((*number, place), part)
        else:
            results.append(part())
    return results


class BlockTests(DifferentialTestCase):
    """Each read alone, then all of them in a block with blocks in it."""

    numbers = count()

    def compare(self, queries: list[Read]) -> None:
        if not queries:
            return
        number, parts = self.group_of(queries)
        with cachalot_disabled():
            expected = [read() for read in queries]
        for _ in range(2):
            before = self.queries
            with connection.execute_wrapper(self.count):
                results = run_block(number, parts)
            self.figures["reads"] += 1
            self.figures["cached"] += self.queries == before
            if results != expected:
                self.assertEqual(results, expected, repr(parts))

    def group_of(self, queries: list[Read]) -> tuple[tuple[int, ...], Parts]:
        """Return the block of these reads, which is the same as long as they are."""
        known = self.group[0]
        if len(known) != len(queries) or any(map(is_not, known, queries)):
            self.group = [*queries], (next(self.numbers),), self.nested(queries)
        return self.group[1], self.group[2]

    group: tuple[list[Read], tuple[int, ...], Parts] = ([], (), [])

    def nested(self, queries: list[Read]) -> Parts:
        """Return the reads in blocks whose places follow from their number."""
        if len(queries) < 2:
            return [*queries]
        half = len(queries) // 2
        outer: list[Callable[[], Any]] = [*queries[:half]]
        inner = queries[half:]
        return [*outer, [*inner]] if len(inner) < 3 else [*outer, [inner[0], [*inner[1:]]]]

    def test_blocks_give_what_the_database_gives(self) -> None:
        self.compare_examples(grouped())
