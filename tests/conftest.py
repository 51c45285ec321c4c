"""Every test starts with empty caches and a process that owes them nothing."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.management import create_permissions
from django.contrib.contenttypes.management import create_contenttypes
from django.core.cache import caches
from django.core.management.commands import flush
from django.db import connection
from django.db.models.signals import post_migrate

from cachalot.core.cache import door, guard
from cachalot.core.cache.boards import board_in_use
from cachalot.core.cache.local import local_tier
from cachalot.core.reading import known
from cachalot.settings import DEFAULTS
from tests.support import lift_marks

TESTS = Path(__file__).parent
#: Files and directories of what may differ by the client of the cache: marked ``clients``, all that
#: a run with another client needs.
CLIENTS = (
    "blocks/",
    "cache/",
    "cluster/",
    "reading/test_bounds.py",
    "reading/test_keys.py",
    "reading/test_reads.py",
    "test_api.py",
    "test_checks.py",
    "test_command.py",
    "test_deploy_checks.py",
    "test_interleavings.py",
    "test_protocol.py",
    "test_stats.py",
    "test_storm.py",
    "test_threads.py",
    "writing/test_transactions.py",
    "writing/test_writes.py",
)
#: Tests for which the progress has one dot.
TESTS_A_DOT = 25
_progress = [0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.relative_to(TESTS).as_posix().startswith(CLIENTS):
            item.add_marker("clients")


@pytest.hookimpl(wrapper=True)
def pytest_report_teststatus(report: Any, config: pytest.Config) -> Generator[None, Any, Any]:
    """Show one dot for many tests that have passed or were skipped, so that all fit on a screen."""
    status = yield
    category, letter, word = status
    if letter not in {".", "s", "u", "-"} or report.failed or config.get_verbosity() > 0:
        return status
    if letter in {".", "s"}:
        _progress[0] += 1
    is_shown = letter in {".", "s"} and not _progress[0] % TESTS_A_DOT
    return category, "." if is_shown else "", word


def pytest_configure() -> None:
    # Compile what need not be compiled all the same, and fail where it differs.
    known.compares = os.environ.get("CACHALOT_TEST_COMPARES") == "1"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if known.compares:
        terminalreporter.write_line(f"{known.compared} known queries were compiled and compared.")


@pytest.fixture(scope="session", autouse=True)
def _board_of_this_run() -> Iterator[None]:
    yield
    if (board := board_in_use()) is not None:
        os.unlink(board.file.path)


@pytest.fixture(scope="session", autouse=True)
def _cheap_flush() -> None:
    """Leave out what takes most of the time after each test that commits."""
    post_migrate.disconnect(
        create_permissions, dispatch_uid="django.contrib.auth.management.create_permissions"
    )
    post_migrate.disconnect(create_contenttypes)
    if connection.vendor == "postgresql":
        truncate = flush.sql_flush

        def delete(style: Any, connection: Any, reset_sequences: bool, allow_cascade: bool) -> Any:
            """TRUNCATE makes new files for each table, and a test has few rows."""
            if reset_sequences:
                return truncate(style, connection, reset_sequences, allow_cascade)
            tables = connection.introspection.django_table_names(True, False)
            return [f"DELETE FROM {connection.ops.quote_name(table)}" for table in tables]

        # Not a method of DatabaseOperations: with one of them replaced, every query is compiled.
        flush.sql_flush = delete


@pytest.fixture(autouse=True)
def _empty_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.contrib.contenttypes.models import ContentType

    # What one test owes must not be settled in the middle of another.
    monkeypatch.setattr(guard, "start_daemon_timer", lambda seconds, function: None)
    # Its rows went with the flush after the test before.
    ContentType.objects.clear_cache()
    # clear() leaves the marks that stand, which are another process's to lift.
    lift_marks()
    for cache_alias in caches:
        caches[cache_alias].clear()
    door._guards.clear()
    local_tier.clear()


@pytest.fixture
def local_tier_by_default(settings: Any) -> None:
    """Have the local tier, also in a run of the suite without it."""
    settings.CACHALOT_LOCAL_SIZE = DEFAULTS["CACHALOT_LOCAL_SIZE"]
