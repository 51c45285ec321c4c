"""A query whose tables are written before each read does not ask the cache, and comes back."""

from __future__ import annotations

from contextlib import ExitStack

from django.test import SimpleTestCase, override_settings

from cachalot.api import explain, get_stats
from cachalot.core.outcomes import Bypass
from cachalot.core.reading.worth import MIN_READS, NOT_WORTH_IT, TRY_EVERY, Worth
from tests.library.models import Author, Tag
from tests.support import CacheTestCase, count_queries, counted_calls


class MeasureTests(SimpleTestCase):
    def is_asked(self, worth: Worth) -> bool:
        try:
            worth.require()
        except Bypass:
            return False
        return True

    def reads(self, worth: Worth, number: int, *, written: bool, hits: int = 0) -> int:
        """Read so often, after a write each time or after none; return how often it was asked."""
        asked = 0
        for n in range(number):
            if written:
                self.version += 1
            if self.is_asked(worth):
                asked += 1
                worth.note((str(self.version),), is_hit=n < hits)
        return asked

    version = 0

    def test_nothing_is_judged_too_soon(self) -> None:
        self.assertEqual(self.reads(Worth(), MIN_READS, written=True), MIN_READS)

    def test_what_is_asked_in_vain_is_asked_now_and_then(self) -> None:
        worth = Worth()
        self.reads(worth, MIN_READS, written=True)
        self.assertEqual(self.reads(worth, 100 * TRY_EVERY, written=True), 100)

    def test_what_nobody_has_read_before_is_no_sign(self) -> None:
        self.assertEqual(self.reads(Worth(), 1000, written=False), 1000)

    def test_a_few_hits_are_enough(self) -> None:
        worth = Worth()
        self.reads(worth, MIN_READS, written=True, hits=MIN_READS // 10)
        self.assertEqual(self.reads(worth, 10, written=True), 10)

    def test_it_comes_back_when_writes_cease(self) -> None:
        worth = Worth()
        self.reads(worth, 2 * MIN_READS, written=True)
        self.reads(worth, 2 * TRY_EVERY, written=False)
        self.assertEqual(self.reads(worth, 100, written=False), 100)

    def test_a_pending_table_counts_as_written(self) -> None:
        worth = Worth()
        for _ in range(MIN_READS):
            worth.note(None, is_hit=False)
        self.assertTrue(worth.is_in_vain())

    @override_settings(CACHALOT_ADAPTIVE=False)
    def test_it_may_be_switched_off(self) -> None:
        worth = Worth()
        self.reads(worth, MIN_READS, written=True)
        self.assertEqual(self.reads(worth, 100, written=True), 100)


class HotTableTests(CacheTestCase):
    def names(self) -> list[str]:
        return list(Author.objects.order_by("pk").values_list("name", flat=True))

    def heat(self, number: int = MIN_READS) -> None:
        for n in range(number):
            Author.objects.filter(pk=self.author.pk).update(name=str(n))
            self.assertEqual(self.names(), [str(n)])

    def setUp(self) -> None:
        super().setUp()
        self.author = Author.objects.create(name="A")
        Tag.objects.create(name="t")

    def test_a_hot_table_costs_the_cache_nothing(self) -> None:
        self.heat()
        with ExitStack() as stack:
            calls = stack.enter_context(counted_calls())
            for _ in range(TRY_EVERY - 1):
                self.assertEqual(count_queries(self.names), ([str(MIN_READS - 1)], 1))
        self.assertEqual(calls, {})
        # Another query of the table, and another table, are no matter of it.
        self.assertCached(lambda: Author.objects.count())
        self.assertCached(lambda: list(Tag.objects.all()))

    def test_what_is_read_is_right_all_the_time(self) -> None:
        self.heat(3 * MIN_READS)
        Author.objects.create(name="B")
        self.assertEqual(self.names()[-1], "B")

    def test_it_is_cached_again_when_writes_cease(self) -> None:
        self.heat()
        for _ in range(3 * TRY_EVERY):
            self.names()
        self.assertHits(self.names)

    @override_settings(CACHALOT_STATS=True)
    def test_explain_and_statistics_say_so(self) -> None:
        queryset = Author.objects.order_by("pk").values_list("name", flat=True)
        self.assertIsNone(explain(queryset).reason)
        self.heat()
        self.assertEqual(
            explain(queryset).reason,
            f"the query is not worth caching now: 0 hits in {MIN_READS} reads",
        )
        self.names()
        self.assertEqual(get_stats()["refusals"][f"the query {NOT_WORTH_IT}"], 1)

    @override_settings(CACHALOT_ADAPTIVE=False)
    def test_switched_off_it_is_asked_all_the_time(self) -> None:
        self.heat()
        self.names()
        self.assertHits(self.names)
