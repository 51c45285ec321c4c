"""Every test starts with empty caches and a process that owes them nothing."""

from __future__ import annotations

import pytest
from django.core.cache import caches

from cachalot.core import failures


@pytest.fixture(autouse=True)
def _empty_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    # What one test owes must not be settled in the middle of another.
    monkeypatch.setattr(failures, "start_daemon_timer", lambda seconds, function: None)
    for cache_alias in caches:
        caches[cache_alias].clear()
    failures._guards.clear()
