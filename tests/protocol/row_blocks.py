"""The model of blocks with rows: T is a table, and U stands for one row of it.

What changes the row writes both; what changes another one, T alone. A read of the row depends on U
if it finds it, and on T if not. A process that is called ``I`` inserts the row: it writes T, and
the row is not there before that. The rest of the table is left out, which is touched like the row.

An entry has no version of what the block does not depend on. A block depends on the row or on the
table: on T alone if it reads all rows as well, or more rows than it tells apart. Its rows are
confirmed all the same, *behind* what was got of T: so T tells of each later write of them.

Marks have owners: where they have none, a mark of T that another lifts is the exception it always
was, and one of U is not concerned.
"""

from __future__ import annotations

from tests.protocol.blocks import Part
from tests.protocol.model import Protocol
from tests.protocol.mutants import Mutant
from tests.protocol.owners import WithoutExceptions
from tests.protocol.world import (
    Event,
    Level,
    Process,
    Scenario,
    Statement,
    Step,
    Tables,
    Version,
    World,
    bit,
)

TABLE, ROW = (0,), (1,)
ALL = (0, 1)


class TellsRows(Protocol):
    """The protocol of blocks, where a read of the row is told from a read of the table."""

    #: How many rows a block tells apart.
    most_rows = 1

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self._inserted = bit(self.names.index("I"), 0) if "I" in self.names else 0
        self._bits[ROW] = self._bits.get(ROW, 0) | self._inserted

    def asked_before(self, tables: Tables) -> Tables:
        return ALL if tables == ROW else tables

    def depended_on(
        self, tables: Tables, got: tuple[Version, ...], rows: int
    ) -> tuple[Tables, tuple[Version, ...]]:
        if tables != ROW:
            return tables, got
        if self.is_found(rows) and self.is_usable(got[1:]):
            return ROW, got[1:]
        return TABLE, got[:1]

    def is_found(self, rows: int) -> bool:
        """Whether these are the changes of a row that is there."""
        return rows & self._inserted == self._inserted

    def is_table_whole(self, part: Part) -> bool:
        """Whether a block reads all rows, or more than it tells apart."""
        return not self.most_rows or 0 in part.tables

    # Looking for it

    def judging(self, part: Part) -> Tables:
        if self._inserted:
            return ALL
        return TABLE if self.is_table_whole(part) else ROW

    def _decide_block(self, world: World, who: int, process: Process, event: Event) -> Step:
        part, found = self.part_of(who, process), process.found
        judging = self.judging(part)
        got = dict(zip(judging, process.got, strict=True))
        if found is not None:
            needed = {table: one for table, one in enumerate(found[0]) if one is not None}
            versions = tuple(got.get(table) for table in needed)
            if self.is_usable(versions) and versions == tuple(needed.values()):
                broken = self._judge_block(world, who, process, found[1])
                event = event._replace(what=event.what + " and finds")
                process = self.found_noted(process, tuple(needed), versions, found[1])
                process = self._go_to(who, process, part.behind)
                return Step(event, self._with(world, who, process), broken)
        # One of them may be pending, and not be what it depends on when it has run.
        is_spoilt = not self._inserted and not self.is_usable(process.got)
        process = process._replace(levels=(*process.levels, Level(is_spoilt=is_spoilt)))
        process = self._go_to(who, process, process.at + 1)
        return Step(event, self._with(world, who, process))

    def found_noted(
        self, process: Process, tables: Tables, got: tuple[Version, ...], rows: tuple[int, ...]
    ) -> Process:
        """Add what a block depends on that was found to all blocks around it."""
        return self._noted(process, tables, got, rows)

    # Storing it

    def _go_to(self, who: int, process: Process, at: int) -> Process:
        process = super()._go_to(who, process, at)
        if process.step == "part_confirm" and self.needs_table(process.levels[-1]):
            return process._replace(step="part_table")
        return process

    def needs_table(self, level: Level) -> bool:
        """Whether the table must be asked for, which was not read as a whole."""
        return not self.most_rows and level.versions[0] is None

    def part_table(self, world: World, who: int, process: Process) -> Step:
        event = Event(self.names[who], "gets the version of", TABLE, world.versions[0])
        if not self.is_usable(world.versions[:1]):
            return Step(event, self._with(world, who, self._close(who, process)))
        *levels, top = process.levels
        levels.append(self._with_version(top, 0, world.versions[0]))
        process = process._replace(levels=tuple(levels), step="part_confirm")
        return Step(event, self._with(world, who, process))

    def confirmed(self, part: Part, level: Level) -> Tables:
        return tuple(table for table in ALL if level.versions[table] is not None)

    def stored_under(self, part: Part, level: Level) -> tuple[Version, ...]:
        if level.versions[0] is not None:
            return level.versions[0], None
        return level.versions


class RowBlocks(TellsRows, WithoutExceptions):
    """The same, where marks have owners."""


class ManyRows(RowBlocks):
    """The same, where the row is one more than a block tells apart."""

    most_rows = 0


# Mistakes


class VersionsReadAfterTheRow(RowBlocks):
    """A row counts with the version that it has behind its query."""

    part_plan = ("part_query", "part_version")


