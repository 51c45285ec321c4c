"""A short storm; ``python -m tests.storm`` raises a longer one."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests import settings

#: The cells of the matrix that have a storm, each with its options.
STORMS = {
    ("postgresql", "redis"): "--seconds 8".split(),
    ("sqlite", "locmem"): "--seconds 4 --readers 2 --writers 2 --kills 1".split(),
    ("sqlite", "file"): "--seconds 4 --readers 2 --writers 2 --kills 1".split(),
}
CELL = (settings.DATABASE, settings.CACHE)


@pytest.mark.skipif(CELL not in STORMS, reason="has no storm")
def test_no_read_is_stale_in_a_storm() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "tests.storm", "--database", CELL[0], "--cache", CELL[1]]
        + STORMS[CELL],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = finished.stdout + finished.stderr
    assert finished.returncode == 0, said
    figures = {
        name: int(figure)
        for name, figure in re.findall(r"^(\w[\w ]*): (\d+)", finished.stdout, re.MULTILINE)
    }
    # Of versions on a board, none is lost but all at once.
    lost = "losses" if CELL[1] == "locmem" else "deletions"
    for name in ("reads", "hits", "writes", "kills", lost, "flushes"):
        assert figures[name] > 0, said
    for name in ("stale", "uncommitted"):
        assert figures[name] == 0, said
