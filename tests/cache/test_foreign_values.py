"""Whatever lies under a key of ours is a hit only if it is what was stored there."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any
from unittest import mock

from django.core.cache import caches
from django.test import override_settings
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from cachalot.api import get_last_invalidation
from cachalot.core.cache import door
from cachalot.core.cache.entries import Stored, pack
from cachalot.core.cache.guard import REST_SECONDS, Guard
from cachalot.core.cache.store import Store
from cachalot.utils import get_table_cache_key
from tests.library.models import Author
from tests.support import CacheTestCase, count_queries, versions_in_cache

# What other programs, other releases and broken memory may leave.
foreign = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
examples = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def names() -> list[str]:
    return sorted(Author.objects.values_list("name", flat=True))


def count() -> int:
    return Author.objects.count()


def flipped(content: bytes, bit: int) -> bytes:
    """Return ``content`` with one bit changed."""
    position = bit % (len(content) * 8)
    changed = bytearray(content)
    changed[position // 8] ^= 1 << position % 8
    return bytes(changed)


def entries_of(*reads: Callable[[], object]) -> list[str]:
    """Return the keys under which the entries of ``reads`` are stored."""
    keys: list[str] = []
    original = Store.put

    def note(store: Store, entries: dict[str, Any], timeout: float | None) -> None:
        keys.extend(entries)
        original(store, entries, timeout)

    with mock.patch.object(Store, "put", note):
        for read in reads:
            read()
    return keys


@override_settings(CACHALOT_LOCAL_SIZE=0)
@versions_in_cache
class ForeignValueTests(CacheTestCase):
    def setUp(self) -> None:
        Author.objects.create(name="A")
        (self.key,) = entries_of(names)
        self.cache = caches["default"]
        self.entry = self.cache.get(self.key)
        self.version_key = get_table_cache_key("default", "library_author")
        self.version = self.cache.get(self.version_key)
        self.assertHits(names)

    def assertMiss(self, found: object) -> None:
        """The value ``found`` under the entry's key is a miss, and is replaced."""
        self.cache.set(self.key, found)
        self.assertEqual(count_queries(names), (["A"], 1), found)
        self.assertEqual(count_queries(names), (["A"], 0), found)

    def test_values_of_other_types_and_shapes(self) -> None:
        @examples
        @given(foreign)
        def check(found: object) -> None:
            self.assertMiss(found)

        check()

    def test_entries_with_a_part_of_another_type(self) -> None:
        @examples
        @given(st.integers(0, 4), foreign)
        @example(2, pack(["B"]))
        @example(2, self.entry[2] + b".")
        def check(position: int, part: object) -> None:
            parts = list(self.entry)
            assume(parts[position] != part)
            assume(position < 3 or not isinstance(part, float))
            parts[position] = part
            self.assertMiss(tuple(parts))

        check()

    def test_truncated_entries(self) -> None:
        checksum, nonces, payload, *rest = self.entry
        for length in range(len(payload)):
            self.assertMiss((checksum, nonces, payload[:length], *rest))
        for length in range(len(self.entry)):
            self.assertMiss(self.entry[:length])

    def test_an_entry_with_any_bit_flipped(self) -> None:
        """The pickle of other rows, as often as not."""
        checksum, nonces, payload, *rest = self.entry
        for bit in range(len(payload) * 8):
            self.assertMiss((checksum, nonces, flipped(payload, bit), *rest))
        for bit in range(32):
            self.assertMiss((checksum ^ 1 << bit, nonces, payload, *rest))
        for bit in range(7):
            nonce = flipped(nonces[0].encode(), bit).decode("latin-1")
            self.assertMiss((checksum, (nonce,), payload, *rest))

    def test_an_entry_of_another_format(self) -> None:
        with mock.patch("cachalot.core.cache.entries._FORMAT", b"another"):
            (key,) = entries_of(names)
        self.assertEqual(key, self.key)
        self.assertEqual(count_queries(names), (["A"], 1))
        self.assertHits(names)
        self.assertMiss((1, *self.entry[1:]))

    def test_the_entry_of_another_query(self) -> None:
        """As given by a client that is one answer behind its questions."""
        (other_key,) = entries_of(count)
        other = self.cache.get(other_key)
        self.assertEqual(other[1], self.entry[1])
        self.assertMiss(other)
        self.cache.set(other_key, self.entry)
        self.assertEqual(count_queries(count), (1, 1))

    def test_a_payload_that_cannot_be_unpickled(self) -> None:
        class Forgotten:
            pass

        module = ModuleType("forgotten")
        module.Forgotten = Forgotten  # type: ignore[attr-defined]
        Forgotten.__module__, Forgotten.__qualname__ = "forgotten", "Forgotten"
        with mock.patch.dict(sys.modules, forgotten=module):
            of_a_class_that_is_gone = pack([Forgotten()])
        for payload in (of_a_class_that_is_gone, b"", b"not a pickle", b"cos\nno_such_name\n."):
            with self.subTest(payload):
                Store(self.cache).put({self.key: (self.entry[1], Stored(payload, 0.0, 0.0))}, None)
                self.assertEqual(count_queries(names), (["A"], 1))
                self.assertHits(names)

    def test_the_last_invalidation_of_a_damaged_version_is_now(self) -> None:
        before = get_last_invalidation(Author)
        self.cache.set(self.version_key, "damaged")
        first = get_last_invalidation(Author)
        self.assertGreater(first, before)
        self.assertGreater(get_last_invalidation(Author), first)

    def test_foreign_versions(self) -> None:
        """A table whose version is none of ours is not cached before its next write."""

        @examples
        @given(
            foreign
            | st.tuples(foreign, foreign)
            | st.tuples(st.floats(), foreign)
            | st.tuples(foreign, st.text(max_size=40))
        )
        @example((*self.version, 1))
        @example(self.version[1:])
        @example((int(self.version[0]), self.version[1]))
        @example((self.version[0], self.version[1].encode()))
        @example({"timestamp": self.version[0], "nonce": self.version[1]})
        def check(found: object) -> None:
            assume(found != self.version)
            self.cache.set(self.version_key, found)
            self.assertEqual(count_queries(names), (["A"], 1), found)
            self.assertEqual(names(), ["A"])
            self.assertIsInstance(get_last_invalidation(Author), float)
            Author.objects.update(name="A")
            self.assertEqual(count_queries(names), (["A"], 1), found)
            self.assertEqual(count_queries(names), (["A"], 0), found)

        check()


