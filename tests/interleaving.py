"""Readers and writers, threads or processes, that stop between any two of their steps.

Run as a program, it is such a process: it takes orders on its standard input.
"""

from __future__ import annotations

import json
import os
import queue
import select
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, TypeVar
from unittest import mock

import django
from django.db import connections, transaction
from django.db.models.sql import compiler

from cachalot.core.cache.store import Store
from tests.support import close_connections

P = TypeVar("P")

#: Seconds after which a player that has neither stopped nor ended hangs.
PATIENCE = 30

#: Where a writer stops before and after its change becomes visible.
PENDING = "pending"
VISIBLE = "visible"

_of_thread = threading.local()


#: Seconds that no stop takes: where one made a query seem long, others would wait for its reader.
WAIT_ABOVE = 3600


def stop(where: str) -> None:
    """Wait for the order to go on, in a player; do nothing elsewhere."""
    stop_player = getattr(_of_thread, "stop", None)
    if stop_player is not None:
        stop_player(where)


@contextmanager
def _without_stops() -> Iterator[None]:
    stop_player, _of_thread.stop = _of_thread.stop, None
    try:
        yield
    finally:
        _of_thread.stop = stop_player


@contextmanager
def stops() -> Iterator[None]:
    """Make players stop between the steps of the protocol, as long as the body runs.

    The last step of a read, which stores the entry, and of a write, which sets new versions, ends
    where the action does.
    """
    with ExitStack() as patches:
        for patch in (
            mock.patch.object(Store, "read", _stopping(Store.read, after="versions read")),
            mock.patch.object(
                Store, "_add_missing", _stopping(Store._add_missing, before="version missing")
            ),
            mock.patch.object(compiler, "cursor_iter", _stopping_at_the_end(compiler.cursor_iter)),
            mock.patch.object(Store, "mark_pending", _stopping(Store.mark_pending, after=PENDING)),
            mock.patch.object(Store, "renew", _stopping(Store.renew, before=VISIBLE)),
        ):
            patches.enter_context(patch)
        yield


def _stopping(
    step: Callable[..., Any], *, before: str | None = None, after: str | None = None
) -> Callable[..., Any]:
    @wraps(step)
    def stopped(*args: Any, **kwargs: Any) -> Any:
        if before is not None:
            stop(before)
        result = step(*args, **kwargs)
        if after is not None:
            stop(after)
        return result

    return stopped


