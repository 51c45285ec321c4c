"""Several servers of memcached: none is ever asked for the keys of another."""

from __future__ import annotations

import time
from collections.abc import Iterator
from random import Random
from tempfile import TemporaryDirectory
from typing import Any
from unittest import skipUnless

from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.memcached import BaseMemcachedCache
from django.test import SimpleTestCase, override_settings

from cachalot.core.cache.backends import client_that_may_reroute
from cachalot.core.cache.keyspace import new_cache
from tests.settings import CACHE
from tests.storm.caches import MemcachedServer


class OwnClient:
    """A project's."""

    def __init__(self, servers: list[str], **options: Any) -> None:
        pass

    def disconnect_all(self) -> None:
        pass


class OwnCache(BaseMemcachedCache):
    _class: Any = OwnClient

    def __init__(self, server: Any, params: dict[str, Any]) -> None:
        super().__init__(server, params, type("Library", (), {"Client": OwnClient}), KeyError)


class ClientTests(SimpleTestCase):
    def test_a_client_of_which_nothing_is_known(self) -> None:
        several = OwnCache(["127.0.0.1:1", "127.0.0.1:2"], {})
        self.assertEqual(client_that_may_reroute(several), "tests.cache.test_rerouting.OwnClient")
        self.assertIsNone(client_that_may_reroute(OwnCache("127.0.0.1:1", {})))
        self.assertIsNone(client_that_may_reroute(caches["second"]))


@skipUnless(CACHE in {"pymemcache", "pylibmc"}, "The cache is no memcached.")
class ServerTests(SimpleTestCase):
    """Each client is configured to look elsewhere as soon as it can."""

    def setUp(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.servers = [MemcachedServer(directory.name, Random(0)) for _ in range(3)]
        for server in self.servers:
            server.start()
            self.addCleanup(server.stop)
        self.options: dict[str, Any] = (
            {"retry_attempts": 0, "dead_timeout": 60, "timeout": 1, "connect_timeout": 1}
            if CACHE == "pymemcache"
            else {"behaviors": {"ketama": True, "remove_failed": 1, "retry_timeout": 1}}
        )
        config = {
            "BACKEND": settings.CACHES["default"]["BACKEND"],
            "LOCATION": [server.location for server in self.servers],
            "OPTIONS": self.options,
        }
        overridden = override_settings(CACHES={"default": config})
        overridden.enable()
        self.addCleanup(overridden.disable)

    def lost_by(self, cache: Any, rounds: int) -> Iterator[int]:
        """Have a server die; yield again and again how many of 30 keys nobody takes."""
        dead = self.servers[0]
        dead.stop()
        for _ in range(rounds):
            yield sum(not self.is_taken(cache, f"key{number}") for number in range(30))
            # libmemcached gives a server up only after a second.
            time.sleep(0.25)
        dead.start()

    def is_taken(self, cache: Any, key: str) -> bool:
        try:
            cache.set(key, "new")
            return bool(cache.get(key) == "new")
        except Exception:
            return False

    def test_the_client_of_cachalot_goes_to_no_other_server(self) -> None:
        cache = new_cache("default")
        self.addCleanup(cache.close)
        self.assertGreater(min(self.lost_by(cache, 12)), 0)
        self.assertIsNone(client_that_may_reroute(cache))
        # What the project has configured is not changed for others.
        self.assertIn(next(iter(self.options)), settings.CACHES["default"]["OPTIONS"])
        self.assertEqual(settings.CACHES["default"]["OPTIONS"], self.options)

    @skipUnless(CACHE == "pymemcache", "Not every build of libmemcached gives a server up.")
    def test_django_s_does(self) -> None:
        """Else the test would show nothing."""
        cache = caches.create_connection("default")
        self.addCleanup(cache.close)
        self.assertEqual(min(self.lost_by(cache, 12)), 0)
