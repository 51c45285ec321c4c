"""``CACHALOT_STATS`` counts, ``get_stats()`` and ``cachalot_stats`` show what was counted."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any
from unittest import mock

import pytest
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.management import CommandError, call_command
from django.test import SimpleTestCase, override_settings

from cachalot.api import cachalot_disabled, get_stats, invalidate
from cachalot.core import events
from cachalot.core.cache.local import local_tier
from cachalot.core.events import Block, Event, Invalidation, Read
from cachalot.core.outcomes import Outcome
from cachalot.core.statistics import (
    MAX_MINUTES,
    MAX_REASONS,
    OTHER_REASONS,
    PROCESSES_KEY,
    PUBLISH_SECONDS,
    Statistics,
    statistics,
)
from cachalot.totals import published
from tests.library.models import Author, Book
from tests.support import CacheTestCase, in_process, in_thread

pytestmark = pytest.mark.usefixtures("local_tier_by_default")


class SharedLikeCache(BaseCache):
    """A dictionary: nothing tells that other processes cannot see it."""

    values: dict[str, Any] = {}

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)

    def get(self, key: str, default: Any = None, version: Any = None) -> Any:
        return self.values.get(key, default)

    def set(self, key: str, value: Any, timeout: Any = None, version: Any = None) -> None:
        self.values[key] = value

    def add(self, key: str, value: Any, timeout: Any = None, version: Any = None) -> bool:
        return self.values.setdefault(key, value) is value


class BrokenCache(SharedLikeCache):
    def get(self, *args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("no route to host")

    get_many = set = get


class TenantCache(SharedLikeCache):
    """One whose keys have the current tenant in them."""

    tenant = ""

    def get(self, key: str, default: Any = None, version: Any = None) -> Any:
        return super().get(self.make_key(key), default)

    def set(self, key: str, value: Any, timeout: Any = None, version: Any = None) -> None:
        super().set(self.make_key(key), value)


def tenant_key(key: str, key_prefix: str, version: int) -> str:
    return f"{TenantCache.tenant}:{key}"


def titles() -> list[str]:
    return [book.title for book in Book.objects.order_by("pk")]


def read_of(outcome: Outcome, *tables: str, reason: str | None = None) -> Read:
    return Read("default", outcome, reason, "SELECT", (), tables, 0.1)


def counts_of(stats: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(
        stats[name] for name in ("hits", "local_hits", "misses", "refusals", "invalidations")
    )


class CountingTests(SimpleTestCase):
    """The counters by themselves."""

    def setUp(self) -> None:
        self.now = 1000.0
        self.statistics = Statistics(lambda: self.now, lambda: self.now)

    def note(self, *counted: Event) -> dict[str, Any]:
        with mock.patch.object(self.statistics, "publish") as self.publish:
            for event in counted:
                self.statistics.note(event)
        return self.statistics.as_dict()

    def test_each_outcome_has_its_number(self) -> None:
        stats = self.note(
            read_of(Outcome.HIT, "a"),
            read_of(Outcome.LOCAL_HIT, "a"),
            read_of(Outcome.TRANSACTION_HIT, "a"),
            read_of(Outcome.MISS, "a"),
            read_of(Outcome.NOT_CACHED, "a", reason="x"),
            read_of(Outcome.NOT_STORED, "a", reason="y"),
            read_of(Outcome.BYPASSED, "a", reason="y"),
            Invalidation("default", ("a", "b")),
        )
        self.assertEqual(counts_of(stats), (3, 1, 1, {"x": 1, "y": 2}, 2))
        self.assertEqual(stats["hit_rate"], 0.75)
        tables = stats["tables"]["default"]
        self.assertEqual(counts_of(tables["a"]), (3, 1, 1, {"x": 1, "y": 2}, 1))
        self.assertEqual(counts_of(tables["b"]), (0, 0, 0, {}, 1))
        self.assertIs(tables["b"]["hit_rate"], None)

    def test_hits_by_rows_count_for_the_table_of_the_rows(self) -> None:
        hit = read_of(Outcome.HIT, "a", "b")._replace(rows=(("a", 1), ("a", 2)))
        stats = self.note(hit, hit._replace(outcome=Outcome.MISS), read_of(Outcome.HIT, "a"))
        self.assertEqual((stats["hits"], stats["row_hits"]), (2, 1))
        tables = stats["tables"]["default"]
        self.assertEqual([tables[table]["row_hits"] for table in "ab"], [1, 0])

    def test_a_query_of_two_tables_is_one_read(self) -> None:
        stats = self.note(read_of(Outcome.HIT, "a", "b"))
        self.assertEqual(stats["hits"], 1)
        self.assertEqual([c["hits"] for c in stats["tables"]["default"].values()], [1, 1])

    def test_blocks_have_numbers_of_their_own(self) -> None:
        outcomes = (Outcome.MISS, Outcome.HIT, Outcome.LOCAL_HIT)
        stats = self.note(
            *(Block("f", outcome, None, (("default", "a"),), 0.1) for outcome in outcomes),
            Block("f", Outcome.NOT_STORED, "it writes", (), 0.1),
            Block("g", Outcome.HIT, None, (), 0.1),
        )
        self.assertEqual(counts_of(stats), (0, 0, 0, {}, 0))
        self.assertEqual(stats["tables"], {})
        self.assertEqual(
            stats["blocks"]["f"],
            {
                **{"hits": 2, "local_hits": 1, "misses": 1, "refusals": {"it writes": 1}},
                "hit_rate": 2 / 3,
            },
        )
        self.assertEqual(stats["blocks"]["g"]["hits"], 1)

    def test_reasons_are_bounded(self) -> None:
        reads = [read_of(Outcome.NOT_STORED, "a", reason=f"takes {n} bytes") for n in range(100)]
        refusals = self.note(*reads)["refusals"]
        self.assertEqual(len(refusals), MAX_REASONS + 1)
        self.assertEqual(refusals[OTHER_REASONS], 100 - MAX_REASONS)

    def test_it_is_published_at_once_and_then_now_and_again(self) -> None:
        read = read_of(Outcome.HIT, "a")
        for seconds, times in ((0, 1), (PUBLISH_SECONDS - 0.1, 0), (0.2, 1), (0, 0)):
            self.now += seconds
            self.note(read)
            self.assertEqual(self.publish.call_count, times, self.now)

    def test_each_minute_has_its_numbers(self) -> None:
        self.now = 60_000.0
        self.note(read_of(Outcome.HIT, "a"), read_of(Outcome.MISS, "a"))
        self.now += 59.9
        self.note(read_of(Outcome.TRANSACTION_HIT, "a"))
        self.now += 120
        stats = self.note(
            read_of(Outcome.NOT_STORED, "a", reason="x"), Invalidation("default", ("a", "b"))
        )
        self.assertEqual(
            stats["minutes"],
            [
                {"at": 60_000, "hits": 2, "misses": 1, "refusals": 0, "invalidations": 0},
                {"at": 60_120, "hits": 0, "misses": 0, "refusals": 1, "invalidations": 2},
            ],
        )

    def test_minutes_are_bounded(self) -> None:
        for _ in range(MAX_MINUTES + 1):
            self.now += 60
            stats = self.note(read_of(Outcome.HIT, "a"))
        minutes = [minute["at"] for minute in stats["minutes"]]
        self.assertEqual(len(minutes), MAX_MINUTES)
        self.assertEqual(minutes[-1], int(self.now) // 60 * 60)

    def test_it_starts_anew(self) -> None:
        self.note(read_of(Outcome.HIT, "a"))
        self.now += 60
        self.statistics.reset()
        stats = self.statistics.as_dict()
        self.assertEqual((stats["hits"], stats["tables"], stats["since"]), (0, {}, 1060.0))

    def test_a_cache_that_fails_is_no_error(self) -> None:
        broken = {"default": {"BACKEND": "tests.test_stats.BrokenCache", "LOCATION": "broken"}}
        with override_settings(CACHES=broken), self.assertLogs("cachalot", "DEBUG") as logs:
            self.statistics.publish()
        self.assertIn("could not be published: ConnectionError", logs.output[0])


class StatsTestCase(CacheTestCase):
    @contextmanager
    def counting(self) -> Iterator[None]:
        statistics.reset()
        with override_settings(CACHALOT_STATS=True):
            yield
        statistics.reset()

    def use(self) -> None:
        """One miss, three hits, one refusal, one invalidation; and one invalidation of authors."""
        titles()
        for _ in range(3):
            titles()
        with cachalot_disabled():
            titles()
        invalidate(Book, Author, db_alias="default")

    def command(self, *arguments: str) -> str:
        output = StringIO()
        call_command("cachalot_stats", *arguments, stdout=output, no_color=True)
        return output.getvalue()


class GetStatsTests(StatsTestCase):
    def test_it_counts_what_is_done(self) -> None:
        with self.counting():
            self.use()
            stats = get_stats()
            size = local_tier.size
        self.assertEqual(
            counts_of(stats), (3, 2, 1, {"caching is switched off by cachalot_disabled()": 1}, 2)
        )
        self.assertEqual(stats["hit_rate"], 0.75)
        self.assertEqual(sorted(stats["tables"]["default"]), ["library_author", "library_book"])
        self.assertEqual(stats["process"].rpartition(":")[2], str(os.getpid()))
        self.assertIs(stats["is_on"], True)
        self.assertEqual(stats["local_tier"], {"bytes": size, "results": 1})
        self.assertGreater(size, 0)
        self.assertEqual(json.loads(json.dumps(stats)), stats)

    def test_threads_count_together(self) -> None:
        with self.counting():
            in_thread(titles)
            in_thread(titles)
            stats = get_stats()
        self.assertEqual((stats["misses"], stats["hits"]), (1, 1))

    def test_it_counts_only_while_it_is_on(self) -> None:
        self.assertEqual(events.listeners, ())
        with self.counting():
            self.assertEqual(len(events.listeners), 1)
            with override_settings(CACHALOT_STATS=False):
                titles()
                self.assertIs(get_stats()["is_on"], False)
            titles()
            self.assertEqual((get_stats()["misses"], get_stats()["hits"]), (0, 1))
        self.assertEqual(events.listeners, ())

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
    def test_a_forked_process_starts_from_nothing(self) -> None:
        with self.counting():
            self.use()
            read, write = os.pipe()
            child = os.fork()
            if not child:
                try:
                    stats = get_stats()
                    os.write(write, json.dumps([stats["process"], stats["hits"]]).encode())
                finally:
                    # No clean end: that would run the end of the parent's tests.
                    os._exit(0)
            os.close(write)
            os.waitpid(child, 0)
            process, hits = json.loads(os.read(read, 1000))
            os.close(read)
            self.assertEqual(get_stats()["hits"], 3)
        self.assertEqual((process.rpartition(":")[2], hits), (str(child), 0))


class PublishedTestCase(StatsTestCase):
    def shared(self, backend: str = "SharedLikeCache", **options: Any) -> Any:
        SharedLikeCache.values.clear()
        config = {"BACKEND": f"tests.test_stats.{backend}", **options}
        return override_settings(CACHES={**caches.settings, "default": config})


class PublishedTests(PublishedTestCase):
    def test_processes_are_listed_until_their_numbers_expire(self) -> None:
        first, second, third = Statistics(), Statistics(), Statistics()
        with self.shared(), self.counting():
            for process in (first, second, first):
                process.publish()
            self.assertEqual(len(published() or ()), 2)
            del SharedLikeCache.values[first._key]
            second.note(read_of(Outcome.HIT, "a"))
            self.assertEqual([stats["hits"] for stats in published() or ()], [1])
            third.publish()
            keys = caches["default"].get(PROCESSES_KEY)
        self.assertEqual(keys, sorted([second._key, third._key]))

    def test_one_that_is_listed_asks_for_no_numbers_of_others(self) -> None:
        process = Statistics()
        with self.shared(), mock.patch.object(SharedLikeCache, "get_many") as get_many:
            get_many.return_value = {}
            process.publish()
            self.assertEqual(get_many.call_count, 1)
            process.publish()
            self.assertEqual(get_many.call_count, 1)

    def test_one_that_was_lost_comes_back(self) -> None:
        process = Statistics()
        with self.shared():
            process.publish()
            caches["default"].set(PROCESSES_KEY, [])
            process.publish()
            self.assertEqual(len(published() or ()), 1)

    def test_caches_that_other_processes_do_not_see(self) -> None:
        for backend in ("locmem.LocMemCache", "dummy.DummyCache", "db.DatabaseCache"):
            config = {"BACKEND": f"django.core.cache.backends.{backend}", "LOCATION": "x"}
            with override_settings(CACHES={"default": config}):
                self.assertIs(published(), None)

    def test_every_tenant_sees_all_of_them(self) -> None:
        self.addCleanup(setattr, TenantCache, "tenant", "")
        with self.shared("TenantCache", KEY_FUNCTION=tenant_key), self.counting():
            for TenantCache.tenant in ("north", "south"):
                Statistics().publish()
            TenantCache.tenant = "west"
            self.assertEqual(len(published() or ()), 2)

    def test_keys_are_ours(self) -> None:
        self.assertTrue(Statistics()._key.startswith("cachalot:"))


class CommandTests(PublishedTestCase):
    def test_it_shows_processes_tables_and_reasons(self) -> None:
        with self.shared(), self.counting():
            self.use()
            statistics.publish()
            lines = self.command().splitlines()
        self.assertEqual(lines[0], "")
        self.assertRegex(
            lines[1],
            r"^process +seen +hits +by rows +misses +not cached +hit rate +invalidations "
            r"+local bytes$",
        )
        self.assertRegex(lines[2], rf":{os.getpid()} +0 s ago +3 +0 +1 +1 +75\.0% +2 +[\d,]+$")
        self.assertEqual(
            [line.split() for line in lines[5:7]],
            [
                ["default", "library_author", "0", "0", "0", "0", "-", "1"],
                ["default", "library_book", "3", "0", "1", "1", "75.0%", "1"],
            ],
        )
        self.assertEqual(lines[8], "times  not cached, because")
        self.assertEqual(lines[9:], ["1      caching is switched off by cachalot_disabled()"])

    def test_numbers_of_several_processes_are_added_up(self) -> None:
        with self.shared(), self.counting():
            for _ in range(2):
                process = Statistics()
                process.note(read_of(Outcome.MISS, "a"))
                process.note(read_of(Outcome.HIT, "a"))
                process.note(read_of(Outcome.HIT, "a")._replace(rows=(("a", 1),)))
                process.publish()
            output = self.command()
        self.assertEqual(output.count(f":{os.getpid()} "), 2)
        self.assertRegex(output, r"\ndefault +a +4 +2 +2 +0 +66\.7% +0\n")

    def test_blocks(self) -> None:
        with self.shared(), self.counting():
            for _ in range(2):
                process = Statistics()
                process.note(Block("shop.views.index", Outcome.HIT, None, (), 0.1))
                process.note(Block("shop.views.index", Outcome.NOT_STORED, "it writes", (), 0.1))
                process.publish()
            output = self.command()
        self.assertRegex(output, r"\nblock +hits +misses +not cached +hit rate\n")
        self.assertRegex(output, r"\nshop\.views\.index +2 +0 +2 +100\.0%\n")
        self.assertRegex(output, r"\ntimes +blocks were not stored, because\n2 +it writes\n")

    def test_json_is_what_get_stats_gives(self) -> None:
        with self.shared(), self.counting():
            self.use()
            statistics.publish()
            (stats,) = json.loads(self.command("--json"))
            self.assertEqual({**stats, "at": 0}, {**get_stats(), "at": 0})

    def test_it_says_that_local_memory_is_the_process_alone(self) -> None:
        with override_settings(CACHES={**caches.settings, "default": caches.settings["second"]}):
            with self.counting():
                titles()
                output = self.command()
                (stats,) = json.loads(self.command("--json"))
        self.assertTrue(
            output.startswith("The cache 'default' is not shared between processes, so these are")
        )
        self.assertRegex(output, r"\ndefault +library_book +0 +0 +1 +0 +0\.0% +0\n")
        self.assertEqual(stats["misses"], 1)

    def test_it_says_that_nothing_is_counted(self) -> None:
        with self.shared():
            self.assertEqual(
                self.command(),
                "CACHALOT_STATS is off: nothing is counted. Set it to True.\n"
                "No process has published numbers in the cache 'default' yet.\n",
            )

    def test_a_cache_that_does_not_answer(self) -> None:
        broken = {"default": {"BACKEND": "tests.test_stats.BrokenCache", "LOCATION": "broken"}}
        with (
            override_settings(CACHES=broken),
            self.assertRaisesMessage(
                CommandError, "The cache 'default' does not answer (ConnectionError: no route"
            ),
        ):
            self.command()

    def test_it_watches_until_interrupted(self) -> None:
        pauses: list[float] = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 3:
                raise KeyboardInterrupt

        with self.shared(), self.counting(), mock.patch("time.sleep", pause):
            titles()
            statistics.publish()
            output = self.command("--watch", "0.5")
            self.assertEqual(pauses, [0.5, 0.5, 0.5])
            pauses[:] = [0.0]
            lines = self.command("--watch", "--json").splitlines()
            self.assertEqual(pauses, [0.0, 2.0, 2.0])
        self.assertEqual(output.count("library_book"), 3)
        self.assertEqual(len([json.loads(line) for line in lines if line]), 2)
        with self.assertRaisesMessage(CommandError, "--watch is 0, which is no number of seconds"):
            self.command("--watch", "0")


class OtherProcessTests(StatsTestCase):
    def test_another_process_is_seen(self) -> None:
        if self.uses_locmem():
            self.skipTest("Another process has a cache of its own.")
        code = """
from django.test import override_settings
with override_settings(CACHALOT_STATS=True):
    list(Author.objects.all())
    from cachalot.core.statistics import statistics
    result = statistics.name
"""
        name = in_process(code)
        self.assertRegex(
            self.command(), rf"(?s){name} .*\ndefault +library_author +0 +0 +1 +0 +0\.0% +0\n"
        )
