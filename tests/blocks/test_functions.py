"""``cached()``: what a function returned is found again until a table that it read is written."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction
from django.core.cache import InvalidCacheBackendError, caches
from django.core.cache.backends.locmem import LocMemCache
from django.db import connection, transaction
from django.test import override_settings
from django.utils import timezone, translation
from django.utils.functional import SimpleLazyObject

from cachalot.api import cachalot_disabled, cached, fresh, invalidate, recorded
from cachalot.blocks import CachedFunction
from cachalot.core.blocks import block as blocks
from cachalot.core.blocks.dependencies import known_dependencies
from cachalot.core.cache.door import guard_of
from cachalot.core.cache.local import local_tier
from cachalot.core.outcomes import Outcome
from cachalot.core.schema.version_keys import version_keys
from tests.library.models import Author, Book, Review, Tag
from tests.support import CacheTestCase, counted_calls, in_process, in_thread

runs: list[str] = []


@cached
def titles(prefix: str = "") -> list[str]:
    runs.append(prefix)
    return sorted(Book.objects.filter(title__startswith=prefix).values_list("title", flat=True))


@cached
def names() -> list[str]:
    runs.append("names")
    return sorted(Author.objects.values_list("name", flat=True))


@cached
def both() -> tuple[list[str], list[str]]:
    runs.append("both")
    return titles(), names()


class BlockTestCase(CacheTestCase):
    def setUp(self) -> None:
        runs.clear()
        self.book = Book.objects.create(title="Typee")
        self.author = Author.objects.create(name="Melville")

    def assertRuns(self, call: Callable[[], object], times: int) -> Any:
        """``call`` runs its functions so many times, and gives what it gives without a cache."""
        runs.clear()
        result = call()
        self.assertEqual(len(runs), times, runs)
        with cachalot_disabled():
            self.assertEqual(result, call())
        return result

    def assertNotStored(self, call: Callable[[], object], reason: str) -> None:
        with recorded() as reads:
            call()
            runs.clear()
            call()
        self.assertEqual(len(runs), 1)
        for block in reads.blocks:
            self.assertIs(block.outcome, Outcome.NOT_STORED)
            self.assertIn(reason, str(block.reason))


class FunctionTests(BlockTestCase):
    def test_each_write_to_a_table_that_was_read(self) -> None:
        writes: dict[str, Callable[[], object]] = {
            "create": lambda: Book.objects.create(title="Omoo"),
            "update": lambda: Book.objects.filter(title="Omoo").update(title="Mardi"),
            "save": lambda: self.book.save(),
            "raw": lambda: self.execute("UPDATE library_book SET title = 'Pierre'"),
            "another thread": lambda: in_thread(lambda: Book.objects.create(title="Redburn")),
            "invalidate": lambda: invalidate(Book),
            "committed": self.commit,
            "delete": lambda: Book.objects.all().delete(),
        }
        self.assertRuns(titles, 1)
        for name, write in writes.items():
            with self.subTest(name):
                self.assertRuns(titles, 0)
                write()
                self.assertRuns(titles, 1)

    def execute(self, sql: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql)

    def commit(self) -> None:
        with transaction.atomic():
            Book.objects.create(title="Israel Potter")

    def test_what_is_written_elsewhere_makes_no_difference(self) -> None:
        self.assertRuns(titles, 1)
        Author.objects.create(name="Shelley")
        Tag.objects.create(name="sea")
        self.assertRuns(titles, 0)

    def test_no_query_and_one_round_trip(self) -> None:
        titles()
        titles()
        with recorded() as reads, counted_calls() as calls:
            titles()
        self.assertEqual(reads, [])
        self.assertEqual(dict(calls), {"get": 1})

    def test_two_round_trips_the_first_time_in_a_process(self) -> None:
        titles()
        known_dependencies.clear()
        local_tier.clear()
        with counted_calls() as calls:
            self.assertEqual(titles(), ["Typee"])
        self.assertEqual(dict(calls), {"get": 2})

    def test_a_result_is_a_copy(self) -> None:
        first = titles()
        first.append("changed")
        second = titles()
        second.append("changed")
        self.assertEqual(titles(), ["Typee"])

    def test_none_is_a_result(self) -> None:
        @cached
        def nothing() -> None:
            runs.append("nothing")
            Book.objects.count()

        self.assertRuns(nothing, 1)
        self.assertRuns(nothing, 0)

    def test_querysets_are_read_in_the_function(self) -> None:
        @cached
        def lazy() -> Any:
            runs.append("lazy")
            return Book.objects.order_by("pk")

        def found() -> list[str]:
            return [book.title for book in lazy()]

        self.assertRuns(found, 1)
        self.assertRuns(found, 0)
        Book.objects.create(title="Omoo")
        self.assertEqual(self.assertRuns(found, 1), ["Typee", "Omoo"])

    def test_exceptions_are_not_kept(self) -> None:
        @cached
        def fail() -> None:
            runs.append("fail")
            Book.objects.count()
            raise ZeroDivisionError

        for _ in range(2):
            with self.assertRaises(ZeroDivisionError):
                fail()
        self.assertEqual(len(runs), 2)

    def test_it_is_the_function_to_all_appearances(self) -> None:
        self.assertEqual(titles.__name__, "titles")
        self.assertIs(iscoroutinefunction(titles), False)
        with self.assertRaises(TypeError):
            titles(1, 2, 3)  # type: ignore[call-arg]

    def test_an_edited_function_starts_anew(self) -> None:
        def made(number: int) -> CachedFunction[[], int]:
            scope: dict[str, Any] = {"Book": Book, "__name__": __name__}
            exec(f"def pages():\n    return Book.objects.count() + {number}", scope)
            return cached(scope["pages"])

        self.assertEqual((made(10)(), made(10)(), made(20)()), (11, 11, 21))


class NestingTests(BlockTestCase):
    def test_the_outer_one_depends_on_what_the_inner_ones_read(self) -> None:
        self.assertRuns(both, 3)
        self.assertRuns(both, 0)
        Book.objects.create(title="Omoo")
        self.assertRuns(both, 2)
        Author.objects.create(name="Shelley")
        self.assertRuns(both, 2)
        self.assertRuns(both, 0)

    def test_inner_ones_that_were_found(self) -> None:
        titles(), names()
        self.assertRuns(both, 1)
        Book.objects.create(title="Omoo")
        self.assertRuns(both, 2)

    def test_an_inner_one_that_is_dropped(self) -> None:
        self.assertRuns(both, 3)
        titles.invalidate()
        self.assertRuns(both, 2)
        self.assertRuns(both, 0)

    def test_what_is_not_stored_within(self) -> None:
        @cached
        def outer() -> list[str]:
            runs.append("outer")
            return [*titles(), *fresh(Author).values_list("name", flat=True)]

        self.assertRuns(outer, 2)
        self.assertRuns(outer, 1)

    def test_the_shortest_time_counts(self) -> None:
        @cached(timeout=10)
        def inner() -> int:
            return Book.objects.count()

        @cached
        def outer() -> int:
            runs.append("outer")
            return inner()

        self.assertRuns(outer, 1)
        self.assertRuns(outer, 0)
        with mock.patch("cachalot.core.blocks.finding.time", return_value=9e9):
            self.assertRuns(outer, 1)


class ArgumentTests(BlockTestCase):
    def test_equal_arguments_in_whatever_form(self) -> None:
        self.assertRuns(lambda: titles("T"), 1)
        for again in (lambda: titles("T"), lambda: titles(prefix="T")):
            self.assertRuns(again, 0)
        self.assertRuns(titles, 1)
        self.assertRuns(lambda: titles(""), 0)

    def test_types_are_told_apart(self) -> None:
        @cached
        def kind(value: object) -> str:
            Book.objects.count()
            return repr(value)

        values: list[object] = [
            *(1, "1", 1.0, True, None, b"1", (1,), [1], {1}, {1: 1}, frozenset({1})),
            *(datetime.date(2000, 1, 1), datetime.datetime(2000, 1, 1), Book, Author),
            *([1, [2]], [[1], 2], ("a", "b"), ("ab",)),
        ]
        for _ in range(2):
            for value in values:
                self.assertEqual(kind(value), repr(value))

    def test_instances_by_what_they_have_loaded(self) -> None:
        @cached
        def summary(book: Book) -> str:
            runs.append("summary")
            return f"{book.title}: {book.reviews.count()}"

        def of(book: Book) -> str:
            return summary(book)

        self.assertRuns(lambda: of(Book.objects.get()), 1)
        self.assertRuns(lambda: of(Book.objects.get()), 0)
        # It is shown, and not read by the function.
        Book.objects.update(title="Omoo")
        self.assertEqual(self.assertRuns(lambda: of(Book.objects.get()), 1), "Omoo: 0")
        Review.objects.create(book=self.book, stars=5)
        self.assertEqual(self.assertRuns(lambda: of(Book.objects.get()), 1), "Omoo: 1")
        lazy = SimpleLazyObject(Book.objects.get)
        self.assertRuns(lambda: of(lazy), 0)  # type: ignore[arg-type]

    def test_what_is_related_to_an_instance_and_loaded(self) -> None:
        @cached
        def author_of(book: Book) -> str:
            Tag.objects.count()
            assert book.author is not None
            return book.author.name

        Book.objects.update(author=self.author)

        def read() -> str:
            return author_of(Book.objects.select_related("author").get())

        self.assertEqual(read(), "Melville")
        Author.objects.update(name="Herman")
        self.assertEqual(read(), "Herman")

    def test_instances_that_lead_to_each_other(self) -> None:
        @cached
        def name_of(author: Author) -> str:
            return f"{author.name} {Author.objects.count()}"

        self.author.mentor = self.author
        self.assertEqual(name_of(self.author), "Melville 1")

    def test_what_cannot_be_told_apart(self) -> None:
        @cached
        def take(thing: object, *others: object, **more: object) -> None: ...

        for arguments in (
            ((object(),), {}),
            ((Book.objects.all(),), {}),
            ((lambda: None,), {}),
            (([1, [object()]],), {}),
        ):
            with self.assertRaisesRegex(TypeError, r"argument 'thing' of .*take\(\).* key= "):
                take(*arguments[0], **arguments[1])
        with self.assertRaisesRegex(TypeError, "argument 'others'"):
            take(1, object())
        with self.assertRaisesRegex(TypeError, "argument 'more'"):
            take(1, x=object())

    def test_variables_of_the_function_around(self) -> None:
        def made(number: int) -> CachedFunction[[], int]:
            def helper() -> int:
                return number

            @cached
            def inner() -> int:
                return Book.objects.count()

            @cached
            def count() -> int:
                runs.append("count")
                return inner() + helper() if number else count()

            return count

        for times in (1, 0):
            for number in (1, 2, 3):
                self.assertRuns(made(number), times)
        self.assertEqual((made(1)(), made(2)()), (2, 3))

        thing = object()

        @cached
        def use() -> str:
            return f"{thing} {Book.objects.count()}"

        with self.assertRaisesRegex(TypeError, r"use\(\) uses a variable .*: 'thing', .*key="):
            use()

    def test_a_key_of_ones_own(self) -> None:
        @cached(key=lambda thing, n=0: ["thing", n])
        def take(thing: object, n: int = 0) -> int:
            runs.append("take")
            return Book.objects.count() + n

        self.assertRuns(lambda: take(object(), n=1), 1)
        self.assertRuns(lambda: take(object(), n=1), 0)
        self.assertRuns(lambda: take(object(), n=2), 1)

        @cached(key=lambda: object())
        def wrong() -> None: ...

        with self.assertRaisesRegex(TypeError, r"key= of .*wrong\(\) returned <object"):
            wrong()

    def test_language_and_time_zone(self) -> None:
        @cached
        def text() -> str:
            return f"{Book.objects.count()} {translation.get_language()}"

        @cached
        def zone() -> str:
            return f"{Book.objects.count()} {timezone.get_current_timezone_name()}"

        for language in ("en", "de", "en"):
            with translation.override(language):
                self.assertEqual(text(), f"1 {language}")
        for name in ("UTC", "Europe/Berlin"):
            with timezone.override(name):
                self.assertEqual(zone(), f"1 {name}")


class Catalogue:
    """Methods of all kinds."""

    def __init__(self, shelf: str) -> None:
        self.shelf = shelf

    @cached(key=lambda self, more: (self.shelf, more))
    def of_instance(self, more: str) -> str:
        runs.append("instance")
        return f"{self.shelf} {more} {Book.objects.count()}"

    @cached
    @classmethod
    def of_class(cls, more: str) -> str:
        runs.append("class")
        return f"{cls.__name__} {more} {Book.objects.count()}"

    @cached
    @staticmethod
    def static(more: str) -> str:
        runs.append("static")
        return f"{more} {Book.objects.count()}"

    @cached
    def without_key(self) -> int:
        return Book.objects.count()


class Subcatalogue(Catalogue):
    pass


class MethodTests(BlockTestCase):
    def test_of_an_instance(self) -> None:
        self.assertEqual(self.assertRuns(lambda: Catalogue("a").of_instance("x"), 1), "a x 1")
        self.assertRuns(lambda: Catalogue("a").of_instance("x"), 0)
        self.assertRuns(lambda: Catalogue("b").of_instance("x"), 1)
        runs.clear()
        self.assertEqual(Catalogue("a").of_instance.fresh("x"), "a x 1")
        self.assertEqual(len(runs), 1)
        Catalogue("a").of_instance.invalidate("x")
        self.assertRuns(lambda: Catalogue("b").of_instance("x"), 0)
        self.assertRuns(lambda: Catalogue("a").of_instance("x"), 1)

    def test_of_a_class(self) -> None:
        self.assertEqual(self.assertRuns(lambda: Catalogue.of_class("x"), 1), "Catalogue x 1")
        self.assertRuns(lambda: Catalogue("a").of_class("x"), 0)
        self.assertEqual(self.assertRuns(lambda: Subcatalogue.of_class("x"), 1), "Subcatalogue x 1")
        Catalogue.of_class.invalidate("x")
        self.assertRuns(lambda: Subcatalogue.of_class("x"), 0)
        self.assertRuns(lambda: Catalogue.of_class("x"), 1)

    def test_static(self) -> None:
        self.assertRuns(lambda: Catalogue.static("x"), 1)
        self.assertRuns(lambda: Catalogue("a").static("x"), 0)

    def test_an_instance_that_cannot_be_told_apart(self) -> None:
        with self.assertRaisesRegex(TypeError, "argument 'self' of .*without_key"):
            Catalogue("a").without_key()


class FreshAndInvalidateTests(BlockTestCase):
    def test_fresh_runs_and_stores_nothing(self) -> None:
        runs.clear()
        titles.fresh()
        self.assertEqual(len(runs), 1)
        self.assertRuns(titles, 1)

    def test_invalidate_drops_what_these_arguments_gave(self) -> None:
        self.assertRuns(titles, 1)
        self.assertRuns(lambda: titles("T"), 1)
        titles.invalidate("T")
        self.assertRuns(titles, 0)
        self.assertRuns(lambda: titles("T"), 1)
        self.assertRuns(lambda: titles("T"), 0)

    def test_invalidate_while_it_is_computed(self) -> None:
        @cached
        def slow() -> int:
            runs.append("slow")
            count = Book.objects.count()
            if len(runs) == 1:
                in_thread(slow.invalidate)
            return count

        slow()
        self.assertEqual(len(runs), 1)
        slow()
        self.assertEqual(len(runs), 2)


class AsyncTests(BlockTestCase):
    def test_coroutines(self) -> None:
        @cached
        async def count(prefix: str) -> int:
            runs.append(prefix)
            return await Book.objects.filter(title__startswith=prefix).acount()

        self.assertIs(iscoroutinefunction(count), True)

        async def use() -> list[int]:
            return [await count("T"), await count("T"), await count("O")]

        self.assertEqual(async_to_sync(use)(), [1, 1, 0])
        self.assertEqual(runs, ["T", "O"])
        Book.objects.create(title="Timoleon")
        self.assertEqual(async_to_sync(use)(), [2, 2, 0])

        async def drop() -> int:
            await count.ainvalidate("T")
            runs.clear()
            return await count("T") + await count.fresh("T")

        self.assertEqual(async_to_sync(drop)(), 4)
        self.assertEqual(runs, ["T", "T"])

    def test_methods(self) -> None:
        class Shelf:
            @cached(key=lambda self: "shelf")
            async def count(self) -> int:
                runs.append("count")
                return await Book.objects.acount()

        self.assertIs(iscoroutinefunction(Shelf().count), True)

        async def use() -> int:
            return await Shelf().count() + await Shelf().count()

        self.assertEqual(async_to_sync(use)(), 2)
        self.assertEqual(runs, ["count"])


class NotStoredTests(BlockTestCase):
    def test_reasons(self) -> None:
        def write() -> int:
            runs.append("write")
            Tag.objects.create(name=f"tag {Tag.objects.count()}")
            return Book.objects.count()

        def bypass() -> int:
            runs.append("bypass")
            with cachalot_disabled():
                return Book.objects.count()

        def read_nothing() -> int:
            runs.append("nothing")
            return 1

        def written_meanwhile() -> int:
            runs.append("meanwhile")
            count = Book.objects.count()
            in_thread(lambda: Book.objects.create(title="Omoo"))
            return count

        def unpicklable() -> Any:
            runs.append("unpicklable")
            return lambda: Book.objects.count() if Book.objects.count() else None

        for function, reason in (
            (write, "writes to the database"),
            (bypass, "cachalot_disabled()"),
            (read_nothing, "reads no table"),
            (written_meanwhile, "written while it ran"),
            (unpicklable, "cannot be pickled"),
        ):
            with self.subTest(function.__name__):
                self.assertNotStored(cached(function), reason)

    def test_one_table_is_written_between_reads_of_two(self) -> None:
        @cached
        def torn() -> tuple[int, int]:
            runs.append("torn")
            books = Book.objects.count()
            if len(runs) == 1:
                in_thread(
                    lambda: (
                        Book.objects.create(title="Omoo"),
                        Author.objects.create(name="Shelley"),
                    )
                )
            return books, Author.objects.count()

        self.assertEqual(torn(), (1, 2))
        self.assertEqual(torn(), (2, 2))
        self.assertEqual(len(runs), 2)

    def test_the_log_says_why(self) -> None:
        with self.assertLogs("cachalot", "DEBUG") as log:
            cached(lambda: 1)()
        self.assertIn("<lambda> is not stored, because it reads no table", log.output[-1])

    def test_switched_off(self) -> None:
        titles()
        with cachalot_disabled():
            runs.clear()
            titles()
            self.assertEqual(len(runs), 1)
        with override_settings(CACHALOT_ENABLED=False):
            titles()
        self.assertEqual(len(runs), 2)
        self.assertRuns(titles, 0)

    def test_own_query_keys(self) -> None:
        with override_settings(CACHALOT_QUERY_KEYGEN="tests.keygens.prefixed_query_key"):
            self.assertNotStored(titles, "CACHALOT_QUERY_KEYGEN")


class TransactionTests(BlockTestCase):
    def test_what_its_own_transaction_has_written(self) -> None:
        titles()
        with transaction.atomic():
            Book.objects.create(title="Omoo")
            self.assertEqual(titles(), ["Omoo", "Typee"])
            self.assertEqual(in_thread(titles), ["Typee"])
        self.assertEqual(titles(), ["Omoo", "Typee"])

    def test_what_is_rolled_back(self) -> None:
        titles()
        with transaction.atomic():
            Book.objects.create(title="Omoo")
            titles()
            transaction.set_rollback(True)
        self.assertEqual(titles(), ["Typee"])

    def test_a_savepoint_that_is_rolled_back(self) -> None:
        with transaction.atomic():
            titles()
            with transaction.atomic():
                Book.objects.create(title="Omoo")
                self.assertEqual(titles(), ["Omoo", "Typee"])
                transaction.set_rollback(True)
            self.assertEqual(titles(), ["Typee"])
        self.assertEqual(titles(), ["Typee"])

    def test_it_is_found_and_stored_in_transactions(self) -> None:
        for _ in range(2):
            with transaction.atomic():
                titles()
        with transaction.atomic():
            self.assertRuns(titles, 0)
        self.assertRuns(titles, 0)

    def test_what_others_commit_meanwhile(self) -> None:
        if connection.vendor == "sqlite":
            self.skipTest("writers wait for readers' transactions")
        with transaction.atomic():
            self.assertEqual(titles(), ["Typee"])
            in_thread(lambda: Book.objects.create(title="Omoo"))
            self.assertEqual(titles(), ["Omoo", "Typee"])
        self.assertRuns(titles, 0)

    def test_a_broken_transaction(self) -> None:
        titles()
        with self.assertRaises(transaction.TransactionManagementError), transaction.atomic():
            transaction.set_rollback(True)
            titles()


class TenantTests(BlockTestCase):
    """Schemas of one database, as tenants have them."""

    def schema(self, name: str) -> Any:
        return mock.patch.object(connection, "schema_name", name, create=True)

    def test_each_has_its_own(self) -> None:
        for times in (1, 0):
            for name in ("one", "two"):
                with self.schema(name):
                    self.assertRuns(titles, times)
        self.assertRuns(titles, 1)
        Book.objects.create(title="Omoo")
        for name in ("one", "two"):
            with self.schema(name):
                self.assertRuns(titles, 1)

    def test_what_reads_as_two_or_as_another_one(self) -> None:
        def of_two() -> list[str]:
            runs.append("of two")
            with self.schema("one"):
                Book.objects.count()
            with self.schema("two"):
                return sorted(Book.objects.values_list("title", flat=True))

        def of_another() -> int:
            runs.append("of another")
            with self.schema("one"):
                return Book.objects.count()

        self.assertNotStored(cached(key=lambda: None)(of_two), "as two tenants")
        self.assertNotStored(cached(key=lambda: None)(of_another), "as another tenant")


class ProcessTests(BlockTestCase):
    def setUp(self) -> None:
        super().setUp()
        if self.uses_locmem():
            self.skipTest("another process has a cache of its own")

    def elsewhere(self, code: str) -> Any:
        return in_process(code, imports="tests.blocks.test_functions")

    def test_what_another_process_stored_is_found(self) -> None:
        code = "runs.clear(); found = titles(); result = [found, len(runs)]"
        self.assertEqual(self.elsewhere(code), [["Typee"], 1])
        self.assertEqual(self.elsewhere(code), [["Typee"], 0])
        self.assertRuns(titles, 0)

    def test_what_another_process_writes(self) -> None:
        self.assertRuns(titles, 1)
        self.elsewhere("Book.objects.create(title='Omoo')")
        self.assertEqual(self.assertRuns(titles, 1), ["Omoo", "Typee"])
        self.elsewhere("titles.invalidate()")
        self.assertRuns(titles, 1)


class FailingCache(LocMemCache):
    def get_many(self, *args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("no route to host")

    get = set = add = set_many = get_many


class CacheTests(BlockTestCase):
    def test_a_cache_that_fails_runs_the_function(self) -> None:
        backend = {"BACKEND": "tests.blocks.test_functions.FailingCache"}
        with override_settings(CACHES={**self.caches(), "default": backend}):
            for _ in range(2):
                self.assertEqual(titles(), ["Typee"])
            titles.invalidate()
        self.assertEqual(len(runs), 2)

    def caches(self) -> dict[str, Any]:
        return {"second": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

    def test_and_raises_where_it_is_to_raise(self) -> None:
        backend = {"BACKEND": "tests.blocks.test_functions.FailingCache"}
        with (
            override_settings(
                CACHES={**self.caches(), "default": backend}, CACHALOT_CACHE_ERRORS="raise"
            ),
            self.assertRaises(ConnectionError),
        ):
            titles()

    def test_another_cache(self) -> None:
        @cached(cache_alias="second")
        def count() -> int:
            runs.append("count")
            return Book.objects.count()

        self.assertRuns(count, 1)
        self.assertRuns(count, 0)
        caches["second"].clear()
        local_tier.clear()
        self.assertRuns(count, 1)
        Book.objects.create(title="Omoo")
        self.assertEqual(self.assertRuns(count, 1), 2)
        self.assertRuns(count, 0)

    def test_a_time_that_is_over(self) -> None:
        @cached(timeout=60)
        def count() -> int:
            runs.append("count")
            return Book.objects.count()

        self.assertRuns(count, 1)
        self.assertRuns(count, 0)
        with mock.patch("cachalot.core.blocks.finding.time", return_value=9e9):
            self.assertRuns(count, 1)

    @override_settings(CACHALOT_TIMEOUTS={"library.Book": 0})
    def test_tables_whose_results_are_not_kept(self) -> None:
        self.assertNotStored(titles, "no time")

    def test_a_read_that_was_found_counts_from_when_it_was_stored(self) -> None:
        with override_settings(CACHALOT_TIMEOUTS={"library.Book": 60}):
            with mock.patch("cachalot.core.reading.results.time", return_value=1000.0):
                Book.objects.count()
            with mock.patch("cachalot.core.reading.reports.wall_time", return_value=1059.0):

                @cached
                def count() -> int:
                    return Book.objects.count()

                with mock.patch("cachalot.core.blocks.block.time", return_value=1059.0):
                    with mock.patch.object(blocks, "put", wraps=blocks.put) as put:
                        count()
        (by_timeout, _), _ = put.call_args
        self.assertEqual([*by_timeout], [1.0])

    def test_a_table_that_is_being_written(self) -> None:
        titles()
        guard_of().mark_pending(version_keys("default", frozenset({"library_book"})))
        for _ in range(2):
            runs.clear()
            titles()
            self.assertEqual(len(runs), 1)

    @pytest.mark.usefixtures("local_tier_by_default")
    def test_what_cannot_be_changed_is_kept_decoded(self) -> None:
        @cached
        def text() -> str:
            return f"{Book.objects.count()} books, and a text long enough not to be interned"

        text(), text()
        self.assertIs(text(), text())

    @pytest.mark.usefixtures("local_tier_by_default")
    def test_what_can_be_changed_is_not(self) -> None:
        titles(), titles()
        self.assertIsNot(titles(), titles())


class OptionTests(BlockTestCase):
    def test_mistakes(self) -> None:
        for timeout in (0, -1, "60", True, float("nan"), float("inf")):
            with self.assertRaisesRegex(ValueError, "timeout of cached"):
                cached(timeout=timeout)  # type: ignore[call-overload]
        with self.assertRaisesRegex(InvalidCacheBackendError, "'third'; CACHES has default"):
            cached(cache_alias="third")
        with self.assertRaisesRegex(TypeError, "not 'name'"):
            cached(key="name")  # type: ignore[call-overload]
        for wrong in (1, "f", Catalogue, partial(print)):
            with self.assertRaisesRegex(TypeError, "takes a function or a method"):
                cached(wrong)  # type: ignore[call-overload]

        def generator() -> Any:
            yield 1

        async def agenerator() -> Any:
            yield 1

        for function in (generator, agenerator):
            with self.assertRaisesRegex(TypeError, "is a generator"):
                cached(function)


class RecordedTests(BlockTestCase):
    @pytest.mark.usefixtures("local_tier_by_default")
    def test_what_became_of_blocks(self) -> None:
        with recorded() as reads:
            titles(), titles(), titles()
        self.assertEqual(
            [(block.name, block.outcome.value) for block in reads.blocks],
            [(f"{__name__}.titles", what) for what in ("miss", "hit", "local hit")],
        )
        self.assertEqual(len(reads), 1)
        for block in reads.blocks:
            self.assertEqual(block.tables, (("default", "library_book"),))
            self.assertGreater(block.seconds, 0)
            self.assertGreater(block.size or 0, 0)
        self.assertIs(reads.blocks[1].is_hit, True)
