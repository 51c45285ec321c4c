"""The protocol as step machines over a simulated cache and database.

A ``World`` is one moment: what is committed, what lies in the cache, how far each process is. It is
immutable. ``Protocol.steps()`` returns what may happen next; one step is one call to the cache *for
one key* (no cache promises that ``get_many()`` or ``set_many()`` is atomic), one statement, or one
fault. A process that is never run again is as good as killed, and every beginning of every run is
explored, so a kill needs a step of its own only to be told in a trace.

Each write sets bits of its own, one for each table, which stay set: a result is the set of writes
that it has seen, and "older" is "lacks a bit".

What is checked, as soon as a step breaks it (numbers are those of the invariants):

1. A version key is never given a nonce that was used before.
2. An entry carries the versions that its reader got before its query.
3. A hit has exactly the versions of the entry, none pending, none missing.
4. When a change becomes visible, its tables are pending. Afterwards they get new versions, and no
   mark is left behind when all processes have ended.
5. What was read under a pending mark, or of a table that the transaction has written, is not put
   into the shared cache.

*Fresh*: a read returns every change that was visible when it began, and nothing that is not
visible when it ends (but its own transaction's changes). One class of changes is excepted:

*Snapshot*: a read of a transaction under snapshot isolation returns exactly what was visible when
it took its snapshot, and its own changes. Excepted is what is exposed while the read is under way.
Beside its overlay, such a transaction hits entries under *pinned* versions, and publishes under
them: see ``pinning``.

*Whole*: a block that is found is what running all of it at one moment since it was looked for would
give, and *fresh*. Blocks are not stored in the overlay, and not looked for in snapshots: see
``blocks``.

*Exposed* is a change of a table whose mark was lifted **before** the change became visible, because

- another writer of the table, whose own mark overlapped or was lost, gave the table a new version,
  at its end or when it could settle what it owed; or ``invalidate()`` did, or
- the cache lost the mark: it expired, was evicted, or the call that should have set it failed,

and which has become visible **since**, while the table got no new version after that. So it ends
with the writer's own new versions, which follow at once. If the writer was killed, it ends with the
table's next new version.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.protocol.blocks import Blocks
from tests.protocol.world import Event, Process, Step, World, bit

#: The properties that a caller of a read may rely on.
WHAT_READS_PROMISE = frozenset({"fresh", "snapshot", "whole"})


class Protocol(Blocks):
    """The protocol, and the faults that it must bear. A mutant overrides what it does otherwise."""

    def steps(self, world: World) -> Iterator[Step]:
        """Yield whatever may happen next."""
        for who, process in enumerate(world.processes):
            if process.step in self.invisible_steps:
                yield getattr(self, process.step)(world, who, process)
                return
        for who in range(len(world.processes)):
            for step in self.steps_of(world, who):
                yield self.witnessed(world, step)
        if world.evictions:
            yield from self._evict(world._replace(evictions=world.evictions - 1))

    def steps_of(self, world: World, who: int) -> Iterator[Step]:
        """Yield what one process may do next, and what may happen to it."""
        process = world.processes[who]
        if process.step in {"done", "killed"}:
            return
        yield getattr(self, process.step)(world, who, process)
        if process.step == "late":
            return
        if world.failures and process.step in {"statement", "commit"}:
            yield from self._fail(world._replace(failures=world.failures - 1), who, process)
        if world.lost_calls and process.step not in {
            "statement",
            "commit",
            "query",
            "ask",
            "snapshot",
        }:
            yield self._lose(world._replace(lost_calls=world.lost_calls - 1), who, process)
        if world.kills and process.marked:
            yield Step(
                Event(self.names[who], "is killed"),
                self._with(world, who, process._replace(step="killed"), kills=world.kills - 1),
            )

    def broken_at_end(self, world: World) -> tuple[str, str] | None:
        """Return what is broken if all processes have ended."""
        has_ended = all(process.step == "done" for process in world.processes)
        if has_ended and any(version and version[1] for version in world.versions):
            return "4", "all writers have ended and a table is still pending"
        if has_ended and world.exposed & world.visible:
            return "4", "all writers have ended and a changed table has got no new version"
        return None

    # Faults of the cache

    def _evict(self, world: World) -> Iterator[Step]:
        for table, version in enumerate(world.versions):
            if version is not None:
                evicted, _ = self._set_version(world, table, None)
                if version[1]:
                    evicted = self._lift(evicted, table, None)
                yield Step(Event("The cache", "loses the version of", (table,), version), evicted)
        for at, entry in enumerate(world.entries):
            if entry is not None:
                entries = (*world.entries[:at], None, *world.entries[at + 1 :])
                yield Step(
                    Event("The cache", "loses the entry of", self.queries[at], entry),
                    world._replace(entries=entries),
                )

    def _lose(self, world: World, who: int, process: Process) -> Step:
        """Return the step in which the process's next call to the cache fails."""
        event = Event(self.names[who], "fails to reach the cache")
        if process.step in {"mark", "mark_again"}:
            missed = self.tables_of(who, process)[process.i :]
            exposed = world.exposed | sum(bit(who, table) for table in missed)
            process = self._leave(who, process._replace(missed=missed))
            return Step(event, self._with(world, who, process, exposed=exposed))
        if process.step == "renew":
            return Step(event, self._with(world, who, self.owe(who, process)))
        if process.step in {"put", "publish"}:
            return Step(event, self._with(world, who, self._leave(who, process)))
        if process.snapshot is not None:
            process = process._replace(step="query_snapshot", i=0, entry=None, got=())
            return Step(event, self._with(world, who, process))
        if self._statement_of(who, process)[0] == "pin":
            process = process._replace(step="snapshot", i=0, got=())
            return Step(event, self._with(world, who, process))
        # A read asks the database, and stores nothing.
        process = self._begun(world, process, self.tables_of(who, process))
        process = process._replace(step="ask", i=0, entry=None, got=())
        return Step(event, self._with(world, who, process))

    def owe(self, who: int, process: Process) -> Process:
        """Renew all again as soon as the cache answers. The process does not use it before."""
        return process._replace(i=0, missed=self.tables_of(who, process))
