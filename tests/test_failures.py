"""A cache that fails does not take the site down, and loses no invalidation."""

from __future__ import annotations

import gc
import logging
import os
import pickle
import signal
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import product
from random import Random
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest import mock, skipUnless

from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.locmem import LocMemCache
from django.db import DatabaseError, OperationalError, connection, connections, transaction
from django.test import override_settings

from cachalot.api import cachalot_disabled, get_last_invalidation, invalidate
from cachalot.core import failures
from cachalot.core.failures import REST_SECONDS, SLOW_SECONDS, Guard, guard_of, start_daemon_timer
from cachalot.core.store import Store
from cachalot.utils import get_table_cache_key
from tests.library.models import Author, Publisher, Tag
from tests.settings import CACHE
from tests.storm.caches import CACHES, MemcachedServer
from tests.support import CacheTestCase, close_caches, count_queries, in_thread

T = TypeVar("T")

SERVERS = {**CACHES, "pylibmc": MemcachedServer}

logger = logging.getLogger("cachalot")


class FaultyCache(LocMemCache):
    """Fails at the calls whose numbers (from 1) are in ``fails_at``; None fails always.

    Or: from the first call of the kind ``breaks_at`` on, ``way`` decides what becomes of a call.
    """

    fails_at: set[int] | None = set()
    calls = 0
    way: Way | None = None
    breaks_at: str | None = None
    failed: Counter[str] = Counter()
    #: Lets time pass, as a call does that nobody answers.
    hang: Callable[[], None] = staticmethod(lambda: None)
    fails_slowly = False

    @classmethod
    def well(cls) -> None:
        cls.fails_at, cls.calls, cls.fails_slowly = set(), 0, False
        cls.way = cls.breaks_at = None
        cls.failed = Counter()

    def _call(self, kind: str, argument: Any, proceed: Callable[[], Any]) -> Any:
        cls = type(self)
        cls.calls += 1
        if cls.fails_at is None or cls.calls in cls.fails_at:
            if cls.fails_slowly:
                cls.hang()
            raise ConnectionError("the cache is down")
        if cls.breaks_at in {kind, "any"}:
            cls.breaks_at = None
        if cls.way is None or cls.breaks_at is not None:
            return proceed()
        try:
            answer = cls.way(kind, argument, proceed)
        except Exception:
            cls.failed[kind] += 1
            raise
        if answer and kind in {"pending", "versions"}:
            cls.failed[kind] += 1
        return answer

    def get_many(self, keys: Any, version: Any = None) -> Any:
        return self._call("read", keys, lambda: super(FaultyCache, self).get_many(keys, version))

    def get(self, key: str, default: Any = None, version: Any = None) -> Any:
        def proceed() -> Any:
            return super(FaultyCache, self).get(key, default, version)

        return self._call("probe", key, proceed) if key.endswith("probe") else proceed()

    def add(self, key: str, value: Any, timeout: Any = None, version: Any = None) -> Any:
        def proceed() -> Any:
            return super(FaultyCache, self).add(key, value, timeout, version)

        return self._call("add", key, proceed)

    def set(self, key: str, value: Any, timeout: Any = None, version: Any = None) -> Any:
        return self.set_many({key: value}, timeout, version)

    def set_many(self, data: dict[str, Any], timeout: Any = None, version: Any = None) -> Any:
        def proceed() -> list[str]:
            for key, value in data.items():
                LocMemCache.set(self, key, value, timeout, version)
            return []

        value = next(iter(data.values()))
        kind = "entries" if len(value) > 2 else "pending" if value[1] is None else "versions"
        return self._call(kind, data, proceed)


# What becomes of a call: its kind, what it was given, and what does it if the cache is well.
Way = Callable[[str, Any, Callable[[], Any]], Any]

SETS = frozenset({"entries", "pending", "versions"})
WRITES = SETS | {"add"}


def down(kind: str, argument: Any, proceed: Callable[[], Any]) -> Any:
    raise ConnectionError("the cache is down")


def hanging(kind: str, argument: Any, proceed: Callable[[], Any]) -> Any:
    """It does what it is asked, but the answer does not come in time."""
    proceed()
    FaultyCache.hang()
    raise TimeoutError("timed out")