class MissingRowByItsRow(RowBlocks):
    """A read that finds no row depends on the row, which no INSERT touches."""

    def is_found(self, rows: int) -> bool:
        return True


class RowOfTheTableUnconfirmed(RowBlocks):
    """A row is dropped for the table, which was read later, without another look."""

    def confirmed(self, part: Part, level: Level) -> Tables:
        return tuple(table for table in ALL if self.stored_under(part, level)[table] is not None)


class RowsOverTheBoundUnconfirmed(RowOfTheTableUnconfirmed, ManyRows):
    """Rows over the bound are dropped for the table, got at the end, without another look."""


class TableGotBehindTheLook(ManyRows):
    """The table that stands for rows over the bound is asked for when they have been confirmed."""

    def needs_table(self, level: Level) -> bool:
        return False

    def confirmed(self, part: Part, level: Level) -> Tables:
        return ROW if level.versions[0] is None else TABLE

    def part_put(self, world: World, who: int, process: Process) -> Step:
        if process.levels[-1].versions[0] is None:
            step = self.part_table(world, who, process)
            after = step.world.processes[who]
            if after.step != "part_confirm":
                return step
            return step._replace(world=self._with(step.world, who, after._replace(step="part_put")))
        return super().part_put(world, who, process)


class RowOfAnInnerBlockForgotten(RowBlocks):
    """An outer block does not depend on the row that a block in it, which was found, depends on."""

    def found_noted(
        self, process: Process, tables: Tables, got: tuple[Version, ...], rows: tuple[int, ...]
    ) -> Process:
        if tables != ROW:
            return super().found_noted(process, tables, got, rows)
        return super().found_noted(process, (), (), rows)

    def stored_under(self, part: Part, level: Level) -> tuple[Version, ...]:
        return level.versions


_WRITE_ROW: Statement = ("write", ALL)
_WRITE_OTHER: Statement = ("write", TABLE)
_INNER: Statement = ("block", (ROW,))
_OF_ROW = (_INNER,)
_THEN_ALL: tuple[Statement, ...] = (("block", (ROW, TABLE)),)
_AFTER_ALL: tuple[Statement, ...] = (("block", (TABLE, ROW)),)
_TWICE: tuple[Statement, ...] = (("block", (ROW, ROW)),)
_AROUND: tuple[Statement, ...] = (("block", (_INNER, ROW)),)


def _blocks(name: str, program: tuple[Statement, ...], *writes: Statement) -> Scenario:
    writers = {f"W{number}": (write,) for number, write in enumerate(writes, 1)}
    return Scenario(name, {**writers, "B1": program, "B2": program})


_ROW = _blocks("two blocks of a row, and a writer of it", _OF_ROW, _WRITE_ROW)
_BESIDE = _blocks(
    "two blocks of a row, writers of it and of another", _OF_ROW, _WRITE_ROW, _WRITE_OTHER
)
_ROW_THEN_ALL = _blocks("two blocks of a row, then of all", _THEN_ALL, _WRITE_ROW)
_INSERTED = Scenario(
    "two blocks of a row that one inserts and another changes",
    {"I": (_WRITE_OTHER,), "W1": (_WRITE_ROW,), "B1": _OF_ROW, "B2": _OF_ROW},
)
_NESTED = Scenario(
    "a block of a row in a block, the inner one alone, and a writer",
    {"W1": (_WRITE_ROW,), "B1": _AROUND, "B2": (*_OF_ROW, *_AROUND)},
)

ROW_BLOCKS = (
    _ROW._replace(kills=1),
    _BESIDE,
    _BESIDE._replace(name="the same, answers in another order", entry_first=True),
    _blocks("two blocks that read a row twice", _TWICE, _WRITE_ROW),
    _ROW_THEN_ALL,
    _blocks("two blocks of all rows, then of one", _AFTER_ALL, _WRITE_ROW),
    _INSERTED,
    _NESTED,
)
MANY_ROWS = (ROW_BLOCKS[0],)
#: Those that the tests leave to ``python -m tests.protocol``.
LARGE_OF_MANY_ROWS = (_BESIDE, _NESTED)


#: Those that the real code plays.
PLAYED = (
    _ROW,
    _blocks("two blocks of a row, and a writer of another", _OF_ROW, _WRITE_OTHER),
    _ROW_THEN_ALL,
    _blocks("two blocks of a row, then of all, a writer of another", _THEN_ALL, _WRITE_OTHER),
    Scenario(
        "a block of a row in a block, and the inner one",
        {"W1": (_WRITE_ROW,), "B1": _AROUND, "B2": _OF_ROW},
    ),
)

ROW_BLOCK_MUTANTS = (
    Mutant(VersionsReadAfterTheRow, _ROW),
    Mutant(MissingRowByItsRow, _INSERTED),
    Mutant(RowOfTheTableUnconfirmed, _ROW_THEN_ALL),
    Mutant(RowsOverTheBoundUnconfirmed, _ROW),
    Mutant(TableGotBehindTheLook, _ROW),
    Mutant(RowOfAnInnerBlockForgotten, _NESTED),
)
