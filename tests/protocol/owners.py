"""Marks with owners, as a board has them: a renewal lifts its own mark and leaves the others.

A version under marks is their number; the nonce is gone, so that no expiry brings it back. With
them, no change is exposed by another writer of its table: what is checked here knows of no
exception but a mark that is lost. A file that is lost loses all versions and marks at once.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.protocol.model import Protocol
from tests.protocol.mutants import Mutant
from tests.protocol.scenarios import INVALIDATE, READ, TRANSACTION, WRITE, WRITE_BOTH
from tests.protocol.world import Event, Process, Scenario, Step, Version, World


class OwnedMarks(Protocol):
    """Each mark is lifted by whoever has set it, or by time once that is nobody any more."""

    def marked_version(self, version: Version, nonce: str) -> Version:
        return "", 1 + (0 if version is None else version[1])

    def renewed_version(self, version: Version, nonce: str, is_own: bool) -> Version:
        marks = 0 if version is None else version[1]
        left = self.marks_left(marks, is_own)
        return ("", left) if left else (nonce, 0)

    def marks_left(self, marks: int, is_own: bool) -> int:
        return marks - is_own

    def steps(self, world: World) -> Iterator[Step]:
        yield from super().steps(world)
        for who, process in enumerate(world.processes):
            if process.step == "killed" and process.marked:
                yield self._expire(world, who, process)

    def _expire(self, world: World, who: int, process: Process) -> Step:
        """Let the time of a mark be over whose writer was killed: whoever meets it renews."""
        table, *others = process.marked
        marks = (world.versions[table] or ("", 1))[1]
        nonce = self.version_after_expiry(f"{self.names[who]}.expired.{table}")
        version: Version = ("", marks - 1) if marks > 1 else (nonce, 0)
        world, broken = self._set_version(world, table, version)
        world = self._lift(self._with(world, who, process._replace(marked=())), table, who)
        process = process._replace(marked=tuple(others))
        event = Event("Time", "lifts the mark of a killed writer on", (table,), version)
        return Step(event, self._with(world, who, process), broken)

    def version_after_expiry(self, nonce: str) -> str:
        return nonce

    def _evict(self, world: World) -> Iterator[Step]:
        lost = world
        for table in range(len(world.versions)):
            lost, _ = self._set_version(lost, table, (f"lost.{world.evictions}.{table}", 0))
            lost = self._lift(lost, table, None)
        processes = tuple(self.after_loss(process) for process in lost.processes)
        yield Step(Event("The machine", "loses the file"), lost._replace(processes=processes))

    def after_loss(self, process: Process) -> Process:
        """A mark names its file: what was set on a lost one is lifted on no other."""
        return process._replace(marked=())


class WithoutExceptions(OwnedMarks):
    """The same, held to more: every visible change must be seen."""

    def excepted(self, world: World) -> int:
        return 0


_READERS = {"R1": READ, "R2": READ}
OWNERS = (
    Scenario("two statements", {"W1": WRITE, "W2": WRITE, **_READERS}),
    Scenario("two statements, one killed", {"W1": WRITE, "W2": WRITE, **_READERS}, kills=1),
    Scenario("three statements", {"W1": WRITE, "W2": WRITE, "W3": WRITE, "R1": READ}, kills=1),
    Scenario("a transaction and a statement", {"W1": TRANSACTION, "W2": WRITE, **_READERS}),
    Scenario("two tables and one", {"W1": WRITE_BOTH, "W2": WRITE, **_READERS}, kills=1),
    Scenario("a statement and invalidate()", {"W1": WRITE, "W2": INVALIDATE, **_READERS}),
    Scenario("statements that may fail", {"W1": WRITE, "W2": WRITE, "R1": READ}, failures=1),
)
#: Two writers more than the one whose mark was lost with the file.
LOST = Scenario("a lost file", {"W1": WRITE, "W2": WRITE, "R1": READ, "R2": READ}, evictions=1)


class RenewalLiftsAll(WithoutExceptions):
    """A writer that ends lifts the marks of all."""

    def marks_left(self, marks: int, is_own: bool) -> int:
        return 0


class InvalidationLiftsOne(WithoutExceptions):
    """Whoever renews lifts a mark, whether or not it has set one."""

    def marks_left(self, marks: int, is_own: bool) -> int:
        return max(marks - 1, 0)


class NobodyLifts(WithoutExceptions):
    """A renewal leaves its own mark as well."""

    def marks_left(self, marks: int, is_own: bool) -> int:
        return marks


class ExpiryBringsBack(WithoutExceptions):
    """The version from before a mark is in force again when the mark is over."""

    def version_after_expiry(self, nonce: str) -> str:
        return "v0"


class MarkOfALostFile(OwnedMarks):
    """A mark that was set on a lost file is lifted on the next one, where it is another's."""

    def after_loss(self, process: Process) -> Process:
        return process


OWNER_MUTANTS = (
    Mutant(RenewalLiftsAll, OWNERS[0]),
    Mutant(InvalidationLiftsOne, OWNERS[5]),
    Mutant(NobodyLifts, OWNERS[0], is_stale=False),
    Mutant(ExpiryBringsBack, OWNERS[1]),
    Mutant(MarkOfALostFile, LOST),
)
