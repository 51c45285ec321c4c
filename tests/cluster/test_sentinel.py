"""A failover by Sentinel, whose replica lacks what was written last."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock, skipUnless

from django.test import override_settings

from cachalot.core.cache import guard
from cachalot.core.cache.raw_following import Following
from cachalot.core.cache.stores import store_of
from tests.cluster.servers import Redis, Sentinel
from tests.library.models import Author
from tests.settings import CACHE
from tests.storm.caches import wait_for
from tests.support import CacheTestCase, close_caches, in_thread


def names() -> list[str]:
    return sorted(Author.objects.values_list("name", flat=True))


@skipUnless(CACHE == "django_redis", "Only django-redis has a client for Sentinel.")
class SentinelTests(CacheTestCase):
    def setUp(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.primary, self.replica = (Redis(Path(directory.name)) for _ in range(2))
        self.sentinel = Sentinel(Path(directory.name))
        for server in (self.primary, self.replica, self.sentinel):
            self.addCleanup(server.kill)
            server.start()
        self.replica.follow(self.primary)
        self.sentinel.watch(self.primary)

    def use(self, **options: Any) -> None:
        location = options.pop("LOCATION", "redis://site/0")
        config = {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": location,
            "OPTIONS": {
                "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
                "SENTINELS": [("127.0.0.1", self.sentinel.port)],
                **options,
            },
        }
        overridden = override_settings(CACHES={"default": config}, CACHALOT_LOCAL_SIZE=0)
        overridden.enable()
        self.addCleanup(overridden.disable)
        self.addCleanup(close_caches)
        self.addCleanup(lambda: self.pool().disconnect())

    def pool(self) -> Any:
        store = store_of("default")
        assert store is not None
        self.assertNotIsInstance(store.backend, Following)
        return store.backend._pool()  # type: ignore[attr-defined]

    def assertSurvivesAFailover(self) -> None:
        Author.objects.create(name="old")
        self.assertEqual(self.assertCached(names), ["old"])
        self.primary.ask("WAIT", "1", "5000")
        self.replica.lose_link()
        Author.objects.create(name="new")
        self.assertEqual(self.assertCached(names), ["new", "old"])
        self.primary.kill()
        wait_for(lambda: self.sentinel.port_of_primary() == self.replica.port, 30)
        self.replica.ask("CONFIG SET", "masterauth", "")
        # The first attempt may lead nowhere.
        with mock.patch.object(guard, "REST_SECONDS", 0.0):
            for _ in range(2):
                self.assertEqual(names(), ["new", "old"])
            self.assertHits(names)
            Author.objects.all().delete()
            self.assertEqual(in_thread(names), [])

    def test_the_default_client(self) -> None:
        self.use()
        self.assertSurvivesAFailover()

    def test_the_client_that_reads_from_replicas(self) -> None:
        self.use(CLIENT_CLASS="django_redis.client.SentinelClient")
        self.assertSurvivesAFailover()
