"""Protocols with one mistake each, and the scenario in which it shows."""

from __future__ import annotations

from typing import NamedTuple

from tests.protocol.model import Protocol
from tests.protocol.scenarios import (
    JOIN,
    READ,
    READ_U,
    ROLLED_BACK,
    TRANSACTION,
    WRITE,
    WRITE_BOTH,
)
from tests.protocol.world import Entry, Event, Process, Scenario, Step, Tables, Version, World

# Reads


class VersionsReadAfterTheQuery(Protocol):
    """A miss asks for the versions once more when it has its rows, and stores under these."""

    read_plan = ("query", "read_again", "put")

    def read_again(self, world: World, who: int, process: Process) -> Step:
        tables = self.tables_of(who, process)
        got = tuple(world.versions[table] for table in tables)
        event = Event(self.names[who], "gets the version of", tables, got)
        process = process._replace(got=got)
        following = self._leave if self.is_usable(got) else self._arrive
        return Step(event, self._with(world, who, following(who, process)))


class MissingVersionAddedAfterTheQuery(VersionsReadAfterTheQuery):
    """A miss makes the missing version when it has its rows."""

    def _serve(self, world: World, who: int, process: Process, event: Event) -> Step:
        if process.step in {"add", "again"}:
            return Step(event, self._with(world, who, self._enter(who, process, ("put",))))
        return super()._serve(world, who, process, event)

    def adds_missing(self, process: Process) -> bool:
        return False

    def is_usable(self, got: tuple[Version, ...]) -> bool:
        return all(version is None or not version[1] for version in got)

    def read_again(self, world: World, who: int, process: Process) -> Step:
        if None in process.got:
            missing = process.got.index(None)
            return self.add(world, who, process._replace(step="add", i=missing))
        event = Event(self.names[who], "has got its versions before")
        return Step(event, self._with(world, who, self._leave(who, process)))


class PendingReadAsAVersion(Protocol):
    """A pending mark counts as a version like any other."""

    def is_usable(self, got: tuple[Version, ...]) -> bool:
        return None not in got


class MissingVersionTakenAsEqual(Protocol):
    """An entry is served where there is no version to compare it with."""

    def adds_missing(self, process: Process) -> bool:
        return process.entry is None

    def is_usable(self, got: tuple[Version, ...]) -> bool:
        return all(version is None or not version[1] for version in got)

    def is_valid(self, entry: Entry, got: tuple[Version, ...]) -> bool:
        return all(now is None or now == then for then, now in zip(entry[0], got, strict=True))


class FirstTableCompared(Protocol):
    """Of a join, only one table's version is compared."""

    def is_valid(self, entry: Entry, got: tuple[Version, ...]) -> bool:
        return entry[0][0] == got[0]


class NothingCompared(Protocol):
    """An entry is served as it lies there."""

    def is_valid(self, entry: Entry, got: tuple[Version, ...]) -> bool:
        return True


class SetInsteadOfAdd(Protocol):
    """A missing version is set, whatever has come meanwhile."""

    def overwrites_when_adding(self) -> bool:
        return True


class AddedVersionAlwaysTheSame(Protocol):
    """A missing version is replaced by a constant."""

    def nonce(self, who: int, process: Process, what: str, table: int, world: World) -> str:
        if what == "added":
            return "0"
        return super().nonce(who, process, what, table, world)


# Writes


class InvalidationBeforeTheWrite(Protocol):
    """New versions come before the change."""

    write_plan = ("renew", "statement")
    commit_plan = ("renew", "commit", "publish")


class InvalidationOnlyBeforeTheCommit(Protocol):
    """The mark is lifted before the COMMIT."""

    write_plan = ("mark", "renew", "statement")
    commit_plan = ("mark", "renew", "commit", "publish")


class PendingSkipped(Protocol):
    """New versions come after the change, and nothing before."""

    write_plan = ("statement", "renew")
    commit_plan = ("commit", "renew", "publish")


class PendingAfterTheWrite(Protocol):
    """The mark comes after the change."""

    write_plan = ("statement", "mark", "renew")
    commit_plan = ("commit", "mark", "renew", "publish")


