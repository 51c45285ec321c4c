"""No run makes a row, or what depends on rows, stale, and each mistake with them is found."""

from __future__ import annotations

import pytest

from tests.protocol.__main__ import report_rows
from tests.protocol.explorer import explore
from tests.protocol.model import WHAT_READS_PROMISE
from tests.protocol.row_mutants import ROW_MUTANTS, RowMutant
from tests.protocol.row_scenarios import BESIDE_OTHERS, DELETED, OWNED, SCENARIOS, WINDOWS
from tests.protocol.row_world import Scenario
from tests.protocol.rows import DeletedRows, OwnedRows, Rows, StrictRows


def name_of(case: Scenario | RowMutant) -> str:
    return case.protocol.__name__ if isinstance(case, RowMutant) else case.name


@pytest.mark.parametrize("scenario", SCENARIOS, ids=name_of)
def test_no_interleaving_breaks_anything(scenario: Scenario) -> None:
    assert explore(Rows(scenario)).broken is None


@pytest.mark.parametrize("mutant", ROW_MUTANTS, ids=name_of)
def test_each_mistake_is_found(mutant: RowMutant) -> None:
    assert explore(Rows(mutant.scenario)).broken is None
    assert explore(mutant.protocol(mutant.scenario), WHAT_READS_PROMISE).broken is not None


@pytest.mark.parametrize("scenario", OWNED, ids=name_of)
def test_marks_with_owners_need_no_exception(scenario: Scenario) -> None:
    assert explore(OwnedRows(scenario)).broken is None


@pytest.mark.parametrize("scenario", BESIDE_OTHERS, ids=name_of)
def test_a_row_needs_no_exception_beside_writers_of_others(scenario: Scenario) -> None:
    assert explore(StrictRows(scenario)).broken is None


@pytest.mark.parametrize("scenario", DELETED, ids=name_of)
def test_versions_may_be_deleted_in_place_of_new_ones(scenario: Scenario) -> None:
    """As what a cache refuses is. The table is looked at behind what was added for it."""
    assert explore(DeletedRows(scenario)).broken is None


@pytest.mark.parametrize("window", WINDOWS, ids=name_of)
def test_each_exception_is_needed(window: Scenario) -> None:
    """Else the documents would promise too little."""
    assert explore(Rows(window)).broken is None
    assert explore(StrictRows(window)).broken is not None


def test_a_write_that_touches_nothing_of_an_answer_is_told() -> None:
    """Invariant 6, whether or not somebody reads at the time."""
    mutant = ROW_MUTANTS[2]
    broken = explore(mutant.protocol(mutant.scenario)).broken
    assert broken is not None
    assert broken[0] == "6"


def test_the_report_names_states_and_traces() -> None:
    lines = list(report_rows(SCENARIOS[4:5], ROW_MUTANTS[2:3]))
    assert "nothing broken" in lines[0]
    assert "    W1 changes row 1" in lines
    assert lines[-1].startswith("  fresh: the answer, rows 1 (a, 0), was not true")
