"""Nothing of a transaction is shared before its COMMIT, and nothing stale survives it."""

from __future__ import annotations

from unittest import mock

from django.core.cache import caches
from django.db import DatabaseError, IntegrityError, connection, connections, transaction
from django.test import TestCase, skipUnlessDBFeature

from cachalot.api import invalidate
from cachalot.core.connection.state import state_of
from cachalot.signals import post_invalidation
from cachalot.utils import get_table_cache_key
from tests.library.models import Author, Book, Review, Tag
from tests.support import CacheTestCase, count_queries, in_thread, versions_in_cache


def names() -> list[str]:
    return sorted(Author.objects.values_list("name", flat=True))


def tags() -> list[str]:
    return sorted(Tag.objects.values_list("name", flat=True))


# Django 6.1 renamed it.
create_savepoint = getattr(transaction, "savepoint_create", None) or transaction.savepoint


class Undone(Exception):
    """Raised by the tests to roll back."""


class TransactionTests(CacheTestCase):
    def setUp(self) -> None:
        Author.objects.create(name="A")
        Tag.objects.create(name="t")

    def test_a_transaction_sees_its_own_writes_and_nobody_else_does(self) -> None:
        self.assertCached(names)
        with transaction.atomic():
            Author.objects.create(name="B")
            self.assertEqual(self.assertMisses(names), ["A", "B"])
            self.assertHits(names)
            if connection.vendor != "sqlite":  # whose writers wait for this one
                self.assertEqual(in_thread(names), ["A"])
        self.assertEqual(in_thread(names), ["A", "B"])
        self.assertEqual(names(), ["A", "B"])

    def test_a_rollback_brings_the_shared_entries_back(self) -> None:
        self.assertCached(names)
        with self.assertRaises(Undone), transaction.atomic():
            Author.objects.create(name="B")
            self.assertEqual(names(), ["A", "B"])
            raise Undone
        if connection.vendor == "mysql":
            # Whose tables may be ones that cannot roll back.
            self.assertEqual(self.assertMisses(names), ["A"])
        else:
            self.assertEqual(self.assertHits(names), ["A"])

    def test_reads_of_clean_tables_are_published_by_the_commit(self) -> None:
        with transaction.atomic():
            Author.objects.create(name="B")
            self.assertCached(tags)
            self.assertCached(names)
        self.assertHits(tags)
        self.assertMisses(names)

    @versions_in_cache
    def test_where_nothing_can_be_rolled_back_a_write_is_shared_at_once(self) -> None:
        """As on a MySQL server whose tables are all MyISAM."""
        key = get_table_cache_key("default", "library_author")
        names()
        versions = [caches["default"].get(key)]
        with mock.patch.object(connection.features, "supports_transactions", False):
            with self.assertRaises(Undone), transaction.atomic():
                Author.objects.create(name="B")
                versions.append(caches["default"].get(key))
                raise Undone
            versions.append(caches["default"].get(key))
        self.assertEqual(len({nonce for _, nonce in versions} - {None}), 3)

    @versions_in_cache
    def test_a_connection_closed_where_nothing_can_be_rolled_back(self) -> None:
        key = get_table_cache_key("default", "library_author")
        with mock.patch.object(connection.features, "supports_transactions", False):
            transaction.set_autocommit(False)
            Author.objects.create(name="B")
            written = caches["default"].get(key)
            connection.close()
            self.assertNotEqual(caches["default"].get(key)[1], written[1])
        self.assertFresh(names, names())

    def test_nothing_is_published_by_a_rollback(self) -> None:
        with self.assertRaises(Undone), transaction.atomic():
            self.assertCached(tags)
            raise Undone
        self.assertMisses(tags)

    def test_a_table_written_later_is_not_published(self) -> None:
        with transaction.atomic():
            self.assertCached(names)
            Author.objects.create(name="B")
        self.assertEqual(self.assertMisses(names), ["A", "B"])

    def test_what_others_have_changed_meanwhile_is_not_published(self) -> None:
        """A result is published under the versions read before its query, or not at all."""

        def change() -> None:
            if connection.vendor == "sqlite":  # whose writers wait for this one
                invalidate(Author)
            else:
                Author.objects.create(name="B")

        with transaction.atomic():
            self.assertCached(names)
            in_thread(change)
        self.assertMisses(names)

    def test_a_savepoint_rolled_back_brings_older_entries_back(self) -> None:
        with transaction.atomic():
            Author.objects.create(name="B")
            self.assertCached(names)
            with self.assertRaises(Undone), transaction.atomic():
                Author.objects.create(name="C")
                self.assertEqual(self.assertMisses(names), ["A", "B", "C"])
                raise Undone
            if connection.vendor == "mysql":
                self.assertEqual(self.assertMisses(names), ["A", "B"])
            else:
                self.assertEqual(self.assertHits(names), ["A", "B"])
        self.assertEqual(self.assertMisses(names), ["A", "B"])

    def test_a_savepoint_released_keeps_its_entries(self) -> None:
        with transaction.atomic():
            with transaction.atomic():
                Author.objects.create(name="B")
                self.assertCached(names)
                self.assertCached(tags)
            self.assertEqual(self.assertHits(names), ["A", "B"])
        self.assertMisses(names)
        self.assertHits(tags)

    def test_a_write_rolled_back_leaves_its_table_clean(self) -> None:
        if connection.vendor == "mysql":
            self.skipTest("a rollback may not undo every write of MySQL")
        with transaction.atomic():
            with self.assertRaises(Undone), transaction.atomic():
                Author.objects.create(name="B")
                names()
                raise Undone
            self.assertEqual(self.assertMisses(names), ["A"])
        self.assertEqual(self.assertHits(names), ["A"])

    def test_explicit_savepoints(self) -> None:
        with transaction.atomic():
            outer = create_savepoint()
            Author.objects.create(name="B")
            self.assertEqual(names(), ["A", "B"])
            inner = create_savepoint()
            Author.objects.create(name="C")
            self.assertEqual(names(), ["A", "B", "C"])
            transaction.savepoint_rollback(inner)
            self.assertEqual(names(), ["A", "B"])
            # The savepoint is still there and may be rolled back to again.
            Author.objects.create(name="D")
            self.assertEqual(names(), ["A", "B", "D"])
            transaction.savepoint_rollback(inner)
            self.assertEqual(names(), ["A", "B"])
            transaction.savepoint_commit(inner)
            transaction.savepoint_rollback(outer)
            self.assertEqual(names(), ["A"])
            transaction.savepoint_commit(outer)
        self.assertEqual(names(), ["A"])
        self.assertFresh(names, in_thread(names))

    def test_an_outer_savepoint_rolled_back_drops_the_inner_ones(self) -> None:
        with transaction.atomic():
            outer = create_savepoint()
            create_savepoint()
            Author.objects.create(name="B")
            self.assertEqual(names(), ["A", "B"])
            transaction.savepoint_rollback(outer)
            self.assertEqual(names(), ["A"])
            self.assertFresh(names, names())

    def test_atomic_without_savepoint(self) -> None:
        with self.assertRaises(Undone), transaction.atomic():
            try:
                with transaction.atomic(savepoint=False):
                    Author.objects.create(name="B")
                    self.assertEqual(names(), ["A", "B"])
                    raise Undone
            except Undone:
                # The block around it must be rolled back, too, and may not query.
                with self.assertRaises(transaction.TransactionManagementError):
                    names()
                raise
        self.assertEqual(names(), ["A"])

    def test_a_broken_transaction_raises_what_django_raises(self) -> None:
        self.assertCached(names)
        with transaction.atomic():
            transaction.set_rollback(True)
            with self.assertRaises(transaction.TransactionManagementError):
                names()
        self.assertFresh(names, names())

    def test_a_failed_block_does_not_poison_the_thread(self) -> None:
        with self.assertRaises(RuntimeError), transaction.atomic():
            Author.objects.create(name="B")
            with transaction.atomic(durable=True):
                self.fail("a durable block cannot be nested")
        self.assertEqual(names(), ["A"])
        self.assertCached(tags)
        Author.objects.create(name="C")
        self.assertEqual(names(), ["A", "C"])
        self.assertHits(names)

    def test_a_block_that_cannot_open_leaves_nothing_behind(self) -> None:
        with (
            mock.patch.object(
                type(connections["default"]), "_set_autocommit", side_effect=DatabaseError("no")
            ),
            mock.patch.object(
                type(connections["default"]),
                "_start_transaction_under_autocommit",
                side_effect=DatabaseError,
                create=True,
            ),
        ):
            with self.assertRaises(DatabaseError), transaction.atomic():
                self.fail("the block has not opened")
        self.assertFalse(state_of(connection).is_in_transaction())
        self.assertCached(names)
        Author.objects.create(name="B")
        self.assertEqual(names(), ["A", "B"])

    def test_manual_transactions(self) -> None:
        self.assertCached(names)
        transaction.set_autocommit(False)
        try:
            Author.objects.create(name="B")
            self.assertEqual(self.assertMisses(names), ["A", "B"])
            transaction.rollback()
            self.assertEqual(names(), ["A"])
            Author.objects.create(name="C")
            self.assertEqual(names(), ["A", "C"])
            transaction.commit()
            self.assertEqual(in_thread(names), ["A", "C"])
            self.assertEqual(names(), ["A", "C"])
            with transaction.atomic():
                Author.objects.create(name="D")
            self.assertEqual(names(), ["A", "C", "D"])
            transaction.commit()
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)
        self.assertEqual(names(), ["A", "C", "D"])
        self.assertEqual(in_thread(names), ["A", "C", "D"])

    def test_autocommit_turned_on_commits(self) -> None:
        if connection.vendor == "postgresql":
            self.skipTest("psycopg refuses to")
        self.assertCached(names)
        transaction.set_autocommit(False)
        Author.objects.create(name="B")
        transaction.set_autocommit(True)
        self.assertEqual(in_thread(names), ["A", "B"])
        self.assertEqual(names(), ["A", "B"])

    def test_a_connection_lost_in_a_transaction(self) -> None:
        self.assertCached(names)
        with self.assertRaises(Exception), transaction.atomic():  # noqa: B017
            Author.objects.create(name="B")
            self.assertEqual(names(), ["A", "B"])
            connection.close()
            names()
        self.assertEqual(names(), ["A"])
        Author.objects.create(name="C")
        self.assertEqual(names(), ["A", "C"])

    def test_on_commit_hooks_and_their_workers_see_what_was_committed(self) -> None:
        seen = []
        self.assertCached(names)

        def hook() -> None:
            seen.append(names())
            seen.append(in_thread(names))
            Tag.objects.create(name="from the hook")

        self.assertCached(tags)
        with transaction.atomic():
            Author.objects.create(name="B")
            transaction.on_commit(hook)
        self.assertEqual(seen, [["A", "B"], ["A", "B"]])
        self.assertEqual(tags(), ["from the hook", "t"])

    def test_a_hook_that_fails_leaves_the_cache_right(self) -> None:
        self.assertCached(names)

        def hook() -> None:
            raise Undone

        with self.assertRaises(Undone), transaction.atomic():
            Author.objects.create(name="B")
            transaction.on_commit(hook)
        self.assertEqual(names(), ["A", "B"])

    @skipUnlessDBFeature("can_defer_constraint_checks")
    def test_a_commit_that_fails(self) -> None:
        self.assertCached(names)
        self.assertCached(lambda: list(Review.objects.values_list("stars")))
        with self.assertRaises(IntegrityError), transaction.atomic():
            Author.objects.create(name="B")
            Review.objects.create(book_id=0, stars=1)
            self.assertEqual(Review.objects.count(), 1)
            self.assertEqual(tags(), ["t"])
        self.assertEqual(names(), ["A"])
        self.assertEqual(list(Review.objects.values_list("stars")), [])
        self.assertFalse(state_of(connection).is_in_transaction())
        # Nothing was published.
        self.assertMisses(tags)

    def test_a_commit_of_unknown_outcome(self) -> None:
        self.assertCached(names)
        committed = type(connections["default"])._commit

        def commit_and_fail(self):
            committed(self)
            raise DatabaseError("the connection was lost on the way back")

        with mock.patch.object(type(connections["default"]), "_commit", commit_and_fail):
            with self.assertRaises(DatabaseError), transaction.atomic():
                Author.objects.create(name="B")
                self.assertEqual(tags(), ["t"])
        self.assertEqual(names(), ["A", "B"])
        self.assertEqual(in_thread(names), ["A", "B"])

    def test_several_databases(self) -> None:
        def others() -> list[str]:
            return sorted(Author.objects.using("other").values_list("name", flat=True))

        with transaction.atomic():
            Author.objects.create(name="B")
            with transaction.atomic(using="other"):
                Author.objects.using("other").create(name="O")
                self.assertEqual(others(), ["O"])
            self.assertEqual(others(), ["O"])
            _, queries = count_queries(others, using="other")
            self.assertEqual(queries, 0)
            self.assertEqual(names(), ["A", "B"])
        self.assertEqual(names(), ["A", "B"])

    databases = {"default", "other"}

    def test_raw_transactions(self) -> None:
        self.assertCached(names)
        for end, expected in (("ROLLBACK", ["A"]), ("COMMIT", ["A", "B"])):
            with self.subTest(end), connection.cursor() as cursor:
                cursor.execute("BEGIN")
                Author.objects.create(name="B")
                self.assertEqual(names(), ["A", "B"])
                cursor.execute(end)
                self.assertEqual(names(), expected)
                self.assertEqual(in_thread(names), expected)

    def test_a_raw_begin_inside_a_raw_transaction(self) -> None:
        if connection.vendor == "sqlite":
            self.skipTest("an error on SQLite")
        self.assertCached(names)
        begin = "BEGIN" if connection.vendor == "postgresql" else "START TRANSACTION"
        with connection.cursor() as cursor:
            cursor.execute(begin)
            cursor.execute(begin)
            Author.objects.create(name="B")
            in_thread(names)
            cursor.execute("COMMIT")
        self.assertEqual(in_thread(names), ["A", "B"])
        self.assertEqual(names(), ["A", "B"])

    def test_savepoints_whose_names_differ_by_case(self) -> None:
        """Quoted they are two on PostgreSQL, and one elsewhere."""
        if connection.vendor == "mysql":
            self.skipTest("A quoted name is a string there.")
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute('SAVEPOINT "A"')
            Author.objects.create(name="B")
            cursor.execute('SAVEPOINT "a"')
            Author.objects.create(name="C")
            self.assertCached(names)
            cursor.execute('ROLLBACK TO SAVEPOINT "A"')
            expected = ["A"] if connection.vendor == "postgresql" else ["A", "B"]
            self.assertEqual(names(), expected)
        self.assertEqual(names(), expected)

    def test_raw_savepoints(self) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SAVEPOINT mine")
            Author.objects.create(name="B")
            self.assertEqual(names(), ["A", "B"])
            cursor.execute("ROLLBACK TO SAVEPOINT mine")
            self.assertEqual(names(), ["A"])
            cursor.execute("RELEASE SAVEPOINT mine")
        self.assertEqual(names(), ["A"])

    def test_a_released_savepoint_lets_an_older_one_of_its_name_be_seen(self) -> None:
        if connection.vendor == "mysql":
            self.skipTest("a new savepoint replaces the older one of its name")
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SAVEPOINT mine")
            Author.objects.create(name="B")
            self.assertEqual(names(), ["A", "B"])
            cursor.execute("SAVEPOINT mine")
            cursor.execute("RELEASE SAVEPOINT mine")
            cursor.execute("ROLLBACK TO SAVEPOINT mine")
            self.assertEqual(names(), ["A"])
        self.assertEqual(names(), ["A"])

    def test_a_stream_over_a_rollback_is_not_kept(self) -> None:
        Author.objects.bulk_create(Author(name=f"author {n}") for n in range(9))
        queryset = Author.objects.order_by("pk").values_list("name", flat=True)
        with transaction.atomic():
            stream = queryset.iterator(chunk_size=1)
            read = [next(stream)]
            with self.assertRaises(Undone), transaction.atomic():
                Author.objects.update(name="undone")
                # SQLite's cursor may show what was written after the query began.
                read.append(next(stream))
                raise Undone
            try:
                list(stream)
            except DatabaseError:
                return  # the rollback has ended the query
            self.assertFresh(lambda: list(queryset.iterator()), list(queryset.iterator()))
        self.assertFresh(lambda: list(queryset.iterator()), list(queryset.iterator()))

    def test_signals_wait_for_the_commit(self) -> None:
        sent = []

        def receive(sender: str, db_alias: str, **kwargs: object) -> None:
            if db_alias == "default":
                # The change is visible to everybody, and so is the invalidation.
                sent.append((sender, in_thread(names), names()))

        post_invalidation.connect(receive)
        try:
            with transaction.atomic():
                Author.objects.create(name="B")
                Author.objects.create(name="C")
                self.assertEqual(sent, [])
            self.assertEqual(sent, [("library_author", ["A", "B", "C"], ["A", "B", "C"])])
            with self.assertRaises(Undone), transaction.atomic():
                Author.objects.create(name="D")
                raise Undone
            self.assertEqual(len(sent), 1)
        finally:
            post_invalidation.disconnect(receive)

    def test_a_large_transaction_keeps_a_bounded_overlay(self) -> None:
        with (
            mock.patch("cachalot.core.connection.overlay.OVERLAY_BYTES", 10_000),
            transaction.atomic(),
        ):
            for n in range(100):
                list(Author.objects.filter(pk=n).values_list("name"))
            overlay = state_of(connection).transaction.overlay
            kept = sum(
                len(entry.stored.payload)
                for level in overlay.levels
                for entry in level.entries.values()
            )
            self.assertLessEqual(kept, 10_000)
            self.assertGreater(kept, 0)

    def test_a_reconnected_session_starts_anew(self) -> None:
        connections["default"].close()
        self.assertCached(names)


class InsideTestCase(TestCase):
    """``TestCase`` never commits: everything happens in the overlay."""

    @classmethod
    def setUpTestData(cls) -> None:
        cls.author = Author.objects.create(name="A")

    def test_reads_and_writes(self) -> None:
        for _ in range(2):
            self.assertEqual(names(), ["A"])
            with self.assertNumQueries(0):
                self.assertEqual(names(), ["A"])
            Author.objects.create(name="B")
            self.assertEqual(names(), ["A", "B"])
            Author.objects.filter(name="B").delete()

    def test_each_test_is_rolled_back(self) -> None:
        self.assertEqual(names(), ["A"])
        Book.objects.create(title="gone after the test")
        self.assertEqual(Book.objects.count(), 1)

    def test_each_test_is_rolled_back_again(self) -> None:
        self.test_each_test_is_rolled_back()
