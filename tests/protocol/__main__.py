"""Print what is explored, which mistakes it catches and how: ``python -m tests.protocol``."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator

from tests.protocol.block_mutants import BLOCK_MUTANTS
from tests.protocol.explorer import explore
from tests.protocol.leases import FAULTS, LEASE_MUTANTS, PAUSES, WRITES, Leases, Pausing
from tests.protocol.model import WHAT_READS_PROMISE, Protocol
from tests.protocol.mutants import MUTANTS, Mutant
from tests.protocol.owners import OWNER_MUTANTS
from tests.protocol.pin_mutants import PIN_MUTANTS
from tests.protocol.reign_mutants import MARK_MUTANTS, REIGN_MUTANTS
from tests.protocol.reigns import COURSES, Course, Reigns
from tests.protocol.reigns import LARGE as LARGE_COURSES
from tests.protocol.row_blocks import (
    LARGE_OF_MANY_ROWS,
    MANY_ROWS,
    ROW_BLOCK_MUTANTS,
    ROW_BLOCKS,
    ManyRows,
    RowBlocks,
)
from tests.protocol.row_mutants import ROW_MUTANTS, RowMutant
from tests.protocol.row_scenarios import MORE
from tests.protocol.row_scenarios import SCENARIOS as ROW_SCENARIOS
from tests.protocol.row_world import Scenario as RowScenario
from tests.protocol.rows import Rows
from tests.protocol.scenarios import LARGE, SCENARIOS
from tests.protocol.server_marks import SERVER, SERVER_MUTANTS, ServerMarks
from tests.protocol.windows import WINDOWS, Window
from tests.protocol.words import in_words
from tests.protocol.world import Scenario


def report_scenarios(
    scenarios: Iterable[Scenario] | Iterable[RowScenario],
    protocol: type[Protocol] | type[Rows] = Protocol,
) -> Iterator[str]:
    """Yield the number of states of each scenario, and what is broken in it."""
    states = steps = 0
    for scenario in scenarios:
        found = explore(protocol(scenario))
        states += found.states
        steps += found.steps
        outcome = "nothing broken" if found.broken is None else f"BROKEN: {found.broken}"
        yield f"{scenario.name:66} {found.states:7} states {found.steps:7} steps  {outcome}"
    yield f"{'in all':66} {states:7} states {steps:7} steps"


def report_mutants(mutants: Iterable[Mutant]) -> Iterator[str]:
    """Yield the shortest run that shows each mistake."""
    for mutant in mutants:
        documentation = mutant.protocol.__doc__ or ""
        yield f"\n{mutant.protocol.__name__}: {documentation.strip()}"
        protocol = mutant.protocol(mutant.scenario)
        first = explore(protocol)
        if first.broken is not None:
            yield f"  after {len(first.trace)} steps breaks {': '.join(first.broken)}"
        yield from _report_run(protocol, WHAT_READS_PROMISE if mutant.is_stale else None)


def report_leases(mutants: Iterable[tuple[Mutant, str]]) -> Iterator[str]:
    """Yield the shortest run that shows each mistake with leases."""
    for mutant, shown in mutants:
        yield f"\n{mutant.protocol.__name__}: {(mutant.protocol.__doc__ or '').strip()}"
        yield from _report_run(mutant.protocol(mutant.scenario), {shown})


def report_reigns(courses: Iterable[Course], mutants: Iterable[type[Reigns]]) -> Iterator[str]:
    """Yield what becomes of a cache that returns to older content, and of mistakes with it."""
    courses = list(courses)
    for course in courses:
        found = explore(Reigns(course))
        outcome = "nothing broken" if found.broken is None else f"BROKEN: {found.broken}"
        yield f"{course.name:66} {found.states:7} states {found.steps:7} steps  {outcome}"
    for mutant in mutants:
        yield f"\n{mutant.__name__}: {(mutant.__doc__ or '').strip()}"
        for course in courses:
            found = explore(mutant(course))
            if found.broken is not None:
                yield f"  {course.name}, {found.states} states"
                yield from (f"    {event.who} {event.what}" for event in found.trace)
                yield f"  {': '.join(found.broken)}"
                break
        else:
            yield "  NOT CAUGHT"


def report_rows(scenarios: Iterable[RowScenario], mutants: Iterable[RowMutant]) -> Iterator[str]:
    """Yield what becomes of rows as dependencies, and of mistakes with them."""
    yield from report_scenarios(scenarios, Rows)
    for mutant in mutants:
        yield f"\n{mutant.protocol.__name__}: {(mutant.protocol.__doc__ or '').strip()}"
        found = explore(mutant.protocol(mutant.scenario), WHAT_READS_PROMISE)
        yield f"  {mutant.scenario.name}, {found.states} states"
        yield from (f"    {event.who} {event.what}" for event in found.trace)
        yield f"  {': '.join(found.broken) if found.broken else 'NOT CAUGHT'}"


def report_windows(windows: Iterable[Window]) -> Iterator[str]:
    """Yield the shortest run into each of the protocol's exceptions."""
    for window in windows:
        yield f"\nException: {window.name}"
        yield from _report_run(window.protocol(window.scenario), WHAT_READS_PROMISE)


def _report_run(protocol: Protocol, wanted: Collection[str] | None) -> Iterator[str]:
    found = explore(protocol, wanted)
    yield f"  {protocol.scenario.name}, {found.states} states"
    for line in in_words(protocol, found.trace):
        yield f"    {line}"
    yield f"  {': '.join(found.broken) if found.broken else 'NOT CAUGHT'}"


def main() -> bool:
    """Print the whole report; return whether it is as it should be."""
    is_right = True
    for lines in (
        report_scenarios((*SCENARIOS, *LARGE)),
        report_scenarios(SERVER, ServerMarks),
        report_scenarios((*WRITES, *FAULTS), Leases),
        report_scenarios(PAUSES, Pausing),
        report_leases(LEASE_MUTANTS),
        report_mutants((*MUTANTS, *PIN_MUTANTS, *OWNER_MUTANTS, *SERVER_MUTANTS, *BLOCK_MUTANTS)),
        report_scenarios(ROW_BLOCKS, RowBlocks),
        report_scenarios((*MANY_ROWS, *LARGE_OF_MANY_ROWS), ManyRows),
        report_mutants(ROW_BLOCK_MUTANTS),
        report_windows(WINDOWS),
        report_reigns(
            (*COURSES, *LARGE_COURSES), (*REIGN_MUTANTS, *(mutant for mutant, _ in MARK_MUTANTS))
        ),
        report_rows((*ROW_SCENARIOS, *MORE), ROW_MUTANTS),
    ):
        for line in lines:
            print(line, flush=True)
            is_right = is_right and "BROKEN" not in line and "NOT CAUGHT" not in line
    return is_right


if __name__ == "__main__":
    sys.exit(not main())