def garbage(kind: str, argument: Any, proceed: Callable[[], Any]) -> Any:
    if kind == "read":
        return dict.fromkeys(argument, b"\x00garbage")
    raise ValueError("an answer that cannot be understood")


def undecodable(kind: str, argument: Any, proceed: Callable[[], Any]) -> Any:
    if kind == "read":
        raise pickle.UnpicklingError("invalid load key")
    return proceed()


def read_only(kind: str, argument: Any, proceed: Callable[[], Any]) -> Any:
    if kind in WRITES:
        raise PermissionError("You can't write against a read only replica.")
    return proceed()


def out_of_memory(kind: str, argument: Any, proceed: Callable[[], Any]) -> Any:
    """As memcached does: what cannot be replaced is removed."""
    if kind == "add":
        return False
    if kind not in SETS:
        return proceed()
    caches["default"].delete_many(argument)
    return list(argument)


def drops_all(kind: str, argument: Any, proceed: Callable[[], Any]) -> Any:
    return list(argument) if kind in SETS else proceed()


def drops_one(kind: str, argument: Any, proceed: Callable[[], Any]) -> Any:
    if kind not in SETS:
        return proceed()
    dropped = min(argument)
    kept = {key: value for key, value in argument.items() if key != dropped}
    for key, value in kept.items():
        LocMemCache.set(caches["default"], key, value)
    return [dropped]


def forgets(kind: str, argument: Any, proceed: Callable[[], Any]) -> Any:
    caches["default"].clear()
    return proceed()


WAYS: dict[str, Way] = {
    "down": down,
    "hanging": hanging,
    "garbage": garbage,
    "undecodable": undecodable,
    "read-only": read_only,
    "out of memory": out_of_memory,
    "drops all keys": drops_all,
    "drops one key": drops_one,
    "forgets": forgets,
}
MOMENTS = {
    "at the start": "any",
    "before the read": "read",
    "between read and store": "entries",
    "before pending": "pending",
    "between COMMIT and the new versions": "versions",
}


def names() -> list[str]:
    return sorted(Author.objects.values_list("name", flat=True))


FAULTY = {
    "default": {"BACKEND": "tests.test_failures.FaultyCache", "LOCATION": "faulty"},
    "second": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "second"},
}


class GuardedTestCase(CacheTestCase):
    """A process whose clock and timers are moved by hand."""

    def setUp(self) -> None:
        self.now = 1000.0
        self.timers: list[Callable[[], None]] = []
        self.enter(mock.patch.object(FaultyCache, "hang", self.pass_time))
        self.enter(mock.patch.object(failures, "_guards", {"default": self.new_guard()}))

    def enter(self, context: AbstractContextManager[Any]) -> None:
        context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)

    def new_guard(self) -> Guard:
        return Guard("default", self.time, lambda seconds, settle: self.timers.append(settle))

    def time(self) -> float:
        return self.now

    def pass_time(self) -> None:
        self.now += 2 * SLOW_SECONDS

    def start_again(self) -> None:
        """Be another process: one that owes nothing and has noticed nothing."""
        failures._guards["default"] = self.new_guard()

    def in_another_process(self, read: Callable[[], T]) -> T:
        """Read as a process does that had no part in the failure."""
        with mock.patch.object(failures, "_guards", {"default": self.new_guard()}):
            return read()

    @contextmanager
    def warnings(self) -> Iterator[list[str]]:
        """Collect what the body logs as a warning or worse."""
        lines: list[str] = []
        handler = logging.Handler(logging.WARNING)
        handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
        logger.addHandler(handler)
        try:
            yield lines
        finally:
            logger.removeHandler(handler)

    def assertSaid(self, lines: list[str], *messages: str) -> None:
        """Each of ``lines`` begins with its message, and there are no others."""
        self.assertEqual(len(lines), len(messages), lines)
        for message, line in zip(messages, lines, strict=True):
            self.assertTrue(line.startswith(message), line)

    def assertCachedNow(self) -> None:
        names()
        self.assertHits(names)


def write_at_once() -> None:
    Author.objects.create(name="B")


def write_in_transaction() -> None:
    with transaction.atomic():
        list(Publisher.objects.all())
        Tag.objects.create(name="t")
        Author.objects.create(name="B")
        names()


