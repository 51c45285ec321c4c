"""Every order in which the steps of one reader and one writer can follow each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from django.core.cache import caches
from django.db import connection
from django.test import override_settings

from cachalot.api import invalidate
from tests.interleaving import (
    PENDING,
    VISIBLE,
    WAIT_ABOVE,
    Player,
    ProcessPlayer,
    ThreadPlayer,
    explore,
    names,
    stops,
)
from tests.library.models import Author
from tests.support import CacheTestCase

READS = ("read", "read in a transaction")
WRITES = ("write", "write in a transaction", "write in vain")
ADDS = ("add", "add in a transaction")

Choose = Callable[[Sequence[Player]], Player]


@override_settings(CACHALOT_WAIT_ABOVE=WAIT_ABOVE)
class InterleavingTests(CacheTestCase):
    journal = "delete"

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.use_journal(cls.journal)
        cls.processes: list[Player] = []
        if not cls.is_alone():
            cls.processes = [ProcessPlayer(), ProcessPlayer()]
        cls.threads: list[Player] = [ThreadPlayer(), ThreadPlayer()]

    @classmethod
    def tearDownClass(cls) -> None:
        for player in (*cls.processes, *cls.threads):
            player.dismiss()
        # The other tests have SQLite's default, which needs the database for itself.
        cls.use_journal("delete")
        super().tearDownClass()

    @staticmethod
    def use_journal(journal: str) -> None:
        if connection.vendor == "sqlite":
            with connection.cursor() as cursor:
                cursor.execute(f"PRAGMA journal_mode = {journal}")
                assert cursor.fetchone() == (journal,)
            connection.close()

    def setUp(self) -> None:
        self.generation = 0
        Author.objects.create(name="0")

    def test_threads(self) -> None:
        self.interleave(*self.threads, (self.let_miss, self.let_hit, self.evict))

    def test_processes(self) -> None:
        if self.is_alone():
            self.skipTest("the caches of two processes are not one")
        self.interleave(*self.processes, (self.let_miss,))

    def interleave(
        self, reader: Player, writer: Player, preparations: Sequence[Callable[[], None]]
    ) -> None:
        with stops():
            for read in READS:
                for write in WRITES:
                    for prepare in preparations:
                        with self.subTest(read=read, write=write, cache=prepare.__name__):

                            def play(
                                choose: Choose, read=read, write=write, prepare=prepare
                            ) -> None:
                                prepare()
                                reader.give(read)
                                writer.give(write, str(self.generation + 1))
                                self.play(reader, writer, choose)

                            self.assertGreater(explore(play), 1)

    @pytest.mark.skipif("connection.vendor == 'sqlite'", reason="lets one write at a time")
    def test_two_writers(self) -> None:
        """Each is seen once it has ended, whatever the other has read and published meanwhile."""
        with stops():
            for one in ADDS:
                for other in ADDS:
                    with self.subTest(one=one, other=other):

                        def play(choose: Choose, actions=(one, other)) -> None:
                            Author.objects.all().delete()
                            for player, action, name in zip(
                                self.threads, actions, ("A", "B"), strict=True
                            ):
                                player.give(action, name)
                            self.play_writers(choose)

                        self.assertGreater(explore(play), 1)

    def play_writers(self, choose: Choose) -> None:
        steps: list[str] = []
        ended: set[str] = set()
        try:
            while running := [p for p in self.threads if p.stopped_at is not None]:
                player = choose(running) if len(running) > 1 else running[0]
                player.advance()
                steps.append(f"{player.name}: {player.stopped_at or 'end'}")
                if player.stopped_at is None:
                    ended.add(player.name)
                    self.assertLessEqual(ended, set(names()), steps)
            self.assertEqual(set(self.assertHits(names)), {"A", "B"}, steps)
        finally:
            for player in self.threads:
                player.finish()

    def let_miss(self) -> None:
        invalidate(Author)

    def let_hit(self) -> None:
        invalidate(Author)
        names()

    def evict(self) -> None:
        """Leave the table without a version: the reader adds one."""
        caches["default"].clear()

    def play(self, reader: Player, writer: Player, choose: Choose) -> None:
        old = new = [str(self.generation)]
        if writer.action != "write in vain":
            self.generation += 1
            new = [str(self.generation)]
        may_see = [old, new]
        steps = []
        try:
            while running := [
                player
                for player in (reader, writer)
                if player.stopped_at is not None and not self.is_locked_out(player, reader)
            ]:
                player = choose(running) if len(running) > 1 else running[0]
                if player is reader and reader.stopped_at == "start":
                    may_see = [new] if writer.stopped_at in (VISIBLE, None) else [old, new]
                player.advance()
                steps.append(f"{player.action}: {player.stopped_at or 'end'}")
                if player is writer and writer.stopped_at in (VISIBLE, None):
                    self.assertEqual(names(), new, steps)
            self.assertIn(reader.result, may_see, steps)
            self.assertEqual(names(), new, steps)
            self.assertEqual(self.assertHits(names), new, steps)
            if self.processes:
                self.assertEqual(self.processes[0].do("look"), new, steps)
        finally:
            reader.finish()
            writer.finish()

    def is_locked_out(self, player: Player, reader: Player) -> bool:
        """Whether SQLite keeps the player from its next step.

        With a rollback journal, nothing can be committed as long as a transaction that has read
        is open: such interleavings do not exist.
        """
        return (
            connection.vendor == "sqlite"
            and self.journal == "delete"
            and player is not reader
            and player.stopped_at == PENDING
            and reader.action == "read in a transaction"
            and reader.stopped_at not in ("start", None)
        )


@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="no other database has a choice")
class WriteAheadLogInterleavingTests(InterleavingTests):
    journal = "wal"
