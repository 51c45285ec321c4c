"""What a storm has come to."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from tests.storm.monkey import Storm

#: What may go wrong with a read, and what is left of it in the end.
FAULTS = ("uncommitted", "stale", "stale after a kill", "left stale")


class Write(NamedTuple):
    writer: int
    began: float
    ended: float
    was_killed: bool


class Evidence:
    """Finds the windows, described in the documentation, that explain a fault."""

    def __init__(self, storm: Storm, log: list[dict[str, Any]]) -> None:
        self._damages = [event["at"] for event in log if event["what"] in storm.cache.damages()]
        self._writes: dict[int, dict[tuple[int, int], Write]] = {}
        open_writes: dict[int, dict[str, Any]] = {}
        for event in log:
            if event["what"] == "write":
                open_writes[event["writer"]] = event
            elif event["what"] in ("written", "killed"):
                begun = open_writes.pop(event["writer"], None)
                if begun is not None:
                    write = Write(
                        event["writer"], begun["at"], event["at"], event["what"] == "killed"
                    )
                    of_table = self._writes.setdefault(begun["table"], {})
                    of_table[begun["row"], begun["value"]] = write

    def why(self, fault: dict[str, Any]) -> str:
        """Return the window, or that there is none."""
        if not fault.get("is_hit", True):
            return "read from the database"
        writes = self._writes.get(fault["table"], {})
        missed = writes.get((fault.get("row", -1), fault.get("expected", -1)))
        until = fault.get("began", fault["at"])
        # Of a sum, or of what was left in the end, the last write of the table is as good.
        missed = missed or max(writes.values(), key=lambda write: write.ended)
        overlapping = [
            write
            for write in writes.values()
            if write.writer != missed.writer
            and write.began <= missed.ended
            and write.ended >= missed.began
        ]
        if any(missed.began - 1 <= at <= until for at in self._damages):
            return "a cache that failed meanwhile"
        if overlapping and (missed.was_killed or any(write.was_killed for write in overlapping)):
            return "overlapping writers, one of them killed"
        return "overlapping writers" if overlapping else "no known window"


def lateness(log: list[dict[str, Any]]) -> float:
    """Return for how many seconds, at most, a write that could not invalidate was not seen."""
    returned_at = {
        (event["row"], event["value"]): event["at"] for event in log if event["what"] == "written"
    }
    return max(
        event["began"] - returned_at.get((event["row"], event["expected"]), event["began"])
        for event in log
        if event["what"] == "late"
    )


def report(storm: Storm, log: list[dict[str, Any]]) -> int:
    """Print the figures; return the exit code."""
    board, figures = storm.board, Counter(event["what"] for event in log)
    for name in ("reads", "hits", "writes"):
        print(f"{name}: {sum(getattr(board, name))}")
    print(f"refused by SQLite: {sum(board.refused)}")
    for name in ("kills", "kills during a write", *storm.cache.damages()):
        print(f"{name}: {storm.figures[name]}")
    print(f"writes not yet released: {sum(event.get('is_owed', False) for event in log)}")
    tables = len(storm.plan.tables)
    print(f"tables cached again: {figures['cached']} of {2 * tables} checks")
    print(f"late: {figures['late']}")
    if figures["late"]:
        print(f"latest: {lateness(log):.3f} s after the write that could not invalidate")
    evidence = Evidence(storm, log)
    unexplained = 0
    for name in FAULTS:
        print(f"{name}: {figures[name]}")
        reasons = Counter(evidence.why(event) for event in log if event["what"] == name)
        for reason, count in reasons.items():
            print(f"    {reason}: {count}")
        if name in ("uncommitted", "stale"):
            unexplained += figures[name]
        else:
            unexplained += reasons["no known window"] + reasons["read from the database"]
    for event in [event for event in log if event["what"] in FAULTS][:5]:
        print(f"  {event}")
    return int(unexplained > 0 or figures["cached"] != 2 * tables)
