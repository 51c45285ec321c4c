"""A cache that fails in every way, and a process whose clock is moved by hand."""

from __future__ import annotations

import logging
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar
from unittest import mock

from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.db import transaction

from cachalot.core.cache import door
from cachalot.core.cache.guard import Guard
from cachalot.core.cache.raw import SLOW_SECONDS
from tests.library.models import Author, Publisher, Tag
from tests.support import CacheTestCase

T = TypeVar("T")

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
        def proceed() -> dict[str, Any]:
            missing = object()
            found = {key: LocMemCache.get(self, key, missing, version) for key in keys}
            return {key: value for key, value in found.items() if value is not missing}

        return self._call("read", keys, proceed)

    def get(self, key: str, default: Any = None, version: Any = None) -> Any:
        if not key.endswith("probe"):
            return self.get_many([key], version).get(key, default)
        return self._call("probe", key, lambda: LocMemCache.get(self, key, default, version))

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
    "default": {"BACKEND": "tests.cache.faults.FaultyCache", "LOCATION": "faulty"},
    "second": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "second"},
}


class GuardedTestCase(CacheTestCase):
    """A process whose clock and timers are moved by hand."""

    def setUp(self) -> None:
        self.now = 1000.0
        self.timers: list[Callable[[], None]] = []
        self.enter(mock.patch.object(FaultyCache, "hang", self.pass_time))
        self.enter(mock.patch.object(door, "_guards", {"default": self.new_guard()}))

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
        door._guards["default"] = self.new_guard()

    def in_another_process(self, read: Callable[[], T]) -> T:
        """Read as a process does that had no part in the failure."""
        with mock.patch.object(door, "_guards", {"default": self.new_guard()}):
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
