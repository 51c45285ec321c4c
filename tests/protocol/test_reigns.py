"""No run brings back what an older content has, and each mistake in the reigns is found."""

from __future__ import annotations

import pytest

from tests.protocol.__main__ import report_reigns
from tests.protocol.explorer import explore
from tests.protocol.reign_mutants import MARK_MUTANTS, REIGN_MUTANTS
from tests.protocol.reigns import COURSES, Course, Reigns


@pytest.mark.parametrize("course", COURSES, ids=lambda course: course.name)
def test_nothing_older_comes_back(course: Course) -> None:
    assert explore(Reigns(course)).broken is None


@pytest.mark.parametrize("mutant", REIGN_MUTANTS)
def test_each_mistake_is_found(mutant: type[Reigns]) -> None:
    split = COURSES[2]
    assert explore(mutant(split)).broken is not None
    # Where nothing happens to the server, nothing is wrong with it.
    assert explore(mutant(Course("no fault", kills=1))).broken is None


@pytest.mark.parametrize(("mutant", "course"), MARK_MUTANTS)
def test_each_mistake_with_marks_is_found(mutant: type[Reigns], course: int) -> None:
    assert explore(mutant(COURSES[course])).broken is not None
    assert explore(mutant(Course("no fault", kills=1))).broken is None


def test_the_report_names_states_and_traces() -> None:
    lines = list(report_reigns(COURSES[1:2], REIGN_MUTANTS[:1]))
    assert "nothing broken" in lines[0]
    assert "    The server returns to older content" in lines
    assert lines[-1].startswith("  fresh: R1 lacks")
