"""Threads that run the real code one step at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.db import DatabaseError, connections

from cachalot.core.cache.store import PROBE_KEY
from cachalot.core.connection.cursor import driver_cursor
from cachalot.core.schema.introspection import SCHEMA
from cachalot.core.schema.version_keys import version_keys
from tests.support import close_connections

# Always SQLite, whatever the suite runs on.
DB_ALIAS = "other"
CACHE_ALIAS = "scheduled"
_SECONDS = 30

# What an actor does next: "get", "add", "set" with a key of the cache, or a statement's first word.
Operation = tuple[str, str]


class Divergence(AssertionError):
    """The real code did something else than the model."""


class StatementFailed(DatabaseError):
    """The failure of a statement that the model has chosen."""


_here = threading.local()


def stop_before(word: str, key: str) -> None:
    """Wait until an access to the cache is next, if this thread is on a schedule."""
    actor: Actor | None = getattr(_here, "actor", None)
    if actor is not None:
        actor.stop_before((word, key))


def _is_beside(key: str) -> bool:
    return key in {
        *version_keys(DB_ALIAS, frozenset({SCHEMA})),
        *ScheduledCache.beside_keys,
        *ScheduledCache.lost_keys,
    }


class ScheduledCache(BaseCache):
    """A cache in memory. Each access to a key is a step; ``get_many()`` is several."""

    content: dict[str, Any] = {}
    #: What lies under keys of which the model knows nothing: the schema does not change here, nor
    #: does what a block reads.
    beside: dict[str, Any] = {}
    #: Those keys but the schema's.
    beside_keys: set[str] = {PROBE_KEY}
    #: Keys under which nothing is kept, and of which the model knows nothing either.
    lost_keys: set[str] = set()

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        if _is_beside(key):
            return self.beside.get(key, default)
        stop_before("get", key)
        return self.content.get(key, default)

    def add(
        self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        if _is_beside(key):
            return self.beside.setdefault(key, value) is value
        stop_before("add", key)
        return self.content.setdefault(key, value) is value

    def set(
        self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> None:
        if key in self.lost_keys:
            return
        if _is_beside(key):
            self.beside[key] = value
            return
        stop_before("set", key)
        self.content[key] = value

    def clear(self) -> None:
        self.content.clear()


class Actor(threading.Thread):
    """A thread that does one thing after another, a step at a time."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.next: Operation | None = None
        self.is_free = False
        #: Whether the next statement fails "before" or "after" it has done its work; once.
        self.failure = ""
        self.has_failed = False
        self.error: BaseException | None = None
        self._task: Callable[[], None] | None = None
        self._may_go = threading.Semaphore(0)
        self._has_stopped = threading.Semaphore(0)
        self.start()

    def begin(self, task: Callable[[], None]) -> None:
        """Do ``task`` up to its first step."""
        self._task = task
        self.is_free = self.has_failed = False
        self.go_on()

    def go_on(self) -> None:
        """Take the step before which the thread stands, and go to the next."""
        self._may_go.release()
        if not self._has_stopped.acquire(timeout=_SECONDS):
            raise Divergence(f"the real code hangs in {self.next}")
        if self.error is not None:
            error, self.error = self.error, None
            raise error

    def run_out(self) -> None:
        """Do the rest without stopping."""
        self.is_free = True
        if self.next is not None:
            self.go_on()

    def end(self) -> None:
        """End the thread, and close what it has opened."""
        self.run_out()
        self._task = None
        self.go_on()
        self.join(_SECONDS)

    def run_statement(self, word: str, run: Callable[[], Any]) -> Any:
        """Run a statement when it is its turn, unless it is to fail."""
        if word == "rollback" and self.has_failed:
            # Django's own, after a COMMIT that has failed. It makes no difference to anybody.
            return run()
        self.stop_before((word, ""))
        failure, self.failure = self.failure, ""
        self.has_failed |= bool(failure)
        if failure == "before":
            raise StatementFailed
        result = run()
        if failure == "after":
            raise StatementFailed
        return result

    def stop_before(self, operation: Operation) -> None:
        if not self.is_free:
            self.next = operation
            self._has_stopped.release()
            self._may_go.acquire()

    def run(self) -> None:
        connection: Any = connections[DB_ALIAS]
        connection.ensure_connection()
        # Nothing here must survive a loss of power.
        connection.connection.execute("PRAGMA synchronous = OFF")
        connection.execute_wrappers.append(_at_statement)
        for name in ("commit", "rollback"):
            _at_method(connection, name)
        while True:
            self._may_go.acquire()
            if self._task is None:
                break
            _here.actor = self
            try:
                self._task()
            except BaseException as error:
                self.error = error
            _here.actor = None
            self.next = None
            self._has_stopped.release()
        close_connections()
        self._has_stopped.release()


def _run_statement(word: str, run: Callable[[], Any]) -> Any:
    actor: Actor | None = getattr(_here, "actor", None)
    return run() if actor is None else actor.run_statement(word, run)


def _at_statement(
    execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
) -> Any:
    word = sql.partition(" ")[0].lower()
    if word not in {"select", "update", "insert", "delete"}:
        return execute(sql, params, many, context)
    return _run_statement(word, lambda: execute(sql, params, many, context))


@contextmanager
def cursor_of_snapshot(connection: Any) -> Iterator[Any]:
    """Give the cursor that takes a snapshot, when it is its turn."""
    stop_before("snapshot", "")
    with driver_cursor(connection) as cursor:
        yield cursor


def _at_method(connection: Any, name: str) -> None:
    original = getattr(connection, f"_{name}")
    setattr(connection, f"_{name}", lambda: _run_statement(name, original))
