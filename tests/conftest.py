"""Every test starts with empty caches and a process that owes them nothing."""

from __future__ import annotations

import pytest
from django.core.cache import caches

from cachalot.core import failures


@pytest.fixture(autouse=True)
def _empty_caches() -> None:
    for cache_alias in caches:
        caches[cache_alias].clear()
    failures._guards.clear()
