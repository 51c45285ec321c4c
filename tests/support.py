"""What the tests share: counting queries, other threads, other processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any, TypeVar
from unittest import mock

from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.db import connections
from django.test import TransactionTestCase
from django.test.utils import CaptureQueriesContext, override_settings
from django.utils.functional import classproperty

from cachalot.api import cachalot_disabled
from cachalot.core.cache.board import PENDING
from cachalot.core.cache.boards import board_in_use
from cachalot.core.cache.door import guard_of
from cachalot.core.cache.stores import close_own_stores

T = TypeVar("T")

#: For tests that look for versions where any cache keeps them, which local memory does not by
#: default.
versions_in_cache = override_settings(CACHALOT_BOARD=None)


def count_queries(read: Callable[[], T], using: str = "default") -> tuple[T, int]:
    """Return what ``read`` returns and how many queries it ran."""
    with CaptureQueriesContext(connections[using]) as queries:
        result = read()
    return result, len(queries)


@contextmanager
def counted_calls() -> Iterator[Counter[str]]:
    """Count what the cache in use is asked: each call is a round trip."""
    calls: Counter[str] = Counter()
    store = guard_of().store()
    assert store is not None
    in_use, backend = store.backend, type(store.backend)
    # Some backends make one of these of the others.
    is_outermost = [True]

    def counting(name: str) -> Any:
        original = getattr(backend, name)

        @wraps(original)
        def count(self: Any, *args: Any, **kwargs: Any) -> Any:
            if is_outermost[0] and self is in_use:
                calls[name] += 1
            was, is_outermost[0] = is_outermost[0], False
            try:
                return original(self, *args, **kwargs)
            finally:
                is_outermost[0] = was

        return mock.patch.object(backend, name, count)

    with (
        counting("get"),
        counting("add_versions"),
        counting("mark"),
        counting("renew"),
        counting("set_entries"),
    ):
        yield calls


def lift_marks() -> None:
    """End what is pending of the tables that this process knows, whoever has marked them."""
    for cache in caches.all(initialized_only=True):
        store = getattr(cache, "_cachalot_store", None)
        if store is not None and store.backend.board is not None:
            slots = {slot for places in store.backend._places.values() for slot in places.slots}
            store.backend.board.file.change(partial(_lift_marks, slots))


def _lift_marks(slots: set[int], words: memoryview, now: int) -> None:
    for slot in slots:
        words[slot + 2] = words[slot + 3] = 0
        if words[slot] >= PENDING:
            words[slot] = now


def close_caches() -> None:
    """Close what this thread has opened to caches."""
    close_own_stores()
    for cache in caches.all(initialized_only=True):
        cache.close()


def close_connections() -> None:
    """Close what this thread has opened to databases and caches."""
    connections.close_all()
    close_caches()


def in_thread(function: Callable[[], T], timeout: float = 30) -> T:
    """Run ``function`` in another thread, on database connections of its own."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((function(), None))
        except BaseException as error:
            outcome.append((None, error))
        finally:
            close_connections()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(timeout)
    assert not thread.is_alive(), "the other thread hangs"
    ((result, error),) = outcome
    if error is not None:
        raise error
    return result


def in_process(
    code: str,
    imports: str = "tests.library.models",
    settings_module: str = "tests.settings",
    **environment: str,
) -> Any:
    """Run ``code`` in another Python process, on the same database and cache.

    It finds all names of the module ``imports``. Return what it leaves, JSON-like, in the variable
    ``result``.
    """
    program = (
        "import json, django; django.setup()\n"
        "from django.db import connection, transaction\n"
        f"from {imports} import *\n"
        f"result = None\n{code}\nprint(json.dumps(result))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program],
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": settings_module,
            "CACHALOT_TEST_NAME": str(connections["default"].settings_dict["NAME"]),
            "PYTHONPATH": os.pathsep.join(sys.path),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


class CacheTestCase(TransactionTestCase):
    """Tests whose commits are real."""

    databases = {"default"}

    @classproperty
    def available_apps(cls) -> list[str]:
        """All of them. What is left out is to send ``post_migrate`` after each test."""
        return list(settings.INSTALLED_APPS)

    def count_queries(self, read: Callable[[], T]) -> tuple[T, int]:
        """Return what ``read`` returns and how many queries it ran that count here."""
        return count_queries(read)

    def assertMisses(self, read: Callable[[], T], queries: int = 1) -> T:
        """``read`` asks the database and gets what it gets without a cache."""
        result, ran = self.count_queries(read)
        self.assertEqual(ran, queries, "queries on a read that should miss")
        self.assertFresh(read, result)
        return result

    def assertHits(self, read: Callable[[], T]) -> T:
        """``read`` runs no query and gets what it gets without a cache."""
        result, ran = self.count_queries(read)
        self.assertEqual(ran, 0, "queries on a read that should hit")
        self.assertFresh(read, result)
        return result

    def assertCached(self, read: Callable[[], T]) -> T:
        """``read`` misses, and hits the second time."""
        self.assertMisses(read)
        return self.assertHits(read)

    def assertNeverCached(self, read: Callable[[], T]) -> None:
        """``read`` asks the database each time."""
        for _ in range(3):
            _, ran = count_queries(read)
            self.assertEqual(ran, 1, "queries on a read that must not be cached")

    @staticmethod
    def uses_locmem() -> bool:
        """Whether another process has results of its own."""
        return isinstance(caches["default"], LocMemCache)

    @classmethod
    def is_alone(cls) -> bool:
        """Whether another process has versions of its own as well."""
        return cls.uses_locmem() and board_in_use() is None

    def assertFresh(self, read: Callable[[], T], result: T) -> None:
        with cachalot_disabled():
            self.assertEqual(result, read())
