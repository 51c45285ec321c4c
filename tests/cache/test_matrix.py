"""Each way in which a cache fails, at each moment of each kind of write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

from django.core.cache import caches
from django.db import DatabaseError, transaction
from django.test import override_settings

from cachalot.api import cachalot_disabled, get_last_invalidation
from cachalot.core.cache.guard import (
    REST_SECONDS,
)
from tests.cache.faults import (
    FAULTY,
    MOMENTS,
    WAYS,
    WRITERS,
    FaultyCache,
    GuardedTestCase,
    names,
)
from tests.library.models import Author, Publisher, Tag
from tests.support import count_queries, in_thread


@override_settings(CACHES=FAULTY, CACHALOT_LOCAL_SIZE=0)
class MatrixTests(GuardedTestCase):
    """Every way of failing, from every moment on."""

    def begin(self, moment: str) -> None:
        """Have one author, in a cache that is well, and known to it but at the start."""
        FaultyCache.well()
        caches["default"].clear()
        self.start_again()
        for model in (Author, Tag, Publisher):
            model.objects.all().delete()
        Author.objects.create(name="A")
        if moment == "at the start":
            caches["default"].clear()
        else:
            self.assertEqual(names(), ["A"])
            self.assertHits(names)

    @contextmanager
    def cell(self, way: str, moment: str, write: Callable[[], None]) -> Iterator[None]:
        with self.subTest(way=way, moment=moment, write=write.__name__):
            self.begin(moment)
            FaultyCache.way = staticmethod(WAYS[way])
            FaultyCache.breaks_at = MOMENTS[moment]
            try:
                yield
            finally:
                FaultyCache.well()

    def test_the_site_answers_and_nothing_old_is_ever_read(self) -> None:
        for way, moment, write in product(WAYS, MOMENTS, WRITERS):
            with self.cell(way, moment, write):
                with self.warnings() as lines:
                    self.assertEqual(Tag.objects.count(), 0)
                    self.assertEqual(names(), ["A"])
                    write()
                    self.assertEqual(names(), ["A", "B"])
                    self.assertEqual(in_thread(names), ["A", "B"])
                    self.assertIsInstance(get_last_invalidation(Author), float)
                self.assertIsNone(FaultyCache.breaks_at)
                failed = FaultyCache.failed.copy()
                # That one result is refused says nothing of the cache.
                failed.pop("entries", None)
                self.assertIs(bool(failed), way != "forgets")
                # Asked once, and then left alone; but by a write, for which others wait, only if
                # the answer took its time: the mark, the mark once more and the new versions.
                self.assertLessEqual(failed["read"] + failed["add"], 1)
                writes = failed["pending"] + failed["versions"]
                self.assertLessEqual(writes, 1 if way == "hanging" else 3)
                said = ["The cache 'default' failed"] * bool(failed)
                if way == "forgets" or (way, moment) == ("out of memory", "at the start"):
                    said.insert(
                        0, "Nothing is cached in 'default': a query meets a cache that does"
                    )
                self.assertSaid(lines, *said)

                FaultyCache.well()
                if moment == "between COMMIT and the new versions" and way != "forgets":
                    # Until this process has made up for it, others find the pending mark.
                    self.assertEqual(self.in_another_process(names), ["A", "B"])
                self.now += REST_SECONDS
                with self.warnings() as lines:
                    self.assertEqual(names(), ["A", "B"])
                    self.assertEqual(self.in_another_process(names), ["A", "B"])
                self.assertSaid(lines, *["The cache 'default' answers again"] * bool(failed))
                self.assertHits(names)

    def test_what_could_not_be_invalidated_is_before_the_next_read(self) -> None:
        """Also by a process that reads nothing while the cache fails."""
        ways = WAYS.keys() - {"forgets", "undecodable"}
        moments = ["before pending", "between COMMIT and the new versions"]
        for way, moment, write in product(sorted(ways), moments, WRITERS):
            with self.cell(way, moment, write):
                write()
                self.assertGreater(
                    FaultyCache.failed["pending"] + FaultyCache.failed["versions"], 0
                )
                FaultyCache.well()
                self.now += REST_SECONDS
                self.assertEqual(names(), ["A", "B"])
                self.assertHits(names)
                self.assertEqual(self.in_another_process(names), ["A", "B"])

    @override_settings(CACHALOT_CACHE_ERRORS="raise")
    def test_raise_refuses_before_the_commit(self) -> None:
        ways = WAYS.keys() - {"forgets", "undecodable"}
        for way, write in product(sorted(ways), WRITERS):
            with self.cell(way, "before pending", write):
                with self.assertRaisesMessage(DatabaseError, "Nothing was written, because"):
                    write()
                with cachalot_disabled():
                    self.assertEqual((names(), Tag.objects.count()), (["A"], 0))
                FaultyCache.well()
                self.assertEqual(names(), ["A"])
                self.assertCachedNow()

    @override_settings(CACHALOT_CACHE_ERRORS="raise")
    def test_raise_raises_nothing_after_the_commit(self) -> None:
        for way, write in product(WAYS, WRITERS):
            with self.cell(way, "between COMMIT and the new versions", write):
                write()
                FaultyCache.well()
                self.assertEqual(names(), ["A", "B"])
                self.assertCachedNow()

    def test_values_too_large(self) -> None:
        """They are lost, nothing else is, and nobody is alarmed."""

        def refuses(kind: str, argument: Any, proceed: Callable[[], Any]) -> Any:
            if kind == "entries" and any(len(entry[2]) > 300 for entry in argument.values()):
                raise ValueError("object too large for cache")
            return proceed()

        def drops(kind: str, argument: Any, proceed: Callable[[], Any]) -> Any:
            if kind != "entries":
                return proceed()
            large = [key for key, entry in argument.items() if len(entry[2]) > 300]
            for key in large:
                del argument[key]
            proceed()
            return large

        for way in (refuses, drops):
            with self.subTest(way.__name__), self.assertNoLogs("cachalot", "WARNING"):
                self.begin("before the read")
                FaultyCache.way = staticmethod(way)
                Author.objects.bulk_create(Author(name=str(n)) for n in range(100))
                self.assertNeverCached(names)
                self.assertCached(Author.objects.count)
                with transaction.atomic():
                    names()
                    tags = Tag.objects.count()
                self.assertEqual(count_queries(Tag.objects.count), (tags, int(way is refuses)))
