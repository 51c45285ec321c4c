"""Leases: of those who read what a write has made invalid, one computes and the others wait.

Who meets an entry of other versions tries to take the lease of the result under the versions that
it has got. Who has taken it looks once more, since the one before may just have ended, and computes
what is still missing. Who has not waits until the lease ends or its own time is over, and looks
once more: it is a reader like any other then, and a lease decides nothing about what it is given.
Who meets a table that is being written while there is an entry may wait a moment as well, and looks
once more.

*Once*: as long as nobody's time is over and nobody is killed, a result is computed once under the
same versions. *Ends*: whatever happens to the holder, whoever waits goes on.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.protocol.model import Protocol
from tests.protocol.mutants import Mutant
from tests.protocol.scenarios import JOIN, READ, WRITE, WRITE_BOTH
from tests.protocol.world import Event, Lease, Process, Scenario, Step, World


class Leases(Protocol):
    """Leases as they are: each ends by itself, and so does each wait."""

    read_plan = ("query", "put", "release")

    def _serve(self, world: World, who: int, process: Process, event: Event) -> Step:
        step = super()._serve(world, who, process, event)
        following = step.world.processes[who]
        may_pause = self.pauses() and process.entry is not None and not process.is_in_transaction
        if following.step == "ask" and may_pause and not process.has_paused:
            pausing = process._replace(step="pause", lease=None, has_lease=False, has_paused=True)
            return Step(event, self._with(self._released(world, process), who, pausing))
        if following.step != "query":
            # It has been found, or is being written.
            return step._replace(world=self._released(step.world, process))
        lease = self.tables_of(who, process), process.got
        if (
            process.is_in_transaction
            or process.entry is None
            or process.is_late
            or process.lease == lease  # that it has, or for which it has waited in vain
        ):
            return step
        # A lease is of what is computed with it: there are other versions now.
        world = self._released(step.world, process)
        following = following._replace(step="lease", lease=lease, has_lease=False)
        return step._replace(world=self._with(world, who, following))

    def _released(self, world: World, process: Process) -> World:
        if process.lease is None or not process.has_lease:
            return world
        return world._replace(leases=world.leases - {process.lease})

    def lease(self, world: World, who: int, process: Process) -> Step:
        """Take the lease if nobody has it."""
        assert process.lease is not None
        if process.lease in world.leases:
            event = Event(self.names[who], "waits for what another computes of", process.lease[0])
            return Step(event, self._with(world, who, process._replace(step="wait")))
        event = Event(self.names[who], "takes the lease of", process.lease[0])
        process = self._with_lease(who, process._replace(has_lease=True))
        return Step(event, self._with(world, who, process, leases=world.leases | {process.lease}))

    def _with_lease(self, who: int, process: Process) -> Process:
        return self._looking_again(process)

    def _looking_again(self, process: Process) -> Process:
        step = "entry" if self.scenario.entry_first else "version"
        # What it must show was settled when the read began.
        return process._replace(step=step, i=0, got=(), entry=None)

    def _begun(self, world: World, process: Process, tables: tuple[int, ...]) -> Process:
        looks_again = process.lease is not None or process.has_paused
        return process if looks_again else super()._begun(world, process, tables)

    def pause(self, world: World, who: int, process: Process) -> Step:
        event = Event(self.names[who], "has waited for a writer")
        return Step(event, self._with(world, who, self._looking_again(process)))

    def wait(self, world: World, who: int, process: Process) -> Step:
        event = Event(self.names[who], "has waited")
        return Step(event, self._with(world, who, self._waited(world, who, process)))

    def _waited(self, world: World, who: int, process: Process) -> Process:
        return self._looking_again(process)

    def steps_of(self, world: World, who: int) -> Iterator[Step]:
        process = world.processes[who]
        if process.step != "wait":
            yield from super().steps_of(world, who)
        elif process.lease not in world.leases:
            yield self.wait(world, who, process)
        elif self.time_is_over():
            late = self._waited(world, who, process._replace(is_late=True))
            yield Step(Event(self.names[who], "waits no longer"), self._with(world, who, late))
        if process.has_lease and process.step in {"query", "put", "release"}:
            if self.time_is_over() and process.lease in world.leases:
                event = Event("The cache", "ends the lease of", self.tables_of(who, process))
                yield Step(event, self._released(world, process))
            if world.kills:
                killed = process._replace(step="killed", has_lease=False)
                event = Event(self.names[who], "is killed")
                yield Step(event, self._with(world, who, killed, kills=world.kills - 1))

    def time_is_over(self) -> bool:
        """Whether waits and leases end by themselves."""
        return True

    def pauses(self) -> bool:
        """Whether writers are waited for."""
        return False

    def query(self, world: World, who: int, process: Process) -> Step:
        computed: Lease = self.tables_of(who, process), process.got
        step = super().query(world, who, process)
        if not process.has_lease and not process.lease:
            return step
        broken = step.broken
        if computed in world.computed and not self.time_is_over():
            broken = broken or ("once", "what is being computed, or is there, is computed again")
        return step._replace(
            world=step.world._replace(computed=world.computed | {computed}), broken=broken
        )

    def _leave(self, who: int, process: Process) -> Process:
        if process.step == "put" and not process.has_lease:
            return self._arrive(who, process)
        return super()._leave(who, process)

    def release(self, world: World, who: int, process: Process) -> Step:
        event = Event(self.names[who], "gives back the lease of", self.tables_of(who, process))
        world = self._released(world, process)
        return Step(event, self._with(world, who, self._arrive(who, process)))

    def broken_at_end(self, world: World) -> tuple[str, str] | None:
        waits = any(process.step == "wait" for process in world.processes)
        if waits and not any(True for _ in self.steps(world)):
            return "ends", "somebody waits for ever"
        return super().broken_at_end(world)


class Patient(Leases):
    """Nobody's time is over while others compute."""

    def time_is_over(self) -> bool:
        return False


