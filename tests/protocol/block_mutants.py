"""Blocks with one mistake each, and the scenario in which it shows."""

from __future__ import annotations

from tests.protocol.model import Protocol
from tests.protocol.mutants import Mutant
from tests.protocol.scenarios import (
    BLOCK,
    BLOCK_OF_ONE,
    NESTED,
    T_THEN_U,
    TWICE,
    WRITE,
    WRITES_AND_RUNS,
)
from tests.protocol.world import Level, Process, Scenario, Tables, Version


class StoredUnseen(Protocol):
    """The versions are not looked at again, and an answer brings them before the entry: torn."""

    def confirms_blocks(self) -> bool:
        return False


class LastVersionKept(Protocol):
    """A table that is read twice counts with the version it had the second time."""

    def merged(self, level: Level, table: int, version: Version) -> Level:
        return self._with_version(level, table, version)


class FirstVersionKeptUnseen(StoredUnseen):
    """A table that is read twice counts with the version it had the first time."""

    def merged(self, level: Level, table: int, version: Version) -> Level:
        return level if level.versions[table] else self._with_version(level, table, version)


class VersionsReadAfterItsQueries(Protocol):
    """A read in the block is noted with the versions that its tables have behind it."""

    part_plan = ("part_query", "part_version")


class RefusedReadForgotten(Protocol):
    """A read of what is being written is left out of what the block depends on."""

    def spoils_block(self) -> bool:
        return False

    def is_block_valid(self, versions: tuple[Version, ...], got: tuple[Version, ...]) -> bool:
        return all(then in (None, now) for then, now in zip(versions, got, strict=True))

    def confirms_blocks(self) -> bool:
        return False


class InnerBlockForgotten(Protocol):
    """An outer block does not depend on what a block in it, which was found, depends on."""

    def _noted(
        self, process: Process, tables: Tables, got: tuple[Version, ...], rows: tuple[int, ...]
    ) -> Process:
        if len(rows) == 1 and process.found is None:
            return super()._noted(process, tables, got, rows)
        levels = tuple(level._replace(rows=(*level.rows, *rows)) for level in process.levels)
        return process._replace(levels=levels)

    def is_block_valid(self, versions: tuple[Version, ...], got: tuple[Version, ...]) -> bool:
        return all(then in (None, now) for then, now in zip(versions, got, strict=True))

    def confirms_blocks(self) -> bool:
        return False


class OwnRowsStored(Protocol):
    """A block is stored of what its transaction has written, and nobody else sees."""

    def may_be_shared(self, process: Process, tables: Tables) -> bool:
        return True


class ServedToItsWriter(Protocol):
    """A transaction that has written what a block reads is given the one that others see."""

    def uses_shared(self, process: Process, tables: Tables) -> bool:
        return True


class FoundWhilePending(Protocol):
    """A block is given, and stored, while one of its tables is being written."""

    def is_usable(self, got: tuple[Version, ...]) -> bool:
        return None not in got


class OneVersionCompared(Protocol):
    """Of the versions of a block only the first is compared."""

    def is_block_valid(self, versions: tuple[Version, ...], got: tuple[Version, ...]) -> bool:
        return versions[0] == got[0]


class EntryFirst(StoredUnseen):
    """No mistake: where each answer brings the entry before the versions, one look is enough."""


_TORN = Scenario(
    "a writer of T, then of U, a block, its reader", {"W1": T_THEN_U, "B": BLOCK, "R": BLOCK}
)
_ONE = Scenario(
    "a statement, two blocks of one read", {"W1": WRITE, "B": BLOCK_OF_ONE, "R": BLOCK_OF_ONE}
)
_TWICE = Scenario(
    "a statement, two blocks that read T twice", {"W1": WRITE, "B": TWICE, "R": TWICE}
)
_NESTED = Scenario(
    "a writer of T, then of U, two nested blocks", {"W1": T_THEN_U, "B": NESTED, "R": NESTED}
)
_WRITER = Scenario(
    "a transaction with a block, a block", {"W1": WRITES_AND_RUNS, "R": BLOCK_OF_ONE}
)
ENTRY_FIRST = _TORN._replace(name="entries before versions", entry_first=True)

BLOCK_MUTANTS = (
    Mutant(StoredUnseen, _TORN),
    Mutant(LastVersionKept, _TWICE),
    Mutant(FirstVersionKeptUnseen, _TWICE),
    Mutant(VersionsReadAfterItsQueries, _ONE),
    Mutant(RefusedReadForgotten, _ONE),
    Mutant(InnerBlockForgotten, _NESTED),
    Mutant(OwnRowsStored, _WRITER),
    Mutant(ServedToItsWriter, _WRITER),
    Mutant(FoundWhilePending, _ONE),
    Mutant(OneVersionCompared, _TORN),
)
