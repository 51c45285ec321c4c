"""The steps of a write, of a transaction and of its end."""

from __future__ import annotations

from collections.abc import Iterator

from tests.protocol.pinning import Pinning
from tests.protocol.world import Event, Process, Step, Tables, World, bit


class Writing(Pinning):
    """Pending, the change, new versions; for a transaction at its COMMIT."""

    def mark(self, world: World, who: int, process: Process) -> Step:
        tables = self.tables_of(who, process)
        table = tables[process.i]
        nonce = self.nonce(who, process, "marked", table, world)
        version = self.marked_version(world.versions[table], nonce)
        world, broken = self._set_version(world, table, version)
        event = Event(self.names[who], "marks pending", (table,), version)
        process = process._replace(marked=(*process.marked, table))
        process = self._leave_key(who, process, len(tables))
        return Step(event, self._with(world, who, process), broken)

    def mark_again(self, world: World, who: int, process: Process) -> Step:
        return self.mark(world, who, process)

    def statement(self, world: World, who: int, process: Process) -> Step:
        tables = self.tables_of(who, process)
        change = sum(bit(who, table) for table in tables)
        broken = self._judge_change(world, who, process, tables)
        process = self._shown(who, process)
        event = Event(self.names[who], "changes", tables, world.visible | change)
        return Step(event, self._with(world, who, process, visible=world.visible | change), broken)

    def commit(self, world: World, who: int, process: Process) -> Step:
        tables = self.tables_of(who, process)
        broken = self._judge_change(world, who, process, tables)
        visible = world.visible | process.own
        event = Event(self.names[who], "commits", tables, visible)
        process = self._shown(who, process)
        return Step(event, self._with(world, who, process, visible=visible), broken)

    def late(self, world: World, who: int, process: Process) -> Step:
        """The server ends, at last, what it was doing when the connection was lost."""
        tables = self.tables_of(who, process)
        change = process.own or sum(bit(who, table) for table in tables)
        broken = self._judge_change(world, who, process, tables)
        event = Event(self.names[who], "commits after its connection was lost", tables)
        # Its mark is left to expire.
        process = process._replace(step="killed", is_visible=True)
        return Step(event, self._with(world, who, process, visible=world.visible | change), broken)

    def _shown(self, who: int, process: Process) -> Process:
        return self._leave(who, process._replace(is_visible=True))

    def _judge_change(
        self, world: World, who: int, process: Process, tables: Tables
    ) -> tuple[str, str] | None:
        for table in tables:
            version = world.versions[table]
            is_pending = version is not None and version[1]
            if not is_pending and not world.exposed & bit(who, table):
                return "4", f"{'TU'[table]} is not pending when its change becomes visible"
        return None

    def renew(self, world: World, who: int, process: Process) -> Step:
        tables = self.tables_of(who, process)
        table = tables[process.i]
        nonce = self.nonce(who, process, "renewed", table, world)
        is_own = table in process.marked
        version = self.renewed_version(world.versions[table], nonce, is_own)
        has_part = table in process.marked or table in process.missed
        has_part |= self._statement_of(who, process)[0] == "invalidate"
        process = process._replace(
            marked=tuple(marked for marked in process.marked if marked != table)
        )
        event = Event(self.names[who], "gives a new version to", (table,), version)
        world, broken = self._set_version(self._with(world, who, process), table, version)
        if has_part:
            world = self._lift(world, table, who)
        process = self._leave_key(who, process, len(tables))
        return Step(event, self._with(world, who, process), broken)

    def _fail(self, world: World, who: int, process: Process) -> Iterator[Step]:
        """Yield the ways in which a statement or a COMMIT may fail."""
        name, tables = self.names[who], self.tables_of(who, process)
        change = process.own or sum(bit(who, table) for table in tables)
        failed = process._replace(has_failed=True, kept=())
        yield Step(
            Event(name, "fails to change", tables),
            self._with(world, who, self._enter(who, failed, self.failure_plan)),
        )
        yield Step(
            Event(name, "is told of a failure, but has changed", tables, world.visible | change),
            self._with(
                world,
                who,
                self._enter(who, failed._replace(is_visible=True), self.failure_plan),
                visible=world.visible | change,
            ),
            self._judge_change(world, who, process, tables),
        )
        yield Step(
            Event(name, "loses its connection while changing", tables),
            self._with(world, who, self._enter(who, failed, self.lost_connection_plan)),
        )

    # A transaction

    def private(self, world: World, who: int, process: Process) -> Step:
        tables = self.tables_of(who, process)
        private = list(process.private)
        for table in tables:
            private[table] = self.nonce(who, process, "private", table, world)
        own = process.own | sum(bit(who, table) for table in tables)
        event = Event(self.names[who], "writes in its transaction", tables)
        process = self._arrive(who, process._replace(private=tuple(private), own=own))
        return Step(event, self._with(world, who, process))

    def rollback(self, world: World, who: int, process: Process) -> Step:
        event = Event(self.names[who], "rolls back")
        return Step(event, self._with(world, who, self._leave(who, process)))

    def publish(self, world: World, who: int, process: Process) -> Step:
        entries = self.publishable(process)
        tables, entry = entries[process.i]
        broken = self._judge_entry(world, process, tables, entry)
        event = Event(self.names[who], "publishes an entry of", tables, entry)
        world = self._store(world, tables, entry)
        process = self._leave_key(who, process, len(entries))
        return Step(event, self._with(world, who, process), broken)
