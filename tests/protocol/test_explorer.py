"""No interleaving breaks the protocol, and each mistake in it is found."""

from __future__ import annotations

import pytest

from tests.protocol import owners, server_marks
from tests.protocol.__main__ import report_mutants, report_scenarios, report_windows
from tests.protocol.block_mutants import BLOCK_MUTANTS, ENTRY_FIRST, EntryFirst
from tests.protocol.explorer import explore
from tests.protocol.leases import FAULTS, LEASE_MUTANTS, PAUSES, WRITES, Leases, Patient, Pausing
from tests.protocol.model import WHAT_READS_PROMISE, Protocol
from tests.protocol.mutants import MUTANTS, Mutant
from tests.protocol.owners import LOST, OWNER_MUTANTS, OWNERS, OwnedMarks
from tests.protocol.pin_mutants import PIN_MUTANTS
from tests.protocol.scenarios import SCENARIOS
from tests.protocol.server_marks import (
    BY_API,
    SERVER,
    SERVER_MUTANTS,
    ComparedMarks,
    ServerMarks,
)
from tests.protocol.windows import (
    ONE_WRITER,
    TWO_WRITERS,
    WINDOWS,
    MarksOfOneProcess,
    Window,
    WithoutExceptions,
)
from tests.protocol.world import Scenario


def name_of(case: Scenario | Window | Mutant) -> str:
    return case.protocol.__name__ if isinstance(case, Mutant) else case.name


@pytest.mark.parametrize("scenario", SCENARIOS, ids=name_of)
def test_no_interleaving_breaks_anything(scenario: Scenario) -> None:
    assert explore(Protocol(scenario)).broken is None


@pytest.mark.parametrize("mutant", [*MUTANTS, *PIN_MUTANTS, *BLOCK_MUTANTS], ids=name_of)
def test_each_mistake_is_found(mutant: Mutant) -> None:
    assert explore(Protocol(mutant.scenario)).broken is None
    assert explore(mutant.protocol(mutant.scenario)).broken is not None
    stale = explore(mutant.protocol(mutant.scenario), WHAT_READS_PROMISE)
    assert (stale.broken is not None) is mutant.is_stale


def test_where_entries_come_before_versions_blocks_need_no_second_look() -> None:
    assert explore(EntryFirst(ENTRY_FIRST)).broken is None


@pytest.mark.parametrize("scenario", ONE_WRITER, ids=name_of)
def test_one_writer_at_a_time_needs_no_exception(scenario: Scenario) -> None:
    """As long as the cache keeps the mark."""
    assert explore(WithoutExceptions(scenario)).broken is None


@pytest.mark.parametrize("window", WINDOWS, ids=name_of)
def test_each_exception_is_needed(window: Window) -> None:
    """Else the documents would promise too little."""
    assert explore(Protocol(window.scenario)).broken is None
    assert explore(window.protocol(window.scenario), WHAT_READS_PROMISE).broken is not None


@pytest.mark.parametrize("scenario", TWO_WRITERS, ids=name_of)
def test_a_variant_that_lets_writers_overlap(scenario: Scenario) -> None:
    assert explore(MarksOfOneProcess(scenario)).broken is None


@pytest.mark.parametrize("scenario", OWNERS, ids=name_of)
def test_marks_with_owners_need_no_exception(scenario: Scenario) -> None:
    assert explore(owners.WithoutExceptions(scenario)).broken is None


def test_marks_with_owners_on_a_file_that_is_lost() -> None:
    assert explore(OwnedMarks(LOST)).broken is None


@pytest.mark.parametrize("mutant", OWNER_MUTANTS, ids=name_of)
def test_each_mistake_with_owners_is_found(mutant: Mutant) -> None:
    assert explore(mutant.protocol(mutant.scenario)).broken is not None
    stale = explore(mutant.protocol(mutant.scenario), WHAT_READS_PROMISE)
    assert (stale.broken is not None) is mutant.is_stale


@pytest.mark.parametrize("protocol", [server_marks.WithoutExceptions, ComparedMarks])
@pytest.mark.parametrize("scenario", OWNERS, ids=name_of)
def test_marks_with_owners_on_a_server(protocol: type[ServerMarks], scenario: Scenario) -> None:
    assert explore(protocol(scenario)).broken is None


@pytest.mark.parametrize("scenario", SERVER, ids=name_of)
def test_a_server_that_loses_refuses_and_hears_twice(scenario: Scenario) -> None:
    assert explore(ServerMarks(scenario)).broken is None


def test_what_has_no_owner_is_left_by_who_has_no_mark() -> None:
    assert explore(server_marks.WithoutExceptions(BY_API)).broken is None


@pytest.mark.parametrize("mutant", SERVER_MUTANTS, ids=name_of)
def test_each_mistake_on_a_server_is_found(mutant: Mutant) -> None:
    assert explore(mutant.protocol(mutant.scenario), WHAT_READS_PROMISE).broken is not None


@pytest.mark.parametrize("scenario", [*WRITES, *FAULTS], ids=name_of)
def test_leases_decide_nothing_and_end(scenario: Scenario) -> None:
    assert explore(Leases(scenario)).broken is None


@pytest.mark.parametrize("scenario", PAUSES, ids=name_of)
def test_a_wait_for_a_writer_decides_nothing(scenario: Scenario) -> None:
    assert explore(Pausing(scenario)).broken is None


@pytest.mark.parametrize("scenario", WRITES, ids=name_of)
def test_what_has_a_lease_is_computed_once(scenario: Scenario) -> None:
    assert explore(Patient(scenario)).broken is None


@pytest.mark.parametrize(("mutant", "shown"), LEASE_MUTANTS)
def test_each_mistake_with_leases_is_found(mutant: Mutant, shown: str) -> None:
    assert explore(mutant.protocol(mutant.scenario), {shown}).broken is not None
    stale = explore(mutant.protocol(mutant.scenario), WHAT_READS_PROMISE)
    assert (stale.broken is not None) is mutant.is_stale


def test_the_report_names_states_and_traces() -> None:
    lines = [
        *report_scenarios(ONE_WRITER[:1]),
        *report_mutants(MUTANTS[:1]),
        *report_windows(WINDOWS[:1]),
    ]
    assert "nothing broken" in lines[0]
    assert lines[1].split()[-4:] == lines[0].split()[-6:-2]
    assert "    R1 queries T: no change" in lines
    assert "    R2 gets the entry of and hits in T: W1's change of T" in lines
