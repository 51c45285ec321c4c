"""Real cache servers that are stopped, hung, full or read-only."""

from __future__ import annotations

import gc
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from random import Random
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock, skipUnless

from django.conf import settings
from django.db import DatabaseError, transaction
from django.test import override_settings

from cachalot.core.cache.door import guard_of
from cachalot.core.cache.guard import (
    REST_SECONDS,
)
from cachalot.core.cache.store import Store
from tests.cache.faults import (
    FAULTY,
    GuardedTestCase,
    names,
)
from tests.library.models import Author
from tests.settings import CACHE
from tests.storm.caches import CACHES, MemcachedServer
from tests.support import close_caches

SERVERS = {**CACHES, "pylibmc": MemcachedServer}

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


def cache_in_use() -> Any:
    """Return the cache with the client that cachalot has for this thread."""
    store = guard_of("default").store()
    assert store is not None
    return store.cache


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
            cache_in_use().clear()
            self.start_again()
            Author.objects.all().delete()
            Author.objects.create(name="A")
            self.assertEqual(names(), ["A"])
            self.assertHits(names)
            is_damaged: list[bool] = []
            original = getattr(Store, step)

            def damage_before(store: Store, *args: Any, **kwargs: Any) -> Any:
                if not is_damaged:
                    is_damaged.append(True)
                    damage()
                return original(store, *args, **kwargs)

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
            vars(cache_in_use()).pop("_cache", None)

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
