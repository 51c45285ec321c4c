"""A real Redis Cluster: versions on one shard, entries on all, and a shard that fails over."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock, skipUnless

from django.core.cache import caches
from django.db import transaction
from django.test import SimpleTestCase, override_settings

from cachalot.core.cache.door import guard_of
from cachalot.core.cache.reigns import LINE_KEY
from cachalot.core.cache.stores import store_of
from cachalot.core.cache.versions import Mark
from cachalot.core.schema.version_keys import version_keys
from tests.cluster.servers import Cluster
from tests.library.models import Author, Book
from tests.settings import CACHE
from tests.support import CacheTestCase, count_queries, in_thread

BACKEND = "cachalot.contrib.redis_cluster.RedisClusterCache"


class Own:
    """A cluster of a class of tests, as the cache in use."""

    cluster: Cluster

    @classmethod
    def start_cluster(cls, case: Any) -> None:
        directory = TemporaryDirectory()
        case.addClassCleanup(directory.cleanup)
        cls.cluster = Cluster(Path(directory.name))
        case.addClassCleanup(cls.cluster.kill)
        cls.cluster.start()
        # The first alone: the others are found.
        config = {
            "BACKEND": BACKEND,
            "LOCATION": cls.cluster.locations[:2],
            "OPTIONS": {"socket_timeout": 1.0, "socket_connect_timeout": 1.0},
        }
        overridden = override_settings(CACHES={"default": config}, CACHALOT_LOCAL_SIZE=0)
        overridden.enable()
        case.addClassCleanup(overridden.disable)
        case.addClassCleanup(lambda: caches["default"]._cache.get_client().close())

    def side(self) -> Any:
        store = store_of("default")
        assert store is not None
        assert type(store.backend).__name__ == "RedisCluster"
        return store.backend

    def version_slot(self) -> int:
        side = self.side()
        return int(side._client.get_client().keyslot(side._line_name))

    def names_of(self, node: Any) -> set[bytes]:
        return set(node.ask("KEYS", "*"))


@skipUnless(CACHE == "redis", "The cache is no Redis.")
class ApiTests(Own, SimpleTestCase):
    """It is a cache of Django's like others, whose keys lie on any shard."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.start_cluster(cls)

    def setUp(self) -> None:
        self.cache: Any = caches["default"]
        self.cache.clear()
        self.numbers = {f"key{number}": number for number in range(30)}

    def test_several_keys(self) -> None:
        self.assertEqual(self.cache.set_many(self.numbers), [])
        self.assertEqual(self.cache.get_many([*self.numbers, "none"]), self.numbers)
        self.assertEqual(self.cache.get_many([]), {})
        holding = [node for node in self.cluster.nodes[:3] if self.names_of(node)]
        self.assertEqual(len(holding), 3)
        self.cache.delete_many(["key1", "key2", "none"])
        self.assertEqual(len(self.cache.get_many(self.numbers)), 28)
        self.cache.clear()
        self.assertEqual(self.cache.get_many(self.numbers), {})

    def test_one_key(self) -> None:
        for key in self.numbers:
            self.assertIs(self.cache.add(key, "a", 60), True)
            self.assertIs(self.cache.add(key, "b", 60), False)
            self.assertIs(self.cache.touch(key, None), True)
            self.cache.set(key, 1)
            self.assertEqual(self.cache.incr(key), 2)
            self.assertEqual((key in self.cache, self.cache.get(key)), (True, 2))
            self.cache.set(key, 1, 0)
            self.assertIs(self.cache.get(key), None)
            self.assertIs(self.cache.delete(key), False)

    def test_threads_share_the_connections_of_their_settings(self) -> None:
        client = self.cache._cache.get_client()
        self.assertIs(in_thread(lambda: caches["default"]._cache.get_client()), client)
        with mock.patch("os.getpid", return_value=1):
            other = self.cache._cache.get_client()
        self.addCleanup(other.close)
        self.assertIsNot(other, client)


def names() -> list[str]:
    return sorted(Author.objects.values_list("name", flat=True))


def titles() -> list[str]:
    return sorted(Book.objects.values_list("title", flat=True))


