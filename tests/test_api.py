"""``invalidate``, ``get_last_invalidation``, ``cachalot_disabled`` and ``cachalot_enabled``."""

from __future__ import annotations

import asyncio
import threading
from typing import Any
from unittest import mock

from asgiref.sync import sync_to_async
from django.apps import apps
from django.core.cache import InvalidCacheBackendError, caches
from django.db import IntegrityError, connection, connections, models, transaction
from django.db.utils import ConnectionDoesNotExist
from django.test import override_settings

from cachalot.api import (
    cachalot_disabled,
    cachalot_enabled,
    get_last_invalidation,
    invalidate,
)
from cachalot.cache import cachalot_caches
from cachalot.core.cache.versions import Clock
from cachalot.core.schema import catalogue
from cachalot.signals import TableSignal, post_invalidation
from tests.library.models import Author, Book, Novel, Review, Tag
from tests.support import CacheTestCase, close_connections, count_queries, in_thread


def names() -> list[str]:
    return sorted(Author.objects.values_list("name", flat=True))


def change_behind_our_back(name: str) -> None:
    """Write as a program outside Django would."""
    with mock.patch("cachalot.core.writing.writes.is_tracked", return_value=False):
        Author.objects.update(name=name)


class receiving:
    """Collect the signals sent in the block."""

    def __enter__(self) -> list[tuple[str, str]]:
        self.sent: list[tuple[str, str]] = []
        post_invalidation.connect(self.receive)
        return self.sent

    def receive(self, sender: str, db_alias: str, **kwargs: object) -> None:
        self.sent.append((sender, db_alias))

    def __exit__(self, *exc_info: object) -> None:
        post_invalidation.disconnect(self.receive)


