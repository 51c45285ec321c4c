"""The exceptions of the protocol, each shown to be real, and what it would take to close them."""

from __future__ import annotations

from typing import NamedTuple

from tests.protocol.model import Protocol
from tests.protocol.scenarios import INVALIDATE, PINNED, PINNED_TWICE, READ, TRANSACTION, WRITE
from tests.protocol.world import PENDING, Event, Process, Scenario, Step, World, bit


class WithoutExceptions(Protocol):
    """The protocol, held to more than it promises: every visible change must be seen."""

    def excepted(self, world: World) -> int:
        return 0


class UntilNewVersions(Protocol):
    """The protocol, held to seeing the changes of every process that is no longer at work."""

    def excepted(self, world: World) -> int:
        return sum(
            bit(who, table)
            for who, process in enumerate(world.processes)
            if process.step != "killed"
            for table in process.marked
        )


class MarksOfOneProcess(WithoutExceptions):
    """A variant: the writers are threads of one process, which knows who is at work.

    One that ends while another is at work on the table marks it again; the last gives the new
    version. No call is added, and nothing is gained between processes.
    """

    def renew(self, world: World, who: int, process: Process) -> Step:
        tables = self.tables_of(who, process)
        table = tables[process.i]
        if not any(table in other.marked for at, other in enumerate(world.processes) if at != who):
            return super().renew(world, who, process)
        world, broken = self._set_version(world, table, PENDING)
        process = process._replace(marked=tuple(one for one in process.marked if one != table))
        process = self._leave_key(who, process, len(tables))
        event = Event(self.names[who], "leaves the mark to others", (table,), PENDING)
        return Step(event, self._with(world, who, process), broken)


_ALL = {"R1": READ, "R2": READ}
ONE_WRITER = (
    Scenario("a statement", {"W1": WRITE, **_ALL}, kills=1, failures=1),
    Scenario("a transaction", {"W1": TRANSACTION, **_ALL}, kills=1, failures=1),
    Scenario("a statement, answers in another order", {"W1": WRITE, **_ALL}, entry_first=True),
    Scenario("a statement on a cold cache", {"W1": WRITE, **_ALL}, is_warm=False, kills=1),
    Scenario("a statement and a snapshot", {"W1": WRITE, "R1": READ, "P": PINNED_TWICE}, kills=1),
)
TWO_WRITERS = (
    Scenario("two statements", {"W1": WRITE, "W2": WRITE, **_ALL}),
    Scenario("two statements, one killed", {"W1": WRITE, "W2": WRITE, **_ALL}, kills=1),
    Scenario("a transaction and a statement", {"W1": TRANSACTION, "W2": WRITE, **_ALL}, kills=1),
    Scenario("two statements and a snapshot", {"W1": WRITE, "W2": WRITE, "R1": READ, "P": PINNED}),
)
_EVICTION = Scenario("a mark that the cache loses", {"W1": WRITE, **_ALL}, evictions=1)


class Window(NamedTuple):
    name: str
    protocol: type[Protocol]
    scenario: Scenario


WINDOWS = (
    Window("overlapping writers", WithoutExceptions, TWO_WRITERS[0]),
    Window("overlapping writers, one killed", UntilNewVersions, TWO_WRITERS[1]),
    Window("overlapping writers and a snapshot", WithoutExceptions, TWO_WRITERS[3]),
    Window("a mark that is evicted or expires", WithoutExceptions, _EVICTION),
    Window("a lost mark of a killed writer", UntilNewVersions, _EVICTION._replace(kills=1)),
    Window(
        "a mark that could not be set",
        WithoutExceptions,
        Scenario("a call that fails", {"W1": WRITE, **_ALL}, lost_calls=1),
    ),
    Window(
        "invalidate() during a write",
        WithoutExceptions,
        Scenario("a statement and invalidate()", {"W1": WRITE, "W2": INVALIDATE, **_ALL}),
    ),
)