@override_settings(
    CACHES={
        "default": {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            "LOCATION": "foreign",
        }
    }
)
@versions_in_cache
class UndecodableTests(CacheTestCase):
    """Bytes that Django's own cache cannot decode: it raises, for all keys asked for at once."""

    def setUp(self) -> None:
        self.cache: Any = caches["default"]
        self.cache.clear()
        Author.objects.create(name="A")
        (self.key,) = entries_of(names)
        self.version_key = get_table_cache_key("default", "library_author")

    def raw(self, key: str) -> bytes:
        raw: bytes = self.cache._cache[self.cache.make_key(key)]
        return raw

    def assertHarmless(self, key: str, damaged: bytes) -> None:
        door._guards.clear()
        internal_key = self.cache.make_key(key)
        self.cache._cache[internal_key] = damaged
        self.assertEqual(names(), ["A"])
        self.assertIsInstance(get_last_invalidation(Author), float)
        Author.objects.create(name="B")
        self.assertEqual(names(), ["A", "B"])
        Author.objects.filter(name="B").delete()
        self.assertEqual(names(), ["A"])
        # Begin again with what is well.
        door._guards.clear()
        self.cache.clear()
        self.assertEqual(names(), ["A"])
        self.assertHits(names)

    def test_what_cannot_be_decoded_is_replaced(self) -> None:
        """Else the cache would fail again whenever it is asked for it, and rest."""
        for key in (self.key, self.version_key):
            with self.subTest(key):
                now = [1000.0]
                guard = door._guards["default"] = Guard("default", lambda now=now: now[0])
                self.cache._cache[self.cache.make_key(key)] = b"damaged"
                self.assertEqual(count_queries(names), (["A"], 1))
                now[0] += REST_SECONDS
                self.assertEqual(count_queries(names), (["A"], 1))
                self.assertEqual(count_queries(names), (["A"], 0))
                self.assertEqual(guard._suspects, set())

    def test_bytes(self) -> None:
        @examples
        @given(st.binary(max_size=100))
        @example(b"")
        @example(pickle.dumps(None))
        @example(b"cos\nno_such_name\n.")
        def check(damaged: bytes) -> None:
            for key in (self.key, self.version_key):
                self.assertHarmless(key, damaged)

        check()

    def test_truncated(self) -> None:
        for key in (self.key, self.version_key):
            for length in range(0, len(self.raw(key)), 5):
                self.assertHarmless(key, self.raw(key)[:length])

    def test_bits_flipped(self) -> None:
        @examples
        @given(st.integers(0, 2**16))
        def check(bit: int) -> None:
            for key in (self.key, self.version_key):
                self.assertHarmless(key, flipped(self.raw(key), bit))

        check()
