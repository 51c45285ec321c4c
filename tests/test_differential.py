"""Generated reads and writes: a cached read always gives what the database gives.

``CACHALOT_TEST_EXAMPLES`` sets how many examples a run tries; more than the default are random.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import FieldError, ObjectDoesNotExist
from django.db import Error, connection, transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cachalot.api import cachalot_disabled
from tests.shapes.queries import REFUSALS, Read, reads
from tests.shapes.writes import Reset, Write, writes
from tests.support import CacheTestCase, close_connections

DEFAULT_EXAMPLES = 100
EXAMPLES = int(os.environ.get("CACHALOT_TEST_EXAMPLES", DEFAULT_EXAMPLES))

#: In what kind of transaction, or on which connection, a write runs.
WAYS = ["at once", "committed", "rolled back", "in a savepoint", "elsewhere"]
if connection.vendor != "sqlite":
    # SQLite's writers wait for its readers' transactions.
    WAYS.append("elsewhere meanwhile")

#: What a write may end with: rows that it needs are gone, it meets a constraint, or MySQL cannot
#: delete by a sub-query on the same table.
FAILURES = (Error, ObjectDoesNotExist, *REFUSALS)


Example = tuple[list[Read], list[tuple[Write, str]]]


@st.composite
def examples(draw: st.DrawFn) -> Example:
    """A read, maybe with its twin, and one or two writes that are made one after the other."""
    queries = draw(reads())
    step = st.tuples(writes(queries), st.sampled_from(WAYS))
    return queries, [draw(step) for _ in range(draw(st.sampled_from([1, 1, 2])))]


class Undone(Exception):
    """Raised to roll back."""


class DifferentialTestCase(CacheTestCase):
    """Compares reads before, between and after writes."""

    def setUp(self) -> None:
        self.elsewhere = ThreadPoolExecutor(max_workers=1)
        self.reset = Reset()
        self.queries = 0
        self.figures = dict.fromkeys(
            ["pairs", "reads", "cached", "refused reads", "writes", "failed"], 0
        )

    def tearDown(self) -> None:
        self.elsewhere.submit(close_connections).result()
        self.elsewhere.shutdown()
        ContentType.objects.clear_cache()

    def count(self, execute: Callable[..., Any], *args: Any) -> Any:
        # Django's own log of queries ends after some thousands.
        self.queries += 1
        return execute(*args)

    def accepted(self, read: Read) -> bool:
        """Whether the database takes the query; of some combinations Django makes wrong SQL."""
        try:
            with cachalot_disabled(), transaction.atomic():
                read()
        except (*REFUSALS, Error, FieldError, AssertionError, AttributeError):
            self.figures["refused reads"] += 1
            return False
        return True

    def compare(self, queries: list[Read]) -> None:
        for read in queries:
            with cachalot_disabled():
                expected = read()
            for _ in range(2):
                before = self.queries
                with connection.execute_wrapper(self.count):
                    result = read()
                self.figures["reads"] += 1
                self.figures["cached"] += self.queries == before
                if result != expected:
                    self.assertEqual(result, expected, repr(read))

    def attempt(self, write: Callable[[], Any]) -> None:
        self.figures["writes"] += 1
        try:
            write()
        except FAILURES:
            self.figures["failed"] += 1

    def attempt_in_savepoint(self, write: Callable[[], Any]) -> None:
        def in_savepoint() -> None:
            with transaction.atomic():
                write()
                if connection.features.can_defer_constraint_checks:
                    # Else the COMMIT would fail, and with it all.
                    connection.check_constraints()

        self.attempt(in_savepoint)

    def write(self, write: Callable[[], Any], way: str, queries: list[Read]) -> None:
        if way == "at once":
            self.attempt(write)
        elif way == "elsewhere":
            self.elsewhere.submit(self.attempt, write).result(timeout=60)
        elif way == "elsewhere meanwhile":
            with transaction.atomic():
                self.compare(queries)
                self.elsewhere.submit(self.attempt, write).result(timeout=60)
                self.compare(queries)
        elif way == "committed":
            with transaction.atomic():
                self.compare(queries)
                self.attempt_in_savepoint(write)
                self.compare(queries)
        elif way == "rolled back":
            with suppress(Undone), transaction.atomic():
                self.attempt_in_savepoint(write)
                self.compare(queries)
                raise Undone
        else:
            with transaction.atomic():
                self.compare(queries)
                with suppress(Undone), transaction.atomic():
                    self.attempt_in_savepoint(write)
                    self.compare(queries)
                    raise Undone
                self.compare(queries)

    def compare_examples(self, examples: st.SearchStrategy[Example]) -> None:
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=EXAMPLES <= DEFAULT_EXAMPLES,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(examples)
        def compare_one_example(example: Example) -> None:
            queries, steps = example
            self.reset()
            queries = [read for read in queries if self.accepted(read)]
            self.compare(queries)
            # Of a query and a write that it is compared after.
            self.figures["pairs"] += len(queries) * len(steps)
            for write, way in steps:
                self.write(write.run, way, queries)
                self.compare(queries)

        compare_one_example()
        # Neither the reads nor the writes may be for nothing.
        print(self.figures)
        self.assertGreater(self.figures["cached"], self.figures["reads"] / 4)
        self.assertLess(self.figures["failed"], self.figures["writes"] / 3)
        self.assertLess(self.figures["refused reads"], self.figures["reads"] / 10)


class DifferentialTests(DifferentialTestCase):
    def test_cached_reads_give_what_the_database_gives(self) -> None:
        self.compare_examples(examples())
