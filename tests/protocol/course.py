"""How the model's processes go through their programs."""

from __future__ import annotations

from typing import Any

from tests.protocol.world import (
    PENDING,
    TABLES,
    Entry,
    Process,
    Scenario,
    Statement,
    Tables,
    Version,
    World,
    bit,
    bits_of,
    tables_named,
)


class Course:
    """How processes go through their programs, and what versions are."""

    write_plan: tuple[str, ...] = ("mark", "statement", "renew")
    invalidate_plan: tuple[str, ...] = ("renew",)
    commit_plan: tuple[str, ...] = ("mark", "commit", "renew", "publish")
    failure_plan: tuple[str, ...] = ("renew",)
    lost_connection_plan: tuple[str, ...] = ("mark_again", "late")
    pin_plan: tuple[str, ...] = ("version", "snapshot")
    rollback_plan: tuple[str, ...] = ("rollback",)
    #: What follows a read that misses.
    read_plan: tuple[str, ...] = ("query", "put")
    # What others cannot notice need not be interleaved with anything.
    invisible_steps = frozenset({"private", "rollback", "ask", "look", "query_snapshot"})

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.names = tuple(scenario.programs)
        self.programs = tuple(scenario.programs.values())
        self.queries: tuple[Tables, ...] = tuple(
            sorted({part[1] for lines in self.programs for part in lines if part[0] == "read"})
        )
        named = {tables_named(part) for lines in self.programs for part in lines}
        self._bits = {tables: bits_of(tables) for tables in named}

    def start(self) -> World:
        scenario = self.scenario
        versions: tuple[Version, ...] = (None,) * TABLES
        entries: tuple[Entry | None, ...] = (None,) * len(self.queries)
        nonces: frozenset[str] = frozenset()
        if scenario.is_warm:
            used = {t for lines in self.programs for part in lines for t in tables_named(part)}
            versions = tuple((f"v{t}", 0) if t in used else None for t in range(TABLES))
            entries = tuple((tuple(versions[t] for t in tables), 0) for tables in self.queries)
            nonces = frozenset(version[0] for version in versions if version)
        return World(
            tuple(self._arrive(who, Process(line=-1)) for who in range(len(self.names))),
            versions,
            entries,
            nonces=nonces,
            kills=scenario.kills,
            evictions=scenario.evictions,
            lost_calls=scenario.lost_calls,
            failures=scenario.failures,
            refusals=scenario.refusals,
            repeats=scenario.repeats,
        )

    # The course of a program

    def _with(self, world: World, who: int, process: Process, **changes: Any) -> World:
        processes = (*world.processes[:who], process, *world.processes[who + 1 :])
        return world._replace(processes=processes, **changes)

    def _statement_of(self, who: int, process: Process) -> Statement:
        return self.programs[who][process.line]

    def tables_of(self, who: int, process: Process) -> Tables:
        """Return the tables that the statement under way reads or changes."""
        statement = self._statement_of(who, process)
        if statement[0] in {"commit", "rollback"}:
            return tuple(t for t in range(TABLES) if process.private[t] is not None)
        return tables_named(statement)

    def _arrive(self, who: int, process: Process) -> Process:
        """Go to the next statement."""
        line = process.line + 1
        program = self.programs[who]
        is_in_transaction = process.is_in_transaction
        while line < len(program) and program[line][0] == "begin":
            is_in_transaction = True
            line += 1
        if line == len(program):
            return Process(line=line)
        before = Process(line=line, is_in_transaction=is_in_transaction)
        if is_in_transaction:
            before = before._replace(
                own=process.own,
                private=process.private,
                kept=process.kept,
                snapshot=process.snapshot,
                pins=process.pins,
            )
        kind = program[line][0]
        if kind == "read" and before.snapshot is not None:
            return before._replace(step="look")
        if kind == "read":
            return before._replace(step="entry" if self.scenario.entry_first else "version")
        if kind == "block":
            return before._replace(step=self.first_step_of_block())
        if kind == "write" and is_in_transaction:
            return before._replace(step="private")
        return self._enter(who, before, self._plan_of(kind))

    def first_step_of_block(self) -> str:
        """Return the step in which a block begins to be looked for."""
        return "seek_entry" if self.scenario.entry_first else "seek_version"

    def _plan_of(self, kind: str) -> tuple[str, ...]:
        plan: tuple[str, ...] = getattr(self, f"{kind}_plan")
        return plan

    def _enter(self, who: int, process: Process, plan: tuple[str, ...]) -> Process:
        """Go to the first step of ``plan`` that has anything to do; behind it, go on."""
        for step in plan:
            if step == "publish":
                if not self.publishable(process):
                    continue
            elif step in {"mark", "renew", "mark_again", "undo"} and not self.tables_of(
                who, process
            ):
                continue
            return process._replace(step=step, i=0)
        return self._arrive(who, process._replace(is_in_transaction=self._stays_open(who, process)))

    def _stays_open(self, who: int, process: Process) -> bool:
        return process.is_in_transaction and self._statement_of(who, process)[0] not in {
            "commit",
            "rollback",
        }

    def _plan(self, who: int, process: Process) -> tuple[str, ...]:
        if process.step in self.lost_connection_plan and process.has_failed:
            return self.lost_connection_plan
        if process.has_failed:
            return self.failure_plan
        return self._plan_of(self._statement_of(who, process)[0])

    def _leave(self, who: int, process: Process) -> Process:
        """Go behind the present step."""
        plan = self._plan(who, process)
        return self._enter(who, process, plan[plan.index(process.step) + 1 :])

    def _leave_key(self, who: int, process: Process, keys: int) -> Process:
        """Go to the next key of the present step, or behind the step."""
        if process.i + 1 < keys:
            return process._replace(i=process.i + 1)
        return self._leave(who, process)

    def publishable(self, process: Process) -> list[tuple[Tables, Entry]]:
        """Return the entries of a transaction's overlay that its COMMIT makes public."""
        return [
            (tables, (versions, rows))
            for tables, versions, _, rows in process.kept
            if versions and not any(process.private[table] for table in tables)
        ]

    # Versions

    def nonce(self, who: int, process: Process, what: str, table: int, world: World) -> str:
        """Return a nonce that no other step of any run returns."""
        return f"{self.names[who]}.{process.line}.{what}{table}.{world.lost_calls}"

    def marked_version(self, version: Version, nonce: str) -> Version:
        return PENDING

    def renewed_version(self, version: Version, nonce: str, is_own: bool) -> Version:
        return nonce, 0

    def excepted(self, world: World) -> int:
        """Return the changes that a read which begins now may lack."""
        return world.exposed

    def _set_version(
        self, world: World, table: int, version: Version
    ) -> tuple[World, tuple[str, str] | None]:
        """Write a version; note what is exposed no more, because what was stored is invalid now."""
        broken = None
        nonces = world.nonces
        old = world.versions[table]
        if version is not None and version[0] and (old is None or old[0] != version[0]):
            if version[0] in nonces:
                broken = "1", f"the nonce {version[0]} is used again"
            nonces |= {version[0]}
        versions = (*world.versions[:table], version, *world.versions[table + 1 :])
        exposed = world.exposed
        if exposed and (version is None or not version[1]):
            for who, process in enumerate(world.processes):
                if process.is_visible or world.visible & bit(who, table):
                    exposed &= ~bit(who, table)
        if exposed != world.exposed:
            world = self._excuse(world, world.exposed & ~exposed)
        return world._replace(versions=versions, nonces=nonces, exposed=exposed), broken

    def _excuse(self, world: World, changes: int) -> World:
        """Note for the reads under way in snapshots what is exposed no more."""
        changes &= self.excepted(world)
        processes = tuple(
            process._replace(excused=process.excused | changes & self._bits[tables])
            if process.snapshot is not None
            and (process.entry is not None or process.got)
            and (tables := self.tables_of(who, process))
            else process
            for who, process in enumerate(world.processes)
        )
        return world._replace(processes=processes)

    def _lift(self, world: World, table: int, lifter: int | None) -> World:
        """Note whose changes are exposed, now that the version of ``table`` has been written."""
        version = world.versions[table]
        if version is not None and version[1]:
            return world
        exposed = world.exposed
        for who, process in enumerate(world.processes):
            if who != lifter and table in process.marked and not process.is_visible:
                exposed |= bit(who, table)
        return world._replace(exposed=exposed)

    # Traces

    def show(self, rows: int) -> str:
        """Return the changes in ``rows`` in words."""
        changes = [
            f"{name}'s change of {'TU'[table]}"
            for who, name in enumerate(self.names)
            for table in range(TABLES)
            if rows & bit(who, table)
        ]
        return " and ".join(changes) or "no change"