class OneTableForgotten(Protocol):
    """Of two tables that a transaction has written, one gets its old version back."""

    commit_plan = ("mark", "commit", "restore", "renew", "publish")

    def restore(self, world: World, who: int, process: Process) -> Step:
        world, _ = self._set_version(world, 1, ("v1", 0))
        event = Event(self.names[who], "gives the old version back to", (1,))
        return Step(event, self._with(world, who, self._leave(who, process)))

    def tables_of(self, who: int, process: Process) -> Tables:
        tables = super().tables_of(who, process)
        return tables[:1] if process.step == "renew" else tables


class NonceReused(Protocol):
    """A new version is one that was there before."""

    def nonce(self, who: int, process: Process, what: str, table: int, world: World) -> str:
        if what == "renewed":
            return f"v{table}"
        return super().nonce(who, process, what, table, world)


class NewVersionsOnlyOnSuccess(Protocol):
    """A statement that fails leaves its mark behind."""

    failure_plan = ()


class MarkTakenBackOnFailure(Protocol):
    """A statement that fails puts back the version there was."""

    failure_plan = ("take_back",)

    def take_back(self, world: World, who: int, process: Process) -> Step:
        for table in self.tables_of(who, process):
            world, _ = self._set_version(world, table, (f"v{table}", 0))
        event = Event(self.names[who], "gives their old versions back to", process.marked)
        return Step(event, self._with(world, who, self._leave(who, process)))


class NewVersionsForALostConnection(Protocol):
    """A statement whose outcome nobody knows yet is taken as ended."""

    lost_connection_plan = ("renew", "late")


class NothingOwed(Protocol):
    """When the mark could not be set, new versions are not tried either, now or later."""

    def renew(self, world: World, who: int, process: Process) -> Step:
        if process.missed:
            event = Event(self.names[who], "leaves the cache alone")
            return Step(event, self._with(world, who, self._leave(who, process)))
        return super().renew(world, who, process)


# Transactions


class PrivateVersionsPublished(Protocol):
    """A COMMIT publishes the versions its tables had in the transaction, and what lies there."""

    def nonce(self, who: int, process: Process, what: str, table: int, world: World) -> str:
        private = process.private[table]
        if what == "renewed" and private is not None:
            return private
        return super().nonce(who, process, what, table, world)

    def publishable(self, process: Process) -> list[tuple[Tables, Entry]]:
        return [
            (tables, (tuple((nonce, 0) for nonce in private if nonce), rows))
            for tables, _, private, rows in process.kept
            if all(private)
        ]


class DirtyEntriesPublished(Protocol):
    """A COMMIT publishes what was read of the tables it has changed, under their new versions."""

    def publishable(self, process: Process) -> list[tuple[Tables, Entry]]:
        return [
            (tables, (versions, rows))
            for tables, versions, private, rows in process.kept
            if any(private)
        ]

    def publish(self, world: World, who: int, process: Process) -> Step:
        tables, (_, rows) = self.publishable(process)[process.i]
        versions = tuple(world.versions[table] for table in tables)
        kept = ((tables, versions, process.private[:1], rows),)
        return super().publish(world, who, process._replace(kept=kept))


class PublishedBeforeTheCommit(DirtyEntriesPublished):
    """New versions, and what was read of the changed tables, are published before the COMMIT."""

    commit_plan = ("mark", "renew", "publish", "commit")


class PrivateRowsShared(Protocol):
    """A read in a transaction is stored where all can see it."""

    def keeps_apart(self) -> bool:
        return False


class SharedEntryServedToItsWriter(Protocol):
    """A transaction is served what others see, of a table that it has written."""

    def uses_shared(self, process: Process, tables: Tables) -> bool:
        return True


class PrivateVersionsNotCompared(Protocol):
    """A transaction is served what it read before its own write."""

    def _serve(self, world: World, who: int, process: Process, event: Event) -> Step:
        tables = self.tables_of(who, process)
        private = tuple(process.private[table] for table in tables)
        kept = tuple((one[0], one[1], private, one[3]) for one in process.kept)
        return super()._serve(world, who, process._replace(kept=kept), event)


