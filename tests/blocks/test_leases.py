"""Of those who need what a write has made invalid, one runs the block and the others wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from asgiref.sync import async_to_sync, sync_to_async
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings

from cachalot.api import cached, cached_view
from cachalot.core.blocks.block import Block
from cachalot.core.cache.leases import Turn
from tests.library.models import Author
from tests.support import CacheTestCase, close_connections

_SECONDS = 30.0

_began = threading.Semaphore(0)
_may_end = threading.Event()
_waits = threading.Semaphore(0)
_runs: list[str] = []


def _run() -> list[str]:
    """Read, and tell that it is run; end when it may."""
    names = list(Author.objects.order_by("name").values_list("name", flat=True))
    _runs.append("run")
    _began.release()
    assert _may_end.wait(_SECONDS), "nobody lets it end"
    return names


@cached
def names() -> list[str]:
    return _run()


@cached
async def anames() -> list[str]:
    result = [name async for name in Author.objects.order_by("name").values_list("name", flat=True)]
    _runs.append("run")
    _began.release()
    while not _may_end.is_set():
        await asyncio.sleep(0.01)
    return result


@cached_view
def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(" ".join(_run()))


@cached_view
async def apage(request: HttpRequest) -> HttpResponse:
    return HttpResponse(" ".join(await sync_to_async(_run)()))


@contextmanager
def taking(seconds: float) -> Iterator[None]:
    """Have what is run in the body count as taking so many seconds."""
    leave = Block.__exit__

    def leave_late(block: Block, *exc_info: object) -> None:
        leave(block, *exc_info)
        block._seconds = seconds

    with mock.patch.object(Block, "__exit__", leave_late):
        yield


def _told(wait: Any) -> Any:
    def tell_and_wait(turn: Turn) -> None:
        if turn._is_waiting():
            _waits.release()
        wait(turn)

    return tell_and_wait


class Caller(threading.Thread):
    """Calls a function in a thread."""

    def __init__(self, function: Any) -> None:
        super().__init__(daemon=True)
        self._function = function
        self.result: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self._function()
        except ZeroDivisionError as error:
            self.result = error
        finally:
            close_connections()

    def ended(self) -> Any:
        self.join(_SECONDS)
        assert not self.is_alive(), "it hangs"
        return self.result


class BlockLeaseTests(CacheTestCase):
    def setUp(self) -> None:
        for semaphore in (_began, _waits):
            while semaphore.acquire(blocking=False):
                pass
        patch = mock.patch.object(Turn, "wait", _told(Turn.wait))
        patch.start()
        self.addCleanup(patch.stop)
        Author.objects.create(name="A")

    def make_invalid(self, function: Any) -> None:
        """Have it stored as one that takes long, and write."""
        _may_end.set()
        with taking(_SECONDS):
            function()
        Author.objects.create(name="B")
        _may_end.clear()
        _runs.clear()
        while _began.acquire(blocking=False):
            pass

    def began(self) -> None:
        self.assertTrue(_began.acquire(timeout=_SECONDS), "nobody runs it")

    def wait(self) -> None:
        self.assertTrue(_waits.acquire(timeout=_SECONDS), "nobody waits")

    def test_one_runs_it_for_all(self) -> None:
        self.make_invalid(names)
        first = Caller(names)
        self.began()
        others = [Caller(names) for _ in range(3)]
        for _ in others:
            self.wait()
        _may_end.set()
        self.assertEqual(first.ended(), ["A", "B"])
        self.assertEqual([other.ended() for other in others], [["A", "B"]] * 3)
        self.assertEqual(len(_runs), 1)

    def test_a_write_meanwhile(self) -> None:
        self.make_invalid(names)
        first = Caller(names)
        self.began()
        second = Caller(names)
        self.wait()
        Author.objects.create(name="C")
        _may_end.set()
        first.ended()
        self.assertEqual(second.ended(), ["A", "B", "C"])
        self.assertEqual(len(_runs), 2)

    def test_one_that_raises_ends_the_wait(self) -> None:
        self.make_invalid(names)
        with mock.patch(f"{__name__}._run", side_effect=self.raise_when_it_may):
            first = Caller(names)
            self.began()
            second = Caller(names)
            self.wait()
            _may_end.set()
            self.assertIsInstance(first.ended(), ZeroDivisionError)
            self.assertIsInstance(second.ended(), ZeroDivisionError)
        self.assertEqual(names(), ["A", "B"])

    def raise_when_it_may(self) -> None:
        _began.release()
        _may_end.wait(_SECONDS)
        raise ZeroDivisionError

    def test_what_is_not_stored_is_not_waited_for_one_after_the_other(self) -> None:
        self.make_invalid(names)
        with mock.patch.object(Block, "pack", return_value=None):
            with mock.patch.object(Block, "_keep"):
                first = Caller(names)
                self.began()
                others = [Caller(names) for _ in range(2)]
                for _ in others:
                    self.wait()
                _may_end.set()
                for caller in (first, *others):
                    caller.ended()
        self.assertEqual(len(_runs), 3)

    def test_nobody_waits_in_a_transaction(self) -> None:
        self.make_invalid(names)
        first = Caller(names)
        self.began()

        def call() -> list[str]:
            with transaction.atomic():
                return names()

        second = Caller(call)
        self.began()
        _may_end.set()
        self.assertEqual((first.ended(), second.ended()), (["A", "B"], ["A", "B"]))

    @override_settings(CACHALOT_WAIT_ABOVE=None)
    def test_nobody_waits_if_it_is_off(self) -> None:
        self.make_invalid(names)
        callers = [Caller(names) for _ in range(2)]
        for _ in callers:
            self.began()
        _may_end.set()
        self.assertEqual([caller.ended() for caller in callers], [["A", "B"]] * 2)

    def test_a_view(self) -> None:
        def get() -> bytes:
            content: bytes = page(RequestFactory().get("/")).content
            return content

        self.make_invalid(get)
        first = Caller(get)
        self.began()
        second = Caller(get)
        self.wait()
        # What it returns is not the page, so that nobody waits for it.
        head = Caller(lambda: page(RequestFactory().head("/")))
        self.began()
        _may_end.set()
        self.assertEqual((first.ended(), second.ended()), (b"A B", b"A B"))
        head.ended()
        self.assertEqual(len(_runs), 2)

    def test_tasks_of_one_thread(self) -> None:
        def call() -> list[str]:
            return async_to_sync(anames)()

        self.make_invalid(call)

        async def call_three() -> list[list[str]]:
            callers = [asyncio.ensure_future(anames()) for _ in range(3)]
            while not _runs:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            _may_end.set()
            return await asyncio.gather(*callers)

        self.assertEqual(Caller(async_to_sync(call_three)).ended(), [["A", "B"]] * 3)
        self.assertEqual(len(_runs), 1)

    def test_an_async_view(self) -> None:
        async def get() -> bytes:
            content: bytes = (await apage(RequestFactory().get("/"))).content
            return content

        self.make_invalid(async_to_sync(get))
        first = Caller(async_to_sync(get))
        self.began()
        second = Caller(async_to_sync(get))
        second.join(0.2)
        self.assertTrue(second.is_alive())
        _may_end.set()
        self.assertEqual((first.ended(), second.ended()), (b"A B", b"A B"))
        self.assertEqual(len(_runs), 1)