class Pausing(Leases):
    """Readers wait for writers as well."""

    def pauses(self) -> bool:
        return True


WRITES: tuple[Scenario, ...] = (
    Scenario("three readers after a write", {"W": WRITE, "R1": READ, "R2": READ, "R3": READ}),
    Scenario(
        "readers, and writes one after the other",
        {"W": (*WRITE, *WRITE), "R1": READ, "R2": READ},
        entry_first=True,
    ),
    Scenario(
        "readers of two tables, and a writer of both",
        {"W": WRITE_BOTH, "R1": JOIN, "R2": JOIN},
    ),
)
PAUSES = WRITES[1:]
FAULTS: tuple[Scenario, ...] = (
    Scenario(
        "three readers of whom one is killed",
        {"W": WRITE, "R1": READ, "R2": READ, "R3": READ},
        kills=1,
    ),
    Scenario(
        "readers, a writer and what the cache loses",
        {"W": WRITE, "R1": READ, "R2": READ},
        kills=1,
        evictions=1,
    ),
)


class LooksNotAgain(Patient):
    """Who has taken the lease computes at once, although the one before may just have stored."""

    def _with_lease(self, who: int, process: Process) -> Process:
        assert process.lease is not None
        return process._replace(step="query", got=process.lease[1])


class GivesBackBeforeItStores(Patient):
    """The lease ends with the query, and whoever has waited finds nothing."""

    read_plan = ("query", "release", "put")

    def release(self, world: World, who: int, process: Process) -> Step:
        event = Event(self.names[who], "gives back the lease of", self.tables_of(who, process))
        world = self._released(world, process)
        return Step(event, self._with(world, who, process._replace(step="put")))


class TakesWhatIsStored(Leases):
    """Who has waited takes what it finds then, of whatever versions it is."""

    def is_valid(self, entry: object, got: tuple[object, ...]) -> bool:
        return False

    def _waited(self, world: World, who: int, process: Process) -> Process:
        return super()._waited(world, who, process)._replace(step="take")

    def take(self, world: World, who: int, process: Process) -> Step:
        tables = self.tables_of(who, process)
        entry = world.entries[self.queries.index(tables)]
        assert entry is not None
        broken = self._judge(world, process, tables, entry[1])
        event = Event(self.names[who], "hits in", tables, entry[1])
        return Step(event, self._with(world, who, self._arrive(who, process)), broken)


class KeepsALeaseOfOtherVersions(Patient):
    """Who meets other versions when it looks once more keeps the lease that it has."""

    def _serve(self, world: World, who: int, process: Process, event: Event) -> Step:
        step = super()._serve(world, who, process, event)
        following = step.world.processes[who]
        if not process.has_lease or following.step != "lease":
            return step
        kept = following._replace(step="query", lease=process.lease, has_lease=True)
        return step._replace(world=self._with(world, who, kept))


class WaitsForEver(Patient):
    """Neither a lease nor a wait ends by itself."""


#: The protocol with the mistake, and what shows it.
LEASE_MUTANTS: tuple[tuple[Mutant, str], ...] = (
    (Mutant(LooksNotAgain, WRITES[0], is_stale=False), "once"),
    (Mutant(GivesBackBeforeItStores, WRITES[0], is_stale=False), "once"),
    (Mutant(KeepsALeaseOfOtherVersions, WRITES[1], is_stale=False), "once"),
    (Mutant(TakesWhatIsStored, WRITES[1], is_stale=True), "fresh"),
    (Mutant(WaitsForEver, FAULTS[0], is_stale=False), "ends"),
)
