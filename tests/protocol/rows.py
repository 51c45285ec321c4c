"""The protocol with rows as dependencies, as step machines over a simulated cache and a table.

A write touches the table T and, beside it, the rows that it changes (T#1), or the rest (T!) if it
cannot tell them; an INSERT touches T alone. A result that has found all rows it was asked for
depends on T! and these rows, any other on T. So a row's entry outlives the writes of other rows.

A row named by a unique value is known from the result only. Its version is got *after* the query,
and counts only if T, looked at after that, still has the version that it had before the query.

Here rows have content, so that a value can change hands, and a read is right if its answer was true
at a moment since it began. Checked are the invariants 4 and 5, as ``model`` has them, and

6. A write that becomes visible and would change the answer of a query touches one of the
   dependencies under which that answer is stored.

*Fresh*: a hit is an answer that was true since the read began; and when all has ended, so is every
entry in force. Excepted is what lacks a change that is *exposed* (see ``model``) in each dependency
that the entry shares with it; or, of a unique value, in T, whose word was taken for the row's.

What lies in the overlay of a transaction that has written the table is by table, as in ``model``.
Inside it the database is asked. So do readers whose call to the cache fails; they store nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.protocol.row_reading import RowReading
from tests.protocol.row_world import NAMES, Exposure, Process, State, World, Write, applied
from tests.protocol.world import PENDING, Step, Version


class Rows(RowReading):
    """The protocol. A mutant overrides what it does otherwise."""

    def steps(self, world: World) -> Iterator[Step]:
        """Yield whatever may happen next."""
        for who, process in enumerate(world.processes):
            if process.step in {"done", "killed"}:
                continue
            if not self._waits(world, who, process):
                yield self._tidied(getattr(self, process.step)(world, who, process))
            if world.lost_calls and process.step in {"mark", "renew"}:
                yield self._lose(world._replace(lost_calls=world.lost_calls - 1), who, process)
            if world.kills and process.marked:
                killed = self._with(world, who, process._replace(step="killed"))
                yield self._said(who, "is killed", killed._replace(kills=world.kills - 1))
        if world.evictions:
            for dependency, version in enumerate(world.versions):
                if version is not None:
                    evicted = self._set_version(world, -1, dependency, None)
                    evicted = evicted._replace(evictions=world.evictions - 1)
                    said = f"loses the version of {NAMES[dependency]}"
                    yield self._tidied(self._said(-1, said, evicted, None, (dependency,)))

    def _waits(self, world: World, who: int, process: Process) -> bool:
        """Whether a statement waits for a row that another transaction has written."""
        if process.step not in {"statement", "private"}:
            return False
        mine: Write = self._statement_of(who, process)[1]
        own = applied(process.writes, world.visible)
        changed = own and mine.effect(own)
        for at, other in enumerate(world.processes):
            if at == who or not other.writes or other.step == "killed" or other.is_visible:
                continue
            theirs = applied(other.writes, world.visible)
            if theirs is None or own is None or changed is None:
                continue
            for before, after, here, there in zip(own, changed, world.visible, theirs, strict=True):
                if before != after and here != there:
                    return True
            if mine.effect(theirs) is None:
                return True
        return False

    # A write, and the end of a transaction

    def mark(self, world: World, who: int, process: Process) -> Step:
        call = self._call(who, process)
        for dependency in call:
            version = self.marked_version(world.versions[dependency])
            world = self._set_version(world, who, dependency, version)
        process = process._replace(marked=(*process.marked, *call))
        process = self._leave_call(who, process, call)
        return self._said(who, f"marks {self.named(call)} pending", self._with(world, who, process))

    def statement(self, world: World, who: int, process: Process) -> Step:
        write = self._statement_of(who, process)[1]
        return self._show(world, who, process, (write,), write.words)

    def commit(self, world: World, who: int, process: Process) -> Step:
        return self._show(world, who, process, process.writes, "commits")

    def _show(
        self, world: World, who: int, process: Process, writes: tuple[Write, ...], words: str
    ) -> Step:
        before, after = world.visible, applied(writes, world.visible)
        touched = self.touched(who, process)
        broken = None
        if after is None:
            words += ", which fails"
        elif after != before:
            broken = self._judge_change(world, who, process)
            for query in self.queries:
                answer = query.answer(before)
                stored_under = self.dependencies(query, answer)
                if answer != query.answer(after) and not set(stored_under) & set(touched):
                    broken = broken or ("6", f"{query.name} depends on nothing that is touched")
            state = State(after, who, process.line, touched)
            world = world._replace(history=(*world.history, state))
        process = self._leave(who, process._replace(is_visible=True))
        return self._said(who, words, self._with(world, who, process), broken)

    def _judge_change(self, world: World, who: int, process: Process) -> tuple[str, str] | None:
        for dependency in self.touched(who, process):
            version = world.versions[dependency]
            is_pending = version is not None and version[1]
            if not is_pending and Exposure(who, process.line, dependency) not in world.exposed:
                return "4", f"{NAMES[dependency]} is not pending when its change becomes visible"
        return None

    def renew(self, world: World, who: int, process: Process) -> Step:
        call = self._call(who, process)
        nonce = self._nonce(world, who, process)
        for dependency in call:
            is_own = dependency in process.marked
            left = tuple(one for one in process.marked if one != dependency)
            process = process._replace(marked=left)
            world = self._with(world, who, process)
            version = self.renewed_version(world.versions[dependency], nonce, is_own)
            world = self._set_version(world, who, dependency, version)
        process = self._leave_call(who, process, call)
        said = f"gives {self.named(call)} the version {nonce}"
        return self._said(who, said, self._with(world, who, process))

    def publish(self, world: World, who: int, process: Process) -> Step:
        query, _, entry = process.levels[0].kept[process.i]
        step = self._stored(world, query, entry)
        process = process._replace(i=process.i + 1)
        if process.i == len(process.levels[0].kept):
            process = self._leave(who, process)
        said = f"publishes {query.name} {self.shown(entry)}"
        return self._said(who, said, self._with(step[0], who, process), step[1])

    def private(self, world: World, who: int, process: Process) -> Step:
        *levels, top = process.levels
        write = self._statement_of(who, process)[1]
        top = top._replace(writes=(*top.writes, write))
        process = self._arrive(who, process._replace(levels=(*levels, top)))
        said = f"{write.words}, in its transaction"
        return self._said(who, said, self._with(world, who, process))

    def _lose(self, world: World, who: int, process: Process) -> Step:
        """Return the step in which the process's next call to the cache fails."""
        if process.step == "mark":
            missed = self.touched(who, process)[process.i :]
            exposed = {Exposure(who, process.line, dependency) for dependency in missed}
            world = world._replace(exposed=world.exposed | exposed)
            process = self._leave(who, process)
        else:
            # All again, as soon as the cache answers. The process does not use it before.
            process = process._replace(i=0)
        return self._said(who, "fails to reach the cache", self._with(world, who, process))

    # Versions

    def marked_version(self, version: Version) -> Version:
        return PENDING

    def renewed_version(self, version: Version, nonce: str, is_own: bool) -> Version:
        return nonce, 0


