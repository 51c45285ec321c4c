"""The steps of a transaction under snapshot isolation that uses the shared cache."""

from __future__ import annotations

from tests.protocol.reading import Reading
from tests.protocol.world import TABLES, Event, Process, Step, Tables, Version, World


class Pinning(Reading):
    """First the versions, then the snapshot; later hits are held to both.

    A table is pinned at the version it had before the snapshot. An entry under pinned versions is
    what the snapshot has, if its tables have these versions still *after* the entry was got: then
    nothing has become visible since before the snapshot, and nothing in the entry is newer. It is
    not enough that the versions were current at the snapshot, or before the entry was got: a
    reader may store under an old version what it has read after the next change.
    """

    def _serve(self, world: World, who: int, process: Process, event: Event) -> Step:
        if self._statement_of(who, process)[0] == "pin":
            process = process._replace(step="snapshot", i=0)
            return Step(event, self._with(world, who, process))
        return super()._serve(world, who, process, event)

    def snapshot(self, world: World, who: int, process: Process) -> Step:
        tables = self.tables_of(who, process)
        event = Event(self.names[who], "takes its snapshot", (), world.visible)
        pins = self.pins_of(tables, process.got)
        process = process._replace(snapshot=world.visible, pins=pins)
        return Step(event, self._with(world, who, self._leave(who, process)))

    def pins_of(self, tables: Tables, got: tuple[Version, ...]) -> tuple[Version, ...]:
        """Return the version at which each table is pinned, if it is."""
        versions = dict(zip(tables, got, strict=False))
        return tuple(
            version if (version := versions.get(table)) and not version[1] else None
            for table in range(TABLES)
        )

    # A read in the snapshot

    def look(self, world: World, who: int, process: Process) -> Step:
        """Look into the overlay, then into the shared cache if that may have the snapshot's."""
        tables = self.tables_of(who, process)
        private = tuple(process.private[table] for table in tables)
        for kept_tables, _, kept_private, rows in process.kept:
            if (kept_tables, kept_private) == (tables, private):
                event = Event(self.names[who], "hits its overlay in", tables, rows)
                broken = self._judge(world, process, tables, rows)
                return Step(event, self._with(world, who, self._arrive(who, process)), broken)
        event = Event(self.names[who], "has nothing in its overlay of", tables)
        may_hit = None not in self.pinned(process, tables) and self.uses_shared(process, tables)
        process = process._replace(step="entry" if may_hit else "query_snapshot")
        return Step(event, self._with(world, who, process))

    def pinned(self, process: Process, tables: Tables) -> tuple[Version, ...]:
        """Return the versions that an entry must have, and under which a result is published."""
        return tuple(process.pins[table] for table in tables)

    def entry(self, world: World, who: int, process: Process) -> Step:
        if process.snapshot is None:
            return super().entry(world, who, process)
        tables = self.tables_of(who, process)
        found = world.entries[self.queries.index(tables)]
        event = Event(self.names[who], "gets the entry of", tables, found)
        if found is None or found[0] != self.pinned(process, tables):
            process = process._replace(step="query_snapshot")
            return Step(event, self._with(world, who, process))
        process = process._replace(entry=found)
        if self.confirms():
            return Step(event, self._with(world, who, process._replace(step="confirm")))
        return self._hit(world, who, process, event)

    def confirms(self) -> bool:
        """Whether the versions are read once more behind the entry."""
        return True

    def confirm(self, world: World, who: int, process: Process) -> Step:
        tables = self.tables_of(who, process)
        table = tables[process.i]
        found = world.versions[table]
        event = Event(self.names[who], "gets the version of", (table,), found)
        if found != self.pinned(process, tables)[process.i]:
            process = process._replace(step="query_snapshot", i=0, entry=None, excused=0)
            return Step(event, self._with(world, who, process))
        if process.i + 1 < len(tables):
            return Step(event, self._with(world, who, process._replace(i=process.i + 1)))
        return self._hit(world, who, process, event)

    def _hit(self, world: World, who: int, process: Process, event: Event) -> Step:
        """End the read with the entry. The overlay does not keep it: it may be exposed."""
        tables = self.tables_of(who, process)
        assert process.entry is not None
        rows = process.entry[1]
        broken = self._judge(world, process, tables, rows)
        event = event._replace(what=event.what + " and hits in", value=rows)
        return Step(event, self._with(world, who, self._arrive(who, process)), broken)

    def query_snapshot(self, world: World, who: int, process: Process) -> Step:
        tables = self.tables_of(who, process)
        assert process.snapshot is not None
        rows = (process.snapshot | process.own) & self._bits[tables]
        event = Event(self.names[who], "queries its snapshot of", tables, rows)
        private = tuple(process.private[table] for table in tables)
        versions = self.pinned(process, tables)
        if None in versions or any(private):
            versions = ()
        kept = tuple(one for one in process.kept if one[0] != tables)
        kept = (*kept, (tables, versions, private, rows))
        process = self._arrive(who, process._replace(kept=kept))
        return Step(event, self._with(world, who, process))

    def _judge(
        self, world: World, process: Process, tables: Tables, rows: int
    ) -> tuple[str, str] | None:
        if process.snapshot is None:
            return super()._judge(world, process, tables, rows)
        excused = process.excused | self.excepted(world)
        lacks = (process.snapshot & ~excused | process.own) & self._bits[tables] & ~rows
        if lacks:
            return "snapshot", f"the read lacks {self.show(lacks)}, which its transaction sees"
        if has := rows & ~(process.snapshot | process.own | excused):
            return "snapshot", f"the read has {self.show(has)}, which its transaction does not see"
        return None
