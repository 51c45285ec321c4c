"""Protocols with rows and one mistake each, and the scenario in which it shows."""

from __future__ import annotations

from typing import NamedTuple

from tests.protocol.row_scenarios import (
    ALL,
    BACK_2,
    INSERT_3,
    MANY,
    MOVE,
    NUMBER,
    ROW_1,
    ROW_3,
    SOME,
    SWAP,
    TAKE,
    TAKEN_BACK,
    UPDATE_1,
    UPDATE_2,
    UPSERT_1,
    VALUE,
    in_transaction,
    readers,
    write,
)
from tests.protocol.row_world import (
    REST,
    TABLE,
    Answer,
    Dependencies,
    Entry,
    Kept,
    Process,
    Query,
    Scenario,
    World,
    row,
)
from tests.protocol.rows import Rows
from tests.protocol.world import Step

# What writes touch


class RowWriteForgetsTheTable(Rows):
    """A write of a row leaves alone what depends on the table: lists, and who has a value."""

    def touched(self, who: int, process: Process) -> Dependencies:
        touched = super().touched(who, process)
        return tuple(one for one in touched if one != TABLE or max(touched) <= REST)


class RowWriteForgetsTheRow(Rows):
    """A write of a row leaves its entries alone."""

    def touched(self, who: int, process: Process) -> Dependencies:
        return tuple(one for one in super().touched(who, process) if one <= REST)


class RestWriteForgetsTheRest(Rows):
    """A write that cannot tell its rows leaves the entries of all rows alone."""

    def touched(self, who: int, process: Process) -> Dependencies:
        return tuple(one for one in super().touched(who, process) if one != REST)


class RestWriteForgetsTheTable(Rows):
    """A write that cannot tell its rows leaves alone what depends on the table."""

    def touched(self, who: int, process: Process) -> Dependencies:
        touched = super().touched(who, process)
        return tuple(one for one in touched if one != TABLE or REST not in touched)


class UpsertTakenForAnInsert(Rows):
    """An INSERT with a conflict clause is taken to change no row that is there."""

    def touched(self, who: int, process: Process) -> Dependencies:
        is_upsert = self._statement_of(who, process)[1:] == (UPSERT_1,)
        return (TABLE,) if is_upsert else super().touched(who, process)


class BoundForgetsTheRest(Rows):
    """A transaction that has written more rows than it tells apart forgets the others."""

    most_rows = 3

    def touched(self, who: int, process: Process) -> Dependencies:
        touched = super().touched(who, process)
        return (*touched[:1], *touched[1:][-Rows.most_rows :])


class RowsRenewedFirst(Rows):
    """Rows get their new versions before the table does."""

    def renewed_in_order(self, touched: Dependencies) -> Dependencies:
        return touched[::-1]


# What answers are stored under


class MissingRowUnderItsRow(Rows):
    """That a row is not there is stored under its version, which no INSERT touches."""

    def dependencies(self, query: Query, answer: Answer) -> Dependencies:
        if query.keys and not answer:
            return (REST, *(row(key) for key in query.keys))
        return super().dependencies(query, answer)


class FewerRowsThanAskedFor(Rows):
    """Some of the rows that were asked for are enough to depend on rows."""

    def dependencies(self, query: Query, answer: Answer) -> Dependencies:
        if query.keys and answer:
            return (REST, *(row(key) for key in query.keys))
        return super().dependencies(query, answer)


class AbsentValueUnderTheRest(Rows):
    """That no row has a value is stored under the rest: a row that takes it does not touch that."""

    def dependencies(self, query: Query, answer: Answer) -> Dependencies:
        if query.value and not answer:
            return (REST,)
        return super().dependencies(query, answer)


class ValueUnderTheRowGuessed(Rows):
    """The row that had the value before is taken for the one that is found."""

    def dependencies(self, query: Query, answer: Answer) -> Dependencies:
        return (REST, row(1)) if query.value and answer else super().dependencies(query, answer)


class RowsOfAColumnThatIsNotUnique(Rows):
    """What a column that is not unique leads to depends on the rows found: others may join them."""

    def dependencies(self, query: Query, answer: Answer) -> Dependencies:
        if query.number is not None and answer:
            return (REST, *(row(key) for key, _ in answer))
        return super().dependencies(query, answer)

    def asked_before(self, query: Query) -> Dependencies:
        return (TABLE, REST, row(1), row(2))


# The row that only the answer names


class TableLookedAtBeforeTheRow(Rows):
    """The table is looked at again before the row's version is got: a write fits in between."""

    learn_plan = ("confirm", "learn")