class InvalidateTests(CacheTestCase):
    databases = {"default", "other"}

    def setUp(self) -> None:
        Author.objects.create(name="A")

    def test_what_may_be_named(self) -> None:
        for arguments in (
            [Author],
            ["library.Author"],
            ["library.author"],
            ["library_author"],
            ["LIBRARY_AUTHOR"],
            ["public.library_author"],
            [Tag, "library.Author"],
            [],
        ):
            with self.subTest(arguments):
                names()
                self.assertHits(names)
                change_behind_our_back(f"after {arguments}")
                self.assertEqual(count_queries(names)[1], 0)
                invalidate(*arguments)
                self.assertMisses(names)

    def test_only_what_is_named_is_invalidated(self) -> None:
        names()
        invalidate(Tag, Book, db_alias="default")
        invalidate(Author, db_alias="other")
        invalidate(Author, cache_alias="second")
        self.assertHits(names)

    def test_an_application_is_all_its_tables(self) -> None:
        for name in ("library", "auth"):
            names()
            invalidate(name)
            (self.assertMisses if name == "library" else self.assertHits)(names)
        names()
        invalidate("messages")  # which has none
        self.assertHits(names)

    def test_what_is_called_nothing_is_named(self) -> None:
        for name, hint in (
            ("Author", "Did you mean 'library.Author'?"),
            ("libary.Author", "Did you mean 'library.Author'?"),
            ("library_authors", "Did you mean 'library_author'?"),
            ("Autor", "Did you mean 'library.Author'?"),
            ("django.contrib.auth", "Did you mean 'auth'?"),
            ("tests.library.models.Author", "neither a model"),
            ("no_such_table", "neither a model ('app.Model'), nor a table, nor an application"),
            ("some.table", "neither a model"),
        ):
            for function in (invalidate, get_last_invalidation):
                names()
                with self.assertRaisesMessage(LookupError, hint):
                    function(Author, name)
                self.assertHits(names)

    def test_a_name_that_nobody_can_look_up_counts_as_a_table(self) -> None:
        with (
            mock.patch.object(catalogue, "catalogue_of", return_value=None),
            self.assertLogs("cachalot", "WARNING") as logged,
        ):
            invalidate("no_such_table", db_alias="default")
        self.assertIn("'no_such_table' cannot be told now", logged.output[0])

    def test_tables_outside_django_are_invalidated_too(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE outside_django (id integer)")
        try:
            before = get_last_invalidation("outside_django", db_alias="default")
            with receiving() as sent:
                invalidate(db_alias="default")
            self.assertIn(("outside_django", "default"), sent)
            self.assertLess(before, get_last_invalidation("outside_django", db_alias="default"))
        finally:
            with connection.cursor() as cursor:
                cursor.execute("DROP TABLE outside_django")

    def test_errors_invalidate_nothing(self) -> None:
        names()
        for error, message, arguments, keywords in (
            (
                LookupError,
                "The app 'library' has no model 'Auhtor'; its models are: Author, Book",
                [Author, "library.Auhtor"],
                {},
            ),
            (
                LookupError,
                "3 is no name; name a model (the class, or 'app.Model')",
                [Author, 3],
                {},
            ),
            (LookupError, "'' is no name; name a model", [Author, ""], {}),
            (
                LookupError,
                "An instance of Author is no table; name its model: 'library.Author'.",
                [Author, Author(name="a")],
                {},
            ),
            (
                LookupError,
                "A QuerySet is no table; name its model: 'library.Author'.",
                [Author, Author.objects.all()],
                {},
            ),
            (
                LookupError,
                "A Manager is no table; name its model: 'library.Author'.",
                [Author, Author.objects],
                {},
            ),
            (
                LookupError,
                "['library.Author'] holds names; pass them one by one",
                [Author, ["library.Author"]],
                {},
            ),
            (
                ConnectionDoesNotExist,
                "DATABASES has default, other, mirror. Did you mean 'default'?",
                [Author],
                {"db_alias": "defualt"},
            ),
            (
                ConnectionDoesNotExist,
                "The database ['default'] does not exist; DATABASES has",
                [Author],
                {"db_alias": ["default"]},
            ),
            (
                InvalidCacheBackendError,
                "CACHES has default, second. Did you mean 'second'?",
                [Author],
                {"cache_alias": "secnd"},
            ),
            (
                ConnectionDoesNotExist,
                "The database 'x' does not exist; DATABASES has default, other",
                [Author],
                {"db_alias": "x"},
            ),
            (
                InvalidCacheBackendError,
                "The cache 'x' does not exist; CACHES has default, second",
                [Author],
                {"cache_alias": "x"},
            ),
        ):
            with self.subTest(message):
                with self.assertRaisesMessage(error, message):
                    invalidate(*arguments, **keywords)
                with self.assertRaisesMessage(error, message):
                    get_last_invalidation(*arguments, **keywords)
        self.assertHits(names)

    def test_inside_a_transaction(self) -> None:
        """It acts on the shared cache at once and again at the commit, which sends the signal."""
        names()
        with receiving() as sent:
            with transaction.atomic():
                invalidate(Author, db_alias="default")
                self.assertEqual(sent, [])
                # At once …
                self.assertEqual(in_thread(lambda: count_queries(names))[1], 1)
                self.assertEqual(in_thread(lambda: count_queries(names))[1], 0)
            # … and again: what the other thread has stored meanwhile is invalid.
            self.assertEqual(sent, [("library_author", "default"), ("library_author", "mirror")])
        self.assertMisses(names)

    def test_inside_a_transaction_older_entries_of_the_overlay_are_dropped(self) -> None:
        with transaction.atomic():
            Author.objects.create(name="B")
            names()
            self.assertHits(names)
            invalidate(Author)
            self.assertMisses(names)

    def test_signals(self) -> None:
        with receiving() as sent:
            invalidate(Author, Tag, db_alias="other")
            self.assertEqual(sent, [("library_author", "other"), ("library_tag", "other")])
            sent.clear()
            invalidate(Author)
            self.assertEqual(
                sorted(sent),
                [("library_author", alias) for alias in ("default", "mirror", "other")],
            )

    def test_one_alias_of_a_database_stands_for_all(self) -> None:
        names()
        invalidate(Author, db_alias="mirror")
        self.assertMisses(names)
        self.assertEqual(
            get_last_invalidation(Author, db_alias="mirror"),
            get_last_invalidation(Author, db_alias="default"),
        )

    def test_the_cache_in_use(self) -> None:
        self.assertIs(cachalot_caches.get_cache(), caches["default"])
        self.assertIs(cachalot_caches.get_cache("second", db_alias="other"), caches["second"])
        with override_settings(CACHALOT_CACHE="second"):
            self.assertIs(cachalot_caches.get_cache(), caches["second"])


class LastInvalidationTests(CacheTestCase):
    databases = {"default", "other"}

    def setUp(self) -> None:
        for model in (Author, Tag):
            get_last_invalidation(model)

    def test_it_grows_with_each_invalidation(self) -> None:
        times = [get_last_invalidation(Author)]
        self.assertEqual(get_last_invalidation(Author), times[0])
        for change in (
            lambda: Author.objects.create(name="A"),
            lambda: Author.objects.update(name="B"),
            lambda: invalidate(Author),
            lambda: connection.cursor().execute("DELETE FROM library_author"),
        ):
            change()
            times.append(get_last_invalidation(Author))
        self.assertEqual(times, sorted(set(times)))

    def test_it_is_the_latest_of_what_is_named(self) -> None:
        Author.objects.create(name="A")
        Tag.objects.create(name="t")
        author, tag = get_last_invalidation(Author), get_last_invalidation("library.Tag")
        self.assertLess(author, tag)
        self.assertEqual(get_last_invalidation(Author, "library_tag"), tag)
        self.assertGreaterEqual(get_last_invalidation(), tag)

    def test_databases_and_caches_are_told_apart(self) -> None:
        default = get_last_invalidation(Author, db_alias="default")
        other = get_last_invalidation(Author, db_alias="other")
        second = get_last_invalidation(Author, cache_alias="second")
        Author.objects.using("other").create(name="A")
        self.assertEqual(get_last_invalidation(Author, db_alias="default"), default)
        self.assertGreater(get_last_invalidation(Author, db_alias="other"), other)
        self.assertEqual(get_last_invalidation(Author, cache_alias="second"), second)

    def test_an_evicted_version_counts_as_invalidated_now(self) -> None:
        before = get_last_invalidation(Author)
        caches["default"].clear()
        after = get_last_invalidation(Author, cache_alias="default")
        self.assertLess(before, after)
        self.assertEqual(get_last_invalidation(Author, cache_alias="default"), after)

    def test_a_transaction_sees_its_own_invalidations(self) -> None:
        before = get_last_invalidation(Author, db_alias="default")
        with transaction.atomic():
            Author.objects.create(name="A")
            inside = get_last_invalidation(Author, db_alias="default")
            self.assertLess(before, inside)
            self.assertEqual(
                in_thread(lambda: get_last_invalidation(Author, db_alias="default")), before
            )
        self.assertLess(inside, get_last_invalidation(Author, db_alias="default"))

    def test_a_clock_that_stands_still_hides_no_invalidation(self) -> None:
        clock = Clock(lambda: 1_000_000_000.0)
        times = [clock() for _ in range(3)]
        self.assertEqual(times, sorted(set(times)))

    def test_a_clock_that_steps_back_hides_no_invalidation(self) -> None:
        readings = iter([10.0, 5.0, 11.0])
        clock = Clock(lambda: next(readings))
        self.assertEqual([clock() for _ in range(3)], [10.0, 10.000001, 11.0])


class SwitchTests(CacheTestCase):
    def setUp(self) -> None:
        Author.objects.create(name="A")

    def assertOff(self) -> None:
        for _ in range(2):
            self.assertEqual(count_queries(names)[1], 1)

    def assertOn(self) -> None:
        names()
        self.assertEqual(count_queries(names)[1], 0)

    def test_disabled_reads_go_to_the_database(self) -> None:
        self.assertOn()
        with cachalot_disabled():
            self.assertOff()
        self.assertOn()

    def test_nothing_is_stored_while_disabled(self) -> None:
        with cachalot_disabled():
            names()
        self.assertMisses(names)

    def test_writes_invalidate_while_disabled(self) -> None:
        names()
        with cachalot_disabled():
            Author.objects.create(name="B")
        self.assertMisses(names)

    def test_it_nests_and_the_innermost_decides(self) -> None:
        with cachalot_disabled():
            with cachalot_enabled():
                self.assertOn()
                with cachalot_disabled():
                    self.assertOff()
                self.assertOn()
            self.assertOff()
        self.assertOn()

    def test_an_exception_ends_it(self) -> None:
        with self.assertRaises(ZeroDivisionError), cachalot_disabled():
            raise ZeroDivisionError
        self.assertOn()

    def test_enabled_where_the_setting_is_off(self) -> None:
        with override_settings(CACHALOT_ENABLED=False):
            self.assertOff()
            with cachalot_enabled():
                self.assertOn()
            self.assertOff()

    def test_it_decorates_functions(self) -> None:
        @cachalot_disabled()
        def off(first: int, *, second: int) -> tuple[int, int]:
            """Docstrings stay."""
            self.assertOff()
            return first, second

        self.assertOn()
        for _ in range(2):
            self.assertEqual(off(1, second=2), (1, 2))
        self.assertEqual(off.__doc__, "Docstrings stay.")
        self.assertOn()

    def test_it_decorates_coroutine_functions(self) -> None:
        @cachalot_disabled()
        async def off() -> None:
            await sync_to_async(self.assertOff)()

        async def run() -> None:
            try:
                await off()
                await sync_to_async(self.assertOn)()
            finally:
                await sync_to_async(close_connections)()

        asyncio.run(run())

    def test_it_is_of_one_thread(self) -> None:
        with cachalot_disabled():
            in_thread(self.assertOn)
            self.assertOff()

    def test_it_is_of_one_task(self) -> None:
        async def off(entered: asyncio.Event, leave: asyncio.Event) -> None:
            with switch:
                entered.set()
                await leave.wait()
                await sync_to_async(self.assertOff)()

        async def on(entered: asyncio.Event, leave: asyncio.Event) -> None:
            await entered.wait()
            await sync_to_async(self.assertOn)()
            leave.set()

        async def run() -> None:
            entered, leave = asyncio.Event(), asyncio.Event()
            try:
                await asyncio.gather(off(entered, leave), on(entered, leave))
            finally:
                await sync_to_async(close_connections)()

        switch = cachalot_disabled()
        asyncio.run(run())

    def test_an_evaluated_queryset_is_evaluated_again_on_request(self) -> None:
        Book.objects.create(title="T", author=Author.objects.get())
        queryset = Author.objects.prefetch_related("books").order_by("pk")
        list(queryset)
        with cachalot_disabled():
            self.assertEqual(count_queries(lambda: list(queryset))[1], 0)
        with cachalot_disabled(all_queries=True):
            for use in (list, len, bool, set):
                for _ in range(2):
                    self.assertEqual(count_queries(lambda use=use: use(queryset))[1], 2)
            self.assertEqual(count_queries(queryset.count)[1], 1)
            self.assertEqual(count_queries(queryset.exists)[1], 1)
            list(queryset)
            self.assertEqual(count_queries(lambda: queryset[0].pk)[1], 2)
        list(queryset)
        self.assertEqual(count_queries(lambda: list(queryset))[1], 0)

    def test_the_documented_example(self) -> None:
        Tag.objects.create(name="t")
        with cachalot_disabled():
            queryset = Tag.objects.filter(name="t")
            self.assertEqual(count_queries(lambda: list(queryset))[1], 1)
            self.assertEqual(count_queries(lambda: list(queryset))[1], 0)
        with cachalot_disabled(all_queries=True):
            self.assertEqual(count_queries(lambda: list(queryset))[1], 1)


class SignalTests(CacheTestCase):
    databases = {"default", "other"}

    def test_once_per_table_and_alias(self) -> None:
        with receiving() as sent:
            author = Author.objects.create(name="A")
            self.assertEqual(sent, [("library_author", "default"), ("library_author", "mirror")])
            sent.clear()
            book = Novel.objects.create(title="T", author=author)
            Review.objects.create(book=book, stars=1)
            sent.clear()
            author.delete()
            tables = [table for table, alias in sent if alias == "default"]
            self.assertEqual(sorted(set(tables)), sorted(tables))
            self.assertLessEqual(
                {"library_author", "library_book", "library_novel", "library_review"}, set(tables)
            )
            sent.clear()
            Tag.objects.using("other").create(name="t")
            self.assertEqual(sent, [("library_tag", "other")])

    def test_a_write_that_fails_sends_none(self) -> None:
        Tag.objects.create(name="t")
        with receiving() as sent:
            with self.assertRaises(IntegrityError):
                Tag.objects.create(name="t")
            self.assertEqual(sent, [])

    def test_a_sender_is_compared_by_value(self) -> None:
        received = []

        def receive(sender: str, **kwargs: object) -> None:
            received.append(sender)

        sender = "".join(["library", "_", "author"])
        post_invalidation.connect(receive, sender=sender)
        try:
            del sender
            self.assertIs(post_invalidation.has_listeners("library" + "_author"), True)
            Author.objects.create(name="A")
            Tag.objects.create(name="t")
        finally:
            self.assertIs(post_invalidation.disconnect(receive, sender="library_" + "author"), True)
        self.assertEqual(set(received), {"library_author"})
        self.assertIs(received[0], Author._meta.db_table)

    def test_a_model_stands_for_its_table(self) -> None:
        received = []

        def receive(sender: str, **kwargs: object) -> None:
            received.append(sender)

        post_invalidation.connect(receive, sender=Author)
        try:
            self.assertIs(post_invalidation.has_listeners(Author), True)
            Author.objects.create(name="A")
            Tag.objects.create(name="t")
        finally:
            self.assertIs(post_invalidation.disconnect(receive, sender=Author), True)
        self.assertEqual(set(received), {"library_author"})

        class Abstract(models.Model):
            class Meta:
                abstract = True
                app_label = "library"

        with self.assertRaisesMessage(ValueError, "Abstract is abstract and has no table"):
            post_invalidation.connect(receive, sender=Abstract)

    def test_so_does_its_label(self) -> None:
        received: list[str] = []

        def receive(sender: str, **kwargs: object) -> None:
            received.append(sender)

        for label in ("library.Author", "library.author"):
            post_invalidation.connect(receive, sender=label)
            Author.objects.create(name="A")
            self.assertEqual(set(received), {"library_author"})
            received.clear()
            self.assertIs(post_invalidation.disconnect(receive, sender=label), True)

    def test_a_label_may_be_named_before_its_model_is_there(self) -> None:
        def receive(**kwargs: object) -> None: ...

        signal = TableSignal()
        with mock.patch.object(apps, "models_ready", False):
            signal.connect(receive, sender="library.Author")
            signal.connect(receive, sender="library_tag")
            signal.connect(receive, sender="library.ToCome")
        self.addCleanup(apps._pending_operations.clear)
        for sender, has in ((Author, True), (Tag, True), (Book, False)):
            self.assertIs(signal.has_listeners(sender), has)

    def test_a_sender_that_sends_nothing(self) -> None:
        def receive(**kwargs: object) -> None: ...

        for sender, error, message in (
            ("library.Auhtor", LookupError, "Did you mean 'library.Author'?"),
            (Author(name="A"), TypeError, "use a model, the name of a table, or None for all."),
            (3, TypeError, "and 3 is none; use a model"),
        ):
            with self.subTest(message), self.assertRaisesMessage(error, message):
                post_invalidation.connect(receive, sender=sender)
        for sender, hint in (
            ("library_authors", "'library_author'"),
            ("LIBRARY_AUTHOR", "'library_author'"),
            ("Author", "'library.Author'"),
        ):
            with self.subTest(sender), self.assertLogs("cachalot", "WARNING") as logs:
                post_invalidation.connect(receive, sender=sender)
                post_invalidation.disconnect(receive, sender=sender)
            self.assertIn(f"connected to {sender!r}, which is the table of no", logs.output[0])
            self.assertIn(f"Did you mean {hint}?", logs.output[0])
        with (
            override_settings(CACHALOT_ADDITIONAL_TABLES=["library_authors"]),
            self.assertNoLogs("cachalot"),
        ):
            for sender in ("library_authors", "of_another_program"):
                post_invalidation.connect(receive, sender=sender)
                post_invalidation.disconnect(receive, sender=sender)

    def test_a_receiver_that_raises_is_logged_and_breaks_nothing(self) -> None:
        received = []

        def fail(**kwargs: object) -> None:
            raise ZeroDivisionError("in the receiver")

        def receive(**kwargs: object) -> None:
            received.append(kwargs["sender"])

        post_invalidation.connect(fail)
        post_invalidation.connect(receive)
        try:
            with self.assertLogs(level="ERROR") as logs:
                with transaction.atomic():
                    Author.objects.create(name="A")
        finally:
            post_invalidation.disconnect(fail)
            post_invalidation.disconnect(receive)
        self.assertEqual(set(received), {"library_author"})
        # Once for each alias of the database, by Django.
        self.assertEqual({record.name for record in logs.records}, {"django.dispatch"})
        self.assertIn("in the receiver", logs.output[0])
        self.assertEqual(names(), ["A"])

    def test_a_receiver_may_read_and_write(self) -> None:
        def receive(sender: str, db_alias: str, **kwargs: Any) -> None:
            if db_alias == "default" and sender == "library_author":
                Tag.objects.get_or_create(name="/".join(names()))

        post_invalidation.connect(receive)
        try:
            with transaction.atomic():
                Author.objects.create(name="A")
            Author.objects.create(name="B")
        finally:
            post_invalidation.disconnect(receive)
        self.assertEqual(sorted(Tag.objects.values_list("name", flat=True)), ["A", "A/B"])


class AliasTests(CacheTestCase):
    databases = {"default", "mirror", "other"}

    def test_a_write_through_one_alias_is_seen_through_the_other(self) -> None:
        def mirrored() -> list[str]:
            return sorted(Author.objects.using("mirror").values_list("name", flat=True))

        Author.objects.create(name="A")
        self.assertEqual(mirrored(), ["A"])
        self.assertEqual(count_queries(mirrored, using="mirror")[1], 0)
        Author.objects.update(name="B")
        self.assertEqual(mirrored(), ["B"])
        with transaction.atomic():
            Author.objects.update(name="C")
        self.assertEqual(mirrored(), ["C"])
        # Its keys are its own: another role may see other rows.
        self.assertEqual(count_queries(names)[1], 1)

    def test_other_databases_are_left_alone(self) -> None:
        Author.objects.create(name="A")
        names()
        Author.objects.using("other").create(name="O")
        self.assertHits(names)

    def test_threads_have_connections_of_their_own(self) -> None:
        barrier = threading.Barrier(2, timeout=20)

        def read_together() -> list[str]:
            barrier.wait()
            return names()

        Author.objects.create(name="A")
        results: list[list[str]] = []
        threads = [
            threading.Thread(target=lambda: results.append(in_thread(read_together)))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(results, [["A"], ["A"]])
        self.assertIsNotNone(connections["default"])
