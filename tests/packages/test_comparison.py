"""The comparison of a suite's two runs: what it lets pass, and what not."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import TestCase
from django.test.utils import CaptureQueriesContext

from tests.library.models import Author
from tests.packages.comparison import compare
from tests.packages.recording import query_count


def passed() -> dict[str, Any]:
    return {"outcome": "passed", "errors": []}


def failed(*counts: str | None) -> dict[str, Any]:
    return {
        "outcome": "failed",
        "errors": [{"count": count, "text": "Traceback"} for count in counts],
    }


COUNT = "executed 0 of 1 queries"


def test_all_that_passes_without_must_pass_with() -> None:
    comparison = compare({"a": passed(), "b": passed()}, {"a": passed(), "b": failed(None)}, {})
    assert comparison.problems == ["b failed with cachalot\nTraceback"]
    assert comparison.passed_both == 1


def test_one_that_does_not_run_is_a_problem() -> None:
    assert compare({"a": passed()}, {}, {}).problems == ["a not run with cachalot\n"]


def test_one_that_fails_anyway_is_none() -> None:
    assert compare({"a": failed(None)}, {"a": failed(None)}, {}).problems == []


def test_a_count_of_queries_must_be_listed() -> None:
    runs = {"a": passed()}, {"a": failed(COUNT)}
    assert compare(*runs, {}).problems == [f"a counts queries and is not listed: {COUNT}"]
    for allowed in ({"a": "why"}, None):
        assert compare(*runs, allowed).problems == []
        assert compare(*runs, allowed).counting == {"a": COUNT}


def test_being_listed_allows_nothing_else() -> None:
    for errors in ((), (None,), (COUNT, None)):
        assert "a failed" in compare({"a": passed()}, {"a": failed(*errors)}, {"a": ""}).problems[0]


def test_the_list_stays_true() -> None:
    problems = compare({"a": passed()}, {"a": passed()}, {"a": "why"}).problems
    assert problems == ["a is listed as counting queries, but does not differ"]


def test_one_that_runs_with_cachalot_only_is_a_problem() -> None:
    problems = compare({}, {"setUpClass": failed(None)}, {}).problems
    assert problems == ["setUpClass is run with cachalot only\nTraceback"]


def test_a_suite_that_hardly_runs_proves_nothing() -> None:
    problems = compare({"a": passed()}, {"a": passed()}, {}, at_least=2).problems
    assert problems == ["1 tests pass without cachalot, 2 should"]


class QueryCountTests(TestCase):
    """Which assertion raised an error."""

    def count_of(self, error: BaseException) -> str | None:
        self.assertIsNotNone(error.__traceback__)
        return query_count(error)

    def test_fewer_queries_than_asserted(self) -> None:
        with pytest.raises(AssertionError) as caught, self.assertNumQueries(2):
            Author.objects.exists()
        self.assertEqual(self.count_of(caught.value), "executed 1 of 2 queries")

    def test_more_queries_than_asserted(self) -> None:
        with pytest.raises(AssertionError) as caught, self.assertNumQueries(0):
            Author.objects.exists()
        self.assertIsNone(self.count_of(caught.value))

    def test_captured_queries(self) -> None:
        with CaptureQueriesContext(connection) as context:
            pass
        with pytest.raises(AssertionError) as caught:
            self.assertEqual(len(context), 1)
        self.assertEqual(self.count_of(caught.value), "captured queries")
        with pytest.raises(IndexError) as missing:
            context.captured_queries[0]
        self.assertEqual(self.count_of(missing.value), "captured queries")

    def test_another_assertion(self) -> None:
        with self.assertNumQueries(1), pytest.raises(AssertionError) as caught:
            self.assertIs(Author.objects.exists(), True)
        self.assertIsNone(self.count_of(caught.value))