class RowAddedAfterTheLook(Rows):
    """The row's version is got with the table's, and added behind that if it is missing."""

    def add_learned(self, world: World, who: int, process: Process) -> Step:
        self.learn_plan = ("confirm", "learn")
        step = super().add_learned(world, who, process)
        self.learn_plan = Rows.learn_plan
        return step

    def learn(self, world: World, who: int, process: Process) -> Step:
        is_confirmed = world.versions[TABLE] == process.got[TABLE]
        return super().learn(world, who, process._replace(is_confirmed=is_confirmed))


class TableNotLookedAtAgain(Rows):
    """The row's version, got after the query, is taken for that from before it."""

    learn_plan = ("learn",)

    def learn(self, world: World, who: int, process: Process) -> Step:
        return super().learn(world, who, process._replace(is_confirmed=True))


# Transactions


class OwnInsertPublished(Rows):
    """A row that the transaction has inserted is kept under its row and the rest, so that the end
    of a savepoint, which drops what is of the table, leaves it."""

    def asks_for_itself(self, process: Process) -> bool:
        return False

    def is_valid(self, entry: Entry, process: Process) -> bool:
        return not process.writes and super().is_valid(entry, process)

    def _kept(self, process: Process, kept: Kept) -> Process:
        first, *levels = process.levels
        first = first._replace(kept=(*first.kept, kept))
        return process._replace(levels=(first, *levels))


class SharedRowServedToItsWriter(Rows):
    """A transaction is served what others see of a row that it has written."""

    def asks_for_itself(self, process: Process) -> bool:
        return False


class RowMutant(NamedTuple):
    protocol: type[Rows]
    scenario: Scenario


_ROW = Scenario("a row and a writer of it", {"W1": write(UPDATE_1), **readers(ROW_1)})
_REST = Scenario("a row and a writer of the rest", {"W1": write(SWAP), **readers(ROW_1)})
_UPSERT = Scenario("a row that is upserted", {"W1": write(UPSERT_1), **readers(ROW_1)})
_ABSENT = Scenario("a row that is missing", {"W1": write(INSERT_3), **readers(ROW_3)})
_SOME = Scenario("rows of which one is missing", {"W1": write(INSERT_3), **readers(SOME)})
_MANY = Scenario("a transaction of many rows", {"W1": MANY, **readers(ROW_1)})
_LIST = Scenario("all rows and a writer of one", {"W1": write(UPDATE_1), **readers(ALL)})
_LIST_REST = Scenario("all rows and a writer of the rest", {"W1": write(SWAP), **readers(ALL)})
_COLUMN = Scenario("a column", {"W1": write(UPDATE_2, BACK_2), **readers(NUMBER)})
_VALUE = Scenario("a value and a writer of its row", {"W1": write(MOVE), **readers(VALUE)})
_MOVED = Scenario("a value that changes hands", {"W1": write(MOVE, TAKE), **readers(VALUE)})
_HANDED_ON = Scenario(
    "a value that another row takes, and that changes",
    {"W1": write(MOVE, TAKE, UPDATE_2), **readers(VALUE)},
)
_LOST = _VALUE._replace(name="a value, a writer of its row, an eviction", evictions=1)
_BESIDE = Scenario(
    "a value, a writer of its row and one of another",
    {"W1": write(MOVE), "W2": write(UPDATE_2), **readers(VALUE)},
)
_WRITER = Scenario("a writer that reads", {"W1": in_transaction(*write(UPDATE_1), ("read", ROW_1))})

ROW_MUTANTS = (
    RowMutant(RowWriteForgetsTheTable, _LIST),
    RowMutant(RowWriteForgetsTheTable, _VALUE),
    RowMutant(RowWriteForgetsTheRow, _ROW),
    RowMutant(RestWriteForgetsTheRest, _REST),
    RowMutant(RestWriteForgetsTheTable, _LIST_REST),
    RowMutant(UpsertTakenForAnInsert, _UPSERT),
    RowMutant(BoundForgetsTheRest, _MANY),
    RowMutant(RowsRenewedFirst, _LOST),
    RowMutant(RowsRenewedFirst, _BESIDE),
    RowMutant(MissingRowUnderItsRow, _ABSENT),
    RowMutant(FewerRowsThanAskedFor, _SOME),
    RowMutant(AbsentValueUnderTheRest, _MOVED),
    RowMutant(ValueUnderTheRowGuessed, _HANDED_ON),
    RowMutant(RowsOfAColumnThatIsNotUnique, _COLUMN),
    RowMutant(TableLookedAtBeforeTheRow, _VALUE),
    RowMutant(RowAddedAfterTheLook, _LOST._replace(warm="")),
    RowMutant(TableNotLookedAtAgain, _VALUE),
    RowMutant(OwnInsertPublished, Scenario("a savepoint", {"W1": TAKEN_BACK})),
    RowMutant(SharedRowServedToItsWriter, _WRITER),
)
