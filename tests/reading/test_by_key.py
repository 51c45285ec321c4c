"""``get()`` by one column and following a foreign key: as Django does it, by a shorter way."""

from __future__ import annotations

from typing import Any
from unittest import mock

from django.db import connection, transaction
from django.db.models import CharField, Lookup, QuerySet
from django.db.models.signals import post_init
from django.test import override_settings
from django.test.utils import register_lookup

from cachalot.api import cachalot_disabled
from cachalot.core.reading import by_key
from tests.library.models import Author, Book, Novel, Paperback, Publisher, Tag
from tests.support import CacheTestCase, count_queries


def is_short(read: Any) -> bool:
    """Whether ``read()`` builds no queryset, once it has been done before."""
    read()
    with (
        mock.patch.object(QuerySet, "filter", side_effect=AssertionError),
        mock.patch.object(by_key, "_is_djangos", return_value=True),
    ):
        try:
            read()
        except AssertionError:
            return False
    return True


class Loud(QuerySet):  # type: ignore[type-arg]
    """A queryset of a project's own."""

    def filter(self, *args: Any, **kwargs: Any) -> Any:
        return super().filter(*args, **kwargs).none()


class ByKeyTests(CacheTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.publisher = Publisher.objects.create(name="P")
        self.author = Author.objects.create(name="A")
        self.book = Book.objects.create(title="T", author=self.author, publisher=self.publisher)

    def test_what_goes_the_short_way(self) -> None:
        for read in (
            lambda: Book.objects.get(pk=self.book.pk),
            lambda: Book.objects.get(id=self.book.pk),
            lambda: Publisher.objects.get(name="P"),
            lambda: Paperback.objects.get(pk=self.book.pk),
            lambda: Book.objects.all().get(pk=self.book.pk),
        ):
            read()
            self.assertTrue(is_short(read))

    def test_following_a_foreign_key(self) -> None:
        self.assertEqual(Book.objects.get(pk=self.book.pk).publisher.name, "P")
        for _ in range(3):
            book = Book.objects.get(pk=self.book.pk)
            self.assertEqual(book.author, self.author)
            self.assertEqual(count_queries(lambda book=book: book.publisher.name), ("P", 0))
        self.author.name = "B"
        self.author.save()
        self.assertEqual(Book.objects.get(pk=self.book.pk).author.name, "B")

    def test_it_is_the_same_object_in_all_respects(self) -> None:
        with mock.patch.object(by_key, "get", return_value=None):
            plain = Publisher.objects.get(name="P")
        for _ in range(3):
            short = Publisher.objects.get(name="P")
            self.assertEqual(vars(short).keys(), vars(plain).keys())
            self.assertEqual(vars(short._state), vars(plain._state))
            self.assertIsNot(short, plain)

    def test_signals_and_from_db(self) -> None:
        seen: list[Any] = []

        def receive(instance: Any, **kwargs: Any) -> None:
            seen.append(instance)

        post_init.connect(receive, sender=Tag)
        self.addCleanup(post_init.disconnect, receive, sender=Tag)
        tag = Tag.objects.create(name="t")
        seen.clear()
        for _ in range(3):
            Tag.objects.get(pk=tag.pk)
        self.assertEqual(seen, [tag] * 3)

    def test_what_is_missing_raises_as_ever(self) -> None:
        for _ in range(3):
            with self.assertRaisesMessage(Book.DoesNotExist, "Book matching query does not exist."):
                Book.objects.get(pk=10**6)
            # Another one is found all the same.
            self.assertEqual(Book.objects.get(pk=self.book.pk), self.book)

    def test_values_of_other_types_go_django_s_way(self) -> None:
        for value in (str(self.book.pk), float(self.book.pk)):
            for _ in range(3):
                self.assertEqual(Book.objects.get(pk=value), self.book)
        if self.book.pk == 1:
            self.assertEqual(Book.objects.get(pk=True), self.book)
        for value in (2**70, -1):
            with self.assertRaises((Book.DoesNotExist, OverflowError)):
                Book.objects.get(pk=value)
        with self.assertRaises(ValueError):
            Book.objects.get(pk="no number")

    def test_what_has_been_asked_for_counts(self) -> None:
        pk = self.book.pk
        other = Book.objects.create(title="U")
        for _ in range(3):
            Book.objects.get(pk=pk)
            for queryset in (
                Book.objects.filter(title="U"),
                Book.objects.exclude(title="T"),
                Book.objects.none(),
                self.author.books.filter(title="U"),
            ):
                with self.assertRaises(Book.DoesNotExist):
                    queryset.get(pk=pk)
            self.assertEqual(self.author.books.get(pk=pk), self.book)
            with self.assertRaises(Book.DoesNotExist):
                self.author.books.get(pk=other.pk)
            self.assertEqual(Book.objects.values("title").get(pk=pk), {"title": "T"})
            self.assertIn("pages", Book.objects.only("title").get(pk=pk).get_deferred_fields())
            loaded = Book.objects.select_related("author").get(pk=pk)
            self.assertEqual(count_queries(lambda loaded=loaded: loaded.author), (self.author, 0))
            loaded = Author.objects.prefetch_related("books").get(pk=self.author.pk)
            self.assertEqual(count_queries(lambda loaded=loaded: len(loaded.books.all())), (1, 0))

    def test_querysets_of_a_project_s_own_do_it_their_way(self) -> None:
        pk = self.book.pk
        for _ in range(3):
            Book.objects.get(pk=pk)
            with self.assertRaises(Book.DoesNotExist):
                Loud(Book).get(pk=pk)

    def test_inheritance_goes_django_s_way(self) -> None:
        novel = Novel.objects.create(title="N", genre="g")
        for _ in range(3):
            self.assertEqual(Novel.objects.get(pk=novel.pk), novel)
            self.assertEqual(Novel.objects.get(id=novel.pk).genre, "g")

    def test_columns_that_are_not_unique(self) -> None:
        Book.objects.create(title="T")
        for _ in range(3):
            with self.assertRaises(Book.MultipleObjectsReturned):
                Book.objects.get(title="T")

    def test_writes_are_seen(self) -> None:
        for title in ("a", "b", "c"):
            Book.objects.filter(pk=self.book.pk).update(title=title)
            self.assertEqual(Book.objects.get(pk=self.book.pk).title, title)
            self.assertEqual(Book.objects.get(pk=self.book.pk).title, title)
        with transaction.atomic():
            self.assertEqual(Book.objects.get(pk=self.book.pk).title, "c")
            Book.objects.filter(pk=self.book.pk).update(title="d")
            self.assertEqual(Book.objects.get(pk=self.book.pk).title, "d")
            transaction.set_rollback(True)
        self.assertEqual(Book.objects.get(pk=self.book.pk).title, "c")
        with connection.cursor() as cursor:
            cursor.execute("UPDATE library_book SET title = 'e'")
        self.assertEqual(Book.objects.get(pk=self.book.pk).title, "e")

    def test_a_query_that_is_forgotten_meanwhile_is_of_its_value(self) -> None:
        """Whoever compiles it all the same gets the SQL of the value that was asked for."""
        other = Book.objects.create(title="U")
        for book in (self.book, other):
            Book.objects.get(pk=book.pk)
        for book in (self.book, other, self.book):
            with cachalot_disabled():
                self.assertEqual(Book.objects.get(pk=book.pk), book)
            with connection.execute_wrapper(lambda execute, *args: execute(*args)):
                self.assertEqual(Book.objects.get(pk=book.pk), book)
            with mock.patch("cachalot.core.reading.reads.ready_of", return_value=None):
                self.assertEqual(Book.objects.get(pk=book.pk), book)

    def test_another_tenant_s_row_is_not_this_one_s(self) -> None:
        """What was found for the session before must not count once it is another one."""
        connection.schema_name = "north"  # type: ignore[attr-defined]
        self.addCleanup(delattr, connection, "schema_name")
        for _ in range(3):
            self.assertEqual(Book.objects.get(pk=self.book.pk).title, "T")
        with cachalot_disabled(), connection.cursor() as cursor:
            # As if the other tenant's table had another row of this key: nobody is told of it.
            with mock.patch("cachalot.core.patches.raw.execute", lambda c, s, p, run: run()):
                cursor.execute("UPDATE library_book SET title = 'south'")
        self.assertEqual(Book.objects.get(pk=self.book.pk).title, "T")
        connection.schema_name = "south"  # type: ignore[attr-defined]
        for _ in range(3):
            self.assertEqual(Book.objects.get(pk=self.book.pk).title, "south")
        connection.schema_name = "north"  # type: ignore[attr-defined]
        self.assertEqual(Book.objects.get(pk=self.book.pk).title, "T")

    def test_a_model_s_table_is_read_each_time(self) -> None:
        Tag.objects.create(name="tag", pk=self.publisher.pk)

        def read() -> str:
            return Publisher.objects.get(pk=self.publisher.pk).name

        def forget_columns() -> None:
            for field in Publisher._meta.concrete_fields:
                field.__dict__.pop("cached_col", None)

        self.assertTrue(is_short(read))
        self.addCleanup(forget_columns)
        with mock.patch.object(Publisher._meta, "db_table", Tag._meta.db_table):
            forget_columns()
            for _ in range(2):
                self.assertEqual(read(), "tag")
            forget_columns()
        self.assertEqual(read(), "P")

    def test_a_lookup_that_is_registered_later_counts(self) -> None:
        def read() -> str:
            return Publisher.objects.get(name="P").name

        class Unlike(Lookup):
            lookup_name = "exact"

            def as_sql(self, compiler: Any, connection: Any) -> Any:
                left, left_params = self.process_lhs(compiler, connection)
                right, right_params = self.process_rhs(compiler, connection)
                return f"{left} <> {right}", (*left_params, *right_params)

        Publisher.objects.create(name="Q")
        targets: list[Any] = [CharField, Publisher._meta.get_field("name")]
        self.assertTrue(is_short(read))
        for where in targets:
            with register_lookup(where, Unlike):
                for _ in range(2):
                    self.assertEqual(read(), "Q")
            self.assertTrue(is_short(read))

    def test_the_router_is_asked(self) -> None:
        asked: list[Any] = []

        class Router:
            def db_for_read(self, model: Any, **hints: Any) -> str:
                asked.append((model, hints.get("instance")))
                return "default"

        book = Book.objects.get(pk=self.book.pk)
        with override_settings(DATABASE_ROUTERS=[Router()]):
            for _ in range(2):
                asked.clear()
                Publisher.objects.get(name="P")
                self.assertEqual(asked[0][0], Publisher)
        self.assertEqual(book, self.book)
