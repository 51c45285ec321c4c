"""Blocks in a transaction that sees the data of its beginning."""

from __future__ import annotations

from cachalot.api import cached
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
