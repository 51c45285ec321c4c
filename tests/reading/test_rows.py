"""Reads of rows by a unique column, and what writes of other rows leave of them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from unittest import skipIf

from django.contrib.sessions.models import Session
from django.db import connection, models, transaction
from django.db.models import F
from django.db.models.functions import Upper
from django.utils import timezone

from cachalot.api import cached, invalidate, recorded
from cachalot.core.cache.door import cache_in_use
from cachalot.core.cache.versions import Mark
from cachalot.core.rows import MAX_ROWS
from cachalot.core.schema.version_keys import version_keys
from tests.library.models import Author, Book, Novel, Paperback, Publisher, Review, Tag
from tests.support import CacheTestCase, count_queries, in_thread

Read = Callable[[], Any]
Write = Callable[[], Any]


class RowTestCase(CacheTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.one, self.two, self.three = (Tag.objects.create(name=name) for name in "abc")

    def assertKept(self, read: Read, *writes: Write) -> None:
        """What ``read`` has read is still found after each write."""
        read()
        for write in writes:
            self.assertHits(read)
            write()
            self.assertHits(read)

    def assertGone(self, read: Read, *writes: Write) -> None:
        """``read`` asks the database after each write."""
        for write in writes:
            read()
            self.assertHits(read)
            write()
            result, queries = count_queries(read)
            self.assertGreater(queries, 0, "the cache was asked after a write")
            self.assertFresh(read, result)

    def get(self) -> list[str]:
        return [tag.name for tag in Tag.objects.filter(pk=self.one.pk)]

    def get_two(self) -> set[str]:
        return {tag.name for tag in Tag.objects.filter(pk__in=[self.one.pk, self.two.pk])}


class WritesOfOthersTests(RowTestCase):
    def test_writes_that_name_other_rows(self) -> None:
        others = Tag.objects.filter(pk=self.two.pk)
        self.assertKept(
            self.get,
            self.two.save,
            lambda: self.two.save(update_fields=["name"]),
            lambda: others.update(name="x"),
            lambda: others.filter(name="x").update(name=F("name")),
            lambda: Tag.objects.filter(name="x").filter(pk=self.two.pk).update(name=F("name")),
            lambda: Tag.objects.filter(pk__in=[self.two.pk, self.three.pk]).update(
                name=Upper("name")
            ),
            lambda: Tag.objects.bulk_update([self.two, self.three], ["name"]),
            lambda: others.delete(),
            self.three.delete,
        )

    def test_writes_of_new_rows(self) -> None:
        self.assertKept(
            self.get,
            lambda: Tag.objects.create(name="d"),
            lambda: Tag(name="e").save(force_insert=True),
            lambda: Tag.objects.bulk_create([Tag(name="f"), Tag(name="g")]),
            lambda: Tag.objects.get_or_create(name="h"),
            lambda: Tag.objects.update_or_create(name="i"),
        )

    def test_each_form_of_asking_for_a_row(self) -> None:
        pk = self.one.pk
        author = Author.objects.create(name="Ann")
        book = Book.objects.create(title="A", author=author)
        for read in (
            lambda: Tag.objects.get(pk=pk).name,
            lambda: Tag.objects.get(id=pk, name="a").pk,
            lambda: Tag.objects.filter(name="a").filter(pk=pk).exists(),
            lambda: Tag.objects.filter(pk=pk).exists(),
            lambda: Tag.objects.filter(pk=pk).first().name,  # type: ignore[union-attr]
            lambda: list(Tag.objects.filter(pk=pk).values_list("name")),
            lambda: Tag.objects.only("name").get(pk=pk).name,
            lambda: Tag.objects.filter(pk=pk).annotate(upper=Upper("name")).get().upper,
            lambda: list(Tag.objects.filter(pk=pk).order_by("-name").values("name")[:1]),
            lambda: [tag.name for tag in Tag.objects.filter(pk=pk).iterator()],
            lambda: Tag.objects.in_bulk([pk])[pk].name,
            lambda: list(Tag.objects.filter(pk__in=[pk]).values_list("name", flat=True)),
        ):
            with self.subTest():
                self.assertKept(read, self.two.save, lambda: Tag.objects.create(name=uuid.uuid4()))
                self.assertGone(read, self.one.save)

        def follow() -> Any:
            return Book.objects.get(pk=book.pk).author.name  # type: ignore[union-attr]

        self.assertKept(follow, Author(name="Ben").save, Book(title="B").save)
        self.assertGone(follow, author.save, book.save)

    def test_several_rows(self) -> None:
        pks = [self.one.pk, self.two.pk]
        for read in (
            self.get_two,
            lambda: sorted(Tag.objects.in_bulk(pks)),
            lambda: set(Tag.objects.filter(pk__in=pks).values_list("name", "pk")),
        ):
            with self.subTest():
                self.assertKept(
                    read, self.three.save, lambda: Tag.objects.create(name=uuid.uuid4())
                )
                self.assertGone(read, self.one.save, self.two.save)

    def test_what_is_prefetched(self) -> None:
        authors = [Author.objects.create(name=name) for name in ("Ann", "Ben", "Cid")]
        for author in authors[:2]:
            Book.objects.create(title="A", author=author)

        def read() -> list[str]:
            books = Book.objects.filter(author__isnull=False).prefetch_related("author")
            return sorted(book.author.name for book in books)  # type: ignore[union-attr]

        self.assertKept(read, authors[2].save)
        self.assertGone(read, authors[0].save)

    def test_joined_tables_count_whole(self) -> None:
        author = Author.objects.create(name="Ann")
        book = Book.objects.create(title="A", author=author)
        other = Author.objects.create(name="Ben")

        def read() -> Any:
            return Book.objects.select_related("author").get(pk=book.pk).author.name  # type: ignore[union-attr]

        self.assertKept(read, lambda: Book.objects.create(title="B"))
        self.assertGone(read, other.save, author.save, book.save)

    def test_a_proxy(self) -> None:
        one, two = (Paperback.objects.create(title=title) for title in "AB")

        def read() -> Any:
            return Paperback.objects.get(pk=one.pk).title

        self.assertKept(read, two.save, Book.objects.get(pk=two.pk).save)
        self.assertGone(read, Book.objects.get(pk=one.pk).save)

    def test_a_parent(self) -> None:
        one, two = (Novel.objects.create(title=title, genre="G") for title in "AB")
        book = Book.objects.create(title="C")

        def parent() -> Any:
            return Book.objects.get(pk=one.pk).title

        self.assertKept(parent, two.save, book.save, two.delete)
        self.assertGone(parent, one.save, Book.objects.get(pk=one.pk).save)

    def test_a_child(self) -> None:
        """Its parent's row is told by its own key."""
        one, two, three = (Novel.objects.create(title=title, genre="G") for title in "ABC")
        book = Book.objects.create(title="D")
        rows, parents = (model.objects.filter(pk=one.pk) for model in (Novel, Book))  # type: ignore[attr-defined]

        for read in (
            lambda: Novel.objects.get(pk=one.pk).title,
            lambda: Novel.objects.filter(title__gt="").filter(pk=one.pk).exists(),
            lambda: {each.title for each in Novel.objects.filter(pk__in=[one.pk, three.pk])},
            # From the other side.
            lambda: [book.title for book in Book.objects.filter(pk=one.pk, novel__genre__gt="")],
        ):
            with self.subTest():
                self.assertKept(
                    read,
                    two.save,
                    book.save,
                    lambda: Novel.objects.create(title="E", genre="G").delete(),
                    lambda: Novel.objects.filter(pk=two.pk).update(title="F", genre="H"),
                )
                self.assertGone(
                    read,
                    one.save,
                    lambda: rows.update(genre="H"),
                    lambda: rows.update(title="F"),
                    lambda: parents.update(title="G"),
                    lambda: Novel.objects.filter(genre="H").update(title="H"),
                )
        self.assertGone(
            lambda: Novel.objects.filter(pk=one.pk).exists(), lambda: one.delete(keep_parents=True)
        )

    def test_a_child_that_need_not_be_there(self) -> None:
        book = Book.objects.create(title="A")

        def read() -> bool:
            return hasattr(Book.objects.select_related("novel").get(pk=book.pk), "novel")

        self.assertFalse(read())
        self.assertGone(
            read, lambda: Novel(book_ptr=book, genre="G").save_base(raw=True, force_insert=True)
        )
        self.assertTrue(read())

    def test_a_parent_that_a_transaction_has_written(self) -> None:
        one, two = (Novel.objects.create(title=title, genre="G") for title in "AB")

        def read() -> str:
            return Novel.objects.get(pk=one.pk).title

        def is_rolled_back() -> None:
            with suppress(ZeroDivisionError), transaction.atomic():
                Book.objects.filter(pk=one.pk).update(title="C")
                self.assertEqual(read(), "C")
                raise ZeroDivisionError

        read()
        is_rolled_back()
        self.assertEqual(read(), "A")
        with transaction.atomic():
            Book.objects.filter(pk=two.pk).update(title="D")
            read()
        self.assertHits(read)

    def test_a_key_that_is_a_text(self) -> None:
        ends = timezone.now()
        one, two = (Session.objects.create(pk=key, expire_date=ends) for key in ("one", "two"))

        def read() -> Any:
            return Session.objects.get(pk="one").session_data

        self.assertGone(read, lambda: Session.objects.filter(pk="one").update(session_data="1"))
        if connection.vendor != "mysql":  # where texts that are not the same may be equal
            self.assertKept(read, two.save, two.delete)
        self.assertGone(lambda: [*Session.objects.filter(pk="one")], one.delete)