class MarkLiftedByARollback(Protocol):
    """A rollback gives new versions to what the transaction had written."""

    rollback_plan = ("undo",)
    invisible_steps = frozenset({"private", "ask"})

    def undo(self, world: World, who: int, process: Process) -> Step:
        event = Event(self.names[who], "rolls back, and gives new versions to")
        for table in self.tables_of(who, process):
            nonce = self.nonce(who, process, "undone", table, world)
            world, _ = self._set_version(world, table, (nonce, 0))
            event = event._replace(tables=(*event.tables, table))
        return Step(event, self._with(world, who, self._leave(who, process)))


# The smallest scenarios that show them.

_WRITE_READ = Scenario("a statement and two readers", {"W1": WRITE, "R1": READ, "R2": READ})
_EVICTED = _WRITE_READ._replace(name="a statement, two readers, an eviction", evictions=1)
_COLD = _WRITE_READ._replace(name="a statement, two readers, a cold cache", is_warm=False)
_FAILING = _WRITE_READ._replace(name="a statement that may fail, two readers", failures=1)
_UNREACHABLE = _WRITE_READ._replace(name="a statement, two readers, a lost call", lost_calls=1)
_TWO_TABLES = Scenario("a writer of two tables, a reader", {"W1": WRITE_BOTH, "R1": READ_U})
_OTHER_JOIN = Scenario(
    "a writer of one table, two joins", {"W1": (("write", (1,)),), "R1": JOIN, "R2": JOIN}
)
_TRANSACTION = Scenario(
    "a transaction, a statement, a reader", {"W1": TRANSACTION, "W2": WRITE, "R1": READ}
)
_TRANSACTION_ALONE = Scenario("a transaction, a reader", {"W1": TRANSACTION, "R1": READ})
_ROLLBACK = Scenario(
    "a rollback, a statement, two readers",
    {"W1": ROLLED_BACK, "W2": WRITE, "R1": READ, "R2": READ},
)


class Mutant(NamedTuple):
    protocol: type[Protocol]
    scenario: Scenario
    #: Whether a read goes wrong beyond what is excepted; if not, only an invariant is broken.
    is_stale: bool = True


MUTANTS = (
    Mutant(VersionsReadAfterTheQuery, _COLD),
    Mutant(MissingVersionAddedAfterTheQuery, _COLD),
    Mutant(PendingReadAsAVersion, _WRITE_READ),
    Mutant(MissingVersionTakenAsEqual, _EVICTED),
    Mutant(FirstTableCompared, _OTHER_JOIN),
    Mutant(NothingCompared, _WRITE_READ),
    Mutant(SetInsteadOfAdd, _COLD),
    Mutant(AddedVersionAlwaysTheSame, _COLD._replace(evictions=1)),
    Mutant(InvalidationBeforeTheWrite, _WRITE_READ),
    Mutant(InvalidationOnlyBeforeTheCommit, _WRITE_READ),
    Mutant(PendingSkipped, _WRITE_READ),
    Mutant(PendingAfterTheWrite, _WRITE_READ),
    Mutant(OneTableForgotten, _TWO_TABLES),
    Mutant(NonceReused, _WRITE_READ),
    Mutant(NewVersionsOnlyOnSuccess, _FAILING, is_stale=False),
    Mutant(MarkTakenBackOnFailure, _FAILING),
    Mutant(NewVersionsForALostConnection, _FAILING),
    Mutant(NothingOwed, _UNREACHABLE, is_stale=False),
    Mutant(PrivateVersionsPublished, _TRANSACTION),
    Mutant(DirtyEntriesPublished, _TRANSACTION),
    Mutant(PublishedBeforeTheCommit, _TRANSACTION_ALONE),
    Mutant(PrivateRowsShared, _TRANSACTION_ALONE),
    Mutant(SharedEntryServedToItsWriter, _TRANSACTION_ALONE),
    Mutant(PrivateVersionsNotCompared, _TRANSACTION_ALONE._replace(is_warm=False)),
    Mutant(MarkLiftedByARollback, _ROLLBACK),
)
