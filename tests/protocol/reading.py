"""The steps of a read."""

from __future__ import annotations

from tests.protocol.course import Course
from tests.protocol.world import Entry, Event, Process, Step, Tables, Version, World


class Reading(Course):
    """From the versions to a hit, or to the query and a new entry."""

    def version(self, world: World, who: int, process: Process) -> Step:
        tables = self.tables_of(who, process)
        table = tables[process.i]
        process = self._begun(world, process, tables)
        found = world.versions[table]
        event = Event(self.names[who], "gets the version of", (table,), found)
        process = process._replace(got=(*process.got, found))
        if process.i + 1 < len(tables):
            return Step(event, self._with(world, who, process._replace(i=process.i + 1)))
        is_read = self._statement_of(who, process)[0] == "read"
        if is_read and not self.scenario.entry_first:
            return Step(event, self._with(world, who, process._replace(step="entry", i=0)))
        return self._decide(world, who, process, event)

    def entry(self, world: World, who: int, process: Process) -> Step:
        tables = self.tables_of(who, process)
        process = self._begun(world, process, tables)
        found = world.entries[self.queries.index(tables)]
        event = Event(self.names[who], "gets the entry of", tables, found)
        process = process._replace(entry=found)
        if self.scenario.entry_first:
            return Step(event, self._with(world, who, process._replace(step="version", i=0)))
        return self._decide(world, who, process, event)

    def _begun(self, world: World, process: Process, tables: Tables) -> Process:
        if process.got or process.entry is not None or process.i:
            return process
        required = (world.visible & ~self.excepted(world) | process.own) & self._bits[tables]
        return process._replace(required=required)

    def _decide(self, world: World, who: int, process: Process, event: Event) -> Step:
        if None in process.got and self.adds_missing(process):
            missing = process.got.index(None)
            return Step(event, self._with(world, who, process._replace(step="add", i=missing)))
        return self._serve(world, who, process, event)

    def adds_missing(self, process: Process) -> bool:
        return True

    def add(self, world: World, who: int, process: Process) -> Step:
        tables = self.tables_of(who, process)
        table = tables[process.i]
        broken = None
        nonce = self.nonce(who, process, "added", table, world)
        if world.versions[table] is None or self.overwrites_when_adding():
            world, broken = self._set_version(world, table, (nonce, 0))
            event = Event(self.names[who], "adds a version of", (table,), (nonce, 0))
            got = list(process.got)
            got[process.i] = (nonce, 0)
            process = process._replace(got=tuple(got))
        else:
            found = world.versions[table]
            event = Event(self.names[who], "adds no version of", (table,), found)
        following = next(
            (i for i in range(process.i + 1, len(tables)) if process.got[i] is None), None
        )
        if following is not None:
            process = process._replace(i=following)
        elif None in process.got:
            process = process._replace(step="again", i=0, got=())
        else:
            served = self._serve(world, who, process, event)
            return served._replace(broken=served.broken or broken)
        return Step(event, self._with(world, who, process), broken)

    def overwrites_when_adding(self) -> bool:
        return False

    def again(self, world: World, who: int, process: Process) -> Step:
        tables = self.tables_of(who, process)
        found = world.versions[tables[process.i]]
        event = Event(self.names[who], "gets the version of", (tables[process.i],), found)
        process = process._replace(got=(*process.got, found))
        if process.i + 1 < len(tables):
            return Step(event, self._with(world, who, process._replace(i=process.i + 1)))
        return self._serve(world, who, process, event)

    def is_usable(self, got: tuple[Version, ...]) -> bool:
        """Whether results may be served and stored under these versions."""
        return all(version is not None and not version[1] for version in got)

    def is_valid(self, entry: Entry, got: tuple[Version, ...]) -> bool:
        return entry[0] == got

    def uses_shared(self, process: Process, tables: Tables) -> bool:
        """Whether the transaction, if any, has not written one of the tables."""
        return not any(process.private[table] for table in tables)

    def _serve(self, world: World, who: int, process: Process, event: Event) -> Step:
        tables = self.tables_of(who, process)
        got, entry = process.got, process.entry
        if self.is_usable(got):
            if (
                entry is not None
                and self.uses_shared(process, tables)
                and self.is_valid(entry, got)
            ):
                broken = self._judge(world, process, tables, entry[1])
                if entry[0] != got or any(version is None or version[1] for version in got):
                    broken = broken or ("3", "a hit under other versions than the entry's")
                event = event._replace(what=event.what + " and hits in", value=entry[1])
                return Step(event, self._with(world, who, self._arrive(who, process)), broken)
            private = tuple(process.private[table] for table in tables)
            for kept_tables, versions, kept_private, rows in process.kept:
                if (kept_tables, versions, kept_private) == (tables, got, private):
                    broken = self._judge(world, process, tables, rows)
                    event = event._replace(what=event.what + " and hits in", value=rows)
                    return Step(event, self._with(world, who, self._arrive(who, process)), broken)
            process = process._replace(step="query", i=0, entry=None)
        else:
            process = process._replace(step="ask", i=0, entry=None, got=())
        return Step(event, self._with(world, who, process))

    def ask(self, world: World, who: int, process: Process) -> Step:
        """Query, and store nothing."""
        tables = self.tables_of(who, process)
        rows = (world.visible | process.own) & self._bits[tables]
        broken = self._judge(world, process, tables, rows)
        event = Event(self.names[who], "queries for itself", tables, rows)
        return Step(event, self._with(world, who, self._arrive(who, process)), broken)

    def _judge(
        self, world: World, process: Process, tables: Tables, rows: int
    ) -> tuple[str, str] | None:
        if process.required & ~rows:
            return "fresh", f"the read lacks {self.show(process.required & ~rows)}"
        if rows & ~(world.visible | process.own):
            unseen = rows & ~(world.visible | process.own)
            return "fresh", f"the read has {self.show(unseen)}, which is not committed"
        return None

    def query(self, world: World, who: int, process: Process) -> Step:
        tables = self.tables_of(who, process)
        rows = (world.visible | process.own) & self._bits[tables]
        event = Event(self.names[who], "queries", tables, rows)
        broken = self._judge(world, process, tables, rows)
        process = process._replace(rows=rows, before=process.got, required=0)
        if process.is_in_transaction and self.keeps_apart():
            private = tuple(process.private[table] for table in tables)
            kept = tuple(one for one in process.kept if one[0] != tables)
            kept = (*kept, (tables, process.got, private, rows))
            process = self._arrive(who, process._replace(kept=kept))
        else:
            process = self._leave(who, process)
        return Step(event, self._with(world, who, process), broken)

    def keeps_apart(self) -> bool:
        """Whether a transaction's results stay in its overlay until its COMMIT."""
        return True

    def put(self, world: World, who: int, process: Process) -> Step:
        tables = self.tables_of(who, process)
        entry = process.got, process.rows
        broken = self._judge_entry(world, process, tables, entry)
        if process.got != process.before:
            broken = broken or ("2", "the entry has other versions than those got before its query")
        event = Event(self.names[who], "stores an entry of", tables, entry)
        world = self._store(world, tables, entry)
        return Step(event, self._with(world, who, self._leave(who, process)), broken)

    def _store(self, world: World, tables: Tables, entry: Entry) -> World:
        at = self.queries.index(tables)
        return world._replace(entries=(*world.entries[:at], entry, *world.entries[at + 1 :]))

    def _judge_entry(
        self, world: World, process: Process, tables: Tables, entry: Entry
    ) -> tuple[str, str] | None:
        versions, rows = entry
        if any(version is None or version[1] for version in versions):
            return "5", "an entry of a pending or missing version is stored"
        if rows & ~world.visible:
            return "5", "an entry of what is not committed is stored"
        if any(process.private[table] for table in tables):
            return "5", "an entry of a table that its transaction has written is stored"
        return None
