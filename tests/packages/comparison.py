"""What may differ between a suite's runs without and with cachalot: numbers of queries only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Records = Mapping[str, Mapping[str, Any]]


@dataclass
class Comparison:
    """How a suite's two runs compare. It is well if there are no ``problems``."""

    tests: int = 0
    passed_without: int = 0
    passed_with: int = 0
    passed_both: int = 0
    #: Test → what its assertion on a number of queries says.
    counting: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def compare(
    without: Records, with_: Records, allowed: Mapping[str, str] | None, at_least: int = 0
) -> Comparison:
    """Compare the records of two runs, test by test.

    ``allowed`` are the tests that must fail with cachalot, and by an assertion on a number of
    queries; None allows every such failure. Tests that do not pass without cachalot do not count,
    but ``at_least`` so many have to.
    """
    comparison = Comparison(
        tests=len(without),
        passed_without=count_passed(without),
        passed_with=count_passed(with_),
    )
    for test, record in sorted(without.items()):
        if record["outcome"] != "passed":
            continue
        other = with_.get(test, {"outcome": "not run", "errors": []})
        if other["outcome"] == "passed":
            comparison.passed_both += 1
            continue
        counts = [error["count"] for error in other["errors"]]
        if not counts or None in counts:
            texts = "\n".join(error["text"] for error in other["errors"])
            comparison.problems.append(f"{test} {other['outcome']} with cachalot\n{texts}")
        elif allowed is not None and test not in allowed:
            comparison.problems.append(f"{test} counts queries and is not listed: {counts[0]}")
        else:
            comparison.counting[test] = counts[0]
    for test in sorted(with_.keys() - without.keys()):
        # setUpClass() is a test of its own, where it fails.
        texts = "\n".join(error["text"] for error in with_[test]["errors"])
        comparison.problems.append(f"{test} is run with cachalot only\n{texts}")
    if comparison.passed_without < at_least:
        comparison.problems.append(
            f"{comparison.passed_without} tests pass without cachalot, {at_least} should"
        )
    for test in sorted(set(allowed or ()) - set(comparison.counting)):
        comparison.problems.append(f"{test} is listed as counting queries, but does not differ")
    return comparison


def count_passed(records: Records) -> int:
    return sum(record["outcome"] == "passed" for record in records.values())
