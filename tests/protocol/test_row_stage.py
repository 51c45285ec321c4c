"""The real code does with rows, step by step, what the model does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from django.conf import settings
from django.test import TransactionTestCase, override_settings

from cachalot.core import rows
from cachalot.core.cache.store import Store
from cachalot.core.connection import overlay
from cachalot.core.reading.by_rows import ByValue, RowsAsked
from cachalot.core.schema.version_keys import version_keys
from cachalot.core.writing import plans
from tests.protocol.actors import CACHE_ALIAS, Divergence
from tests.protocol.row_scenarios import (
    ALL,
    BESIDE,
    DELETE_1,
    HALF,
    INSERT_1,
    INSERT_3,
    INSERT_A,
    INSERTED,
    INVALIDATE,
    MANY,
    MOVE,
    PAIR,
    PUBLISHES,
    PUBLISHES_FOUND,
    ROW_1,
    ROW_3,
    ROWS,
    SOME,
    SWAP,
    TAKE,
    TAKEN_BACK,
    UPDATE_1,
    UPDATE_2,
    UPSERT_1,
    VALUE,
    in_transaction,
    write,
)
from tests.protocol.row_stage import EveryRowStep, RowStage
from tests.protocol.row_world import Query, Scenario
from tests.protocol.runs import all_runs, covering_runs
from tests.protocol.world import Step

NO_ROWS_OF_BOOKS = {"library_book": rows.NO_ROWS}


def reads(query: Query) -> Any:
    return (("read", query),)


#: One writer and one reader: every run is played.
EVERY = (
    Scenario("a row and a writer of it", {"W1": write(UPDATE_1), "R1": reads(ROW_1)}),
    Scenario("a row and a writer of another", {"W1": write(UPDATE_2), "R1": reads(ROW_1)}),
    Scenario("a row that is deleted", {"W1": write(DELETE_1), "R1": reads(ROW_1)}),
    Scenario("a row that is inserted", {"W1": write(INSERT_3), "R1": reads(ROW_3)}),
    Scenario("a row and a writer of the rest", {"W1": write(SWAP), "R1": reads(ROW_1)}),
    Scenario("a row and invalidate()", {"W1": INVALIDATE, "R1": reads(ROW_1)}),
    Scenario(
        "a row that is upserted", {"W1": in_transaction(*write(UPSERT_1)), "R1": reads(ROW_1)}
    ),
    Scenario("some rows and an INSERT", {"W1": write(INSERT_3), "R1": reads(SOME)}),
    Scenario("all rows and a writer of one", {"W1": write(UPDATE_1), "R1": reads(ALL)}),
    Scenario("a value and a writer of its row", {"W1": write(MOVE), "R1": reads(VALUE)}),
    Scenario("a value and invalidate()", {"W1": INVALIDATE, "R1": reads(VALUE)}),
)
#: More of both: as many runs as it takes to play each step of each situation.
COVERED = (
    Scenario("own rows", {"W1": INSERTED, "R1": reads(ROW_3)}, warm="versions"),
    Scenario(
        "own rows that are taken back", {"W1": TAKEN_BACK, "W2": INVALIDATE, "R1": reads(ROW_3)}
    ),
    Scenario(
        "writers of two rows", {"W1": write(UPDATE_1), "W2": write(UPDATE_2), "R1": reads(ROWS)}
    ),
    Scenario(
        "a writer of a row and one of the rest",
        {"W1": write(UPDATE_1), "W2": write(SWAP), "R1": reads(ROW_1)},
    ),
    Scenario(
        "a row that one deletes and another inserts",
        {"W1": write(DELETE_1), "W2": write(INSERT_1), "R1": reads(ROW_1)},
    ),
    Scenario(
        "a row on a cold cache",
        {"W1": write(UPDATE_1), "R1": reads(ROW_1)},
        warm="",
        evictions=1,
    ),
    Scenario("some rows on a cold cache", {"W1": write(INSERT_3), "R1": reads(SOME)}, warm=""),
    Scenario("a row and an eviction", {"W1": write(UPDATE_1), "R1": reads(ROW_1)}, evictions=1),
    Scenario("a transaction of many rows", {"W1": MANY, "R1": reads(ROWS)}),
    Scenario("a transaction of two rows", {"W1": PAIR, "R1": reads(ROWS)}),
    Scenario("a transaction that takes back half", {"W1": HALF, "R1": reads(ROW_1)}),
    Scenario("a transaction that reads another row", {"W1": BESIDE, "R1": reads(ROW_1)}),
    Scenario(
        "a transaction that publishes a row",
        {"W1": PUBLISHES, "R1": reads(ROW_1)},
        warm="",
    ),
    Scenario(
        "a value that one row gives up and another takes",
        {"W1": write(MOVE), "W2": write(TAKE), "R1": reads(VALUE)},
    ),
    Scenario(
        "a value whose row is deleted, and that another INSERT takes",
        {"W1": write(DELETE_1), "W2": write(INSERT_A), "R1": reads(VALUE)},
    ),
    Scenario(
        "a value on a cold cache",
        {"W1": write(MOVE), "R1": reads(VALUE)},
        warm="",
        evictions=1,
    ),
    Scenario(
        "a value and a writer of another row",
        {"W1": in_transaction(*write(DELETE_1, INSERT_A)), "R1": reads(VALUE)},
    ),
    Scenario(
        "a transaction that publishes the row of a value",
        {"R1": PUBLISHES_FOUND, "W1": INVALIDATE, "R2": reads(VALUE)},
        warm="versions",
    ),
)


@override_settings(
    CACHES={
        **settings.CACHES,
        CACHE_ALIAS: {"BACKEND": "tests.protocol.actors.ScheduledCache"},
    },
    CACHALOT_CACHE=CACHE_ALIAS,
    CACHALOT_LOCAL_SIZE=0,
    # The stage makes queries seem long.
    CACHALOT_WAIT_ABOVE=None,
    # Each run is a read of its own.
    CACHALOT_ADAPTIVE=False,
)
class RowStageTests(TransactionTestCase):
    databases = {"default", "other"}

    def setUp(self) -> None:
        for module in (overlay, rows):
            patch = mock.patch.object(module, "MAX_ROWS", EveryRowStep.most_rows)
            patch.start()
            self.addCleanup(patch.stop)

    def play(self, scenario: Scenario, runs: Callable[[Any], Iterator[list[Step]]]) -> int:
        protocol = EveryRowStep(scenario)
        stage = RowStage(protocol)
        try:
            played = 0
            for run in runs(protocol):
                stage.play(run)
                played += 1
        finally:
            stage.close()
        return played

    def test_every_run_of_a_writer_and_a_reader(self) -> None:
        for scenario in EVERY:
            with self.subTest(scenario.name):
                self.assertGreater(self.play(scenario, all_runs), 10)

    def test_every_step_of_more(self) -> None:
        for scenario in COVERED:
            with self.subTest(scenario.name):
                self.assertGreater(self.play(scenario, covering_runs), 10)

    def test_mistakes_in_the_real_code_are_noticed(self) -> None:
        renew, to_renew = Store.renew, plans.keys_to_renew
        nonce_learnt = Store.nonce_learnt

        def rows_first(store: Store, keys: Any, *arguments: Any, **options: Any) -> Any:
            return renew(store, dict(reversed(keys.items())), *arguments, **options)

        def without_table(alias: str, tables: frozenset[str], *arguments: Any) -> Any:
            keys = to_renew(alias, tables, *arguments)
            return {key: keys[key] for key in keys if key not in version_keys(alias, tables)}

        def tables_alone(alias: str, tables: frozenset[str], *arguments: Any) -> Any:
            keys = to_renew(alias, tables, *arguments)
            return {key: keys[key] for key in keys if key in version_keys(alias, tables)}

        def first_rows(level: overlay.Level, versions: Any, more: Any) -> None:
            for table in versions:
                known = level.rows.get(table, frozenset()) | more.get(table, frozenset())
                level.rows[table] = frozenset(sorted(known)[: EveryRowStep.most_rows])
            level.versions.update(versions)

        def table_first(
            store: Store, learnt_key: str, version_keys: Any, nonces: Any
        ) -> str | None:
            if not store.are_in_force(version_keys, nonces):
                return None
            return store.nonces((learnt_key,)).get(learnt_key)

        def whatever_the_table(
            store: Store, learnt_key: str, version_keys: Any, nonces: Any
        ) -> str | None:
            learnt = nonce_learnt(store, learnt_key, version_keys, nonces)
            return learnt or store.nonces((learnt_key,)).get(learnt_key)

        def of_any_result(value: ByValue, result: list[Any]) -> Any:
            return value.by_rows.asked((1,))

        row, missing, rest, upsert, some, a_list = (EVERY[at] for at in (0, 3, 4, 6, 7, 8))
        value, moved = EVERY[9], COVERED[-5]
        own, many = COVERED[1], COVERED[8]
        for scenario, target, name, mistake in (
            (row, plans, "row_keys_to_renew", lambda alias, table: ()),
            (rest, plans, "keys_to_renew", tables_alone),
            (a_list, plans, "keys_to_renew", without_table),
            (row, Store, "renew", rows_first),
            (upsert, plans.WritePlan, "rows_of", lambda plan, pinned: NO_ROWS_OF_BOOKS),
            (missing, RowsAsked, "are_found", lambda asked, result: True),
            (some, RowsAsked, "are_found", lambda asked, result: bool(result)),
            (own, overlay.Overlay, "dirty", frozenset()),
            (many, overlay.Level, "add", first_rows),
            (value, Store, "nonce_learnt", table_first),
            (value, Store, "nonce_learnt", whatever_the_table),
            (value, Store, "nonce_learnt", lambda *arguments: None),
            (value, Store, "are_in_force", lambda *arguments: True),
            (moved, ByValue, "found_in", of_any_result),
        ):
            with (
                self.subTest(f"{name}, {scenario.name}"),
                mock.patch.dict(plans._plans, clear=True),
                mock.patch.dict(plans._renewals, clear=True),
                mock.patch.object(target, name, mistake),
                self.assertRaises(Divergence),
            ):
                self.play(scenario, covering_runs)
