"""How the processes of the model with rows go through their programs, and what is exposed."""

from __future__ import annotations

from typing import Any

from tests.protocol.row_world import (
    ENTRY,
    KEYS,
    NAMES,
    REST,
    START,
    TABLE,
    Answer,
    Dependencies,
    Entry,
    Exposure,
    Level,
    Process,
    Query,
    Scenario,
    World,
    row,
)
from tests.protocol.world import Event, Step, Version

FIRST: Version = ("first", 0)


class RowCourse:
    """What a write touches, what an answer depends on, and what comes after what."""

    write_plan: tuple[str, ...] = ("mark", "statement", "renew")
    invalidate_plan: tuple[str, ...] = ("renew",)
    commit_plan: tuple[str, ...] = ("mark", "commit", "renew", "publish")
    #: How many rows a transaction tells apart.
    most_rows = 2
    #: What is a step though nothing was written.
    steps_without_change: frozenset[str] = frozenset()
    #: Whether a hit may lack what is exposed.
    has_exceptions = True

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.names = tuple(scenario.programs)
        self.programs = tuple(scenario.programs.values())
        reads = {"read", "look", "fill"}
        statements = [one for program in self.programs for one in program]
        self.queries: tuple[Query, ...] = tuple(
            dict.fromkeys(one[1] for one in statements if one[0] in reads)
        )

    def start(self) -> World:
        scenario = self.scenario
        world = World(
            tuple(self._arrive(who, Process()) for who in range(len(self.names))),
            tuple(FIRST if scenario.warm and one in self._used() else None for one in KEYS),
            (None,) * len(self.queries),
            kills=scenario.kills,
            evictions=scenario.evictions,
            lost_calls=scenario.lost_calls,
        )
        if scenario.warm != "all":
            return world
        entries = []
        for query in self.queries:
            answer = query.answer(world.visible)
            dependencies = self.dependencies(query, answer)
            entries.append(Entry(dependencies, (FIRST,) * len(dependencies), answer))
        return world._replace(entries=tuple(entries))

    def _used(self) -> set[int]:
        """Return the dependencies that the programs name."""
        used = {TABLE, REST}
        for query in self.queries:
            used.update(self.asked_before(query), self.dependencies(query, query.answer(START)))
        for program in self.programs:
            used.update(*(one[1].rows for one in program if one[0] == "write"))
        return used

    # Dependencies

    def touched(self, who: int, process: Process) -> Dependencies:
        """Return what a write or a COMMIT touches: first the table, then the rest, then rows."""
        kind, *rest = self._statement_of(who, process)
        if kind == "invalidate":
            return TABLE, REST
        writes = rest if kind == "write" else process.writes
        rows = tuple(sorted({one for write in writes for one in write.rows}))
        if any(write.is_of_rest for write in writes) or len(rows) > self.most_rows:
            return TABLE, REST
        return (TABLE, *rows) if writes else ()

    def dependencies(self, query: Query, answer: Answer) -> Dependencies:
        """Return what an answer is stored under."""
        finds_all = len(answer) == (len(query.keys) if query.keys else 1)
        if finds_all and (query.keys or query.value):
            return (REST, *(row(key) for key, _ in answer))
        return (TABLE,)

    def asked_before(self, query: Query) -> Dependencies:
        """Return the dependencies whose versions are got before the query."""
        if query.keys or query.value:
            return (TABLE, REST, *(row(key) for key in query.keys))
        return (TABLE,)

    # The course of a program

    def _with(self, world: World, who: int, process: Process) -> World:
        processes = (*world.processes[:who], process, *world.processes[who + 1 :])
        return world._replace(processes=processes)

    def _statement_of(self, who: int, process: Process) -> tuple[Any, ...]:
        return self.programs[who][process.line]

    def _arrive(self, who: int, process: Process) -> Process:
        """Go to the next statement that anybody can notice."""
        program, levels = self.programs[who], process.levels
        for line in range(process.line + 1, len(program)):
            kind, *rest = program[line]
            arrived = Process(line, levels=levels)
            if kind in {"begin", "savepoint"}:
                levels = (*levels, Level())
            elif kind == "undo":
                levels = self.undone(levels)
            elif kind == "write" and levels:
                return arrived._replace(step="private")
            elif kind in {"write", "invalidate", "commit"}:
                return self._enter(who, arrived, getattr(self, f"{kind}_plan"))
            elif not self.asks_for_itself(arrived):
                todo = self.asked_before(rest[0])
                if kind != "fill":
                    todo = (*todo, ENTRY)
                todo = todo[::-1] if self.scenario.entry_first else todo
                return arrived._replace(step="look", todo=todo)
        return Process(len(program))

    def undone(self, levels: tuple[Level, ...]) -> tuple[Level, ...]:
        """Return what is left when the last savepoint is rolled back."""
        return levels[:-1]

    def asks_for_itself(self, process: Process) -> bool:
        """Whether a read is of what its transaction has written itself."""
        return bool(process.writes)

    def _enter(self, who: int, process: Process, plan: tuple[str, ...]) -> Process:
        """Go to the first step of ``plan`` that has anything to do; behind it, go on."""
        for step in plan:
            if step == "publish":
                # What savepoints have kept is the transaction's.
                kept = tuple(one for level in process.levels for one in level.kept)
                if not kept or process.writes:
                    continue
                process = process._replace(levels=(Level(kept=kept),))
            elif not self.touched(who, process) and step not in self.steps_without_change:
                continue
            return process._replace(step=step, i=0)
        ends = self._statement_of(who, process)[0] == "commit"
        return self._arrive(who, process._replace(levels=() if ends else process.levels))

    def _leave(self, who: int, process: Process) -> Process:
        """Go behind the present step."""
        plan = getattr(self, f"{self._statement_of(who, process)[0]}_plan")
        return self._enter(who, process, plan[plan.index(process.step) + 1 :])

    def _call(self, who: int, process: Process) -> Dependencies:
        """Return the dependencies of the next call of this step."""
        touched = self.touched(who, process)
        if process.step == "renew":
            touched = self.renewed_in_order(touched)
        return touched if self.scenario.at_once else touched[process.i : process.i + 1]

    def renewed_in_order(self, touched: Dependencies) -> Dependencies:
        return touched

    def _leave_call(self, who: int, process: Process, call: Dependencies) -> Process:
        process = process._replace(i=process.i + len(call))
        return process if process.i < len(self.touched(who, process)) else self._leave(who, process)

    # Versions

    def _nonce(self, world: World, who: int, process: Process) -> str:
        """Return a nonce that no other step of any run gives to the same dependency."""
        line = f".{process.line}" if process.line else ""
        return f"{self.names[who]}{line}{'!' * (self.scenario.lost_calls - world.lost_calls)}"

    def _set_version(self, world: World, who: int, dependency: int, version: Version) -> World:
        """Write a version; note what is exposed now, and what no more."""
        world = world._replace(
            versions=(*world.versions[:dependency], version, *world.versions[dependency + 1 :])
        )
        if version is not None and version[1]:
            return world
        shown = {(state.who, state.line) for state in world.history}
        # Readers that learn a row take the table's word for it.
        misled = set()
        if dependency > REST:
            misled = {one[:2] for one in world.exposed if one.dependency == TABLE}
        exposed = {
            one
            for one in world.exposed
            if one.dependency != dependency
            or one[:2] not in shown
            or (one.who != who and one[:2] in misled)
        }
        for at, process in enumerate(world.processes):
            is_told = process.is_visible and (at, process.line) not in misled
            if at != who and dependency in process.marked and not is_told:
                exposed.add(Exposure(at, process.line, dependency))
        return world._replace(exposed=frozenset(exposed))

    def _tidied(self, step: Step) -> Step:
        """Leave out entries, stored or about to be, that nobody can hit any more."""
        world: World = step.world  # type: ignore[assignment]
        known = [entry for entry in world.entries if entry]
        known += [one.entry for one in world.processes if one.step == "put" and one.entry]
        held = set(enumerate(world.versions))
        if all(entry.is_under(held) for entry in known):
            return step
        # Somebody may have got the versions while they were in force.
        held.update(*(enumerate(process.got) for process in world.processes))
        entries = tuple(
            entry if entry and entry.is_under(held) else None for entry in world.entries
        )
        processes = tuple(
            self._arrive(who, process)
            if process.step == "put" and process.entry and not process.entry.is_under(held)
            else process
            for who, process in enumerate(world.processes)
        )
        return step._replace(world=world._replace(processes=processes, entries=entries))  # type: ignore[arg-type]

    # Words

    def _said(
        self,
        who: int,
        what: str,
        world: World,
        broken: tuple[str, str] | None = None,
        concerned: Dependencies = (),
        answer: Answer | None = None,
    ) -> Step:
        name = self.names[who] if who >= 0 else "Time" if what.startswith("lifts") else "The cache"
        return Step(Event(name, what, concerned, answer), world, broken)  # type: ignore[arg-type]

    def named(self, dependencies: Dependencies) -> str:
        return " and ".join(NAMES[one] for one in dependencies)

    def shown(self, entry: Entry | None) -> str:
        if entry is None:
            return "nothing"
        versions = ", ".join(
            f"{NAMES[dependency]} {version[0] if version else 'missing'}"
            for dependency, version in zip(entry.dependencies, entry.versions, strict=True)
        )
        return f"under {versions}: {self.told(entry.answer)}"

    def told(self, answer: Answer) -> str:
        rows = (f"{key} ({value}, {number})" for key, (value, number) in answer)
        return f"rows {', '.join(rows)}" if answer else "no row"