class WritesOfTheRowTests(RowTestCase):
    """What may have changed a row, or which rows there are."""

    def test_writes_that_name_the_row(self) -> None:
        row = Tag.objects.filter(pk=self.one.pk)
        self.assertGone(
            self.get,
            self.one.save,
            lambda: self.one.save(update_fields=["name"]),
            lambda: row.update(name="x"),
            lambda: Tag.objects.filter(pk__in=[self.one.pk, self.three.pk]).update(
                name=Upper("name")
            ),
            lambda: Tag.objects.bulk_update([self.one], ["name"]),
            lambda: row.delete(),
        )

    def test_writes_that_name_no_row(self) -> None:
        self.assertGone(
            self.get,
            lambda: Tag.objects.update(name=Upper("name")),
            lambda: Tag.objects.filter(name="A").update(name="x"),
            lambda: Tag.objects.exclude(pk=self.two.pk).filter(name="x").update(name="y"),
            lambda: Tag.objects.filter(models.Q(pk=self.two.pk) | models.Q(name="y")).update(
                name=Upper("name")
            ),
            lambda: Tag.objects.filter(pk__lt=self.two.pk).update(name="z"),
            lambda: Tag.objects.filter(pk__in=Tag.objects.filter(name="z")).update(name="w"),
            lambda: invalidate(Tag),
            lambda: self.execute("UPDATE library_tag SET name = 'v' WHERE id = %s"),
            lambda: Tag.objects.filter(name="v").delete(),
        )

    def execute(self, sql: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql, [self.one.pk])

    def test_a_write_that_gives_a_row_another_key(self) -> None:
        def read() -> Any:
            return [tag.name for tag in Tag.objects.filter(pk=self.three.pk + 1)]

        self.assertGone(
            read, lambda: Tag.objects.filter(pk=self.two.pk).update(id=self.three.pk + 1)
        )
        self.assertGone(read, lambda: Tag.objects.filter(pk=self.three.pk + 1).update(id=9999))

    def test_an_upsert(self) -> None:
        again = Tag(pk=self.one.pk, name="new")

        def upsert() -> None:
            fields: dict[str, Any] = {"update_conflicts": True, "update_fields": ["name"]}
            if connection.features.supports_update_conflicts_with_target:
                fields["unique_fields"] = ["pk"]
            Tag.objects.bulk_create([again], **fields)

        self.assertGone(self.get, upsert)
        self.assertEqual(self.get(), ["new"])

    def test_a_row_that_is_not_there_yet(self) -> None:
        pk = self.three.pk + 1
        self.assertGone(
            lambda: Tag.objects.filter(pk=pk).exists(), lambda: Tag.objects.create(pk=pk, name="d")
        )
        pk += 1
        self.assertGone(
            lambda: len(Tag.objects.filter(pk__in=[self.one.pk, pk])),
            lambda: Tag.objects.create(pk=pk, name="e"),
        )

    def test_a_row_that_comes_again(self) -> None:
        pk = self.one.pk
        self.assertGone(self.get, self.one.delete, lambda: Tag.objects.create(pk=pk, name="d"))

    def test_several_rows_whose_keys_the_result_does_not_tell(self) -> None:
        pks = [self.one.pk, self.three.pk + 1]

        def read() -> Any:
            return list(Tag.objects.filter(pk__in=pks).values_list("name"))

        self.assertGone(read, lambda: Tag.objects.create(pk=pks[1], name="d"))

    def test_numbers_of_rows(self) -> None:
        pk = self.three.pk + 1
        rows = Tag.objects.filter(pk=pk)
        self.assertGone(rows.count, lambda: Tag.objects.create(pk=pk, name="d"))

        def read() -> Any:
            return rows.aggregate(models.Max("name"))

        self.assertGone(read, lambda: rows.update(name="e"), rows.delete)

        def read() -> Any:
            return list(rows.values("name").annotate(number=models.Count("books")))

        self.assertGone(read, lambda: Tag.objects.create(pk=pk, name="d"))

    def test_a_table_that_is_read_twice(self) -> None:
        author = Author.objects.create(name="Ann", mentor=Author.objects.create(name="Ben"))
        assert author.mentor is not None

        def read() -> Any:
            return Author.objects.filter(pk=author.pk).values_list("mentor__name").get()

        self.assertGone(read, author.mentor.save)
        eldest = Author.objects.order_by("pk").values("name")[:1]

        def read() -> Any:
            return Author.objects.annotate(eldest=models.Subquery(eldest)).get(pk=author.pk).name

        self.assertGone(read, author.mentor.save)

    def test_values_that_are_no_keys(self) -> None:
        self.assertGone(lambda: [tag.name for tag in Tag.objects.filter(pk=F("id"))], self.one.save)

    def test_rows_of_a_parent_that_cascade(self) -> None:
        publisher = Publisher.objects.create(name="P")
        book = Book.objects.create(title="A", publisher=publisher)
        Review.objects.create(book=book, stars=1)
        self.assertGone(
            lambda: [b.publisher_id for b in Book.objects.filter(pk=book.pk)], publisher.delete
        )
        self.assertGone(lambda: Review.objects.count(), book.delete)

    def test_in_another_thread(self) -> None:
        self.assertGone(
            self.get, lambda: in_thread(lambda: Tag.objects.filter(pk=self.one.pk).update(name="x"))
        )
        self.assertKept(
            self.get, lambda: in_thread(lambda: Tag.objects.filter(pk=self.two.pk).update(name="y"))
        )