WRITERS = (write_at_once, write_in_transaction)


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
                self.assertSaid(lines, *["The cache 'default' failed"] * bool(failed))

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


@override_settings(CACHES=FAULTY, CACHALOT_LOCAL_SIZE=0)
class FailureTests(GuardedTestCase):
    def setUp(self) -> None:
        super().setUp()
        # What the flush after a test invalidates must not be owed.
        self.addCleanup(FaultyCache.well)
        caches["default"].clear()
        Author.objects.create(name="A")

    def fail_at(self, numbers: set[int] | None) -> None:
        FaultyCache.fails_at = numbers
        FaultyCache.calls = 0

    def recover(self) -> None:
        """The cache is well again, and has been left alone long enough."""
        self.fail_at(set())
        self.now += REST_SECONDS

    def test_reads_go_to_the_database(self) -> None:
        self.assertCached(names)
        self.fail_at(None)
        with self.assertLogs("cachalot", "WARNING") as logs:
            for _ in range(3):
                result, queries = count_queries(names)
                self.assertEqual((result, queries), (["A"], 1))
        self.assertEqual(len(logs.output), 1)
        self.assertIn(
            "The cache 'default' failed (ConnectionError: the cache is down)", logs.output[0]
        )
        # It was asked once and then left alone, for a few seconds.
        self.assertEqual(FaultyCache.calls, 1)
        self.assertLessEqual(REST_SECONDS, 10)
        self.recover()
        with self.assertLogs("cachalot", "WARNING") as logs:
            self.assertHits(names)
        self.assertIn("answers again", logs.output[0])

    def test_a_write_that_could_not_invalidate_is_made_up_for_before_the_next_read(self) -> None:
        self.assertCached(names)
        self.fail_at(None)
        Author.objects.create(name="B")
        self.assertEqual(names(), ["A", "B"])
        self.recover()
        self.assertEqual(self.assertMisses(names), ["A", "B"])
        self.assertHits(names)

    def scenarios(self) -> dict[str, Callable[[], None]]:
        def autocommit() -> None:
            Author.objects.create(name="B")

        def in_transaction() -> None:
            with transaction.atomic():
                list(Tag.objects.all())
                Author.objects.create(name="B")
                names()

        def raw() -> None:
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO library_author (name) VALUES ('B')")

        def by_hand() -> None:
            with connection.execute_wrapper(lambda execute, *args: execute(*args)):
                Author.objects.bulk_create([Author(name="B")])
            invalidate(Author)

        return {
            "autocommit": autocommit,
            "transaction": in_transaction,
            "raw": raw,
            "by hand": by_hand,
        }

    def test_failing_at_any_one_call_is_never_seen_by_anybody(self) -> None:
        for name, write in self.scenarios().items():
            for number in range(1, 9):
                with self.subTest(name, fails_at=number):
                    Author.objects.all().delete()
                    Author.objects.create(name="A")
                    self.assertEqual(names(), ["A"])
                    self.assertEqual(in_thread(names), ["A"])
                    self.fail_at({number})
                    write()
                    self.assertEqual(names(), ["A", "B"])
                    self.assertEqual(in_thread(names), ["A", "B"])
                    self.recover()
                    self.assertEqual(names(), ["A", "B"])
                    self.assertEqual(in_thread(names), ["A", "B"])
                    self.assertHits(names)

    def test_failing_from_any_call_on(self) -> None:
        for name, write in self.scenarios().items():
            for number in range(1, 9):
                with self.subTest(name, fails_from=number):
                    Author.objects.all().delete()
                    Author.objects.create(name="A")
                    self.assertEqual(names(), ["A"])
                    self.fail_at(set(range(number, 1000)))
                    write()
                    self.assertEqual(names(), ["A", "B"])
                    self.recover()
                    self.assertEqual(names(), ["A", "B"])
                    self.assertCachedNow()

    @override_settings(CACHALOT_CACHE_ERRORS="raise")
    def test_raise_refuses_a_write_whose_pending_mark_cannot_be_set(self) -> None:
        self.assertCached(names)
        self.fail_at(None)
        with self.assertRaisesMessage(ConnectionError, "the cache is down"):
            names()
        with self.assertRaisesMessage(DatabaseError, "Nothing was written, because the cache"):
            Author.objects.create(name="B")
        with self.assertRaisesMessage(DatabaseError, "CACHALOT_CACHE_ERRORS is 'raise'"):
            with transaction.atomic():
                Author.objects.create(name="B")
        with self.assertRaisesMessage(ConnectionError, "the cache is down"):
            names()
        self.recover()
        self.assertEqual(names(), ["A"])
        Author.objects.create(name="C")
        self.assertEqual(names(), ["A", "C"])

    @override_settings(CACHALOT_CACHE_ERRORS="raise")
    def test_raise_raises_nothing_after_a_commit(self) -> None:
        self.assertCached(names)
        self.fail_at({2})  # the new versions
        with transaction.atomic():
            Author.objects.create(name="B")
        self.fail_at({3})  # the same, after what is owed was settled
        Author.objects.create(name="C")
        self.fail_at(set())
        self.assertEqual(names(), ["A", "B", "C"])

    def test_a_failed_read_keeps_no_write_from_invalidating(self) -> None:
        """Other processes may reach the cache well, and must not go on reading the old rows."""
        self.assertCached(names)
        self.fail_at({1})
        names()
        self.assertEqual(FaultyCache.calls, 1)
        Author.objects.create(name="B")
        self.assertEqual(FaultyCache.calls, 3)  # pending, and the new version
        self.assertEqual(self.timers, [])
        self.recover()
        self.assertEqual(self.assertMisses(names), ["A", "B"])

    def test_writes_leave_alone_a_cache_that_failed_a_write_slowly(self) -> None:
        self.fail_at(None)
        FaultyCache.fails_slowly = True
        Author.objects.create(name="B")
        Author.objects.create(name="C")
        self.assertEqual(FaultyCache.calls, 1)

    def test_a_connection_that_was_cut_costs_a_write_nothing(self) -> None:
        """The client makes a new one: the mark is set, and others see the write at once."""
        self.assertCached(names)
        self.fail_at({1})  # the pending mark
        Author.objects.create(name="B")
        self.assertEqual(FaultyCache.calls, 3)
        self.assertEqual(self.timers, [])
        self.assertEqual(self.in_another_process(names), ["A", "B"])

    def test_another_process_sees_a_write_whose_pending_mark_was_lost(self) -> None:
        self.assertCached(names)
        self.fail_at({1, 2})  # the pending mark, and once more
        Author.objects.create(name="B")
        self.assertEqual(self.in_another_process(names), ["A", "B"])

    def test_what_is_owed_is_settled_by_a_timer(self) -> None:
        """A process that reads no more still owes the others its invalidations."""
        self.assertCached(names)
        self.fail_at(None)
        Author.objects.create(name="B")
        Author.objects.create(name="C")
        (settle,) = self.timers
        settle()
        self.assertEqual(len(self.timers), 2)  # it failed again, and tries once more
        self.fail_at(set())
        self.timers[1]()
        self.assertEqual(len(self.timers), 2)
        self.assertIsNotNone(
            caches["default"].get(get_table_cache_key("default", "library_author"))
        )
        self.assertEqual(list(guard_of("default")._owed), [])

    def test_the_timer_is_a_daemon(self) -> None:
        called = threading.Event()
        start_daemon_timer(0.001, called.set)
        self.assertIs(called.wait(20), True)

    def test_a_statement_whose_outcome_is_unknown_leaves_its_table_pending(self) -> None:
        """The server may go on with it, and commit when nobody listens any more."""
        self.assertCached(names)
        key = get_table_cache_key("default", "library_author")

        def lose(execute, sql, params, many, context):
            raise OperationalError("server closed the connection unexpectedly")

        def write_at_once() -> None:
            with connection.execute_wrapper(lose):
                Author.objects.create(name="B")

        def write_in_transaction() -> None:
            lost = mock.patch.object(
                type(connections["default"]),
                "_commit",
                side_effect=OperationalError("server closed the connection unexpectedly"),
            )
            with lost, transaction.atomic():
                Author.objects.create(name="B")

        for write in (write_at_once, write_in_transaction):
            with self.subTest(write):
                invalidate(Author)
                self.assertIsNotNone(caches["default"].get(key)[1])
                with mock.patch.object(
                    type(connections["default"]), "is_usable", return_value=False
                ):
                    with self.assertRaises(OperationalError):
                        write()
                self.assertIsNone(caches["default"].get(key)[1])
                self.assertNeverCached(names)
                # An error of a connection that still works is no such case.
                with self.assertRaises(OperationalError):
                    write()
                self.assertIsNotNone(caches["default"].get(key)[1])

    def test_failed_keys_of_set_many_are_a_failure(self) -> None:
        self.assertCached(names)
        with mock.patch.object(FaultyCache, "set_many", lambda self, data, timeout: list(data)):
            Author.objects.create(name="B")
            self.assertEqual(names(), ["A", "B"])
        self.recover()
        self.assertEqual(names(), ["A", "B"])
        self.assertCachedNow()

    def test_a_client_that_drops_calls_in_silence_is_a_failure(self) -> None:
        """As pymemcache's does for a while after its server has failed."""

        class SilentCache(BaseCache):
            _cache = SimpleNamespace(_failed_clients={}, _dead_clients={})

            def set_many(self, data: dict[str, Any], *args: Any, **kwargs: Any) -> list[str]:
                return []

        cache = SilentCache({})
        Store(cache).renew(["k"])
        for name in ("_failed_clients", "_dead_clients"):
            client = SimpleNamespace(**{name: {("127.0.0.1", 11211): {}}})
            with mock.patch.object(cache, "_cache", client):
                for method in (Store.renew, Store.mark_pending):
                    with self.assertRaisesMessage(OSError, "drops what it is given"):
                        method(Store(cache), ["k"])

    def test_a_backend_that_overrides_set_may_hide_failures_there(self) -> None:
        """Nobody knows what it does, so its ``set_many()`` is asked, which reports."""

        class HidingCache(LocMemCache):
            def set(self, *args: Any, **kwargs: Any) -> None:
                pass  # and say nothing

            def set_many(self, data: dict[str, Any], *args: Any, **kwargs: Any) -> list[str]:
                return list(data)

        for method in (Store.renew, Store.mark_pending):
            with self.assertRaisesMessage(OSError, "the cache refused 1 of 1 versions"):
                method(Store(HidingCache("hiding", {})), ["k"])

    def test_an_entry_that_the_cache_refuses_is_lost_and_nothing_else(self) -> None:
        with mock.patch.object(Store, "put", side_effect=ValueError("too large")):
            self.assertNeverCached(names)
        self.assertCached(names)

    def test_a_result_that_cannot_be_pickled_is_not_stored(self) -> None:
        with mock.patch("cachalot.core.storing.pack", side_effect=TypeError("no")):
            self.assertNeverCached(names)
        self.assertCached(names)

    def test_a_result_too_large_is_not_stored(self) -> None:
        with mock.patch("cachalot.core.storing.MAX_ENTRY_BYTES", 10):
            self.assertNeverCached(names)

    def test_the_last_invalidation_is_now_while_the_cache_does_not_answer(self) -> None:
        before = get_last_invalidation(Author)
        self.assertEqual(get_last_invalidation(Author), before)
        self.fail_at(None)
        first, second = get_last_invalidation(Author), get_last_invalidation(Author)
        self.assertLess(before, first)
        self.assertLess(first, second)

    def test_what_is_owed_is_settled_before_the_process_ends(self) -> None:
        self.assertCached(names)
        self.fail_at(None)
        Author.objects.create(name="B")
        self.fail_at(set())
        failures.settle_before_exit()
        self.recover()
        self.assertEqual(self.assertMisses(names), ["A", "B"])

    def test_what_stays_owed_at_the_end_is_said(self) -> None:
        self.fail_at(None)
        Author.objects.create(name="B")
        with self.assertLogs("cachalot", "ERROR") as logs:
            failures.settle_before_exit()
        self.assertIn("manage.py invalidate_cachalot", logs.output[0])

    def test_a_debt_renewed_by_one_thread_and_made_again_by_another_stays(self) -> None:
        guard, store = guard_of("default"), Store(caches["default"])
        guard.owe(["k"])

        def owe_again(keys: object) -> None:
            guard.owe(["k"])

        with mock.patch.object(store, "renew", owe_again):
            guard.is_usable(store)
        self.assertEqual(list(guard._owed), ["k"])

    @override_settings(
        CACHES={
            **FAULTY,
            "default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"},
        }
    )
    def test_a_cache_that_keeps_nothing(self) -> None:
        with mock.patch("cachalot.core.storing.pack") as pack:
            self.assertNeverCached(names)
        # What would be thrown away is not even made.
        pack.assert_not_called()
        Author.objects.create(name="B")
        self.assertNeverCached(names)
        self.assertLess(get_last_invalidation(Author), get_last_invalidation(Author))

    @override_settings(CACHALOT_CACHE="missing")
    def test_a_cache_that_is_not_configured(self) -> None:
        self.assertNeverCached(names)
        with transaction.atomic():
            Author.objects.create(name="B")
        self.assertEqual(names(), ["A", "B"])

    @override_settings(
        CACHES={
            **FAULTY,
            "default": {
                "BACKEND": "django.core.cache.backends.db.DatabaseCache",
                "LOCATION": "cache_table",
            },
        }
    )
    def test_a_cache_in_the_database_is_not_used(self) -> None:
        self.assertNeverCached(names)
        Author.objects.create(name="B")
        self.assertEqual(names(), ["A", "B"])


