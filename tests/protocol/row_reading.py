"""The steps of a read in the model with rows."""

from __future__ import annotations

from tests.protocol.row_course import RowCourse
from tests.protocol.row_world import (
    ENTRY,
    NAMES,
    REST,
    TABLE,
    UNREAD,
    Dependencies,
    Entry,
    Exposure,
    Kept,
    Process,
    Query,
    State,
    World,
    applied,
)
from tests.protocol.world import Step, Version


class RowReading(RowCourse):
    """From the versions to a hit, or to the query and a new entry.

    A reader that ``look``s ends where it finds no valid entry, one that ``fill``s looks for none. A
    hit changes nothing, and an entry is judged from itself: so together they do what two do that
    ``read``.
    """

    #: What follows a query by a unique value.
    learn_plan: tuple[str, ...] = ("learn", "confirm")

    def look(self, world: World, who: int, process: Process) -> Step:
        if not process.begun:
            process = process._replace(begun=len(world.history), excused=self._excused(world))
        query = self._statement_of(who, process)[1]
        item, *todo = process.todo
        if item == ENTRY:
            entry = world.entries[self.queries.index(query)]
            words = f"gets the entry of {query.name}, {self.shown(entry)}"
            process = process._replace(entry=entry)
        else:
            process, words = self._get(world, process, item)
        process = process._replace(todo=tuple(todo))
        if todo:
            return self._said(who, words, self._with(world, who, process))
        return self._decide(world, who, process, words)

    def _named_by(self, process: Process, before: Dependencies) -> Dependencies:
        """Return the row that only the entry names, where all else is in force."""
        entry = process.entry
        if entry is None:
            return ()
        under = list(zip(entry.dependencies, entry.versions, strict=True))
        if any(process.got[one] != version for one, version in under if one in before):
            return ()
        return tuple(one for one, _ in under if one not in before and process.got[one] == UNREAD)

    def _excused(self, world: World) -> frozenset[Exposure]:
        shown = {(state.who, state.line) for state in world.history}
        if not self.has_exceptions:
            return frozenset()
        return frozenset(one for one in world.exposed if (one.who, one.line) in shown)

    def _get(self, world: World, process: Process, dependency: int) -> tuple[Process, str]:
        found = world.versions[dependency]
        words = "missing" if found is None else found[0] or "pending"
        return self._got(process, dependency, found), f"gets {NAMES[dependency]}: {words}"

    def _got(self, process: Process, dependency: int, version: Version) -> Process:
        got = (*process.got[:dependency], version, *process.got[dependency + 1 :])
        return process._replace(got=got)

    def _decide(self, world: World, who: int, process: Process, words: str) -> Step:
        kind, query = self._statement_of(who, process)
        before = self.asked_before(query)
        missing = tuple(one for one in before if process.got[one] is None)
        if missing and kind != "look":
            process = process._replace(step="add", todo=missing)
        elif named := self._named_by(process, before):
            process = process._replace(step="look", todo=named)
        else:
            return self._serve(world, who, process, words)
        return self._said(who, words, self._with(world, who, process))

    def _serve(self, world: World, who: int, process: Process, words: str) -> Step:
        kind, query = self._statement_of(who, process)
        kept = [one.own for level in process.levels for one in level.kept if one.query == query]
        entries = [entry for entry in (process.entry, *kept) if entry is not None]
        entry = next((entry for entry in entries if self.is_valid(entry, process)), None)
        if entry is not None:
            broken = self._judge(world, process, query, entry)
            words += f", and hits: {self.told(entry.answer)}"
            world = self._with(world, who, self._arrive(who, process))
            return self._said(who, words, world, broken, answer=entry.answer)
        if kind == "look":
            return self._said(who, words, self._with(world, who, self._arrive(who, process)))
        before = self.asked_before(query)
        got = tuple(
            one if at in before or self._usable(process, (at,)) else UNREAD
            for at, one in enumerate(process.got)
        )
        process = process._replace(entry=None, excused=frozenset(), begun=0, got=got)
        # An entry that was no hit has told which row it may be.
        is_guessed = not process.levels and any(
            one != UNREAD for at, one in enumerate(got) if at not in before
        )
        if self._usable(process, (TABLE,)) or (
            (query.keys or is_guessed) and self._usable(process, before[1:])
        ):
            process = process._replace(step="query")
        else:
            process = self._begin_to_ask(who, process)
        return self._said(who, words, self._with(world, who, process))

    def _begin_to_ask(self, who: int, process: Process) -> Process:
        """Ask the database and store nothing, which nobody can notice."""
        return self._arrive(who, process)

    def is_valid(self, entry: Entry, process: Process) -> bool:
        return all(
            version is not None and not version[1] and process.got[dependency] == version
            for dependency, version in zip(entry.dependencies, entry.versions, strict=True)
        )

    def _judge(
        self, world: World, process: Process, query: Query, entry: Entry
    ) -> tuple[str, str] | None:
        """Return what is wrong with a hit."""

        def is_answer(at: int) -> bool:
            database = applied(process.writes, world.history[at].database)
            return database is None or query.answer(database) == entry.answer

        true = [at for at in range(len(world.history)) if is_answer(at)]
        if true and true[-1] >= process.begun - 1:
            return None
        if true:
            # The change since which it is not true.
            state = world.history[true[-1] + 1]
            shared = set(state.touched) & set(entry.dependencies)
            if self._is_excused(process, state, shared):
                return None
            # Whoever has learned the row took the table's word for it.
            if query.value and shared and self._is_excused(process, state, {TABLE}):
                return None
        return "fresh", f"the answer, {self.told(entry.answer)}, was not true since the read began"

    def _is_excused(self, process: Process, state: State, shared: set[int]) -> bool:
        exposed = {Exposure(state.who, state.line, one) for one in shared}
        return bool(exposed) and exposed <= process.excused

    def _usable(self, process: Process, dependencies: Dependencies) -> bool:
        versions = (process.got[one] for one in dependencies)
        return all(version is not None and not version[1] for version in versions)

    def add(self, world: World, who: int, process: Process) -> Step:
        dependency, *todo = process.todo
        process = process._replace(todo=tuple(todo))
        world, process, words = self._add(world, who, process, dependency)
        if todo:
            return self._said(who, words, self._with(world, who, process))
        query = self._statement_of(who, process)[1]
        before = self.asked_before(query)
        if any(process.got[one] is None for one in before):
            process = process._replace(step="again", todo=before)
            return self._said(who, words, self._with(world, who, process))
        return self._decide(world, who, process, words)

    def _add(
        self, world: World, who: int, process: Process, dependency: int
    ) -> tuple[World, Process, str]:
        if world.versions[dependency] is not None:
            return world, process, f"adds no version of {NAMES[dependency]}"
        version = self._nonce(world, who, process), 0
        world = self._set_version(world, who, dependency, version)
        process = self._got(process, dependency, version)
        return world, process, f"adds {NAMES[dependency]}: {version[0]}"

    def again(self, world: World, who: int, process: Process) -> Step:
        dependency, *todo = process.todo
        process, words = self._get(world, process._replace(todo=tuple(todo)), dependency)
        if todo:
            return self._said(who, words, self._with(world, who, process))
        before = self.asked_before(self._statement_of(who, process)[1])
        if any(process.got[one] is None for one in before):
            process = self._begin_to_ask(who, process._replace(entry=None))
            return self._said(who, words, self._with(world, who, process))
        return self._decide(world, who, process, words)

    def query(self, world: World, who: int, process: Process) -> Step:
        query = self._statement_of(who, process)[1]
        database = applied(process.writes, world.visible)
        answer = query.answer(database or world.visible)
        words = f"queries {query.name}: {self.told(answer)}"
        process = process._replace(answer=answer)
        learned = self.dependencies(query, answer)[-1]
        is_known = process.got[learned] != UNREAD
        if query.value and answer and not is_known and self._usable(process, (TABLE,)):
            process = process._replace(step=self.learn_plan[0])
        elif query.value and answer and not is_known:
            process = self._arrive(who, process)
        else:
            process = self._prepare(who, process, self.dependencies(query, answer))
        return self._said(who, words, self._with(world, who, process), answer=answer)

    def _prepare(self, who: int, process: Process, dependencies: Dependencies) -> Process:
        """Go on to store the answer, if it may be."""
        query = self._statement_of(who, process)[1]
        if not self._usable(process, dependencies):
            return self._arrive(who, process)
        versions = tuple(process.got[one] for one in dependencies)
        entry = Entry(dependencies, versions, process.answer)
        if process.levels:
            own = entry
            if query.value:
                # Inside, the word of the table is enough.
                own = Entry((TABLE,), (process.got[TABLE],), process.answer)
            return self._arrive(who, self._kept(process, Kept(query, own, entry)))
        return Process(process.line, "put", entry=entry)

    def _kept(self, process: Process, kept: Kept) -> Process:
        *levels, top = process.levels
        others = tuple(one for one in top.kept if one.query != kept.query)
        top = top._replace(kept=(*others, kept))
        return process._replace(levels=(*levels, top))

    def put(self, world: World, who: int, process: Process) -> Step:
        query, entry = self._statement_of(who, process)[1], process.entry
        assert entry is not None
        world, broken = self._stored(world, query, entry)
        process = self._arrive(who, process)
        said = f"stores {query.name} {self.shown(entry)}"
        world = self._with(world, who, process)
        return self._said(who, said, world, broken, answer=entry.answer)

    def _stored(
        self, world: World, query: Query, entry: Entry
    ) -> tuple[World, tuple[str, str] | None]:
        broken = None
        if all(query.answer(state.database) != entry.answer for state in world.history):
            broken = "5", "an entry of what was never committed is stored"
        at = self.queries.index(query)
        return world._replace(
            entries=(*world.entries[:at], entry, *world.entries[at + 1 :])
        ), broken

    # The row that only the answer names

    def learn(self, world: World, who: int, process: Process) -> Step:
        learned = self._learned(who, process)
        process, words = self._get(world, process, learned)
        if process.got[learned] is None:
            process = process._replace(step="add_learned")
            return self._said(who, words, self._with(world, who, process), answer=process.answer)
        if self.scenario.at_once:
            confirmed = self.confirm(world, who, process)
            return confirmed._replace(event=confirmed.event._replace(what=f"{words}, T with it"))
        return self._said(
            who, words, self._with(world, who, self._learn_on(who, process)), answer=process.answer
        )

    def add_learned(self, world: World, who: int, process: Process) -> Step:
        world, process, words = self._add(world, who, process, self._learned(who, process))
        process = process._replace(step="learn")
        return self._said(
            who, words, self._with(world, who, self._learn_on(who, process)), answer=process.answer
        )

    def confirm(self, world: World, who: int, process: Process) -> Step:
        found = world.versions[TABLE]
        process = process._replace(is_confirmed=found == process.got[TABLE], step="confirm")
        words = f"gets T: {'missing' if found is None else found[0] or 'pending'}"
        return self._said(
            who, words, self._with(world, who, self._learn_on(who, process)), answer=process.answer
        )

    def _learned(self, who: int, process: Process) -> int:
        query = self._statement_of(who, process)[1]
        return self.dependencies(query, process.answer)[-1]

    def _learn_on(self, who: int, process: Process) -> Process:
        """Go to the next step of learning; behind it, choose what the answer is stored under."""
        step = process.step
        following = self.learn_plan[self.learn_plan.index(step) + 1 :]
        narrow = (REST, self._learned(who, process))
        if following and (step != "learn" or self._usable(process, narrow)):
            return process._replace(step=following[0])
        is_narrow = process.is_confirmed and self._usable(process, narrow)
        return self._prepare(who, process, narrow if is_narrow else (TABLE,))

    # The end

    def broken_at_end(self, world: World) -> tuple[str, str] | None:
        """Return what is broken if all processes have ended."""
        if any(process.step not in {"done", "killed"} for process in world.processes):
            return None
        has_killed = any(process.step == "killed" for process in world.processes)
        if not has_killed and any(version and version[1] for version in world.versions):
            return "4", "all writers have ended and something is still pending"
        reader = Process(got=world.versions, begun=len(world.history), excused=self._excused(world))
        if not has_killed and reader.excused:
            return "4", "all writers have ended and what they changed has no new version"
        for query, entry in zip(self.queries, world.entries, strict=True):
            if entry is not None and self.is_valid(entry, reader):
                broken = self._judge(world, reader, query, entry)
                if broken is not None:
                    return "fresh", f"the answer for {query.name} stays {self.told(entry.answer)}"
        return None
