"""A cache that fails does not take the site down, and loses no invalidation."""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.locmem import LocMemCache
from django.db import DatabaseError, OperationalError, connection, connections, transaction
from django.test import override_settings

from cachalot.api import get_last_invalidation, invalidate
from cachalot.core.cache import door, stores
from cachalot.core.cache.debts import start_daemon_timer
from cachalot.core.cache.door import guard_of
from cachalot.core.cache.guard import (
    REST_SECONDS,
    Guard,
)
from cachalot.core.cache.store import Store
from cachalot.core.locks import _locks as fork_safe_locks
from cachalot.utils import get_table_cache_key
from tests.cache.faults import (
    FAULTY,
    WAYS,
    FaultyCache,
    GuardedTestCase,
    names,
)
from tests.library.models import Author, Tag
from tests.support import count_queries, in_thread

LOCMEM = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "well"}
MEMCACHED = "django.core.cache.backends.memcached"


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
        # The mark twice, the new version and a question for the schema's.
        self.assertEqual(FaultyCache.calls, 4)
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
        self.assertEqual(list(guard_of("default").debts.owed), [])

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

    def test_what_cannot_be_renewed_is_deleted(self) -> None:
        """A full cache refuses versions and takes what makes room. Others must not be misled."""
        FaultyCache.way = staticmethod(WAYS["read-only"])
        FaultyCache.breaks_at = "pending"
        Author.objects.create(name="B")
        self.assertGreater(FaultyCache.failed["versions"], 0)
        FaultyCache.well()
        # This process ends before it has made up for it.
        self.assertEqual(self.in_another_process(names), ["A", "B"])

    def test_a_client_that_drops_calls_in_silence_is_a_failure(self) -> None:
        """As pymemcache's does for a while after its server has failed."""

        class SilentCache(BaseCache):
            _cache = SimpleNamespace(_failed_clients={}, _dead_clients={})

            def set_many(self, data: dict[str, Any], *args: Any, **kwargs: Any) -> list[str]:
                return []

        cache = SilentCache({})
        Store(cache).renew({"k": None})
        for name in ("_failed_clients", "_dead_clients"):
            client = SimpleNamespace(**{name: {("127.0.0.1", 11211): {}}})
            with mock.patch.object(cache, "_cache", client):
                for method in (Store.renew, Store.mark_pending):
                    with self.assertRaisesMessage(OSError, "drops what it is given"):
                        method(Store(cache), {"k": None})

    def test_a_backend_that_overrides_set_may_hide_failures_there(self) -> None:
        """Nobody knows what it does, so its ``set_many()`` is asked, which reports."""

        class HidingCache(LocMemCache):
            def set(self, *args: Any, **kwargs: Any) -> None:
                pass  # and say nothing

            def set_many(self, data: dict[str, Any], *args: Any, **kwargs: Any) -> list[str]:
                return list(data)

        for method in (Store.renew, Store.mark_pending):
            with self.assertRaisesMessage(OSError, "the cache refused 1 of 1 versions"):
                method(Store(HidingCache("hiding", {})), {"k": None})

    def test_an_entry_that_the_cache_refuses_is_lost_and_nothing_else(self) -> None:
        with mock.patch.object(Store, "put", side_effect=ValueError("too large")):
            self.assertNeverCached(names)
        self.assertCached(names)

    def test_a_result_that_cannot_be_pickled_is_not_stored(self) -> None:
        with mock.patch("cachalot.core.reading.results.pack", side_effect=TypeError("no")):
            self.assertNeverCached(names)
        self.assertCached(names)

    def test_a_result_too_large_is_not_stored(self) -> None:
        with mock.patch("cachalot.core.reading.results.MAX_ENTRY_BYTES", 10):
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
        door.settle_before_exit()
        self.recover()
        self.assertEqual(self.assertMisses(names), ["A", "B"])

    def test_what_stays_owed_at_the_end_is_said(self) -> None:
        self.fail_at(None)
        Author.objects.create(name="B")
        with self.assertLogs("cachalot", "ERROR") as logs:
            door.settle_before_exit()
        self.assertIn("manage.py invalidate_cachalot", logs.output[0])

    def test_a_debt_renewed_by_one_thread_and_made_again_by_another_stays(self) -> None:
        guard = guard_of("default")
        guard.owe({"k": None})

        def owe_again(store: Store, keys: object, mark: object = None) -> None:
            guard.owe({"k": None})

        with mock.patch.object(Store, "renew", owe_again):
            guard.readable_store()
        self.assertEqual(list(guard.debts.owed), ["k"])

    @override_settings(
        CACHES={
            **FAULTY,
            "default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"},
        }
    )
    def test_a_cache_that_keeps_nothing(self) -> None:
        with mock.patch("cachalot.core.reading.results.pack") as pack:
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

    def test_a_process_that_can_start_no_thread(self) -> None:
        """At a limit, or as it ends: the write succeeds, and the next read settles."""

        def refuse(seconds: float, settle: Callable[[], None]) -> None:
            raise RuntimeError("can't start new thread")

        self.assertCached(names)
        door._guards["default"] = Guard("default", self.time, refuse)
        self.fail_at(None)
        Author.objects.create(name="B")
        guard_of("default")._settle_later()  # a timer that was started before
        self.recover()
        self.assertEqual(self.assertMisses(names), ["A", "B"])

    @pytest.mark.skipif("not hasattr(os, 'fork')")
    def test_a_forked_process_has_the_debts_and_no_timer(self) -> None:
        guard = guard_of("default")
        guard.owe({"k": None})
        child = os.fork()
        if not child:
            guard.owe({"l": None})
            os._exit(0 if len(self.timers) == 2 and len(guard.debts.owed) == 2 else 1)
        self.assertEqual(os.waitpid(child, 0)[1], 0)

    @pytest.mark.skipif("not hasattr(os, 'fork')")
    def test_a_forked_process_waits_for_no_lock_of_another_thread(self) -> None:
        """Each lock is held by a thread that the child does not have."""
        locks = [lock for lock in fork_safe_locks if not lock.locked()]
        self.assertGreater(len(locks), 8)
        taken, given_back = threading.Event(), threading.Event()

        def hold() -> None:
            with ExitStack() as held:
                for lock in locks:
                    held.enter_context(lock)
                taken.set()
                given_back.wait(30)

        holder = threading.Thread(target=hold)
        holder.start()
        self.assertIs(taken.wait(30), True)
        child = os.fork()
        if not child:
            os._exit(0 if all(lock.acquire(timeout=5) for lock in locks) else 1)
        given_back.set()
        holder.join()
        self.assertEqual(os.waitpid(child, 0)[1], 0)


