"""No interleaving tears a block that depends on rows, and each mistake is found."""

from __future__ import annotations

import pytest

from tests.protocol.explorer import explore
from tests.protocol.model import WHAT_READS_PROMISE
from tests.protocol.mutants import Mutant
from tests.protocol.row_blocks import (
    MANY_ROWS,
    ROW_BLOCK_MUTANTS,
    ROW_BLOCKS,
    ManyRows,
    RowBlocks,
)
from tests.protocol.world import Scenario


def name_of(case: Scenario | Mutant) -> str:
    return case.protocol.__name__ if isinstance(case, Mutant) else case.name


@pytest.mark.parametrize("scenario", ROW_BLOCKS, ids=name_of)
def test_blocks_of_rows(scenario: Scenario) -> None:
    assert explore(RowBlocks(scenario)).broken is None


@pytest.mark.parametrize("scenario", MANY_ROWS, ids=name_of)
def test_blocks_of_more_rows_than_they_tell_apart(scenario: Scenario) -> None:
    assert explore(ManyRows(scenario)).broken is None


@pytest.mark.parametrize("mutant", ROW_BLOCK_MUTANTS, ids=name_of)
def test_each_mistake_is_found(mutant: Mutant) -> None:
    assert explore(mutant.protocol(mutant.scenario), WHAT_READS_PROMISE).broken is not None