class StrictRows(Rows):
    """The same, held to more: nothing is excepted."""

    has_exceptions = False


class OwnedRows(StrictRows):
    """The same, where a renewal lifts its own mark and leaves the others."""

    def marked_version(self, version: Version) -> Version:
        return "", 1 + (0 if version is None else version[1])

    def renewed_version(self, version: Version, nonce: str, is_own: bool) -> Version:
        left = (0 if version is None else version[1]) - is_own
        return ("", left) if left else (nonce, 0)

    def steps(self, world: World) -> Iterator[Step]:
        yield from super().steps(world)
        for who, process in enumerate(world.processes):
            if process.step == "killed" and process.marked:
                yield self._expire(world, who, process)

    def _expire(self, world: World, who: int, process: Process) -> Step:
        """Let the time of the marks be over whose writer was killed."""
        nonce = f"{self.names[who]}'s end"
        for dependency in process.marked:
            version = self.renewed_version(world.versions[dependency], nonce, True)
            world = self._with(world, who, process._replace(marked=()))
            world = self._set_version(world, who, dependency, version)
        return self._tidied(self._said(-1, f"lifts the marks of {self.names[who]}", world))


class DeletedRows(Rows):
    """The same, where versions are deleted in place of new ones: whoever reads next adds one."""

    def renewed_version(self, version: Version, nonce: str, is_own: bool) -> Version:
        return None
