"""Blocks depend on the rows that they read by key, and are left alone by writes of others."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from unittest import mock

from django.db import OperationalError, connection, transaction
from django.db.models import F

from cachalot.api import cached, get_last_invalidation, invalidate
from cachalot.core.blocks import entries, moments
from cachalot.core.blocks.dependencies import known_dependencies
from cachalot.core.cache.door import cache_in_use
from cachalot.core.cache.local import local_tier
from cachalot.core.reading.by_rows import RowsAsked
from cachalot.core.reading.reads import _Reading
from cachalot.core.schema.version_keys import version_keys
from tests.blocks.test_functions import BlockTestCase, runs
from tests.library.models import Author, Book, Novel, Tag
from tests.support import in_process, in_thread


@cached
def name_of(pk: int) -> str | None:
    runs.append("name")
    tag = Tag.objects.filter(pk=pk).first()
    return None if tag is None else tag.name


@cached
def names_of(*pks: int) -> list[str | None]:
    runs.append("names")
    return [name_of(pk) for pk in pks]


@cached
def each_of(*pks: int) -> list[str]:
    runs.append("each")
    return [Tag.objects.get(pk=pk).name for pk in pks]


@cached
def found_of(*pks: int) -> list[str]:
    runs.append("found")
    return sorted(tag.name for tag in Tag.objects.filter(pk__in=pks))


@cached
def key_of(name: str) -> int | None:
    runs.append("key")
    tag = Tag.objects.filter(name=name).first()
    return None if tag is None else tag.pk


@cached
def title_of(pk: int) -> str:
    runs.append("title")
    return Novel.objects.get(pk=pk).title


class RowBlockTestCase(BlockTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.one, self.two, self.three = (Tag.objects.create(name=name) for name in "abc")
        self.missing = self.three.pk + 1

    def assertKept(self, call: Callable[[], object], *writes: Callable[[], object]) -> None:
        """``call`` runs nothing after each of the writes."""
        call()
        for write in writes:
            write()
            self.assertRuns(call, 0)

    def assertGone(self, call: Callable[[], object], *writes: Callable[[], object]) -> None:
        """``call`` runs once after each of the writes."""
        for write in writes:
            call()
            self.assertRuns(call, 0)
            write()
            self.assertRuns(call, 1)

    def one_name(self) -> str | None:
        return name_of(self.one.pk)

    def insert(self) -> None:
        Tag.objects.create(pk=self.missing, name="new")

    def execute(self, sql: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql)


class RowTests(RowBlockTestCase):
    def test_writes_of_other_rows(self) -> None:
        others = Tag.objects.filter(pk=self.two.pk)
        self.assertKept(
            self.one_name,
            self.two.save,
            lambda: others.update(name="x"),
            lambda: Tag.objects.bulk_update([self.two, self.three], ["name"]),
            lambda: Tag.objects.create(name="d"),
            lambda: in_thread(self.two.save),
            others.delete,
        )

    def test_a_child_and_its_parent(self) -> None:
        one, two = (Novel.objects.create(title=title, genre="G") for title in "AB")
        parents = Book.objects.filter(pk=one.pk)
        self.assertKept(lambda: title_of(one.pk), two.save, two.delete)
        self.assertGone(lambda: title_of(one.pk), one.save, lambda: parents.update(title="C"))

    def test_writes_of_the_row(self) -> None:
        row = Tag.objects.filter(pk=self.one.pk)
        self.assertGone(
            self.one_name,
            self.one.save,
            lambda: row.update(name="x"),
            lambda: Tag.objects.bulk_update([self.one, self.two], ["name"]),
            lambda: Tag.objects.filter(name__gt="").update(name=F("name")),
            lambda: self.execute("UPDATE library_tag SET name = 'raw' WHERE name = 'a'"),
            lambda: invalidate(Tag),
            lambda: in_thread(lambda: row.update(name="y")),
            row.delete,
        )

    def test_a_row_that_only_the_result_names(self) -> None:
        """As ``Tag.objects.get(name="a")`` has it, whose name others may take."""

        def key() -> int | None:
            return key_of("a")

        def rename(tag: Tag, name: str) -> None:
            tag.name = name
            tag.save()

        def exchange() -> None:
            rename(self.one, "z")
            rename(self.two, "a")

        self.assertKept(key, self.three.save, lambda: Tag.objects.create(name="d"))
        self.assertGone(key, exchange, lambda: in_thread(self.two.delete), self.insert_a)
        # What was not found may be there after each INSERT.
        self.assertGone(lambda: key_of("nobody"), lambda: Tag.objects.create(name="e"))

    def test_the_query_of_a_block_is_kept_by_its_row(self) -> None:
        key_of("a")
        self.two.save()
        self.assertHits(lambda: Tag.objects.filter(name="a").first())

    def insert_a(self) -> None:
        Tag.objects.create(name="a")

    def test_another_process(self) -> None:
        self.assertRuns(self.one_name, 1)
        change = "Tag.objects.filter(pk={}).update(name='{}')"
        in_process(change.format(self.two.pk, "x"))
        self.assertRuns(self.one_name, 0)
        in_process(change.format(self.one.pk, "y"))
        self.assertEqual(self.assertRuns(self.one_name, 1), "y")

    def test_what_another_process_has_stored(self) -> None:
        self.one_name()
        self.two.save()
        known_dependencies.clear()
        local_tier.clear()
        self.assertRuns(self.one_name, 0)

    def test_a_row_that_is_missing(self) -> None:
        def read() -> str | None:
            return name_of(self.missing)

        self.assertGone(read, self.two.save, self.insert)
        self.assertEqual(self.assertRuns(read, 0), "new")
        self.assertKept(read, self.two.save)

    def test_a_row_that_is_missing_by_an_error(self) -> None:
        @cached
        def is_there(pk: int) -> bool:
            runs.append("there")
            with suppress(Tag.DoesNotExist):
                return bool(Tag.objects.get(pk=pk))
            return False

        self.assertGone(lambda: is_there(self.missing), self.two.save, self.insert)
        self.assertIs(is_there(self.missing), True)

    def test_several_rows(self) -> None:
        def all_there() -> list[str]:
            return found_of(self.one.pk, self.two.pk)

        def some_missing() -> list[str]:
            return found_of(self.one.pk, self.missing)

        self.assertKept(all_there, self.three.save)
        self.assertGone(all_there, self.one.save, self.two.save)
        self.assertGone(some_missing, self.three.save, self.insert)
        self.assertKept(some_missing, self.three.save)

    def test_rows_beside_another_table(self) -> None:
        author = Author.objects.create(name="A")
        book = Book.objects.create(title="B", author=author)

        @cached(key=lambda: 1)
        def page() -> tuple[str, str, int]:
            runs.append("page")
            found = Book.objects.get(pk=book.pk)
            assert found.author is not None
            return found.title, found.author.name, Tag.objects.count()

        self.assertKept(page, self.book.save, self.author.save)
        self.assertGone(page, book.save, author.save, self.two.save)

    def test_what_was_found_before(self) -> None:
        for _ in range(2):
            Tag.objects.filter(pk=self.one.pk).first()
            self.assertKept(self.one_name, self.two.save)
            name_of.invalidate(self.one.pk)

    def test_what_it_has_read_others_find_by_the_row(self) -> None:
        self.one_name()
        self.two.save()
        name_of.invalidate(self.one.pk)
        with self.assertNumQueries(0):
            self.one_name()

    def test_what_was_judged_by_its_table(self) -> None:
        """It may lack a change that a version of the row tells of."""
        with mock.patch.object(RowsAsked, "are_found", return_value=False):
            Tag.objects.filter(pk=self.one.pk).first()
        with self.assertNumQueries(0):
            self.one_name()
        self.assertRuns(self.one_name, 0)
        self.two.save()
        self.assertRuns(self.one_name, 1)
        self.assertKept(self.one_name, self.two.save)

    def test_a_table_that_is_asked_for_its_version(self) -> None:
        @cached(key=lambda: 1)
        def dated() -> str | None:
            runs.append("dated")
            get_last_invalidation(Tag, db_alias="default")
            return self.one_name()

        dated()
        self.assertKept(self.one_name, self.two.save)
        self.assertRuns(dated, 1)
        self.assertRuns(dated, 0)

    def test_in_a_transaction(self) -> None:
        self.one_name()
        with transaction.atomic():
            self.assertRuns(self.one_name, 0)
            self.two.save()
            # As long as it has written the table, by whichever rows.
            self.assertRuns(self.one_name, 1)
            self.assertRuns(self.one_name, 1)
        self.assertRuns(self.one_name, 0)
        with transaction.atomic():
            self.one.name = "own"
            self.one.save()
            self.assertEqual(self.assertRuns(self.one_name, 1), "own")
            transaction.set_rollback(True)
        self.assertEqual(self.one_name(), "a")

    def test_what_is_read_in_a_transaction(self) -> None:
        with transaction.atomic():
            self.assertRuns(self.one_name, 1)
            name_of.invalidate(self.one.pk)
        with transaction.atomic():
            Tag.objects.filter(pk=self.one.pk).first()
            self.assertRuns(self.one_name, 1)
        self.assertKept(self.one_name, self.two.save)
        self.assertGone(self.one_name, self.one.save)

    def test_a_missing_row_of_which_the_transaction_knows(self) -> None:
        with transaction.atomic():
            Tag.objects.filter(pk=self.missing).first()
            with self.assertNumQueries(0):
                name_of(self.missing)
        self.assertGone(lambda: name_of(self.missing), self.insert)


class DoubtTests(RowBlockTestCase):
    """Only the result tells whether a read depends on rows."""

    def test_a_query_that_fails(self) -> None:
        @cached(key=lambda: 1)
        def whether() -> str:
            runs.append("whether")
            with suppress(OperationalError):
                Tag.objects.get(pk=self.one.pk)
            return "whatever"

        with mock.patch.object(_Reading, "_timed", side_effect=OperationalError):
            whether()
        self.assertRuns(whether, 0)
        self.assertGone(whether, self.two.save)

    def test_an_iterator_that_is_left(self) -> None:
        @cached
        def last(*pks: int) -> str:
            runs.append("last")
            return next(Tag.objects.filter(pk__in=pks).order_by("-pk").iterator()).name

        def read() -> str:
            return last(self.one.pk, self.missing)

        self.assertGone(read, self.insert)
        self.assertEqual(read(), "new")

    def test_an_iterator_that_ends(self) -> None:
        @cached
        def names(*pks: int) -> list[str]:
            runs.append("names")
            return [tag.name for tag in Tag.objects.filter(pk__in=pks).iterator()]

        self.assertKept(lambda: names(self.one.pk, self.two.pk), self.three.save)

    def test_a_table_that_is_being_written(self) -> None:
        """A row that is found is no concern of that, one that is missing is."""
        keys = version_keys("default", frozenset({"library_tag"}))
        with cache_in_use(keys) as store:
            store.mark_pending(keys)
        self.assertRuns(self.one_name, 1)
        self.assertRuns(self.one_name, 0)
        self.assertNotStored(lambda: name_of(self.missing), "written")
        with mock.patch.object(moments, "MAX_ROWS", 1):
            self.assertNotStored(lambda: each_of(self.one.pk, self.two.pk), "written")
        with cache_in_use(keys) as store:
            store.renew(dict.fromkeys(keys))
        self.assertRuns(self.one_name, 0)


class MomentTests(RowBlockTestCase):
    """Rows that a table stands for are confirmed behind its version."""

    def assertTorn(self, call: Callable[[], object], reason: str = "written") -> None:
        with self.subTest():
            self.assertNotStored(call, reason)

    def change(self) -> None:
        in_thread(lambda: Tag.objects.filter(pk=self.one.pk).update(name=F("name")))

    def test_a_row_that_is_written_before_all_are_read(self) -> None:
        @cached(key=lambda: 1)
        def row_and_all() -> tuple[str, int]:
            runs.append("both")
            name = Tag.objects.get(pk=self.one.pk).name
            changes.pop()()
            return name, Tag.objects.count()

        changes: list[Callable[[], object]] = [*[dict] * 20, self.change, self.change]
        self.assertTorn(row_and_all)
        self.assertRuns(row_and_all, 1)
        self.assertGone(row_and_all, self.one.save, self.two.save, self.insert)

    def test_all_before_a_row(self) -> None:
        @cached(key=lambda: 1)
        def all_and_row() -> tuple[int, str]:
            runs.append("both")
            return Tag.objects.count(), Tag.objects.get(pk=self.one.pk).name

        self.assertGone(all_and_row, self.one.save, self.two.save, self.insert)

    def test_another_row_that_is_written_meanwhile(self) -> None:
        @cached(key=lambda: 1)
        def slow() -> str:
            runs.append("slow")
            name = Tag.objects.get(pk=self.one.pk).name
            in_thread(self.two.save)
            return name

        slow()
        self.assertRuns(slow, 0)

    def test_more_rows_than_are_told_apart(self) -> None:
        pks = self.one.pk, self.two.pk
        with mock.patch.object(moments, "MAX_ROWS", 1):
            self.assertGone(lambda: each_of(*pks), self.one.save, self.two.save, self.three.save)
            self.assertGone(lambda: names_of(*pks), self.three.save)
            self.assertKept(lambda: each_of(self.one.pk, self.one.pk), self.three.save)
        dependencies = next(iter(known_dependencies.values()))
        self.assertEqual(dependencies.rows, ())

    def test_a_row_that_is_written_around_the_look(self) -> None:
        pks = self.one.pk, self.two.pk
        current, are_in_force = entries.current, entries.are_in_force

        def before(*args: Any) -> Any:
            self.change()
            return current(*args)

        def behind(*args: Any) -> Any:
            found = current(*args)
            self.change()
            return found

        def after(*args: Any) -> bool:
            found = are_in_force(*args)
            self.change()
            return found

        with mock.patch.object(moments, "MAX_ROWS", 1):
            for name, change in (("current", before), ("current", behind)):
                with mock.patch.object(entries, name, change):
                    self.assertTorn(lambda: each_of(*pks))
            with mock.patch.object(entries, "are_in_force", after):
                each_of(*pks)
            self.assertRuns(lambda: each_of(*pks), 1)

    def test_very_many_rows(self) -> None:
        tags = Tag.objects.bulk_create([Tag(pk=1000 + at, name=f"{at}") for at in range(150)])
        pks = [tag.pk for tag in tags]
        self.assertGone(lambda: each_of(*pks), tags[0].save, tags[-1].save, self.one.save)


class NestedRowTests(RowBlockTestCase):
    def both(self) -> list[str | None]:
        return names_of(self.one.pk, self.two.pk)

    def test_an_outer_one_depends_on_the_rows_of_inner_ones(self) -> None:
        self.assertRuns(self.both, 3)
        for write, times in (
            (self.three.save, 0),
            (self.one.save, 2),
            (self.two.save, 2),
            (self.insert, 0),
            (lambda: invalidate(Tag), 3),
        ):
            write()
            self.assertRuns(self.both, times)
            self.assertRuns(self.both, 0)

    def test_inner_ones_that_were_found(self) -> None:
        name_of(self.one.pk), name_of(self.two.pk)
        self.three.save()
        self.assertRuns(self.both, 1)
        self.assertKept(self.both, self.three.save)
        self.one.save()
        self.assertRuns(self.both, 2)

    def test_an_inner_one_that_was_found_and_is_written_then(self) -> None:
        @cached(key=lambda: 1)
        def slow() -> list[str | None]:
            runs.append("slow")
            found = [self.one_name()]
            changes.pop()()
            return found

        changes: list[Callable[[], object]] = [*[dict] * 9, lambda: in_thread(self.one.save)]
        self.one_name()
        slow()
        self.assertRuns(slow, 2)
        self.assertRuns(slow, 0)
