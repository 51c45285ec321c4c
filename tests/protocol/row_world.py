"""One moment of the model with rows: a table of three keys, what is cached of it, who does what."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

from tests.protocol.world import Version

# A unique value, and a number that is not unique.
Row = tuple[str, int]
#: The rows with the keys 1, 2 and 3.
Database = tuple[Row | None, ...]
START: Database = (("a", 0), ("c", 0), None)
# None where a unique value or a key would be there twice.
Effect = Callable[[Database], Database | None]
#: The keys and rows that a query finds.
Answer = tuple[tuple[int, Row], ...]

# Dependencies: the table, its rest, its rows.
Dependencies = tuple[int, ...]
TABLE, REST = 0, 1
NAMES = ("T", "T!", "T#1", "T#2", "T#3")
KEYS = range(len(NAMES))
#: What is looked for among the versions.
ENTRY = -1
#: A version that has not been asked for.
UNREAD: Version = ("unread", 0)


def row(key: int) -> int:
    """Return the dependency that is one row."""
    return REST + key


class Query(NamedTuple):
    """A query by keys, by a unique value, or of all rows (with one number)."""

    name: str
    keys: tuple[int, ...] = ()
    value: str = ""
    number: int | None = None

    def answer(self, database: Database) -> Answer:
        return tuple(
            (key, found)
            for key, found in enumerate(database, 1)
            if found is not None
            and (not self.keys or key in self.keys)
            and self.value in {"", found[0]}
            and self.number in {None, found[1]}
        )


class Write(NamedTuple):
    """A statement that writes: an INSERT if it names no rows and is not of the rest."""

    words: str
    effect: Effect
    rows: Dependencies = ()
    is_of_rest: bool = False


def applied(writes: Iterable[Write], database: Database) -> Database | None:
    """Return what the database is after ``writes``; None if one of them cannot be."""
    for write in writes:
        changed = write.effect(database)
        if changed is None:
            return None
        database = changed
    return database


class Entry(NamedTuple):
    dependencies: Dependencies
    versions: tuple[Version, ...]
    answer: Answer

    def is_under(self, versions: Collection[tuple[int, Version]]) -> bool:
        """Whether all its versions are among these."""
        return all(one in versions for one in zip(self.dependencies, self.versions, strict=True))


class Kept(NamedTuple):
    """What a transaction has read: what it finds itself, and what others may find in the end."""

    query: Query
    own: Entry
    published: Entry


class Level(NamedTuple):
    """A transaction, or a savepoint in it."""

    writes: tuple[Write, ...] = ()
    kept: tuple[Kept, ...] = ()


class Exposure(NamedTuple):
    """A change that a dependency does not tell of: its mark was lifted before it was visible."""

    who: int
    line: int
    dependency: int


class Process(NamedTuple):
    """How far one process is in its program, and what it remembers."""

    line: int = -1
    step: str = "done"
    #: Position in the calls of this step.
    i: int = 0
    levels: tuple[Level, ...] = ()
    # A read
    #: How many states of the database there were when it began; 0 before that.
    begun: int = 0
    #: What was exposed then.
    excused: frozenset[Exposure] = frozenset()
    #: Dependencies whose versions are still to be got, and ``ENTRY``.
    todo: tuple[int, ...] = ()
    got: tuple[Version, ...] = (UNREAD,) * len(NAMES)
    entry: Entry | None = None
    answer: Answer = ()
    #: Whether the table still has the version that it had before the query.
    is_confirmed: bool = False
    # A write, or a COMMIT
    marked: Dependencies = ()
    is_visible: bool = False

    @property
    def writes(self) -> tuple[Write, ...]:
        """What its transaction has written and not undone."""
        return tuple(write for level in self.levels for write in level.writes)


class State(NamedTuple):
    """What was committed, by which line of which process, and which dependencies that touched."""

    database: Database
    who: int = -1
    line: int = -1
    touched: Dependencies = ()


class World(NamedTuple):
    """One moment."""

    processes: tuple[Process, ...]
    versions: tuple[Version, ...]
    #: One for each query.
    entries: tuple[Entry | None, ...]
    #: The newest last.
    history: tuple[State, ...] = (State(START),)
    exposed: frozenset[Exposure] = frozenset()
    # Faults that may still happen.
    kills: int = 0
    evictions: int = 0
    lost_calls: int = 0

    @property
    def visible(self) -> Database:
        """What is committed."""
        return self.history[-1].database


class Scenario(NamedTuple):
    """Programs by process name, and the faults that may happen to them."""

    name: str
    # ("read" or "look" or "fill", query), ("write", write), ("invalidate",), ("begin",),
    # ("savepoint",), ("undo",), ("commit",)
    programs: dict[str, tuple[tuple[Any, ...], ...]]
    #: Whether versions and entries lie there, or "versions" alone, or nothing.
    warm: str = "all"
    kills: int = 0
    evictions: int = 0
    lost_calls: int = 0
    #: Whether an answer brings the entry before the versions, and these in the reverse order.
    entry_first: bool = False
    #: Whether several keys are written, or got behind a query, in one call at one moment.
    at_once: bool = False