def _stopping_at_the_end(fetch: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    @wraps(fetch)
    def fetched(*args: Any) -> Iterator[Any]:
        yield from fetch(*args)
        # Not before the last row was fetched and the cursor closed: an unfinished statement
        # would keep SQLite's writers waiting, and they would wait for ever.
        stop("query run")

    return fetched


# What players do


def names() -> list[str]:
    # Models can be imported only once Django is set up, which the program below does itself.
    from tests.library.models import Author

    return list(Author.objects.values_list("name", flat=True))


def _write(name: str) -> None:
    from tests.library.models import Author

    Author.objects.update(name=name)


def _add(name: str) -> None:
    from tests.library.models import Author

    Author.objects.create(name=name)


class _Undone(Exception):
    pass


def _look(name: str) -> list[str]:
    with _without_stops():
        return names()


def _read(name: str) -> list[str]:
    return names()


def _read_in_transaction(name: str) -> list[str]:
    with transaction.atomic():
        found = names()
        stop("end of block")
    return found


def _write_in_transaction(name: str, write: Callable[[str], None] = _write) -> None:
    with transaction.atomic():
        # What is read before the statement and after it must not be published either.
        _look(name)
        write(name)
        assert name in _look(name), "a transaction does not see what it has written"
        stop("statement")


def _add_in_transaction(name: str) -> None:
    _write_in_transaction(name, _add)


def _write_in_vain(name: str) -> None:
    try:
        with transaction.atomic():
            _write_in_transaction(name)
            raise _Undone
    except _Undone:
        pass


ACTIONS: dict[str, Callable[[str], Any]] = {
    "look": _look,
    "read": _read,
    "read in a transaction": _read_in_transaction,
    "write": _write,
    "write in a transaction": _write_in_transaction,
    "write in vain": _write_in_vain,
    "add": _add,
    "add in a transaction": _add_in_transaction,
}


def _obey(receive: Callable[[], Any], send: Callable[[Any], None]) -> None:
    """Do what is ordered until the order is None; report each stop, result and error."""

    def stop_player(where: str) -> None:
        send(("stopped", where))
        receive()

    _of_thread.stop = stop_player
    while (order := receive()) is not None:
        action, name = order
        try:
            result = ACTIONS[action](name)
        except Exception:
            send(("failed", traceback.format_exc()))
        else:
            send(("ended", result))


# Players, seen from outside


class Player:
    """Takes one step at a time of the action it was given."""

    def __init__(self) -> None:
        #: Where it has stopped: "start" before its first step, None after its last.
        self.stopped_at: str | None = None
        self.result: Any = None

    def give(self, action: str, name: str = "") -> None:
        """Prepare for an action of ``ACTIONS``; nothing of it is done yet."""
        self.action = action
        self.name = name
        self.stopped_at = "start"
        self._order: Any = (action, name)

    def advance(self) -> None:
        """Take one step: go on to the next stop or to the end."""
        self.stopped_at = None
        self._send(self._order)
        self._order = "go on"
        what, value = self._receive()
        assert what != "failed", value
        if what == "stopped":
            self.stopped_at = value
        else:
            self.result = value

    def do(self, action: str, name: str = "") -> Any:
        """Take every step of an action and return its result."""
        self.give(action, name)
        self.finish()
        return self.result

    def finish(self) -> None:
        """Take whatever steps are left."""
        while self.stopped_at is not None:
            self.advance()

    def dismiss(self) -> None:
        """End the thread or process, with the connections it has opened."""
        raise NotImplementedError

    def _send(self, order: Any) -> None:
        raise NotImplementedError

    def _receive(self) -> Any:
        raise NotImplementedError


class ThreadPlayer(Player):
    def __init__(self) -> None:
        super().__init__()
        self._orders: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._reports: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            _obey(self._orders.get, self._reports.put)
        finally:
            close_connections()

    def _send(self, order: Any) -> None:
        self._orders.put(order)

    def _receive(self) -> Any:
        return self._reports.get(timeout=PATIENCE)

    def dismiss(self) -> None:
        self._orders.put(None)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "a player hangs"


class ProcessPlayer(Player):
    """Has the database and the cache of the test that runs, in a process of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.interleaving"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "CACHALOT_TEST_WAIT_ABOVE": str(WAIT_ABOVE),
                "CACHALOT_TEST_NAME": str(connections["default"].settings_dict["NAME"]),
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
        )

    def _send(self, order: Any) -> None:
        assert self._process.stdin is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)

    def _receive(self) -> Any:
        assert self._process.stdout is not None
        # One order, one line: nothing is ever left in a buffer.
        readable, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        assert readable, "a player hangs"
        return json.loads(self._process.stdout.readline() or '["failed", "the process ended"]')

    def dismiss(self) -> None:
        try:
            self._process.communicate("null\n", timeout=PATIENCE)
        finally:
            self._process.kill()


def explore(play: Callable[[Callable[[Sequence[P]], P]], None]) -> int:
    """Call ``play(choose)`` once for each sequence of choices, and return how many there are.

    ``choose(options)`` returns one of the options. What ``play`` offers may depend on nothing but
    the choices made before.
    """
    plays = 0
    beginnings: list[tuple[P, ...]] = [()]
    while beginnings:
        beginning = beginnings.pop()
        chosen: list[P] = []

        def choose(options: Sequence[P], beginning=beginning, chosen=chosen) -> P:
            if len(chosen) < len(beginning):
                choice: P = beginning[len(chosen)]
            else:
                choice = options[0]
                beginnings.extend((*chosen, other) for other in options[1:])
            chosen.append(choice)
            return choice

        play(choose)
        plays += 1
    return plays


def main() -> None:
    django.setup()
    with stops():
        try:
            _obey(
                lambda: json.loads(sys.stdin.readline() or "null"),
                lambda report: print(json.dumps(report), flush=True),
            )
        finally:
            close_connections()


if __name__ == "__main__":
    main()
