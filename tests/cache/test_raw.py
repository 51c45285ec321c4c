"""The raw side of a cache, beside Django's API to the same cache."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, TypeVar
from unittest import mock

from django.core.cache import InvalidCacheBackendError, caches
from django.core.cache.backends.locmem import LocMemCache
from django.db import transaction
from django.test import SimpleTestCase, override_settings

from cachalot.core.cache.door import guard_of
from cachalot.core.cache.raw import Backend
from cachalot.core.cache.raw_following import Following
from cachalot.core.cache.raw_locmem import LocalMemory
from cachalot.core.cache.sides import backend_of, side_by_api
from cachalot.core.cache.stores import store_of
from cachalot.core.cache.versions import Mark
from cachalot.core.schema.version_keys import keys_to_renew
from tests.library.models import Author
from tests.settings import CACHE
from tests.support import CacheTestCase, count_queries, counted_calls, in_thread, versions_in_cache

T = TypeVar("T")

VERSION = 1.5, "nonce"
MARK = 2.5, None
ENTRY = 7, ("nonce",), b"rows", 3.5, 0.25


def cache_in_use() -> Any:
    store = store_of("default")
    assert store is not None
    return store.cache


@versions_in_cache
class SideTests(SimpleTestCase):
    """Whatever the cache: each side does what the other does, and finds what the other stores."""

    def setUp(self) -> None:
        cache = cache_in_use()
        cache.clear()
        raw, api = backend_of(cache), side_by_api(cache)
        self.pairs = ((raw, api), (api, raw), (raw, raw), (api, api))

    def found(self, backend: Backend, *keys: str) -> list[Any]:
        return [None if raw is None else backend.loads(raw) for raw in backend.get(keys)]

    def test_what_one_stores_the_other_finds(self) -> None:
        for one, other in self.pairs:
            one.cache.clear()
            one.set_versions({"v": (VERSION, None), "m": (MARK, 300)})
            one.set_entries({"e": ENTRY}, 60)
            one.set_entries({"f": ENTRY, "g": ENTRY}, None)
            keys = ["m", "v", "none", "e", "f", "g"]
            expected = [MARK, VERSION, None, ENTRY, ENTRY, ENTRY]
            self.assertEqual(self.found(other, *keys), expected)
            self.assertEqual(other.get(["m", "v"], ["e", "none"])[3], None)
            self.assertEqual(other.loads(other.get(["m", "v"], ["e", "none"])[2]), ENTRY)
            # What is equal when it is decoded is so before, too.
            self.assertEqual(other.get(["v"]), other.get(["v"]))
            self.assertNotEqual(other.get(["v"]), other.get(["m"]))

    def test_what_both_store_are_the_same_bytes(self) -> None:
        for one, other in self.pairs:
            one.set_versions({"v": (VERSION, None)})
            (before,) = one.get(["v"])
            other.set_versions({"v": (VERSION, None)})
            self.assertEqual(one.get(["v"]), [before])

    def test_nonces(self) -> None:
        for one, other in self.pairs:
            one.set_versions({"v": (VERSION, None), "m": (MARK, 300), "w": ((3.5, "n"), None)})
            one.cache.set("foreign", "foreign")
            for _ in range(2):
                raws = other.get(["v", "m", "w", "foreign"])
                nonces = list(map(other.nonce_of, raws))
                # The word of a reign may stand before them.
                word = (nonces[0] or "").removesuffix("nonce")
                self.assertEqual(nonces, [f"{word}nonce", None, f"{word}n", None])

    def test_adding_takes_nobody_s_place(self) -> None:
        for one, other in self.pairs:
            one.cache.clear()
            one.set_versions({"m": (MARK, 300)})
            added = other.add_versions({"m": VERSION, "v": VERSION, "w": VERSION})
            self.assertEqual(list(added), ["v", "w"])
            self.assertEqual(list(added.values()), other.get(["v", "w"]))
            self.assertEqual(self.found(one, "m", "v", "w"), [MARK, VERSION, VERSION])
            self.assertEqual(one.add_versions({"v": MARK}), {})

    def test_another_key_is_read_behind_what_is_written(self) -> None:
        for one, other in self.pairs:
            one.cache.clear()
            self.assertIsNone(other.set_versions({"v": (VERSION, None)}, "other"))
            found = other.set_versions({"v": (MARK, 300), "w": (VERSION, None)}, "v")
            # Others would have to ask again.
            if type(other).set_versions is not Backend.set_versions:
                self.assertEqual(other.loads(found), MARK)
                self.assertEqual(other.get(["v"]), [found])
            self.assertEqual(self.found(one, "v"), [MARK])
            self.assertIsNone(other.set_versions({"v": (VERSION, None)}))

    def test_a_time_that_is_over(self) -> None:
        for one, other in self.pairs:
            one.set_versions({"v": (VERSION, 0), "w": (VERSION, None)})
            one.set_entries({"e": ENTRY}, 0)
            one.set_entries({"f": ENTRY, "g": ENTRY}, 0)
            self.assertEqual(other.get(["v"], ["e", "f", "g"]), [None] * 4)
            self.assertEqual(list(other.add_versions({"v": VERSION})), ["v"])
            other.cache.clear()

    def test_none_is_a_value(self) -> None:
        for one, _ in self.pairs:
            one.cache.set("v", None)
            self.assertEqual(list(map(one.nonce_of, one.get(["v"]))), [None])
            self.assertIs(one.get(["v"])[0] is None, False)
            self.assertIs(one.get(["v", "w"])[0] is None, False)
            self.assertEqual(one.add_versions({"v": VERSION}), {})

    def test_nothing_is_asked_for(self) -> None:
        for one, _ in self.pairs:
            self.assertEqual(one.get([]), [])
            self.assertEqual(one.add_versions({}), {})
            self.assertIsNone(one.set_versions({}))

    def test_keys_of_any_length_and_alphabet(self) -> None:
        key = "schlüssel"
        for one, other in self.pairs:
            one.set_versions({key: (VERSION, None)})
            self.assertEqual(self.found(other, key), [VERSION])

    def test_the_prefix_and_version_that_the_cache_has_now(self) -> None:
        cache = cache_in_use()
        for one, other in self.pairs:
            with mock.patch.multiple(cache, key_prefix="p", version=7):
                one.set_versions({"v": (MARK, 300)})
                self.assertEqual(cache.make_key("v"), "p:7:v")
                self.assertEqual(self.found(other, "v"), [MARK])
            self.assertEqual(self.found(other, "v"), [None])
            cache.clear()


def names() -> list[str]:
    return sorted(Author.objects.values_list("name", flat=True))


@override_settings(CACHALOT_LOCAL_SIZE=0)
@versions_in_cache
class MixedTests(CacheTestCase):
    """Threads that ask the cache by its raw side, and others that ask it by Django's API."""

    def by_api(self, function: Callable[[], T]) -> T:
        kinds = []

        def ask() -> T:
            store = store_of("default")
            assert store is not None
            kinds.append(type(store.backend))
            return function()

        with mock.patch("cachalot.core.cache.store.backend_of", side_by_api):
            result = in_thread(ask)
        self.assertLessEqual(set(kinds), {Backend, Following})
        return result

    def test_each_sees_at_once_what_the_other_writes_and_hits_what_it_stores(self) -> None:
        sides: list[Callable[[Callable[[], Any]], Any]] = [in_thread, self.by_api]
        number = 0
        for writer, reader in product(sides, sides):
            with self.subTest(writer=writer, reader=reader):
                for write in (Author.objects.create, self.create_in_transaction):
                    number += 1
                    writer(lambda write=write, name=str(number): write(name=name))
                    found, queries = reader(lambda: count_queries(names))
                    self.assertEqual((str(number) in found, queries), (True, 1))
                    for again in sides:
                        self.assertEqual(again(lambda: count_queries(names)), (found, 0))

    def create_in_transaction(self, name: str) -> None:
        with transaction.atomic():
            names()
            Author.objects.create(name=name)

    def test_a_mark_of_the_other_keeps_it_from_serving(self) -> None:
        Author.objects.create(name="A")
        keys = keys_to_renew("default", frozenset({"library_author"}))
        for marker, reader in ((in_thread, self.by_api), (self.by_api, in_thread)):
            names()
            mark = Mark()
            marker(lambda mark=mark: guard_of().mark_pending(keys, mark=mark))
            for _ in range(2):
                self.assertEqual(reader(lambda: count_queries(names))[1], 1)
            marker(lambda mark=mark: guard_of().renew(keys, mark=mark))
            self.assertEqual(reader(lambda: count_queries(names))[1], 1)
            self.assertEqual(reader(lambda: count_queries(names))[1], 0)


