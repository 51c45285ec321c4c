"""The invariants of tables, with the writer stopped between any two of its steps."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from unittest import mock

from django.core.cache import caches
from django.db import connections, transaction
from django.test import override_settings

from cachalot.core.cache.entries import pack
from cachalot.core.cache.store import Store
from cachalot.core.cache.versions import PENDING_TIMEOUT, Mark
from cachalot.core.connection.overlay import Overlay
from cachalot.core.schema.version_keys import keys_to_renew, version_keys
from cachalot.signals import post_invalidation
from cachalot.utils import get_table_cache_key
from tests.library.models import Author, Tag
from tests.support import CacheTestCase, counted_calls, in_process, in_thread, versions_in_cache


def names() -> list[str]:
    return sorted(Author.objects.values_list("name", flat=True))


def version_of(table: str) -> object:
    return caches["default"].get(get_table_cache_key("default", table))


class at_step:
    """Call ``function`` before or after a step of the store, and count the calls."""

    def __init__(
        self, step: str, *, before: Callable | None = None, after: Callable | None = None
    ) -> None:
        original = getattr(Store, step)

        def stepped(store, *args, **kwargs):
            self.calls += 1
            if before is not None:
                before()
            result = original(store, *args, **kwargs)
            if after is not None:
                after()
            return result

        self.calls = 0
        self._patch = mock.patch.object(Store, step, stepped)

    def __enter__(self) -> at_step:
        self._patch.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._patch.stop()


@versions_in_cache
class ProtocolTests(CacheTestCase):
    def setUp(self) -> None:
        Author.objects.create(name="A")

    def test_every_write_of_a_version_stores_a_new_nonce(self) -> None:
        seen = set()
        for n in range(5):
            Author.objects.create(name=str(n))
            seen.add(version_of("library_author")[1])
        caches["default"].clear()
        names()  # adds a missing version
        seen.add(version_of("library_author")[1])
        self.assertEqual(len(seen), 6)

    def test_no_two_processes_make_the_same_nonce(self) -> None:
        """Not even where both have just been started, with the same seed."""
        code = (
            "import random\n"
            "from cachalot.core.cache.store import new_nonce\n"
            "random.seed(0)\n"
            "result = [new_nonce() for _ in range(20)]"
        )
        self.assertEqual(len({*in_process(code), *in_process(code)}), 40)

    def test_an_entry_carries_the_versions_read_before_its_query(self) -> None:
        """A write that commits while a reader's query runs makes the reader's entry invalid."""

        def write_meanwhile(execute, sql, params, many, context):
            result = execute(sql, params, many, context)
            # The reader has its rows; before it stores them, somebody writes.
            in_thread(lambda: Author.objects.create(name="B"))
            return result

        connection = connections["default"]
        if connection.vendor == "sqlite":
            # Its open cursor would keep the writer out: write just before the rows are packed.
            def write_and_pack(rows: object) -> bytes:
                in_thread(lambda: Author.objects.create(name="B"))
                return pack(rows)

            with mock.patch("cachalot.core.reading.results.pack", write_and_pack):
                self.assertEqual(names(), ["A"])
        else:
            with connection.execute_wrapper(write_meanwhile):
                self.assertEqual(names(), ["A"])
        self.assertEqual(names(), ["A", "B"])
        self.assertEqual(in_thread(names), ["A", "B"])

    def test_nothing_is_served_or_stored_while_a_table_is_pending(self) -> None:
        self.assertCached(names)
        store = Store(caches["default"])
        keys = keys_to_renew("default", frozenset({"library_author"}))
        mark = Mark()
        store.mark_pending(keys, mark=mark)
        self.assertNeverCached(names)
        store.renew(keys, mark=mark)
        self.assertMisses(names)
        self.assertHits(names)

    def test_readers_at_each_step_of_an_autocommit_write(self) -> None:
        for step in ("pending", "written", "renewed"):
            with self.subTest(step):
                Author.objects.all().delete()
                Author.objects.create(name="A")
                self.assertEqual(in_thread(names), ["A"])
                seen: list[list[str]] = []

                def look(seen=seen) -> None:
                    seen.append(in_thread(names))

                if step == "pending":
                    with at_step("mark_pending", after=look):
                        Author.objects.create(name="B")
                    self.assertEqual(seen, [["A"]])
                elif step == "written":
                    with at_step("renew", before=look):
                        Author.objects.create(name="B")
                    # Committed by itself: others see it, and must not see their old entry.
                    self.assertEqual(seen, [["A", "B"]])
                else:
                    with at_step("renew", after=look):
                        Author.objects.create(name="B")
                    self.assertEqual(seen, [["A", "B"]])
                self.assertEqual(in_thread(names), ["A", "B"])

    def test_readers_at_each_step_of_a_commit(self) -> None:
        for step, position, expected in (
            ("mark_pending", "before", ["A"]),
            ("mark_pending", "after", ["A"]),
            ("renew", "before", ["A", "B"]),
            ("renew", "after", ["A", "B"]),
        ):
            with self.subTest(step=step, position=position):
                Author.objects.all().delete()
                Author.objects.create(name="A")
                self.assertEqual(in_thread(names), ["A"])
                seen: list[list[str]] = []

                def look(seen=seen) -> None:
                    seen.append(in_thread(names))

                with at_step(step, **{position: look}) as stepped, transaction.atomic():
                    Author.objects.create(name="B")
                self.assertEqual(stepped.calls, 1)
                self.assertEqual(seen, [expected])
                self.assertEqual(in_thread(names), ["A", "B"])
                self.assertEqual(names(), ["A", "B"])

    def test_the_statement_is_run_between_pending_and_new_versions(self) -> None:
        steps = []

        def note(execute, sql, params, many, context):
            steps.append(version_of("library_author")[1] is None)
            return execute(sql, params, many, context)

        with connections["default"].execute_wrapper(note):
            Author.objects.create(name="B")
        self.assertEqual(steps, [True])
        self.assertIsNotNone(version_of("library_author")[1])

    def test_the_signal_follows_the_new_versions(self) -> None:
        seen = []

        def receive(db_alias: str, **kwargs: object) -> None:
            if db_alias == "default":
                seen.append(version_of("library_author"))

        def in_transaction() -> None:
            with transaction.atomic():
                Author.objects.create(name="B")

        post_invalidation.connect(receive)
        try:
            for write in (lambda: Author.objects.create(name="B"), in_transaction):
                before = version_of("library_author")
                write()
                (version,) = seen
                self.assertIsNotNone(version[1])
                self.assertNotEqual(version[1], before[1])
                seen.clear()
        finally:
            post_invalidation.disconnect(receive)

    def test_a_commit_shares_none_of_the_private_versions(self) -> None:
        private: set[str | None] = set()
        original = Overlay.touch

        def note(overlay: Overlay, tables, rows) -> None:
            tables = list(tables)
            original(overlay, tables, rows)
            private.update(overlay.versions(tables))

        with mock.patch.object(Overlay, "touch", note), transaction.atomic():
            Author.objects.create(name="B")
            names()
            Author.objects.create(name="C")
        self.assertEqual(len(private), 2)
        self.assertNotIn(version_of("library_author")[1], private)

    def test_a_commit_publishes_what_was_read_at_once(self) -> None:
        with at_step("put") as published:
            with transaction.atomic():
                names()
                list(Tag.objects.all())
                self.assertEqual(published.calls, 0)
            self.assertEqual(published.calls, 1)
        self.assertHits(names)
        self.assertHits(lambda: list(Tag.objects.all()))

    def test_new_versions_follow_a_statement_that_fails(self) -> None:
        self.assertCached(names)
        before = version_of("library_author")

        def fail(execute, sql, params, many, context):
            raise ZeroDivisionError

        with (
            connections["default"].execute_wrapper(fail),
            self.assertRaises(ZeroDivisionError),
        ):
            Author.objects.create(name="B")
        self.assertIsNotNone(version_of("library_author")[1])
        self.assertNotEqual(version_of("library_author"), before)

    def test_a_pending_mark_expires(self) -> None:
        """A writer killed before it sets new versions leaves its tables uncached for a while."""
        self.assertEqual(PENDING_TIMEOUT, 300)
        self.assertCached(names)
        key = get_table_cache_key("default", "library_author")
        # Expired, that is: gone. What was stored under the older version stays invalid.
        caches["default"].delete(key)
        self.assertMisses(names)
        self.assertHits(names)

    def test_an_evicted_version_costs_a_query_and_nothing_else(self) -> None:
        self.assertCached(names)
        caches["default"].delete(get_table_cache_key("default", "library_author"))
        self.assertCached(names)
        caches["default"].clear()
        self.assertCached(names)

    def test_an_added_version_equals_nothing_stored(self) -> None:
        """What was stored under one added version is not found again under the next."""
        key = get_table_cache_key("default", "library_author")
        caches["default"].delete(key)
        self.assertCached(names)
        Author.objects.create(name="B")
        caches["default"].delete(key)
        self.assertEqual(self.assertMisses(names), ["A", "B"])

    def test_two_readers_that_miss_a_version_agree_on_one(self) -> None:
        caches["default"].clear()

        def interfere(store, version_keys_, found, original=Store._add_missing):
            with mock.patch.object(Store, "_add_missing", original):
                in_thread(names)
            return original(store, version_keys_, found)

        with mock.patch.object(Store, "_add_missing", interfere):
            names()
        self.assertHits(names)

    def test_a_missing_version_is_added_without_overwriting_a_pending_mark(self) -> None:
        keys = version_keys("default", frozenset({"library_author"}))
        caches["default"].clear()

        def interfere(store, version_keys_, found, original=Store._add_missing):
            # A writer comes between the reader's look and its add().
            Store(caches["default"]).mark_pending(keys)
            return original(store, version_keys_, found)

        with mock.patch.object(Store, "_add_missing", interfere), at_step("put") as stored:
            self.assertMisses(names)
        self.assertEqual(stored.calls, 0)
        self.assertIs(version_of("library_author")[1], None)

    def test_two_tables_written_at_once_have_versions_of_their_own(self) -> None:
        with transaction.atomic():
            Author.objects.create(name="B")
            Tag.objects.create(name="t")
        self.assertNotEqual(version_of("library_author")[1], version_of("library_tag")[1])

    def test_overlapping_writers(self) -> None:
        """A writer that ends within another's mark may lift it; the other's end heals that."""

        def write_and_read() -> None:
            Tag.objects.create(name="inner")
            names()

        outer_keys = keys_to_renew("default", frozenset({"library_author"}))
        original = Store.mark_pending

        def overlap(store, keys, *other_key):
            schema = original(store, keys, *other_key)
            if keys == outer_keys:
                store.renew(keys)  # what another writer of this table does at its end
                in_thread(names)
            return schema

        with mock.patch.object(Store, "mark_pending", overlap):
            Author.objects.create(name="B")
        self.assertEqual(in_thread(names), ["A", "B"])
        self.assertEqual(names(), ["A", "B"])

    @override_settings(CACHALOT_LOCAL_SIZE=0)
    def test_damaged_entries_are_misses(self) -> None:
        keys: list[str] = []
        original = Store.put

        def note(store, entries, timeout):
            keys.extend(entries)
            return original(store, entries, timeout)

        with mock.patch.object(Store, "put", note):
            names()
        (key,) = keys
        cache = caches["default"]
        checksum, nonces, payload, *times = cache.get(key)
        for damaged in (
            "foreign",
            None,
            42,
            (),
            (checksum, nonces),
            (checksum, nonces, payload),
            (checksum, nonces, payload, "now", "long"),
            (checksum + 1, nonces, payload, *times),
            (checksum, nonces, payload[:-3], *times),
            (checksum, nonces, b"not a pickle", *times),
            (checksum, nonces, "text", *times),
            (checksum, ("other",), payload, *times),
            (checksum, nonces, b"cos\nno_such_name\n.", *times),
        ):
            with self.subTest(damaged):
                cache.set(key, damaged)
                self.assertMisses(names)
                self.assertHits(names)

    def test_what_lies_in_the_cache_has_no_class_of_cachalot(self) -> None:
        """Another release, or another program, can read it."""
        stored: list[object] = []

        def noting(method: Callable) -> Callable:
            def note(cache, *args, **kwargs):
                stored.append(args)
                return method(cache, *args, **kwargs)

            return note

        def noting_versions(method: Callable) -> Callable:
            def note(side, version_keys, mark, other_key=None):
                told = method(side, version_keys, mark, other_key)
                stored.extend(map(side.loads, side.get(list(version_keys))))
                return told

            return note

        backend = type(Store(caches["default"]).backend)
        with (
            mock.patch.object(backend, "add_versions", noting(backend.add_versions)),
            mock.patch.object(backend, "mark", noting_versions(backend.mark)),
            mock.patch.object(backend, "renew", noting_versions(backend.renew)),
            mock.patch.object(backend, "set_entries", noting(backend.set_entries)),
        ):
            caches["default"].clear()
            names()
            Author.objects.create(name="B")
            with transaction.atomic():
                Author.objects.count()
        # A version added, an entry, a pending mark, a new version, an entry published.
        self.assertGreaterEqual(len(stored), 5)
        for arguments in stored:
            pickled = pickle.dumps(arguments).replace(b"cachalot:", b"")
            self.assertNotIn(b"cachalot", pickled)

    def test_a_damaged_version_keeps_its_table_uncached_until_its_next_write(self) -> None:
        for damaged in ("foreign", 7, (1.0,), (1.0, 2), ("x", "y")):
            with self.subTest(damaged):
                caches["default"].set(get_table_cache_key("default", "library_author"), damaged)
                self.assertNeverCached(names)
                Author.objects.update(name="A")
                self.assertCached(names)

    @override_settings(CACHALOT_LOCAL_SIZE=0)
    def test_a_hit_asks_the_cache_once(self) -> None:
        self.assertCached(names)
        with counted_calls() as calls:
            names()
        self.assertEqual(calls, {"get": 1})

    @override_settings(CACHALOT_TIMEOUT=0)
    def test_a_timeout_of_zero_stores_nothing(self) -> None:
        self.assertNeverCached(names)

    @override_settings(CACHALOT_TIMEOUT=60)
    def test_entries_expire_and_versions_do_not(self) -> None:
        timeouts = []
        original = Store.put

        def note(store, entries, timeout):
            timeouts.append(timeout)
            return original(store, entries, timeout)

        with mock.patch.object(Store, "put", note):
            names()
            with transaction.atomic():
                list(Tag.objects.all())
        self.assertEqual(timeouts, [60, 60])
