"""Blocks in a transaction that sees the data of its beginning."""

from __future__ import annotations

from typing import Any
from unittest import mock

from cachalot.api import cached
from cachalot.core.blocks import entries
from tests.library.models import Author, Tag
from tests.reading.test_snapshots import SnapshotTestCase, add_author, add_tag
from tests.support import in_thread

runs: list[str] = []


@cached
def everything() -> tuple[list[str], list[str]]:
    runs.append("everything")
    return (
        sorted(Author.objects.values_list("name", flat=True)),
        sorted(Tag.objects.values_list("name", flat=True)),
    )


@cached
def author(pk: int) -> str:
    runs.append("author")
    return Author.objects.get(pk=pk).name


class BlockTests(SnapshotTestCase):
    def setUp(self) -> None:
        super().setUp()
        runs.clear()

    def test_what_is_of_its_time_is_found(self) -> None:
        everything()
        with self.snapshot():
            self.assertEqual(everything(), (["A"], ["t"]))
        self.assertEqual(len(runs), 1)

    def test_what_it_stores_others_find_before_it_ends(self) -> None:
        with self.snapshot():
            everything()
            self.assertEqual(in_thread(everything), (["A"], ["t"]))
        self.assertEqual(len(runs), 1)

    def test_what_others_commit_meanwhile_is_not_seen(self) -> None:
        everything()
        with self.snapshot():
            self.assertEqual(everything(), (["A"], ["t"]))
            add_author("B")
            add_tag("u")
            self.assertEqual(in_thread(everything), (["A", "B"], ["t", "u"]))
            self.assertEqual(everything(), (["A"], ["t"]))
        self.assertEqual(everything(), (["A", "B"], ["t", "u"]))

    def test_what_it_computes_of_the_past_is_there_for_nobody(self) -> None:
        with self.snapshot():
            Tag.objects.exists()
            add_author("B")
            self.assertEqual(everything(), (["A"], ["t"]))
        self.assertEqual(everything(), (["A", "B"], ["t"]))

    def test_what_it_writes(self) -> None:
        everything()
        with self.snapshot():
            Author.objects.create(name="own")
            self.assertEqual(everything(), (["A", "own"], ["t"]))
            self.assertEqual(in_thread(everything), (["A"], ["t"]))
        self.assertEqual(everything(), (["A", "own"], ["t"]))


class RowTests(SnapshotTestCase):
    """Of the past the versions of tables are known, not those of rows."""

    def setUp(self) -> None:
        super().setUp()
        runs.clear()
        self.pk = Author.objects.get().pk

    def rename(self, name: str) -> None:
        in_thread(lambda: Author.objects.filter(pk=self.pk).update(name=name))

    def test_what_was_stored_by_rows_is_found(self) -> None:
        author(self.pk)
        with self.snapshot():
            self.assertEqual(author(self.pk), "A")
        self.assertEqual(len(runs), 1)

    def test_what_was_stored_by_rows_of_another_time(self) -> None:
        author(self.pk)
        with self.snapshot():
            Tag.objects.exists()
            self.rename("B")
            self.assertEqual(in_thread(lambda: author(self.pk)), "B")
            self.assertEqual(author(self.pk), "A")
        self.assertEqual(author(self.pk), "B")

    def test_a_table_that_changes_while_a_block_is_found(self) -> None:
        find = entries.find

        def change_and_find(*args: Any) -> Any:
            with mock.patch.object(entries, "find", find):
                self.rename("B")
                in_thread(lambda: author(self.pk))
                return find(*args)

        author(self.pk)
        with self.snapshot():
            Tag.objects.exists()
            with mock.patch.object(entries, "find", change_and_find):
                self.assertEqual(author(self.pk), "A")
        self.assertEqual(author(self.pk), "B")

    def test_what_it_reads_others_find_as_of_the_table(self) -> None:
        with self.snapshot():
            author(self.pk)
        self.assertEqual(author(self.pk), "A")
        add_author("B")
        author(self.pk)
        self.assertEqual(len(runs), 2)
        add_author("C")
        author(self.pk)
        self.assertEqual(len(runs), 2)
