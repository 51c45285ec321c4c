"""The real code does, step by step, what the model does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from django.conf import settings
from django.test import TransactionTestCase, override_settings

from cachalot.core.blocks import block, entries, moments
from cachalot.core.blocks.dependencies import dependencies_of
from cachalot.core.cache import raw, store
from cachalot.core.cache.door import cache_in_use
from cachalot.core.cache.entries import Stored
from cachalot.core.cache.store import Store
from cachalot.core.collecting import Collector
from cachalot.core.connection.overlay import Entry, Overlay
from cachalot.core.reading import finding, lookup, snapshots
from cachalot.core.reading.by_rows import RowsAsked
from tests.library.models import Book, Review
from tests.protocol.actors import CACHE_ALIAS, Divergence, ScheduledCache, cursor_of_snapshot
from tests.protocol.model import Protocol
from tests.protocol.row_block_stage import EveryRowBlockStep, EveryStepOfManyRows, RowBlockStage
from tests.protocol.row_blocks import PLAYED
from tests.protocol.runs import EveryStep, all_runs, covering_runs
from tests.protocol.scenarios import (
    BLOCK,
    BLOCK_OF_ONE,
    INNER_ALONE,
    INVALIDATE,
    JOIN,
    NESTED,
    PINNED,
    PINNED_TWICE,
    PUBLISHES,
    READ,
    READ_U,
    ROLLED_BACK,
    T_THEN_U,
    TRANSACTION,
    TWICE,
    WRITE,
    WRITE_U,
)
from tests.protocol.stage import Stage
from tests.protocol.world import Scenario, Step

#: One writer and one reader: every run is played.
ALL = (
    Scenario("a statement", {"W1": WRITE, "R1": READ}),
    Scenario("a statement, a cold cache", {"W1": WRITE, "R1": READ}, is_warm=False),
    Scenario("a transaction", {"W1": TRANSACTION, "R1": READ}),
    Scenario("a transaction that publishes", {"W1": PUBLISHES, "R1": READ_U}),
    Scenario("a transaction that is rolled back", {"W1": ROLLED_BACK, "R1": READ}),
    Scenario("a join", {"W1": WRITE_U, "R1": JOIN}),
)
#: More of both: as many runs as it takes to play each step of each state.
COVERED = (
    Scenario("two writers and two readers", {"W1": WRITE, "W2": WRITE, "R1": READ, "R2": READ}),
    Scenario("a statement and an eviction", {"W1": WRITE, "R1": READ}, evictions=1),
    Scenario("statements that may fail", {"W1": WRITE, "W2": WRITE, "R1": READ}, failures=2),
    Scenario("a transaction that may fail", {"W1": TRANSACTION, "R1": READ}, failures=1),
    Scenario("a statement and invalidate()", {"W1": WRITE, "W2": INVALIDATE, "R1": READ}),
    Scenario("a transaction, a cold cache", {"W1": TRANSACTION, "R1": READ}, is_warm=False),
    Scenario("a transaction and an eviction", {"W1": TRANSACTION, "R1": READ}, evictions=1),
    Scenario("a publication, a cold cache", {"W1": PUBLISHES, "R1": READ_U}, is_warm=False),
    Scenario("a join, a cold cache", {"W1": WRITE_U, "R1": JOIN}, is_warm=False),
)

#: Blocks, of reads by a cursor.
BLOCKS = (
    Scenario("a block of one read", {"W1": WRITE, "B": BLOCK_OF_ONE}),
    Scenario("a block of two reads", {"W1": T_THEN_U, "B": BLOCK}),
    Scenario("two blocks of two reads", {"W1": T_THEN_U, "B1": BLOCK, "B2": BLOCK}),
    Scenario("a block that reads a table twice", {"W1": WRITE, "B1": TWICE, "B2": TWICE}),
    Scenario(
        "a block in a block, and the inner one", {"W1": T_THEN_U, "B1": NESTED, "B2": INNER_ALONE}
    ),
)

#: Transactions under snapshot isolation.
PINS = (
    Scenario("a snapshot", {"W1": WRITE, "P": PINNED_TWICE}, evictions=1),
    Scenario(
        "a snapshot, a cold cache", {"W1": WRITE, "P": PINNED_TWICE, "R1": READ}, is_warm=False
    ),
    Scenario("two snapshots", {"W1": WRITE, "P1": PINNED, "P2": PINNED}),
)


@override_settings(
    CACHES={
        **settings.CACHES,
        CACHE_ALIAS: {"BACKEND": "tests.protocol.actors.ScheduledCache"},
    },
    CACHALOT_CACHE=CACHE_ALIAS,
    CACHALOT_LOCAL_SIZE=0,
    # Each run is a read of its own.
    CACHALOT_ADAPTIVE=False,
    # The stage makes queries seem long.
    CACHALOT_WAIT_ABOVE=None,
)
class StageTests(TransactionTestCase):
    # Django wants the default database to be there as well.
    databases = {"default", "other"}

    def setUp(self) -> None:
        Book.objects.using("other").create(pk=1, title="B")
        Review.objects.using("other").create(pk=1, book_id=1, stars=0)
        patch = mock.patch.object(snapshots, "driver_cursor", cursor_of_snapshot)
        patch.start()
        self.addCleanup(patch.stop)

    def play(self, scenario: Scenario, runs: Callable[[Protocol], Iterator[list[Step]]]) -> int:
        protocol = EveryStep(scenario)
        stage = Stage(protocol)
        try:
            played = 0
            for run in runs(protocol):
                stage.play(run)
                played += 1
        finally:
            stage.close()
        return played

    def test_every_run_of_a_writer_and_a_reader(self) -> None:
        for scenario in ALL:
            with self.subTest(scenario.name):
                self.assertGreater(self.play(scenario, all_runs), 10)

    def test_every_step_of_more(self) -> None:
        for scenario in COVERED:
            with self.subTest(scenario.name):
                self.assertGreater(self.play(scenario, covering_runs), 10)

    def test_snapshots(self) -> None:
        for scenario in PINS:
            with self.subTest(scenario.name):
                self.assertGreater(self.play(scenario, covering_runs), 10)

    def test_a_nonce_that_comes_back_is_noticed(self) -> None:
        with (
            mock.patch.object(store, "new_nonce", return_value="0"),
            mock.patch.object(raw, "new_nonce", return_value="0"),
            self.assertRaises(Divergence),
        ):
            self.play(ALL[0], all_runs)

    def test_blocks(self) -> None:
        for scenario in BLOCKS:
            with self.subTest(scenario.name):
                self.assertGreater(self.play(scenario, covering_runs), 10)

    def play_rows(self, protocol: type[EveryRowBlockStep], scenario: Scenario) -> int:
        Book.objects.using("other").get_or_create(pk=2, title="C")
        made = protocol(scenario)
        with mock.patch.object(moments, "MAX_ROWS", made.most_rows):
            stage = RowBlockStage(made)
            try:
                return sum(1 for run in covering_runs(made) if stage.play(run) is None)
            finally:
                stage.close()

    def test_blocks_of_rows(self) -> None:
        for protocol, scenarios in (
            (EveryRowBlockStep, PLAYED),
            (EveryStepOfManyRows, PLAYED[:1]),
        ):
            for scenario in scenarios:
                with self.subTest(f"{protocol.__name__}, {scenario.name}"):
                    self.assertGreater(self.play_rows(protocol, scenario), 10)

    def test_mistakes_with_rows_in_the_real_code_are_noticed(self) -> None:
        def unconfirmed(collector: Collector) -> Any:
            return dependencies_of(collector)

        def of_row(asked: RowsAsked, result: Any) -> bool:
            return False

        for target, name, mistake in (
            (block, "confirmed_dependencies_of", unconfirmed),
            (RowsAsked, "are_found", of_row),
            (Collector, "_merge", lambda collector, versions: collector.versions.update(versions)),
        ):
            with (
                self.subTest(name),
                mock.patch.object(target, name, mistake),
                self.assertRaises(Divergence),
            ):
                for scenario in PLAYED:
                    self.play_rows(EveryRowBlockStep, scenario)

    def test_mistakes_in_the_real_code_are_noticed(self) -> None:
        def set_instead(cache: ScheduledCache, key: str, value: Any, timeout: Any = None) -> bool:
            cache.set(key, value, timeout)
            return True

        def publish_all(overlay: Overlay) -> Iterator[tuple[str, Entry]]:
            for level in overlay.levels:
                yield from level.entries.items()

        def not_confirmed(pins: Any, key: str, plan: Any) -> Any:
            with cache_in_use() as cache:
                stored = cache.entry(key, pins)
            return finding._unpacked(key, pins, stored) if isinstance(stored, Stored) else None

        statement, cold, transaction, pinned = ALL[0], ALL[1], ALL[2], PINS[0]
        torn = BLOCKS[0]
        for scenario, target, name, mistake in (
            (statement, Store, "mark_pending", lambda store, *keys: None),
            (statement, Store, "renew", lambda store, *keys: None),
            (statement, Store, "mark_pending", Store.renew),
            (statement, store, "stored_in", lambda key, entry, nonces: Stored(*entry[2:])),
            (cold, ScheduledCache, "add", set_instead),
            (transaction, Overlay, "publishable", publish_all),
            (transaction, Overlay, "touch", lambda overlay, tables, rows: None),
            (pinned, lookup, "find_of_snapshot", not_confirmed),
            (torn, entries, "are_in_force", lambda keys, nonces: True),
            (torn, Collector, "spoil", lambda collector, reason: None),
        ):
            with (
                self.subTest(name),
                mock.patch.object(target, name, mistake),
                self.assertRaises(Divergence),
            ):
                self.play(scenario, all_runs)
