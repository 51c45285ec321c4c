"""One run: every operation, in each phase, by every contender in turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, NamedTuple

from benchmarks.catalogue import Entry
from benchmarks.results import Series, StackResults, mark_of
from benchmarks.team import Team


class Step(NamedTuple):
    """One batch: with ``contender`` None, of the cache alone."""

    entry: Entry
    phase: str
    contender: str | None


def check(team: Team, entries: dict[str, Entry], results: StackResults) -> None:
    """Do every operation without timing; add to the results what is wrong with whose answers."""
    for name, entry in entries.items():
        expected: dict[str, Any] = {}
        for contender, process in team.processes.items():
            seen = process.ask("observe", entry=asdict(entry))
            # The first one has no cache.
            expected = expected or seen
            mark = mark_of(process.contender, seen, expected, entry.changes_answers)
            if mark:
                results.marks[name, contender] = mark
        results.queries[name] = expected["queries"][0]


def plan(team: Team, entries: dict[str, Entry]) -> list[list[Step]]:
    """Return the batches of a round: those of one list are compared, so they run one by one."""
    steps = []
    for entry in entries.values():
        for phase in entry.phases:
            # The floor knows of no write and nothing but hits.
            names = [
                name
                for name, process in team.processes.items()
                if process.contender.caches != "floor" or phase == "hit"
            ]
            compared = [Step(entry, phase, name) for name in names]
            if entry.group in {"reads", "page", "writes"} and phase != "cold":
                compared.append(Step(entry, phase, None))
            steps.append(compared)
    return steps


def measure(
    team: Team, results: StackResults, steps: list[list[Step]], rounds: int, seconds: float
) -> Iterator[str]:
    """Time every step once a round, and add what is measured to the results.

    Yield the name of each operation after each batch. Each round begins with another contender, so
    that none is always behind the same one.
    """
    for turn in range(rounds):
        for compared in steps:
            first = turn % len(compared)
            for entry, phase, contender in compared[first:] + compared[:first]:
                if contender is None:
                    reference(team, results, entry, phase, seconds)
                else:
                    batch(team, results, Step(entry, phase, contender), seconds)
                yield entry.name


def batch(team: Team, results: StackResults, step: Step, seconds: float) -> None:
    entry, phase, contender = step
    assert contender is not None
    series = results.series.setdefault((entry.name, phase, contender), Series())
    process = team.processes[contender]
    timed = process.ask(
        "time", entry=asdict(entry), phase=phase, seconds=seconds, number=series.number
    )
    series.add(timed)
    if phase == "hit" and process.contender.caches != "nothing" and timed["queries"]:
        results.marks[entry.name, contender] = (
            results.marks.get((entry.name, contender)) or "not cached"
        )


def reference(team: Team, results: StackResults, entry: Entry, phase: str, seconds: float) -> None:
    # Of the cache alone: it is the first contender's process, which has no other use for it.
    process = next(iter(team.processes.values()))
    timed = process.ask("time_reference", entry=asdict(entry), phase=phase, seconds=seconds)
    results.references.setdefault((entry.name, phase), Series()).add(timed)