@versions_in_cache
class OtherKeyTests(CacheTestCase):
    """What a writer learns of another key by the question that it asks anyway."""

    def test_it_is_what_lies_there_once_the_versions_are_written(self) -> None:
        guard, store = guard_of(), store_of("default")
        assert store is not None
        # Not all caches tell it along with the rest.
        is_told = type(store.backend).set_versions is not Backend.set_versions
        store.version("schema")
        for write in (guard.mark_pending, guard.renew, store.mark_pending, store.renew):
            self.assertIsNone(write({"k": None}))
            self.assertIsNone(write({"k": None}, "nothing"))
            for keys in ({"k": None}, {"k": None, "schema": None}):
                found = write(keys, "schema")
                self.assertEqual(found, store.version("schema")[0] if is_told else None)

    def test_it_costs_no_round_trip(self) -> None:
        guard = guard_of()
        for write, call in (guard.mark_pending, "mark"), (guard.renew, "renew"):
            with counted_calls() as calls:
                write({"k": None}, "schema")
            self.assertEqual(calls, {call: 1})


class KnownStoreTests(SimpleTestCase):
    """A thread knows its stores for as long as ``CACHES`` are the same."""

    def test_other_settings(self) -> None:
        before = store_of("default")
        assert before is not None
        self.assertIs(store_of("default"), before)
        locmem = "django.core.cache.backends.locmem.LocMemCache"
        for location in ("one", "two"):
            with override_settings(CACHES={"default": {"BACKEND": locmem, "LOCATION": location}}):
                store = store_of("default")
                assert store is not None
                self.assertIs(store.cache, caches["default"])
                self.assertIs(store_of("default"), store)
        after = store_of("default")
        assert after is not None
        self.assertEqual(type(after.cache), type(before.cache))
        with override_settings(CACHES={"default": {"BACKEND": "tests.cache.faults.FaultyCache"}}):
            self.assertIsNot(store_of("default"), after)
        with override_settings(CACHES={}), self.assertRaises(InvalidCacheBackendError):
            store_of("default")

    def test_threads_have_their_own(self) -> None:
        self.assertIsNot(in_thread(lambda: store_of("default")), store_of("default"))