class FoundRowsTests(RowTestCase):
    """Rows that only the result names."""

    def get_a(self) -> int | None:
        found = Tag.objects.filter(name="a").first()
        return None if found is None else found.pk

    def create(self) -> Any:
        return Tag.objects.create(name=uuid.uuid4())

    def test_each_form_of_asking_for_a_value(self) -> None:
        for read in (
            lambda: Tag.objects.get(name="a").pk,
            lambda: Tag.objects.filter(name="a").first().pk,  # type: ignore[union-attr]
            lambda: Tag.objects.filter(name__in=["a"]).get().pk,
            lambda: [tag.name for tag in Tag.objects.filter(name="a", pk__gt=0)],
            lambda: list(Tag.objects.filter(name="a").values_list("name", "pk")),
            lambda: list(Tag.objects.filter(name="a").values("id")),
            lambda: Tag.objects.only("pk").get(name="a").pk,
            lambda: Tag.objects.filter(name="a").annotate(upper=Upper("name")).get().upper,
            lambda: [tag.pk for tag in Tag.objects.filter(name="a").iterator()],
            lambda: Tag.objects.in_bulk(["a"], field_name="name")["a"].pk,
        ):
            with self.subTest():
                self.assertKept(read, self.two.save, self.create, lambda: self.two.save())
                self.assertGone(read, self.one.save)

    def test_without_the_local_tier(self) -> None:
        with self.settings(CACHALOT_LOCAL_SIZE=0):
            self.assertKept(self.get_a, self.two.save, self.create)
            self.assertGone(self.get_a, self.one.save, lambda: Tag.objects.update(name=F("name")))

    def test_what_may_have_changed_the_row(self) -> None:
        def run() -> None:
            with connection.cursor() as cursor:
                cursor.execute("UPDATE library_tag SET name = 'z' WHERE name = 'a'")

        row = Tag.objects.filter(pk=self.one.pk)
        self.assertGone(
            self.get_a,
            self.one.save,
            lambda: row.update(name="x"),
            lambda: row.update(name="a"),
            run,
            lambda: Tag.objects.filter(name="z").update(name="a"),
            lambda: invalidate(Tag),
            self.one.delete,
        )

    def test_a_value_that_changes_hands(self) -> None:
        def rename(tag: Tag, name: str) -> None:
            Tag.objects.filter(pk=tag.pk).update(name=name)

        def swap() -> None:
            with transaction.atomic():
                rename(self.one, "x")
                rename(self.two, "a")
                rename(self.one, "b")

        self.assertGone(self.get_a, swap)
        self.assertEqual(self.get_a(), self.two.pk)
        self.assertKept(self.get_a, lambda: rename(self.one, "z"), self.three.save)
        self.assertGone(self.get_a, lambda: rename(self.two, "y"), lambda: rename(self.three, "a"))
        self.assertEqual(self.get_a(), self.three.pk)

    def test_a_value_of_a_row_that_comes_again(self) -> None:
        def recreate() -> None:
            with transaction.atomic():
                Tag.objects.filter(name="a").delete()
                Tag.objects.create(name="a")

        first = self.get_a()
        self.assertGone(self.get_a, self.one.delete, lambda: Tag.objects.create(name="a"), recreate)
        self.assertNotEqual(self.get_a(), first)

    def test_a_value_that_nobody_has(self) -> None:
        def read() -> Any:
            return [tag.pk for tag in Tag.objects.filter(name="d")]

        self.assertGone(read, self.create, lambda: Tag.objects.create(name="d"))
        self.assertKept(read, self.create)

    def test_a_value_that_an_upsert_gives_to_a_row(self) -> None:
        def upsert() -> None:
            fields: dict[str, Any] = {"update_conflicts": True, "update_fields": ["name"]}
            if connection.features.supports_update_conflicts_with_target:
                fields["unique_fields"] = ["pk"]
            Tag.objects.bulk_create([Tag(pk=self.one.pk, name="new")], **fields)

        self.assertGone(self.get_a, upsert)

    def test_from_another_connection(self) -> None:
        def rename() -> None:
            Tag.objects.filter(pk=self.one.pk).update(name="x")
            Tag.objects.filter(pk=self.two.pk).update(name="a")

        self.assertKept(self.get_a, lambda: in_thread(self.three.save))
        self.assertGone(self.get_a, lambda: in_thread(rename))
        self.assertEqual(self.get_a(), self.two.pk)
        self.assertEqual(in_thread(self.get_a), self.two.pk)

    def test_what_does_not_name_the_row(self) -> None:
        for read in (
            lambda: Tag.objects.filter(name="a").exists(),
            lambda: Tag.objects.filter(name="a").count(),
            lambda: list(Tag.objects.filter(name="a").values_list("name")),
            lambda: set(Tag.objects.filter(name__in=["a", "b"]).values_list("pk")),
            lambda: [tag.pk for tag in Tag.objects.filter(models.Q(name="a") | models.Q(name="b"))],
            lambda: [tag.pk for tag in Tag.objects.exclude(name="a")],
            lambda: [tag.pk for tag in Tag.objects.filter(name__startswith="a")],
        ):
            with self.subTest():
                self.assertGone(read, self.three.save)

    def test_a_column_that_is_not_unique(self) -> None:
        Author.objects.create(name="Ann")

        def read() -> Any:
            return [author.pk for author in Author.objects.filter(name="Ann")]

        self.assertGone(read, lambda: Author.objects.create(name="Ann"))

    def test_joined_tables_count_whole(self) -> None:
        book = Book.objects.create(title="A")
        book.tags.add(self.one)

        def read() -> Any:
            return [tag.pk for tag in Tag.objects.filter(name="a", books__title="A")]

        self.assertKept(read, self.two.save)
        self.assertGone(read, Book(title="B").save, self.one.save)

    def test_texts_that_the_database_takes_for_equal(self) -> None:
        def read() -> Any:
            return [tag.pk for tag in Tag.objects.filter(name="A ")]

        self.assertGone(
            read,
            lambda: Tag.objects.filter(pk=self.one.pk).update(name="x"),
            lambda: Tag.objects.filter(pk=self.two.pk).update(name="a"),
        )

    def test_in_transactions(self) -> None:
        def read_in_transaction() -> Any:
            with transaction.atomic():
                Author.objects.create(name="Ann")
                result = self.get_a()
                self.assertHits(self.get_a)
                return result

        read_in_transaction()
        self.assertHits(self.get_a)
        self.assertKept(self.get_a, self.two.save, read_in_transaction)
        self.assertGone(self.get_a, self.one.save)

    def test_what_the_transaction_has_written_itself(self) -> None:
        self.get_a()
        with transaction.atomic():
            Tag.objects.filter(pk=self.one.pk).update(name="x")
            self.assertIs(self.get_a(), None)
            with transaction.atomic():
                four = Tag.objects.create(name="a")
                self.assertEqual((self.get_a(), self.get_a()), (four.pk, four.pk))
                transaction.set_rollback(True)
            self.assertIs(self.get_a(), None)
            transaction.set_rollback(True)
        self.assertEqual(self.get_a(), self.one.pk)

    def test_a_block_around_what_was_found(self) -> None:
        read = cached(self.get_a)
        self.get_a()
        self.assertEqual(read(), self.one.pk)
        self.assertEqual(count_queries(read), (self.one.pk, 0))
        Tag.objects.filter(pk=self.one.pk).update(name="x")
        self.assertIs(read(), None)

    def test_a_row_that_was_found_before(self) -> None:
        """Its version is known before the query, so writes of others may go on meanwhile."""
        self.get_a()
        self.one.save()
        keys, mark = version_keys("default", frozenset({"library_tag"})), Mark()
        with cache_in_use() as store:
            store.mark_pending(keys, None, mark)
        self.assertMisses(self.get_a)
        self.assertHits(self.get_a)
        Tag.objects.filter(pk=self.one.pk).update(name="x")
        self.assertIs(self.get_a(), None)
        with cache_in_use() as store:
            store.renew(dict.fromkeys(keys), None, mark)

    def behind_next_query(self, act: Callable[[], Any]) -> None:
        def also(execute: Any, sql: str, *arguments: Any) -> Any:
            result = execute(sql, *arguments)
            connection.execute_wrappers.remove(also)
            in_thread(act)
            return result

        connection.execute_wrappers.append(also)

    @skipIf(connection.vendor == "sqlite", "SQLite locks out whoever writes meanwhile.")
    def test_a_write_behind_the_query(self) -> None:
        """The row that was found may have been written before its version is asked for."""
        for prepare in (self.create, lambda: invalidate(Tag)):
            prepare()  # which may give one nonce to the table and to its rest
            with self.subTest():
                row = Tag.objects.filter(pk=self.one.pk)
                self.behind_next_query(lambda row=row: row.update(name="x"))  # type: ignore[misc]
                self.assertEqual(self.get_a(), self.one.pk)
                self.assertIs(self.get_a(), None)
                row.update(name="a")

    @skipIf(connection.vendor == "sqlite", "SQLite locks out whoever writes meanwhile.")
    def test_a_write_behind_the_query_of_a_transaction(self) -> None:
        invalidate(Tag)
        row = Tag.objects.filter(pk=self.one.pk)
        with transaction.atomic():
            self.behind_next_query(lambda: row.update(name="x"))
            self.assertEqual(self.get_a(), self.one.pk)
            self.assertFresh(self.get_a, self.get_a())
        self.assertIs(self.get_a(), None)


