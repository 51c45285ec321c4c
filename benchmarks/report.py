"""Tables of the results, as text that is also reStructuredText, below the title of a page."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.catalogue import GROUPS, Entry, by_group_and_phase, title_of
from benchmarks.contenders import CONTENDERS
from benchmarks.results import MARKS, STATISTICS, StackResults
from benchmarks.stacks import STACKS

#: From whom a phase is counted, and µs for each query that are allowed on top of what the calls to
#: the cache take.
ALLOWANCES = {"hit": ("floor", 15.0), "miss": ("plain", 20.0), "write": ("plain", 20.0)}


def legend(statistic: str) -> str:
    """Say what the tables show."""
    return (
        f"In µs, {STATISTICS[statistic]}; × is how many times as fast as without a cache; + is µs "
        "over the floor, which compiles the query and builds the objects and does nothing else. "
        f"{MARKS['not cached']} runs queries where it should hit; "
        f"{MARKS['stale']} answered with what was there before a write; – does not run."
    )


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a simple table of reStructuredText: the first column to the left, others right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)

    def line(cells: list[str]) -> str:
        first, *others = (
            f"{cell:<{width}}" if position == 0 else f"{cell:>{width}}"
            for position, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join([first, *others]).rstrip()

    return "\n".join([rule, line(header), rule, *map(line, rows), rule])


def number(microseconds: float) -> str:
    """Return a number with about three digits at least."""
    if abs(microseconds) < 10 and microseconds != int(microseconds):
        return f"{microseconds:.1f}"
    return f"{microseconds:,.0f}".replace(",", " ")


def signed(microseconds: float) -> str:
    return ("+" if microseconds >= 0 else "") + number(microseconds)


def heading(text: str, underline: str) -> str:
    return f"{text}\n{underline * len(text)}"


class StackReport:
    """The tables of one stack, by one of ``STATISTICS``."""

    def __init__(self, results: StackResults, entries: dict[str, Entry], statistic: str) -> None:
        self._results = results
        self._entries = entries
        self._statistic = statistic

    def __str__(self) -> str:
        parts = [heading(STACKS[self._results.stack].title, "-")]
        for (group, phase), members in by_group_and_phase(self._entries).items():
            parts += [heading(title_of(group, phase), "~"), self._timings(group, members, phase)]
        if targets := self._targets():
            parts += [heading("What ours may take on top, and what it takes", "~"), targets]
        return "\n\n".join(parts)

    def _time(self, entry: Entry, phase: str, contender: str) -> float | None:
        series = self._results.series.get((entry.name, phase, contender))
        return series.microseconds(self._statistic) if series else None

    def _reference(self, entry: Entry, phase: str) -> float | None:
        series = self._results.references.get((entry.name, phase))
        return series.microseconds(self._statistic) if series else None

    def _cell(self, entry: Entry, phase: str, contender: str) -> list[str]:
        """Return µs, speed against no cache, and µs over the floor."""
        time = self._time(entry, phase, contender)
        if time is None:
            return ["–", "", ""]
        plain = self._time(entry, phase, "plain")
        floor = self._time(entry, phase, "floor")
        mark = MARKS.get(self._results.marks.get((entry.name, contender), ""), "")
        return [
            number(time) + mark,
            f"{plain / time:.2f}×" if plain and contender != "plain" else "",
            signed(time - floor) if floor and contender not in {"plain", "floor"} else "",
        ]

    def _timings(self, group: str, entries: list[Entry], phase: str) -> str:
        header = [GROUPS[group][1] or "operation"]
        columns: list[tuple[str, ...]] = [
            tuple(entry.name if entry.size is None else number(entry.size) for entry in entries)
        ]
        for name in self._results.contenders_in(entries, phase):
            cells = [self._cell(entry, phase, name) for entry in entries]
            for title, column in zip((name, "×", "+"), zip(*cells, strict=True), strict=True):
                if any(column):
                    header.append(title)
                    columns.append(column)
        return table(header, [list(row) for row in zip(*columns, strict=True)])

    def _limits(self, entry: Entry) -> Iterator[tuple[str, float, float]]:
        """Yield phase, µs to start from and µs allowed on top."""
        for phase, (base, allowance) in ALLOWANCES.items():
            start = self._time(entry, phase, base)
            calls = self._reference(entry, phase)
            if start is not None and calls is not None:
                times = 1 if phase == "write" else self._results.queries[entry.name]
                yield phase, start, calls + times * allowance

    def _targets(self) -> str:
        """Return a table of what ours takes and may take; empty where something is missing.

        A hit may take one ``get_many()`` and 15 µs on top of the floor; a miss one ``get_many()``,
        one ``set()`` and 20 µs on top of no cache; a write two calls and 20 µs. A read of several
        queries may take that for each.
        """
        ours = [
            name
            for name, contender in CONTENDERS.items()
            if contender.uses_tree and name in self._results.versions
        ]
        rows = []
        for entry in self._entries.values():
            for phase, base, allowed in self._limits(entry):
                row = [f"{entry.name}, {phase}", number(base), signed(allowed)]
                for name in ours:
                    time = self._time(entry, phase, name)
                    assert time is not None
                    over = time - base
                    is_met = over <= allowed
                    row += [
                        signed(over),
                        "met" if is_met else f"missed by {number(over - allowed)}",
                    ]
                rows.append(row)
        if not rows or not ours:
            return ""
        header = ["operation", "from", "may take"]
        for name in ours:
            header += [name, "target"]
        return table(header, rows)


def about(machine: dict[str, str], all_results: list[StackResults]) -> str:
    """Say what was compared, and on what."""
    lines = [f"{name}: {value}" for name, value in machine.items()]
    servers: dict[str, str] = {}
    versions: dict[str, dict[str, str]] = {}
    for results in all_results:
        servers.update(results.servers)
        versions.update(results.versions)
    lines += [f"{name}: {version}" for name, version in servers.items()]
    for name, packages in versions.items():
        listed = ", ".join(f"{package} {version}" for package, version in packages.items())
        lines.append(f"{name} ({CONTENDERS[name].title}): {listed}")
    return "\n".join(f"* {line}" for line in lines)
