"""The names of the operations, and how each is timed: what the command and the workers share."""

from __future__ import annotations

from dataclasses import dataclass, replace

#: What the phases of a read mean, in the order in which they are timed.
PHASES = {
    "hit": "the same read again",
    "miss": "the first read after a write to its tables",
    "cold": "the first read with an empty cache",
    "write": "writes",
    "mix": "mixed reads and writes",
}
READ = ("hit", "miss", "cold")


@dataclass(frozen=True)
class Entry:
    """One operation: its group, its phases, and its place on the axis of a group that scales.

    ``name`` is unique. ``per_call`` is how many units (reads of a mix, for instance) one call does;
    times are given per unit. ``fill`` is how many entries the cache holds meanwhile. ``threads``
    do it at the same time. ``is_single`` allows one call in a batch.
    """

    name: str
    group: str
    phases: tuple[str, ...]
    size: int | None = None
    per_call: int = 1
    fill: int = 0
    threads: int = 1
    is_single: bool = False

    @property
    def changes_answers(self) -> bool:
        """Whether something is written in between, so that the database must be asked again."""
        return self.group != "mix" or bool(self.size)


#: Group to what its table is called, and what its axis shows.
GROUPS = {
    "reads": ("Reads", ""),
    "page": ("A page of 30 queries", ""),
    "writes": ("Writes", ""),
    "rows": ("Rows of one read", "rows"),
    "tables": ("Tables joined by one read", "tables"),
    "entries": ("A hit, by entries in the cache", "entries in the cache"),
    "invalidation": ("A write, by entries that it makes invalid", "entries made invalid"),
    "threads": ("Hits by several threads of one process, per read", "threads"),
    "mix": ("Reads and writes, per operation", "% writes"),
}

READS = (
    "get",
    "get-slug",
    "foreign-key",
    "atomic-get",
    "exists",
    "count",
    "rows-10",
    "rows-100",
    "rows-1000",
    "values-1000",
    "search",
    "select-related",
    "prefetch",
    "annotate",
)
WRITES = ("save", "update", "atomic-save", "bulk-create")
#: Operations of one block of a mix.
MIX_LENGTH = 100


@dataclass(frozen=True)
class Sizes:
    """How far each group scales."""

    rows: tuple[int, ...] = (1, 10, 100, 1_000, 10_000, 100_000)
    tables: tuple[int, ...] = (1, 2, 3, 5, 7, 10)
    entries: tuple[int, ...] = (1, 10, 100, 1_000, 10_000)
    threads: tuple[int, ...] = (1, 2, 4, 8, 16)
    mix: tuple[int, ...] = (0, 1, 5, 10, 20, 30, 50)

    def with_entries_up_to(self, entries: int) -> Sizes:
        """Return these with powers of ten up to ``entries``."""
        powers = tuple(10**n for n in range(len(str(entries))) if 10**n < entries)
        return replace(self, entries=(*powers, entries))


QUICK = Sizes(
    rows=(1, 100, 10_000),
    tables=(1, 3, 10),
    entries=(1, 100),
    threads=(1, 4, 16),
    mix=(0, 10, 50),
)
SMALLEST = Sizes(rows=(10,), tables=(10,), entries=(10,), threads=(2,), mix=(10,))


def entries_of(sizes: Sizes) -> dict[str, Entry]:
    """Return every operation by its name."""
    found = [
        *(Entry(name, "reads", READ) for name in READS),
        Entry("page", "page", READ),
        *(Entry(name, "writes", ("write",)) for name in WRITES),
        *(Entry(f"scan-{n}", "rows", ("hit", "miss"), n) for n in sizes.rows),
        *(Entry(f"join-{n}", "tables", ("hit", "miss"), n) for n in sizes.tables),
        *(Entry(f"entries-{n}", "entries", ("hit",), n, fill=n) for n in sizes.entries),
        *(
            Entry(f"invalidate-{n}", "invalidation", ("write",), n, fill=n, is_single=True)
            for n in sizes.entries
        ),
        *(Entry(f"threads-{n}", "threads", ("hit",), n, threads=n) for n in sizes.threads),
        *(Entry(f"mix-{n}", "mix", ("mix",), n, per_call=MIX_LENGTH) for n in sizes.mix),
    ]
    return {entry.name: entry for entry in found}


def chosen(entries: dict[str, Entry], names: list[str]) -> dict[str, Entry]:
    """Return those whose name or group is among ``names``, all if there are none.

    Raise ``ValueError`` for a name that is neither.
    """
    if unknown := set(names) - entries.keys() - GROUPS.keys():
        raise ValueError(
            f"no operation and no group: {', '.join(sorted(unknown))}; the groups are "
            f"{', '.join(GROUPS)}, the operations {', '.join(entries)}"
        )
    return {
        name: entry
        for name, entry in entries.items()
        if not names or name in names or entry.group in names
    }


def by_group_and_phase(entries: dict[str, Entry]) -> dict[tuple[str, str], list[Entry]]:
    """Return what belongs into one table or plot; the page is one of the reads."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for phase in PHASES:
        for entry in entries.values():
            if phase in entry.phases:
                group = "reads" if entry.group == "page" else entry.group
                groups.setdefault((group, phase), []).append(entry)
    order = list(GROUPS)
    return dict(sorted(groups.items(), key=lambda item: order.index(item[0][0])))


def title_of(group: str, phase: str) -> str:
    title = GROUPS[group][0]
    return f"{title}: {PHASES[phase]}" if group in {"reads", "rows", "tables"} else title