def in_memory(**parameters: Any) -> Any:
    """Set up a cache in memory, empty, with room for three."""
    default = {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "LOCATION": "tests of its raw side",
        "OPTIONS": {"MAX_ENTRIES": 3, "CULL_FREQUENCY": 3},
    }
    return override_settings(CACHES={"default": {**default, **parameters}})


@in_memory()
@versions_in_cache
class LocalMemoryTests(SimpleTestCase):
    def setUp(self) -> None:
        self.cache: Any = caches["default"]
        self.cache.clear()
        self.backend = backend_of(self.cache)
        self.assertIs(type(self.backend), LocalMemory)

    def keys(self) -> list[str]:
        """Return the keys, the one used last first."""
        return [key.rpartition(":")[2] for key in self.cache._cache]

    def test_what_was_used_last_is_kept(self) -> None:
        for key in "abc":
            self.backend.set_versions({key: (VERSION, None)})
        self.assertEqual(self.keys(), ["c", "b", "a"])
        self.backend.get(["a"])
        self.assertEqual(self.keys(), ["a", "c", "b"])
        self.backend.get(["c"], ["b"])
        self.assertEqual(self.keys(), ["b", "c", "a"])
        self.backend.add_versions({"d": VERSION})
        self.assertEqual(self.keys(), ["d", "b", "c"])
        self.backend.set_entries({"e": ENTRY}, None)
        self.assertEqual(self.keys(), ["e", "d", "b"])

    def test_what_is_over_is_removed(self) -> None:
        self.backend.set_versions({"m": (MARK, 300), "v": (VERSION, None)})
        with mock.patch("cachalot.core.cache.raw_locmem.time", return_value=1e12):
            raws = self.backend.get(["m", "v", "none"])
        self.assertEqual([raw is None for raw in raws], [True, False, True])
        self.assertEqual(self.keys(), ["v"])
        self.assertEqual(len(self.cache._expire_info), 1)

    def test_nothing_is_decoded_twice(self) -> None:
        self.backend.set_versions({"v": (VERSION, None)})
        raws = self.backend.get(["v"])
        self.assertEqual(list(map(self.backend.nonce_of, raws)), ["nonce"])
        with mock.patch("pickle.loads", side_effect=AssertionError):
            self.assertEqual(list(map(self.backend.nonce_of, self.backend.get(["v"]))), ["nonce"])

    def test_known_nonces_have_a_bound(self) -> None:
        with mock.patch("cachalot.core.cache.raw.MAX_NONCES", 3):
            for number in range(10):
                self.backend.set_versions({"v": ((float(number), str(number)), None)})
                raws = self.backend.get(["v"])
                self.assertEqual(list(map(self.backend.nonce_of, raws)), [str(number)])
                self.assertLessEqual(len(self.backend.nonce_of.__self__), 3)  # type: ignore[attr-defined]