#: Seconds after which a client gives up; long enough for a server on a busy machine.
TIMEOUT_SECONDS = 1.0


def impatient(backend: str, options: dict[str, Any]) -> dict[str, Any]:
    """Add to a client's options that it gives up soon and tries again whenever it is asked."""
    name = backend.rpartition(".")[2]
    if backend.startswith("django_redis"):
        patience = {
            "SOCKET_TIMEOUT": TIMEOUT_SECONDS,
            "SOCKET_CONNECT_TIMEOUT": TIMEOUT_SECONDS,
        }
    elif name == "RedisCache":
        patience = {
            "socket_timeout": TIMEOUT_SECONDS,
            "socket_connect_timeout": TIMEOUT_SECONDS,
        }
    elif name == "PyMemcacheCache":
        patience = {
            "timeout": TIMEOUT_SECONDS,
            "connect_timeout": TIMEOUT_SECONDS,
            "retry_attempts": 0,
            "dead_timeout": 0,
        }
    else:
        milliseconds = int(TIMEOUT_SECONDS * 1000)
        behaviors = {
            "connect_timeout": milliseconds,
            "send_timeout": milliseconds * 1000,
            "receive_timeout": milliseconds * 1000,
            "_poll_timeout": milliseconds,
        }
        patience = {"behaviors": behaviors}
    return {**options, **patience}