class TransactionTests(RowTestCase):
    def test_rows_of_a_transaction(self) -> None:
        def write_others() -> None:
            with transaction.atomic():
                self.two.save()
                with transaction.atomic():
                    self.three.save()
                Tag.objects.create(name="d")

        def write() -> None:
            with transaction.atomic():
                self.two.save()
                with transaction.atomic():
                    self.one.save()

        self.assertKept(self.get, write_others)
        self.assertGone(self.get, write)

    def test_rows_and_the_rest(self) -> None:
        def write() -> None:
            with transaction.atomic():
                self.two.save()
                Tag.objects.update(name=Upper("name"))
                self.three.save()

        self.assertGone(self.get, write)

    def test_what_is_rolled_back(self) -> None:
        def roll_back() -> None:
            with transaction.atomic():
                self.one.save()
                transaction.set_rollback(True)

        def roll_back_some() -> None:
            with transaction.atomic():
                self.two.save()
                with transaction.atomic():
                    self.one.save()
                    Tag.objects.update(name=Upper("name"))
                    transaction.set_rollback(True)

        if connection.vendor == "mysql":  # which need not undo all of it
            self.assertGone(self.get, roll_back, roll_back_some)
        else:
            self.assertKept(self.get, roll_back, roll_back_some)

    def test_a_row_that_the_transaction_has_inserted(self) -> None:
        pk = self.three.pk + 1

        def read() -> Any:
            return [tag.name for tag in Tag.objects.filter(pk=pk)]

        def insert_for_a_while() -> None:
            with transaction.atomic():
                with transaction.atomic():
                    Tag.objects.create(pk=pk, name="d")
                    self.assertEqual((read(), read()), (["d"], ["d"]))
                    transaction.set_rollback(True)
                self.assertEqual(read(), [])

        insert_for_a_while()
        self.assertEqual(read(), [])

    def test_what_it_has_written_itself(self) -> None:
        self.get()
        with transaction.atomic():
            Tag.objects.filter(pk=self.one.pk).update(name="x")
            self.assertEqual((self.get(), self.get()), (["x"], ["x"]))
            self.assertEqual(in_thread(self.get), ["a"]) if connection.vendor != "sqlite" else None
            transaction.set_rollback(True)
        self.assertEqual(self.get(), ["a"])

    def test_more_rows_than_are_told_apart(self) -> None:
        tags = Tag.objects.bulk_create([Tag(name=f"{n}") for n in range(MAX_ROWS + 1)])
        pks = [tag.pk for tag in tags]

        def write_each(pks: list[int]) -> None:
            with transaction.atomic():
                for pk in pks:
                    Tag.objects.filter(pk=pk).update(name=Upper("name"))

        self.assertKept(self.get, lambda: write_each(pks[1:]))
        self.assertGone(self.get, lambda: write_each(pks))
        self.assertGone(self.get, lambda: Tag.objects.filter(pk__in=pks).update(name=Upper("name")))


