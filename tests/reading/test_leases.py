"""Of those who read what a write has made invalid, one computes it and the others wait."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from django.core.cache import caches
from django.db import OperationalError, connection, transaction
from django.test import override_settings

from cachalot.core.cache import leases
from cachalot.core.cache.leases import Turn
from cachalot.core.cache.store import Store
from cachalot.core.reading import results
from cachalot.core.reading.reads import _Reading
from tests.library.models import Author
from tests.support import CacheTestCase, close_connections, in_process, in_thread

_SECONDS = 30.0


def names() -> list[str]:
    return list(Author.objects.order_by("name").values_list("name", flat=True))


@contextmanager
def taking(seconds: float) -> Iterator[None]:
    """Have what is computed in the body count as taking so many seconds."""
    with mock.patch.object(_Reading, "_timed", lambda self: (self._run(), seconds)):
        yield


def _is_query(sql: str) -> bool:
    """Whether it is none of those by which a connection is opened."""
    return "library_author" in sql


class Reader(threading.Thread):
    """Reads in a thread; its query stops before it runs until it ``may_query``."""

    def __init__(self, read: Callable[[], Any] = names) -> None:
        super().__init__(daemon=True)
        self.may_query = threading.Event()
        self.queries = threading.Event()
        self.waits = threading.Event()
        self.error: Exception | None = None
        self.result: Any = None
        self._read = read
        self.start()

    def run(self) -> None:
        def stop(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            if _is_query(sql):
                self.queries.set()
                self.may_query.wait(_SECONDS)
                if self.error is not None:
                    raise self.error
            return execute(sql, params, many, context)

        _here.reader = self
        connection.execute_wrappers.append(stop)
        try:
            self.result = self._read()
        except OperationalError as error:
            self.result = error
        finally:
            close_connections()

    def must_query(self) -> Reader:
        """Wait until it stands before its query."""
        assert self.queries.wait(_SECONDS), "it does not query"
        return self

    def must_wait(self) -> Reader:
        """Wait until it waits for another reader."""
        assert self.waits.wait(_SECONDS), "it does not wait"
        return self

    def end(self) -> Any:
        """Let it query if it wants to; return what it has read."""
        self.may_query.set()
        return self.ended()

    def ended(self) -> Any:
        self.join(_SECONDS)
        assert not self.is_alive(), "it hangs"
        return self.result


def write(name: str) -> None:
    try:
        Author.objects.create(name=name)
    finally:
        close_connections()


def until_it_may(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    """Stop another process before its query."""
    if _is_query(sql):
        caches["default"].set("computing", 1)
        while not caches["default"].get("may_compute"):
            time.sleep(0.01)
    return execute(sql, params, many, context)


def die(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    if _is_query(sql):
        os._exit(0)
    return execute(sql, params, many, context)


_here = threading.local()
_wait = Turn.wait


def _tell_and_wait(turn: Turn) -> None:
    reader = getattr(_here, "reader", None)
    if reader is not None and (turn._is_waiting() or not turn._name):
        reader.waits.set()
    _wait(turn)


class LeaseTestCase(CacheTestCase):
    def setUp(self) -> None:
        patch = mock.patch.object(Turn, "wait", _tell_and_wait)
        patch.start()
        self.addCleanup(patch.stop)


class LeaseTests(LeaseTestCase):
    """The query took so long before that nobody's time is over here."""

    seconds: float = _SECONDS

    def setUp(self) -> None:
        super().setUp()
        Author.objects.create(name="A")
        with taking(self.seconds):
            names()
        Author.objects.create(name="B")

    def test_one_computes_for_all(self) -> None:
        first = Reader().must_query()
        others = [Reader().must_wait() for _ in range(4)]
        self.assertEqual(first.end(), ["A", "B"])
        for other in others:
            self.assertEqual(other.ended(), ["A", "B"])
            self.assertFalse(other.queries.is_set())
        self.assertHits(names)

    def test_nobody_gets_what_is_older_than_the_read(self) -> None:
        """The one computes before a write, and whoever waits has begun behind it."""
        first = Reader().must_query()
        early = Reader().must_wait()
        Author.objects.create(name="C")
        first.may_query.set()
        self.assertEqual(early.end(), ["A", "B", "C"])
        first.ended()
        self.assertEqual(names(), ["A", "B", "C"])

    def test_other_versions_are_computed_beside_it(self) -> None:
        first = Reader().must_query()
        Author.objects.create(name="C")
        second = Reader().must_query()
        third = Reader().must_wait()
        self.assertEqual(second.end(), ["A", "B", "C"])
        self.assertEqual(third.ended(), ["A", "B", "C"])
        self.assertFalse(third.queries.is_set())
        first.end()

    def test_a_query_that_fails_ends_the_lease(self) -> None:
        first = Reader().must_query()
        second = Reader().must_wait()
        first.error = OperationalError("It fails.")
        self.assertIsInstance(first.end(), OperationalError)
        self.assertEqual(second.end(), ["A", "B"])

    def test_what_cannot_be_stored_is_not_waited_for_one_after_the_other(self) -> None:
        with mock.patch.object(results, "MAX_ENTRY_BYTES", 0):
            first = Reader().must_query()
            others = [Reader().must_wait() for _ in range(3)]
            first.end()
            for other in others:
                other.must_query()
            self.assertEqual([other.end() for other in others], [["A", "B"]] * 3)

    def test_a_write_is_waited_for(self) -> None:
        renews, may_renew, renew = threading.Event(), threading.Event(), Store.renew

        def wait_and_renew(*args: Any, **kwargs: Any) -> Any:
            renews.set()
            may_renew.wait(_SECONDS)
            return renew(*args, **kwargs)

        with mock.patch.object(Store, "renew", wait_and_renew):
            writer = threading.Thread(target=write, args=("C",))
            writer.start()
            renews.wait(_SECONDS)
            readers = [Reader().must_wait() for _ in range(3)]
            for reader in readers:
                reader.may_query.set()
            may_renew.set()
            self.assertEqual([reader.end() for reader in readers], [["A", "B", "C"]] * 3)
        writer.join(_SECONDS)
        self.assertEqual(sum(reader.queries.is_set() for reader in readers), 1)

    def test_nobody_waits_in_a_transaction(self) -> None:
        first = Reader().must_query()

        def read() -> list[str]:
            with transaction.atomic():
                return names()

        self.assertEqual(Reader(read).must_query().end(), ["A", "B"])
        first.end()

    def test_nobody_waits_for_an_iterator(self) -> None:
        first = Reader().must_query()
        iterating = Reader(lambda: [author.name for author in Author.objects.iterator()])
        self.assertCountEqual(iterating.must_query().end(), ["A", "B"])
        first.end()

    def test_nobody_waits_for_what_was_never_computed(self) -> None:
        def first_name() -> Any:
            return Author.objects.order_by("name").values_list("name", flat=True).first()

        readers = [Reader(first_name).must_query() for _ in range(2)]
        self.assertEqual([reader.end() for reader in readers], ["A", "A"])

    @override_settings(CACHALOT_WAIT_ABOVE=_SECONDS)
    def test_nobody_waits_for_what_does_not_take_long(self) -> None:
        readers = [Reader().must_query() for _ in range(2)]
        self.assertEqual([reader.end() for reader in readers], [["A", "B"]] * 2)

    @override_settings(CACHALOT_WAIT_ABOVE=None)
    def test_nobody_waits_if_it_is_off(self) -> None:
        readers = [Reader().must_query() for _ in range(2)]
        self.assertEqual([reader.end() for reader in readers], [["A", "B"]] * 2)

    def test_whoever_comes_late_finds_what_was_computed_meanwhile(self) -> None:
        """Between its look and its lease another reader has begun and ended."""
        take, read = leases.take, [0]

        def take_late(*args: Any) -> Any:
            if not read[0]:
                read[0] = 1
                self.assertEqual(in_thread(names), ["A", "B"])
            return take(*args)

        with mock.patch.object(leases, "take", take_late):
            self.assertHits(names)
        self.assertTrue(read[0])

    def test_a_thread_does_not_wait_for_itself(self) -> None:
        """As where an execute wrapper reads for its own ends."""
        within: list[list[str]] = []

        def read_within(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            if not within:
                within.append([])
                within[0] = names()
            return execute(sql, params, many, context)

        def read() -> list[str]:
            with connection.execute_wrapper(read_within):
                return names()

        reader = Reader(read)
        self.assertEqual(reader.end(), ["A", "B"])
        self.assertEqual(within, [["A", "B"]])
        self.assertFalse(reader.waits.is_set())

    def test_a_row_found_by_its_key_is_waited_for(self) -> None:
        key = Author.objects.get(name="A").pk
        with taking(self.seconds):
            Author.objects.get(pk=key)
        Author.objects.filter(pk=key).update(name="Z")

        def read() -> str:
            return Author.objects.get(pk=key).name

        first, second = Reader(read).must_query(), Reader(read).must_wait()
        self.assertEqual((first.end(), second.ended()), ("Z", "Z"))
        self.assertFalse(second.queries.is_set())

    def test_a_cache_that_fails_is_not_waited_for(self) -> None:
        with mock.patch.object(Store, "begin_lease", side_effect=OSError):
            self.assertEqual(names(), ["A", "B"])

    def test_a_reader_in_another_process_is_waited_for(self) -> None:
        if self.uses_locmem():
            self.skipTest("another process has another cache")
        caches["default"].delete_many(["computing", "may_compute"])
        child = threading.Thread(
            target=in_process,
            args=(
                "with connection.execute_wrapper(until_it_may): names()",
                "tests.reading.test_leases",
            ),
        )
        child.start()
        while not caches["default"].get("computing"):
            self.assertTrue(child.is_alive())
        reader = Reader().must_wait()
        caches["default"].set("may_compute", 1)
        self.assertEqual(reader.ended(), ["A", "B"])
        self.assertFalse(reader.queries.is_set())
        child.join(_SECONDS)


@override_settings(CACHALOT_WAIT_ABOVE=0)
class TimeTests(LeaseTestCase):
    """Whoever has a lease may be dead, or take longer than it took before."""

    def setUp(self) -> None:
        super().setUp()
        Author.objects.create(name="A")
        with taking(0.2):
            names()
        Author.objects.create(name="B")

    def test_whoever_waits_computes_when_the_time_is_over(self) -> None:
        first, second = Reader().must_query(), Reader().must_query()
        self.assertEqual([first.end(), second.end()], [["A", "B"]] * 2)

    def test_a_writer_that_takes_long_is_not_waited_for(self) -> None:
        with mock.patch.object(Store, "renew"):
            Author.objects.create(name="C")
            readers = [Reader().must_wait().must_query() for _ in range(2)]
            self.assertEqual([reader.end() for reader in readers], [["A", "B", "C"]] * 2)

    def test_a_thread_that_ends_by_an_exception_of_the_program(self) -> None:
        """It may come between two steps, where nothing gives back the lease."""
        with (
            mock.patch.object(leases.Lease, "give_back"),
            mock.patch.object(_Reading, "missed", side_effect=ZeroDivisionError),
            self.assertRaises(ZeroDivisionError),
        ):
            names()
        self.assertEqual(Reader().end(), ["A", "B"])

    def test_a_process_that_is_killed(self) -> None:
        if self.uses_locmem():
            self.skipTest("another process has another cache")
        with taking(2.0):
            names()
        Author.objects.create(name="C")
        in_process(
            "import os\n"
            "if not os.fork():\n"
            "    with override_settings(CACHALOT_WAIT_ABOVE=0), connection.execute_wrapper(die):\n"
            "        names()\n"
            "os.wait()",
            "tests.reading.test_leases",
        )
        self.assertEqual(Reader().must_wait().end(), ["A", "B", "C"])
