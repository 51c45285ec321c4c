"""Marks with owners in real caches: they do what the model of the protocol says of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock, skipUnless

from django.test import SimpleTestCase

from cachalot.core.cache import owned_values
from cachalot.core.cache.raw import Backend
from cachalot.core.cache.sides import side_by_api
from cachalot.core.cache.store import Store
from cachalot.core.cache.stores import store_of
from cachalot.core.cache.versions import Mark
from cachalot.core.schema.version_keys import keys_to_renew
from tests.library.models import Author
from tests.protocol.owners import OWNERS
from tests.protocol.server_marks import BY_API, SERVER, ServerMarks
from tests.protocol.world import Scenario, World
from tests.settings import CACHE
from tests.support import CacheTestCase, in_thread, versions_in_cache

HAS_OWNERS = CACHE in {"locmem", "redis", "django_redis", "pymemcache", "pylibmc"}
IS_REDIS = CACHE in {"redis", "django_redis"}

# What happens to versions and marks in a run. A process that has marked is known by its name.
_RUNS = (*OWNERS, *SERVER, BY_API)
# Where marks lie in the value, who asks by Django's API overwrites them: then it stays pending.
_RUNS = tuple(run for run in _RUNS if IS_REDIS or "A1" not in run.programs)


class Versions(ServerMarks):
    """The model, whose readers and statements do nothing to a version."""

    write_plan = ("mark", "renew")
    commit_plan = ("mark", "renew")

    def __init__(self, scenario: Scenario) -> None:
        programs = {
            name: tuple(line for line in lines if line[0] not in {"read"})
            for name, lines in scenario.programs.items()
            if not name.startswith("R")
        }
        super().__init__(scenario._replace(programs=programs, evictions=0, failures=0, refusals=0))
        self.queries = ()


def runs_of(protocol: ServerMarks) -> Iterator[list[tuple[str, Any]]]:
    """Yield every run as events, each with the world behind it."""

    def follow(world: World, run: list[Any]) -> Iterator[list[Any]]:
        following = [
            step
            for step in protocol.steps(world)
            if step.event.who != "Time" and "killed" not in step.event.what
        ]
        if not following:
            yield run
        for step in following:
            yield from follow(step.world, [*run, step])

    yield from follow(protocol.start(), [])


class OwnerTestCase(SimpleTestCase):
    def setUp(self) -> None:
        store = store_of("default")
        assert store is not None
        self.backend = store.backend
        self.assertIsNot(type(self.backend), Backend)
        self.api = side_by_api(store.cache)
        self.clear()

    def clear(self) -> None:
        self.backend.cache.clear()

    def nonces(self, *keys: str) -> list[Any]:
        """Return nonces, "pending" or None for what is missing."""
        return [
            None if raw is None else self.backend.nonce_of(raw) or "pending"
            for raw in self.backend.get(keys)
        ]

    def nonce(self, key: str = "a") -> Any:
        return self.nonces(key)[0]


@versions_in_cache
@skipUnless(HAS_OWNERS, "The cache cannot tell whose a mark is.")
class OwnerTests(OwnerTestCase):
    def test_every_run_of_the_model(self) -> None:
        played = 0
        for scenario in _RUNS:
            with self.subTest(scenario.name):
                for run in runs_of(Versions(scenario)):
                    self.play(Versions(scenario), run)
                    played += 1
        self.assertGreater(played, 100)

    def play(self, protocol: ServerMarks, run: list[Any]) -> None:
        self.clear()
        marks = {name: Mark() for name in protocol.names}
        names: dict[str, str] = {}
        for table, version in enumerate(protocol.start().versions):
            if version is not None:
                self.backend.renew({str(table): None}, None)
                names[version[0]] = self.nonce(str(table))
        for number, step in enumerate(run):
            event = step.event
            side = self.api if event.who.startswith("A") else self.backend
            who = protocol.names.index(event.who)
            is_invalidation = protocol.programs[who][0][0] == "invalidate"
            mark = None if is_invalidation else marks[event.who]
            for table in event.tables:
                if "mark" in event.what:
                    side.mark([str(table)], mark)
                elif "renew" in event.what:
                    side.renew({str(table): None}, mark)
            for table, version in enumerate(step.world.versions):
                found = self.nonce(str(table))
                if version is None and "once more" in event.what and found not in {None, "pending"}:
                    # Where it is compared and set, what has no mark gets a new nonce.
                    self.assertNotIn(found, names.values())
                    break
                told = [one.event for one in run[: number + 1]]
                if version is None:
                    self.assertIs(found, None, told)
                elif version[1]:
                    self.assertEqual(found, "pending", told)
                else:
                    # One nonce for each of the model's, and no other.
                    self.assertNotIn(found, {None, "pending"}, told)
                    self.assertEqual(names.setdefault(version[0], found), found, told)
            else:
                continue
            break
        self.assertEqual(len(set(names.values())), len(names))

    def test_a_mark_takes_the_version_away(self) -> None:
        self.backend.renew({"a": None}, None)
        before, mark = self.nonce(), Mark()
        self.backend.mark(["a"], mark)
        self.assertEqual(self.nonce(), "pending")
        self.assertEqual(self.backend.add_versions({"a": (1.0, "mine")}), {})
        self.backend.renew({"a": None}, mark)
        self.assertNotIn(self.nonce(), {before, "pending", None})

    def test_others_are_told_the_same_by_django_s_api(self) -> None:
        mark, other = Mark(), Mark()
        for each in (mark, other, mark):
            self.backend.mark(["a"], each)
        self.backend.renew({"a": None}, mark)
        (raw,) = self.api.get(["a"])
        self.assertIs(self.api.nonce_of(raw), None)
        ((time, is_pending),) = self.api.invalidated(["a"])  # type: ignore[misc]
        self.assertIs(is_pending, True)
        self.assertEqual(self.api.timestamps(["a"], [raw]), [time])
        self.backend.renew({"a": None}, other)
        nonce = self.nonce()
        self.assertEqual(self.api.nonce_of(self.api.get(["a"])[0]), nonce)

    def test_who_has_never_marked_lifts_nothing(self) -> None:
        mark = Mark()
        self.backend.mark(["a"], mark)
        for stranger in (None, Mark()):
            self.backend.renew({"a": None, "b": None}, stranger)
            self.assertEqual(self.nonce(), "pending")
            self.assertNotIn(self.nonce("b"), {None, "pending"})
        self.backend.renew({"a": None}, mark)
        self.assertNotEqual(self.nonce(), "pending")

    def test_a_mark_without_an_owner_is_left_to_those_who_have_one(self) -> None:
        self.api.mark(["a"], None)
        self.backend.renew({"a": None}, None)
        self.assertEqual(self.nonce(), "pending")
        mark = Mark()
        self.backend.mark(["a"], mark)
        self.backend.renew({"a": None}, mark)
        self.assertNotEqual(self.nonce(), "pending")

    def test_a_database_that_lags(self) -> None:
        """It is pending for so long, whoever else ends, and what is marked is so for longer."""
        for _ in range(3):
            self.backend.renew({"a": 60, "b": None}, None)
            self.assertEqual(self.nonces("a", "b")[0], "pending")
            mark = Mark()
            self.backend.mark(["a", "b"], mark)
            self.backend.renew({"a": None, "b": None}, mark)
            self.assertEqual(self.nonce(), "pending")
            self.assertNotIn(self.nonce("b"), {None, "pending"})

    def test_more_keys_than_one_command_takes(self) -> None:
        keys = [str(number) for number in range(2500 if IS_REDIS else 300)]
        mark = Mark()
        self.backend.mark(keys, mark)
        self.assertEqual(set(self.nonces(*keys)), {"pending"})
        self.backend.renew(dict.fromkeys(keys), mark)
        nonces = self.nonces(*keys)
        self.assertEqual(len(set(nonces) - {None, "pending"}), len(keys))

    def test_no_key(self) -> None:
        self.backend.mark([], Mark())
        self.backend.renew({}, Mark())


@versions_in_cache
@skipUnless(CACHE == "locmem", "The clock of the cache cannot be moved.")
class LocalTimeTests(OwnerTestCase):
    def at(self, seconds: float) -> Any:
        return mock.patch("cachalot.core.cache.raw_locmem.time", return_value=seconds), mock.patch(
            "django.core.cache.backends.locmem.time.time", return_value=seconds
        )

    def test_each_mark_ends_by_itself(self) -> None:
        killed = Mark()
        with self.at(1000.0)[0], self.at(1000.0)[1]:
            self.backend.mark(["a"], killed)
        for seconds, expected in (1299.0, "pending"), (1301.0, None):
            with self.at(seconds)[0], self.at(seconds)[1]:
                mark = Mark()
                self.backend.mark(["a"], mark)
                self.assertEqual(self.nonce(), "pending")
                self.backend.renew({"a": None}, mark)
                self.assertEqual(self.nonce() == "pending", expected == "pending")

    def test_the_last_mark_takes_the_version_along(self) -> None:
        with self.at(1000.0)[0], self.at(1000.0)[1]:
            self.backend.renew({"a": None}, None)
            self.backend.mark(["a"], Mark())
        with self.at(1299.0)[0], self.at(1299.0)[1]:
            self.assertEqual(self.nonce(), "pending")
        with self.at(1301.0)[0], self.at(1301.0)[1]:
            self.assertIs(self.nonce(), None)

    def test_what_cannot_be_decoded_has_no_marks(self) -> None:
        self.backend._set("a", 1, None)  # type: ignore[attr-defined]
        (name,) = self.backend._names(["a"])
        self.backend._values[name] = b"damaged"  # type: ignore[attr-defined]
        self.backend.renew({"a": None}, None)
        self.assertNotIn(self.nonce(), {None, "pending"})


@versions_in_cache
@skipUnless(HAS_OWNERS, "The cache cannot tell whose a mark is.")
class OverlappingTests(CacheTestCase):
    """Another writer of the table begins and ends while one is at work."""

    def names(self) -> list[str]:
        return list(Author.objects.order_by("name").values_list("name", flat=True))

    def test_what_is_read_between_a_change_and_its_new_version(self) -> None:
        Author.objects.create(name="A")
        keys = keys_to_renew("default", frozenset({"library_author"}))
        mark_pending, renew = Store.mark_pending, Store.renew
        read: list[list[str]] = []

        def overlap(store: Store, version_keys: Any, *args: Any) -> Any:
            told = mark_pending(store, version_keys, *args)
            other = Mark()
            mark_pending(store, keys, None, other)
            renew(store, keys, None, other)
            # It would be stored, and found below.
            read.append(in_thread(self.names))
            return told

        def look(store: Store, version_keys: Any, *args: Any) -> Any:
            read.append(in_thread(self.names))
            return renew(store, version_keys, *args)

        with (
            mock.patch.object(Store, "mark_pending", overlap),
            mock.patch.object(Store, "renew", look),
        ):
            Author.objects.create(name="B")
        self.assertEqual(read, [["A"], ["A", "B"]])
        self.assertCached(self.names)


class RedisTestCase(OwnerTestCase):
    backend: Any

    def call(self, *words: object) -> Any:
        import redis

        return redis.Redis(connection_pool=self.backend._pool()).execute_command(*words)

    def names_of(self, key: str) -> tuple[bytes, bytes]:
        from cachalot.core.cache.redis_marks import list_of

        (name,) = self.backend._version_names([key])
        return name, list_of(name)


@skipUnless(IS_REDIS, "The cache is no Redis.")
class RedisOwnerTests(RedisTestCase):
    def ends(self, key: str, *, milliseconds_ago: int) -> None:
        """Have the marks of a key be over since then, as far as the server knows."""
        _, marks = self.names_of(key)
        words = self.call("GET", marks).decode().split()
        words[1::2] = [str(int(end) - 300_000 - milliseconds_ago) for end in words[1::2]]
        self.call("SET", marks, " ".join(words), "KEEPTTL")

    def test_marks_end_by_the_server_s_clock(self) -> None:
        self.backend.mark(["a"], Mark())
        for name in self.names_of("a"):
            self.assertIn(self.call("PTTL", name), range(290_000, 300_001))
        mark = Mark()
        self.backend.mark(["a"], mark)
        self.backend.renew({"a": None}, mark)
        self.assertEqual(self.nonce(), "pending")
        self.ends("a", milliseconds_ago=1)
        self.backend.mark(["a"], mark)
        self.backend.renew({"a": None}, mark)
        self.assertNotIn(self.nonce(), {None, "pending"})
        self.assertEqual(self.call("EXISTS", self.names_of("a")[1]), 0)
        self.assertEqual(self.call("PTTL", self.names_of("a")[0]), -1)

    def test_the_version_stays_pending_until_the_last_mark_ends(self) -> None:
        self.backend.renew({"a": 400}, None)
        mark = Mark()
        self.backend.mark(["a"], mark)
        for name in self.names_of("a"):
            self.assertIn(self.call("PTTL", name), range(390_000, 400_001))
        # Whatever its lag, a database has one.
        self.backend.renew({"a": 3}, mark)
        self.assertEqual(len(self.call("GET", self.names_of("a")[1]).split()), 2)
        self.assertIn(self.call("PTTL", self.names_of("a")[0]), range(390_000, 400_001))

    def test_marks_that_are_lost(self) -> None:
        """Without them nobody knows who else is at work: it stays pending."""
        mark = Mark()
        self.backend.mark(["a"], mark)
        self.call("DEL", self.names_of("a")[1])
        self.backend.renew({"a": None}, mark)
        self.assertEqual(self.nonce(), "pending")
        self.call("DEL", *self.names_of("a"))
        self.backend.renew({"a": None}, mark)
        self.assertIs(self.nonce(), None)

    def test_a_version_that_is_lost(self) -> None:
        mark, other = Mark(), Mark()
        self.backend.mark(["a"], mark)
        self.backend.mark(["a"], other)
        self.call("DEL", self.names_of("a")[0])
        self.backend.add_versions({"a": (1.0, "added")})
        self.backend.renew({"a": None}, mark)
        self.assertEqual(self.nonce(), "pending")
        self.backend.renew({"a": None}, other)
        self.assertNotIn(self.nonce(), {None, "pending"})

    def test_one_round_trip(self) -> None:
        from redis import Connection

        mark = Mark()
        self.backend.mark(["a"], mark)
        self.nonce()
        for write in (
            lambda: self.backend.mark(["a", "b"], mark, "c"),
            lambda: self.backend.renew({"a": None, "b": None}, mark, "c"),
        ):
            with mock.patch.object(
                Connection, "send_packed_command", autospec=True,
                side_effect=Connection.send_packed_command,
            ) as sent:  # fmt: skip
                write()
            self.assertEqual(sent.call_count, 1)

    def test_a_server_that_has_forgotten_the_scripts(self) -> None:
        mark = Mark()
        self.backend.mark(["a"], mark, "b")
        self.call("SCRIPT", "FLUSH")
        self.backend.renew({"a": None}, mark, "b")
        self.assertNotIn(self.nonce(), {None, "pending"})
        self.call("SCRIPT", "FLUSH")
        self.backend.mark(["a"], mark)
        self.assertEqual(self.nonce(), "pending")

    def test_a_server_that_runs_no_scripts(self) -> None:
        """Marks have no owners there."""
        from redis.exceptions import NoPermissionError

        from cachalot.core.cache import raw_redis

        original = raw_redis.Redis._ask
        asked: list[int] = []

        def ask(backend: Any, commands: list[bytes], names: Any, **how: bool) -> Any:
            if any(b"\r\nEVALSHA\r\n" in command for command in commands):
                asked.append(1)
                raise NoPermissionError("this user has no permissions to run 'evalsha'")
            return original(backend, commands, names, **how)

        with (
            mock.patch.object(raw_redis.Redis, "_ask", ask),
            mock.patch.object(self.backend, "_runs_scripts", True),
        ):
            mark = Mark()
            self.backend.mark(["a"], mark)
            self.assertEqual(self.nonce(), "pending")
            self.assertIsNotNone(self.backend.renew({"a": None}, mark, "a"))
            self.assertNotIn(self.nonce(), {None, "pending"})
        self.assertEqual(asked, [1])

    def test_a_refusal_that_is_another(self) -> None:
        from redis.exceptions import ResponseError

        _, marks = self.names_of("a")
        self.call("LPUSH", marks, "of another type")
        with self.assertRaisesMessage(ResponseError, "WRONGTYPE"):
            self.backend.mark(["a"], Mark())
        self.assertIs(self.backend._runs_scripts, True)


@skipUnless(IS_REDIS, "The cache is no Redis.")
class FullRedisTests(RedisTestCase):
    """A server that takes nothing more, and may not evict."""

    def setUp(self) -> None:
        super().setUp()
        self.backend.renew({"a": None, "b": None}, None)
        # Begins a reign.
        self.nonce()
        self.before = next(iter(self.call("CONFIG", "GET", "maxmemory").values()))
        self.addCleanup(lambda: self.call("CONFIG", "SET", "maxmemory", self.before))

    def fill(self) -> None:
        self.call("CONFIG", "SET", "maxmemory", 1)

    def test_what_cannot_be_renewed_is_deleted(self) -> None:
        self.fill()
        self.backend.renew({"a": None, "b": None}, None)
        self.assertEqual(self.nonces("a", "b"), [None, None])

    def test_its_own_mark_is_no_reason_to_keep_it(self) -> None:
        mark = Mark()
        self.backend.mark(["a", "b"], mark)
        self.fill()
        self.backend.renew({"a": None, "b": None}, mark)
        self.assertEqual(self.nonces("a", "b"), [None, None])

    def test_unless_it_holds_another_s_mark(self) -> None:
        mark, other = Mark(), Mark()
        self.backend.mark(["a"], other)
        self.backend.mark(["a", "b"], mark)
        self.fill()
        self.backend.renew({"a": None, "b": None}, mark)
        self.assertEqual(self.nonces("a", "b"), ["pending", None])

    def test_what_cannot_be_marked_is_deleted(self) -> None:
        from redis.exceptions import ResponseError

        self.backend.mark(["b"], Mark())
        self.fill()
        with self.assertRaisesMessage(ResponseError, "maxmemory"):
            self.backend.mark(["a", "b"], Mark())
        self.assertEqual(self.nonces("a", "b"), [None, "pending"])


@versions_in_cache
@skipUnless(CACHE in {"pymemcache", "pylibmc"}, "The cache is no memcached.")
class MemcachedOwnerTests(OwnerTestCase):
    backend: Any

    def test_a_mark_is_over_when_the_server_has_let_its_end_expire(self) -> None:
        self.backend.mark(["a"], Mark())
        ((_, end),) = owned_values.marks_in(self.backend.get(["a"])[0])
        mark = Mark()
        for is_there in (True, False):
            self.backend.mark(["a"], mark)
            self.backend.renew({"a": None}, mark)
            self.assertEqual(self.nonce() == "pending", is_there)
            self.backend.cache.delete(f"cachalot:end:{end}")

    def test_another_writer_between_look_and_set(self) -> None:
        mark, other = Mark(), Mark()
        original = type(self.backend)._compare_and_set

        def interfere(backend: Any, *args: Any) -> bool:
            with mock.patch.object(type(backend), "_compare_and_set", original):
                self.backend.mark(["a"], other)
            patch.stop()
            return bool(original(backend, *args))

        for write in (
            lambda: self.backend.mark(["a"], mark),
            lambda: self.backend.renew({"a": None}, mark),
            lambda: self.backend.renew({"a": None}, None),
        ):
            for prepare in (self.clear, lambda: self.backend.mark(["a"], mark)):
                prepare()
                patch = mock.patch.object(type(self.backend), "_compare_and_set", interfere)
                patch.start()
                write()
                self.backend.renew({"a": None}, mark)
                self.assertEqual(self.nonce(), "pending")
                self.clear()

    def test_a_version_that_never_stays_the_same(self) -> None:
        with (
            mock.patch.object(type(self.backend), "_compare_and_set", return_value=False),
            self.assertRaisesMessage(OSError, "another one each time"),
        ):
            self.backend.renew({"a": None}, None)

    def test_a_version_that_is_gone_between_look_and_set(self) -> None:
        mark = Mark()
        self.backend.mark(["a"], mark)
        original = type(self.backend)._compare_and_set

        def lose(backend: Any, *args: Any) -> bool:
            patch.stop()
            self.backend.cache.delete("a")
            return bool(original(backend, *args))

        patch = mock.patch.object(type(self.backend), "_compare_and_set", lose)
        patch.start()
        self.backend.renew({"a": None}, mark)
        self.assertNotIn(self.nonce(), {None, "pending"})