class CollectorTests(RowTestCase):
    """Who listens makes no difference to what is found by rows."""

    def test_a_block_around_what_was_read_by_rows(self) -> None:
        read = cached(self.get)
        self.get()
        self.assertEqual(count_queries(read), (["a"], 0))
        self.assertKept(self.get, self.two.save, lambda: read.invalidate() or read())

    def test_a_record_of_reads(self) -> None:
        self.get()
        self.two.save()
        with recorded() as record:
            self.get()
        self.assertEqual([read.is_hit for read in record], [True])


class NestedWriteTests(RowTestCase):
    def test_what_is_written_beneath_a_write_of_a_row(self) -> None:
        def write_by_name() -> None:
            Tag.objects.filter(name="a").update(name="x")

        def write_by_key() -> None:
            Tag.objects.filter(pk=self.one.pk).update(name="a")

        for write in (write_by_name, write_by_key):

            def also(execute: Any, sql: Any, *arguments: Any, write: Write = write) -> Any:
                if sql.startswith("UPDATE"):
                    wrappers = connection.execute_wrappers[:]
                    connection.execute_wrappers.clear()
                    write()
                    connection.execute_wrappers += wrappers
                return execute(sql, *arguments)

            def write_another(also: Any = also) -> None:
                with connection.execute_wrapper(also):
                    Tag.objects.filter(pk=self.two.pk).update(name="y")

            with self.subTest(write.__name__):
                self.assertGone(self.get, write_another)
