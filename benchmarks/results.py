"""What was measured, and what was seen: is a hit a hit, and is an answer right?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from benchmarks.catalogue import Entry
from benchmarks.contenders import CONTENDERS, Contender

#: What a mark in a table means.
MARKS = {
    "stale": "!",
    "not cached": "*",
}

#: What a table may show, and what it means. Each is also what a batch tells of its calls.
STATISTICS = {
    "median": "medians of the calls, and of the batches",
    "minimum": "the fastest call of all",
    "cpu": "processor time of the contender's process alone, medians of the batches",
}


@dataclass
class Series:
    """The batches of one operation, in one phase, by one contender.

    ``seconds`` holds for each of ``STATISTICS`` what every batch took per unit; ``number`` is how
    many calls a batch has.
    """

    seconds: dict[str, list[float]] = field(
        default_factory=lambda: {statistic: [] for statistic in STATISTICS}
    )
    number: int = 0

    def add(self, batch: dict[str, Any]) -> None:
        self.number = batch["number"]
        for statistic, seconds in self.seconds.items():
            seconds.append(batch[statistic])

    def microseconds(self, statistic: str) -> float:
        """Return one of ``STATISTICS``, in µs as everything that is shown."""
        seconds = self.seconds[statistic]
        return (min(seconds) if statistic == "minimum" else median(seconds)) * 1e6


@dataclass
class StackResults:
    """Everything about one stack.

    ``queries`` holds how many each operation runs without a cache. ``marks`` says by operation and
    contender what is wrong with it, and has nothing where nothing is. ``references`` holds what the
    cache alone takes, by operation and phase.
    """

    stack: str
    servers: dict[str, str] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    series: dict[tuple[str, str, str], Series] = field(default_factory=dict)
    references: dict[tuple[str, str], Series] = field(default_factory=dict)
    queries: dict[str, int] = field(default_factory=dict)
    marks: dict[tuple[str, str], str] = field(default_factory=dict)

    def contenders_in(self, entries: Iterable[Entry], phase: str) -> list[str]:
        """Return the names of those that were timed, in their usual order."""
        return [
            name
            for name in CONTENDERS
            if any((entry.name, phase, name) in self.series for entry in entries)
        ]

    def as_json(self) -> dict[str, Any]:
        def measured(keys: Iterator[tuple[str, str]], series: Series) -> dict[str, Any]:
            return {
                **dict(keys),
                **{f"{name}_us": series.microseconds(name) for name in STATISTICS},
                **asdict(series),
            }

        names = ("operation", "phase", "contender")
        return {
            "stack": self.stack,
            "servers": self.servers,
            "queries": self.queries,
            "versions": self.versions,
            "timings": [
                {
                    **measured(zip(names, key, strict=True), series),
                    "mark": self.marks.get((key[0], key[2]), ""),
                }
                for key, series in self.series.items()
            ],
            "references": [
                measured(zip(("operation", "phase"), key, strict=True), series)
                for key, series in self.references.items()
            ],
        }


def mark_of(
    contender: Contender, seen: dict[str, Any], expected: dict[str, Any], must_ask: bool
) -> str:
    """Return what is wrong with the answers of a contender, "" if nothing.

    ``seen`` and ``expected`` are what ``Worker.observe()`` returned for it and for no cache.
    ``must_ask`` tells that something was written before the last answer but one.
    """
    *_, again, changed, last = seen["queries"]
    if seen["digests"] != expected["digests"]:
        return "stale"
    # The answer may be right by chance: it must come from the database.
    if contender.is_cache and must_ask and not changed:
        return "stale"
    if contender.caches != "nothing" and (again or last):
        return "not cached"
    return ""


def problems_of(results: StackResults) -> list[str]:
    """Return what is wrong with those that need no package of others."""
    return [
        f"{results.stack}: {operation} by {contender}: {mark}"
        for (operation, contender), mark in results.marks.items()
        if CONTENDERS[contender].requirement is None
    ]
