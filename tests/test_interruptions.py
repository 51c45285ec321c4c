"""The program throws an exception between any two steps: nothing is stale or stuck afterwards."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, ClassVar
from unittest import mock

import pytest
from django.db import Error, connection, transaction
from django.test import override_settings

import cachalot
from cachalot.core.cache.door import guard_of
from cachalot.core.cache.local import local_tier
from cachalot.core.cache.store import Store
from cachalot.core.interruptions import is_interruption
from cachalot.core.reading import results
from tests.cache.faults import FAULTY, FaultyCache, GuardedTestCase, names
from tests.library.models import Author, Tag
from tests.support import CacheTestCase

PACKAGE = str(Path(cachalot.__file__).parent)


class TimeIsUp(Exception):
    """As Celery's SoftTimeLimitExceeded is: an Exception that a signal handler raises."""


#: Where a line counts once for each action; elsewhere once for all of them.
DECISIVE = tuple(
    PACKAGE + path
    for path in ("/core/writing/i", "/core/writing/t", "/core/writing/w", "/core/cache/guard")
)


class Tracer:
    """Raises ``TimeIsUp`` where a line of cachalot is reached that it has not met before."""

    of_all: ClassVar[set[tuple[Any, int]]] = set()

    def __init__(self) -> None:
        self.of_action: set[tuple[Any, int]] = set()
        self.raised_at: tuple[Any, int] | None = None

    def trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        place = frame.f_code, frame.f_lineno
        decisive = frame.f_code.co_filename.startswith(DECISIVE)
        met = self.of_action if decisive else self.of_all
        if event == "line" and self.raised_at is None and place not in met:
            met.add(place)
            self.raised_at = place
            raise TimeIsUp
        return self.trace

    def run(self, function: Callable[[], object]) -> bool:
        """Run ``function`` and tell whether it was interrupted."""
        self.raised_at = None
        sys.settrace(self.trace)
        try:
            function()
        except TimeIsUp:
            pass
        except Error:
            # Where a COMMIT is interrupted, Atomic cannot turn autocommit on again.
            if self.raised_at is None:
                raise
        finally:
            sys.settrace(None)
        return self.raised_at is not None

    def place(self) -> str:
        assert self.raised_at is not None
        code, line = self.raised_at
        return f"{code.co_filename.removeprefix(PACKAGE)}:{line}, {code.co_qualname}"


@pytest.mark.skipif("sys.version_info < (3, 11)", reason="co_qualname")
class EveryLineTests(CacheTestCase):
    """The exception comes at every line that an action reaches, in one run each."""

    def setUp(self) -> None:
        if sys.gettrace() is not None:
            self.skipTest("Another tracer measures coverage.")
        self.author = Author.objects.create(name="A")

    def others(self) -> list[str]:
        """Read as a process that has kept nothing."""
        local_tier.clear()
        return names()

    def end_transaction(self) -> None:
        """End what was left open, as it would be without cachalot: between two steps of Django."""
        connection.rollback()
        if not connection.get_autocommit():
            connection.set_autocommit(True)

    def assertNothingIsLeft(self) -> None:
        # What was interrupted may have been done or not: nobody has another answer.
        self.assertFresh(names, self.others())
        # Later writes are seen, of whatever kind.
        with connection.cursor() as cursor:
            cursor.execute("UPDATE library_author SET name = 'R'")
        self.assertEqual(set(self.others()), {"R"})
        with transaction.atomic():
            Author.objects.update(name="A")
            self.assertEqual(set(names()), {"A"})
        self.assertEqual(set(self.others()), {"A"})
        # Nothing keeps results from being cached.
        self.assertHits(names)

    def interrupt(self, action: Callable[[], object], prepare: Callable[[], object]) -> None:
        tracer = Tracer()
        prepare()
        while tracer.run(action):
            try:
                self.end_transaction()
                self.assertNothingIsLeft()
            except Exception as error:
                raise AssertionError(f"Interrupted at {tracer.place()}") from error
            if len(names()) > 1:
                Author.objects.exclude(pk=self.author.pk).delete()
            prepare()
        self.assertGreater(len(tracer.of_all), 100)

    def test_a_hit(self) -> None:
        def prepare() -> None:
            names(), names()

        self.interrupt(names, prepare)

    def test_a_miss(self) -> None:
        self.interrupt(names, lambda: Author.objects.update(name="A"))

    def test_a_write(self) -> None:
        self.interrupt(lambda: Author.objects.update(name="B"), names)

    def test_a_raw_write(self) -> None:
        def write() -> None:
            with connection.cursor() as cursor:
                cursor.execute("UPDATE library_author SET name = 'B'")

        self.interrupt(write, names)

    def test_a_transaction(self) -> None:
        def work() -> None:
            with transaction.atomic():
                names()
                Author.objects.create(name="B")
                names()
                with transaction.atomic():
                    Author.objects.update(name="C")
                list(Tag.objects.all())

        self.interrupt(work, names)

    def test_a_rollback(self) -> None:
        def work() -> None:
            with transaction.atomic():
                Author.objects.update(name="B")
                transaction.set_rollback(True)

        self.interrupt(work, names)

    def test_transactions_by_hand(self) -> None:
        def work() -> None:
            transaction.set_autocommit(False)
            try:
                Author.objects.update(name="B")
                transaction.commit()
                Author.objects.update(name="C")
                transaction.rollback()
            finally:
                transaction.set_autocommit(True)

        self.interrupt(work, names)