@override_settings(CACHES=FAULTY, CACHALOT_LOCAL_SIZE=0)
class SettingsTests(GuardedTestCase):
    """What is wrong with ``CACHES`` is no failure of a cache."""

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(FaultyCache.well)
        caches["default"].clear()
        Author.objects.create(name="A")

    def test_a_cache_that_is_not_configured_for_a_while(self) -> None:
        self.assertCached(names)
        with override_settings(CACHES={"other": FAULTY["default"]}), self.warnings() as lines:
            self.assertNeverCached(names)
            Author.objects.create(name="B")
            self.assertEqual(names(), ["A", "B"])
            # It is nobody's to repair before it is configured again.
            self.assertEqual(self.timers, [])
            door.settle_before_exit()
        self.assertEqual(len(lines), 1, lines)
        self.assertIn("Nothing is cached", lines[0])
        self.assertEqual(self.assertMisses(names), ["A", "B"])
        self.assertHits(names)

    def test_a_cache_that_is_taken_away_while_it_owes(self) -> None:
        self.assertCached(names)
        FaultyCache.fails_at = None
        Author.objects.create(name="B")
        FaultyCache.well()
        with override_settings(CACHES={"other": FAULTY["default"]}):
            self.timers[0]()
        self.assertEqual(len(self.timers), 1)
        self.assertEqual(self.assertMisses(names), ["A", "B"])

    def test_another_configuration_ends_the_rest(self) -> None:
        FaultyCache.fails_at = None
        FaultyCache.fails_slowly = True
        Author.objects.create(name="B")
        names()
        with override_settings(CACHES={**FAULTY, "default": LOCMEM}):
            self.assertCached(names)
            Author.objects.create(name="C")
            self.assertEqual(self.assertMisses(names), ["A", "B", "C"])
            self.assertHits(names)


class OwnClientTests(GuardedTestCase):
    """Threads that run at once under one context of asgiref share what ``caches`` has for it."""

    def stores(self, backend: str) -> list[Any]:
        """Return what three threads of one context have."""
        configured = {"default": {"BACKEND": f"{MEMCACHED}.{backend}", "LOCATION": "127.0.0.1:1"}}
        found: list[Any] = []

        def look() -> None:
            found.append(stores.store_of("default"))

        with override_settings(CACHES=configured):
            context = contextvars.copy_context()
            look()
            threads = [threading.Thread(target=context.copy().run, args=(look,)) for _ in range(2)]
            for thread in threads:
                thread.start()
                thread.join()
            self.assertIs(stores.store_of("default"), found[0])
            self.assertIsNot(found[0].cache, caches["default"])
        return found

    def test_memcached(self) -> None:
        for backend, client in (("PyMemcacheCache", "pymemcache"), ("PyLibMCCache", "pylibmc")):
            with self.subTest(backend):
                if find_spec(client) is None:
                    self.skipTest(f"{client} is not installed")
                found = self.stores(backend)
                self.assertEqual(len({id(store.cache) for store in found}), 3)
