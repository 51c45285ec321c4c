"""The stage on which the real code plays runs of the model with rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

from django.db import IntegrityError, connections, transaction
from django.db.models import Case, QuerySet, Value, When

from cachalot.api import invalidate
from cachalot.core.cache.entries import unpack
from cachalot.core.cache.versions import clock, new_nonce
from cachalot.core.schema.version_keys import keys_to_renew
from tests.library.models import Book, Tag
from tests.protocol.actors import CACHE_ALIAS, DB_ALIAS, Divergence, Operation, ScheduledCache
from tests.protocol.replay import Replay
from tests.protocol.row_scenarios import (
    DELETE_1,
    INSERT_1,
    INSERT_3,
    INSERT_A,
    MOVE,
    SWAP,
    TAKE,
    UPDATE_1,
    UPDATE_2,
    UPDATE_3,
    UPSERT_1,
)
from tests.protocol.row_world import (
    ENTRY,
    KEYS,
    START,
    TABLE,
    Answer,
    Dependencies,
    Entry,
    Process,
    Query,
    Row,
    World,
    Write,
)
from tests.protocol.rows import Rows
from tests.protocol.world import Step

# Which accesses and statements the steps of the model are, beside statements that write.
_WORDS = {
    "look": "get",
    "add": "add",
    "again": "get",
    "query": "select",
    "ask": "select",
    "learn": "get",
    "add_learned": "add",
    "confirm": "get",
    "put": "set",
    "publish": "set",
    "mark": "set",
    "renew": "set",
    "commit": "commit",
}
#: The first word of each write, and what it is in reality.
_WRITES: dict[Write, tuple[str, Callable[[RowStage], object]]] = {
    UPDATE_1: ("update", lambda stage: stage.rows(1).update(pages=1)),
    UPDATE_2: ("update", lambda stage: stage.rows(2).update(pages=2)),
    UPDATE_3: ("update", lambda stage: stage.rows(3).update(pages=3)),
    MOVE: ("update", lambda stage: stage.rows(1).update(name="b")),
    TAKE: ("update", lambda stage: stage.rows(2).update(name="a")),
    DELETE_1: ("delete", lambda stage: stage.rows(1)._raw_delete(DB_ALIAS)),
    INSERT_1: ("insert", lambda stage: stage.insert(1, ("a", 5))),
    INSERT_3: ("insert", lambda stage: stage.insert(3, ("e", 0))),
    INSERT_A: ("insert", lambda stage: stage.insert(3, ("a", 0))),
    SWAP: ("update", lambda stage: stage.swap()),
    UPSERT_1: ("insert", lambda stage: stage.upsert(1, ("d", 3))),
}


class EveryRowStep(Rows):
    """The protocol with nothing left out of the interleavings, and no entry forgotten.

    A transaction asks for the version of a table that it has written, and for the entry, before it
    looks into its overlay.
    """

    steps_without_change = frozenset({"commit"})

    def asks_for_itself(self, process: Process) -> bool:
        return False

    def is_valid(self, entry: Entry, process: Process) -> bool:
        return not process.writes and super().is_valid(entry, process)

    def _arrive(self, who: int, process: Process) -> Process:
        process = super()._arrive(who, process)
        is_own = process.step == "look" and process.writes
        return process._replace(todo=(TABLE, ENTRY)) if is_own else process

    def _begin_to_ask(self, who: int, process: Process) -> Process:
        return process._replace(step="ask")

    def ask(self, world: World, who: int, process: Process) -> Step:
        step = self.query(world, who, process)
        return step._replace(world=self._with(world, who, self._arrive(who, process)))

    def _prepare(self, who: int, process: Process, dependencies: Dependencies) -> Process:
        if process.writes:
            return self._arrive(who, process)
        return super()._prepare(who, process, dependencies)

    def _tidied(self, step: Step) -> Step:
        return step


class RowStage(Replay):
    """Books with the keys 1, 2 and 3, whose title is the value and whose pages are the number.

    Where the value must be unique, tags, whose name it is; their number is 0.
    """

    def __init__(self, protocol: EveryRowStep) -> None:
        super().__init__(protocol)
        self.model: type[Any] = Book
        self.columns: tuple[str, ...] = ("title", "pages")
        if any(query.value for query in protocol.queries):
            self.model, self.columns = Tag, ("name",)
        table = self.model._meta.db_table
        written = frozenset({table})
        # Of a write of the rest, and of one of each row.
        self.version_keys = list(keys_to_renew(DB_ALIAS, written))
        for key in range(1, 1 + len(START)):
            _, of_row = keys_to_renew(DB_ALIAS, written, {table: frozenset({key})})
            self.version_keys.append(of_row)
        # Another stage leaves them out.
        ScheduledCache.beside_keys -= set(self.version_keys)
        self._reset()
        ScheduledCache.content.clear()
        self.entry_keys = [self._learn_entry_key(query) for query in protocol.queries]
        world = protocol.start()
        for key, version in zip(self.version_keys, world.versions, strict=True):
            if version is not None:
                self._warm[key] = ScheduledCache.content.get(key, (clock(), new_nonce()))
        for key, entry in zip(self.entry_keys, world.entries, strict=True):
            if entry is not None:
                self._warm[key] = ScheduledCache.content[key]
        self._open()

    def _learn_entry_key(self, query: Query) -> str:
        known = set(ScheduledCache.content)
        self.read(query)
        (key,) = set(ScheduledCache.content) - known - set(self.version_keys)
        return key

    def _reset(self) -> None:
        connection: Any = connections[DB_ALIAS]
        connection.ensure_connection()
        # Below Django's cursor, so that nothing is invalidated.
        execute, table = connection.connection.execute, self.model._meta.db_table
        execute(f"DELETE FROM {table}")
        for key, found in enumerate(START, 1):
            if found is not None:
                given = {"id": key, **self._given(found)}
                if self.model is Book:
                    given["code"] = f"{key:032}"
                values = ", ".join("?" * len(given))
                execute(
                    f"INSERT INTO {table} ({', '.join(given)}) VALUES ({values})",
                    tuple(given.values()),
                )

    # What the model's statements are in reality

    def _given(self, made: Row) -> dict[str, Any]:
        return dict(zip(self.columns, made, strict=False))

    def _found(self, rows: Iterable[Any]) -> Answer:
        # Tags have no number.
        return tuple(
            (key, (value, *numbers) if numbers else (value, 0)) for key, value, *numbers in rows
        )

    def rows(self, *keys: int) -> QuerySet[Any]:
        rows: QuerySet[Any] = self.model._default_manager.using(DB_ALIAS)
        if not keys:
            return rows.all()
        return rows.filter(pk=keys[0]) if len(keys) == 1 else rows.filter(pk__in=keys)

    def insert(self, key: int, made: Row) -> None:
        self.rows().create(pk=key, **self._given(made))

    def swap(self) -> None:
        (column, *_) = self.columns
        other = Case(When(**{column: "a"}, then=Value("c")), default=Value("a"))
        self.rows().filter(**{f"{column}__in": ["a", "c"]}).update(**{column: other})

    def upsert(self, key: int, made: Row) -> None:
        self.rows().bulk_create(
            [self.model(pk=key, **self._given(made))],
            update_conflicts=True,
            unique_fields=["pk"],
            update_fields=self.columns,
        )

    def read(self, query: Query) -> Answer:
        rows = self.rows(*query.keys)
        rows = rows.filter(name=query.value) if query.value else rows.order_by("pk")
        return self._found(rows.values_list("pk", *self.columns))

    def _task_of(self, who: int, program: Any) -> Callable[[], None]:
        def task() -> None:
            # Of a key that is there.
            with ExitStack() as levels, suppress(IntegrityError):
                statements = iter(program)
                for kind, *rest in statements:
                    if kind == "begin":
                        levels.enter_context(transaction.atomic(using=DB_ALIAS))
                    elif kind == "savepoint":
                        self._run_savepoint(who, statements)
                    else:
                        self._run(who, kind, *rest)

        return task

    def _run_savepoint(self, who: int, statements: Iterator[Any]) -> None:
        """Do what comes up to the end of the savepoint, and undo it."""
        with transaction.atomic(using=DB_ALIAS):
            for kind, *rest in statements:
                if kind == "undo":
                    transaction.set_rollback(True, using=DB_ALIAS)
                    return
                self._run(who, kind, *rest)

    def _run(self, who: int, kind: str, *rest: Any) -> None:
        if kind == "read":
            self.results[who].append(self.read(*rest))
        elif kind == "write":
            _WRITES[rest[0]][1](self)
        elif kind == "invalidate":
            invalidate(self.model, db_alias=DB_ALIAS, cache_alias=CACHE_ALIAS)

    # Runs

    def _follow(self, world: World, step: Step, moment: str) -> None:
        event = step.event
        if event.who not in self.protocol.names:
            del ScheduledCache.content[self.version_keys[event.tables[0]]]
            return
        who = self.protocol.names.index(event.who)
        process = world.processes[who]
        ends = step.world.processes[who].line != process.line
        is_read = self.protocol.programs[who][process.line][0] == "read"
        operation = self._operation(who, process)
        has_read = self._go_on(who, operation, step, ends and is_read, moment)
        if has_read and self.results[who][-1] != event.value:
            raise Divergence(f"{moment}: {self.results[who][-1]} was read, not {event.value}")

    def _operation(self, who: int, process: Process) -> Operation:
        statement = self.protocol.programs[who][process.line]
        if process.step in {"statement", "private"}:
            return _WRITES[statement[1]][0], ""
        word = _WORDS[process.step]
        if process.step in {"look", "add", "again"} and process.todo[0] != ENTRY:
            return word, self.version_keys[process.todo[0]]
        if process.step in {"learn", "add_learned"}:
            return word, self.version_keys[self.protocol._learned(who, process)]
        if process.step == "confirm":
            return word, self.version_keys[TABLE]
        if process.step in {"mark", "renew"}:
            (dependency,) = self.protocol._call(who, process)
            return word, self.version_keys[dependency]
        if word in {"get", "set"}:
            is_published = process.step == "publish"
            query = process.levels[0].kept[process.i].query if is_published else statement[1]
            return word, self.entry_keys[self.protocol.queries.index(query)]
        return word, ""

    def _compare(self, world: World, moment: str) -> None:
        content = ScheduledCache.content
        for dependency in KEYS:
            found = content.get(self.version_keys[dependency])
            version = world.versions[dependency]
            self._compare_version(version, found and (found[1],), moment, dependency)
        for key, entry in zip(self.entry_keys, world.entries, strict=True):
            self._compare_entry(entry, content.get(key), moment)

    def _compare_entry(self, entry: Entry | None, found: Any, moment: str) -> None:
        if entry is None or found is None:
            if entry is not None or found is not None:
                raise Divergence(f"{moment}: the entry {found} is there, not {entry}")
            return
        _, nonces, payload, *_ = found
        if len(nonces) != len(entry.dependencies):
            raise Divergence(f"{moment}: the entry has {len(nonces)} versions, not {entry}")
        under = zip(entry.dependencies, entry.versions, nonces, strict=True)
        for dependency, version, nonce in under:
            self._compare_version(version, (nonce,), moment, dependency)
        answer = self._found(unpack(payload))
        if answer != entry.answer:
            raise Divergence(f"{moment}: the entry has {answer}, not {entry.answer}")