@skipUnless(CACHE == "redis", "The cache is no Redis.")
class ClusterTests(Own, CacheTestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.start_cluster(cls)

    def test_two_tables_in_one_commit(self) -> None:
        def both() -> list[tuple[str, str]]:
            return list(Book.objects.values_list("title", "author__name"))

        for read in (names, titles, both):
            self.assertCached(read)
        with transaction.atomic():
            author = Author.objects.create(name="A")
            Book.objects.create(title="B", author=author)
        self.assertEqual(guard_of().debts.owed, {})
        for read in (names, titles, both):
            self.assertEqual(len(in_thread(lambda read=read: count_queries(read))[0]), 1)
            self.assertHits(read)
        with transaction.atomic():
            author.delete()
        for read in (names, titles, both):
            self.assertEqual(self.assertMisses(read), [])

    def damage_version(self) -> None:
        from cachalot.core.cache.redis_packets import packed, send

        side = self.side()
        (key,) = version_keys("default", frozenset({"library_author"}))
        (name,) = side._version_names([key])
        send(side._pool(), [packed(b"SET", name, b"damaged")])

    def test_a_version_that_cannot_be_decoded_is_replaced(self) -> None:
        """Else each question for it would be a failure of the cache."""
        self.assertCached(names)
        self.damage_version()
        with mock.patch("cachalot.core.cache.guard.REST_SECONDS", 0):
            self.assertMisses(names)
            self.assertCached(names)

    def test_the_marks_beside_it_are_left(self) -> None:
        keys, mark = version_keys("default", frozenset({"library_author"})), Mark()
        self.side().mark(keys, mark)
        self.damage_version()
        with mock.patch("cachalot.core.cache.guard.REST_SECONDS", 0):
            for _ in range(3):
                self.assertMisses(names)
        self.side().renew(dict.fromkeys(keys), mark)
        self.assertCached(names)

    def test_where_keys_lie(self) -> None:
        for number in range(20):
            self.assertCached(lambda number=number: list(Author.objects.filter(pk=number)))
        names_of = [self.names_of(node) for node in self.cluster.nodes[:3]]
        versions = [{name for name in each if name.startswith(b"{:1}:")} for each in names_of]
        entries = [each - tagged for each, tagged in zip(names_of, versions, strict=True)]
        self.assertEqual(sorted(map(bool, versions)), [False, False, True])
        self.assertIn(f"{{:1}}:{LINE_KEY}".encode(), set().union(*versions))
        self.assertEqual(list(map(bool, entries)), [True] * 3)
        self.assertEqual(len(set().union(*entries)), 20)

    def read(self, number: int) -> list[Author]:
        return list(Author.objects.filter(pk=number))

    def test_a_shard_of_entries_that_does_not_answer(self) -> None:
        reads = [partial(self.read, number) for number in range(12)]
        for read in reads:
            self.assertCached(read)
        side = self.side()
        cluster = side._client.get_client()
        versions = cluster.nodes_manager.get_node_from_slot(self.version_slot())
        other = next(node for node in cluster.get_primaries() if node.name != versions.name)
        with mock.patch.dict(side._resting, {other.name: float("inf")}):
            queries = sum(count_queries(read)[1] for read in reads)
        self.assertTrue(0 < queries < 12, queries)
        for read in reads:
            self.assertHits(read)
        from redis.exceptions import ConnectionError as ConnectionCut

        pool = other.redis_connection.connection_pool
        refused = mock.patch.object(pool, "get_connection", side_effect=ConnectionCut)
        with refused as tries, self.assertNoLogs("cachalot", "WARNING"):
            queries = sum(count_queries(read)[1] for read in reads)
        self.assertTrue(0 < queries < 12, queries)
        self.assertIn(other.name, side._resting)
        # Once by a read, and then to learn where the slots are.
        self.assertLessEqual(tries.call_count, 2)
        side._resting.clear()
        for read in reads:
            self.assertHits(read)


@skipUnless(CACHE == "redis", "The cache is no Redis.")
class FailoverTests(Own, CacheTestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.start_cluster(cls)

    def test_the_shard_of_the_versions_fails_over_without_the_last_renewals(self) -> None:
        self.assertCached(names)
        slot = self.version_slot()
        number = 3 * slot // 16384
        primary, replica = self.cluster.nodes[number], self.cluster.nodes[3 + number]
        primary.ask("WAIT", "1", "5000")
        replica.lose_link()
        Author.objects.create(name="A")
        self.assertEqual(self.assertCached(names), ["A"])
        self.cluster.fail_over(slot)
        # Found at once, and believed in nothing.
        self.assertEqual(self.assertCached(names), ["A"])
        Author.objects.create(name="B")
        self.assertEqual(self.assertMisses(names), ["A", "B"])
        self.assertHits(names)
