"""Marks with owners on a server, as Redis and memcached have them.

Whose marks stand lies beside the version (``World.marks``); readers look at the version alone. So

- a version is pending while any mark stands, and a mark takes the nonce away;
- each mark ends by itself, and the last to end takes the version along: the next reader adds one;
- a renewal takes its own mark away. If others stand, the version stays pending;
- who does not find its own mark sets no version: its command may have arrived twice. It deletes a
  version in force, and leaves one that is pending;
- what is refused is deleted, unless somebody else's mark stands;
- ``invalidate()``, which has no mark, sets a version in force anew, and leaves marks.

A process whose name begins with A asks by Django's API: its marks have no owner. It sets what it
sets, and what is pending without an owner's mark is left alone but by itself and by owners who end.

Faults beside those of the protocol: the server loses a version, or the marks beside it; it refuses
a command; a command arrives once more, at any later time. (If both commands of one write did, in
their order, the second would find the mark of the first. cachalot's own clients send none twice.)
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.protocol.mutants import Mutant
from tests.protocol.owners import OWNERS, OwnedMarks
from tests.protocol.scenarios import INVALIDATE, READ, TRANSACTION, WRITE
from tests.protocol.world import PENDING, Event, Process, Scenario, Step, Version, World, bit


class ServerMarks(OwnedMarks):
    """Excepted is what a mark that was refused or lost exposes, until its writer has ended.

    One that is killed never does.
    """

    def steps(self, world: World) -> Iterator[Step]:
        yield from super(OwnedMarks, self).steps(world)
        for table in range(len(world.versions)):
            yield from self._end_marks(world, table)
        if world.repeats:
            for kind, who, table, nonce in sorted(world.sent):
                repeats = world.repeats - 1
                left = world.sent if repeats else frozenset()
                after, broken = self.told(
                    world._replace(repeats=repeats, sent=left), kind, who, table, nonce
                )
                event = Event(self.names[who], f"is heard once more to {kind}", (table,))
                yield Step(event, after, broken)

    def steps_of(self, world: World, who: int) -> Iterator[Step]:
        yield from super().steps_of(world, who)
        process = world.processes[who]
        if world.refusals and process.step in {"mark", "mark_again", "renew"}:
            yield self._refuse(world._replace(refusals=world.refusals - 1), who, process)

    def excepted(self, world: World) -> int:
        ended = (who for who, process in enumerate(world.processes) if process.step == "done")
        return world.exposed & ~sum(bit(who, table) for who in ended for table in (0, 1))

    def broken_at_end(self, world: World) -> tuple[str, str] | None:
        scenario = self.scenario
        if scenario.evictions or scenario.refusals or scenario.repeats:
            # Time ends what is left pending.
            for table, version in enumerate(world.versions):
                if version is not None and version[1]:
                    world, _ = self._put(world, table, None, 0)
        return super().broken_at_end(world)

    # What the server does

    def told(
        self, world: World, kind: str, who: int, table: int, nonce: str
    ) -> tuple[World, tuple[str, str] | None]:
        """Return what a server makes of a command to mark or to renew."""
        marks, version = world.marks[table], world.versions[table]
        if self.names[who].startswith("A"):
            return self._put(world, table, PENDING if kind == "mark" else (nonce, 0), marks)
        if kind == "mark":
            return self._put(world, table, PENDING, marks | 1 << who)
        left = self.left_by(marks, who)
        if left:
            return self._put(world, table, PENDING, left)
        if marks & 1 << who:
            return self._put(world, table, (nonce, 0), 0)
        if self.programs[who][0][0] == "invalidate":
            return self._put(world, table, self.invalidated(version, nonce), 0)
        return self._put(world, table, self.without_own_mark(version, nonce), 0)

    def left_by(self, marks: int, who: int) -> int:
        return marks & ~(1 << who)

    def without_own_mark(self, version: Version, nonce: str) -> Version:
        return version if version is not None and version[1] else None

    def invalidated(self, version: Version, nonce: str) -> Version:
        return version if version is not None and version[1] else (nonce, 0)

    def refused(self, version: Version, nonce: str, others: int) -> Version:
        """Return what is left where a new version was refused, or a mark."""
        return version if others else None

    def _put(
        self, world: World, table: int, version: Version, marks: int
    ) -> tuple[World, tuple[str, str] | None]:
        world, broken = self._set_version(world, table, version)
        every = (*world.marks[:table], marks, *world.marks[table + 1 :])
        return world._replace(marks=every), broken

    # Steps

    def mark(self, world: World, who: int, process: Process) -> Step:
        tables = self.tables_of(who, process)
        table = tables[process.i]
        world, broken = self._command(world, "mark", who, table, "")
        process = process._replace(marked=(*process.marked, table))
        process = self._leave_key(who, process, len(tables))
        event = Event(self.names[who], "marks pending", (table,), PENDING)
        return Step(event, self._with(world, who, process), broken)

    def renew(self, world: World, who: int, process: Process) -> Step:
        tables = self.tables_of(who, process)
        table = tables[process.i]
        nonce = self.nonce(who, process, "renewed", table, world)
        left = tuple(marked for marked in process.marked if marked != table)
        process = process._replace(marked=left)
        world, broken = self._command(self._with(world, who, process), "renew", who, table, nonce)
        world = self._lift(world, table, who)
        event = Event(self.names[who], "renews", (table,), world.versions[table])
        process = self._leave_key(who, process, len(tables))
        return Step(event, self._with(world, who, process), broken)

    def _command(
        self, world: World, kind: str, who: int, table: int, nonce: str
    ) -> tuple[World, tuple[str, str] | None]:
        if world.repeats and not self.names[who].startswith("A"):
            world = world._replace(sent=world.sent | {(kind, who, table, nonce)})
        return self.told(world, kind, who, table, nonce)

    def _refuse(self, world: World, who: int, process: Process) -> Step:
        tables = self.tables_of(who, process)
        table = tables[process.i]
        version, marks = world.versions[table], world.marks[table]
        if process.step == "renew":
            left = tuple(marked for marked in process.marked if marked != table)
            process = self._leave_key(who, process._replace(marked=left), len(tables))
            others = marks & ~(1 << who)
            version = self.refused(version, "", others)
            world, broken = self._put(
                self._with(world, who, process), table, version, marks if others else 0
            )
            world = self._lift(world, table, who)
            return Step(
                Event(self.names[who], "is refused a new version of", (table,)), world, broken
            )
        missed = tables[process.i :]
        exposed = world.exposed | sum(bit(who, table) for table in missed)
        process = self._leave(who, process._replace(missed=missed))
        is_pending = version is not None and version[1]
        version = self.refused(version, "", 1 if is_pending else 0)
        world, broken = self._put(
            self._with(world, who, process, exposed=exposed), table, version, marks
        )
        return Step(Event(self.names[who], "is refused a mark on", (table,)), world, broken)

    def _end_marks(self, world: World, table: int) -> Iterator[Step]:
        """Let the time be over of marks that nobody will lift any more."""
        at_work = [
            who
            for who, process in enumerate(world.processes)
            if table in process.marked and process.step != "killed"
        ]
        marks, version = world.marks[table], world.versions[table]
        is_pending = version is not None and version[1]
        for who in range(len(self.names)):
            if marks & 1 << who and who not in at_work:
                left = marks & ~(1 << who)
                after, broken = self._put(world, table, self.ended(version, left), left)
                after = self._forget(after, who, table)
                yield Step(
                    Event("Time", "ends a mark on", (table,)), self._lift(after, table, who), broken
                )
        # Where the marks are lost, it is the last one's time.
        if is_pending and not marks and not at_work:
            after, broken = self._put(world, table, None, 0)
            yield Step(Event("Time", "ends the version of", (table,)), after, broken)

    def ended(self, version: Version, left: int) -> Version:
        """Return what is left of a version when one mark has ended and these have not."""
        is_pending = version is not None and version[1]
        return None if is_pending and not left else version

    def _forget(self, world: World, who: int, table: int) -> World:
        process = world.processes[who]
        left = tuple(marked for marked in process.marked if marked != table)
        return self._with(world, who, process._replace(marked=left))

    def _evict(self, world: World) -> Iterator[Step]:
        yield from super(OwnedMarks, self)._evict(world)
        for table, marks in enumerate(world.marks):
            if marks:
                lost, _ = self._put(world, table, world.versions[table], 0)
                yield Step(Event("The cache", "loses the marks on", (table,)), lost)


class WithoutExceptions(ServerMarks):
    """The same, held to more: every visible change must be seen."""

    def excepted(self, world: World) -> int:
        return 0


class ComparedMarks(WithoutExceptions):
    """What lies there is read, changed by the client, and set if it is still the same."""

    def _with_looks(self, world: World, who: int, process: Process) -> Step | None:
        """Return the step of looking, if what was seen is no longer there."""
        table = self.tables_of(who, process)[process.i]
        seen: tuple[Version, ...] = (world.versions[table], ("marks", world.marks[table]))
        if self.may_set(process.got, seen):
            return None
        event = Event(self.names[who], "looks at", (table,), world.versions[table])
        return Step(event, self._with(world, who, process._replace(got=seen)))

    def may_set(self, got: tuple[Version, ...], there: tuple[Version, ...]) -> bool:
        return got == there

    def told(
        self, world: World, kind: str, who: int, table: int, nonce: str
    ) -> tuple[World, tuple[str, str] | None]:
        """Go by what was seen."""
        version, (_, marks) = world.processes[who].got  # type: ignore[misc]
        seen, _ = self._put(world, table, version, marks)
        return super().told(seen, kind, who, table, nonce)

    def mark(self, world: World, who: int, process: Process) -> Step:
        return self._with_looks(world, who, process) or super().mark(world, who, process)

    def renew(self, world: World, who: int, process: Process) -> Step:
        return self._with_looks(world, who, process) or super().renew(world, who, process)


_READERS = {"R1": READ, "R2": READ}
_TWO = {"W1": WRITE, "W2": WRITE, **_READERS}
SERVER = (
    Scenario("two statements, and a loss", _TWO, evictions=1),
    Scenario("a statement and invalidate(), a loss, a kill",
             {"W1": WRITE, "W2": INVALIDATE, "R1": READ}, evictions=1, kills=1),
    Scenario("two statements, and two refusals", _TWO, refusals=2),
    Scenario("two statements, and a command sent twice", _TWO, repeats=1),
    Scenario("a transaction and a statement, a refusal, a command sent twice",
             {"W1": TRANSACTION, "W2": WRITE, "R1": READ}, refusals=1, repeats=1),
    Scenario("three statements, one killed, a command sent twice",
             {"W1": WRITE, "W2": WRITE, "W3": WRITE, "R1": READ}, kills=1, repeats=1),
    Scenario("a statement by Django's API and one with an owner, sent twice",
             {"A1": WRITE, "W1": WRITE, **_READERS}, repeats=1),
)  # fmt: skip


#: Here, too, nothing is excepted.
BY_API = Scenario(
    "a statement by Django's API and invalidate()", {"A1": WRITE, "W2": INVALIDATE, **_READERS}
)


class SentTwiceSetsAgain(ServerMarks):
    """A renewal sets its version whether or not its own mark is there."""

    def without_own_mark(self, version: Version, nonce: str) -> Version:
        return nonce, 0


class StrayTakesMarksAlong(ServerMarks):
    """Who does not find its own mark deletes what is pending as well."""

    def without_own_mark(self, version: Version, nonce: str) -> Version:
        return None


class InvalidationLiftsMarks(WithoutExceptions):
    """Any renewal lifts all marks."""

    def left_by(self, marks: int, who: int) -> int:
        return 0


class InvalidationLiftsTheOwnerless(WithoutExceptions):
    """``invalidate()`` sets what is pending without an owner."""

    def invalidated(self, version: Version, nonce: str) -> Version:
        return nonce, 0


class RefusedIsLeft(ServerMarks):
    """What cannot be renewed or marked is left as it is."""

    def refused(self, version: Version, nonce: str, others: int) -> Version:
        return version


class RefusedTakesMarksAlong(ServerMarks):
    """What cannot be renewed is deleted, whoever has marked it."""

    def refused(self, version: Version, nonce: str, others: int) -> Version:
        return None


class FirstToEndTakesAll(WithoutExceptions):
    """The version's time is over with that of the first mark."""

    def ended(self, version: Version, left: int) -> Version:
        return super().ended(version, 0)


class SetWithoutComparing(ComparedMarks):
    """What is set may be made of what is there no longer."""

    def may_set(self, got: tuple[Version, ...], there: tuple[Version, ...]) -> bool:
        return bool(got)


SERVER_MUTANTS = (
    Mutant(SentTwiceSetsAgain, SERVER[3]),
    Mutant(StrayTakesMarksAlong, SERVER[6]),
    Mutant(InvalidationLiftsMarks, OWNERS[0]),
    Mutant(InvalidationLiftsTheOwnerless, BY_API),
    Mutant(RefusedIsLeft, SERVER[2]),
    Mutant(RefusedTakesMarksAlong, SERVER[2]),
    Mutant(FirstToEndTakesAll, OWNERS[1]),
    Mutant(SetWithoutComparing, OWNERS[0]),
)
