"""The steps of a block: code that reads more than once, and is stored as a whole."""

from __future__ import annotations

from typing import NamedTuple

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
    bits_of,
    tables_named,
)
from tests.protocol.writing import Writing


class Part(NamedTuple):
    """What a block does next: look for a block, read, or store a block."""

    kind: str
    tables: Tables
    #: The block that is looked for or stored.
    block: Statement = ()
    #: Where to go on if it is found.
    behind: int = 0


class Blocks(Writing):
    """A block that is not found runs, and notes the versions of what it reads before it is read.

    It is stored only if all of them are still in force when it has run. The entries of its queries
    make no difference to it: they are what the queries would give. Each read adds its rows to all
    blocks around it, and so does a block that is found.
    """

    #: The steps of one read of a block.
    part_plan: tuple[str, ...] = ("part_version", "part_query")

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self.blocks: list[Statement] = []
        self._parts = {
            statement: tuple(self._parts_of(statement, 0))
            for program in self.programs
            for statement in program
            if statement[0] == "block"
        }
        for tables in {part.tables for parts in self._parts.values() for part in parts}:
            self._bits.setdefault(tables, bits_of(tables))

    def start(self) -> World:
        return super().start()._replace(blocks=(None,) * len(self.blocks))

    def _parts_of(self, block: Statement, at: int) -> list[Part]:
        if block not in self.blocks:
            self.blocks.append(block)
        parts: list[Part] = []
        for part in block[1]:
            if part[0] == "block":
                parts += self._parts_of(part, at + 1 + len(parts))
            else:
                parts.append(Part("read", part))
        tables, behind = tables_named(block), at + len(parts) + 2
        return [Part("seek", tables, block, behind), *parts, Part("store", tables, block)]

    def part_of(self, who: int, process: Process) -> Part:
        """Return what a block under way does."""
        return self._parts[self._statement_of(who, process)][process.at]

    def _go_to(self, who: int, process: Process, at: int) -> Process:
        """Begin another part of the block, or end it."""
        parts = self._parts[self._statement_of(who, process)]
        if at == len(parts):
            return self._arrive(who, process)
        step = {
            "seek": self.first_step_of_block(),
            "read": self.part_plan[0],
            "store": "part_confirm",
        }[parts[at].kind]
        process = process._replace(
            at=at, step=step, i=0, got=(), rows=0, found=None, moments=frozenset(), excused=0
        )
        if step == "part_confirm" and process.levels[-1].is_spoilt:
            return self._close(who, process)
        if step == "part_confirm" and not self.confirms_blocks():
            return process._replace(step="part_put")
        return process

    def _close(self, who: int, process: Process) -> Process:
        """End a block that has run."""
        return self._go_to(who, process._replace(levels=process.levels[:-1]), process.at + 1)

    def witnessed(self, world: World, step: Step) -> Step:
        """Return the step with what whoever looks for a block has seen of it."""
        visible, excepted = step.world.visible, self.excepted(step.world)
        if (visible, excepted) == (world.visible, self.excepted(world)):
            return step
        processes = tuple(
            process._replace(
                moments=process.moments | {visible}, excused=process.excused | excepted
            )
            if process.moments
            else process
            for process in step.world.processes
        )
        return step._replace(world=step.world._replace(processes=processes))

    # Looking for it

    def _looking(self, world: World, who: int, process: Process) -> Process:
        if process.moments:
            return process
        process = process._replace(moments=frozenset({world.visible}), excused=self.excepted(world))
        if process.at:
            return process
        bits = self._bits[self.part_of(who, process).tables]
        required = (world.visible & ~self.excepted(world) | process.own) & bits
        return process._replace(required=required)

    def judging(self, part: Part) -> Tables:
        """Return the tables whose versions judge a block that is looked for."""
        return part.tables

    def seek_version(self, world: World, who: int, process: Process) -> Step:
        process = self._looking(world, who, process)
        tables = self.judging(self.part_of(who, process))
        found = world.versions[tables[process.i]]
        event = Event(self.names[who], "gets the version of", (tables[process.i],), found)
        process = process._replace(got=(*process.got, found))
        if process.i + 1 < len(tables):
            return Step(event, self._with(world, who, process._replace(i=process.i + 1)))
        if self.scenario.entry_first:
            return self._decide_block(world, who, process, event)
        return Step(event, self._with(world, who, process._replace(step="seek_entry", i=0)))

    def seek_entry(self, world: World, who: int, process: Process) -> Step:
        process = self._looking(world, who, process)
        part = self.part_of(who, process)
        found = world.blocks[self.blocks.index(part.block)]
        event = Event(self.names[who], "gets the block of", part.tables, found)
        process = process._replace(found=found)
        if self.scenario.entry_first:
            return Step(event, self._with(world, who, process._replace(step="seek_version", i=0)))
        return self._decide_block(world, who, process, event)

    def _decide_block(self, world: World, who: int, process: Process, event: Event) -> Step:
        part, got, found = self.part_of(who, process), process.got, process.found
        is_usable = self.is_usable(got)
        if (
            found is None
            or not is_usable
            or not self.is_block_valid(found[0], got)
            or not self.uses_shared(process, part.tables)
        ):
            # Whoever may not look for it does not store it.
            may_be_stored = is_usable and self.may_be_shared(process, part.tables)
            level = Level(is_spoilt=not may_be_stored)
            process = process._replace(levels=(*process.levels, level))
            process = self._go_to(who, process, process.at + 1)
            return Step(event, self._with(world, who, process))
        broken = self._judge_block(world, who, process, found[1])
        event = event._replace(what=event.what + " and finds")
        process = self._noted(process, part.tables, got, found[1])
        return Step(event, self._with(world, who, self._go_to(who, process, part.behind)), broken)

    def is_block_valid(self, versions: tuple[Version, ...], got: tuple[Version, ...]) -> bool:
        return versions == got

    def _judge_block(
        self, world: World, who: int, process: Process, rows: tuple[int, ...]
    ) -> tuple[str, str] | None:
        """Return what is wrong with a block that was found, given as the rows of its reads."""
        part = self.part_of(who, process)
        reads = self._reads_of(part.block)
        excused = process.excused | self.excepted(world)
        for tables, read in zip(reads, rows, strict=True):
            if lacks := process.required & self._bits[tables] & ~read:
                return "fresh", f"the block lacks {self.show(lacks)}"
        for moment in process.moments:
            if all(
                not (read ^ moment & self._bits[tables]) & ~excused
                for tables, read in zip(reads, rows, strict=True)
            ):
                return None
        return "whole", "the block is what no one moment shows"

    def _reads_of(self, block: Statement) -> list[Tables]:
        reads: list[Tables] = []
        for part in block[1]:
            reads += self._reads_of(part) if part[0] == "block" else [part]
        return reads

    # Running it

    def asked_before(self, tables: Tables) -> Tables:
        """Return the tables whose versions are got before a read of these."""
        return tables

    def depended_on(
        self, tables: Tables, got: tuple[Version, ...], rows: int
    ) -> tuple[Tables, tuple[Version, ...]]:
        """Return what a read of ``tables`` depends on that has found these rows."""
        return tables, got

    def part_version(self, world: World, who: int, process: Process) -> Step:
        tables = self.asked_before(self.part_of(who, process).tables)
        found = world.versions[tables[process.i]]
        event = Event(self.names[who], "gets the version of", (tables[process.i],), found)
        process = process._replace(got=(*process.got, found))
        if process.i + 1 < len(tables):
            return Step(event, self._with(world, who, process._replace(i=process.i + 1)))
        return Step(event, self._with(world, who, self._leave_part(who, process)))

    def part_query(self, world: World, who: int, process: Process) -> Step:
        tables = self.part_of(who, process).tables
        rows = (world.visible | process.own) & self._bits[tables]
        event = Event(self.names[who], "queries", tables, rows)
        process = self._leave_part(who, process._replace(rows=rows))
        return Step(event, self._with(world, who, process))

    def _leave_part(self, who: int, process: Process) -> Process:
        following = self.part_plan[self.part_plan.index(process.step) + 1 :]
        if following:
            return process._replace(step=following[0], i=0)
        tables = self.part_of(who, process).tables
        tables, got = self.depended_on(tables, process.got, process.rows)
        process = self._noted(process, tables, got, (process.rows,))
        return self._go_to(who, process, process.at + 1)

    def _noted(
        self, process: Process, tables: Tables, got: tuple[Version, ...], rows: tuple[int, ...]
    ) -> Process:
        """Add what was read to all blocks around it."""
        may_note = self.is_usable(got) and self.may_be_shared(process, tables)
        levels = []
        for level in process.levels:
            level = level._replace(rows=(*level.rows, *rows))
            if not may_note:
                level = level._replace(is_spoilt=level.is_spoilt or self.spoils_block())
            else:
                for table, version in zip(tables, got, strict=True):
                    level = self.merged(level, table, version)
            levels.append(level)
        return process._replace(levels=tuple(levels))

    def may_be_shared(self, process: Process, tables: Tables) -> bool:
        """Whether nothing of it has been written by the transaction itself."""
        return not any(process.private[table] for table in tables)

    def spoils_block(self) -> bool:
        """Whether a block is not stored of which a read may not be."""
        return True

    def merged(self, level: Level, table: int, version: Version) -> Level:
        known = level.versions[table]
        if known is not None and known != version:
            return level._replace(is_spoilt=True)
        return self._with_version(level, table, version)

    def _with_version(self, level: Level, table: int, version: Version) -> Level:
        versions = (*level.versions[:table], version, *level.versions[table + 1 :])
        return level._replace(versions=versions)

    # Storing it

    def confirms_blocks(self) -> bool:
        """Whether the versions are looked at once more when the block has run."""
        return True

    def confirmed(self, part: Part, level: Level) -> Tables:
        """Return the tables whose versions are looked at then."""
        return part.tables

    def stored_under(self, part: Part, level: Level) -> tuple[Version, ...]:
        """Return the versions that the block is stored under."""
        return tuple(level.versions[table] for table in part.tables)

    def part_confirm(self, world: World, who: int, process: Process) -> Step:
        tables = self.confirmed(self.part_of(who, process), process.levels[-1])
        table = tables[process.i]
        found = world.versions[table]
        event = Event(self.names[who], "gets the version of", (table,), found)
        process = process._replace(got=(*process.got, found))
        if process.i + 1 < len(tables):
            return Step(event, self._with(world, who, process._replace(i=process.i + 1)))
        level = process.levels[-1]
        if process.got != tuple(level.versions[table] for table in tables):
            return Step(event, self._with(world, who, self._close(who, process)))
        return Step(event, self._with(world, who, process._replace(step="part_put", i=0)))

    def part_put(self, world: World, who: int, process: Process) -> Step:
        part, level = self.part_of(who, process), process.levels[-1]
        entry = self.stored_under(part, level), level.rows
        event = Event(self.names[who], "stores the block of", part.tables, entry)
        at = self.blocks.index(part.block)
        world = world._replace(blocks=(*world.blocks[:at], entry, *world.blocks[at + 1 :]))
        return Step(event, self._with(world, who, self._close(who, process)))
