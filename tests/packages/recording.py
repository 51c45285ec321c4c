"""Runs one test suite and records how each test ended; a script, run in the suite's directory.

It is started with another package's directory as the current one, where ``tests`` is that
package's: it imports nothing of ours.
"""

from __future__ import annotations

import ast
import json
import linecache
import os
import runpy
import sys
import traceback
import unittest
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

#: Test id → {"outcome": ..., "errors": [{"count": ..., "text": ...}]}.
records: dict[str, dict[str, Any]] = {}


def add(test_id: str, outcome: str, error: BaseException | None = None) -> None:
    """Note how a test, or a part of it, ended. A failure is not taken back by what follows."""
    record = records.setdefault(test_id, {"outcome": outcome, "errors": []})
    if outcome == "failed" or record["outcome"] == "passed":
        record["outcome"] = outcome
    if error is not None:
        record["errors"].append(
            {
                "count": query_count(error),
                "text": "".join(traceback.format_exception(error)),
            }
        )


# Which assertion failed


def query_count(error: BaseException) -> str | None:
    """Say which assertion on a number of queries, too few of which ran, raised ``error``.

    None if it was raised by anything else.
    """
    where: tuple[FrameType, int] | None = None
    for frame, line in frames_of(error.__traceback__):
        if numbers := compared_numbers(frame):
            executed, expected = numbers
            return f"executed {executed} of {expected} queries" if executed < expected else None
        if not is_of_framework(frame):
            where = frame, line
    if where is not None and mentions_captured_queries(*where):
        return "captured queries"
    return None


def compared_numbers(frame: FrameType) -> tuple[int, int] | None:
    """Return how many queries ran and should have, if ``frame`` is of the assertion on that."""
    context, function = frame.f_locals.get("self"), frame.f_code.co_name
    if function == "__exit__" and is_a(context, "_AssertNumQueriesContext"):
        return len(context), context.num  # type: ignore[arg-type, attr-defined]
    if function == "_assert_num_queries" and "num_performed" in frame.f_locals:
        # pytest-django's django_assert_num_queries
        return frame.f_locals["num_performed"], frame.f_locals["num"]
    return None


def frames_of(tb: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    while tb is not None:
        yield tb.tb_frame, tb.tb_lineno
        tb = tb.tb_next


def is_a(value: object, class_name: str) -> bool:
    return any(cls.__name__ == class_name for cls in type(value).__mro__)


def is_of_framework(frame: FrameType) -> bool:
    module = frame.f_globals.get("__name__", "")
    return module.startswith(("unittest", "django.test", "_pytest"))


def mentions_captured_queries(frame: FrameType, line: int) -> bool:
    """Whether the statement at ``line`` asks a context, or a connection, which queries ran."""
    source = "".join(linecache.getlines(frame.f_code.co_filename, frame.f_globals))
    around = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or line)
    ]
    if not around:
        return False  # generated code has no source
    statement = max(around, key=lambda node: node.lineno)
    return any(asks_for_queries(node, frame.f_locals) for node in ast.walk(statement))


def asks_for_queries(node: ast.AST, names: Mapping[str, object]) -> bool:
    if isinstance(node, ast.Name):
        return is_a(names.get(node.id), "CaptureQueriesContext")
    return isinstance(node, ast.Attribute) and ast.unparse(node) == "connection.queries"


# unittest


class RecordingResult(unittest.TextTestResult):
    """Notes a failure before unittest cuts its own frames out of the traceback.

    Django's runner has no other result class than unittest's runner, unless it debugs.
    """

    def addSuccess(self, test: Any) -> None:
        add(test.id(), "passed")
        super().addSuccess(test)

    def addFailure(self, test: Any, err: Any) -> None:
        add(test.id(), "failed", err[1])
        super().addFailure(test, err)

    def addError(self, test: Any, err: Any) -> None:
        add(test.id(), "failed", err[1])
        super().addError(test, err)

    def addSkip(self, test: Any, reason: str) -> None:
        add(test.id(), "skipped")
        super().addSkip(test, reason)

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        add(test.id(), "passed")
        super().addExpectedFailure(test, err)

    def addUnexpectedSuccess(self, test: Any) -> None:
        add(test.id(), "failed")
        super().addUnexpectedSuccess(test)

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        if err is not None:
            add(test.id(), "failed", err[1])
        super().addSubTest(test, subtest, err)


def run_unittest(arguments: list[str]) -> None:
    """Run ``django-admin`` or a script in this process, as the suite's authors do."""
    unittest.TextTestRunner.resultclass = RecordingResult
    sys.argv = arguments
    if arguments[0] != "django-admin":
        runpy.run_path(arguments[0], run_name="__main__")
        return
    from django.core.management import execute_from_command_line

    execute_from_command_line(arguments)


# pytest


class RecordingPlugin:
    """Sees the exceptions themselves; reports hold their text only."""

    def pytest_exception_interact(self, node: Any, call: Any, report: Any) -> None:
        add(node.nodeid, "failed", call.excinfo.value)

    def pytest_runtest_logreport(self, report: Any) -> None:
        is_expected = report.when == "call" and (report.passed or hasattr(report, "wasxfail"))
        if is_expected and not report.failed:
            add(report.nodeid, "passed")
        elif not report.passed:
            add(report.nodeid, report.outcome)


def run_pytest(arguments: list[str]) -> None:
    import pytest

    sys.exit(pytest.main(arguments, plugins=[RecordingPlugin()]))


def main() -> None:
    """Arguments: the file for the records, then ``pytest``, ``django-admin`` or a script, with
    its own arguments."""
    output, *command = sys.argv[1:]
    # As `python -m` does: the suite's modules, not this script's neighbours.
    sys.path[0] = os.getcwd()
    try:
        if command[0] == "pytest":
            run_pytest(command[1:])
        else:
            run_unittest(command)
    finally:
        Path(output).write_text(json.dumps(records, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