@versions_in_cache
class ChoiceTests(SimpleTestCase):
    """Whoever has changed anything of a cache is asked by Django's API."""

    def assertApi(self, cache: Any) -> None:
        self.assertIs(type(backend_of(cache)), Backend)

    def test_the_cache_in_use(self) -> None:
        if CACHE in {"redis", "django_redis"}:
            import redis

            if redis.VERSION[:2] < (5, 3):
                self.skipTest("An older redis-py is asked by Django's API.")
        has_api = CACHE in {"file", "django_valkey"}
        self.assertIs(type(backend_of(cache_in_use())) in {Backend, Following}, has_api)

    def test_a_subclass(self) -> None:
        class Derived(LocMemCache):
            pass

        self.assertApi(Derived("derived", {}))

    def test_keys_of_its_own(self) -> None:
        self.assertApi(LocMemCache("keys", {"KEY_FUNCTION": lambda key, prefix, version: key}))

    def test_a_method_replaced_on_the_object(self) -> None:
        """As the debug toolbar does, to show the calls."""
        for name in ("get", "get_many", "set", "set_many", "add", "make_key", "_set"):
            cache = LocMemCache("patched", {})
            setattr(cache, name, getattr(cache, name))
            self.assertApi(cache)

    def test_a_method_replaced_on_the_class(self) -> None:
        """As tracers do; some take the name of what they wrap."""
        cache = LocMemCache("patched", {})
        for name in ("get", "get_many", "set", "set_many", "add", "make_key", "_set"):
            with mock.patch.object(LocMemCache, name, autospec=True):
                self.assertApi(cache)
        self.assertIs(type(backend_of(cache)), LocalMemory)

    def test_other_backends(self) -> None:
        for backend in ("dummy.DummyCache", "filebased.FileBasedCache"):
            path = f"django.core.cache.backends.{backend}"
            with override_settings(CACHES={"default": {"BACKEND": path, "LOCATION": "unused"}}):
                self.assertApi(caches["default"])
