"""Mistakes in what a transaction under snapshot isolation does with the shared cache."""

from __future__ import annotations

from tests.protocol.model import Protocol
from tests.protocol.mutants import Mutant
from tests.protocol.scenarios import PINNED, PINNED_TWICE, PINNED_WRITES, READ, WRITE
from tests.protocol.world import Entry, Event, Process, Scenario, Step, Tables, Version, World


class PinnedAfterTheSnapshot(Protocol):
    """The versions are read when the snapshot has been taken."""

    pin_plan = ("snapshot", "version", "pin")

    def _serve(self, world: World, who: int, process: Process, event: Event) -> Step:
        if self._statement_of(who, process)[0] == "pin":
            return Step(event, self._with(world, who, process._replace(step="pin", i=0)))
        return super()._serve(world, who, process, event)

    def pin(self, world: World, who: int, process: Process) -> Step:
        tables = self.tables_of(who, process)
        process = process._replace(pins=self.pins_of(tables, process.got))
        event = Event(self.names[who], "pins", tables)
        return Step(event, self._with(world, who, self._leave(who, process)))


class PinnedWhilePending(Protocol):
    """A pending mark counts as a version to pin."""

    def pins_of(self, tables: Tables, got: tuple[Version, ...]) -> tuple[Version, ...]:
        versions = dict(zip(tables, got, strict=False))
        return versions.get(0), versions.get(1)


class NotConfirmed(Protocol):
    """An entry under the pinned versions is served, whatever the versions are by now."""

    def confirms(self) -> bool:
        return False


class PinnedTwiceNotConfirmed(NotConfirmed):
    """Versions that are the same before and after the snapshot are taken to be enough."""

    pin_plan = ("version", "snapshot", "pin_again")

    def pin_again(self, world: World, who: int, process: Process) -> Step:
        tables = self.tables_of(who, process)
        table = tables[process.i]
        found = world.versions[table]
        event = Event(self.names[who], "gets the version of", (table,), found)
        if found != process.pins[table]:
            pins = (*process.pins[:table], None, *process.pins[table + 1 :])
            process = process._replace(pins=pins)
        return Step(event, self._with(world, who, self._leave_key(who, process, len(tables))))


class ConfirmedBeforeTheEntry(Protocol):
    """The versions are read once more, but the entry is got behind them."""

    def look(self, world: World, who: int, process: Process) -> Step:
        step = super().look(world, who, process)
        process = step.world.processes[who]
        if process.step != "entry":
            return step
        return step._replace(world=self._with(world, who, process._replace(step="confirm")))

    def _hit(self, world: World, who: int, process: Process, event: Event) -> Step:
        if process.step == "confirm":
            process = process._replace(step="entry", i=0)
            return Step(event, self._with(world, who, process))
        return super()._hit(world, who, process, event)

    def confirms(self) -> bool:
        return False


class CurrentInsteadOfPinned(Protocol):
    """A transaction is served, in its snapshot, what is current."""

    def entry(self, world: World, who: int, process: Process) -> Step:
        if process.snapshot is not None:
            found = world.entries[self.queries.index(self.tables_of(who, process))]
            process = process._replace(entry=found)
        return super().entry(world, who, process)

    def pinned(self, process: Process, tables: Tables) -> tuple[Version, ...]:
        return super().pinned(process, tables) if process.entry is None else process.entry[0]


class SharedEntryServedToItsPinnedWriter(Protocol):
    """A transaction is served what was there before it, of a table that it has written."""

    def uses_shared(self, process: Process, tables: Tables) -> bool:
        return True


class PinnedDirtyEntriesPublished(Protocol):
    """A COMMIT publishes what was read, in its snapshot, of the tables that it has changed."""

    def publishable(self, process: Process) -> list[tuple[Tables, Entry]]:
        return [
            (tables, (self.pinned(process, tables), rows))
            for tables, _, _, rows in process.kept
            if None not in self.pinned(process, tables)
        ]


class PublishedUnderCurrentVersions(Protocol):
    """A COMMIT publishes what was read in the snapshot under the versions of the moment."""

    def publish(self, world: World, who: int, process: Process) -> Step:
        kept = tuple(
            (tables, tuple(world.versions[table] for table in tables), private, rows)
            for tables, _, private, rows in process.kept
        )
        return super().publish(world, who, process._replace(kept=kept))


class HitsKept(Protocol):
    """The overlay keeps hits as if they were the snapshot's own."""

    # Whether they are right depends on when they are used again.
    invisible_steps = Protocol.invisible_steps - {"look"}

    def _hit(self, world: World, who: int, process: Process, event: Event) -> Step:
        tables = self.tables_of(who, process)
        assert process.entry is not None
        private = tuple(process.private[table] for table in tables)
        kept = (*process.kept, (tables, self.pinned(process, tables), private, process.entry[1]))
        return super()._hit(world, who, process._replace(kept=kept), event)


_PINNED = Scenario("a statement, a reader, a snapshot", {"W1": WRITE, "R1": READ, "P": PINNED})
_COLD = _PINNED._replace(name="a statement, a reader, a snapshot, a cold cache", is_warm=False)
_TWO_PINNED = Scenario("a statement, two snapshots", {"W1": WRITE, "P1": PINNED, "P2": PINNED})
_PINNED_WRITER = Scenario(
    "a statement, a reader, a snapshot that is written in",
    {"W1": WRITE, "R1": READ, "P": PINNED_WRITES},
)
_TWO_WRITERS = Scenario(
    "two statements, a reader, a snapshot that is read twice",
    {"W1": WRITE, "W2": WRITE, "R1": READ, "P": PINNED_TWICE},
)

PIN_MUTANTS = (
    Mutant(PinnedAfterTheSnapshot, _PINNED),
    Mutant(PinnedWhilePending, _TWO_PINNED),
    Mutant(NotConfirmed, _PINNED),
    Mutant(PinnedTwiceNotConfirmed, _COLD),
    Mutant(ConfirmedBeforeTheEntry, _COLD),
    Mutant(CurrentInsteadOfPinned, _PINNED),
    Mutant(SharedEntryServedToItsPinnedWriter, _PINNED_WRITER),
    Mutant(PinnedDirtyEntriesPublished, _PINNED_WRITER, is_stale=False),
    Mutant(PublishedUnderCurrentVersions, _PINNED),
    Mutant(HitsKept, _TWO_WRITERS),
)