def collect_sockets() -> None:
    """Collect the sockets that clients have left open when they gave up a server."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@skipUnless(CACHE in {"redis", "django_redis", "pymemcache", "pylibmc"}, "The cache is no server.")
@override_settings(CACHALOT_LOCAL_SIZE=0)
class ServerTests(GuardedTestCase):
    """A server of the test's own, that is broken and mended again."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        directory = TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.server: Any = SERVERS[CACHE](directory.name, Random(0))
        cls.server.start()
        cls.addClassCleanup(cls.server.stop)

    def setUp(self) -> None:
        super().setUp()
        told = self.server.settings()
        backend = settings.CACHES["default"]["BACKEND"]
        options = impatient(backend, told.get("OPTIONS", {}))
        cache = {"BACKEND": backend, "LOCATION": told["LOCATION"], "OPTIONS": options}
        self.addCleanup(collect_sockets)
        self.enter(override_settings(CACHES={**FAULTY, "default": cache}))
        self.addCleanup(close_caches)

    def terminate(self) -> None:
        self.server.process.terminate()
        self.server.process.wait()

    def hang(self) -> None:
        self.server.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.server.process.pid, os.WUNTRACED)  # it has stopped

    def go_on(self) -> None:
        self.server.process.send_signal(signal.SIGCONT)
        # First it does what it was asked in vain; a pending mark among that would stay.
        if hasattr(self.server, "client"):
            self.server.client.ping()
        else:
            self.server.ask(b"version\r\n")

    def refuse_memory(self) -> None:
        self.server.client.config_set("maxmemory", 1)

    def have_memory(self) -> None:
        self.server.client.config_set("maxmemory", 0)

    def be_a_replica(self) -> None:
        # Of a server that does not exist.
        self.server.client.replicaof("127.0.0.1", "1")

    def be_no_replica(self) -> None:
        self.server.client.replicaof("NO", "ONE")

    def miss_replicas(self) -> None:
        self.server.client.config_set("min-replicas-to-write", 1)

    def want_no_replicas(self) -> None:
        self.server.client.config_set("min-replicas-to-write", 0)

    def damages(self) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
        """Return what can be done to the server, and how to undo it."""
        damages = {
            "terminated": (self.terminate, self.server.start),
            "hanging": (self.hang, self.go_on),
        }
        if hasattr(self.server, "client"):
            damages |= {
                "out of memory": (self.refuse_memory, self.have_memory),
                "read-only": (self.be_a_replica, self.be_no_replica),
                "without its replicas": (self.miss_replicas, self.want_no_replicas),
            }
        return damages

    @contextmanager
    def cell(self, name: str, step: str) -> Iterator[None]:
        """Begin with a cache that is well, break it when the store comes to ``step``, mend it."""
        damage, repair = self.damages()[name]
        with self.subTest(damage=name, step=step):
            caches["default"].clear()
            self.start_again()
            Author.objects.all().delete()
            Author.objects.create(name="A")
            self.assertEqual(names(), ["A"])
            self.assertHits(names)
            is_damaged: list[bool] = []
            original = getattr(Store, step)

            def damage_before(store: Store, *args: Any) -> Any:
                if not is_damaged:
                    is_damaged.append(True)
                    damage()
                return original(store, *args)

            self.repair: Callable[[], None] | None = repair
            try:
                with mock.patch.object(Store, step, damage_before):
                    yield
            finally:
                self.mend()

    def mend(self) -> None:
        repair, self.repair = self.repair, None
        if repair is not None:
            repair()
        if CACHE == "pylibmc":
            # libmemcached lets seconds pass before it tries again: have a new client.
            vars(caches["default"]).pop("_cache", None)

    def test_the_site_answers_and_nothing_old_is_ever_read(self) -> None:
        for name, step in product(self.damages(), ("read", "mark_pending", "renew")):
            with self.cell(name, step):
                with self.warnings() as lines:
                    self.assertEqual(names(), ["A"])
                    Author.objects.create(name="B")
                    self.assertEqual(names(), ["A", "B"])
                    with transaction.atomic():
                        Author.objects.create(name="C")
                    self.assertEqual(names(), ["A", "B", "C"])
                self.assertSaid(lines, "The cache 'default' failed")
                self.mend()
                self.now += REST_SECONDS
                with self.warnings() as lines:
                    self.assertEqual(names(), ["A", "B", "C"])
                    self.assertEqual(self.in_another_process(names), ["A", "B", "C"])
                self.assertSaid(lines, "The cache 'default' answers again")
                self.assertHits(names)

    @override_settings(CACHALOT_CACHE_ERRORS="raise")
    def test_raise_refuses_before_the_commit_and_raises_nothing_after_it(self) -> None:
        for name in self.damages():
            with self.cell(name, "mark_pending"):
                with self.assertRaisesMessage(DatabaseError, "Nothing was written, because"):
                    Author.objects.create(name="B")
                self.mend()
                self.assertEqual(names(), ["A"])
            with self.cell(name, "renew"):
                Author.objects.create(name="B")
                self.mend()
                self.assertEqual(names(), ["A", "B"])

    def test_down_from_the_start(self) -> None:
        self.repair = self.server.start
        self.terminate()
        try:
            with self.warnings() as lines:
                Author.objects.create(name="A")
                self.assertEqual(names(), ["A"])
                with transaction.atomic():
                    names()
                    Author.objects.create(name="B")
                self.assertEqual(names(), ["A", "B"])
            self.assertSaid(lines, "The cache 'default' failed")
        finally:
            self.mend()
        self.now += REST_SECONDS
        self.assertEqual(names(), ["A", "B"])
        self.assertHits(names)
