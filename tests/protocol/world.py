"""One moment of the model: what is committed, what is cached, how far each process is."""

from __future__ import annotations

from typing import Any, NamedTuple

# None is a missing version, else (nonce, number of pending marks); a mark has no nonce.
Version = tuple[str, int] | None
PENDING = ("", 1)
# The versions and the rows.
Entry = tuple[tuple[Version, ...], int]
Tables = tuple[int, ...]
# ("read" or "write" or "invalidate" or "pin", tables), or ("begin" or "commit" or "rollback",), or
# ("block", parts), whose parts are the tables of a read, or blocks.
Statement = tuple[Any, ...]
# Of the result of a query, under versions.
Lease = tuple[Tables, tuple[Version, ...]]
# What a block is stored under, and the rows of each of its reads.
BlockEntry = tuple[tuple[Version, ...], tuple[int, ...]]

TABLES = 2
_MOST_PROCESSES = 8


def bit(process: int, table: int) -> int:
    """Return the bit that stands for what ``process`` writes to ``table``."""
    return 1 << (process * TABLES + table)


def bits_of(tables: Tables) -> int:
    """Return the bits of all that can be written to ``tables``."""
    return sum(bit(process, table) for process in range(_MOST_PROCESSES) for table in tables)


def tables_named(statement: Statement) -> Tables:
    """Return the tables that a statement reads or changes, those of all reads in a block."""
    if statement[0] != "block":
        return tuple(statement[1]) if len(statement) > 1 else ()
    parts = (tables_named(part) if part[0] == "block" else part for part in statement[1])
    return tuple(sorted({table for tables in parts for table in tables}))


class Level(NamedTuple):
    """What has been read so far in a block that runs."""

    rows: tuple[int, ...] = ()
    #: The version of each table, as before it was read; None for one that was not.
    versions: tuple[Version, ...] = (None,) * TABLES
    is_spoilt: bool = False


class Process(NamedTuple):
    """How far one process is in its program, and what it remembers."""

    line: int = 0
    step: str = "done"
    #: Position in the keys or entries of this step.
    i: int = 0
    is_in_transaction: bool = False
    # A read
    #: What was visible, and not exposed, when the read began.
    required: int = 0
    got: tuple[Version, ...] = ()
    entry: Entry | None = None
    rows: int = 0
    #: The versions got before the query, whatever the protocol does with them.
    before: tuple[Version, ...] = ()
    #: The lease that it has or waits for.
    lease: Lease | None = None
    has_lease: bool = False
    #: Whether it has waited for as long as it may: for a lease, or for a writer.
    is_late: bool = False
    has_paused: bool = False
    # A transaction
    own: int = 0
    private: tuple[str | None, ...] = (None,) * TABLES
    #: (tables, versions, private versions, rows) of each result of the overlay.
    kept: tuple[tuple[Tables, tuple[Version, ...], tuple[str | None, ...], int], ...] = ()
    # A transaction under snapshot isolation
    #: What was visible when it took its snapshot; None for any other.
    snapshot: int | None = None
    #: The version under which each table is pinned, if it is.
    pins: tuple[Version, ...] = (None,) * TABLES
    #: What was exposed, and may be no more, since its present read or look for a block began.
    excused: int = 0
    # A block
    #: Position in its parts, those of the blocks in it included.
    at: int = 0
    levels: tuple[Level, ...] = ()
    found: BlockEntry | None = None
    #: What was visible at each moment since it began to look for the block.
    moments: frozenset[int] = frozenset()
    # A write, or a COMMIT
    marked: Tables = ()
    #: Tables that a failed call has left unmarked, or owed a new version.
    missed: Tables = ()
    is_visible: bool = False
    has_failed: bool = False


class World(NamedTuple):
    """One moment."""

    processes: tuple[Process, ...]
    versions: tuple[Version, ...]
    #: One for each query of the scenario.
    entries: tuple[Entry | None, ...]
    #: One for each block of the scenario.
    blocks: tuple[BlockEntry | None, ...] = ()
    #: What is committed.
    visible: int = 0
    exposed: int = 0
    nonces: frozenset[str] = frozenset()
    #: Whose marks stand on each table, as bits, where that lies beside the version.
    marks: tuple[int, ...] = (0,) * TABLES
    #: Commands that may arrive once more: the step, the process, the table and the nonce.
    sent: frozenset[tuple[str, int, int, str]] = frozenset()
    #: Leases that somebody has, and all results that were computed with one.
    leases: frozenset[Lease] = frozenset()
    computed: frozenset[Lease] = frozenset()
    # Faults that may still happen.
    kills: int = 0
    evictions: int = 0
    lost_calls: int = 0
    failures: int = 0
    refusals: int = 0
    repeats: int = 0


class Event(NamedTuple):
    """What happened in a step: who did what to which tables, with what."""

    who: str
    what: str
    tables: Tables = ()
    value: object = None


class Step(NamedTuple):
    event: Event
    world: World
    #: The invariant that the step breaks, and how.
    broken: tuple[str, str] | None = None


class Scenario(NamedTuple):
    """Programs by process name, and the faults that may happen to them."""

    name: str
    programs: dict[str, tuple[Statement, ...]]
    is_warm: bool = True
    kills: int = 0
    evictions: int = 0
    lost_calls: int = 0
    failures: int = 0
    #: Commands that the cache refuses, and that arrive once more.
    refusals: int = 0
    repeats: int = 0
    #: Whether an answer brings the entry before the versions.
    entry_first: bool = False