@contextmanager
def by_hand() -> Iterator[None]:
    """Run the body in a transaction that is clean afterwards, whatever the COMMIT raises."""
    transaction.set_autocommit(False)
    try:
        yield
        transaction.commit()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


def throw_from(handler: Callable[..., object]) -> None:
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


class RecognitionTests(CacheTestCase):
    def caught(self, function: Callable[[], object]) -> Exception:
        try:
            function()
        except Exception as error:
            return error
        raise AssertionError("It raised nothing.")

    @pytest.mark.skipif("not hasattr(signal, 'SIGUSR1')")
    def test_what_a_signal_handler_raises(self) -> None:
        def named(number: int, frame: FrameType | None) -> None:
            raise TimeoutError("too long")

        def starred(*arguments: object) -> None:
            self.named()

        for handler in (named, starred):
            error = self.caught(lambda handler=handler: throw_from(handler))
            self.assertIs(is_interruption(error), True)

    def named(self) -> None:
        raise OSError("as a cache's client would")

    def test_what_a_client_raises(self) -> None:
        self.assertIs(is_interruption(self.caught(self.named)), False)

        def raise_own() -> None:
            raise TimeIsUp  # of the package whose code it comes through

        self.assertIs(is_interruption(self.caught(raise_own)), False)

    def test_an_exception_of_a_package_that_takes_no_part(self) -> None:
        foreign = type("JobTimeoutException", (Exception,), {"__module__": "rq.timeouts"})

        def be_killed() -> None:
            raise foreign

        self.assertIs(is_interruption(self.caught(be_killed)), True)

    def test_what_a_package_written_in_c_raises(self) -> None:
        """It leaves no frame; that it takes part shows where it is imported."""
        error = type("Damaged", (Exception,), {"__module__": "compressing.errors"})
        for uses, expected in (({}, True), ({"compressing": ModuleType("compressing")}, False)):
            module: dict[str, Any] = {"__name__": "some_cache.serializers", **uses}
            exec("def load(error):\n    raise error", module)
            with self.subTest(uses=uses):
                try:
                    module["load"](error())
                except Exception as raised:
                    self.assertIs(is_interruption(raised), expected)

    def test_what_is_no_exception(self) -> None:
        self.assertIs(is_interruption(KeyboardInterrupt()), True)


class Killed(Exception):
    """Comes out of the middle of a call of the cache, with none of its code in the traceback."""


Killed.__module__ = "elsewhere"


@override_settings(CACHES=FAULTY, CACHALOT_LOCAL_SIZE=0)
class ThroughTheCacheTests(GuardedTestCase):
    """What comes out of a call of the cache and is no failure of it."""

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(FaultyCache.well)
        Author.objects.create(name="A")

    def thrown_in(self, name: str) -> Any:
        method = getattr(Store, name)

        times = iter([True])

        def interrupted(store: Store, *arguments: Any) -> Any:
            result = method(store, *arguments)
            if next(times, False):
                raise Killed
            return result

        return mock.patch.object(Store, name, interrupted)

    def assertThrown(self, name: str, action: Callable[[], object]) -> None:
        with self.subTest(name), self.warnings() as lines:
            with self.thrown_in(name), self.assertRaises(Killed):
                action()
            # The cache has not failed, and goes on being asked.
            self.assertSaid(lines)
            self.assertFresh(names, names())
            names()
            self.assertHits(names)
            self.assertEqual(guarded_debts(), [])

    def test_a_read(self) -> None:
        for name in ("read", "put"):
            Author.objects.update(name="A")
            self.assertThrown(name, names)

    def test_a_write(self) -> None:
        names()
        for name in ("mark_pending", "renew"):
            self.assertThrown(name, lambda: Author.objects.update(name="B"))

    def test_a_commit(self) -> None:
        def write() -> None:
            with by_hand():
                Author.objects.update(name="C")

        names()
        for name in ("mark_pending", "renew", "put"):
            self.assertThrown(name, write if name != "put" else self.read_and_write)

    def read_and_write(self) -> None:
        with by_hand():
            list(Tag.objects.all())
            Author.objects.update(name="D")

    def test_a_result_that_is_pickled(self) -> None:
        with mock.patch.object(results, "pack", side_effect=Killed), self.assertRaises(Killed):
            names()

    @override_settings(CACHALOT_CACHE_ERRORS="raise")
    def test_no_database_error_is_made_of_it(self) -> None:
        with self.thrown_in("mark_pending"), self.assertRaises(Killed):
            Author.objects.update(name="B")


def guarded_debts() -> list[str]:
    return list(guard_of("default").debts.owed)
